//! Pre-aggregation of all series of a metric. A metric with more than one series also has rows of its own in the rollup
//! tables, so a query without label filters reads one row per bucket instead of one per bucket and series.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use rusqlite::{Connection, OptionalExtension as _, Params, Row};

use super::aggregate::Aggregate;
use super::resolution::{MS_PER_HOUR, Resolution};
use super::rollup_tables::RollupWriter;
use crate::db::counter;
use crate::error::Result;

/// Properties that identify a metric.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct MetricKey {
    pub(super) name: String,
    /// Kind as stored in the database.
    pub(super) kind: String,
    /// Empty if the metric has no project.
    pub(super) project: String,
}

impl MetricKey {
    /// Reads the columns name, type and project, which begin at the column `first`.
    pub(super) fn read(row: &Row<'_>, first: usize) -> rusqlite::Result<Self> {
        Ok(Self { name: row.get(first)?, kind: row.get(first + 1)?, project: row.get(first + 2)? })
    }
}

/// Rows of a metric in the rollup tables.
#[derive(Debug, Clone, Copy)]
pub(super) struct MetricRollupRows {
    /// Value of the column `series_id`. Negative, so it is not the id of a series.
    pub(super) id: i64,
    /// First hour in which the rows contain every point. Earlier hours may be incomplete.
    from_hour: i64,
}

impl MetricRollupRows {
    fn read(row: &Row<'_>, first: usize) -> rusqlite::Result<Self> {
        Ok(Self { id: row.get(first)?, from_hour: row.get(first + 1)? })
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

/// Returns the metric rollups of all metrics with a name.
pub(super) fn with_name(connection: &Connection, name: &str) -> Result<HashMap<MetricKey, MetricRollupRows>> {
    read(connection, "name = ?1", [name])
}

/// Returns all metric rollups.
pub(super) fn all(connection: &Connection) -> Result<HashMap<MetricKey, MetricRollupRows>> {
    read(connection, "TRUE", [])
}

/// Returns no metric rollups if they lack points, which is the case after a version without metric rollups has rolled
/// up points, until the next rollup.
fn read(connection: &Connection, condition: &str, params: impl Params) -> Result<HashMap<MetricKey, MetricRollupRows>> {
    if counter(connection, "whole_up_to")? != counter(connection, "rolled_up")? {
        return Ok(HashMap::new());
    }
    let sql = format!("SELECT name, type, project, -id, from_hour FROM metrics WHERE {condition}");
    let mut read = connection.prepare_cached(&sql)?;
    let rollups = read.query_map(params, |row| Ok((MetricKey::read(row, 0)?, MetricRollupRows::read(row, 3)?)))?;
    Ok(rollups.collect::<rusqlite::Result<_>>()?)
}

/// Aggregates that one rollup adds to metric rollups.
#[derive(Default)]
pub(super) struct PendingMetricRollups {
    /// Indices in `rollups`; `None` for metrics with a single series.
    indices: HashMap<MetricKey, Option<usize>>,
    rollups: Vec<(MetricRollupRows, BTreeMap<i64, Aggregate>)>,
}

impl PendingMetricRollups {
    /// Starts a rollup of the points after the id `rolled_up`. If the metric rollups lack earlier points, deletes all
    /// of them, so that they are created again.
    pub(super) fn start(transaction: &Connection, rolled_up: i64) -> Result<Self> {
        if counter(transaction, "whole_up_to")? != rolled_up {
            for sql in [
                "DELETE FROM minutes WHERE series_id < 0",
                "DELETE FROM hours WHERE series_id < 0",
                "DELETE FROM metrics",
            ] {
                transaction.execute(sql, [])?;
            }
        }
        Ok(Self::default())
    }

    /// Returns the index of a metric for [`Self::add`]. Creates the metric rollup when the metric has a second series;
    /// returns `None` before that.
    pub(super) fn index_of(&mut self, transaction: &Connection, metric: MetricKey) -> Result<Option<usize>> {
        let vacant = match self.indices.entry(metric) {
            Entry::Occupied(known) => return Ok(*known.get()),
            Entry::Vacant(vacant) => vacant,
        };
        let rollup = get_or_create(transaction, vacant.key())?;
        let index = rollup.map(|rollup| {
            self.rollups.push((rollup, BTreeMap::new()));
            self.rollups.len() - 1
        });
        Ok(*vacant.insert(index))
    }

    /// Adds the aggregate of one series and minute to the metric rollup at an index.
    pub(super) fn add(&mut self, index: usize, minute: i64, aggregate: &Aggregate) {
        let (rollup, minutes) = &mut self.rollups[index];
        if minute >= rollup.first_bucket(Resolution::Minute) {
            minutes.entry(minute).and_modify(|known| known.merge(aggregate)).or_insert_with(|| aggregate.clone());
        }
    }

    /// Writes the added aggregates, in the order of the primary key.
    pub(super) fn write(mut self, writer: &mut RollupWriter<'_>) -> Result<()> {
        self.rollups.sort_unstable_by_key(|(rollup, _)| rollup.id);
        self.rollups.into_iter().try_for_each(|(rollup, minutes)| writer.merge(rollup.id, minutes))
    }
}

/// Returns the metric rollup of a metric. Creates it if the metric has a second series. A new one starts with the hour
/// after the last row of any of its series: every later rollup adds to it, so it contains every point of that hour.
fn get_or_create(transaction: &Connection, metric: &MetricKey) -> Result<Option<MetricRollupRows>> {
    const OF_METRIC: &str = "WHERE name = ?1 AND type = ?2 AND project = ?3";
    let find = format!("SELECT -id, from_hour FROM metrics {OF_METRIC}");
    let second_series = format!("SELECT 1 FROM series {OF_METRIC} LIMIT 1 OFFSET 1");
    let create = format!(
        "INSERT INTO metrics (name, type, project, from_hour)
         SELECT ?1, ?2, ?3, 1 + max(max(
             ifnull((SELECT max(bucket) FROM minutes WHERE series_id = series.id) / 60, -1),
             ifnull((SELECT max(bucket) FROM hours WHERE series_id = series.id), -1)
         )) FROM series {OF_METRIC} RETURNING -id, from_hour"
    );
    let key = (&metric.name, &metric.kind, &metric.project);
    let rollup = |row: &Row<'_>| MetricRollupRows::read(row, 0);
    let found = transaction.prepare_cached(&find)?.query_row(key, rollup).optional()?;
    if found.is_some() || !transaction.prepare_cached(&second_series)?.exists(key)? {
        return Ok(found);
    }
    Ok(Some(transaction.prepare_cached(&create)?.query_row(key, rollup)?))
}
