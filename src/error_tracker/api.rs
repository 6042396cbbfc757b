//! HTTP handlers of the error tracker.

use serde::Serialize;

use super::alerts::{self, AlertEntry};
use super::commands::{IngestReport, IngestResult, QueueTestAlert, Resolve, Resolved, TestAlertQueued};
use super::grouping::GroupedReport;
use super::state::Tracker;
use super::store::{self, Detail, Filter, Sort};
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::http::{Request, Response};
use crate::records::key_kind::KeyKind;
use crate::records::report::{Report, ReportLevel, ReportSource};
use crate::service::IngestCommand;
use crate::trace::{LineRun, sections};

const LIMIT_DEFAULT: i64 = 50;
const LIMIT_MAX: i64 = 200;
/// Maximum of the parameter `hours`: one week.
const HOURS_MAX: i64 = 168;

/// Handles `POST /api/errors`: validates a report and computes its fingerprints.
pub(super) fn ingest(tracker: &Tracker, request: &Request) -> Result<IngestReport> {
    let report = Report::from_json(request.body())?;
    request.principal().check_project(&report.project)?;
    // A relay of an older version does not name the kind of the key, but marks the reports of pages.
    let is_from_page = report.source() == ReportSource::Browser;
    Ok(IngestReport {
        grouped: GroupedReport::new(report),
        key_kind: if is_from_page { KeyKind::Browser } else { request.key_kind() },
        now: Timestamp::now(),
        groups_max: tracker.groups_max,
        alerts_enabled: !tracker.channels.is_empty(),
    })
}

impl IngestCommand for IngestReport {
    fn project(&self) -> &str {
        &self.grouped.report.project
    }
}

impl From<IngestResult> for Response {
    fn from(result: IngestResult) -> Self {
        let status = if matches!(result, IngestResult::Created { .. }) { 201 } else { 200 };
        Self::json(status, &result)
    }
}

/// Handles `GET /api/errors`: lists groups.
pub(super) fn list(tracker: &Tracker, request: &Request) -> Result<Response> {
    let limit = request.query_number("limit", LIMIT_DEFAULT, 1..=LIMIT_MAX);
    let offset = request.query_number("offset", 0, 0..=i64::MAX);
    let filter = filter(request)?;
    let reader = tracker.core.readers.acquire()?;
    let mut page = store::list(&reader, &filter, limit, offset)?;
    let hours = hours(request);
    if hours > 0 {
        store::add_hourly_counts(&reader, &mut page.errors, hours, Timestamp::now())?;
    }
    Ok(Response::json(200, &page))
}

/// Returns the number of hourly counts to add to each group; 0 adds none.
fn hours(request: &Request) -> i64 {
    request.query_number("hours", 0, 0..=HOURS_MAX)
}

/// Parses the filter parameters of `GET /api/errors`.
pub(super) fn filter(request: &Request) -> Result<Filter> {
    let string = |name| request.query(name).map(str::to_owned);
    Ok(Filter {
        project: string("project"),
        environment: string("environment"),
        release: string("release"),
        resolved: match request.query("resolved") {
            Some("all") => None,
            Some("true" | "1") => Some(true),
            _ => Some(false),
        },
        source: string("source"),
        level: string("level").map(|name| ReportLevel::from_name(&name).map_or(name, |level| level.name().to_owned())),
        session_id: string("session_id"),
        since: request.query_time("since")?,
        until: request.query_time("until")?,
        // SQLite reads a pattern only up to a NUL. Stored strings contain none.
        search: string("search").map(|query| query.replace('\0', " ")),
        sort: match request.query("sort") {
            Some("count") => Sort::Count,
            Some("first_seen") => Sort::FirstSeen,
            _ => Sort::LastSeen,
        },
    })
}

/// Handles `GET /api/errors/{id}`: returns one group with its latest reports.
pub(super) fn detail(tracker: &Tracker, request: &Request) -> Result<Response> {
    let id = request.id("id")?;
    let reader = tracker.core.readers.acquire()?;
    let detail = store::detail(&reader, id)?;
    let mut detail = detail.ok_or_else(|| Error::NotFound(format!("Error group {id} not found")))?;
    let hours = hours(request);
    if hours > 0 {
        store::add_hourly_counts(&reader, [&mut detail.summary], hours, Timestamp::now())?;
    }
    let trace = sections(&detail.traceback);
    Ok(Response::json(200, &DetailResponse { detail, trace }))
}

/// A group with the sections of its traceback.
#[derive(Serialize)]
struct DetailResponse {
    #[serde(flatten)]
    detail: Detail,
    trace: Vec<LineRun>,
}

/// Handles `POST /api/errors/{id}/resolve`: marks a group as resolved.
pub(super) fn resolve(_: &Tracker, request: &Request) -> Result<Resolve> {
    Ok(Resolve { id: request.id("id")?, now: Timestamp::now() })
}

impl From<Resolved> for Response {
    fn from(resolved: Resolved) -> Self {
        Self::json(200, &resolved)
    }
}

/// Handles `GET /api/projects`: lists all projects.
pub(super) fn projects(tracker: &Tracker, _: &Request) -> Result<Response> {
    #[derive(Serialize)]
    struct Projects {
        projects: Vec<String>,
    }
    Ok(Response::json(200, &Projects { projects: store::projects(&*tracker.core.readers.acquire()?)? }))
}

/// Handles `GET /api/variants`: lists all environments and releases.
pub(super) fn environments_and_releases(tracker: &Tracker, _: &Request) -> Result<Response> {
    Ok(Response::json(200, &store::environments_and_releases(&*tracker.core.readers.acquire()?)?))
}

/// Handles `GET /api/alerts`: lists the latest alerts and the configured channels.
pub(super) fn alert_history(tracker: &Tracker, _: &Request) -> Result<Response> {
    #[derive(Serialize)]
    struct Alerts<'a> {
        alerts: Vec<AlertEntry>,
        channels: &'a [&'static str],
    }
    let alerts = alerts::history(&*tracker.core.readers.acquire()?)?;
    Ok(Response::json(200, &Alerts { alerts, channels: &tracker.channels }))
}

/// Handles `POST /api/test-alert`: queues an alert that checks the channels.
pub(super) fn test_alert(tracker: &Tracker, _: &Request) -> Result<QueueTestAlert> {
    match &tracker.alerts_missing {
        Some(missing) => Err(Error::NotConfigured(missing.clone())),
        None => Ok(QueueTestAlert { now: Timestamp::now() }),
    }
}

impl From<TestAlertQueued> for Response {
    fn from(queued: TestAlertQueued) -> Self {
        Self::json(202, &queued)
    }
}
