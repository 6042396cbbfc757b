//! Bodies of responses with entries, produced part by part. Lists truncate long messages; a single entry and exports contain
//! whole messages, in slices.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::entry_reader::{EntryReader, StoredMessage};
use super::log_entry::LogEntry;
use super::plain_text::PlainText;
use super::query::{BoundFilter, Filter};
use super::store::no_entry;
use super::stream_slots::StreamPermit;
use crate::db::ReaderPool;
use crate::error::{Error, Result};
use crate::http::{BodySource, JsonArray, PART_BYTES};
use crate::text::escape_controls;

/// Maximum length of a message in a list or a live tail, in bytes. A longer one is truncated.
pub(super) const LISTED_MESSAGE_BYTES_MAX: usize = 8 * 1024;
/// Length of a slice of a message, in bytes. In JSON, it can take up to six times as many.
const SLICE_BYTES: usize = 8 * 1024;
/// Number of IDs that an export reads at once.
const EXPORT_PAGE_IDS: usize = 256;
/// Time after which an export ends a part, however little it has found. Other requests then have their turn.
const PART_TIME_MAX: Duration = Duration::from_millis(50);

/// Returns the body for a list of entries with these IDs. `after` is the text behind the list, without its `]`.
pub(super) fn list_body(readers: ReaderPool, ids: Vec<i64>, after: &str) -> impl BodySource + use<> {
    let mut ids = ids.into_iter();
    JsonArray::new(r#"{"logs":["#.into(), format!("]{after}"), move |out| {
        if ids.len() == 0 {
            return Ok(false);
        }
        let reader = readers.acquire()?;
        let snapshot = reader.unchecked_transaction()?;
        let mut entries = EntryReader::new(&snapshot)?;
        while !out.is_full() {
            let Some(id) = ids.next() else { return Ok(false) };
            // An entry that was deleted meanwhile is left out.
            if let Some(entry) = entries.read(id, LISTED_MESSAGE_BYTES_MAX)? {
                out.push(&entry)?;
            }
        }
        Ok(ids.len() > 0)
    })
}

/// Body for a single entry with its whole message.
pub(super) struct EntryBody {
    readers: ReaderPool,
    id: i64,
    open: Option<OpenEntry>,
}

impl EntryBody {
    /// Creates the body for the entry with this ID.
    pub(super) fn new(readers: ReaderPool, id: i64) -> Self {
        Self { readers, id, open: None }
    }
}

impl BodySource for EntryBody {
    fn write_part(&mut self, out: &mut Vec<u8>) -> Result<bool> {
        let reader = self.readers.acquire()?;
        let snapshot = reader.unchecked_transaction()?;
        let mut entries = EntryReader::new(&snapshot)?;
        let mut open = match self.open.take() {
            Some(open) => open,
            None => {
                let (entry, message) = entries.locate(self.id, 0)?.ok_or_else(|| no_entry(self.id))?;
                OpenEntry::begin(&entry, message, EntryFormat::Json, out)?
            }
        };
        while out.len() < PART_BYTES {
            if !open.write_slice(&entries, out)? {
                return Ok(false);
            }
        }
        self.open = Some(open);
        Ok(true)
    }
}

/// Format of an entry in an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EntryFormat {
    Json,
    Text,
}

/// Entry whose message is being written.
struct OpenEntry {
    message: StoredMessage,
    /// Number of bytes of the message that were written.
    offset: usize,
    /// Filter of the text format; `None` for JSON.
    plain: Option<PlainText>,
}

impl OpenEntry {
    /// Writes everything before the message.
    fn begin(entry: &LogEntry, message: StoredMessage, format: EntryFormat, out: &mut Vec<u8>) -> Result<Self> {
        let LogEntry { timestamp, container, stream, level, .. } = entry;
        let plain = match format {
            EntryFormat::Text => {
                let container = escape_controls(container);
                out.extend_from_slice(format!("{timestamp} {container} {stream} {level} ").as_bytes());
                Some(PlainText::default())
            }
            EntryFormat::Json => {
                // The message is empty here and the last member.
                let json = serde_json::to_vec(entry).map_err(|why| json_error(&why))?;
                out.extend_from_slice(json.strip_suffix(br#""}"#).unwrap_or(&json));
                None
            }
        };
        Ok(Self { message, offset: 0, plain })
    }

    /// Writes the next slice of the message, or everything after it. Returns whether more follows.
    fn write_slice(&mut self, entries: &EntryReader<'_>, out: &mut Vec<u8>) -> Result<bool> {
        if self.offset >= self.message.bytes {
            out.extend_from_slice(if self.plain.is_some() { b"" } else { br#""}"# });
            return Ok(false);
        }
        let slice = entries.slice(self.message, self.offset, SLICE_BYTES)?;
        let slice = slice.ok_or(Error::Busy("The entry was deleted while it was sent"))?;
        self.offset += slice.len();
        match &mut self.plain {
            Some(plain) => plain.write(&slice, out),
            None => {
                let start = out.len();
                serde_json::to_writer(&mut *out, &slice).map_err(|why| json_error(&why))?;
                // The quotes of the slice.
                out.pop();
                out.remove(start);
            }
        }
        Ok(true)
    }
}

fn json_error(why: &serde_json::Error) -> Error {
    Error::Internal(format!("failed to encode an entry as JSON: {why}"))
}

/// Body of an export: all matching entries, the oldest first, each on a line of its own.
pub(super) struct ExportBody {
    readers: ReaderPool,
    filter: Filter,
    format: EntryFormat,
    /// Counts this export until its end.
    permit: StreamPermit,
    /// IDs of the entries that follow.
    ids: VecDeque<i64>,
    /// ID at which the next page of IDs starts; `None` at the end.
    next_id: Option<i64>,
    open: Option<OpenEntry>,
}

impl ExportBody {
    /// Creates the body for all entries that match the filter.
    pub(super) fn new(readers: ReaderPool, filter: Filter, format: EntryFormat, permit: StreamPermit) -> Self {
        Self { readers, filter, format, permit, ids: VecDeque::new(), next_id: Some(0), open: None }
    }
}

impl BodySource for ExportBody {
    fn write_part(&mut self, out: &mut Vec<u8>) -> Result<bool> {
        let Self { readers, filter, format, permit, ids, next_id, open } = self;
        if permit.is_evicted() {
            return Err(Error::Busy("Another key needed the place of the export"));
        }
        let deadline = Instant::now() + PART_TIME_MAX;
        let reader = readers.acquire()?;
        let snapshot = reader.unchecked_transaction()?;
        let mut entries = EntryReader::new(&snapshot)?;
        while out.len() < PART_BYTES && Instant::now() < deadline {
            if let Some(entry) = open {
                if !entry.write_slice(&entries, out)? {
                    out.push(b'\n');
                    *open = None;
                }
            } else if let Some(id) = ids.pop_front() {
                // Only patterns need the whole message at once.
                let bytes_max = if filter.search.patterns.is_empty() { 0 } else { usize::MAX };
                let Some((mut entry, message)) = entries.locate(id, bytes_max)? else { continue };
                if filter.search.matches_entry(&entry.message)? {
                    entry.message.clear();
                    *open = Some(OpenEntry::begin(&entry, message, *format, out)?);
                }
            } else if let Some(id) = *next_id {
                let (page, next) = BoundFilter::new(&snapshot, filter)?.ids_from(id, EXPORT_PAGE_IDS)?;
                (*ids, *next_id) = (page.into(), next);
            } else {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
