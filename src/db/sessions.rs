//! Stored sessions of the web UI. The table holds digests of the cookie and the key, not the values.

use rusqlite::Connection;

use super::writer::Command;
use crate::clock::Timestamp;
use crate::error::Result;

/// Maximum number of sessions. Beyond it, the session that expires first is deleted.
const SESSIONS_MAX: u32 = 1_000;

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

impl Command for CreateSession {
    type Output = Session;

    fn apply(self, transaction: &Connection) -> Result<Session> {
        let Session { token, key, until } = self.session;
        transaction.execute("DELETE FROM sessions WHERE expires_at_ms <= ?1", [self.now.ms()])?;
        transaction.execute(
            "INSERT INTO sessions (token_sha256, key_sha256, expires_at_ms) VALUES (?1, ?2, ?3)",
            (token, key, until.ms()),
        )?;
        transaction.execute(
            "DELETE FROM sessions WHERE token_sha256 IN (SELECT token_sha256 FROM sessions ORDER BY expires_at_ms DESC LIMIT -1 OFFSET ?1)",
            [SESSIONS_MAX],
        )?;
        Ok(self.session)
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
