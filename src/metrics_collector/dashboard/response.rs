//! JSON response of the dashboard.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

use rusqlite::Connection;
use serde::Serialize;

use super::super::aggregate::Aggregate;
use super::super::compensated_sum::CompensatedSum;
use super::super::lists::type_name;
use super::super::resolution::Resolution;
use super::super::web_vitals::{Rating, WEB_VITAL_COUNT, WEB_VITALS};
use super::range_stats::{self, PageHash, RangeStats, p75};
use crate::clock::Timestamp;
use crate::error::Result;
use crate::records::point::MetricKind;

/// Maximum number of metrics in the response.
const TOP_METRICS_MAX: usize = 10;
/// Maximum number of pages in the response.
pub(super) const PAGES_MAX: usize = 50;
const HISTOGRAM: &str = MetricKind::ALL[2].as_str();

/// Dashboard of a time range.
#[derive(Debug, Serialize)]
pub(in super::super) struct Dashboard {
    summary: Summary,
    top_metrics: Vec<TopMetric>,
    /// Absent if no browser has reported.
    #[serde(skip_serializing_if = "Option::is_none")]
    web_vitals: Option<WebVitals>,
    /// Metrics that reached a limit on series.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Summary {
    total_datapoints: u64,
    /// Number of combinations of name and type.
    distinct_metrics: usize,
}

#[derive(Debug, Serialize)]
struct TopMetric {
    name: String,
    r#type: &'static str,
    count: u64,
    total: CompensatedSum,
}

#[derive(Debug, Serialize)]
struct WebVitals {
    summary: PerVital<VitalSummary>,
    timeseries: Vec<VitalsBucket>,
    by_page: Vec<PageVitals>,
}

/// One value for each Web Vital.
#[derive(Debug, Serialize)]
struct PerVital<T> {
    lcp: T,
    inp: T,
    cls: T,
    fcp: T,
    ttfb: T,
}

impl<T> From<[T; WEB_VITAL_COUNT]> for PerVital<T> {
    fn from([lcp, inp, cls, fcp, ttfb]: [T; WEB_VITAL_COUNT]) -> Self {
        Self { lcp, inp, cls, fcp, ttfb }
    }
}

/// Summary of one Web Vital. Values are in ms; the layout shift has no unit. Rating counts and rating are exact; the
/// percentile has the error of the sketch, but agrees with the rating.
#[derive(Debug, Serialize)]
struct VitalSummary {
    avg: Option<f64>,
    p75: Option<f64>,
    count: u64,
    good: u64,
    needs_improvement: u64,
    poor: u64,
    rating: Option<Rating>,
}

#[derive(Debug, Serialize)]
struct VitalsBucket {
    bucket: Timestamp,
    #[serde(flatten)]
    p75: PerVital<Option<f64>>,
    /// Number of points of all Web Vitals.
    count: u64,
}

#[derive(Debug, Serialize)]
struct PageVitals {
    page: String,
    #[serde(flatten)]
    p75: PerVital<Option<f64>>,
    page_views: u64,
}

impl Dashboard {
    /// Creates the response from the statistics of the time range.
    pub(super) fn new(
        connection: &Connection,
        stats: RangeStats,
        paths: &HashMap<PageHash, String>,
        resolution: Resolution,
        warnings: Vec<String>,
    ) -> Result<Self> {
        let has_vitals = stats.vitals.iter().any(Option::is_some);
        let (summary, top_metrics) = top_metrics(connection, &stats)?;
        let vitals_bucket = |(bucket, vitals): (i64, range_stats::VitalsP75)| VitalsBucket {
            bucket: Timestamp::from_ms(bucket.saturating_mul(resolution.ms())),
            p75: vitals.p75.into(),
            count: vitals.count,
        };
        let web_vitals = has_vitals.then(|| WebVitals {
            summary: summaries(&stats.vitals).into(),
            timeseries: stats.by_bucket.into_iter().map(vitals_bucket).collect(),
            by_page: top_pages(stats.by_page, paths),
        });
        Ok(Self { summary, top_metrics, web_vitals, warnings })
    }
}

