//! Write commands for the log viewer's database.

use rusqlite::{Connection, OptionalExtension as _};

use super::checkpoint::Checkpoint;
use super::checkpoint_rows::{read_checkpoint, store_checkpoint};
use super::config::RetentionLimits;
use super::counter_names;
use super::discovery::{LogFormat, LogSource};
use super::enumerations::SourceKind;
use super::line_clock::BatchTimes;
use super::plausible_time::latest_plausible_ns;
use super::segment_ring::{SegmentRing, StreamPosition};
use super::segments::BatchRange;
use super::sources::{Source, add_gaps, clean_name, make_room_for_source, source_exists, upsert_source};
use crate::clock::Timestamp;
use crate::db::{Command, add_to_counter, set_counter};
use crate::error::{Error, Result};
use crate::records::log_record::LogRecord;

/// Inserts a log, or updates its name and labels.
pub(super) struct UpsertSource {
    pub(super) source: LogSource,
    /// Row IDs of other sources that exist and must not be deleted to make room.
    pub(super) keep: Vec<i64>,
}

/// A log that has a row.
#[derive(Debug, Clone)]
pub(super) struct StoredSource {
    /// Row ID.
    pub(super) id: i64,
    /// Position up to which the log is stored; `None` if nothing is stored.
    pub(super) checkpoint: Option<Checkpoint>,
    /// Version that the next [`AppendEntries`] must have.
    pub(super) version: i64,
}

impl Command for UpsertSource {
    type Output = StoredSource;

    fn apply(self, transaction: &Connection) -> Result<StoredSource> {
        let LogSource { key, name, is_named, image, project, service, format, .. } = self.source;
        let kind = match format {
            LogFormat::Docker => SourceKind::DockerContainer,
            LogFormat::Text(_) => SourceKind::TextFile,
        };
        let exists = source_exists(transaction, &key)?;
        while !exists && !make_room_for_source(transaction, &self.keep)? {
            // All stored sources have entries, so the oldest entries go.
            if !evict_oldest_segment(transaction)? {
                return Err(Error::Busy("Too many containers are stored"));
            }
        }
        let [name, image, project, service] = [name, image, project, service].map(|name| clean_name(&name));
        let source = Source { key, name, image, project, service };
        let id = upsert_source(transaction, kind, &source, is_named)?;
        Ok(match read_checkpoint(transaction, id)? {
            Some((version, checkpoint)) => StoredSource { id, checkpoint: Some(checkpoint), version },
            None => StoredSource { id, checkpoint: None, version: 0 },
        })
    }
}

/// Stores entries of a log together with the checkpoint after them, so that no crash loses or duplicates a line.
pub(super) struct AppendEntries {
    /// Row ID of the source.
    pub(super) source: i64,
    pub(super) records: Vec<LogRecord>,
    pub(super) checkpoint: Checkpoint,
    /// Number of earlier commands for this log. The command fails if one of them was not stored.
    pub(super) version: i64,
    pub(super) missed_rotations: u64,
    pub(super) times: BatchTimes,
    pub(super) limits: RetentionLimits,
    pub(super) now: Timestamp,
}

impl Command for AppendEntries {
    /// Locations of the stored entries.
    type Output = Vec<BatchRange>;

    fn apply(mut self, transaction: &Connection) -> Result<Vec<BatchRange>> {
        let mut read = transaction.prepare_cached(
            "SELECT version, stdout_last_id, stdout_newest_ns, stderr_last_id, stderr_newest_ns
             FROM checkpoints WHERE source_id = ?1",
        )?;
        let position = |row: &rusqlite::Row<'_>, column: usize| {
            Ok::<_, rusqlite::Error>(StreamPosition { last_id: row.get(column)?, newest_ns: row.get(column + 1)? })
        };
        let stored = read
            .query_row([self.source], |row| Ok((row.get(0)?, [position(row, 1)?, position(row, 3)?])))
            .optional()?;
        let (version, mut positions): (i64, [StreamPosition; 2]) = stored.unwrap_or_default();
        if version != self.version {
            return Err(Error::Internal("an earlier batch of this log was not stored".into()));
        }
        let records = std::mem::take(&mut self.records);
        let mut ring = SegmentRing::open(transaction, self.limits)?.keep_order(self.times.keep_order);
        let batches = ring.append(self.source, records, &mut positions, latest_plausible_ns(self.now))?;
        store_checkpoint(transaction, self.source, self.version + 1, &self.checkpoint, positions)?;
        set_counter(transaction, counter_names::LAST_INGEST_MS, self.now.ms())?;
        add_to_counter(transaction, counter_names::CORRECTED_TIMES, count_of(self.times.corrected))?;
        if self.missed_rotations > 0 {
            add_to_counter(transaction, counter_names::MISSED_ROTATIONS, count_of(self.missed_rotations))?;
            add_gaps(transaction, self.source, count_of(self.missed_rotations), self.now)?;
        }
        Ok(batches)
    }
}

