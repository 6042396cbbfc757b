//! Writes to the alert tables: results of attempts, and the end of an alert.

use std::time::Duration;

use rusqlite::Connection;

use super::alert::{AlertKind, AlertState, AlertSubject};
use super::channel_id::channel_name;
use super::held::{hold, settle_digest};
use super::limits::{GIVE_UP_AFTER, pause_after};
use super::store::{self, HISTORY_MAX};
use crate::clock::Timestamp;
use crate::db::Command;
use crate::error::{Error, Result};

/// Result of one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The channel accepted the message.
    Sent,
    /// The attempt failed, and there will be another one.
    Retry {
        /// The failure.
        reason: String,
        /// The pause that the server asked for.
        after: Option<Duration>,
    },
    /// The channel gives up.
    Failed {
        /// The last failure.
        reason: String,
    },
}

/// Stores the result of an attempt, and finishes the alert after the last channel.
#[derive(Debug, Clone)]
pub(super) struct RecordOutcome {
    /// Id of the alert.
    pub(super) alert_id: i64,
    /// Id of the channel.
    pub(super) channel_id: i64,
    /// Number of this attempt, counted from 1.
    pub(super) attempt: u32,
    /// Result of the attempt.
    pub(super) outcome: Outcome,
    /// Whether the channel answers again after an outage; then nothing waits any longer.
    pub(super) has_recovered: bool,
    /// Time of the result.
    pub(super) now: Timestamp,
    /// Time for which sent alerts are kept even beyond the history.
    pub(super) keep_sent: Duration,
}

impl Command for RecordOutcome {
    type Output = ();

    fn apply(self, transaction: &Connection) -> Result<()> {
        let now_s = self.now.seconds();
        let (state, pause, reason) = match &self.outcome {
            Outcome::Sent => (AlertState::Sent, Duration::ZERO, None),
            Outcome::Retry { reason, after } => {
                (AlertState::Waiting, pause_after(self.attempt, *after), Some(reason.as_str()))
            }
            Outcome::Failed { reason } => (AlertState::Failed, Duration::ZERO, Some(reason.as_str())),
        };
        let mut update = transaction.prepare_cached(
            "UPDATE alert_deliveries SET state_id = ?3, attempts = ?4, next_attempt_at_s = ?5, reason = ?6
             WHERE alert_id = ?1 AND channel_id = ?2",
        )?;
        let next_attempt_at_s = (self.now + pause).seconds();
        if update.execute((self.alert_id, self.channel_id, state, self.attempt, next_attempt_at_s, reason))? == 0 {
            // A critical alert took the place of this one during the attempt, so the digest lists it as well.
            return Ok(());
        }
        if self.has_recovered {
            make_due(transaction, self.channel_id, now_s)?;
        }
        if state == AlertState::Waiting {
            return self.give_up_old(transaction);
        }
        finish_if_done(transaction, self.alert_id, self.now, self.keep_sent)
    }
}

impl RecordOutcome {
    /// Gives up all alerts that have waited for a day for a channel that still fails.
    fn give_up_old(&self, transaction: &Connection) -> Result<()> {
        let now_s = self.now.seconds();
        // A wrong clock must not make an alert wait for years.
        let mut correct = transaction.prepare_cached(
            "UPDATE alert_deliveries SET queued_at_s = ?3 WHERE channel_id = ?1 AND state_id = ?2 AND queued_at_s > ?3",
        )?;
        correct.execute((self.channel_id, AlertState::Waiting, now_s))?;
        let mut old = transaction.prepare_cached(
            "UPDATE alert_deliveries SET state_id = ?3 WHERE channel_id = ?1 AND state_id = ?2 AND queued_at_s <= ?4
             RETURNING alert_id",
        )?;
        let given_up_s = (self.now - GIVE_UP_AFTER).seconds();
        let parameters = (self.channel_id, AlertState::Waiting, AlertState::Failed, given_up_s);
        let ids: Vec<i64> = old.query_map(parameters, |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
        for id in ids {
            log::warn!(
                "alerts: delivery of alert {id} by {} failed for a day; giving up",
                channel_name(self.channel_id)
            );
            finish_if_done(transaction, id, self.now, self.keep_sent)?;
        }
        Ok(())
    }
}

fn make_due(transaction: &Connection, channel_id: i64, now_s: i64) -> Result<()> {
    let mut update = transaction
        .prepare_cached("UPDATE alert_deliveries SET next_attempt_at_s = ?3 WHERE channel_id = ?1 AND state_id = ?2")?;
    update.execute((channel_id, AlertState::Waiting, now_s))?;
    Ok(())
}

/// Prepares the queues for a start: what waits is due at once, because the operator may have repaired a setting, and the
/// channels that are no longer configured give up.
pub(super) struct ResumeDeliveries {
    /// Ids of the configured channels.
    pub(super) channels: Vec<i64>,
    /// Time of the start.
    pub(super) now: Timestamp,
    /// Time for which sent alerts are kept even beyond the history.
    pub(super) keep_sent: Duration,
}

impl Command for ResumeDeliveries {
    type Output = ();

