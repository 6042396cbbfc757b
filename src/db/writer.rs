//! Writer thread: owns the only connection that can write.
//!
//! Commands wait in a bounded queue. Up to 256 of them form one transaction, each in a savepoint of its own. Their outcomes
//! are delivered after COMMIT, so everything that is acknowledged is stored.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, TrySendError, bounded};
use rusqlite::Connection;

use super::damage;
use super::litestream::ReplicationCheck;
use super::lock::DatabaseLock;
use super::size_limit::SizeLimit;
use crate::background;
use crate::error::{Error, Result};
use crate::records::warning::Warning;

/// Maximum commands per transaction. More would not make the flush cheaper, but would delay the first of them.
const BATCH_COMMANDS_MAX: usize = 256;
/// Maximum commands in the queue. Each connection has at most one, so this exceeds any sensible connection limit.
const QUEUE_COMMANDS_MAX: usize = 4096;
/// Interval between write attempts while the disk refuses writes.
const PROBE_INTERVAL: Duration = Duration::from_secs(2);
/// A batch that takes longer than this counts as a hanging disk.
const STUCK_AFTER_MS: i64 = 15_000;
/// Maximum evictions after one batch. The next batch continues where this one stopped.
const EVICTIONS_PER_BATCH_MAX: usize = 64;

/// A change to the database, as a value.
pub trait Command: Send + 'static {
    /// The result that the caller receives after COMMIT.
    type Output: Send + 'static;

    /// Makes the change within a transaction. If it fails, all changes of this command are rolled back.
    ///
    /// # Errors
    /// Returns the reason why the change could not be made.
    fn apply(self, transaction: &Connection) -> Result<Self::Output>;
}

/// Counters of the writer.
#[derive(Debug, Default)]
pub struct WriterStats {
    /// Committed transactions.
    pub commits: AtomicU64,
    /// Commands in those transactions.
    pub commands: AtomicU64,
    /// Commands that failed because the database could not be written.
    pub failed_writes: AtomicU64,
    /// Size of the pages in use after the last batch, in bytes.
    pub used_bytes: AtomicU64,
    /// Size of all pages of the file, in bytes.
    pub file_bytes: AtomicU64,
    size_warning: Option<Warning>,
    last_error: Mutex<Option<String>>,
    stopped: AtomicBool,
    /// Start of the current batch in ms since the start of the writer; -1 between batches.
    batch_started_ms: AtomicI64,
}

impl WriterStats {
    /// Returns the error of the last batch, or `None` if it succeeded.
    fn last_error(&self) -> Option<String> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_last_error(&self, error: Option<String>) {
        let mut last_error = self.last_error.lock().unwrap_or_else(PoisonError::into_inner);
        match (&*last_error, &error) {
            (None, Some(why)) => log::error!(
                "db: writing failed: {why}; clients get 503, and the writer retries every {} s",
                PROBE_INTERVAL.as_secs()
            ),
            (Some(_), None) => log::info!("db: writing recovered"),
            _ => {}
        }
        *last_error = error;
    }
}

enum Message {
    AnyCommand(Box<dyn AnyCommand>),
    Stop,
}

/// A queued command with its callback, type-erased.
trait AnyCommand: Send {
    fn apply(&mut self, transaction: &Connection) -> Result<()>;
    fn finish(self: Box<Self>, committed: Result<()>);
}

struct PendingCommand<C: Command, F> {
    command: Option<C>,
    /// `None` until the command has been applied.
    outcome: Option<Result<C::Output>>,
    then: F,
}

impl<C: Command, F: FnOnce(Result<C::Output>) + Send> AnyCommand for PendingCommand<C, F> {
    fn apply(&mut self, transaction: &Connection) -> Result<()> {
        let Some(command) = self.command.take() else { return Ok(()) };
        let outcome = command.apply(transaction);
        let applied = outcome.as_ref().map(|_| ()).map_err(Clone::clone);
        self.outcome = Some(outcome);
        applied
    }

    fn finish(self: Box<Self>, committed: Result<()>) {
        (self.then)(match (self.outcome, committed) {
            // A command's own error is more specific than that of its batch.
            (Some(Err(why)), _) | (_, Err(why)) => Err(why),
            (Some(Ok(output)), Ok(())) => Ok(output),
            (None, Ok(())) => Err(Error::Internal("a command was not applied".into())),
        });
    }
}

