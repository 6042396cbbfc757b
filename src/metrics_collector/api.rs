//! Request handlers. Each parses the request, makes one call and responds.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::buckets::{BucketsBody, Fields, Query};
use super::commands::{Accepted, AddPoints, RecordReservedName};
use super::config::Retention;
use super::dashboard::{self, Dashboard, SeriesFilter};
use super::lists::{self, MetricsFilter};
use super::releases::{self, Release};
use super::reserved_names;
use super::resolution::Resolution;
use super::state::Collector;
use super::time_range::TimeRange;
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::http::{Request, Response};
use crate::records::key_kind::KeyKind;
use crate::records::point::{MetricKind, Point};

const JSON: &str = "application/json";
/// Number of listed metrics if `limit` is not a number. Without `limit`, all are listed.
const LIMIT_DEFAULT: i64 = 100;
const LIMIT_MAX: i64 = 10_000;
/// Maximum duration of a dashboard with minute resolution. Longer charts would have more points than pixels.
const DASHBOARD_MINUTES_MAX: Duration = Duration::from_secs(6 * 3_600);
/// Maximum age of the start of a time range for which minute is the default resolution, if minutes are stored as long.
const BUCKETS_MINUTES_MAX: Duration = Duration::from_secs(86_400);

/// Handles `POST /api/metrics`: stores a batch of points.
pub(super) fn add_points(collector: &Collector, request: &Request) -> Result<AddPoints> {
    let (now, kind) = (Timestamp::now(), request.key_kind());
    let reserved_in = RefCell::new(None);
    let check = |index: usize, point: &Point<'_>| {
        request.principal().check_project(point.project())?;
        if kind == KeyKind::Server {
            return Ok(());
        }
        let Some(reserved) = reserved_names::find(point.name()) else { return Ok(()) };
        *reserved_in.borrow_mut() = Some(point.project().to_owned());
        Err(Error::Invalid(format!("Item {index}: only server keys may write metrics named {reserved}")))
    };
    let writer = &collector.core.writer;
    let decoded = AddPoints::decode(&collector.decoder, request.shared_body(), now, writer.stats(), kind, check);
    if let Some(project) = reserved_in.into_inner() {
        // The client gets the error of the batch, even if it cannot be counted.
        let _ = writer.run(RecordReservedName { project, limits: collector.decoder.limits, now });
    }
    decoded
}

impl From<Accepted> for Response {
    fn from(accepted: Accepted) -> Self {
        Self::json(202, &accepted)
    }
}

/// Handles `GET /api/metrics`: returns the buckets of a metric.
pub(super) fn buckets(collector: &Collector, request: &Request) -> Result<Response> {
    let (query, time_range) = parse_query(request, collector.retention, Timestamp::now())?;
    let body = BucketsBody::new(collector.core.readers.clone(), query, time_range.period());
    Ok(Response::streamed(200, JSON, body))
}

/// Parses the parameters of a request for buckets.
///
/// # Errors
/// [`Error::Invalid`] if a parameter is missing or malformed; names the parameter.
pub(super) fn parse_query(request: &Request, retention: Retention, now: Timestamp) -> Result<(Query, TimeRange<'_>)> {
    let name = request.query("name").ok_or_else(|| Error::field("name", "is required"))?;
    let time_range = TimeRange::read(request, now)?;
    let resolution = match request.query("resolution") {
        Some("minute") => Resolution::Minute,
        Some("hour") => Resolution::Hour,
        _ if time_range.age() <= BUCKETS_MINUTES_MAX.min(retention.minutes) => Resolution::Minute,
        _ => Resolution::Hour,
    };
    let query = Query {
        name: name.to_owned(),
        kind: request.query("type").map(parse_kind).transpose()?,
        project: request.query("project").map(str::to_owned),
        labels: label_filters(request.query("labels").unwrap_or_default())?,
        buckets: time_range.buckets(resolution),
        resolution,
        group_by: request.query("group_by").map(str::to_owned),
        fields: request.query("fields").map_or(Ok(Fields::ALL), Fields::parse)?,
        gauge_lifetime: retention.gauges,
        coverage: time_range.coverage(resolution, retention.of(resolution)),
    };
    Ok((query, time_range))
}

