//! Reads from the alert tables: the queues, the cool-down, the digest counter, the history and the warnings.

use std::time::Duration;

use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension as _, Row};
use serde::Serialize;
use serde_json::value::RawValue;

use super::alert::{AlertKind, AlertState, AlertSubject, Origin};
use super::channel_id::channel_name;
use super::limits::PAUSE_MAX;
use super::settings::AlertSettings;
use crate::clock::Timestamp;
use crate::error::Result;
use crate::records::key_kind::KeyKind;
use crate::records::warning::Warning;

/// Number of alerts in the history.
pub(super) const HISTORY_MAX: i64 = 100;
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(24 * 3_600);
/// Failed attempts of one alert until `/health` warns.
const WARN_ATTEMPTS_MIN: i64 = 2;

/// Returns the SQL condition for alerts that this version understands. After a rollback, the queue and the history can have
/// alerts of a later version; they wait for it.
fn is_known() -> String {
    format!(
        "kind_id <= {} AND state_id <= {} AND ifnull(subject_type_id, 0) <= {}",
        AlertKind::ALL.len(),
        AlertState::ALL.len(),
        AlertSubject::ERROR_GROUP
    )
}

/// An alert that is not finished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PendingAlert {
    pub(super) id: i64,
    pub(super) kind: AlertKind,
    pub(super) subject: Option<AlertSubject>,
    /// Project of the subject; empty if unknown.
    pub(super) project: String,
    pub(super) key_kind: KeyKind,
    pub(super) is_critical: bool,
}

impl PendingAlert {
    /// Returns the cause of the alert.
    pub(super) fn origin(&self) -> Origin<'_> {
        Origin { project: &self.project, key_kind: self.key_kind, is_critical: self.is_critical }
    }

    /// Reads the columns of [`PENDING_ALERT`] in `row`.
    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get(0)?,
            kind: row.get(1)?,
            subject: AlertSubject::from_row(row, 2)?,
            project: row.get(4)?,
            key_kind: KeyKind::from_id(row.get(5)?),
            is_critical: row.get(6)?,
        })
    }
}

/// Columns of [`PendingAlert`]. An older version queues alerts without their origin.
const PENDING_ALERT: &str = "SELECT e.id, e.kind_id, e.subject_type_id, e.subject_id, ifnull(q.project, ''),
    ifnull(q.key_kind_id, 1) AS key_kind, ifnull(q.critical, 0) AS is_critical
    FROM alert_events e LEFT JOIN alert_queue q ON q.alert_id = e.id";

/// Returns the waiting alert to decide about next: a critical one of a server, then the others of servers, then those of
/// browsers; the oldest first. Anybody can send a critical report with a browser key, so those do not pass others.
pub(super) fn next_waiting(reader: &Connection) -> Result<Option<PendingAlert>> {
    let mut read = reader.prepare_cached(&format!(
        "{PENDING_ALERT} WHERE state_id = ?1 AND {}
         ORDER BY (is_critical = 1 AND key_kind = 1) DESC, key_kind, e.id LIMIT 1",
        is_known()
    ))?;
    Ok(read.query_row([AlertState::Waiting], PendingAlert::from_row).optional()?)
}

/// Returns an alert that this version understands.
pub(super) fn unfinished(reader: &Connection, id: i64) -> Result<Option<PendingAlert>> {
    let mut read = reader.prepare_cached(&format!("{PENDING_ALERT} WHERE e.id = ?1 AND {}", is_known()))?;
    Ok(read.query_row([id], PendingAlert::from_row).optional()?)
}

/// Returns the least important alert of a project, or of any project's browsers if `is_of_any_project`, that is in one of
/// `states` and that is not a critical one of a server: one of browsers first, and the newest first. No channel has sent it, or
/// tried to send it if it is one of a server.
pub(super) fn displaceable(
    reader: &Connection,
    project: &str,
    is_of_any_project: bool,
    states: &[AlertState],
) -> Result<Option<PendingAlert>> {
    let state = |index: usize| states.get(index).or(states.first()).copied();
    let mut read = reader.prepare_cached(&format!(
        "{PENDING_ALERT} WHERE (q.project = ?1 OR ?5 AND q.key_kind_id = 2) AND e.state_id IN (?2, ?3)
             AND NOT (q.critical = 1 AND q.key_kind_id = 1)
             AND NOT EXISTS (SELECT 1 FROM alert_deliveries d WHERE d.alert_id = e.id
                 AND (d.state_id <> ?4 OR d.attempts > 0 AND q.key_kind_id = 1)) AND {}
         ORDER BY q.key_kind_id DESC, q.project = ?1 DESC, q.critical, e.id DESC LIMIT 1",
        is_known().replace("state_id", "e.state_id")
    ))?;
    let parameters = (project, state(0), state(1), AlertState::Waiting, is_of_any_project);
    Ok(read.query_row(parameters, PendingAlert::from_row).optional()?)
}

