//! Retention runner: deletes expired rows in small batches, so that other commands run in between, and returns their space
//! to the file system. Data do not expire by a wall clock that is wrong.

use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension as _};

use super::idempotency::ExpireIdempotencyKeys;
use super::vacuum::vacuum;
use super::writer::{Command, Writer};
use crate::background::{Job, StopToken};
use crate::clock::Timestamp;
use crate::error::Result;

const INTERVAL: Duration = Duration::from_secs(600);
/// Retention of idempotency keys.
const KEYS_RETENTION: Duration = Duration::from_secs(24 * 3_600);
/// Pause after each batch, so that reports are not delayed.
const PAUSE_BETWEEN_BATCHES: Duration = Duration::from_millis(50);
/// Time by which the wall clock may be ahead of the time that has passed since the last run. More is a jump.
const JUMP_MIN: Duration = Duration::from_secs(3_600);
/// Time for which nothing expires after a jump. If the clock is not corrected until then, the jump was a correction, or the
/// service was stopped.
const JUMP_WAIT: Duration = Duration::from_secs(6 * 3_600);
/// Name of the counter that holds the time of the last run, in ms since 1970.
const LAST_RUN: &str = "retention_ran_at_ms";

/// Wall clock by which data may expire. It is checked against the monotonic clock while the service runs, and against the last
/// run after a start. So a clock that is months ahead for some minutes does not expire everything that is stored.
#[derive(Debug, Default)]
pub struct RetentionClock {
    /// Wall clock and monotonic clock at the last run that could be trusted.
    trusted: Option<(Timestamp, Instant)>,
    jumped_at: Option<Instant>,
}

impl RetentionClock {
    /// Whether data may expire as of `now`. If so, stores it as the last run.
    ///
    /// # Errors
    /// Fails if the database cannot be written.
    pub fn check(&mut self, writer: &Writer, now: Timestamp) -> Result<bool> {
        let is_trusted = self.trusts(now, Instant::now(), writer.run(ReadLastRun)?);
        if is_trusted {
            writer.run(RecordRun { now })?;
        }
        Ok(is_trusted)
    }

    /// Whether data may expire as of `wall`. `last_run` is the stored time of the last run, which is used at the first call.
    fn trusts(&mut self, wall: Timestamp, monotonic: Instant, last_run: Option<Timestamp>) -> bool {
        let last = self.trusted.or_else(|| last_run.map(|last_run| (last_run, monotonic)));
        let expected = last.map_or(wall, |(wall, at)| wall + monotonic.saturating_duration_since(at));
        if wall > expected + JUMP_MIN {
            self.trusted = last;
            let is_new = self.jumped_at.is_none();
            let jumped_at = *self.jumped_at.get_or_insert(monotonic);
            if monotonic.saturating_duration_since(jumped_at) < JUMP_WAIT {
                if is_new {
                    log::warn!(
                        "retention: the clock is {} h ahead of the last run; nothing expires for {} h, unless it is corrected",
                        wall.saturating_since(expected).as_secs() / 3_600,
                        JUMP_WAIT.as_secs() / 3_600
                    );
                }
                return false;
            }
        }
        (self.trusted, self.jumped_at) = (Some((wall, monotonic)), None);
        true
    }
}

/// Returns a job that applies retention every 10 minutes. `expire` returns a command that deletes one batch of expired rows
/// as of the given time; its output is whether more may remain.
pub fn retention_job<C: Command<Output = bool>>(
    writer: Writer,
    mut expire: impl FnMut(Timestamp) -> C + Send + 'static,
) -> Job {
    let mut clock = RetentionClock::default();
    let run = Box::new(move |stop: &StopToken| {
        if let Err(why) = apply_retention(&writer, stop, &mut clock, &mut expire) {
            log::warn!("retention: deleting expired rows failed: {why}; will retry in {} s", INTERVAL.as_secs());
        }
    });
    Job { name: "retention", interval: INTERVAL, run }
}

