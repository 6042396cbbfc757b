//! Tailer for one log: reads each line once, through every rotation, from a checkpoint on.
//!
//! A log is one sequence of lines in several files, its rotation set. The tailer remembers only the file that it reads,
//! the offset, and the file before it. It finds out about rotations by inspecting the rotation set.

use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant, UNIX_EPOCH};

use super::checkpoint::{Checkpoint, LogPositions, Position};
use super::file_identity::{Fingerprint, Inode};
use super::line_splitter::{LineSplitter, RawLine};
use super::log_reader::{LogReader, ReadOutcome, is_corrupt};
use super::moved_files::MovedFile;
use super::replaced_files::{OpenFile, ReplacedFiles};
use super::rotated_names::RotatedFamily;
use super::rotation::{LogFile, LogNames, rotation_in_progress};

/// Size of one read. A batch can end only between two reads, so this bounds its size.
const READ_BYTES: usize = 32 * 1024;
/// Number of bytes and time after which a batch ends, although it has few entries, so that other logs have their turn.
const BATCH_READ_BYTES_MAX: usize = 1024 * 1024;
const BATCH_TIME_MAX: Duration = Duration::from_millis(50);
/// Maximum number of attempts to open a file that is rotated meanwhile. After that, the next batch tries again.
const ATTEMPTS_MAX: usize = 3;

/// Start of a log without a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StartAt {
    /// First line of the oldest file.
    Beginning,
    /// First line that starts within this number of bytes at the end of the log.
    Tail(u64),
}

/// Progress of [`LogTailer::read_batch`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BatchEnd {
    /// All complete lines were read.
    ReachedEof,
    /// There can be more lines.
    More,
}

/// Properties of a log that depend on its format.
#[derive(Debug, Clone, Copy)]
pub(super) struct LogTraits {
    /// Returns the timestamp of a line, in nanoseconds since 1970; `None` if it has none.
    pub(super) timestamp_of: fn(&[u8]) -> Option<i64>,
    /// Whether any program may rotate the files: to any name, and while others still write to them.
    pub(super) rotated_by_others: bool,
}

/// Tailer for the rotation set of one log.
pub(super) struct LogTailer {
    names: LogNames,
    traits: LogTraits,
    /// Position in the current file while it is not open; `None` until a file was opened.
    position: Option<Position>,
    /// Current file; `None` if it has to be located.
    open: Option<OpenFile>,
    /// File at the position that was truncated, so that its inode must not be taken for the same file.
    truncated: Option<Inode>,
    /// Whether the file had a successor before it was last read to its end, so that nothing follows.
    is_final_read: bool,
    /// Older files to which programs may still write.
    replaced: ReplacedFiles,
    /// Positions in such files, of a checkpoint, that were not opened yet.
    unopened: Vec<Position>,
    /// First lines of the files before the current one that were read or skipped, the newest first. Older files were as well.
    consumed: Vec<Fingerprint>,
    /// Latest timestamp read. Files that start earlier are taken as consumed if nothing else is known about them.
    newest_ns: Option<i64>,
    /// Whether no file was opened since the tailer continued at a checkpoint.
    is_resuming: bool,
    /// Number of times that files were gone or damaged before they could be read.
    missed_rotations: u64,
}

impl LogTailer {
    /// Creates a tailer for the log at `path` that continues at a checkpoint.
    pub(super) fn resume(path: &Path, traits: LogTraits, checkpoint: &Checkpoint) -> Self {
        let LogPositions { current, previous, replaced } = &checkpoint.positions;
        Self {
            position: Some(*current),
            unopened: replaced.clone(),
            consumed: Vec::from_iter(*previous),
            newest_ns: Some(checkpoint.newest_ns),
            is_resuming: true,
            ..Self::new(path, traits)
        }
    }