/// Whether an alert about `subject` is being sent, or was sent within the cool-down.
pub(super) fn is_cooling_down(
    reader: &Connection,
    subject: AlertSubject,
    now: Timestamp,
    settings: &AlertSettings,
) -> Result<bool> {
    if settings.cooldown.is_zero() {
        return Ok(false);
    }
    // A time ahead of now comes from a wrong clock, and must not mute the subject until then.
    let mut read = reader.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM alert_events WHERE subject_type_id = ?1 AND subject_id = ?2
             AND (state_id = ?3 OR state_id = ?4 AND finished_at_s > ?5 AND finished_at_s <= ?6))",
    )?;
    let cooldown_start_s = (now - settings.cooldown).seconds();
    let states = (AlertState::Sending, AlertState::Sent);
    let parameters = (subject.type_id(), subject.id(), states.0, states.1, cooldown_start_s, now.seconds());
    Ok(read.query_row(parameters, |row| row.get(0))?)
}

/// Whether an admission no longer counts for the hourly limit.
pub(super) fn has_expired_admissions(reader: &Connection, now: Timestamp) -> Result<bool> {
    let mut read = reader
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM alert_admissions WHERE admitted_at_s NOT BETWEEN ?1 AND ?2)")?;
    Ok(read.query_row(((now - HOUR).seconds() + 1, now.seconds()), |row| row.get(0))?)
}

/// An alert in the queue of a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DueDelivery {
    pub(super) alert_id: i64,
    pub(super) kind: AlertKind,
    pub(super) subject: Option<AlertSubject>,
    pub(super) created_at: Timestamp,
    /// Number of failed attempts.
    pub(super) attempts: u32,
}

/// Returns the alert that a channel sends next: a test, then a critical one of a server, then the others of servers, digests
/// included, then those of browsers. Other than tests, only those with at most `attempts_max` attempts are due.
pub(super) fn next_delivery(
    reader: &Connection,
    channel_id: i64,
    attempts_max: i64,
    now: Timestamp,
) -> Result<Option<DueDelivery>> {
    // A pause that ends later than the longest one comes from a wrong clock.
    let mut read = reader.prepare_cached(&format!(
        "SELECT e.id, e.kind_id, e.subject_type_id, e.subject_id, e.created_at_s, d.attempts
         FROM alert_deliveries d JOIN alert_events e ON e.id = d.alert_id LEFT JOIN alert_queue q ON q.alert_id = e.id
         WHERE d.channel_id = ?1 AND d.state_id = ?2 AND d.next_attempt_at_s NOT BETWEEN ?3 AND ?4
             AND (e.kind_id = ?5 OR d.attempts <= ?6) AND {}
         ORDER BY e.kind_id = ?5 DESC, (q.critical = 1 AND q.key_kind_id = 1) IS TRUE DESC, ifnull(q.key_kind_id, 1),
             d.next_attempt_at_s, e.id LIMIT 1",
        is_known().replace("state_id", "e.state_id")
    ))?;
    let (next_s, latest_s) = (now.seconds() + 1, (now + PAUSE_MAX).seconds());
    let parameters = (channel_id, AlertState::Waiting, next_s, latest_s, AlertKind::Test, attempts_max);
    let due = read.query_row(parameters, |row| {
        Ok(DueDelivery {
            alert_id: row.get(0)?,
            kind: row.get(1)?,
            subject: AlertSubject::from_row(row, 2)?,
            created_at: Timestamp::from_seconds(row.get(4)?),
            attempts: row.get(5)?,
        })
    });
    Ok(due.optional()?)
}

/// Whether alerts are held, the digest delay is over, and no digest was queued in the last 60 minutes.
pub(super) fn is_digest_due(reader: &Connection, now: Timestamp, settings: &AlertSettings) -> Result<bool> {
    let mut read = reader.prepare_cached("SELECT suppressed, since_s FROM alert_digest")?;
    let (suppressed, since_s): (i64, i64) = read.query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let since = Timestamp::from_seconds(since_s);
    // Times ahead of now come from a wrong clock, and must not delay the digest until then.
    if suppressed == 0 || (since <= now && now < since + settings.digest_delay) {
        return Ok(false);
    }
    let mut last = reader.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM alert_events WHERE kind_id = ?1 AND created_at_s > ?2 AND created_at_s <= ?3)",
    )?;
    let parameters = (AlertKind::Digest, (now - HOUR).seconds(), now.seconds());
    Ok(!last.query_row(parameters, |row| row.get::<_, bool>(0))?)
}

/// Returns the number of alerts that the next digest reports.
///
/// # Errors
/// Returns an error if the database cannot be read.
pub fn suppressed_count(reader: &Connection) -> Result<i64> {
    let mut read = reader.prepare_cached("SELECT suppressed FROM alert_digest")?;
    Ok(read.query_row([], |row| row.get(0))?)
}

