//! Searches of the stored entries: filters, pages, histograms, and reads for live tails and exports.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::{Duration, Instant};

use rusqlite::{Connection, Row};

use super::containers::{Container, containers};
use super::entry_id;
use super::glob::glob_match;
use super::log_entry::{COLUMNS, LogEntry};
use super::search::Search;
use super::segments::{BatchRange, Segment, segments};
use crate::error::Result;
use crate::records::log_level::Level;

/// Maximum time for reading the texts of entries in one request, where no index helps.
const SCAN_TIMEOUT: Duration = Duration::from_millis(1_500);
/// Number of entries between two checks of the timeout.
const ENTRIES_PER_TIME_CHECK: usize = 512;

/// Conditions that an entry has to meet.
#[derive(Debug, Default)]
pub(super) struct Filter {
    /// A container's name, or a pattern with `*`.
    pub(super) container: Option<String>,
    /// Accepted levels; empty = all.
    pub(super) levels: Vec<Level>,
    /// Lower bound of the IDs, inclusive.
    pub(super) first_id: i64,
    /// Upper bound of the IDs, exclusive.
    pub(super) end_id: i64,
    pub(super) search: Search,
}

impl Filter {
    /// Returns a filter that accepts every entry.
    pub(super) fn all() -> Self {
        Self { container: None, levels: Vec::new(), first_id: i64::MIN, end_id: i64::MAX, search: Search::default() }
    }
}

/// IDs of the entries that match a filter.
#[derive(Debug, Default)]
pub(super) struct MatchingIds {
    /// The newest first, at most as many as requested.
    pub(super) ids: Vec<i64>,
    /// Number of all matching entries.
    pub(super) total: i64,
    /// Whether the scan timed out, so that matches are missing.
    pub(super) partial: bool,
}

/// A filter applied to one snapshot of the database: with the row IDs of the containers, and the segments that can contain
/// matches.
pub(super) struct BoundFilter<'c> {
    connection: &'c Connection,
    containers: BTreeMap<i64, Container>,
    /// SQL condition for the container and the level of an entry.
    entry_condition: String,
    /// The same for rows of the table `counters`.
    counter_condition: String,
    filter: &'c Filter,
    filters_container: bool,
    /// The newest first.
    segments: Vec<Segment>,
}

/// One SELECT from a segment.
struct SelectStatement<'s> {
    segment: &'s Segment,
    columns: &'s str,
    /// Whether other columns than `id` are read, so that matches of the full-text index are joined to their rows.
    needs_row: bool,
    /// Additional conditions and the order.
    suffix: &'s str,
    ids: Range<i64>,
    /// Maximum number of rows; -1 = unlimited.
    limit: i64,
}

impl<'c> BoundFilter<'c> {
    /// Prepares a query. The connection must be in a transaction.
    pub(super) fn new(connection: &'c Connection, filter: &'c Filter) -> Result<Self> {
        let containers = containers(connection)?;
        let container_ids: Option<Vec<i64>> = filter.container.as_deref().map(|pattern| {
            containers.iter().filter(|(_, container)| glob_match(&container.name, pattern)).map(|(id, _)| *id).collect()
        });
        let list = |numbers: Vec<String>| numbers.join(", ");
        let condition = |level: &str| {
            let mut condition = String::from("true");
            if let Some(ids) = &container_ids {
                let ids = list(ids.iter().map(ToString::to_string).collect());
                condition.push_str(&format!(" AND container_id IN ({ids})"));
            }
            if !filter.levels.is_empty() {
                let ranks = list(filter.levels.iter().map(|level| level.rank().to_string()).collect());
                condition.push_str(&format!(" AND {level} IN ({ranks})"));
            }
            condition
        };
        let (entry_condition, counter_condition) = (condition(entry_id::LEVEL_RANK_SQL), condition("level"));
        let filters_container = container_ids.is_some();
        let mut segments = segments(connection)?;
        segments.retain(|segment| {
            segment.entries > 0 && segment.last_id >= filter.first_id && segment.first_id < filter.end_id
        });
        segments.sort_unstable_by_key(|segment| std::cmp::Reverse(segment.last_id));
        Ok(Self { connection, containers, entry_condition, counter_condition, filter, filters_container, segments })
    }

