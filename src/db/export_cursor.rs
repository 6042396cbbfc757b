//! Export cursor: the position up to which stored records have been forwarded to another system.

use rusqlite::{Connection, OptionalExtension as _};

use super::writer::Command;
use crate::error::Result;

/// The progress of forwarding.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExportProgress {
    /// The id of the last forwarded record.
    pub position: i64,
    /// Records that the other system accepted.
    pub accepted: i64,
    /// Records that the other system rejected.
    pub rejected: i64,
    /// Records that were deleted before they could be forwarded.
    pub missed: i64,
    /// The ids of records up to the position that were not forwarded yet, because the other system fails with them.
    pub held: Vec<i64>,
}

/// Returns the stored progress, or zeros while forwarding is off.
///
/// # Errors
/// Fails if the database cannot be read.
pub fn export_progress(connection: &Connection) -> Result<ExportProgress> {
    let mut read = connection.prepare_cached("SELECT last_id, accepted, rejected, missed FROM export_cursor")?;
    let row = read.query_row([], |row| {
        let (position, accepted, rejected, missed) = (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
        Ok(ExportProgress { position, accepted, rejected, missed, held: Vec::new() })
    });
    let Some(progress) = row.optional()? else { return Ok(ExportProgress::default()) };
    let mut read = connection.prepare_cached("SELECT record_id FROM export_held ORDER BY record_id")?;
    let held = read.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    Ok(ExportProgress { held, ..progress })
}

/// Stores the progress of forwarding, or deletes it when forwarding is turned off.
pub struct RecordExport {
    /// The new progress; `None` deletes it.
    pub progress: Option<ExportProgress>,
}

impl Command for RecordExport {
    type Output = ();

    fn apply(self, transaction: &Connection) -> Result<()> {
        transaction.execute("DELETE FROM export_held", [])?;
        match self.progress {
            None => transaction.execute("DELETE FROM export_cursor", [])?,
            Some(ExportProgress { position, accepted, rejected, missed, held }) => {
                for id in held {
                    transaction.execute("INSERT INTO export_held (record_id) VALUES (?1)", [id])?;
                }
                transaction.execute(
                    "INSERT OR REPLACE INTO export_cursor (id, last_id, accepted, rejected, missed)
                     VALUES (1, ?1, ?2, ?3, ?4)",
                    (position, accepted, rejected, missed),
                )?
            }
        };
        Ok(())
    }
}
