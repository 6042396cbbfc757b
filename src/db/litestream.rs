//! Keeps replicas that Litestream makes of a database complete.
//!
//! SQLite overwrites a write-ahead log from its start after a checkpoint, and leaves the rest of the old log behind the new
//! one. A starting Litestream (0.5.17) looks for the end of its last copy. If it finds it in such a rest, it continues with
//! the new log, although it has not copied the changes that the old log got later. The replica then lacks them or is
//! corrupt, without an error. It happens after a crash, and if Litestream alone is restarted. Resetting Litestream's local
//! state does not help. If nothing is left of the old log, Litestream makes a new snapshot.

use std::cell::Cell;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension};

use super::paths::LOCK_TIMEOUT;
use crate::error::Result;

const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Returns whether Litestream has ever replicated the database. It creates this table in it.
fn is_replicated(connection: &Connection) -> Result<bool> {
    let sql = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = '_litestream_seq'";
    Ok(connection.prepare_cached(sql)?.query_row([], |_| Ok(())).optional()?.is_some())
}

/// Lets this connection truncate the log to the new contents whenever it overwrites it.
fn truncate_overwritten_wal(connection: &Connection) -> Result<()> {
    Ok(connection.pragma_update(None, "journal_size_limit", 0)?)
}

/// Truncates the log at the start of the service. A crash can have left the rest of an old log.
pub(super) fn prepare(connection: &Connection) -> Result<()> {
    if !is_replicated(connection)? {
        return Ok(());
    }
    truncate_overwritten_wal(connection)?;
    // A running Litestream holds a read transaction and copies all changes, so there is no need to wait for it.
    connection.busy_timeout(Duration::ZERO)?;
    if let Err(why) = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())) {
        log::warn!("db: checkpoint failed: {why}; the write-ahead log is truncated when it is overwritten");
    }
    Ok(connection.busy_timeout(LOCK_TIMEOUT)?)
}

/// Detects that Litestream begins to replicate the database of a running service.
pub(super) struct ReplicationCheck {
    /// `None` after Litestream was detected.
    next: Cell<Option<Instant>>,
}

impl ReplicationCheck {
    pub(super) fn new() -> Self {
        Self { next: Cell::new(Some(Instant::now())) }
    }

    /// Checks at most once per [`CHECK_INTERVAL`]. Called before each transaction.
    pub(super) fn run(&self, connection: &Connection) -> Result<()> {
        let now = Instant::now();
        if self.next.get().is_none_or(|next| now < next) {
            return Ok(());
        }
        if is_replicated(connection)? {
            truncate_overwritten_wal(connection)?;
            self.next.set(None);
        } else {
            self.next.set(Some(now + CHECK_INTERVAL));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    const LITESTREAM_TABLE: &str = "CREATE TABLE _litestream_seq (id INTEGER PRIMARY KEY, seq INTEGER)";

    /// A database in a temporary folder, removed when dropped.
    struct TestDatabase(PathBuf);

    impl TestDatabase {
        fn new(name: &str) -> Self {
            let folder = std::env::temp_dir().join(format!("monlight-litestream-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&folder).unwrap();
            let database = Self(folder);
            database.connect().execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t (x)").unwrap();
            database
        }

        fn connect(&self) -> Connection {
            Connection::open(self.0.join("test.db")).unwrap()
        }

        fn wal_bytes(&self) -> u64 {
            std::fs::metadata(self.0.join("test.db-wal")).unwrap().len()
        }

        /// Fills the log, checkpoints it and overwrites its start. Returns its size.
        fn overwrite_wal(&self, connection: &Connection) -> u64 {
            connection.execute_batch("INSERT INTO t VALUES (randomblob(200000))").unwrap();
            connection.query_row("PRAGMA wal_checkpoint", [], |_| Ok(())).unwrap();
            connection.execute_batch("INSERT INTO t VALUES (1)").unwrap();
            self.wal_bytes()
        }
    }

    impl Drop for TestDatabase {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn overwritten_logs_are_truncated_after_litestream_was_detected() {
        let database = TestDatabase::new("detect");
        let (connection, check) = (database.connect(), ReplicationCheck::new());
        check.run(&connection).unwrap();
        assert!(database.overwrite_wal(&connection) > 200_000);
        database.connect().execute_batch(LITESTREAM_TABLE).unwrap();
        check.next.set(Some(Instant::now()));
        check.run(&connection).unwrap();
        assert!(database.overwrite_wal(&connection) < 20_000);
    }

    #[test]
    fn logs_of_replicated_databases_are_truncated_at_start() {
        let database = TestDatabase::new("start");
        // Keeps the log when the other connections close.
        let crashed = database.connect();
        assert!(database.overwrite_wal(&crashed) > 200_000);
        prepare(&database.connect()).unwrap();
        assert!(database.wal_bytes() > 200_000);
        crashed.execute_batch(LITESTREAM_TABLE).unwrap();
        let started = database.connect();
        prepare(&started).unwrap();
        assert_eq!(database.wal_bytes(), 0);
        assert!(database.overwrite_wal(&started) < 20_000);
    }

    #[test]
    fn start_does_not_wait_for_a_running_litestream() {
        let database = TestDatabase::new("wait");
        let litestream = database.connect();
        litestream.execute_batch(LITESTREAM_TABLE).unwrap();
        litestream.execute_batch("BEGIN; SELECT * FROM _litestream_seq").unwrap();
        let begin = Instant::now();
        prepare(&database.connect()).unwrap();
        assert!(begin.elapsed() < LOCK_TIMEOUT / 2);
        assert!(database.wal_bytes() > 0);
    }
}
