//! Stored sessions of the web UI. The table holds digests of the cookie and the key, not the values.

use rusqlite::Connection;

use super::writer::Command;
use crate::clock::Timestamp;
use crate::error::Result;

/// Maximum number of sessions. Beyond it, the session that expires first is deleted.
const SESSIONS_MAX: u32 = 1_000;

/// Creates the table of sessions.
pub(super) fn prepare(connection: &Connection) -> Result<()> {
    connection.execute_batch(
        "CREATE TABLE IF NOT EXISTS _sessions (
             token BLOB PRIMARY KEY, -- SHA-256
             key BLOB NOT NULL,      -- SHA-256
             until INTEGER NOT NULL  -- ms since 1970
         ) WITHOUT ROWID",
    )?;
    Ok(())
}

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
    let mut read = connection.prepare("SELECT token, key, until FROM _sessions WHERE until > ?1")?;
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
        transaction.execute("DELETE FROM _sessions WHERE until <= ?1", [self.now.ms()])?;
        transaction
            .execute("INSERT INTO _sessions (token, key, until) VALUES (?1, ?2, ?3)", (token, key, until.ms()))?;
        transaction.execute(
            "DELETE FROM _sessions WHERE token IN (SELECT token FROM _sessions ORDER BY until DESC LIMIT -1 OFFSET ?1)",
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
        Ok(transaction.execute("DELETE FROM _sessions WHERE ?1 IS NULL OR token = ?1", [self.token])?)
    }
}
