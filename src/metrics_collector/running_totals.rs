//! Running totals of each series since its creation. Retention does not apply to them, so the counters exported to
//! Prometheus never decrease.

use std::collections::HashSet;
use std::collections::hash_map::Entry;

use rusqlite::{Connection, Row, params};

use super::compensated_sum::CompensatedSum;
use super::series::IdMap;
use super::sketch::Sketch;
use crate::clock::Timestamp;
use crate::db::counter;
use crate::error::Result;
use crate::records::point::MetricKind;

/// Table that stores running totals.
#[derive(Debug, Clone, Copy)]
pub(super) enum TotalsTable {
    /// Totals of all points that are rolled up.
    RolledUp,
    /// Totals as last sent by remote write.
    Remote,
}

impl TotalsTable {
    fn as_str(self) -> &'static str {
        match self {
            Self::RolledUp => "series_totals",
            Self::Remote => "series_totals_sent",
        }
    }
}

/// Running totals of one series.
///
/// Points are always added one by one in the order of arrival, by rollups and by queries. Another order could round
/// the sum differently, although it is compensated. Prometheus takes a sum that decreases in the last digit for a counter
/// reset, and counts the whole sum again.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct RunningTotals {
    pub(super) count: u64,
    /// Sum of all values; negative increments of counters are left out.
    pub(super) sum: CompensatedSum,
    /// Value of the latest point.
    pub(super) last: f64,
    /// Time of the latest point, in ms since 1970.
    pub(super) last_at: i64,
    /// Distribution; only for histograms. Callers add to it themselves; the order does not matter.
    pub(super) sketch: Sketch,
}

impl Default for RunningTotals {
    fn default() -> Self {
        let (sum, sketch) = (CompensatedSum::default(), Sketch::default());
        Self { count: 0, sum, last: 0.0, last_at: i64::MIN, sketch }
    }
}

impl RunningTotals {
    /// Adds a point to everything except the sketch; `at` is in ms since 1970.
    pub(super) fn add(&mut self, kind: MetricKind, value: f64, at: i64) {
        self.count += 1;
        self.sum.add(if kind == MetricKind::Counter { value.max(0.0) } else { value });
        if at >= self.last_at {
            (self.last, self.last_at) = (value, at);
        }
    }

    /// Lets the next point be the latest if the stored one is in the future: the clock of its client is ahead, or our own was
    /// wrong when it arrived.
    pub(super) fn forget_future(&mut self, now: Timestamp) {
        if self.last_at > now.ms() {
            self.last_at = i64::MIN;
        }
    }

    /// Adds the totals of another series.
    pub(super) fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.sum.merge(other.sum);
        if other.last_at >= self.last_at {
            (self.last, self.last_at) = (other.last, other.last_at);
        }
        self.sketch.merge(&other.sketch);
    }

    /// Loads the totals of a series; zero totals if none are stored.
    pub(super) fn load(connection: &Connection, table: TotalsTable, series: i64) -> Result<Self> {
        let mut totals = Self::load_without_sketch(connection, table, series)?;
        totals.load_sketch(connection, table, series)?;
        Ok(totals)
    }

    /// Loads the totals of a series without the sketch, which is large.
    pub(super) fn load_without_sketch(connection: &Connection, table: TotalsTable, series: i64) -> Result<Self> {
        let sql = format!("SELECT count, sum, sum_rest, last, last_at_ms FROM {} WHERE series_id = ?1", table.as_str());
        let mut read = connection.prepare_cached(&sql)?;
        let mut rows = read.query([series])?;
        Ok(rows.next()?.map(Self::read_without_sketch).transpose()?.unwrap_or_default())
    }

    /// Loads the sketch that [`Self::load_without_sketch`] left out.
    pub(super) fn load_sketch(&mut self, connection: &Connection, table: TotalsTable, series: i64) -> Result<()> {
        let sql = format!("SELECT sketch FROM {} WHERE series_id = ?1", table.as_str());
        let mut read = connection.prepare_cached(&sql)?;
        let mut rows = read.query([series])?;
        if let Some(row) = rows.next()? {
            self.sketch = row.get_ref(0)?.as_blob_or_null().ok().flatten().and_then(Sketch::decode).unwrap_or_default();
        }
        Ok(())
    }

    fn read_without_sketch(row: &Row<'_>) -> rusqlite::Result<Self> {
        let sum = CompensatedSum::from_parts(row.get(1)?, row.get(2)?);
        let sketch = Sketch::default();
        Ok(Self { count: row.get::<_, i64>(0)?.unsigned_abs(), sum, last: row.get(3)?, last_at: row.get(4)?, sketch })
    }

    /// Stores the totals of a series, replacing the previous ones.
    pub(super) fn store(&self, transaction: &Connection, table: TotalsTable, series: i64) -> Result<()> {
        let mut write = transaction.prepare_cached(&format!(
            "INSERT OR REPLACE INTO {} (series_id, count, sum, sum_rest, last, last_at_ms, sketch)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            table.as_str()
        ))?;
        let count = i64::try_from(self.count).unwrap_or(i64::MAX);
        let sketch = (self.sketch.count() > 0).then(|| self.sketch.encode());
        write.execute(params![series, count, self.sum.value(), self.sum.rest(), self.last, self.last_at, sketch])?;
        Ok(())
    }
}

/// Returns the totals of those of the given series, all of one kind, that have points which are not rolled up yet, with these
/// points added.
pub(super) fn totals_with_new_points(
    snapshot: &Connection,
    kind: MetricKind,
    series: &HashSet<i64>,
    now: Timestamp,
) -> Result<IdMap<i64, RunningTotals>> {
    let mut found: IdMap<i64, RunningTotals> = IdMap::default();
    let mut read = snapshot.prepare_cached("SELECT series_id, value, at_ms FROM points WHERE id > ?1 ORDER BY id")?;
    let mut rows = read.query([counter(snapshot, "rolled_up")?])?;
    while let Some(row) = rows.next()? {
        let (id, value) = (row.get(0)?, row.get(1)?);
        if !series.contains(&id) {
            continue;
        }
        let totals = match found.entry(id) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(first) => first.insert(RunningTotals::load(snapshot, TotalsTable::RolledUp, id)?),
        };
        totals.forget_future(now);
        totals.add(kind, value, row.get(2)?);
        if kind == MetricKind::Histogram {
            totals.sketch.add(value);
        }
    }
    Ok(found)
}
