//! What every service answers: `GET /health`, whether it can do its work, `GET /metrics`, what it counts of itself, and
//! `GET /openapi.json`, what it answers at all.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use serde::Serialize;

use super::State;
use super::prometheus::{PrometheusText, escaped};
use super::web::{Asset, file};
use crate::clock::Timestamp;
use crate::error::Result;
use crate::http::{Access, LATENCY_BUCKETS_S, Request, Response, Route, Scope};

/// Something about what a service holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// Its name in `/health`; in `/metrics` it stands behind `monlight_`.
    pub name: &'static str,
    /// What it tells, in one line.
    pub help: &'static str,
    /// How many, or when.
    pub value: StatValue,
}

/// What a fact tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum StatValue {
    /// How many.
    Count(i64),
    /// When, if ever; in `/metrics` seconds since 1970, and 0 for never.
    Moment(Option<Timestamp>),
}

impl StatValue {
    fn number(self) -> u64 {
        match self {
            Self::Count(count) => count.unsigned_abs(),
            Self::Moment(at) => at.map_or(0, |at| at.seconds().unsigned_abs()),
        }
    }
}

/// The routes every service has; `description` is what it says of itself.
#[must_use]
pub fn routes<S: State>(metrics_open: bool, description: &'static Asset) -> Vec<Route<S>> {
    let metrics_access = if metrics_open { Access::Open } else { Access::Key(Scope::Read) };
    vec![
        Route::get("/health", Access::Open, health),
        Route::get("/metrics", metrics_access, metrics),
        file(description),
    ]
}

#[derive(Serialize)]
struct Health<'a> {
    status: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
    version: &'a str,
    uptime_seconds: u64,
    #[serde(flatten)]
    facts: BTreeMap<&'static str, StatValue>,
    /// In all: anybody may read this, and projects by name are for `/metrics`.
    rate_limited: u64,
}

fn health<S: State>(state: &S, _: &Request) -> Result<Response> {
    let core = state.core();
    let job_gone = core.jobs_failed.load(Ordering::Relaxed).then(|| "a background job is gone".to_owned());
    let trouble = core.writer.last_error().or(job_gone);
    let body = Health {
        status: if trouble.is_some() { "degraded" } else { "ok" },
        reason: trouble.as_deref(),
        warnings: state.warnings(),
        version: env!("CARGO_PKG_VERSION"),
        uptime_seconds: core.started.elapsed().as_secs(),
        facts: state.facts().iter().map(|fact| (fact.name, fact.value)).collect(),
        rate_limited: core.http.rejections.by_project().iter().map(|(_, count)| count).sum(),
    };
    Ok(Response::json(if trouble.is_some() { 503 } else { 200 }, &body))
}

fn metrics<S: State>(state: &S, request: &Request) -> Result<Response> {
    let mut text = PrometheusText::answering(request);
    requests(&mut text, state);
    let core = state.core();
    let writer = core.writer.stats();
    let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    own(&mut text, "queue_depth", "gauge", "Writes that wait", &[("", core.writer.queued() as u64)]);
    own(&mut text, "commits_total", "counter", "Transactions committed", &[("", load(&writer.commits))]);
    own(&mut text, "writes_total", "counter", "Writes in those transactions", &[("", load(&writer.commands))]);
    own(&mut text, "writes_refused_total", "counter", "Writes the disk refused", &[("", load(&writer.failed_writes))]);
    own(&mut text, "connections", "gauge", "Open connections", &[("", load(&core.http.connections))]);
    own(
        &mut text,
        "connections_evicted_total",
        "counter",
        "Connections closed for room",
        &[("", load(&core.http.evicted))],
    );
    own(&mut text, "database_bytes", "gauge", "Size of the database file", &[("", load(&writer.file_bytes))]);
    let mut wal = core.readers.path().as_os_str().to_owned();
    wal.push("-wal");
    // Without a write-ahead log there is none to measure.
    let wal_bytes = std::fs::metadata(wal).map_or(0, |file| file.len());
    own(&mut text, "wal_bytes", "gauge", "Size of the write-ahead log", &[("", wal_bytes)]);
    for fact in state.facts() {
        own(&mut text, fact.name, "gauge", fact.help, &[("", fact.value.number())]);
    }
    text.describe("process_resident_memory_bytes", "gauge", "Resident memory");
    text.sample("process_resident_memory_bytes", "", &resident_bytes());
    Ok(text.into())
}

fn requests<S: State>(text: &mut PrometheusText, state: &S) {
    let http = &state.core().http;
    let rows: Vec<(String, u64)> = http
        .responses()
        .into_iter()
        .map(|row| {
            let (method, path) = row.route.map_or(("-", "-"), |route| http.route(route));
            (format!("{{method=\"{method}\",route=\"{path}\",status=\"{}\"}}", row.status), row.count)
        })
        .collect();
    let rows: Vec<(&str, u64)> = rows.iter().map(|(labels, count)| (labels.as_str(), *count)).collect();
    own(text, "requests_total", "counter", "Requests answered, by route and status", &rows);
    let refused: Vec<(String, u64)> = http
        .rejections
        .by_project()
        .into_iter()
        .map(|(project, count)| (format!("{{project=\"{}\"}}", escaped(&project)), count))
        .collect();
    let refused: Vec<(&str, u64)> = refused.iter().map(|(labels, count)| (labels.as_str(), *count)).collect();
    own(text, "rate_limited_total", "counter", "Requests refused by a rate limit", &refused);
    let (buckets, sum_s) = http.latency();
    let name = "monlight_request_duration_seconds";
    text.describe(name, "histogram", "From a request's first byte to its answer");
    let mut total = 0;
    for (index, count) in buckets.iter().enumerate() {
        total += count;
        let bound = LATENCY_BUCKETS_S.get(index).map_or_else(|| "+Inf".to_owned(), ToString::to_string);
        text.sample(&format!("{name}_bucket"), &format!("{{le=\"{bound}\"}}"), &total);
    }
    text.sample(&format!("{name}_sum"), "", &sum_s);
    text.sample(&format!("{name}_count"), "", &total);
}

/// Numbers of this program's own: their names begin alike.
fn own(text: &mut PrometheusText, name: &str, kind: &str, help: &str, rows: &[(&str, u64)]) {
    let name = format!("monlight_{name}");
    text.describe(&name, kind, help);
    for (labels, value) in rows {
        text.sample(&name, labels, value);
    }
}

/// Resident memory in bytes, from `/proc/self/statm`; 0 where there is none.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = statm.split_whitespace().nth(1).and_then(|text| text.parse().ok()).unwrap_or(0);
    pages * rustix::param::page_size() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_numbers_and_moments() {
        let facts = [StatValue::Count(7), StatValue::Moment(None), StatValue::Moment(Some(Timestamp::from_ms(61_999)))];
        assert_eq!(serde_json::to_string(&facts).unwrap(), r#"[7,null,"1970-01-01T00:01:01Z"]"#);
        assert_eq!(facts.map(StatValue::number), [7, 0, 61]);
    }
}
