//! Retention runner: deletes expired rows in small batches, so that other commands run in between, and returns their space
//! to the file system.

use std::time::Duration;

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

/// Returns a job that applies retention every 10 minutes. `expire` returns a command that deletes one batch of expired rows
/// as of the given time; its output is whether more may remain.
pub fn retention_job<C: Command<Output = bool>>(
    writer: Writer,
    mut expire: impl FnMut(Timestamp) -> C + Send + 'static,
) -> Job {
    let run = Box::new(move |stop: &StopToken| {
        if let Err(why) = apply_retention(&writer, stop, &mut expire) {
            log::warn!("retention: deleting expired rows failed: {why}; will retry in {} s", INTERVAL.as_secs());
        }
    });
    Job { name: "retention", interval: INTERVAL, run }
}

/// Deletes expired rows batch by batch until none remain or the service stops, then expired idempotency keys, and returns
/// the freed pages to the file system.
///
/// # Errors
/// Fails if the database cannot be written.
pub fn apply_retention<C: Command<Output = bool>>(
    writer: &Writer,
    stop: &StopToken,
    mut expire: impl FnMut(Timestamp) -> C,
) -> Result<()> {
    let now = Timestamp::now();
    while writer.run(expire(now))? && stop.sleep(PAUSE_BETWEEN_BATCHES) {}
    writer.run(ExpireIdempotencyKeys { before: now - KEYS_RETENTION })?;
    vacuum(writer, || stop.sleep(PAUSE_BETWEEN_BATCHES))
}
