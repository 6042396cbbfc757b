//! One program at a time changes a database. SQLite would let two take turns; what they follow, count and send would be
//! done twice.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// Held for as long as this process uses a database.
#[derive(Debug)]
pub(super) struct Lock {
    // Closing any descriptor of the file also drops SQLite's own locks on it, so this one is closed last.
    _file: File,
}

impl Lock {
    /// Takes the lock of the database at `path`, which is made when it is missing.
    ///
    /// # Errors
    /// One sentence when somebody else holds it, or when the file cannot be opened.
    pub(super) fn take(path: &Path) -> Result<Self, String> {
        let file = private(path).map_err(|why| why.to_string())?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => Err("another program uses it; stop that first".into()),
            // Some network file systems have no locks.
            Err(why) => {
                log::warn!("{} cannot be locked: {why}", path.display());
                Ok(Self { _file: file })
            }
            Ok(()) => Ok(Self { _file: file }),
        }
    }
}

/// Opens a file of a database, and makes one that is missing for its owner alone: it holds what users did when something
/// broke. Whatever SQLite makes beside it has the same mode.
pub(super) fn private(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}
