//! Deletion of data: after its retention, and when the database reaches its maximum size.

use std::sync::Arc;

use rusqlite::Connection;

use super::super::config::Retention;
use super::super::point_decoder::PointDecoder;
use super::super::resolution::Resolution;
use super::super::rollup_tables::{RollupScope, RollupTable};
use super::super::series;
use super::super::store::RECEIVED_HOURS;
use crate::clock::Timestamp;
use crate::db::{Command, counter, set_counter};
use crate::error::Result;

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
        for (resolution, retention) in
            [(Resolution::Minute, self.retention.minutes), (Resolution::Hour, self.retention.hours)]
        {
            let first = resolution.bucket((self.now - retention).ms());
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

/// Deletes the oldest minutes, then the oldest hours, to keep the database below `MAX_DB_MB`. Returns whether anything
/// was deleted.
pub(in super::super) fn evict_oldest(connection: &Connection) -> Result<bool> {
    for resolution in [Resolution::Minute, Resolution::Hour] {
        let tables = [RollupScope::Series, RollupScope::Metric].map(|scope| RollupTable::new(scope, resolution));
        let mut oldest: Option<i64> = None;
        for RollupTable { name, bucket, .. } in tables {
            let sql = format!("SELECT min({bucket}) FROM {name}");
            let first: Option<i64> = connection.query_row(&sql, [], |row| row.get(0))?;
            oldest = oldest.into_iter().chain(first).min();
        }
        let Some(oldest) = oldest else { continue };
        for RollupTable { name, bucket, .. } in tables {
            connection.execute(&format!("DELETE FROM {name} WHERE {bucket} <= ?1 + 10"), [oldest])?;
        }
        return Ok(true);
    }
    Ok(false)
}
