//! A stored entry as the API and exports show it.

use std::collections::BTreeMap;

use rusqlite::Row;
use serde::Serialize;

use super::entry_id;
use super::enumerations::stream_from_number;
use super::sources::Source;
use crate::clock::Timestamp;
use crate::error::Result;
use crate::records::log_level::Level;
use crate::records::log_record::StdStream;

/// Columns that [`LogEntry::read`] reads from a segment's table with the alias `e`.
pub(super) const COLUMNS: &str = "id, e.ingest_seq, e.at_ns, e.source_id, e.stream_id, e.message";

/// One entry.
#[derive(Debug, Clone, Serialize)]
pub(super) struct LogEntry {
    pub(super) id: i64,
    timestamp: String,
    pub(super) container: String,
    pub(super) stream: &'static str,
    pub(super) level: &'static str,
    pub(super) message: String,
    /// Ingest sequence number: counts all entries in the order in which they were stored.
    #[serde(skip)]
    pub(super) ingest_seq: i64,
    /// In nanoseconds since 1970.
    #[serde(skip)]
    pub(super) time_ns: i64,
}

impl LogEntry {
    /// Reads an entry from a row of [`COLUMNS`].
    pub(super) fn read(row: &Row<'_>, sources: &BTreeMap<i64, Source>) -> Result<Self> {
        let source: i64 = row.get(3)?;
        let (id, time_ns) = (row.get(0)?, row.get(2)?);
        let stream = stream_from_number(row.get(4)?).unwrap_or(StdStream::Stdout);
        Ok(Self {
            id,
            ingest_seq: row.get(1)?,
            timestamp: format_timestamp(time_ns),
            time_ns,
            container: sources.get(&source).map(|source| source.name.clone()).unwrap_or_default(),
            stream: stream.name(),
            level: entry_id::level(id).unwrap_or(Level::Info).name(),
            message: row.get(5)?,
        })
    }

    /// Formats the entry as text, with a final newline. A multi-line message takes several lines.
    pub(super) fn to_line(&self) -> String {
        let Self { timestamp, container, stream, level, message, .. } = self;
        format!("{timestamp} {container} {stream} {level} {message}\n")
    }
}

/// Formats nanoseconds since 1970 as an RFC 3339 timestamp with nine digits for the fraction.
pub(super) fn format_timestamp(time_ns: i64) -> String {
    let (seconds, ns) = (time_ns.div_euclid(1_000_000_000), time_ns.rem_euclid(1_000_000_000));
    let seconds = Timestamp::from_ms(seconds.saturating_mul(1_000)).to_string();
    format!("{}.{ns:09}Z", seconds.trim_end_matches('Z'))
}
