//! Writes caused by reports and by users. `retention.rs` has the writes caused by age and size.

use std::borrow::Cow;

use rusqlite::{Connection, OptionalExtension as _, params};
use serde::{Deserialize, Serialize};

use super::grouping::GroupedReport;
use super::search::index_text;
use crate::alerting::{self, AlertKind, AlertSubject, NewAlert};
use crate::clock::Timestamp;
use crate::db::{Command, add_to_counter, counter};
use crate::error::{Error, Result};
use crate::records::report::Report;
use crate::text::truncate_chars;

/// Maximum number of reports of each group that are stored in full.
pub(super) const OCCURRENCES_MAX: i64 = 5;
/// Maximum number of distinct environments and releases; further ones are counted as "(other)".
const NAMES_MAX: i64 = 10_000;
/// Length to which the message of a group is truncated in lists, in characters.
const MESSAGE_CHARS_MAX: usize = 2_000;
/// `error_fingerprints.algorithm` of fingerprints that equal the original's.
pub(super) const ALGORITHM_V1: i64 = 1;
/// `error_fingerprints.algorithm` of fingerprints with a location that the original does not find.
const ALGORITHM_V2: i64 = 2;

/// Adds a report to its group, or creates the group.
pub(super) struct IngestReport {
    pub(super) grouped: GroupedReport,
    /// Time of arrival.
    pub(super) now: Timestamp,
    /// Maximum number of unresolved groups.
    pub(super) groups_max: i64,
    /// Whether new and reopened groups raise an alert.
    pub(super) alerts_enabled: bool,
}

/// Result of a report, as its sender receives it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "lowercase")]
pub(super) enum IngestResult {
    /// The report created a group.
    Created { id: i64, fingerprint: String },
    /// The report was added to an unresolved group.
    Incremented { id: i64, fingerprint: String, count: i64 },
    /// The report was added to a resolved group, which is unresolved now.
    Reopened { id: i64, fingerprint: String, count: i64 },
}

/// Columns of a group that a report may change.
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

impl Command for IngestReport {
    type Output = IngestResult;

    fn apply(self, transaction: &Connection) -> Result<IngestResult> {
        let report = &self.grouped.report;
        // A client whose clock is ahead must not keep a group at the top of the list for days.
        let at = report.timestamp.map_or(self.now, |timestamp| timestamp.min(self.now)).seconds();
        let result = match find_group(transaction, &self.grouped)? {
            Some(group) => self.add_to_group(transaction, &group, at)?,
            None => self.create_group(transaction, at)?,
        };
        let id = result.id();
        let environment = intern(transaction, &report.environment)?;
        let release = intern(transaction, report.release.as_deref().unwrap_or_default())?;
        increment_hourly(transaction, id, at.div_euclid(3_600), (environment, release), 1)?;
        if let Some(kind) = result.alert_kind().filter(|_| self.alerts_enabled) {
            let subject = Some(AlertSubject::ErrorGroup(id));
            alerting::queue(transaction, &NewAlert { kind, subject, created_at: self.now })?;
        }
        Ok(result)
    }
}

impl IngestResult {
    /// Returns the id of the group.
    pub(super) fn id(&self) -> i64 {
        match self {
            Self::Created { id, .. } | Self::Incremented { id, .. } | Self::Reopened { id, .. } => *id,
        }
    }

    /// Returns the kind of the alert that the report raises.
    fn alert_kind(&self) -> Option<AlertKind> {
        match self {
            Self::Created { .. } => Some(AlertKind::New),
            Self::Reopened { .. } => Some(AlertKind::Reopened),
            Self::Incremented { .. } => None,
        }
    }
}

