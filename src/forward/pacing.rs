//! Size and time of the next request to another store.
//!
//! While requests fail, the store may be down, or one record may be poison: the store fails whenever it receives that one. To
//! tell the two apart, a batch that keeps failing is halved down to the record, and others are sent without it.

use std::time::{Duration, Instant};

use crate::client::Backoff;

/// Maximum size of a request before compression, unless it has only one record.
pub const REQUEST_BYTES_MAX: usize = 256 * 1024;
const BACKOFF_MIN: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(60);
/// Number of times that a batch is sent unchanged, since most failures are not caused by a record.
const UNCHANGED_ATTEMPTS: u32 = 3;
/// The same for a store that asks for a delay, because it is probably busy.
const UNCHANGED_ATTEMPTS_BUSY: u32 = 6;

/// Maximum number of failed attempts to send one record while the store accepts others. Then it is skipped.
const RECORD_ATTEMPTS_MAX: u32 = 5;

/// Creates the backoff of a store: from 1 s up to 60 s.
fn new_backoff() -> Backoff {
    Backoff::new(BACKOFF_MIN, BACKOFF_MAX)
}

/// The reaction to a failed request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterFailure {
    /// Wait, then send the same batch.
    Wait,
    /// Send the first half of the batch now.
    Split,
    /// Send another record now: this one may be poison, if the store accepts the other.
    Probe,
}

/// Decides how many records the next request contains, and when it is sent.
#[derive(Debug)]
pub struct Pacing {
    backoff: Backoff,
    /// Failed attempts since batches had their full size.
    failures: u32,
    records_max: usize,
    /// The full size.
    limit: usize,
}

impl Pacing {
    /// Starts with batches of `limit` records.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { backoff: new_backoff(), failures: 0, records_max: limit, limit }
    }

    /// Whether a request may be sent now.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.backoff.is_ready(Instant::now())
    }

    /// Returns the maximum number of records in the next request.
    #[must_use]
    pub fn records_max(&self) -> usize {
        self.records_max
    }

    /// Records that the store accepted a request. Doubles the size of batches.
    pub fn accepted(&mut self) {
        self.backoff.reset();
        self.records_max = self.limit.min(self.records_max * 2);
        if self.records_max == self.limit {
            self.failures = 0;
        }
    }

    /// Records that the store rejected a request, so that it is up.
    pub fn answered(&mut self) {
        self.backoff.reset();
    }

    /// Makes the next request half as large as the last one, which had `records`.
    pub fn split(&mut self, records: usize) {
        self.records_max = (records / 2).max(1);
    }

    /// Returns what to do after a request with `records` failed. `after` is the delay that the store asks for.
    #[must_use]
    pub fn after_failure(&self, records: usize, after: Option<Duration>) -> AfterFailure {
        let unchanged_attempts = if after.is_some() { UNCHANGED_ATTEMPTS_BUSY } else { UNCHANGED_ATTEMPTS };
        if self.failures + 1 < unchanged_attempts {
            AfterFailure::Wait
        } else if records > 1 {
            AfterFailure::Split
        } else {
            AfterFailure::Probe
        }
    }

    /// Delays the next request.
    pub fn wait(&mut self, after: Option<Duration>) {
        self.failures += 1;
        self.backoff.record_failure(Instant::now(), after);
    }
}

/// Failed attempts to send one record, which is kept apart from the others.
#[derive(Debug)]
pub struct SuspectRecord {
    attempts: u32,
    /// Number of requests that the store had accepted at the last attempt.
    accepted_before: u64,
    backoff: Backoff,
}

impl SuspectRecord {
    /// Starts with `attempts` after which the store has accepted other records, `accepted` requests in total.
    #[must_use]
    pub fn new(attempts: u32, accepted: u64) -> Self {
        let mut backoff = new_backoff();
        if attempts > 0 {
            backoff.record_failure(Instant::now(), None);
        }
        Self { attempts, accepted_before: accepted, backoff }
    }

    /// Whether the next attempt is due.
    #[must_use]
    pub fn is_due(&self) -> bool {
        self.backoff.is_ready(Instant::now())
    }

    /// Whether the store has accepted other records since the last attempt; `accepted` is the total of accepted requests.
    #[must_use]
    pub fn has_been_passed(&self, accepted: u64) -> bool {
        accepted > self.accepted_before
    }

    /// Records a failed attempt, which counts only if the store has accepted other records since the previous one. Returns
    /// whether the record is to be given up. A later record of the same kind is then given up after one attempt.
    pub fn failed(&mut self, accepted: u64) -> bool {
        self.attempts += u32::from(self.has_been_passed(accepted));
        self.accepted_before = accepted;
        let is_given_up = self.attempts >= RECORD_ATTEMPTS_MAX;
        if is_given_up {
            self.attempts -= 1;
            self.backoff.reset();
        } else {
            self.backoff.record_failure(Instant::now(), None);
        }
        is_given_up
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_halved_after_three_failures_and_grow_with_each_success() {
        let mut pacing = Pacing::new(8);
        for _ in 0..2 {
            assert_eq!((pacing.records_max(), pacing.after_failure(8, None)), (8, AfterFailure::Wait));
            pacing.wait(None);
        }
        assert!(!pacing.is_ready());
        for (records, after) in [(8, AfterFailure::Split), (4, AfterFailure::Split), (2, AfterFailure::Split)] {
            assert_eq!((pacing.records_max(), pacing.after_failure(records, None)), (records, after));
            pacing.split(records);
        }
        assert_eq!((pacing.records_max(), pacing.after_failure(1, None)), (1, AfterFailure::Probe));
        assert_eq!(pacing.after_failure(1, Some(Duration::from_secs(1))), AfterFailure::Wait);
        let sizes = [2, 4, 8].map(|_| {
            pacing.accepted();
            pacing.records_max()
        });
        assert_eq!(sizes, [2, 4, 8]);
        assert!(pacing.is_ready() && pacing.after_failure(8, None) == AfterFailure::Wait);
    }

    #[test]
    fn attempts_count_only_while_others_are_accepted() {
        let mut suspect = SuspectRecord::new(1, 10);
        assert!(!suspect.is_due());
        assert!((0..9).all(|_| !suspect.failed(10)), "the store is down");
        assert!((11..14).all(|accepted| !suspect.failed(accepted)) && suspect.failed(14));
        assert!(suspect.is_due() && !suspect.failed(14) && suspect.failed(15));
    }
}
