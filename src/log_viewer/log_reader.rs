//! Reader for one log file, plain or compressed with gzip.

use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use flate2::bufread::MultiGzDecoder;
use rustix::fs::SeekFrom;
use rustix::io::Errno;

use super::checkpoint::Position;
use super::file_identity::{Fingerprint, Inode, PRECEDING_BYTES_MAX};
use super::safe_open::open_file;

const DECOMPRESS_BUFFER_BYTES: usize = 16 * 1024;

/// Reader for one file. It keeps the file open, so that a file that was rotated or deleted can be read to its end.
pub(super) struct LogReader {
    content: Content,
    inode: Inode,
    first_line: Fingerprint,
    /// Uncompressed offset of the next byte.
    offset: u64,
    /// The bytes before the offset, at most [`PRECEDING_BYTES_MAX`]. If the file no longer has them, it was truncated and
    /// written again.
    preceding: Vec<u8>,
}

enum Content {
    Plain(File),
    Compressed(Box<MultiGzDecoder<BufReader<File>>>),
}

/// Outcome of a read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ReadOutcome {
    /// Number of bytes read. [`LogReader::advance`] then moves the offset.
    Bytes(usize),
    /// Number of bytes skipped, which were never written.
    Hole(u64),
    Eof,
    /// The file was truncated, and may have been written to again.
    Truncated,
}

impl LogReader {
    /// Opens a file at an uncompressed offset. Returns `None` if another file has its path now, or it was truncated.
    pub(super) fn open(
        path: &Path,
        inode: Inode,
        first_line: Fingerprint,
        compressed: bool,
        offset: u64,
    ) -> io::Result<Option<Self>> {
        let file = match open_file(path) {
            Err(why) if why.kind() == ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        if Inode::from_metadata(&file.metadata()?) != inode {
            return Ok(None);
        }
        let mut preceding = vec![0; usize::try_from(offset).unwrap_or(usize::MAX).min(PRECEDING_BYTES_MAX)];
        let start = offset - preceding.len() as u64;
        let content = if compressed {
            let mut content = MultiGzDecoder::new(BufReader::with_capacity(DECOMPRESS_BUFFER_BYTES, file));
            let skipped = io::copy(&mut content.by_ref().take(start), &mut io::sink());
            match skipped.and_then(|_| content.read_exact(&mut preceding)) {
                Err(why) if !is_corrupt(&why) => return Err(why),
                // If the content is corrupt, the next read returns the error.
                _ => {}
            }
            Content::Compressed(Box::new(content))
        } else {
            match file.read_exact_at(&mut preceding, start) {
                Err(why) if why.kind() == ErrorKind::UnexpectedEof => return Ok(None),
                read => read?,
            }
            Content::Plain(file)
        };
        let reader = Self { content, inode, first_line, offset, preceding };
        Ok(reader.is_unchanged()?.then_some(reader))
    }

    pub(super) fn inode(&self) -> Inode {
        self.inode
    }

    /// Returns whether the offset is within a line.
    pub(super) fn is_within_line(&self) -> bool {
        self.preceding.last().is_some_and(|byte| *byte != b'\n')
    }

    pub(super) fn compressed(&self) -> bool {
        matches!(self.content, Content::Compressed(_))
    }

    /// Returns whether the bytes before the offset are those before a position.
    pub(super) fn is_at(&self, position: &Position) -> bool {
        position.preceding.is_end_of(&self.preceding)
    }

    /// Reads the next bytes. Bytes that were read while the file was truncated are discarded.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<ReadOutcome> {
        let read = loop {
            let read = match &mut self.content {
                Content::Plain(file) => file.read_at(buffer, self.offset),
                Content::Compressed(content) => content.read(buffer),
            };
            match read {
                Err(why) if why.kind() == ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        if !self.is_unchanged()? {
            return Ok(ReadOutcome::Truncated);
        }
        if read > 0 && buffer[..read].iter().all(|byte| *byte == 0) {
            let hole = self.hole_bytes()?;
            if hole > 0 {
                self.offset += hole;
                self.preceding.clear();
                return Ok(ReadOutcome::Hole(hole));
            }
        }
        Ok(if read == 0 { ReadOutcome::Eof } else { ReadOutcome::Bytes(read) })
    }

    /// Moves the offset behind bytes that were read.
    pub(super) fn advance(&mut self, bytes: &[u8]) {
        self.offset += bytes.len() as u64;
        self.preceding = self.preceding_with(bytes);
    }

    /// Returns the fingerprint of the bytes before an offset that is behind bytes that were read.
    pub(super) fn fingerprint_behind(&self, bytes: &[u8]) -> Fingerprint {
        Fingerprint::of(&self.preceding_with(bytes))
    }

    fn preceding_with(&self, bytes: &[u8]) -> Vec<u8> {
        let bytes = &bytes[bytes.len().saturating_sub(PRECEDING_BYTES_MAX)..];
        let kept = self.preceding.len().min(PRECEDING_BYTES_MAX - bytes.len());
        [&self.preceding[self.preceding.len() - kept..], bytes].concat()
    }

    /// Returns the length of the hole at the offset: 0 if there is data, or the file system does not tell.
    fn hole_bytes(&self) -> io::Result<u64> {
        let Content::Plain(file) = &self.content else { return Ok(0) };
        let next = match rustix::fs::seek(file, SeekFrom::Data(self.offset)) {
            Ok(data) => data,
            // No data follows.
            Err(Errno::NXIO) => file.metadata()?.len(),
            Err(_) => self.offset,
        };
        Ok(next.saturating_sub(self.offset))
    }

    /// Returns whether a plain file still reaches the offset and has the same first line and the same bytes before the
    /// offset. A compressed file is never appended to, so it needs no check.
    fn is_unchanged(&self) -> io::Result<bool> {
        let Content::Plain(file) = &self.content else { return Ok(true) };
        if file.metadata()?.len() < self.offset {
            return Ok(false);
        }
        let start = self.offset - self.preceding.len() as u64;
        match has_part(file, start, self.preceding.len(), |part| part == self.preceding) {
            Ok(true) => {
                has_part(file, 0, self.first_line.bytes as usize, |part| Fingerprint::of(part) == self.first_line)
            }
            changed => changed,
        }
    }
}

/// Returns whether a file has a part with an offset and a length, in bytes, that is as expected.
fn has_part(file: &File, offset: u64, bytes: usize, is_expected: impl FnOnce(&[u8]) -> bool) -> io::Result<bool> {
    let mut part = vec![0; bytes];
    match file.read_exact_at(&mut part, offset) {
        Ok(()) => Ok(is_expected(&part)),
        Err(why) if why.kind() == ErrorKind::UnexpectedEof => Ok(false),
        Err(why) => Err(why),
    }
}

/// Returns whether an error means that a compressed file is incomplete, damaged or not in gzip format.
pub(super) fn is_corrupt(why: &io::Error) -> bool {
    matches!(why.kind(), ErrorKind::UnexpectedEof | ErrorKind::InvalidData | ErrorKind::InvalidInput)
}

/// Returns the uncompressed content of a file.
pub(super) fn open_content(file: File, compressed: bool) -> Box<dyn BufRead> {
    let raw = BufReader::new(file);
    if compressed { Box::new(BufReader::new(MultiGzDecoder::new(raw))) } else { Box::new(raw) }
}
