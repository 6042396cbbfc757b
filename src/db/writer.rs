//! The one thread that writes. Commands wait in a bounded queue; a batch of them is one transaction, each in a
//! savepoint of its own; they are answered after COMMIT, so that what is acknowledged is stored.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, TrySendError, bounded};
use rusqlite::Connection;

use super::lock::Lock;
use crate::background;
use crate::error::{Error, Result};

/// Commands in one transaction. More would not make the flush cheaper and let the first of them wait longer.
const BATCH_COMMANDS_MAX: usize = 256;
/// Commands that may wait. A connection has at most one, so this is above any sensible cap on connections.
const QUEUE_COMMANDS_MAX: usize = 4096;
/// How often a disk that refused is tried again.
const PROBE_EVERY: Duration = Duration::from_secs(2);
/// A batch that takes longer means that the disk hangs.
const STUCK_AFTER_MS: i64 = 15_000;
/// Rounds of making room after one batch; the next batch goes on where this one stopped.
const SHRINK_ROUNDS_MAX: usize = 64;

/// A change to the database, as a value.
pub trait Command: Send + 'static {
    /// What the one who asked gets to know after COMMIT.
    type Output: Send + 'static;

    /// Makes the change within a transaction. On an error everything this command did is undone.
    ///
    /// # Errors
    /// Whatever keeps it from being made.
    fn apply(self, transaction: &Connection) -> Result<Self::Output>;
}

/// Keeps the file within bounds.
#[derive(Debug, Clone, Copy)]
pub struct Limit {
    /// What the pages in use may take together, in bytes.
    pub bytes_max: u64,
    /// Removes some of what can be spared, the oldest first; answers whether there was anything.
    pub evict: fn(&Connection) -> Result<bool>,
}

/// What the writer counts of itself.
#[derive(Debug, Default)]
pub struct WriterStats {
    /// Transactions committed.
    pub commits: AtomicU64,
    /// Commands applied in them.
    pub commands: AtomicU64,
    /// Commands that failed because the database could not be written.
    pub refused: AtomicU64,
    /// Bytes of the pages in use after the last batch, and of the whole file.
    pub used_bytes: AtomicU64,
    /// Bytes of the file's pages, used or free.
    pub file_bytes: AtomicU64,
    last_error: Mutex<Option<String>>,
    gone: AtomicBool,
    /// When the running batch began, in ms since the writer did; -1 between batches.
    batch_began_ms: AtomicI64,
}

impl WriterStats {
    /// Why nothing can be stored at the moment, if so.
    fn last_error(&self) -> Option<String> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, trouble: Option<String>) {
        let mut noted = self.last_error.lock().unwrap_or_else(PoisonError::into_inner);
        match (&*noted, &trouble) {
            (None, Some(why)) => log::error!("the database refuses writes: {why}"),
            (Some(_), None) => log::info!("the database takes writes again"),
            _ => {}
        }
        *noted = trouble;
    }
}

enum Message {
    Job(Box<dyn Job>),
    Stop,
}

/// A command and what follows it, whatever their types.
trait Job: Send {
    fn apply(&mut self, transaction: &Connection) -> Result<()>;
    fn answer(self: Box<Self>, committed: Result<()>);
}

struct Pending<C: Command, F> {
    command: Option<C>,
    /// `None` until it was applied.
    outcome: Option<Result<C::Output>>,
    then: F,
}

impl<C: Command, F: FnOnce(Result<C::Output>) + Send> Job for Pending<C, F> {
    fn apply(&mut self, transaction: &Connection) -> Result<()> {
        let Some(command) = self.command.take() else { return Ok(()) };
        let outcome = command.apply(transaction);
        let applied = outcome.as_ref().map(|_| ()).map_err(Clone::clone);
        self.outcome = Some(outcome);
        applied
    }

    fn answer(self: Box<Self>, committed: Result<()>) {
        (self.then)(match (self.outcome, committed) {
            // A command's own error says more than that of the batch it was in.
            (Some(Err(why)), _) | (_, Err(why)) => Err(why),
            (Some(Ok(answer)), Ok(())) => Ok(answer),
            (None, Ok(())) => Err(Error::Internal("a command was not applied".into())),
        });
    }
}