/// A handle to the writer thread.
#[derive(Clone)]
pub struct Writer {
    queue: Sender<Message>,
    stats: Arc<WriterStats>,
    started: Instant,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl Writer {
    pub(super) fn start(
        connection: Connection,
        lock: DatabaseLock,
        limit: Option<SizeLimit>,
        size_warning: Option<Warning>,
    ) -> io::Result<Self> {
        let (queue, commands) = bounded(QUEUE_COMMANDS_MAX);
        let stats =
            Arc::new(WriterStats { batch_started_ms: AtomicI64::new(-1), size_warning, ..WriterStats::default() });
        let started = Instant::now();
        let worker = WriterThread {
            page_bytes: pragma_number(&connection, "page_size"),
            connection,
            _lock: lock,
            commands,
            limit,
            stats: Arc::clone(&stats),
            started,
            replication: ReplicationCheck::new(),
        };
        let thread = background::spawn_critical("writer", move || worker.run())?;
        Ok(Self { queue, stats, started, thread: Arc::new(Mutex::new(Some(thread))) })
    }

    /// Queues a command. `then` is called exactly once: on the writer thread after COMMIT, or at once with [`Error::Busy`] if
    /// the queue is full. It must not block.
    pub fn submit<C: Command>(&self, command: C, then: impl FnOnce(Result<C::Output>) + Send + 'static) {
        let job = Box::new(PendingCommand { command: Some(command), outcome: None, then });
        match self.queue.try_send(Message::AnyCommand(job)) {
            Ok(()) => {}
            Err(TrySendError::Full(message) | TrySendError::Disconnected(message)) => {
                if let Message::AnyCommand(job) = message {
                    job.finish(Err(Error::Busy("The write queue is full")));
                }
            }
        }
    }

    /// Runs a command and waits for its COMMIT. For background jobs; requests use [`Writer::submit`].
    ///
    /// # Errors
    /// Returns the command's own error, [`Error::Storage`] if the batch cannot be committed, or [`Error::Busy`] if the queue
    /// is full or the service is stopping.
    pub fn run<C: Command>(&self, command: C) -> Result<C::Output> {
        let (sender, receiver) = bounded(1);
        self.submit(command, move |outcome| {
            // The receiver exists until the outcome has arrived.
            let _ = sender.send(outcome);
        });
        receiver.recv().unwrap_or(Err(Error::Busy("The service is stopping")))
    }

    /// Returns the counters of the writer.
    #[must_use]
    pub fn stats(&self) -> &Arc<WriterStats> {
        &self.stats
    }

    /// Returns the number of commands in the queue.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Returns why nothing can be stored now, for a health check, or `None` if writing works.
    #[must_use]
    pub fn last_error(&self) -> Option<String> {
        if self.stats.stopped.load(Ordering::Relaxed) {
            return Some("the writer has stopped".into());
        }
        let started_ms = self.stats.batch_started_ms.load(Ordering::Relaxed);
        if started_ms >= 0 && elapsed_ms(self.started) - started_ms > STUCK_AFTER_MS {
            return Some("the disk does not respond".into());
        }
        if damage::is_damaged() {
            return Some("the database is damaged; restore a backup".into());
        }
        self.stats.last_error().map(|_| "writing to the database fails".into())
    }

    /// Returns the problems of the database that need attention although it can be written.
    #[must_use]
    pub fn warnings(&self) -> Vec<Warning> {
        self.stats.size_warning.clone().into_iter().collect()
    }

    /// Drains the queue, checkpoints the write-ahead log and ends the thread. Returns whether that succeeded within
    /// `timeout`.
    #[must_use]
    pub fn stop(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        if self.queue.send_timeout(Message::Stop, timeout).is_err() {
            return false;
        }
        let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() else { return true };
        while !thread.is_finished() {
            if Instant::now() > deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        thread.join().is_ok()
    }
}

fn elapsed_ms(since: Instant) -> i64 {
    i64::try_from(since.elapsed().as_millis()).unwrap_or(i64::MAX)
}

/// The state of the writer thread.
struct WriterThread {
    connection: Connection,
    _lock: DatabaseLock,
    commands: Receiver<Message>,
    limit: Option<SizeLimit>,
    /// Size of a page, which is the same for the life of a file.
    page_bytes: u64,
    stats: Arc<WriterStats>,
    started: Instant,
    replication: ReplicationCheck,
}

/// Returns the value of a pragma; 0 if it cannot be read. The statement is not cached, because SQLite plans most pragmas
/// again at each execution.
fn pragma_number(connection: &Connection, pragma: &str) -> u64 {
    connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0)).map_or(0, i64::unsigned_abs)
}

impl WriterThread {
    fn run(self) {
        self.update_sizes();
        loop {
            let wait = if self.stats.last_error().is_some() { PROBE_INTERVAL } else { Duration::from_secs(3600) };
            match self.commands.recv_timeout(wait) {
                Ok(Message::AnyCommand(first)) => {
                    self.stats.batch_started_ms.store(elapsed_ms(self.started), Ordering::Relaxed);
                    let stop = self.run_batch(first);
                    self.enforce_size_limit();
                    self.stats.batch_started_ms.store(-1, Ordering::Relaxed);
                    if stop {
                        break;
                    }
                }
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => self.probe(),
            }
        }
        self.checkpoint_wal();
        self.stats.stopped.store(true, Ordering::Relaxed);
    }

