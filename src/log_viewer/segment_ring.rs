//! Ring of 11 segments that store the entries.
//!
//! Entries go into the newest segment until it is full. Then the oldest segment is cleared and becomes the newest. A
//! segment is only ever cleared as a whole, which is much cheaper for its full-text index than deleting rows.

use std::collections::hash_map::Entry as Slot;
use std::collections::{BTreeMap, HashMap, HashSet};

use rusqlite::{CachedStatement, Connection};

use super::config::RetentionLimits;
use super::enumerations::{level_number, stream_number};
use super::parse::ansi;
use super::plausible_time::plausible_ns;
use super::segments::{BatchRange, SEGMENTS, Segment, segments};
use super::{counter_names, entry_id};
use crate::db::{counter, set_counter};
use crate::error::{Error, Result};
use crate::records::log_level::Level;
use crate::records::log_record::{LogRecord, StdStream};

/// Maximum time by which an entry is moved to keep the order of its stream, although its timestamp is older than that of the
/// entry before, in nanoseconds. A larger difference means that the clock was set back.
const OUT_OF_ORDER_NS_MAX: i64 = 1_000_000_000;
const NS_PER_MINUTE: i64 = 60_000_000_000;

const ADD_TO_MINUTE: &str =
    "INSERT INTO entry_counts (segment_id, at_min, source_id, level_id, entries) VALUES (?1, ?2, ?3, ?4, ?5)
     ON CONFLICT DO UPDATE SET entries = entries + excluded.entries";

/// Position of a stream's newest entry in the order of IDs, which keeps the order of the stream.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct StreamPosition {
    /// ID of the newest entry; 0 if there is none.
    pub(super) last_id: i64,
    /// Latest time of an entry since the clock was set back, in nanoseconds since 1970.
    pub(super) newest_ns: i64,
}

impl StreamPosition {
    /// Returns the first tick that the next entry of the stream can have, given its time. With `keeps_order`, it follows the
    /// last entry however far its time steps back.
    fn first_tick(self, time_ns: i64, keeps_order: bool) -> i64 {
        let (tick, last_tick) = (entry_id::tick_at(time_ns), entry_id::tick(self.last_id));
        let follows = self.continues_at(time_ns) || keeps_order && self.last_id > 0;
        if follows && last_tick < entry_id::LAST_TICK { tick.max(last_tick + 1) } else { tick }
    }

    fn continues_at(self, time_ns: i64) -> bool {
        self.last_id > 0 && time_ns > self.newest_ns.saturating_sub(OUT_OF_ORDER_NS_MAX)
    }

    fn advance(&mut self, id: i64, time_ns: i64) {
        let newest_ns = if self.continues_at(time_ns) { self.newest_ns.max(time_ns) } else { time_ns };
        *self = Self { last_id: id, newest_ns };
    }
}

/// The ring within one transaction. Keeps the properties of the segments in memory; [`SegmentRing::save`] writes them.
pub(super) struct SegmentRing<'t> {
    transaction: &'t Connection,
    limits: RetentionLimits,
    segments: Vec<Segment>,
    /// Ingest sequence number of the entry stored last.
    last_seq: i64,
    /// Ticks of entries that have an ID, but are not inserted yet.
    pending_ticks: HashSet<i64>,
    highest_tick: i64,
    /// Latest plausible time of an entry. The IDs of later ones are of the time of arrival.
    latest_ns: i64,
    /// Whether the entries of a stream keep their order where their times step back.
    keeps_order: bool,
    /// Statements that find out whether a segment contains an ID of a tick.
    tick_lookups: HashMap<u8, CachedStatement<'t>>,
}

impl<'t> SegmentRing<'t> {
    /// Opens the ring. The limits are enforced by the calls that follow.
    ///
    /// # Errors
    /// Returns an error if the database cannot be read or has another number of segments.
    pub(super) fn open(transaction: &'t Connection, limits: RetentionLimits) -> Result<Self> {
        let segments = segments(transaction)?;
        if segments.len() != usize::from(SEGMENTS) {
            let count = segments.len();
            return Err(Error::Storage(format!("table segments has {count} rows instead of {SEGMENTS}")));
        }
        let last_seq = counter(transaction, counter_names::INGESTED)?;
        let used = segments.iter().filter(|segment| segment.entries > 0);
        let highest_tick = used.map(|segment| entry_id::tick(segment.last_id)).max().unwrap_or(-1);
        Ok(Self {
            transaction,
            limits,
            segments,
            last_seq,
            pending_ticks: HashSet::new(),
            highest_tick,
            latest_ns: i64::MAX,
            keeps_order: false,
            tick_lookups: HashMap::new(),
        })
    }

