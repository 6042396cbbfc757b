//! Commands that store points: batches from clients and the host's own metrics.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rusqlite::Connection;
use serde::{Deserialize, Serialize};

use super::super::cardinality::CardinalityLimits;
use super::super::point_decoder::PointDecoder;
use super::super::series::{IdMap, ResolvedSeries, SeriesCache, SeriesHash};
use super::super::series_quota::BatchQuota;
use crate::clock::Timestamp;
use crate::db::{Command, WriterStats, add_to_counter};
use crate::error::{Error, Result};
use crate::quota::{Reason, record_rejection};
use crate::records::key_kind::KeyKind;
use crate::records::point::Point;
use crate::service::IngestCommand;

/// Maximum time by which a client's clock may be ahead. Later timestamps are replaced by the time of arrival.
const CLOCK_SKEW_MAX: Duration = Duration::from_secs(600);
const INSERT_POINT: &str = "INSERT INTO points (series_id, at_ms, value, dropped_labels) VALUES (?1, ?2, ?3, ?4)";

/// Point whose series is identified by its hash.
#[derive(Debug, Clone)]
struct HashedPoint {
    series: SeriesHash,
    /// Corrected time, in ms since 1970.
    at: i64,
    value: f64,
    /// Labels that do not create series, as JSON.
    dropped: Option<String>,
}

/// Stores a batch of points.
pub(in super::super) struct AddPoints {
    points: Vec<HashedPoint>,
    /// The project of the first point.
    project: String,
    /// Request body, which is decoded again if a series is not in the cache. That is rare, so decoding twice costs less
    /// than copying the names and labels of every point.
    body: Arc<Vec<u8>>,
    decoder: Arc<PointDecoder>,
    /// Number of points whose timestamp was replaced.
    corrected: i64,
    /// The kind of the client's key.
    kind: KeyKind,
    now: Timestamp,
    writer_stats: Arc<WriterStats>,
}

impl AddPoints {
    /// Decodes a body that was sent with a kind of key. `check` decides whether the client may send the point at an index of
    /// the batch; `writer_stats` is of the writer that runs the command.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the body is malformed, and the error of `check`.
    pub(in super::super) fn decode(
        decoder: &Arc<PointDecoder>,
        body: Arc<Vec<u8>>,
        now: Timestamp,
        writer_stats: &Arc<WriterStats>,
        kind: KeyKind,
        check: impl Fn(usize, &Point<'_>) -> Result<()>,
    ) -> Result<Self> {
        let (mut corrected, mut buffer) = (0, Vec::new());
        let decoded = decoder.decode(&body)?;
        let mut project = String::new();
        let mut points = Vec::with_capacity(decoded.len());
        for (index, (point, dropped)) in decoded.enumerate() {
            check(index, &point)?;
            if points.is_empty() {
                project.push_str(point.project());
            }
            let at = match point.at() {
                Some(at) if at < now - decoder.point_age_max || at > now + CLOCK_SKEW_MAX => {
                    corrected += 1;
                    now
                }
                at => at.unwrap_or(now),
            };
            let series = decoder.hasher.hash(&point, &mut buffer);
            points.push(HashedPoint { series, at: at.ms(), value: point.value(), dropped });
        }
        let (decoder, writer_stats) = (Arc::clone(decoder), Arc::clone(writer_stats));
        Ok(Self { points, project, body, decoder, corrected, kind, now, writer_stats })
    }

    /// Stores the points. Returns the number of points that went to overflow series.
    fn store(&self, transaction: &Connection, cache: &mut SeriesCache) -> Result<i64> {
        let mut quota = BatchQuota::new(transaction, self.decoder.limits, self.kind, self.now);
        let mut overflows = IdMap::default();
        if self.points.iter().any(|point| cache.get(point.series).is_none()) {
            self.resolve_series(&mut quota, cache, &mut overflows)?;
        }
        let mut insert = transaction.prepare_cached(INSERT_POINT)?;
        let mut overflowed = 0;
        for point in &self.points {
            let id = cache.get(point.series).or_else(|| {
                let (id, refusal) = overflows.get(&point.series).copied()?;
                overflowed += 1;
                refusal.into_iter().for_each(|refusal| quota.count_folded(refusal));
                Some(id)
            });
            let id = id.ok_or_else(|| Error::Internal("a point has no series".into()))?;
            insert.execute((id, point.at, point.value, &point.dropped))?;
        }
        quota.record()?;
        let sql = "INSERT INTO points_received (at_h, points) VALUES (?1, ?2)
             ON CONFLICT (at_h) DO UPDATE SET points = points + excluded.points";
        transaction.prepare_cached(sql)?.execute((self.now.hour(), self.points.len() as i64))?;
        add_if_positive(transaction, "overflowed", overflowed)?;
        add_if_positive(transaction, "clock_corrected", self.corrected)?;
        Ok(overflowed)
    }

    /// Adds every series of the batch to the cache, except those beyond a limit, which it adds to `overflows` with their
    /// refusal.
    fn resolve_series(
        &self,
        quota: &mut BatchQuota<'_>,
        cache: &mut SeriesCache,
        overflows: &mut IdMap<SeriesHash, (i64, Option<usize>)>,
    ) -> Result<()> {
        for ((point, _), resolved) in self.decoder.decode(&self.body)?.zip(&self.points) {
            let hash = resolved.series;
            if cache.get(hash).is_some() || overflows.contains_key(&hash) {
                continue;
            }
            let series = cache.get_or_create(quota, &self.decoder.hasher, &point)?;
            if let ResolvedSeries::Overflow(id, refusal) = series {
                overflows.insert(hash, (id, refusal));
            }
        }
        Ok(())
    }
}

/// Response to a stored batch.
#[derive(Debug, Serialize, Deserialize)]
pub(in super::super) struct Accepted {
    status: String,
    count: usize,
    /// Number of points that went to overflow series.
    #[serde(default, skip_serializing_if = "is_zero")]
    folded: i64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &i64) -> bool {
    *number == 0
}

impl IngestCommand for AddPoints {
    fn project(&self) -> &str {
        &self.project
    }
}

impl Command for AddPoints {
    type Output = Accepted;

