//! Pause of reading logs while the disk of the database is almost full. The lines stay in their files meanwhile.

use super::state::LogViewer;
use super::store;
use crate::clock::Timestamp;
use crate::quota::Room;

/// Logs that are not read because the disk is almost full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DiskPause {
    /// All logs are read.
    None,
    /// The source with this id, which has the most entries, is not read.
    Largest(i64),
    /// No log is read.
    All,
}

impl DiskPause {
    /// Returns the pause that the free space of the disk requires now.
    pub(super) fn new(viewer: &LogViewer) -> Self {
        match viewer.room(Timestamp::now()) {
            Room::Enough => Self::None,
            // Without an answer nothing can be stored either.
            Room::Low => viewer
                .core
                .readers
                .acquire()
                .and_then(|reader| store::largest_source(&reader))
                .map_or(Self::All, |largest| largest.map_or(Self::None, Self::Largest)),
            Room::VeryLow => Self::All,
        }
    }

    /// Whether the log with this source id is not read.
    pub(super) fn includes(self, source_id: i64) -> bool {
        match self {
            Self::None => false,
            Self::Largest(largest) => largest == source_id,
            Self::All => true,
        }
    }
}
