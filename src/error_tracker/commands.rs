//! Writes caused by reports and by users. `retention.rs` has the writes caused by age and size.

use std::borrow::Cow;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _, Row, params};
use serde::{Deserialize, Serialize};

use super::enumerations::{FingerprintAlgorithm, level_id, source_id};
use super::fingerprint::Fingerprint;
use super::group_eviction::count_unresolved;
use super::grouping::GroupedReport;
use super::payloads::{list_message, recount, store_report};
use super::stores::OCCURRENCES;
use super::variants::ReportCount;
use crate::alerting::{self, AlertKind, AlertSubject, NewAlert, Origin};
use crate::clock::Timestamp;
use crate::db::{Command, add_to_counter};
use crate::error::{Error, Result};
use crate::quota::{Holder, Measure, Reason, Room, largest_project, record_rejection};
use crate::records::key_kind::KeyKind;
use crate::records::report::ReportLevel;

/// Maximum age of a report from a browser key that counts at its own time. A relay forwards reports of pages for days after
/// the tracker was down, but nobody may falsify when a group was first seen.
const BROWSER_AGE_MAX: Duration = Duration::from_secs(7 * 86_400);
/// Maximum age of a report from a server key that counts at its own time. Older times come from clocks that were never set,
/// and would hide an error that happens now below all others.
const SERVER_AGE_MAX: Duration = Duration::from_secs(30 * 86_400);
/// Difference by which a clock may be ahead without being reported as wrong. Clocks that are synchronized differ by less.
const CLOCK_AHEAD_MAX: Duration = Duration::from_secs(600);

/// Adds a report to its group, or creates the group.
pub(super) struct IngestReport {
    pub(super) grouped: GroupedReport,
    /// Kind of the key that the report was sent with.
    pub(super) key_kind: KeyKind,
    /// Time of arrival.
    pub(super) now: Timestamp,
    /// Maximum number of unresolved groups.
    pub(super) groups_max: i64,
    /// Time for which hourly counts are kept.
    pub(super) retention: Duration,
    /// Room on the disk for the report in full.
    pub(super) room: Room,
    /// Whether new and reopened groups raise an alert.
    pub(super) alerts_enabled: bool,
}

/// Response to a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct IngestResponse {
    #[serde(flatten)]
    pub(super) result: IngestResult,
    /// Names of the fields that were stored otherwise than they were sent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    adjusted: Vec<Cow<'static, str>>,
}

/// Result of a report, as its sender receives it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "lowercase")]
pub(super) enum IngestResult {
    /// The report created a group.
    Created { id: i64, fingerprint: String },
    /// The report was added to a group. If the group is resolved, the error happened before that.
    Incremented { id: i64, fingerprint: String, count: i64 },
    /// The report was added to a resolved group, which is unresolved now.
    Reopened { id: i64, fingerprint: String, count: i64 },
}

/// The group of a report, before the report is added to it.
struct Group {
    id: i64,
    fingerprint: Fingerprint,
    count: i64,
    /// `None` if the group is unresolved.
    resolved_at: Option<Timestamp>,
    /// Times in seconds since 1970.
    first_seen_s: i64,
    last_seen_s: i64,
    key_kind: KeyKind,
    /// Whether environment, release, level and source of the latest report equal those of this one.
    has_same_context: bool,
}

impl Command for IngestReport {
    type Output = IngestResponse;

    fn apply(self, transaction: &Connection) -> Result<IngestResponse> {
        let report = &self.grouped.report;
        let at = self.counted_at();
        let result = match find_group(transaction, &self.grouped)? {
            Some(group) => self.add_to_group(transaction, &group, at)?,
            None => self.create_group(transaction, at.seconds())?,
        };
        let id = result.id();
        let count = ReportCount {
            group_id: id,
            reports: result.count(),
            holder: Holder { project: &report.project, kind: self.key_kind },
            environment: &report.environment,
            release: report.release.as_deref().unwrap_or_default(),
            hour: at.hour(),
            now: self.now,
        };
        count.add(transaction)?;
        if let Some(kind) = result.alert_kind().filter(|_| self.alerts_enabled) {
            let is_critical = report.level == ReportLevel::Critical;
            let origin = Origin { project: &report.project, key_kind: self.key_kind, is_critical };
            let subject = AlertSubject::ErrorGroup(id);
            alerting::queue(transaction, &NewAlert { kind, subject, origin, created_at: self.now })?;
        }
        let is_clock_wrong = self.has_implausible_time().then_some("timestamp");
        let adjusted = report.adjusted.iter().copied().chain(is_clock_wrong).map(Cow::Borrowed).collect();
        Ok(IngestResponse { result, adjusted })
    }
}