/// Deletes expired rows batch by batch until none remain or the service stops, then expired idempotency keys, and returns
/// the freed pages to the file system. Deletes nothing while `clock` does not trust the wall clock.
///
/// # Errors
/// Fails if the database cannot be written.
pub fn apply_retention<C: Command<Output = bool>>(
    writer: &Writer,
    stop: &StopToken,
    clock: &mut RetentionClock,
    mut expire: impl FnMut(Timestamp) -> C,
) -> Result<()> {
    let now = Timestamp::now();
    if !clock.check(writer, now)? {
        return Ok(());
    }
    while writer.run(expire(now))? && stop.sleep(PAUSE_BETWEEN_BATCHES) {}
    writer.run(ExpireIdempotencyKeys { before: now - KEYS_RETENTION })?;
    vacuum(writer, || stop.sleep(PAUSE_BETWEEN_BATCHES))
}

/// Reads the time of the last run.
struct ReadLastRun;

impl Command for ReadLastRun {
    type Output = Option<Timestamp>;

    fn apply(self, transaction: &Connection) -> Result<Option<Timestamp>> {
        let mut select = transaction.prepare_cached("SELECT value FROM counters WHERE name = ?1")?;
        Ok(select.query_row([LAST_RUN], |row| row.get(0)).optional()?.map(Timestamp::from_ms))
    }
}

/// Stores the time of a run.
struct RecordRun {
    now: Timestamp,
}

impl Command for RecordRun {
    type Output = ();

    fn apply(self, transaction: &Connection) -> Result<()> {
        let mut upsert = transaction.prepare_cached(
            "INSERT INTO counters (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        )?;
        upsert.execute((LAST_RUN, self.now.ms()))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);
    const HOUR: Duration = Duration::from_secs(3_600);
    const MONTH: Duration = Duration::from_secs(31 * 86_400);

    #[test]
    fn clock_that_is_ahead_for_some_minutes_expires_nothing() {
        let (start, wall) = (Instant::now(), Timestamp::from_seconds(1_800_000_000));
        let mut clock = RetentionClock::default();
        assert!(clock.trusts(wall, start, None), "the first run of a database has nothing to compare with");
        assert!(clock.trusts(wall + 10 * MINUTE, start + 10 * MINUTE, None));
        assert!(!clock.trusts(wall + MONTH, start + 20 * MINUTE, None));
        assert!(!clock.trusts(wall + MONTH + 5 * MINUTE, start + 25 * MINUTE, None));
        assert!(clock.trusts(wall + 30 * MINUTE, start + 30 * MINUTE, None), "the clock was corrected");
        assert!(!clock.trusts(wall + MONTH, start + 40 * MINUTE, None), "a second jump starts a new wait");
        assert!(!clock.trusts(wall + MONTH + 5 * HOUR, start + 40 * MINUTE + 5 * HOUR, None));
        assert!(
            clock.trusts(wall + MONTH + 6 * HOUR, start + 40 * MINUTE + 6 * HOUR, None),
            "the jump was a correction"
        );
        assert!(clock.trusts(wall, start + 7 * HOUR, None), "a clock that goes back expires less");
    }

    #[test]
    fn first_run_after_a_start_is_compared_with_the_stored_one() {
        let (start, wall) = (Instant::now(), Timestamp::from_seconds(1_800_000_000));
        let first = |ahead: Duration| RetentionClock::default().trusts(wall + ahead, start, Some(wall));
        assert_eq!([MINUTE, 2 * HOUR, MONTH].map(first), [true, false, false]);
        let mut clock = RetentionClock::default();
        assert!(!clock.trusts(wall + MONTH, start, Some(wall)));
        assert!(!clock.trusts(wall + MONTH + HOUR, start + HOUR, Some(wall)));
        assert!(clock.trusts(wall + 2 * HOUR, start + 2 * HOUR, Some(wall)), "the clock was corrected");
    }
}
