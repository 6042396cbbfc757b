//! Every question asked of the log viewer's database.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use rusqlite::{Connection, Row};
use serde::Serialize;

use super::discovery::fits;
use super::ring::{LEVEL_OF_ID, Landed, Segment, id_of_minute, level_of_id, minute_of_id, segments};
use super::search::Search;
use super::text::Stream;
use super::text::level::Level;
use crate::error::{Error, Result};

/// How long texts may be looked through for one answer, where no index helps.
const LOOK_THROUGH_WITHIN: Duration = Duration::from_millis(1_500);
/// Texts between two looks at the clock.
const TEXTS_PER_LOOK: usize = 512;

/// One of the numbers in `totals`.
pub(super) fn total(connection: &Connection, name: &str) -> Result<i64> {
    let mut read = connection.prepare_cached("SELECT value FROM totals WHERE name = ?1")?;
    Ok(read.query_row([name], |row| row.get(0))?)
}

/// A log as the table has it.
#[derive(Debug, Clone)]
pub(super) struct Container {
    pub(super) key: String,
    pub(super) name: String,
    pub(super) image: String,
    pub(super) project: String,
    pub(super) service: String,
}

/// All logs that have entries or exist, by number.
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

/// Which entries are wanted.
#[derive(Debug, Default)]
pub(super) struct Filter {
    /// A name, or a pattern with `*`.
    pub(super) container: Option<String>,
    /// The levels wanted; empty is all of them.
    pub(super) levels: Vec<Level>,
    /// From this id on.
    pub(super) first_id: i64,
    /// Before this id.
    pub(super) end_id: i64,
    pub(super) search: Search,
}

impl Filter {
    /// Everything fits.
    pub(super) fn all() -> Self {
        Self { container: None, levels: Vec::new(), first_id: i64::MIN, end_id: i64::MAX, search: Search::default() }
    }
}

/// One entry as it is answered.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Shown {
    pub(super) id: i64,
    timestamp: String,
    pub(super) container: String,
    pub(super) stream: &'static str,
    pub(super) level: &'static str,
    pub(super) message: String,
    /// Its number among all entries as they came.
    #[serde(skip)]
    pub(super) arrival: i64,
    /// In nanoseconds since 1970.
    #[serde(skip)]
    pub(super) at_ns: i64,
}

/// What a filter comes to for one database: numbers instead of names, and the segments that may have any of it.
pub(super) struct Query<'c> {
    connection: &'c Connection,
    pub(super) names: BTreeMap<i64, Container>,
    /// SQL that holds for the entries wanted, but for the search, and for their counters.
    condition: String,
    counted_condition: String,
    filter: &'c Filter,
    /// The containers wanted; `None` is all of them.
    wanted: Option<Vec<i64>>,
    /// The newest first.
    segments: Vec<Segment>,
}

/// The ids of entries that fit, the newest first, and how many there are.
#[derive(Debug, Default)]
pub(super) struct Fitting {
    pub(super) ids: Vec<i64>,
    pub(super) total: i64,
    /// Whether there was no time to look everything through.
    pub(super) partial: bool,
}

impl<'c> Query<'c> {
    /// Reads what the filter needs. The connection must be in a transaction.
    pub(super) fn new(connection: &'c Connection, filter: &'c Filter) -> Result<Self> {
        let names = containers(connection)?;
        let wanted: Option<Vec<i64>> = filter.container.as_deref().map(|pattern| {
            names.iter().filter(|(_, container)| fits(&container.name, pattern)).map(|(id, _)| *id).collect()
        });
        let list = |numbers: Vec<String>| numbers.join(", ");
        let condition = |level: &str| {
            let mut condition = String::from("true");
            if let Some(wanted) = &wanted {
                let numbers = list(wanted.iter().map(ToString::to_string).collect());
                condition.push_str(&format!(" AND container_id IN ({numbers})"));
            }
            if !filter.levels.is_empty() {
                let ranks = list(filter.levels.iter().map(|level| level.rank().to_string()).collect());
                condition.push_str(&format!(" AND {level} IN ({ranks})"));
            }
            condition
        };
        let (condition, counted_condition) = (condition(LEVEL_OF_ID), condition("level"));
        let mut segments = segments(connection)?;
        segments.retain(|segment| {
            segment.entries > 0 && segment.last_id >= filter.first_id && segment.first_id < filter.end_id
        });
        segments.sort_unstable_by_key(|segment| std::cmp::Reverse(segment.last_id));
        Ok(Self { connection, names, condition, counted_condition, filter, wanted, segments })
    }

