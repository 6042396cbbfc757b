//! First start: creates a database, but only where none can have been before.
//!
//! A missing or empty file where a restore, a backup or a write-ahead log shows that there was a database is an error.
//! An empty database in its place would hide the loss.

use std::fs::File;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use super::damage::REMEDY;
use super::lock::DatabaseLock;
use super::paths::{BEFORE_RESTORE, LAST_BACKUP, UNFINISHED, folder_of, sibling};

/// Suffix of a new database until its first page is on the disk.
const CREATING: &str = ".creating";

/// Locks the database at `path`. Creates it on a first start. A database never has zero bytes, not even after a crash
/// at this point, because it gets its name only after its first page was written.
///
/// # Errors
/// Returns why the database is not usable and what to do, in one sentence.
pub(super) fn lock_or_create(path: &Path, application_id: i32) -> Result<DatabaseLock, String> {
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_file() && metadata.len() == 0 => Err(format!(
            "it is empty (0 bytes), so its data is lost; {REMEDY}, or delete the file to begin with an empty database"
        )),
        Ok(_) => DatabaseLock::acquire(path),
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => {
            // A dangling link is an error of the operator, and not a first start.
            if path.is_symlink() {
                return Err("it is a symbolic link to a missing file; restore that file or remove the link".into());
            }
            match describe_remains(path) {
                Some(sentence) => Err(sentence),
                None => create(path, application_id),
            }
        }
        Err(why) => Err(why.to_string()),
    }
}

/// Returns what a former database has left beside the missing file at `path`, and what to do about it.
fn describe_remains(path: &Path) -> Option<String> {
    if let Some(kept) = interrupted_restore(path) {
        return Some(format!(
            "it is missing, and {} exists: a restore was interrupted. Run the restore again, or rename that file to {} to go \
             back",
            kept.display(),
            path.display()
        ));
    }
    let log = sibling(path, "-wal");
    if std::fs::metadata(&log).is_ok_and(|metadata| metadata.len() > 0) {
        return Some(format!(
            "it is missing, but its write-ahead log {} exists; put the database back, {REMEDY}, or delete the log to begin \
             with an empty database",
            log.display()
        ));
    }
    let mark = sibling(path, LAST_BACKUP);
    let backed_up_at = std::fs::read_to_string(&mark).ok()?;
    Some(format!(
        "it is missing, although it was backed up at {}; check that its disk is mounted, {REMEDY}, or delete {} to begin with \
         an empty database",
        backed_up_at.trim().chars().take(20).collect::<String>(),
        mark.display()
    ))
}

/// Returns a file that only an interrupted restore leaves without a database.
fn interrupted_restore(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_string_lossy().into_owned();
    let (replaced, unfinished) = (format!("{name}{BEFORE_RESTORE}"), format!("{name}{UNFINISHED}"));
    let entries = std::fs::read_dir(folder_of(path)).ok()?.filter_map(Result::ok);
    let mut found: Vec<PathBuf> = entries
        .filter(|entry| {
            let entry = entry.file_name().to_string_lossy().into_owned();
            let is_companion = entry.ends_with("-wal") || entry.ends_with("-shm") || entry.ends_with("-journal");
            (entry.starts_with(&replaced) && !is_companion) || entry == unfinished
        })
        .map(|entry| entry.path())
        .collect();
    // The replaced database first: it is what the operator has lost.
    found.sort();
    found.into_iter().next()
}

/// Creates a database of one page at `path` and returns its lock.
fn create(path: &Path, application_id: i32) -> Result<DatabaseLock, String> {
    let unnamed = sibling(path, CREATING);
    let lock = DatabaseLock::create(&unnamed)?;
    let created = write_first_page(&unnamed, application_id).map_err(|why| why.to_string()).and_then(|()| {
        rename_without_replacing(&unnamed, path).map_err(|why| match why.kind() {
            std::io::ErrorKind::AlreadyExists => "another process uses it; stop that process first".to_owned(),
            _ => why.to_string(),
        })
    });
    if created.is_err() {
        // Removed at the next start otherwise.
        let _ = std::fs::remove_file(&unnamed);
    }
    created.map(|()| lock)
}

/// Writes the header, so that the file is recognized as ours. `auto_vacuum` can only be set here.
fn write_first_page(path: &Path, application_id: i32) -> rusqlite::Result<()> {
    let connection = Connection::open(path)?;
    // A crash leaves a file that the next start replaces, so no journal is needed.
    connection.query_row("PRAGMA journal_mode = MEMORY", [], |_| Ok(()))?;
    connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    connection.pragma_update(None, "application_id", application_id)
}

/// Renames a file, flushes the folder, and fails with `AlreadyExists` if the new name is taken.
pub(super) fn rename_without_replacing(from: &Path, to: &Path) -> std::io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // Some file systems do not know the flag. Then only a lock protects the name.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            if to.symlink_metadata().is_ok() {
                return Err(std::io::ErrorKind::AlreadyExists.into());
            }
            std::fs::rename(from, to)?;
        }
        other => other?,
    }
    File::open(folder_of(to))?.sync_all()
}