/// The way to the writer's thread.
#[derive(Clone)]
pub struct Writer {
    queue: Sender<Message>,
    stats: Arc<WriterStats>,
    started: Instant,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl Writer {
    pub(super) fn start(connection: Connection, lock: Lock, limit: Option<Limit>) -> io::Result<Self> {
        let (queue, commands) = bounded(QUEUE_COMMANDS_MAX);
        let stats = Arc::new(WriterStats { batch_began_ms: AtomicI64::new(-1), ..WriterStats::default() });
        let started = Instant::now();
        let worker = Worker { connection, _lock: lock, commands, limit, stats: Arc::clone(&stats), started };
        let thread = background::spawn_critical("writer", move || worker.run())?;
        Ok(Self { queue, stats, started, thread: Arc::new(Mutex::new(Some(thread))) })
    }

    /// Queues a command; `then` is called exactly once, on the writer's thread after COMMIT, or here and now with
    /// [`Error::Busy`] when the queue is full. It must not wait for anything.
    pub fn submit<C: Command>(&self, command: C, then: impl FnOnce(Result<C::Output>) + Send + 'static) {
        let job = Box::new(Pending { command: Some(command), outcome: None, then });
        match self.queue.try_send(Message::Job(job)) {
            Ok(()) => {}
            Err(TrySendError::Full(message) | TrySendError::Disconnected(message)) => {
                if let Message::Job(job) = message {
                    job.answer(Err(Error::Busy("Too many writes are waiting")));
                }
            }
        }
    }

    /// Runs a command and waits for its COMMIT. For background jobs; requests use [`Writer::submit`].
    ///
    /// # Errors
    /// The command's own, [`Error::Storage`] when the batch cannot be committed, [`Error::Busy`].
    pub fn run<C: Command>(&self, command: C) -> Result<C::Output> {
        let (answer, answered) = bounded(1);
        self.submit(command, move |outcome| {
            // The receiver waits just below.
            let _ = answer.send(outcome);
        });
        answered.recv().unwrap_or(Err(Error::Busy("The service is stopping")))
    }

    /// Counters.
    #[must_use]
    pub fn stats(&self) -> &WriterStats {
        &self.stats
    }

    /// Commands that wait now.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Why nothing can be stored at the moment, in words for a health check; `None` when all is well.
    #[must_use]
    pub fn last_error(&self) -> Option<String> {
        if self.stats.gone.load(Ordering::Relaxed) {
            return Some("the writer is gone".into());
        }
        let began_ms = self.stats.batch_began_ms.load(Ordering::Relaxed);
        if began_ms >= 0 && elapsed_ms(self.started) - began_ms > STUCK_AFTER_MS {
            return Some("the disk does not answer".into());
        }
        self.stats.last_error().map(|_| "the database refuses writes".into())
    }

    /// Lets the queue run empty, moves the write-ahead log into the database and ends the thread, within `patience`.
    /// Outputs whether it did.
    #[must_use]
    pub fn stop(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        if self.queue.send_timeout(Message::Stop, patience).is_err() {
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

/// What the thread owns.
struct Worker {
    connection: Connection,
    _lock: Lock,
    commands: Receiver<Message>,
    limit: Option<Limit>,
    stats: Arc<WriterStats>,
    started: Instant,
}

impl Worker {
    fn run(self) {
        self.measure();
        loop {
            let wait = if self.stats.last_error().is_some() { PROBE_EVERY } else { Duration::from_secs(3600) };
            match self.commands.recv_timeout(wait) {
                Ok(Message::Job(first)) => {
                    self.stats.batch_began_ms.store(elapsed_ms(self.started), Ordering::Relaxed);
                    let stop = self.batch(first);
                    self.make_room();
                    self.stats.batch_began_ms.store(-1, Ordering::Relaxed);
                    if stop {
                        break;
                    }
                }
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => self.probe(),
            }
        }
        self.move_log_into_database();
        self.stats.gone.store(true, Ordering::Relaxed);
    }

    /// Applies `first` and what waits behind it in one transaction. Outputs whether to stop.
    fn batch(&self, first: Box<dyn Job>) -> bool {
        let (mut jobs, mut stop) = (Vec::new(), false);
        let mut committed = self.connection.execute_batch("BEGIN IMMEDIATE").map_err(Error::from);
        let mut next = Some(first);
        while let Some(mut job) = next.take() {
            if committed.is_ok() {
                committed = self.apply(job.as_mut());
            }
            jobs.push(job);
            if committed.is_ok() && jobs.len() < BATCH_COMMANDS_MAX {
                match self.commands.try_recv() {
                    Ok(Message::Job(job)) => next = Some(job),
                    Ok(Message::Stop) => stop = true,
                    Err(TryRecvError::Empty | TryRecvError::Disconnected) => {}
                }
            }
        }
        if committed.is_ok() {
            committed = self.connection.execute_batch("COMMIT").map_err(Error::from);
        }
        if committed.is_err() && !self.connection.is_autocommit() {
            // Nothing of it is to stay; that it is undone is all that can be done.
            let _ = self.connection.execute_batch("ROLLBACK");
        }
        self.note(&committed, jobs.len() as u64);
        if committed.is_err() {
            self.move_log_into_database();
        }
        for job in jobs {
            job.answer(committed.clone());
        }
        stop
    }

    /// Applies one command in a savepoint. An error here ends the whole transaction; a command's own does not.
    fn apply(&self, job: &mut dyn Job) -> Result<()> {
        self.connection.prepare_cached("SAVEPOINT command")?.execute([])?;
        let applied = job.apply(&self.connection);
        if let Err(why @ Error::Storage(_)) = applied {
            // SQLite may have ended the transaction by itself, and the disk will not take the rest either.
            return Err(why);
        }
        if applied.is_err() {
            self.connection.prepare_cached("ROLLBACK TO command")?.execute([])?;
        }
        self.connection.prepare_cached("RELEASE command")?.execute([])?;
        Ok(())
    }

    fn note(&self, committed: &Result<()>, commands: u64) {
        match committed {
            Ok(()) => {
                self.stats.commits.fetch_add(1, Ordering::Relaxed);
                self.stats.commands.fetch_add(commands, Ordering::Relaxed);
                self.stats.note(None);
            }
            Err(why) => {
                self.stats.refused.fetch_add(commands, Ordering::Relaxed);
                self.stats.note(Some(why.to_string()));
            }
        }
    }

    /// Finds out whether a disk that refused takes writes again, so that `/health` recovers without traffic.
    fn probe(&self) {
        if self.stats.last_error().is_none() {
            return;
        }
        let sql = "BEGIN IMMEDIATE;
                   INSERT INTO _meta (key, value) VALUES ('probe', hex(randomblob(4096)))
                       ON CONFLICT DO UPDATE SET value = excluded.value;
                   DELETE FROM _meta WHERE key = 'probe';
                   COMMIT;";
        self.move_log_into_database();
        match self.connection.execute_batch(sql) {
            Ok(()) => self.stats.note(None),
            Err(why) => {
                if !self.connection.is_autocommit() {
                    // As in a batch: undone is all it can be.
                    let _ = self.connection.execute_batch("ROLLBACK");
                }
                self.stats.note(Some(why.to_string()));
            }
        }
    }

    /// Empties the write-ahead log, which on a full disk may be what fills it: most of its pages replace others.
    fn move_log_into_database(&self) {
        if let Err(why) = self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())) {
            log::warn!("the write-ahead log stays as it is for now: {why}");
        }
    }

    fn measure(&self) -> u64 {
        let number = |pragma: &str| -> u64 {
            let statement = self.connection.prepare_cached(pragma);
            statement.and_then(|mut read| read.query_row([], |row| row.get::<_, i64>(0))).map_or(0, i64::unsigned_abs)
        };
        let page_bytes = number("PRAGMA page_size");
        let (pages, free) = (number("PRAGMA page_count"), number("PRAGMA freelist_count"));
        let used = pages.saturating_sub(free) * page_bytes;
        self.stats.used_bytes.store(used, Ordering::Relaxed);
        self.stats.file_bytes.store(pages * page_bytes, Ordering::Relaxed);
        used
    }

    /// Removes what can be spared while the pages in use are more than they may be. What is freed is used again first.
    fn make_room(&self) {
        let used = self.measure();
        let Some(limit) = self.limit.filter(|limit| used > limit.bytes_max) else { return };
        for _ in 0..SHRINK_ROUNDS_MAX {
            match self.evict(limit) {
                Ok(true) if self.measure() > limit.bytes_max => {}
                Ok(_) => return,
                Err(why) => return log::error!("no room can be made in the database: {why}"),
            }
        }
    }

    fn evict(&self, limit: Limit) -> Result<bool> {
        let transaction = self.connection.unchecked_transaction()?;
        let more = (limit.evict)(&transaction)?;
        transaction.commit()?;
        Ok(more)
    }
}

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;
