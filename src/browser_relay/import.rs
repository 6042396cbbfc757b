//! Taking over a `browser-relay.db` of the original: the keys that deployed pages hold.

use rusqlite::Connection;

use crate::clock::Timestamp;
use crate::db::Import;
use crate::error::Result;

/// How the original's last schema becomes ours.
pub(super) const IMPORT: Import = Import { version: 3, tables: &["dsn_keys", "source_maps"], convert };

fn convert(connection: &Connection) -> Result<()> {
    let mut read = connection.prepare("SELECT id, public_key, project, created_at, active FROM original_dsn_keys")?;
    let mut insert = connection
        .prepare("INSERT INTO dsn_keys (id, public_key, project, created_at, active) VALUES (?1, ?2, ?3, ?4, ?5)")?;
    let mut rows = read.query([])?;
    let mut keys = 0;
    while let Some(row) = rows.next()? {
        let (id, key, project, active): (i64, String, String, bool) =
            (row.get(0)?, row.get(1)?, row.get(2)?, row.get(4)?);
        let created_at = row.get_ref(3)?.as_str().ok().and_then(Timestamp::parse).map_or(0, Timestamp::ms);
        insert.execute((id, key, project, created_at, active))?;
        keys += 1;
    }
    log::info!("{keys} keys of the original were taken over");
    Ok(())
}
