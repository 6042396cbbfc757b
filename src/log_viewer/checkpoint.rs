//! Checkpoint: the position up to which a log is stored.

use super::file_identity::Fingerprint;

/// Position in a file of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Position {
    /// First line of the file. If it is unknown, the file is identified by its inode number alone.
    pub(super) first_line: Fingerprint,
    /// Inode number when the file was read. It distinguishes files with the same content.
    pub(super) inode: u64,
    /// Uncompressed offset, in bytes.
    pub(super) offset: u64,
    /// The bytes before the offset, at most 256.
    pub(super) preceding: Fingerprint,
}

/// Positions in the files of a log, to continue after a restart.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct LogPositions {
    /// Position in the current file.
    pub(super) current: Position,
    /// First line of the file before the current one, if there was one.
    pub(super) previous: Option<Fingerprint>,
    /// Positions in older files to which programs may still write, the oldest first.
    pub(super) replaced: Vec<Position>,
}

/// State of a log that is stored together with its entries, to continue after a restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Checkpoint {
    pub(super) positions: LogPositions,
    /// Latest timestamp read, in nanoseconds since 1970.
    pub(super) newest_ns: i64,
    /// Lines before the position that are not stored, because further lines could belong to their entry. Each ends with
    /// `\n`.
    pub(super) pending_lines: Vec<u8>,
}
