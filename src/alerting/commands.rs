//! Writes to the alert tables: queueing, results and digests.

use std::time::Duration;

use rusqlite::Connection;

use super::alert::{AlertKind, AlertState, AlertSubject, NewAlert};
use super::store::HISTORY_MAX;
use crate::clock::Timestamp;
use crate::db::Command;
use crate::error::Result;

/// Maximum number of waiting alerts; further alerts are counted for the digest instead.
const WAITING_MAX: i64 = 100;

/// Queues an alert in the caller's transaction, or counts it for the next digest if 100 alerts are already waiting.
///
/// # Errors
/// Returns an error if a statement fails.
pub fn queue(transaction: &Connection, alert: &NewAlert) -> Result<()> {
    let mut count = transaction.prepare_cached("SELECT count(*) FROM alert_events WHERE state_id = ?1")?;
    let waiting: i64 = count.query_row([AlertState::Waiting], |row| row.get(0))?;
    if waiting >= WAITING_MAX {
        return count_for_digest(transaction, alert.created_at);
    }
    let mut insert = transaction.prepare_cached(
        "INSERT INTO alert_events (kind_id, subject_type_id, subject_id, created_at_s, state_id)
         VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    let (subject_type, subject_id) = (alert.subject.map(AlertSubject::type_id), alert.subject.map(AlertSubject::id));
    insert.execute((alert.kind, subject_type, subject_id, alert.created_at.seconds(), AlertState::Waiting))?;
    Ok(())
}

fn count_for_digest(transaction: &Connection, now: Timestamp) -> Result<()> {
    let mut count = transaction.prepare_cached(
        "UPDATE alert_digest SET since_s = iif(suppressed = 0, ?1, since_s), suppressed = suppressed + 1",
    )?;
    count.execute([now.seconds()])?;
    Ok(())
}

/// Stores the result of an alert, and deletes what is older than the history.
pub(super) struct FinishAlert {
    /// Id of the alert.
    pub(super) id: i64,
    /// Final state.
    pub(super) state: AlertState,
    /// Result of each channel, or the reason for suppression: a JSON array.
    pub(super) detail: String,
    /// Time of the result.
    pub(super) now: Timestamp,
    /// Whether the next digest includes the alert.
    pub(super) in_digest: bool,
    /// Time for which sent alerts are kept even beyond the history, for the cool-down and the hourly limit.
    pub(super) keep_sent: Duration,
}

impl Command for FinishAlert {
    type Output = ();

    fn apply(self, transaction: &Connection) -> Result<()> {
        let mut finish = transaction
            .prepare_cached("UPDATE alert_events SET state_id = ?2, detail = ?3, finished_at_s = ?4 WHERE id = ?1")?;
        finish.execute((self.id, self.state, &self.detail, self.now.seconds()))?;
        if self.in_digest {
            count_for_digest(transaction, self.now)?;
        }
        let mut delete = transaction.prepare_cached(
            "DELETE FROM alert_events WHERE state_id <> ?1 AND id <= (SELECT max(id) FROM alert_events) - ?2
                 AND NOT (state_id = ?3 AND finished_at_s > ?4)",
        )?;
        let kept_since_s = (self.now - self.keep_sent).seconds();
        delete.execute((AlertState::Waiting, HISTORY_MAX, AlertState::Sent, kept_since_s))?;
        Ok(())
    }
}

/// Adds a digest to the history. After a failed one, the suppressed alerts stay counted for the next.
pub(super) struct RecordDigest {
    /// Number of suppressed alerts that the digest reported.
    pub(super) suppressed: i64,
    /// Final state.
    pub(super) state: AlertState,
    /// Result of each channel: a JSON array.
    pub(super) detail: String,
    /// Time of the result.
    pub(super) now: Timestamp,
}

impl Command for RecordDigest {
    type Output = ();

    fn apply(self, transaction: &Connection) -> Result<()> {
        transaction.execute(
            "INSERT INTO alert_events (kind_id, created_at_s, state_id, finished_at_s, detail) VALUES (?1, ?2, ?3, ?2, ?4)",
            (AlertKind::Digest, self.now.seconds(), self.state, &self.detail),
        )?;
        if self.state == AlertState::Sent {
            // More alerts may have been suppressed while the digest was being sent.
            let sql = "UPDATE alert_digest SET suppressed = suppressed - ?1, since_s = ?2";
            transaction.execute(sql, (self.suppressed, self.now.seconds()))?;
        }
        Ok(())
    }
}
