//! Tailer for one log: reads each line once, through every rotation, from a checkpoint on.
//!
//! A log is one sequence of lines in several files, its rotation set. The tailer remembers only the file that it reads,
//! the offset, and the file before it. It finds out about rotations by inspecting the rotation set.

use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, UNIX_EPOCH};

use super::rotation::{
    FileFingerprint, Inode, LogFile, LogReader, ReadOutcome, is_corrupt, rotation_in_progress, rotation_set,
};

/// Maximum length of a line in the file, in bytes; longer ones are truncated. Docker's lines contain at most 16 KiB of
/// text, each byte of which takes up to six.
const LINE_BYTES_MAX: usize = 1024 * 1024;
/// Size of one read. A batch can end only between two reads, so this bounds its size.
const READ_BYTES: usize = 32 * 1024;
/// Number of bytes and time after which a batch ends, although it has few entries, so that other logs have their turn.
const BATCH_READ_BYTES_MAX: usize = 1024 * 1024;
const BATCH_TIME_MAX: Duration = Duration::from_millis(50);
/// Maximum number of attempts to open a file that is rotated meanwhile. After that, the next batch tries again.
const ATTEMPTS_MAX: usize = 3;

/// Position in a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Position {
    /// Fingerprint of the file. With a length of 0 it is unknown, and the file is identified by its inode number alone.
    pub(super) file: FileFingerprint,
    /// Inode number when the file was read. It distinguishes files with the same first line.
    pub(super) inode: u64,
    /// Uncompressed offset, in bytes.
    pub(super) offset: u64,
}

/// State of a log that is stored together with its entries, to continue after a restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Checkpoint {
    pub(super) position: Position,
    /// Fingerprint of the file before the current one, if there was one.
    pub(super) previous_file: Option<FileFingerprint>,
    /// Latest timestamp read, in nanoseconds since 1970.
    pub(super) newest_ns: i64,
    /// Lines before the position that are not stored, because further lines could belong to their entry. Each ends with
    /// `\n`.
    pub(super) pending_lines: Vec<u8>,
}

/// Start of a log without a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StartAt {
    /// First line of the oldest file.
    Beginning,
    /// First line that starts within this number of bytes at the end of the log.
    Tail(u64),
}

/// One line of a file.
pub(super) struct RawLine<'a> {
    /// Content without the `\n`, truncated to 1 MiB.
    pub(super) bytes: &'a [u8],
    /// Number of bytes that were cut off.
    pub(super) truncated_bytes: u64,
}

/// Progress of [`LogTailer::read_batch`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BatchEnd {
    /// All complete lines were read.
    ReachedEof,
    /// There can be more lines.
    More,
}

/// Function that returns the timestamp of a line, in nanoseconds since 1970; `None` if it has none.
pub(super) type TimestampOf = fn(&[u8]) -> Option<i64>;

/// Tailer for the rotation set of one log.
pub(super) struct LogTailer {
    path: PathBuf,
    timestamp_of: TimestampOf,
    /// End of the last emitted line; `None` until a file was opened.
    position: Option<Position>,
    /// Open file at the position; `None` if it has to be located.
    reader: Option<LogReader>,
    /// File at the position that was truncated, so that its inode must not be taken for the same file.
    truncated: Option<Inode>,
    /// Bytes after the position, which have no newline yet.
    partial_line: Vec<u8>,
    /// Number of bytes of the partial line beyond [`LINE_BYTES_MAX`].
    truncated_bytes: u64,
    /// Time of the last change of the partial line.
    partial_line_at: Instant,
    /// Whether the position is after a line without a newline, so that the newline may follow.
    is_within_line: bool,
    /// Number of bytes in holes of the file before the end of the partial line. They belong to no line.
    hole_bytes: u64,
    /// Whether the file had a successor before it was last read to its end, so that nothing follows.
    is_final_read: bool,
    /// Whether the next line is incomplete, because reading started within it.
    discard_first_line: bool,
    /// Files before the current one that were read or skipped, the newest first. Older files were as well.
    consumed: Vec<FileFingerprint>,
    /// Latest timestamp read. Files that start earlier are taken as consumed if nothing else is known about them.
    newest_ns: Option<i64>,
    /// Number of times that files were gone or damaged before they could be read.
    missed_rotations: u64,
}

impl LogTailer {
    /// Creates a tailer for the log at `path` that continues at a checkpoint.
    pub(super) fn resume(path: &Path, timestamp_of: TimestampOf, checkpoint: &Checkpoint) -> Self {
        Self {
            position: Some(checkpoint.position),
            consumed: Vec::from_iter(checkpoint.previous_file),
            newest_ns: Some(checkpoint.newest_ns),
            ..Self::new(path, timestamp_of)
        }
    }

