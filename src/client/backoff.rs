//! Exponential backoff between attempts to reach an unavailable server.

use std::time::{Duration, Instant};

/// Doubles the delay after each failure, from `min` up to `max`.
#[derive(Debug)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    failures: u32,
    next_attempt: Option<Instant>,
}

impl Backoff {
    /// Creates a backoff that is ready at once.
    #[must_use]
    pub fn new(min: Duration, max: Duration) -> Self {
        Self { min, max, failures: 0, next_attempt: None }
    }

    /// Whether the delay after the last failure has passed.
    #[must_use]
    pub fn is_ready(&self, now: Instant) -> bool {
        self.next_attempt.is_none_or(|next| now >= next)
    }

    /// Records a failed attempt. Returns the delay before the next one: twice the previous delay, or the server's
    /// `retry_after` if that is longer, and never more than the maximum.
    pub fn record_failure(&mut self, now: Instant, retry_after: Option<Duration>) -> Duration {
        let doubled = self.min.saturating_mul(1 << self.failures.min(16));
        let delay = doubled.max(retry_after.unwrap_or_default()).min(self.max);
        self.failures += 1;
        self.next_attempt = Some(now + delay);
        delay
    }

    /// Delays the next attempt without a failure.
    pub fn delay_until(&mut self, next_attempt: Instant) {
        self.next_attempt = Some(next_attempt);
    }

    /// Whether the last attempt failed.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        self.failures > 0
    }

    /// Records a success: the next attempt needs no delay.
    pub fn reset(&mut self) {
        (self.failures, self.next_attempt) = (0, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_maximum() {
        let seconds = Duration::from_secs;
        let now = Instant::now();
        let mut backoff = Backoff::new(seconds(1), seconds(60));
        assert!(backoff.is_ready(now));
        let delays: Vec<u64> = (0..8).map(|_| backoff.record_failure(now, None).as_secs()).collect();
        assert_eq!(delays, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert!(!backoff.is_ready(now + seconds(59)) && backoff.is_ready(now + seconds(60)));
        backoff.reset();
        assert!(backoff.is_ready(now));
        assert_eq!(backoff.record_failure(now, Some(seconds(9))), seconds(9));
        assert_eq!(backoff.record_failure(now, Some(seconds(900))), seconds(60));
    }
}
