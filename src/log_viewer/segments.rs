//! Ring of 11 segments that store the entries.
//!
//! Entries go into the newest segment until it is full. Then the oldest segment is cleared and becomes the newest. A
//! segment is only ever cleared as a whole, which is much cheaper for its full-text index than deleting rows.

use std::collections::hash_map::Entry as Slot;
use std::collections::{BTreeMap, HashMap, HashSet};

use rusqlite::{CachedStatement, Connection};

use super::config::RetentionLimits;
use super::parse::ansi;
use super::{counter_names, entry_id};
use crate::db::{counter, set_counter};
use crate::error::{Error, Result};
use crate::records::log_record::LogRecord;

/// Number of segments. At most one of them is being filled, so at least 10/11 of the entries that the limits allow are
/// kept.
pub(super) const SEGMENTS: u8 = 11;
/// Maximum distance in ticks by which an entry is moved to keep the order of its stream, although its timestamp is older
/// than that of the entry before. A larger distance means that the clock was set back.
const OUT_OF_ORDER_TICKS_MAX: i64 = entry_id::TICKS_PER_MS * 1_000;

const ADD_TO_MINUTE: &str =
    "INSERT INTO entry_counts (slot, minute, container_id, level, entries) VALUES (?1, ?2, ?3, ?4, ?5)
     ON CONFLICT DO UPDATE SET entries = entries + excluded.entries";

/// Properties of a segment.
#[derive(Debug, Clone, Default)]
pub(super) struct Segment {
    /// 0 to 10, the suffix of its tables.
    pub(super) index: u8,
    /// Higher for newer segments; 0 if the segment is empty.
    pub(super) generation: i64,
    pub(super) entries: i64,
    /// Total length of the messages, in bytes.
    pub(super) bytes: i64,
    pub(super) first_id: i64,
    pub(super) last_id: i64,
    /// Ingest sequence number of the entry stored last.
    pub(super) last_seq: i64,
}

/// Location of entries that were stored together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BatchRange {
    pub(super) segment: u8,
    pub(super) first_id: i64,
    pub(super) last_id: i64,
    /// Ingest sequence number of the first entry.
    pub(super) first_seq: i64,
    /// Ingest sequence number of the last entry.
    pub(super) last_seq: i64,
}

