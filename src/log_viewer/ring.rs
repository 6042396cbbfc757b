//! The ring of segments that entries are kept in, and the numbers they get.

use std::collections::hash_map::Entry as Slot;
use std::collections::{BTreeMap, HashMap, HashSet};

use rusqlite::{CachedStatement, Connection};

use super::config::Limits;
use super::text::level::Level;
use super::text::{Stream, ansi};
use crate::error::{Error, Result};

/// Segments. One of them is being emptied or filled, so at least ten elevenths of what may be kept are there.
pub(super) const SEGMENTS: u8 = 11;
/// Where ids count from: 2026. With as many in a millisecond, JavaScript's integers hold those of 2012 to 2039.
const EPOCH_MINUTE: i64 = 29_453_760;
const EPOCH_NS: i64 = EPOCH_MINUTE * 60_000_000_000;
/// A millisecond has so many places for entries, and each place an id for every level, so that an entry's minute and
/// level are known without looking at it.
const PLACES_PER_MS: i64 = 4_096;
const IDS_PER_PLACE: i64 = 5;
const IDS_PER_MINUTE: i64 = 60_000 * PLACES_PER_MS * IDS_PER_PLACE;
const NS_PER_MS: i64 = 1_000_000;
/// SQL for the level of an id.
pub(super) const LEVEL_OF_ID: &str = "((id % 5 + 5) % 5)";
/// Entries of a stream keep their order although their moments do not, when they are no further apart than this: beyond
/// it a clock was set back.
const OUT_OF_ORDER_PLACES_MAX: i64 = PLACES_PER_MS * 1_000;

const COUNT: &str = "INSERT INTO counters (slot, minute, container_id, level, entries) VALUES (?1, ?2, ?3, ?4, ?5)
     ON CONFLICT DO UPDATE SET entries = entries + excluded.entries";

/// The smallest id of a moment, in ns since 1970.
pub(super) fn id_at(at_ns: i64) -> i64 {
    let since = at_ns.saturating_sub(EPOCH_NS);
    let (ms, ns) = (since.div_euclid(NS_PER_MS), since.rem_euclid(NS_PER_MS));
    (ms * PLACES_PER_MS + ns * PLACES_PER_MS / NS_PER_MS) * IDS_PER_PLACE
}

/// The level of an id.
pub(super) fn level_of_id(id: i64) -> u8 {
    u8::try_from(id.rem_euclid(IDS_PER_PLACE)).unwrap_or_default()
}

/// The minute of an id, in minutes since 1970.
pub(super) fn minute_of_id(id: i64) -> i64 {
    id.div_euclid(IDS_PER_MINUTE) + EPOCH_MINUTE
}

/// The first id of a minute.
pub(super) fn id_of_minute(minute: i64) -> i64 {
    (minute - EPOCH_MINUTE).saturating_mul(IDS_PER_MINUTE)
}

/// What a program said at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// In ns since 1970.
    pub(super) at_ns: i64,
    pub(super) stream: Stream,
    pub(super) level: Level,
    /// As it is shown.
    pub(super) message: String,
    /// As it is searched, where that differs.
    pub(super) plain: Option<String>,
}

/// A part of the ring.
#[derive(Debug, Clone, Default)]
pub(super) struct Segment {
    pub(super) slot: u8,
    /// The higher the newer; 0 when empty.
    pub(super) round: i64,
    pub(super) entries: i64,
    pub(super) bytes: i64,
    pub(super) first_id: i64,
    pub(super) last_id: i64,
    pub(super) last_arrival: i64,
}

/// Entries that came together, and where they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Landed {
    pub(super) slot: u8,
    pub(super) first_id: i64,
    pub(super) last_id: i64,
    pub(super) first_arrival: i64,
    pub(super) last_arrival: i64,
}

