//! What a first screen shows of a period: how much was measured, what most, and how web pages felt to visitors.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::Connection;
use serde::Serialize;

use super::caps;
use super::points::Kind;
use super::series::OVERFLOW_LABELS;
use super::store::{Resolution, Tier, put};
use super::tally::{Detail, Tally};
use super::vitals::{Rating, VITALS, VITALS_COUNT, Vital, fold_page};
use crate::clock::Timestamp;
use crate::error::Result;

/// Metrics that are listed.
const TOP_METRICS_MAX: usize = 10;
/// Pages that are listed.
const PAGES_MAX: usize = 50;

/// A period at a glance.
#[derive(Debug, Serialize)]
pub(super) struct Dashboard {
    summary: Summary,
    top_metrics: Vec<Top>,
    /// Absent where no browser has reported.
    #[serde(skip_serializing_if = "Option::is_none")]
    web_vitals: Option<WebVitals>,
    /// What a reader of these numbers must know.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Summary {
    total_datapoints: u64,
    /// Names with their types.
    distinct_metrics: usize,
}

#[derive(Debug, Serialize)]
struct Top {
    name: String,
    r#type: String,
    count: u64,
    total: f64,
}

#[derive(Debug, Serialize)]
struct WebVitals {
    summary: PerVital<VitalSummary>,
    timeseries: Vec<Moment>,
    by_page: Vec<Page>,
}

/// One of something for each vital.
#[derive(Debug, Serialize)]
struct PerVital<T> {
    lcp: T,
    inp: T,
    cls: T,
    fcp: T,
    ttfb: T,
}

impl<T> From<[T; VITALS_COUNT]> for PerVital<T> {
    fn from([lcp, inp, cls, fcp, ttfb]: [T; VITALS_COUNT]) -> Self {
        Self { lcp, inp, cls, fcp, ttfb }
    }
}

/// In ms, except that the layout shift has no unit. The shares and the rating are exact, the percentile as a sketch is.
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
struct Moment {
    bucket: Timestamp,
    #[serde(flatten)]
    p75: PerVital<Option<f64>>,
    /// Values of all vitals.
    count: u64,
}

#[derive(Debug, Serialize)]
struct Page {
    page: String,
    #[serde(flatten)]
    p75: PerVital<Option<f64>>,
    page_views: u64,
}

/// Hours that are over for this long stay as they are: points land at most 24 h back and are then rolled up. What was
/// read of them is kept, since a month of hours is a lot to read for every look.
const SETTLED_AFTER: Duration = Duration::from_secs(26 * 3_600);
/// How many such readings are kept, and how large each may be: every page and every metric counts.
const SETTLED_KEPT_MAX: usize = 3;
const SETTLED_ENTRIES_MAX: usize = 1_000;

/// What was read of hours that are over, the latest reading last.
#[derive(Default)]
pub(super) struct Settled(Mutex<Vec<Reading>>);

struct Reading {
    project: Option<String>,
    buckets: Range<i64>,
    span: Arc<Span>,
}

impl Settled {
    /// What is known of these hours, read if need be.
    fn read(
        &self,
        project: Option<&str>,
        buckets: Range<i64>,
        read: impl FnOnce() -> Result<Span>,
    ) -> Result<Arc<Span>> {
        let same = |reading: &&Reading| reading.project.as_deref() == project && reading.buckets == buckets;
        let kept = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reading) = kept().iter().find(same) {
            return Ok(Arc::clone(&reading.span));
        }
        // Outside the lock: another look may read the same meanwhile, which is better than waiting for this one.
        let span = Arc::new(read()?);
        if span.entries() <= SETTLED_ENTRIES_MAX {
            let mut kept = kept();
            if kept.len() == SETTLED_KEPT_MAX {
                kept.remove(0);
            }
            kept.push(Reading { project: project.map(str::to_owned), buckets, span: Arc::clone(&span) });
        }
        Ok(span)
    }
}

/// Puts together the dashboard of one project or of all.
pub(super) fn read(
    connection: &Connection,
    settled: &Settled,
    project: Option<&str>,
    period: Duration,
    resolution: Resolution,
    now: Timestamp,
) -> Result<Dashboard> {
    let snapshot = connection.unchecked_transaction()?;
    let series = series(&snapshot, project)?;
    let tier = Tier::since(&snapshot, now.minus(period), resolution, |id| {
        let found = series.binary_search_by_key(&id, |series| series.id).ok().map(|index| &series[index])?;
        // Others are only counted.
        Some(found.measured.as_ref().map(Measured::detail).unwrap_or_default())
    })?;
    let over = now.minus(SETTLED_AFTER).ms().div_euclid(resolution.ms());
    let mut span = Span::default();
    let mut from = tier.first();
    // Where rollups wait for so long, hours that are over still change.
    if resolution == Resolution::Hour && from < over && !tier.has_fresh_before(over) {
        let old = settled.read(project, from..over, || Span::read(&snapshot, &tier, &series, from..over))?;
        span.merge(&old);
        from = over;
    }
    span.merge(&Span::read(&snapshot, &tier, &series, from..i64::MAX)?);
    Ok(span.show(resolution, caps::by_metric(&snapshot)?))
}

