//! Every change to the metrics collector's database, as a value.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{CachedStatement, Connection, OptionalExtension as _, params};
use serde::{Deserialize, Serialize};

use super::config::{Retention, SeriesCaps};
use super::cumulative::{Cumulative, Table};
use super::points::{self, Kind};
use super::series::{Hasher, Identity, Known, Resolved};
use super::store::{RECEIVED_HOURS, TALLY_COLUMNS, read_tally, total};
use super::tally::{Detail, Tally};
use super::whole::{Gathered, Metric};
use crate::clock::Timestamp;
use crate::db::Command;
use crate::error::{Error, Result};

/// Points folded in one transaction, and minutes of series that they are in, so that clients do not wait for a rollup
/// and its memory is bounded. The more points at once, the fewer rows are written more than once.
const ROLLED_UP_AT_ONCE: usize = 200_000;
const TALLIES_AT_ONCE: usize = 10_000;
/// Points removed in one go.
const REMOVED_AT_ONCE: i64 = 20_000;
const INSERT_POINT: &str = "INSERT INTO points (series_id, at, value, dropped) VALUES (?1, ?2, ?3, ?4)";
pub(super) const MS_PER_MINUTE: i64 = 60_000;
pub(super) const MS_PER_HOUR: i64 = 3_600_000;

/// A point whose series is known by its hash.
#[derive(Debug, Clone)]
pub(super) struct Measured {
    pub(super) series: Identity,
    /// In ms since 1970, corrected.
    pub(super) at: i64,
    pub(super) value: f64,
    /// Labels that do not tell series apart, as JSON.
    pub(super) dropped: Option<String>,
}

/// Stores a batch of points.
pub(super) struct AddPoints {
    pub(super) points: Vec<Measured>,
    /// The body they came in: it is read again when a series is new, which is rare, rather than copied when it is not.
    pub(super) body: Arc<Vec<u8>>,
    pub(super) reader: Arc<Reader>,
    /// Points whose clock was wrong.
    pub(super) corrected: i64,
    pub(super) now: Timestamp,
    /// The writer's count of failed writes.
    pub(super) failures: u64,
}

/// How bodies are read, and which series are known.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) hasher: Hasher,
    pub(super) known: Mutex<Known>,
    pub(super) dropped_labels: Vec<String>,
    pub(super) caps: SeriesCaps,
    /// A point that says it is older has a wrong clock.
    pub(super) point_age_max: Duration,
}

impl Reader {
    /// Reads a body's points: their identities, without the labels that do not tell series apart.
    ///
    /// # Errors
    /// [`Error::Invalid`], naming the item and the field.
    pub(super) fn read<'b>(
        &self,
        body: &'b [u8],
    ) -> Result<impl ExactSizeIterator<Item = (points::Point<'b>, Option<String>)>> {
        Ok(points::parse(body)?.into_iter().map(|point| self.without_dropped(point)))
    }

    fn without_dropped<'b>(&self, mut point: points::Point<'b>) -> (points::Point<'b>, Option<String>) {
        if !point.labels.iter().any(|(name, _)| self.dropped_labels.iter().any(|dropped| dropped == name)) {
            return (point, None);
        }
        let drops = |label: &(std::borrow::Cow<'_, str>, _)| self.dropped_labels.iter().any(|name| *name == label.0);
        let (dropped, kept): (Vec<_>, Vec<_>) = point.labels.into_iter().partition(drops);
        point.labels = kept;
        (point, Some(super::series::labels_json(&dropped)))
    }
}

/// A batch that is stored.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Accepted {
    status: String,
    count: usize,
}

impl Command for AddPoints {
    type Output = Accepted;

    fn apply(self, transaction: &Connection) -> Result<Accepted> {
        let mut known = self.reader.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.trust_unless(self.failures);
        let stored = self.store(transaction, &mut known);
        if stored.is_err() {
            // What was made for this batch is undone with it.
            known.forget();
        }
        stored?;
        Ok(Accepted { status: "accepted".into(), count: self.points.len() })
    }
}

