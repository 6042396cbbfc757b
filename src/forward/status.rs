//! State of the delivery to another store, for `/health` and the log.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::records::warning::Warning;
use crate::text::escape_controls;

/// Time for which deliveries must fail until `/health` warns.
const WARN_AFTER: Duration = Duration::from_secs(60);
/// Minimum time between two log lines about rejected records.
const LOG_INTERVAL: Duration = Duration::from_secs(10);
/// Time for which `/health` reports a loss after it happened.
const LOSS_REPORT_PERIOD: Duration = Duration::from_secs(24 * 60 * 60);

/// Tracks whether records are delivered, since when they are not, and which are lost.
#[derive(Debug)]
pub struct DeliveryStatus {
    /// The subject of log lines, for example `export`.
    name: &'static str,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// The last time when no record was pending.
    caught_up_at: Instant,
    failure: Option<Outage>,
    rejected: Option<Loss>,
    missed: Option<Loss>,
    /// Records that are retried apart from the others.
    stuck: usize,
}

/// A series of failed attempts.
#[derive(Debug)]
struct Outage {
    since: Instant,
    last_error: String,
}

/// Records that will never be delivered.
#[derive(Debug)]
struct Loss {
    count: u64,
    last_at: Instant,
    logged_at: Instant,
    reason: String,
}

impl DeliveryStatus {
    /// Creates the status of a delivery that has not failed yet.
    #[must_use]
    pub fn new(name: &'static str) -> Self {
        let state = State { caught_up_at: Instant::now(), failure: None, rejected: None, missed: None, stuck: 0 };
        Self { name, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records a failed attempt. Logs only the first failure of a series.
    pub fn failed(&self, reason: String) {
        match &mut self.state().failure {
            Some(failure) => failure.last_error = reason,
            none => {
                log::warn!("{} failed, will retry: {}", self.name, escape_controls(&reason));
                *none = Some(Outage { since: Instant::now(), last_error: reason });
            }
        }
    }

    /// Records a successful attempt, and logs it after a failure.
    pub fn recovered(&self) {
        if self.state().failure.take().is_some() {
            log::info!("{} recovered", self.name);
        }
    }

    /// Records that the server rejected `count` items, for example "records". They are skipped. Logs it at most once per
    /// interval.
    pub fn rejected(&self, count: usize, items: &str, reason: String) {
        let (mut state, name) = (self.state(), self.name);
        let previous = state.rejected.as_ref().map(|loss| loss.logged_at);
        let logged_at = previous.filter(|at| at.elapsed() < LOG_INTERVAL).unwrap_or_else(|| {
            log::warn!("{name}: the server rejected {count} {items}, skipping them: {}", escape_controls(&reason));
            Instant::now()
        });
        Loss::add(&mut state.rejected, count as u64, reason, logged_at);
    }

    /// Records that `count` records were deleted before they could be sent.
    pub fn missed(&self, count: u64) {
        if count > 0 {
            Loss::add(&mut self.state().missed, count, String::new(), Instant::now());
        }
    }

    /// Records how many records are retried apart from the others, because the server fails with them.
    pub fn stuck(&self, count: usize) {
        self.state().stuck = count;
    }

    /// Records that no record is pending, which resets the lag.
    pub fn caught_up(&self) {
        self.state().caught_up_at = Instant::now();
    }

    /// Returns the seconds since no record was pending.
    #[must_use]
    pub fn lag_seconds(&self) -> i64 {
        self.state().caught_up_at.elapsed().as_secs().cast_signed()
    }

    /// Returns the warnings for `/health`: an outage of a minute, and records that are lost or stuck.
    #[must_use]
    pub fn warnings(&self) -> Vec<Warning> {
        let (state, name) = (self.state(), self.name);
        let outage = state.failure.as_ref().filter(|failure| failure.since.elapsed() > WARN_AFTER).map(|failure| {
            let seconds = failure.since.elapsed().as_secs();
            let message = format!("{name} has failed for {seconds} s, will retry: {}", failure.last_error);
            Warning::new("delivery_failing", seconds, &message)
        });
        let rejected = state.rejected.as_ref().filter(|loss| loss.is_recent()).map(|loss| {
            let (count, reason) = (loss.count, &loss.reason);
            let message = format!("{name}: the server rejected {count}, which were skipped; the last time: {reason}");
            Warning::new("records_rejected", count, &message)
        });
        let missed = state.missed.as_ref().filter(|loss| loss.is_recent()).map(|loss| {
            let message = format!("{name}: {} records were deleted before they were sent", loss.count);
            Warning::new("export_missed", loss.count, &message)
        });
        let stuck = (state.stuck > 0).then(|| {
            let message = format!("{name}: the server fails with {} records but accepts others", state.stuck);
            Warning::new("records_stuck", state.stuck as u64, &message)
        });
        [outage, rejected, missed, stuck].into_iter().flatten().collect()
    }
}

impl Loss {
    /// Adds `count` to the loss, which starts anew after it was not reported any more.
    fn add(loss: &mut Option<Self>, count: u64, reason: String, logged_at: Instant) {
        let before = loss.as_ref().filter(|loss| loss.is_recent()).map_or(0, |loss| loss.count);
        *loss = Some(Self { count: before + count, last_at: Instant::now(), logged_at, reason });
    }

    /// Whether the loss is still reported in `/health`.
    fn is_recent(&self) -> bool {
        self.last_at.elapsed() < LOSS_REPORT_PERIOD
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outages_and_losses_are_warnings_on_one_line() {
        let status = DeliveryStatus::new("export");
        status.failed("store.example: HTTP 401: line 1\r\nline 2".to_owned());
        assert_eq!(status.warnings(), []);
        status.state().failure.as_mut().unwrap().since -= Duration::from_secs(63);
        status.rejected(2, "records", "HTTP 400".to_owned());
        status.rejected(1, "records", "HTTP 413".to_owned());
        status.missed(7);
        status.stuck(4);
        let warnings = status.warnings();
        let counts: Vec<(&str, u64)> = warnings.iter().map(|warning| (warning.code, warning.count)).collect();
        assert_eq!(
            counts,
            [("delivery_failing", 63), ("records_rejected", 3), ("export_missed", 7), ("records_stuck", 4)]
        );
        let message = "export has failed for 63 s, will retry: store.example: HTTP 401: line 1\\r\\nline 2";
        assert_eq!(warnings[0].message, message);
        status.recovered();
        status.stuck(0);
        assert_eq!(status.warnings().len(), 2);
    }
}
