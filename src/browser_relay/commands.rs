//! Commands: every change to the browser relay's public keys and source maps.

use rusqlite::{Connection, OptionalExtension as _};

use super::outbox_commands::evict_from_outbox;
use super::sourcemap::convert::MapStats;
use super::sourcemap::layout::BlockKind;
use super::sourcemap::upload_body::UploadFields;
use super::sourcemap::url_match;
use super::store::active_keys;
use crate::clock::Timestamp;
use crate::db::Command;
use crate::error::Result;
use crate::http::PublicKey;
use crate::quota::{Bounds, Measure, Reason, Store, largest_project, record_rejection, total_usage};
use crate::records::key_kind::KeyKind;

/// Maximum number of source maps. Beyond it, a project loses its least recently used one.
const MAPS_MAX: u64 = 20_000;

/// The store of source maps. `MAX_DB_MB` bounds their size.
pub(super) const MAP_STORE: Store = Store {
    name: "source_maps",
    warning: "source_maps_evicted",
    bounds: Bounds { rows_max: MAPS_MAX, bytes_max: u64::MAX },
};

/// Creates a public key for a project.
pub(super) struct CreateKey {
    pub(super) public_key: String,
    pub(super) project: String,
    pub(super) kind: KeyKind,
    pub(super) now: Timestamp,
}

/// The created key, and all active keys including it.
pub(super) struct CreatedKey {
    pub(super) id: i64,
    pub(super) public_key: String,
    pub(super) project: String,
    pub(super) kind: KeyKind,
    pub(super) active: Vec<PublicKey>,
}

impl Command for CreateKey {
    type Output = CreatedKey;

    fn apply(self, transaction: &Connection) -> Result<CreatedKey> {
        let Self { public_key, project, kind, now } = self;
        let mut insert = transaction.prepare_cached(
            "INSERT INTO dsn_keys (public_key, project, key_kind_id, created_at_ms) VALUES (?1, ?2, ?3, ?4)",
        )?;
        let id = insert.insert((&public_key, &project, kind.id(), now.ms()))?;
        Ok(CreatedKey { id, public_key, project, kind, active: active_keys(transaction)? })
    }
}

/// Deactivates a public key.
pub(super) struct DeactivateKey {
    pub(super) id: i64,
}

impl Command for DeactivateKey {
    /// The keys that are still active, or `None` if the id is unknown.
    type Output = Option<Vec<PublicKey>>;

    fn apply(self, transaction: &Connection) -> Result<Self::Output> {
        let changed = transaction.execute("UPDATE dsn_keys SET active = 0 WHERE id = ?1", [self.id])?;
        if changed == 0 { Ok(None) } else { active_keys(transaction).map(Some) }
    }
}

/// A public key in the settings.
pub(super) struct SeededKey {
    pub(super) public_key: String,
    pub(super) project: String,
    /// `None` leaves the kind of an existing key as it is; a new key then is a browser key.
    pub(super) kind: Option<KeyKind>,
}

/// Creates the keys from the settings that do not exist yet, and sets the kinds that the settings name. A deactivated key stays
/// deactivated.
pub(super) struct SeedKeys {
    pub(super) keys: Vec<SeededKey>,
    pub(super) now: Timestamp,
}

impl Command for SeedKeys {
    /// All active keys.
    type Output = Vec<PublicKey>;

    fn apply(self, transaction: &Connection) -> Result<Vec<PublicKey>> {
        let mut insert = transaction.prepare_cached(
            "INSERT INTO dsn_keys (public_key, project, key_kind_id, created_at_ms) VALUES (?1, ?2, coalesce(?3, ?4), ?5)
                 ON CONFLICT (public_key) DO UPDATE SET key_kind_id = coalesce(?3, key_kind_id) WHERE project = ?2
                 RETURNING id",
        )?;
        let mut select = transaction.prepare_cached("SELECT project FROM dsn_keys WHERE public_key = ?1")?;
        for SeededKey { public_key, project, kind } in &self.keys {
            let kind = kind.map(KeyKind::id);
            let values = (public_key, project, kind, KeyKind::Browser.id(), self.now.ms());
            if insert.query_row(values, |row| row.get::<_, i64>(0)).optional()?.is_none() {
                let stored: String = select.query_row([public_key], |row| row.get(0))?;
                log::warn!(
                    "DSN_KEYS: a key of project {project} already belongs to project {stored}; it stays with {stored}"
                );
            }
        }
        active_keys(transaction)
    }
}

