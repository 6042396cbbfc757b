//! Backup of a database in use into one file, and restore.
//!
//! Root restores into a folder of the service's user, who must not gain anything by that. Therefore no path in it is
//! opened through a link, and the owner of a new file is set on the open file.

use std::fs::{File, Metadata, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};

use super::disk;
use super::first_start::rename_without_replacing;
use super::lock::{DatabaseLock, create_private};
use super::migrate::{FileKind, Schema};
use super::paths::{BEFORE_RESTORE, LAST_BACKUP, LOCK_TIMEOUT, UNFINISHED, folder_of, sibling};
use crate::clock::Timestamp;

/// Copies all pages in one step, so that they are consistent however much is written meanwhile.
const ALL_PAGES: i32 = -1;
/// Suffixes of the companion files of a database in use.
const COMPANION_SUFFIXES: [&str; 2] = ["-wal", "-shm"];

/// Copies the database at `from`, which may be in use, into a new file. The copy contains everything committed before,
/// is checked, and is flushed to the disk. Returns its size in bytes.
///
/// # Errors
/// Returns one sentence; then nothing is left at `to`.
pub fn backup(schema: &Schema, from: &Path, to: &Path) -> Result<u64, String> {
    let taken = || format!("{} already exists", to.display());
    if is_present(to) {
        return Err(taken());
    }
    let unfinished = sibling(to, UNFINISHED);
    let bytes = copy(schema, from, &unfinished, None)?;
    rename(&unfinished, to)?;
    // A folder that cannot be written only lacks the mark, by which a later start would notice that the database is
    // gone.
    let _ = record_backup(from);
    Ok(bytes)
}

/// Replaces the database at `to`, which must not be in use, with a copy of the one at `from`. Keeps the replaced
/// database next to it and returns its path, if there was one. An earlier replaced database is never overwritten.
///
/// If the process is killed, there may be no database at `to`. Then the service refuses to start until the restore is
/// repeated.
///
/// # Errors
/// Returns one sentence; then the database at `to` is unchanged.
pub fn restore(schema: &Schema, from: &Path, to: &Path) -> Result<Option<PathBuf>, String> {
    let named = |why: String| format!("cannot restore {}: {why}", to.display());
    let folder = folder_of(to);
    std::fs::create_dir_all(folder).map_err(|why| named(why.to_string()))?;
    let owner = std::fs::metadata(folder).map_err(|why| named(why.to_string()))?;
    let existed = is_present(to);
    let lock = existed.then(|| DatabaseLock::acquire_no_follow(to)).transpose().map_err(named)?;
    let unfinished = sibling(to, UNFINISHED);
    copy(schema, from, &unfinished, Some(&owner))?;
    let kept = if existed { unused_name(to) } else { name_of_interrupted_restore(to) };
    let replaced = replace(to, &kept, &unfinished, existed);
    if replaced.is_err() {
        // What cannot be moved back is found by the next start, which then refuses to begin with an empty database.
        let _ = if existed { put_back(to, &kept) } else { Ok(()) };
        let _ = remove(&unfinished);
    }
    drop(lock);
    replaced.map(|()| existed.then_some(kept))
}

/// Moves the database away first: without it, a start refuses, whereas a database without its write-ahead log would
/// lack its last transactions, and a restored one with the log of another would be corrupt.
fn replace(to: &Path, kept: &Path, unfinished: &Path, existed: bool) -> Result<(), String> {
    if existed {
        rename(to, kept)?;
    }
    for companion in COMPANION_SUFFIXES {
        let current = sibling(to, companion);
        if is_present(&current) {
            rename(&current, &sibling(kept, companion))?;
        }
    }
    rename(unfinished, to)
}

fn put_back(to: &Path, kept: &Path) -> Result<(), String> {
    for companion in COMPANION_SUFFIXES {
        if is_present(&sibling(kept, companion)) {
            rename(&sibling(kept, companion), &sibling(to, companion))?;
        }
    }
    rename(kept, to)
}

/// Returns the first name for a replaced database that is not taken, nor those of its companion files.
fn unused_name(to: &Path) -> PathBuf {
    let mut names = replaced_names(to);
    names
        .find(|name| !is_present(name) && COMPANION_SUFFIXES.iter().all(|suffix| !is_present(&sibling(name, suffix))))
        .unwrap_or_default()
}

/// Returns the name under which an interrupted restore has kept the database, or an unused one. The companion files
/// that it has not moved yet belong there.
fn name_of_interrupted_restore(to: &Path) -> PathBuf {
    let last = replaced_names(to).take_while(|name| is_present(name)).last();
    last.filter(|name| COMPANION_SUFFIXES.iter().all(|suffix| !is_present(&sibling(name, suffix))))
        .unwrap_or_else(|| unused_name(to))
}

fn replaced_names(to: &Path) -> impl Iterator<Item = PathBuf> {
    let first = sibling(to, BEFORE_RESTORE);
    let others = first.clone();
    std::iter::once(first).chain((2u64..).map(move |number| sibling(&others, &format!(".{number}"))))
}