    /// Creates a tailer for a log that was never read.
    ///
    /// # Errors
    /// Returns an error if the rotation set cannot be read.
    pub(super) fn start(path: &Path, timestamp_of: TimestampOf, start: StartAt) -> io::Result<Self> {
        let mut tailer = Self::new(path, timestamp_of);
        let StartAt::Tail(mut bytes_left) = start else { return Ok(tailer) };
        let files = rotation_set(path)?;
        for (index, file) in files.iter().enumerate() {
            let bytes = file.content_bytes()?;
            if bytes_left < bytes {
                // Starts one byte earlier, because the first line is discarded. If a line starts exactly at the requested
                // offset, this byte is the newline before it.
                let offset = bytes - bytes_left - 1;
                let reader = LogReader::open(file, offset)?.ok_or_else(rotation_in_progress)?;
                tailer.switch_to(reader, &files[index..], offset);
                tailer.discard_first_line = true;
                break;
            }
            bytes_left -= bytes;
        }
        Ok(tailer)
    }

    fn new(path: &Path, timestamp_of: TimestampOf) -> Self {
        Self {
            path: path.to_owned(),
            timestamp_of,
            position: None,
            reader: None,
            truncated: None,
            partial_line: Vec::new(),
            truncated_bytes: 0,
            partial_line_at: Instant::now(),
            is_within_line: false,
            hole_bytes: 0,
            is_final_read: false,
            discard_first_line: false,
            consumed: Vec::new(),
            newest_ns: None,
            missed_rotations: 0,
        }
    }

    /// Returns the position for a checkpoint, which is the end of the last emitted line, and the fingerprint of the file
    /// before the current one. Returns `None` until a file was opened.
    pub(super) fn checkpoint(&self) -> Option<(Position, Option<FileFingerprint>)> {
        self.position.map(|position| (position, self.consumed.first().copied()))
    }

    /// Returns how often files were gone before they could be read, since the last call.
    pub(super) fn take_missed_rotations(&mut self) -> u64 {
        std::mem::take(&mut self.missed_rotations)
    }