/// Stores what this process has measured itself.
pub(super) struct AddOwn {
    pub(super) points: Vec<points::Point<'static>>,
    pub(super) reader: Arc<Reader>,
    /// When they were measured.
    pub(super) now: Timestamp,
    /// The writer's count of failed writes.
    pub(super) failures: u64,
}

impl Command for AddOwn {
    type Output = ();

    fn apply(self, transaction: &Connection) -> Result<()> {
        let mut known = self.reader.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.trust_unless(self.failures);
        let stored = self.store(transaction, &mut known);
        if stored.is_err() {
            // What was made for these points is undone with them.
            known.forget();
        }
        stored
    }
}

impl AddOwn {
    fn store(&self, transaction: &Connection, known: &mut Known) -> Result<()> {
        let mut insert = transaction.prepare_cached(INSERT_POINT)?;
        let (mut overflowed, mut parts) = (0, Vec::new());
        for point in &self.points {
            let id = match known.get(self.reader.hasher.identity(point, &mut parts)) {
                Some(id) => id,
                None => match known.resolve(transaction, &self.reader.hasher, point, self.reader.caps, self.now)? {
                    Resolved::Own(id) => id,
                    Resolved::Overflow(id) => {
                        overflowed += 1;
                        id
                    }
                },
            };
            insert.execute((id, self.now.ms(), point.value, None::<String>))?;
        }
        add_to_total(transaction, "overflowed", overflowed)
    }
}

impl AddPoints {
    fn store(&self, transaction: &Connection, known: &mut Known) -> Result<()> {
        let mut over_cap = HashMap::new();
        if self.points.iter().any(|point| known.get(point.series).is_none()) {
            self.resolve(transaction, known, &mut over_cap)?;
        }
        let mut insert = transaction.prepare_cached(INSERT_POINT)?;
        let mut overflowed = 0;
        for point in &self.points {
            let id = known.get(point.series).or_else(|| {
                overflowed += 1;
                over_cap.get(&point.series).copied()
            });
            let id = id.ok_or_else(|| Error::Internal("a point without a series".into()))?;
            insert.execute((id, point.at, point.value, &point.dropped))?;
        }
        let sql = "INSERT INTO received (hour, points) VALUES (?1, ?2)
             ON CONFLICT (hour) DO UPDATE SET points = points + excluded.points";
        transaction.prepare_cached(sql)?.execute((self.now.hour(), self.points.len() as i64))?;
        add_to_total(transaction, "overflowed", overflowed)?;
        add_to_total(transaction, "clock_corrected", self.corrected)
    }

    /// Makes every series of the batch known, but for those over a cap.
    fn resolve(
        &self,
        transaction: &Connection,
        known: &mut Known,
        over_cap: &mut HashMap<Identity, i64>,
    ) -> Result<()> {
        let Reader { hasher, caps, .. } = &*self.reader;
        for ((point, _), measured) in self.reader.read(&self.body)?.zip(&self.points) {
            let identity = measured.series;
            if known.get(identity).is_some() || over_cap.contains_key(&identity) {
                continue;
            }
            if let Resolved::Overflow(id) = known.resolve(transaction, hasher, &point, *caps, self.now)? {
                over_cap.insert(identity, id);
            }
        }
        Ok(())
    }
}

fn add_to_total(transaction: &Connection, name: &str, number: i64) -> Result<()> {
    if number > 0 {
        let mut add = transaction.prepare_cached("UPDATE totals SET value = value + ?2 WHERE name = ?1")?;
        add.execute((name, number))?;
    }
    Ok(())
}

/// Folds points that are in no tier yet into both, as their series' and as their metrics' whole, and into what there was
/// of each series in all. Each point is folded once: the tiers and the mark up to which they reach change in one
/// transaction.
pub(super) struct RollUp {
    pub(super) now: Timestamp,
}

impl Command for RollUp {
    /// Whether there may be more to fold.
    type Output = bool;

