//! Taking over a `logs.db` of the original: its entries, and how far it had read.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, Row};

use super::config::Limits;
use super::ring::{Entry, Ring, SEGMENTS};
use super::text::level::Level;
use super::text::{Stream, ansi};
use crate::clock::Timestamp;
use crate::db::Import;
use crate::error::Result;

/// How the original's last schema becomes ours.
pub(super) const IMPORT: Import = Import { version: 4, tables: &["log_entries", "cursors"], convert };

const NS_PER_MS: i64 = 1_000_000;
/// Entries put into the ring at once.
const ENTRIES_AT_ONCE: usize = 1_000;

fn convert(connection: &Connection) -> Result<()> {
    // Its index went with its table's name, and what it kept up to date is ours to keep now.
    connection.execute_batch(
        "DROP TRIGGER IF EXISTS log_entries_ai; DROP TRIGGER IF EXISTS log_entries_ad;
         DROP TRIGGER IF EXISTS log_entries_au; DROP TABLE IF EXISTS log_entries_fts",
    )?;
    let mut containers = Containers { connection, by_name: HashMap::new() };
    containers.take_cursors()?;
    let entries = convert_entries(connection, &mut containers)?;
    log::info!("{entries} entries of {} logs of the original were taken over", containers.by_name.len());
    Ok(())
}

struct Containers<'c> {
    connection: &'c Connection,
    by_name: HashMap<String, i64>,
}

impl Containers<'_> {
    /// The original knew containers by name and files by inode. The folder of a file is named by the container's id.
    fn take_cursors(&mut self) -> Result<()> {
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
            let key = folder.map_or_else(|| original(&name), |folder| folder.to_string_lossy().into_owned());
            let container = self.make(&key, &name)?;
            let newest_ns = row.get::<_, Option<String>>(4)?.as_deref().and_then(Timestamp::parse);
            let newest_ns = newest_ns.map_or(0, |newest| newest.ms().saturating_mul(NS_PER_MS));
            // Without a first line, a file is known by its inode alone.
            self.connection.execute(
                "INSERT OR IGNORE INTO cursors (container_id, version, file_bytes, file_hash, inode, offset,
                     before_bytes, before_hash, pending, newest, out_id, err_id)
                 VALUES (?1, 1, 0, 0, ?2, ?3, 0, 0, x'', ?4, 0, 0)",
                (container, inode, position, newest_ns),
            )?;
        }
        Ok(())
    }

    fn of(&mut self, name: &str) -> Result<i64> {
        match self.by_name.get(name) {
            Some(container) => Ok(*container),
            None => self.make(&original(name), name),
        }
    }

    fn make(&mut self, key: &str, name: &str) -> Result<i64> {
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

/// The key of a log of which nothing but entries is left.
fn original(name: &str) -> String {
    format!("original:{name}")
}

fn convert_entries(connection: &Connection, containers: &mut Containers<'_>) -> Result<u64> {
    let count: i64 = connection.query_row("SELECT count(*) FROM original_log_entries", [], |row| row.get(0))?;
    // All of them, whatever the settings say now; the first look removes what is too much.
    let limits = Limits { entries: (count + 1) * i64::from(SEGMENTS), bytes: 0, age: Duration::ZERO };
    let mut ring = Ring::open(connection, limits)?;
    let mut read = connection.prepare(
        "SELECT container, timestamp, stream, level, message FROM original_log_entries ORDER BY container, id",
    )?;
    let mut rows = read.query([])?;
    let (mut batch, mut of, mut last_ids, mut converted) = (Vec::new(), 0, [0; 2], 0);
    while let Some(row) = rows.next()? {
        let container = containers.of(row.get_ref(0)?.as_str().unwrap_or_default())?;
        if container != of || batch.len() == ENTRIES_AT_ONCE {
            ring.append(of, std::mem::take(&mut batch), &mut last_ids)?;
            if container != of {
                (of, last_ids) = (container, [0; 2]);
            }
        }
        let Some(entry) = entry(row)? else { continue };
        batch.push(entry);
        converted += 1;
    }
    ring.append(of, batch, &mut last_ids)?;
    Ok(converted)
}

/// `None` for one without a time, which the original does not write.
fn entry(row: &Row<'_>) -> Result<Option<Entry>> {
    let text = |column| Ok::<_, rusqlite::Error>(row.get_ref(column)?.as_str().unwrap_or_default().to_owned());
    let Some(at) = Timestamp::parse(&text(1)?) else { return Ok(None) };
    let message = text(4)?;
    let plain = match ansi::strip(&message) {
        std::borrow::Cow::Borrowed(_) => None,
        std::borrow::Cow::Owned(plain) => Some(plain),
    };
    let stream = if text(2)? == "stderr" { Stream::Stderr } else { Stream::Stdout };
    let level = Level::named(&text(3)?).unwrap_or(Level::Info);
    Ok(Some(Entry { at_ns: at.ms().saturating_mul(NS_PER_MS), stream, level, message, plain }))
}
