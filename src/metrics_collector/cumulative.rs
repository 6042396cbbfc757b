//! What a series has had since it is there. The tiers forget with time; this does not, so that what Prometheus is told
//! of a counter only grows.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use rusqlite::{Connection, Row, params};

use super::points::Kind;
use super::sketch::Sketch;
use super::store::total;
use crate::error::Result;

/// Where totals are kept.
#[derive(Debug, Clone, Copy)]
pub(super) enum Table {
    /// Of all that is rolled up.
    RolledUp,
    /// Of all that was sent on.
    Remote,
}

impl Table {
    fn name(self) -> &'static str {
        match self {
            Self::RolledUp => "cumulative",
            Self::Remote => "remote",
        }
    }
}

/// All points of a series, put together.
///
/// Sums are made point by point in the order of arrival, at a rollup as well as for an answer in between: any other
/// order may round differently, and a total that falls by its last digit is a restart to Prometheus, which then counts
/// all of it again.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Cumulative {
    pub(super) count: u64,
    /// Of a counter without its negative deltas.
    pub(super) sum: f64,
    /// The value of the latest point, and when it was measured, in ms since 1970.
    pub(super) last: f64,
    pub(super) last_at: i64,
    /// Of histograms; its owner adds to it, in any order.
    pub(super) sketch: Sketch,
}

impl Default for Cumulative {
    fn default() -> Self {
        Self { count: 0, sum: 0.0, last: 0.0, last_at: i64::MIN, sketch: Sketch::default() }
    }
}

impl Cumulative {
    /// Adds a point to everything but the distribution.
    pub(super) fn add(&mut self, kind: Kind, value: f64, at: i64) {
        self.count += 1;
        let grown = if kind == Kind::Counter { value.max(0.0) } else { value };
        self.sum = (self.sum + grown).clamp(f64::MIN, f64::MAX);
        if at >= self.last_at {
            (self.last, self.last_at) = (value, at);
        }
    }

    /// What is stored of a series; nothing of one that has had no rollup.
    pub(super) fn load(connection: &Connection, table: Table, series: i64) -> Result<Self> {
        let mut all = Self::load_numbers(connection, table, series)?;
        all.load_sketch(connection, table, series)?;
        Ok(all)
    }

    /// The same without the distribution, which is large.
    pub(super) fn load_numbers(connection: &Connection, table: Table, series: i64) -> Result<Self> {
        let sql = format!("SELECT count, sum, last, last_at, NULL FROM {} WHERE series_id = ?1", table.name());
        let mut read = connection.prepare_cached(&sql)?;
        let mut rows = read.query([series])?;
        Ok(rows.next()?.map(|row| Self::read(row, 0)).transpose()?.flatten().unwrap_or_default())
    }

    /// Loads the stored distribution after the numbers.
    pub(super) fn load_sketch(&mut self, connection: &Connection, table: Table, series: i64) -> Result<()> {
        let sql = format!("SELECT sketch FROM {} WHERE series_id = ?1", table.name());
        let mut read = connection.prepare_cached(&sql)?;
        let mut rows = read.query([series])?;
        if let Some(row) = rows.next()? {
            self.sketch = row.get_ref(0)?.as_blob_or_null().ok().flatten().and_then(Sketch::decode).unwrap_or_default();
        }
        Ok(())
    }

    /// From a row's column on; `None` where a join found nothing.
    fn read(row: &Row<'_>, from: usize) -> rusqlite::Result<Option<Self>> {
        let Some(count) = row.get::<_, Option<i64>>(from)? else { return Ok(None) };
        let sketch = row.get_ref(from + 4)?.as_blob_or_null().ok().flatten().and_then(Sketch::decode);
        Ok(Some(Self {
            count: count.unsigned_abs(),
            sum: row.get(from + 1)?,
            last: row.get(from + 2)?,
            last_at: row.get(from + 3)?,
            sketch: sketch.unwrap_or_default(),
        }))
    }

    /// Stores it in place of what was there.
    pub(super) fn store(&self, transaction: &Connection, table: Table, series: i64) -> Result<()> {
        let mut write = transaction.prepare_cached(&format!(
            "INSERT OR REPLACE INTO {} (series_id, count, sum, last, last_at, sketch)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            table.name()
        ))?;
        let count = i64::try_from(self.count).unwrap_or(i64::MAX);
        let sketch = (self.sketch.count() > 0).then(|| self.sketch.encode());
        write.execute(params![series, count, self.sum, self.last, self.last_at, sketch])?;
        Ok(())
    }
}

/// What a series is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) kind: Kind,
    pub(super) name: String,
    /// Empty where it has none.
    pub(super) project: String,
    /// A JSON object.
    pub(super) labels: String,
}

/// Hands every series that has had points to `each`, oldest first; points that are not rolled up yet are counted in.
pub(super) fn for_each(connection: &Connection, mut each: impl FnMut(Named, &Cumulative)) -> Result<()> {
    let snapshot = connection.unchecked_transaction()?;
    let mut known = with_fresh_points(&snapshot)?;
    let mut read = snapshot.prepare_cached(
        "SELECT s.id, s.type, s.name, s.project, s.labels, c.count, c.sum, c.last, c.last_at, c.sketch
         FROM series s LEFT JOIN cumulative c ON c.series_id = s.id ORDER BY s.id",
    )?;
    let mut rows = read.query([])?;
    while let Some(row) = rows.next()? {
        let fresh = known.remove(&row.get(0)?);
        let Some(kind) = Kind::named(row.get_ref(1)?.as_str().unwrap_or_default()) else { continue };
        let Some(cumulative) = fresh.map_or_else(|| Cumulative::read(row, 5), |fresh| Ok(Some(fresh)))? else {
            continue;
        };
        each(Named { kind, name: row.get(2)?, project: row.get(3)?, labels: row.get(4)? }, &cumulative);
    }
    Ok(())
}

/// The series that have points which are not rolled up yet.
fn with_fresh_points(snapshot: &Connection) -> Result<HashMap<i64, Cumulative>> {
    let mut known: HashMap<i64, Cumulative> = HashMap::new();
    let mut read = snapshot.prepare_cached(
        "SELECT p.series_id, s.type, p.value, p.at FROM points p JOIN series s ON s.id = p.series_id
         WHERE p.id > ?1 ORDER BY p.id",
    )?;
    let mut rows = read.query([total(snapshot, "rolled_up")?])?;
    while let Some(row) = rows.next()? {
        let (series, value) = (row.get(0)?, row.get(2)?);
        let kind = Kind::named(row.get_ref(1)?.as_str().unwrap_or_default()).unwrap_or(Kind::Gauge);
        let cumulative = match known.entry(series) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(first) => first.insert(Cumulative::load(snapshot, Table::RolledUp, series)?),
        };
        cumulative.add(kind, value, row.get(3)?);
        if kind == Kind::Histogram {
            cumulative.sketch.add(value);
        }
    }
    Ok(known)
}
