//! Forwarding of stored records to other stores over HTTP, for history that is too large for one machine.
//!
//! A position in the service's own database says what was delivered, so nothing is stored twice. This module renders
//! records as request bodies, posts them, waits while the store is unavailable, and reports the state of the delivery.

mod exporter;
mod format;
mod http_sink;
mod pacing;
mod status;

pub use exporter::{ExportStat, Exporter, PendingRecord, RecordSource};
pub use format::{Format, Record};
pub use http_sink::HttpSink;
pub use pacing::{AfterFailure, Pacing, REQUEST_BYTES_MAX, SuspectRecord};
pub use status::DeliveryStatus;