impl IngestResult {
    /// Returns the id of the group.
    pub(super) fn id(&self) -> i64 {
        match self {
            Self::Created { id, .. } | Self::Incremented { id, .. } | Self::Reopened { id, .. } => *id,
        }
    }

    /// Returns the number of reports of the group.
    fn count(&self) -> i64 {
        match self {
            Self::Created { .. } => 1,
            Self::Incremented { count, .. } | Self::Reopened { count, .. } => *count,
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
    /// Returns the time of the error according to the client, but not after the arrival: a client whose clock is ahead must
    /// not keep a group at the top of the list for days.
    fn occurred_at(&self) -> Timestamp {
        self.grouped.report.timestamp.map_or(self.now, |timestamp| timestamp.min(self.now))
    }

    /// Returns the earliest time of an error that counts at its own time. Hourly counts are not kept for longer than the
    /// retention.
    fn earliest(&self) -> Timestamp {
        let age_max = match self.key_kind {
            KeyKind::Server => SERVER_AGE_MAX,
            KeyKind::Browser => BROWSER_AGE_MAX,
        };
        self.now - age_max.min(self.retention)
    }

    /// Returns the time at which the report counts: the arrival if the client's time is implausible, because one wrong clock
    /// would otherwise change for good when the group was first seen, or hide an error that happens now.
    fn counted_at(&self) -> Timestamp {
        let at = self.occurred_at();
        if at >= self.earliest() { at } else { self.now }
    }

    /// Whether the report counts at its arrival because the client's clock is wrong.
    fn has_implausible_time(&self) -> bool {
        let plausible = self.earliest()..=self.now + CLOCK_AHEAD_MAX;
        self.grouped.report.timestamp.is_some_and(|timestamp| !plausible.contains(&timestamp))
    }

    /// Whether the error happened before its group was resolved. Such a report was late, for example in the queue of a client.
    /// Resolutions are stored in whole seconds, so an error of the same second counts as a new one rather than being missed.
    fn is_late_for(&self, group: &Group) -> bool {
        let reported_at = self.grouped.report.timestamp.map(|_| self.counted_at());
        group.resolved_at.zip(reported_at).is_some_and(|(resolved_at, at)| at < resolved_at)
    }

    fn add_to_group(&self, transaction: &Connection, group: &Group, at: Timestamp) -> Result<IngestResult> {
        let report = &self.grouped.report;
        let (count, at_s) = (group.count + 1, at.seconds());
        let is_latest = at_s >= group.last_seen_s;
        let reopens = group.resolved_at.is_some() && !self.is_late_for(group);
        let only_count_changes = (group.first_seen_s..=group.last_seen_s).contains(&at_s)
            && !reopens
            && (group.has_same_context || !is_latest)
            && group.key_kind <= self.key_kind;
        if only_count_changes {
            // In a storm, nearly all reports within a second take this branch, which changes no index.
            let mut update = transaction.prepare_cached("UPDATE error_groups SET count = ?2 WHERE id = ?1")?;
            update.execute((group.id, count))?;
        } else {
            let mut update = transaction.prepare_cached(
                "UPDATE error_groups SET count = ?2, last_seen_s = max(last_seen_s, ?3),
                     first_seen_s = min(first_seen_s, ?3), key_kind_id = min(key_kind_id, ?4)
                 WHERE id = ?1",
            )?;
            update.execute((group.id, count, at_s, self.key_kind.id()))?;
        }
        if is_latest && !group.has_same_context {
            let mut update = transaction.prepare_cached(
                "UPDATE error_groups SET environment = ?2, release = ?3, level_id = ?4, source_id = ?5 WHERE id = ?1",
            )?;
            let (level, source) = (level_id(report.level), source_id(report.source()));
            update.execute((group.id, &report.environment, &report.release, level, source))?;
        }
        if reopens {
            let mut reopen = transaction
                .prepare_cached("UPDATE error_groups SET resolved = 0, resolved_at_s = NULL WHERE id = ?1")?;
            reopen.execute([group.id])?;
            add_to_counter(transaction, "resolved", -1)?;
            count_unresolved(transaction, group.id, self.groups_max, self.now)?;
        }
        self.store_payload(transaction, group.id, group.key_kind.min(self.key_kind), count)?;
        let (id, fingerprint) = (group.id, group.fingerprint.to_string());
        Ok(if reopens {
            IngestResult::Reopened { id, fingerprint, count }
        } else {
            IngestResult::Incremented { id, fingerprint, count }
        })
    }

    fn create_group(&self, transaction: &Connection, at: i64) -> Result<IngestResult> {
        let GroupedReport { report, fingerprint: hash, original_fingerprint, location } = &self.grouped;
        let mut insert = transaction.prepare_cached(
            "INSERT INTO error_groups (fingerprint, project, exception_type, message, location, environment, release,
                 level_id, source_id, key_kind_id, count, first_seen_s, last_seen_s)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, 1, ?11, ?11)",
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
            self.key_kind.id(),
            at
        ])?;
        let mut insert = transaction.prepare_cached(
            "INSERT INTO error_fingerprints (project, algorithm_id, hash, group_id) VALUES (?1, ?2, ?3, ?4)",
        )?;
        let is_extended = original_fingerprint.is_some();
        let algorithm = if is_extended { FingerprintAlgorithm::Extended } else { FingerprintAlgorithm::Original };
        insert.execute((&report.project, algorithm.id(), hash.bytes(), id))?;
        self.store_payload(transaction, id, self.key_kind, 1)?;
        count_unresolved(transaction, id, self.groups_max, self.now)?;
        Ok(IngestResult::Created { id, fingerprint: hash.to_string() })
    }

    /// Stores the report in full, if the disk has room for it. `kind` is the kind of the keys of its group, and `count` the
    /// number of its reports.
    fn store_payload(&self, transaction: &Connection, group_id: i64, kind: KeyKind, count: i64) -> Result<()> {
        let report = &self.grouped.report;
        let is_stored = match self.room {
            Room::Enough => true,
            Room::Low => largest_project(transaction, &OCCURRENCES, Measure::Bytes)?
                .is_none_or(|(project, _)| project != report.project),
            Room::VeryLow => false,
        };
        if !is_stored {
            return record_rejection(transaction, &OCCURRENCES, &report.project, Reason::DiskFull, 1, self.now);
        }
        let holder = Holder { project: &report.project, kind };
        store_report(transaction, group_id, holder, self.occurred_at(), report, count)
    }
}

