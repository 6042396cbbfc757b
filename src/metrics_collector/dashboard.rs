//! What a first screen shows of a period: how much was measured, what most, and how web pages felt to visitors.

use std::collections::BTreeMap;

use rusqlite::Connection;
use serde::Serialize;

use super::points::Kind;
use super::series::OVERFLOW_LABELS;
use super::store::{Resolution, Tier, put, total};
use super::tally::{Detail, Tally};
use super::vitals::{Rating, VITALS, VITALS_COUNT, Vital, fold_page};
use crate::clock::Timestamp;
use crate::error::Result;

/// Metrics that are listed.
const TOP_METRICS_MAX: usize = 10;
/// Pages that are listed.
const PAGES_MAX: usize = 50;
/// Metrics over their cap that are named.
const OVERFLOWED_NAMED_MAX: usize = 10;

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

/// Puts together the dashboard of one project or of all.
pub(super) fn read(
    connection: &Connection,
    project: Option<&str>,
    since: Timestamp,
    resolution: Resolution,
) -> Result<Dashboard> {
    let snapshot = connection.unchecked_transaction()?;
    let series = series(&snapshot, project)?;
    let tier = Tier::since(&snapshot, since, resolution, |id| {
        let found = series.binary_search_by_key(&id, |series| series.id).ok().map(|index| &series[index])?;
        // Others are only counted.
        Some(
            found
                .measured
                .as_ref()
                .map_or_else(Detail::default, |measured| Detail::of(Some(Kind::Histogram), measured.vital.metric)),
        )
    })?;
    let mut metrics: BTreeMap<(&str, &str), (u64, f64)> = BTreeMap::new();
    let mut vitals = Vitals::default();
    let mut sums = snapshot.prepare_cached(&format!(
        "SELECT coalesce(sum(count), 0), coalesce(sum(sum), 0.0) FROM {} WHERE series_id = ?1 AND bucket >= ?2",
        resolution.tier()
    ))?;
    for series in &series {
        let (mut count, mut sum) = match &series.measured {
            Some(measured) => vitals.read(&tier, series.id, measured)?,
            None => sums
                .query_row((series.id, tier.first()), |row| Ok((row.get::<_, i64>(0)?, row.get(1)?)))
                .map(|(count, sum)| (count.unsigned_abs(), sum))?,
        };
        if series.measured.is_none() {
            tier.fresh(series.id).for_each(|(_, tally)| (count, sum) = (count + tally.count, sum + tally.sum));
        }
        if count > 0 {
            let known = metrics.entry((&series.name, &series.kind)).or_default();
            *known = (known.0 + count, known.1 + sum);
        }
    }
    Ok(Dashboard {
        summary: Summary {
            total_datapoints: metrics.values().map(|(count, _)| count).sum(),
            distinct_metrics: metrics.len(),
        },
        top_metrics: top(metrics),
        web_vitals: vitals.show(resolution),
        warnings: warnings(&snapshot)?,
    })
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
    /// Folded; `None` where it is not known.
    page: Option<String>,
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
    if labels == OVERFLOW_LABELS {
        // Over the cap nobody knows the page, and the visitors still count.
        return Some(Measured { vital, page: None });
    }
    let labels: BTreeMap<String, String> = serde_json::from_str(labels).unwrap_or_default();
    let browser = labels.get("source").is_some_and(|source| source == "browser");
    browser.then(|| Measured { vital, page: labels.get("page").map(|page| fold_page(page)) })
}

fn top(metrics: BTreeMap<(&str, &str), (u64, f64)>) -> Vec<Top> {
    let mut sorted: Vec<_> = metrics.into_iter().collect();
    // Stable: of equal counts the first name comes first.
    sorted.sort_by_key(|(_, (count, _))| std::cmp::Reverse(*count));
    sorted.truncate(TOP_METRICS_MAX);
    let top = |((name, kind), (count, total)): ((&str, &str), _)| Top {
        name: name.into(),
        r#type: kind.into(),
        count,
        total,
    };
    sorted.into_iter().map(top).collect()
}

/// The tallies of each vital.
#[derive(Default)]
struct Vitals {
    by_bucket: [BTreeMap<i64, Tally>; VITALS_COUNT],
    by_page: [BTreeMap<String, Tally>; VITALS_COUNT],
    /// What has no page, too.
    in_all: [BTreeMap<(), Tally>; VITALS_COUNT],
}

impl Vitals {
    /// Adds a series; answers how many points it has in the period, and their sum.
    fn read(&mut self, tier: &Tier<'_>, id: i64, measured: &Measured) -> Result<(u64, f64)> {
        let Some(vital) = VITALS.iter().position(|vital| vital == measured.vital) else { return Ok((0, 0.0)) };
        let mut all: Option<Tally> = None;
        tier.each(id, |bucket, tally| {
            match &mut all {
                Some(all) => all.merge(&tally),
                None => all = Some(tally.clone()),
            }
            put(&mut self.by_bucket[vital], bucket, tally);
        })?;
        let Some(all) = all else { return Ok((0, 0.0)) };
        let found = (all.count, all.sum);
        if let Some(page) = &measured.page {
            put(&mut self.by_page[vital], page.clone(), all.clone());
        }
        put(&mut self.in_all[vital], (), all);
        Ok(found)
    }

    /// As it is answered; `None` where there is nothing.
    fn show(self, resolution: Resolution) -> Option<WebVitals> {
        if self.in_all.iter().all(BTreeMap::is_empty) {
            return None;
        }
        let summary = self.in_all.map(|tally| summarise(tally.get(&()))).into();
        let buckets = by_key(self.by_bucket).into_iter().map(|(bucket, tallies)| Moment {
            bucket: Timestamp::from_ms(bucket.saturating_mul(resolution.ms())),
            count: tallies.iter().flatten().map(|tally| tally.count).sum(),
            p75: p75(&tallies),
        });
        let pages = by_key(self.by_page).into_iter().map(|(page, tallies)| Page {
            page,
            // A view reports each vital at most once and not every view reports all, so the most frequent comes closest.
            page_views: tallies.iter().flatten().map(|tally| tally.count).max().unwrap_or(0),
            p75: p75(&tallies),
        });
        let mut by_page: Vec<Page> = pages.collect();
        // Stable: of equal views the first name comes first.
        by_page.sort_by_key(|page| std::cmp::Reverse(page.page_views));
        by_page.truncate(PAGES_MAX);
        Some(WebVitals { summary, timeseries: buckets.collect(), by_page })
    }
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

fn p75(tallies: &[Option<Tally>; VITALS_COUNT]) -> PerVital<Option<f64>> {
    tallies.each_ref().map(|tally| tally.as_ref()?.quantile(0.75)).into()
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

/// The caps that were reached, by metric.
fn warnings(connection: &Connection) -> Result<Vec<String>> {
    if total(connection, "overflowed")? == 0 {
        return Ok(Vec::new());
    }
    let mut read =
        connection.prepare_cached("SELECT DISTINCT name FROM series WHERE labels = ?1 ORDER BY name LIMIT ?2")?;
    let names = read.query_map((OVERFLOW_LABELS, OVERFLOWED_NAMED_MAX as i64), |row| row.get::<_, String>(0))?;
    let sentence = |name: String| {
        format!(
            "{name} has more series than MAX_SERIES_PER_METRIC or MAX_SERIES allow: totals stay right, and what came \
             after counts in one series with the label overflow=true"
        )
    };
    Ok(names.map(|name| name.map(sentence)).collect::<rusqlite::Result<_>>()?)
}