    /// Keeps the order of each stream in the entries that are appended, even where their times step back. The times of a text
    /// file are read from its lines, which are in the order in which they were written.
    pub(super) fn keep_order(mut self, keeps_order: bool) -> Self {
        self.keeps_order = keeps_order;
        self
    }

    /// Appends entries of one source in the given order. `positions` holds the positions of its streams, and is updated. The
    /// IDs of entries after `latest_ns` are of the time of arrival, so that times of a wrong clock do not sort them above
    /// later entries.
    pub(super) fn append(
        &mut self,
        source: i64,
        mut records: Vec<LogRecord>,
        positions: &mut [StreamPosition; 2],
        latest_ns: i64,
    ) -> Result<Vec<BatchRange>> {
        self.latest_ns = latest_ns;
        let mut batches = Vec::new();
        while !records.is_empty() {
            let index = self.writable_segment()?;
            let segment = &self.segments[usize::from(index)];
            let free = self.entries_per_segment() - segment.entries;
            let room = usize::try_from(free).unwrap_or(0).max(1);
            let mut free_bytes = self.bytes_per_segment() - segment.bytes;
            let fits = |record: &&LogRecord| {
                let fits = free_bytes > 0;
                free_bytes -= record.message.len() as i64;
                fits
            };
            let fitting = records.iter().take(room).take_while(fits).count().max(1);
            let rest = records.split_off(records.len().min(fitting));
            batches.push(self.insert_batch(index, source, &records, positions)?);
            records = rest;
            // The last entry of a segment can exceed its share.
            while self.exceeds_limits(0) && self.evict_oldest()? {}
        }
        self.save()?;
        Ok(batches)
    }

    fn entries_per_segment(&self) -> i64 {
        (self.limits.entries / i64::from(SEGMENTS)).max(1)
    }

    fn bytes_per_segment(&self) -> i64 {
        if self.limits.bytes == 0 { i64::MAX } else { (self.limits.bytes / i64::from(SEGMENTS)).max(1) }
    }

    /// Returns the index of the newest segment, or of the oldest, cleared, if the newest is full.
    fn writable_segment(&mut self) -> Result<u8> {
        let newest = self.newest();
        let full = newest.entries >= self.entries_per_segment() || newest.bytes >= self.bytes_per_segment();
        if newest.generation > 0 && !full {
            return Ok(newest.index);
        }
        let oldest = self.segments.iter().min_by_key(|segment| segment.generation).map_or(0, |segment| segment.index);
        self.clear(oldest)?;
        self.segments[usize::from(oldest)].generation = newest.generation + 1;
        // Segments that were filled under larger limits exceed their share.
        while self.exceeds_limits(self.entries_per_segment()) && self.evict_oldest()? {}
        Ok(oldest)
    }

    fn newest(&self) -> Segment {
        self.segments.iter().max_by_key(|segment| segment.generation).cloned().unwrap_or_default()
    }

    /// Returns whether the limits are exceeded, with room for `reserve` further entries.
    fn exceeds_limits(&self, reserve: i64) -> bool {
        let sum = |count: fn(&Segment) -> i64| self.segments.iter().map(count).sum::<i64>();
        sum(|segment| segment.entries) + reserve > self.limits.entries
            || self.limits.bytes > 0 && sum(|segment| segment.bytes) > self.limits.bytes
    }

    /// Deletes all entries of a segment.
    fn clear(&mut self, index: u8) -> Result<()> {
        if self.segments[usize::from(index)].generation > 0 {
            for statement in [
                format!("DELETE FROM segment_{index}"),
                format!("INSERT INTO search_{index} (search_{index}) VALUES ('delete-all')"),
                format!("DELETE FROM entry_counts WHERE segment_id = {index}"),
            ] {
                self.transaction.prepare_cached(&statement)?.execute([])?;
            }
        }
        self.segments[usize::from(index)] = Segment { index, ..Segment::default() };
        Ok(())
    }

