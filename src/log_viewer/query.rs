//! Searches of the stored entries: filters, pages and histograms.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::{Duration, Instant};

use rusqlite::{Connection, Row};

use super::entry_id;
use super::enumerations::{level_from_number, level_number};
use super::glob::glob_match;
use super::id_page::IdPage;
use super::search::Search;
use super::segments::{Segment, segments};
use crate::error::Result;
use crate::records::log_level::Level;

/// Maximum time for reading the texts of entries in one request, where no index helps.
const SCAN_TIMEOUT: Duration = Duration::from_millis(1_500);
/// Length of the texts between two checks of the timeout, in bytes. Each entry counts as at least [`ENTRY_BYTES_MIN`].
const BYTES_PER_TIME_CHECK: usize = 64 * 1024;
const ENTRY_BYTES_MIN: usize = 128;
const NS_PER_MINUTE: i64 = 60_000_000_000;

/// Conditions that an entry has to meet.
#[derive(Debug, Default)]
pub(super) struct Filter {
    /// A source's name, or a pattern with `*`.
    pub(super) source: Option<String>,
    /// Accepted levels; empty = all.
    pub(super) levels: Vec<Level>,
    /// Times of the entries, in nanoseconds since 1970.
    pub(super) times_ns: Range<i64>,
    /// Upper bound of the IDs, exclusive.
    pub(super) end_id: i64,
    pub(super) search: Search,
}

#[cfg(test)]
impl Filter {
    /// Returns a filter that accepts every entry.
    pub(super) fn all() -> Self {
        let times_ns = i64::MIN..i64::MAX;
        Self { source: None, levels: Vec::new(), times_ns, end_id: i64::MAX, search: Search::default() }
    }
}

/// IDs of the entries that match a filter.
#[derive(Debug)]
pub(super) struct MatchingIds {
    /// The newest after those that were skipped, at most as many as requested, the newest first.
    pub(super) ids: Vec<i64>,
    /// Number of all matching entries.
    pub(super) total: i64,
    /// Whether the scan timed out, so that matches are missing.
    pub(super) partial: bool,
}

/// A filter applied to one snapshot of the database: with the row IDs of the sources, and the segments that can contain matches.
pub(super) struct BoundFilter<'c> {
    connection: &'c Connection,
    /// SQL condition for the source and the level of an entry.
    entry_condition: String,
    /// The same for rows of the table `entry_counts`.
    counter_condition: String,
    pub(super) filter: &'c Filter,
    filters_source: bool,
    /// The newest first.
    pub(super) segments: Vec<Segment>,
}

/// One SELECT from a segment.
pub(super) struct SelectStatement<'s> {
    pub(super) segment: &'s Segment,
    pub(super) columns: &'s str,
    /// Whether other columns than `id` are read, so that matches of the full-text index are joined to their rows.
    pub(super) needs_row: bool,
    /// Additional conditions and the order.
    pub(super) suffix: &'s str,
    pub(super) ids: Range<i64>,
    pub(super) times_ns: Range<i64>,
    /// Maximum number of rows; -1 = unlimited. If the rows of an index are read in several ranges, each has this limit.
    pub(super) limit: i64,
}

impl<'c> BoundFilter<'c> {
    /// Prepares a query. The connection must be in a transaction.
    pub(super) fn new(connection: &'c Connection, filter: &'c Filter) -> Result<Self> {
        let source_ids = filter.source.as_deref().map(|pattern| matching_sources(connection, pattern)).transpose()?;
        let list = |numbers: Vec<String>| numbers.join(", ");
        let condition = |level: &str| {
            let mut condition = String::from("true");
            if let Some(ids) = &source_ids {
                let ids = list(ids.iter().map(ToString::to_string).collect());
                condition.push_str(&format!(" AND source_id IN ({ids})"));
            }
            if !filter.levels.is_empty() {
                let numbers = list(filter.levels.iter().map(|level| level_number(*level).to_string()).collect());
                condition.push_str(&format!(" AND {level} IN ({numbers})"));
            }
            condition
        };
        let (entry_condition, counter_condition) = (condition(entry_id::LEVEL_SQL), condition("level_id"));
        let filters_source = source_ids.is_some();
        let mut segments = segments(connection)?;
        segments.retain(|segment| segment.overlaps(&filter.times_ns) && segment.first_id < filter.end_id);
        segments.sort_unstable_by_key(|segment| std::cmp::Reverse(segment.last_id));
        Ok(Self { connection, entry_condition, counter_condition, filter, filters_source, segments })
    }