    fn apply(self, transaction: &Connection) -> Result<bool> {
        let mark = total(transaction, "rolled_up")?;
        let mut read =
            transaction.prepare_cached("SELECT id, series_id, at, value FROM points WHERE id > ?1 ORDER BY id")?;
        let mut wholes = Gathered::beyond(transaction, mark)?;
        let mut find = Touched::find(transaction)?;
        let mut rows = read.query([mark])?;
        let (mut last, mut points, mut tallies) = (mark, 0, 0);
        let mut touched: HashMap<i64, Box<Touched>> = HashMap::new();
        let mut more = false;
        while let Some(row) = rows.next()? {
            if points == ROLLED_UP_AT_ONCE || tallies >= TALLIES_AT_ONCE {
                more = true;
                break;
            }
            (last, points) = (row.get(0)?, points + 1);
            let series = match touched.entry(row.get(1)?) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(first) => {
                    let series = Touched::load(&mut find, transaction, *first.key(), &mut wholes)?;
                    first.insert(Box::new(series))
                }
            };
            tallies += usize::from(series.add(row.get(3)?, row.get(2)?));
        }
        drop(rows);
        // In the order of the primary keys, so that neighbours are written together.
        let mut sorted: Vec<i64> = touched.keys().copied().collect();
        sorted.sort_unstable();
        let mut tiers = Tiers::of(transaction)?;
        for id in sorted {
            if let Some(series) = touched.remove(&id) {
                series.store(transaction, id, &mut tiers, &mut wholes)?;
            }
        }
        wholes.store(&mut tiers)?;
        for (name, value) in [("rolled_up", last), ("whole_up_to", last), ("rolled_up_at", self.now.ms())] {
            transaction.prepare_cached("UPDATE totals SET value = ?2 WHERE name = ?1")?.execute((name, value))?;
        }
        Ok(more)
    }
}

/// A series that points of one rollup are of.
struct Touched {
    kind: Kind,
    detail: Detail,
    cumulative: Cumulative,
    /// The place of its metric's whole, where there is one.
    whole: Option<usize>,
    /// Sorted. One or two as a rule.
    minutes: Vec<(i64, Tally)>,
}

impl Touched {
    fn find(transaction: &Connection) -> Result<CachedStatement<'_>> {
        Ok(transaction.prepare_cached("SELECT name, type, project FROM series WHERE id = ?1")?)
    }

    fn load(find: &mut CachedStatement<'_>, transaction: &Connection, id: i64, wholes: &mut Gathered) -> Result<Self> {
        // A series goes after its points. Were one missing all the same, rollups must not wait for it for ever.
        let metric = find.query_row([id], |row| Metric::read(row, 0)).optional()?;
        let kind = metric.as_ref().and_then(|metric| Kind::named(&metric.kind)).unwrap_or(Kind::Gauge);
        let detail = metric.as_ref().map(|metric| Detail::of(Some(kind), &metric.name)).unwrap_or_default();
        let whole = metric.map(|metric| wholes.find(transaction, metric)).transpose()?.flatten();
        let cumulative = Cumulative::load_numbers(transaction, Table::RolledUp, id)?;
        Ok(Self { kind, detail, cumulative, whole, minutes: Vec::with_capacity(1) })
    }

    /// Adds a point; answers whether it is the first of a minute.
    fn add(&mut self, value: f64, at: i64) -> bool {
        self.cumulative.add(self.kind, value, at);
        let minute = at.div_euclid(MS_PER_MINUTE);
        match self.minutes.binary_search_by_key(&minute, |(minute, _)| *minute) {
            Ok(index) => self.minutes[index].1.add(value, at, self.detail),
            Err(index) => {
                self.minutes.insert(index, (minute, Tally::of(value, at, self.detail)));
                return true;
            }
        }
        false
    }

    fn store(mut self, transaction: &Connection, id: i64, tiers: &mut Tiers<'_>, wholes: &mut Gathered) -> Result<()> {
        if self.kind == Kind::Histogram {
            self.cumulative.load_sketch(transaction, Table::RolledUp, id)?;
        }
        for (minute, tally) in &self.minutes {
            if let Some(sketch) = &tally.sketch {
                self.cumulative.sketch.merge(sketch);
            }
            if let Some(whole) = self.whole {
                wholes.add(whole, *minute, tally);
            }
        }
        tiers.put(id, self.minutes)?;
        self.cumulative.store(transaction, Table::RolledUp, id)
    }
}

