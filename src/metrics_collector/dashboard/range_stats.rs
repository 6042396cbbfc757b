//! Statistics of a time range: counts and sums by metric, and aggregates of Web Vitals by bucket and by page.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

use rusqlite::{CachedStatement, Connection, Row};

use super::super::aggregate::{Aggregate, AggregateParts};
use super::super::cardinality::OVERFLOW_LABELS;
use super::super::metric_rollup::{self, MetricRollupRows};
use super::super::rollup_reader::{RollupReader, merge_into};
use super::super::rollup_tables::{RollupScope, RollupTable};
use super::super::web_vitals::{WEB_VITAL_COUNT, WEB_VITALS, WebVital, normalize_path};
use crate::error::Result;
use crate::records::point::MetricKind;

/// Series with the properties that the statistics need.
pub(super) struct Series {
    pub(super) id: i64,
    name: String,
    kind: String,
    /// Only for Web Vitals that browsers report.
    browser_vital: Option<BrowserVital>,
    /// Rollup of its metric, if it can be read instead of the series.
    rollup: Option<MetricRollupRows>,
}

/// Web Vital and page of a series.
struct BrowserVital {
    vital: &'static WebVital,
    /// Index of the vital in [`WEB_VITALS`].
    index: usize,
    /// Normalized path; `None` if unknown.
    page: Option<String>,
}

impl Series {
    /// Returns the parts of aggregates that the statistics need: ratings for Web Vitals, only counts and sums for other
    /// series.
    pub(super) fn aggregate_kind(&self) -> AggregateParts {
        let vital = self.browser_vital.as_ref().map(|browser_vital| browser_vital.vital);
        vital.map(|vital| AggregateParts::for_metric(Some(MetricKind::Histogram), vital.metric)).unwrap_or_default()
    }
}

/// Returns all series of one project, or of all projects, sorted by id.
pub(super) fn series(connection: &Connection, project: Option<&str>) -> Result<Vec<Series>> {
    let mut read = connection.prepare_cached(
        "SELECT id, labels, name, type, metric_id, rollup_from_h FROM series_keys
             WHERE ?1 IS NULL OR project = ?1 ORDER BY id",
    )?;
    let mut rows = read.query([project])?;
    let (mut found, mut mixed) = (Vec::new(), HashSet::new());
    while let Some(row) = rows.next()? {
        let (name, kind): (String, String) = (row.get(2)?, row.get(3)?);
        let rollup = MetricRollupRows::read(row, 4)?;
        let vital = WebVital::from_metric(&name).filter(|_| kind == MetricKind::Histogram.as_str());
        let browser_vital = match vital {
            Some(vital) => browser_vital(vital, row.get_ref(1)?.as_str().unwrap_or("{}")),
            None => None,
        };
        // This rollup also contains points that no browser reported.
        mixed.extend(rollup.filter(|_| vital.is_some() && browser_vital.is_none()).map(|rollup| rollup.metric_id));
        found.push(Series { id: row.get(0)?, name, kind, browser_vital, rollup });
    }
    for series in &mut found {
        series.rollup = series.rollup.filter(|rollup| !mixed.contains(&rollup.metric_id));
    }
    Ok(found)
}

fn browser_vital(vital: &'static WebVital, labels: &str) -> Option<BrowserVital> {
    let index = WEB_VITALS.iter().position(|known| known == vital)?;
    if labels == OVERFLOW_LABELS {
        // The page of points in the overflow series is unknown, but they count in the totals.
        return Some(BrowserVital { vital, index, page: None });
    }
    let labels: BTreeMap<String, String> = serde_json::from_str(labels).unwrap_or_default();
    let is_browser = labels.get("source").is_some_and(|source| source == "browser");
    is_browser.then(|| BrowserVital { vital, index, page: labels.get("page").map(|page| normalize_path(page)) })
}

/// Number and sum of points.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct CountSum {
    pub(super) count: u64,
    pub(super) sum: f64,
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
                "SELECT coalesce(sum(count), 0), coalesce(sum(sum), 0.0) FROM {name} WHERE {id} = ?1
                     AND {bucket} >= ?2 AND {bucket} < ?3"
            ))
        };
        Ok(Self { series: prepare(RollupScope::Series)?, metrics: prepare(RollupScope::Metric)? })
    }

    /// Adds up the rows of a series or of a metric in a range of buckets.
    fn read(&mut self, (scope, id): (RollupScope, i64), buckets: &Range<i64>) -> Result<CountSum> {
        if buckets.is_empty() {
            return Ok(CountSum::default());
        }
        let count_sum = |row: &Row<'_>| Ok(CountSum { count: row.get::<_, i64>(0)?.unsigned_abs(), sum: row.get(1)? });
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
    /// By name and type.
    pub(super) metrics: BTreeMap<(String, String), CountSum>,
    pub(super) vitals: PerVital,
    /// Aggregates by page, for each Web Vital.
    pub(super) by_page: [BTreeMap<String, Aggregate>; WEB_VITAL_COUNT],
    pub(super) by_bucket: BTreeMap<i64, VitalsP75>,
}

