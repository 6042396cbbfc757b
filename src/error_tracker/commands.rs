//! What a report changes and what a person changes, as values. What age and size change stands in `retention.rs`.

use rusqlite::{Connection, OptionalExtension as _, params};
use serde::{Deserialize, Serialize};

use super::report::{ErrorReport, clip};
use super::search::words;
use crate::clock::Timestamp;
use crate::db::Command;
use crate::error::{Error, Result};

/// Reports of each group that are kept in full.
pub(super) const OCCURRENCES_KEPT: i64 = 5;
/// Environments and releases that are told apart; what comes after counts as "(other)".
const NAMES_MAX: i64 = 10_000;
/// Alerts that wait to be sent; what comes while it is full goes into the digest.
const ALERTS_WAITING_MAX: i64 = 100;
/// The part of a message that stands in lists.
const MESSAGE_CHARS_MAX: usize = 2_000;
/// How a hash came about; see `error_fingerprints.algorithm`.
pub(super) const AS_THE_ORIGINAL: i64 = 1;
pub(super) const BY_BETTER_LOCATION: i64 = 2;

/// Counts a report: into its group, or into a new one.
pub(super) struct AddReport {
    /// What was reported.
    pub(super) report: ErrorReport,
    /// When it arrived.
    pub(super) now: Timestamp,
    /// Unresolved groups kept at most.
    pub(super) groups_max: i64,
    /// Whether anybody wants to hear of new and reopened groups.
    pub(super) alerting: bool,
}

/// What became of a report, as its sender gets to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "lowercase")]
pub(super) enum Filed {
    /// The first of its group.
    Created { id: i64, fingerprint: String },
    /// One more.
    Incremented { id: i64, fingerprint: String, count: i64 },
    /// One more of a group that had been resolved.
    Reopened { id: i64, fingerprint: String, count: i64 },
}

/// The part of a group that a report may change.
struct Group {
    id: i64,
    fingerprint: String,
    count: i64,
    resolved: bool,
    first_seen: i64,
    last_seen: i64,
    environment: String,
    release: Option<String>,
    level: String,
}

impl Command for AddReport {
    type Output = Filed;

    fn apply(self, transaction: &Connection) -> Result<Filed> {
        // A clock that runs ahead must not keep a group on top of the list for days.
        let at = self.report.timestamp.map_or(self.now, |said| said.min(self.now)).seconds();
        let (filed, alert) = match find_group(transaction, &self.report)? {
            Some(group) => self.count(transaction, &group, at)?,
            None => self.create(transaction, at)?,
        };
        let id = filed.id();
        count_hour(transaction, id, at, &self.report)?;
        if let Some(kind) = alert.filter(|_| self.alerting) {
            queue_alert(transaction, kind, Some(id), self.now)?;
        }
        Ok(filed)
    }
}

impl Filed {
    pub(super) fn id(&self) -> i64 {
        match self {
            Self::Created { id, .. } | Self::Incremented { id, .. } | Self::Reopened { id, .. } => *id,
        }
    }
}

impl AddReport {
    fn count(&self, transaction: &Connection, group: &Group, at: i64) -> Result<(Filed, Option<&'static str>)> {
        let report = &self.report;
        let count = group.count + 1;
        if group.resolved {
            // While it is still closed, so that it cannot be the one that has to go.
            add_to_total(transaction, "resolved", -1)?;
            make_room_for_one(transaction, self.groups_max)?;
            add_to_total(transaction, "unresolved", 1)?;
        }
        let unchanged = (group.first_seen..=group.last_seen).contains(&at)
            && !group.resolved
            && group.environment == report.environment
            && group.release == report.release
            && group.level == report.level;
        if unchanged {
            // In a storm nearly every report of a second ends here, and no index is touched.
            let mut update = transaction.prepare_cached("UPDATE errors SET count = ?2 WHERE id = ?1")?;
            update.execute((group.id, count))?;
        } else {
            let mut update = transaction.prepare_cached(
                "UPDATE errors SET count = ?2, last_seen = max(last_seen, ?3), first_seen = min(first_seen, ?3),
                     environment = ?4, release = ?5, level = ?6, source = ?7, resolved = 0, resolved_at = NULL
                 WHERE id = ?1",
            )?;
            let (environment, release, source) = (&report.environment, &report.release, report.source());
            update.execute(params![group.id, count, at, environment, release, report.level, source])?;
        }
        self.keep_occurrence(transaction, group.id, at)?;
        if count > OCCURRENCES_KEPT {
            forget_older_occurrences(transaction, group.id)?;
        }
        let (id, fingerprint) = (group.id, group.fingerprint.clone());
        if group.resolved {
            Ok((Filed::Reopened { id, fingerprint, count }, Some("reopened")))
        } else {
            Ok((Filed::Incremented { id, fingerprint, count }, None))
        }
    }

