//! Statistics of a time range: counts and sums by metric, and aggregates of Web Vitals by bucket and by page.
//!
//! However many metrics and pages there are, only numbers are kept for each: names and paths are read again for the few that
//! the response lists.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};
use std::ops::Range;

use rusqlite::{CachedStatement, Connection, Row};

use super::super::aggregate::{Aggregate, AggregateParts};
use super::super::cardinality::OVERFLOW_LABELS;
use super::super::compensated_sum::CompensatedSum;
use super::super::metric_rollup::{self, MetricRollupRows};
use super::super::rollup_reader::{RollupReader, merge_into};
use super::super::rollup_tables::{RollupScope, RollupTable};
use super::super::web_vitals::{WEB_VITAL_COUNT, WEB_VITALS};
use super::series_filter::SeriesFilter;
use crate::error::Result;
use crate::page_path::fold_page_path;
use crate::records::point::{LABEL_CHARS_MAX, MetricKind};

/// Maximum number of pages whose Web Vitals are aggregated. If there are more, only the most viewed ones are.
const TRACKED_PAGES_MAX: usize = 200;
/// Number of buckets whose distributions are in memory at once.
const BUCKETS_PER_CHUNK: i64 = 128;

/// Hash of a page's path, with keys that are random in each process. Paths are long and their number is unbounded.
pub(super) type PageHash = u64;

/// Series with the properties that the statistics need.
pub(super) struct Series {
    pub(super) id: i64,
    metric_id: i64,
    /// Index of the Web Vital in [`WEB_VITALS`], if browsers report the series.
    vital: Option<usize>,
    /// Folded path; `None` if unknown, or if the series is no Web Vital.
    page: Option<PageHash>,
    /// Rollup of its metric, if it can be read instead of the series.
    rollup: Option<MetricRollupRows>,
}

impl Series {
    /// Returns the parts of aggregates that the statistics need: ratings for Web Vitals, only counts and sums for other
    /// series.
    pub(super) fn aggregate_kind(&self) -> AggregateParts {
        let vital = self.vital.and_then(|index| WEB_VITALS.get(index));
        vital.map(|vital| AggregateParts::for_metric(Some(MetricKind::Histogram), vital.metric)).unwrap_or_default()
    }
}

/// Returns the matching series, sorted by id.
pub(super) fn series(connection: &Connection, filter: &SeriesFilter, hasher: &RandomState) -> Result<Vec<Series>> {
    let (mut found, mut mixed) = (Vec::new(), HashSet::new());
    for_each_series(connection, filter, None, |row, vital, browser_page| {
        let rollup = MetricRollupRows::read(row, 4)?.filter(|_| !filter.has_labels());
        // This rollup also contains points that no browser reported.
        mixed.extend(rollup.filter(|_| vital.is_some() && browser_page.is_none()).map(|rollup| rollup.metric_id));
        let page = browser_page.as_ref().and_then(Option::as_deref).map(|page| hasher.hash_one(page));
        let vital = vital.filter(|_| browser_page.is_some());
        found.push(Series { id: row.get(0)?, metric_id: row.get(4)?, vital, page, rollup });
        Ok(())
    })?;
    for series in &mut found {
        series.rollup = series.rollup.filter(|rollup| !mixed.contains(&rollup.metric_id));
    }
    Ok(found)
}

