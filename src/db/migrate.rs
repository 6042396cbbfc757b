//! Schemas, and how a file gets to the one this program wants.
//!
//! `_meta` holds `schema_version`, which is the length of the list of migrations, and `oldest_reader`, the schema
//! version of the oldest program that may still use the file. Migrations only expand, so an older program usually may,
//! and an upgrade can be rolled back without restoring anything.

use rusqlite::{Connection, OptionalExtension as _};

use crate::error::{Error, Result};

/// What a service's database must look like.
#[derive(Debug, Clone, Copy)]
pub struct Schema {
    /// `PRAGMA application_id`, which tells our files from everybody else's.
    pub application_id: i32,
    /// Every change since the first, in order.
    pub migrations: &'static [Migration],
    /// How a file of the original system is taken over.
    pub import: Option<Import>,
}

/// One change of a schema. It adds tables, columns and indexes and removes nothing that an older program uses.
#[derive(Debug, Clone, Copy)]
pub struct Migration {
    /// The statements.
    pub sql: &'static str,
    /// The schema version of the oldest program that can still use the file afterwards.
    pub oldest_reader: u32,
}

/// How a file that the original system wrote becomes one of ours.
#[derive(Debug, Clone, Copy)]
pub struct Import {
    /// The original's `_meta.schema_version` that is understood.
    pub version: u32,
    /// The original's tables; while converting they are called `original_` and their name.
    pub tables: &'static [&'static str],
    /// Copies what they hold into our tables, which exist by then. All of it is one transaction.
    pub convert: fn(&Connection) -> Result<()>,
}

/// What kind of file was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing in it yet.
    Empty,
    /// One of ours, at this schema version.
    Ours(u32),
    /// One of the original's, which can be taken over.
    Original,
}

impl Schema {
    fn version(&self) -> u32 {
        // A list of migrations is never that long.
        u32::try_from(self.migrations.len()).unwrap_or(u32::MAX)
    }

    /// Says what `connection` holds, or why this program must not touch it.
    pub(super) fn recognise(&self, connection: &Connection) -> Result<Found> {
        let application_id: i32 = connection.query_row("PRAGMA application_id", [], |row| row.get(0))?;
        let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        if tables == 0 {
            return Ok(Found::Empty);
        }
        let version = meta_number(connection, "schema_version")?;
        if application_id == self.application_id {
            let oldest = meta_number(connection, "oldest_reader")?.unwrap_or(0);
            if oldest > self.version() {
                return Err(Error::Storage(format!(
                    "it was changed by a newer Monlight and needs one that knows schema {oldest}; this one knows {}. \
                     Start the newer program again, or restore a backup made before the upgrade",
                    self.version()
                )));
            }
            return Ok(Found::Ours(version.unwrap_or(0)));
        }
        match (application_id, version, self.import) {
            (0, Some(found), Some(import)) if found == import.version => Ok(Found::Original),
            (0, Some(found), Some(import)) => Err(Error::Storage(format!(
                "it has the original's schema {found}, and only {} can be taken over; start the original's last \
                 version on it once",
                import.version
            ))),
            _ => Err(Error::Storage("it is a database of some other program".into())),
        }
    }

    /// Brings the file to this program's schema in one transaction.
    pub(super) fn migrate(&self, connection: &mut Connection, found: Found) -> Result<()> {
        let applied = match found {
            Found::Ours(version) if version >= self.version() => return Ok(()),
            Found::Ours(version) => version,
            Found::Empty | Found::Original => 0,
        };
        let transaction = connection.transaction()?;
        if found == Found::Original
            && let Some(import) = self.import
        {
            for table in import.tables {
                transaction.execute_batch(&format!("ALTER TABLE {table} RENAME TO original_{table}"))?;
            }
        }
        transaction.execute_batch("CREATE TABLE IF NOT EXISTS _meta (key TEXT PRIMARY KEY, value TEXT)")?;
        for migration in self.migrations.iter().skip(applied as usize) {
            transaction.execute_batch(migration.sql)?;
        }
        if found == Found::Original
            && let Some(import) = self.import
        {
            (import.convert)(&transaction)?;
            for table in import.tables {
                transaction.execute_batch(&format!("DROP TABLE original_{table}"))?;
            }
        }
        let oldest_reader = self.migrations.iter().map(|migration| migration.oldest_reader).max().unwrap_or(0);
        for (key, value) in [("schema_version", self.version()), ("oldest_reader", oldest_reader)] {
            let sql = "INSERT INTO _meta (key, value) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = ?2";
            transaction.execute(sql, (key, value.to_string()))?;
        }
        transaction.pragma_update(None, "application_id", self.application_id)?;
        transaction.commit()?;
        Ok(())
    }
}

fn meta_number(connection: &Connection, key: &str) -> Result<Option<u32>> {
    let exists: bool = connection.query_row(
        "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = '_meta')",
        [],
        |row| row.get(0),
    )?;
    if !exists {
        return Ok(None);
    }
    let value: Option<String> =
        connection.query_row("SELECT value FROM _meta WHERE key = ?1", [key], |row| row.get(0)).optional()?;
    Ok(value.and_then(|text| text.parse().ok()))
}
