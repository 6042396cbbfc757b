//! Schema versions and migrations.
//!
//! Schema 1.0 has version 100, and each migration after it adds 1. `_meta` holds `schema_version` and `oldest_reader`, the
//! schema version of the oldest program that can still use the file. Migrations only expand, so an older program usually
//! can, and an upgrade can be rolled back without restoring a backup.

use rusqlite::{Connection, ErrorCode, OptionalExtension as _};

use super::damage::REMEDY;
use crate::error::{Error, Result};

/// Version of schema 1.0. Development versions before it counted from 1; their files are rejected.
const VERSION_1_0: u32 = 100;
/// The tables of every service.
const COMMON_TABLES: &str = include_str!("../../sql/common/0100_schema.sql");

/// The schema of a service's database.
#[derive(Debug, Clone, Copy)]
pub struct Schema {
    /// `PRAGMA application_id`, which identifies our files.
    pub application_id: i32,
    /// Creates the service's tables of schema 1.0 in an empty database, which has the tables of every service already.
    pub create: fn(&Connection) -> Result<()>,
    /// The changes since schema 1.0, in order.
    pub migrations: &'static [Migration],
    /// The import of a database of the original.
    pub import: Option<OriginalImport>,
}

/// One change of the schema. It adds tables, columns and indexes, and removes nothing that an older program uses.
#[derive(Debug, Clone, Copy)]
pub struct Migration {
    /// The SQL statements.
    pub sql: &'static str,
    /// The schema version of the oldest program that can still use the file afterwards.
    pub oldest_reader: u32,
}

/// The conversion of a database of the original.
#[derive(Debug, Clone, Copy)]
pub struct OriginalImport {
    /// The supported value of the original's `_meta.schema_version`.
    pub version: u32,
    /// The original's tables. During the conversion their names have the prefix `original_`.
    pub tables: &'static [&'static str],
    /// Copies their rows into our tables, which exist by then, in one transaction.
    pub convert: fn(&Connection) -> Result<()>,
}

/// A file that this program must not change.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unusable {
    /// A development version before schema 1.0 created it.
    DevelopmentVersion(String),
    /// A newer Monlight changed it, or it belongs to another program.
    Other(String),
    /// The file is missing or damaged, or its disk is full.
    Unreadable(String),
}

impl From<rusqlite::Error> for Unusable {
    fn from(why: rusqlite::Error) -> Self {
        match why.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                Self::Unreadable(format!("it is damaged: {why}; {REMEDY}"))
            }
            _ => Self::Unreadable(why.to_string()),
        }
    }
}

impl std::fmt::Display for Unusable {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Self::DevelopmentVersion(sentence) | Self::Other(sentence) | Self::Unreadable(sentence)) = self;
        formatter.write_str(sentence)
    }
}

/// The kind of a database file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileKind {
    /// A file without tables.
    Empty,
    /// Our own, with its schema version.
    Ours(u32),
    /// A database of the original, which can be imported.
    Original,
}

impl Schema {
    fn version(&self) -> u32 {
        // A list of migrations is never that long.
        u32::try_from(self.migrations.len()).map_or(u32::MAX, |migrations| VERSION_1_0 + migrations)
    }

    /// Whether a file has all tables of this schema, or newer ones.
    pub(super) fn is_current(&self, kind: FileKind) -> bool {
        matches!(kind, FileKind::Ours(version) if version >= self.version())
    }

