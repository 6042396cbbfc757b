//! Idempotent commands: the idempotency key of a command is stored in the same transaction as its changes, so that a
//! repeated request returns the first result and changes nothing.

use rusqlite::{Connection, OptionalExtension as _};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::writer::Command;
use crate::clock::Timestamp;
use crate::error::{Error, Result};

/// Maximum number of stored keys. Beyond it, the oldest are deleted early.
const KEYS_MAX: u32 = 200_000;

/// A command with its optional idempotency key.
pub struct Idempotent<C> {
    /// The name of the API key and the project, so that neither clients nor projects share idempotency keys.
    pub scope: String,
    /// The idempotency key, 1-64 characters.
    pub key: Option<String>,
    /// The time of the request.
    pub now: Timestamp,
    /// The command to run at most once.
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
        let mut select =
            transaction.prepare_cached("SELECT result FROM idempotency_keys WHERE principal = ?1 AND key = ?2")?;
        let first: Option<String> = select.query_row((&self.scope, &key), |row| row.get(0)).optional()?;
        if let Some(first) = first {
            return serde_json::from_str(&first)
                .map_err(|why| Error::Internal(format!("failed to parse a stored result: {why}")));
        }
        let output = self.command.apply(transaction)?;
        let text = serde_json::to_string(&output)
            .map_err(|why| Error::Internal(format!("failed to serialize a result: {why}")))?;
        let mut insert = transaction.prepare_cached(
            "INSERT INTO idempotency_keys (principal, key, created_at_ms, result) VALUES (?1, ?2, ?3, ?4)",
        )?;
        insert.execute((&self.scope, &key, self.now.ms(), text))?;
        Ok(output)
    }
}

/// Deletes keys that were stored before a time, and the oldest ones beyond the maximum.
pub struct ExpireIdempotencyKeys {
    /// The time of the oldest keys to keep.
    pub before: Timestamp,
}

impl Command for ExpireIdempotencyKeys {
    type Output = usize;

    fn apply(self, transaction: &Connection) -> Result<usize> {
        let expired =
            transaction.execute("DELETE FROM idempotency_keys WHERE created_at_ms < ?1", [self.before.ms()])?;
        let surplus = transaction.execute(
            "DELETE FROM idempotency_keys WHERE created_at_ms <=
                 (SELECT created_at_ms FROM idempotency_keys ORDER BY created_at_ms DESC LIMIT 1 OFFSET ?1)",
            [KEYS_MAX],
        )?;
        Ok(expired + surplus)
    }
}
