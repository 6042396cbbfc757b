//! Constants and paths that opening and copying a database share.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Maximum wait for a lock of another process, such as a backup.
pub(super) const LOCK_TIMEOUT: Duration = Duration::from_secs(5);
/// Suffix of a database that a restore has replaced. A number follows if the name is taken.
pub(super) const BEFORE_RESTORE: &str = ".before-restore";
/// Suffix of a copy in progress.
pub(super) const UNFINISHED: &str = ".unfinished";
/// Suffix of the file that records the time of the last backup.
pub(super) const LAST_BACKUP: &str = ".last-backup";

/// Returns the path of a companion file: the database's path with a suffix.
pub(super) fn sibling(path: &Path, suffix: &str) -> PathBuf {
    let mut name: OsString = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Returns the folder of a file; `.` for a bare name.
pub(super) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(".".as_ref())
}