/// Both tiers, to merge tallies into.
pub(super) struct Tiers<'c> {
    minutes: Fold<'c>,
    hours: Fold<'c>,
}

impl<'c> Tiers<'c> {
    fn of(transaction: &'c Connection) -> Result<Self> {
        Ok(Self { minutes: Fold::into(transaction, "minutes")?, hours: Fold::into(transaction, "hours")? })
    }

    /// Merges minutes, in order, of a series or of a metric's whole.
    pub(super) fn put(&mut self, id: i64, minutes: impl IntoIterator<Item = (i64, Tally)>) -> Result<()> {
        let mut hour: Option<(i64, Tally)> = None;
        for (minute, tally) in minutes {
            let its_hour = minute.div_euclid(60);
            match &mut hour {
                Some((known, all)) if *known == its_hour => all.merge(&tally),
                other => {
                    if let Some((over, all)) = other.replace((its_hour, tally.clone())) {
                        self.hours.put(id, over, all)?;
                    }
                }
            }
            self.minutes.put(id, minute, tally)?;
        }
        match hour {
            Some((last, all)) => self.hours.put(id, last, all),
            None => Ok(()),
        }
    }
}

/// Merges tallies into the rows of a tier.
pub(super) struct Fold<'c> {
    read: CachedStatement<'c>,
    write: CachedStatement<'c>,
}

impl<'c> Fold<'c> {
    pub(super) fn into(transaction: &'c Connection, tier: &str) -> Result<Self> {
        let read = format!("SELECT {TALLY_COLUMNS} FROM {tier} WHERE series_id = ?1 AND bucket = ?2");
        let write = format!(
            "INSERT OR REPLACE INTO {tier} (series_id, bucket, {TALLY_COLUMNS})
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)"
        );
        Ok(Self { read: transaction.prepare_cached(&read)?, write: transaction.prepare_cached(&write)? })
    }

    /// Merges a tally into a bucket of a series, or of a metric's whole.
    pub(super) fn put(&mut self, series: i64, bucket: i64, mut tally: Tally) -> Result<()> {
        let mut rows = self.read.query((series, bucket))?;
        if let Some(row) = rows.next()? {
            // What is stored came first: of two values of one moment the later one is the last.
            let fresh = std::mem::replace(&mut tally, read_tally(row, 0)?);
            tally.merge(&fresh);
        }
        drop(rows);
        let Tally { count, sum, min, max, last, last_at, sketch, originals, shares } = &tally;
        let whole = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        let sketch = sketch.as_ref().map(super::sketch::Sketch::encode);
        let [p50, p95, p99] = originals.as_ref().map_or([None; 3], |originals| originals.map(Some));
        let [good, middling, poor] = match shares {
            Some(shares) => [shares.good, shares.needs_improvement, shares.poor].map(|count| Some(whole(count))),
            None => [None; 3],
        };
        let count = whole(*count);
        self.write.execute(params![
            series, bucket, count, sum, min, max, last, last_at, sketch, p50, p95, p99, good, middling, poor
        ])?;
        Ok(())
    }
}

/// Points that wait to be sent on, whatever their age: about 20 MB.
const UNSENT_POINTS_MAX: i64 = 1_000_000;

/// Removes some of what is older than its tier is kept, and series and metrics of which nothing is left.
pub(super) struct Expire {
    pub(super) retention: Retention,
    pub(super) reader: Arc<Reader>,
    pub(super) now: Timestamp,
}

impl Command for Expire {
    /// Whether there may be more to remove.
    type Output = bool;

