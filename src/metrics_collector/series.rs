//! Lookup of the series that a point belongs to. A cache maps a hash of the series to its id, so a point of a known
//! series costs no query. Misses are resolved in the database.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};

use rusqlite::{Connection, OptionalExtension as _};

use super::cardinality::{CardinalityLimits, OVERFLOW_LABELS};
use crate::clock::Timestamp;
use crate::db::{add_to_counter, counter};
use crate::error::Result;
use crate::records::point::{Label, MetricKind, Point};

/// Metric name of the overflow series for points of new metrics when `MAX_SERIES` is reached.
const OVERFLOW_NAME: &str = "overflow";

/// Properties that identify a series.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SeriesKey {
    pub(super) kind: MetricKind,
    pub(super) name: String,
    /// Empty if the series has no project.
    pub(super) project: String,
    /// JSON object, sorted by name.
    pub(super) labels: String,
}

/// Hash of a series' kind, project, name and labels. It has 128 bits and random keys, so clients cannot cause
/// collisions.
pub(super) type SeriesHash = u128;

/// Hash map with keys that the collector generates itself: ids, or hashes with random keys. Clients cannot choose them, so
/// a fast hash function is safe.
pub(super) type IdMap<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// Hash function for series, with keys that are random in each process.
#[derive(Debug, Clone, Default)]
pub(super) struct SeriesHasher(RandomState, RandomState);

impl SeriesHasher {
    /// Returns the hash of a point's series. `buffer` is scratch space: concatenating the parts and hashing them in one
    /// call takes a quarter of the time of hashing each part.
    pub(super) fn hash(&self, point: &Point<'_>, buffer: &mut Vec<u8>) -> SeriesHash {
        self.hash_parts(point, point.labels(), buffer)
    }

    /// Returns the hash of a point's series without labels, which identifies the metric.
    fn hash_metric(&self, point: &Point<'_>) -> SeriesHash {
        self.hash_parts(point, &[], &mut Vec::new())
    }

    fn hash_parts(&self, point: &Point<'_>, labels: &[Label<'_>], buffer: &mut Vec<u8>) -> SeriesHash {
        buffer.clear();
        buffer.push(point.kind() as u8);
        let labels = labels.iter().flat_map(|(name, value)| [&**name, &**value]);
        for part in [point.project(), point.name()].into_iter().chain(labels) {
            // The length prefix makes the concatenation unambiguous. No part has 65,536 bytes.
            buffer.extend_from_slice(&(part.len() as u16).to_le_bytes());
            buffer.extend_from_slice(part.as_bytes());
        }
        u128::from(self.0.hash_one(&*buffer)) << 64 | u128::from(self.1.hash_one(&*buffer))
    }
}

/// Cache of series ids. Only commands on the writer thread change it, in the transaction that creates the series.
#[derive(Debug, Default)]
pub(super) struct SeriesCache {
    ids: IdMap<SeriesHash, i64>,
    /// Ids of overflow series, by the hash of the metric.
    overflow_ids: IdMap<SeriesHash, i64>,
    /// The writer's count of failed writes at the last check. A failed write rolls back the series it created, so the
    /// cache is invalid after one.
    failed_writes: u64,
    /// Whether the log already has the warning about `MAX_SERIES`.
    logged_total_limit: bool,
}

/// Series that a point was assigned to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ResolvedSeries {
    /// The id of the point's own series.
    Own(i64),
    /// The id of an overflow series, because a limit is reached.
    Overflow(i64),
}

/// Limit that prevents a new series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ReachedLimit {
    Total,
    PerMetric,
}

impl SeriesCache {
    /// Clears the cache if writes have failed since the last call. `failed_writes` is the writer's count.
    pub(super) fn invalidate_if_changed(&mut self, failed_writes: u64) {
        if failed_writes != self.failed_writes {
            self.clear();
            self.failed_writes = failed_writes;
        }
    }

    /// Removes all ids from the cache.
    pub(super) fn clear(&mut self) {
        self.ids.clear();
        self.overflow_ids.clear();
    }

    /// Returns the cached id of a series.
    pub(super) fn get(&self, hash: SeriesHash) -> Option<i64> {
        self.ids.get(&hash).copied()
    }

    /// Finds or creates the series of a point in the database. Returns an overflow series if a limit prevents a new one.
    pub(super) fn get_or_create(
        &mut self,
        transaction: &Connection,
        hasher: &SeriesHasher,
        point: &Point<'_>,
        limits: CardinalityLimits,
        now: Timestamp,
    ) -> Result<ResolvedSeries> {
        let (metric, labels) = (MetricRef::from(point), labels_json(point.labels()));
        let id = match find(transaction, metric, &labels)? {
            Some(id) => id,
            None => {
                let metric_hash = hasher.hash_metric(point);
                if let Some(id) = self.overflow_ids.get(&metric_hash) {
                    return Ok(ResolvedSeries::Overflow(*id));
                }
                if let Some(limit) = reached_limit(transaction, metric, limits)? {
                    let id = self.get_or_create_overflow(transaction, metric, limit, now)?;
                    self.overflow_ids.insert(metric_hash, id);
                    return Ok(ResolvedSeries::Overflow(id));
                }
                insert(transaction, metric, &labels, now)?
            }
        };
        // Series beyond the limits are not cached, because their number is unbounded.
        self.ids.insert(hasher.hash(point, &mut Vec::new()), id);
        Ok(ResolvedSeries::Own(id))
    }