    fn insert_batch(
        &mut self,
        index: u8,
        source: i64,
        records: &[LogRecord],
        positions: &mut [StreamPosition; 2],
    ) -> Result<BatchRange> {
        let first_seq = self.last_seq + 1;
        self.last_seq += records.len() as i64;
        let mut rows: Vec<(i64, i64, &LogRecord)> = Vec::with_capacity(records.len());
        for (seq, record) in in_order_of_time((first_seq..).zip(records)) {
            let position = &mut positions[record.stream.index()];
            let time_ns = plausible_ns(record.order_ns, self.latest_ns);
            let id = self.allocate_id(time_ns, record.level, *position)?;
            position.advance(id, time_ns);
            rows.push((id, seq, record));
        }
        // FTS5 flushes its pending terms whenever a row ID does not ascend.
        rows.sort_unstable_by_key(|(id, ..)| *id);
        let mut insert = self.transaction.prepare_cached(&format!(
            "INSERT INTO segment_{index} (id, ingest_seq, at_ns, source_id, stream_id, message)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)"
        ))?;
        let mut index_text =
            self.transaction.prepare_cached(&format!("INSERT INTO search_{index} (rowid, message) VALUES (?1, ?2)"))?;
        let mut minutes: BTreeMap<(i64, i64), i64> = BTreeMap::new();
        let segment = &mut self.segments[usize::from(index)];
        for (id, seq, record) in &rows {
            insert.execute((id, seq, record.time_ns, source, stream_number(record.stream), &record.message))?;
            index_text.execute((id, record.search_text.as_ref().unwrap_or(&record.message)))?;
            let minute = record.time_ns.div_euclid(NS_PER_MINUTE);
            *minutes.entry((minute, level_number(record.level))).or_default() += 1;
            segment.add(*id, record.time_ns, &record.message);
        }
        let mut add_to_minute = self.transaction.prepare_cached(ADD_TO_MINUTE)?;
        for ((minute, level), entries) in minutes {
            add_to_minute.execute((index, minute, source, level, entries))?;
        }
        segment.last_seq = self.last_seq;
        self.pending_ticks.clear();
        let [first_id, last_id] = [rows.first(), rows.last()].map(|row| row.map_or(0, |(id, ..)| *id));
        Ok(BatchRange { segment: index, first_id, last_id, first_seq, last_seq: self.last_seq })
    }

    /// Returns the ID for a time and a level. If its tick is used, or not after the last entry of the same stream, takes a
    /// later free tick.
    fn allocate_id(&mut self, time_ns: i64, level: Level, position: StreamPosition) -> Result<i64> {
        let tick = self.free_tick_from(position.first_tick(time_ns, self.keeps_order))?;
        if tick > entry_id::LAST_TICK {
            return Err(Error::Internal("all entry IDs after the year 2109 are in use".into()));
        }
        self.highest_tick = self.highest_tick.max(tick);
        self.pending_ticks.insert(tick);
        Ok(entry_id::from_tick(tick, level))
    }

    /// Returns the first free tick after the run of used ticks that starts at `tick`, or `tick` if it is free.
    ///
    /// The end of a run is found by galloping search, because a million entries with the same timestamp form a run that the
    /// first entry of any other stream has to skip. The search can skip free ticks between two runs that are close to each
    /// other, which wastes these ticks and does no harm.
    fn free_tick_from(&mut self, tick: i64) -> Result<i64> {
        if !self.is_tick_used(tick)? {
            return Ok(tick);
        }
        let (mut used, mut distance) = (tick, 1);
        while self.is_tick_used(used + distance)? {
            used += distance;
            distance *= 2;
        }
        let mut free = used + distance;
        while free - used > 1 {
            let middle = used + (free - used) / 2;
            if self.is_tick_used(middle)? {
                used = middle;
            } else {
                free = middle;
            }
        }
        Ok(free)
    }

