//! Retention of the error tracker: deletes expired groups, hourly counts and names.

use std::time::Duration;

use rusqlite::{Connection, Row};

use super::group_eviction::delete_group;
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
        let names = delete_unused_names(transaction, self.before)?;
        // The number of names is limited, so one transaction can delete all that nothing refers to.
        transaction.execute(
            "DELETE FROM variant_names WHERE id > 0
                 AND NOT EXISTS (SELECT 1 FROM error_variants WHERE environment_id = variant_names.id)
                 AND NOT EXISTS (SELECT 1 FROM error_variants WHERE release_id = variant_names.id)",
            [],
        )?;
        Ok(groups.len() == DELETE_BATCH_MAX || variants == DELETE_BATCH_MAX || names == DELETE_BATCH_MAX)
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

/// Deletes one batch of the names that a project last used before `before` and that none of its groups has, and returns
/// their number.
fn delete_unused_names(transaction: &Connection, before: Timestamp) -> Result<usize> {
    let has_no_group = |column: &str| {
        format!(
            "NOT EXISTS (SELECT 1 FROM error_variants v CROSS JOIN error_groups g ON g.id = v.group_id
                 WHERE v.{column} = n.name_id AND g.project = n.project)"
        )
    };
    let mut delete = transaction.prepare_cached(&format!(
        "DELETE FROM project_names WHERE (project, is_release, name_id) IN
             (SELECT project, is_release, name_id FROM project_names n
              WHERE last_used_s < ?1 AND CASE is_release WHEN 0 THEN {} ELSE {} END LIMIT ?2)",
        has_no_group("environment_id"),
        has_no_group("release_id")
    ))?;
    Ok(delete.execute((before.seconds(), DELETE_BATCH_MAX as i64))?)
}
