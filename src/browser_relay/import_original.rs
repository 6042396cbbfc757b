//! Import of an original `browser-relay.db`: public keys, which deployed pages contain, and source maps.

use rusqlite::{Connection, Row};

use super::commands::{delete_upload, insert_block, insert_map};
use super::sourcemap::convert::convert;
use super::sourcemap::upload_body::UploadFields;
use crate::clock::Timestamp;
use crate::db::OriginalImport;
use crate::error::{Error, Result};

/// Conversion of the original's last schema.
pub(super) const IMPORT: OriginalImport =
    OriginalImport { version: 3, tables: &["dsn_keys", "source_maps"], convert: convert_database };

fn convert_database(connection: &Connection) -> Result<()> {
    let keys = import_keys(connection)?;
    let maps = import_maps(connection)?;
    log::info!("import: {keys} public keys and {maps} source maps were imported from the original database");
    Ok(())
}

fn timestamp(row: &Row<'_>, column: &str) -> Result<Option<Timestamp>> {
    Ok(row.get_ref(column)?.as_str().ok().and_then(Timestamp::parse))
}

/// Returns the number of imported keys.
fn import_keys(connection: &Connection) -> Result<usize> {
    let mut select = connection.prepare("SELECT id, public_key, project, created_at, active FROM original_dsn_keys")?;
    let mut insert = connection
        .prepare("INSERT INTO dsn_keys (id, public_key, project, created_at_ms, active) VALUES (?1, ?2, ?3, ?4, ?5)")?;
    let mut rows = select.query([])?;
    let mut keys = 0;
    while let Some(row) = rows.next()? {
        let (id, key, project, active): (i64, String, String, bool) =
            (row.get("id")?, row.get("public_key")?, row.get("project")?, row.get("active")?);
        let created_at = timestamp(row, "created_at")?.map_or(0, Timestamp::ms);
        insert.execute((id, key, project, created_at, active))?;
        keys += 1;
    }
    Ok(keys)
}

/// Converts every source map and returns their number. Skips and logs invalid ones, which never resolved a frame.
fn import_maps(connection: &Connection) -> Result<usize> {
    let now = Timestamp::now();
    let mut select = connection.prepare("SELECT * FROM original_source_maps ORDER BY id")?;
    let mut rows = select.query([])?;
    let mut maps = 0;
    let mut insert_content = connection.prepare("INSERT INTO map_contents (id) VALUES (?1)")?;
    while let Some(row) = rows.next()? {
        let id: i64 = row.get("id")?;
        let fields =
            UploadFields { project: row.get("project")?, release: row.get("release")?, file_url: row.get("file_url")? };
        let map = row.get_ref("map_content")?.as_bytes().unwrap_or_default();
        insert_content.execute([id])?;
        match convert(|| Ok(map), |kind, key, bytes| insert_block(connection, id, kind, key, bytes)) {
            Ok(stats) => {
                let uploaded_at = timestamp(row, "uploaded_at")?.unwrap_or(now);
                insert_map(connection, id, &fields, &stats, uploaded_at, now)?;
                maps += 1;
            }
            Err(why @ Error::Invalid(_)) => {
                delete_upload(connection, id)?;
                let UploadFields { project, release, file_url } = fields;
                log::warn!(
                    "import: converting the source map of {file_url} (project {project}, release {release}) failed: \
                     {why}; skipping it"
                );
            }
            Err(why) => return Err(why),
        }
    }
    Ok(maps)
}