    /// Finds the newest `count` matching entries after the `skip` newest ones, and counts all of them.
    pub(super) fn newest(&self, skip: usize, count: usize) -> Result<MatchingIds> {
        if !self.filter.search.patterns.is_empty() {
            return self.scan(skip, count);
        }
        let (mut page, mut total) = (IdPage::new(skip, count), 0);
        for (index, segment) in self.segments.iter().enumerate() {
            let in_segment = self.count(segment)?;
            total += in_segment;
            // The IDs of two segments can overlap, so a segment is skipped only if it ends before the oldest ID found.
            if in_segment == 0 || page.is_complete(segment.last_id) {
                continue;
            }
            let bound = self.last_id_after(index);
            let select = SelectStatement {
                segment,
                columns: "id",
                needs_row: false,
                suffix: "ORDER BY id DESC",
                ids: 0..self.filter.end_id,
                times_ns: self.filter.times_ns.clone(),
                limit: i64::try_from(skip.saturating_add(count)).unwrap_or(i64::MAX),
            };
            self.query_segment(&select, |row| {
                page.push(row.get(0)?, bound);
                Ok(None::<()>)
            })?;
        }
        Ok(MatchingIds { ids: page.finish(), total, partial: false })
    }

    /// Returns the highest ID of the segments after the one with this index; 0 if there are none.
    fn last_id_after(&self, index: usize) -> i64 {
        self.segments.get(index + 1).map_or(0, |segment| segment.last_id)
    }

    /// Returns the SQL for the entries of a segment that match the full-text query, which is bound as `?6`. The alias `e`
    /// has all columns if `needs_row` is set, and otherwise only `id`. Conditions on `id` then apply to the index, which is
    /// ordered by it.
    fn table_expression(&self, segment: &Segment, needs_row: bool) -> String {
        let index = segment.index;
        if self.filter.search.fts_query.is_none() {
            return format!("segment_{index} e");
        }
        let found = format!("(SELECT rowid AS id FROM search_{index} WHERE search_{index} MATCH ?6)");
        if needs_row { format!("{found} s JOIN segment_{index} e USING (id)") } else { format!("{found} e") }
    }

    /// Splits a SELECT into ranges of IDs, the highest first. Also returns whether entries of a range can be outside of the
    /// period, so that their times have to be read.
    fn id_ranges(&self, select: &SelectStatement<'_>) -> Vec<(Range<i64>, bool)> {
        let SelectStatement { segment, needs_row, ids, times_ns, .. } = select;
        if segment.is_within(times_ns) {
            return vec![(ids.clone(), false)];
        }
        let covering = segment.ids_covering(times_ns);
        let ids = ids.start.max(covering.start)..ids.end.min(covering.end);
        let within = segment.ids_within(times_ns);
        let within = within.start.clamp(ids.start, ids.end.max(ids.start))..within.end.min(ids.end);
        // If rows are read anyway, the condition costs nothing.
        if *needs_row || self.filters_source || self.filter.search.fts_query.is_none() || within.is_empty() {
            return vec![(ids, true)];
        }
        let ranges = [(within.end..ids.end, true), (within.clone(), false), (ids.start..within.start, true)];
        ranges.into_iter().filter(|(ids, _)| !ids.is_empty()).collect()
    }

