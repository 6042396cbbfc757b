//! State that the handlers and jobs of the log viewer share.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::Connection;

use super::config::RetentionLimits;
use super::sources::recent_gaps;
use super::store;
use super::stream_slots::StreamSlots;
use super::tail_broadcast::TailBroadcast;
use crate::clock::Timestamp;
use crate::error::Result;
use crate::forward::{Exporter, RecordSource as _};
use crate::quota::{FreeSpace, Room};
use crate::records::warning::Warning;
use crate::service::{Core, ServiceState, Stat, StatsCache};

/// Maximum number of live tails. Each has a thread.
const TAILS_MAX: usize = 5;
/// Maximum number of exports, of which one client can have half.
const EXPORTS_MAX: usize = 12;

/// Time for which a gap is shown as a warning.
const GAPS_SHOWN_TIME: Duration = Duration::from_secs(24 * 3_600);

/// The log viewer.
pub(super) struct LogViewer {
    pub(super) core: Core,
    pub(super) limits: RetentionLimits,
    pub(super) broadcast: Arc<TailBroadcast>,
    /// Status of the logs at the last scan.
    source_status: Mutex<Arc<SourceStatuses>>,
    /// Slots of the live tails.
    pub(super) tail_slots: Arc<StreamSlots>,
    /// Slots of the exports.
    pub(super) export_slots: Arc<StreamSlots>,
    /// Forwarding to another store.
    pub(super) exporter: Arc<Exporter>,
    stats_cache: StatsCache,
    free_space: FreeSpace,
}

/// Status of all logs.
#[derive(Debug, Clone, Default)]
pub(super) struct SourceStatuses {
    /// Existing logs by key, with the reason for those that cannot be read.
    pub(super) sources: BTreeMap<String, Option<String>>,
    /// Settings of sources that cannot be applied.
    pub(super) problems: Vec<Warning>,
    /// Number of logs that are not read because the disk is almost full.
    pub(super) paused: usize,
}

impl LogViewer {
    pub(super) fn new(
        core: Core,
        limits: RetentionLimits,
        broadcast: Arc<TailBroadcast>,
        exporter: Arc<Exporter>,
    ) -> Self {
        let free_space = FreeSpace::new(core.readers.path().to_owned());
        Self {
            core,
            limits,
            free_space,
            broadcast,
            source_status: Mutex::default(),
            tail_slots: StreamSlots::with_eviction(TAILS_MAX),
            export_slots: StreamSlots::with_half_per_client(EXPORTS_MAX),
            exporter,
            stats_cache: StatsCache::default(),
        }
    }

    /// Returns the room for entries on the disk of the database.
    pub(super) fn room(&self, now: Timestamp) -> Room {
        self.free_space.room(self.core.writer.stats().file_bytes.load(Ordering::Relaxed), now)
    }

    /// Returns the status of the logs at the last scan.
    pub(super) fn source_status(&self) -> Arc<SourceStatuses> {
        Arc::clone(&self.source_status.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces the status of the logs, and logs the problems that are new.
    pub(super) fn set_source_status(&self, status: SourceStatuses) {
        let known = self.source_status();
        for problem in status.problems.iter().filter(|problem| !known.problems.contains(problem)) {
            log::warn!("log-ingester: failed to follow a source: {}; retrying at each scan", problem.message);
        }
        *self.source_status.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(status);
    }

    /// Returns the warning about sources with gaps, which is shown until a day after the last gap.
    fn gaps_warning(&self, now: Timestamp) -> Option<Warning> {
        let reader = self.core.readers.acquire().ok()?;
        let gaps = recent_gaps(&reader, now - GAPS_SHOWN_TIME).ok().filter(|gaps| gaps.sources > 0)?;
        let (names, more) = (gaps.names.join(", "), if gaps.sources > gaps.names.len() as u64 { ", …" } else { "" });
        let message = format!(
            "Lines of {names}{more} may be missing: files were deleted, truncated or damaged before they were read"
        );
        Some(Warning::new("lines_missing", gaps.sources, &message))
    }

    fn read_stats(&self, reader: &Connection) -> Result<Vec<Stat>> {
        let counters = store::health_counters(reader)?;
        let last_ingest = Some(counters.last_ingest_ms).filter(|ms| *ms > 0).map(Timestamp::from_ms);
        let missed = "Rotated files that were deleted or damaged before they were read.";
        const CORRECTED_TIMES: &str = "Lines of text files that stated a time over ten minutes ahead.";
        let own = [
            Stat::count("logs_indexed", "Stored log entries.", counters.entries),
            Stat::count("containers", "Logs that are followed or have entries.", counters.sources),
            Stat::count("gaps", missed, counters.missed_rotations),
            Stat::count("times_corrected", CORRECTED_TIMES, counters.corrected_times),
            Stat::time("last_ingest", "Time when an entry was last stored.", last_ingest),
        ];
        let exported = self.exporter.stats(reader, self.latest_id(reader)?)?;
        Ok(own.into_iter().chain(exported.into_iter().map(Stat::from)).collect())
    }
}

impl ServiceState for LogViewer {
    fn core(&self) -> &Core {
        &self.core
    }

    fn stats(&self) -> Vec<Stat> {
        self.stats_cache.refresh(&self.core.readers, |reader| self.read_stats(reader))
    }

    fn warnings(&self) -> Vec<Warning> {
        let source_status = self.source_status();
        let problems = source_status.problems.iter().cloned();
        let paused = (source_status.paused > 0).then(|| {
            let message = "The disk is almost full: the largest log, or every log, is not read until there is room";
            Warning::new("disk_low", source_status.paused as u64, message)
        });
        let gaps = self.gaps_warning(Timestamp::now());
        problems.chain(paused).chain(gaps).chain(self.exporter.warnings()).collect()
    }
}