    /// The newest `count` entries that fit, by id, and how many there are in all.
    pub(super) fn newest(&self, count: usize) -> Result<Fitting> {
        if !self.filter.search.tests.is_empty() {
            return self.look_through(count);
        }
        let mut fitting = Fitting::default();
        for segment in &self.segments {
            let fits = self.count(segment)?;
            fitting.total += fits;
            // Ids of different segments may mix, but what is older than the last one wanted is not.
            let last_wanted = if fitting.ids.len() >= count { fitting.ids.last().copied() } else { None };
            if fits == 0 || last_wanted.is_some_and(|last| segment.last_id < last) {
                continue;
            }
            let range = (self.filter.first_id, self.filter.end_id, count as i64);
            self.ask((segment, false), ("id", "ORDER BY id DESC"), range, |row| {
                fitting.ids.push(row.get(0)?);
                Ok(None::<()>)
            })?;
            fitting.ids.sort_unstable_by_key(|id| std::cmp::Reverse(*id));
            fitting.ids.truncate(count);
        }
        Ok(fitting)
    }

    /// A segment's entries as `e`, those that have the words looked for, which are bound as ?4. Without `whole` it may
    /// be no more than their ids. What is asked of `id` is asked of the index where there are words: it leaves out what
    /// is before or behind, and has an order.
    fn from(&self, segment: &Segment, whole: bool) -> String {
        let slot = segment.slot;
        if self.filter.search.words.is_none() {
            return format!("segment_{slot} e");
        }
        let found = format!("(SELECT rowid AS id FROM search_{slot} WHERE search_{slot} MATCH ?4)");
        if whole || self.wanted.is_some() {
            format!("{found} s JOIN segment_{slot} e USING (id)")
        } else {
            format!("{found} e")
        }
    }

