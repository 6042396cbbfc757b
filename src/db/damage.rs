//! Damage of the database: checks at the start, and the record of damage that SQLite finds later.
//!
//! A process has one database, so the record is one flag. It stays set until the process ends, because a damaged
//! database does not repair itself.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::error::{Error, Result};

/// Time limit of the check at the start. A database of some 300 MB in the page cache is checked completely.
const CHECK_TIMEOUT: Duration = Duration::from_millis(250);
/// Steps of the check between two looks at the clock.
const PROGRESS_STEPS: i32 = 1_000;
/// The remedy, as a part of messages.
pub(super) const REMEDY: &str = "restore a backup with --restore FILE";

static IS_DAMAGED: AtomicBool = AtomicBool::new(false);

/// Records that the database is damaged, for `/health`. Logs the first cause.
pub(super) fn record_damage(cause: &str) {
    if !IS_DAMAGED.swap(true, Ordering::Relaxed) {
        log::error!("db: the database is damaged: {cause}; stop the service and {REMEDY}");
    }
}

/// Returns whether damage was found since the start of this process.
pub(super) fn is_damaged() -> bool {
    IS_DAMAGED.load(Ordering::Relaxed)
}

/// Records that a row is missing that every database has, and returns the error for it.
pub(super) fn missing_row(table: &str, key: &str) -> Error {
    let cause = format!("row '{key}' of its table {table} is missing");
    record_damage(&cause);
    Error::Storage(cause)
}

/// Checks the tables one by one until `CHECK_TIMEOUT` is over, so that a large database starts quickly too. Returns the
/// first damage found. Virtual tables are left out, because their checks cannot be interrupted; the tables that store
/// their data are checked.
///
/// # Errors
/// Fails if the database cannot be read for another reason than damage.
pub(super) fn check_quickly(connection: &mut Connection) -> Result<Option<String>> {
    let deadline = Instant::now() + CHECK_TIMEOUT;
    connection.progress_handler(PROGRESS_STEPS, Some(move || Instant::now() > deadline))?;
    let checked = check_tables(connection);
    connection.progress_handler(0, None::<fn() -> bool>)?;
    match checked {
        Ok(found) => Ok(found),
        Err(why) => match why.sqlite_error_code() {
            Some(rusqlite::ErrorCode::OperationInterrupted) => {
                log::debug!("db: the database is too large for a complete check at the start");
                Ok(None)
            }
            Some(rusqlite::ErrorCode::DatabaseCorrupt) => Ok(Some(why.to_string())),
            _ => Err(why.into()),
        },
    }
}

fn check_tables(connection: &Connection) -> rusqlite::Result<Option<String>> {
    let sql = "SELECT name FROM sqlite_schema WHERE type = 'table' AND rootpage > 0";
    let tables: Vec<String> =
        connection.prepare(sql)?.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    for table in tables {
        let quoted = table.replace('\'', "''");
        let found: String = connection.query_row(&format!("PRAGMA quick_check('{quoted}')"), [], |row| row.get(0))?;
        if found != "ok" {
            return Ok(Some(format!("table {table}: {}", found.replace('\n', " "))));
        }
    }
    Ok(None)
}
