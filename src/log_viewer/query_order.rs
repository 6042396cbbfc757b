//! Reads of matching entries in order, part by part, for exports and live tails. They return IDs only, because 500 messages
//! can have half a gigabyte. Patterns are not applied.

use super::query::{BoundFilter, SelectStatement};
use super::segments::{BatchRange, Segment};
use crate::error::Result;

impl BoundFilter<'_> {
    /// Returns the IDs of the next page of entries, the oldest first, starting at an ID. Also returns the ID at which the
    /// next page starts; `None` at the end.
    pub(super) fn ids_from(&self, id: i64, count: usize) -> Result<(Vec<i64>, Option<i64>)> {
        let mut segments: Vec<&Segment> = self.segments.iter().filter(|segment| segment.last_id >= id).collect();
        segments.sort_unstable_by_key(|segment| segment.first_id);
        let mut page: Vec<i64> = Vec::new();
        for segment in segments {
            if page.len() == count && page.last().is_some_and(|last| *last < segment.first_id) {
                break;
            }
            let (ids, times_ns) = (id..self.filter.end_id, self.filter.times_ns.clone());
            let (columns, suffix, limit) = ("id", "ORDER BY id", count as i64);
            let select = SelectStatement { segment, columns, needs_row: true, suffix, ids, times_ns, limit };
            self.query_segment(&select, |row| {
                page.push(row.get(0)?);
                Ok(None::<()>)
            })?;
            page.sort_unstable();
            page.truncate(count);
        }
        let next = page.last().filter(|_| page.len() == count).map(|last| last + 1);
        Ok((page, next))
    }

    /// Returns the ingest sequence numbers above `seq` and the IDs of the entries of a batch, in the order of ingestion.
    pub(super) fn ids_in_batch(&self, batch: &BatchRange, seq: i64) -> Result<Vec<(i64, i64)>> {
        let mut found = Vec::new();
        let Some(segment) = self.segments.iter().find(|segment| segment.index == batch.segment) else {
            return Ok(found);
        };
        let seqs = batch.first_seq.max(seq + 1)..=batch.last_seq;
        let (ids, times_ns) = (batch.first_id..batch.last_id + 1, self.filter.times_ns.clone());
        let (columns, suffix, limit) = ("e.ingest_seq, id", "", -1);
        let select = SelectStatement { segment, columns, needs_row: true, suffix, ids, times_ns, limit };
        self.query_segment(&select, |row| {
            if seqs.contains(&row.get(0)?) {
                found.push((row.get(0)?, row.get(1)?));
            }
            Ok(None::<()>)
        })?;
        found.sort_unstable();
        Ok(found)
    }

    /// Returns the ingest sequence numbers above `seq` and the IDs of at most `count` entries, in the order of ingestion.
    pub(super) fn ids_since(&self, seq: i64, count: usize) -> Result<Vec<(i64, i64)>> {
        let mut found: Vec<(i64, i64)> = Vec::new();
        let mut segments: Vec<&Segment> = self.segments.iter().filter(|segment| segment.last_seq > seq).collect();
        segments.sort_unstable_by_key(|segment| segment.last_seq);
        let suffix = &format!("AND e.ingest_seq > {seq} ORDER BY e.ingest_seq");
        for segment in segments {
            let limit = count.saturating_sub(found.len()) as i64;
            let (ids, times_ns, columns) = (0..i64::MAX, self.filter.times_ns.clone(), "e.ingest_seq, id");
            let select = SelectStatement { segment, columns, needs_row: true, suffix, ids, times_ns, limit };
            self.query_segment(&select, |row| {
                found.push((row.get(0)?, row.get(1)?));
                Ok(None::<()>)
            })?;
            if found.len() >= count {
                break;
            }
        }
        Ok(found)
    }
}
