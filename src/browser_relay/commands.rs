//! Commands: every change to the browser relay's database.

use rusqlite::{Connection, OptionalExtension as _};

use super::sourcemap::convert::MapStats;
use super::sourcemap::layout::BlockKind;
use super::sourcemap::upload_body::UploadFields;
use super::sourcemap::url_match;
use super::store::active_keys;
use super::upstream::OutboundRequest;
use crate::clock::Timestamp;
use crate::db::{Command, add_to_counter, counter};
use crate::error::Result;
use crate::http::PublicKey;

/// Estimated bytes of an outbox row besides its body.
const OUTBOX_ROW_BYTES: i64 = 200;

/// Creates a public key for a project.
pub(super) struct CreateKey {
    pub(super) public_key: String,
    pub(super) project: String,
    pub(super) now: Timestamp,
}

/// The created key, and all active keys including it.
pub(super) struct CreatedKey {
    pub(super) id: i64,
    pub(super) public_key: String,
    pub(super) project: String,
    pub(super) active: Vec<PublicKey>,
}

impl Command for CreateKey {
    type Output = CreatedKey;

    fn apply(self, transaction: &Connection) -> Result<CreatedKey> {
        let Self { public_key, project, now } = self;
        let mut insert = transaction
            .prepare_cached("INSERT INTO dsn_keys (public_key, project, created_at_ms) VALUES (?1, ?2, ?3)")?;
        let id = insert.insert((&public_key, &project, now.ms()))?;
        Ok(CreatedKey { id, public_key, project, active: active_keys(transaction)? })
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

/// Creates the keys from the settings that do not exist yet. A deactivated key stays deactivated.
pub(super) struct SeedKeys {
    /// Keys and their projects.
    pub(super) keys: Vec<(String, String)>,
    pub(super) now: Timestamp,
}

impl Command for SeedKeys {
    /// All active keys.
    type Output = Vec<PublicKey>;

    fn apply(self, transaction: &Connection) -> Result<Vec<PublicKey>> {
        let mut insert = transaction.prepare_cached(
            "INSERT OR IGNORE INTO dsn_keys (public_key, project, created_at_ms) VALUES (?1, ?2, ?3)",
        )?;
        let mut select = transaction.prepare_cached("SELECT project FROM dsn_keys WHERE public_key = ?1")?;
        for (key, project) in &self.keys {
            insert.execute((key, project, self.now.ms()))?;
            let stored: String = select.query_row([key], |row| row.get(0))?;
            if stored != *project {
                log::warn!(
                    "DSN_KEYS: a key of project {project} already belongs to project {stored}; it stays with {stored}"
                );
            }
        }
        active_keys(transaction)
    }
}

/// Stores a report that could not be forwarded. Drops the oldest reports if the outbox exceeds its limit, because recent
/// reports are more useful.
pub(super) struct EnqueueOutbox {
    pub(super) request: OutboundRequest,
    /// Maximum size of the outbox.
    pub(super) bytes_max: i64,
    pub(super) now: Timestamp,
}

impl Command for EnqueueOutbox {
    type Output = ();

    fn apply(self, transaction: &Connection) -> Result<()> {
        let OutboundRequest { kind, body, idempotency_key, client } = &self.request;
        let mut insert = transaction.prepare_cached(
            "INSERT INTO outbox (upstream_id, idempotency_key, body, client, created_at_ms)
                 VALUES (?1, ?2, CAST(?3 AS TEXT), ?4, ?5)",
        )?;
        insert.execute((kind.id(), idempotency_key, body, client.to_string(), self.now.ms()))?;
        add_to_counter(transaction, "outbox_waiting", 1)?;
        add_to_counter(transaction, "outbox_bytes", body.len() as i64 + OUTBOX_ROW_BYTES)?;
        while counter(transaction, "outbox_bytes")? > self.bytes_max && drop_oldest_from_outbox(transaction)? {}
        Ok(())
    }
}

/// Removes a delivered report from the outbox.
pub(super) struct RemoveFromOutbox {
    pub(super) id: i64,
    /// Whether the upstream accepted the report. Rejected ones are counted.
    pub(super) is_accepted: bool,
}

impl Command for RemoveFromOutbox {
    type Output = ();

    fn apply(self, transaction: &Connection) -> Result<()> {
        if remove_from_outbox(transaction, Some(self.id))? && !self.is_accepted {
            add_to_counter(transaction, "outbox_refused", 1)?;
        }
        Ok(())
    }
}

/// Drops the oldest report in the outbox. Returns `false` if the outbox is empty.
fn drop_oldest_from_outbox(transaction: &Connection) -> Result<bool> {
    let is_dropped = remove_from_outbox(transaction, None)?;
    if is_dropped {
        add_to_counter(transaction, "outbox_dropped", 1)?;
    }
    Ok(is_dropped)
}

/// Removes the report with this id, or the oldest one. Returns `false` if there is none.
fn remove_from_outbox(transaction: &Connection, id: Option<i64>) -> Result<bool> {
    let mut delete = transaction.prepare_cached(
        "DELETE FROM outbox WHERE id = coalesce(?1, (SELECT min(id) FROM outbox)) RETURNING length(CAST(body AS BLOB))",
    )?;
    let body_bytes: Option<i64> = delete.query_row([id], |row| row.get(0)).optional()?;
    if let Some(body_bytes) = body_bytes {
        add_to_counter(transaction, "outbox_waiting", -1)?;
        add_to_counter(transaction, "outbox_bytes", -body_bytes - OUTBOX_ROW_BYTES)?;
    }
    Ok(body_bytes.is_some())
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
        insert_map(transaction, self.id, &self.fields, &self.stats, self.now, self.now)
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
        "INSERT INTO source_maps (id, project, release, file_url, file_name, uploaded_at_ms, used_at_ms, mappings)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
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

/// Frees space when the database exceeds `MAX_DB_MB`. Deletes the least recently used source map, because it can be
/// uploaded again; without source maps, drops the oldest report in the outbox. Returns `false` if nothing is left.
pub(super) fn evict_oldest(transaction: &Connection) -> Result<bool> {
    let is_deleted = delete_least_recently_used_map(transaction, Timestamp::from_ms(i64::MAX))?;
    Ok(is_deleted || drop_oldest_from_outbox(transaction)?)
}
