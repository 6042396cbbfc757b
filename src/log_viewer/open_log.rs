//! Reader for an open log: the tailer for its files, and the assembler for its entries.

use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant, UNIX_EPOCH};

use super::checkpoint::Checkpoint;
use super::discovery::LogFormat;
use super::entry_assembler::EntryAssembler;
use super::parse::docker;
use super::rotation::LogNames;
use super::tailer::{BatchEnd, LogTailer, LogTraits, StartAt};
use crate::clock::Timestamp;

/// Maximum number of entries in a batch, exceeded at most by those of one read.
const BATCH_ENTRIES_MAX: usize = 1_000;
/// Maximum total length of the messages in a batch, exceeded at most by those of one read.
const BATCH_BYTES_MAX: usize = 512 * 1024;

/// Time after which the last line of a file counts as complete, although it has no newline.
const LAST_LINE_TIMEOUT: Duration = Duration::from_secs(10);
/// Size of the blocks in which programs write that buffer their output, in bytes. A block usually ends within a line.
const WRITE_BLOCK_BYTES: u64 = 4 * 1024;

/// Reader for one log.
pub(super) struct OpenLog {
    pub(super) tailer: LogTailer,
    pub(super) assembler: EntryAssembler,
    /// Whether the last line of a file may have no newline. Docker's lines are always complete.
    takes_last_line: bool,
}

impl OpenLog {
    /// Opens a log at a checkpoint.
    pub(super) fn resume(path: &Path, format: &LogFormat, checkpoint: &Checkpoint, now: Instant) -> Self {
        Self {
            tailer: LogTailer::resume(path, traits_of(format), checkpoint),
            assembler: EntryAssembler::new(format, &checkpoint.pending_lines, checkpoint.newest_ns, now),
            takes_last_line: matches!(format, LogFormat::Text(_)),
        }
    }

    /// Opens a log that was never read.
    pub(super) fn start(path: &Path, format: &LogFormat, start: StartAt, now: Instant) -> io::Result<Self> {
        Ok(Self {
            tailer: LogTailer::start(path, traits_of(format), start)?,
            assembler: EntryAssembler::new(format, &[], 0, now),
            takes_last_line: matches!(format, LogFormat::Text(_)),
        })
    }

    /// Reads lines until the end of the log or the size of a batch. The assembler then has the finished entries.
    pub(super) fn read_batch(&mut self, buffer: &mut Vec<u8>, now: Instant) -> io::Result<BatchEnd> {
        let Self { tailer, assembler, .. } = self;
        let progress = tailer.read_batch(buffer, &mut |line| {
            assembler.push_line(&line, now);
            let (entries, bytes) = assembler.finished_size();
            if entries >= BATCH_ENTRIES_MAX || bytes >= BATCH_BYTES_MAX {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })?;
        if progress == BatchEnd::ReachedEof {
            if self.last_line_deadline().is_some_and(|deadline| deadline <= now) {
                self.tailer.emit_last_line(&mut |line| {
                    self.assembler.push_line(&line, now);
                    ControlFlow::Continue(())
                });
            }
            self.assembler.flush(now);
        }
        Ok(progress)
    }

    /// Returns the earliest time at which [`Self::read_batch`] finishes an entry of the lines so far; `None` if it does not.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.assembler.deadline().into_iter().chain(self.last_line_deadline()).min()
    }

    /// Returns when the last line of the file counts as complete, although it has no newline. Returns `None` if there is none,
    /// or a program seems to write in blocks, so that the rest of the line follows with the next block.
    fn last_line_deadline(&self) -> Option<Instant> {
        let (end, changed_at) = self.tailer.last_line_end().filter(|_| self.takes_last_line)?;
        (end % WRITE_BLOCK_BYTES != 0).then(|| changed_at + LAST_LINE_TIMEOUT)
    }
}

/// Returns whether the oldest line of a log is newer than a time. Text files can state other times than those at which they
/// were written, so the creation of the oldest file counts, if the file system knows it.
pub(super) fn starts_after(path: &Path, format: &LogFormat, time: Timestamp) -> io::Result<bool> {
    let files = LogNames { path: path.to_owned(), family: None }.rotation_set(None)?;
    let Some(oldest) = files.last() else { return Ok(true) };
    if let LogFormat::Text(_) = format {
        let since_1970 = oldest.created().and_then(|created| created.duration_since(UNIX_EPOCH).ok());
        return Ok(since_1970.is_some_and(|created| created.as_millis() > time.ms().unsigned_abs().into()));
    }
    let time_ns = time.ms().saturating_mul(1_000_000);
    Ok((traits_of(format).timestamp_of)(&oldest.read_first_line()?).is_some_and(|start_ns| start_ns > time_ns))
}

