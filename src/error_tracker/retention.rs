//! Retention of the error tracker: deletes expired groups and hourly counts, and the oldest full reports when the
//! database exceeds its size limit.

use std::time::Duration;

use rusqlite::{CachedStatement, Connection};

use super::commands::delete_group;
use super::state::Tracker;
use crate::background::Job;
use crate::clock::Timestamp;
use crate::db::{Command, add_to_counter, retention_job};
use crate::error::Result;

/// Maximum number of groups or reports deleted in one transaction, so that new reports are not delayed.
const DELETE_BATCH_MAX: usize = 200;
/// One batch deletes at most this fraction (one eighth) of the stored reports. With few large reports, a full batch
/// would delete the newest together with the oldest.
const DELETE_BATCH_FRACTION: usize = 8;

/// Returns the job that deletes groups `retention` after they were resolved, and hourly counts of that age.
pub(super) fn job(tracker: &Tracker, retention: Duration) -> Job {
    retention_job(tracker.core.writer.clone(), move |now| ExpireGroups { before: now - retention })
}

/// Deletes one batch of expired data: resolved groups, hourly counts, and names that nothing refers to anymore.
struct ExpireGroups {
    /// Groups resolved earlier and hours before this time are expired.
    before: Timestamp,
}

impl Command for ExpireGroups {
    /// Whether there may be more expired data.
    type Output = bool;

    fn apply(self, transaction: &Connection) -> Result<bool> {
        let mut expired = transaction.prepare_cached(
            "SELECT id FROM errors WHERE resolved = 1 AND resolved_at < ?1 ORDER BY last_seen LIMIT ?2",
        )?;
        let groups = query_ids(&mut expired, self.before.seconds())?;
        for id in &groups {
            delete_group(transaction, *id)?;
        }
        add_to_counter(transaction, "resolved", -(groups.len() as i64))?;
        let groups_with_expired_hours = delete_hours(transaction, self.before.hour())?;
        // Keeps the latest environment and release of each group, because lists can be filtered by them.
        transaction.execute(
            "DELETE FROM error_variants WHERE last_hour < ?1 AND last_hour <
                 (SELECT max(last_hour) FROM error_variants newest WHERE newest.error_id = error_variants.error_id)",
            [self.before.hour()],
        )?;
        transaction.execute(
            "DELETE FROM names WHERE id > 0 AND id NOT IN (SELECT environment_id FROM error_variants)
                 AND id NOT IN (SELECT release_id FROM error_variants)",
            [],
        )?;
        Ok(groups.len() == DELETE_BATCH_MAX || groups_with_expired_hours == DELETE_BATCH_MAX)
    }
}

/// Deletes the counts before `hour` of one batch of groups. Returns the number of groups.
fn delete_hours(transaction: &Connection, hour: i64) -> Result<usize> {
    // The oldest hour of a group is found in one step, because it is the first of the group in the primary key.
    let mut expired = transaction.prepare_cached(
        "SELECT id FROM errors e WHERE
             (SELECT hour FROM error_series s WHERE s.error_id = e.id ORDER BY hour LIMIT 1) < ?1 LIMIT ?2",
    )?;
    let groups = query_ids(&mut expired, hour)?;
    let mut delete = transaction.prepare_cached("DELETE FROM error_series WHERE error_id = ?1 AND hour < ?2")?;
    for id in &groups {
        delete.execute((id, hour))?;
    }
    Ok(groups.len())
}

/// Runs a query for ids with the parameters `before` and the size of a batch.
fn query_ids(statement: &mut CachedStatement<'_>, before: i64) -> Result<Vec<i64>> {
    let rows = statement.query_map((before, DELETE_BATCH_MAX as i64), |row| row.get(0))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Deletes one batch of the oldest data, to bring the database below `MAX_DB_MB`: full reports, the texts of groups
/// without reports, and after all reports the oldest hourly counts. Groups and their total counts stay.
///
/// Returns whether there was anything to delete.
pub(super) fn evict_oldest(connection: &Connection) -> Result<bool> {
    let mut count = connection.prepare_cached("SELECT count(*) FROM (SELECT 1 FROM error_occurrences LIMIT ?1)")?;
    let stored: i64 = count.query_row([(DELETE_BATCH_MAX * DELETE_BATCH_FRACTION) as i64], |row| row.get(0))?;
    let batch = (stored / DELETE_BATCH_FRACTION as i64).max(1);
    let mut oldest = connection.prepare_cached("SELECT id, error_id FROM error_occurrences ORDER BY id LIMIT ?1")?;
    let rows = oldest.query_map([batch], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)))?;
    let occurrences = rows.collect::<rusqlite::Result<Vec<_>>>()?;
    let Some((last, _)) = occurrences.last() else { return delete_oldest_hour(connection) };
    connection.prepare_cached("DELETE FROM error_occurrences WHERE id <= ?1")?.execute([last])?;
    let mut groups: Vec<i64> = occurrences.iter().map(|(_, group)| *group).collect();
    groups.sort_unstable();
    groups.dedup();
    let mut exists =
        connection.prepare_cached("SELECT EXISTS (SELECT 1 FROM error_occurrences WHERE error_id = ?1)")?;
    for group in groups {
        if !exists.query_row([group], |row| row.get::<_, bool>(0))? {
            connection.prepare_cached("DELETE FROM error_texts WHERE error_id = ?1")?.execute([group])?;
            connection.prepare_cached("DELETE FROM error_search WHERE rowid = ?1")?.execute([group])?;
        }
    }
    add_to_counter(connection, "stripped", occurrences.len() as i64)?;
    Ok(true)
}

fn delete_oldest_hour(connection: &Connection) -> Result<bool> {
    let oldest: Option<i64> = connection.query_row("SELECT min(hour) FROM error_series", [], |row| row.get(0))?;
    match oldest {
        Some(hour) => Ok(connection.execute("DELETE FROM error_series WHERE hour <= ?1", [hour])? > 0),
        None => Ok(false),
    }
}