    fn apply(self, transaction: &Connection) -> Result<Accepted> {
        let folded = with_cache(&self.decoder, &self.writer_stats, |cache| self.store(transaction, cache))?;
        Ok(Accepted { status: "accepted".into(), count: self.points.len(), folded })
    }
}

/// Counts a batch that was rejected because only server keys may write one of its names.
pub(in super::super) struct RecordReservedName {
    pub(in super::super) project: String,
    pub(in super::super) limits: CardinalityLimits,
    pub(in super::super) now: Timestamp,
}

impl Command for RecordReservedName {
    type Output = ();

    fn apply(self, transaction: &Connection) -> Result<()> {
        let store = self.limits.metric_names();
        record_rejection(transaction, &store, &self.project, Reason::ReservedName, 1, self.now)
    }
}

/// Stores points that describe this machine.
pub(in super::super) struct AddHostPoints {
    pub(in super::super) points: Vec<Point<'static>>,
    pub(in super::super) decoder: Arc<PointDecoder>,
    /// Time of the measurement.
    pub(in super::super) now: Timestamp,
    /// Statistics of the writer that runs the command.
    pub(in super::super) writer_stats: Arc<WriterStats>,
}

impl Command for AddHostPoints {
    type Output = ();

    fn apply(self, transaction: &Connection) -> Result<()> {
        with_cache(&self.decoder, &self.writer_stats, |cache| self.store(transaction, cache))
    }
}

impl AddHostPoints {
    fn store(&self, transaction: &Connection, cache: &mut SeriesCache) -> Result<()> {
        let PointDecoder { hasher, limits, .. } = &*self.decoder;
        let mut quota = BatchQuota::new(transaction, *limits, KeyKind::Server, self.now);
        let mut insert = transaction.prepare_cached(INSERT_POINT)?;
        let (mut overflowed, mut buffer) = (0, Vec::new());
        for point in &self.points {
            let id = match cache.get(hasher.hash(point, &mut buffer)) {
                Some(id) => id,
                None => match cache.get_or_create(&mut quota, hasher, point)? {
                    ResolvedSeries::Own(id) => id,
                    ResolvedSeries::Overflow(id, refusal) => {
                        overflowed += 1;
                        refusal.into_iter().for_each(|refusal| quota.count_folded(refusal));
                        id
                    }
                },
            };
            insert.execute((id, self.now.ms(), point.value(), None::<String>))?;
        }
        quota.record()?;
        add_if_positive(transaction, "overflowed", overflowed)
    }
}

/// Adds to a counter, but writes nothing for zero: most batches have no such points.
fn add_if_positive(transaction: &Connection, name: &str, points: i64) -> Result<()> {
    if points > 0 { add_to_counter(transaction, name, points) } else { Ok(()) }
}

/// Runs `store` with the locked series cache. Clears the cache before if writes have failed since its last use, and
/// after if `store` fails, because the series it created are then rolled back. The count of failed writes is read here,
/// and not when a request is decoded: a write can fail in between.
fn with_cache<T>(
    decoder: &PointDecoder,
    writer_stats: &WriterStats,
    store: impl FnOnce(&mut SeriesCache) -> Result<T>,
) -> Result<T> {
    let mut cache = decoder.cache();
    cache.invalidate_if_changed(writer_stats.failed_writes.load(Ordering::Relaxed));
    let stored = store(&mut cache);
    if stored.is_err() {
        cache.clear();
    }
    stored
}