/// Handles `GET /api/dashboard`: returns a summary of all metrics.
pub(super) fn dashboard(collector: &Collector, request: &Request) -> Result<Response> {
    #[derive(Serialize)]
    struct Body<'a> {
        period: &'a str,
        resolution: &'static str,
        #[serde(flatten)]
        dashboard: Dashboard,
    }
    let now = Timestamp::now();
    let time_range = TimeRange::read(request, now)?;
    let is_short = time_range.duration() <= DASHBOARD_MINUTES_MAX;
    let has_minutes = time_range.age() <= collector.retention.minutes;
    let resolution = if is_short && has_minutes { Resolution::Minute } else { Resolution::Hour };
    let buckets = time_range.buckets(resolution);
    let filter = SeriesFilter {
        project: request.query("project").map(str::to_owned),
        labels: label_filters(request.query("labels").unwrap_or_default())?,
    };
    let reader = collector.core.readers.acquire()?;
    let dashboard = dashboard::read(&reader, &collector.closed_hours, &filter, buckets, resolution, now)?;
    Ok(Response::json(200, &Body { period: time_range.period(), resolution: resolution.as_str(), dashboard }))
}

/// Handles `GET /api/metrics/releases`: returns the releases that went live.
pub(super) fn releases(collector: &Collector, request: &Request) -> Result<Response> {
    #[derive(Serialize)]
    struct Releases {
        releases: Vec<Release>,
    }
    let time_range = TimeRange::read(request, Timestamp::now())?;
    let reader = collector.core.readers.acquire()?;
    let releases = releases::read(&reader, request.query("project"), |at| time_range.contains(at))?;
    Ok(Response::json(200, &Releases { releases }))
}

fn parse_kind(name: &str) -> Result<MetricKind> {
    MetricKind::from_name(name).ok_or_else(|| Error::field("type", "must be counter, gauge or histogram"))
}

/// Parses a list of label pairs such as `a:1,b:2`, in which a value may contain colons. A JSON object such as `{"a":"1"}` can
/// also contain names with colons, and values with commas or with spaces at their ends.
fn label_filters(list: &str) -> Result<Vec<(String, String)>> {
    let invalid = || Error::field("labels", "must be name:value,name:value or a JSON object of strings");
    if list.starts_with('{') {
        let labels: BTreeMap<String, String> = serde_json::from_str(list).map_err(|_| invalid())?;
        return Ok(labels.into_iter().collect());
    }
    let pair = |pair: &str| {
        let (name, value) = pair.split_once(':').ok_or_else(invalid)?;
        Ok((name.trim().to_owned(), value.trim().to_owned()))
    };
    list.split(',').filter(|part| !part.trim().is_empty()).map(pair).collect()
}

/// Handles `GET /api/metrics/names`: returns names and types of metrics.
pub(super) fn metrics(collector: &Collector, request: &Request) -> Result<Response> {
    let filter = MetricsFilter {
        project: request.query("project").map(str::to_owned),
        search: request.query("search").map(str::to_owned),
        limit: request
            .query("limit")
            .map(|_| request.query_number("limit", LIMIT_DEFAULT, 1..=LIMIT_MAX).unsigned_abs()),
    };
    Ok(Response::streamed(200, JSON, lists::metrics(collector.core.readers.clone(), filter)))
}

/// Handles `GET /api/metrics/labels`: returns the labels of a metric.
pub(super) fn labels(collector: &Collector, request: &Request) -> Result<Response> {
    let name = request.query("name").ok_or_else(|| Error::field("name", "is required"))?.to_owned();
    let project = request.query("project").map(str::to_owned);
    Ok(Response::streamed(200, JSON, lists::labels(collector.core.readers.clone(), name, project)))
}

/// Handles `GET /api/projects`: returns the names of all projects.
pub(super) fn projects(collector: &Collector, _: &Request) -> Result<Response> {
    Ok(Response::streamed(200, JSON, lists::projects(collector.core.readers.clone())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_filter_is_a_list_of_pairs_or_a_json_object() {
        for (list, expected) in [
            ("a:1, b:x:y", &[("a", "1"), ("b", "x:y")][..]),
            ("a:", &[("a", "")]),
            (" , ", &[]),
            ("{}", &[]),
            (r#"{"ns:key":" x,y\n","b":"\\"}"#, &[("b", "\\"), ("ns:key", " x,y\n")]),
        ] {
            let pairs = label_filters(list).unwrap();
            assert!(pairs.iter().map(|(name, value)| (&**name, &**value)).eq(expected.iter().copied()), "{pairs:?}");
        }
        for list in ["a", "{", r#"{"a":1}"#, r#"{"a":"1"}x"#] {
            assert!(label_filters(list).is_err(), "{list}");
        }
    }
}
