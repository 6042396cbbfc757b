//! Batches of points for remote write.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Duration;

use rusqlite::Connection;

use super::super::running_totals::{RunningTotals, TotalsTable};
use super::super::series::SeriesKey;
use super::protocol::SampleTimes;
use crate::db::counter;
use crate::error::Result;
use crate::records::point::MetricKind;

/// Interval between two samples of a series. Points within one interval are combined in one sample.
pub(super) const SAMPLE_INTERVAL: Duration = Duration::from_millis(SAMPLE_INTERVAL_MS.unsigned_abs());
const SAMPLE_INTERVAL_MS: i64 = 10_000;
/// Maximum number of points in a batch.
const POINTS_BATCH_MAX: usize = 5_000;
/// Size of the series in memory that completes a batch.
const SERIES_BATCH_BYTES: usize = 2 * 1024 * 1024;
/// Size of a series in memory without its strings and its distribution.
const SERIES_BYTES: usize = 256;

/// Points that are sent together, added to the running totals of all points sent before.
pub(super) struct Batch {
    /// Id of the last point.
    pub(super) last: i64,
    /// Whether the end of the batch is stored in the database.
    pub(super) is_claimed: bool,
    /// Timestamp of the samples, in ms since 1970. Later than that of the previous batch.
    pub(super) at: i64,
    /// By series id.
    pub(super) series: BTreeMap<i64, BatchSeries>,
}

/// Series with the totals to send.
pub(super) struct BatchSeries {
    pub(super) key: SeriesKey,
    pub(super) totals: RunningTotals,
    /// Whether nothing of the series was sent before.
    pub(super) is_new: bool,
}

impl BatchSeries {
    /// Returns the times of the series' samples in a batch of this time.
    pub(super) fn sample_times(&self, at: i64) -> SampleTimes {
        SampleTimes { at, zero_at: self.is_new.then(|| at - SAMPLE_INTERVAL_MS) }
    }
}

impl Batch {
    /// Returns the next batch: the claimed one, or else the points of the next sample interval if they are complete or
    /// `is_due`. Returns `None` if there is nothing to send yet.
    pub(super) fn next(connection: &Connection, is_due: bool) -> Result<Option<Self>> {
        let snapshot = connection.unchecked_transaction()?;
        let [cursor, claimed, claimed_at, previous_at] =
            ["remote_cursor", "remote_claimed", "remote_claimed_at_ms", "remote_sample_at_ms"]
                .map(|name| counter(&snapshot, name));
        let (cursor, claimed) = (cursor?, claimed?);
        let is_claimed = claimed > cursor;
        let mut read = snapshot.prepare_cached(
            "SELECT p.id, p.series_id, p.at_ms, p.value, s.type, s.name, s.project, s.labels
             FROM points p LEFT JOIN series_keys s ON s.id = p.series_id WHERE p.id > ?1 AND p.id <= ?2 ORDER BY p.id",
        )?;
        let mut rows = read.query((cursor, if is_claimed { claimed } else { i64::MAX }))?;
        let (mut last, mut latest, mut ends_at, mut is_complete) = (cursor, i64::MIN, None, false);
        let (mut series, mut points, mut bytes) = (BTreeMap::new(), 0, 0);
        while let Some(row) = rows.next()? {
            let (id, at): (i64, i64) = (row.get(0)?, row.get(2)?);
            let ends_at = *ends_at.get_or_insert(at.saturating_add(SAMPLE_INTERVAL_MS));
            if !is_claimed && (points == POINTS_BATCH_MAX || bytes >= SERIES_BATCH_BYTES || at > ends_at) {
                is_complete = true;
                break;
            }
            (last, latest, points) = (id, latest.max(at), points + 1);
            // A series is deleted after its points, so it exists. If it were missing, the other points must be sent.
            let Some(kind) = MetricKind::from_name(row.get_ref(4)?.as_str().unwrap_or_default()) else { continue };
            let (series_id, value) = (row.get(1)?, row.get(3)?);
            let BatchSeries { totals, .. } = match series.entry(series_id) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(first) => {
                    let key = SeriesKey { kind, name: row.get(5)?, project: row.get(6)?, labels: row.get(7)? };
                    let totals = RunningTotals::load(&snapshot, TotalsTable::Remote, series_id)?;
                    let strings = key.name.len() + key.project.len() + key.labels.len();
                    bytes += SERIES_BYTES + strings + totals.sketch.heap_bytes();
                    let is_new = totals.count == 0;
                    first.insert(BatchSeries { key, totals, is_new })
                }
            };
            totals.add(kind, value, at);
            if kind == MetricKind::Histogram {
                totals.sketch.add(value);
            }
        }
        if last == cursor || !(is_claimed || is_complete || is_due) {
            return Ok(None);
        }
        Ok(Some(Self { last, is_claimed, at: latest.min(claimed_at?).max(previous_at? + 1), series }))
    }
}
