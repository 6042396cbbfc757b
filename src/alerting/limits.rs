//! Limits on alerts: the shares of projects in the queue and in each hour, and the pauses between attempts.

use std::time::Duration;

use crate::quota::{Bounds, Store, Usage};

/// Alerts that are not finished. Further ones are held for the digest.
pub(super) const QUEUE: Store =
    Store { name: "alert_queue", warning: "alerts_held", bounds: Bounds { rows_max: 100, bytes_max: u64::MAX } };
/// One alert in a [`Store`].
pub(super) const ONE_ALERT: Usage = Usage { rows: 1, bytes: 0 };
/// Maximum number of test alerts that wait.
pub(super) const WAITING_TESTS_MAX: i64 = 10;
/// Maximum number of subjects that wait for the digest. Beyond it, the project with the most of them loses one.
pub(super) const HELD_SUBJECTS_MAX: i64 = 500;

/// Pauses in seconds after the first, second, … failed attempt of an alert by a channel; the last one repeats.
const PAUSES_S: [u64; 9] = [1, 3, 10, 30, 60, 120, 300, 600, 900];
/// The longest pause.
pub(super) const PAUSE_MAX: Duration = Duration::from_secs(PAUSES_S[PAUSES_S.len() - 1]);
/// Age at which a channel gives up an alert that it could not send.
pub(super) const GIVE_UP_AFTER: Duration = Duration::from_secs(24 * 3_600);
/// Maximum attempts of a test alert. They are few, because the operator waits for the result.
pub(super) const TEST_ATTEMPTS_MAX: u32 = 3;
/// Pause before a channel that is down tries an alert that it has not tried yet.
pub(super) const FRESH_PAUSE: Duration = Duration::from_secs(30);

/// Alerts that passed the limits within the last hour.
pub(super) fn hourly_store(per_hour_max: i64) -> Store {
    let bounds = Bounds { rows_max: per_hour_max.unsigned_abs(), bytes_max: u64::MAX };
    Store { name: "alerts_per_hour", warning: "alerts_held", bounds }
}

/// Returns the pause after the failed attempt with this number, counted from 1, but at least what the server asked for, and
/// at most 15 minutes.
pub(super) fn pause_after(attempt: u32, asked_for: Option<Duration>) -> Duration {
    let index = (attempt.saturating_sub(1) as usize).min(PAUSES_S.len() - 1);
    Duration::from_secs(PAUSES_S[index]).max(asked_for.unwrap_or_default()).min(PAUSE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_quarter_of_an_hour() {
        let pauses: Vec<u64> = (0..12).map(|attempt| pause_after(attempt, None).as_secs()).collect();
        assert_eq!(pauses, [1, 1, 3, 10, 30, 60, 120, 300, 600, 900, 900, 900]);
        let asked = |seconds| pause_after(1, Some(Duration::from_secs(seconds))).as_secs();
        assert_eq!((asked(0), asked(60), asked(86_400)), (1, 60, 900));
    }
}
