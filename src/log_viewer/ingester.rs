//! Ingester: the background job that follows all logs and stores their entries.
//!
//! The job polls the logs in turn and reads a bounded batch of each, so that a busy log does not delay the others. A batch and
//! the checkpoint after it are stored in one transaction. If a batch cannot be stored, the log is read again from its last
//! checkpoint.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::checkpoint::Checkpoint;
use super::commands::{AppendEntries, ApplyRetention, UpsertSource};
use super::config::{Config, RetentionLimits, SourceSettings};
use super::discovery::{LogSource, describe_io_error};
use super::disk_pause::DiskPause;
use super::inotify::{FileWatcher, FsEvent};
use super::open_log::{OpenLog, starts_after};
use super::plausible_time::{ExpiryClock, is_implausible_ms};
use super::segments::BatchRange;
use super::source_finder::SourceFinder;
use super::source_state::SourceState;
use super::state::{LogViewer, SourceStatuses};
use super::tailer::{BatchEnd, StartAt};
use super::{counter_names, retention, unreadable_archives};
use crate::background::{Job, StopToken};
use crate::clock::Timestamp;
use crate::db::counter;
use crate::error::{Error, Result};

/// Maximum number of batches in the writer's queue: the next one is read while one is stored.
const IN_FLIGHT_MAX: usize = 2;
/// Total length of the messages in the writer's queue from which nothing more is read, in bytes. One entry can exceed it.
const IN_FLIGHT_BYTES_MAX: usize = 256 * 1024;
/// Pause before a file is read, because changes come in bursts.
const EVENT_DEBOUNCE: Duration = Duration::from_millis(15);
/// Maximum time to wait for an acknowledgement of the writer before other work is checked.
const ACK_POLL_INTERVAL: Duration = Duration::from_millis(200);
/// Pause after a failure.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// Returns the job that runs the ingester.
pub(super) fn job(viewer: &Arc<LogViewer>, config: Config) -> Job {
    let mut start = Some((Arc::clone(viewer), config));
    let run = Box::new(move |stop: &StopToken| {
        if let Some((viewer, config)) = start.take() {
            Ingester::new(viewer, config).run(stop);
        }
    });
    Job { name: "log-ingester", interval: Duration::from_secs(3_600), run }
}

/// Key of a log, and the length of the messages of one of its batches in bytes, with the writer's result.
type Ack = (String, usize, Result<Vec<BatchRange>>);

struct Ingester {
    viewer: Arc<LogViewer>,
    settings: SourceSettings,
    limits: RetentionLimits,
    poll_interval: Duration,
    tail_bytes: u64,
    finder: SourceFinder,
    watcher: FileWatcher,
    /// By key.
    sources: HashMap<String, SourceState>,
    /// Keys in the order of polling.
    poll_order: Vec<String>,
    /// Time of the last batch of an earlier run, in milliseconds since 1970; 0 if nothing was ever stored.
    previous_ingest_ms: i64,
    is_first_scan: bool,
    /// Logs that are not read since the last scan.
    disk_pause: DiskPause,
    acks: (Sender<Ack>, Receiver<Ack>),
    in_flight: usize,
    in_flight_bytes: usize,
    read_buffer: Vec<u8>,
    scanned_at: Option<Instant>,
    retention_applied_at: Option<Instant>,
    /// `None` until the time of the last batch is known.
    expiry_clock: Option<ExpiryClock>,
}

impl Ingester {
    fn new(viewer: Arc<LogViewer>, config: Config) -> Self {
        Self {
            viewer,
            settings: config.sources,
            limits: config.limits,
            poll_interval: config.poll_interval,
            tail_bytes: config.tail_bytes,
            finder: SourceFinder::default(),
            watcher: FileWatcher::new(),
            sources: HashMap::new(),
            poll_order: Vec::new(),
            previous_ingest_ms: 0,
            is_first_scan: true,
            disk_pause: DiskPause::None,
            acks: unbounded(),
            in_flight: 0,
            in_flight_bytes: 0,
            read_buffer: Vec::new(),
            scanned_at: None,
            retention_applied_at: None,
            expiry_clock: None,
        }
    }

