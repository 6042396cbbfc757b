//! All series of a metric together. A metric that has had several has rows of its whole in the tiers, so that what asks
//! for all of them reads one row for a bucket, and not one for each series.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use rusqlite::{Connection, OptionalExtension as _, Params, Row};

use super::commands::{MS_PER_HOUR, Tiers};
use super::store::{Resolution, total};
use super::tally::Tally;
use crate::error::Result;

/// What tells a metric from all others.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Metric {
    pub(super) name: String,
    /// Its type as it is stored.
    pub(super) kind: String,
    /// Empty where it has none.
    pub(super) project: String,
}

impl Metric {
    /// From three columns in this order.
    pub(super) fn read(row: &Row<'_>, from: usize) -> rusqlite::Result<Self> {
        Ok(Self { name: row.get(from)?, kind: row.get(from + 1)?, project: row.get(from + 2)? })
    }
}

/// Where the rows of a metric's whole are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Whole {
    /// What stands in the place of a series' number: below zero, so that it is none.
    pub(super) id: i64,
    /// The hour from which on they hold every point. Before it there may be none, or not all.
    from_hour: i64,
}

impl Whole {
    fn read(row: &Row<'_>, from: usize) -> rusqlite::Result<Self> {
        Ok(Self { id: row.get(from)?, from_hour: row.get(from + 1)? })
    }

    /// The first bucket that holds every point.
    pub(super) fn first(self, resolution: Resolution) -> i64 {
        self.from_hour * (MS_PER_HOUR / resolution.ms())
    }
}

/// Which buckets of a range are to be read of series one by one, and which of their whole.
pub(super) fn split(buckets: &Range<i64>, whole: Option<Whole>, resolution: Resolution) -> [Range<i64>; 2] {
    let from = whole.map_or(buckets.end, |whole| whole.first(resolution).clamp(buckets.start, buckets.end));
    [buckets.start..from, from..buckets.end]
}

/// The wholes of a name's metrics.
pub(super) fn of_name(connection: &Connection, name: &str) -> Result<HashMap<Metric, Whole>> {
    read(connection, "name = ?1", [name])
}

/// The wholes of all metrics.
pub(super) fn of_all(connection: &Connection) -> Result<HashMap<Metric, Whole>> {
    read(connection, "TRUE", [])
}

/// None where a program that knows no wholes has rolled up and this one has not yet: then they lack points.
fn read(connection: &Connection, condition: &str, params: impl Params) -> Result<HashMap<Metric, Whole>> {
    if total(connection, "whole_up_to")? != total(connection, "rolled_up")? {
        return Ok(HashMap::new());
    }
    let sql = format!("SELECT name, type, project, -id, from_hour FROM metrics WHERE {condition}");
    let mut read = connection.prepare_cached(&sql)?;
    let wholes = read.query_map(params, |row| Ok((Metric::read(row, 0)?, Whole::read(row, 3)?)))?;
    Ok(wholes.collect::<rusqlite::Result<_>>()?)
}

/// What a rollup adds to wholes.
#[derive(Default)]
pub(super) struct Gathered {
    metrics: HashMap<Metric, Option<usize>>,
    wholes: Vec<(Whole, BTreeMap<i64, Tally>)>,
}

impl Gathered {
    /// Begins a rollup of the points beyond a number. Wholes that lack points before it are let go and begin anew.
    pub(super) fn beyond(transaction: &Connection, rolled_up: i64) -> Result<Self> {
        if total(transaction, "whole_up_to")? != rolled_up {
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

    /// The place of a metric's whole, which begins when the metric has a second series; `None` before that.
    pub(super) fn find(&mut self, transaction: &Connection, metric: Metric) -> Result<Option<usize>> {
        let vacant = match self.metrics.entry(metric) {
            Entry::Occupied(known) => return Ok(*known.get()),
            Entry::Vacant(vacant) => vacant,
        };
        let whole = find_or_begin(transaction, vacant.key())?;
        let place = whole.map(|whole| {
            self.wholes.push((whole, BTreeMap::new()));
            self.wholes.len() - 1
        });
        Ok(*vacant.insert(place))
    }

    /// Adds a minute of one of its series to a whole.
    pub(super) fn add(&mut self, place: usize, minute: i64, tally: &Tally) {
        let (whole, minutes) = &mut self.wholes[place];
        if minute >= whole.first(Resolution::Minute) {
            minutes.entry(minute).and_modify(|known| known.merge(tally)).or_insert_with(|| tally.clone());
        }
    }

    /// Stores everything that was added, in the order of the primary keys.
    pub(super) fn store(mut self, tiers: &mut Tiers<'_>) -> Result<()> {
        self.wholes.sort_unstable_by_key(|(whole, _)| whole.id);
        self.wholes.into_iter().try_for_each(|(whole, minutes)| tiers.put(whole.id, minutes))
    }
}

/// A whole begins with the hour after the last one of which any of its series has a row: all that is rolled up from now
/// on is added to it, so it holds every point of that hour.
fn find_or_begin(transaction: &Connection, metric: &Metric) -> Result<Option<Whole>> {
    const OF_METRIC: &str = "WHERE name = ?1 AND type = ?2 AND project = ?3";
    let find = format!("SELECT -id, from_hour FROM metrics {OF_METRIC}");
    let another = format!("SELECT 1 FROM series {OF_METRIC} LIMIT 1 OFFSET 1");
    let begin = format!(
        "INSERT INTO metrics (name, type, project, from_hour)
         SELECT ?1, ?2, ?3, 1 + max(max(
             ifnull((SELECT max(bucket) FROM minutes WHERE series_id = series.id) / 60, -1),
             ifnull((SELECT max(bucket) FROM hours WHERE series_id = series.id), -1)
         )) FROM series {OF_METRIC} RETURNING -id, from_hour"
    );
    let columns = (&metric.name, &metric.kind, &metric.project);
    let whole = |row: &Row<'_>| Whole::read(row, 0);
    let found = transaction.prepare_cached(&find)?.query_row(columns, whole).optional()?;
    if found.is_some() || !transaction.prepare_cached(&another)?.exists(columns)? {
        return Ok(found);
    }
    Ok(Some(transaction.prepare_cached(&begin)?.query_row(columns, whole)?))
}
