//! The job that follows every log: in turns, a bounded amount of each, so that a loud one keeps no other waiting.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::LogViewer;
use super::assembly::Assembly;
use super::commands::{Append, Register, Trim};
use super::config::{Config, Limits, Sources};
use super::discovery::{Discovery, Format, Found, unreadable};
use super::files::generations;
use super::follower::{Begin, Follower, MomentOf, Resume, Turn};
use super::ring::Landed;
use super::text::docker;
use super::watch::{Change, Watch, concerns};
use crate::background::{Job, StopToken};
use crate::clock::Timestamp;
use crate::db::vacuum;
use crate::error::{Error, Result};

/// Entries and bytes of messages after which a turn ends.
const TURN_ENTRIES: usize = 1_000;
const TURN_BYTES: usize = 512 * 1024;
/// Batches that wait for the writer. One is read while another is stored.
const IN_FLIGHT_MAX: usize = 2;
/// Changes come in bursts; this long they are gathered.
const GATHER: Duration = Duration::from_millis(15);
/// The longest wait while the writer has something to say, and the shortest for what could not be read.
const ANSWER_MAX: Duration = Duration::from_millis(200);
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(1);
const TRIM_EVERY: Duration = Duration::from_secs(300);
/// Free space in the file, as a part of it, that is worth moving pages for. Less is filled again soon.
const FREE_PART: u64 = 4;

/// The job that sees to it.
pub(super) fn job(viewer: &Arc<LogViewer>, config: Config) -> Job {
    let mut rounds = Some((Arc::clone(viewer), config));
    let run = Box::new(move |pause: &StopToken| {
        if let Some((viewer, config)) = rounds.take() {
            Rounds::new(viewer, config).run(pause);
        }
    });
    Job { name: "follow", interval: Duration::from_secs(3_600), run }
}

/// What the API says of all that is followed.
#[derive(Debug, Clone, Default)]
pub(super) struct Overview {
    /// The logs that exist, by key, with the reason for those that are not followed.
    pub(super) logs: BTreeMap<String, Option<String>>,
    /// What cannot be read, in sentences.
    pub(super) troubles: Vec<String>,
}

/// A log and how far it is.
struct Log {
    found: Found,
    container: i64,
    /// How many changes of it were given to the writer.
    version: i64,
    reading: Option<Reading>,
    /// Whether there may be something new.
    dirty: bool,
    in_flight: usize,
    failed: bool,
    not_before: Instant,
    /// Whether it was not there at the first look.
    appeared: bool,
    /// Whether Docker has removed it; what can still be read is.
    gone: bool,
    reason: Option<String>,
}

struct Reading {
    follower: Follower,
    assembly: Assembly,
}

type Answers = (String, Result<Vec<Landed>>);

struct Rounds {
    viewer: Arc<LogViewer>,
    sources: Sources,
    limits: Limits,
    poll_every: Duration,
    tail_bytes: u64,
    discovery: Discovery,
    watch: Watch,
    logs: HashMap<String, Log>,
    /// The order of turns.
    order: Vec<String>,
    /// When anything was stored before this process began, in ms since 1970; 0 is never.
    stored_before_ms: i64,
    first_look: bool,
    answers: (Sender<Answers>, Receiver<Answers>),
    in_flight: usize,
    buffer: Vec<u8>,
    looked: Option<Instant>,
    trimmed: Option<Instant>,
}

impl Rounds {
    fn new(viewer: Arc<LogViewer>, config: Config) -> Self {
        Self {
            viewer,
            sources: config.sources,
            limits: config.limits,
            poll_every: config.poll_every,
            tail_bytes: config.tail_bytes,
            discovery: Discovery::default(),
            watch: Watch::new(),
            logs: HashMap::new(),
            order: Vec::new(),
            stored_before_ms: 0,
            first_look: true,
            answers: unbounded(),
            in_flight: 0,
            buffer: Vec::new(),
            looked: None,
            trimmed: None,
        }
    }