/// Returns a number as SQLite stores it.
fn count_of(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Deletes entries beyond the limits, and removed sources that have no entries left.
pub(super) struct ApplyRetention {
    pub(super) limits: RetentionLimits,
    /// Row IDs of the sources that exist; `None` if they are not known yet, so that no source is deleted.
    pub(super) existing: Option<Vec<i64>>,
    /// Time before which entries expire, in nanoseconds since 1970.
    pub(super) expires_before_ns: i64,
}

impl Command for ApplyRetention {
    type Output = ();

    fn apply(self, transaction: &Connection) -> Result<()> {
        SegmentRing::open(transaction, self.limits)?.enforce_limits(self.expires_before_ns)?;
        let Some(existing) = self.existing else { return Ok(()) };
        let mut empty = transaction.prepare_cached(
            "SELECT id FROM sources WHERE NOT EXISTS (SELECT 1 FROM entry_counts WHERE source_id = sources.id)",
        )?;
        let empty: Vec<i64> = empty.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
        for source in empty.into_iter().filter(|source| !existing.contains(source)) {
            transaction.prepare_cached("DELETE FROM sources WHERE id = ?1")?.execute([source])?;
        }
        Ok(())
    }
}

/// Deletes the oldest segment, to keep the database within `MAX_DB_MB`. Returns whether anything was deleted.
pub(super) fn evict_oldest_segment(connection: &Connection) -> Result<bool> {
    let unlimited = RetentionLimits { entries: i64::MAX, bytes: 0, age: std::time::Duration::ZERO };
    SegmentRing::open(connection, unlimited)?.evict_oldest()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::super::SCHEMA;
    use super::super::checkpoint::{LogPositions, Position};
    use super::*;

    #[test]
    fn removed_sources_are_deleted_with_their_checkpoints() {
        let limits = RetentionLimits { entries: 1_000, bytes: 0, age: Duration::ZERO };
        let position = Position { inode: u64::MAX, offset: 7, ..Position::default() };
        let positions = LogPositions { replaced: vec![position; 2], ..LogPositions::default() };
        let readers = crate::db::in_memory(SCHEMA, |transaction| {
            for (key, format) in [("0123456789ab", LogFormat::Docker), ("file:app", LogFormat::Text(Arc::default()))] {
                let source = LogSource {
                    key: key.into(),
                    name: key.into(),
                    is_named: true,
                    image: String::new(),
                    project: String::new(),
                    service: String::new(),
                    format,
                    path: Err(String::new()),
                };
                let stored = UpsertSource { source, keep: Vec::new() }.apply(transaction)?;
                let checkpoint = Checkpoint { positions: positions.clone(), newest_ns: 0, pending_lines: Vec::new() };
                let (source, version, records) = (stored.id, stored.version, Vec::new());
                let (missed_rotations, times, now) = (0, BatchTimes::default(), Timestamp::now());
                AppendEntries { source, records, checkpoint, version, missed_rotations, times, limits, now }
                    .apply(transaction)?;
            }
            let kinds = "SELECT group_concat(k.name) FROM sources s JOIN source_kinds k ON k.id = s.kind_id";
            assert_eq!(transaction.query_row(kinds, [], |row| row.get(0)), Ok("Docker container,text file".to_owned()));
            ApplyRetention { limits, existing: Some(vec![2]), expires_before_ns: i64::MIN }.apply(transaction)
        });
        let reader = readers.acquire().unwrap();
        let count = |sql: &str| reader.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
        assert_eq!(count("SELECT sum(id) FROM sources"), 2);
        assert_eq!(count("SELECT sum(source_id) FROM checkpoints"), 2);
        assert_eq!(count("SELECT sum(source_id) FROM replaced_files"), 4);
        let stored = read_checkpoint(&reader, 2).unwrap().unwrap();
        assert_eq!((stored.0, stored.1.positions), (1, positions));
    }
}
