//! Opens a database: creates the file, sets pragmas, migrates the schema, and copies an imported database first.

use std::path::{Path, PathBuf};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::damage::{self, REMEDY};
use super::disk;
use super::first_start::lock_or_create;
use super::lock::create_private;
use super::migrate::{FileKind, Schema, Unusable};
use super::paths::{LOCK_TIMEOUT, folder_of, sibling};
use super::reader_pool::ReaderPool;
use super::size_limit::{self, SizeLimit};
use super::substring::add_contains;
use super::writer::Writer;
use crate::error::{Error, Result};

/// Prepared statements that each connection caches.
const CACHED_STATEMENTS: usize = 64;
const WRITER_CACHE_KIB: i32 = 1024;
const READER_CACHE_KIB: i32 = 512;
/// The value of `PRAGMA auto_vacuum` for INCREMENTAL.
const INCREMENTAL: i32 = 2;

/// The durability of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Synchronous {
    /// Flushed to the disk: survives a power failure.
    Full,
    /// Handed to the kernel: survives a crash of the process; recent writes may be lost on power failure.
    Normal,
}

/// Settings of a database.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The path of the file. A missing folder is created.
    pub path: PathBuf,
    /// The schema to migrate to.
    pub schema: Schema,
    /// The durability of a commit.
    pub synchronous: Synchronous,
    /// The number of read-only connections.
    pub readers: usize,
    /// The size limit; `None` = unlimited.
    pub limit: Option<SizeLimit>,
}

/// An open database.
pub struct Database {
    /// The writer thread.
    pub writer: Writer,
    /// The read-only connections.
    pub readers: ReaderPool,
}

/// The reason why a database cannot be opened, in one sentence that names the file and what to do.
#[derive(Debug)]
pub enum OpenError {
    /// A development version before schema 1.0 created the file.
    DevelopmentVersion(String),
    /// Any other reason.
    Other(String),
}

impl std::fmt::Display for OpenError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Self::DevelopmentVersion(sentence) | Self::Other(sentence)) = self;
        formatter.write_str(sentence)
    }
}

/// Returns why `path` cannot be the path of a database, or `None` if it can. SQLite gives some names a special meaning.
#[must_use]
pub fn path_problem(path: &Path) -> Option<&'static str> {
    let text = path.to_string_lossy();
    if text.starts_with(':') {
        return Some("must be the path of a file; a database in memory would lose all data at the next stop");
    }
    if text.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("file:")) {
        return Some("must be a plain path, not a file: URI (example: ./data/name.db)");
    }
    text.trim().is_empty().then_some("must be the path of a file (example: ./data/name.db)")
}

/// Opens a database, creates, migrates or imports it as needed, and starts its writer.
///
/// # Errors
/// Returns why it cannot be opened.
pub fn open(settings: &Settings) -> std::result::Result<Database, OpenError> {
    let path = &settings.path;
    open_file(settings).map_err(|why| {
        let sentence = |why: &dyn std::fmt::Display| format!("cannot open the database {}: {why}", path.display());
        match why {
            Unusable::DevelopmentVersion(_) => OpenError::DevelopmentVersion(sentence(&why)),
            Unusable::Other(why) => OpenError::Other(sentence(&why)),
            Unusable::Unreadable(why) => OpenError::Other(sentence(&disk::describe_if_full(path).unwrap_or(why))),
        }
    })
}

fn open_file(settings: &Settings) -> std::result::Result<Database, Unusable> {
    let path = &settings.path;
    let disk_error =
        |why: std::io::Error| Unusable::Unreadable(disk::describe_error(path, &why).unwrap_or_else(|| why.to_string()));
    std::fs::create_dir_all(folder_of(path)).map_err(disk_error)?;
    // Locked before SQLite opens the file, so that the lock is closed last.
    let mut lock = lock_or_create(path, settings.schema.application_id).map_err(Unusable::Unreadable)?;
    disk::require_room(path).map_err(disk_error)?;
    let (mut connection, kind) = detect(settings)?;
    prepare_writer(settings, &mut connection, kind).map_err(|why| match why {
        Error::Storage(why) | Error::Internal(why) => Unusable::Unreadable(why),
        other => Unusable::Unreadable(other.to_string()),
    })?;
    lock.keep_open(disk::reserve_shared_memory(path).map_err(disk_error)?);
    let (limit, warning) =
        size_limit::resolve(&connection, settings.limit).map_err(|why| Unusable::Unreadable(why.to_string()))?;
    let reader = read_only(path).map_err(|why| Unusable::Unreadable(why.to_string()))?;
    let readers = ReaderPool::new(reader, path.clone(), settings.readers.saturating_sub(1), read_only);
    let writer = Writer::start(connection, lock, limit, warning).map_err(disk_error)?;
    Ok(Database { writer, readers })
}

