//! Schema migrations.
//!
//! `_meta` holds `schema_version`, the length of the list of migrations, and `oldest_reader`, the schema version of the
//! oldest program that can still use the file. Migrations only expand, so an older program usually can, and an upgrade can be
//! rolled back without restoring a backup.

use rusqlite::{Connection, OptionalExtension as _};

use crate::error::{Error, Result};

/// The schema of a service's database.
#[derive(Debug, Clone, Copy)]
pub struct Schema {
    /// `PRAGMA application_id`, which identifies our files.
    pub application_id: i32,
    /// All migrations, in order.
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
        u32::try_from(self.migrations.len()).unwrap_or(u32::MAX)
    }

    /// Returns the kind of a database file.
    ///
    /// # Errors
    /// [`Error::Storage`] if this program must not change the file: a newer Monlight changed it, or it belongs to another
    /// program.
    pub(super) fn detect(&self, connection: &Connection) -> Result<FileKind> {
        let application_id: i32 = connection.query_row("PRAGMA application_id", [], |row| row.get(0))?;
        let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        if tables == 0 {
            return Ok(FileKind::Empty);
        }
        let version = meta_number(connection, "schema_version")?;
        if application_id == self.application_id {
            let oldest = meta_number(connection, "oldest_reader")?.unwrap_or(0);
            if oldest > self.version() {
                return Err(Error::Storage(format!(
                    "it was changed by a newer Monlight and requires schema {oldest} or later; this version has schema {}. \
                     Start the newer version again, or restore a backup from before the upgrade",
                    self.version()
                )));
            }
            return Ok(FileKind::Ours(version.unwrap_or(0)));
        }
        match (application_id, version, self.import) {
            (0, Some(found), Some(import)) if found == import.version => Ok(FileKind::Original),
            (0, Some(found), Some(import)) => Err(Error::Storage(format!(
                "it has the original's schema {found}, and only schema {} can be imported; start the last version of the \
                 original on it once",
                import.version
            ))),
            _ => Err(Error::Storage("it is a database of another program".into())),
        }
    }

    /// Migrates or imports a file to this schema, in one transaction.
    ///
    /// # Errors
    /// Fails if a statement fails; then the file is unchanged.
    pub(super) fn migrate(&self, connection: &mut Connection, kind: FileKind) -> Result<()> {
        let applied = match kind {
            FileKind::Ours(version) if version >= self.version() => return Ok(()),
            FileKind::Ours(version) => version,
            FileKind::Empty | FileKind::Original => 0,
        };
        let transaction = connection.transaction()?;
        if kind == FileKind::Original
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
        if kind == FileKind::Original
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
