//! Segments: the tables in which entries are stored, and their properties.

use std::ops::Range;

use rusqlite::Connection;

use super::entry_id;
use crate::error::Result;

/// Number of segments. At most one of them is being filled, so at least 10/11 of the entries that the limits allow are
/// kept.
pub(super) const SEGMENTS: u8 = 11;

/// Creates the tables of all segments and the view `log_entries` of their entries.
pub(super) fn create_segments(connection: &Connection) -> Result<()> {
    let mut tables = Vec::new();
    for index in 0..SEGMENTS {
        let sql = include_str!("../../sql/log-viewer/0100_segment.sql").replace("{n}", &index.to_string());
        connection.execute_batch(&sql)?;
        tables.push(format!("SELECT * FROM segment_{index}"));
    }
    let view = include_str!("../../sql/log-viewer/0100_view.sql").replace("{entries}", &tables.join(" UNION ALL "));
    Ok(connection.execute_batch(&view)?)
}

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
    /// Times of the oldest and of the newest entry, in nanoseconds since 1970.
    pub(super) oldest_ns: i64,
    pub(super) newest_ns: i64,
    /// Ingest sequence number of the entry stored last.
    pub(super) last_seq: i64,
    /// Maximum time by which the ID of an entry is ahead of its time, in milliseconds, rounded up.
    pub(super) id_lead_ms: i64,
    /// Maximum time by which the ID of an entry is behind its time, in milliseconds, rounded up.
    pub(super) id_lag_ms: i64,
}

impl Segment {
    /// Returns whether the segment has an entry, and entries of this period are within its times.
    pub(super) fn overlaps(&self, times_ns: &Range<i64>) -> bool {
        self.entries > 0 && self.newest_ns >= times_ns.start && self.oldest_ns < times_ns.end
    }

    /// Returns whether all entries are of this period.
    pub(super) fn is_within(&self, times_ns: &Range<i64>) -> bool {
        self.oldest_ns >= times_ns.start && self.newest_ns < times_ns.end
    }

    /// Returns the range of the IDs of all entries of this period. It can contain IDs of other entries, because IDs can be
    /// ahead of their entries' times, or behind.
    pub(super) fn ids_covering(&self, times_ns: &Range<i64>) -> Range<i64> {
        let first_tick = entry_id::tick_at(times_ns.start) - self.id_lag_ms * entry_id::TICKS_PER_MS;
        let last_tick = entry_id::tick_at(times_ns.end) + self.id_lead_ms * entry_id::TICKS_PER_MS;
        entry_id::first_of_tick(first_tick.max(0))..entry_id::first_of_tick(last_tick + 1)
    }

    /// Returns a range of IDs in which all entries are of this period. It can be empty, and the range can end before it
    /// starts.
    pub(super) fn ids_within(&self, times_ns: &Range<i64>) -> Range<i64> {
        let first_tick = entry_id::tick_at(times_ns.start) + self.id_lead_ms * entry_id::TICKS_PER_MS + 1;
        let start = if self.oldest_ns >= times_ns.start { 0 } else { entry_id::first_of_tick(first_tick) };
        let end_tick = entry_id::tick_at(times_ns.end) - self.id_lag_ms * entry_id::TICKS_PER_MS;
        let is_before_end = self.newest_ns < times_ns.end;
        let end = if is_before_end { i64::MAX } else { entry_id::first_of_tick(end_tick.max(0)) };
        start..end
    }

    /// Updates the properties for an entry that is added to the segment.
    pub(super) fn add(&mut self, id: i64, time_ns: i64, message: &str) {
        if self.entries == 0 {
            (self.first_id, self.last_id, self.oldest_ns, self.newest_ns) = (id, id, time_ns, time_ns);
        }
        (self.first_id, self.last_id) = (self.first_id.min(id), self.last_id.max(id));
        (self.oldest_ns, self.newest_ns) = (self.oldest_ns.min(time_ns), self.newest_ns.max(time_ns));
        let lead_ticks = entry_id::tick(id) - entry_id::tick_at(time_ns);
        let ms = |ticks: i64| (ticks + entry_id::TICKS_PER_MS - 1) / entry_id::TICKS_PER_MS;
        (self.id_lead_ms, self.id_lag_ms) = (self.id_lead_ms.max(ms(lead_ticks)), self.id_lag_ms.max(ms(-lead_ticks)));
        self.entries += 1;
        self.bytes += message.len() as i64;
    }
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
        "SELECT id, generation, entries, message_bytes, first_id, last_id, oldest_ns, newest_ns, last_ingest_seq, id_lead_ms,
             id_lag_ms
         FROM segments ORDER BY id",
    )?;
    let segment = |row: &rusqlite::Row<'_>| {
        Ok(Segment {
            index: row.get(0)?,
            generation: row.get(1)?,
            entries: row.get(2)?,
            bytes: row.get(3)?,
            first_id: row.get(4)?,
            last_id: row.get(5)?,
            oldest_ns: row.get(6)?,
            newest_ns: row.get(7)?,
            last_seq: row.get(8)?,
            id_lead_ms: row.get(9)?,
            id_lag_ms: row.get(10)?,
        })
    };
    Ok(read.query_map([], segment)?.collect::<rusqlite::Result<_>>()?)
}
