//! The metrics collector's handlers: each parses, asks once, answers.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::Serialize;

use super::Collector;
use super::commands::{Accepted, AddPoints, Measured, Reader};
use super::dashboard::{self, Dashboard};
use super::releases::{self, Release};
use super::store::{self, Bucket, Fields, Group, Query, Resolution};
use super::window::Window;
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::http::{Request, Response};

/// A clock that is further ahead than this is wrong, and the time of arrival stands for its own.
const AHEAD_MAX: Duration = Duration::from_secs(600);
/// The longest period that a dashboard shows by the minute: a chart has no room for more.
const DASHBOARD_MINUTES_MAX: Duration = Duration::from_secs(6 * 3_600);
/// The longest way back that charts show by the minute unless they are asked to.
const BUCKETS_MINUTES_MAX: Duration = Duration::from_secs(86_400);

/// `POST /api/metrics`
pub(super) fn report(collector: &Collector, request: &Request) -> Result<AddPoints> {
    let failures = collector.core.writer.stats().failed_writes.load(Ordering::Relaxed);
    let may_report = |project: &str| request.principal().check_project(project);
    batch(&collector.reader, request.shared_body(), Timestamp::now(), failures, may_report)
}

/// The change that stores a body's points. `failures` is the writer's count of failed writes.
pub(super) fn batch(
    reader: &Arc<Reader>,
    body: Arc<Vec<u8>>,
    now: Timestamp,
    failures: u64,
    may_report: impl Fn(&str) -> Result<()>,
) -> Result<AddPoints> {
    let (mut corrected, mut parts) = (0, Vec::new());
    let read = reader.read(&body)?;
    let mut points = Vec::with_capacity(read.len());
    for (point, dropped) in read {
        may_report(&point.project)?;
        let at = match point.at {
            Some(at) if at < now - reader.point_age_max || at > now + AHEAD_MAX => {
                corrected += 1;
                now
            }
            at => at.unwrap_or(now),
        };
        points.push(Measured {
            series: reader.hasher.identity(&point, &mut parts),
            at: at.ms(),
            value: point.value,
            dropped,
        });
    }
    Ok(AddPoints { points, body, reader: Arc::clone(reader), corrected, now, failures })
}

impl From<Accepted> for Response {
    fn from(accepted: Accepted) -> Self {
        Self::json(202, &accepted)
    }
}

/// `GET /api/metrics`
pub(super) fn buckets(collector: &Collector, request: &Request) -> Result<Response> {
    #[derive(Serialize)]
    struct Answer<'a> {
        name: &'a str,
        resolution: &'static str,
        period: &'a str,
        data: Vec<Bucket>,
        #[serde(skip_serializing_if = "Option::is_none")]
        groups: Option<Vec<Group>>,
    }
    let (query, window) = query(request, Timestamp::now())?;
    let (data, groups) = store::buckets(&*collector.core.readers.acquire()?, &query)?;
    let groups = query.group_by.is_some().then_some(groups);
    let (name, resolution) = (query.name.as_str(), query.resolution.name());
    Ok(Response::json(200, &Answer { name, resolution, period: window.period(), data, groups }))
}

/// What a request for buckets asks for.
pub(super) fn query(request: &Request, now: Timestamp) -> Result<(Query, Window<'_>)> {
    let name = request.query("name").ok_or_else(|| Error::field("name", "is required"))?;
    let window = Window::read(request, now)?;
    let resolution = match request.query("resolution") {
        Some("minute") => Resolution::Minute,
        Some("hour") => Resolution::Hour,
        _ if window.reach() <= BUCKETS_MINUTES_MAX => Resolution::Minute,
        _ => Resolution::Hour,
    };
    let query = Query {
        name: name.to_owned(),
        project: request.query("project").map(str::to_owned),
        labels: label_pairs(request.query("labels").unwrap_or_default())?,
        buckets: window.buckets(resolution),
        resolution,
        group_by: request.query("group_by").map(str::to_owned),
        fields: request.query("fields").map_or(Ok(Fields::ALL), Fields::named)?,
    };
    Ok((query, window))
}

/// `GET /api/dashboard`
pub(super) fn dashboard(collector: &Collector, request: &Request) -> Result<Response> {
    #[derive(Serialize)]
    struct Answer<'a> {
        period: &'a str,
        resolution: &'static str,
        #[serde(flatten)]
        dashboard: Dashboard,
    }
    let now = Timestamp::now();
    let window = Window::read(request, now)?;
    let in_minutes = window.length() <= DASHBOARD_MINUTES_MAX && window.reach() <= collector.retention.minutes;
    let resolution = if in_minutes { Resolution::Minute } else { Resolution::Hour };
    let (project, buckets) = (request.query("project"), window.buckets(resolution));
    let reader = collector.core.readers.acquire()?;
    let dashboard = dashboard::read(&reader, &collector.settled, project, buckets, resolution, now)?;
    Ok(Response::json(200, &Answer { period: window.period(), resolution: resolution.name(), dashboard }))
}

/// `GET /api/metrics/releases`
pub(super) fn releases(collector: &Collector, request: &Request) -> Result<Response> {
    #[derive(Serialize)]
    struct Releases {
        releases: Vec<Release>,
    }
    let window = Window::read(request, Timestamp::now())?;
    let reader = collector.core.readers.acquire()?;
    let releases = releases::read(&reader, request.query("project"), |at| window.contains(at))?;
    Ok(Response::json(200, &Releases { releases }))
}

/// `a:1,b:2`; a value may have colons of its own.
fn label_pairs(text: &str) -> Result<Vec<(String, String)>> {
    let pair = |pair: &str| {
        let (name, value) =
            pair.split_once(':').ok_or_else(|| Error::field("labels", "must be name:value,name:value"))?;
        Ok((name.trim().to_owned(), value.trim().to_owned()))
    };
    text.split(',').filter(|part| !part.trim().is_empty()).map(pair).collect()
}

/// `GET /api/metrics/names`
pub(super) fn names(collector: &Collector, request: &Request) -> Result<Response> {
    #[derive(Serialize)]
    struct Names {
        metrics: Vec<store::Metric>,
    }
    let metrics = store::names(&*collector.core.readers.acquire()?, request.query("project"))?;
    Ok(Response::json(200, &Names { metrics }))
}

/// `GET /api/metrics/labels`
pub(super) fn labels(collector: &Collector, request: &Request) -> Result<Response> {
    #[derive(Serialize)]
    struct Labels {
        labels: Vec<store::Label>,
    }
    let name = request.query("name").ok_or_else(|| Error::field("name", "is required"))?;
    let labels = store::labels(&*collector.core.readers.acquire()?, name, request.query("project"))?;
    Ok(Response::json(200, &Labels { labels }))
}

/// `GET /api/projects`
pub(super) fn projects(collector: &Collector, _: &Request) -> Result<Response> {
    #[derive(Serialize)]
    struct Projects {
        projects: Vec<String>,
    }
    Ok(Response::json(200, &Projects { projects: store::projects(&*collector.core.readers.acquire()?)? }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_filters_are_pairs() {
        let pairs = label_pairs("a:1, b:x:y").unwrap();
        assert_eq!(pairs, [("a".to_owned(), "1".to_owned()), ("b".to_owned(), "x:y".to_owned())]);
        assert!(label_pairs("a").is_err());
    }
}