    fn run(&mut self, stop: &StopToken) {
        while let Err(why) = self.load_previous_ingest() {
            log::warn!("log-ingester: failed to read the database: {why}; retrying in {} s", RETRY_DELAY.as_secs());
            if !stop.sleep(RETRY_DELAY) {
                return;
            }
        }
        while !stop.stopping() {
            if self.scanned_at.is_none_or(|at| at.elapsed() >= self.poll_interval) {
                self.scan_sources();
            }
            if self.retention_applied_at.is_none_or(|at| at.elapsed() >= retention::INTERVAL) {
                self.apply_retention(stop);
            }
            let more = self.poll_sources();
            self.drain_acks(if more { Duration::ZERO } else { EVENT_DEBOUNCE });
            if !more {
                self.wait_for_changes(stop);
            }
        }
    }

    fn load_previous_ingest(&mut self) -> Result<()> {
        let reader = self.viewer.core.readers.acquire()?;
        self.previous_ingest_ms = counter(&reader, counter_names::LAST_INGEST_MS)?;
        Ok(())
    }

    /// Finds new, renamed and removed logs.
    fn scan_sources(&mut self) {
        self.scanned_at = Some(Instant::now());
        let mut snapshot = self.finder.scan(&self.settings);
        if self.watcher.set_folders(&snapshot.folders, &snapshot.recreated_folders) {
            self.scanned_at = None;
        }
        for state in self.sources.values_mut() {
            // A log that was already missing at the previous scan was read to its end since.
            state.may_have_changed |= !state.is_removed;
            state.is_removed = true;
        }
        for source in std::mem::take(&mut snapshot.sources) {
            match self.sources.get_mut(&source.key) {
                Some(state) => {
                    state.is_removed = false;
                    if state.source != source {
                        self.upsert_source(source);
                    }
                }
                None => self.upsert_source(source),
            }
        }
        self.sources.retain(|_, state| !state.is_removed || state.in_flight > 0 || state.is_unfinished());
        self.poll_order = self.sources.keys().cloned().collect();
        let reason = |state: &SourceState| snapshot.reason(&state.source).or(state.read_error.as_ref()).cloned();
        let sources = self.sources.iter().map(|(key, state)| (key.clone(), reason(state))).collect();
        self.disk_pause = DiskPause::new(&self.viewer);
        let paused = self.sources.values().filter(|state| self.disk_pause.includes(state.id)).count();
        self.viewer.set_source_status(SourceStatuses { sources, problems: snapshot.problems, paused });
        self.is_first_scan = false;
    }

    /// Stores a log that is new, or has another name, label or path.
    fn upsert_source(&mut self, source: LogSource) {
        let keep = self.sources.values().map(|state| state.id).collect();
        let stored = match self.viewer.core.writer.run(UpsertSource { source: source.clone(), keep }) {
            Ok(stored) => stored,
            Err(why) => {
                let (name, interval) = (&source.name, self.poll_interval.as_secs());
                return log::warn!("log-ingester: failed to register {name}: {why}; retrying in {interval} s");
            }
        };
        match self.sources.get_mut(&source.key) {
            Some(state) => {
                if state.source.path != source.path {
                    state.reader = None;
                    state.not_before = Instant::now();
                }
                state.source = source;
                state.is_removed = false;
            }
            None => {
                let state = SourceState::new(source, &stored, !self.is_first_scan);
                self.sources.insert(state.source.key.clone(), state);
            }
        }
    }

    /// Polls every log once. Returns whether one of them has more lines.
    fn poll_sources(&mut self) -> bool {
        let mut more = false;
        for key in std::mem::take(&mut self.poll_order) {
            more |= self.poll_source(&key);
            while self.in_flight >= IN_FLIGHT_MAX || self.in_flight_bytes >= IN_FLIGHT_BYTES_MAX {
                self.drain_acks(ACK_POLL_INTERVAL);
            }
            self.poll_order.push(key);
        }
        more
    }

