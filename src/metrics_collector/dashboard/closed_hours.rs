//! Cache of dashboard statistics for hours that can no longer change.

use std::hash::RandomState;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::range_stats::RangeStats;
use super::series_filter::SeriesFilter;
use crate::clock::Timestamp;
use crate::error::Result;

/// Time after the end of an hour, in addition to the maximum age of points, by which the hour is rolled up and closed.
const CLOSED_AFTER: Duration = Duration::from_secs(2 * 3_600);
/// Maximum number of cached ranges.
const RANGES_MAX: usize = 3;
/// Maximum number of metrics and pages in a cached range.
const ENTRIES_MAX: usize = 1_000;

/// Cache of statistics for ranges of closed hours. Without it, every request would read all hours of a month again.
pub(in super::super) struct ClosedHoursCache {
    closed_after: Duration,
    page_hasher: RandomState,
    /// Oldest entry first.
    ranges: Mutex<Vec<CachedRange>>,
}

struct CachedRange {
    filter: SeriesFilter,
    hours: Range<i64>,
    stats: Arc<RangeStats>,
}

impl ClosedHoursCache {
    /// Creates an empty cache for points that may be late by `point_age_max`.
    pub(in super::super) fn new(point_age_max: Duration) -> Self {
        let page_hasher = RandomState::new();
        Self { closed_after: point_age_max + CLOSED_AFTER, page_hasher, ranges: Mutex::default() }
    }

    /// Returns the hash function for the paths of pages in cached statistics.
    pub(super) fn page_hasher(&self) -> &RandomState {
        &self.page_hasher
    }

    /// Returns the first hour that may still change.
    pub(super) fn first_open_hour(&self, now: Timestamp) -> i64 {
        (now - self.closed_after).hour()
    }

    /// Returns the statistics of a range of closed hours, from the cache or from `read`.
    pub(super) fn get_or_read(
        &self,
        filter: &SeriesFilter,
        hours: Range<i64>,
        read: impl FnOnce() -> Result<RangeStats>,
    ) -> Result<Arc<RangeStats>> {
        let is_same = |range: &&CachedRange| range.filter == *filter && range.hours == hours;
        if let Some(range) = self.lock().iter().find(is_same) {
            return Ok(Arc::clone(&range.stats));
        }
        // Reads without the lock. Reading the same range twice is better than making other requests wait.
        let stats = Arc::new(read()?);
        if stats.entries() <= ENTRIES_MAX {
            let mut ranges = self.lock();
            if ranges.len() == RANGES_MAX {
                ranges.remove(0);
            }
            ranges.push(CachedRange { filter: filter.clone(), hours, stats: Arc::clone(&stats) });
        }
        Ok(stats)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<CachedRange>> {
        self.ranges.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
