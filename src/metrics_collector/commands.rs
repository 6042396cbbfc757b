//! Every change to the metrics collector's database, as a value.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};

use super::config::{Retention, SeriesCaps};
use super::cumulative::Cumulative;
use super::points::{self, Kind};
use super::series::{Hasher, Identity, Known, Resolved};
use super::store::{RECEIVED_HOURS, TALLY_COLUMNS, read_tally, total};
use super::tally::{Detail, Tally};
use crate::clock::Timestamp;
use crate::db::Command;
use crate::error::{Error, Result};

/// Points folded in one transaction, so that clients do not wait for a rollup.
const ROLLED_UP_AT_ONCE: i64 = 50_000;
/// Minutes of series folded in one transaction, which is what a rollup takes of memory: some 700 bytes each.
const TALLIES_AT_ONCE: usize = 8_192;
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
    pub(super) body: Vec<u8>,
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
}

impl Reader {
    /// Reads a body's points: their identities, without the labels that do not tell series apart.
    ///
    /// # Errors
    /// [`Error::Invalid`], naming the item and the field.
    pub(super) fn read<'b>(&self, body: &'b [u8]) -> Result<Vec<(points::Point<'b>, Option<String>)>> {
        let points = points::parse(body)?;
        Ok(points.into_iter().map(|point| self.without_dropped(point)).collect())
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
    type Answer = Accepted;

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
    type Answer = ();

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
        let mut overflowed = 0;
        for point in &self.points {
            let id = match known.get(self.reader.hasher.identity(point)) {
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
        for ((point, _), measured) in self.reader.read(&self.body)?.iter().zip(&self.points) {
            let identity = measured.series;
            if known.get(identity).is_some() || over_cap.contains_key(&identity) {
                continue;
            }
            if let Resolved::Overflow(id) = known.resolve(transaction, hasher, point, *caps, self.now)? {
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

/// Folds points that are in no tier yet into both, and into what there was of each series in all. Each point is folded
/// once: the tiers and the mark up to which they reach change in one transaction.
pub(super) struct RollUp {
    pub(super) now: Timestamp,
}

impl Command for RollUp {
    /// Whether there may be more to fold.
    type Answer = bool;

    fn apply(self, transaction: &Connection) -> Result<bool> {
        let mark = total(transaction, "rolled_up")?;
        let mut read = transaction.prepare_cached(
            "SELECT p.id, p.series_id, p.at, p.value, s.type, s.name FROM points p JOIN series s ON s.id = p.series_id
             WHERE p.id > ?1 ORDER BY p.id LIMIT ?2",
        )?;
        let mut rows = read.query((mark, ROLLED_UP_AT_ONCE))?;
        let (mut last, mut folded) = (mark, 0);
        let mut minutes: HashMap<(i64, i64), Tally> = HashMap::new();
        let mut cumulative: HashMap<i64, Cumulative> = HashMap::new();
        let mut more = false;
        while let Some(row) = rows.next()? {
            if minutes.len() == TALLIES_AT_ONCE {
                more = true;
                break;
            }
            let (series, at, value): (i64, i64, f64) = (row.get(1)?, row.get(2)?, row.get(3)?);
            (last, folded) = (row.get(0)?, folded + 1);
            let kind = row.get_ref(4)?.as_str().ok().and_then(Kind::named).unwrap_or(Kind::Gauge);
            match cumulative.entry(series) {
                Entry::Occupied(mut known) => known.get_mut().add(kind, value, at),
                Entry::Vacant(first) => first.insert(Cumulative::load(transaction, series)?).add(kind, value, at),
            }
            let detail = Detail::of(Some(kind), row.get_ref(5)?.as_str().unwrap_or_default());
            minutes
                .entry((series, at.div_euclid(MS_PER_MINUTE)))
                .and_modify(|tally| tally.add(value, at, detail))
                .or_insert_with(|| Tally::of(value, at, detail));
        }
        let mut hours: HashMap<(i64, i64), Tally> = HashMap::new();
        for ((series, minute), tally) in &minutes {
            let hour = minute.div_euclid(60);
            if let (Some(sketch), Some(known)) = (&tally.sketch, cumulative.get_mut(series)) {
                known.sketch.merge(sketch);
            }
            hours.entry((*series, hour)).and_modify(|hour| hour.merge(tally)).or_insert_with(|| tally.clone());
        }
        fold(transaction, "minutes", minutes)?;
        fold(transaction, "hours", hours)?;
        for (series, known) in cumulative {
            known.store(transaction, series)?;
        }
        for (name, value) in [("rolled_up", last), ("rolled_up_at", self.now.ms())] {
            transaction.prepare_cached("UPDATE totals SET value = ?2 WHERE name = ?1")?.execute((name, value))?;
        }
        Ok(more || folded == ROLLED_UP_AT_ONCE)
    }
}

/// Merges tallies into the rows of a tier.
pub(super) fn fold(transaction: &Connection, tier: &str, tallies: HashMap<(i64, i64), Tally>) -> Result<()> {
    let mut sorted: Vec<_> = tallies.into_iter().collect();
    // In the order of the primary key, so that neighbours are written together.
    sorted.sort_unstable_by_key(|(key, _)| *key);
    let mut read = transaction
        .prepare_cached(&format!("SELECT {TALLY_COLUMNS} FROM {tier} WHERE series_id = ?1 AND bucket = ?2"))?;
    let mut write = transaction.prepare_cached(&format!(
        "INSERT OR REPLACE INTO {tier} (series_id, bucket, {TALLY_COLUMNS})
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)"
    ))?;
    for ((series, bucket), mut tally) in sorted {
        let mut rows = read.query((series, bucket))?;
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
        write.execute(params![
            series, bucket, count, sum, min, max, last, last_at, sketch, p50, p95, p99, good, middling, poor
        ])?;
    }
    Ok(())
}

/// Removes some of what is older than its tier is kept, and series of which nothing is left.
pub(super) struct Expire {
    pub(super) retention: Retention,
    pub(super) reader: Arc<Reader>,
    pub(super) now: Timestamp,
}

impl Command for Expire {
    /// Whether there may be more to remove.
    type Answer = bool;

    fn apply(self, transaction: &Connection) -> Result<bool> {
        let before = |kept| self.now.minus(kept).ms();
        // What is in no tier yet stays whatever its age, and so does the newest point: in an empty table numbers would
        // begin again below the mark of what is folded, and new points would be in no tier ever.
        let points = transaction.execute(
            "DELETE FROM points WHERE id IN (SELECT id FROM points
                 WHERE id <= (SELECT value FROM totals WHERE name = 'rolled_up')
                     AND id < (SELECT max(id) FROM points) AND at < ?1 ORDER BY id LIMIT ?2)",
            (before(self.retention.points), REMOVED_AT_ONCE),
        )?;
        for (tier, bucket) in [
            ("minutes", before(self.retention.minutes).div_euclid(MS_PER_MINUTE)),
            ("hours", before(self.retention.hours).div_euclid(MS_PER_HOUR)),
        ] {
            transaction.execute(
                &format!("DELETE FROM {tier} WHERE bucket < ?1 AND series_id IN (SELECT id FROM series)"),
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
            // The number of a series that is gone may be given to another one, which begins at nothing.
            transaction.execute("DELETE FROM cumulative WHERE series_id NOT IN (SELECT id FROM series)", [])?;
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
