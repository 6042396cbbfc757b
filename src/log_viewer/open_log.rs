//! Reader for an open log: the tailer for its files, and the assembler for its entries.

use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use super::discovery::LogFormat;
use super::entry_assembler::EntryAssembler;
use super::parse::docker;
use super::rotation::rotation_set;
use super::tailer::{BatchEnd, Checkpoint, LogTailer, StartAt, TimestampOf};

/// Maximum number of entries in a batch, exceeded at most by those of one read.
const BATCH_ENTRIES_MAX: usize = 1_000;
/// Maximum total length of the messages in a batch, exceeded at most by those of one read.
const BATCH_BYTES_MAX: usize = 512 * 1024;

/// Reader for one log.
pub(super) struct OpenLog {
    pub(super) tailer: LogTailer,
    pub(super) assembler: EntryAssembler,
}

impl OpenLog {
    /// Opens a log at a checkpoint.
    pub(super) fn resume(path: &Path, format: LogFormat, checkpoint: &Checkpoint, now: Instant) -> Self {
        Self {
            tailer: LogTailer::resume(path, timestamp_of(format), checkpoint),
            assembler: EntryAssembler::new(format, &checkpoint.pending_lines, checkpoint.newest_ns, now),
        }
    }

    /// Opens a log that was never read.
    pub(super) fn start(path: &Path, format: LogFormat, start: StartAt, now: Instant) -> io::Result<Self> {
        Ok(Self {
            tailer: LogTailer::start(path, timestamp_of(format), start)?,
            assembler: EntryAssembler::new(format, &[], 0, now),
        })
    }

    /// Reads lines until the end of the log or the size of a batch. The assembler then has the finished entries.
    pub(super) fn read_batch(&mut self, buffer: &mut Vec<u8>, now: Instant) -> io::Result<BatchEnd> {
        let Self { tailer, assembler } = self;
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
            assembler.flush(now);
        }
        Ok(progress)
    }
}

/// Returns whether the oldest line of a log is newer than a time in nanoseconds since 1970.
pub(super) fn starts_after(path: &Path, format: LogFormat, time_ns: i64) -> io::Result<bool> {
    let files = rotation_set(path)?;
    let Some(oldest) = files.last() else { return Ok(true) };
    Ok(timestamp_of(format)(&oldest.first_line()?).is_some_and(|start_ns| start_ns > time_ns))
}

fn timestamp_of(format: LogFormat) -> TimestampOf {
    match format {
        LogFormat::Docker => |line| docker::parse(line).map(|line| line.time_ns),
        LogFormat::Text => |_| None,
    }
}
