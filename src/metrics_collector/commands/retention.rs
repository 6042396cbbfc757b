//! Deletion of data: after its retention, and when the database reaches its maximum size.

use std::sync::Arc;

use rusqlite::Connection;

use super::super::config::Retention;
use super::super::point_decoder::PointDecoder;
use super::super::resolution::Resolution;
use super::super::rollup_quota::{ROLLUPS, holders};
use super::super::rollup_tables::{RollupScope, RollupTable};
use super::super::series;
use super::super::store::RECEIVED_HOURS;
use crate::clock::Timestamp;
use crate::db::{Command, counter, set_counter};
use crate::error::Result;
use crate::quota::{Holder, Measure, Reason, add_usage, largest_project, record_rejection};
use crate::records::key_kind::KeyKind;

/// Maximum number of points that one command deletes.
const POINTS_BATCH_MAX: i64 = 20_000;
/// Maximum number of points that are kept for remote write beyond their retention: about 20 MB.
const UNSENT_POINTS_MAX: i64 = 1_000_000;

/// Deletes a batch of expired points, all expired minutes and hours, and series and metrics without data.
pub(in super::super) struct DeleteExpired {
    pub(in super::super) retention: Retention,
    pub(in super::super) decoder: Arc<PointDecoder>,
    pub(in super::super) now: Timestamp,
}

impl Command for DeleteExpired {
    /// Whether more expired points may be left.
    type Output = bool;

    fn apply(self, transaction: &Connection) -> Result<bool> {
        let deleted_points = self.delete_points(transaction)?;
        for resolution in [Resolution::Minute, Resolution::Hour] {
            let first = resolution.bucket((self.now - self.retention.of(resolution)).ms());
            for (project, kind) in holders(transaction)? {
                delete_rows(transaction, resolution, Holder { project: &project, kind }, first)?;
            }
            for (scope, owners) in [(RollupScope::Series, "series"), (RollupScope::Metric, "metrics")] {
                // The list of ids lets SQLite find the expired rows of each in the primary key.
                let RollupTable { name, id, bucket } = RollupTable::new(scope, resolution);
                let sql = format!("DELETE FROM {name} WHERE {bucket} < ?1 AND {id} IN (SELECT id FROM {owners})");
                transaction.execute(&sql, [first])?;
            }
        }
        transaction.execute("DELETE FROM points_received WHERE at_h <= ?1", [self.now.hour() - RECEIVED_HOURS])?;
        if self.delete_series(transaction)? > 0 {
            delete_metrics(transaction)?;
            self.decoder.cache().clear();
            series::recount(transaction)?;
        }
        Ok(deleted_points as i64 == POINTS_BATCH_MAX)
    }
}

impl DeleteExpired {
    /// Deletes expired points. Keeps points that are not rolled up yet, points that remote write has not sent yet (up to
    /// a limit), and the newest point: ids of an empty table would start again below `rolled_up`, and new points would
    /// never be rolled up.
    fn delete_points(&self, transaction: &Connection) -> Result<usize> {
        let newest: i64 = transaction.query_row("SELECT coalesce(max(id), 0) FROM points", [], |row| row.get(0))?;
        let is_remote_on = counter(transaction, "remote_on")? != 0;
        let cursor = counter(transaction, "remote_cursor")?;
        let last_deletable = if is_remote_on { cursor.max(newest - UNSENT_POINTS_MAX) } else { newest };
        let deleted = transaction.execute(
            "DELETE FROM points WHERE id IN (SELECT id FROM points
                 WHERE id <= (SELECT value FROM counters WHERE name = 'rolled_up')
                     AND id < ?2 AND id <= ?3 AND at_ms < ?1 ORDER BY id LIMIT ?4)",
            ((self.now - self.retention.points).ms(), newest, last_deletable, POINTS_BATCH_MAX),
        )?;
        if deleted > 0 && is_remote_on && last_deletable > cursor {
            // Unsent points are deleted, but the running totals contain them. Remote write starts again from the totals.
            set_counter(transaction, "remote_on", 0)?;
            log::warn!(
                "remote write: more than {UNSENT_POINTS_MAX} points were not sent, and the oldest were deleted; sending \
                 continues with running totals"
            );
        }
        Ok(deleted)
    }

    /// Deletes series without points and rollup rows, with their running totals. Returns the number of series.
    fn delete_series(&self, transaction: &Connection) -> Result<usize> {
        Ok(transaction.execute(
            "DELETE FROM series WHERE created_at_ms < ?1
                 AND NOT EXISTS (SELECT 1 FROM series_hours WHERE series_id = series.id)
                 AND NOT EXISTS (SELECT 1 FROM series_minutes WHERE series_id = series.id)
                 AND NOT EXISTS (SELECT 1 FROM series_totals WHERE series_id = series.id AND last_at_ms >= ?1)
                 AND id NOT IN (SELECT series_id FROM points)",
            [(self.now - self.retention.minutes).ms()],
        )?)
    }
}

