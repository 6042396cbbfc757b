//! State of the delivery to another store, for `/health` and the log.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::records::warning::Warning;
use crate::text::escape_controls;

/// Time for which deliveries must fail until `/health` warns.
const WARN_AFTER: Duration = Duration::from_secs(60);

/// Tracks whether records are delivered, and since when they are not.
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
}

/// A series of failed attempts.
#[derive(Debug)]
struct Outage {
    since: Instant,
    last_error: String,
}

impl DeliveryStatus {
    /// Creates the status of a delivery that has not failed yet.
    #[must_use]
    pub fn new(name: &'static str) -> Self {
        Self { name, state: Mutex::new(State { caught_up_at: Instant::now(), failure: None }) }
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

    /// Records that no record is pending, which resets the lag.
    pub fn caught_up(&self) {
        self.state().caught_up_at = Instant::now();
    }

    /// Returns the seconds since no record was pending.
    #[must_use]
    pub fn lag_seconds(&self) -> i64 {
        self.state().caught_up_at.elapsed().as_secs().cast_signed()
    }

    /// Returns a warning for `/health` after a minute of failed attempts.
    #[must_use]
    pub fn warning(&self) -> Option<Warning> {
        let state = self.state();
        let failure = state.failure.as_ref().filter(|failure| failure.since.elapsed() > WARN_AFTER)?;
        let seconds = failure.since.elapsed().as_secs();
        let message = format!("{} has failed for {seconds} s, will retry: {}", self.name, failure.last_error);
        Some(Warning::new("delivery_failing", seconds, &message))
    }
}
