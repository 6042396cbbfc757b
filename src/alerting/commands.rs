//! Writes to the alert tables: queueing, the decision about the limits, and digests.

use std::time::Duration;

use rusqlite::Connection;

use super::alert::{AlertKind, AlertState, AlertSubject, NewAlert, Origin, Suppression};
use super::held::{hold, move_into_digest};
use super::limits::{QUEUE, WAITING_TESTS_MAX, hourly_store};
use super::results::finish_history;
use super::shares::{is_entitled, refusal};
use super::store::{self, PendingAlert};
use crate::clock::Timestamp;
use crate::db::Command;
use crate::error::Result;
use crate::quota::{Reason, Store, record_rejection};
use crate::records::key_kind::KeyKind;

const HOUR: Duration = Duration::from_secs(3_600);

/// Queues an alert in the caller's transaction, or holds it for the next digest if the project's share of the queue is used.
///
/// # Errors
/// Returns an error if a statement fails.
pub fn queue(transaction: &Connection, alert: &NewAlert<'_>) -> Result<()> {
    let NewAlert { kind, subject, origin, created_at } = *alert;
    if let Some(reason) = refusal(transaction, &QUEUE, origin)?
        && displace_other(transaction, &QUEUE, origin, &[AlertState::Waiting, AlertState::Sending], created_at)?
            .is_none()
        && !(reason == Reason::ProjectShare && is_entitled(transaction, &QUEUE, origin)?)
    {
        record_rejection(transaction, &QUEUE, origin.project, reason, 1, created_at)?;
        return hold(transaction, subject, origin, created_at);
    }
    let id = insert_event(transaction, kind, Some(subject), AlertState::Waiting, created_at)?;
    let mut insert = transaction
        .prepare_cached("INSERT INTO alert_queue (alert_id, project, key_kind_id, critical) VALUES (?1, ?2, ?3, ?4)")?;
    insert.execute((id, origin.project, origin.key_kind.id(), origin.is_critical))?;
    Ok(())
}

/// Queues a test alert in the caller's transaction, unless ten are waiting, which test the channels as well. It has no
/// cool-down and no hourly limit.
///
/// # Errors
/// Returns an error if a statement fails.
pub fn queue_test(transaction: &Connection, created_at: Timestamp) -> Result<()> {
    let mut count = transaction.prepare_cached(
        "SELECT (SELECT count(*) FROM alert_events WHERE state_id = ?1 AND kind_id = ?3)
              + (SELECT count(*) FROM alert_events WHERE state_id = ?2 AND kind_id = ?3)",
    )?;
    let states = (AlertState::Waiting, AlertState::Sending, AlertKind::Test);
    let waiting: i64 = count.query_row(states, |row| row.get(0))?;
    if waiting >= WAITING_TESTS_MAX {
        return Ok(());
    }
    insert_event(transaction, AlertKind::Test, None, AlertState::Waiting, created_at)?;
    Ok(())
}