    fn run(&mut self, pause: &StopToken) {
        while let Err(why) = self.begin() {
            log::warn!("following waits: {why}");
            if !pause.sleep(TRY_AGAIN_AFTER) {
                return;
            }
        }
        while !pause.stopping() {
            if self.looked.is_none_or(|at| at.elapsed() >= self.poll_every) {
                self.look();
            }
            if self.trimmed.is_none_or(|at| at.elapsed() >= TRIM_EVERY) {
                self.trim(pause);
            }
            let more = self.round();
            self.hear(if more { Duration::ZERO } else { GATHER });
            if !more {
                self.wait(pause);
            }
        }
    }

    fn begin(&mut self) -> Result<()> {
        let reader = self.viewer.core.readers.acquire()?;
        self.stored_before_ms = super::store::total(&reader, "stored_at")?;
        Ok(())
    }

    /// Finds out which logs there are.
    fn look(&mut self) {
        self.looked = Some(Instant::now());
        let look = self.discovery.look(&self.sources);
        self.watch.set(&look.folders);
        for log in self.logs.values_mut() {
            // One that was gone at the last look has had its last turn, unless something is left of it.
            log.dirty |= !log.gone;
            log.gone = true;
        }
        for found in look.logs {
            match self.logs.get_mut(&found.key) {
                Some(log) => {
                    log.gone = false;
                    if log.found != found {
                        self.register(found);
                    }
                }
                None => self.register(found),
            }
        }
        self.logs.retain(|_, log| !log.gone || log.in_flight > 0 || log.unfinished());
        self.order = self.logs.keys().cloned().collect();
        let logs = self.logs.iter().map(|(key, log)| {
            let reason = log.found.log.as_ref().err().or(log.reason.as_ref()).cloned();
            (key.clone(), reason)
        });
        self.viewer.set_overview(Overview { logs: logs.collect(), troubles: look.troubles });
        self.first_look = false;
    }

    /// Notes a log that is new, or has another name now, or another file.
    fn register(&mut self, found: Found) {
        let registered = match self.viewer.core.writer.run(Register { found: found.clone() }) {
            Ok(registered) => registered,
            Err(why) => return log::warn!("{} is not followed yet: {why}", found.name),
        };
        match self.logs.get_mut(&found.key) {
            Some(log) => {
                if log.found.log != found.log {
                    log.reading = None;
                    log.not_before = Instant::now();
                }
                log.found = found;
                log.gone = false;
            }
            None => {
                let log = Log {
                    container: registered.container,
                    version: registered.version,
                    reading: None,
                    dirty: true,
                    in_flight: 0,
                    failed: false,
                    not_before: Instant::now(),
                    appeared: !self.first_look,
                    gone: false,
                    reason: None,
                    found,
                };
                self.logs.insert(log.found.key.clone(), log);
            }
        }
    }

    /// Gives every log that may have something new its turn. Answers whether there is more.
    fn round(&mut self) -> bool {
        let mut more = false;
        for key in std::mem::take(&mut self.order) {
            more |= self.turn(&key);
            while self.in_flight >= IN_FLIGHT_MAX {
                self.hear(ANSWER_MAX);
            }
            self.order.push(key);
        }
        more
    }

