//! Routes of every service: `GET /health`, `GET /metrics` with metrics of the program itself, and `GET /openapi.json`.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rusqlite::Connection;
use serde::Serialize;

use super::assets::{Asset, asset_route};
use super::logging;
use super::prometheus::{PrometheusText, escape_label};
use super::quota::quota;
use super::state::ServiceState;
use super::stats::StatValue;
use crate::clock::Timestamp;
use crate::error::Result;
use crate::http::{Access, LATENCY_BUCKETS_S, Request, Response, Route, Scope, Stats};
use crate::quota::rejection_warnings;
use crate::records::warning::Warning;

/// Maximum age of the warnings that readers without a key see.
const PUBLIC_WARNINGS_AGE_MAX: Duration = Duration::from_secs(1);

/// Returns the routes of every service. `openapi` is its OpenAPI document.
#[must_use]
pub fn common_routes<S: ServiceState>(metrics_open: bool, openapi: &'static Asset) -> Vec<Route<S>> {
    let metrics_access = if metrics_open { Access::Open } else { Access::Key(Scope::Read) };
    vec![
        Route::get("/health", Access::OptionalKey, health),
        Route::get("/metrics", metrics_access, metrics),
        Route::get("/api/quota", Access::Key(Scope::Read), quota),
        asset_route(openapi),
    ]
}

#[derive(Serialize)]
struct Health<'a> {
    status: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<WarningEntry<'a>>,
    version: &'a str,
    uptime_seconds: u64,
    #[serde(flatten)]
    stats: BTreeMap<&'static str, StatValue>,
    /// The total only, since `/health` is public; `/metrics` has the counts by project.
    rate_limited: u64,
}

