//! Import of a `logs.db` of the original Monlight: its entries and its read positions.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, Row};

use super::config::RetentionLimits;
use super::parse::ansi;
use super::segments::{SEGMENTS, SegmentRing};
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
    let mut containers = Containers { connection, by_name: HashMap::new() };
    containers.import_cursors()?;
    let entries = convert_entries(connection, &mut containers)?;
    let logs = containers.by_name.len();
    log::info!("log-viewer: imported {entries} entries of {logs} logs from the original database");
    Ok(())
}

/// Containers that were inserted so far.
struct Containers<'c> {
    connection: &'c Connection,
    /// Row IDs.
    by_name: HashMap<String, i64>,
}

impl Containers<'_> {
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
            let container = self.insert(&key, &name)?;
            let newest_ns = row.get::<_, Option<String>>(4)?.as_deref().and_then(Timestamp::parse);
            let newest_ns = newest_ns.map_or(0, |newest| newest.ms().saturating_mul(NS_PER_MS));
            // The fingerprint of the file is unknown, so the inode alone identifies it.
            self.connection.execute(
                "INSERT OR IGNORE INTO cursors (container_id, version, file_bytes, file_hash, inode, offset,
                     before_bytes, before_hash, pending, newest, out_id, err_id)
                 VALUES (?1, 1, 0, 0, ?2, ?3, 0, 0, x'', ?4, 0, 0)",
                (container, inode, position, newest_ns),
            )?;
        }
        Ok(())
    }

    fn get_or_insert(&mut self, name: &str) -> Result<i64> {
        match self.by_name.get(name) {
            Some(container) => Ok(*container),
            None => self.insert(&imported_key(name), name),
        }
    }

    fn insert(&mut self, key: &str, name: &str) -> Result<i64> {
        let container = self.connection.query_row(
            "INSERT INTO containers (key, name, image, project, service) VALUES (?1, ?2, '', '', '')
             ON CONFLICT (key) DO UPDATE SET name = ?2 RETURNING id",
            (key, name),
            |row| row.get(0),
        )?;
        self.by_name.insert(name.to_owned(), container);
        Ok(container)
    }
}

/// Returns the key of a container that has entries, but no read position.
fn imported_key(name: &str) -> String {
    format!("original:{name}")
}

fn convert_entries(connection: &Connection, containers: &mut Containers<'_>) -> Result<u64> {
    let count: i64 = connection.query_row("SELECT count(*) FROM original_log_entries", [], |row| row.get(0))?;
    // All entries are imported, whatever the limits are. The first run of retention deletes those beyond the limits.
    let limits = RetentionLimits { entries: (count + 1) * i64::from(SEGMENTS), bytes: 0, age: Duration::ZERO };
    let mut ring = SegmentRing::open(connection, limits)?;
    let mut read = connection.prepare(
        "SELECT container, timestamp, stream, level, message FROM original_log_entries ORDER BY container, id",
    )?;
    let mut rows = read.query([])?;
    let (mut batch, mut batch_container, mut last_ids, mut converted) = (Vec::new(), 0, [0; 2], 0);
    while let Some(row) = rows.next()? {
        let container = containers.get_or_insert(row.get_ref(0)?.as_str().unwrap_or_default())?;
        if container != batch_container || batch.len() == BATCH_ENTRIES_MAX {
            ring.append(batch_container, std::mem::take(&mut batch), &mut last_ids)?;
            if container != batch_container {
                (batch_container, last_ids) = (container, [0; 2]);
            }
        }
        let Some(record) = read_record(row)? else { continue };
        batch.push(record);
        converted += 1;
    }
    ring.append(batch_container, batch, &mut last_ids)?;
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
    Ok(Some(LogRecord { time_ns, stream, level, message, search_text }))
}