    /// Reads a batch of a log, if it may have new lines, and submits it. Returns whether there are more lines.
    fn poll_source(&mut self, key: &str) -> bool {
        let now = Instant::now();
        let Some(state) = self.sources.get_mut(key) else { return false };
        let deadline = state.reader.as_ref().and_then(OpenLog::deadline);
        let is_due = deadline.is_some_and(|deadline| deadline <= now);
        if !(state.may_have_changed || is_due) || state.not_before > now || self.disk_pause.includes(state.id) {
            return false;
        }
        if state.write_failed {
            // All lines after the checkpoint are read again, once no earlier batch is in the queue.
            if state.in_flight > 0 {
                return false;
            }
            (state.write_failed, state.reader) = (false, None);
        }
        if state.reader.is_none() {
            match self.open_source(key) {
                Ok(()) => {}
                Err(why) => return self.record_read_error(key, &why),
            }
        }
        let Some(state) = self.sources.get_mut(key) else { return false };
        let Some(reader) = &mut state.reader else { return false };
        let progress = reader.read_batch(&mut self.read_buffer, now);
        self.submit_batch(key);
        let reached_eof = match progress {
            Ok(progress) => progress == BatchEnd::ReachedEof,
            Err(why) => return self.record_read_error(key, &why),
        };
        if let Some(state) = self.sources.get_mut(key) {
            state.may_have_changed = !reached_eof;
            state.read_error = None;
        }
        !reached_eof
    }

    /// Submits the finished entries of a log to the writer, together with the checkpoint after them.
    fn submit_batch(&mut self, key: &str) {
        let Some(state) = self.sources.get_mut(key) else { return };
        let Some(OpenLog { tailer, assembler, .. }) = &mut state.reader else { return };
        let missed_rotations = tailer.take_missed_rotations();
        if missed_rotations > 0 {
            let name = &state.source.name;
            let path = state.source.path.as_deref();
            let reason = match path.ok().and_then(unreadable_archives::newest) {
                Some(archive) => format!("deleted, damaged, or {archive}, which is not compressed with gzip"),
                None => "deleted or damaged".to_owned(),
            };
            log::warn!(
                "log-ingester: failed to read rotated files of {name}: {reason}; lines may be missing, continuing with the \
                 next file"
            );
        }
        let (entries, bytes) = assembler.finished_size();
        if entries == 0 && missed_rotations == 0 {
            return;
        }
        let Some(positions) = tailer.positions() else { return };
        let (newest_ns, pending_lines) = (assembler.newest_ns(), assembler.pending_lines());
        let append = AppendEntries {
            source: state.id,
            records: assembler.take_finished(),
            checkpoint: Checkpoint { positions, newest_ns, pending_lines },
            version: state.version,
            missed_rotations,
            times: assembler.take_times(),
            limits: self.limits,
            now: Timestamp::now(),
        };
        state.version += 1;
        state.in_flight += 1;
        self.in_flight += 1;
        self.in_flight_bytes += bytes;
        let (acks, broadcast, key) = (self.acks.0.clone(), Arc::clone(&self.viewer.broadcast), key.to_owned());
        self.viewer.core.writer.submit(append, move |result| {
            if let Ok(batches) = &result {
                broadcast.publish(batches);
            }
            // Fails while the program stops, because the ingester is gone.
            let _ = acks.send((key, bytes, result));
        });
    }

    /// Processes the writer's acknowledgements. Waits at most `timeout` for the first one, if batches are in flight.
    fn drain_acks(&mut self, timeout: Duration) {
        if self.in_flight == 0 {
            return;
        }
        let mut ack = self.acks.1.recv_timeout(timeout).ok();
        while let Some((key, bytes, result)) = ack {
            self.in_flight -= 1;
            self.in_flight_bytes -= bytes;
            if let Some(state) = self.sources.get_mut(&key) {
                state.in_flight -= 1;
                if let Err(why) = result {
                    // The writer logs storage errors itself. After one failure, all later batches in the queue fail too.
                    if matches!(why, Error::Internal(_)) && !state.write_failed {
                        let (name, delay) = (&state.source.name, RETRY_DELAY.as_secs());
                        log::error!("log-ingester: failed to store entries of {name}: {why}; retrying in {delay} s");
                    }
                    state.write_failed = true;
                    state.may_have_changed = true;
                    state.not_before = Instant::now() + RETRY_DELAY;
                }
            }
            ack = self.acks.1.try_recv().ok();
        }
    }

