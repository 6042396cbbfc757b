//! Taking over a `browser-relay.db` of the original: the keys that deployed pages hold, and the maps it stores whole.

use rusqlite::Connection;

use super::maps::convert::convert as convert_map;
use super::maps::upload::Upload;
use super::uploads::{put_block, put_map, remove_blocks};
use crate::clock::Timestamp;
use crate::db::Import;
use crate::error::{Error, Result};

/// How the original's last schema becomes ours.
pub(super) const IMPORT: Import = Import { version: 3, tables: &["dsn_keys", "source_maps"], convert };

fn convert(connection: &Connection) -> Result<()> {
    let keys = keys(connection)?;
    let maps = maps(connection)?;
    log::info!("{keys} keys and {maps} source maps of the original were taken over");
    Ok(())
}

fn moment(row: &rusqlite::Row<'_>, column: &str) -> Result<Option<Timestamp>> {
    Ok(row.get_ref(column)?.as_str().ok().and_then(Timestamp::parse))
}

fn keys(connection: &Connection) -> Result<usize> {
    let mut read = connection.prepare("SELECT id, public_key, project, created_at, active FROM original_dsn_keys")?;
    let mut insert = connection
        .prepare("INSERT INTO dsn_keys (id, public_key, project, created_at, active) VALUES (?1, ?2, ?3, ?4, ?5)")?;
    let mut rows = read.query([])?;
    let mut keys = 0;
    while let Some(row) = rows.next()? {
        let (id, key, project, active): (i64, String, String, bool) =
            (row.get("id")?, row.get("public_key")?, row.get("project")?, row.get("active")?);
        let created_at = moment(row, "created_at")?.map_or(0, Timestamp::ms);
        insert.execute((id, key, project, created_at, active))?;
        keys += 1;
    }
    Ok(keys)
}

/// Converts every map. One that cannot be read is named and left out: it never mapped a frame.
fn maps(connection: &Connection) -> Result<usize> {
    let now = Timestamp::now();
    let mut read = connection.prepare("SELECT * FROM original_source_maps ORDER BY id")?;
    let mut rows = read.query([])?;
    let mut maps = 0;
    while let Some(row) = rows.next()? {
        let id: i64 = row.get("id")?;
        let upload =
            Upload { project: row.get("project")?, release: row.get("release")?, file_url: row.get("file_url")? };
        let map = row.get_ref("map_content")?.as_bytes().unwrap_or_default();
        match convert_map(|| Ok(map), |kind, key, bytes| put_block(connection, id, kind, key, bytes)) {
            Ok(summary) => {
                let uploaded_at = moment(row, "uploaded_at")?.unwrap_or(now);
                put_map(connection, id, &upload, &summary, uploaded_at, now)?;
                maps += 1;
            }
            Err(why @ Error::Invalid(_)) => {
                remove_blocks(connection, id)?;
                let Upload { project, release, file_url } = upload;
                log::warn!("the map of {file_url} ({project} {release}) is left out: {why}");
            }
            Err(why) => return Err(why),
        }
    }
    // Numbers of new maps go on behind these.
    connection.execute_batch(
        "INSERT INTO map_uploads (id) SELECT max(id) FROM original_source_maps HAVING count(*) > 0;
         DELETE FROM map_uploads",
    )?;
    Ok(maps)
}
