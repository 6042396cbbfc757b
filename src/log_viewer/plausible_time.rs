//! Protection against wrong clocks: of this machine, or of programs that wrote logs.

use std::time::{Duration, Instant};

use crate::clock::Timestamp;

/// Maximum time by which clocks of other machines are taken to be ahead.
const CLOCK_SKEW_MAX: Duration = Duration::from_secs(600);
/// Maximum deviation of the clock from the time that has passed. A larger one means that the clock was set.
const DEVIATION_MAX: Duration = Duration::from_secs(600);
/// Time for which a clock that was set ahead must run on before entries expire by it.
const TRUSTED_AFTER: Duration = Duration::from_secs(3_600);
/// Time without new entries after which a clock may be wrong at the start.
const QUIET_MAX: Duration = Duration::from_secs(86_400);

/// Start of 2000, in nanoseconds since 1970. Machines without a battery start with an earlier time.
pub(super) const EARLIEST_PLAUSIBLE_NS: i64 = 946_684_800_000_000_000;

/// Returns the latest time that an entry that arrives now can have, in nanoseconds since 1970.
pub(super) fn latest_plausible_ns(now: Timestamp) -> i64 {
    (now + CLOCK_SKEW_MAX).ms().saturating_mul(1_000_000)
}

/// Returns a time, or the time of arrival if a wrong clock wrote it, in nanoseconds since 1970. `latest_ns` is
/// [`latest_plausible_ns`] of the arrival.
pub(super) fn plausible_ns(time_ns: i64, latest_ns: i64) -> i64 {
    if time_ns > latest_ns { latest_ns - CLOCK_SKEW_MAX.as_nanos() as i64 } else { time_ns }
}

/// Returns whether a time, in milliseconds since 1970, is so far ahead that a wrong clock wrote it.
pub(super) fn is_implausible_ms(time_ms: i64, now: Timestamp) -> bool {
    time_ms > (now + CLOCK_SKEW_MAX).ms()
}

/// Decides whether the age of entries can be judged by the clock. A clock that was just set ahead would expire everything.
#[derive(Debug)]
pub(super) struct ExpiryClock {
    last: (Instant, Timestamp),
    /// Time from which the clock is trusted.
    trusted_from: Instant,
}

impl ExpiryClock {
    /// Creates the judge. `last_ingest_ms` is the time of the last stored batch, 0 if there is none.
    pub(super) fn new(last_ingest_ms: i64, at: Instant, now: Timestamp) -> Self {
        let was_quiet = last_ingest_ms > 0 && (now - QUIET_MAX).ms() > last_ingest_ms;
        Self { last: (at, now), trusted_from: if was_quiet { at + TRUSTED_AFTER } else { at } }
    }

    /// Returns whether the clock is trusted now.
    pub(super) fn is_trusted(&mut self, at: Instant, now: Timestamp) -> bool {
        let (last_at, last_now) = std::mem::replace(&mut self.last, (at, now));
        let expected = last_now + at.saturating_duration_since(last_at);
        if now > expected + DEVIATION_MAX {
            self.trusted_from = at + TRUSTED_AFTER;
        }
        at >= self.trusted_from
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_ahead_is_trusted_after_an_hour() {
        const MINUTE: Duration = Duration::from_secs(60);
        const YEAR: Duration = Duration::from_secs(365 * 86_400);
        let (at, now) = (Instant::now(), Timestamp::from_ms(1_800_000_000_000));
        let mut clock = ExpiryClock::new(now.ms(), at, now);
        assert!(clock.is_trusted(at, now) && clock.is_trusted(at + 5 * MINUTE, now + 5 * MINUTE));
        assert!(!clock.is_trusted(at + 10 * MINUTE, now + YEAR));
        assert!(!clock.is_trusted(at + 15 * MINUTE, now + YEAR + 5 * MINUTE));
        // Set back to the right time.
        assert!(!clock.is_trusted(at + 20 * MINUTE, now + 20 * MINUTE));
        assert!(clock.is_trusted(at + 70 * MINUTE, now + 70 * MINUTE));
    }

    #[test]
    fn a_start_long_after_the_last_entry_is_not_trusted_at_once() {
        let (at, now) = (Instant::now(), Timestamp::from_ms(1_800_000_000_000));
        let mut clock = ExpiryClock::new((now - 2 * QUIET_MAX).ms(), at, now);
        assert!(!clock.is_trusted(at, now) && clock.is_trusted(at + TRUSTED_AFTER, now + TRUSTED_AFTER));
        assert!(ExpiryClock::new(0, at, now).is_trusted(at, now));
    }
}