    fn create(&self, transaction: &Connection, at: i64) -> Result<(Filed, Option<&'static str>)> {
        make_room_for_one(transaction, self.groups_max)?;
        let report = &self.report;
        let fingerprint = report.fingerprint.to_string();
        let mut insert = transaction.prepare_cached(
            "INSERT INTO errors (fingerprint, project, exception_type, message, location, environment, release, level,
                 source, count, first_seen, last_seen)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 1, ?10, ?10)",
        )?;
        let id = insert.insert(params![
            fingerprint,
            report.project,
            report.exception_type,
            clip(&report.message, MESSAGE_CHARS_MAX),
            report.location,
            report.environment,
            report.release,
            report.level,
            report.source(),
            at
        ])?;
        let mut lead = transaction.prepare_cached(
            "INSERT INTO error_fingerprints (project, algorithm, hash, error_id) VALUES (?1, ?2, ?3, ?4)",
        )?;
        let algorithm = if report.original_fingerprint.is_some() { BY_BETTER_LOCATION } else { AS_THE_ORIGINAL };
        lead.execute((&report.project, algorithm, report.fingerprint.bytes(), id))?;
        self.keep_occurrence(transaction, id, at)?;
        add_to_total(transaction, "unresolved", 1)?;
        Ok((Filed::Created { id, fingerprint }, Some("new")))
    }

    /// Stores the report in full. Texts that are the group's own are not stored again.
    fn keep_occurrence(&self, transaction: &Connection, id: i64, at: i64) -> Result<()> {
        let report = &self.report;
        let known = group_texts(transaction, id)?;
        let (message, traceback) = match &known {
            None => {
                keep_texts(transaction, id, &report.exception_type, &report.message, &report.traceback)?;
                // The narrow row holds the first message of all; after its texts were dropped this may be another.
                let first: String = transaction
                    .prepare_cached("SELECT message FROM errors WHERE id = ?1")?
                    .query_row([id], |row| row.get(0))?;
                let differs = first != clip(&report.message, MESSAGE_CHARS_MAX);
                (differs.then_some(report.message.as_str()), None)
            }
            Some((message, traceback)) => (
                (*message != report.message).then_some(report.message.as_str()),
                (*traceback != report.traceback).then_some(report.traceback.as_str()),
            ),
        };
        let mut insert = transaction.prepare_cached(
            "INSERT INTO error_occurrences (error_id, timestamp, environment, release, level, request_url,
                 request_method, request_headers, user_id, session_id, extra, message, traceback)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
        )?;
        insert.execute(params![
            id,
            at,
            report.environment,
            report.release,
            report.level,
            report.request_url,
            report.request_method,
            report.request_headers,
            report.user_id,
            report.session_id,
            report.extra,
            message,
            traceback
        ])?;
        Ok(())
    }
}

/// The group a report belongs to: by the original's hash first, so that groups of an upgraded installation stay whole.
fn find_group(transaction: &Connection, report: &ErrorReport) -> Result<Option<Group>> {
    let original = report.original_fingerprint.unwrap_or(report.fingerprint);
    let mut lookup = transaction.prepare_cached(
        "SELECT e.id, e.fingerprint, e.count, e.resolved, e.first_seen, e.last_seen, e.environment, e.release, e.level
         FROM error_fingerprints f JOIN errors e ON e.id = f.error_id
         WHERE f.project = ?1 AND f.algorithm = ?2 AND f.hash = ?3",
    )?;
    let mut by = |algorithm: i64, hash: [u8; 16]| {
        let read = |row: &rusqlite::Row<'_>| {
            Ok(Group {
                id: row.get(0)?,
                fingerprint: row.get(1)?,
                count: row.get(2)?,
                resolved: row.get(3)?,
                first_seen: row.get(4)?,
                last_seen: row.get(5)?,
                environment: row.get(6)?,
                release: row.get(7)?,
                level: row.get(8)?,
            })
        };
        lookup.query_row((&report.project, algorithm, hash), read).optional()
    };
    if let Some(group) = by(AS_THE_ORIGINAL, original.bytes())? {
        return Ok(Some(group));
    }
    match report.original_fingerprint {
        Some(_) => Ok(by(BY_BETTER_LOCATION, report.fingerprint.bytes())?),
        None => Ok(None),
    }
}