    /// Creates a tailer for a log that was never read.
    ///
    /// # Errors
    /// Returns an error if the rotation set cannot be read.
    pub(super) fn start(path: &Path, traits: LogTraits, start: StartAt) -> io::Result<Self> {
        let mut tailer = Self::new(path, traits);
        let StartAt::Tail(mut bytes_left) = start else { return Ok(tailer) };
        let files = tailer.names.rotation_set(None)?;
        for (index, file) in files.iter().enumerate() {
            let bytes = file.content_bytes()?;
            if bytes_left < bytes {
                // Starts one byte earlier, because the first line is discarded. If a line starts exactly at the requested
                // offset, this byte is the newline before it.
                let offset = bytes - bytes_left - 1;
                let reader = file.open(offset)?.ok_or_else(rotation_in_progress)?;
                tailer.switch_to(reader, &files[index..], offset);
                if let Some(open) = &mut tailer.open {
                    open.splitter = LineSplitter::within_line();
                }
                break;
            }
            bytes_left -= bytes;
        }
        Ok(tailer)
    }

    fn new(path: &Path, traits: LogTraits) -> Self {
        Self {
            names: LogNames { path: path.to_owned(), family: None },
            traits,
            position: None,
            open: None,
            truncated: None,
            is_final_read: false,
            replaced: ReplacedFiles::default(),
            unopened: Vec::new(),
            consumed: Vec::new(),
            newest_ns: None,
            is_resuming: false,
            missed_rotations: 0,
        }
    }

    /// Returns the positions for a checkpoint, which are the ends of the last emitted lines. Returns `None` until a file was
    /// opened.
    pub(super) fn positions(&self) -> Option<LogPositions> {
        let replaced = [self.unopened.clone(), self.replaced.positions()].concat();
        Some(LogPositions { current: self.position()?, previous: self.consumed.first().copied(), replaced })
    }

    fn position(&self) -> Option<Position> {
        self.open.as_ref().map(|open| open.position).or(self.position)
    }

    /// Returns how often files were gone before they could be read, since the last call.
    pub(super) fn take_missed_rotations(&mut self) -> u64 {
        std::mem::take(&mut self.missed_rotations)
    }

    /// Returns the end of a last line without a newline, in bytes, and when it changed; `None` if there is none.
    pub(super) fn last_line_end(&self) -> Option<(u64, Instant)> {
        let open = self.open.as_ref()?;
        open.splitter.last_line().map(|(bytes, changed_at)| (open.position.offset + bytes, changed_at))
    }

