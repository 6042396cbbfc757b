//! Files that were rotated while programs still wrote to them.
//!
//! After a rotation by renaming, a program writes to the old file until it reopens its log. The processes of nginx do that one
//! after the other, others after seconds. So an old file stays open until nothing was written to it for a while.

use std::io;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use super::checkpoint::Position;
use super::file_identity::Inode;
use super::line_splitter::{LineSplitter, RawLine};
use super::log_reader::{LogReader, ReadOutcome};

/// Maximum number of replaced files of one log that are open.
const REPLACED_FILES_MAX: usize = 4;
/// Time without new lines after which a replaced file is closed.
const QUIET_TIME_MAX: Duration = Duration::from_secs(60);

/// File that is being read, with the position of the next line.
pub(super) struct OpenFile {
    pub(super) reader: LogReader,
    pub(super) position: Position,
    pub(super) splitter: LineSplitter,
}

impl OpenFile {
    /// Returns a file that is read from a position on.
    pub(super) fn new(reader: LogReader, position: Position) -> Self {
        let splitter = LineSplitter::after_line(reader.is_within_line());
        Self { reader, position, splitter }
    }

    /// Reads once, and emits the lines. Also returns the result of the last call of `emit`.
    pub(super) fn read(
        &mut self,
        buffer: &mut [u8],
        emit: &mut impl FnMut(RawLine<'_>) -> ControlFlow<()>,
    ) -> io::Result<(ReadOutcome, ControlFlow<()>)> {
        let Self { reader, position, splitter } = self;
        let outcome = reader.read(buffer)?;
        let mut flow = ControlFlow::Continue(());
        match outcome {
            ReadOutcome::Bytes(read) => {
                let bytes = &buffer[..read];
                if let Some(end) = memchr::memrchr(b'\n', bytes) {
                    position.preceding = reader.fingerprint_behind(&bytes[..=end]);
                }
                flow = splitter.push(bytes, &mut position.offset, emit);
                reader.advance(bytes);
            }
            ReadOutcome::Hole(bytes) => splitter.skip_hole(bytes),
            ReadOutcome::Eof | ReadOutcome::Truncated => {}
        }
        Ok((outcome, flow))
    }

    /// Emits the last line of the file, although it has no newline.
    pub(super) fn emit_last_line(&mut self, emit: &mut impl FnMut(RawLine<'_>) -> ControlFlow<()>) {
        let Self { reader, position, splitter } = self;
        splitter.emit_last_line(&mut position.offset, emit);
        position.preceding = reader.fingerprint_behind(&[]);
    }

    /// Emits the partial line at the end of the file, because its newline will not follow.
    pub(super) fn finish(mut self, emit: &mut impl FnMut(RawLine<'_>) -> ControlFlow<()>) {
        // If the batch should end, `emit` breaks again at the next line.
        let _ = self.splitter.finish(&mut self.position.offset, emit);
    }
}

/// Replaced files of one log.
#[derive(Default)]
pub(super) struct ReplacedFiles {
    /// The oldest first, with the times at which they last grew.
    files: Vec<(OpenFile, Instant)>,
}

impl ReplacedFiles {
    /// Adds a file that was read to its end. If there are too many, the oldest is closed.
    pub(super) fn push(&mut self, file: OpenFile, emit: &mut impl FnMut(RawLine<'_>) -> ControlFlow<()>) {
        if self.files.len() == REPLACED_FILES_MAX {
            self.files.remove(0).0.finish(emit);
        }
        self.files.push((file, Instant::now()));
    }

    /// Returns the positions in all files, the oldest first.
    pub(super) fn positions(&self) -> Vec<Position> {
        self.files.iter().map(|(file, _)| file.position).collect()
    }

    /// Returns whether one of the files has this inode.
    pub(super) fn contains(&self, inode: Inode) -> bool {
        self.files.iter().any(|(file, _)| file.reader.inode() == inode)
    }

    /// Reads a file that has grown once. Closes files that have been quiet for long. Returns the number of bytes read, 0 if
    /// no file has grown, and the result of the last call of `emit`.
    ///
    /// # Errors
    /// Returns an error if a file cannot be read. The file is then closed.
    pub(super) fn read(
        &mut self,
        buffer: &mut [u8],
        emit: &mut impl FnMut(RawLine<'_>) -> ControlFlow<()>,
    ) -> io::Result<(usize, ControlFlow<()>)> {
        let mut index = 0;
        while let Some((file, grown_at)) = self.files.get_mut(index) {
            let read = file.read(buffer, emit);
            match read {
                Ok((ReadOutcome::Bytes(bytes), flow)) => {
                    *grown_at = Instant::now();
                    return Ok((bytes, flow));
                }
                Ok((ReadOutcome::Hole(_), _)) => {}
                Ok((ReadOutcome::Eof, _)) if grown_at.elapsed() < QUIET_TIME_MAX => index += 1,
                Ok(_) => self.files.remove(index).0.finish(emit),
                Err(why) => {
                    self.files.remove(index).0.finish(emit);
                    return Err(why);
                }
            }
        }
        Ok((0, ControlFlow::Continue(())))
    }
}