    fn is_tick_used(&mut self, tick: i64) -> Result<bool> {
        if tick > self.highest_tick {
            return Ok(false);
        }
        if tick == self.highest_tick || self.pending_ticks.contains(&tick) {
            return Ok(true);
        }
        let (first, end) = (entry_id::first_of_tick(tick), entry_id::first_of_tick(tick + 1));
        for segment in &self.segments {
            if segment.entries > 0 && segment.first_id < end && segment.last_id >= first {
                let lookup = match self.tick_lookups.entry(segment.index) {
                    Slot::Occupied(lookup) => lookup.into_mut(),
                    Slot::Vacant(slot) => {
                        let sql = format!("SELECT 1 FROM segment_{} WHERE id >= ?1 AND id < ?2", segment.index);
                        slot.insert(self.transaction.prepare_cached(&sql)?)
                    }
                };
                if lookup.exists([first, end])? {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Clears the oldest segments while the limits are exceeded, and all segments whose entries are older than
    /// `oldest_ns`, in nanoseconds since 1970.
    pub(super) fn enforce_limits(&mut self, oldest_ns: i64) -> Result<()> {
        while self.exceeds_limits(0) && self.evict_oldest()? {}
        let newest = self.newest();
        if newest.entries > self.limits.entries {
            self.shrink(&newest)?;
        }
        for index in 0..SEGMENTS {
            let segment = &self.segments[usize::from(index)];
            if segment.generation > 0 && segment.newest_ns < oldest_ns {
                self.clear(index)?;
            }
        }
        self.save()
    }

    /// Shrinks a segment that alone exceeds the limits: moves its newest entries, at most half of the limit, to the next
    /// segment, and clears it.
    fn shrink(&mut self, segment: &Segment) -> Result<()> {
        let (from, to) = (segment.index, (segment.index + 1) % SEGMENTS);
        self.clear(to)?;
        let count = self.limits.entries / 2;
        let first_moved = format!("SELECT id FROM segment_{from} ORDER BY id DESC LIMIT 1 OFFSET ?1");
        let first_id: i64 = self.transaction.query_row(&first_moved, [count.max(1) - 1], |row| row.get(0))?;
        self.transaction
            .execute(&format!("INSERT INTO segment_{to} SELECT * FROM segment_{from} WHERE id >= ?1"), [first_id])?;
        let mut read =
            self.transaction.prepare(&format!("SELECT id, at_ns, source_id, id % 8, message FROM segment_{to}"))?;
        let mut index_text =
            self.transaction.prepare(&format!("INSERT INTO search_{to} (rowid, message) VALUES (?1, ?2)"))?;
        let mut add_to_minute = self.transaction.prepare(ADD_TO_MINUTE)?;
        let mut rows = read.query([])?;
        let Segment { generation, last_seq, .. } = *segment;
        let mut moved = Segment { index: to, generation, last_seq, ..Segment::default() };
        while let Some(row) = rows.next()? {
            let (id, time_ns, source, level): (i64, i64, i64, i64) =
                (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
            let message = row.get_ref(4)?.as_str().unwrap_or_default();
            index_text.execute((id, ansi::strip(message)))?;
            add_to_minute.execute((to, time_ns.div_euclid(NS_PER_MINUTE), source, level, 1))?;
            moved.add(id, time_ns, message);
        }
        self.clear(from)?;
        self.segments[usize::from(to)] = moved;
        Ok(())
    }

    /// Clears the oldest segment, unless it is the only one in use. Returns whether a segment was cleared.
    pub(super) fn evict_oldest(&mut self) -> Result<bool> {
        let mut used: Vec<&Segment> = self.segments.iter().filter(|segment| segment.generation > 0).collect();
        used.sort_unstable_by_key(|segment| segment.generation);
        let [oldest, _, ..] = used[..] else { return Ok(false) };
        let index = oldest.index;
        self.clear(index)?;
        self.save()?;
        Ok(true)
    }

    /// Writes the properties of the segments and the sequence number to the database.
    fn save(&self) -> Result<()> {
        let mut write = self.transaction.prepare_cached(
            "UPDATE segments SET generation = ?2, entries = ?3, message_bytes = ?4, first_id = ?5, last_id = ?6,
                 oldest_ns = ?7, newest_ns = ?8, last_ingest_seq = ?9, id_lead_ms = ?10,
                 id_lag_ms = ?11
             WHERE id = ?1",
        )?;
        for segment in &self.segments {
            let Segment { index, generation, entries, bytes, first_id, last_id, .. } = segment;
            let Segment { oldest_ns, newest_ns, last_seq, id_lead_ms, id_lag_ms, .. } = segment;
            write.execute((
                index, generation, entries, bytes, first_id, last_id, oldest_ns, newest_ns, last_seq, id_lead_ms,
                id_lag_ms,
            ))?;
        }
        set_counter(self.transaction, counter_names::INGESTED, self.last_seq)
    }
}

/// Merges the records of stdout and stderr by time, and keeps the order within each stream. Records of the two streams that
/// are less than a tick apart then get IDs in the order of their times.
fn in_order_of_time<'r>(
    records: impl Iterator<Item = (i64, &'r LogRecord)>,
) -> impl Iterator<Item = (i64, &'r LogRecord)> {
    let (stdout, stderr): (Vec<_>, Vec<_>) = records.partition(|(_, record)| record.stream == StdStream::Stdout);
    let (mut stdout, mut stderr) = (stdout.into_iter().peekable(), stderr.into_iter().peekable());
    std::iter::from_fn(move || match (stdout.peek(), stderr.peek()) {
        (Some((seq, out)), Some((err_seq, err))) if (err.time_ns, err_seq) < (out.time_ns, seq) => stderr.next(),
        (Some(_), _) => stdout.next(),
        (None, _) => stderr.next(),
    })
}