    /// Returns the kind of a database file.
    ///
    /// # Errors
    /// Returns why this program must not change the file.
    pub(super) fn detect(&self, connection: &Connection) -> std::result::Result<FileKind, Unusable> {
        let application_id: i32 = connection.query_row("PRAGMA application_id", [], |row| row.get(0))?;
        let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        if tables == 0 {
            return Ok(FileKind::Empty);
        }
        let version = meta_number(connection, "schema_version")?;
        if application_id == self.application_id {
            let version = version.unwrap_or(0);
            if version < VERSION_1_0 {
                return Err(Unusable::DevelopmentVersion(format!(
                    "a development version of Monlight before 1.0 created it (schema {version}), and this version cannot \
                     read it. Move it and its -wal and -shm files aside, and a new database is created at the next start"
                )));
            }
            let oldest = meta_number(connection, "oldest_reader")?.unwrap_or(0);
            if oldest > self.version() {
                return Err(Unusable::Other(format!(
                    "it was changed by a newer Monlight and requires schema {oldest} or later; this version has schema {}. \
                     Start the newer version again, or restore a backup from before the upgrade",
                    self.version()
                )));
            }
            return Ok(FileKind::Ours(version));
        }
        match (application_id, version, self.import) {
            (0, Some(found), Some(import)) if found == import.version => Ok(FileKind::Original),
            (0, Some(found), Some(import)) => Err(Unusable::Other(format!(
                "it has the original's schema {found}, and only schema {} can be imported; start the last version of the \
                 original on it once",
                import.version
            ))),
            _ => Err(Unusable::Other("it is a database of another program".into())),
        }
    }

    /// Creates, migrates or imports the tables of this schema, in one transaction.
    ///
    /// # Errors
    /// Fails if a statement fails, or if imported rows refer to missing ones; then the file is unchanged.
    pub(super) fn migrate(&self, connection: &mut Connection, kind: FileKind) -> Result<()> {
        let migrated_to = match kind {
            FileKind::Ours(version) if version >= self.version() => return Ok(()),
            FileKind::Ours(version) => Some(version),
            FileKind::Empty | FileKind::Original => None,
        };
        // Otherwise dropping the original's tables would check or change the rows that refer to them. This statement has no
        // effect inside a transaction.
        connection.pragma_update(None, "foreign_keys", false)?;
        let transaction = connection.transaction()?;
        let import = self.import.filter(|_| kind == FileKind::Original);
        if import.is_some() {
            transaction.execute_batch("DROP TABLE _meta")?;
        }
        for table in import.iter().flat_map(|import| import.tables) {
            transaction.execute_batch(&format!("ALTER TABLE {table} RENAME TO original_{table}"))?;
        }
        if migrated_to.is_none() {
            transaction.execute_batch(COMMON_TABLES)?;
            (self.create)(&transaction)?;
        }
        let applied = migrated_to.map_or(0, |version| version - VERSION_1_0);
        for migration in self.migrations.iter().skip(applied as usize) {
            transaction.execute_batch(migration.sql)?;
        }
        if let Some(import) = import {
            (import.convert)(&transaction)?;
            for table in import.tables {
                transaction.execute_batch(&format!("DROP TABLE original_{table}"))?;
            }
        }
        if let Some(table) = dangling_reference(&transaction)? {
            return Err(Error::Storage(format!(
                "rows of its table {table} refer to missing rows. PRAGMA foreign_key_check lists them; delete them, or \
                 restore a backup"
            )));
        }
        let oldest_readers = self.migrations.iter().map(|migration| migration.oldest_reader);
        let oldest_reader = oldest_readers.fold(VERSION_1_0, u32::max);
        for (key, value) in [("schema_version", self.version()), ("oldest_reader", oldest_reader)] {
            let sql = "INSERT INTO _meta (key, value) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = ?2";
            transaction.execute(sql, (key, value.to_string()))?;
        }
        transaction.pragma_update(None, "application_id", self.application_id)?;
        transaction.commit()?;
        Ok(())
    }
}

/// Returns a table with a row that refers to a missing row, if there is one.
fn dangling_reference(connection: &Connection) -> rusqlite::Result<Option<String>> {
    connection.query_row("PRAGMA foreign_key_check", [], |row| row.get(0)).optional()
}

fn meta_number(connection: &Connection, key: &str) -> rusqlite::Result<Option<u32>> {
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