impl IngestReport {
    fn add_to_group(&self, transaction: &Connection, group: &Group, at: i64) -> Result<IngestResult> {
        let report = &self.grouped.report;
        let count = group.count + 1;
        if group.resolved {
            // Evicted before the group becomes unresolved, so that it cannot be the group that is evicted.
            add_to_counter(transaction, "resolved", -1)?;
            evict_stalest_group(transaction, self.groups_max)?;
            add_to_counter(transaction, "unresolved", 1)?;
        }
        let only_count_changes = (group.first_seen..=group.last_seen).contains(&at)
            && !group.resolved
            && group.environment == report.environment
            && group.release == report.release
            && group.level == report.level;
        if only_count_changes {
            // In a storm, nearly all reports within a second take this branch, which changes no index.
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
        insert_occurrence(transaction, group.id, at, report)?;
        if count > OCCURRENCES_MAX {
            delete_older_occurrences(transaction, group.id)?;
        }
        let (id, fingerprint) = (group.id, group.fingerprint.clone());
        Ok(if group.resolved {
            IngestResult::Reopened { id, fingerprint, count }
        } else {
            IngestResult::Incremented { id, fingerprint, count }
        })
    }

    fn create_group(&self, transaction: &Connection, at: i64) -> Result<IngestResult> {
        evict_stalest_group(transaction, self.groups_max)?;
        let GroupedReport { report, fingerprint: hash, original_fingerprint, location } = &self.grouped;
        let fingerprint = hash.to_string();
        let mut insert = transaction.prepare_cached(
            "INSERT INTO errors (fingerprint, project, exception_type, message, location, environment, release, level,
                 source, count, first_seen, last_seen)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 1, ?10, ?10)",
        )?;
        let id = insert.insert(params![
            fingerprint,
            report.project,
            report.exception_type,
            list_message(&report.message),
            location,
            report.environment,
            report.release,
            report.level,
            report.source(),
            at
        ])?;
        let mut insert = transaction.prepare_cached(
            "INSERT INTO error_fingerprints (project, algorithm, hash, error_id) VALUES (?1, ?2, ?3, ?4)",
        )?;
        let algorithm = if original_fingerprint.is_some() { ALGORITHM_V2 } else { ALGORITHM_V1 };
        insert.execute((&report.project, algorithm, hash.bytes(), id))?;
        insert_occurrence(transaction, id, at, report)?;
        add_to_counter(transaction, "unresolved", 1)?;
        Ok(IngestResult::Created { id, fingerprint })
    }
}