    fn apply(self, transaction: &Connection) -> Result<()> {
        let mut waiting = transaction.prepare_cached(
            "SELECT alert_id, channel_id FROM alert_deliveries WHERE state_id = ?1 ORDER BY alert_id",
        )?;
        let rows = waiting.query_map([AlertState::Waiting], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let rows: Vec<(i64, i64)> = rows.collect::<rusqlite::Result<_>>()?;
        let mut give_up = transaction.prepare_cached(
            "UPDATE alert_deliveries SET state_id = ?3, reason = 'the channel is no longer configured'
             WHERE alert_id = ?1 AND channel_id = ?2",
        )?;
        for (alert_id, channel_id) in rows {
            if !self.channels.contains(&channel_id) {
                give_up.execute((alert_id, channel_id, AlertState::Failed))?;
                finish_if_done(transaction, alert_id, self.now, self.keep_sent)?;
            }
        }
        for channel_id in &self.channels {
            make_due(transaction, *channel_id, self.now.seconds())?;
        }
        Ok(())
    }
}

/// Result of a channel in `alert_events.detail`.
#[derive(serde::Serialize)]
struct ChannelResult {
    channel: &'static str,
    attempts: u32,
    outcome: &'static str,
    reason: Option<String>,
}

/// Finishes an alert unless a channel still has to send it. The next digest lists an alert that a channel did not deliver.
fn finish_if_done(transaction: &Connection, alert_id: i64, now: Timestamp, keep_sent: Duration) -> Result<()> {
    let deliveries = store::deliveries(transaction, alert_id)?;
    if deliveries.iter().any(|delivery| delivery.state == AlertState::Waiting) {
        return Ok(());
    }
    let is_sent = |delivery: &store::ChannelDelivery| delivery.state == AlertState::Sent;
    let state = if deliveries.iter().all(is_sent) { AlertState::Sent } else { AlertState::Failed };
    let alert = store::unfinished(transaction, alert_id)?;
    match alert.as_ref().map(|alert| (alert.kind, alert.subject)) {
        Some((AlertKind::Digest, _)) => settle_digest(transaction, alert_id, deliveries.iter().any(is_sent))?,
        Some((_, Some(subject))) if state == AlertState::Failed => hold_failed(transaction, alert, subject, now)?,
        _ => {}
    }
    let results: Vec<ChannelResult> = deliveries
        .into_iter()
        .map(|delivery| {
            let is_sent = is_sent(&delivery);
            let (outcome, reason) = if is_sent { ("sent", None) } else { ("failed", delivery.reason) };
            ChannelResult { channel: delivery.channel, attempts: delivery.attempts, outcome, reason }
        })
        .collect();
    let detail = serde_json::to_string(&results)
        .map_err(|error| Error::Internal(format!("cannot serialize the results of an alert: {error}")))?;
    finish_history(transaction, alert_id, state, &detail, now, keep_sent)
}

fn hold_failed(
    transaction: &Connection,
    alert: Option<store::PendingAlert>,
    subject: AlertSubject,
    now: Timestamp,
) -> Result<()> {
    let Some(alert) = alert else { return Ok(()) };
    hold(transaction, subject, alert.origin(), now)
}

/// Stores the final state of an alert, takes it out of the queue, and deletes what is older than the history.
pub(super) fn finish_history(
    transaction: &Connection,
    id: i64,
    state: AlertState,
    detail: &str,
    now: Timestamp,
    keep_sent: Duration,
) -> Result<()> {
    let mut finish = transaction
        .prepare_cached("UPDATE alert_events SET state_id = ?2, detail = ?3, finished_at_s = ?4 WHERE id = ?1")?;
    finish.execute((id, state, detail, now.seconds()))?;
    transaction.prepare_cached("DELETE FROM alert_queue WHERE alert_id = ?1")?.execute([id])?;
    let mut delete = transaction.prepare_cached(
        "DELETE FROM alert_events WHERE state_id NOT IN (?1, ?2) AND id <= (SELECT max(id) FROM alert_events) - ?3
             AND NOT (state_id IN (?4, ?5) AND finished_at_s BETWEEN ?6 AND ?7)",
    )?;
    let kept_since_s = (now - keep_sent).seconds() + 1;
    delete.execute((
        AlertState::Waiting,
        AlertState::Sending,
        HISTORY_MAX,
        AlertState::Sent,
        AlertState::Failed,
        kept_since_s,
        now.seconds(),
    ))?;
    Ok(())
}
