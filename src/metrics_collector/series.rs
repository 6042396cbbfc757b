//! Lookup of the series that a point belongs to. A cache maps a hash of the series to its id, so a point of a known
//! series costs no query. Misses are resolved in the database.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};

use rusqlite::{Connection, OptionalExtension as _, Row};

use super::cardinality::OVERFLOW_LABELS;
use super::prometheus_characters::metric_name;
use super::series_quota::{BatchQuota, SeriesStore};
use crate::clock::Timestamp;
use crate::db::add_to_counter;
use crate::error::Result;
use crate::records::key_kind::KeyKind;
use crate::records::point::{Label, MetricKind, Point};

/// Metric name of the overflow series for points of new metrics when a quota is used up.
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
        self.hash_parts(MetricRef::from(point), point.labels(), buffer)
    }

    /// Returns the hash of a series without labels, which identifies the metric.
    fn hash_metric(&self, metric: MetricRef<'_>) -> SeriesHash {
        self.hash_parts(metric, &[], &mut Vec::new())
    }

    fn hash_parts(&self, metric: MetricRef<'_>, labels: &[Label<'_>], buffer: &mut Vec<u8>) -> SeriesHash {
        buffer.clear();
        buffer.push(metric.kind as u8);
        let labels = labels.iter().flat_map(|(name, value)| [&**name, &**value]);
        for part in [metric.project, metric.name].into_iter().chain(labels) {
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
    /// Overflow series, by the hash of the metric.
    overflows: IdMap<SeriesHash, OverflowSeries>,
    /// The writer's count of failed writes at the last check. A failed write rolls back the series it created, so the
    /// cache is invalid after one.
    failed_writes: u64,
    /// Whether the log already has the warning about `MAX_SERIES`.
    logged_quota: bool,
}

/// Overflow series of a metric.
#[derive(Debug, Clone, Copy)]
struct OverflowSeries {
    id: i64,
    /// Whether the metric has as many series of servers and of browsers as `MAX_SERIES_PER_METRIC` allows.
    is_full: [bool; 2],
}

/// Series that a point was assigned to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ResolvedSeries {
    /// The id of the point's own series.
    Own(i64),
    /// The id of an overflow series, because a limit is reached; with the refusal if that is a quota.
    Overflow(i64, Option<usize>),
}

/// Limit that prevents a new series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ReachedLimit {
    /// A quota, with its refusal in [`BatchQuota`].
    Quota(usize),
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
        self.overflows.clear();
    }

    /// Returns the cached id of a series.
    pub(super) fn get(&self, hash: SeriesHash) -> Option<i64> {
        self.ids.get(&hash).copied()
    }

    /// Finds or creates the series of a point in the database. Returns an overflow series if a limit prevents a new one.
    pub(super) fn get_or_create(
        &mut self,
        quota: &mut BatchQuota<'_>,
        hasher: &SeriesHasher,
        point: &Point<'_>,
    ) -> Result<ResolvedSeries> {
        let (metric, labels) = (MetricRef::from(point), labels_json(point.labels()));
        let found = find(quota.transaction, metric, &labels)?;
        let id = match found.series_id {
            Some(id) => id,
            None => match self.reached_limit(quota, hasher, metric, found.metric_id, &labels)? {
                Some(limit) => return self.get_or_create_overflow(quota, hasher, metric, found.metric_id, limit),
                None => insert(quota.transaction, metric, &labels, quota.kind, quota.now)?,
            },
        };
        // Series beyond the limits are not cached, because their number is unbounded.
        self.ids.insert(hasher.hash(point, &mut Vec::new()), id);
        Ok(ResolvedSeries::Own(id))
    }

    fn reached_limit(
        &self,
        quota: &mut BatchQuota<'_>,
        hasher: &SeriesHasher,
        metric: MetricRef<'_>,
        metric_id: Option<i64>,
        labels: &str,
    ) -> Result<Option<ReachedLimit>> {
        let overflow = self.overflows.get(&hasher.hash_metric(metric));
        if overflow.is_some_and(|overflow| overflow.is_full[kind_index(quota.kind)]) {
            return Ok(Some(ReachedLimit::PerMetric));
        }
        if metric_id.is_none() {
            let bytes = metric.name.len() + metric.project.len();
            if let Some(refusal) = quota.refusal(SeriesStore::MetricNames, metric.project, bytes)? {
                return Ok(Some(ReachedLimit::Quota(refusal)));
            }
        }
        if let Some(refusal) = quota.refusal(SeriesStore::Series, metric.project, labels.len())? {
            return Ok(Some(ReachedLimit::Quota(refusal)));
        }
        let mut count = quota.transaction.prepare_cached(
            "SELECT coalesce(sum(CASE ?3 WHEN 1 THEN server_series ELSE browser_series END), 0) FROM metrics
                 WHERE name = ?1 AND type_id IN (SELECT id FROM metric_types) AND project = ?2",
        )?;
        let key = (metric.name, metric.project, quota.kind.id());
        let series: i64 = count.query_row(key, |row| row.get(0))?;
        Ok((series >= quota.limits.per_metric).then_some(ReachedLimit::PerMetric))
    }

    /// Finds or creates the overflow series of a metric. There are at most as many as metrics, plus one per kind and project
    /// for metrics that were new when a quota was used up.
    fn get_or_create_overflow(
        &mut self,
        quota: &BatchQuota<'_>,
        hasher: &SeriesHasher,
        metric: MetricRef<'_>,
        metric_id: Option<i64>,
        limit: ReachedLimit,
    ) -> Result<ResolvedSeries> {
        let refusal = if let ReachedLimit::Quota(refusal) = limit { Some(refusal) } else { None };
        // A metric that is new keeps its name only if the name has room: not if a quota refuses it.
        let is_shared = metric_id.is_none() && refusal.is_some();
        let metric = if is_shared { MetricRef { name: OVERFLOW_NAME, ..metric } } else { metric };
        let hash = hasher.hash_metric(metric);
        let id = match self.overflows.get(&hash) {
            Some(overflow) => overflow.id,
            None => {
                self.log_limit(metric, limit);
                find_or_insert_overflow(quota, metric)?
            }
        };
        let overflow = self.overflows.entry(hash).or_insert(OverflowSeries { id, is_full: [false; 2] });
        overflow.is_full[kind_index(quota.kind)] |= limit == ReachedLimit::PerMetric;
        Ok(ResolvedSeries::Overflow(id, refusal))
    }

    fn log_limit(&mut self, metric: MetricRef<'_>, limit: ReachedLimit) {
        match limit {
            ReachedLimit::Quota(_) if std::mem::replace(&mut self.logged_quota, true) => {}
            ReachedLimit::Quota(_) => log::warn!(
                "series limit: project {:?} has reached its share of MAX_SERIES; points of further series are added to \
                 overflow series (label overflow=true); GET /api/quota lists all projects",
                metric.project
            ),
            ReachedLimit::PerMetric => log::warn!(
                "series limit: metric {:?} has reached MAX_SERIES_PER_METRIC; points of further series are added to its \
                 overflow series (label overflow=true)",
                metric.name
            ),
        }
    }
}

