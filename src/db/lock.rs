//! Lock that limits a database to one process. SQLite would let two processes alternate, which would tail, count and send
//! everything twice.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// The lock of a database, held until dropped.
#[derive(Debug)]
pub(super) struct DatabaseLock {
    // Closing any descriptor of the file releases SQLite's own locks on it, so this one must be closed last.
    _file: File,
}

impl DatabaseLock {
    /// Acquires the lock of the database at `path` and creates the file if it is missing.
    ///
    /// # Errors
    /// Returns one sentence if another process holds the lock or if the file cannot be opened.
    pub(super) fn acquire(path: &Path) -> Result<Self, String> {
        let file = open_private(path).map_err(|why| why.to_string())?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => Err("another process uses it; stop that process first".into()),
            // Some network file systems do not support locks.
            Err(why) => {
                log::warn!("db: locking {} failed: {why}; make sure that no other process uses it", path.display());
                Ok(Self { _file: file })
            }
            Ok(()) => Ok(Self { _file: file }),
        }
    }
}

/// Opens a database file. A missing file is created with mode 0600, since reports contain users' data; SQLite gives its
/// companion files the same mode.
pub(super) fn open_private(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}
