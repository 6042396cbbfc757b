//! JSON response of the dashboard.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use serde::Serialize;

use super::super::aggregate::Aggregate;
use super::super::resolution::Resolution;
use super::super::web_vitals::{Rating, WEB_VITAL_COUNT};
use super::range_stats::{self, CountSum, RangeStats, p75};
use crate::clock::Timestamp;

/// Maximum number of metrics in the response.
const TOP_METRICS_MAX: usize = 10;
/// Maximum number of pages in the response.
const PAGES_MAX: usize = 50;

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
    r#type: String,
    count: u64,
    total: f64,
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

/// Summary of one Web Vital. Values are in ms; the layout shift has no unit. Rating counts and rating are exact, the
/// percentile has the error of the sketch.
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
    pub(super) fn new(stats: RangeStats, resolution: Resolution, warnings: Vec<String>) -> Self {
        let has_vitals = stats.vitals.iter().any(Option::is_some);
        let summary = Summary {
            total_datapoints: stats.metrics.values().map(|metric| metric.count).sum(),
            distinct_metrics: stats.metrics.len(),
        };
        let vitals_bucket = |(bucket, vitals): (i64, range_stats::VitalsP75)| VitalsBucket {
            bucket: Timestamp::from_ms(bucket.saturating_mul(resolution.ms())),
            p75: vitals.p75.into(),
            count: vitals.count,
        };
        let web_vitals = has_vitals.then(|| WebVitals {
            summary: stats.vitals.map(|aggregate| summarize(aggregate.as_ref())).into(),
            timeseries: stats.by_bucket.into_iter().map(vitals_bucket).collect(),
            by_page: top_pages(stats.by_page),
        });
        Self { summary, top_metrics: top_metrics(stats.metrics), web_vitals, warnings }
    }
}

/// Returns the metrics with the most points. Of metrics with the same number, the first name comes first.
fn top_metrics(metrics: BTreeMap<(String, String), CountSum>) -> Vec<TopMetric> {
    let mut sorted: Vec<_> = metrics.into_iter().collect();
    sorted.sort_by_key(|(_, metric)| Reverse(metric.count));
    sorted.truncate(TOP_METRICS_MAX);
    let top = |((name, kind), CountSum { count, sum })| TopMetric { name, r#type: kind, count, total: sum };
    sorted.into_iter().map(top).collect()
}

/// Returns the pages with the most views. Of pages with the same number, the first path comes first.
fn top_pages(by_page: [BTreeMap<String, Aggregate>; WEB_VITAL_COUNT]) -> Vec<PageVitals> {
    // A view reports each Web Vital at most once, and some views do not report all of them. The most frequent Web Vital
    // is therefore the best estimate of the number of views.
    let views = |vitals: &range_stats::PerVital| vitals.iter().flatten().map(|aggregate| aggregate.count).max();
    let mut sorted: Vec<_> = range_stats::transpose(by_page).into_iter().collect();
    sorted.sort_by_key(|(_, vitals)| Reverse(views(vitals)));
    sorted.truncate(PAGES_MAX);
    let page = |(page, vitals)| PageVitals { page, p75: p75(&vitals).into(), page_views: views(&vitals).unwrap_or(0) };
    sorted.into_iter().map(page).collect()
}

fn summarize(aggregate: Option<&Aggregate>) -> VitalSummary {
    let ratings = aggregate.and_then(|aggregate| aggregate.ratings.as_deref().copied()).unwrap_or_default();
    VitalSummary {
        avg: aggregate.map(|aggregate| aggregate.sum / aggregate.count.max(1) as f64),
        p75: aggregate.and_then(|aggregate| aggregate.quantile(0.75)),
        count: aggregate.map_or(0, |aggregate| aggregate.count),
        good: ratings.good,
        needs_improvement: ratings.needs_improvement,
        poor: ratings.poor,
        rating: ratings.rating(),
    }
}
