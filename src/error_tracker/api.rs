//! HTTP handlers of the error tracker.

use std::sync::atomic::Ordering;

use serde::Serialize;

use super::alerts::{self, AlertEntry};
use super::commands::{IngestReport, IngestResponse, IngestResult, QueueTestAlert, Resolve, Resolved, TestAlertQueued};
use super::facets::{self, FacetFilter};
use super::grouping::GroupedReport;
use super::payloads::OCCURRENCES_MAX;
use super::state::Tracker;
use super::store::{self, Detail, Filter, Sort};
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::http::{ItemWriter, JsonArray, Request, Response};
use crate::records::key_kind::KeyKind;
use crate::records::report::{Report, ReportLevel, ReportSource};
use crate::service::IngestCommand;
use crate::trace::{LineRun, sections};

const LIMIT_DEFAULT: i64 = 50;
const LIMIT_MAX: i64 = 200;
/// Maximum of the parameter `hours`: one week.
const HOURS_MAX: i64 = 168;
/// Maximum length of a search, in characters.
const SEARCH_CHARS_MAX: usize = 1_000;
/// Environments, and releases, that are listed by default, and at most.
const FACETS_DEFAULT: i64 = 100;
const FACETS_MAX: i64 = 200;
const JSON: &str = "application/json";
/// Project of `deploy/smoke-test.sh`, whose errors raise no alerts.
const SMOKE_TEST_PROJECT: &str = "monlight-smoke-test";

/// Handles `POST /api/errors`: validates a report and computes its fingerprints.
pub(super) fn ingest(tracker: &Tracker, request: &Request) -> Result<IngestReport> {
    let report = Report::from_json(request.body())?;
    request.principal().check_project(&report.project)?;
    let now = Timestamp::now();
    let database_bytes = tracker.core.writer.stats().file_bytes.load(Ordering::Relaxed);
    // A relay of an older version does not name the kind of the key, but marks the reports of pages.
    let is_from_page = report.source() == ReportSource::Browser;
    let alerts_enabled = !tracker.channels.is_empty() && report.project != SMOKE_TEST_PROJECT;
    Ok(IngestReport {
        grouped: GroupedReport::new(report),
        key_kind: if is_from_page { KeyKind::Browser } else { request.key_kind() },
        now,
        room: tracker.free_space.room(database_bytes, now),
        groups_max: tracker.groups_max,
        retention: tracker.retention,
        alerts_enabled,
    })
}

impl IngestCommand for IngestReport {
    fn project(&self) -> &str {
        &self.grouped.report.project
    }
}

impl From<IngestResponse> for Response {
    fn from(response: IngestResponse) -> Self {
        let status = if matches!(response.result, IngestResult::Created { .. }) { 201 } else { 200 };
        Self::json(status, &response)
    }
}

/// Handles `GET /api/errors`: lists groups.
pub(super) fn list(tracker: &Tracker, request: &Request) -> Result<Response> {
    let limit = request.query_number("limit", LIMIT_DEFAULT, 1..=LIMIT_MAX);
    let offset = request.query_number("offset", 0, 0..=i64::MAX);
    let filter = filter(request)?;
    let hours = hours(request);
    let page = store::find(&*tracker.core.readers.acquire()?, &filter, limit, offset)?;
    let (mut ids, readers) = (page.ids.into_iter(), tracker.core.readers.clone());
    let write_groups = move |groups: &mut ItemWriter<'_>| {
        let reader = readers.acquire()?;
        // Without a transaction, each statement would lock the database.
        let snapshot = reader.unchecked_transaction()?;
        while let Some(id) = ids.next() {
            // A group that was deleted since the ids were read is left out.
            let Some(mut group) = store::group(&snapshot, id)? else { continue };
            if hours > 0 {
                store::add_hourly_counts(&snapshot, &mut group, hours, Timestamp::now())?;
            }
            groups.push(&group)?;
            if groups.is_full() {
                return Ok(ids.len() > 0);
            }
        }
        Ok(false)
    };
    let after = format!("],\"total\":{},\"limit\":{limit},\"offset\":{offset}}}", page.total);
    Ok(Response::streamed(200, JSON, JsonArray::new("{\"errors\":[".into(), after, write_groups)))
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
        search: search(request)?,
        sort: match request.query("sort") {
            Some("count") => Sort::Count,
            Some("first_seen") => Sort::FirstSeen,
            _ => Sort::LastSeen,
        },
    })
}

