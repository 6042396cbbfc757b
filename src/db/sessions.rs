//! The sessions of people who showed a key in a browser. Neither the cookie nor the key is stored, only their digests.

use rusqlite::Connection;

use super::writer::Command;
use crate::clock::Timestamp;
use crate::error::Result;

/// Sessions at once; beyond it the one that would end first ends.
const SESSIONS_MAX: u32 = 1_000;

/// Makes the table of sessions.
pub(super) fn prepare(connection: &Connection) -> Result<()> {
    connection.execute_batch(
        "CREATE TABLE IF NOT EXISTS _sessions (
             token BLOB PRIMARY KEY, -- its SHA-256, as the key's
             key BLOB NOT NULL,
             until INTEGER NOT NULL  -- ms since 1970
         ) WITHOUT ROWID",
    )?;
    Ok(())
}

/// A session as it is stored.
#[derive(Debug, Clone, Copy)]
pub struct Session {
    /// SHA-256 of what the browser holds.
    pub token: [u8; 32],
    /// SHA-256 of the key it was begun with.
    pub key: [u8; 32],
    /// When it ends.
    pub until: Timestamp,
}

/// Those that have not ended.
///
/// # Errors
/// When the database cannot be read.
pub fn sessions(connection: &Connection, now: Timestamp) -> Result<Vec<Session>> {
    let mut read = connection.prepare("SELECT token, key, until FROM _sessions WHERE until > ?1")?;
    let session = |row: &rusqlite::Row<'_>| {
        Ok(Session { token: row.get(0)?, key: row.get(1)?, until: Timestamp::from_ms(row.get(2)?) })
    };
    Ok(read.query_map([now.ms()], session)?.collect::<rusqlite::Result<_>>()?)
}

/// Begins a session, and forgets those that have ended.
pub struct CreateSession {
    /// It.
    pub session: Session,
    /// The present.
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

/// Ends sessions.
pub struct DeleteSessions {
    /// The one to end; `None` ends all of them.
    pub token: Option<[u8; 32]>,
}

impl Command for DeleteSessions {
    type Output = usize;

    fn apply(self, transaction: &Connection) -> Result<usize> {
        Ok(transaction.execute("DELETE FROM _sessions WHERE ?1 IS NULL OR token = ?1", [self.token])?)
    }
}
