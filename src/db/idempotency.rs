//! Commands that a client may send twice and that count once: its `Idempotency-Key` is remembered in the same
//! transaction as what the command did.

use rusqlite::{Connection, OptionalExtension as _};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::writer::Command;
use crate::clock::Timestamp;
use crate::error::{Error, Result};

/// Keys remembered at most; beyond it the oldest are forgotten before their time.
const KEYS_MAX: u32 = 200_000;

/// Makes the table of keys.
pub(super) fn prepare(connection: &Connection) -> Result<()> {
    connection.execute_batch(
        "CREATE TABLE IF NOT EXISTS _idempotency (
             principal TEXT NOT NULL,
             key TEXT NOT NULL,
             answered_at INTEGER NOT NULL, -- ms since 1970
             answer TEXT NOT NULL,
             PRIMARY KEY (principal, key)
         ) WITHOUT ROWID;
         CREATE INDEX IF NOT EXISTS _idempotency_age ON _idempotency (answered_at);",
    )?;
    Ok(())
}

/// A command with the key its client gave it, if it did.
pub struct Idempotent<C> {
    /// Whose key: keys of different clients do not meet.
    pub principal: String,
    /// 1-64 characters.
    pub key: Option<String>,
    /// When it arrived.
    pub now: Timestamp,
    /// What is to be done once.
    pub command: C,
}

impl<C> Command for Idempotent<C>
where
    C: Command,
    C::Output: Serialize + DeserializeOwned,
{
    type Output = C::Output;

    fn apply(self, transaction: &Connection) -> Result<C::Output> {
        let Some(key) = self.key else { return self.command.apply(transaction) };
        let mut known =
            transaction.prepare_cached("SELECT answer FROM _idempotency WHERE principal = ?1 AND key = ?2")?;
        let first: Option<String> = known.query_row((&self.principal, &key), |row| row.get(0)).optional()?;
        if let Some(first) = first {
            return serde_json::from_str(&first).map_err(|why| Error::Internal(format!("a remembered answer: {why}")));
        }
        let answer = self.command.apply(transaction)?;
        let text = serde_json::to_string(&answer).map_err(|why| Error::Internal(format!("an answer: {why}")))?;
        let mut remember = transaction
            .prepare_cached("INSERT INTO _idempotency (principal, key, answered_at, answer) VALUES (?1, ?2, ?3, ?4)")?;
        remember.execute((&self.principal, &key, self.now.ms(), text))?;
        Ok(answer)
    }
}

/// Forgets keys that were answered before a moment, and the oldest of what is more than the table may hold.
pub struct ExpireKeys {
    /// Keys answered earlier are forgotten.
    pub before: Timestamp,
}

impl Command for ExpireKeys {
    type Output = usize;

    fn apply(self, transaction: &Connection) -> Result<usize> {
        let aged = transaction.execute("DELETE FROM _idempotency WHERE answered_at < ?1", [self.before.ms()])?;
        let too_many = transaction.execute(
            "DELETE FROM _idempotency WHERE answered_at <=
                 (SELECT answered_at FROM _idempotency ORDER BY answered_at DESC LIMIT 1 OFFSET ?1)",
            [KEYS_MAX],
        )?;
        Ok(aged + too_many)
    }
}
