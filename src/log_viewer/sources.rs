//! Sources of logs in the database, with their names and metadata.

use std::collections::BTreeMap;

use rusqlite::{Connection, Row};

use super::enumerations::{SourceKind, source_kind_number};
use crate::error::Result;

/// Host of all sources that exist so far: the host of the log viewer.
const LOCAL_HOST: &str = "";

/// A source: a container, or a text file that is shown like one.
#[derive(Debug, Clone)]
pub(super) struct Source {
    /// Docker's container ID, or `file:` and the name.
    pub(super) key: String,
    /// Name that the API calls `container`.
    pub(super) name: String,
    /// Image of the container; empty if unknown, like the two fields below.
    pub(super) image: String,
    /// Compose project.
    pub(super) project: String,
    /// Compose service.
    pub(super) service: String,
}

/// Returns all sources that have entries or exist, by row ID.
pub(super) fn sources(connection: &Connection) -> Result<BTreeMap<i64, Source>> {
    let mut read = connection.prepare_cached("SELECT id, key, name, image, project, service FROM sources")?;
    let source = |row: &Row<'_>| {
        let source = Source {
            key: row.get(1)?,
            name: row.get(2)?,
            image: row.get(3)?,
            project: row.get(4)?,
            service: row.get(5)?,
        };
        Ok((row.get(0)?, source))
    };
    Ok(read.query_map([], source)?.collect::<rusqlite::Result<_>>()?)
}

/// Inserts a source of this host, or updates the row with its key. Returns the row ID.
pub(super) fn upsert_source(transaction: &Connection, kind: SourceKind, source: &Source) -> Result<i64> {
    let Source { key, name, image, project, service } = source;
    let mut upsert = transaction.prepare_cached(
        "INSERT INTO sources (kind_id, host, key, name, image, project, service) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
         ON CONFLICT (host, key) DO UPDATE SET name = ?4, image = ?5, project = ?6, service = ?7 RETURNING id",
    )?;
    let values = (source_kind_number(kind), LOCAL_HOST, key, name, image, project, service);
    Ok(upsert.query_row(values, |row| row.get(0))?)
}
