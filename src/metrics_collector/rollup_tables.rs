//! The four rollup tables, of series and of metrics by minute and by hour: decoding and merging of rows.

use rusqlite::{CachedStatement, Connection, Row, params};

use super::aggregate::Aggregate;
use super::compensated_sum::CompensatedSum;
use super::resolution::{MS_PER_HOUR, MS_PER_MINUTE, Resolution};
use super::sketch::Sketch;
use super::web_vitals::RatingCounts;
use crate::error::Result;

const MINUTES_PER_HOUR: i64 = MS_PER_HOUR / MS_PER_MINUTE;

/// Set of points that a row of a rollup table aggregates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum RollupScope {
    /// The points of one series.
    Series,
    /// The points of all series of a metric.
    Metric,
}

/// Names of a rollup table and of its primary key.
#[derive(Debug, Clone, Copy)]
pub(super) struct RollupTable {
    pub(super) name: &'static str,
    /// Column with the id of the series or metric.
    pub(super) id: &'static str,
    /// Column with the number of the bucket.
    pub(super) bucket: &'static str,
}

impl RollupTable {
    /// Returns the table of a kind and resolution.
    pub(super) fn new(scope: RollupScope, resolution: Resolution) -> Self {
        let (name, id, bucket) = match (scope, resolution) {
            (RollupScope::Series, Resolution::Minute) => ("series_minutes", "series_id", "at_min"),
            (RollupScope::Series, Resolution::Hour) => ("series_hours", "series_id", "at_h"),
            (RollupScope::Metric, Resolution::Minute) => ("metric_minutes", "metric_id", "at_min"),
            (RollupScope::Metric, Resolution::Hour) => ("metric_hours", "metric_id", "at_h"),
        };
        Self { name, id, bucket }
    }
}

/// Columns that [`read_numbers`] reads.
pub(super) const NUMBER_COLUMNS: &str = "count, sum, sum_rest, min, max, last, last_at_ms";
/// Columns that [`read_aggregate`] reads.
pub(super) const AGGREGATE_COLUMNS: &str =
    "count, sum, sum_rest, min, max, last, last_at_ms, sketch, p50, p95, p99, good, needs_improvement, poor";

/// Decodes an aggregate from [`AGGREGATE_COLUMNS`], which begin at the column `first`. A corrupt sketch counts as none.
pub(super) fn read_aggregate(row: &Row<'_>, first: usize) -> Result<Aggregate> {
    let sketch = row.get_ref(first + 7)?.as_blob_or_null().ok().flatten().and_then(Sketch::decode);
    let imported_percentiles = match row.get(first + 8)? {
        Some(p50) => Some(Box::new([p50, row.get(first + 9)?, row.get(first + 10)?])),
        None => None,
    };
    let count = |column| row.get(first + column).map(i64::unsigned_abs);
    let ratings = match row.get(first + 11)? {
        Some(good) => {
            let good = i64::unsigned_abs(good);
            Some(Box::new(RatingCounts { good, needs_improvement: count(12)?, poor: count(13)? }))
        }
        None => None,
    };
    Ok(Aggregate { sketch, imported_percentiles, ratings, ..read_numbers(row, first)? })
}

/// Decodes an aggregate without sketch, percentiles and ratings from [`NUMBER_COLUMNS`], which begin at the column
/// `first`.
pub(super) fn read_numbers(row: &Row<'_>, first: usize) -> Result<Aggregate> {
    let count: i64 = row.get(first)?;
    Ok(Aggregate {
        count: count.unsigned_abs(),
        sum: CompensatedSum::from_parts(row.get(first + 1)?, row.get(first + 2)?),
        min: row.get(first + 3)?,
        max: row.get(first + 4)?,
        last: row.get(first + 5)?,
        last_at: row.get(first + 6)?,
        sketch: None,
        imported_percentiles: None,
        ratings: None,
    })
}

/// Writer that merges aggregates of minutes into the tables of minutes and of hours.
pub(super) struct RollupWriter<'c> {
    minutes: UpsertStmt<'c>,
    hours: UpsertStmt<'c>,
}

