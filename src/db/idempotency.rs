//! Idempotent commands: the idempotency key of a command is stored in the same transaction as its changes, so that a
//! repeated request returns the first result and changes nothing.

use rusqlite::{Connection, OptionalExtension as _};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::writer::Command;
use crate::clock::Timestamp;
use crate::error::{Error, Result};

/// Maximum number of stored keys. Beyond it, the oldest of the principals with the most keys are deleted early.
const KEYS_MAX: i64 = 200_000;

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

/// Deletes keys that were stored before a time, and beyond the maximum the oldest ones of the principals with the most.
pub struct ExpireIdempotencyKeys {
    /// The time of the oldest keys to keep.
    pub before: Timestamp,
}

impl Command for ExpireIdempotencyKeys {
    type Output = usize;

    fn apply(self, transaction: &Connection) -> Result<usize> {
        let expired =
            transaction.execute("DELETE FROM idempotency_keys WHERE created_at_ms < ?1", [self.before.ms()])?;
        Ok(expired + delete_surplus(transaction, KEYS_MAX)?)
    }
}

/// Deletes keys of the principals with the most until at most `keys_max` remain, so that a client that sends many keys does not
/// expire those of others. Returns their number.
fn delete_surplus(transaction: &Connection, keys_max: i64) -> Result<usize> {
    let total: i64 = transaction.query_row("SELECT count(*) FROM idempotency_keys", [], |row| row.get(0))?;
    if total <= keys_max {
        return Ok(0);
    }
    let mut count =
        transaction.prepare("SELECT principal, count(*) FROM idempotency_keys GROUP BY principal ORDER BY 2 DESC")?;
    let rows = count.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let held = rows.collect::<rusqlite::Result<Vec<(String, i64)>>>()?;
    let kept = largest_share(&held, keys_max);
    let mut delete = transaction.prepare(
        "DELETE FROM idempotency_keys WHERE (principal, key) IN
             (SELECT principal, key FROM idempotency_keys WHERE principal = ?1 ORDER BY created_at_ms DESC
              LIMIT -1 OFFSET ?2)",
    )?;
    let mut deleted = 0;
    for (principal, _) in held.iter().take_while(|(_, keys)| *keys > kept) {
        deleted += delete.execute((principal, kept))?;
    }
    Ok(deleted)
}

/// Returns the number of keys that each principal may keep, so that `keys_max` remain. `held` is in descending order of the
/// keys.
fn largest_share(held: &[(String, i64)], keys_max: i64) -> i64 {
    let (mut rest, mut left) = (keys_max, held.len() as i64);
    for (_, keys) in held.iter().rev() {
        if keys.saturating_mul(left) > rest {
            break;
        }
        (rest, left) = (rest - keys, left - 1);
    }
    if left == 0 { i64::MAX } else { rest / left }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::{Schema, in_memory};

    #[test]
    fn clients_with_many_keys_do_not_expire_those_of_others() {
        let schema = Schema { application_id: 1, create: |_| Ok(()), migrations: &[], import: None };
        in_memory(schema, |transaction| {
            let mut insert = transaction.prepare(
                "INSERT INTO idempotency_keys (principal, key, created_at_ms, result) VALUES (?1, ?2, ?3, '{}')",
            )?;
            for (principal, keys, at_ms) in [("honest", 20, 1_000), ("loud", 100, 2_000), ("louder", 200, 3_000)] {
                for number in 0..keys {
                    insert.execute((principal, number.to_string(), at_ms + number))?;
                }
            }
            assert_eq!(delete_surplus(transaction, 320)?, 0);
            assert_eq!(delete_surplus(transaction, 120)?, 200);
            let mut left = transaction
                .prepare("SELECT principal, count(*), min(created_at_ms) FROM idempotency_keys GROUP BY principal")?;
            let rows = left.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get(1)?, row.get(2)?)))?;
            let left = rows.collect::<rusqlite::Result<Vec<(String, i64, i64)>>>()?;
            let expected = [("honest", 20, 1_000), ("loud", 50, 2_050), ("louder", 50, 3_150)];
            assert_eq!(left, expected.map(|(principal, keys, at_ms)| (principal.to_owned(), keys, at_ms)));
            Ok(())
        });
    }
}
