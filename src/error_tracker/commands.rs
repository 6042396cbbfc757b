//! Writes caused by reports and by users. `retention.rs` has the writes caused by age and size.

use std::borrow::Cow;

use rusqlite::{Connection, OptionalExtension as _, Row, params};
use serde::{Deserialize, Serialize};

use super::enumerations::{FingerprintAlgorithm, level_id, source_id};
use super::fingerprint::Fingerprint;
use super::grouping::GroupedReport;
use super::search::index_text;
use crate::alerting::{self, AlertKind, AlertSubject, NewAlert, Origin};
use crate::clock::Timestamp;
use crate::db::{Command, add_to_counter, counter};
use crate::error::{Error, Result};
use crate::records::key_kind::KeyKind;
use crate::records::report::{Report, ReportLevel};
use crate::text::truncate_chars;

/// Maximum number of reports of each group that are stored in full.
pub(super) const OCCURRENCES_MAX: i64 = 5;
/// Maximum number of distinct environments and releases; further ones are counted as "(other)".
const NAMES_MAX: i64 = 10_000;
/// Length to which the message of a group is truncated in lists, in characters.
const MESSAGE_CHARS_MAX: usize = 2_000;

/// Adds a report to its group, or creates the group.
pub(super) struct IngestReport {
    pub(super) grouped: GroupedReport,
    /// Kind of the key that the report was sent with.
    pub(super) key_kind: KeyKind,
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

/// The group of a report, before the report is added to it.
struct Group {
    id: i64,
    fingerprint: Fingerprint,
    count: i64,
    resolved: bool,
    /// Times in seconds since 1970.
    first_seen_s: i64,
    last_seen_s: i64,
    /// Whether environment, release and level of the latest report equal those of this one.
    has_same_context: bool,
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
            let is_critical = report.level == ReportLevel::Critical;
            let origin = Origin { project: &report.project, key_kind: self.key_kind, is_critical };
            let subject = AlertSubject::ErrorGroup(id);
            alerting::queue(transaction, &NewAlert { kind, subject, origin, created_at: self.now })?;
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
        let only_count_changes =
            (group.first_seen_s..=group.last_seen_s).contains(&at) && !group.resolved && group.has_same_context;
        if only_count_changes {
            // In a storm, nearly all reports within a second take this branch, which changes no index.
            let mut update = transaction.prepare_cached("UPDATE error_groups SET count = ?2 WHERE id = ?1")?;
            update.execute((group.id, count))?;
        } else {
            let mut update = transaction.prepare_cached(
                "UPDATE error_groups SET count = ?2, last_seen_s = max(last_seen_s, ?3),
                     first_seen_s = min(first_seen_s, ?3), environment = ?4, release = ?5, level_id = ?6, source_id = ?7,
                     resolved = 0, resolved_at_s = NULL
                 WHERE id = ?1",
            )?;
            let (environment, release) = (&report.environment, &report.release);
            let (level, source) = (level_id(report.level), source_id(report.source()));
            update.execute(params![group.id, count, at, environment, release, level, source])?;
        }
        insert_occurrence(transaction, group.id, at, report)?;
        if count > OCCURRENCES_MAX {
            delete_older_occurrences(transaction, group.id)?;
        }
        let (id, fingerprint) = (group.id, group.fingerprint.to_string());
        Ok(if group.resolved {
            IngestResult::Reopened { id, fingerprint, count }
        } else {
            IngestResult::Incremented { id, fingerprint, count }
        })
    }

    fn create_group(&self, transaction: &Connection, at: i64) -> Result<IngestResult> {
        evict_stalest_group(transaction, self.groups_max)?;
        let GroupedReport { report, fingerprint: hash, original_fingerprint, location } = &self.grouped;
        let mut insert = transaction.prepare_cached(
            "INSERT INTO error_groups (fingerprint, project, exception_type, message, location, environment, release,
                 level_id, source_id, count, first_seen_s, last_seen_s)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 1, ?10, ?10)",
        )?;
        let id = insert.insert(params![
            hash.bytes(),
            report.project,
            report.exception_type,
            list_message(&report.message),
            location,
            report.environment,
            report.release,
            level_id(report.level),
            source_id(report.source()),
            at
        ])?;
        let mut insert = transaction.prepare_cached(
            "INSERT INTO error_fingerprints (project, algorithm_id, hash, group_id) VALUES (?1, ?2, ?3, ?4)",
        )?;
        let is_extended = original_fingerprint.is_some();
        let algorithm = if is_extended { FingerprintAlgorithm::Extended } else { FingerprintAlgorithm::Original };
        insert.execute((&report.project, algorithm.id(), hash.bytes(), id))?;
        insert_occurrence(transaction, id, at, report)?;
        add_to_counter(transaction, "unresolved", 1)?;
        Ok(IngestResult::Created { id, fingerprint: hash.to_string() })
    }
}