/// Returns readers of an in-memory database that `fill` has filled, for tests that change nothing.
#[cfg(any(test, fuzzing))]
pub(crate) fn in_memory(schema: Schema, fill: impl FnOnce(&Connection) -> Result<()>) -> ReaderPool {
    let filled = || {
        let mut connection = Connection::open_in_memory()?;
        keep_plans(&connection)?;
        add_contains(&connection)?;
        schema.migrate(&mut connection, FileKind::Empty)?;
        connection.pragma_update(None, "foreign_keys", true)?;
        fill(&connection)?;
        Ok::<_, Error>(connection)
    };
    ReaderPool::new(filled().expect("an in-memory database opens"), PathBuf::new(), 0, read_only)
}

/// Returns the rows of a table of names in ascending order of their ids, for tests of enumerations.
#[cfg(test)]
pub(crate) fn table_of_names(connection: &Connection, table: &str) -> Result<Vec<(i64, String)>> {
    let mut select = connection.prepare(&format!("SELECT id, name FROM {table} ORDER BY id"))?;
    Ok(select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<rusqlite::Result<_>>()?)
}

/// Opens the file for writing and returns its kind.
fn detect(settings: &Settings) -> std::result::Result<(Connection, FileKind), Unusable> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(&settings.path, flags)?;
    connection.busy_timeout(LOCK_TIMEOUT)?;
    let kind = settings.schema.detect(&connection)?;
    Ok((connection, kind))
}

/// Sets the pragmas of the writer's connection, and creates, migrates or imports the tables.
fn prepare_writer(settings: &Settings, connection: &mut Connection, kind: FileKind) -> Result<()> {
    keep_plans(connection)?;
    if kind == FileKind::Empty {
        // Only an empty file can change this without a rewrite.
        connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    }
    connection.pragma_update(None, "journal_mode", "WAL")?;
    let level = if settings.synchronous == Synchronous::Full { "FULL" } else { "NORMAL" };
    for (pragma, value) in [
        ("synchronous", level),
        ("temp_store", "MEMORY"),
        ("mmap_size", "0"),
        // A checkpoint every 4 MB: a longer interval saves little and makes the slowest commit slower.
        ("wal_autocheckpoint", "1000"),
        ("journal_size_limit", "8388608"),
    ] {
        connection.pragma_update(None, pragma, value)?;
    }
    super::litestream::prepare(connection)?;
    connection.pragma_update(None, "cache_size", -WRITER_CACHE_KIB)?;
    connection.set_prepared_statement_cache_capacity(CACHED_STATEMENTS);
    if kind != FileKind::Empty
        && let Some(damage) = damage::check_quickly(connection)?
    {
        if !settings.schema.is_current(kind) {
            return Err(Error::Storage(format!("it is damaged: {damage}; {REMEDY}")));
        }
        // What can be read is served, and `/health` reports the damage.
        damage::record_damage(&damage);
    }
    if kind == FileKind::Original {
        copy_before_import(connection, &settings.path, &settings.schema)?;
    }
    settings.schema.migrate(connection, kind)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    let auto_vacuum: i32 = connection.query_row("PRAGMA auto_vacuum", [], |row| row.get(0))?;
    if auto_vacuum != INCREMENTAL {
        log::info!("db: rewriting {} once, so that it can shrink later", settings.path.display());
        connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
        if let Err(why) = connection.execute_batch("VACUUM") {
            log::warn!("db: rewriting failed: {why}; the database keeps its size, and the next start retries");
        }
    }
    Ok(())
}

/// Lets statements keep their plans when values are bound (query planner stability guarantee). Otherwise, SQLite compares
/// bound values with literals in the conditions of indexes and with limits, and plans such a statement again at every
/// execution, which took a third of the CPU time of an error report. So a partial index is used only if its condition is
/// in the query literally.
fn keep_plans(connection: &Connection) -> Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(())
}

/// Copies a database of the original next to itself before it is imported. The copy appears only when it is complete.
fn copy_before_import(connection: &Connection, path: &Path, schema: &Schema) -> Result<()> {
    let version = schema.import.map_or(0, |import| import.version);
    let (copy, unfinished) = (sibling(path, &format!(".original-{version}")), sibling(path, ".copying"));
    let storage = |why: std::io::Error| Error::Storage(format!("failed to copy it before the import: {why}"));
    if unfinished.exists() {
        std::fs::remove_file(&unfinished).map_err(storage)?;
    }
    drop(create_private(&unfinished).map_err(storage)?);
    connection.execute("VACUUM INTO ?1", [unfinished.to_string_lossy()])?;
    let file = std::fs::File::open(&unfinished).map_err(storage)?;
    file.sync_all().map_err(storage)?;
    std::fs::rename(&unfinished, &copy).map_err(storage)?;
    log::info!("db: importing {} from the original; a copy is kept as {}", path.display(), copy.display());
    Ok(())
}

fn read_only(path: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(LOCK_TIMEOUT)?;
    keep_plans(&connection)?;
    add_contains(&connection)?;
    connection.pragma_update(None, "cache_size", -READER_CACHE_KIB)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update(None, "mmap_size", "0")?;
    connection.set_prepared_statement_cache_capacity(CACHED_STATEMENTS);
    Ok(connection)
}
