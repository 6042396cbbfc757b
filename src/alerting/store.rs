//! Reads from the alert tables: the queue, the limits, the digest counter and the history.

use std::time::Duration;

use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension as _, Row};
use serde_json::value::RawValue;

use super::alert::{AlertKind, AlertState, AlertSubject};
use super::settings::AlertSettings;
use crate::clock::Timestamp;
use crate::error::Result;

/// Number of alerts in the history.
pub(super) const HISTORY_MAX: i64 = 100;
const HOUR: Duration = Duration::from_secs(3_600);

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

/// An alert in the queue.
pub(super) struct PendingAlert {
    pub(super) id: i64,
    pub(super) kind: AlertKind,
    pub(super) subject: Option<AlertSubject>,
}

/// Returns the oldest waiting alert that this version understands.
pub(super) fn next_waiting(reader: &Connection) -> Result<Option<PendingAlert>> {
    let mut read = reader.prepare_cached(&format!(
        "SELECT id, kind_id, subject_type_id, subject_id FROM alert_events WHERE state_id = ?1 AND {} ORDER BY id LIMIT 1",
        is_known()
    ))?;
    let pending = |row: &Row<'_>| {
        Ok(PendingAlert { id: row.get(0)?, kind: row.get(1)?, subject: AlertSubject::from_row(row, 2)? })
    };
    Ok(read.query_row([AlertState::Waiting], pending).optional()?)
}

/// Whether an alert about `subject` was sent within the cool-down.
pub(super) fn is_cooling_down(
    reader: &Connection,
    subject: AlertSubject,
    now: Timestamp,
    settings: &AlertSettings,
) -> Result<bool> {
    let mut read = reader.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM alert_events
             WHERE subject_type_id = ?1 AND subject_id = ?2 AND state_id = ?3 AND finished_at_s > ?4)",
    )?;
    let cooldown_start_s = (now - settings.cooldown).seconds();
    let parameters = (subject.type_id(), subject.id(), AlertState::Sent, cooldown_start_s);
    Ok(read.query_row(parameters, |row| row.get(0))?)
}

/// Returns the number of alerts sent in the last 60 minutes, not counting digests and tests.
pub(super) fn sent_in_last_hour(reader: &Connection, now: Timestamp) -> Result<i64> {
    let mut read = reader.prepare_cached(
        "SELECT count(*) FROM alert_events
         WHERE state_id = ?1 AND finished_at_s > ?2 AND subject_type_id IS NOT NULL",
    )?;
    Ok(read.query_row((AlertState::Sent, (now - HOUR).seconds()), |row| row.get(0))?)
}

/// Alerts that the next digest reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PendingDigest {
    /// Number of alerts that were not sent.
    pub(super) suppressed: i64,
    /// Time of the first of them.
    pub(super) since: Timestamp,
}

/// Returns the next digest if alerts were suppressed, the digest delay is over, and no digest was tried in the last 60
/// minutes.
pub(super) fn due_digest(
    reader: &Connection,
    now: Timestamp,
    settings: &AlertSettings,
) -> Result<Option<PendingDigest>> {
    let mut read = reader.prepare_cached("SELECT suppressed, since_s FROM alert_digest")?;
    let pending =
        |row: &Row<'_>| Ok(PendingDigest { suppressed: row.get(0)?, since: Timestamp::from_seconds(row.get(1)?) });
    let digest = read.query_row([], pending)?;
    if digest.suppressed == 0 || now < digest.since + settings.digest_delay {
        return Ok(None);
    }
    let mut last = reader
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM alert_events WHERE kind_id = ?1 AND finished_at_s > ?2)")?;
    let tried_in_last_hour: bool = last.query_row((AlertKind::Digest, (now - HOUR).seconds()), |row| row.get(0))?;
    Ok((!tried_in_last_hour).then_some(digest))
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
    /// JSON array with the result of each channel, or with the reason for suppression.
    pub detail: Box<RawValue>,
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
    Ok(read.query_map([HISTORY_MAX], history_entry)?.collect::<rusqlite::Result<_>>()?)
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
    })
}
