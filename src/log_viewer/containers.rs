//! Containers and text files in the database, with their names and metadata.

use std::collections::BTreeMap;

use rusqlite::{Connection, Row};

use crate::error::Result;

/// A container, or a text file that is shown like one.
#[derive(Debug, Clone)]
pub(super) struct Container {
    /// Docker's container ID, or `file:` and the name.
    pub(super) key: String,
    pub(super) name: String,
    pub(super) image: String,
    /// Compose project.
    pub(super) project: String,
    /// Compose service.
    pub(super) service: String,
}

/// Returns all containers that have entries or exist, by row ID.
pub(super) fn containers(connection: &Connection) -> Result<BTreeMap<i64, Container>> {
    let mut read = connection.prepare_cached("SELECT id, key, name, image, project, service FROM containers")?;
    let container = |row: &Row<'_>| {
        let container = Container {
            key: row.get(1)?,
            name: row.get(2)?,
            image: row.get(3)?,
            project: row.get(4)?,
            service: row.get(5)?,
        };
        Ok((row.get(0)?, container))
    };
    Ok(read.query_map([], container)?.collect::<rusqlite::Result<_>>()?)
}