/// Returns the number of points and metrics, and the metrics with the most points. Of metrics with the same number, the first
/// name comes first. Metrics of several projects with the same name and type are one.
fn top_metrics(connection: &Connection, stats: &RangeStats) -> Result<(Summary, Vec<TopMetric>)> {
    let mut summary = Summary { total_datapoints: 0, distinct_metrics: 0 };
    let mut top: Vec<TopMetric> = Vec::new();
    let mut add = |metric: TopMetric| {
        if metric.count > 0 {
            summary.total_datapoints += metric.count;
            summary.distinct_metrics += 1;
            let position = top.partition_point(|other| other.count >= metric.count);
            top.insert(position, metric);
            top.truncate(TOP_METRICS_MAX);
        }
    };
    let mut read = connection.prepare_cached("SELECT id, name, type_id FROM metrics ORDER BY name, type_id")?;
    let mut rows = read.query([])?;
    let mut current: Option<TopMetric> = None;
    while let Some(row) = rows.next()? {
        let (name, kind) = (row.get_ref(1)?.as_str().unwrap_or_default(), type_name(row.get(2)?));
        if current.as_ref().is_none_or(|metric| metric.name != name || metric.r#type != kind) {
            current.take().into_iter().for_each(&mut add);
            // Points of browsers are counted by Web Vital and not by metric.
            let vital = WEB_VITALS.iter().position(|vital| vital.metric == name && kind == HISTOGRAM);
            let (count, total) = match vital.and_then(|vital| stats.vitals[vital].as_ref()) {
                Some(aggregate) => (aggregate.count, aggregate.sum),
                None => (0, CompensatedSum::default()),
            };
            current = Some(TopMetric { name: name.to_owned(), r#type: kind, count, total });
        }
        if let (Some(metric), Some(added)) = (&mut current, stats.metrics.get(&row.get(0)?)) {
            metric.count += added.count;
            metric.total.merge(added.sum);
        }
    }
    current.into_iter().for_each(&mut add);
    Ok((summary, top))
}

/// Returns the pages with the most views. Of pages with the same number, the first path comes first.
fn top_pages(
    by_page: [BTreeMap<PageHash, Aggregate>; WEB_VITAL_COUNT],
    paths: &HashMap<PageHash, String>,
) -> Vec<PageVitals> {
    // A view reports each Web Vital at most once, and some views do not report all of them. The most frequent Web Vital
    // is therefore the best estimate of the number of views.
    let views = |vitals: &range_stats::PerVital| vitals.iter().flatten().map(|aggregate| aggregate.count).max();
    let path = |page: PageHash| paths.get(&page).map_or("", String::as_str);
    let mut sorted: Vec<_> = range_stats::transpose(by_page).into_iter().collect();
    sorted.sort_by_cached_key(|(page, vitals)| (Reverse(views(vitals)), path(*page).to_owned()));
    sorted.truncate(PAGES_MAX);
    let page = |(page, vitals)| PageVitals {
        page: path(page).to_owned(),
        p75: p75(&vitals).into(),
        page_views: views(&vitals).unwrap_or(0),
    };
    sorted.into_iter().map(page).collect()
}

fn summaries(vitals: &range_stats::PerVital) -> [VitalSummary; WEB_VITAL_COUNT] {
    let p75 = p75(vitals);
    std::array::from_fn(|vital| summarize(vitals[vital].as_ref(), p75[vital]))
}

fn summarize(aggregate: Option<&Aggregate>, p75: Option<f64>) -> VitalSummary {
    let ratings = aggregate.and_then(|aggregate| aggregate.ratings.as_deref().copied()).unwrap_or_default();
    VitalSummary {
        avg: aggregate.map(Aggregate::avg),
        p75,
        count: aggregate.map_or(0, |aggregate| aggregate.count),
        good: ratings.good,
        needs_improvement: ratings.needs_improvement,
        poor: ratings.poor,
        rating: ratings.rating(),
    }
}