    fn turn(&mut self, key: &str) -> bool {
        let now = Instant::now();
        let Some(log) = self.logs.get_mut(key) else { return false };
        let due = log.reading.as_ref().and_then(|reading| reading.assembly.due()).is_some_and(|due| due <= now);
        if !(log.dirty || due) || log.not_before > now {
            return false;
        }
        if log.failed {
            // What was read since is read again, once nothing of it is on its way any more.
            if log.in_flight > 0 {
                return false;
            }
            (log.failed, log.reading) = (false, None);
        }
        if log.reading.is_none() {
            match self.open(key) {
                Ok(()) => {}
                Err(why) => return self.complain(key, &why),
            }
        }
        let Some(log) = self.logs.get_mut(key) else { return false };
        let Some(Reading { follower, assembly }) = &mut log.reading else { return false };
        let turn = follower.turn(&mut self.buffer, &mut |line| {
            assembly.line(&line, now);
            let (entries, bytes) = assembly.finished();
            entries >= TURN_ENTRIES || bytes >= TURN_BYTES
        });
        let caught = matches!(turn, Ok(Turn::Caught));
        if caught {
            assembly.flush(now);
        }
        self.submit(key);
        if let Err(why) = turn {
            return self.complain(key, &why);
        }
        if let Some(log) = self.logs.get_mut(key) {
            log.dirty = !caught;
            log.reason = None;
        }
        !caught
    }

    /// Gives what is finished to the writer, with how far the log is read.
    fn submit(&mut self, key: &str) {
        let Some(log) = self.logs.get_mut(key) else { return };
        let Some(Reading { follower, assembly }) = &mut log.reading else { return };
        let gaps = follower.take_gaps();
        if gaps > 0 {
            log::warn!("{}: files were gone before they could be read; lines may be missing", log.found.name);
        }
        if assembly.finished().0 == 0 && gaps == 0 {
            return;
        }
        let Some((place, before)) = follower.place() else { return };
        let resume = Resume { place, before, newest_ns: assembly.newest_ns(), pending: assembly.pending() };
        let append = Append {
            container: log.container,
            entries: assembly.take(),
            resume,
            version: log.version,
            gaps,
            limits: self.limits,
            now: Timestamp::now(),
        };
        log.version += 1;
        log.in_flight += 1;
        self.in_flight += 1;
        let (answers, hub, key) = (self.answers.0.clone(), Arc::clone(&self.viewer.hub), key.to_owned());
        self.viewer.core.writer.submit(append, move |answer| {
            if let Ok(landed) = &answer {
                hub.landed(landed);
            }
            // Nobody listens any more when the program stops.
            let _ = answers.send((key, answer));
        });
    }

    /// Hears what became of what was given to the writer.
    fn hear(&mut self, patience: Duration) {
        if self.in_flight == 0 {
            return;
        }
        let mut answer = self.answers.1.recv_timeout(patience).ok();
        while let Some((key, outcome)) = answer {
            self.in_flight -= 1;
            if let Some(log) = self.logs.get_mut(&key) {
                log.in_flight -= 1;
                if let Err(why) = outcome {
                    // The writer says in the log when the disk is the reason, and what follows one failure fails too.
                    if matches!(why, Error::Internal(_)) && !log.failed {
                        log::error!("{} cannot be stored: {why}", log.found.name);
                    }
                    log.failed = true;
                    log.dirty = true;
                    log.not_before = Instant::now() + TRY_AGAIN_AFTER;
                }
            }
            answer = self.answers.1.try_recv().ok();
        }
    }

    /// Opens a log where it was left, or where it is to be begun.
    fn open(&mut self, key: &str) -> io::Result<()> {
        let Some(log) = self.logs.get_mut(key) else { return Ok(()) };
        let Ok(path) = log.found.log.clone() else { return Ok(()) };
        let moment_of = match log.found.format {
            Format::Docker => |line: &[u8]| docker::parse(line).map(|line| line.time_ns),
            Format::Text => |_: &[u8]| None,
        };
        let registered = self.viewer.core.writer.run(Register { found: log.found.clone() });
        let registered = registered.map_err(|why| io::Error::other(why.to_string()))?;
        log.version = registered.version;
        let now = Instant::now();
        let (follower, assembly) = match registered.resume {
            Some(resume) => (
                Follower::resume(&path, moment_of, &resume),
                Assembly::new(log.found.format, &resume.pending, resume.newest_ns, now),
            ),
            None => {
                // What began since anything was last stored is new, whatever its size.
                let stored_before_ns = self.stored_before_ms.saturating_mul(1_000_000);
                let is_new =
                    log.appeared || self.stored_before_ms > 0 && began_after(&path, moment_of, stored_before_ns)?;
                let begin = if is_new { Begin::Whole } else { Begin::Tail(self.tail_bytes) };
                (Follower::begin(&path, moment_of, begin)?, Assembly::new(log.found.format, &[], 0, now))
            }
        };
        log.reading = Some(Reading { follower, assembly });
        Ok(())
    }