/// Returns the parameter `search`. A NUL, which no stored string contains, counts as a space.
fn search(request: &Request) -> Result<Option<String>> {
    match request.query("search") {
        Some(query) if query.chars().count() > SEARCH_CHARS_MAX => {
            Err(Error::field("search", "must be at most 1,000 characters"))
        }
        query => Ok(query.map(|query| query.replace('\0', " "))),
    }
}

/// Handles `GET /api/errors/{id}`: returns one group with its latest reports.
pub(super) fn detail(tracker: &Tracker, request: &Request) -> Result<Response> {
    let id = request.id("id")?;
    let (hours, readers) = (hours(request), tracker.core.readers.clone());
    let reader = readers.acquire()?;
    let detail = store::detail(&reader, id)?;
    let mut detail = detail.ok_or_else(|| Error::NotFound(format!("Error group {id} not found")))?;
    if hours > 0 {
        store::add_hourly_counts(&reader, &mut detail.summary, hours, Timestamp::now())?;
    }
    drop(reader);
    let trace = sections(&detail.traceback);
    let group = serde_json::to_string(&DetailResponse { detail, trace });
    let mut before = group.map_err(|why| Error::Internal(format!("failed to serialize a group: {why}")))?;
    // The reports follow as the last member.
    before.truncate(before.len() - "}".len());
    before.push_str(",\"occurrences\":[");
    let (mut last_id, mut left) = (i64::MAX, OCCURRENCES_MAX);
    let write_reports = move |reports: &mut ItemWriter<'_>| {
        let reader = readers.acquire()?;
        let snapshot = reader.unchecked_transaction()?;
        while let Some(report) = store::occurrence_before(&snapshot, id, last_id)? {
            (last_id, left) = (report.id, left - 1);
            reports.push(&report)?;
            if left == 0 || reports.is_full() {
                return Ok(left > 0);
            }
        }
        Ok(false)
    };
    Ok(Response::streamed(200, JSON, JsonArray::new(before, "]}".into(), write_reports)))
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

/// Handles `GET /api/projects`: lists all projects in alphabetical order.
pub(super) fn projects(tracker: &Tracker, _: &Request) -> Result<Response> {
    let (mut last, readers) = (String::new(), tracker.core.readers.clone());
    let write_projects = move |projects: &mut ItemWriter<'_>| {
        let reader = readers.acquire()?;
        let snapshot = reader.unchecked_transaction()?;
        while let Some(project) = store::project_after(&snapshot, &last)? {
            projects.push(&project)?;
            last = project;
            if projects.is_full() {
                return Ok(true);
            }
        }
        Ok(false)
    };
    Ok(Response::streamed(200, JSON, JsonArray::new("{\"projects\":[".into(), "]}".into(), write_projects)))
}

/// Handles `GET /api/variants`: lists the environments and releases that were used last.
pub(super) fn environments_and_releases(tracker: &Tracker, request: &Request) -> Result<Response> {
    let search = search(request)?;
    let limit = request.query_number("limit", FACETS_DEFAULT, 1..=FACETS_MAX);
    let filter = FacetFilter {
        project: request.query("project"),
        search: search.as_deref(),
        limit: usize::try_from(limit).unwrap_or_default(),
    };
    let reader = tracker.core.readers.acquire()?;
    Ok(Response::json(200, &facets::environments_and_releases(&reader, &filter)?))
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