impl RangeStats {
    /// Reads the statistics of a range of buckets.
    pub(super) fn read(
        connection: &Connection,
        reader: &RollupReader<'_>,
        series: &[Series],
        buckets: Range<i64>,
    ) -> Result<Self> {
        let mut stats = Self::default();
        let mut by_bucket: [BTreeMap<i64, Aggregate>; WEB_VITAL_COUNT] = Default::default();
        let mut count_sums = CountSumStmts::prepare(connection, reader)?;
        let mut rollups_read = HashSet::new();
        for series in series {
            let [per_series, per_metric] = metric_rollup::split_range(&buckets, series.rollup, reader.resolution());
            let rollup = series.rollup.filter(|rollup| rollups_read.insert(rollup.metric_id));
            let Some(browser_vital) = &series.browser_vital else {
                let mut add = |added| stats.add_to_metric(&series.name, &series.kind, added);
                for (_, Aggregate { count, sum, .. }) in reader.not_rolled_up(series.id, &buckets) {
                    add(CountSum { count: *count, sum: *sum });
                }
                add(count_sums.read((RollupScope::Series, series.id), &per_series)?);
                if let Some(rollup) = rollup {
                    add(count_sums.read((RollupScope::Metric, rollup.metric_id), &per_metric)?);
                }
                continue;
            };
            let (kind, by_bucket) = (series.aggregate_kind(), &mut by_bucket[browser_vital.index]);
            let mut page_total: Option<Aggregate> = None;
            let mut add = |bucket, aggregate: Aggregate| {
                merge_total(&mut page_total, &aggregate);
                merge_into(by_bucket, bucket, aggregate);
            };
            reader.for_each_row((RollupScope::Series, series.id), kind, &per_series, &mut add)?;
            for (bucket, aggregate) in reader.not_rolled_up(series.id, &buckets) {
                add(bucket, aggregate.clone());
            }
            if let Some(rollup) = rollup {
                reader.for_each_row(
                    (RollupScope::Metric, rollup.metric_id),
                    kind,
                    &per_metric,
                    |bucket, aggregate| {
                        merge_into(by_bucket, bucket, aggregate);
                    },
                )?;
            }
            // Metric rollups do not distinguish pages.
            let Some(page) = &browser_vital.page else { continue };
            reader.for_each_row((RollupScope::Series, series.id), kind, &per_metric, |_, aggregate| {
                merge_total(&mut page_total, &aggregate);
            })?;
            if let Some(aggregate) = page_total {
                merge_into(&mut stats.by_page[browser_vital.index], page.clone(), aggregate);
            }
        }
        stats.add_vitals(by_bucket);
        Ok(stats)
    }

    fn add_vitals(&mut self, by_bucket: [BTreeMap<i64, Aggregate>; WEB_VITAL_COUNT]) {
        for (index, vital) in WEB_VITALS.iter().enumerate() {
            for aggregate in by_bucket[index].values() {
                merge_total(&mut self.vitals[index], aggregate);
            }
            if let Some(Aggregate { count, sum, .. }) = self.vitals[index] {
                self.add_to_metric(vital.metric, MetricKind::Histogram.as_str(), CountSum { count, sum });
            }
        }
        self.by_bucket = transpose(by_bucket)
            .into_iter()
            .map(|(bucket, vitals)| {
                let count = vitals.iter().flatten().map(|aggregate| aggregate.count).sum();
                (bucket, VitalsP75 { p75: p75(&vitals), count })
            })
            .collect();
    }

    fn add_to_metric(&mut self, name: &str, kind: &str, added: CountSum) {
        if added.count == 0 {
            return;
        }
        let metric = self.metrics.entry((name.to_owned(), kind.to_owned())).or_default();
        metric.count += added.count;
        metric.sum += added.sum;
    }

    /// Adds the statistics of a range that shares no bucket with this one.
    pub(super) fn merge(&mut self, other: &Self) {
        for ((name, kind), count_sum) in &other.metrics {
            self.add_to_metric(name, kind, *count_sum);
        }
        for vital in 0..WEB_VITAL_COUNT {
            if let Some(aggregate) = &other.vitals[vital] {
                merge_total(&mut self.vitals[vital], aggregate);
            }
            for (page, aggregate) in &other.by_page[vital] {
                merge_into(&mut self.by_page[vital], page.clone(), aggregate.clone());
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

/// Returns the 75th percentile of each Web Vital.
pub(super) fn p75(vitals: &PerVital) -> [Option<f64>; WEB_VITAL_COUNT] {
    vitals.each_ref().map(|aggregate| aggregate.as_ref()?.quantile(0.75))
}

fn merge_total(total: &mut Option<Aggregate>, aggregate: &Aggregate) {
    match total {
        Some(total) => total.merge(aggregate),
        None => *total = Some(aggregate.clone()),
    }
}