/// An alert with its result.
#[derive(Debug)]
pub struct HistoryEntry {
    /// Id of the alert.
    pub id: i64,
    /// Event that the alert reports.
    pub kind: AlertKind,
    /// Object of the event; `None` for digests and tests.
    pub subject: Option<AlertSubject>,
    /// Time of the event.
    pub created_at: Timestamp,
    /// Progress of the alert.
    pub state: AlertState,
    /// Time of the result; `None` while the alert is waiting.
    pub finished_at: Option<Timestamp>,
    /// JSON array with the result of each channel, or with the reason for suppression; empty until the alert is finished.
    pub detail: Box<RawValue>,
    /// Progress of each channel; empty for alerts that were not sent.
    pub deliveries: Vec<ChannelDelivery>,
}

/// Progress of an alert in one channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChannelDelivery {
    /// Name of the channel.
    pub channel: &'static str,
    /// Waiting, sent or failed.
    pub state: AlertState,
    /// Number of attempts.
    pub attempts: u32,
    /// Time of the next attempt; `None` unless waiting.
    pub next_attempt_at: Option<Timestamp>,
    /// Reason of the last failure.
    pub reason: Option<String>,
}

/// Returns the progress of an alert in each channel, in the order of their ids.
pub(super) fn deliveries(reader: &Connection, alert_id: i64) -> Result<Vec<ChannelDelivery>> {
    let mut read = reader.prepare_cached(
        "SELECT channel_id, state_id, attempts, next_attempt_at_s, reason FROM alert_deliveries
         WHERE alert_id = ?1 AND state_id <= ?2 ORDER BY channel_id",
    )?;
    let rows = read.query_map((alert_id, AlertState::ALL.len() as i64), |row| {
        let state = row.get(1)?;
        let next_attempt_at = (state == AlertState::Waiting).then_some(Timestamp::from_seconds(row.get(3)?));
        let (channel, attempts, reason) = (channel_name(row.get(0)?), row.get(2)?, row.get(4)?);
        Ok(ChannelDelivery { channel, state, attempts, next_attempt_at, reason })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Returns the last 100 alerts that this version understands, newest first.
///
/// # Errors
/// Returns an error if the database cannot be read.
pub fn history(reader: &Connection) -> Result<Vec<HistoryEntry>> {
    let mut read = reader.prepare_cached(&format!(
        "SELECT id, kind_id, subject_type_id, subject_id, created_at_s, state_id, finished_at_s, detail
         FROM alert_events WHERE {} ORDER BY id DESC LIMIT ?1",
        is_known()
    ))?;
    let mut entries: Vec<HistoryEntry> =
        read.query_map([HISTORY_MAX], history_entry)?.collect::<rusqlite::Result<_>>()?;
    for entry in &mut entries {
        entry.deliveries = deliveries(reader, entry.id)?;
    }
    Ok(entries)
}

fn history_entry(row: &Row<'_>) -> rusqlite::Result<HistoryEntry> {
    let detail = RawValue::from_string(row.get(7)?);
    Ok(HistoryEntry {
        id: row.get(0)?,
        kind: row.get(1)?,
        subject: AlertSubject::from_row(row, 2)?,
        created_at: Timestamp::from_seconds(row.get(4)?),
        state: row.get(5)?,
        finished_at: row.get::<_, Option<i64>>(6)?.map(Timestamp::from_seconds),
        detail: detail.map_err(|error| rusqlite::Error::FromSqlConversionFailure(7, Type::Text, Box::new(error)))?,
        deliveries: Vec::new(),
    })
}

/// Returns warnings about alerts that wait for a channel that fails, and about those that were not delivered.
///
/// # Errors
/// Returns an error if the database cannot be read.
pub fn warnings(reader: &Connection, now: Timestamp) -> Result<Vec<Warning>> {
    // The other columns are those of the row with the most attempts.
    let mut failing = reader.prepare_cached(
        "SELECT channel_id, count(*), max(attempts), ifnull(reason, '') FROM alert_deliveries WHERE state_id = ?1
         GROUP BY channel_id HAVING max(attempts) >= ?2",
    )?;
    let warning = |row: &Row<'_>| {
        let (channel, waiting): (_, i64) = (channel_name(row.get(0)?), row.get(1)?);
        let (attempts, reason): (i64, String) = (row.get(2)?, row.get(3)?);
        let message = format!(
            "alerts: delivery by {channel} failed {attempts} times, will retry: {reason}; {waiting} alerts wait"
        );
        Ok(Warning::new("alerts_failing", waiting.unsigned_abs(), &message))
    };
    let rows = failing.query_map((AlertState::Waiting, WARN_ATTEMPTS_MIN), warning)?;
    let mut warnings: Vec<Warning> = rows.collect::<rusqlite::Result<_>>()?;
    let mut failed = reader.prepare_cached(
        "SELECT count(*) FROM alert_events WHERE state_id = ?1 AND finished_at_s > ?2 AND finished_at_s <= ?3",
    )?;
    let parameters = (AlertState::Failed, (now - DAY).seconds(), now.seconds());
    let failed: i64 = failed.query_row(parameters, |row| row.get(0))?;
    if failed > 0 {
        let message = format!(
            "alerts: {failed} were not delivered by every channel in the last 24 hours; GET /api/alerts has the reasons"
        );
        warnings.push(Warning::new("alerts_failed", failed.unsigned_abs(), &message));
    }
    Ok(warnings)
}