/// The group's own message and traceback, unless the space was needed.
fn group_texts(transaction: &Connection, id: i64) -> Result<Option<(String, String)>> {
    let mut read = transaction.prepare_cached(
        "SELECT coalesce(t.message, e.message), t.traceback
         FROM error_texts t JOIN errors e ON e.id = t.error_id WHERE t.error_id = ?1",
    )?;
    Ok(read.query_row([id], |row| Ok((row.get(0)?, row.get(1)?))).optional()?)
}

/// Stores a group's texts and makes them searchable.
pub(super) fn keep_texts(transaction: &Connection, id: i64, kind: &str, message: &str, traceback: &str) -> Result<()> {
    let whole = matches!(clip(message, MESSAGE_CHARS_MAX), std::borrow::Cow::Owned(_)).then_some(message);
    let mut insert =
        transaction.prepare_cached("INSERT INTO error_texts (error_id, message, traceback) VALUES (?1, ?2, ?3)")?;
    insert.execute((id, whole, traceback))?;
    let mut index = transaction.prepare_cached("INSERT INTO error_search (rowid, words) VALUES (?1, ?2)")?;
    index.execute((id, words(kind, message, traceback)))?;
    Ok(())
}

/// The part of a message that stands in the narrow row.
pub(super) fn short_message(message: &str) -> std::borrow::Cow<'_, str> {
    clip(message, MESSAGE_CHARS_MAX)
}

fn forget_older_occurrences(transaction: &Connection, id: i64) -> Result<()> {
    let mut delete = transaction.prepare_cached(
        "DELETE FROM error_occurrences WHERE error_id = ?1 AND id <=
             (SELECT id FROM error_occurrences WHERE error_id = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)",
    )?;
    delete.execute((id, OCCURRENCES_KEPT))?;
    Ok(())
}

/// Counts a report in its group's series.
fn count_hour(transaction: &Connection, id: i64, at: i64, report: &ErrorReport) -> Result<()> {
    let hour = at.div_euclid(3_600);
    let environment = name_id(transaction, &report.environment)?;
    let release = name_id(transaction, report.release.as_deref().unwrap_or_default())?;
    add_to_series(transaction, id, hour, (environment, release), 1)
}

