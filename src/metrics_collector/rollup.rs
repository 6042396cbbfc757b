//! The job that folds points into tiers and removes what is older than it is kept.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Collector;
use super::commands::{Expire, RollUp};
use super::config::{Config, Retention};
use super::store::total;
use crate::background::{Job, StopToken};
use crate::clock::Timestamp;
use crate::db::{ExpireKeys, vacuum};
use crate::error::Result;

const LOOK_EVERY: Duration = Duration::from_secs(1);
const EXPIRE_EVERY: Duration = Duration::from_secs(300);
/// Points outside the tiers that are worth a rollup before its time: queries read over all of them.
const FRESH_POINTS_MAX: i64 = 10_000;
const KEYS_KEPT: Duration = Duration::from_secs(24 * 3_600);
/// Between two rounds clients get their turn.
const BREATH: Duration = Duration::from_millis(20);

/// The job that sees to it.
pub(super) fn job(collector: &Arc<Collector>, config: &Config) -> Job {
    let (every, retention) = (config.rollup_every, config.retention);
    let mut rolls = Rolls { collector: Arc::clone(collector), every, retention, rolled: None, expired: None };
    let run = Box::new(move |pause: &StopToken| {
        // What fails now is done at the next look; the writer says in the log when the disk is the reason.
        if let Err(why) = rolls.look(pause) {
            log::warn!("rollups wait: {why}");
        }
    });
    Job { name: "rollup", interval: LOOK_EVERY, run }
}

struct Rolls {
    collector: Arc<Collector>,
    every: Duration,
    retention: Retention,
    rolled: Option<Instant>,
    expired: Option<Instant>,
}

impl Rolls {
    fn look(&mut self, pause: &StopToken) -> Result<()> {
        let writer = &self.collector.core.writer;
        if self.rolled.is_none_or(|at| at.elapsed() >= self.every) || self.fresh_points()? > FRESH_POINTS_MAX {
            while writer.run(RollUp { now: Timestamp::now() })? && pause.sleep(BREATH) {}
            self.rolled = Some(Instant::now());
        }
        if self.expired.is_none_or(|at| at.elapsed() >= EXPIRE_EVERY) {
            let reader = &self.collector.reader;
            let expire = || Expire { retention: self.retention, reader: Arc::clone(reader), now: Timestamp::now() };
            while writer.run(expire())? && pause.sleep(BREATH) {}
            writer.run(ExpireKeys { before: Timestamp::now() - KEYS_KEPT })?;
            vacuum(writer, || pause.sleep(BREATH))?;
            self.expired = Some(Instant::now());
        }
        Ok(())
    }

    fn fresh_points(&self) -> Result<i64> {
        let reader = self.collector.core.readers.acquire()?;
        let last: Option<i64> = reader.prepare_cached("SELECT max(id) FROM points")?.query_row([], |row| row.get(0))?;
        Ok(last.unwrap_or(0) - total(&reader, "rolled_up")?)
    }
}

#[cfg(test)]
#[path = "rollup_tests.rs"]
mod tests;
