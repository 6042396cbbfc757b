//! `GET /federate`: all live series in Prometheus text format, for a Prometheus server that scrapes this service.
//!
//! The response is written part by part, and no state grows with the number of series: a part begins behind the last family and
//! labels that were written. Metrics whose names differ only in characters that Prometheus does not allow form one family, and
//! series of a family with equal label pairs form one sample. The database has an index of the names in the form that
//! Prometheus accepts; the labels of a family are read in each part, which keeps the first ones in the order of the response.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;

use rusqlite::Connection;

use super::lists::type_id;
use super::prometheus_names::{BOUNDS, histogram_bounds, label_pairs};
use super::releases;
use super::running_totals::{RunningTotals, TotalsTable, totals_with_new_points};
use super::series::SeriesKey;
use super::state::Collector;
use crate::clock::Timestamp;
use crate::db::ReaderPool;
use crate::error::Result;
use crate::http::{BodySource, PART_BYTES, Request, Response};
use crate::records::point::MetricKind;
use crate::service::escape_label;

/// Order of the response. Histograms are first, because their names with suffixes must not belong to another metric.
const KINDS: [MetricKind; 3] = [MetricKind::Histogram, MetricKind::Gauge, MetricKind::Counter];
/// Endings of the names of a histogram's samples.
const SUFFIXES: [&str; 3] = ["_bucket", "_sum", "_count"];
/// Size of a line without its name and labels, in bytes, for estimates.
const LINE_BYTES: usize = 32;

/// Handles `GET /federate`: returns all live series in Prometheus text format.
pub(super) fn federate(collector: &Collector, _: &Request) -> Result<Response> {
    let (now, retention) = (Timestamp::now(), collector.retention);
    let live = Live { since: (now - retention.minutes).ms(), gauges_since: (now - retention.gauges).ms() };
    let body = FederateBody::new(collector.core.readers.clone(), live);
    Ok(Response::streamed(200, "text/plain; version=0.0.4; charset=utf-8", body))
}

/// Times of the last points that series must have to be live, in ms since 1970.
#[derive(Debug, Clone, Copy)]
struct Live {
    since: i64,
    /// Later time for gauges: an old value is not the current one, and Prometheus must see that the gauge is absent.
    gauges_since: i64,
}

impl Live {
    /// Returns the time for a family. The value of [`releases::METRIC`] has no meaning, and clients send it once.
    fn since(self, kind: MetricKind, name: &str) -> i64 {
        let is_value = kind == MetricKind::Gauge && name != releases::METRIC;
        if is_value { self.gauges_since.max(self.since) } else { self.since }
    }
}

/// Body of the response.
struct FederateBody {
    readers: ReaderPool,
    /// Other series are left out.
    live: Live,
    /// Index in [`KINDS`].
    kind: usize,
    /// The last family that was written, by its name without a suffix of the kind; empty at the start of a kind.
    family: String,
    /// The last labels of this family that were written; `None` if it is complete.
    labels: Option<String>,
    /// Whether the description of this family is written.
    is_described: bool,
}

/// Metrics of one kind with the same name in Prometheus.
struct Family {
    /// Name as one of its clients sent it.
    original_name: String,
    metric_ids: Vec<i64>,
}

/// Sample that the next part writes.
struct NextSample {
    /// Index of its family.
    family: usize,
    labels: String,
    series_ids: Vec<i64>,
}

impl FederateBody {
    fn new(readers: ReaderPool, live: Live) -> Self {
        Self { readers, live, kind: 0, family: String::new(), labels: None, is_described: false }
    }

    /// Returns the next families of the current kind. The first one is the last one written if samples of it are left.
    fn next_families(&self, snapshot: &Connection) -> Result<Vec<(String, Family)>> {
        let mut families: Vec<(String, Family)> = Vec::new();
        let mut size_bytes = 0;
        let mut read = snapshot.prepare_cached(
            "SELECT id, prometheus_name, name FROM metrics WHERE type_id = ?1 AND prometheus_name >= ?2
                 ORDER BY prometheus_name, id",
        )?;
        let mut rows = read.query((type_id(KINDS[self.kind]), &self.family))?;
        while let Some(row) = rows.next()? {
            let name = row.get_ref(1)?.as_str().unwrap_or_default();
            if name == self.family && self.labels.is_none() {
                continue;
            }
            if families.last().is_none_or(|(last, _)| last != name) {
                if size_bytes >= PART_BYTES {
                    break;
                }
                let original_name: String = row.get(2)?;
                size_bytes += name.len() + original_name.len() + LINE_BYTES;
                families.push((name.to_owned(), Family { original_name, metric_ids: Vec::new() }));
            }
            if let Some((_, family)) = families.last_mut() {
                family.metric_ids.push(row.get(0)?);
            }
        }
        Ok(families)
    }