    /// Finds the newest `count` matching entries, and counts all of them.
    pub(super) fn newest(&self, count: usize) -> Result<MatchingIds> {
        if !self.filter.search.patterns.is_empty() {
            return self.scan(count);
        }
        let mut matches = MatchingIds::default();
        for segment in &self.segments {
            let in_segment = self.count(segment)?;
            matches.total += in_segment;
            // The IDs of two segments can overlap, so a segment is skipped only if it ends before the oldest ID found.
            let oldest_found = if matches.ids.len() >= count { matches.ids.last().copied() } else { None };
            if in_segment == 0 || oldest_found.is_some_and(|oldest| segment.last_id < oldest) {
                continue;
            }
            let select = SelectStatement {
                segment,
                columns: "id",
                needs_row: false,
                suffix: "ORDER BY id DESC",
                ids: self.filter.first_id..self.filter.end_id,
                limit: count as i64,
            };
            self.query_segment(&select, |row| {
                matches.ids.push(row.get(0)?);
                Ok(None::<()>)
            })?;
            matches.ids.sort_unstable_by_key(|id| std::cmp::Reverse(*id));
            matches.ids.truncate(count);
        }
        Ok(matches)
    }

    /// Returns the SQL for the entries of a segment that match the full-text query, which is bound as `?4`. The alias `e`
    /// has all columns if `needs_row` is set or the container matters, and otherwise only `id`. Conditions on `id` then
    /// apply to the index, which is ordered by it.
    fn table_expression(&self, segment: &Segment, needs_row: bool) -> String {
        let index = segment.index;
        if self.filter.search.fts_query.is_none() {
            return format!("segment_{index} e");
        }
        let found = format!("(SELECT rowid AS id FROM search_{index} WHERE search_{index} MATCH ?4)");
        if needs_row || self.filters_container {
            format!("{found} s JOIN segment_{index} e USING (id)")
        } else {
            format!("{found} e")
        }
    }

