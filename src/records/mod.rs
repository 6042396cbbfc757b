//! Values that services and wire formats exchange.

pub mod key_kind;
pub mod log_level;
pub mod log_record;
pub mod optional_fields;
pub mod point;
pub mod report;
mod string_list;
pub mod warning;
