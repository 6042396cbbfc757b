//! State of one log that the ingester follows.

use std::time::Instant;

use super::commands::StoredSource;
use super::discovery::LogSource;
use super::open_log::OpenLog;

/// State of one log.
pub(super) struct SourceState {
    pub(super) source: LogSource,
    /// Row ID of the source.
    pub(super) id: i64,
    /// Number of commands that were submitted to the writer for this log.
    pub(super) version: i64,
    /// `None` if the log has to be opened.
    pub(super) reader: Option<OpenLog>,
    /// Whether the file may have changed since it was last read.
    pub(super) may_have_changed: bool,
    /// Number of batches in the writer's queue.
    pub(super) in_flight: usize,
    /// Whether a batch could not be stored, so that the log has to be read again from its checkpoint.
    pub(super) write_failed: bool,
    /// Earliest time of the next read.
    pub(super) not_before: Instant,
    /// Whether the log was created after the start of the ingester.
    pub(super) is_new: bool,
    /// Whether the log no longer exists. The rest of its open file is still read.
    pub(super) is_removed: bool,
    /// Reason for which the last read failed.
    pub(super) read_error: Option<String>,
}

impl SourceState {
    /// Returns the state of a log that was not read yet.
    pub(super) fn new(source: LogSource, stored: &StoredSource, is_new: bool) -> Self {
        Self {
            source,
            id: stored.id,
            version: stored.version,
            reader: None,
            may_have_changed: true,
            in_flight: 0,
            write_failed: false,
            not_before: Instant::now(),
            is_new,
            is_removed: false,
            read_error: None,
        }
    }

    /// Returns whether a removed log still has lines to read or to store.
    pub(super) fn is_unfinished(&self) -> bool {
        let has_unfinished = |reader: &OpenLog| reader.deadline().is_some() || self.may_have_changed;
        self.write_failed || self.reader.as_ref().is_some_and(has_unfinished)
    }
}
