//! Reads of the log viewer's database other than searches: counts, and the context of an entry.

use rusqlite::{Connection, OptionalExtension as _};

use super::counter_names;
use super::enumerations::level_from_number;
use super::segments::{Segment, segments};
use crate::db::counter;
use crate::error::{Error, Result};

/// Counters for `/health` and `/metrics`.
pub(super) struct HealthCounters {
    /// Stored entries.
    pub(super) entries: i64,
    pub(super) sources: i64,
    pub(super) missed_rotations: i64,
    pub(super) corrected_times: i64,
    /// Time of the last stored batch, in milliseconds since 1970; 0 if nothing was ever stored.
    pub(super) last_ingest_ms: i64,
}

/// Reads the counters for `/health`, without reading any entry.
pub(super) fn health_counters(connection: &Connection) -> Result<HealthCounters> {
    let count = |sql: &str| connection.prepare_cached(sql)?.query_row([], |row| row.get(0));
    Ok(HealthCounters {
        entries: count("SELECT sum(entries) FROM segments")?,
        sources: count("SELECT count(*) FROM sources")?,
        missed_rotations: counter(connection, counter_names::MISSED_ROTATIONS)?,
        corrected_times: counter(connection, counter_names::CORRECTED_TIMES)?,
        last_ingest_ms: counter(connection, counter_names::LAST_INGEST_MS)?,
    })
}

/// Returns the source with the most entries, if there are any.
pub(super) fn largest_source(connection: &Connection) -> Result<Option<i64>> {
    let mut largest = connection.prepare_cached(
        "SELECT source_id FROM entry_counts GROUP BY source_id ORDER BY sum(entries) DESC, source_id LIMIT 1",
    )?;
    Ok(largest.query_row([], |row| row.get(0)).optional()?)
}

/// Returns the first minute with entries, counted from 1970, that is not before a minute; `None` if there is none.
pub(super) fn first_minute_from(connection: &Connection, minute: i64) -> Result<Option<i64>> {
    // One lookup in the primary key for each segment.
    let mut first = connection.prepare_cached(
        "SELECT min((SELECT min(at_min) FROM entry_counts WHERE segment_id = s.id AND at_min >= ?1)) FROM segments s",
    )?;
    Ok(first.query_row([minute], |row| row.get(0))?)
}

/// Returns the ingest sequence number of an entry.
pub(super) fn ingest_seq_of(connection: &Connection, id: i64) -> Result<Option<i64>> {
    column_of(connection, "ingest_seq", id)
}

/// Returns whether an entry that does not exist was probably deleted, because there are newer ones.
pub(super) fn is_deleted(connection: &Connection, id: i64) -> Result<bool> {
    let has_newer = |segment: &Segment| segment.entries > 0 && segment.last_id > id;
    Ok(id > 0 && segments(connection)?.iter().any(has_newer))
}

/// Reads a column of an entry; `None` if the entry does not exist.
fn column_of(connection: &Connection, column: &str, id: i64) -> Result<Option<i64>> {
    for segment in
        segments(connection)?.into_iter().filter(|segment| (segment.first_id..=segment.last_id).contains(&id))
    {
        let sql = format!("SELECT {column} FROM segment_{} WHERE id = ?1", segment.index);
        let mut read = connection.prepare_cached(&sql)?;
        let mut rows = read.query([id])?;
        if let Some(row) = rows.next()? {
            return Ok(Some(row.get(0)?));
        }
    }
    Ok(None)
}

/// Returns the IDs of an entry, and of the entries before and after it of the sources with the same name, in ascending order. A
/// container that was recreated is another source with the same name.
///
/// # Errors
/// Returns [`Error::NotFound`] if the entry does not exist.
pub(super) fn context_ids(connection: &Connection, id: i64, before: usize, after: usize) -> Result<Vec<i64>> {
    let source = column_of(connection, "source_id", id)?.ok_or_else(|| no_entry(id))?;
    let same_name = "source_id IN (SELECT id FROM sources WHERE name = (SELECT name FROM sources WHERE id = ?2))";
    let segments: Vec<Segment> = segments(connection)?.into_iter().filter(|segment| segment.entries > 0).collect();
    let side = |comparison: &str, order: &str, count: usize| -> Result<Vec<i64>> {
        let mut ids: Vec<i64> = Vec::new();
        for segment in &segments {
            let mut read = connection.prepare_cached(&format!(
                "SELECT id FROM segment_{} WHERE id {comparison} ?1 AND {same_name} ORDER BY id {order} LIMIT ?3",
                segment.index
            ))?;
            let mut rows = read.query((id, source, count as i64))?;
            while let Some(row) = rows.next()? {
                ids.push(row.get(0)?);
            }
        }
        ids.sort_unstable();
        if order == "DESC" {
            ids.drain(..ids.len().saturating_sub(count));
        }
        ids.truncate(count);
        Ok(ids)
    };
    let mut ids = side("<", "DESC", before)?;
    ids.extend(side(">=", "ASC", after + 1)?);
    Ok(ids)
}

/// Returns the error for an entry that does not exist.
pub(super) fn no_entry(id: i64) -> Error {
    Error::NotFound(format!("Log entry {id} not found; it may have been deleted"))
}

/// Numbers of entries by source and rank of the level, in ascending order of the sources' row IDs.
#[derive(Debug, Default)]
pub(super) struct SourceCounts(Vec<(i64, [i64; 5])>);

impl SourceCounts {
    /// Returns the numbers of one source.
    pub(super) fn of(&self, source: i64) -> [i64; 5] {
        self.0.binary_search_by_key(&source, |(id, _)| *id).map_or([0; 5], |index| self.0[index].1)
    }
}

/// Counts of the stored entries.
#[derive(Debug, Default)]
pub(super) struct Stats {
    pub(super) by_source: SourceCounts,
    /// Times of the oldest and of the newest entry, in nanoseconds since 1970; `None` if there are no entries.
    pub(super) oldest_ns: Option<i64>,
    pub(super) newest_ns: Option<i64>,
}

/// Counts the stored entries by source and level.
pub(super) fn stats(connection: &Connection) -> Result<Stats> {
    let mut stats = Stats::default();
    // SQLite would use the index on source_id, and seek every row.
    let mut read = connection.prepare_cached(
        "SELECT source_id, level_id, sum(entries) FROM entry_counts NOT INDEXED GROUP BY source_id, level_id",
    )?;
    let mut rows = read.query([])?;
    while let Some(row) = rows.next()? {
        let (source, level, entries): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let counts = &mut stats.by_source.0;
        if counts.last().is_none_or(|(last, _)| *last != source) {
            counts.push((source, [0; 5]));
        }
        if let (Some(level), Some((_, counts))) = (level_from_number(level), counts.last_mut()) {
            counts[usize::from(level.rank())] += entries;
        }
    }
    // GROUP BY sorts, but does not promise to.
    stats.by_source.0.sort_unstable_by_key(|(source, _)| *source);
    let used: Vec<Segment> = segments(connection)?.into_iter().filter(|segment| segment.entries > 0).collect();
    stats.oldest_ns = used.iter().map(|segment| segment.oldest_ns).min();
    stats.newest_ns = used.iter().map(|segment| segment.newest_ns).max();
    Ok(stats)
}
