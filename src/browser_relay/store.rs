//! Every question asked of the browser relay's database.

use rusqlite::{Connection, OptionalExtension as _};
use serde::Serialize;

use super::upstream::Kind;
use crate::clock::Timestamp;
use crate::error::Result;
use crate::http::PublicKey;

/// One of the numbers in `totals`.
pub(super) fn total(connection: &Connection, name: &str) -> Result<i64> {
    let mut read = connection.prepare_cached("SELECT value FROM totals WHERE name = ?1")?;
    Ok(read.query_row([name], |row| row.get(0))?)
}

/// The keys that are in use.
pub(super) fn active_keys(connection: &Connection) -> Result<Vec<PublicKey>> {
    let mut read =
        connection.prepare_cached("SELECT id, public_key, project FROM dsn_keys WHERE active ORDER BY id")?;
    let key = |row: &rusqlite::Row<'_>| Ok(PublicKey { id: row.get(0)?, key: row.get(1)?, project: row.get(2)? });
    Ok(read.query_map([], key)?.collect::<rusqlite::Result<_>>()?)
}

/// A key as it is listed.
#[derive(Debug, Serialize)]
pub(super) struct Key {
    id: i64,
    public_key: String,
    project: String,
    active: bool,
    created_at: Timestamp,
}

/// All keys, the oldest first.
pub(super) fn keys(connection: &Connection) -> Result<Vec<Key>> {
    let mut read =
        connection.prepare_cached("SELECT id, public_key, project, active, created_at FROM dsn_keys ORDER BY id")?;
    let key = |row: &rusqlite::Row<'_>| {
        Ok(Key {
            id: row.get(0)?,
            public_key: row.get(1)?,
            project: row.get(2)?,
            active: row.get(3)?,
            created_at: Timestamp::from_ms(row.get(4)?),
        })
    };
    Ok(read.query_map([], key)?.collect::<rusqlite::Result<_>>()?)
}

/// What waits for an upstream.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) id: i64,
    pub(super) idempotency_key: String,
    pub(super) body: String,
}

/// What has waited longest.
pub(super) fn oldest(connection: &Connection, kind: Kind) -> Result<Option<Item>> {
    let mut read = connection
        .prepare_cached("SELECT id, idempotency_key, body FROM outbox WHERE upstream = ?1 ORDER BY id LIMIT 1")?;
    let item = |row: &rusqlite::Row<'_>| Ok(Item { id: row.get(0)?, idempotency_key: row.get(1)?, body: row.get(2)? });
    Ok(read.query_row([kind.name()], item).optional()?)
}

/// How many wait for each upstream, in the order of [`Kind::ALL`].
pub(super) fn waiting(connection: &Connection) -> Result<[i64; 2]> {
    let mut count = connection.prepare_cached("SELECT count(*) FROM outbox WHERE upstream = ?1")?;
    let mut waiting = [0; 2];
    for (kind, number) in Kind::ALL.into_iter().zip(&mut waiting) {
        *number = count.query_row([kind.name()], |row| row.get(0))?;
    }
    Ok(waiting)
}
