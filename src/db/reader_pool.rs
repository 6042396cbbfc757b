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

/// A pool of read-only connections. Lends the one that was returned last, so that the caches of the others stay small.
#[derive(Debug, Clone)]
pub struct ReaderPool {
    idle: Arc<IdleConnections>,
    path: PathBuf,
}

#[derive(Debug)]
struct IdleConnections {
    connections: Mutex<Vec<Connection>>,
    returned: Condvar,
}

impl IdleConnections {
    fn lock(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ReaderPool {
    pub(super) fn new(connections: Vec<Connection>, path: PathBuf) -> Self {
        let idle = IdleConnections { connections: Mutex::new(connections), returned: Condvar::new() };
        Self { idle: Arc::new(idle), path }
    }

    /// Acquires a connection, waiting up to 5 s for an idle one.
    ///
    /// # Errors
    /// [`Error::Busy`] if none becomes idle.
    pub fn acquire(&self) -> Result<Reader<'_>> {
        let idle = self.idle.lock();
        let waited = self.idle.returned.wait_timeout_while(idle, ACQUIRE_TIMEOUT, |idle| idle.is_empty());
        let connection = waited.unwrap_or_else(PoisonError::into_inner).0.pop();
        let connection = connection.ok_or(Error::Busy("All database connections are in use"))?;
        self.with_time_limit(connection)
    }

    /// Acquires a connection if one is idle, without waiting.
    #[must_use]
    pub fn try_acquire(&self) -> Option<Reader<'_>> {
        let connection = self.idle.lock().pop()?;
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
            self.pool.idle.lock().push(connection);
            self.pool.idle.returned.notify_one();
        }
    }
}