    /// Opens a log at its checkpoint, or at its start if there is none.
    fn open_source(&mut self, key: &str) -> io::Result<()> {
        let Some(state) = self.sources.get_mut(key) else { return Ok(()) };
        let Ok(path) = state.source.path.clone() else { return Ok(()) };
        // The source has a row, so no room is needed.
        let upsert = UpsertSource { source: state.source.clone(), keep: vec![state.id] };
        let stored = self.viewer.core.writer.run(upsert);
        let stored = stored.map_err(|why| io::Error::other(why.to_string()))?;
        state.version = stored.version;
        let (format, now) = (&state.source.format, Instant::now());
        let reader = match stored.checkpoint {
            Some(checkpoint) => OpenLog::resume(&path, format, &checkpoint, now),
            None => {
                // A log that was created since the previous run stored its last batch is read completely, and every log if
                // the clock was wrong then.
                let previous_ms = self.previous_ingest_ms;
                let is_new = state.is_new
                    || is_implausible_ms(previous_ms, Timestamp::now())
                    || previous_ms > 0 && starts_after(&path, format, Timestamp::from_ms(previous_ms))?;
                let start = if is_new { StartAt::Beginning } else { StartAt::Tail(self.tail_bytes) };
                OpenLog::start(&path, format, start, now)?
            }
        };
        state.reader = Some(reader);
        Ok(())
    }

    /// Records a failed read and schedules the next one. Returns `false`, because nothing more can be read now.
    fn record_read_error(&mut self, key: &str, why: &io::Error) -> bool {
        let Some(state) = self.sources.get_mut(key) else { return false };
        // Reading a removed log again would fail again.
        state.may_have_changed &= !state.is_removed;
        // A file that is missing because of a rotation soon exists again.
        let is_rotating = why.kind() == io::ErrorKind::NotFound;
        state.not_before = Instant::now() + if is_rotating { EVENT_DEBOUNCE } else { RETRY_DELAY };
        if !is_rotating {
            let path = state.source.path.clone().unwrap_or_default();
            let reason = describe_io_error(&path, why);
            if state.read_error.as_ref() != Some(&reason) {
                let (name, delay) = (&state.source.name, RETRY_DELAY.as_secs());
                log::warn!("log-ingester: failed to read {name}: {reason}; retrying in {delay} s");
            }
            state.read_error = Some(reason);
        }
        false
    }

    /// Deletes expired entries, and vacuums the database if much of it is free.
    fn apply_retention(&mut self, stop: &StopToken) {
        self.retention_applied_at = Some(Instant::now());
        let existing = Some(self.sources.values().map(|state| state.id).collect());
        let (at, now) = (Instant::now(), Timestamp::now());
        let clock = self.expiry_clock.get_or_insert_with(|| ExpiryClock::new(self.previous_ingest_ms, at, now));
        let expires_before_ns = if clock.is_trusted(at, now) { self.limits.oldest_ns(now) } else { i64::MIN };
        let retention = ApplyRetention { limits: self.limits, existing, expires_before_ns };
        let result = retention::run(&self.viewer.core.writer, retention, stop);
        if let Err(why) = result {
            let interval = retention::INTERVAL.as_secs();
            log::warn!("log-ingester: failed to delete expired entries: {why}; retrying in {interval} s");
        }
    }

    /// Waits until a file changes, an entry's timeout expires, a failed read is due again, or the next scan is due.
    fn wait_for_changes(&mut self, stop: &StopToken) {
        let now = Instant::now();
        let deadlines = self.sources.values().filter_map(|state| match &state.reader {
            // A failed read or write is retried, unless there is no file to read.
            _ if state.may_have_changed && state.source.path.is_ok() => {
                Some(state.not_before.max(now + ACK_POLL_INTERVAL))
            }
            Some(reader) => reader.deadline().map(|deadline| deadline.max(state.not_before)),
            None => None,
        });
        let next_scan = self.scanned_at.map_or(now, |scanned_at| scanned_at + self.poll_interval);
        let deadline = deadlines.min().map_or(next_scan, |deadline| deadline.min(next_scan));
        let timeout = deadline.saturating_duration_since(now);
        let timeout = if self.in_flight > 0 { timeout.min(ACK_POLL_INTERVAL) } else { timeout };
        for event in self.watcher.wait(timeout, stop) {
            // A container was created, renamed or removed, or the folder of a file was.
            let changes_sources = matches!(&event, FsEvent::File(folder, name) if
                self.settings.folders.contains(folder)
                    || name.to_str().is_some_and(|name| name.starts_with("config.v2"))
                    || self.watcher.affects_folders(folder, name));
            if changes_sources {
                self.scanned_at = None;
            }
            for state in self.sources.values_mut() {
                if state.source.path.as_ref().is_ok_and(|path| event.affects(path)) {
                    state.may_have_changed = true;
                }
            }
        }
    }
}