/// Copies a database into a single new file with mode 0600 and flushes it. Returns its size in bytes. The file gets the
/// owner of `owner`, if this process may set it.
fn copy(schema: &Schema, from: &Path, to: &Path, owner: Option<&Metadata>) -> Result<u64, String> {
    let named = |why: &dyn std::fmt::Display| format!("cannot copy {}: {why}", from.display());
    std::fs::metadata(from).map_err(|why| named(&why))?;
    remove(to)?;
    remove(&sibling(to, "-journal"))?;
    let copied =
        copy_pages(schema, from, to).map_err(|why| named(&why)).and_then(|copied| copied.map_err(|why| named(&why)));
    let flushed = copied.and_then(|file| finish(&file, to, owner).map_err(|why| named(&why)));
    if flushed.is_err() {
        remove(to)?;
    }
    flushed
}

fn copy_pages(schema: &Schema, from: &Path, to: &Path) -> rusqlite::Result<Result<File, String>> {
    let (source, _lock) = match open_source(from)? {
        Ok(opened) => opened,
        Err(why) => return Ok(Err(why)),
    };
    source.busy_timeout(LOCK_TIMEOUT)?;
    match schema.detect(&source) {
        Ok(FileKind::Empty) => return Ok(Err("it is empty".into())),
        Ok(FileKind::Ours(_) | FileKind::Original) => {}
        Err(why) => return Ok(Err(why.to_string())),
    }
    // Created only now: an upgrade requests a copy at an impossible path, only to learn the kind of the database.
    let cannot_create = |why: std::io::Error| format!("cannot create {}: {why}", to.display());
    let (file, path) = match create_private(to).and_then(|file| Ok((file, resolve_folder(to)?))) {
        Ok(created) => created,
        Err(why) => return Ok(Err(cannot_create(why))),
    };
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let mut copy = Connection::open_with_flags(path, flags)?;
    match Backup::new(&source, &mut copy)?.step(ALL_PAGES)? {
        StepResult::Done => {}
        _ => return Ok(Err("it is locked".into())),
    }
    // Leaves one file, without a write-ahead log.
    copy.query_row("PRAGMA journal_mode = DELETE", [], |_| Ok(()))?;
    let found: String = copy.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
    Ok(if found == "ok" { Ok(file) } else { Err(format!("it is damaged: {found}")) })
}

/// Opens the database to copy. On a full disk, SQLite cannot map its `-shm` file: the kernel would end the process. If
/// a service uses the database, this file exists and is reserved. Otherwise the database is locked and read without it,
/// unless the last changes are still in the write-ahead log.
fn open_source(from: &Path) -> rusqlite::Result<Result<(Connection, Option<DatabaseLock>), String>> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let lock = if disk::require_room(from).is_ok() { None } else { DatabaseLock::acquire_no_follow(from).ok() };
    if lock.is_none() {
        return Ok(Ok((Connection::open_with_flags(from, flags)?, None)));
    }
    if std::fs::metadata(sibling(from, "-wal")).is_ok_and(|log| log.len() > 0) {
        return Ok(Err(disk::describe_full(from)));
    }
    let path = utf8_percent_encode(&from.to_string_lossy(), NON_ALPHANUMERIC).to_string().replace("%2F", "/");
    let source = Connection::open_with_flags(format!("file:{path}?immutable=1"), flags | OpenFlags::SQLITE_OPEN_URI)?;
    Ok(Ok((source, lock)))
}

/// Returns the path without links in its folders, which SQLite would reject like a link in place of the file.
fn resolve_folder(path: &Path) -> std::io::Result<PathBuf> {
    Ok(std::fs::canonicalize(folder_of(path))?.join(path.file_name().unwrap_or_default()))
}

/// Sets the owner and mode of a copied file and flushes it. Returns its size in bytes.
fn finish(file: &File, path: &Path, owner: Option<&Metadata>) -> std::io::Result<u64> {
    let (created, named) = (file.metadata()?, path.symlink_metadata()?);
    if (created.dev(), created.ino()) != (named.dev(), named.ino()) {
        return Err(std::io::Error::other(format!("another process has replaced {}", path.display())));
    }
    file.set_permissions(Permissions::from_mode(0o600))?;
    if let Some(owner) = owner.filter(|owner| (owner.uid(), owner.gid()) != (created.uid(), created.gid())) {
        match std::os::unix::fs::fchown(file, Some(owner.uid()), Some(owner.gid())) {
            // Only root can do this. Others restore into folders of their own.
            Err(why) if why.kind() == std::io::ErrorKind::PermissionDenied => {}
            result => result?,
        }
    }
    file.sync_all()?;
    file.metadata().map(|metadata| metadata.len())
}

/// Records the time of a backup beside the database, so that a start without the database can tell that it is gone.
fn record_backup(database: &Path) -> std::io::Result<()> {
    let mark = sibling(database, LAST_BACKUP);
    let unfinished = sibling(&mark, UNFINISHED);
    let owner = std::fs::metadata(database)?;
    if is_present(&unfinished) {
        std::fs::remove_file(&unfinished)?;
    }
    let mut file = create_private(&unfinished)?;
    writeln!(file, "{}", Timestamp::now())?;
    finish(&file, &unfinished, Some(&owner))?;
    std::fs::rename(&unfinished, &mark)
}

/// Whether there is a file, or a link to anything, at a path.
fn is_present(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

fn remove(path: &Path) -> Result<(), String> {
    match std::fs::remove_file(path) {
        Err(why) if why.kind() != std::io::ErrorKind::NotFound => {
            Err(format!("cannot remove {}: {why}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Renames a file to a name that is not taken, and flushes the folder.
fn rename(from: &Path, to: &Path) -> Result<(), String> {
    rename_without_replacing(from, to)
        .map_err(|why| format!("cannot rename {} to {}: {why}", from.display(), to.display()))
}
