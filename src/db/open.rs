//! Opening a database: the file, its pragmas, its schema, and the copy that is kept of what is taken over.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use super::backup::beside;
use super::lock::{Lock, private};
use super::migrate::{Found, Schema};
use super::reader_pool::ReaderPool;
use super::writer::{Limit, Writer};
use crate::error::{Error, Result};

/// Statements each connection keeps prepared.
const STATEMENTS_KEPT: usize = 64;
/// How long a lock of another process (a backup) is waited for.
pub(super) const LOCK_WAIT: std::time::Duration = std::time::Duration::from_secs(5);
const WRITER_CACHE_KIB: i32 = 1024;
const READER_CACHE_KIB: i32 = 512;
/// PRAGMA auto_vacuum's number for INCREMENTAL.
const INCREMENTAL: i32 = 2;

/// When a commit counts as done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Synchronous {
    /// When the disk has it: it survives a power cut.
    Full,
    /// When the kernel has it: it survives the process, and a power cut may take the last moments.
    Normal,
}

/// How a database is opened.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The file; its folder is made when it is missing.
    pub path: PathBuf,
    /// What it must look like.
    pub schema: Schema,
    /// When a commit counts as done.
    pub synchronous: Synchronous,
    /// How many read-only connections there are.
    pub readers: usize,
    /// What keeps the file within bounds; `None` lets it grow.
    pub limit: Option<Limit>,
}

/// An open database.
pub struct Database {
    /// The one that changes it.
    pub writer: Writer,
    /// Those that look.
    pub readers: ReaderPool,
}

/// Opens, migrates and takes over as needed, and starts the writer.
///
/// # Errors
/// One sentence that names the file and says what to do.
pub fn open(settings: &Settings) -> std::result::Result<Database, String> {
    let path = &settings.path;
    let named = |why: &dyn std::fmt::Display| format!("cannot use the database {}: {why}", path.display());
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(|why| named(&why))?;
    }
    // Before SQLite opens the file, so that it is closed after.
    let lock = Lock::take(path).map_err(|why| named(&why))?;
    let connection = writable(settings).map_err(|why| match why {
        Error::Storage(why) | Error::Internal(why) => named(&why),
        other => named(&other),
    })?;
    let readers = (0..settings.readers).map(|_| read_only(path)).collect::<Result<Vec<_>>>();
    let readers = readers.map_err(|why| named(&why))?;
    let writer = Writer::start(connection, lock, settings.limit).map_err(|why| named(&why))?;
    Ok(Database { writer, readers: ReaderPool::new(readers, path.clone()) })
}

/// A database in memory with what `fill` puts into it, for questions that change nothing.
#[cfg(any(test, fuzzing))]
pub(crate) fn in_memory(schema: Schema, fill: impl FnOnce(&Connection) -> Result<()>) -> ReaderPool {
    let filled = || {
        let mut connection = Connection::open_in_memory()?;
        schema.migrate(&mut connection, Found::Empty)?;
        fill(&connection)?;
        Ok::<_, Error>(connection)
    };
    ReaderPool::new(vec![filled().expect("a database in memory has no trouble")], PathBuf::new())
}

fn writable(settings: &Settings) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(&settings.path, flags)?;
    connection.busy_timeout(LOCK_WAIT)?;
    let found = settings.schema.recognise(&connection)?;
    if found == Found::Empty {
        // Only an empty file can choose this without being rewritten.
        connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    }
    connection.pragma_update(None, "journal_mode", "WAL")?;
    let level = if settings.synchronous == Synchronous::Full { "FULL" } else { "NORMAL" };
    for (pragma, value) in [
        ("synchronous", level),
        ("temp_store", "MEMORY"),
        ("mmap_size", "0"),
        // A checkpoint every 4 MB: larger ones save little and make the longest commit longer.
        ("wal_autocheckpoint", "1000"),
        ("journal_size_limit", "8388608"),
    ] {
        connection.pragma_update(None, pragma, value)?;
    }
    connection.pragma_update(None, "cache_size", -WRITER_CACHE_KIB)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
    if found == Found::Original {
        keep_copy(&connection, &settings.path, &settings.schema)?;
    }
    settings.schema.migrate(&mut connection, found)?;
    let auto_vacuum: i32 = connection.query_row("PRAGMA auto_vacuum", [], |row| row.get(0))?;
    if auto_vacuum != INCREMENTAL {
        log::info!("rewriting {} once, so that it can shrink later", settings.path.display());
        connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
        if let Err(why) = connection.execute_batch("VACUUM") {
            log::warn!("the database stays as large as it is for now: {why}");
        }
    }
    super::idempotency::prepare(&connection)?;
    super::sessions::prepare(&connection)?;
    super::export_cursor::prepare(&connection)?;
    Ok(connection)
}

/// Keeps what is about to be taken over beside it, complete or not at all.
fn keep_copy(connection: &Connection, path: &Path, schema: &Schema) -> Result<()> {
    let version = schema.import.map_or(0, |import| import.version);
    let (copy, unfinished) = (beside(path, &format!(".original-{version}")), beside(path, ".copying"));
    let storage = |why: std::io::Error| Error::Storage(format!("a copy of it cannot be kept: {why}"));
    if unfinished.exists() {
        std::fs::remove_file(&unfinished).map_err(storage)?;
    }
    drop(private(&unfinished).map_err(storage)?);
    connection.execute("VACUUM INTO ?1", [unfinished.to_string_lossy()])?;
    let file = std::fs::File::open(&unfinished).map_err(storage)?;
    file.sync_all().map_err(storage)?;
    std::fs::rename(&unfinished, &copy).map_err(storage)?;
    log::info!("{} was written by the original; a copy is kept as {}", path.display(), copy.display());
    Ok(())
}

fn read_only(path: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(LOCK_WAIT)?;
    connection.pragma_update(None, "cache_size", -READER_CACHE_KIB)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update(None, "mmap_size", "0")?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
    Ok(connection)
}