/// Stores a report in full. Message and traceback are stored only if they differ from the group's.
fn insert_occurrence(transaction: &Connection, id: i64, at: i64, report: &Report) -> Result<()> {
    let (message, traceback) = match compare_with_group_texts(transaction, id, report)? {
        None => {
            insert_texts(transaction, id, &report.exception_type, &report.message, &report.traceback)?;
            // The row of the group has the message of its first report, which may differ if the size limit has deleted
            // the texts since.
            let first: String = transaction
                .prepare_cached("SELECT message FROM error_groups WHERE id = ?1")?
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
        "INSERT INTO error_occurrences (group_id, occurred_at_s, environment, release, level_id, request_url,
             request_method, request_headers, user_id, session_id, extra, message, traceback)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
    )?;
    insert.execute(params![
        id,
        at,
        report.environment,
        report.release,
        level_id(report.level),
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
        "SELECT g.id, g.fingerprint, g.count, g.resolved, g.first_seen_s, g.last_seen_s, g.environment, g.release,
             g.level_id
         FROM error_fingerprints f JOIN error_groups g ON g.id = f.group_id
         WHERE f.project = ?1 AND f.algorithm_id = ?2 AND f.hash = ?3",
    )?;
    let report = &grouped.report;
    let mut lookup = |algorithm: FingerprintAlgorithm, hash: [u8; 16]| {
        let group = |row: &Row<'_>| {
            Ok(Group {
                id: row.get(0)?,
                fingerprint: Fingerprint::from_bytes(row.get(1)?),
                count: row.get(2)?,
                resolved: row.get(3)?,
                first_seen_s: row.get(4)?,
                last_seen_s: row.get(5)?,
                // Compared without a copy, because most reports of a group have the same context.
                has_same_context: row.get_ref(6)?.as_str()? == report.environment
                    && row.get_ref(7)?.as_str_or_null()? == report.release.as_deref()
                    && row.get::<_, i64>(8)? == level_id(report.level),
            })
        };
        lookup.query_row((&report.project, algorithm.id(), hash), group).optional()
    };
    let original = grouped.original_fingerprint.unwrap_or(grouped.fingerprint);
    if let Some(group) = lookup(FingerprintAlgorithm::Original, original.bytes())? {
        return Ok(Some(group));
    }
    match grouped.original_fingerprint {
        Some(_) => Ok(lookup(FingerprintAlgorithm::Extended, grouped.fingerprint.bytes())?),
        None => Ok(None),
    }
}

/// Returns whether the message and whether the traceback of a report equal those of its group, which are compared without
/// a copy; `None` if the size limit has deleted the group's texts.
fn compare_with_group_texts(transaction: &Connection, id: i64, report: &Report) -> Result<Option<(bool, bool)>> {
    let mut read = transaction.prepare_cached(
        "SELECT coalesce(t.message, g.message), t.traceback
         FROM error_texts t JOIN error_groups g ON g.id = t.group_id WHERE t.group_id = ?1",
    )?;
    let equals = |row: &Row<'_>| {
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
        transaction.prepare_cached("INSERT INTO error_texts (group_id, message, traceback) VALUES (?1, ?2, ?3)")?;
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
        "DELETE FROM error_occurrences WHERE group_id = ?1 AND id <=
             (SELECT id FROM error_occurrences WHERE group_id = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)",
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
        "UPDATE hourly_counts SET count = count + ?5
         WHERE group_id = ?1 AND environment_id = ?2 AND release_id = ?3 AND at_h = ?4",
    )?;
    if update.execute((id, environment, release, hour, reports))? > 0 {
        return Ok(());
    }
    let mut upsert = transaction.prepare_cached(
        "INSERT INTO error_variants (group_id, environment_id, release_id, last_seen_h) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT DO UPDATE SET last_seen_h = max(last_seen_h, ?4)",
    )?;
    upsert.execute((id, environment, release, hour))?;
    let mut insert = transaction.prepare_cached(
        "INSERT INTO hourly_counts (group_id, environment_id, release_id, at_h, count) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    insert.execute((id, environment, release, hour, reports))?;
    Ok(())
}

/// Returns the id of an environment or release name, and stores a new name; returns 0, "(other)", if the table is full.
pub(super) fn intern(transaction: &Connection, name: &str) -> Result<i64> {
    let mut lookup = transaction.prepare_cached("SELECT id FROM variant_names WHERE name = ?1")?;
    if let Some(id) = lookup.query_row([name], |row| row.get(0)).optional()? {
        return Ok(id);
    }
    let count: i64 =
        transaction.prepare_cached("SELECT count(*) FROM variant_names")?.query_row([], |row| row.get(0))?;
    if count > NAMES_MAX {
        return Ok(0);
    }
    Ok(transaction.prepare_cached("INSERT INTO variant_names (name) VALUES (?1)")?.insert([name])?)
}

/// Deletes the unresolved groups with the oldest last report until there is room for one more.
fn evict_stalest_group(transaction: &Connection, groups_max: i64) -> Result<()> {
    while counter(transaction, "unresolved")? >= groups_max {
        let mut stalest = transaction
            .prepare_cached("SELECT id FROM error_groups WHERE resolved = 0 ORDER BY last_seen_s, id LIMIT 1")?;
        let Some(id) = stalest.query_row([], |row| row.get(0)).optional()? else { return Ok(()) };
        delete_group(transaction, id)?;
        add_to_counter(transaction, "unresolved", -1)?;
        add_to_counter(transaction, "evicted", 1)?;
    }
    Ok(())
}

/// Deletes a group and everything that refers to it. The caller updates the counters.
pub(super) fn delete_group(transaction: &Connection, id: i64) -> Result<()> {
    transaction.prepare_cached("DELETE FROM error_search WHERE rowid = ?1")?.execute([id])?;
    transaction.prepare_cached("DELETE FROM error_groups WHERE id = ?1")?.execute([id])?;
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
        let mut resolve = transaction.prepare_cached(
            "UPDATE error_groups SET resolved = 1, resolved_at_s = ?2 WHERE id = ?1 AND resolved = 0",
        )?;
        if resolve.execute((self.id, self.now.seconds()))? > 0 {
            add_to_counter(transaction, "unresolved", -1)?;
            add_to_counter(transaction, "resolved", 1)?;
        } else {
            let mut exists = transaction.prepare_cached("SELECT EXISTS (SELECT 1 FROM error_groups WHERE id = ?1)")?;
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
        alerting::queue_test(transaction, self.now)?;
        Ok(TestAlertQueued { status: "queued" })
    }
}