    /// Passes the rows of a segment to `visit` until it returns a value, and returns that value.
    pub(super) fn query_segment<T>(
        &self,
        select: &SelectStatement<'_>,
        mut visit: impl FnMut(&Row<'_>) -> Result<Option<T>>,
    ) -> Result<Option<T>> {
        let SelectStatement { segment, columns, needs_row, suffix, times_ns, limit, .. } = select;
        for (ids, checks_time) in self.id_ranges(select) {
            let needs_row = *needs_row || self.filters_source || checks_time;
            let time_condition = if checks_time { "e.at_ns >= ?4 AND e.at_ns < ?5" } else { "?4 < ?5" };
            let mut read = self.connection.prepare_cached(&format!(
                "SELECT {columns} FROM {} WHERE id >= ?1 AND id < ?2 AND {time_condition} AND {} {suffix} LIMIT ?3",
                self.table_expression(segment, needs_row),
                self.entry_condition
            ))?;
            let mut rows = match &self.filter.search.fts_query {
                Some(query) => read.query((ids.start, ids.end, limit, times_ns.start, times_ns.end, query))?,
                None => read.query((ids.start, ids.end, limit, times_ns.start, times_ns.end))?,
            };
            while let Some(row) = rows.next()? {
                if let Some(value) = visit(row)? {
                    return Ok(Some(value));
                }
            }
        }
        Ok(None)
    }

    /// Counts the matching entries of a segment, without the patterns.
    fn count(&self, segment: &Segment) -> Result<i64> {
        let Filter { times_ns, end_id, .. } = self.filter;
        if self.filter.search.fts_query.is_some() {
            if self.count_by_minute(segment.index, i64::MIN..i64::MAX)? == 0 {
                return Ok(0);
            }
            return self.count_rows(segment, 0..*end_id, times_ns.clone());
        }
        // The table `entry_counts` has the counts of whole minutes. Only partial minutes at both ends are counted by row, and
        // entries with higher IDs than the filter accepts, which are few.
        let start_ns = if segment.oldest_ns >= times_ns.start { i64::MIN } else { times_ns.start };
        let end_ns = if segment.newest_ns < times_ns.end { i64::MAX } else { times_ns.end };
        let first_minute = start_ns.div_euclid(NS_PER_MINUTE) + i64::from(start_ns.rem_euclid(NS_PER_MINUTE) > 0);
        let end_minute = end_ns.div_euclid(NS_PER_MINUTE);
        let in_period = if first_minute >= end_minute {
            self.count_rows(segment, 0..i64::MAX, times_ns.clone())?
        } else {
            let (first_ns, last_ns) =
                (first_minute.saturating_mul(NS_PER_MINUTE), end_minute.saturating_mul(NS_PER_MINUTE));
            let whole_minutes = self.count_by_minute(segment.index, first_minute..end_minute)?;
            let before = self.count_rows(segment, 0..i64::MAX, start_ns..first_ns)?;
            whole_minutes + before + self.count_rows(segment, 0..i64::MAX, last_ns..end_ns)?
        };
        Ok(in_period - self.count_rows(segment, *end_id..i64::MAX, times_ns.clone())?)
    }

    fn count_by_minute(&self, segment: u8, minutes: Range<i64>) -> Result<i64> {
        let mut count = self.connection.prepare_cached(&format!(
            "SELECT coalesce(sum(entries), 0) FROM entry_counts
             WHERE segment_id = ?1 AND at_min >= ?2 AND at_min < ?3 AND {}",
            self.counter_condition
        ))?;
        Ok(count.query_row((segment, minutes.start, minutes.end), |row| row.get(0))?)
    }

    fn count_rows(&self, segment: &Segment, ids: Range<i64>, times_ns: Range<i64>) -> Result<i64> {
        if ids.start > segment.last_id || !segment.overlaps(&times_ns) || times_ns.is_empty() {
            return Ok(0);
        }
        let (columns, suffix) = ("count(*)", "");
        let select = SelectStatement { segment, columns, needs_row: false, suffix, ids, times_ns, limit: -1 };
        let mut count = 0;
        self.query_segment(&select, |row| {
            count += row.get::<_, i64>(0)?;
            Ok(None::<()>)
        })?;
        Ok(count)
    }

    /// Finds a page of matches where texts have to be matched against patterns: reads them, the newest first, until
    /// [`SCAN_TIMEOUT`].
    fn scan(&self, skip: usize, count: usize) -> Result<MatchingIds> {
        let (mut page, mut total) = (IdPage::new(skip, count), 0);
        let deadline = Instant::now() + SCAN_TIMEOUT;
        let complete = self.for_each_match(deadline, |index, id, _| {
            total += 1;
            page.push(id, self.last_id_after(index));
            Ok(())
        })?;
        Ok(MatchingIds { ids: page.finish(), total, partial: !complete })
    }

    /// Passes the index of the segment, the ID and the time of every matching entry to `visit`, segment by segment. The time
    /// is `None` if only the index was read. Returns whether all entries were read before the deadline.
    fn for_each_match(
        &self,
        deadline: Instant,
        mut visit: impl FnMut(usize, i64, Option<i64>) -> Result<()>,
    ) -> Result<bool> {
        // Without patterns, the texts are not needed.
        let needs_row = !self.filter.search.patterns.is_empty();
        let columns = if needs_row { "id, e.at_ns, e.message" } else { "id, NULL, ''" };
        let mut unchecked_bytes = 0;
        for (index, segment) in self.segments.iter().enumerate() {
            let (ids, times_ns, suffix) = (0..self.filter.end_id, self.filter.times_ns.clone(), "ORDER BY id DESC");
            let select = SelectStatement { segment, columns, needs_row, suffix, ids, times_ns, limit: -1 };
            let timed_out = self.query_segment(&select, |row| {
                let message = row.get_ref(2)?.as_str().unwrap_or_default();
                unchecked_bytes += message.len().max(ENTRY_BYTES_MIN);
                if unchecked_bytes >= BYTES_PER_TIME_CHECK {
                    unchecked_bytes = 0;
                    if Instant::now() > deadline {
                        return Ok(Some(()));
                    }
                }
                match self.filter.search.matches(message, deadline) {
                    None => return Ok(Some(())),
                    Some(true) => visit(index, row.get(0)?, row.get(1)?)?,
                    Some(false) => {}
                }
                Ok(None)
            })?;
            if timed_out.is_some() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Counts matching entries by bucket and rank of the level. A bucket is keyed by its first minute since 1970, a
    /// multiple of `bucket_minutes`. Also returns whether the counts are partial, because the scan timed out.
    pub(super) fn histogram(&self, bucket_minutes: i64) -> Result<(BTreeMap<i64, [i64; 5]>, bool)> {
        let mut buckets: BTreeMap<i64, [i64; 5]> = BTreeMap::new();
        let mut add = |minute: i64, level: Option<Level>, entries: i64| {
            let bucket = minute.div_euclid(bucket_minutes) * bucket_minutes;
            if let Some(level) = level {
                buckets.entry(bucket).or_default()[usize::from(level.rank())] += entries;
            }
        };
        if !self.filter.search.is_empty() {
            let deadline = Instant::now() + SCAN_TIMEOUT;
            let complete = self.for_each_match(deadline, |index, id, time_ns| {
                let minute = match time_ns {
                    Some(time_ns) => time_ns.div_euclid(NS_PER_MINUTE),
                    None => self.minute_of(&self.segments[index], id)?,
                };
                add(minute, entry_id::level(id), 1);
                Ok(())
            })?;
            return Ok((buckets, !complete));
        }
        // The minutes at both ends count as a whole, because the resolution of a histogram is a minute.
        let Range { start, end } = self.filter.times_ns;
        let minutes = start.div_euclid(NS_PER_MINUTE)..end.saturating_sub(1).div_euclid(NS_PER_MINUTE) + 1;
        for segment in &self.segments {
            let mut read = self.connection.prepare_cached(&format!(
                "SELECT at_min, level_id, sum(entries) FROM entry_counts
                 WHERE segment_id = ?1 AND at_min >= ?2 AND at_min < ?3 AND {} GROUP BY at_min, level_id",
                self.counter_condition
            ))?;
            let mut rows = read.query((segment.index, minutes.start, minutes.end))?;
            while let Some(row) = rows.next()? {
                add(row.get(0)?, level_from_number(row.get(1)?), row.get(2)?);
            }
        }
        Ok((buckets, false))
    }

    /// Returns the minute of an entry, counted since 1970. Reads the entry only if its ID can be of another minute.
    fn minute_of(&self, segment: &Segment, id: i64) -> Result<i64> {
        if let Some(minute) = entry_id::exact_minute(id, segment.id_lead_ms, segment.id_lag_ms) {
            return Ok(minute);
        }
        let sql = format!("SELECT at_ns FROM segment_{} WHERE id = ?1", segment.index);
        let time_ns: i64 = self.connection.prepare_cached(&sql)?.query_row([id], |row| row.get(0))?;
        Ok(time_ns.div_euclid(NS_PER_MINUTE))
    }
}

/// Returns the row IDs of the sources whose names match a pattern.
fn matching_sources(connection: &Connection, pattern: &str) -> Result<Vec<i64>> {
    let mut read = connection.prepare_cached("SELECT id, name FROM sources")?;
    let mut rows = read.query([])?;
    let mut ids = Vec::new();
    while let Some(row) = rows.next()? {
        if glob_match(row.get_ref(1)?.as_str().unwrap_or_default(), pattern) {
            ids.push(row.get(0)?);
        }
    }
    Ok(ids)
}

#[cfg(test)]
#[path = "query_tests.rs"]
mod tests;
