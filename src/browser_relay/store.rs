//! Queries of the browser relay's database.

use rusqlite::{Connection, OptionalExtension as _, Row};
use serde::Serialize;

use super::sourcemap::layout::BlockKind;
use crate::clock::Timestamp;
use crate::error::Result;
use crate::http::PublicKey;
use crate::records::key_kind::KeyKind;

/// Returns the active public keys.
pub(super) fn active_keys(connection: &Connection) -> Result<Vec<PublicKey>> {
    let mut select = connection
        .prepare_cached("SELECT id, public_key, project, key_kind_id FROM dsn_keys WHERE active ORDER BY id")?;
    let key = |row: &Row<'_>| {
        Ok(PublicKey { id: row.get(0)?, key: row.get(1)?, project: row.get(2)?, kind: KeyKind::from_id(row.get(3)?) })
    };
    Ok(select.query_map([], key)?.collect::<rusqlite::Result<_>>()?)
}

/// A public key as the API lists it.
#[derive(Debug, Serialize)]
pub(super) struct KeyEntry {
    pub(super) id: i64,
    public_key: String,
    project: String,
    kind: &'static str,
    active: bool,
    created_at: Timestamp,
}

/// Returns the number of public keys.
pub(super) fn count_keys(connection: &Connection) -> Result<i64> {
    Ok(connection.prepare_cached("SELECT count(*) FROM dsn_keys")?.query_row([], |row| row.get(0))?)
}

/// Returns `limit` public keys with an id greater than `after`, oldest first, without the first `offset` of them.
pub(super) fn list_keys(connection: &Connection, after: i64, limit: i64, offset: i64) -> Result<Vec<KeyEntry>> {
    let mut select = connection.prepare_cached(
        "SELECT id, public_key, project, key_kind_id, active, created_at_ms FROM dsn_keys WHERE id > ?1
             ORDER BY id LIMIT ?2 OFFSET ?3",
    )?;
    let key = |row: &Row<'_>| {
        Ok(KeyEntry {
            id: row.get(0)?,
            public_key: row.get(1)?,
            project: row.get(2)?,
            kind: KeyKind::from_id(row.get(3)?).name(),
            active: row.get(4)?,
            created_at: Timestamp::from_ms(row.get(5)?),
        })
    };
    Ok(select.query_map((after, limit, offset), key)?.collect::<rusqlite::Result<_>>()?)
}

/// A source map that may belong to the file of a frame.
#[derive(Debug, Clone)]
pub(super) struct CandidateMap {
    pub(super) id: i64,
    pub(super) file_url: String,
    pub(super) used_at: Timestamp,
}

/// Returns the `limit` latest source maps of a release that were uploaded for a file of this name, latest first. Stops before
/// their URLs exceed `bytes_max`, but returns at least one.
pub(super) fn maps_by_file_name(
    connection: &Connection,
    project: &str,
    release: &str,
    file_name: &str,
    limit: usize,
    bytes_max: usize,
) -> Result<Vec<CandidateMap>> {
    let mut select = connection.prepare_cached(
        "SELECT id, file_url, used_at_ms FROM source_maps WHERE project = ?1 AND release = ?2 AND file_name = ?3
             ORDER BY id DESC LIMIT ?4",
    )?;
    let map = |row: &Row<'_>| {
        Ok(CandidateMap { id: row.get(0)?, file_url: row.get(1)?, used_at: Timestamp::from_ms(row.get(2)?) })
    };
    let (mut maps, mut bytes) = (Vec::new(), 0);
    for map in select.query_map((project, release, file_name, limit as i64), map)? {
        let map: CandidateMap = map?;
        bytes += map.file_url.len();
        if bytes > bytes_max && !maps.is_empty() {
            break;
        }
        maps.push(map);
    }
    Ok(maps)
}

/// Returns the block of a map with the greatest key up to `key`: its own key and its bytes.
pub(super) fn find_block(
    connection: &Connection,
    map: i64,
    kind: BlockKind,
    key: i64,
) -> Result<Option<(i64, Vec<u8>)>> {
    let mut select = connection.prepare_cached(
        "SELECT key, data FROM map_blocks WHERE map_id = ?1 AND kind_id = ?2 AND key <= ?3 ORDER BY key DESC LIMIT 1",
    )?;
    Ok(select.query_row((map, kind.id(), key), |row| Ok((row.get(0)?, row.get(1)?))).optional()?)
}

/// A source map as the API lists it.
#[derive(Debug, Serialize)]
pub(super) struct SourceMap {
    pub(super) id: i64,
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

/// Filter for source maps. `None` matches all.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct MapFilter<'a> {
    pub(super) project: Option<&'a str>,
    pub(super) release: Option<&'a str>,
}

const MAP_FILTER: &str = "(?1 IS NULL OR project = ?1) AND (?2 IS NULL OR release = ?2)";

/// Returns the number of source maps that match the filter.
pub(super) fn count_maps(connection: &Connection, filter: MapFilter<'_>) -> Result<i64> {
    let mut count = connection.prepare_cached(&format!("SELECT count(*) FROM source_maps WHERE {MAP_FILTER}"))?;
    Ok(count.query_row((filter.project, filter.release), |row| row.get(0))?)
}

/// Returns `limit` source maps that match the filter and have an id less than `before`, latest first, without the first
/// `offset` of them.
pub(super) fn list_maps(
    connection: &Connection,
    filter: MapFilter<'_>,
    before: i64,
    limit: i64,
    offset: i64,
) -> Result<Vec<SourceMap>> {
    let mut select = connection.prepare_cached(&format!(
        "SELECT id, project, release, file_url, uploaded_at_ms FROM source_maps WHERE {MAP_FILTER}
             AND id < ?3 ORDER BY id DESC LIMIT ?4 OFFSET ?5"
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
    Ok(select
        .query_map((filter.project, filter.release, before, limit, offset), map)?
        .collect::<rusqlite::Result<_>>()?)
}
