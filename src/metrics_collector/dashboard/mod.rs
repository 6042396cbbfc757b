//! Dashboard: numbers of points, the metrics with the most points, and Web Vitals of a time range.

mod closed_hours;
mod range_stats;
mod response;
mod series_filter;

use std::ops::Range;
use std::time::Duration;

use rusqlite::Connection;

use super::cardinality;
use super::resolution::Resolution;
use super::rollup_reader::RollupReader;
use crate::clock::Timestamp;
use crate::error::Result;
pub(super) use closed_hours::ClosedHoursCache;
use range_stats::RangeStats;
pub(super) use response::Dashboard;
pub(super) use series_filter::SeriesFilter;

/// Time after now up to which points are included.
const CLOCK_AHEAD_MAX: Duration = Duration::from_secs(3_600);

/// Returns the dashboard of the matching series for a range of buckets.
pub(super) fn read(
    connection: &Connection,
    closed_hours: &ClosedHoursCache,
    filter: &SeriesFilter,
    buckets: Range<i64>,
    resolution: Resolution,
    now: Timestamp,
) -> Result<Dashboard> {
    // Points from clocks that are ahead are at most minutes ahead. Later ones were written while our clock was wrong.
    let end = buckets.end.min(resolution.bucket((now + CLOCK_AHEAD_MAX).ms()) + 1).max(buckets.start);
    let buckets = buckets.start..end;
    let snapshot = connection.unchecked_transaction()?;
    let hasher = closed_hours.page_hasher();
    let series = range_stats::series(&snapshot, filter, hasher)?;
    let reader = RollupReader::open(&snapshot, buckets.start, resolution, |id| {
        let index = series.binary_search_by_key(&id, |series| series.id).ok()?;
        Some(series[index].aggregate_kind())
    })?;
    let pages = (&buckets, response::PAGES_MAX);
    let pages = range_stats::tracked_pages(&snapshot, filter, hasher, &series, &reader, pages)?;
    let mut stats = RangeStats::default();
    let mut start = buckets.start;
    let closed_until =
        if resolution == Resolution::Hour { closed_hours.first_open_hour(now).min(buckets.end) } else { start };
    // If rollups are far behind, closed hours can still change and must not be cached. The most viewed pages of a longer range
    // are others.
    if start < closed_until && pages.is_complete && !reader.has_not_rolled_up_before(closed_until) {
        let closed = closed_hours.get_or_read(filter, start..closed_until, || {
            RangeStats::read(&snapshot, &reader, &series, &pages, start..closed_until)
        })?;
        stats.merge(&closed);
        start = closed_until;
    }
    stats.merge(&RangeStats::read(&snapshot, &reader, &series, &pages, start..buckets.end)?);
    drop((reader, series));
    Dashboard::new(&snapshot, stats, &pages.paths, resolution, cardinality::metric_warnings(&snapshot)?)
}
