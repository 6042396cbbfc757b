//! Names of the counters in the table `totals`.

/// Number of entries ever stored, which is also the ingest sequence number of the newest one.
pub(super) const INGESTED: &str = "arrivals";
/// Time of the last stored batch, in milliseconds since 1970; 0 if nothing was ever stored.
pub(super) const LAST_INGEST_MS: &str = "stored_at";
/// Number of rotated files that were gone or damaged before they could be read.
pub(super) const MISSED_ROTATIONS: &str = "gaps";