/// Adds to a group's series, and notes where it was seen when that is news.
pub(super) fn add_to_series(
    transaction: &Connection,
    id: i64,
    hour: i64,
    (environment, release): (i64, i64),
    reports: i64,
) -> Result<()> {
    let mut more = transaction.prepare_cached(
        "UPDATE error_series SET count = count + ?5
         WHERE error_id = ?1 AND hour = ?2 AND environment_id = ?3 AND release_id = ?4",
    )?;
    if more.execute((id, hour, environment, release, reports))? > 0 {
        return Ok(());
    }
    let mut first = transaction.prepare_cached(
        "INSERT INTO error_series (error_id, hour, environment_id, release_id, count) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    first.execute((id, hour, environment, release, reports))?;
    let mut seen = transaction.prepare_cached(
        "INSERT INTO error_variants (error_id, environment_id, release_id, last_hour) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT DO UPDATE SET last_hour = max(last_hour, ?4)",
    )?;
    seen.execute((id, environment, release, hour))?;
    Ok(())
}

/// The number of an environment or a release; 0 when the table is full.
pub(super) fn name_id(transaction: &Connection, name: &str) -> Result<i64> {
    let mut find = transaction.prepare_cached("SELECT id FROM names WHERE name = ?1")?;
    if let Some(id) = find.query_row([name], |row| row.get(0)).optional()? {
        return Ok(id);
    }
    let count: i64 = transaction.prepare_cached("SELECT count(*) FROM names")?.query_row([], |row| row.get(0))?;
    if count > NAMES_MAX {
        return Ok(0);
    }
    Ok(transaction.prepare_cached("INSERT INTO names (name) VALUES (?1)")?.insert([name])?)
}

/// Makes sure that one more unresolved group fits; the one that was silent the longest goes, and is counted.
fn make_room_for_one(transaction: &Connection, groups_max: i64) -> Result<()> {
    while total(transaction, "unresolved")? >= groups_max {
        let mut stalest =
            transaction.prepare_cached("SELECT id FROM errors WHERE resolved = 0 ORDER BY last_seen, id LIMIT 1")?;
        let Some(id) = stalest.query_row([], |row| row.get(0)).optional()? else { return Ok(()) };
        delete_group(transaction, id)?;
        add_to_total(transaction, "unresolved", -1)?;
        add_to_total(transaction, "evicted", 1)?;
    }
    Ok(())
}

/// Removes a group with everything that belongs to it; its counter in `totals` is the caller's.
pub(super) fn delete_group(transaction: &Connection, id: i64) -> Result<()> {
    for sql in [
        "DELETE FROM error_occurrences WHERE error_id = ?1",
        "DELETE FROM error_texts WHERE error_id = ?1",
        "DELETE FROM error_search WHERE rowid = ?1",
        "DELETE FROM error_fingerprints WHERE error_id = ?1",
        "DELETE FROM error_series WHERE error_id = ?1",
        "DELETE FROM error_variants WHERE error_id = ?1",
        "DELETE FROM errors WHERE id = ?1",
    ] {
        transaction.prepare_cached(sql)?.execute([id])?;
    }
    Ok(())
}

fn total(transaction: &Connection, name: &str) -> Result<i64> {
    let mut read = transaction.prepare_cached("SELECT value FROM totals WHERE name = ?1")?;
    Ok(read.query_row([name], |row| row.get(0))?)
}

/// Adds to one of the numbers in `totals`.
pub(super) fn add_to_total(transaction: &Connection, name: &str, change: i64) -> Result<()> {
    let mut add = transaction.prepare_cached("UPDATE totals SET value = value + ?2 WHERE name = ?1")?;
    add.execute((name, change))?;
    Ok(())
}

/// Queues an alert, or counts it for the digest when too many wait already.
pub(super) fn queue_alert(transaction: &Connection, kind: &str, error_id: Option<i64>, now: Timestamp) -> Result<()> {
    let mut waiting = transaction.prepare_cached("SELECT count(*) FROM alerts WHERE state = 'waiting'")?;
    let waiting: i64 = waiting.query_row([], |row| row.get(0))?;
    if waiting >= ALERTS_WAITING_MAX {
        return hold_alerts(transaction, 1, now);
    }
    let mut insert = transaction
        .prepare_cached("INSERT INTO alerts (kind, error_id, created_at, state) VALUES (?1, ?2, ?3, 'waiting')")?;
    insert.execute((kind, error_id, now.seconds()))?;
    Ok(())
}

/// Counts alerts for the next digest.
pub(super) fn hold_alerts(transaction: &Connection, alerts: i64, now: Timestamp) -> Result<()> {
    if total(transaction, "alerts_held")? == 0 {
        let mut since = transaction.prepare_cached("UPDATE totals SET value = ?1 WHERE name = 'alerts_held_since'")?;
        since.execute([now.seconds()])?;
    }
    add_to_total(transaction, "alerts_held", alerts)
}

/// Marks a group as dealt with, until it recurs.
pub(super) struct Resolve {
    /// The group.
    pub(super) id: i64,
    /// When.
    pub(super) now: Timestamp,
}

/// A group that is resolved now.
#[derive(Debug, Serialize)]
pub(super) struct Resolved {
    status: &'static str,
    id: i64,
}

impl Command for Resolve {
    type Output = Resolved;

    fn apply(self, transaction: &Connection) -> Result<Resolved> {
        let mut resolve = transaction
            .prepare_cached("UPDATE errors SET resolved = 1, resolved_at = ?2 WHERE id = ?1 AND resolved = 0")?;
        if resolve.execute((self.id, self.now.seconds()))? > 0 {
            add_to_total(transaction, "unresolved", -1)?;
            add_to_total(transaction, "resolved", 1)?;
        } else {
            let mut exists = transaction.prepare_cached("SELECT EXISTS (SELECT 1 FROM errors WHERE id = ?1)")?;
            if !exists.query_row([self.id], |row| row.get::<_, bool>(0))? {
                return Err(Error::NotFound(format!("There is no error {}", self.id)));
            }
        }
        Ok(Resolved { status: "resolved", id: self.id })
    }
}