/// The segments as the table has them.
pub(super) fn segments(connection: &Connection) -> Result<Vec<Segment>> {
    let mut read = connection.prepare_cached(
        "SELECT slot, round, entries, bytes, first_id, last_id, last_arrival FROM segments ORDER BY slot",
    )?;
    let segment = |row: &rusqlite::Row<'_>| {
        Ok(Segment {
            slot: row.get(0)?,
            round: row.get(1)?,
            entries: row.get(2)?,
            bytes: row.get(3)?,
            first_id: row.get(4)?,
            last_id: row.get(5)?,
            last_arrival: row.get(6)?,
        })
    };
    Ok(read.query_map([], segment)?.collect::<rusqlite::Result<_>>()?)
}

/// The ring during one change.
pub(super) struct Ring<'t> {
    transaction: &'t Connection,
    limits: Limits,
    segments: Vec<Segment>,
    arrivals: i64,
    /// Places given to entries that are not in their segment yet.
    given: HashSet<i64>,
    highest_place: i64,
    /// Whether a segment has an entry between two ids.
    taken: HashMap<u8, CachedStatement<'t>>,
}

impl<'t> Ring<'t> {
    pub(super) fn open(transaction: &'t Connection, limits: Limits) -> Result<Self> {
        let segments = segments(transaction)?;
        if segments.len() != usize::from(SEGMENTS) {
            return Err(Error::Storage(format!("it has {} segments instead of {SEGMENTS}", segments.len())));
        }
        let arrivals = super::store::total(transaction, "arrivals")?;
        let highest_id = segments.iter().map(|segment| segment.last_id).max().unwrap_or(0);
        Ok(Self {
            transaction,
            limits,
            segments,
            arrivals,
            given: HashSet::new(),
            highest_place: highest_id.div_euclid(IDS_PER_PLACE),
            taken: HashMap::new(),
        })
    }

    /// Stores entries of one container in the order they are given in. `last_ids` are those of the container's latest
    /// entries by stream, and become them.
    pub(super) fn append(
        &mut self,
        container: i64,
        mut entries: Vec<Entry>,
        last_ids: &mut [i64; 2],
    ) -> Result<Vec<Landed>> {
        let mut landed = Vec::new();
        while !entries.is_empty() {
            let slot = self.slot()?;
            let room =
                usize::try_from(self.entries_max() - self.segments[usize::from(slot)].entries).unwrap_or(0).max(1);
            let rest = entries.split_off(entries.len().min(room));
            landed.push(self.put(slot, container, &entries, last_ids)?);
            entries = rest;
        }
        self.close()?;
        Ok(landed)
    }

    fn entries_max(&self) -> i64 {
        (self.limits.entries / i64::from(SEGMENTS)).max(1)
    }

    fn bytes_max(&self) -> i64 {
        if self.limits.bytes == 0 { i64::MAX } else { (self.limits.bytes / i64::from(SEGMENTS)).max(1) }
    }

    /// The segment that has room: the newest, or the one that has waited longest, emptied.
    fn slot(&mut self) -> Result<u8> {
        let newest = self.segments.iter().max_by_key(|segment| segment.round).cloned().unwrap_or_default();
        let full = newest.entries >= self.entries_max() || newest.bytes >= self.bytes_max();
        if newest.round > 0 && !full {
            return Ok(newest.slot);
        }
        let oldest = self.segments.iter().min_by_key(|segment| segment.round).map_or(0, |segment| segment.slot);
        self.empty(oldest)?;
        self.segments[usize::from(oldest)].round = newest.round + 1;
        // Segments that were filled under larger limits are larger than their share.
        while self.over(self.entries_max()) && self.drop_oldest()? {}
        Ok(oldest)
    }

    /// Whether there is more than may be kept, with room for so many entries left.
    fn over(&self, room: i64) -> bool {
        let sum = |of: fn(&Segment) -> i64| self.segments.iter().map(of).sum::<i64>();
        sum(|segment| segment.entries) + room > self.limits.entries
            || self.limits.bytes > 0 && sum(|segment| segment.bytes) > self.limits.bytes
    }