    /// Notes that a log cannot be read for the moment.
    fn complain(&mut self, key: &str, why: &io::Error) -> bool {
        let Some(log) = self.logs.get_mut(key) else { return false };
        // What cannot be read of one that is gone never will be.
        log.dirty &= !log.gone;
        // What is rotated at this moment is there at the next.
        let rotated = why.kind() == io::ErrorKind::NotFound;
        log.not_before = Instant::now() + if rotated { GATHER } else { TRY_AGAIN_AFTER };
        if !rotated {
            let path = log.found.log.clone().unwrap_or_default();
            let reason = unreadable(&path, why);
            if log.reason.as_ref() != Some(&reason) {
                log::warn!("{}: {reason}", log.found.name);
            }
            log.reason = Some(reason);
        }
        false
    }

    fn trim(&mut self, pause: &StopToken) {
        self.trimmed = Some(Instant::now());
        let existing = Some(self.logs.values().map(|log| log.container).collect());
        let writer = &self.viewer.core.writer;
        let trimmed = writer.run(Trim { limits: self.limits, existing, now: Timestamp::now() }).and_then(|()| {
            let load = |bytes: &std::sync::atomic::AtomicU64| bytes.load(std::sync::atomic::Ordering::Relaxed);
            let stats = writer.stats();
            let free = load(&stats.file_bytes).saturating_sub(load(&stats.used_bytes));
            if free > load(&stats.file_bytes) / FREE_PART { vacuum(writer, || !pause.stopping()) } else { Ok(()) }
        });
        if let Err(why) = trimmed {
            log::warn!("old entries stay for now: {why}");
        }
    }

    /// Waits for something new, or until something has waited long enough.
    fn wait(&mut self, pause: &StopToken) {
        let now = Instant::now();
        let due = self.logs.values().filter_map(|log| match &log.reading {
            // What could not be read or stored is tried again, unless there is nothing to read.
            _ if log.dirty && log.found.log.is_ok() => Some(log.not_before.max(now + ANSWER_MAX)),
            Some(reading) => reading.assembly.due().map(|due| due.max(log.not_before)),
            None => None,
        });
        let look = self.looked.map_or(now, |looked| looked + self.poll_every);
        let until = due.min().map_or(look, |due| due.min(look)).saturating_duration_since(now);
        let until = if self.in_flight > 0 { until.min(ANSWER_MAX) } else { until };
        for change in self.watch.wait(until, pause) {
            if let Change::File(folder, name) = &change
                && (self.sources.folders.contains(folder)
                    || name.to_str().is_some_and(|name| name.starts_with("config.v2")))
            {
                // A container was made, renamed or removed.
                self.looked = None;
            }
            for log in self.logs.values_mut() {
                if log.found.log.as_ref().is_ok_and(|path| concerns(&change, path)) {
                    log.dirty = true;
                }
            }
        }
    }
}

impl Log {
    /// Whether a log that is gone has something left to be read or stored.
    fn unfinished(&self) -> bool {
        self.failed || self.reading.as_ref().is_some_and(|reading| reading.assembly.due().is_some() || self.dirty)
    }
}

/// Whether a log's oldest line is younger than a moment.
fn began_after(path: &Path, moment_of: MomentOf, moment_ns: i64) -> io::Result<bool> {
    let generations = generations(path)?;
    let Some(oldest) = generations.last() else { return Ok(true) };
    Ok(moment_of(&oldest.first_line()?).is_some_and(|began_ns| began_ns > moment_ns))
}
