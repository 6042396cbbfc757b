//! `GET /health`, whether this service can do its work, and `GET /metrics`, what it counts of itself.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::Ordering;

use serde::Serialize;

use super::State;
use crate::error::Result;
use crate::http::{Access, LATENCY_BUCKETS_S, Request, Response, Route, Scope};

/// A number about what a service holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fact {
    /// Its name in `/health`; in `/metrics` it stands behind `monlight_`.
    pub name: &'static str,
    /// What it counts, in one line.
    pub help: &'static str,
    /// How many.
    pub value: i64,
}

/// The routes every service has.
#[must_use]
pub fn routes<S: State>(metrics_open: bool) -> Vec<Route<S>> {
    let metrics_access = if metrics_open { Access::Open } else { Access::Key(Scope::Read) };
    vec![Route::get("/health", Access::Open, health), Route::get("/metrics", metrics_access, metrics)]
}

#[derive(Serialize)]
struct Health<'a> {
    status: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    version: &'a str,
    uptime_seconds: u64,
    #[serde(flatten)]
    facts: BTreeMap<&'static str, i64>,
    /// In all: anybody may read this, and projects by name are for `/metrics`.
    rate_limited: u64,
}

fn health<S: State>(state: &S, _: &Request) -> Result<Response> {
    let core = state.core();
    let job_gone = core.jobs_broken.load(Ordering::Relaxed).then(|| "a background job is gone".to_owned());
    let trouble = core.writer.trouble().or(job_gone);
    let body = Health {
        status: if trouble.is_some() { "degraded" } else { "ok" },
        reason: trouble.as_deref(),
        version: env!("CARGO_PKG_VERSION"),
        uptime_seconds: core.started.elapsed().as_secs(),
        facts: state.facts().iter().map(|fact| (fact.name, fact.value)).collect(),
        rate_limited: core.http.refused.by_project().iter().map(|(_, count)| count).sum(),
    };
    Ok(Response::json(if trouble.is_some() { 503 } else { 200 }, &body))
}

fn metrics<S: State>(state: &S, _: &Request) -> Result<Response> {
    let mut text = Exposition::default();
    requests(&mut text, state);
    let core = state.core();
    let writer = core.writer.stats();
    let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    text.metric("queue_depth", "gauge", "Writes that wait", &[("", core.writer.queued() as u64)]);
    text.metric("commits_total", "counter", "Transactions committed", &[("", load(&writer.commits))]);
    text.metric("writes_total", "counter", "Writes in those transactions", &[("", load(&writer.commands))]);
    text.metric("writes_refused_total", "counter", "Writes the disk refused", &[("", load(&writer.refused))]);
    text.metric("connections", "gauge", "Open connections", &[("", load(&core.http.connections))]);
    text.metric(
        "connections_evicted_total",
        "counter",
        "Connections closed for room",
        &[("", load(&core.http.evicted))],
    );
    text.metric("database_bytes", "gauge", "Size of the database file", &[("", load(&writer.file_bytes))]);
    let mut wal = core.readers.path().as_os_str().to_owned();
    wal.push("-wal");
    // Without a write-ahead log there is none to measure.
    let wal_bytes = std::fs::metadata(wal).map_or(0, |file| file.len());
    text.metric("wal_bytes", "gauge", "Size of the write-ahead log", &[("", wal_bytes)]);
    for fact in state.facts() {
        text.metric(fact.name, "gauge", fact.help, &[("", fact.value.unsigned_abs())]);
    }
    text.line(format_args!("# HELP process_resident_memory_bytes Resident memory"));
    text.line(format_args!("# TYPE process_resident_memory_bytes gauge"));
    text.line(format_args!("process_resident_memory_bytes {}", resident_bytes()));
    Ok(Response::new(200, "text/plain; version=0.0.4; charset=utf-8", text.0.into_bytes()))
}

fn requests<S: State>(text: &mut Exposition, state: &S) {
    let http = &state.core().http;
    let rows: Vec<(String, u64)> = http
        .answers()
        .into_iter()
        .map(|row| {
            let (method, path) = row.route.map_or(("-", "-"), |route| http.route(route));
            (format!("{{method=\"{method}\",route=\"{path}\",status=\"{}\"}}", row.status), row.count)
        })
        .collect();
    let rows: Vec<(&str, u64)> = rows.iter().map(|(labels, count)| (labels.as_str(), *count)).collect();
    text.metric("requests_total", "counter", "Requests answered, by route and status", &rows);
    let refused: Vec<(String, u64)> = http
        .refused
        .by_project()
        .into_iter()
        .map(|(project, count)| (format!("{{project=\"{}\"}}", escaped(&project)), count))
        .collect();
    let refused: Vec<(&str, u64)> = refused.iter().map(|(labels, count)| (labels.as_str(), *count)).collect();
    text.metric("rate_limited_total", "counter", "Requests refused by a rate limit", &refused);
    let (buckets, sum_s) = http.latency();
    text.line(format_args!("# HELP monlight_request_duration_seconds From a request's first byte to its answer"));
    text.line(format_args!("# TYPE monlight_request_duration_seconds histogram"));
    let mut total = 0;
    for (index, count) in buckets.iter().enumerate() {
        total += count;
        let bound = LATENCY_BUCKETS_S.get(index).map_or_else(|| "+Inf".to_owned(), ToString::to_string);
        text.line(format_args!("monlight_request_duration_seconds_bucket{{le=\"{bound}\"}} {total}"));
    }
    text.line(format_args!("monlight_request_duration_seconds_sum {sum_s}"));
    text.line(format_args!("monlight_request_duration_seconds_count {total}"));
}

/// The Prometheus text format, version 0.0.4.
#[derive(Default)]
struct Exposition(String);

impl Exposition {
    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "{line}");
    }

    fn metric(&mut self, name: &str, kind: &str, help: &str, rows: &[(&str, u64)]) {
        self.line(format_args!("# HELP monlight_{name} {help}"));
        self.line(format_args!("# TYPE monlight_{name} {kind}"));
        for (labels, value) in rows {
            self.line(format_args!("monlight_{name}{labels} {value}"));
        }
    }
}

fn escaped(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Resident memory in bytes, from `/proc/self/statm`; 0 where there is none.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = statm.split_whitespace().nth(1).and_then(|text| text.parse().ok()).unwrap_or(0);
    pages * rustix::param::page_size() as u64
}
