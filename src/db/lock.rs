//! Lock that limits a database to one process. SQLite would let two processes alternate, which would tail, count and send
//! everything twice.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;

/// The lock of a database, held until dropped.
#[derive(Debug)]
pub(super) struct DatabaseLock {
    // Closing any descriptor of the file releases SQLite's own locks on it, so these must be closed last.
    file: File,
    shared_memory: Option<File>,
}

impl DatabaseLock {
    /// Acquires the lock of the existing database at `path`.
    ///
    /// # Errors
    /// Returns one sentence if another process holds the lock or if the file cannot be opened.
    pub(super) fn acquire(path: &Path) -> Result<Self, String> {
        Self::lock(open_options().open(path), path)
    }

    /// Acquires the lock of the existing database at `path`, which must not be a symbolic link.
    ///
    /// # Errors
    /// Fails like [`DatabaseLock::acquire`], and if the file is a link.
    pub(super) fn acquire_no_follow(path: &Path) -> Result<Self, String> {
        match open_options().custom_flags(no_follow()).open(path) {
            Err(why) if why.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => {
                Err("it is a symbolic link; use the path of the file itself".into())
            }
            file => Self::lock(file, path),
        }
    }

    /// Creates an empty file at `path`, or empties it, and acquires its lock.
    ///
    /// # Errors
    /// Fails like [`DatabaseLock::acquire`].
    pub(super) fn create(path: &Path) -> Result<Self, String> {
        let file = open_options().create(true).truncate(false).custom_flags(no_follow()).open(path);
        let lock = Self::lock(file, path)?;
        lock.file.set_len(0).map_err(|why| why.to_string())?;
        Ok(lock)
    }

    fn lock(file: io::Result<File>, path: &Path) -> Result<Self, String> {
        let file = file.map_err(|why| why.to_string())?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => return Err("another process uses it; stop that process first".into()),
            // Some network file systems do not support locks.
            Err(why) => {
                log::warn!("db: locking {} failed: {why}; make sure that no other process uses it", path.display());
            }
            Ok(()) => {}
        }
        Ok(Self { file, shared_memory: None })
    }

    /// Keeps the `-shm` file open as long as the lock.
    pub(super) fn keep_open(&mut self, shared_memory: File) {
        self.shared_memory = Some(shared_memory);
    }
}

/// Creates a file that does not exist, with mode 0600, since reports contain users' data; SQLite gives its companion files
/// the same mode. Follows no link.
pub(super) fn create_private(path: &Path) -> io::Result<File> {
    open_options().create_new(true).custom_flags(no_follow()).open(path)
}

fn open_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    options
}

fn no_follow() -> i32 {
    i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or_default()
}
