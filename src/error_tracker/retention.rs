//! What is done about age and size: resolved groups, hours and remembered keys go after their time, the oldest payloads
//! when the file is full, and their space goes back to the disk.

use std::sync::Arc;
use std::time::Duration;

use rusqlite::types::Value;
use rusqlite::{CachedStatement, Connection};

use super::Tracker;
use super::commands::{add_to_total, delete_group};
use crate::background::{Job, StopToken};
use crate::clock::Timestamp;
use crate::db::{Command, ExpireKeys, vacuum};
use crate::error::Result;

const EVERY: Duration = Duration::from_secs(600);
/// How long an `Idempotency-Key` is remembered.
const KEYS_KEPT: Duration = Duration::from_secs(24 * 3_600);
/// Between two rounds reports get their turn.
const BREATH: Duration = Duration::from_millis(50);
/// Groups or occurrences removed in one go, so that reports do not wait for it.
const REMOVED_AT_ONCE: usize = 200;
/// Of few and large occurrences no more than this part goes in one go, or the newest would go with the oldest.
const REMOVED_PART: usize = 8;

/// The job that sees to it.
pub(super) fn job(tracker: &Arc<Tracker>, kept: Duration) -> Job {
    let tracker = Arc::clone(tracker);
    let run = Box::new(move |pause: &StopToken| {
        // What fails now is done at the next round; the writer says in the log when the disk is the reason.
        if let Err(why) = round(&tracker, kept, pause) {
            log::warn!("retention waits: {why}");
        }
    });
    Job { name: "retention", interval: EVERY, run }
}

fn round(tracker: &Tracker, kept: Duration, pause: &StopToken) -> Result<()> {
    let (writer, now) = (&tracker.core.writer, Timestamp::now());
    while writer.run(Expire { before: now - kept })? && pause.sleep(BREATH) {}
    writer.run(ExpireKeys { before: now - KEYS_KEPT })?;
    vacuum(writer, || pause.sleep(BREATH))
}

/// Removes some of what is older than its retention: resolved groups, hours, and names nothing refers to any more.
struct Expire {
    /// What was resolved, or counted, earlier goes.
    before: Timestamp,
}

impl Command for Expire {
    /// Whether there may be more to remove.
    type Output = bool;

    fn apply(self, transaction: &Connection) -> Result<bool> {
        let mut aged = transaction.prepare_cached(
            "SELECT id FROM errors WHERE resolved = 1 AND resolved_at < ?1 ORDER BY last_seen LIMIT ?2",
        )?;
        let groups = numbers(&mut aged, &[Value::from(self.before.seconds()), Value::from(REMOVED_AT_ONCE as i64)])?;
        for id in &groups {
            delete_group(transaction, *id)?;
        }
        add_to_total(transaction, "resolved", -(groups.len() as i64))?;
        let hours = forget_hours(transaction, self.before.hour())?;
        // A group keeps at least the place it was last seen in: it is listed as long as it is open, and by that place.
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
        Ok(groups.len() == REMOVED_AT_ONCE || hours == REMOVED_AT_ONCE)
    }
}

/// Removes hours of some groups that have any before `hour`; answers of how many groups.
fn forget_hours(transaction: &Connection, hour: i64) -> Result<usize> {
    // Each group's oldest hour is the first entry of its part of the primary key.
    let mut aged = transaction.prepare_cached(
        "SELECT id FROM errors e WHERE
             (SELECT hour FROM error_series s WHERE s.error_id = e.id ORDER BY hour LIMIT 1) < ?1 LIMIT ?2",
    )?;
    let groups = numbers(&mut aged, &[Value::from(hour), Value::from(REMOVED_AT_ONCE as i64)])?;
    let mut delete = transaction.prepare_cached("DELETE FROM error_series WHERE error_id = ?1 AND hour < ?2")?;
    for id in &groups {
        delete.execute((id, hour))?;
    }
    Ok(groups.len())
}

fn numbers(statement: &mut CachedStatement<'_>, parameters: &[Value]) -> Result<Vec<i64>> {
    let rows = statement.query_map(rusqlite::params_from_iter(parameters), |row| row.get(0))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Removes the oldest payloads, so that the file stays within `MAX_DB_MB`: occurrences in the order they came, the
/// texts of groups that have none left, and when all are gone the oldest hours. Groups and their counts stay.
pub(super) fn shrink(connection: &Connection) -> Result<bool> {
    let mut some = connection.prepare_cached("SELECT count(*) FROM (SELECT 1 FROM error_occurrences LIMIT ?1)")?;
    let some: i64 = some.query_row([(REMOVED_AT_ONCE * REMOVED_PART) as i64], |row| row.get(0))?;
    let part = (some / REMOVED_PART as i64).max(1);
    let mut oldest = connection.prepare_cached("SELECT id, error_id FROM error_occurrences ORDER BY id LIMIT ?1")?;
    let rows = oldest.query_map([part], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)))?;
    let occurrences = rows.collect::<rusqlite::Result<Vec<_>>>()?;
    let Some((last, _)) = occurrences.last() else { return forget_oldest_hours(connection) };
    connection.prepare_cached("DELETE FROM error_occurrences WHERE id <= ?1")?.execute([last])?;
    let mut groups: Vec<i64> = occurrences.iter().map(|(_, group)| *group).collect();
    groups.sort_unstable();
    groups.dedup();
    let mut left = connection.prepare_cached("SELECT EXISTS (SELECT 1 FROM error_occurrences WHERE error_id = ?1)")?;
    for group in groups {
        if !left.query_row([group], |row| row.get::<_, bool>(0))? {
            connection.prepare_cached("DELETE FROM error_texts WHERE error_id = ?1")?.execute([group])?;
            connection.prepare_cached("DELETE FROM error_search WHERE rowid = ?1")?.execute([group])?;
        }
    }
    add_to_total(connection, "stripped", occurrences.len() as i64)?;
    Ok(true)
}

fn forget_oldest_hours(connection: &Connection) -> Result<bool> {
    let oldest: Option<i64> = connection.query_row("SELECT min(hour) FROM error_series", [], |row| row.get(0))?;
    match oldest {
        Some(hour) => Ok(connection.execute("DELETE FROM error_series WHERE hour <= ?1", [hour])? > 0),
        None => Ok(false),
    }
}