/// Passes each matching series to `visit`, with the index of its Web Vital and, if browsers report it, the folded path of its page.
/// `kind` limits them to one type.
fn for_each_series(
    connection: &Connection,
    filter: &SeriesFilter,
    kind: Option<MetricKind>,
    mut visit: impl FnMut(&Row<'_>, Option<usize>, Option<Option<String>>) -> Result<()>,
) -> Result<()> {
    let mut read = connection.prepare_cached(
        "SELECT id, labels, name, type, metric_id, rollup_from_h FROM series_keys
             WHERE (?1 IS NULL OR project = ?1) AND (?2 IS NULL OR type = ?2) ORDER BY id",
    )?;
    let mut rows = read.query((&filter.project, kind.map(MetricKind::as_str)))?;
    while let Some(row) = rows.next()? {
        let labels = row.get_ref(1)?.as_str().unwrap_or("{}");
        if !filter.matches(labels) {
            continue;
        }
        let is_histogram = row.get_ref(3)?.as_str().is_ok_and(|kind| kind == MetricKind::Histogram.as_str());
        let name = row.get_ref(2)?.as_str().unwrap_or_default();
        let vital = WEB_VITALS.iter().position(|vital| is_histogram && vital.metric == name);
        let browser_page = match vital {
            Some(_) => browser_page(labels),
            None => None,
        };
        visit(row, vital, browser_page)?;
    }
    Ok(())
}

/// Returns the folded path of a series that browsers report; the inner `None` if it is unknown. Older versions stored paths
/// with their ids.
fn browser_page(labels: &str) -> Option<Option<String>> {
    if labels == OVERFLOW_LABELS {
        // The page of points in the overflow series is unknown, but they count in the totals.
        return Some(None);
    }
    let labels: BTreeMap<String, String> = serde_json::from_str(labels).unwrap_or_default();
    let is_browser = labels.get("source").is_some_and(|source| source == "browser");
    is_browser.then(|| labels.get("page").map(|page| fold_page_path(page, LABEL_CHARS_MAX).into_owned()))
}

/// Pages whose Web Vitals are aggregated.
pub(super) struct TrackedPages {
    pub(super) paths: HashMap<PageHash, String>,
    /// Whether there are no other pages.
    pub(super) is_complete: bool,
}

/// Returns all pages, or the `pages_max` most viewed ones of a range of buckets if there are too many. Of pages with the same
/// number of views, the first path comes first.
pub(super) fn tracked_pages(
    connection: &Connection,
    filter: &SeriesFilter,
    hasher: &RandomState,
    series: &[Series],
    reader: &RollupReader<'_>,
    (buckets, pages_max): (&Range<i64>, usize),
) -> Result<TrackedPages> {
    let mut views: HashMap<PageHash, [u64; WEB_VITAL_COUNT]> = HashMap::new();
    for page in series.iter().filter_map(|series| series.page) {
        views.entry(page).or_default();
    }
    let is_complete = views.len() <= TRACKED_PAGES_MAX;
    if !is_complete {
        let mut count_sums = CountSumStmts::prepare(connection, reader)?;
        for series in series {
            let (Some(page), Some(vital)) = (series.page, series.vital) else { continue };
            let stored = count_sums.read((RollupScope::Series, series.id), buckets)?.count;
            let new: u64 = reader.not_rolled_up(series.id, buckets).map(|(_, aggregate)| aggregate.count).sum();
            views.entry(page).or_default()[vital] += stored + new;
        }
    }
    let mut first: BTreeMap<(Reverse<u64>, String), PageHash> = BTreeMap::new();
    for_each_series(connection, filter, Some(MetricKind::Histogram), |_, _, browser_page| {
        let Some(path) = browser_page.flatten() else { return Ok(()) };
        let page = hasher.hash_one(path.as_str());
        let views = views.get(&page).and_then(|vitals| vitals.iter().max()).copied().unwrap_or(0);
        first.insert((Reverse(views), path), page);
        if !is_complete && first.len() > pages_max {
            first.pop_last();
        }
        Ok(())
    })?;
    Ok(TrackedPages { paths: first.into_iter().map(|((_, path), page)| (page, path)).collect(), is_complete })
}

/// Number and sum of points.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct CountSum {
    pub(super) count: u64,
    pub(super) sum: CompensatedSum,
}

/// Prepared statements that add up rows of the rollup tables.
struct CountSumStmts<'c> {
    series: CachedStatement<'c>,
    metrics: CachedStatement<'c>,
}

impl<'c> CountSumStmts<'c> {
    fn prepare(connection: &'c Connection, reader: &RollupReader<'_>) -> Result<Self> {
        let prepare = |scope| {
            let RollupTable { name, id, bucket } = RollupTable::new(scope, reader.resolution());
            connection.prepare_cached(&format!(
                "SELECT coalesce(sum(count), 0), coalesce(sum(sum), 0.0), coalesce(sum(sum_rest), 0.0) FROM {name}
                     WHERE {id} = ?1 AND {bucket} >= ?2 AND {bucket} < ?3"
            ))
        };
        Ok(Self { series: prepare(RollupScope::Series)?, metrics: prepare(RollupScope::Metric)? })
    }