    /// Empties a segment, whole.
    fn empty(&mut self, slot: u8) -> Result<()> {
        if self.segments[usize::from(slot)].round > 0 {
            for statement in [
                format!("DELETE FROM segment_{slot}"),
                format!("INSERT INTO search_{slot} (search_{slot}) VALUES ('delete-all')"),
                format!("DELETE FROM counters WHERE slot = {slot}"),
            ] {
                self.transaction.prepare_cached(&statement)?.execute([])?;
            }
        }
        self.segments[usize::from(slot)] = Segment { slot, ..Segment::default() };
        Ok(())
    }

    fn put(&mut self, slot: u8, container: i64, entries: &[Entry], last_ids: &mut [i64; 2]) -> Result<Landed> {
        let first_arrival = self.arrivals + 1;
        let mut rows: Vec<(i64, i64, &Entry)> = Vec::with_capacity(entries.len());
        for entry in entries {
            let last_id = &mut last_ids[usize::from(entry.stream == Stream::Stderr)];
            let id = self.free_id(entry, *last_id)?;
            *last_id = id;
            self.arrivals += 1;
            rows.push((id, self.arrivals, entry));
        }
        // FTS5 writes out what it has gathered whenever ids do not ascend.
        rows.sort_unstable_by_key(|(id, ..)| *id);
        let mut insert = self.transaction.prepare_cached(&format!(
            "INSERT INTO segment_{slot} (id, arrival, at, container_id, stream, message) VALUES (?1, ?2, ?3, ?4, ?5, ?6)"
        ))?;
        let mut index =
            self.transaction.prepare_cached(&format!("INSERT INTO search_{slot} (rowid, message) VALUES (?1, ?2)"))?;
        let mut counters: BTreeMap<(i64, u8), i64> = BTreeMap::new();
        let mut bytes = 0;
        for (id, arrival, entry) in &rows {
            let stream = i64::from(entry.stream == Stream::Stderr);
            insert.execute((id, arrival, entry.at_ns, container, stream, &entry.message))?;
            index.execute((id, entry.plain.as_ref().unwrap_or(&entry.message)))?;
            *counters.entry((minute_of_id(*id), level_of_id(*id))).or_default() += 1;
            bytes += entry.message.len() as i64;
        }
        let mut count = self.transaction.prepare_cached(COUNT)?;
        for ((minute, level), entries) in counters {
            count.execute((slot, minute, container, level, entries))?;
        }
        let [first_id, last_id] = [rows.first(), rows.last()].map(|row| row.map_or(0, |(id, ..)| *id));
        let segment = &mut self.segments[usize::from(slot)];
        segment.first_id = if segment.entries == 0 { first_id } else { segment.first_id.min(first_id) };
        segment.last_id = segment.last_id.max(last_id);
        segment.entries += rows.len() as i64;
        segment.bytes += bytes;
        segment.last_arrival = self.arrivals;
        self.given.clear();
        Ok(Landed { slot, first_id, last_id, first_arrival, last_arrival: self.arrivals })
    }

    /// The id of an entry's moment and level, or that of the next place that is free and behind the last of the same
    /// stream.
    fn free_id(&mut self, entry: &Entry, last_id: i64) -> Result<i64> {
        let (mut place, last_place) = (id_at(entry.at_ns) / IDS_PER_PLACE, last_id.div_euclid(IDS_PER_PLACE));
        if last_place >= place && last_place - place < OUT_OF_ORDER_PLACES_MAX {
            place = last_place + 1;
        }
        while place <= self.highest_place && self.is_taken(place)? {
            place += 1;
        }
        self.highest_place = self.highest_place.max(place);
        self.given.insert(place);
        Ok(place * IDS_PER_PLACE + i64::from(entry.level.rank()))
    }

