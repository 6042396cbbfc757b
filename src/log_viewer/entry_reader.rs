//! Reader for single entries by ID. A long message, of up to a megabyte, can be read in slices.

use std::collections::HashMap;

use rusqlite::{Connection, MAIN_DB, OptionalExtension as _};

use super::entry_id;
use super::enumerations::stream_from_number;
use super::log_entry::{LogEntry, format_timestamp};
use super::segments::{Segment, segments};
use crate::error::{Error, Result};
use crate::records::log_level::Level;
use crate::records::log_record::StdStream;

/// Location and length of a stored message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StoredMessage {
    segment: u8,
    id: i64,
    pub(super) bytes: usize,
}

/// Reader for the entries of one snapshot.
pub(super) struct EntryReader<'c> {
    connection: &'c Connection,
    segments: Vec<Segment>,
    /// Names of the sources of the entries read so far, by row ID.
    source_names: HashMap<i64, String>,
}

impl<'c> EntryReader<'c> {
    /// Creates a reader. The connection must be in a transaction.
    pub(super) fn new(connection: &'c Connection) -> Result<Self> {
        Ok(Self { connection, segments: segments(connection)?, source_names: HashMap::new() })
    }

    /// Reads an entry with at most `bytes_max` bytes of its message; `None` if it does not exist.
    pub(super) fn read(&mut self, id: i64, bytes_max: usize) -> Result<Option<LogEntry>> {
        let Some((mut entry, message)) = self.locate(id, bytes_max)? else { return Ok(None) };
        if message.bytes > entry.message.len() {
            entry.message = self.slice(message, 0, bytes_max)?.unwrap_or_default();
            (entry.truncated, entry.message_bytes) = (true, Some(message.bytes));
        }
        Ok(Some(entry))
    }

    /// Reads an entry, whose message is empty if it has more than `bytes_max` bytes, and the location of its message.
    pub(super) fn locate(&mut self, id: i64, bytes_max: usize) -> Result<Option<(LogEntry, StoredMessage)>> {
        for segment in &self.segments {
            if segment.entries == 0 || !(segment.first_id..=segment.last_id).contains(&id) {
                continue;
            }
            // SQLite reads the length without the message, which is spread over many pages.
            let mut read = self.connection.prepare_cached(&format!(
                "SELECT ingest_seq, at_ns, source_id, stream_id, octet_length(message),
                     CASE WHEN octet_length(message) <= ?2 THEN message ELSE '' END
                 FROM segment_{} WHERE id = ?1",
                segment.index
            ))?;
            let mut rows = read.query((id, i64::try_from(bytes_max).unwrap_or(i64::MAX)))?;
            let Some(row) = rows.next()? else { continue };
            let (time_ns, source, bytes): (i64, i64, i64) = (row.get(1)?, row.get(2)?, row.get(4)?);
            let entry = LogEntry {
                id,
                ingest_seq: row.get(0)?,
                timestamp: format_timestamp(time_ns),
                time_ns,
                container: source_name(self.connection, &mut self.source_names, source)?,
                stream: stream_from_number(row.get(3)?).unwrap_or(StdStream::Stdout).name(),
                level: entry_id::level(id).unwrap_or(Level::Info).name(),
                message: row.get(5)?,
                truncated: false,
                message_bytes: None,
            };
            let bytes = usize::try_from(bytes).unwrap_or_default();
            return Ok(Some((entry, StoredMessage { segment: segment.index, id, bytes })));
        }
        Ok(None)
    }

    /// Reads whole characters of a message, at most `bytes_max` bytes from `offset` on. Returns `None` if the message was
    /// deleted meanwhile. `offset` must be the start of a character.
    pub(super) fn slice(&self, message: StoredMessage, offset: usize, bytes_max: usize) -> Result<Option<String>> {
        let table = format!("segment_{}", message.segment);
        let exists = format!("SELECT octet_length(message) FROM {table} WHERE id = ?1");
        let bytes: Option<i64> =
            self.connection.prepare_cached(&exists)?.query_row([message.id], |row| row.get(0)).optional()?;
        if bytes != i64::try_from(message.bytes).ok() {
            return Ok(None);
        }
        let mut slice = vec![0; bytes_max.min(message.bytes.saturating_sub(offset))];
        let blob = self.connection.blob_open(MAIN_DB, table.as_str(), "message", message.id, true)?;
        blob.read_at_exact(&mut slice, offset)?;
        blob.close()?;
        // The slice can end within a character.
        let text = String::from_utf8(slice).or_else(|why| {
            let end = why.utf8_error().valid_up_to();
            let mut slice = why.into_bytes();
            slice.truncate(end);
            String::from_utf8(slice)
        });
        let text = text.ok().filter(|text| !text.is_empty() || offset >= message.bytes || bytes_max == 0);
        let text = text.ok_or_else(|| Error::Storage(format!("the message of entry {} is not UTF-8", message.id)))?;
        Ok(Some(text))
    }
}

fn source_name(connection: &Connection, names: &mut HashMap<i64, String>, source: i64) -> Result<String> {
    if let Some(name) = names.get(&source) {
        return Ok(name.clone());
    }
    let mut read = connection.prepare_cached("SELECT name FROM sources WHERE id = ?1")?;
    let name: String = read.query_row([source], |row| row.get(0)).optional()?.unwrap_or_default();
    names.insert(source, name.clone());
    Ok(name)
}