    /// Reads complete lines and passes them to `emit`, until there are no more, until `emit` breaks for the last line of a
    /// read, or for a megabyte or 50 ms.
    ///
    /// # Errors
    /// Returns an error if a file cannot be read. The lines that were emitted before remain valid.
    pub(super) fn read_batch(
        &mut self,
        buffer: &mut Vec<u8>,
        emit: &mut impl FnMut(RawLine<'_>) -> ControlFlow<()>,
    ) -> io::Result<BatchEnd> {
        buffer.resize(READ_BYTES, 0);
        let (started, mut read_bytes) = (Instant::now(), 0);
        loop {
            if read_bytes >= BATCH_READ_BYTES_MAX || started.elapsed() >= BATCH_TIME_MAX {
                return Ok(BatchEnd::More);
            }
            let Some(reader) = &mut self.reader else {
                if self.open_current()? {
                    continue;
                }
                return Ok(BatchEnd::ReachedEof);
            };
            match reader.read(buffer) {
                Ok(ReadOutcome::Hole(bytes)) => self.hole_bytes += bytes,
                Ok(ReadOutcome::Bytes(read)) => {
                    read_bytes += read;
                    if self.split_lines(&buffer[..read], emit).is_break() {
                        return Ok(BatchEnd::More);
                    }
                }
                Ok(ReadOutcome::Truncated) => {
                    self.truncated = Some(reader.inode());
                    self.close_current();
                }
                Ok(ReadOutcome::Eof) => {
                    let is_active =
                        !reader.compressed() && Inode::at(&self.path)?.is_none_or(|active| active == reader.inode());
                    if is_active || !self.advance_to_next_file(emit)? {
                        return Ok(BatchEnd::ReachedEof);
                    }
                }
                Err(why) if reader.compressed() && is_corrupt(&why) => {
                    if !std::mem::replace(&mut self.is_final_read, true) {
                        log::warn!(
                            "log-ingester: failed to decompress a rotated file of {}: {why}; skipping its rest",
                            self.path.display()
                        );
                        self.missed_rotations += 1;
                    }
                    if !self.advance_to_next_file(emit)? {
                        return Ok(BatchEnd::ReachedEof);
                    }
                }
                Err(why) => return Err(why),
            }
        }
    }

    /// Opens the file at the position, or the next unread file if it is gone. Returns whether there is one.
    fn open_current(&mut self) -> io::Result<bool> {
        for _ in 0..ATTEMPTS_MAX {
            let files = rotation_set(&self.path)?;
            let current = self.locate_current(&files)?;
            let index = match current {
                Some(current) => Some(current),
                None => self.next_unread(&files)?,
            };
            let Some(index) = index else { return Ok(false) };
            let offset = self.position.filter(|_| current.is_some()).map_or(0, |position| position.offset);
            if let Some(reader) = LogReader::open(&files[index], offset)? {
                self.missed_rotations += u64::from(current.is_none() && self.is_rotation_missed(&files, index));
                self.switch_to(reader, &files[index..], offset);
                return Ok(true);
            }
        }
        Err(rotation_in_progress())
    }

    /// Advances from the end of the current file to the one after it. Returns whether there is one.
    fn advance_to_next_file(&mut self, emit: &mut impl FnMut(RawLine<'_>) -> ControlFlow<()>) -> io::Result<bool> {
        for _ in 0..ATTEMPTS_MAX {
            let files = rotation_set(&self.path)?;
            let current = self.locate_current(&files)?;
            let index = match current {
                Some(current) => current.checked_sub(1),
                None => self.next_unread(&files)?,
            };
            let Some(index) = index else { return Ok(false) };
            // The program has opened a new file. Lines that it wrote to the old one until then are read first.
            if !std::mem::replace(&mut self.is_final_read, true) {
                return Ok(true);
            }
            if let Some(reader) = LogReader::open(&files[index], 0)? {
                self.emit_partial_line(emit);
                self.missed_rotations += u64::from(current.is_none() && self.is_rotation_missed(&files, index));
                self.switch_to(reader, &files[index..], 0);
                return Ok(true);
            }
        }
        Err(rotation_in_progress())
    }

    /// Returns the index of the file at the position.
    fn locate_current(&self, files: &[LogFile]) -> io::Result<Option<usize>> {
        let Some(position) = self.position else { return Ok(None) };
        let mut current = None;
        for (index, file) in files.iter().enumerate() {
            let same_inode = file.inode.number() == position.inode;
            let same = if position.file.bytes == 0 { same_inode } else { file.has_fingerprint(position.file)? };
            // A compressed file is complete, and its length is only known modulo 2^32.
            let is_long_enough = || Ok::<_, io::Error>(file.compressed || file.content_bytes()? >= position.offset);
            if !same || self.truncated == Some(file.inode) || !is_long_enough()? {
                continue;
            }
            if same_inode {
                return Ok(Some(index));
            }
            current = current.or(Some(index));
        }
        Ok(current)
    }

    /// Returns the index of the oldest file that is not known to be consumed, when the file at the position is gone. Adds
    /// the consumed files to `consumed`, because files can be removed in any order.
    fn next_unread(&mut self, files: &[LogFile]) -> io::Result<Option<usize>> {
        let mut unread = files.len();
        let newest_consumed = files.iter().position(|file| self.consumed.contains(&file.fingerprint));
        match (newest_consumed, self.newest_ns) {
            (Some(newest_consumed), _) => unread = newest_consumed,
            (None, Some(newest_ns)) if self.consumed.is_empty() => {
                for (index, file) in files.iter().enumerate().rev() {
                    if self.start_ns(file)? > newest_ns {
                        break;
                    }
                    unread = index;
                }
            }
            (None, _) => {}
        }
        // The active file cannot be consumed. It can start with the same line as one that is.
        unread = unread.max(usize::from(files.first().is_some_and(|newest| newest.active)));
        let mut consumed: Vec<_> = files[unread..].iter().map(|file| file.fingerprint).collect();
        self.consumed.retain(|fingerprint| !consumed.contains(fingerprint));
        consumed.append(&mut self.consumed);
        self.consumed = consumed;
        Ok(unread.checked_sub(1))
    }

    /// Returns whether lines before a file can be missing, when the file at the position is gone. The oldest files are
    /// deleted first, so no line is missing if a consumed file is left.
    fn is_rotation_missed(&self, files: &[LogFile], index: usize) -> bool {
        self.position.is_some() && index > 0 && index + 1 == files.len()
    }

    /// Returns the timestamp of a file's first line, or the time of its last change if lines have no timestamps. In
    /// nanoseconds since 1970.
    fn start_ns(&self, file: &LogFile) -> io::Result<i64> {
        if let Some(timestamp_ns) = (self.timestamp_of)(&file.first_line()?) {
            return Ok(timestamp_ns);
        }
        let since_1970 = file.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(i64::try_from(since_1970.as_nanos()).unwrap_or(i64::MAX))
    }

    /// Switches to the first of `files`. The others are the files before it, the newest first.
    fn switch_to(&mut self, reader: LogReader, files: &[LogFile], offset: u64) {
        let Some((file, older)) = files.split_first() else { return };
        let previous = self.position.map(|position| position.file);
        let previous = previous.filter(|previous| *previous != file.fingerprint && previous.bytes > 0);
        if previous.is_some() || !older.is_empty() {
            self.consumed = older.iter().map(|file| file.fingerprint).chain(previous).collect();
        }
        self.position = Some(Position { file: file.fingerprint, inode: file.inode.number(), offset });
        self.close_current();
        self.is_within_line = reader.is_within_line();
        self.truncated = None;
        self.newest_ns = None;
        self.reader = Some(reader);
    }

    /// Closes the current file and discards its partial line.
    fn close_current(&mut self) {
        self.reader = None;
        self.partial_line.clear();
        self.truncated_bytes = 0;
        self.hole_bytes = 0;
        self.is_final_read = false;
    }

    /// Emits the complete lines of one read and keeps the rest as the partial line. Returns the result of the last call
    /// of `emit`.
    fn split_lines(
        &mut self,
        mut bytes: &[u8],
        emit: &mut impl FnMut(RawLine<'_>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let mut flow = ControlFlow::Continue(());
        while let Some(end) = memchr::memchr(b'\n', bytes) {
            flow = self.emit_line(&bytes[..end], emit);
            bytes = &bytes[end + 1..];
        }
        if !bytes.is_empty() {
            self.partial_line_at = Instant::now();
        }
        let room = LINE_BYTES_MAX.saturating_sub(self.partial_line.len());
        self.partial_line.extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.truncated_bytes += bytes.len().saturating_sub(room) as u64;
        flow
    }

    /// Emits the partial line followed by `rest` as one line.
    fn emit_line(&mut self, rest: &[u8], emit: &mut impl FnMut(RawLine<'_>) -> ControlFlow<()>) -> ControlFlow<()> {
        if let Some(position) = &mut self.position {
            let skipped = self.truncated_bytes + std::mem::take(&mut self.hole_bytes);
            position.offset += self.partial_line.len() as u64 + skipped + rest.len() as u64 + 1;
        }
        let mut truncated_bytes = std::mem::take(&mut self.truncated_bytes);
        let joined;
        let bytes = if self.partial_line.is_empty() {
            rest
        } else {
            let room = LINE_BYTES_MAX.saturating_sub(self.partial_line.len());
            truncated_bytes += rest.len().saturating_sub(room) as u64;
            self.partial_line.extend_from_slice(&rest[..rest.len().min(room)]);
            joined = std::mem::take(&mut self.partial_line);
            joined.as_slice()
        };
        let ends_emitted_line = std::mem::take(&mut self.is_within_line) && matches!(bytes, b"" | b"\r");
        if std::mem::take(&mut self.discard_first_line) || ends_emitted_line {
            return ControlFlow::Continue(());
        }
        emit(RawLine { bytes, truncated_bytes })
    }

    /// Returns the end of a last line without a newline, in bytes, and when it changed; `None` if there is none.
    pub(super) fn last_line_end(&self) -> Option<(u64, Instant)> {
        let offset = self.position.filter(|_| !self.partial_line.is_empty())?.offset;
        let end = offset + self.hole_bytes + self.truncated_bytes + self.partial_line.len() as u64;
        Some((end, self.partial_line_at))
    }

    /// Emits the last line of the file, although it has no newline. If it ends with a carriage return, these end its lines.
    pub(super) fn emit_last_line(&mut self, emit: &mut impl FnMut(RawLine<'_>) -> ControlFlow<()>) {
        let Some(position) = &mut self.position else { return };
        let truncated_bytes = std::mem::take(&mut self.truncated_bytes);
        let bytes = std::mem::take(&mut self.partial_line);
        position.offset += std::mem::take(&mut self.hole_bytes) + truncated_bytes + bytes.len() as u64;
        self.is_within_line = true;
        let lines = bytes.strip_suffix(b"\r").unwrap_or(&bytes);
        if lines.len() == bytes.len() {
            let _ = emit(RawLine { bytes: &bytes, truncated_bytes });
            return;
        }
        for bytes in lines.split(|byte| *byte == b'\r') {
            let _ = emit(RawLine { bytes, truncated_bytes: 0 });
        }
    }

    /// Emits the partial line at the end of a rotated file, because its newline will not follow.
    fn emit_partial_line(&mut self, emit: &mut impl FnMut(RawLine<'_>) -> ControlFlow<()>) {
        if !self.partial_line.is_empty() {
            // If the batch should end, `emit` breaks again at the next line.
            let _ = self.emit_line(&[], emit);
        }
    }
}

#[cfg(test)]
#[path = "tailer_tests.rs"]
mod tests;
