//! What a first screen shows of a period: how much was measured, what most, and how web pages felt to visitors.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{CachedStatement, Connection, Row};
use serde::Serialize;

use super::caps;
use super::points::Kind;
use super::series::OVERFLOW_LABELS;
use super::store::{Resolution, Tier, put};
use super::tally::{Detail, Tally};
use super::vitals::{Rating, VITALS, VITALS_COUNT, Vital, fold_page};
use super::whole::{self, Metric, Whole};
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

/// Hours that are over for this long, and for as long as points may be late, stay as they are: those are rolled up by
/// then. What was read of them is kept, since a month of hours is a lot to read for every look.
const SETTLED_AFTER: Duration = Duration::from_secs(2 * 3_600);
/// How many such readings are kept, and how large each may be: every page and every metric counts.
const SETTLED_KEPT_MAX: usize = 3;
const SETTLED_ENTRIES_MAX: usize = 1_000;

/// What was read of hours that are over, the latest reading last.
pub(super) struct Settled {
    after: Duration,
    readings: Mutex<Vec<Reading>>,
}

struct Reading {
    project: Option<String>,
    buckets: Range<i64>,
    span: Arc<Span>,
}

impl Settled {
    /// Nothing yet, of points that may be as late as this.
    pub(super) fn new(point_age_max: Duration) -> Self {
        Self { after: point_age_max + SETTLED_AFTER, readings: Mutex::default() }
    }

    /// The first hour that may still change.
    fn first_open(&self, now: Timestamp) -> i64 {
        (now - self.after).hour()
    }

