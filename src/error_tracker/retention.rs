//! What is done about age: resolved groups, hours and remembered keys go, and their space goes back to the disk.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Tracker;
use super::commands::{Expire, GiveBack};
use crate::background::{Job, Pause};
use crate::clock::Timestamp;
use crate::db::ForgetKeys;
use crate::error::Result;

const EVERY: Duration = Duration::from_secs(600);
/// How long an `Idempotency-Key` is remembered.
const KEYS_KEPT: Duration = Duration::from_secs(24 * 3_600);
/// Between two rounds reports get their turn.
const BREATH: Duration = Duration::from_millis(50);
const PAGES_AT_ONCE: u32 = 500;
/// Free space that is not worth moving pages for.
const SLACK_BYTES: u64 = 1024 * 1024;

/// The job that sees to it.
pub(super) fn job(tracker: &Arc<Tracker>, kept: Duration) -> Job {
    let tracker = Arc::clone(tracker);
    let run = Box::new(move |pause: &Pause| {
        // What fails now is done at the next round; the writer says in the log when the disk is the reason.
        if let Err(why) = round(&tracker, kept, pause) {
            log::warn!("retention waits: {why}");
        }
    });
    Job { name: "retention", every: EVERY, run }
}

fn round(tracker: &Tracker, kept: Duration, pause: &Pause) -> Result<()> {
    let (writer, now) = (&tracker.core.writer, Timestamp::now());
    while writer.run(Expire { before: now.minus(kept) })? && pause.sleep(BREATH) {}
    writer.run(ForgetKeys { before: now.minus(KEYS_KEPT) })?;
    let free_bytes = || {
        let stats = writer.stats();
        stats.file_bytes.load(Ordering::Relaxed).saturating_sub(stats.used_bytes.load(Ordering::Relaxed))
    };
    while free_bytes() > SLACK_BYTES && pause.sleep(BREATH) {
        writer.run(GiveBack { pages: PAGES_AT_ONCE })?;
    }
    Ok(())
}