    /// Finds or creates the overflow series of a metric. There are at most as many as metrics, plus one per kind for
    /// metrics that were new when `MAX_SERIES` was reached.
    fn get_or_create_overflow(
        &mut self,
        transaction: &Connection,
        metric: MetricRef<'_>,
        limit: ReachedLimit,
        now: Timestamp,
    ) -> Result<i64> {
        if let Some(id) = find(transaction, metric, OVERFLOW_LABELS)? {
            return Ok(id);
        }
        if limit == ReachedLimit::Total && !exists(transaction, metric)? {
            let shared = MetricRef { name: OVERFLOW_NAME, project: "", ..metric };
            self.log_total_limit();
            return match find(transaction, shared, OVERFLOW_LABELS)? {
                Some(id) => Ok(id),
                None => insert(transaction, shared, OVERFLOW_LABELS, now),
            };
        }
        match limit {
            ReachedLimit::Total => self.log_total_limit(),
            ReachedLimit::PerMetric => log::warn!(
                "series limit: metric {:?} has reached MAX_SERIES_PER_METRIC; points of further series are added to its \
                 overflow series (label overflow=true)",
                metric.name
            ),
        }
        insert(transaction, metric, OVERFLOW_LABELS, now)
    }

    fn log_total_limit(&mut self) {
        if !std::mem::replace(&mut self.logged_total_limit, true) {
            log::warn!(
                "series limit: MAX_SERIES is reached; points of further series are added to overflow series (label \
                 overflow=true)"
            );
        }
    }
}

/// Borrowed properties that identify a metric.
#[derive(Debug, Clone, Copy)]
pub(super) struct MetricRef<'a> {
    pub(super) name: &'a str,
    pub(super) kind: MetricKind,
    /// Empty if the metric has no project.
    pub(super) project: &'a str,
}

impl<'a> From<&'a Point<'_>> for MetricRef<'a> {
    fn from(point: &'a Point<'_>) -> Self {
        Self { name: point.name(), kind: point.kind(), project: point.project() }
    }
}

/// Finds or creates a series, regardless of the limits.
pub(super) fn get_or_create(
    transaction: &Connection,
    metric: MetricRef<'_>,
    labels: &str,
    now: Timestamp,
) -> Result<i64> {
    find(transaction, metric, labels)?.map_or_else(|| insert(transaction, metric, labels, now), Ok)
}

fn find(transaction: &Connection, metric: MetricRef<'_>, labels: &str) -> Result<Option<i64>> {
    let mut find = transaction
        .prepare_cached("SELECT id FROM series_keys WHERE name = ?1 AND type = ?2 AND project = ?3 AND labels = ?4")?;
    let key = (metric.name, metric.kind.as_str(), metric.project, labels);
    Ok(find.query_row(key, |row| row.get(0)).optional()?)
}

/// Whether the metric has any series.
fn exists(transaction: &Connection, metric: MetricRef<'_>) -> Result<bool> {
    let mut find = transaction
        .prepare_cached("SELECT 1 FROM series_keys WHERE name = ?1 AND type = ?2 AND project = ?3 LIMIT 1")?;
    Ok(find.exists((metric.name, metric.kind.as_str(), metric.project))?)
}

fn reached_limit(
    transaction: &Connection,
    metric: MetricRef<'_>,
    limits: CardinalityLimits,
) -> Result<Option<ReachedLimit>> {
    if counter(transaction, "series")? >= limits.total {
        return Ok(Some(ReachedLimit::Total));
    }
    let mut count = transaction.prepare_cached("SELECT count(*) FROM series_keys WHERE name = ?1")?;
    let series: i64 = count.query_row([metric.name], |row| row.get(0))?;
    Ok((series >= limits.per_metric).then_some(ReachedLimit::PerMetric))
}

fn insert(transaction: &Connection, metric: MetricRef<'_>, labels: &str, now: Timestamp) -> Result<i64> {
    let key = (metric.name, metric.kind.as_str(), metric.project);
    transaction
        .prepare_cached(
            "INSERT OR IGNORE INTO metrics (name, type_id, project)
                 SELECT ?1, id, ?3 FROM metric_types WHERE name = ?2",
        )?
        .execute(key)?;
    let mut insert = transaction.prepare_cached(
        "INSERT INTO series (metric_id, labels, created_at_ms)
             SELECT m.id, ?4, ?5 FROM metrics m JOIN metric_types t ON t.id = m.type_id
             WHERE m.name = ?1 AND t.name = ?2 AND m.project = ?3",
    )?;
    let id = insert.insert((key.0, key.1, key.2, labels, now.ms()))?;
    add_to_counter(transaction, "series", 1)?;
    Ok(id)
}

/// Sets the counter `series` to the number of series.
pub(super) fn recount(transaction: &Connection) -> Result<()> {
    transaction.execute("UPDATE counters SET value = (SELECT count(*) FROM series) WHERE name = 'series'", [])?;
    Ok(())
}

/// Returns labels as a JSON object, in the given order.
pub(super) fn labels_json(labels: &[Label<'_>]) -> String {
    let quote = |string: &str| serde_json::Value::from(string).to_string();
    let members: Vec<String> = labels.iter().map(|(name, value)| format!("{}:{}", quote(name), quote(value))).collect();
    format!("{{{}}}", members.join(","))
}
