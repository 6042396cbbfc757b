//! Forwarding of entries to another store, in the order of ingestion.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::ControlFlow;

use rusqlite::Connection;

use super::counter_names;
use super::entry_reader::EntryReader;
use super::log_entry::LogEntry;
use super::segments::segments;
use super::state::LogViewer;
use crate::db::counter;
use crate::error::Result;
use crate::forward::{Format, PendingRecord, Record, RecordSource};

/// Key of an entry.
#[derive(Debug, Clone, Copy)]
pub(super) struct EntryKey {
    id: i64,
}

impl RecordSource for LogViewer {
    type Record = LogEntry;
    type Key = EntryKey;

    fn pending(&self, reader: &Connection, position: i64, count: usize) -> Result<Vec<PendingRecord<EntryKey>>> {
        let mut segments = segments(reader)?;
        segments.retain(|segment| segment.entries > 0 && segment.last_seq > position);
        segments.sort_unstable_by_key(|segment| segment.last_seq);
        let mut pending = Vec::new();
        for segment in segments.iter().map(|segment| segment.index) {
            // Without the messages, because SQLite sorts the rows in memory.
            let mut read = reader.prepare_cached(&format!(
                "SELECT ingest_seq, id FROM segment_{segment} WHERE ingest_seq > ?1 ORDER BY ingest_seq LIMIT ?2"
            ))?;
            let limit = count.saturating_sub(pending.len()) as i64;
            let found = read.query_map((position, limit), |row| {
                Ok(PendingRecord { id: row.get(0)?, key: EntryKey { id: row.get(1)? } })
            })?;
            for record in found {
                pending.push(record?);
            }
            if pending.len() >= count {
                break;
            }
        }
        Ok(pending)
    }

    fn read(
        &self,
        reader: &Connection,
        keys: &[PendingRecord<EntryKey>],
        _: Format,
        visit: &mut dyn FnMut(Option<LogEntry>) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        let snapshot = reader.unchecked_transaction()?;
        let mut entries = EntryReader::new(&snapshot)?;
        for PendingRecord { id: ingest_seq, key } in keys {
            // A segment that was cleared may have another entry with this id.
            let entry = entries.read(key.id, usize::MAX)?.filter(|entry| entry.ingest_seq == *ingest_seq);
            if visit(entry)?.is_break() {
                break;
            }
        }
        Ok(())
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