struct Series {
    id: i64,
    name: String,
    kind: String,
    /// Of series that browsers report vitals in.
    measured: Option<Measured>,
}

/// Which vital, and on which page.
struct Measured {
    vital: &'static Vital,
    /// Its place among all vitals.
    index: usize,
    /// Folded; `None` where it is not known.
    page: Option<String>,
}

impl Measured {
    fn detail(&self) -> Detail {
        Detail::of(Some(Kind::Histogram), self.vital.metric)
    }
}

/// Every series of one project or of all, in the order of their ids.
fn series(connection: &Connection, project: Option<&str>) -> Result<Vec<Series>> {
    let mut read = connection
        .prepare_cached("SELECT id, name, type, labels FROM series WHERE ?1 IS NULL OR project = ?1 ORDER BY id")?;
    let mut rows = read.query([project])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let (name, kind): (String, String) = (row.get(1)?, row.get(2)?);
        let vital = Vital::named(&name).filter(|_| kind == Kind::Histogram.name());
        let measured = match vital {
            Some(vital) => measured(vital, row.get_ref(3)?.as_str().unwrap_or("{}")),
            None => None,
        };
        found.push(Series { id: row.get(0)?, name, kind, measured });
    }
    Ok(found)
}

fn measured(vital: &'static Vital, labels: &str) -> Option<Measured> {
    let index = VITALS.iter().position(|known| known == vital)?;
    if labels == OVERFLOW_LABELS {
        // Over the cap nobody knows the page, and the visitors still count.
        return Some(Measured { vital, index, page: None });
    }
    let labels: BTreeMap<String, String> = serde_json::from_str(labels).unwrap_or_default();
    let browser = labels.get("source").is_some_and(|source| source == "browser");
    browser.then(|| Measured { vital, index, page: labels.get("page").map(|page| fold_page(page)) })
}

/// What was measured in a span of time.
#[derive(Default)]
struct Span {
    /// Count and sum by name and type.
    metrics: BTreeMap<(String, String), (u64, f64)>,
    vitals: [BTreeMap<(), Tally>; VITALS_COUNT],
    by_page: [BTreeMap<String, Tally>; VITALS_COUNT],
    /// Percentiles of each vital and the count of all, by bucket.
    by_bucket: BTreeMap<i64, ([Option<f64>; VITALS_COUNT], u64)>,
}

impl Span {
    fn read(connection: &Connection, tier: &Tier<'_>, series: &[Series], buckets: Range<i64>) -> Result<Self> {
        let mut span = Self::default();
        let mut by_bucket: [BTreeMap<i64, Tally>; VITALS_COUNT] = Default::default();
        let mut sums = connection.prepare_cached(&format!(
            "SELECT coalesce(sum(count), 0), coalesce(sum(sum), 0.0) FROM {} WHERE series_id = ?1
                 AND bucket >= ?2 AND bucket < ?3",
            tier.name()
        ))?;
        for series in series {
            let (mut count, mut sum) = (0, 0.0);
            let mut add = |tally: &Tally| (count, sum) = (count + tally.count, sum + tally.sum);
            if let Some(measured) = &series.measured {
                let by_bucket = &mut by_bucket[measured.index];
                if let Some(all) = read_series(tier, series.id, measured.detail(), &buckets, by_bucket)? {
                    add(&all);
                    span.put(measured, all);
                }
            } else {
                tier.fresh(series.id, &buckets).for_each(|(_, tally)| add(tally));
                let (rows_count, rows_sum): (i64, f64) =
                    sums.query_row((series.id, buckets.start, buckets.end), |row| Ok((row.get(0)?, row.get(1)?)))?;
                (count, sum) = (count + rows_count.unsigned_abs(), sum + rows_sum);
            }
            if count > 0 {
                span.count(&series.name, &series.kind, (count, sum));
            }
        }
        span.by_bucket = by_key(by_bucket)
            .into_iter()
            .map(|(bucket, tallies)| (bucket, (p75(&tallies), tallies.iter().flatten().map(|tally| tally.count).sum())))
            .collect();
        Ok(span)
    }

    fn put(&mut self, measured: &Measured, tally: Tally) {
        if let Some(page) = &measured.page {
            put(&mut self.by_page[measured.index], page.clone(), tally.clone());
        }
        put(&mut self.vitals[measured.index], (), tally);
    }

    fn count(&mut self, name: &str, kind: &str, (count, sum): (u64, f64)) {
        let known = self.metrics.entry((name.to_owned(), kind.to_owned())).or_default();
        *known = (known.0 + count, known.1 + sum);
    }