    /// Passes the rows of a segment to `visit` until it returns a value, and returns that value.
    fn query_segment<T>(
        &self,
        select: &SelectStatement<'_>,
        mut visit: impl FnMut(&Row<'_>) -> Result<Option<T>>,
    ) -> Result<Option<T>> {
        let SelectStatement { segment, columns, needs_row, suffix, ids, limit } = select;
        let mut read = self.connection.prepare_cached(&format!(
            "SELECT {columns} FROM {} WHERE id >= ?1 AND id < ?2 AND {} {suffix} LIMIT ?3",
            self.table_expression(segment, *needs_row),
            self.entry_condition
        ))?;
        let mut rows = match &self.filter.search.fts_query {
            Some(fts_query) => read.query((ids.start, ids.end, limit, fts_query))?,
            None => read.query((ids.start, ids.end, limit))?,
        };
        while let Some(row) = rows.next()? {
            if let Some(value) = visit(row)? {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }

    /// Counts the matching entries of a segment, without the patterns.
    fn count(&self, segment: &Segment) -> Result<i64> {
        let (first, end) = (self.filter.first_id.max(segment.first_id), self.filter.end_id.min(segment.last_id + 1));
        if self.filter.search.fts_query.is_some() {
            if self.count_by_minute(segment.index, 0..i64::MAX)? == 0 {
                return Ok(0);
            }
            let (columns, suffix) = ("count(*)", "");
            let select = SelectStatement { segment, columns, needs_row: false, suffix, ids: first..end, limit: -1 };
            return Ok(self.query_segment(&select, |row| Ok(Some(row.get(0)?)))?.unwrap_or(0));
        }
        // The table `counters` has the counts of whole minutes. Only the partial minutes at both ends are counted by row.
        let starts_within_minute =
            first > segment.first_id && entry_id::first_of_minute(entry_id::minute(first)) != first;
        let first_minute = entry_id::minute(first) + i64::from(starts_within_minute);
        let end_minute = entry_id::minute(end) + i64::from(end > segment.last_id);
        if first_minute >= end_minute {
            return self.count_rows(segment.index, first..end);
        }
        let whole_minutes = self.count_by_minute(segment.index, first_minute..end_minute)?;
        let before = self.count_rows(segment.index, first..entry_id::first_of_minute(first_minute))?;
        let after = self.count_rows(segment.index, entry_id::first_of_minute(end_minute).max(first)..end)?;
        Ok(whole_minutes + before + after)
    }

    fn count_by_minute(&self, segment: u8, minutes: Range<i64>) -> Result<i64> {
        let mut count = self.connection.prepare_cached(&format!(
            "SELECT coalesce(sum(entries), 0) FROM entry_counts WHERE slot = ?1 AND minute >= ?2 AND minute < ?3 AND {}",
            self.counter_condition
        ))?;
        Ok(count.query_row((segment, minutes.start, minutes.end), |row| row.get(0))?)
    }

    fn count_rows(&self, segment: u8, ids: Range<i64>) -> Result<i64> {
        if ids.is_empty() {
            return Ok(0);
        }
        let mut count = self.connection.prepare_cached(&format!(
            "SELECT count(*) FROM segment_{segment} WHERE id >= ?1 AND id < ?2 AND {}",
            self.entry_condition
        ))?;
        Ok(count.query_row((ids.start, ids.end), |row| row.get(0))?)
    }

    /// Finds the newest `count` matches where texts have to be matched against patterns: reads them, the newest first,
    /// until [`SCAN_TIMEOUT`].
    fn scan(&self, count: usize) -> Result<MatchingIds> {
        let mut matches = MatchingIds::default();
        let deadline = Instant::now() + SCAN_TIMEOUT;
        let complete = self.for_each_match(deadline, |id| {
            matches.total += 1;
            matches.ids.push(id);
        })?;
        matches.partial = !complete;
        matches.ids.sort_unstable_by_key(|id| std::cmp::Reverse(*id));
        matches.ids.truncate(count);
        Ok(matches)
    }

    /// Passes the ID of every matching entry to `visit`, segment by segment. Returns whether all entries were read before
    /// the deadline.
    fn for_each_match(&self, deadline: Instant, mut visit: impl FnMut(i64)) -> Result<bool> {
        // Without patterns, the texts are not needed.
        let needs_row = !self.filter.search.patterns.is_empty();
        let columns = if needs_row { "id, message" } else { "id, ''" };
        let mut scanned = 0usize;
        for segment in &self.segments {
            let ids = self.filter.first_id..self.filter.end_id;
            let select = SelectStatement { segment, columns, needs_row, suffix: "ORDER BY id DESC", ids, limit: -1 };
            let timed_out = self.query_segment(&select, |row| {
                scanned += 1;
                if scanned.is_multiple_of(ENTRIES_PER_TIME_CHECK) && Instant::now() > deadline {
                    return Ok(Some(()));
                }
                if self.filter.search.matches(row.get_ref(1)?.as_str().unwrap_or_default()) {
                    visit(row.get(0)?);
                }
                Ok(None)
            })?;
            if timed_out.is_some() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Reads entries by ID, in the given order. Skips IDs that do not exist.
    pub(super) fn entries(&self, ids: &[i64]) -> Result<Vec<LogEntry>> {
        let mut entries = Vec::with_capacity(ids.len());
        for id in ids {
            for segment in self.segments.iter().filter(|segment| (segment.first_id..=segment.last_id).contains(id)) {
                let sql = format!("SELECT {COLUMNS} FROM segment_{} e WHERE id = ?1", segment.index);
                let mut read = self.connection.prepare_cached(&sql)?;
                let mut rows = read.query([id])?;
                if let Some(row) = rows.next()? {
                    entries.push(LogEntry::read(row, &self.containers)?);
                    break;
                }
            }
        }
        Ok(entries)
    }

    /// Counts matching entries by bucket and rank of the level. A bucket is keyed by its first minute since 1970, a
    /// multiple of `bucket_minutes`. Also returns whether the counts are partial, because the scan timed out.
    pub(super) fn histogram(&self, bucket_minutes: i64) -> Result<(BTreeMap<i64, [i64; 5]>, bool)> {
        let mut buckets: BTreeMap<i64, [i64; 5]> = BTreeMap::new();
        let mut add = |minute: i64, level: u8, entries: i64| {
            let bucket = minute.div_euclid(bucket_minutes) * bucket_minutes;
            if let Some(count) = buckets.entry(bucket).or_default().get_mut(usize::from(level)) {
                *count += entries;
            }
        };
        if !self.filter.search.is_empty() {
            let deadline = Instant::now() + SCAN_TIMEOUT;
            let complete =
                self.for_each_match(deadline, |id| add(entry_id::minute(id), entry_id::level_rank(id), 1))?;
            return Ok((buckets, !complete));
        }
        for segment in &self.segments {
            let mut read = self.connection.prepare_cached(&format!(
                "SELECT minute, level, sum(entries) FROM entry_counts
                 WHERE slot = ?1 AND minute >= ?2 AND minute < ?3 AND {} GROUP BY minute, level",
                self.counter_condition
            ))?;
            // The minutes at both ends count as a whole, because the resolution of a histogram is a minute.
            let end = entry_id::minute(self.filter.end_id.saturating_sub(1)).saturating_add(1);
            let mut rows = read.query((segment.index, entry_id::minute(self.filter.first_id), end))?;
            while let Some(row) = rows.next()? {
                add(row.get(0)?, row.get(1)?, row.get(2)?);
            }
        }
        Ok((buckets, false))
    }

    /// Reads the next page of matching entries, the oldest first, starting at an ID. Also returns the ID at which the next
    /// page starts; `None` at the end. Reads `count` entries, so there are fewer matches if some do not match the patterns.
    pub(super) fn page_from(&self, id: i64, count: usize) -> Result<(Vec<LogEntry>, Option<i64>)> {
        let mut by_id: BTreeMap<i64, LogEntry> = BTreeMap::new();
        for segment in self.segments.iter().filter(|segment| segment.last_id >= id) {
            let (ids, limit) = (id..self.filter.end_id, count as i64);
            let select =
                SelectStatement { segment, columns: COLUMNS, needs_row: true, suffix: "ORDER BY id", ids, limit };
            self.query_segment(&select, |row| {
                let entry = LogEntry::read(row, &self.containers)?;
                by_id.insert(entry.id, entry);
                Ok(None::<()>)
            })?;
        }
        let entries: Vec<LogEntry> = by_id.into_values().take(count).collect();
        let next = entries.last().filter(|_| entries.len() == count).map(|last| last.id + 1);
        Ok((entries.into_iter().filter(|entry| self.filter.search.matches(&entry.message)).collect(), next))
    }

    /// Reads the matching entries of a batch that have a higher sequence number than `seq`, in the order of ingestion.
    pub(super) fn entries_in_batch(&self, batch: &BatchRange, seq: i64) -> Result<Vec<LogEntry>> {
        let mut entries = Vec::new();
        let Some(segment) = self.segments.iter().find(|segment| segment.index == batch.segment) else {
            return Ok(entries);
        };
        let seqs = batch.first_seq.max(seq + 1)..=batch.last_seq;
        let ids = batch.first_id..batch.last_id + 1;
        let select = SelectStatement { segment, columns: COLUMNS, needs_row: true, suffix: "", ids, limit: -1 };
        self.query_segment(&select, |row| {
            if seqs.contains(&row.get(1)?) {
                entries.push(LogEntry::read(row, &self.containers)?);
            }
            Ok(None::<()>)
        })?;
        entries.sort_unstable_by_key(|entry| entry.ingest_seq);
        entries.retain(|entry| self.filter.search.matches(&entry.message));
        Ok(entries)
    }

    /// Reads the matching entries after a sequence number, in the order of ingestion. Also returns the sequence number up
    /// to which entries were read; `None` if all were read. Reads at most `count` entries, so there are fewer matches if
    /// some do not match the patterns.
    pub(super) fn entries_since(&self, seq: i64, count: usize) -> Result<(Vec<LogEntry>, Option<i64>)> {
        let mut entries: Vec<LogEntry> = Vec::new();
        let mut segments: Vec<&Segment> = self.segments.iter().filter(|segment| segment.last_seq > seq).collect();
        segments.sort_unstable_by_key(|segment| segment.last_seq);
        let suffix = &format!("AND e.arrival > {seq} ORDER BY e.arrival");
        for segment in segments {
            let limit = count.saturating_sub(entries.len()) as i64;
            let ids = i64::MIN..i64::MAX;
            let select = SelectStatement { segment, columns: COLUMNS, needs_row: true, suffix, ids, limit };
            self.query_segment(&select, |row| {
                entries.push(LogEntry::read(row, &self.containers)?);
                Ok(None::<()>)
            })?;
            if entries.len() >= count {
                break;
            }
        }
        let read_up_to = entries.last().filter(|_| entries.len() >= count).map(|last| last.ingest_seq);
        entries.retain(|entry| self.filter.search.matches(&entry.message));
        Ok((entries, read_up_to))
    }
}

#[cfg(test)]
mod tests {
    use super::super::SCHEMA;
    use super::super::config::RetentionLimits;
    use super::super::segments::SegmentRing;
    use super::*;
    use crate::records::log_record::{LogRecord, StdStream};

    /// Entries from before 2026 have negative IDs.
    #[test]
    fn entries_since_a_sequence_number_have_any_id() {
        let readers = crate::db::in_memory(SCHEMA, |transaction| {
            let limits = RetentionLimits { entries: 1_000, bytes: 0, age: Duration::ZERO };
            let records = [1_800_000_000_000_000_000, 1_500_000_000_000_000_000].map(|time_ns| LogRecord {
                time_ns,
                stream: StdStream::Stdout,
                level: Level::Info,
                message: time_ns.to_string(),
                search_text: None,
            });
            SegmentRing::open(transaction, limits)?.append(1, records.to_vec(), &mut [0; 2])?;
            Ok(())
        });
        let (reader, filter) = (readers.acquire().unwrap(), Filter::all());
        let (entries, read_up_to) = BoundFilter::new(&reader, &filter).unwrap().entries_since(0, 10).unwrap();
        assert_eq!(entries.iter().map(|entry| entry.ingest_seq).collect::<Vec<_>>(), [1, 2]);
        assert!(entries[0].id > 0 && entries[1].id < 0 && read_up_to.is_none(), "{entries:?}");
    }
}