/// Returns the group of a report. The original's fingerprint is looked up first, so that groups imported from the
/// original are not split.
fn find_group(transaction: &Connection, grouped: &GroupedReport) -> Result<Option<Group>> {
    let mut lookup = transaction.prepare_cached(
        "SELECT g.id, g.fingerprint, g.count, g.resolved_at_s, g.first_seen_s, g.last_seen_s, g.environment, g.release,
             g.level_id, g.key_kind_id, g.source_id
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
                resolved_at: row.get::<_, Option<i64>>(3)?.map(Timestamp::from_seconds),
                first_seen_s: row.get(4)?,
                last_seen_s: row.get(5)?,
                key_kind: KeyKind::from_id(row.get(9)?),
                // Compared without a copy, because most reports of a group have the same context.
                has_same_context: row.get_ref(6)?.as_str()? == report.environment
                    && row.get_ref(7)?.as_str_or_null()? == report.release.as_deref()
                    && row.get::<_, i64>(8)? == level_id(report.level)
                    && row.get::<_, i64>(10)? == source_id(report.source()),
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

/// Counts the stored payloads again if an older version, which does not count them, has used the database.
pub(super) struct RecountPayloads;

impl Command for RecountPayloads {
    type Output = ();

    fn apply(self, transaction: &Connection) -> Result<()> {
        if recount(transaction)? {
            log::info!("quota: counted the stored reports of all projects again");
        }
        Ok(())
    }
}
