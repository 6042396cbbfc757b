//! Every change to the browser relay's database, as a value.

use rusqlite::{Connection, OptionalExtension as _};

use super::store::{active_keys, total};
use super::upstream::Parcel;
use crate::clock::Timestamp;
use crate::db::Command;
use crate::error::Result;
use crate::http::PublicKey;

/// Bytes that an item takes besides its body.
const ITEM_BYTES: i64 = 200;

/// Makes a public key for a project.
pub(super) struct CreateKey {
    pub(super) public_key: String,
    pub(super) project: String,
    pub(super) now: Timestamp,
}

/// A key that is made, and all that are active now.
pub(super) struct Created {
    pub(super) id: i64,
    pub(super) public_key: String,
    pub(super) project: String,
    pub(super) active: Vec<PublicKey>,
}

impl Command for CreateKey {
    type Output = Created;

    fn apply(self, transaction: &Connection) -> Result<Created> {
        let Self { public_key, project, now } = self;
        let mut insert =
            transaction.prepare_cached("INSERT INTO dsn_keys (public_key, project, created_at) VALUES (?1, ?2, ?3)")?;
        let id = insert.insert((&public_key, &project, now.ms()))?;
        Ok(Created { id, public_key, project, active: active_keys(transaction)? })
    }
}

/// Takes a key out of use.
pub(super) struct DeactivateKey {
    pub(super) id: i64,
}

impl Command for DeactivateKey {
    /// The keys that are active now; `None` when there is no such key.
    type Output = Option<Vec<PublicKey>>;

    fn apply(self, transaction: &Connection) -> Result<Self::Output> {
        let changed = transaction.execute("UPDATE dsn_keys SET active = 0 WHERE id = ?1", [self.id])?;
        if changed == 0 { Ok(None) } else { active_keys(transaction).map(Some) }
    }
}

/// Makes the keys that the settings name, as far as they are not there: one that was taken out of use stays so.
pub(super) struct SeedKeys {
    /// Keys and their projects.
    pub(super) keys: Vec<(String, String)>,
    pub(super) now: Timestamp,
}

impl Command for SeedKeys {
    type Output = Vec<PublicKey>;

    fn apply(self, transaction: &Connection) -> Result<Vec<PublicKey>> {
        let mut insert = transaction
            .prepare_cached("INSERT OR IGNORE INTO dsn_keys (public_key, project, created_at) VALUES (?1, ?2, ?3)")?;
        let mut holder = transaction.prepare_cached("SELECT project FROM dsn_keys WHERE public_key = ?1")?;
        for (key, project) in &self.keys {
            insert.execute((key, project, self.now.ms()))?;
            let holder: String = holder.query_row([key], |row| row.get(0))?;
            if holder != *project {
                log::warn!("DSN_KEYS: the key for {project} stays that of {holder}");
            }
        }
        active_keys(transaction)
    }
}

/// Keeps what an upstream could not take.
pub(super) struct Enqueue {
    pub(super) parcel: Parcel,
    pub(super) bytes_max: i64,
    pub(super) now: Timestamp,
}

impl Command for Enqueue {
    type Output = ();

    fn apply(self, transaction: &Connection) -> Result<()> {
        let Parcel { kind, body, idempotency_key, client } = &self.parcel;
        let mut insert = transaction.prepare_cached(
            "INSERT INTO outbox (upstream, idempotency_key, body, client, created_at)
                 VALUES (?1, ?2, CAST(?3 AS TEXT), ?4, ?5)",
        )?;
        insert.execute((kind.name(), idempotency_key, body, client.to_string(), self.now.ms()))?;
        add(transaction, "outbox_waiting", 1)?;
        add(transaction, "outbox_bytes", body.len() as i64 + ITEM_BYTES)?;
        // The oldest goes: who looks at this wants to know what is wrong now.
        while total(transaction, "outbox_bytes")? > self.bytes_max && drop_oldest(transaction)? {}
        Ok(())
    }
}

/// Lets go of what was delivered.
pub(super) struct Delivered {
    pub(super) id: i64,
    /// Whether the upstream took it; else it is counted as refused.
    pub(super) taken: bool,
}

impl Command for Delivered {
    type Output = ();

    fn apply(self, transaction: &Connection) -> Result<()> {
        if remove(transaction, Some(self.id))? && !self.taken {
            add(transaction, "outbox_refused", 1)?;
        }
        Ok(())
    }
}

/// Drops the oldest that waits. Answers whether there was one.
pub(super) fn drop_oldest(transaction: &Connection) -> Result<bool> {
    let dropped = remove(transaction, None)?;
    if dropped {
        add(transaction, "outbox_dropped", 1)?;
    }
    Ok(dropped)
}

/// Removes an item, or the oldest. Answers whether there was one.
fn remove(transaction: &Connection, id: Option<i64>) -> Result<bool> {
    let mut delete = transaction.prepare_cached(
        "DELETE FROM outbox WHERE id = coalesce(?1, (SELECT min(id) FROM outbox)) RETURNING length(CAST(body AS BLOB))",
    )?;
    let bytes: Option<i64> = delete.query_row([id], |row| row.get(0)).optional()?;
    if let Some(bytes) = bytes {
        add(transaction, "outbox_waiting", -1)?;
        add(transaction, "outbox_bytes", -bytes - ITEM_BYTES)?;
    }
    Ok(bytes.is_some())
}

fn add(transaction: &Connection, name: &str, number: i64) -> Result<()> {
    let mut update = transaction.prepare_cached("UPDATE totals SET value = value + ?2 WHERE name = ?1")?;
    update.execute((name, number))?;
    Ok(())
}

/// Notes that maps were used.
pub(super) struct Used {
    pub(super) maps: Vec<i64>,
    pub(super) now: Timestamp,
}

impl Command for Used {
    type Output = ();

    fn apply(self, transaction: &Connection) -> Result<()> {
        let mut update =
            transaction.prepare_cached("UPDATE source_maps SET used_at = max(used_at, ?2) WHERE id = ?1")?;
        for map in &self.maps {
            update.execute((map, self.now.ms()))?;
        }
        Ok(())
    }
}