/// A warning as a reader may see it.
#[derive(Serialize)]
#[serde(untagged)]
enum WarningEntry<'a> {
    /// For readers with a key.
    Full(&'a Warning),
    /// For everybody: without causes, which can name projects, hosts and paths.
    Public { code: &'static str, count: u64 },
}

/// Returns the warnings about the quotas of all stores of a service.
fn quota_warnings<S: ServiceState>(state: &S, connection: &Connection) -> Vec<Warning> {
    let now = Timestamp::now();
    let warnings = |store| rejection_warnings(connection, &store, now).unwrap_or_default();
    state.stores().into_iter().flat_map(warnings).collect()
}

/// Returns the warnings about settings that reject or mix up requests.
fn http_warnings(http: &Stats) -> Vec<Warning> {
    let origin_warning = |(origin, count): (String, u64)| {
        let message = format!(
            "requests of pages of {origin} were rejected, because CORS_ORIGINS does not list this origin; add it if the pages \
             are yours"
        );
        Warning::new("origin_rejected", count, &message)
    };
    let address_warning = |(peer, count)| {
        let message = format!(
            "X-Forwarded-For from {peer} was ignored, so all clients behind it share one rate limit; add {peer} to \
             TRUSTED_PROXIES if it is your proxy"
        );
        Warning::new("proxy_not_trusted", count, &message)
    };
    let origins = http.rejected_origins.by_origin().into_iter().map(origin_warning);
    origins.chain(http.ignored_addresses.latest().map(address_warning)).collect()
}

/// Adds up the counts of warnings with the same code. Their number could tell how many projects there are.
fn combine_by_code(warnings: Vec<Warning>) -> Vec<Warning> {
    let mut combined: Vec<Warning> = Vec::new();
    for warning in warnings {
        match combined.iter_mut().find(|other| other.code == warning.code) {
            Some(other) => other.count += warning.count,
            None => combined.push(warning),
        }
    }
    combined
}

impl<'a> WarningEntry<'a> {
    fn new(warning: &'a Warning, can_read: bool) -> Self {
        if can_read { Self::Full(warning) } else { Self::Public { code: warning.code, count: warning.count } }
    }
}

fn health<S: ServiceState>(state: &S, request: &Request) -> Result<Response> {
    let can_read = request.principal().is_authenticated() && request.principal().allows(Scope::Read);
    let core = state.core();
    // Anybody can request this route at any rate, so only readers with a key cause queries each time.
    let max_age = if can_read { Duration::ZERO } else { PUBLIC_WARNINGS_AGE_MAX };
    let of_quotas = |connection: &Connection| quota_warnings(state, connection);
    let mut warnings = core.warnings.refresh(&core.readers, max_age, of_quotas, || state.warnings());
    warnings.extend(core.writer.warnings());
    warnings.extend(http_warnings(&core.http));
    warnings.extend(logging::warning());
    let warnings = if can_read { warnings } else { combine_by_code(warnings) };
    let job_error = core.jobs_failed.load(Ordering::Relaxed).then(|| "a background job has stopped".to_owned());
    let reason = core.writer.last_error().or(job_error);
    let body = Health {
        status: if reason.is_some() { "degraded" } else { "ok" },
        reason: reason.as_deref(),
        warnings: warnings.iter().map(|warning| WarningEntry::new(warning, can_read)).collect(),
        version: env!("CARGO_PKG_VERSION"),
        uptime_seconds: core.started.elapsed().as_secs(),
        stats: state.stats().iter().map(|stat| (stat.name, stat.value)).collect(),
        rate_limited: core.http.rejections.by_project().iter().map(|(_, count)| count).sum(),
    };
    Ok(Response::json(if reason.is_some() { 503 } else { 200 }, &body))
}

fn metrics<S: ServiceState>(state: &S, request: &Request) -> Result<Response> {
    let mut text = PrometheusText::for_request(request);
    requests(&mut text, state);
    let core = state.core();
    let writer = core.writer.stats();
    let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    write_process_metric(
        &mut text,
        "queue_depth",
        "gauge",
        "Commands waiting in the writer queue.",
        &[("", core.writer.queued() as u64)],
    );
    write_process_metric(
        &mut text,
        "commits_total",
        "counter",
        "Committed transactions.",
        &[("", load(&writer.commits))],
    );
    write_process_metric(
        &mut text,
        "writes_total",
        "counter",
        "Commands in committed transactions.",
        &[("", load(&writer.commands))],
    );
    write_process_metric(
        &mut text,
        "writes_refused_total",
        "counter",
        "Commands that failed because the database could not be written.",
        &[("", load(&writer.failed_writes))],
    );
    write_process_metric(&mut text, "connections", "gauge", "Open connections.", &[("", load(&core.http.connections))]);
    write_process_metric(
        &mut text,
        "connections_evicted_total",
        "counter",
        "Connections closed to admit others.",
        &[("", load(&core.http.evicted))],
    );
    write_process_metric(
        &mut text,
        "log_lines_dropped_total",
        "counter",
        "Log lines dropped because nothing read stderr in time.",
        &[("", logging::dropped_lines())],
    );
    write_process_metric(
        &mut text,
        "database_bytes",
        "gauge",
        "Size of the database file in bytes.",
        &[("", load(&writer.file_bytes))],
    );
    let mut wal = core.readers.path().as_os_str().to_owned();
    wal.push("-wal");
    // A missing write-ahead log has size 0.
    let wal_bytes = std::fs::metadata(wal).map_or(0, |file| file.len());
    write_process_metric(&mut text, "wal_bytes", "gauge", "Size of the write-ahead log in bytes.", &[("", wal_bytes)]);
    for stat in state.stats() {
        write_process_metric(&mut text, stat.name, "gauge", stat.help, &[("", stat.value.number())]);
    }
    text.describe("process_resident_memory_bytes", "gauge", "Resident memory in bytes.");
    text.sample("process_resident_memory_bytes", "", &resident_bytes());
    Ok(text.into())
}

fn requests<S: ServiceState>(text: &mut PrometheusText, state: &S) {
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
    write_process_metric(text, "requests_total", "counter", "Requests answered, by route and status.", &rows);
    let rejected: Vec<(String, u64)> = http
        .rejections
        .by_project()
        .into_iter()
        .map(|(project, count)| (format!("{{project=\"{}\"}}", escape_label(&project)), count))
        .collect();
    let rejected: Vec<(&str, u64)> = rejected.iter().map(|(labels, count)| (labels.as_str(), *count)).collect();
    write_process_metric(
        text,
        "rate_limited_total",
        "counter",
        "Requests rejected by a rate limit, by project.",
        &rejected,
    );
    let (buckets, sum_s) = http.latency();
    let name = "monlight_request_duration_seconds";
    text.describe(name, "histogram", "Time from the first byte of a request to its response in seconds.");
    let mut cumulative = 0;
    for (index, count) in buckets.iter().enumerate() {
        cumulative += count;
        let bound = LATENCY_BUCKETS_S.get(index).map_or_else(|| "+Inf".to_owned(), ToString::to_string);
        text.sample(&format!("{name}_bucket"), &format!("{{le=\"{bound}\"}}"), &cumulative);
    }
    text.sample(&format!("{name}_sum"), "", &sum_s);
    text.sample(&format!("{name}_count"), "", &cumulative);
}

/// Writes a metric with the prefix `monlight_`.
fn write_process_metric(text: &mut PrometheusText, name: &str, kind: &str, help: &str, rows: &[(&str, u64)]) {
    let name = format!("monlight_{name}");
    text.describe(&name, kind, help);
    for (labels, value) in rows {
        text.sample(&name, labels, value);
    }
}

/// Returns the resident memory in bytes from `/proc/self/statm`, or 0 if it is not available.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = statm.split_whitespace().nth(1).and_then(|text| text.parse().ok()).unwrap_or(0);
    pages * rustix::param::page_size() as u64
}
