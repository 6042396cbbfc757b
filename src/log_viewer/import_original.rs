//! Import of a `logs.db` of the original Monlight: its entries and its read positions.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, Row};

use super::config::RetentionLimits;
use super::enumerations::SourceKind;
use super::parse::ansi;
use super::plausible_time::latest_plausible_ns;
use super::segment_ring::{SegmentRing, StreamPosition};
use super::segments::SEGMENTS;
use super::sources::{Source, upsert_source};
use crate::clock::Timestamp;
use crate::db::OriginalImport;
use crate::error::Result;
use crate::records::log_level::Level;
use crate::records::log_record::{LogRecord, StdStream};

/// Conversion of the original's last schema.
pub(super) const IMPORT: OriginalImport = OriginalImport { version: 4, tables: &["log_entries", "cursors"], convert };

const NS_PER_MS: i64 = 1_000_000;
/// Maximum number of entries in a batch.
const BATCH_ENTRIES_MAX: usize = 1_000;

fn convert(connection: &Connection) -> Result<()> {
    // The triggers refer to the full-text index, which is not used. SegmentRing maintains its own.
    connection.execute_batch(
        "DROP TRIGGER IF EXISTS log_entries_ai; DROP TRIGGER IF EXISTS log_entries_ad;
         DROP TRIGGER IF EXISTS log_entries_au; DROP TABLE IF EXISTS log_entries_fts",
    )?;
    let mut sources = Sources { connection, by_name: HashMap::new() };
    sources.import_cursors()?;
    let entries = convert_entries(connection, &mut sources)?;
    let logs = sources.by_name.len();
    log::info!("log-viewer: imported {entries} entries of {logs} logs from the original database");
    Ok(())
}

/// Sources that were inserted so far.
struct Sources<'c> {
    connection: &'c Connection,
    /// Row IDs.
    by_name: HashMap<String, i64>,
}

impl Sources<'_> {
    /// Imports the read positions. The original identifies containers by name and files by inode. The key of a container
    /// is its ID, which is the name of the folder with its log.
    fn import_cursors(&mut self) -> Result<()> {
        let mut read = self.connection.prepare(
            "SELECT container_id, file_path, position, inode,
                 (SELECT max(timestamp) FROM original_log_entries e WHERE e.container = c.container_id)
             FROM original_cursors c ORDER BY id",
        )?;
        let mut rows = read.query([])?;
        while let Some(row) = rows.next()? {
            let (name, path, position, inode): (String, String, i64, i64) =
                (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
            let folder = Path::new(&path).parent().and_then(Path::file_name);
            let key = folder.map_or_else(|| imported_key(&name), |folder| folder.to_string_lossy().into_owned());
            let source = self.insert(&key, &name)?;
            let newest_ns = row.get::<_, Option<String>>(4)?.as_deref().and_then(Timestamp::parse);
            let newest_ns = newest_ns.map_or(0, |newest| newest.ms().saturating_mul(NS_PER_MS));
            // The fingerprint of the file is unknown, so the inode alone identifies it.
            self.connection.execute(
                "INSERT OR IGNORE INTO checkpoints (source_id, version, first_line_bytes, first_line_hash, inode,
                     offset_bytes, previous_first_line_bytes, previous_first_line_hash, pending_lines, newest_ns,
                     stdout_last_id, stdout_newest_ns, stderr_last_id, stderr_newest_ns)
                 VALUES (?1, 1, 0, 0, ?2, ?3, 0, 0, x'', ?4, 0, 0, 0, 0)",
                (source, inode, position.max(0), newest_ns),
            )?;
        }
        Ok(())
    }

    fn get_or_insert(&mut self, name: &str) -> Result<i64> {
        match self.by_name.get(name) {
            Some(source) => Ok(*source),
            None => self.insert(&imported_key(name), name),
        }
    }

    fn insert(&mut self, key: &str, name: &str) -> Result<i64> {
        let (key, name) = (key.to_owned(), name.to_owned());
        let (image, project, service) = (String::new(), String::new(), String::new());
        let source = Source { key, name: name.clone(), image, project, service };
        let id = upsert_source(self.connection, SourceKind::DockerContainer, &source, true)?;
        self.by_name.insert(name, id);
        Ok(id)
    }
}

/// Returns the key of a container that has entries, but no read position.
fn imported_key(name: &str) -> String {
    format!("original:{name}")
}

fn convert_entries(connection: &Connection, sources: &mut Sources<'_>) -> Result<u64> {
    let count: i64 = connection.query_row("SELECT count(*) FROM original_log_entries", [], |row| row.get(0))?;
    // All entries are imported, whatever the limits are. The first run of retention deletes those beyond the limits.
    let limits = RetentionLimits { entries: (count + 1) * i64::from(SEGMENTS), bytes: 0, age: Duration::ZERO };
    let mut ring = SegmentRing::open(connection, limits)?;
    let latest_ns = latest_plausible_ns(Timestamp::now());
    let mut read = connection.prepare(
        "SELECT container, timestamp, stream, level, message FROM original_log_entries ORDER BY container, id",
    )?;
    let mut rows = read.query([])?;
    let (mut batch, mut batch_source, mut converted) = (Vec::new(), 0, 0);
    let mut positions = [StreamPosition::default(); 2];
    while let Some(row) = rows.next()? {
        let source = sources.get_or_insert(row.get_ref(0)?.as_str().unwrap_or_default())?;
        if source != batch_source || batch.len() == BATCH_ENTRIES_MAX {
            ring.append(batch_source, std::mem::take(&mut batch), &mut positions, latest_ns)?;
            if source != batch_source {
                (batch_source, positions) = (source, [StreamPosition::default(); 2]);
            }
        }
        let Some(record) = read_record(row)? else { continue };
        batch.push(record);
        converted += 1;
    }
    ring.append(batch_source, batch, &mut positions, latest_ns)?;
    Ok(converted)
}

/// Reads an entry; `None` if its timestamp is invalid, which the original never writes.
fn read_record(row: &Row<'_>) -> Result<Option<LogRecord>> {
    let text = |column| Ok::<_, rusqlite::Error>(row.get_ref(column)?.as_str().unwrap_or_default().to_owned());
    let Some(timestamp) = Timestamp::parse(&text(1)?) else { return Ok(None) };
    let message = text(4)?;
    let search_text = ansi::stripped(&message);
    let stream = StdStream::from_name(&text(2)?).unwrap_or(StdStream::Stdout);
    let level = Level::from_name(&text(3)?).unwrap_or(Level::Info);
    let time_ns = timestamp.ms().saturating_mul(NS_PER_MS);
    Ok(Some(LogRecord { time_ns, order_ns: time_ns, stream, level, message, search_text }))
}
