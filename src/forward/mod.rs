//! Forwarding of stored records to other stores over HTTP, for history that is too large for one machine.
//!
//! A position in the service's own database says what was delivered, so nothing is stored twice. This module renders
//! records as request bodies, posts them, waits while the store is unavailable, and reports the state of the delivery.

mod exporter;
mod format;
mod http_sink;
mod status;

pub use exporter::{ExportStat, Exporter, RecordBatch, RecordSource};
pub use format::{Format, Record};
pub use http_sink::{HttpSink, new_backoff};
pub use status::DeliveryStatus;
