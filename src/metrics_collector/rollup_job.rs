//! Background job that rolls up points and deletes expired data.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::commands::{DeleteExpired, RollUp};
use super::config::{Config, Retention};
use super::state::Collector;
use crate::background::{Job, StopToken};
use crate::clock::Timestamp;
use crate::db::{RetentionClock, apply_retention, counter};
use crate::error::Result;

const POLL_INTERVAL: Duration = Duration::from_secs(1);
const EXPIRE_INTERVAL: Duration = Duration::from_secs(300);
/// Number of points that start a rollup early. Every query reads all points that are not rolled up yet.
const NOT_ROLLED_UP_MAX: i64 = 10_000;
/// Pause in which the writer executes commands of clients.
const PAUSE_BETWEEN_BATCHES: Duration = Duration::from_millis(20);

/// Returns the job. It retries after a failure at the next poll.
pub(super) fn job(collector: &Arc<Collector>, config: &Config) -> Job {
    let mut job = RollupJob {
        collector: Arc::clone(collector),
        rollup_interval: config.rollup_interval,
        retention: config.retention,
        retention_clock: RetentionClock::default(),
        rolled_up_at: None,
        expired_at: None,
    };
    let run = Box::new(move |stop: &StopToken| {
        let retry_s = POLL_INTERVAL.as_secs();
        if let Err(error) = job.roll_up_if_due(stop) {
            log::warn!("rollup: failed: {error}; retrying in {retry_s} s");
        } else if let Err(error) = job.expire_if_due(stop) {
            log::warn!("retention: failed to delete expired data: {error}; retrying in {retry_s} s");
        }
    });
    Job { name: "rollup", interval: POLL_INTERVAL, run }
}

struct RollupJob {
    collector: Arc<Collector>,
    rollup_interval: Duration,
    retention: Retention,
    retention_clock: RetentionClock,
    rolled_up_at: Option<Instant>,
    expired_at: Option<Instant>,
}

impl RollupJob {
    fn roll_up_if_due(&mut self, stop: &StopToken) -> Result<()> {
        let is_due = self.rolled_up_at.is_none_or(|at| at.elapsed() >= self.rollup_interval);
        if is_due || self.points_not_rolled_up()? > NOT_ROLLED_UP_MAX {
            let writer = &self.collector.core.writer;
            let roll_up = || {
                let now = Timestamp::now();
                let used_bytes = writer.stats().used_bytes.load(Ordering::Relaxed);
                RollUp::at(now).with_room(self.collector.free_space.room(used_bytes, now))
            };
            while writer.run(roll_up())? && stop.sleep(PAUSE_BETWEEN_BATCHES) {}
            self.rolled_up_at = Some(Instant::now());
        }
        Ok(())
    }

    fn expire_if_due(&mut self, stop: &StopToken) -> Result<()> {
        if self.expired_at.is_none_or(|at| at.elapsed() >= EXPIRE_INTERVAL) {
            let decoder = &self.collector.decoder;
            let delete = |now| DeleteExpired { retention: self.retention, decoder: Arc::clone(decoder), now };
            apply_retention(&self.collector.core.writer, stop, &mut self.retention_clock, delete)?;
            self.expired_at = Some(Instant::now());
        }
        Ok(())
    }

    fn points_not_rolled_up(&self) -> Result<i64> {
        let reader = self.collector.core.readers.acquire()?;
        let last: Option<i64> = reader.prepare_cached("SELECT max(id) FROM points")?.query_row([], |row| row.get(0))?;
        Ok(last.unwrap_or(0) - counter(&reader, "rolled_up")?)
    }
}
