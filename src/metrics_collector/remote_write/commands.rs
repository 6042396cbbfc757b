//! Commands that change the state of remote write: the send position, the claimed batch, and the running totals as last
//! sent.

use std::collections::BTreeMap;

use rusqlite::Connection;

use super::super::running_totals::{RunningTotals, TotalsTable};
use crate::clock::Timestamp;
use crate::db::{Command, add_to_counter, counter, set_counter};
use crate::error::Result;

/// Deletes the state. Remote write is off, and points are not kept for it.
pub(in super::super) struct ResetState;

impl Command for ResetState {
    type Output = ();

    fn apply(self, transaction: &Connection) -> Result<()> {
        transaction.execute("DELETE FROM series_totals_sent", [])?;
        set_counter(transaction, "remote_on", 0)
    }
}

/// Sets the send position to the last rolled-up point. Earlier points are not sent one by one, but the running totals
/// contain them.
pub(super) struct StartFromNow {
    pub(super) now: Timestamp,
}

impl Command for StartFromNow {
    type Output = ();

    fn apply(self, transaction: &Connection) -> Result<()> {
        let rolled_up = counter(transaction, "rolled_up")?;
        let at = self.now.ms().max(counter(transaction, "remote_sample_at_ms")?);
        transaction.execute("DELETE FROM series_totals_sent", [])?;
        transaction.execute(
            "INSERT INTO series_totals_sent (series_id, count, sum, sum_rest, last, last_at_ms, sketch)
                 SELECT series_id, count, sum, sum_rest, last, last_at_ms, sketch FROM series_totals",
            [],
        )?;
        set_counter(transaction, "remote_on", 1)?;
        set_counter(transaction, "remote_cursor", rolled_up)?;
        set_counter(transaction, "remote_claimed", rolled_up)?;
        set_counter(transaction, "remote_sample_at_ms", at)
    }
}

/// Stores the end of the next batch before it is sent. After a crash, the same samples are sent again instead of other
/// samples with the same timestamp.
pub(super) struct ClaimBatch {
    pub(super) last: i64,
    pub(super) now: Timestamp,
}

impl Command for ClaimBatch {
    type Output = ();

    fn apply(self, transaction: &Connection) -> Result<()> {
        set_counter(transaction, "remote_claimed", self.last)?;
        set_counter(transaction, "remote_claimed_at_ms", self.now.ms())
    }
}

/// Reserves the timestamp of repeated totals, so that the next batch has a later one.
pub(super) struct ClaimRepetition {
    pub(super) now: Timestamp,
}

impl Command for ClaimRepetition {
    /// The timestamp, in ms since 1970.
    type Output = i64;

    fn apply(self, transaction: &Connection) -> Result<i64> {
        let at = self.now.ms().max(counter(transaction, "remote_sample_at_ms")? + 1);
        set_counter(transaction, "remote_sample_at_ms", at)?;
        Ok(at)
    }
}

/// Records that the server accepted or permanently rejected a batch.
pub(super) struct CommitBatch {
    /// Id of the last point of the batch.
    pub(super) last: i64,
    /// Timestamp of the samples, in ms since 1970.
    pub(super) at: i64,
    /// Running totals by series id, including the batch.
    pub(super) totals: BTreeMap<i64, RunningTotals>,
    /// Number of accepted samples.
    pub(super) sent: i64,
    /// Number of permanently rejected samples.
    pub(super) rejected: i64,
}

impl Command for CommitBatch {
    type Output = ();

    fn apply(self, transaction: &Connection) -> Result<()> {
        for (series, totals) in &self.totals {
            totals.store(transaction, TotalsTable::Remote, *series)?;
        }
        set_counter(transaction, "remote_cursor", self.last)?;
        set_counter(transaction, "remote_sample_at_ms", self.at)?;
        add_to_counter(transaction, "remote_sent", self.sent)?;
        add_to_counter(transaction, "remote_rejected", self.rejected)
    }
}