    /// Asks for entries of a segment from one id to before another.
    fn ask<T>(
        &self,
        (segment, whole): (&Segment, bool),
        (columns, order): (&str, &str),
        (first, end, count): (i64, i64, i64),
        mut row: impl FnMut(&Row<'_>) -> Result<Option<T>>,
    ) -> Result<Option<T>> {
        let mut read = self.connection.prepare_cached(&format!(
            "SELECT {columns} FROM {} WHERE id >= ?1 AND id < ?2 AND {} {order} LIMIT ?3",
            self.from(segment, whole),
            self.condition
        ))?;
        let mut rows = match &self.filter.search.words {
            Some(words) => read.query((first, end, count, words))?,
            None => read.query((first, end, count))?,
        };
        while let Some(next) = rows.next()? {
            if let Some(done) = row(next)? {
                return Ok(Some(done));
            }
        }
        Ok(None)
    }

    /// How many entries of a segment fit, without tests on their texts.
    fn count(&self, segment: &Segment) -> Result<i64> {
        let (first, end) = (self.filter.first_id.max(segment.first_id), self.filter.end_id.min(segment.last_id + 1));
        if self.filter.search.words.is_some() {
            if self.counted(segment.slot, 0, i64::MAX)? == 0 {
                return Ok(0);
            }
            let count = self.ask((segment, false), ("count(*)", ""), (first, end, -1), |row| Ok(Some(row.get(0)?)))?;
            return Ok(count.unwrap_or(0));
        }
        // Whole minutes are counted already; what is left is at either end.
        let first_whole =
            minute_of_id(first) + i64::from(first > segment.first_id && id_of_minute(minute_of_id(first)) != first);
        let end_whole = minute_of_id(end) + i64::from(end > segment.last_id);
        if first_whole >= end_whole {
            return self.counted_singly(segment.slot, first, end);
        }
        let whole = self.counted(segment.slot, first_whole, end_whole)?;
        let before = self.counted_singly(segment.slot, first, id_of_minute(first_whole))?;
        let after = self.counted_singly(segment.slot, id_of_minute(end_whole).max(first), end)?;
        Ok(whole + before + after)
    }

    fn counted(&self, slot: u8, first_minute: i64, end_minute: i64) -> Result<i64> {
        let mut count = self.connection.prepare_cached(&format!(
            "SELECT coalesce(sum(entries), 0) FROM counters WHERE slot = ?1 AND minute >= ?2 AND minute < ?3 AND {}",
            self.counted_condition
        ))?;
        Ok(count.query_row((slot, first_minute, end_minute), |row| row.get(0))?)
    }

    fn counted_singly(&self, slot: u8, first: i64, end: i64) -> Result<i64> {
        if first >= end {
            return Ok(0);
        }
        let mut count = self.connection.prepare_cached(&format!(
            "SELECT count(*) FROM segment_{slot} WHERE id >= ?1 AND id < ?2 AND {}",
            self.condition
        ))?;
        Ok(count.query_row((first, end), |row| row.get(0))?)
    }

    /// The same where texts have to pass tests: they are read, the newest first, as long as there is time.
    fn look_through(&self, count: usize) -> Result<Fitting> {
        let mut fitting = Fitting::default();
        let deadline = Instant::now() + LOOK_THROUGH_WITHIN;
        fitting.partial = !self.each_text(deadline, |id| {
            fitting.total += 1;
            fitting.ids.push(id);
        })?;
        fitting.ids.sort_unstable_by_key(|id| std::cmp::Reverse(*id));
        fitting.ids.truncate(count);
        Ok(fitting)
    }

    /// Hands over the id of every entry that fits, segment by segment. Answers whether there was time for all.
    fn each_text(&self, deadline: Instant, mut fits: impl FnMut(i64)) -> Result<bool> {
        // Without a test no text need be read.
        let whole = !self.filter.search.tests.is_empty();
        let columns = if whole { "id, message" } else { "id, ''" };
        let mut looked_at = 0usize;
        for segment in &self.segments {
            let range = (self.filter.first_id, self.filter.end_id, -1);
            let no_time = self.ask((segment, whole), (columns, "ORDER BY id DESC"), range, |row| {
                looked_at += 1;
                if looked_at.is_multiple_of(TEXTS_PER_LOOK) && Instant::now() > deadline {
                    return Ok(Some(()));
                }
                if self.filter.search.passes(row.get_ref(1)?.as_str().unwrap_or_default()) {
                    fits(row.get(0)?);
                }
                Ok(None)
            })?;
            if no_time.is_some() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Entries by id, in the order of the ids.
    pub(super) fn entries(&self, ids: &[i64]) -> Result<Vec<Shown>> {
        let mut shown = Vec::with_capacity(ids.len());
        for id in ids {
            for segment in self.segments.iter().filter(|segment| (segment.first_id..=segment.last_id).contains(id)) {
                let mut read = self
                    .connection
                    .prepare_cached(&format!("SELECT {SHOWN_COLUMNS} FROM segment_{} e WHERE id = ?1", segment.slot))?;
                let mut rows = read.query([id])?;
                if let Some(row) = rows.next()? {
                    shown.push(show(row, &self.names)?);
                    break;
                }
            }
        }
        Ok(shown)
    }

    /// How many entries fit by bucket and level; a bucket is so many minutes and begins at a multiple of them.
    pub(super) fn histogram(&self, bucket_minutes: i64) -> Result<(BTreeMap<i64, [i64; 5]>, bool)> {
        let mut buckets: BTreeMap<i64, [i64; 5]> = BTreeMap::new();
        let mut add = |minute: i64, level: u8, entries: i64| {
            let bucket = minute.div_euclid(bucket_minutes) * bucket_minutes;
            if let Some(count) = buckets.entry(bucket).or_default().get_mut(usize::from(level)) {
                *count += entries;
            }
        };
        if !self.filter.search.is_empty() {
            let deadline = Instant::now() + LOOK_THROUGH_WITHIN;
            let complete = self.each_text(deadline, |id| add(minute_of_id(id), level_of_id(id), 1))?;
            return Ok((buckets, !complete));
        }
        for segment in &self.segments {
            let mut read = self.connection.prepare_cached(&format!(
                "SELECT minute, level, sum(entries) FROM counters
                 WHERE slot = ?1 AND minute >= ?2 AND minute < ?3 AND {} GROUP BY minute, level",
                self.counted_condition
            ))?;
            // Minutes that are wanted in part are counted whole: a chart has no finer grain.
            let end = minute_of_id(self.filter.end_id.saturating_sub(1)).saturating_add(1);
            let mut rows = read.query((segment.slot, minute_of_id(self.filter.first_id), end))?;
            while let Some(row) = rows.next()? {
                add(row.get(0)?, row.get(1)?, row.get(2)?);
            }
        }
        Ok((buckets, false))
    }

    /// The next `count` entries that fit from an id on, the oldest first, and where to go on; `None` at the end. Texts
    /// that fail a test are passed over, so there may be fewer although there are more to come.
    pub(super) fn oldest_from(&self, id: i64, count: usize) -> Result<(Vec<Shown>, Option<i64>)> {
        let mut rows_by_id: BTreeMap<i64, Shown> = BTreeMap::new();
        for segment in self.segments.iter().filter(|segment| segment.last_id >= id) {
            let range = (id, self.filter.end_id, count as i64);
            self.ask((segment, true), (SHOWN_COLUMNS, "ORDER BY id"), range, |row| {
                let entry = show(row, &self.names)?;
                rows_by_id.insert(entry.id, entry);
                Ok(None::<()>)
            })?;
        }
        let entries: Vec<Shown> = rows_by_id.into_values().take(count).collect();
        let next = entries.last().filter(|_| entries.len() == count).map(|last| last.id + 1);
        Ok((entries.into_iter().filter(|entry| self.filter.search.passes(&entry.message)).collect(), next))
    }
}

impl Query<'_> {
    /// Entries that fit of a batch, without those that had come by an arrival, in the order they came.
    pub(super) fn landed(&self, batch: &Landed, after: i64) -> Result<Vec<Shown>> {
        let mut entries = Vec::new();
        let Some(segment) = self.segments.iter().find(|segment| segment.slot == batch.slot) else { return Ok(entries) };
        let arrivals = batch.first_arrival.max(after + 1)..=batch.last_arrival;
        let range = (batch.first_id, batch.last_id + 1, -1);
        self.ask((segment, true), (SHOWN_COLUMNS, ""), range, |row| {
            if arrivals.contains(&row.get(1)?) {
                entries.push(show(row, &self.names)?);
            }
            Ok(None::<()>)
        })?;
        entries.sort_unstable_by_key(|entry| entry.arrival);
        entries.retain(|entry| self.filter.search.passes(&entry.message));
        Ok(entries)
    }

    /// Entries that fit and came after an arrival, in the order they came, and the arrival up to which that is; `None`
    /// when these are all. At most `count` are read, so fewer are left where texts fail a test.
    pub(super) fn arrived_after(&self, arrival: i64, count: usize) -> Result<(Vec<Shown>, Option<i64>)> {
        let mut entries: Vec<Shown> = Vec::new();
        let mut segments: Vec<&Segment> = self.segments.iter().filter(|one| one.last_arrival > arrival).collect();
        segments.sort_unstable_by_key(|segment| segment.last_arrival);
        for segment in segments {
            let order = format!("AND e.arrival > {arrival} ORDER BY e.arrival");
            let left = count.saturating_sub(entries.len());
            self.ask((segment, true), (SHOWN_COLUMNS, &order), (0, i64::MAX, left as i64), |row| {
                entries.push(show(row, &self.names)?);
                Ok(None::<()>)
            })?;
            if entries.len() >= count {
                break;
            }
        }
        let further = entries.last().filter(|_| entries.len() >= count).map(|last| last.arrival);
        entries.retain(|entry| self.filter.search.passes(&entry.message));
        Ok((entries, further))
    }
}

impl Shown {
    /// As a line of text. Further lines of an entry stay lines of their own.
    pub(super) fn to_line(&self) -> String {
        let Self { timestamp, container, stream, level, message, .. } = self;
        format!("{timestamp} {container} {stream} {level} {message}\n")
    }
}

/// Numbers for `/health`, without looking at any entry.
pub(super) struct Facts {
    pub(super) entries: i64,
    pub(super) containers: i64,
    pub(super) gaps: i64,
    pub(super) stored_at_ms: i64,
}

/// Reads them.
pub(super) fn facts(connection: &Connection) -> Result<Facts> {
    let count = |sql: &str| connection.prepare_cached(sql)?.query_row([], |row| row.get(0));
    Ok(Facts {
        entries: count("SELECT sum(entries) FROM segments")?,
        containers: count("SELECT count(*) FROM containers")?,
        gaps: total(connection, "gaps")?,
        stored_at_ms: total(connection, "stored_at")?,
    })
}

/// When an entry was written.
pub(super) fn moment_of(connection: &Connection, id: i64) -> Result<Option<String>> {
    for segment in
        segments(connection)?.into_iter().filter(|segment| (segment.first_id..=segment.last_id).contains(&id))
    {
        let mut read = connection.prepare_cached(&format!("SELECT at FROM segment_{} WHERE id = ?1", segment.slot))?;
        let mut rows = read.query([id])?;
        if let Some(row) = rows.next()? {
            return Ok(Some(timestamp(row.get(0)?)));
        }
    }
    Ok(None)
}

const SHOWN_COLUMNS: &str = "id, e.arrival, e.at, e.container_id, e.stream, e.message";

fn show(row: &Row<'_>, names: &BTreeMap<i64, Container>) -> Result<Shown> {
    let container: i64 = row.get(3)?;
    let (id, at_ns) = (row.get(0)?, row.get(2)?);
    Ok(Shown {
        id,
        arrival: row.get(1)?,
        timestamp: timestamp(at_ns),
        at_ns,
        container: names.get(&container).map(|container| container.name.clone()).unwrap_or_default(),
        stream: if row.get::<_, i64>(4)? == 0 { Stream::Stdout.name() } else { Stream::Stderr.name() },
        level: Level::ranked(level_of_id(id)).unwrap_or(Level::Info).name(),
        message: row.get(5)?,
    })
}

/// RFC 3339 with the nanoseconds that Docker writes.
fn timestamp(at_ns: i64) -> String {
    let (seconds, ns) = (at_ns.div_euclid(1_000_000_000), at_ns.rem_euclid(1_000_000_000));
    let whole = crate::clock::Timestamp::from_ms(seconds.saturating_mul(1_000)).to_string();
    format!("{}.{ns:09}Z", whole.trim_end_matches('Z'))
}

/// The arrival of an entry.
pub(super) fn arrival_of(connection: &Connection, id: i64) -> Result<Option<i64>> {
    for segment in
        segments(connection)?.into_iter().filter(|segment| (segment.first_id..=segment.last_id).contains(&id))
    {
        let mut read =
            connection.prepare_cached(&format!("SELECT arrival FROM segment_{} WHERE id = ?1", segment.slot))?;
        let mut rows = read.query([id])?;
        if let Some(row) = rows.next()? {
            return Ok(Some(row.get(0)?));
        }
    }
    Ok(None)
}

/// The neighbours of an entry in the same log, in the order of time, and the entry itself.
pub(super) fn context(connection: &Connection, id: i64, before: usize, after: usize) -> Result<Vec<Shown>> {
    let segments: Vec<Segment> = segments(connection)?.into_iter().filter(|segment| segment.entries > 0).collect();
    let mut container: Option<i64> = None;
    for segment in segments.iter().filter(|segment| (segment.first_id..=segment.last_id).contains(&id)) {
        let sql = format!("SELECT container_id FROM segment_{} WHERE id = ?1", segment.slot);
        let mut read = connection.prepare_cached(&sql)?;
        let mut rows = read.query([id])?;
        container = rows.next()?.map(|row| row.get(0)).transpose()?.or(container);
    }
    let container = container.ok_or_else(|| Error::NotFound(format!("There is no entry {id}; it may be too old")))?;
    let names = containers(connection)?;
    let side = |comparison: &str, order: &str, count: usize| -> Result<Vec<Shown>> {
        let mut entries = Vec::new();
        for segment in &segments {
            let mut read = connection.prepare_cached(&format!(
                "SELECT {SHOWN_COLUMNS} FROM segment_{} e WHERE id {comparison} ?1 AND container_id = ?2
                 ORDER BY id {order} LIMIT ?3",
                segment.slot
            ))?;
            let mut rows = read.query((id, container, count as i64))?;
            while let Some(row) = rows.next()? {
                entries.push(show(row, &names)?);
            }
        }
        entries.sort_unstable_by_key(|entry| entry.id);
        if order == "DESC" {
            entries.drain(..entries.len().saturating_sub(count));
        }
        entries.truncate(count);
        Ok(entries)
    };
    let mut entries = side("<", "DESC", before)?;
    entries.extend(side(">=", "ASC", after + 1)?);
    Ok(entries)
}

/// What is stored, by log and level.
#[derive(Debug, Default)]
pub(super) struct Stats {
    pub(super) by_container: HashMap<i64, [i64; 5]>,
    pub(super) oldest_id: Option<i64>,
    pub(super) newest_id: Option<i64>,
}

/// Counts what is stored.
pub(super) fn stats(connection: &Connection) -> Result<Stats> {
    let mut stats = Stats::default();
    let mut read = connection
        .prepare_cached("SELECT container_id, level, sum(entries) FROM counters GROUP BY container_id, level")?;
    let mut rows = read.query([])?;
    while let Some(row) = rows.next()? {
        let level: u8 = row.get(1)?;
        if let Some(count) = stats.by_container.entry(row.get(0)?).or_default().get_mut(usize::from(level)) {
            *count += row.get::<_, i64>(2)?;
        }
    }
    let used: Vec<Segment> = segments(connection)?.into_iter().filter(|segment| segment.entries > 0).collect();
    stats.oldest_id = used.iter().map(|segment| segment.first_id).min();
    stats.newest_id = used.iter().map(|segment| segment.last_id).max();
    Ok(stats)
}
