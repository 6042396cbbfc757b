//! Every change to the log viewer's database, as a value.

use rusqlite::{Connection, OptionalExtension as _};

use super::config::Limits;
use super::discovery::Found;
use super::files::Fingerprint;
use super::follower::{Place, Resume};
use super::ring::{Entry, Landed, Ring};
use crate::clock::Timestamp;
use crate::db::Command;
use crate::error::{Error, Result};

/// Notes that a log exists, and under which name.
pub(super) struct Register {
    pub(super) found: Found,
}

/// A log that is noted.
#[derive(Debug, Clone)]
pub(super) struct Registered {
    pub(super) container: i64,
    /// How far it is read; `None` when nothing of it is stored.
    pub(super) resume: Option<Resume>,
    /// What [`Append::version`] has to be.
    pub(super) version: i64,
}

impl Command for Register {
    type Output = Registered;

    fn apply(self, transaction: &Connection) -> Result<Registered> {
        let Found { key, name, image, project, service, .. } = &self.found;
        let container: i64 = transaction
            .prepare_cached(
                "INSERT INTO containers (key, name, image, project, service) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT (key) DO UPDATE SET name = ?2, image = ?3, project = ?4, service = ?5 RETURNING id",
            )?
            .query_row((key, name, image, project, service), |row| row.get(0))?;
        let mut read = transaction.prepare_cached(
            "SELECT version, file_bytes, file_hash, inode, offset, before_bytes, before_hash, newest, pending
             FROM cursors WHERE container_id = ?1",
        )?;
        let print = |row: &rusqlite::Row<'_>, from: usize| {
            let hash: i64 = row.get(from + 1)?;
            Ok::<_, rusqlite::Error>(Fingerprint { bytes: row.get(from)?, hash: hash.cast_unsigned() })
        };
        let known = read
            .query_row([container], |row| {
                let (inode, offset): (i64, i64) = (row.get(3)?, row.get(4)?);
                let place = Place { file: print(row, 1)?, inode: inode.cast_unsigned(), offset: offset.unsigned_abs() };
                let before = Some(print(row, 5)?).filter(|before| before.bytes > 0);
                Ok((row.get(0)?, Resume { place, before, newest_ns: row.get(7)?, pending: row.get(8)? }))
            })
            .optional()?;
        Ok(match known {
            Some((version, resume)) => Registered { container, resume: Some(resume), version },
            None => Registered { container, resume: None, version: 0 },
        })
    }
}

/// Stores what was read of a log, and how far it is read now: both, or neither.
pub(super) struct Append {
    pub(super) container: i64,
    pub(super) entries: Vec<Entry>,
    pub(super) resume: Resume,
    /// How many changes of this log came before this one. Without the one before, this one is refused.
    pub(super) version: i64,
    pub(super) gaps: u64,
    pub(super) limits: Limits,
    pub(super) now: Timestamp,
}

impl Command for Append {
    /// Where the entries are now.
    type Output = Vec<Landed>;

    fn apply(mut self, transaction: &Connection) -> Result<Vec<Landed>> {
        let stored = transaction
            .prepare_cached("SELECT version, out_id, err_id FROM cursors WHERE container_id = ?1")?
            .query_row([self.container], |row| Ok((row.get(0)?, [row.get(1)?, row.get(2)?])))
            .optional()?;
        let (version, mut last_ids): (i64, [i64; 2]) = stored.unwrap_or_default();
        if version != self.version {
            return Err(Error::Internal("what was read before this is not stored".into()));
        }
        let entries = std::mem::take(&mut self.entries);
        let landed = Ring::open(transaction, self.limits)?.append(self.container, entries, &mut last_ids)?;
        self.store_cursor(transaction, last_ids)?;
        for (name, value) in [("stored_at", self.now.ms()), ("gaps", i64::try_from(self.gaps).unwrap_or(i64::MAX))] {
            let set = if name == "gaps" { "value + ?2" } else { "?2" };
            transaction
                .prepare_cached(&format!("UPDATE totals SET value = {set} WHERE name = ?1"))?
                .execute((name, value))?;
        }
        Ok(landed)
    }
}

impl Append {
    fn store_cursor(&self, transaction: &Connection, last_ids: [i64; 2]) -> Result<()> {
        let Resume { place, before, newest_ns, pending } = &self.resume;
        let before = before.unwrap_or_default();
        transaction
            .prepare_cached(
                "INSERT OR REPLACE INTO cursors (container_id, version, file_bytes, file_hash, inode, offset,
                     before_bytes, before_hash, pending, newest, out_id, err_id)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
            )?
            .execute(rusqlite::params![
                self.container,
                self.version + 1,
                place.file.bytes,
                place.file.hash.cast_signed(),
                place.inode.cast_signed(),
                i64::try_from(place.offset).unwrap_or(i64::MAX),
                before.bytes,
                before.hash.cast_signed(),
                pending,
                newest_ns,
                last_ids[0],
                last_ids[1],
            ])?;
        Ok(())
    }
}

/// Removes what is more than may be kept, or older, and logs that are gone and of which nothing is left.
pub(super) struct Trim {
    pub(super) limits: Limits,
    /// The numbers of the logs that exist; `None` when nobody has looked yet.
    pub(super) existing: Option<Vec<i64>>,
    pub(super) now: Timestamp,
}

impl Command for Trim {
    type Output = ();

    fn apply(self, transaction: &Connection) -> Result<()> {
        let age = self.limits.age;
        let oldest_ns = if age.is_zero() { 0 } else { (self.now - age).ms().saturating_mul(1_000_000) };
        Ring::open(transaction, self.limits)?.trim(oldest_ns)?;
        let Some(existing) = self.existing else { return Ok(()) };
        let mut gone = transaction.prepare_cached(
            "SELECT id FROM containers WHERE NOT EXISTS (SELECT 1 FROM counters WHERE container_id = containers.id)",
        )?;
        let gone: Vec<i64> = gone.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
        for container in gone.into_iter().filter(|container| !existing.contains(container)) {
            for statement in ["DELETE FROM cursors WHERE container_id = ?1", "DELETE FROM containers WHERE id = ?1"] {
                transaction.prepare_cached(statement)?.execute([container])?;
            }
        }
        Ok(())
    }
}

/// Empties the oldest segment, so that the file stays within `MAX_DB_MB`.
pub(super) fn shrink(connection: &Connection) -> Result<bool> {
    let unlimited = Limits { entries: i64::MAX, bytes: 0, age: std::time::Duration::ZERO };
    Ring::open(connection, unlimited)?.drop_oldest()
}
