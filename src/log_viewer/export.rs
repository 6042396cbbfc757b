//! Forwarding of entries to another store, in the order of ingestion.

use std::borrow::Cow;
use std::collections::BTreeMap;

use rusqlite::Connection;

use super::counter_names;
use super::log_entry::LogEntry;
use super::query::{BoundFilter, Filter};
use super::state::LogViewer;
use crate::db::counter;
use crate::error::Result;
use crate::forward::{Format, Record, RecordBatch, RecordSource};

/// Maximum number of entries in a batch. An entry can have a megabyte.
const BATCH_ENTRIES_MAX: usize = 200;

impl RecordSource for LogViewer {
    type Record = LogEntry;

    fn records_after(&self, reader: &Connection, position: i64, _: Format) -> Result<RecordBatch<LogEntry>> {
        let snapshot = reader.unchecked_transaction()?;
        let (records, _) = BoundFilter::new(&snapshot, &Filter::all())?.entries_since(position, BATCH_ENTRIES_MAX)?;
        // Without entries, those up to the newest were deleted before they were forwarded.
        let last_id = records.last().map_or_else(|| self.latest_id(&snapshot), |last| Ok(last.ingest_seq))?;
        Ok(RecordBatch { records, last_id })
    }

    fn latest_id(&self, reader: &Connection) -> Result<i64> {
        counter(reader, counter_names::INGESTED)
    }
}

impl Record for LogEntry {
    fn at_ns(&self) -> i64 {
        self.time_ns
    }

    fn labels(&self) -> BTreeMap<&'static str, Cow<'_, str>> {
        [("container", self.container.as_str()), ("stream", self.stream), ("level", self.level)]
            .map(|(name, value)| (name, Cow::Borrowed(value)))
            .into()
    }

    fn line(&self) -> Result<Cow<'_, str>> {
        Ok(Cow::Borrowed(&self.message))
    }
}
