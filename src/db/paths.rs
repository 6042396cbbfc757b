//! Constants and paths that opening and copying a database share.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Maximum wait for a lock of another process, such as a backup.
pub(super) const LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// Returns the path of a companion file: the database's path with a suffix.
pub(super) fn sibling(path: &Path, suffix: &str) -> PathBuf {
    let mut name: OsString = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
