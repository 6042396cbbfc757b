//! Giving free pages back to the disk, some at a time.

use std::sync::atomic::Ordering;

use rusqlite::Connection;

use super::writer::{Command, Writer};
use crate::error::Result;

const PAGES_AT_ONCE: u32 = 500;
/// Free space that is not worth moving pages for.
const SLACK_BYTES: u64 = 1024 * 1024;

/// Makes the file smaller while more than a megabyte of it is free; `go_on` is asked between two rounds, and may wait.
///
/// # Errors
/// Whatever keeps the database from being written.
pub fn vacuum(writer: &Writer, go_on: impl Fn() -> bool) -> Result<()> {
    let stats = writer.stats();
    let load = |bytes: &std::sync::atomic::AtomicU64| bytes.load(Ordering::Relaxed);
    while load(&stats.file_bytes).saturating_sub(load(&stats.used_bytes)) > SLACK_BYTES && go_on() {
        writer.run(GiveBack)?;
    }
    Ok(())
}

struct GiveBack;

impl Command for GiveBack {
    type Output = ();

    fn apply(self, transaction: &Connection) -> Result<()> {
        // Each step of this pragma frees one page, so it has to be stepped to its end.
        let mut vacuum = transaction.prepare(&format!("PRAGMA incremental_vacuum({PAGES_AT_ONCE})"))?;
        let mut rows = vacuum.query([])?;
        while rows.next()?.is_some() {}
        Ok(())
    }
}
