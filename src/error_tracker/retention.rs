//! Retention of the error tracker: deletes expired groups and hourly counts, and the oldest full reports when the
//! database exceeds its size limit.

use std::time::Duration;

use rusqlite::{Connection, Row};

use super::commands::delete_group;
use super::state::Tracker;
use crate::background::Job;
use crate::clock::Timestamp;
use crate::db::{Command, add_to_counter, retention_job};
use crate::error::Result;

/// Maximum number of groups, variants or reports deleted in one transaction, so that new reports are not delayed.
const DELETE_BATCH_MAX: usize = 200;
/// Number of hourly counts after which a transaction deletes no further ones. The last variant may exceed it by the hours of
/// the retention.
const HOURS_BATCH_MAX: usize = 10_000;
/// One batch deletes at most this fraction (one eighth) of the stored reports. With few large reports, a full batch
/// would delete the newest together with the oldest.
const DELETE_BATCH_FRACTION: usize = 8;

/// Returns the job that deletes groups `retention` after they were resolved, and hourly counts of that age.
pub(super) fn job(tracker: &Tracker, retention: Duration) -> Job {
    retention_job(tracker.core.writer.clone(), move |now| ExpireGroups { before: now - retention })
}

/// Deletes one batch of expired data: resolved groups, hourly counts, and names that nothing refers to anymore.
pub(super) struct ExpireGroups {
    /// Groups resolved earlier and hours before this time are expired.
    pub(super) before: Timestamp,
}

impl Command for ExpireGroups {
    /// Whether there may be more expired data.
    type Output = bool;

    fn apply(self, transaction: &Connection) -> Result<bool> {
        // Hourly counts come first, in batches of their own. An expired group or variant then has none left, and deleting
        // it stays fast, although the references of its counts cascade.
        if delete_hours(transaction, self.before.hour())? {
            return Ok(true);
        }
        let mut expired = transaction.prepare_cached(
            "SELECT id FROM error_groups WHERE resolved = 1 AND resolved_at_s < ?1 ORDER BY last_seen_s LIMIT ?2",
        )?;
        let rows = expired.query_map((self.before.seconds(), DELETE_BATCH_MAX as i64), |row| row.get(0))?;
        let groups = rows.collect::<rusqlite::Result<Vec<i64>>>()?;
        for id in &groups {
            delete_group(transaction, *id)?;
        }
        add_to_counter(transaction, "resolved", -(groups.len() as i64))?;
        let variants = delete_variants(transaction, self.before.hour())?;
        // The number of names is limited, so one transaction can delete all that nothing refers to.
        transaction.execute(
            "DELETE FROM variant_names WHERE id > 0
                 AND NOT EXISTS (SELECT 1 FROM error_variants WHERE environment_id = variant_names.id)
                 AND NOT EXISTS (SELECT 1 FROM error_variants WHERE release_id = variant_names.id)",
            [],
        )?;
        Ok(groups.len() == DELETE_BATCH_MAX || variants == DELETE_BATCH_MAX)
    }
}

/// Deletes one batch of the counts before `hour`. Returns whether more may remain.
fn delete_hours(transaction: &Connection, hour: i64) -> Result<bool> {
    // Each variant needs one step, because its oldest hour is its first in the primary key.
    let mut expired = transaction.prepare_cached(
        "SELECT group_id, environment_id, release_id FROM error_variants v
         WHERE EXISTS (SELECT 1 FROM hourly_counts c WHERE c.group_id = v.group_id
             AND c.environment_id = v.environment_id AND c.release_id = v.release_id AND c.at_h < ?1) LIMIT ?2",
    )?;
    let variant = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
    let rows = expired.query_map((hour, DELETE_BATCH_MAX as i64), variant)?;
    let variants = rows.collect::<rusqlite::Result<Vec<(i64, i64, i64)>>>()?;
    let mut delete = transaction.prepare_cached(
        "DELETE FROM hourly_counts WHERE group_id = ?1 AND environment_id = ?2 AND release_id = ?3 AND at_h < ?4",
    )?;
    let mut deleted = 0;
    for (group, environment, release) in &variants {
        deleted += delete.execute((group, environment, release, hour))?;
        if deleted >= HOURS_BATCH_MAX {
            return Ok(true);
        }
    }
    Ok(variants.len() == DELETE_BATCH_MAX)
}

/// Deletes one batch of the variants that were last seen before `hour`, and returns their number. Keeps the latest variant
/// of each group, because lists can be filtered by it.
fn delete_variants(transaction: &Connection, hour: i64) -> Result<usize> {
    let mut delete = transaction.prepare_cached(
        "DELETE FROM error_variants WHERE (group_id, environment_id, release_id) IN
             (SELECT group_id, environment_id, release_id FROM error_variants v
              WHERE last_seen_h < ?1 AND last_seen_h <
                  (SELECT max(last_seen_h) FROM error_variants latest WHERE latest.group_id = v.group_id)
              LIMIT ?2)",
    )?;
    Ok(delete.execute((hour, DELETE_BATCH_MAX as i64))?)
}

/// Deletes one batch of the oldest data, to bring the database below `MAX_DB_MB`: full reports, the texts of groups
/// without reports, and after all reports the oldest hourly counts. Groups and their total counts stay.
///
/// Returns whether there was anything to delete.
pub(super) fn evict_oldest(connection: &Connection) -> Result<bool> {
    let mut count = connection.prepare_cached("SELECT count(*) FROM (SELECT 1 FROM error_occurrences LIMIT ?1)")?;
    let stored: i64 = count.query_row([(DELETE_BATCH_MAX * DELETE_BATCH_FRACTION) as i64], |row| row.get(0))?;
    let batch = (stored / DELETE_BATCH_FRACTION as i64).max(1);
    let mut oldest = connection.prepare_cached("SELECT id, group_id FROM error_occurrences ORDER BY id LIMIT ?1")?;
    let rows = oldest.query_map([batch], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)))?;
    let occurrences = rows.collect::<rusqlite::Result<Vec<_>>>()?;
    let Some((last, _)) = occurrences.last() else { return delete_oldest_hour(connection) };
    connection.prepare_cached("DELETE FROM error_occurrences WHERE id <= ?1")?.execute([last])?;
    let mut groups: Vec<i64> = occurrences.iter().map(|(_, group)| *group).collect();
    groups.sort_unstable();
    groups.dedup();
    let mut exists =
        connection.prepare_cached("SELECT EXISTS (SELECT 1 FROM error_occurrences WHERE group_id = ?1)")?;
    for group in groups {
        if !exists.query_row([group], |row| row.get::<_, bool>(0))? {
            connection.prepare_cached("DELETE FROM error_texts WHERE group_id = ?1")?.execute([group])?;
            connection.prepare_cached("DELETE FROM error_search WHERE rowid = ?1")?.execute([group])?;
        }
    }
    add_to_counter(connection, "stripped", occurrences.len() as i64)?;
    Ok(true)
}

fn delete_oldest_hour(connection: &Connection) -> Result<bool> {
    let oldest: Option<i64> = connection.query_row("SELECT min(at_h) FROM hourly_counts", [], |row| row.get(0))?;
    match oldest {
        Some(hour) => Ok(connection.execute("DELETE FROM hourly_counts WHERE at_h <= ?1", [hour])? > 0),
        None => Ok(false),
    }
}
