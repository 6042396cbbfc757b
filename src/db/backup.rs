//! A database as one file, taken while it is in use, and put back in its place.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};

use super::lock::{Lock, private};
use super::migrate::{Found, Schema};
use super::open::LOCK_WAIT;

/// All pages in one go: they are then of one moment, however much is written meanwhile.
const ALL_PAGES: i32 = -1;
/// The set of files a database in use consists of.
const COMPANIONS: [&str; 2] = ["-wal", "-shm"];

/// Copies the database at `from`, which may be in use, into a new file. What was committed before is in it, checked and
/// flushed to the disk. Answers its size in bytes.
///
/// # Errors
/// One sentence; nothing is left at `to` then.
pub fn backup(schema: &Schema, from: &Path, to: &Path) -> Result<u64, String> {
    if to.exists() {
        return Err(format!("{} exists already", to.display()));
    }
    let unfinished = beside(to, ".unfinished");
    let bytes = copy(schema, from, &unfinished)?;
    rename(&unfinished, to)?;
    Ok(bytes)
}

/// Puts a copy of the database at `from` in the place of the one at `to`, which nobody may be using. What was there is
/// kept beside it. Answers where, if there was anything.
///
/// # Errors
/// One sentence; what was there stays then.
pub fn restore(schema: &Schema, from: &Path, to: &Path) -> Result<Option<PathBuf>, String> {
    let existed = to.exists();
    let named = |why: String| format!("cannot restore {}: {why}", to.display());
    if let Some(folder) = to.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(|why| named(why.to_string()))?;
    }
    let _lock = Lock::take(to).map_err(named)?;
    let unfinished = beside(to, ".unfinished");
    copy(schema, from, &unfinished)?;
    let kept = beside(to, ".before-restore");
    for companion in COMPANIONS {
        // A log that belongs to another database would be applied to this one.
        remove(&beside(&kept, companion))?;
        let (with, kept) = (beside(to, companion), beside(&kept, companion));
        if with.exists() {
            rename(&with, &kept)?;
        }
    }
    rename(to, &kept)?;
    rename(&unfinished, to)?;
    if !existed {
        remove(&kept)?;
    }
    Ok(existed.then_some(kept))
}

/// Makes a copy with nothing beside it, and flushes it.
fn copy(schema: &Schema, from: &Path, to: &Path) -> Result<u64, String> {
    let named = |why: &dyn std::fmt::Display| format!("cannot copy {}: {why}", from.display());
    let metadata = std::fs::metadata(from).map_err(|why| named(&why))?;
    remove(to)?;
    let copied = (|| -> rusqlite::Result<Result<(), String>> {
        let source =
            Connection::open_with_flags(from, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
        source.busy_timeout(LOCK_WAIT)?;
        match schema.recognise(&source) {
            Ok(Found::Empty) => return Ok(Err("it is empty".into())),
            Ok(Found::Ours(_) | Found::Original) => {}
            Err(why) => return Ok(Err(why.to_string())),
        }
        // Not before: an upgrade asks for a copy in a place that is not there, to hear what becomes of the database.
        if let Err(why) = private(to) {
            return Ok(Err(format!("{} cannot be made: {why}", to.display())));
        }
        let mut copy = Connection::open(to)?;
        match Backup::new(&source, &mut copy)?.step(ALL_PAGES)? {
            StepResult::Done => {}
            _ => return Ok(Err("it is locked".into())),
        }
        // One file, without a log of its own.
        copy.query_row("PRAGMA journal_mode = DELETE", [], |_| Ok(()))?;
        let found: String = copy.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
        Ok(if found == "ok" { Ok(()) } else { Err(format!("it is damaged: {found}")) })
    })();
    let finished = copied.map_err(|why| named(&why)).and_then(|copied| copied.map_err(|why| named(&why)));
    let flushed = finished.and_then(|()| {
        let file = File::open(to).map_err(|why| named(&why))?;
        file.set_permissions(metadata.permissions()).and_then(|()| file.sync_all()).map_err(|why| named(&why))?;
        file.metadata().map(|metadata| metadata.len()).map_err(|why| named(&why))
    });
    if flushed.is_err() {
        remove(to)?;
    }
    flushed
}

/// The path of a file that belongs to a database: its name and more.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name: OsString = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn remove(path: &Path) -> Result<(), String> {
    match std::fs::remove_file(path) {
        Err(why) if why.kind() != std::io::ErrorKind::NotFound => {
            Err(format!("cannot remove {}: {why}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Gives a file its name, and flushes that as well.
fn rename(from: &Path, to: &Path) -> Result<(), String> {
    let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(".".as_ref());
    std::fs::rename(from, to)
        .and_then(|()| File::open(folder)?.sync_all())
        .map_err(|why| format!("cannot rename {} to {}: {why}", from.display(), to.display()))
}
