//! How far what is stored was sent on to somewhere else.

use rusqlite::{Connection, OptionalExtension as _};

use super::writer::Command;
use crate::error::Result;

/// Makes the table of marks, which has one row, or none where nothing is sent on.
pub(super) fn prepare(connection: &Connection) -> Result<()> {
    connection.execute_batch(
        "CREATE TABLE IF NOT EXISTS _exported (
             id INTEGER PRIMARY KEY CHECK (id = 1),
             mark INTEGER NOT NULL,     -- the last record that was sent
             sent INTEGER NOT NULL,     -- how many were, were refused for good, and were gone before their turn
             refused INTEGER NOT NULL,
             missed INTEGER NOT NULL
         )",
    )?;
    Ok(())
}

/// What became of records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ExportProgress {
    /// The number of the last one that was sent.
    pub position: i64,
    /// How many were taken.
    pub sent: i64,
    /// How many were refused for good.
    pub refused: i64,
    /// How many were gone before they could be sent.
    pub missed: i64,
}

/// Reads it; nothing where nothing is sent on.
///
/// # Errors
/// When the database cannot be read.
pub fn export_progress(connection: &Connection) -> Result<ExportProgress> {
    let mut read = connection.prepare_cached("SELECT mark, sent, refused, missed FROM _exported")?;
    let row = read.query_row([], |row| {
        Ok(ExportProgress { position: row.get(0)?, sent: row.get(1)?, refused: row.get(2)?, missed: row.get(3)? })
    });
    Ok(row.optional()?.unwrap_or_default())
}

/// Notes what became of some more; `None` forgets everything, since nothing is sent on any more.
pub struct RecordExport {
    /// How it is then.
    pub now: Option<ExportProgress>,
}

impl Command for RecordExport {
    type Output = ();

    fn apply(self, transaction: &Connection) -> Result<()> {
        match self.now {
            None => transaction.execute("DELETE FROM _exported", [])?,
            Some(ExportProgress { position, sent, refused, missed }) => transaction.execute(
                "INSERT OR REPLACE INTO _exported (id, mark, sent, refused, missed) VALUES (1, ?1, ?2, ?3, ?4)",
                (position, sent, refused, missed),
            )?,
        };
        Ok(())
    }
}
