//! Named counters, in the table `counters`. They replace counting rows.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension as _};

use super::damage::missing_row;
use crate::error::Result;

/// Returns the value of a counter.
///
/// # Errors
/// Fails if the counter does not exist, which is damage, or the database cannot be read.
pub fn counter(connection: &Connection, name: &str) -> Result<i64> {
    let mut select = connection.prepare_cached("SELECT value FROM counters WHERE name = ?1")?;
    select.query_row([name], |row| row.get(0)).optional()?.ok_or_else(|| missing_row("counters", name))
}

/// Returns all counters by name.
///
/// # Errors
/// Fails if the database cannot be read.
pub fn counters(connection: &Connection) -> Result<HashMap<String, i64>> {
    let mut select = connection.prepare_cached("SELECT name, value FROM counters")?;
    let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Adds `change`, which may be negative, to a counter.
///
/// # Errors
/// Fails if the database cannot be written.
pub fn add_to_counter(transaction: &Connection, name: &str, change: i64) -> Result<()> {
    let mut update = transaction.prepare_cached("UPDATE counters SET value = value + ?2 WHERE name = ?1")?;
    expect_row(update.execute((name, change))?, name)
}

/// Sets the value of a counter.
///
/// # Errors
/// Fails if the database cannot be written.
pub fn set_counter(transaction: &Connection, name: &str, value: i64) -> Result<()> {
    let mut update = transaction.prepare_cached("UPDATE counters SET value = ?2 WHERE name = ?1")?;
    expect_row(update.execute((name, value))?, name)
}

/// Reports a missing counter as damage: each counter exists from the creation of the database.
fn expect_row(changed: usize, name: &str) -> Result<()> {
    if changed == 0 { Err(missing_row("counters", name)) } else { Ok(()) }
}