    /// Adds up the rows of a series or of a metric in a range of buckets.
    fn read(&mut self, (scope, id): (RollupScope, i64), buckets: &Range<i64>) -> Result<CountSum> {
        if buckets.is_empty() {
            return Ok(CountSum::default());
        }
        let count_sum = |row: &Row<'_>| {
            let mut sum = CompensatedSum::default();
            // SQLite compensates sums too, but not those that overflow.
            sum.add(row.get::<_, f64>(1)?.clamp(f64::MIN, f64::MAX));
            sum.add(row.get(2)?);
            Ok(CountSum { count: row.get::<_, i64>(0)?.unsigned_abs(), sum })
        };
        let statement = match scope {
            RollupScope::Series => &mut self.series,
            RollupScope::Metric => &mut self.metrics,
        };
        Ok(statement.query_row((id, buckets.start, buckets.end), count_sum)?)
    }
}

/// One optional aggregate for each Web Vital.
pub(super) type PerVital = [Option<Aggregate>; WEB_VITAL_COUNT];

/// Web Vitals of one bucket.
#[derive(Debug, Clone, Copy)]
pub(super) struct VitalsP75 {
    /// 75th percentile of each Web Vital.
    pub(super) p75: [Option<f64>; WEB_VITAL_COUNT],
    /// Number of points of all Web Vitals.
    pub(super) count: u64,
}

/// Statistics of a time range.
#[derive(Default)]
pub(super) struct RangeStats {
    /// By the id of the metric, without Web Vitals that browsers report.
    pub(super) metrics: BTreeMap<i64, CountSum>,
    pub(super) vitals: PerVital,
    /// Aggregates of the tracked pages, for each Web Vital.
    pub(super) by_page: [BTreeMap<PageHash, Aggregate>; WEB_VITAL_COUNT],
    pub(super) by_bucket: BTreeMap<i64, VitalsP75>,
}

impl RangeStats {
    /// Reads the statistics of a range of buckets.
    pub(super) fn read(
        connection: &Connection,
        reader: &RollupReader<'_>,
        series: &[Series],
        pages: &TrackedPages,
        buckets: Range<i64>,
    ) -> Result<Self> {
        let mut stats = Self::default();
        let mut count_sums = CountSumStmts::prepare(connection, reader)?;
        let mut rollups_read = HashSet::new();
        for series in series.iter().filter(|series| series.vital.is_none()) {
            let [per_series, per_metric] = metric_rollup::split_range(&buckets, series.rollup, reader.resolution());
            let mut add = |added| stats.add_to_metric(series.metric_id, added);
            for (_, Aggregate { count, sum, .. }) in reader.not_rolled_up(series.id, &buckets) {
                add(CountSum { count: *count, sum: *sum });
            }
            add(count_sums.read((RollupScope::Series, series.id), &per_series)?);
            if let Some(rollup) = series.rollup.filter(|rollup| rollups_read.insert(rollup.metric_id)) {
                add(count_sums.read((RollupScope::Metric, rollup.metric_id), &per_metric)?);
            }
        }
        let mut start = buckets.start;
        while start < buckets.end && series.iter().any(|series| series.vital.is_some()) {
            let end = buckets.end.min(start.saturating_add(BUCKETS_PER_CHUNK));
            stats.add_vitals(reader, series, &(start..end))?;
            start = end;
        }
        stats.add_pages(reader, series, pages, &buckets)?;
        Ok(stats)
    }

    /// Adds the Web Vitals of a range of buckets that is short enough for all distributions to fit into memory.
    fn add_vitals(&mut self, reader: &RollupReader<'_>, series: &[Series], buckets: &Range<i64>) -> Result<()> {
        let mut by_bucket: [BTreeMap<i64, Aggregate>; WEB_VITAL_COUNT] = Default::default();
        let mut rollups_read = HashSet::new();
        for series in series {
            let Some(vital) = series.vital else { continue };
            let (kind, by_bucket) = (series.aggregate_kind(), &mut by_bucket[vital]);
            let mut add = |bucket, aggregate| merge_into(by_bucket, bucket, aggregate);
            let [per_series, per_metric] = metric_rollup::split_range(buckets, series.rollup, reader.resolution());
            reader.for_each_row((RollupScope::Series, series.id), kind, &per_series, &mut add)?;
            for (bucket, aggregate) in reader.not_rolled_up(series.id, buckets) {
                add(bucket, aggregate.clone());
            }
            if let Some(rollup) = series.rollup.filter(|rollup| rollups_read.insert(rollup.metric_id)) {
                reader.for_each_row((RollupScope::Metric, rollup.metric_id), kind, &per_metric, &mut add)?;
            }
        }
        for (vital, by_bucket) in by_bucket.iter().enumerate() {
            by_bucket.values().for_each(|aggregate| merge_total(&mut self.vitals[vital], aggregate));
        }
        self.by_bucket.extend(transpose(by_bucket).into_iter().map(|(bucket, vitals)| {
            let count = vitals.iter().flatten().map(|aggregate| aggregate.count).sum();
            (bucket, VitalsP75 { p75: p75(&vitals), count })
        }));
        Ok(())
    }

