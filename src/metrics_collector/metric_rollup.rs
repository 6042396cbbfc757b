//! Pre-aggregation of all series of a metric. A metric with more than one series has rows in `metric_minutes` and
//! `metric_hours`, so a query without label filters reads one row per bucket instead of one per bucket and series.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use rusqlite::{Connection, Row};

use super::aggregate::Aggregate;
use super::resolution::{MS_PER_HOUR, Resolution};
use super::rollup_tables::RollupWriter;
use crate::error::Result;

/// Rows of a metric in the rollup tables.
#[derive(Debug, Clone, Copy)]
pub(super) struct MetricRollupRows {
    pub(super) metric_id: i64,
    /// First hour in which the rows contain every point. Earlier hours may be incomplete.
    from_hour: i64,
}

impl MetricRollupRows {
    /// Reads the columns metric_id and rollup_from_h, which begin at the column `first`; `None` if the metric has no
    /// rollup.
    pub(super) fn read(row: &Row<'_>, first: usize) -> rusqlite::Result<Option<Self>> {
        let (metric_id, from_hour): (i64, Option<i64>) = (row.get(first)?, row.get(first + 1)?);
        Ok(from_hour.map(|from_hour| Self { metric_id, from_hour }))
    }

    /// Returns the first bucket that contains every point.
    pub(super) fn first_bucket(self, resolution: Resolution) -> i64 {
        self.from_hour * (MS_PER_HOUR / resolution.ms())
    }
}

/// Splits a range of buckets into those to read per series and those to read from the metric rollup.
pub(super) fn split_range(
    buckets: &Range<i64>,
    rollup: Option<MetricRollupRows>,
    resolution: Resolution,
) -> [Range<i64>; 2] {
    let from = rollup.map_or(buckets.end, |rollup| rollup.first_bucket(resolution).clamp(buckets.start, buckets.end));
    [buckets.start..from, from..buckets.end]
}

/// Aggregates that one rollup adds to metric rollups.
#[derive(Default)]
pub(super) struct PendingMetricRollups {
    /// Indices in `rollups` by metric id; `None` for metrics with a single series.
    indices: HashMap<i64, Option<usize>>,
    rollups: Vec<PendingRollup>,
}

/// Aggregates of one metric.
struct PendingRollup {
    rollup: MetricRollupRows,
    /// Whether minutes are stored, and not only hours.
    stores_minutes: bool,
    minutes: BTreeMap<i64, Aggregate>,
}

impl PendingMetricRollups {
    /// Returns the index of a metric for [`Self::add`]. Creates the metric rollup when the metric has a second series;
    /// returns `None` before that.
    pub(super) fn index_of(
        &mut self,
        transaction: &Connection,
        metric_id: i64,
        stores_minutes: bool,
    ) -> Result<Option<usize>> {
        let vacant = match self.indices.entry(metric_id) {
            Entry::Occupied(known) => return Ok(*known.get()),
            Entry::Vacant(vacant) => vacant,
        };
        let rollup = get_or_create(transaction, metric_id)?;
        let index = rollup.map(|rollup| {
            self.rollups.push(PendingRollup { rollup, stores_minutes, minutes: BTreeMap::new() });
            self.rollups.len() - 1
        });
        Ok(*vacant.insert(index))
    }

    /// Adds the aggregate of one series and minute to the metric rollup at an index.
    pub(super) fn add(&mut self, index: usize, minute: i64, aggregate: &Aggregate) {
        let PendingRollup { rollup, minutes, .. } = &mut self.rollups[index];
        if minute >= rollup.first_bucket(Resolution::Minute) {
            minutes.entry(minute).and_modify(|known| known.merge(aggregate)).or_insert_with(|| aggregate.clone());
        }
    }

    /// Writes the added aggregates, in the order of the primary key.
    pub(super) fn write(mut self, writer: &mut RollupWriter<'_>) -> Result<()> {
        self.rollups.sort_unstable_by_key(|pending| pending.rollup.metric_id);
        for PendingRollup { rollup, stores_minutes, minutes } in self.rollups {
            writer.merge(rollup.metric_id, stores_minutes, minutes)?;
        }
        Ok(())
    }
}

/// Returns the metric rollup of a metric. Creates it if the metric has a second series. A new one starts with the hour
/// after the last row of any of its series: every later rollup adds to it, so it contains every point of that hour.
fn get_or_create(transaction: &Connection, metric_id: i64) -> Result<Option<MetricRollupRows>> {
    let mut find = transaction.prepare_cached("SELECT id, rollup_from_h FROM metrics WHERE id = ?1")?;
    let rollup = |row: &Row<'_>| MetricRollupRows::read(row, 0);
    let found = find.query_row([metric_id], rollup)?;
    let mut second_series = transaction.prepare_cached("SELECT 1 FROM series WHERE metric_id = ?1 LIMIT 1 OFFSET 1")?;
    if found.is_some() || !second_series.exists([metric_id])? {
        return Ok(found);
    }
    let mut create = transaction.prepare_cached(
        "UPDATE metrics SET rollup_from_h = (SELECT 1 + max(max(
             ifnull((SELECT max(at_min) FROM series_minutes WHERE series_id = series.id) / 60, -1),
             ifnull((SELECT max(at_h) FROM series_hours WHERE series_id = series.id), -1)
         )) FROM series WHERE metric_id = ?1) WHERE id = ?1 RETURNING id, rollup_from_h",
    )?;
    Ok(create.query_row([metric_id], rollup)?)
}
