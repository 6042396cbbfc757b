//! Write commands for the log viewer's database.

use rusqlite::{Connection, OptionalExtension as _};

use super::config::RetentionLimits;
use super::counter_names;
use super::discovery::LogSource;
use super::rotation::FileFingerprint;
use super::segments::{BatchRange, SegmentRing};
use super::tailer::{Checkpoint, Position};
use crate::clock::Timestamp;
use crate::db::{Command, add_to_counter, set_counter};
use crate::error::{Error, Result};
use crate::records::log_record::LogRecord;

/// Inserts a log, or updates its name and labels.
pub(super) struct UpsertSource {
    pub(super) source: LogSource,
}

/// A log that has a row.
#[derive(Debug, Clone)]
pub(super) struct StoredSource {
    /// Row ID of the container.
    pub(super) container: i64,
    /// Position up to which the log is stored; `None` if nothing is stored.
    pub(super) checkpoint: Option<Checkpoint>,
    /// Version that the next [`AppendEntries`] must have.
    pub(super) version: i64,
}

impl Command for UpsertSource {
    type Output = StoredSource;

    fn apply(self, transaction: &Connection) -> Result<StoredSource> {
        let LogSource { key, name, image, project, service, .. } = &self.source;
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
        let fingerprint = |row: &rusqlite::Row<'_>, column: usize| {
            let hash: i64 = row.get(column + 1)?;
            Ok::<_, rusqlite::Error>(FileFingerprint { bytes: row.get(column)?, hash: hash.cast_unsigned() })
        };
        let stored = read
            .query_row([container], |row| {
                let (inode, offset): (i64, i64) = (row.get(3)?, row.get(4)?);
                let position = Position {
                    file: fingerprint(row, 1)?,
                    inode: inode.cast_unsigned(),
                    offset: offset.unsigned_abs(),
                };
                let previous_file = Some(fingerprint(row, 5)?).filter(|file| file.bytes > 0);
                let checkpoint =
                    Checkpoint { position, previous_file, newest_ns: row.get(7)?, pending_lines: row.get(8)? };
                Ok((row.get(0)?, checkpoint))
            })
            .optional()?;
        Ok(match stored {
            Some((version, checkpoint)) => StoredSource { container, checkpoint: Some(checkpoint), version },
            None => StoredSource { container, checkpoint: None, version: 0 },
        })
    }
}

/// Stores entries of a log together with the checkpoint after them, so that no crash loses or duplicates a line.
pub(super) struct AppendEntries {
    /// Row ID of the container.
    pub(super) container: i64,
    pub(super) records: Vec<LogRecord>,
    pub(super) checkpoint: Checkpoint,
    /// Number of earlier commands for this log. The command fails if one of them was not stored.
    pub(super) version: i64,
    pub(super) missed_rotations: u64,
    pub(super) limits: RetentionLimits,
    pub(super) now: Timestamp,
}

impl Command for AppendEntries {
    /// Locations of the stored entries.
    type Output = Vec<BatchRange>;

    fn apply(mut self, transaction: &Connection) -> Result<Vec<BatchRange>> {
        let stored = transaction
            .prepare_cached("SELECT version, out_id, err_id FROM cursors WHERE container_id = ?1")?
            .query_row([self.container], |row| Ok((row.get(0)?, [row.get(1)?, row.get(2)?])))
            .optional()?;
        let (version, mut last_ids): (i64, [i64; 2]) = stored.unwrap_or_default();
        if version != self.version {
            return Err(Error::Internal("an earlier batch of this log was not stored".into()));
        }
        let records = std::mem::take(&mut self.records);
        let batches = SegmentRing::open(transaction, self.limits)?.append(self.container, records, &mut last_ids)?;
        self.store_checkpoint(transaction, last_ids)?;
        set_counter(transaction, counter_names::LAST_INGEST_MS, self.now.ms())?;
        let missed_rotations = i64::try_from(self.missed_rotations).unwrap_or(i64::MAX);
        add_to_counter(transaction, counter_names::MISSED_ROTATIONS, missed_rotations)?;
        Ok(batches)
    }
}

impl AppendEntries {
    fn store_checkpoint(&self, transaction: &Connection, last_ids: [i64; 2]) -> Result<()> {
        let Checkpoint { position, previous_file, newest_ns, pending_lines } = &self.checkpoint;
        let previous_file = previous_file.unwrap_or_default();
        transaction
            .prepare_cached(
                "INSERT OR REPLACE INTO cursors (container_id, version, file_bytes, file_hash, inode, offset,
                     before_bytes, before_hash, pending, newest, out_id, err_id)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
            )?
            .execute(rusqlite::params![
                self.container,
                self.version + 1,
                position.file.bytes,
                position.file.hash.cast_signed(),
                position.inode.cast_signed(),
                i64::try_from(position.offset).unwrap_or(i64::MAX),
                previous_file.bytes,
                previous_file.hash.cast_signed(),
                pending_lines,
                newest_ns,
                last_ids[0],
                last_ids[1],
            ])?;
        Ok(())
    }
}

/// Deletes entries beyond the limits, and removed containers that have no entries left.
pub(super) struct ApplyRetention {
    pub(super) limits: RetentionLimits,
    /// Row IDs of the containers that exist; `None` if they are not known yet, so that no container is deleted.
    pub(super) existing: Option<Vec<i64>>,
    pub(super) now: Timestamp,
}

impl Command for ApplyRetention {
    type Output = ();

    fn apply(self, transaction: &Connection) -> Result<()> {
        let age = self.limits.age;
        let oldest_ns = if age.is_zero() { 0 } else { (self.now - age).ms().saturating_mul(1_000_000) };
        SegmentRing::open(transaction, self.limits)?.enforce_limits(oldest_ns)?;
        let Some(existing) = self.existing else { return Ok(()) };
        let mut empty = transaction.prepare_cached(
            "SELECT id FROM containers WHERE NOT EXISTS (SELECT 1 FROM entry_counts WHERE container_id = containers.id)",
        )?;
        let empty: Vec<i64> = empty.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
        for container in empty.into_iter().filter(|container| !existing.contains(container)) {
            for statement in ["DELETE FROM cursors WHERE container_id = ?1", "DELETE FROM containers WHERE id = ?1"] {
                transaction.prepare_cached(statement)?.execute([container])?;
            }
        }
        Ok(())
    }
}

/// Deletes the oldest segment, to keep the database within `MAX_DB_MB`. Returns whether anything was deleted.
pub(super) fn evict_oldest_segment(connection: &Connection) -> Result<bool> {
    let unlimited = RetentionLimits { entries: i64::MAX, bytes: 0, age: std::time::Duration::ZERO };
    SegmentRing::open(connection, unlimited)?.evict_oldest()
}
