//! Reader for rollup tables of one resolution that also includes the points that are not rolled up yet.

use std::collections::BTreeMap;
use std::ops::Range;

use rusqlite::Connection;

use super::aggregate::{Aggregate, AggregateParts};
use super::resolution::Resolution;
use super::rollup_tables::{AGGREGATE_COLUMNS, NUMBER_COLUMNS, RollupScope, RollupTable, read_aggregate, read_numbers};
use crate::db::counter;
use crate::error::{Error, Result};

/// Maximum number of aggregates of points that are not rolled up yet: about 6 MB. A rollup starts as soon as 10,000 points wait.
const NOT_ROLLED_UP_MAX: usize = 50_000;

/// Rows of one resolution, and the aggregates of points that are in none of them yet.
pub(super) struct RollupReader<'c> {
    connection: &'c Connection,
    resolution: Resolution,
    /// By series id and bucket.
    not_rolled_up: BTreeMap<(i64, i64), Aggregate>,
}

impl<'c> RollupReader<'c> {
    /// Aggregates the points that are not rolled up yet, from the bucket `first` on. Skips series for which `kind_of`
    /// returns `None`. The connection must be in a transaction, so that no point is counted twice or missed.
    pub(super) fn open(
        connection: &'c Connection,
        first: i64,
        resolution: Resolution,
        kind_of: impl Fn(i64) -> Option<AggregateParts>,
    ) -> Result<Self> {
        let mut not_rolled_up: BTreeMap<(i64, i64), Aggregate> = BTreeMap::new();
        let mut read = connection.prepare_cached("SELECT series_id, at_ms, value FROM points WHERE id > ?1")?;
        let mut rows = read.query([counter(connection, "rolled_up")?])?;
        while let Some(row) = rows.next()? {
            let (series, at, value): (i64, i64, f64) = (row.get(0)?, row.get(1)?, row.get(2)?);
            let bucket = resolution.bucket(at);
            let Some(kind) = kind_of(series).filter(|_| bucket >= first) else { continue };
            not_rolled_up
                .entry((series, bucket))
                .and_modify(|aggregate| aggregate.add(value, at, kind))
                .or_insert_with(|| Aggregate::from_point(value, at, kind));
            if not_rolled_up.len() > NOT_ROLLED_UP_MAX {
                return Err(Error::Busy("Too many points wait for the next rollup; narrow the time range"));
            }
        }
        Ok(Self { connection, resolution, not_rolled_up })
    }

    /// Returns the aggregates of a series' points that are not rolled up yet, by bucket.
    pub(super) fn not_rolled_up(&self, series: i64, buckets: &Range<i64>) -> impl Iterator<Item = (i64, &Aggregate)> {
        self.not_rolled_up
            .range((series, buckets.start)..(series, buckets.end))
            .map(|((_, bucket), aggregate)| (*bucket, aggregate))
    }

    /// Whether any point before the bucket `end` is not rolled up yet.
    pub(super) fn has_not_rolled_up_before(&self, end: i64) -> bool {
        self.not_rolled_up.keys().any(|(_, bucket)| *bucket < end)
    }

    /// Returns the width of a bucket.
    pub(super) fn resolution(&self) -> Resolution {
        self.resolution
    }

    /// Passes the rows of one series or metric in a range of buckets to `visit`.
    pub(super) fn for_each_row(
        &self,
        (scope, id): (RollupScope, i64),
        kind: AggregateParts,
        buckets: &Range<i64>,
        mut visit: impl FnMut(i64, Aggregate),
    ) -> Result<()> {
        if buckets.is_empty() {
            return Ok(());
        }
        // Sketches that are not needed would take half of the time: a month of many series has many rows.
        let with_sketch = kind.has_sketch();
        let columns = if with_sketch { AGGREGATE_COLUMNS } else { NUMBER_COLUMNS };
        let RollupTable { name, id: id_column, bucket } = RollupTable::new(scope, self.resolution);
        let mut read = self.connection.prepare_cached(&format!(
            "SELECT {bucket}, {columns} FROM {name} WHERE {id_column} = ?1 AND {bucket} >= ?2 AND {bucket} < ?3"
        ))?;
        let mut rows = read.query((id, buckets.start, buckets.end))?;
        while let Some(row) = rows.next()? {
            visit(row.get(0)?, if with_sketch { read_aggregate(row, 1)? } else { read_numbers(row, 1)? });
        }
        Ok(())
    }
}

/// Merges an aggregate into the entry of a key.
pub(super) fn merge_into<K: Ord>(aggregates: &mut BTreeMap<K, Aggregate>, key: K, aggregate: Aggregate) {
    match aggregates.get_mut(&key) {
        Some(known) => known.merge(&aggregate),
        None => drop(aggregates.insert(key, aggregate)),
    }
}