    /// Adds a span that has no bucket in common with this one.
    fn merge(&mut self, other: &Self) {
        for ((name, kind), sums) in &other.metrics {
            self.count(name, kind, *sums);
        }
        for vital in 0..VITALS_COUNT {
            for tally in other.vitals[vital].values() {
                put(&mut self.vitals[vital], (), tally.clone());
            }
            for (page, tally) in &other.by_page[vital] {
                put(&mut self.by_page[vital], page.clone(), tally.clone());
            }
        }
        self.by_bucket.extend(&other.by_bucket);
    }

    /// How many things it tells apart, buckets aside.
    fn entries(&self) -> usize {
        self.metrics.len() + self.by_page.iter().map(BTreeMap::len).sum::<usize>()
    }

    fn show(self, resolution: Resolution, warnings: Vec<String>) -> Dashboard {
        let browsers = self.vitals.iter().any(|vital| !vital.is_empty());
        let summary = Summary {
            total_datapoints: self.metrics.values().map(|(count, _)| count).sum(),
            distinct_metrics: self.metrics.len(),
        };
        let moment = |(bucket, (p75, count)): (i64, ([Option<f64>; VITALS_COUNT], u64))| Moment {
            bucket: Timestamp::from_ms(bucket.saturating_mul(resolution.ms())),
            p75: p75.into(),
            count,
        };
        let web_vitals = browsers.then(|| WebVitals {
            summary: self.vitals.map(|tally| summarise(tally.get(&()))).into(),
            timeseries: self.by_bucket.into_iter().map(moment).collect(),
            by_page: pages(self.by_page),
        });
        Dashboard { summary, top_metrics: top(self.metrics), web_vitals, warnings }
    }
}

/// Adds a series to the buckets of its vital; answers all of it.
fn read_series(
    tier: &Tier<'_>,
    series: i64,
    detail: Detail,
    buckets: &Range<i64>,
    by_bucket: &mut BTreeMap<i64, Tally>,
) -> Result<Option<Tally>> {
    let mut all: Option<Tally> = None;
    tier.each(series, detail, buckets, |bucket, tally| {
        match &mut all {
            Some(all) => all.merge(&tally),
            None => all = Some(tally.clone()),
        }
        put(by_bucket, bucket, tally);
    })?;
    Ok(all)
}

fn top(metrics: BTreeMap<(String, String), (u64, f64)>) -> Vec<Top> {
    let mut sorted: Vec<_> = metrics.into_iter().collect();
    // Stable: of equal counts the first name comes first.
    sorted.sort_by_key(|(_, (count, _))| std::cmp::Reverse(*count));
    sorted.truncate(TOP_METRICS_MAX);
    let top = |((name, kind), (count, total))| Top { name, r#type: kind, count, total };
    sorted.into_iter().map(top).collect()
}

/// The pages that most visitors saw.
fn pages(by_page: [BTreeMap<String, Tally>; VITALS_COUNT]) -> Vec<Page> {
    // A view reports each vital at most once and not every view reports all, so the most frequent comes closest.
    let views = |tallies: &[Option<Tally>; VITALS_COUNT]| tallies.iter().flatten().map(|tally| tally.count).max();
    let mut sorted: Vec<_> = by_key(by_page).into_iter().collect();
    // Stable: of equal views the first name comes first.
    sorted.sort_by_key(|(_, tallies)| std::cmp::Reverse(views(tallies)));
    sorted.truncate(PAGES_MAX);
    let page = |(page, tallies)| Page { page, p75: p75(&tallies).into(), page_views: views(&tallies).unwrap_or(0) };
    sorted.into_iter().map(page).collect()
}

/// From one table for each vital to one row for each key.
fn by_key<K: Ord>(tables: [BTreeMap<K, Tally>; VITALS_COUNT]) -> BTreeMap<K, [Option<Tally>; VITALS_COUNT]> {
    let mut rows: BTreeMap<K, [Option<Tally>; VITALS_COUNT]> = BTreeMap::new();
    for (vital, table) in tables.into_iter().enumerate() {
        for (key, tally) in table {
            rows.entry(key).or_default()[vital] = Some(tally);
        }
    }
    rows
}

fn p75(tallies: &[Option<Tally>; VITALS_COUNT]) -> [Option<f64>; VITALS_COUNT] {
    tallies.each_ref().map(|tally| tally.as_ref()?.quantile(0.75))
}

fn summarise(tally: Option<&Tally>) -> VitalSummary {
    let shares = tally.and_then(|tally| tally.shares.as_deref().copied()).unwrap_or_default();
    VitalSummary {
        avg: tally.map(|tally| tally.sum / tally.count.max(1) as f64),
        p75: tally.and_then(|tally| tally.quantile(0.75)),
        count: tally.map_or(0, |tally| tally.count),
        good: shares.good,
        needs_improvement: shares.needs_improvement,
        poor: shares.poor,
        rating: shares.rating(),
    }
}
