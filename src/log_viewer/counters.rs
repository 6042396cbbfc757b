//! Named counters of the database, in the table `totals`.

use rusqlite::Connection;

use crate::error::Result;

/// Number of entries ever stored, which is also the ingest sequence number of the newest one.
pub(super) const INGESTED: &str = "arrivals";
/// Time of the last stored batch, in milliseconds since 1970; 0 if nothing was ever stored.
pub(super) const LAST_INGEST_MS: &str = "stored_at";
/// Number of rotated files that were gone or damaged before they could be read.
pub(super) const MISSED_ROTATIONS: &str = "gaps";

/// Reads a counter.
pub(super) fn read(connection: &Connection, name: &str) -> Result<i64> {
    let mut read = connection.prepare_cached("SELECT value FROM totals WHERE name = ?1")?;
    Ok(read.query_row([name], |row| row.get(0))?)
}

/// Sets a counter.
pub(super) fn set(transaction: &Connection, name: &str, value: i64) -> Result<()> {
    transaction.prepare_cached("UPDATE totals SET value = ?2 WHERE name = ?1")?.execute((name, value))?;
    Ok(())
}

/// Adds to a counter.
pub(super) fn add(transaction: &Connection, name: &str, amount: i64) -> Result<()> {
    transaction.prepare_cached("UPDATE totals SET value = value + ?2 WHERE name = ?1")?.execute((name, amount))?;
    Ok(())
}
