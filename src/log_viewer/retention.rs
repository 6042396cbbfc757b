//! Retention: deletes expired entries and returns free space to the file system.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::commands::ApplyRetention;
use crate::background::StopToken;
use crate::db::{Writer, vacuum};
use crate::error::Result;

/// Time between two runs.
pub(super) const INTERVAL: Duration = Duration::from_secs(300);
/// The database is vacuumed if more than one part in this many is free. Less is soon used again.
const VACUUM_FREE_DIVISOR: u64 = 4;

/// Applies the limits, and vacuums the database if much of it is free.
pub(super) fn run(writer: &Writer, retention: ApplyRetention, stop: &StopToken) -> Result<()> {
    writer.run(retention)?;
    let stats = writer.stats();
    let file_bytes = stats.file_bytes.load(Ordering::Relaxed);
    let free_bytes = file_bytes.saturating_sub(stats.used_bytes.load(Ordering::Relaxed));
    if free_bytes > file_bytes / VACUUM_FREE_DIVISOR { vacuum(writer, || !stop.stopping()) } else { Ok(()) }
}