    /// Returns the next samples of these families, until a part is full, and whether samples of the last one are left.
    fn next_samples(&self, snapshot: &Connection, families: &[(String, Family)]) -> Result<(Vec<NextSample>, bool)> {
        let kind = KINDS[self.kind];
        let lines = if kind == MetricKind::Histogram { BOUNDS + 3 } else { 1 };
        let mut read = snapshot.prepare_cached(
            "SELECT s.id, m.name, m.project, s.labels FROM series s JOIN metrics m ON m.id = s.metric_id
                 WHERE s.metric_id = ?1 ORDER BY s.id",
        )?;
        let (mut samples, mut size_bytes) = (Vec::new(), 0);
        for (index, (family_name, family)) in families.iter().enumerate() {
            let last = self.labels.as_ref().filter(|_| *family_name == self.family);
            let mut first = FirstEntries::default();
            for metric_id in &family.metric_ids {
                let mut rows = read.query([metric_id])?;
                while let Some(row) = rows.next()? {
                    let (name, project, labels) = (row.get(1)?, row.get(2)?, row.get(3)?);
                    let labels = prometheus_labels(&SeriesKey { kind, name, project, labels });
                    if last.is_none_or(|last| labels > *last) {
                        let (id, size_bytes) = (row.get(0)?, lines * (family_name.len() + labels.len() + LINE_BYTES));
                        first.update(labels, size_bytes, Vec::new, |ids: &mut Vec<i64>| ids.push(id));
                    }
                }
            }
            size_bytes += first.size_bytes;
            let is_cut = first.end.is_some();
            let sample = |(labels, series_ids)| NextSample { family: index, labels, series_ids };
            samples.extend(first.into_iter().map(sample));
            if is_cut || size_bytes >= PART_BYTES {
                return Ok((samples, is_cut));
            }
        }
        Ok((samples, false))
    }

    /// Writes a sample if its series are live, with the description of its family before the first one.
    fn write_sample(
        &mut self,
        (name, original_name): (&str, &str),
        labels: &str,
        totals: &RunningTotals,
        out: &mut Vec<u8>,
    ) {
        let kind = KINDS[self.kind];
        let mut text = String::new();
        if !std::mem::replace(&mut self.is_described, true) {
            let help = original_name.replace('\\', "\\\\").replace('\n', "\\n");
            let kind = kind.as_str();
            // Writing to a String cannot fail.
            let _ = writeln!(text, "# HELP {name} {help} as sent by clients.\n# TYPE {name} {kind}");
        }
        write_totals(&mut text, kind, name, labels, totals);
        out.extend_from_slice(text.as_bytes());
    }
}

impl BodySource for FederateBody {
    fn write_part(&mut self, out: &mut Vec<u8>) -> Result<bool> {
        let readers = self.readers.clone();
        let connection = readers.acquire()?;
        let snapshot = connection.unchecked_transaction()?;
        let families = self.next_families(&snapshot)?;
        let (samples, has_more_samples) = self.next_samples(&snapshot, &families)?;
        let series: HashSet<i64> = samples.iter().flat_map(|sample| sample.series_ids.iter().copied()).collect();
        let new_totals = totals_with_new_points(&snapshot, KINDS[self.kind], &series, Timestamp::now())?;
        // All families up to that of the last sample are done, also those without series.
        let last = samples.last().map_or(families.len(), |sample| sample.family + 1);
        let mut samples = samples.into_iter().peekable();
        for (index, (family_name, family)) in families.iter().enumerate().take(last) {
            if *family_name != self.family {
                (self.family, self.is_described) = (family_name.clone(), false);
            }
            let name = unique_name(&snapshot, KINDS[self.kind], family_name)?;
            while let Some(NextSample { labels, series_ids, .. }) = samples.next_if(|sample| sample.family == index) {
                let mut merged = RunningTotals::default();
                for id in series_ids {
                    match new_totals.get(&id) {
                        Some(totals) => merged.merge(totals),
                        None => merged.merge(&RunningTotals::load(&snapshot, TotalsTable::RolledUp, id)?),
                    }
                }
                let since = self.live.since(KINDS[self.kind], &family.original_name);
                if merged.count > 0 && merged.last_at >= since {
                    self.write_sample((&name, &family.original_name), &labels, &merged, out);
                }
                self.labels = Some(labels);
            }
        }
        if !has_more_samples {
            self.labels = None;
        }
        if families.is_empty() {
            (self.kind, self.family) = (self.kind + 1, String::new());
        }
        Ok(self.kind < KINDS.len())
    }
}

/// The first entries in the order of their keys, as many as fit into a part. At least one.
struct FirstEntries<V> {
    /// Each with its size in bytes.
    entries: BTreeMap<String, (usize, V)>,
    size_bytes: usize,
    /// The first key that was left out.
    end: Option<String>,
}