    /// What is known of these hours, read if need be.
    fn read(
        &self,
        project: Option<&str>,
        buckets: Range<i64>,
        read: impl FnOnce() -> Result<Span>,
    ) -> Result<Arc<Span>> {
        let same = |reading: &&Reading| reading.project.as_deref() == project && reading.buckets == buckets;
        let kept = || self.readings.lock().unwrap_or_else(PoisonError::into_inner);
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

/// Puts together the dashboard of one project or of all, in a range of buckets.
pub(super) fn read(
    connection: &Connection,
    settled: &Settled,
    project: Option<&str>,
    buckets: Range<i64>,
    resolution: Resolution,
    now: Timestamp,
) -> Result<Dashboard> {
    let snapshot = connection.unchecked_transaction()?;
    let series = series(&snapshot, project)?;
    let tier = Tier::open(&snapshot, buckets.start, resolution, |id| {
        let found = series.binary_search_by_key(&id, |series| series.id).ok().map(|index| &series[index])?;
        // Others are only counted.
        Some(found.measured.as_ref().map(Measured::detail).unwrap_or_default())
    })?;
    let mut span = Span::default();
    let mut from = buckets.start;
    let over = if resolution == Resolution::Hour { settled.first_open(now).min(buckets.end) } else { from };
    // Where rollups wait for so long, hours that are over still change.
    if from < over && !tier.has_fresh_before(over) {
        let old = settled.read(project, from..over, || Span::read(&snapshot, &tier, &series, from..over))?;
        span.merge(&old);
        from = over;
    }
    span.merge(&Span::read(&snapshot, &tier, &series, from..buckets.end)?);
    Ok(span.show(resolution, caps::by_metric(&snapshot)?))
}

struct Series {
    id: i64,
    name: String,
    kind: String,
    /// Of series that browsers report vitals in.
    measured: Option<Measured>,
    /// Of which it is a part, where that can be read in its place.
    whole: Option<Whole>,
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
    let wholes = whole::of_all(connection)?;
    let mut read = connection.prepare_cached(
        "SELECT id, labels, name, type, project FROM series WHERE ?1 IS NULL OR project = ?1 ORDER BY id",
    )?;
    let mut rows = read.query([project])?;
    let (mut found, mut mixed) = (Vec::new(), HashSet::new());
    while let Some(row) = rows.next()? {
        let metric = Metric::read(row, 2)?;
        let whole = wholes.get(&metric).copied();
        let Metric { name, kind, .. } = metric;
        let vital = Vital::named(&name).filter(|_| kind == Kind::Histogram.name());
        let measured = match vital {
            Some(vital) => measured(vital, row.get_ref(1)?.as_str().unwrap_or("{}")),
            None => None,
        };
        // That whole is not only what browsers reported.
        mixed.extend(whole.filter(|_| vital.is_some() && measured.is_none()).map(|whole| whole.id));
        found.push(Series { id: row.get(0)?, name, kind, measured, whole });
    }
    for series in &mut found {
        series.whole = series.whole.filter(|whole| !mixed.contains(&whole.id));
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

/// Counts and sums of rows, of which nothing else is asked.
struct Sums<'c>(CachedStatement<'c>);

impl<'c> Sums<'c> {
    fn of(connection: &'c Connection, tier: &Tier<'_>) -> Result<Self> {
        Ok(Self(connection.prepare_cached(&format!(
            "SELECT coalesce(sum(count), 0), coalesce(sum(sum), 0.0) FROM {} WHERE series_id = ?1
                 AND bucket >= ?2 AND bucket < ?3",
            tier.resolution().tier()
        ))?))
    }

    /// Of a series, or of a metric's whole.
    fn read(&mut self, id: i64, buckets: &Range<i64>) -> Result<(u64, f64)> {
        if buckets.is_empty() {
            return Ok((0, 0.0));
        }
        let sums = |row: &Row<'_>| Ok((row.get::<_, i64>(0)?.unsigned_abs(), row.get(1)?));
        Ok(self.0.query_row((id, buckets.start, buckets.end), sums)?)
    }
}

/// What was measured in a span of time.
#[derive(Default)]
struct Span {
    /// Count and sum by name and type.
    metrics: BTreeMap<(String, String), (u64, f64)>,
    vitals: [Option<Tally>; VITALS_COUNT],
    by_page: [BTreeMap<String, Tally>; VITALS_COUNT],
    /// Percentiles of each vital and the count of all, by bucket.
    by_bucket: BTreeMap<i64, ([Option<f64>; VITALS_COUNT], u64)>,
}

impl Span {
    fn read(connection: &Connection, tier: &Tier<'_>, series: &[Series], buckets: Range<i64>) -> Result<Self> {
        let mut span = Self::default();
        let mut by_bucket: [BTreeMap<i64, Tally>; VITALS_COUNT] = Default::default();
        let mut sums = Sums::of(connection, tier)?;
        let mut begun = HashSet::new();
        for series in series {
            let [apart, together] = whole::split(&buckets, series.whole, tier.resolution());
            let whole = series.whole.filter(|whole| begun.insert(whole.id));
            let fresh = tier.fresh(series.id, &buckets);
            let Some(measured) = &series.measured else {
                fresh.for_each(|(_, tally)| span.count(&series.name, &series.kind, (tally.count, tally.sum)));
                span.count(&series.name, &series.kind, sums.read(series.id, &apart)?);
                if let Some(whole) = whole {
                    span.count(&series.name, &series.kind, sums.read(whole.id, &together)?);
                }
                continue;
            };
            let (detail, by_bucket) = (measured.detail(), &mut by_bucket[measured.index]);
            let mut of_page: Option<Tally> = None;
            let mut put_both = |bucket, tally: Tally| {
                add(&mut of_page, &tally);
                put(by_bucket, bucket, tally);
            };
            tier.rows(series.id, detail, &apart, &mut put_both)?;
            fresh.for_each(|(bucket, tally)| put_both(bucket, tally.clone()));
            if let Some(whole) = whole {
                tier.rows(whole.id, detail, &together, |bucket, tally| put(by_bucket, bucket, tally))?;
            }
            // Pages are told apart by series alone.
            let Some(page) = &measured.page else { continue };
            tier.rows(series.id, detail, &together, |_, tally| add(&mut of_page, &tally))?;
            if let Some(tally) = of_page {
                put(&mut span.by_page[measured.index], page.clone(), tally);
            }
        }
        for (index, vital) in VITALS.iter().enumerate() {
            for tally in by_bucket[index].values() {
                add(&mut span.vitals[index], tally);
            }
            if let Some(all) = &span.vitals[index] {
                let sums = (all.count, all.sum);
                span.count(vital.metric, Kind::Histogram.name(), sums);
            }
        }
        span.by_bucket = by_key(by_bucket)
            .into_iter()
            .map(|(bucket, tallies)| (bucket, (p75(&tallies), tallies.iter().flatten().map(|tally| tally.count).sum())))
            .collect();
        Ok(span)
    }

    fn count(&mut self, name: &str, kind: &str, (count, sum): (u64, f64)) {
        if count == 0 {
            return;
        }
        let known = self.metrics.entry((name.to_owned(), kind.to_owned())).or_default();
        *known = (known.0 + count, known.1 + sum);
    }

    /// Adds a span that has no bucket in common with this one.
    fn merge(&mut self, other: &Self) {
        for ((name, kind), sums) in &other.metrics {
            self.count(name, kind, *sums);
        }
        for vital in 0..VITALS_COUNT {
            if let Some(tally) = &other.vitals[vital] {
                add(&mut self.vitals[vital], tally);
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
        let browsers = self.vitals.iter().any(Option::is_some);
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
            summary: self.vitals.map(|tally| summarise(tally.as_ref())).into(),
            timeseries: self.by_bucket.into_iter().map(moment).collect(),
            by_page: pages(self.by_page),
        });
        Dashboard { summary, top_metrics: top(self.metrics), web_vitals, warnings }
    }
}

fn add(all: &mut Option<Tally>, tally: &Tally) {
    match all {
        Some(all) => all.merge(tally),
        None => *all = Some(tally.clone()),
    }
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