fn traits_of(format: &LogFormat) -> LogTraits {
    match format {
        LogFormat::Docker => {
            LogTraits { timestamp_of: |line| docker::parse(line).map(|line| line.time_ns), rotated_by_others: false }
        }
        LogFormat::Text(_) => LogTraits { timestamp_of: |_| None, rotated_by_others: true },
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write as _;
    use std::path::PathBuf;
    use std::time::SystemTime;

    use super::*;

    const QUIET: Duration = Duration::from_secs(11);

    /// Text file that a log reader follows, and the messages so far.
    struct Followed {
        path: PathBuf,
        log: OpenLog,
        buffer: Vec<u8>,
        messages: Vec<String>,
    }

    impl Followed {
        fn start(name: &str) -> Self {
            let folder = std::env::temp_dir().join(format!("monlight-last-line-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&folder).unwrap();
            let path = folder.join("a.log");
            let format = LogFormat::Text(std::sync::Arc::default());
            let log = OpenLog::start(&path, &format, StartAt::Beginning, Instant::now()).unwrap();
            Self { path, log, buffer: Vec::new(), messages: Vec::new() }
        }

        /// Appends a text, which then is as old as `age`.
        fn append(&self, text: &str, age: Duration) {
            let mut file = File::options().create(true).append(true).open(&self.path).unwrap();
            file.write_all(text.as_bytes()).unwrap();
            file.set_modified(SystemTime::now() - age).unwrap();
        }

        /// Reads the file, as if this time had passed, and returns all messages so far.
        fn read_after(&mut self, time: Duration) -> String {
            let now = Instant::now() + time;
            self.log.read_batch(&mut self.buffer, now).unwrap();
            self.log.assembler.flush(now + Duration::from_secs(60));
            self.messages.extend(self.log.assembler.take_finished().into_iter().map(|record| record.message));
            self.messages.join("|")
        }

        /// Continues at the checkpoint.
        fn restart(&mut self) {
            let positions = self.log.tailer.positions().unwrap();
            let checkpoint = Checkpoint { positions, newest_ns: 0, pending_lines: Vec::new() };
            let format = LogFormat::Text(std::sync::Arc::default());
            self.log = OpenLog::resume(&self.path, &format, &checkpoint, Instant::now());
        }
    }

    impl Drop for Followed {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(self.path.parent().unwrap());
        }
    }

    #[test]
    fn a_last_line_without_a_newline_is_read_once_when_the_file_is_quiet() {
        let mut followed = Followed::start("quiet");
        followed.append("one\ntwo", Duration::ZERO);
        assert_eq!(followed.read_after(Duration::ZERO), "one");
        assert!(followed.log.deadline().is_some_and(|deadline| deadline <= Instant::now() + QUIET));
        assert_eq!(followed.read_after(QUIET), "one|two");
        assert_eq!(followed.read_after(2 * QUIET), "one|two");
        followed.restart();
        followed.append("\nthree", Duration::ZERO);
        assert_eq!(followed.read_after(Duration::ZERO), "one|two");
        assert_eq!(followed.read_after(QUIET), "one|two|three");
        followed.append(" and its rest\r\n\nfour\n", Duration::ZERO);
        assert_eq!(followed.read_after(Duration::ZERO), "one|two|three| and its rest\n|four");
    }

    #[test]
    fn the_only_line_of_a_file_may_have_no_newline() {
        let mut followed = Followed::start("only");
        followed.append("only", Duration::ZERO);
        assert_eq!(followed.read_after(QUIET), "", "the file is not quiet");
        followed.append("", QUIET);
        followed.read_after(Duration::ZERO);
        assert_eq!(followed.read_after(QUIET), "only");
        followed.append(" its rest\nnext\n", Duration::ZERO);
        followed.restart();
        assert_eq!(followed.read_after(Duration::ZERO), "only| its rest|next");
    }

    #[test]
    fn carriage_returns_end_the_lines_of_a_file_without_newlines() {
        let mut followed = Followed::start("returns");
        followed.append("one\rtwo\r", QUIET);
        followed.read_after(Duration::ZERO);
        assert_eq!(followed.read_after(QUIET), "one|two");
        followed.append("three\r", QUIET);
        followed.read_after(Duration::ZERO);
        assert_eq!(followed.read_after(QUIET), "one|two|three");
    }

    #[test]
    fn a_block_of_a_program_that_buffers_its_output_ends_no_line() {
        let mut followed = Followed::start("blocks");
        followed.append(&format!("{}\n{}", "x".repeat(4_000), "y".repeat(95)), QUIET);
        followed.read_after(Duration::ZERO);
        assert_eq!(followed.read_after(QUIET), "x".repeat(4_000));
        followed.append(" continued\n", QUIET);
        assert!(followed.read_after(Duration::ZERO).ends_with(&format!("|{} continued", "y".repeat(95))));
    }
}