fn insert_event(
    transaction: &Connection,
    kind: AlertKind,
    subject: Option<AlertSubject>,
    state: AlertState,
    created_at: Timestamp,
) -> Result<i64> {
    let mut insert = transaction.prepare_cached(
        "INSERT INTO alert_events (kind_id, subject_type_id, subject_id, created_at_s, state_id)
         VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    let (subject_type, subject_id) = (subject.map(AlertSubject::type_id), subject.map(AlertSubject::id));
    Ok(insert.insert((kind, subject_type, subject_id, created_at.seconds(), state))?)
}

fn insert_deliveries(transaction: &Connection, id: i64, channels: &[i64], now: Timestamp) -> Result<()> {
    let mut insert = transaction.prepare_cached(
        "INSERT INTO alert_deliveries (alert_id, channel_id, state_id, attempts, queued_at_s, next_attempt_at_s)
         VALUES (?1, ?2, ?3, 0, ?4, ?4)",
    )?;
    for channel in channels {
        insert.execute((id, channel, AlertState::Waiting, now.seconds()))?;
    }
    Ok(())
}

/// Moves a waiting alert into the queues of the channels if its project has not used its share of the hourly limit.
/// Otherwise holds it for the digest.
pub(super) struct Admit {
    /// The alert.
    pub(super) alert: PendingAlert,
    /// Ids of the channels.
    pub(super) channels: Vec<i64>,
    /// Maximum number of alerts in any 60 minutes.
    pub(super) per_hour_max: i64,
    /// Time of the decision.
    pub(super) now: Timestamp,
    /// Time for which sent alerts are kept even beyond the history.
    pub(super) keep_sent: Duration,
}

impl Command for Admit {
    type Output = Option<Suppression>;

    fn apply(self, transaction: &Connection) -> Result<Option<Suppression>> {
        let Self { alert, channels, per_hour_max, now, keep_sent } = self;
        if let Some(subject) = alert.subject {
            delete_old_admissions(transaction, now)?;
            let store = hourly_store(per_hour_max);
            if let Some(reason) = refusal(transaction, &store, alert.origin())?
                && !is_first(transaction, alert.origin(), reason)?
                && !displace_admitted(transaction, &store, alert.origin(), now)?
                && !(reason == Reason::ProjectShare && is_entitled(transaction, &store, alert.origin())?)
            {
                record_rejection(transaction, &store, &alert.project, reason, 1, now)?;
                let suppression = Suppression::HourlyLimit(reason);
                Suppress { alert, subject, reason: suppression, now, keep_sent }.apply(transaction)?;
                return Ok(Some(suppression));
            }
            let mut insert = transaction.prepare_cached(
                "INSERT INTO alert_admissions (project, key_kind_id, admitted_at_s) VALUES (?1, ?2, ?3)",
            )?;
            insert.execute((&alert.project, alert.key_kind.id(), now.seconds()))?;
        }
        let mut update = transaction.prepare_cached("UPDATE alert_events SET state_id = ?2 WHERE id = ?1")?;
        update.execute((alert.id, AlertState::Sending))?;
        insert_deliveries(transaction, alert.id, &channels, now)?;
        Ok(None)
    }
}

/// Makes room for a critical alert of a server: holds the least important alert that is in one of `states` and that no channel
/// has sent, and returns it. This is one of the same project, or one of any project's browsers if the servers of the project
/// use less than its share. Returns `None` if there is none, or if `origin` is no such alert.
fn displace_other(
    transaction: &Connection,
    store: &Store,
    origin: Origin<'_>,
    states: &[AlertState],
    now: Timestamp,
) -> Result<Option<PendingAlert>> {
    if !origin.is_critical_of_server() {
        return Ok(None);
    }
    let is_of_any_project = is_entitled(transaction, store, origin)?;
    let other = store::displaceable(transaction, origin.project, is_of_any_project, states)?;
    let Some((other, subject)) = other.and_then(|other| other.subject.map(|subject| (other, subject))) else {
        return Ok(None);
    };
    transaction.prepare_cached("DELETE FROM alert_deliveries WHERE alert_id = ?1")?.execute([other.id])?;
    // The history is trimmed when the critical alert ends.
    Suppress { alert: other.clone(), subject, reason: Suppression::Displaced, now, keep_sent: Duration::MAX }
        .apply(transaction)?;
    Ok(Some(other))
}

/// Makes room in the hour like [`displace_other`]: an alert that nobody has received gives up its part.
fn displace_admitted(transaction: &Connection, store: &Store, origin: Origin<'_>, now: Timestamp) -> Result<bool> {
    let Some(other) = displace_other(transaction, store, origin, &[AlertState::Sending], now)? else {
        return Ok(false);
    };
    let mut delete = transaction.prepare_cached(
        "DELETE FROM alert_admissions WHERE id =
             (SELECT max(id) FROM alert_admissions WHERE project = ?1 AND key_kind_id = ?2)",
    )?;
    delete.execute((&other.project, other.key_kind.id()))?;
    Ok(true)
}

/// Whether this is the first alert in an hour by server keys of a project, which a small limit must not exclude: half of a
/// limit of 1 is 0.
fn is_first(transaction: &Connection, origin: Origin<'_>, reason: Reason) -> Result<bool> {
    if origin.key_kind != KeyKind::Server || reason != Reason::ProjectShare {
        return Ok(false);
    }
    let mut admitted =
        transaction.prepare_cached("SELECT EXISTS (SELECT 1 FROM alert_admissions WHERE project = ?1)")?;
    Ok(!admitted.query_row([origin.project], |row| row.get::<_, bool>(0))?)
}

/// Deletes admissions that no longer count: older than an hour, or ahead of now because of a wrong clock.
fn delete_old_admissions(transaction: &Connection, now: Timestamp) -> Result<()> {
    let mut delete =
        transaction.prepare_cached("DELETE FROM alert_admissions WHERE admitted_at_s NOT BETWEEN ?1 AND ?2")?;
    delete.execute(((now - HOUR).seconds() + 1, now.seconds()))?;
    Ok(())
}

/// Deletes admissions of past hours, so that `/api/quota` shows what counts now.
pub(super) struct ExpireAdmissions {
    /// The current time.
    pub(super) now: Timestamp,
}

impl Command for ExpireAdmissions {
    type Output = ();

    fn apply(self, transaction: &Connection) -> Result<()> {
        delete_old_admissions(transaction, self.now)
    }
}

/// Finishes a waiting alert that is not sent.
pub(super) struct Suppress {
    /// The alert.
    pub(super) alert: PendingAlert,
    /// Its subject.
    pub(super) subject: AlertSubject,
    /// Reason, which decides whether the next digest lists the alert.
    pub(super) reason: Suppression,
    /// Time of the decision.
    pub(super) now: Timestamp,
    /// Time for which sent alerts are kept even beyond the history.
    pub(super) keep_sent: Duration,
}

impl Command for Suppress {
    type Output = ();

    fn apply(self, transaction: &Connection) -> Result<()> {
        let Self { alert, subject, reason, now, keep_sent } = self;
        let detail = serde_json::json!([reason.describe(subject)]).to_string();
        if let Suppression::HourlyLimit(_) | Suppression::Displaced = reason {
            hold(transaction, subject, alert.origin(), now)?;
        }
        finish_history(transaction, alert.id, AlertState::Suppressed, &detail, now, keep_sent)
    }
}

/// Queues a digest of all held alerts.
pub(super) struct QueueDigest {
    /// Ids of the channels.
    pub(super) channels: Vec<i64>,
    /// The current time.
    pub(super) now: Timestamp,
}

impl Command for QueueDigest {
    type Output = ();

    fn apply(self, transaction: &Connection) -> Result<()> {
        let id = insert_event(transaction, AlertKind::Digest, None, AlertState::Sending, self.now)?;
        move_into_digest(transaction, id, self.now)?;
        insert_deliveries(transaction, id, &self.channels, self.now)
    }
}