/// Stores a report in full. Message and traceback are stored only if they differ from the group's.
fn insert_occurrence(transaction: &Connection, id: i64, at: i64, report: &Report) -> Result<()> {
    let (message, traceback) = match equals_group_texts(transaction, id, report)? {
        None => {
            insert_texts(transaction, id, &report.exception_type, &report.message, &report.traceback)?;
            // The row of the group has the message of its first report, which may differ if the size limit has deleted
            // the texts since.
            let first: String = transaction
                .prepare_cached("SELECT message FROM errors WHERE id = ?1")?
                .query_row([id], |row| row.get(0))?;
            let differs = first != list_message(&report.message);
            (differs.then_some(report.message.as_str()), None)
        }
        Some((equal_message, equal_traceback)) => (
            (!equal_message).then_some(report.message.as_str()),
            (!equal_traceback).then_some(report.traceback.as_str()),
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

/// Returns the group of a report. The original's fingerprint is looked up first, so that groups imported from the
/// original are not split.
fn find_group(transaction: &Connection, grouped: &GroupedReport) -> Result<Option<Group>> {
    let mut lookup = transaction.prepare_cached(
        "SELECT e.id, e.fingerprint, e.count, e.resolved, e.first_seen, e.last_seen, e.environment, e.release, e.level
         FROM error_fingerprints f JOIN errors e ON e.id = f.error_id
         WHERE f.project = ?1 AND f.algorithm = ?2 AND f.hash = ?3",
    )?;
    let mut lookup = |algorithm: i64, hash: [u8; 16]| {
        let group = |row: &rusqlite::Row<'_>| {
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
        lookup.query_row((&grouped.report.project, algorithm, hash), group).optional()
    };
    let original = grouped.original_fingerprint.unwrap_or(grouped.fingerprint);
    if let Some(group) = lookup(ALGORITHM_V1, original.bytes())? {
        return Ok(Some(group));
    }
    match grouped.original_fingerprint {
        Some(_) => Ok(lookup(ALGORITHM_V2, grouped.fingerprint.bytes())?),
        None => Ok(None),
    }
}

/// Returns whether the message and whether the traceback of a report equal those of its group, which are compared without
/// a copy; `None` if the size limit has deleted the group's texts.
fn equals_group_texts(transaction: &Connection, id: i64, report: &Report) -> Result<Option<(bool, bool)>> {
    let mut read = transaction.prepare_cached(
        "SELECT coalesce(t.message, e.message), t.traceback
         FROM error_texts t JOIN errors e ON e.id = t.error_id WHERE t.error_id = ?1",
    )?;
    let equals = |row: &rusqlite::Row<'_>| {
        Ok((row.get_ref(0)?.as_str()? == report.message, row.get_ref(1)?.as_str()? == report.traceback))
    };
    Ok(read.query_row([id], equals).optional()?)
}

/// Stores the message and the traceback of a group, and adds them to the full-text index.
pub(super) fn insert_texts(
    transaction: &Connection,
    id: i64,
    exception_type: &str,
    message: &str,
    traceback: &str,
) -> Result<()> {
    let full_message = matches!(list_message(message), Cow::Owned(_)).then_some(message);
    let mut insert =
        transaction.prepare_cached("INSERT INTO error_texts (error_id, message, traceback) VALUES (?1, ?2, ?3)")?;
    insert.execute((id, full_message, traceback))?;
    let mut index = transaction.prepare_cached("INSERT INTO error_search (rowid, words) VALUES (?1, ?2)")?;
    index.execute((id, index_text(exception_type, message, traceback)))?;
    Ok(())
}

/// Truncates a message to the length that lists show.
pub(super) fn list_message(message: &str) -> Cow<'_, str> {
    truncate_chars(message, MESSAGE_CHARS_MAX)
}

fn delete_older_occurrences(transaction: &Connection, id: i64) -> Result<()> {
    let mut delete = transaction.prepare_cached(
        "DELETE FROM error_occurrences WHERE error_id = ?1 AND id <=
             (SELECT id FROM error_occurrences WHERE error_id = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)",
    )?;
    delete.execute((id, OCCURRENCES_MAX))?;
    Ok(())
}

/// Adds `reports` to a group's count for one hour, environment and release (ids from [`intern`]).
pub(super) fn increment_hourly(
    transaction: &Connection,
    id: i64,
    hour: i64,
    (environment, release): (i64, i64),
    reports: i64,
) -> Result<()> {
    let mut update = transaction.prepare_cached(
        "UPDATE error_series SET count = count + ?5
         WHERE error_id = ?1 AND hour = ?2 AND environment_id = ?3 AND release_id = ?4",
    )?;
    if update.execute((id, hour, environment, release, reports))? > 0 {
        return Ok(());
    }
    let mut insert = transaction.prepare_cached(
        "INSERT INTO error_series (error_id, hour, environment_id, release_id, count) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    insert.execute((id, hour, environment, release, reports))?;
    let mut upsert = transaction.prepare_cached(
        "INSERT INTO error_variants (error_id, environment_id, release_id, last_hour) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT DO UPDATE SET last_hour = max(last_hour, ?4)",
    )?;
    upsert.execute((id, environment, release, hour))?;
    Ok(())
}

/// Returns the id of an environment or release name, and stores a new name; returns 0, "(other)", if the table is full.
pub(super) fn intern(transaction: &Connection, name: &str) -> Result<i64> {
    let mut lookup = transaction.prepare_cached("SELECT id FROM names WHERE name = ?1")?;
    if let Some(id) = lookup.query_row([name], |row| row.get(0)).optional()? {
        return Ok(id);
    }
    let count: i64 = transaction.prepare_cached("SELECT count(*) FROM names")?.query_row([], |row| row.get(0))?;
    if count > NAMES_MAX {
        return Ok(0);
    }
    Ok(transaction.prepare_cached("INSERT INTO names (name) VALUES (?1)")?.insert([name])?)
}

/// Deletes the unresolved groups with the oldest last report until there is room for one more.
fn evict_stalest_group(transaction: &Connection, groups_max: i64) -> Result<()> {
    while counter(transaction, "unresolved")? >= groups_max {
        let mut stalest =
            transaction.prepare_cached("SELECT id FROM errors WHERE resolved = 0 ORDER BY last_seen, id LIMIT 1")?;
        let Some(id) = stalest.query_row([], |row| row.get(0)).optional()? else { return Ok(()) };
        delete_group(transaction, id)?;
        add_to_counter(transaction, "unresolved", -1)?;
        add_to_counter(transaction, "evicted", 1)?;
    }
    Ok(())
}

/// Deletes a group and everything that belongs to it. The caller updates the counters.
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

/// Marks a group as resolved until the error recurs.
pub(super) struct Resolve {
    /// Id of the group.
    pub(super) id: i64,
    /// Time of the request.
    pub(super) now: Timestamp,
}

/// Confirmation that a group is resolved.
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
            add_to_counter(transaction, "unresolved", -1)?;
            add_to_counter(transaction, "resolved", 1)?;
        } else {
            let mut exists = transaction.prepare_cached("SELECT EXISTS (SELECT 1 FROM errors WHERE id = ?1)")?;
            if !exists.query_row([self.id], |row| row.get::<_, bool>(0))? {
                return Err(Error::NotFound(format!("Error group {} not found", self.id)));
            }
        }
        Ok(Resolved { status: "resolved", id: self.id })
    }
}

/// Queues an alert that checks the configured channels.
pub(super) struct QueueTestAlert {
    /// Time of the request.
    pub(super) now: Timestamp,
}

/// Confirmation that a test alert is in the queue.
#[derive(Debug, Serialize)]
pub(super) struct TestAlertQueued {
    status: &'static str,
}

impl Command for QueueTestAlert {
    type Output = TestAlertQueued;

    fn apply(self, transaction: &Connection) -> Result<TestAlertQueued> {
        let alert = NewAlert { kind: AlertKind::Test, subject: None, created_at: self.now };
        alerting::queue(transaction, &alert)?;
        Ok(TestAlertQueued { status: "queued" })
    }
}
