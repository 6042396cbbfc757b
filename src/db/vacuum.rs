//! Incremental vacuum: returns free pages to the file system in small steps.

use std::sync::atomic::Ordering;

use rusqlite::Connection;

use super::writer::{Command, Writer};
use crate::error::Result;

/// Maximum pages per step, so that other commands run in between.
const PAGES_PER_STEP: u32 = 500;
/// Free space that is kept, in bytes, because moving pages costs more than it saves.
const SLACK_BYTES: u64 = 1024 * 1024;

/// Returns free pages to the file system, at most `PAGES_PER_STEP` at a time, until fewer than `SLACK_BYTES` are free.
/// Calls `keep_going` between steps, which may sleep, and stops when it returns `false`.
///
/// # Errors
/// Fails if a vacuum command fails.
pub fn vacuum(writer: &Writer, keep_going: impl Fn() -> bool) -> Result<()> {
    let stats = writer.stats();
    let load = |bytes: &std::sync::atomic::AtomicU64| bytes.load(Ordering::Relaxed);
    while load(&stats.file_bytes).saturating_sub(load(&stats.used_bytes)) > SLACK_BYTES && keep_going() {
        writer.run(IncrementalVacuum)?;
    }
    Ok(())
}

struct IncrementalVacuum;

impl Command for IncrementalVacuum {
    type Output = ();

    fn apply(self, transaction: &Connection) -> Result<()> {
        // Each step of this pragma frees one page, so all its rows must be read.
        let mut vacuum = transaction.prepare(&format!("PRAGMA incremental_vacuum({PAGES_PER_STEP})"))?;
        let mut rows = vacuum.query([])?;
        while rows.next()?.is_some() {}
        Ok(())
    }
}
