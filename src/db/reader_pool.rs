//! Read-only connections, lent one at a time, each with a time limit on what is asked of it.

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use rusqlite::Connection;

use crate::error::{Error, Result};

/// How long one may be waited for.
const LEND_WITHIN: Duration = Duration::from_secs(5);
/// How long all queries of one loan may take together.
const QUERY_WITHIN: Duration = Duration::from_secs(5);
/// Steps of SQLite's machine between two looks at the clock: well under a millisecond.
const STEPS_PER_LOOK: i32 = 10_000;

/// The connections that look.
#[derive(Debug, Clone)]
pub struct ReaderPool {
    idle: Receiver<Connection>,
    back: Sender<Connection>,
    path: PathBuf,
}

impl ReaderPool {
    pub(super) fn new(connections: Vec<Connection>, path: PathBuf) -> Self {
        let (back, idle) = bounded(connections.len());
        for connection in connections {
            // The channel was made to hold them all.
            let _ = back.send(connection);
        }
        Self { idle, back, path }
    }

    /// Lends a connection.
    ///
    /// # Errors
    /// [`Error::Busy`] when all are lent for longer than a client should wait.
    pub fn acquire(&self) -> Result<Reader<'_>> {
        let connection = self.idle.recv_timeout(LEND_WITHIN).map_err(|_| Error::Busy("The database is busy"))?;
        self.limited(connection)
    }

    /// Lends a connection if one is idle right now, for those who would rather go without than wait.
    #[must_use]
    pub fn try_acquire(&self) -> Option<Reader<'_>> {
        self.limited(self.idle.try_recv().ok()?).ok()
    }

    /// Lends this one with a time limit that begins now.
    fn limited(&self, connection: Connection) -> Result<Reader<'_>> {
        let mut reader = Reader { readers: self, connection: Some(connection) };
        let until = Instant::now() + QUERY_WITHIN;
        if let Some(connection) = &mut reader.connection {
            connection.progress_handler(STEPS_PER_LOOK, Some(move || Instant::now() > until))?;
        }
        Ok(reader)
    }

    /// The database's file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// A connection on loan.
pub struct Reader<'a> {
    readers: &'a ReaderPool,
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
            // There is always room for what was taken out.
            let _ = self.readers.back.send(connection);
        }
    }
}