    fn apply(self, transaction: &Connection) -> Result<bool> {
        let before = |kept| (self.now - kept).ms();
        let newest: i64 = transaction.query_row("SELECT coalesce(max(id), 0) FROM points", [], |row| row.get(0))?;
        let cursor = total(transaction, "remote_cursor")?;
        // What was not sent on yet stays as well, as far as there is room for it.
        let sent = if cursor < 0 { newest } else { cursor.max(newest - UNSENT_POINTS_MAX) };
        // What is in no tier yet stays whatever its age, and so does the newest point: in an empty table numbers would
        // begin again below the mark of what is folded, and new points would be in no tier ever.
        let points = transaction.execute(
            "DELETE FROM points WHERE id IN (SELECT id FROM points
                 WHERE id <= (SELECT value FROM totals WHERE name = 'rolled_up')
                     AND id < ?2 AND id <= ?3 AND at < ?1 ORDER BY id LIMIT ?4)",
            (before(self.retention.points), newest, sent, REMOVED_AT_ONCE),
        )?;
        if points > 0 && cursor >= 0 && sent > cursor {
            // Some of what was to be sent one after the other is gone. The totals still have it.
            transaction.execute("UPDATE totals SET value = -1 WHERE name = 'remote_cursor'", [])?;
            log::warn!("remote write: its server was away for too long; totals go on, what was between is not sent");
        }
        for (tier, bucket) in [
            ("minutes", before(self.retention.minutes).div_euclid(MS_PER_MINUTE)),
            ("hours", before(self.retention.hours).div_euclid(MS_PER_HOUR)),
        ] {
            transaction.execute(
                &format!(
                    "DELETE FROM {tier} WHERE bucket < ?1
                         AND series_id IN (SELECT id FROM series UNION ALL SELECT -id FROM metrics)"
                ),
                [bucket],
            )?;
        }
        transaction.execute("DELETE FROM received WHERE hour <= ?1", [self.now.hour() - RECEIVED_HOURS])?;
        let gone = transaction.execute(
            "DELETE FROM series WHERE created_at < ?1
                 AND NOT EXISTS (SELECT 1 FROM hours WHERE series_id = series.id)
                 AND NOT EXISTS (SELECT 1 FROM minutes WHERE series_id = series.id)
                 AND NOT EXISTS (SELECT 1 FROM cumulative WHERE series_id = series.id AND last_at >= ?1)
                 AND id NOT IN (SELECT series_id FROM points)",
            [before(self.retention.minutes)],
        )?;
        if gone > 0 {
            // The number of what is gone may be given to another one, which begins at nothing.
            for table in ["cumulative", "remote"] {
                let sql = format!("DELETE FROM {table} WHERE series_id NOT IN (SELECT id FROM series)");
                transaction.execute(&sql, [])?;
            }
            transaction.execute(
                "DELETE FROM metrics
                 WHERE NOT EXISTS (SELECT 1 FROM series s
                         WHERE s.name = metrics.name AND s.type = metrics.type AND s.project = metrics.project)
                     AND NOT EXISTS (SELECT 1 FROM hours WHERE series_id = -metrics.id)
                     AND NOT EXISTS (SELECT 1 FROM minutes WHERE series_id = -metrics.id)",
                [],
            )?;
            self.reader.known.lock().unwrap_or_else(PoisonError::into_inner).forget();
            let sql = "UPDATE totals SET value = (SELECT count(*) FROM series) WHERE name = 'series'";
            transaction.execute(sql, [])?;
        }
        Ok(points as i64 == REMOVED_AT_ONCE)
    }
}

/// Removes the oldest minutes, then the oldest hours, so that the file stays within `MAX_DB_MB`.
pub(super) fn shrink(connection: &Connection) -> Result<bool> {
    for tier in ["minutes", "hours"] {
        let oldest: Option<i64> =
            connection.query_row(&format!("SELECT min(bucket) FROM {tier}"), [], |row| row.get(0))?;
        if let Some(oldest) = oldest {
            return Ok(connection.execute(&format!("DELETE FROM {tier} WHERE bucket <= ?1 + 10"), [oldest])? > 0);
        }
    }
    Ok(false)
}