/// Deletes metrics without series and rollup rows.
fn delete_metrics(transaction: &Connection) -> Result<()> {
    transaction.execute(
        "DELETE FROM metrics
         WHERE NOT EXISTS (SELECT 1 FROM series WHERE metric_id = metrics.id)
             AND NOT EXISTS (SELECT 1 FROM metric_hours WHERE metric_id = metrics.id)
             AND NOT EXISTS (SELECT 1 FROM metric_minutes WHERE metric_id = metrics.id)",
        [],
    )?;
    Ok(())
}

/// Series of a project that were created with a kind of key.
const SERIES_OF_HOLDER: &str = "SELECT s.id FROM metrics m JOIN series s ON s.metric_id = m.id
    WHERE m.project = ?2 AND s.key_kind_id = ?3";

/// Deletes the rows of a holder's series before a bucket, and counts them as deleted. Returns their number.
fn delete_rows(transaction: &Connection, resolution: Resolution, holder: Holder<'_>, before: i64) -> Result<usize> {
    let RollupTable { name, id, bucket } = RollupTable::new(RollupScope::Series, resolution);
    let sql = format!("DELETE FROM {name} WHERE {bucket} < ?1 AND {id} IN ({SERIES_OF_HOLDER})");
    let deleted = transaction.prepare_cached(&sql)?.execute((before, holder.project, holder.kind.id()))?;
    add_usage(transaction, &ROLLUPS, holder, -(deleted as i64), 0)?;
    Ok(deleted)
}

/// Deletes the oldest minutes, then the oldest hours, to keep the database below `MAX_DB_MB`: those of the project with the most
/// rows, if it has any. Returns whether anything was deleted.
pub(in super::super) fn evict_oldest(connection: &Connection) -> Result<bool> {
    for evict in [evict_from_largest, evict_from_all] {
        for resolution in [Resolution::Minute, Resolution::Hour] {
            if evict(connection, resolution)? {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Number of buckets that one eviction deletes.
const EVICTED_BUCKETS: i64 = 11;

/// Deletes the oldest buckets of the project with the most rows, first of its browser keys if most rows are theirs.
fn evict_from_largest(connection: &Connection, resolution: Resolution) -> Result<bool> {
    let Some((project, kind)) = largest_project(connection, &ROLLUPS, Measure::Rows)? else { return Ok(false) };
    let holder = Holder { project: &project, kind };
    let RollupTable { name, id, bucket } = RollupTable::new(RollupScope::Series, resolution);
    // The minimum of each series is one step in the primary key.
    let oldest = format!(
        "SELECT min((SELECT min({bucket}) FROM {name} WHERE {id} = s.id)) FROM metrics m JOIN series s ON s.metric_id = m.id
         WHERE m.project = ?1 AND s.key_kind_id = ?2"
    );
    let key = (&project, kind.id());
    let oldest: Option<i64> = connection.prepare_cached(&oldest)?.query_row(key, |row| row.get(0))?;
    let Some(before) = oldest.map(|oldest| oldest + EVICTED_BUCKETS) else { return Ok(false) };
    let deleted = delete_rows(connection, resolution, holder, before)?;
    // Rows over all series of a metric, unless they also contain points of another kind of key.
    let RollupTable { name, id, bucket } = RollupTable::new(RollupScope::Metric, resolution);
    let other_series = if kind == KeyKind::Browser { "server_series" } else { "browser_series" };
    let delete = format!(
        "DELETE FROM {name} WHERE {bucket} < ?1
             AND {id} IN (SELECT id FROM metrics WHERE project = ?2 AND {other_series} = 0)"
    );
    connection.prepare_cached(&delete)?.execute((before, &project))?;
    record_rejection(connection, &ROLLUPS, &project, Reason::Evicted, deleted as u64, Timestamp::now())?;
    Ok(deleted > 0)
}

/// Deletes the oldest buckets of all projects.
fn evict_from_all(connection: &Connection, resolution: Resolution) -> Result<bool> {
    let tables = [RollupScope::Series, RollupScope::Metric].map(|scope| RollupTable::new(scope, resolution));
    let mut oldest: Option<i64> = None;
    for RollupTable { name, bucket, .. } in tables {
        let sql = format!("SELECT min({bucket}) FROM {name}");
        let first: Option<i64> = connection.query_row(&sql, [], |row| row.get(0))?;
        oldest = oldest.into_iter().chain(first).min();
    }
    let Some(oldest) = oldest else { return Ok(false) };
    for (project, kind) in holders(connection)? {
        delete_rows(connection, resolution, Holder { project: &project, kind }, oldest + EVICTED_BUCKETS)?;
    }
    for RollupTable { name, bucket, .. } in tables {
        connection.execute(&format!("DELETE FROM {name} WHERE {bucket} < ?1"), [oldest + EVICTED_BUCKETS])?;
    }
    Ok(true)
}
