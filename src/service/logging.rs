//! Log on stderr. A thread of its own writes the lines, so that a stderr that nobody reads never blocks the service: lines
//! for which the queue has no room are dropped and counted.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use log::LevelFilter;

use crate::background;
use crate::clock::Timestamp;
use crate::records::warning::Warning;

/// Maximum size of the waiting lines, in bytes.
const QUEUE_BYTES_MAX: usize = 64 * 1024;
/// Maximum time for writing the waiting lines before the process exits.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(200);
/// Pause before writing again to a stderr that is in non-blocking mode and full.
const RETRY_INTERVAL: Duration = Duration::from_millis(20);

static DROPPED_LINES: AtomicU64 = AtomicU64::new(0);

/// Returns the number of log lines that were dropped since the start.
pub(super) fn dropped_lines() -> u64 {
    DROPPED_LINES.load(Ordering::Relaxed)
}

/// Returns the warning about dropped lines, if there are any.
pub(super) fn warning() -> Option<Warning> {
    let dropped = dropped_lines();
    let message = "Log lines were dropped, because nothing read stderr in time; check what collects the service's log";
    (dropped > 0).then(|| Warning::new("log_lines_dropped", dropped, message))
}

/// Logs one line per event to stderr, in UTC. Only lines of this program: libraries log headers at `debug`.
pub(super) fn start(level: LevelFilter) {
    let config = simplelog::ConfigBuilder::new()
        .set_time_format_rfc3339()
        .set_thread_level(LevelFilter::Off)
        .set_location_level(LevelFilter::Off)
        .add_filter_allow_str("monlight")
        .build();
    let queue = Arc::new(LineQueue::default());
    let thread_queue = Arc::clone(&queue);
    let spawned = background::spawn("log", move || thread_queue.write_lines(&mut io::stderr()));
    // Fails if a logger exists, as in tests that start two services in one process.
    let started = match spawned {
        Ok(_) => {
            simplelog::WriteLogger::init(level, config, LineWriter { line: Vec::new(), queue: Arc::clone(&queue) })
        }
        // Without the thread, lines are still better than none.
        Err(_) => simplelog::WriteLogger::init(level, config, io::stderr()),
    };
    if started.is_err() {
        queue.close();
    }
}

/// The waiting lines.
#[derive(Default)]
struct LineQueue {
    state: Mutex<QueueState>,
    changed: Condvar,
}

#[derive(Default)]
struct QueueState {
    lines: VecDeque<Vec<u8>>,
    /// The size of the waiting lines and of the one that is being written.
    bytes: usize,
    is_closed: bool,
}

impl LineQueue {
    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a line, or drops and counts it if there is no room.
    fn push(&self, line: Vec<u8>) {
        let mut state = self.lock();
        if state.bytes + line.len() > QUEUE_BYTES_MAX {
            DROPPED_LINES.fetch_add(1, Ordering::Relaxed);
            return;
        }
        state.bytes += line.len();
        state.lines.push_back(line);
        drop(state);
        self.changed.notify_all();
    }

    /// Waits until every line has been written, but not long.
    fn flush(&self) {
        let state = self.lock();
        drop(self.changed.wait_timeout_while(state, FLUSH_TIMEOUT, |state| state.bytes > 0));
    }

    fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_all();
    }

    /// Writes lines until the queue is closed. May block for as long as nobody reads them.
    fn write_lines(&self, out: &mut impl Write) {
        let mut reported = 0;
        loop {
            let waiting = self.changed.wait_while(self.lock(), |state| state.lines.is_empty() && !state.is_closed);
            let Some(line) = waiting.unwrap_or_else(PoisonError::into_inner).lines.pop_front() else { return };
            let dropped = dropped_lines();
            if dropped > reported {
                let (now, count) = (Timestamp::now(), dropped - reported);
                let sentence = format!("{now} [WARN] log: {count} lines were dropped: nothing read stderr in time\n");
                write_all(out, sentence.as_bytes());
                reported = dropped;
            }
            write_all(out, &line);
            self.lock().bytes -= line.len();
            self.changed.notify_all();
        }
    }
}

/// Writes all bytes, waiting for a reader if need be. Gives up if the log can no longer be written.
fn write_all(out: &mut impl Write, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match out.write(bytes) {
            Ok(written @ 1..) => bytes = &bytes[written..],
            Err(why) if why.kind() == ErrorKind::Interrupted => {}
            Err(why) if why.kind() == ErrorKind::WouldBlock => std::thread::sleep(RETRY_INTERVAL),
            Ok(_) | Err(_) => return,
        }
    }
}

/// Collects the pieces of a line and passes it on once it is complete.
struct LineWriter {
    line: Vec<u8>,
    queue: Arc<LineQueue>,
}

impl Write for LineWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.line.extend_from_slice(bytes);
        if self.line.ends_with(b"\n") {
            self.queue.push(std::mem::take(&mut self.line));
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.queue.flush();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};

    use super::*;

    #[test]
    fn lines_that_nobody_reads_are_dropped_and_reported() {
        let (reader, mut pipe) = io::pipe().unwrap();
        let queue = Arc::new(LineQueue::default());
        let thread_queue = Arc::clone(&queue);
        let thread = std::thread::spawn(move || thread_queue.write_lines(&mut pipe));
        let mut writer = LineWriter { line: Vec::new(), queue: Arc::clone(&queue) };
        let before = dropped_lines();
        // The pipe and the queue take 64 KB each.
        for n in 0..3_000 {
            writeln!(writer, "line {n} {}", "x".repeat(90)).unwrap();
        }
        let dropped = dropped_lines() - before;
        assert!((1_000..2_500).contains(&dropped), "{dropped}");
        assert!(warning().is_some_and(|warning| warning.code == "log_lines_dropped" && warning.count >= dropped));
        writer.flush().unwrap();
        let mut lines = BufReader::new(reader).lines();
        let first_dropped = 3_000 - dropped;
        let read: Vec<String> =
            lines.by_ref().take(usize::try_from(first_dropped).unwrap()).map(Result::unwrap).collect();
        assert!(read.iter().any(|line| line.starts_with("line 0 ")));
        writeln!(writer, "the last one").unwrap();
        queue.close();
        let rest: Vec<String> = lines.map(Result::unwrap).collect();
        thread.join().unwrap();
        assert_eq!(rest.last().unwrap(), "the last one");
        let all = [read, rest].concat();
        assert!(
            all.iter().any(|line| line.contains("[WARN] log: ") && line.contains(" lines were dropped")),
            "{all:?}"
        );
    }
}
