//! Names of the counters in the table `counters`.

/// Number of entries ever stored, which is also the ingest sequence number of the newest one.
pub(super) const INGESTED: &str = "ingested";
/// Time of the last stored batch, in milliseconds since 1970; 0 if nothing was ever stored.
pub(super) const LAST_INGEST_MS: &str = "last_ingest_ms";
/// Number of lines of text files whose times were so far ahead that they were replaced with the time of reading.
pub(super) const CORRECTED_TIMES: &str = "corrected_times";
/// Number of times that rotated files were gone or damaged before they could be read.
pub(super) const MISSED_ROTATIONS: &str = "missed_rotations";