    fn is_taken(&mut self, place: i64) -> Result<bool> {
        if place == self.highest_place || self.given.contains(&place) {
            return Ok(true);
        }
        let (first, end) = (place * IDS_PER_PLACE, (place + 1) * IDS_PER_PLACE);
        for segment in &self.segments {
            if segment.entries > 0 && segment.first_id < end && segment.last_id >= first {
                let taken = match self.taken.entry(segment.slot) {
                    Slot::Occupied(taken) => taken.into_mut(),
                    Slot::Vacant(free) => {
                        let sql = format!("SELECT 1 FROM segment_{} WHERE id >= ?1 AND id < ?2", segment.slot);
                        free.insert(self.transaction.prepare_cached(&sql)?)
                    }
                };
                if taken.exists([first, end])? {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Empties the oldest segments while there is more than may be kept, and those that are older than a moment.
    pub(super) fn trim(&mut self, oldest_ns: i64) -> Result<()> {
        while self.over(0) && self.drop_oldest()? {}
        let newest = self.segments.iter().max_by_key(|segment| segment.round).cloned().unwrap_or_default();
        if newest.entries > self.limits.entries {
            self.halve(&newest)?;
        }
        for slot in 0..SEGMENTS {
            if self.segments[usize::from(slot)].round > 0 && self.segments[usize::from(slot)].last_id < id_at(oldest_ns)
            {
                self.empty(slot)?;
            }
        }
        self.close()
    }

    /// Moves the newest entries of a segment that alone is more than may be kept to another, at most half of what may
    /// be, so that there is room for more.
    fn halve(&mut self, segment: &Segment) -> Result<()> {
        let (from, to) = (segment.slot, (segment.slot + 1) % SEGMENTS);
        self.empty(to)?;
        let kept = self.limits.entries / 2;
        let edge = format!("SELECT id FROM segment_{from} ORDER BY id DESC LIMIT 1 OFFSET ?1");
        let first_id: i64 = self.transaction.query_row(&edge, [kept.max(1) - 1], |row| row.get(0))?;
        self.transaction
            .execute(&format!("INSERT INTO segment_{to} SELECT * FROM segment_{from} WHERE id >= ?1"), [first_id])?;
        let mut read = self.transaction.prepare(&format!("SELECT id, container_id, message FROM segment_{to}"))?;
        let mut index =
            self.transaction.prepare(&format!("INSERT INTO search_{to} (rowid, message) VALUES (?1, ?2)"))?;
        let mut count = self.transaction.prepare(COUNT)?;
        let mut rows = read.query([])?;
        let mut moved = Segment { slot: to, round: segment.round, first_id, ..segment.clone() };
        (moved.entries, moved.bytes) = (0, 0);
        while let Some(row) = rows.next()? {
            let (id, container): (i64, i64) = (row.get(0)?, row.get(1)?);
            let message = row.get_ref(2)?.as_str().unwrap_or_default();
            index.execute((id, ansi::strip(message)))?;
            count.execute((to, minute_of_id(id), container, level_of_id(id), 1))?;
            moved.entries += 1;
            moved.bytes += message.len() as i64;
        }
        self.empty(from)?;
        self.segments[usize::from(to)] = moved;
        Ok(())
    }

    /// Empties the oldest segment. Answers whether there was one that can be spared.
    pub(super) fn drop_oldest(&mut self) -> Result<bool> {
        let mut used: Vec<&Segment> = self.segments.iter().filter(|segment| segment.round > 0).collect();
        used.sort_unstable_by_key(|segment| segment.round);
        let [oldest, _, ..] = used[..] else { return Ok(false) };
        let slot = oldest.slot;
        self.empty(slot)?;
        self.close()?;
        Ok(true)
    }

    fn close(&self) -> Result<()> {
        let mut write = self.transaction.prepare_cached(
            "UPDATE segments SET round = ?2, entries = ?3, bytes = ?4, first_id = ?5, last_id = ?6, last_arrival = ?7
             WHERE slot = ?1",
        )?;
        for segment in &self.segments {
            let Segment { slot, round, entries, bytes, first_id, last_id, last_arrival } = segment;
            write.execute((slot, round, entries, bytes, first_id, last_id, last_arrival))?;
        }
        let mut arrivals = self.transaction.prepare_cached("UPDATE totals SET value = ?1 WHERE name = 'arrivals'")?;
        arrivals.execute([self.arrivals])?;
        Ok(())
    }
}
