//! Counts of what quotas rejected, folded or evicted, by project and reason, from the table `quota_rejections`.

use std::time::Duration;

use rusqlite::{Connection, Row};
use serde::Serialize;

use super::shares::Reason;
use super::usage::Store;
use crate::clock::Timestamp;
use crate::error::Result;
use crate::records::warning::Warning;

/// Time after which a count starts again, and after which `/health` no longer warns.
const PERIOD: Duration = Duration::from_secs(24 * 3_600);
/// Maximum number of counts. Beyond it, the count that was not used for the longest time is deleted.
const COUNTS_MAX: i64 = 1_000;
/// Maximum number of projects that the warnings about one store name.
const WARNINGS_MAX: i64 = 5;

/// Rejected data of one project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RejectionEntry {
    /// The name of the store.
    pub store: String,
    /// The project; empty if none.
    pub project: String,
    /// The name of the [`Reason`].
    pub reason: String,
    /// The number of rejected rows since `since`.
    pub count: u64,
    /// The start of the counted period.
    pub since: Timestamp,
    /// The last rejection.
    pub last_at: Timestamp,
}

/// Adds `rejected` rows of a project to the count of a store and a reason. Does nothing for 0.
///
/// # Errors
/// Fails if the database cannot be written.
pub fn record_rejection(
    transaction: &Connection,
    store: &Store,
    project: &str,
    reason: Reason,
    rejected: u64,
    now: Timestamp,
) -> Result<()> {
    if rejected == 0 {
        return Ok(());
    }
    let period_start_s = (now - PERIOD).seconds();
    let mut update = transaction.prepare_cached(
        "UPDATE quota_rejections SET
             rejected = CASE WHEN last_at_s BETWEEN ?6 AND ?5 THEN rejected ELSE 0 END + ?4,
             since_s = CASE WHEN last_at_s BETWEEN ?6 AND ?5 THEN since_s ELSE ?5 END,
             last_at_s = ?5
         WHERE store = ?1 AND project = ?2 AND reason = ?3",
    )?;
    let rejected = rejected.cast_signed();
    if update.execute((store.name, project, reason.name(), rejected, now.seconds(), period_start_s))? > 0 {
        return Ok(());
    }
    let mut delete = transaction.prepare_cached(
        "DELETE FROM quota_rejections WHERE (store, project, reason) IN
             (SELECT store, project, reason FROM quota_rejections ORDER BY last_at_s DESC LIMIT -1 OFFSET ?1)",
    )?;
    delete.execute([COUNTS_MAX - 1])?;
    let mut insert = transaction.prepare_cached(
        "INSERT INTO quota_rejections (store, project, reason, rejected, since_s, last_at_s) VALUES (?1, ?2, ?3, ?4, ?5, ?5)",
    )?;
    insert.execute((store.name, project, reason.name(), rejected, now.seconds()))?;
    Ok(())
}

/// Returns the counts of all stores, the latest first.
///
/// # Errors
/// Fails if the database cannot be read.
pub fn rejection_entries(connection: &Connection, limit: usize) -> Result<Vec<RejectionEntry>> {
    let mut select = connection.prepare_cached(
        "SELECT store, project, reason, rejected, since_s, last_at_s FROM quota_rejections
         ORDER BY last_at_s DESC, store, project, reason LIMIT ?1",
    )?;
    let rows = select.query_map([limit as i64], |row| {
        Ok(RejectionEntry {
            store: row.get(0)?,
            project: row.get(1)?,
            reason: row.get(2)?,
            count: row.get::<_, i64>(3)?.unsigned_abs(),
            since: Timestamp::from_ms(row.get::<_, i64>(4)? * 1_000),
            last_at: Timestamp::from_ms(row.get::<_, i64>(5)? * 1_000),
        })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Returns a warning for each project and reason with rejections of `store` in the last 24 hours, at most five.
///
/// # Errors
/// Fails if the database cannot be read.
pub fn rejection_warnings(connection: &Connection, store: &Store, now: Timestamp) -> Result<Vec<Warning>> {
    let mut select = connection.prepare_cached(
        "SELECT project, reason, rejected FROM quota_rejections WHERE store = ?1 AND last_at_s BETWEEN ?2 AND ?3
         ORDER BY rejected DESC, project, reason LIMIT ?4",
    )?;
    let warning = |row: &Row<'_>| {
        let (project, reason, rejected): (String, String, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let explanation = Reason::from_name(&reason).map_or(reason, Reason::explanation);
        let message =
            format!("quota of {}: {rejected} not stored as sent in the last 24 hours: {explanation}", store.name);
        Ok(Warning::new(store.warning, rejected.unsigned_abs(), &message).with_project(&project))
    };
    let period = ((now - PERIOD).seconds(), now.seconds());
    let rows = select.query_map((store.name, period.0, period.1, WARNINGS_MAX), warning)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}
