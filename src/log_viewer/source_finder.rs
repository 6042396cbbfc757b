//! Finder for all logs: containers and text files.

use super::config::SourceSettings;
use super::discovery::{Discovery, SourceSnapshot};
use super::file_sources::FileFinder;

/// Finder with what it knows from the last scan.
#[derive(Debug, Default)]
pub(super) struct SourceFinder {
    containers: Discovery,
    files: FileFinder,
}

impl SourceFinder {
    /// Finds all logs that the settings name.
    pub(super) fn scan(&mut self, settings: &SourceSettings) -> SourceSnapshot {
        let mut snapshot = self.containers.scan(settings);
        self.files.scan(settings, &mut snapshot);
        snapshot
    }
}
