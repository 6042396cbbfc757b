//! Every question asked of the browser relay's database.

use std::net::{IpAddr, Ipv4Addr};

use rusqlite::{Connection, OptionalExtension as _, Row};
use serde::Serialize;

use super::maps;
use super::upstream::{Kind, Parcel};
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
    let key = |row: &Row<'_>| Ok(PublicKey { id: row.get(0)?, key: row.get(1)?, project: row.get(2)? });
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
    let key = |row: &Row<'_>| {
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
    pub(super) parcel: Parcel,
}

/// What has waited longest for an upstream, of what came after an item.
pub(super) fn next(connection: &Connection, kind: Kind, after: i64) -> Result<Option<Item>> {
    let mut read = connection.prepare_cached(
        "SELECT id, idempotency_key, CAST(body AS BLOB), client FROM outbox WHERE upstream = ?1 AND id > ?2
             ORDER BY id LIMIT 1",
    )?;
    let item = |row: &Row<'_>| {
        let client = row.get_ref(3)?.as_str()?.parse().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        Ok(Item { id: row.get(0)?, parcel: Parcel { kind, idempotency_key: row.get(1)?, body: row.get(2)?, client } })
    };
    Ok(read.query_row((kind.name(), after), item).optional()?)
}

/// A map that may be that of a file.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) id: i64,
    pub(super) file_url: String,
    pub(super) used_at: Timestamp,
}

/// The maps of a release whose file has this name, the latest first.
pub(super) fn candidates(
    connection: &Connection,
    project: &str,
    release: &str,
    file_name: &str,
) -> Result<Vec<Candidate>> {
    let mut read = connection.prepare_cached(
        "SELECT id, file_url, used_at FROM source_maps WHERE project = ?1 AND release = ?2 AND file_name = ?3
             ORDER BY id DESC",
    )?;
    let map = |row: &Row<'_>| {
        Ok(Candidate { id: row.get(0)?, file_url: row.get(1)?, used_at: Timestamp::from_ms(row.get(2)?) })
    };
    Ok(read.query_map((project, release, file_name), map)?.collect::<rusqlite::Result<_>>()?)
}

/// The block of a map that has the answer for a key, and the key it begins with.
pub(super) fn block(connection: &Connection, map: i64, kind: maps::Kind, key: i64) -> Result<Option<(i64, Vec<u8>)>> {
    let mut read = connection.prepare_cached(
        "SELECT key, bytes FROM map_blocks WHERE map_id = ?1 AND kind = ?2 AND key <= ?3 ORDER BY key DESC LIMIT 1",
    )?;
    Ok(read.query_row((map, kind.number(), key), |row| Ok((row.get(0)?, row.get(1)?))).optional()?)
}

/// A map as it is listed.
#[derive(Debug, Serialize)]
pub(super) struct SourceMap {
    id: i64,
    project: String,
    release: String,
    file_url: String,
    uploaded_at: Timestamp,
}

impl SourceMap {
    pub(super) fn file_url(&self) -> &str {
        &self.file_url
    }
}

/// Which maps are meant.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Which<'a> {
    pub(super) project: Option<&'a str>,
    pub(super) release: Option<&'a str>,
}

const WHICH: &str = "(?1 IS NULL OR project = ?1) AND (?2 IS NULL OR release = ?2)";

/// How many maps there are.
pub(super) fn map_count(connection: &Connection, which: Which<'_>) -> Result<i64> {
    let mut count = connection.prepare_cached(&format!("SELECT count(*) FROM source_maps WHERE {WHICH}"))?;
    Ok(count.query_row((which.project, which.release), |row| row.get(0))?)
}

/// Some of the maps, the latest first.
pub(super) fn source_maps(
    connection: &Connection,
    which: Which<'_>,
    limit: i64,
    offset: i64,
) -> Result<Vec<SourceMap>> {
    let mut read = connection.prepare_cached(&format!(
        "SELECT id, project, release, file_url, uploaded_at FROM source_maps WHERE {WHICH}
             ORDER BY id DESC LIMIT ?3 OFFSET ?4"
    ))?;
    let map = |row: &Row<'_>| {
        Ok(SourceMap {
            id: row.get(0)?,
            project: row.get(1)?,
            release: row.get(2)?,
            file_url: row.get(3)?,
            uploaded_at: Timestamp::from_ms(row.get(4)?),
        })
    };
    Ok(read.query_map((which.project, which.release, limit, offset), map)?.collect::<rusqlite::Result<_>>()?)
}