/// Starts an upload.
pub(super) struct StartUpload;

impl Command for StartUpload {
    /// Id of the upload, which becomes the id of the source map.
    type Output = i64;

    fn apply(self, transaction: &Connection) -> Result<i64> {
        Ok(transaction.prepare_cached("INSERT INTO map_contents DEFAULT VALUES")?.insert([])?)
    }
}

/// Stores blocks of an upload. Lookups do not see them until [`FinishUpload`].
pub(super) struct StoreBlocks {
    pub(super) id: i64,
    /// Kind, key and bytes of each block.
    pub(super) blocks: Vec<(BlockKind, i64, Vec<u8>)>,
}

impl Command for StoreBlocks {
    type Output = ();

    fn apply(self, transaction: &Connection) -> Result<()> {
        for (kind, key, bytes) in &self.blocks {
            insert_block(transaction, self.id, *kind, *key, bytes)?;
        }
        Ok(())
    }
}

/// Turns a completed upload into a source map, which replaces an earlier one of the same project, release and file URL.
pub(super) struct FinishUpload {
    pub(super) id: i64,
    pub(super) fields: UploadFields,
    pub(super) stats: MapStats,
    pub(super) now: Timestamp,
}

impl Command for FinishUpload {
    type Output = ();

    fn apply(self, transaction: &Connection) -> Result<()> {
        let UploadFields { project, release, file_url } = &self.fields;
        let previous: Option<i64> = transaction
            .prepare_cached("SELECT id FROM source_maps WHERE project = ?1 AND release = ?2 AND file_url = ?3")?
            .query_row((project, release, file_url), |row| row.get(0))
            .optional()?;
        if let Some(previous) = previous {
            delete_map(transaction, previous)?;
        }
        insert_map(transaction, self.id, &self.fields, &self.stats, self.now, self.now)?;
        while total_usage(transaction, &MAP_STORE)?.rows > MAPS_MAX && evict_map(transaction, self.now)? {}
        Ok(())
    }
}

/// Deletes a failed upload and its blocks.
pub(super) struct DiscardUpload {
    pub(super) id: i64,
}

impl Command for DiscardUpload {
    type Output = ();

    fn apply(self, transaction: &Connection) -> Result<()> {
        delete_upload(transaction, self.id)
    }
}

/// Deletes the uploads that an earlier process did not finish.
pub(super) struct DiscardStaleUploads;

impl Command for DiscardStaleUploads {
    type Output = ();

    fn apply(self, transaction: &Connection) -> Result<()> {
        // An earlier process left at most a few, because it converted one upload at a time.
        transaction.execute("DELETE FROM map_contents WHERE id NOT IN (SELECT id FROM source_maps)", [])?;
        Ok(())
    }
}

/// Inserts a block of a source map.
pub(super) fn insert_block(transaction: &Connection, map: i64, kind: BlockKind, key: i64, bytes: &[u8]) -> Result<()> {
    let mut insert =
        transaction.prepare_cached("INSERT INTO map_blocks (map_id, kind_id, key, data) VALUES (?1, ?2, ?3, ?4)")?;
    insert.execute((map, kind.id(), key, bytes))?;
    Ok(())
}

/// Inserts the row of a source map whose blocks are stored.
pub(super) fn insert_map(
    transaction: &Connection,
    id: i64,
    fields: &UploadFields,
    stats: &MapStats,
    uploaded_at: Timestamp,
    used_at: Timestamp,
) -> Result<()> {
    let UploadFields { project, release, file_url } = fields;
    let mut insert = transaction.prepare_cached(
        "INSERT INTO source_maps (id, project, release, file_url, file_name, uploaded_at_ms, used_at_ms, mappings, stored_bytes)
             SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, coalesce(sum(length(data)), 0) FROM map_blocks WHERE map_id = ?1",
    )?;
    let file_name = url_match::uploaded_file_name(file_url);
    let mappings = i64::try_from(stats.mappings).unwrap_or(i64::MAX);
    insert.execute((id, project, release, file_url, file_name, uploaded_at.ms(), used_at.ms(), mappings))?;
    Ok(())
}