    /// Applies `first` and the commands queued after it in one transaction. Returns whether the writer should stop.
    fn run_batch(&self, first: Box<dyn AnyCommand>) -> bool {
        let (mut jobs, mut stop) = (Vec::new(), false);
        let mut committed = self.replication.run(&self.connection);
        if committed.is_ok() {
            committed = self.connection.execute_batch("BEGIN IMMEDIATE").map_err(Error::from);
        }
        let mut next = Some(first);
        while let Some(mut job) = next.take() {
            if committed.is_ok() {
                committed = self.apply(job.as_mut());
            }
            jobs.push(job);
            if committed.is_ok() && jobs.len() < BATCH_COMMANDS_MAX {
                match self.commands.try_recv() {
                    Ok(Message::AnyCommand(job)) => next = Some(job),
                    Ok(Message::Stop) => stop = true,
                    Err(TryRecvError::Empty | TryRecvError::Disconnected) => {}
                }
            }
        }
        if committed.is_ok() {
            committed = self.connection.execute_batch("COMMIT").map_err(Error::from);
        }
        if committed.is_err() && !self.connection.is_autocommit() {
            // A failed rollback leaves nothing else to do; the next BEGIN fails visibly.
            let _ = self.connection.execute_batch("ROLLBACK");
        }
        self.record_batch(&committed, jobs.len() as u64);
        if committed.is_err() {
            self.checkpoint_wal();
        }
        for job in jobs {
            job.finish(committed.clone());
        }
        stop
    }

    /// Applies one command in a savepoint.
    ///
    /// # Errors
    /// Returns an error that ends the whole transaction. The command's own error, except [`Error::Storage`], does not.
    fn apply(&self, job: &mut dyn AnyCommand) -> Result<()> {
        self.connection.prepare_cached("SAVEPOINT command")?.execute([])?;
        let applied = job.apply(&self.connection);
        if let Err(why @ Error::Storage(_)) = applied {
            // SQLite may have rolled back the transaction itself, and the rest would fail as well.
            return Err(why);
        }
        if applied.is_err() {
            self.connection.prepare_cached("ROLLBACK TO command")?.execute([])?;
        }
        self.connection.prepare_cached("RELEASE command")?.execute([])?;
        Ok(())
    }

    fn record_batch(&self, committed: &Result<()>, commands: u64) {
        match committed {
            Ok(()) => {
                self.stats.commits.fetch_add(1, Ordering::Relaxed);
                self.stats.commands.fetch_add(commands, Ordering::Relaxed);
                self.stats.set_last_error(None);
            }
            Err(why) => {
                self.stats.failed_writes.fetch_add(commands, Ordering::Relaxed);
                self.stats.set_last_error(Some(why.to_string()));
            }
        }
    }

    /// Checks whether writing works again after a failure, so that `/health` recovers without traffic.
    fn probe(&self) {
        if self.stats.last_error().is_none() {
            return;
        }
        let sql = "BEGIN IMMEDIATE;
                   INSERT INTO _meta (key, value) VALUES ('probe', hex(randomblob(4096)))
                       ON CONFLICT DO UPDATE SET value = excluded.value;
                   DELETE FROM _meta WHERE key = 'probe';
                   COMMIT;";
        self.checkpoint_wal();
        match self.connection.execute_batch(sql) {
            Ok(()) => self.stats.set_last_error(None),
            Err(why) => {
                if !self.connection.is_autocommit() {
                    // A failed rollback leaves nothing else to do.
                    let _ = self.connection.execute_batch("ROLLBACK");
                }
                self.stats.set_last_error(Some(why.to_string()));
            }
        }
    }

    /// Truncates the write-ahead log. On a full disk this frees space, because most of its pages replace others.
    fn checkpoint_wal(&self) {
        if let Err(why) = self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())) {
            log::warn!("db: checkpoint failed: {why}; the write-ahead log is kept and will be retried");
        }
    }

    fn update_sizes(&self) -> u64 {
        let number = |pragma| pragma_number(&self.connection, pragma);
        let (pages, free) = (number("page_count"), number("freelist_count"));
        let used = pages.saturating_sub(free) * self.page_bytes;
        self.stats.used_bytes.store(used, Ordering::Relaxed);
        self.stats.file_bytes.store(pages * self.page_bytes, Ordering::Relaxed);
        used
    }

    /// Evicts the oldest data while the pages in use exceed the limit. SQLite reuses the freed pages first.
    fn enforce_size_limit(&self) {
        let used = self.update_sizes();
        let Some(limit) = self.limit.filter(|limit| used > limit.bytes_max) else { return };
        for _ in 0..EVICTIONS_PER_BATCH_MAX {
            match self.evict(limit) {
                Ok(true) if self.update_sizes() > limit.bytes_max => {}
                Ok(_) => return,
                Err(why) => {
                    return log::error!(
                        "db: cannot reduce the database below MAX_DB_MB: {why}; will retry after the next write"
                    );
                }
            }
        }
    }

    fn evict(&self, limit: SizeLimit) -> Result<bool> {
        let transaction = self.connection.unchecked_transaction()?;
        let more = (limit.evict)(&transaction)?;
        transaction.commit()?;
        Ok(more)
    }
}

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;
