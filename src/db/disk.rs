//! Space on the disk: reports a full disk by name, and reserves what SQLite maps into memory.
//!
//! SQLite extends its `-shm` file sparsely and maps it. If the disk is full when a page of it is first written, the
//! kernel ends the process with SIGBUS. On ext4 with blocks of 1 KiB that happened at a start on a full disk. Therefore
//! a start requires more free space than SQLite maps, and then reserves the blocks of the file.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::{FallocateFlags, OFlags, fallocate, statvfs};

use super::lock::create_private;
use super::paths::{folder_of, sibling};

/// Reserved bytes of the `-shm` file: enough for a write-ahead log of 64 MB. SQLite uses 32 KiB for each 16 MB.
const SHARED_MEMORY_BYTES: u64 = 128 * 1024;
/// Free bytes that a start requires. More than is reserved, because another program can fill the disk meanwhile.
const START_BYTES_MIN: u64 = 256 * 1024;

/// Checks that the disk of the database at `path` has room for a start, by reserving it in a file that is removed
/// again.
///
/// # Errors
/// Fails with `StorageFull` or `QuotaExceeded` if the disk is full. Other errors are left to SQLite.
pub(super) fn require_room(path: &Path) -> io::Result<()> {
    let is_full = |why: &io::Error| matches!(why.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    let probe = sibling(path, ".room");
    // Left by a killed process.
    let _ = std::fs::remove_file(&probe);
    let reserved = create_private(&probe).and_then(|file| reserve(&file, START_BYTES_MIN));
    let _ = std::fs::remove_file(&probe);
    match reserved {
        Err(why) if is_full(&why) => Err(why),
        _ => Ok(()),
    }
}

/// Reserves the blocks of the `-shm` file that SQLite has created. The returned file must stay open as long as a
/// connection is open: closing it would release SQLite's locks.
///
/// # Errors
/// Fails if the disk is full.
pub(super) fn reserve_shared_memory(path: &Path) -> io::Result<File> {
    let flags = i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or_default();
    let file = OpenOptions::new().read(true).write(true).custom_flags(flags).open(sibling(path, "-shm"))?;
    reserve(&file, SHARED_MEMORY_BYTES)?;
    Ok(file)
}

/// Allocates the blocks of the first `bytes` of a file. File systems that cannot allocate, such as NFS, and sandboxes
/// that forbid it are left alone.
fn reserve(file: &File, bytes: u64) -> io::Result<()> {
    match fallocate(file, FallocateFlags::empty(), 0, bytes) {
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS | rustix::io::Errno::PERM) => Ok(()),
        other => Ok(other?),
    }
}

/// Returns a sentence that names the folder of `path` if its disk is full, for a failure whose cause SQLite does not
/// tell.
pub(super) fn describe_if_full(path: &Path) -> Option<String> {
    let folder = folder_of(path);
    let disk = statvfs(folder).ok()?;
    let free_bytes = disk.f_bavail.saturating_mul(disk.f_frsize);
    (free_bytes < START_BYTES_MIN).then(|| full_disk(folder, free_bytes))
}

/// Returns the sentence about `why` if it says that the disk of the folder of `path` is full.
pub(super) fn describe_error(path: &Path, why: &io::Error) -> Option<String> {
    match why.kind() {
        io::ErrorKind::QuotaExceeded => {
            Some(format!("the disk quota of {} is used up; free space, then start again", folder_of(path).display()))
        }
        io::ErrorKind::StorageFull => Some(describe_full(path)),
        _ => None,
    }
}

/// Returns the sentence about the full disk of the folder of `path`.
pub(super) fn describe_full(path: &Path) -> String {
    describe_if_full(path).unwrap_or_else(|| full_disk(folder_of(path), 0))
}

fn full_disk(folder: &Path, free_bytes: u64) -> String {
    format!(
        "the disk of {} is full: {} KB are free, and {} KB are needed; free space, then try again",
        folder.display(),
        free_bytes / 1024,
        START_BYTES_MIN / 1024
    )
}