/// Deletes a source map.
pub(super) struct DeleteMap {
    pub(super) id: i64,
}

impl Command for DeleteMap {
    /// Whether the source map existed.
    type Output = bool;

    fn apply(self, transaction: &Connection) -> Result<bool> {
        delete_map(transaction, self.id)
    }
}

/// Deletes a source map and its blocks. Returns `false` if it does not exist or is an upload in progress.
fn delete_map(transaction: &Connection, id: i64) -> Result<bool> {
    let mut delete =
        transaction.prepare_cached("DELETE FROM map_contents WHERE id = ?1 AND id IN (SELECT id FROM source_maps)")?;
    Ok(delete.execute([id])? > 0)
}

/// Deletes an upload in progress and its blocks.
pub(super) fn delete_upload(transaction: &Connection, id: i64) -> Result<()> {
    transaction.prepare_cached("DELETE FROM map_contents WHERE id = ?1")?.execute([id])?;
    Ok(())
}

/// Updates the time of the last use of source maps.
pub(super) struct TouchMaps {
    pub(super) maps: Vec<i64>,
    pub(super) now: Timestamp,
}

impl Command for TouchMaps {
    type Output = ();

    fn apply(self, transaction: &Connection) -> Result<()> {
        let mut update =
            transaction.prepare_cached("UPDATE source_maps SET used_at_ms = max(used_at_ms, ?2) WHERE id = ?1")?;
        for map in &self.maps {
            update.execute((map, self.now.ms()))?;
        }
        Ok(())
    }
}

/// Deletes one source map that has not been used since the given time.
pub(super) struct DeleteExpiredMap {
    pub(super) unused_since: Timestamp,
}

impl Command for DeleteExpiredMap {
    /// Whether a source map was deleted.
    type Output = bool;

    fn apply(self, transaction: &Connection) -> Result<bool> {
        delete_least_recently_used_map(transaction, self.unused_since)
    }
}

/// Deletes the least recently used source map if it was last used before `unused_since`. Returns `false` if there is none.
fn delete_least_recently_used_map(transaction: &Connection, unused_since: Timestamp) -> Result<bool> {
    let mut select = transaction
        .prepare_cached("SELECT id FROM source_maps WHERE used_at_ms < ?1 ORDER BY used_at_ms, id LIMIT 1")?;
    let id: Option<i64> = select.query_row([unused_since.ms()], |row| row.get(0)).optional()?;
    id.map_or(Ok(false), |id| delete_map(transaction, id))
}

/// Deletes the least recently used source map of the project whose maps are the largest. Returns `false` if there is none.
fn evict_map(transaction: &Connection, now: Timestamp) -> Result<bool> {
    let Some((project, _)) = largest_project(transaction, &MAP_STORE, Measure::Bytes)? else { return Ok(false) };
    let mut select =
        transaction.prepare_cached("SELECT id FROM source_maps WHERE project = ?1 ORDER BY used_at_ms, id LIMIT 1")?;
    let id: Option<i64> = select.query_row([&project], |row| row.get(0)).optional()?;
    let is_deleted = id.map_or(Ok(false), |id| delete_map(transaction, id))?;
    record_rejection(transaction, &MAP_STORE, &project, Reason::Evicted, u64::from(is_deleted), now)?;
    Ok(is_deleted)
}

/// Frees space when the database exceeds `MAX_DB_MB`. Deletes a source map of the project whose maps are the largest, because
/// it can be uploaded again; without source maps, drops a report in the outbox. Returns `false` if nothing is left.
pub(super) fn evict_oldest(transaction: &Connection) -> Result<bool> {
    Ok(evict_map(transaction, Timestamp::now())? || evict_from_outbox(transaction)?)
}