    /// Emits the last line of the file, although it has no newline.
    pub(super) fn emit_last_line(&mut self, emit: &mut impl FnMut(RawLine<'_>) -> ControlFlow<()>) {
        if let Some(open) = &mut self.open {
            open.emit_last_line(emit);
        }
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
        if !self.unopened.is_empty() {
            self.open_replaced_files(emit)?;
        }
        loop {
            if read_bytes >= BATCH_READ_BYTES_MAX || started.elapsed() >= BATCH_TIME_MAX {
                return Ok(BatchEnd::More);
            }
            let (read, flow) = self.read_replaced_files(buffer, emit);
            if flow.is_break() {
                return Ok(BatchEnd::More);
            }
            if read > 0 {
                read_bytes += read;
                continue;
            }
            let Some(open) = &mut self.open else {
                if self.open_current()? {
                    continue;
                }
                return Ok(BatchEnd::ReachedEof);
            };
            match open.read(buffer, emit) {
                Ok((ReadOutcome::Hole(_), _)) => {}
                Ok((ReadOutcome::Bytes(read), flow)) => {
                    read_bytes += read;
                    if flow.is_break() {
                        return Ok(BatchEnd::More);
                    }
                }
                Ok((ReadOutcome::Truncated, _)) => {
                    self.truncated = Some(open.reader.inode());
                    self.close_current();
                }
                Ok((ReadOutcome::Eof, _)) => {
                    let (reader, active) = (&open.reader, Inode::at(&self.names.path)?);
                    let is_active = !reader.compressed() && active.is_none_or(|active| active == reader.inode());
                    if is_active || !self.advance_to_next_file(emit)? {
                        return Ok(BatchEnd::ReachedEof);
                    }
                }
                Err(why) if open.reader.compressed() && is_corrupt(&why) => {
                    if !std::mem::replace(&mut self.is_final_read, true) {
                        log::warn!(
                            "log-ingester: failed to decompress a rotated file of {}: {why}; skipping its rest",
                            self.names.path.display()
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

    /// Opens the replaced files of a checkpoint. A file that is gone counts as missed.
    fn open_replaced_files(&mut self, emit: &mut impl FnMut(RawLine<'_>) -> ControlFlow<()>) -> io::Result<()> {
        let files = self.names.rotation_set(None)?;
        while let Some(position) = self.unopened.first() {
            let mut found = None;
            for file in &files {
                if found.is_none() && !file.active && file.contains(position)? {
                    found = Some(file.clone());
                }
            }
            if found.is_none() {
                found = MovedFile { log: &self.names.path, position, open: None }.find()?;
            }
            match found.map(|file| file.open(position.offset)).transpose()?.flatten() {
                Some(reader) => self.replaced.push(OpenFile::new(reader, *position), emit),
                None => self.missed_rotations += 1,
            }
            self.unopened.remove(0);
        }
        Ok(())
    }

    /// Reads the replaced files once. Returns the number of bytes read and the result of the last call of `emit`.
    fn read_replaced_files(
        &mut self,
        buffer: &mut [u8],
        emit: &mut impl FnMut(RawLine<'_>) -> ControlFlow<()>,
    ) -> (usize, ControlFlow<()>) {
        self.replaced.read(buffer, emit).unwrap_or_else(|why| {
            let path = self.names.path.display();
            log::warn!("log-ingester: failed to read a rotated file of {path}: {why}; skipping its rest");
            self.missed_rotations += 1;
            (0, ControlFlow::Continue(()))
        })
    }

    /// Opens the file at the position, or the next unread file if it is gone. Returns whether there is one.
    fn open_current(&mut self) -> io::Result<bool> {
        for _ in 0..ATTEMPTS_MAX {
            let (files, current) = self.locate_current()?;
            let index = match current {
                Some(current) => Some(current),
                None => self.next_unread(&files)?,
            };
            let Some(index) = index else { return Ok(false) };
            let offset = self.position.filter(|_| current.is_some()).map_or(0, |position| position.offset);
            if let Some(reader) = files[index].open(offset)? {
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
            let (files, current) = self.locate_current()?;
            let (index, offset) = match current {
                // A copy of the file, with all that was read, has replaced it.
                Some(0) if files[0].active => (Some(0), self.position().map_or(0, |position| position.offset)),
                Some(current) => (current.checked_sub(1), 0),
                None => (self.next_unread(&files)?, 0),
            };
            let Some(index) = index else { return Ok(false) };
            // The program has opened a new file. Lines that it wrote to the old one until then are read first.
            if !std::mem::replace(&mut self.is_final_read, true) {
                return Ok(true);
            }
            if let Some(reader) = files[index].open(offset)? {
                self.missed_rotations += u64::from(current.is_none() && self.is_rotation_missed(&files, index));
                match self.close_current() {
                    Some(mut open) if self.traits.rotated_by_others && !open.reader.compressed() => {
                        if offset > 0 {
                            open.splitter.leave_partial_line();
                        }
                        self.replaced.push(open, emit);
                    }
                    Some(open) => open.finish(emit),
                    None => {}
                }
                self.switch_to(reader, &files[index..], offset);
                return Ok(true);
            }
        }
        Err(rotation_in_progress())
    }

    /// Returns the rotation set, and the index of the file at the position.
    fn locate_current(&mut self) -> io::Result<(Vec<LogFile>, Option<usize>)> {
        let position = self.position();
        let files = self.unreplaced_files(position.as_ref())?;
        let current = self.index_of_current(&files)?;
        let is_moved = current.is_none() && !files.is_empty() && self.traits.rotated_by_others;
        let Some(position) = position.filter(|position| is_moved && position.first_line.bytes > 0) else {
            return Ok((files, current));
        };
        let open = self.open.as_ref().map(|open| open.reader.inode());
        let Some(moved) = (MovedFile { log: &self.names.path, position: &position, open }).find()? else {
            return Ok((files, None));
        };
        self.names.family = RotatedFamily::of(&moved.path);
        let files = self.unreplaced_files(Some(&position))?;
        let current = self.index_of_current(&files)?;
        Ok((files, current))
    }

    /// Returns the rotation set without the replaced files, which have a position of their own.
    fn unreplaced_files(&self, position: Option<&Position>) -> io::Result<Vec<LogFile>> {
        let mut files = self.names.rotation_set(position)?;
        files.retain(|file| !self.replaced.contains(file.inode));
        Ok(files)
    }

    /// Returns the index of the file at the position.
    fn index_of_current(&self, files: &[LogFile]) -> io::Result<Option<usize>> {
        let Some(position) = self.position() else { return Ok(None) };
        let open = self.open.as_ref().map(|open| open.reader.inode());
        if let Some(index) = files.iter().position(|file| Some(file.inode) == open) {
            return Ok(Some(index));
        }
        let mut current = None;
        for (index, file) in files.iter().enumerate() {
            let same_inode = file.inode.number() == position.inode;
            if self.truncated == Some(file.inode) || !(file.contains(&position)?) {
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
        let newest_consumed = files.iter().position(|file| self.consumed.contains(&file.first_line));
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
        let mut consumed: Vec<_> = files[unread..].iter().map(|file| file.first_line).collect();
        self.consumed.retain(|first_line| !consumed.contains(first_line));
        consumed.append(&mut self.consumed);
        self.consumed = consumed;
        Ok(unread.checked_sub(1))
    }

    /// Returns whether lines before a file can be missing, when the file at the position is gone. After a restart, nobody
    /// knows what it had behind the position. Otherwise it was open, and the oldest files are deleted first, so no line is
    /// missing if a consumed file is left.
    fn is_rotation_missed(&self, files: &[LogFile], index: usize) -> bool {
        self.position().is_some() && (self.is_resuming || index > 0 && index + 1 == files.len())
    }

    /// Returns the timestamp of a file's first line, or the time of its last change if lines have no timestamps. In
    /// nanoseconds since 1970.
    fn start_ns(&self, file: &LogFile) -> io::Result<i64> {
        if let Some(timestamp_ns) = (self.traits.timestamp_of)(&file.read_first_line()?) {
            return Ok(timestamp_ns);
        }
        let since_1970 = file.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(i64::try_from(since_1970.as_nanos()).unwrap_or(i64::MAX))
    }

    /// Switches to the first of `files`. The others are the files before it, the newest first.
    fn switch_to(&mut self, reader: LogReader, files: &[LogFile], offset: u64) {
        let Some((file, older)) = files.split_first() else { return };
        let previous = self.position.map(|position| position.first_line);
        let previous = previous.filter(|previous| *previous != file.first_line && previous.bytes > 0);
        if previous.is_some() || !older.is_empty() {
            self.consumed = older.iter().map(|file| file.first_line).chain(previous).collect();
        }
        let (first_line, inode, preceding) = (file.first_line, file.inode.number(), reader.fingerprint_behind(&[]));
        self.open = Some(OpenFile::new(reader, Position { first_line, inode, offset, preceding }));
        (self.is_final_read, self.is_resuming) = (false, false);
        (self.truncated, self.newest_ns) = (None, None);
    }

    /// Closes the current file and returns it. Its partial line is read again if it is opened again.
    fn close_current(&mut self) -> Option<OpenFile> {
        let open = self.open.take()?;
        self.position = Some(open.position);
        self.is_final_read = false;
        Some(open)
    }
}

#[cfg(test)]
#[path = "tailer_tests.rs"]
mod tests;
