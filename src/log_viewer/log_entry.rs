//! A stored entry as the API and exports show it.

use serde::Serialize;

use crate::clock::Timestamp;

/// One entry. Its message can be truncated.
#[derive(Debug, Clone, Serialize)]
pub(super) struct LogEntry {
    pub(super) id: i64,
    pub(super) timestamp: String,
    pub(super) container: String,
    pub(super) stream: &'static str,
    pub(super) level: &'static str,
    pub(super) message: String,
    /// Whether `message` is only the beginning.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) truncated: bool,
    /// Length of the whole message in bytes, if it is truncated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) message_bytes: Option<usize>,
    /// Ingest sequence number: counts all entries in the order in which they were stored.
    #[serde(skip)]
    pub(super) ingest_seq: i64,
    /// In nanoseconds since 1970.
    #[serde(skip)]
    pub(super) time_ns: i64,
}

impl LogEntry {
    /// Shortens the message to at most this number of bytes.
    pub(super) fn truncate(&mut self, bytes_max: usize) {
        if self.message.len() > bytes_max {
            self.message_bytes = Some(self.message.len());
            self.truncated = true;
            self.message.truncate(self.message.floor_char_boundary(bytes_max));
            self.message.shrink_to_fit();
        }
    }
}

/// Formats nanoseconds since 1970 as an RFC 3339 timestamp with nine digits for the fraction.
pub(super) fn format_timestamp(time_ns: i64) -> String {
    let (seconds, ns) = (time_ns.div_euclid(1_000_000_000), time_ns.rem_euclid(1_000_000_000));
    let seconds = Timestamp::from_ms(seconds.saturating_mul(1_000)).to_string();
    format!("{}.{ns:09}Z", seconds.trim_end_matches('Z'))
}
