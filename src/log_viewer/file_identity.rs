//! Identity of log files.
//!
//! The file system reuses an inode number as soon as it is free, so a file is identified by its content as well: by its first
//! line, which contains a timestamp with nanoseconds in Docker's logs, and by the bytes before a position, because the first
//! lines of text files are often the same.

use std::fs::Metadata;
use std::io::{self, BufRead, ErrorKind};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Maximum length of the first line in a fingerprint, in bytes. Of a longer line, only the beginning is used.
pub(super) const FIRST_LINE_BYTES_MAX: usize = 64 * 1024;
/// Maximum number of bytes before a position that identify a file.
pub(super) const PRECEDING_BYTES_MAX: usize = 256;

/// Identity of a file on its disk. It is unique only while the file is open or exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Inode {
    device: u64,
    number: u64,
}

impl Inode {
    pub(super) fn from_metadata(file: &Metadata) -> Self {
        Self { device: file.dev(), number: file.ino() }
    }

    /// Returns the inode at a path; `None` if there is no file.
    pub(super) fn at(path: &Path) -> io::Result<Option<Self>> {
        match std::fs::metadata(path) {
            Ok(file) => Ok(Some(Self::from_metadata(&file))),
            Err(why) if why.kind() == ErrorKind::NotFound => Ok(None),
            Err(why) => Err(why),
        }
    }

    /// Returns the inode number, which identifies a file in combination with its [`Fingerprint`].
    pub(super) fn number(self) -> u64 {
        self.number
    }
}

/// Length and hash of a part of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Fingerprint {
    /// Length of the part, in bytes; 0 if it is unknown.
    pub(super) bytes: u32,
    /// First 64 bits of the part's MD5. It only has to distinguish files, not to resist attacks.
    pub(super) hash: u64,
}

impl Fingerprint {
    /// Returns the fingerprint of a part, which has at most [`FIRST_LINE_BYTES_MAX`].
    pub(super) fn of(part: &[u8]) -> Self {
        let digest = md5::compute(part).0;
        let mut hash = [0; 8];
        hash.copy_from_slice(&digest[..8]);
        Self { bytes: u32::try_from(part.len()).unwrap_or(u32::MAX), hash: u64::from_le_bytes(hash) }
    }

    /// Reads the fingerprint of the first line; `None` if the line is incomplete and can still be continued.
    pub(super) fn of_first_line(content: impl BufRead, can_continue: impl Fn() -> bool) -> io::Result<Option<Self>> {
        let mut line = Vec::new();
        content.take(FIRST_LINE_BYTES_MAX as u64).read_until(b'\n', &mut line)?;
        let complete = line.ends_with(b"\n") || line.len() == FIRST_LINE_BYTES_MAX;
        Ok((complete || !line.is_empty() && !can_continue()).then(|| Self::of(&line)))
    }

    /// Returns whether these are the last bytes of a part. True if the fingerprint is unknown.
    pub(super) fn is_end_of(self, part: &[u8]) -> bool {
        let bytes = self.bytes as usize;
        bytes == 0 || part.len() >= bytes && Self::of(&part[part.len() - bytes..]) == self
    }
}
