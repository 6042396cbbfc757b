//! Values that services and wire formats exchange.

pub mod point;
pub mod report;
