//! Backup of a database in use into one file, and restore.

use std::fs::File;
use std::path::{Path, PathBuf};

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};

use super::lock::{DatabaseLock, open_private};
use super::migrate::{FileKind, Schema};
use super::paths::{LOCK_TIMEOUT, sibling};

/// Copies all pages in one step, so that they are consistent however much is written meanwhile.
const ALL_PAGES: i32 = -1;
/// Suffixes of the companion files of a database in use.
const COMPANION_SUFFIXES: [&str; 2] = ["-wal", "-shm"];

/// Copies the database at `from`, which may be in use, into a new file. The copy contains everything committed before, is
/// checked, and is flushed to the disk. Returns its size in bytes.
///
/// # Errors
/// Returns one sentence; then nothing is left at `to`.
pub fn backup(schema: &Schema, from: &Path, to: &Path) -> Result<u64, String> {
    if to.exists() {
        return Err(format!("{} already exists", to.display()));
    }
    let unfinished = sibling(to, ".unfinished");
    let bytes = copy(schema, from, &unfinished)?;
    rename(&unfinished, to)?;
    Ok(bytes)
}

/// Replaces the database at `to`, which must not be in use, with a copy of the one at `from`. Keeps the replaced database
/// next to it and returns its path, if there was one.
///
/// # Errors
/// Returns one sentence; then the database at `to` is unchanged.
pub fn restore(schema: &Schema, from: &Path, to: &Path) -> Result<Option<PathBuf>, String> {
    let existed = to.exists();
    let named = |why: String| format!("cannot restore {}: {why}", to.display());
    if let Some(folder) = to.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(|why| named(why.to_string()))?;
    }
    let _lock = DatabaseLock::acquire(to).map_err(named)?;
    let unfinished = sibling(to, ".unfinished");
    copy(schema, from, &unfinished)?;
    let kept = sibling(to, ".before-restore");
    for companion in COMPANION_SUFFIXES {
        // SQLite would apply a leftover write-ahead log to the restored database.
        remove(&sibling(&kept, companion))?;
        let (current, kept) = (sibling(to, companion), sibling(&kept, companion));
        if current.exists() {
            rename(&current, &kept)?;
        }
    }
    rename(to, &kept)?;
    rename(&unfinished, to)?;
    if !existed {
        remove(&kept)?;
    }
    Ok(existed.then_some(kept))
}

/// Copies a database into a single file and flushes it. Returns its size in bytes.
fn copy(schema: &Schema, from: &Path, to: &Path) -> Result<u64, String> {
    let named = |why: &dyn std::fmt::Display| format!("cannot copy {}: {why}", from.display());
    let metadata = std::fs::metadata(from).map_err(|why| named(&why))?;
    remove(to)?;
    let copied = (|| -> rusqlite::Result<Result<(), String>> {
        let source =
            Connection::open_with_flags(from, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
        source.busy_timeout(LOCK_TIMEOUT)?;
        match schema.detect(&source) {
            Ok(FileKind::Empty) => return Ok(Err("it is empty".into())),
            Ok(FileKind::Ours(_) | FileKind::Original) => {}
            Err(why) => return Ok(Err(why.to_string())),
        }
        // Created only now: an upgrade requests a copy at an impossible path, only to learn the kind of the database.
        if let Err(why) = open_private(to) {
            return Ok(Err(format!("cannot create {}: {why}", to.display())));
        }
        let mut copy = Connection::open(to)?;
        match Backup::new(&source, &mut copy)?.step(ALL_PAGES)? {
            StepResult::Done => {}
            _ => return Ok(Err("it is locked".into())),
        }
        // Leaves one file, without a write-ahead log.
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

fn remove(path: &Path) -> Result<(), String> {
    match std::fs::remove_file(path) {
        Err(why) if why.kind() != std::io::ErrorKind::NotFound => {
            Err(format!("cannot remove {}: {why}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Renames a file and flushes the folder.
fn rename(from: &Path, to: &Path) -> Result<(), String> {
    let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(".".as_ref());
    std::fs::rename(from, to)
        .and_then(|()| File::open(folder)?.sync_all())
        .map_err(|why| format!("cannot rename {} to {}: {why}", from.display(), to.display()))
}
