//! Stored sessions of the web UI. The table holds digests of the cookie and the key, not the values.

use rusqlite::Connection;

use super::writer::Command;
use crate::clock::Timestamp;
use crate::error::Result;

/// Maximum number of sessions. Beyond it, the key with the most sessions loses those that expire first.
const SESSIONS_MAX: i64 = 1_000;

/// A stored session.
#[derive(Debug, Clone, Copy)]
pub struct Session {
    /// SHA-256 of the cookie value.
    pub token: [u8; 32],
    /// SHA-256 of the key that created the session.
    pub key: [u8; 32],
    /// The expiry.
    pub until: Timestamp,
}

/// Returns the sessions that have not expired.
///
/// # Errors
/// Fails if the database cannot be read.
pub fn sessions(connection: &Connection, now: Timestamp) -> Result<Vec<Session>> {
    let mut read =
        connection.prepare("SELECT token_sha256, key_sha256, expires_at_ms FROM sessions WHERE expires_at_ms > ?1")?;
    let session = |row: &rusqlite::Row<'_>| {
        Ok(Session { token: row.get(0)?, key: row.get(1)?, until: Timestamp::from_ms(row.get(2)?) })
    };
    Ok(read.query_map([now.ms()], session)?.collect::<rusqlite::Result<_>>()?)
}

/// Stores a session and deletes expired ones.
pub struct CreateSession {
    /// The new session.
    pub session: Session,
    /// The current time.
    pub now: Timestamp,
}

/// The result of a new session.
pub struct CreatedSession {
    /// The new session.
    pub session: Session,
    /// The token digests of the sessions that it has displaced.
    pub displaced: Vec<[u8; 32]>,
}

impl Command for CreateSession {
    type Output = CreatedSession;

    fn apply(self, transaction: &Connection) -> Result<CreatedSession> {
        let Session { token, key, until } = self.session;
        transaction.execute("DELETE FROM sessions WHERE expires_at_ms <= ?1", [self.now.ms()])?;
        transaction.execute(
            "INSERT INTO sessions (token_sha256, key_sha256, expires_at_ms) VALUES (?1, ?2, ?3)",
            (token, key, until.ms()),
        )?;
        let count: i64 = transaction.query_row("SELECT count(*) FROM sessions", [], |row| row.get(0))?;
        let mut displaced = Vec::new();
        for _ in SESSIONS_MAX..count {
            displaced.push(transaction.query_row(
                "DELETE FROM sessions WHERE token_sha256 =
                     (SELECT token_sha256 FROM sessions
                      WHERE token_sha256 <> ?1 AND key_sha256 =
                          (SELECT key_sha256 FROM sessions WHERE token_sha256 <> ?1
                           GROUP BY key_sha256 ORDER BY count(*) DESC LIMIT 1)
                      ORDER BY expires_at_ms LIMIT 1)
                 RETURNING token_sha256",
                [token],
                |row| row.get(0),
            )?);
        }
        Ok(CreatedSession { session: self.session, displaced })
    }
}

/// Deletes one session, or all of them.
pub struct DeleteSessions {
    /// The token digest of the session; `None` deletes all sessions.
    pub token: Option<[u8; 32]>,
}

impl Command for DeleteSessions {
    type Output = usize;

    fn apply(self, transaction: &Connection) -> Result<usize> {
        Ok(transaction.execute("DELETE FROM sessions WHERE ?1 IS NULL OR token_sha256 = ?1", [self.token])?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_beyond_the_maximum_displace_those_of_the_key_with_the_most() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(include_str!("../../sql/common/0100_schema.sql")).unwrap();
        let now = Timestamp::from_ms(1_000_000);
        let create = |n: u16, key: u8| {
            let mut token = [0; 32];
            token[..2].copy_from_slice(&n.to_be_bytes());
            let session = Session { token, key: [key; 32], until: Timestamp::from_ms(2_000_000 + i64::from(n)) };
            CreateSession { session, now }.apply(&connection).unwrap().displaced
        };
        assert!((0..3).all(|n| create(n, 1).is_empty()));
        assert!((3..1_000).all(|n| create(n, 2).is_empty()));
        // A holder of one key cannot end the sessions of another.
        for n in 1_000..1_010 {
            let displaced = create(n, 2);
            assert_eq!(
                displaced.iter().map(|token| token[..2].to_vec()).collect::<Vec<_>>(),
                [(n - 997).to_be_bytes()]
            );
        }
        assert_eq!(create(1_010, 3).len(), 1);
        let stored = sessions(&connection, now).unwrap();
        assert_eq!((stored.len(), stored.iter().filter(|session| session.key == [1; 32]).count()), (1_000, 3));
    }
}
