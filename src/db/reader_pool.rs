//! Pool of read-only connections. Each use has a time limit for its queries.

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::error::{Error, Result};

/// Maximum wait for an idle connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum time for all queries of one use together.
const QUERY_TIMEOUT: Duration = Duration::from_secs(5);
/// Operations of SQLite's virtual machine between two checks of the time limit. A search reads about one row in 20 operations,
/// and a row can have several hundred kilobytes.
const PROGRESS_OPS: i32 = 1_000;

/// A pool of read-only connections. Lends the one that was returned last and opens another only if none is idle, because each
/// takes about 100 KB.
#[derive(Debug, Clone)]
pub struct ReaderPool {
    shared: Arc<Shared>,
    path: PathBuf,
}

#[derive(Debug)]
struct Shared {
    connections: Mutex<Connections>,
    returned: Condvar,
    open: fn(&Path) -> Result<Connection>,
}

#[derive(Debug)]
struct Connections {
    idle: Vec<Connection>,
    /// Number of connections that may be opened in addition.
    unopened: usize,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Connections> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an idle connection, or the right to open one; `None` if neither is left.
    fn take(&self, mut connections: MutexGuard<'_, Connections>, path: &Path) -> Option<Result<Connection>> {
        if let Some(connection) = connections.idle.pop() {
            return Some(Ok(connection));
        }
        connections.unopened = connections.unopened.checked_sub(1)?;
        drop(connections);
        let opened = (self.open)(path);
        if opened.is_err() {
            self.lock().unopened += 1;
            self.returned.notify_one();
        }
        Some(opened)
    }
}

impl ReaderPool {
    /// Creates a pool with one open connection, which opens at most `unopened` more with `open`.
    pub(super) fn new(
        first: Connection,
        path: PathBuf,
        unopened: usize,
        open: fn(&Path) -> Result<Connection>,
    ) -> Self {
        let connections = Mutex::new(Connections { idle: vec![first], unopened });
        Self { shared: Arc::new(Shared { connections, returned: Condvar::new(), open }), path }
    }

    /// Acquires a connection, waiting up to 5 s for an idle one.
    ///
    /// # Errors
    /// [`Error::Busy`] if none becomes idle, [`Error::Storage`] if another one cannot be opened.
    pub fn acquire(&self) -> Result<Reader<'_>> {
        let is_exhausted = |connections: &mut Connections| connections.idle.is_empty() && connections.unopened == 0;
        let waited = self.shared.returned.wait_timeout_while(self.shared.lock(), ACQUIRE_TIMEOUT, is_exhausted);
        let connections = waited.unwrap_or_else(PoisonError::into_inner).0;
        let connection = self.shared.take(connections, &self.path);
        self.with_time_limit(connection.ok_or(Error::Busy("All database connections are in use"))??)
    }

    /// Acquires a connection if one is idle, without waiting.
    #[must_use]
    pub fn try_acquire(&self) -> Option<Reader<'_>> {
        let connection = self.shared.take(self.shared.lock(), &self.path)?.ok()?;
        self.with_time_limit(connection).ok()
    }

    /// Starts the time limit of a connection.
    fn with_time_limit(&self, connection: Connection) -> Result<Reader<'_>> {
        let mut reader = Reader { pool: self, connection: Some(connection) };
        let deadline = Instant::now() + QUERY_TIMEOUT;
        if let Some(connection) = &mut reader.connection {
            connection.progress_handler(PROGRESS_OPS, Some(move || Instant::now() > deadline))?;
        }
        Ok(reader)
    }

    /// Returns the path of the database.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// A connection in use; returned to the pool when dropped.
pub struct Reader<'a> {
    pool: &'a ReaderPool,
    connection: Option<Connection>,
}

impl Deref for Reader<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.connection.as_ref().expect("a reader holds its connection until it is dropped")
    }
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            self.pool.shared.lock().idle.push(connection);
            self.pool.shared.returned.notify_one();
        }
    }
}
