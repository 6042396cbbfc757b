//! Commands: all changes to the metrics collector's database.

mod ingest;
mod names;
mod retention;
mod rollup;

pub(super) use ingest::{Accepted, AddHostPoints, AddPoints, RecordReservedName};
pub(super) use names::compute_prometheus_names;
pub(super) use retention::{DeleteExpired, evict_oldest};
pub(super) use rollup::RollUp;