impl<'c> RollupWriter<'c> {
    /// Prepares the statements for both tables.
    pub(super) fn new(transaction: &'c Connection, scope: RollupScope) -> Result<Self> {
        Ok(Self {
            minutes: UpsertStmt::prepare(transaction, RollupTable::new(scope, Resolution::Minute))?,
            hours: UpsertStmt::prepare(transaction, RollupTable::new(scope, Resolution::Hour))?,
        })
    }

    /// Merges minutes of one series or metric into both tables, or only into the table of hours. The minutes must be in
    /// ascending order, so that each hour is written once. Returns the number of new rows.
    pub(super) fn merge(
        &mut self,
        id: i64,
        stores_minutes: bool,
        minutes: impl IntoIterator<Item = (i64, Aggregate)>,
    ) -> Result<i64> {
        let mut new_rows = 0;
        let mut current: Option<(i64, Aggregate)> = None;
        for (minute, aggregate) in minutes {
            let hour = minute.div_euclid(MINUTES_PER_HOUR);
            match &mut current {
                Some((current_hour, merged)) if *current_hour == hour => merged.merge(&aggregate),
                other => {
                    if let Some((complete_hour, merged)) = other.replace((hour, aggregate.clone())) {
                        new_rows += i64::from(self.hours.merge(id, complete_hour, merged)?);
                    }
                }
            }
            if stores_minutes {
                new_rows += i64::from(self.minutes.merge(id, minute, aggregate)?);
            }
        }
        if let Some((last_hour, merged)) = current {
            new_rows += i64::from(self.hours.merge(id, last_hour, merged)?);
        }
        Ok(new_rows)
    }
}

/// Prepared statements that merge an aggregate into one row of a rollup table.
pub(super) struct UpsertStmt<'c> {
    read: CachedStatement<'c>,
    write: CachedStatement<'c>,
}

impl<'c> UpsertStmt<'c> {
    /// Prepares the statements for one table.
    pub(super) fn prepare(transaction: &'c Connection, table: RollupTable) -> Result<Self> {
        let RollupTable { name, id, bucket } = table;
        let read = format!("SELECT {AGGREGATE_COLUMNS} FROM {name} WHERE {id} = ?1 AND {bucket} = ?2");
        let write = format!(
            "INSERT OR REPLACE INTO {name} ({id}, {bucket}, {AGGREGATE_COLUMNS})
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)"
        );
        Ok(Self { read: transaction.prepare_cached(&read)?, write: transaction.prepare_cached(&write)? })
    }

    /// Merges an aggregate into the row of a bucket, or inserts the row. Returns whether the row is new.
    pub(super) fn merge(&mut self, id: i64, bucket: i64, mut aggregate: Aggregate) -> Result<bool> {
        let mut rows = self.read.query((id, bucket))?;
        let mut is_new = true;
        if let Some(row) = rows.next()? {
            is_new = false;
            // The stored points arrived first. Of two points with the same time, the later arrival is the last value.
            let new = std::mem::replace(&mut aggregate, read_aggregate(row, 0)?);
            aggregate.merge(&new);
        }
        drop(rows);
        let Aggregate { count, sum, min, max, last, last_at, sketch, imported_percentiles, ratings } = &aggregate;
        let to_column = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        let sketch = sketch.as_ref().map(Sketch::encode);
        let [p50, p95, p99] = imported_percentiles.as_ref().map_or([None; 3], |percentiles| percentiles.map(Some));
        let [good, needs_improvement, poor] = match ratings {
            Some(ratings) => {
                [ratings.good, ratings.needs_improvement, ratings.poor].map(|count| Some(to_column(count)))
            }
            None => [None; 3],
        };
        let count = to_column(*count);
        self.write.execute(params![
            id,
            bucket,
            count,
            sum.value(),
            sum.rest(),
            min,
            max,
            last,
            last_at,
            sketch,
            p50,
            p95,
            p99,
            good,
            needs_improvement,
            poor
        ])?;
        Ok(is_new)
    }
}
