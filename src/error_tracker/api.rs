//! The error tracker's handlers: each parses, asks once, answers.

use serde::Serialize;

use super::Tracker;
use super::alerts::{self, QueueTest, Queued};
use super::commands::{AddReport, Filed, Resolve, Resolved};
use super::report::{ErrorReport, level_named};
use super::store::{self, Detail, Filter, Sort};
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::http::{Request, Response};
use crate::trace::{Section, sections};

const LIMIT_DEFAULT: i64 = 50;
const LIMIT_MAX: i64 = 200;
/// A week.
const HOURS_MAX: i64 = 168;

/// `POST /api/errors`
pub(super) fn report(tracker: &Tracker, request: &Request) -> Result<AddReport> {
    let report = ErrorReport::parse(request.body())?;
    request.principal().check_project(&report.project)?;
    let alerting = !tracker.channels.is_empty();
    Ok(AddReport { report, now: Timestamp::now(), groups_max: tracker.groups_max, alerting })
}

impl From<Filed> for Response {
    fn from(filed: Filed) -> Self {
        let status = if matches!(filed, Filed::Created { .. }) { 201 } else { 200 };
        Self::json(status, &filed)
    }
}

/// `GET /api/errors`
pub(super) fn list(tracker: &Tracker, request: &Request) -> Result<Response> {
    let limit = request.query_number("limit", LIMIT_DEFAULT, 1..=LIMIT_MAX);
    let offset = request.query_number("offset", 0, 0..=i64::MAX);
    let filter = filter(request)?;
    let reader = tracker.core.readers.acquire()?;
    let mut page = store::list(&reader, &filter, limit, offset)?;
    let hours = hours(request);
    if hours > 0 {
        store::add_hours(&reader, &mut page.errors, hours, Timestamp::now())?;
    }
    Ok(Response::json(200, &page))
}

/// Of how many hours counts are wanted; 0 is of none.
fn hours(request: &Request) -> i64 {
    request.query_number("hours", 0, 0..=HOURS_MAX)
}

pub(super) fn filter(request: &Request) -> Result<Filter> {
    let text = |name| request.query(name).map(str::to_owned);
    Ok(Filter {
        project: text("project"),
        environment: text("environment"),
        release: text("release"),
        resolved: match request.query("resolved") {
            Some("all") => None,
            Some("true" | "1") => Some(true),
            _ => Some(false),
        },
        source: text("source"),
        level: text("level").map(|name| level_named(&name).map_or(name, str::to_owned)),
        session_id: text("session_id"),
        since: request.query_time("since")?,
        until: request.query_time("until")?,
        // SQLite reads a pattern only up to a NUL, which no stored text holds.
        search: text("search").map(|typed| typed.replace('\0', " ")),
        sort: match request.query("sort") {
            Some("count") => Sort::Count,
            Some("first_seen") => Sort::FirstSeen,
            _ => Sort::LastSeen,
        },
    })
}

/// `GET /api/errors/{id}`
pub(super) fn detail(tracker: &Tracker, request: &Request) -> Result<Response> {
    let id = request.id("id")?;
    let reader = tracker.core.readers.acquire()?;
    let found = store::detail(&reader, id)?;
    let mut detail = found.ok_or_else(|| Error::NotFound(format!("There is no error {id}")))?;
    let hours = hours(request);
    if hours > 0 {
        store::add_hours(&reader, [&mut detail.summary], hours, Timestamp::now())?;
    }
    let trace = sections(&detail.traceback);
    Ok(Response::json(200, &DetailResponse { detail, trace }))
}

/// A group with the sections of its traceback.
#[derive(Serialize)]
struct DetailResponse {
    #[serde(flatten)]
    detail: Detail,
    trace: Vec<Section>,
}

/// `POST /api/errors/{id}/resolve`
pub(super) fn resolve(_: &Tracker, request: &Request) -> Result<Resolve> {
    Ok(Resolve { id: request.id("id")?, now: Timestamp::now() })
}

impl From<Resolved> for Response {
    fn from(resolved: Resolved) -> Self {
        Self::json(200, &resolved)
    }
}

/// `GET /api/projects`
pub(super) fn projects(tracker: &Tracker, _: &Request) -> Result<Response> {
    #[derive(Serialize)]
    struct Projects {
        projects: Vec<String>,
    }
    Ok(Response::json(200, &Projects { projects: store::projects(&*tracker.core.readers.acquire()?)? }))
}

/// `GET /api/variants`
pub(super) fn variants(tracker: &Tracker, _: &Request) -> Result<Response> {
    #[derive(Serialize)]
    struct Variants {
        environments: Vec<String>,
        releases: Vec<String>,
    }
    let [environments, releases] = store::variants(&*tracker.core.readers.acquire()?)?;
    Ok(Response::json(200, &Variants { environments, releases }))
}

/// `GET /api/alerts`
pub(super) fn alert_history(tracker: &Tracker, _: &Request) -> Result<Response> {
    #[derive(Serialize)]
    struct Alerts<'a> {
        alerts: Vec<alerts::Entry>,
        channels: &'a [&'static str],
    }
    let alerts = alerts::history(&*tracker.core.readers.acquire()?)?;
    Ok(Response::json(200, &Alerts { alerts, channels: &tracker.channels }))
}

/// `POST /api/test-alert`
pub(super) fn test_alert(tracker: &Tracker, _: &Request) -> Result<QueueTest> {
    match &tracker.alerts_missing {
        Some(missing) => Err(Error::NotConfigured(missing.clone())),
        None => Ok(QueueTest { now: Timestamp::now() }),
    }
}

impl From<Queued> for Response {
    fn from(queued: Queued) -> Self {
        Self::json(202, &queued)
    }
}