fn kind_index(kind: KeyKind) -> usize {
    usize::from(kind == KeyKind::Browser)
}

/// Finds or creates the overflow series of a metric. If the store of names is full, the overflow series without a project
/// takes the place of a project's: made-up projects must not create metrics without a limit.
fn find_or_insert_overflow(quota: &BatchQuota<'_>, metric: MetricRef<'_>) -> Result<i64> {
    let (transaction, mut metric) = (quota.transaction, metric);
    let mut found = find(transaction, metric, OVERFLOW_LABELS)?;
    if found.metric_id.is_none() && quota.is_full(SeriesStore::MetricNames, metric.project)? {
        metric.project = "";
        found = find(transaction, metric, OVERFLOW_LABELS)?;
    }
    let create = || insert(transaction, metric, OVERFLOW_LABELS, quota.kind, quota.now);
    found.series_id.map_or_else(create, Ok)
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

/// Finds or creates a series, regardless of the limits. `kind` is that of the key if the series is new.
pub(super) fn get_or_create(
    transaction: &Connection,
    metric: MetricRef<'_>,
    labels: &str,
    kind: KeyKind,
    now: Timestamp,
) -> Result<i64> {
    let found = find(transaction, metric, labels)?;
    found.series_id.map_or_else(|| insert(transaction, metric, labels, kind, now), Ok)
}

/// Ids of the stored rows of a series.
#[derive(Debug, Clone, Copy, Default)]
struct FoundSeries {
    metric_id: Option<i64>,
    series_id: Option<i64>,
}

fn find(transaction: &Connection, metric: MetricRef<'_>, labels: &str) -> Result<FoundSeries> {
    let mut find = transaction.prepare_cached(
        "SELECT m.id, s.id FROM metrics m JOIN metric_types t ON t.id = m.type_id
             LEFT JOIN series s ON s.metric_id = m.id AND s.labels = ?4
         WHERE m.name = ?1 AND t.name = ?2 AND m.project = ?3",
    )?;
    let key = (metric.name, metric.kind.as_str(), metric.project, labels);
    let found = |row: &Row<'_>| Ok(FoundSeries { metric_id: row.get(0)?, series_id: row.get(1)? });
    Ok(find.query_row(key, found).optional()?.unwrap_or_default())
}

fn insert(transaction: &Connection, metric: MetricRef<'_>, labels: &str, kind: KeyKind, now: Timestamp) -> Result<i64> {
    let key = (metric.name, metric.kind.as_str(), metric.project);
    transaction
        .prepare_cached(
            "INSERT OR IGNORE INTO metrics (name, type_id, project, key_kind_id, prometheus_name)
                 SELECT ?1, id, ?3, ?4, ?5 FROM metric_types WHERE name = ?2",
        )?
        .execute((key.0, key.1, key.2, kind.id(), metric_name(metric.name)))?;
    let mut insert = transaction.prepare_cached(
        "INSERT INTO series (metric_id, labels, created_at_ms, key_kind_id)
             SELECT m.id, ?4, ?5, ?6 FROM metrics m JOIN metric_types t ON t.id = m.type_id
             WHERE m.name = ?1 AND t.name = ?2 AND m.project = ?3",
    )?;
    // The triggers of this insert do not change the id that SQLite returns.
    let id = insert.insert((key.0, key.1, key.2, labels, now.ms(), kind.id()))?;
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