    /// Adds the Web Vitals of tracked pages. They are read by series, because metric rollups do not distinguish pages.
    fn add_pages(
        &mut self,
        reader: &RollupReader<'_>,
        series: &[Series],
        pages: &TrackedPages,
        buckets: &Range<i64>,
    ) -> Result<()> {
        for series in series {
            let (Some(page), Some(vital)) = (series.page, series.vital) else { continue };
            if !pages.paths.contains_key(&page) {
                continue;
            }
            let mut total: Option<Aggregate> = None;
            let (scope, kind) = ((RollupScope::Series, series.id), series.aggregate_kind());
            reader.for_each_row(scope, kind, buckets, |_, aggregate| merge_total(&mut total, &aggregate))?;
            for (_, aggregate) in reader.not_rolled_up(series.id, buckets) {
                merge_total(&mut total, aggregate);
            }
            if let Some(aggregate) = total {
                merge_into(&mut self.by_page[vital], page, aggregate);
            }
        }
        Ok(())
    }

    fn add_to_metric(&mut self, metric_id: i64, added: CountSum) {
        if added.count > 0 {
            let metric = self.metrics.entry(metric_id).or_default();
            metric.count += added.count;
            metric.sum.merge(added.sum);
        }
    }

    /// Adds the statistics of a range that shares no bucket with this one.
    pub(super) fn merge(&mut self, other: &Self) {
        for (metric_id, count_sum) in &other.metrics {
            self.add_to_metric(*metric_id, *count_sum);
        }
        for vital in 0..WEB_VITAL_COUNT {
            if let Some(aggregate) = &other.vitals[vital] {
                merge_total(&mut self.vitals[vital], aggregate);
            }
            for (page, aggregate) in &other.by_page[vital] {
                merge_into(&mut self.by_page[vital], *page, aggregate.clone());
            }
        }
        self.by_bucket.extend(&other.by_bucket);
    }

    /// Returns the number of metrics and pages, which determines the size in memory.
    pub(super) fn entries(&self) -> usize {
        self.metrics.len() + self.by_page.iter().map(BTreeMap::len).sum::<usize>()
    }
}

/// Turns one table per Web Vital into one row per key.
pub(super) fn transpose<K: Ord>(tables: [BTreeMap<K, Aggregate>; WEB_VITAL_COUNT]) -> BTreeMap<K, PerVital> {
    let mut rows: BTreeMap<K, PerVital> = BTreeMap::new();
    for (vital, table) in tables.into_iter().enumerate() {
        for (key, aggregate) in table {
            rows.entry(key).or_default()[vital] = Some(aggregate);
        }
    }
    rows
}

/// Returns the 75th percentile of each Web Vital, which agrees with the exact rating of the values.
pub(super) fn p75(vitals: &PerVital) -> [Option<f64>; WEB_VITAL_COUNT] {
    std::array::from_fn(|vital| {
        let aggregate = vitals[vital].as_ref()?;
        let (estimate, rating) =
            (aggregate.quantile(0.75)?, aggregate.ratings.as_ref().and_then(|ratings| ratings.rating()));
        Some(rating.map_or(estimate, |rating| WEB_VITALS[vital].fit_to_rating(estimate, rating)))
    })
}

fn merge_total(total: &mut Option<Aggregate>, aggregate: &Aggregate) {
    match total {
        Some(total) => total.merge(aggregate),
        None => *total = Some(aggregate.clone()),
    }
}