/// Reads the properties of all segments, in the order of their indexes.
pub(super) fn segments(connection: &Connection) -> Result<Vec<Segment>> {
    let mut read = connection.prepare_cached(
        "SELECT slot, round, entries, bytes, first_id, last_id, last_arrival FROM segments ORDER BY slot",
    )?;
    let segment = |row: &rusqlite::Row<'_>| {
        Ok(Segment {
            index: row.get(0)?,
            generation: row.get(1)?,
            entries: row.get(2)?,
            bytes: row.get(3)?,
            first_id: row.get(4)?,
            last_id: row.get(5)?,
            last_seq: row.get(6)?,
        })
    };
    Ok(read.query_map([], segment)?.collect::<rusqlite::Result<_>>()?)
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
        let highest_id = segments.iter().map(|segment| segment.last_id).max().unwrap_or(0);
        Ok(Self {
            transaction,
            limits,
            segments,
            last_seq,
            pending_ticks: HashSet::new(),
            highest_tick: entry_id::tick(highest_id),
            tick_lookups: HashMap::new(),
        })
    }

    /// Appends entries of one container in the given order. `last_ids` holds the IDs of the container's newest entries on
    /// stdout and stderr, and is updated.
    pub(super) fn append(
        &mut self,
        container: i64,
        mut records: Vec<LogRecord>,
        last_ids: &mut [i64; 2],
    ) -> Result<Vec<BatchRange>> {
        let mut batches = Vec::new();
        while !records.is_empty() {
            let index = self.writable_segment()?;
            let free = self.entries_per_segment() - self.segments[usize::from(index)].entries;
            let room = usize::try_from(free).unwrap_or(0).max(1);
            let rest = records.split_off(records.len().min(room));
            batches.push(self.insert_batch(index, container, &records, last_ids)?);
            records = rest;
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
                format!("DELETE FROM entry_counts WHERE slot = {index}"),
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
        container: i64,
        records: &[LogRecord],
        last_ids: &mut [i64; 2],
    ) -> Result<BatchRange> {
        let first_seq = self.last_seq + 1;
        let mut rows: Vec<(i64, i64, &LogRecord)> = Vec::with_capacity(records.len());
        for record in records {
            let last_id = &mut last_ids[record.stream.index()];
            let id = self.allocate_id(record, *last_id)?;
            *last_id = id;
            self.last_seq += 1;
            rows.push((id, self.last_seq, record));
        }
        // FTS5 flushes its pending terms whenever a row ID does not ascend.
        rows.sort_unstable_by_key(|(id, ..)| *id);
        let mut insert = self.transaction.prepare_cached(&format!(
            "INSERT INTO segment_{index} (id, arrival, at, container_id, stream, message) VALUES (?1, ?2, ?3, ?4, ?5, ?6)"
        ))?;
        let mut index_text =
            self.transaction.prepare_cached(&format!("INSERT INTO search_{index} (rowid, message) VALUES (?1, ?2)"))?;
        let mut minutes: BTreeMap<(i64, u8), i64> = BTreeMap::new();
        let mut bytes = 0;
        for (id, seq, record) in &rows {
            let stream = record.stream.index() as i64;
            insert.execute((id, seq, record.time_ns, container, stream, &record.message))?;
            index_text.execute((id, record.search_text.as_ref().unwrap_or(&record.message)))?;
            *minutes.entry((entry_id::minute(*id), entry_id::level_rank(*id))).or_default() += 1;
            bytes += record.message.len() as i64;
        }
        let mut add_to_minute = self.transaction.prepare_cached(ADD_TO_MINUTE)?;
        for ((minute, level), entries) in minutes {
            add_to_minute.execute((index, minute, container, level, entries))?;
        }
        let [first_id, last_id] = [rows.first(), rows.last()].map(|row| row.map_or(0, |(id, ..)| *id));
        let segment = &mut self.segments[usize::from(index)];
        segment.first_id = if segment.entries == 0 { first_id } else { segment.first_id.min(first_id) };
        segment.last_id = segment.last_id.max(last_id);
        segment.entries += rows.len() as i64;
        segment.bytes += bytes;
        segment.last_seq = self.last_seq;
        self.pending_ticks.clear();
        Ok(BatchRange { segment: index, first_id, last_id, first_seq, last_seq: self.last_seq })
    }

    /// Returns the ID for the time and level of a record. If its tick is used, or not after the last entry of the same
    /// stream, takes the next free tick.
    fn allocate_id(&mut self, record: &LogRecord, last_id: i64) -> Result<i64> {
        let (mut tick, last_tick) = (entry_id::tick(entry_id::first_at(record.time_ns)), entry_id::tick(last_id));
        if last_tick >= tick && last_tick - tick < OUT_OF_ORDER_TICKS_MAX {
            tick = last_tick + 1;
        }
        while tick <= self.highest_tick && self.is_tick_used(tick)? {
            tick += 1;
        }
        self.highest_tick = self.highest_tick.max(tick);
        self.pending_ticks.insert(tick);
        Ok(entry_id::from_tick(tick, record.level))
    }

    fn is_tick_used(&mut self, tick: i64) -> Result<bool> {
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
        let oldest_id = entry_id::first_at(oldest_ns);
        for index in 0..SEGMENTS {
            let segment = &self.segments[usize::from(index)];
            if segment.generation > 0 && segment.last_id < oldest_id {
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
        let mut read = self.transaction.prepare(&format!("SELECT id, container_id, message FROM segment_{to}"))?;
        let mut index_text =
            self.transaction.prepare(&format!("INSERT INTO search_{to} (rowid, message) VALUES (?1, ?2)"))?;
        let mut add_to_minute = self.transaction.prepare(ADD_TO_MINUTE)?;
        let mut rows = read.query([])?;
        let mut moved = Segment { index: to, generation: segment.generation, first_id, ..segment.clone() };
        (moved.entries, moved.bytes) = (0, 0);
        while let Some(row) = rows.next()? {
            let (id, container): (i64, i64) = (row.get(0)?, row.get(1)?);
            let message = row.get_ref(2)?.as_str().unwrap_or_default();
            index_text.execute((id, ansi::strip(message)))?;
            add_to_minute.execute((to, entry_id::minute(id), container, entry_id::level_rank(id), 1))?;
            moved.entries += 1;
            moved.bytes += message.len() as i64;
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
            "UPDATE segments SET round = ?2, entries = ?3, bytes = ?4, first_id = ?5, last_id = ?6, last_arrival = ?7
             WHERE slot = ?1",
        )?;
        for segment in &self.segments {
            let Segment { index, generation, entries, bytes, first_id, last_id, last_seq } = segment;
            write.execute((index, generation, entries, bytes, first_id, last_id, last_seq))?;
        }
        set_counter(self.transaction, counter_names::INGESTED, self.last_seq)
    }
}