impl<V> Default for FirstEntries<V> {
    fn default() -> Self {
        Self { entries: BTreeMap::new(), size_bytes: 0, end: None }
    }
}

impl<V> FirstEntries<V> {
    /// Changes the value of a key, which is new if it is one of the first.
    fn update(&mut self, key: String, size_bytes: usize, new: impl FnOnce() -> V, change: impl FnOnce(&mut V)) {
        if self.end.as_ref().is_some_and(|end| key >= *end) {
            return;
        }
        let (_, value) = self.entries.entry(key).or_insert_with(|| {
            self.size_bytes += size_bytes;
            (size_bytes, new())
        });
        change(value);
        while self.size_bytes > PART_BYTES && self.entries.len() > 1 {
            if let Some((key, (size_bytes, _))) = self.entries.pop_last() {
                self.size_bytes -= size_bytes;
                self.end = Some(key);
            }
        }
    }

    fn into_iter(self) -> impl Iterator<Item = (String, V)> {
        self.entries.into_iter().map(|(key, (_, value))| (key, value))
    }
}

/// Returns the name of a family, with the kind appended if a metric of another kind already has it.
fn unique_name(snapshot: &Connection, kind: MetricKind, family: &str) -> Result<String> {
    let mut name = family.to_owned();
    while is_taken(snapshot, kind, &name, name != family)? {
        name = format!("{name}_{}", kind.as_str());
    }
    Ok(name)
}

fn is_taken(snapshot: &Connection, kind: MetricKind, name: &str, is_renamed: bool) -> Result<bool> {
    let is_taken_by_kind = match kind {
        MetricKind::Histogram => {
            let samples = SUFFIXES.map(|suffix| format!("{name}{suffix}"));
            exists_any(snapshot, kind, samples.iter().map(String::as_str))?
                || is_renamed && is_histogram(snapshot, name)?
        }
        MetricKind::Gauge => is_histogram(snapshot, name)?,
        MetricKind::Counter => {
            let is_renamed_gauge = match name.strip_suffix("_gauge") {
                Some(gauge) => exists_any(snapshot, MetricKind::Gauge, [gauge])? && is_histogram(snapshot, gauge)?,
                None => false,
            };
            is_renamed_gauge || is_histogram(snapshot, name)? || exists_any(snapshot, MetricKind::Gauge, [name])?
        }
    };
    Ok(is_taken_by_kind || is_renamed && exists_any(snapshot, kind, [name])?)
}

/// Whether a name is that of a histogram or of one of its samples.
fn is_histogram(snapshot: &Connection, name: &str) -> Result<bool> {
    let histograms = SUFFIXES.iter().filter_map(|suffix| name.strip_suffix(suffix));
    exists_any(snapshot, MetricKind::Histogram, histograms.chain([name]))
}

/// Whether a family of a kind has one of these names.
fn exists_any<'a>(snapshot: &Connection, kind: MetricKind, names: impl IntoIterator<Item = &'a str>) -> Result<bool> {
    let mut find = snapshot.prepare_cached("SELECT 1 FROM metrics WHERE type_id = ?1 AND prometheus_name = ?2")?;
    for name in names {
        if find.exists((type_id(kind), name))? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Returns the label pairs of a series in text format.
fn prometheus_labels(series: &SeriesKey) -> String {
    let pair = |(name, value): (String, String)| format!("{name}=\"{}\"", escape_label(&value));
    label_pairs(series).into_iter().map(pair).collect::<Vec<_>>().join(",")
}

fn write_totals(text: &mut String, kind: MetricKind, name: &str, labels: &str, totals: &RunningTotals) {
    let braced = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
    let mut line = |name: &str, labels: &str, value: &str| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name}{labels} {value}");
    };
    match kind {
        MetricKind::Counter => line(name, &braced, &format_number(totals.sum.value())),
        MetricKind::Gauge => line(name, &braced, &format_number(totals.last)),
        MetricKind::Histogram => {
            let (bucket, comma) = (format!("{name}_bucket"), if labels.is_empty() { "" } else { "," });
            for bound in histogram_bounds() {
                let count = totals.sketch.count_at_most(bound).to_string();
                line(&bucket, &format!("{{{labels}{comma}le=\"{bound}\"}}"), &count);
            }
            line(&bucket, &format!("{{{labels}{comma}le=\"+Inf\"}}"), &totals.count.to_string());
            line(&format!("{name}_sum"), &braced, &format_number(totals.sum.value()));
            line(&format!("{name}_count"), &braced, &totals.count.to_string());
        }
    }
}

/// Formats a number, with an exponent if it is very large or very small and would have hundreds of digits.
fn format_number(value: f64) -> String {
    let is_short = value == 0.0 || (1e-6..1e15).contains(&value.abs());
    if is_short { value.to_string() } else { format!("{value:e}") }
}

#[cfg(test)]
#[path = "federate_tests.rs"]
mod tests;
