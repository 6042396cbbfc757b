//! Request handlers of the log viewer.

use std::collections::BTreeMap;

use serde::Serialize;

use super::config::RetentionLimits;
use super::entry_bodies::{EntryBody, list_body};
use super::log_entry::format_timestamp;
use super::query::{BoundFilter, Filter};
use super::search::Search;
use super::sources::sources;
use super::state::LogViewer;
use super::{counter_names, store};
use crate::clock::Timestamp;
use crate::db::{Reader, counter};
use crate::error::{Error, Result};
use crate::http::{Request, Response};
use crate::records::log_level::Level;

const JSON: &str = "application/json";
const LIMIT_DEFAULT: i64 = 100;
const LIMIT_MAX: i64 = 500;
/// Number of entries before and after an entry.
const CONTEXT_DEFAULT: i64 = 20;
const CONTEXT_MAX: i64 = 200;
/// Maximum number of buckets in a histogram, unless the request chooses their size.
const BUCKETS_MAX: i64 = 120;
const NS_PER_MS: i64 = 1_000_000;
const NS_PER_MINUTE: i64 = 60_000 * NS_PER_MS;

/// Handles `GET /api/logs`.
pub(super) fn list(viewer: &LogViewer, request: &Request) -> Result<Response> {
    #[derive(Serialize)]
    struct AfterList {
        total: i64,
        limit: i64,
        offset: i64,
        #[serde(skip_serializing_if = "Option::is_none")]
        search_mode: Option<&'static str>,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        partial: bool,
    }
    let limit = request.query_number("limit", LIMIT_DEFAULT, 1..=LIMIT_MAX);
    let offset = request.query_number("offset", 0, 0..=viewer.limits.entries);
    let readers = &viewer.core.readers;
    let reader = readers.acquire()?;
    let mut filter = filter(&reader, request, viewer.limits)?;
    filter.end_id = request.query_number("max_id", i64::MAX, 0..=i64::MAX).saturating_add(1);
    let snapshot = reader.unchecked_transaction()?;
    let query = BoundFilter::new(&snapshot, &filter)?;
    let [skip, count] = [offset, limit].map(|count| usize::try_from(count).unwrap_or(usize::MAX));
    let matches = query.newest(skip, count)?;
    let search_mode = search_mode(&filter.search);
    let (total, partial) = (matches.total, matches.partial);
    let after = serde_json::to_string(&AfterList { total, limit, offset, search_mode, partial });
    let after = after.map_err(|why| Error::Internal(format!("failed to encode a list as JSON: {why}")))?;
    // The list and the members of `after` are in one object.
    let after = after.replacen('{', ",", 1);
    Ok(Response::streamed(200, JSON, list_body(readers.clone(), matches.ids, &after)))
}

/// Handles `GET /api/logs/{id}`.
pub(super) fn entry(viewer: &LogViewer, request: &Request) -> Result<Response> {
    Ok(Response::streamed(200, JSON, EntryBody::new(viewer.core.readers.clone(), request.id("id")?)))
}

fn search_mode(search: &Search) -> Option<&'static str> {
    if search.is_empty() {
        return None;
    }
    Some(if search.is_plain { "plain" } else { "match" })
}

/// Parses the filters of a request.
///
/// # Errors
/// Returns [`Error::Invalid`], naming the parameter, if one is invalid.
pub(super) fn filter(reader: &Reader<'_>, request: &Request, limits: RetentionLimits) -> Result<Filter> {
    let ns = |timestamp: Timestamp| timestamp.ms().saturating_mul(NS_PER_MS);
    let since_ns = request.query_time("since")?.map_or(i64::MIN, ns).max(limits.oldest_ns(Timestamp::now()));
    // The last millisecond is included.
    let end_ns = request.query_time("until")?.map_or(i64::MAX, |until| ns(until).saturating_add(NS_PER_MS));
    Ok(Filter {
        source: request.query("container").map(str::to_owned),
        levels: request.query("level").map(parse_levels).transpose()?.unwrap_or_default(),
        times_ns: since_ns..end_ns,
        end_id: i64::MAX,
        search: Search::parse(
            reader,
            request.query("search").or(request.query("q")),
            request.query("contains"),
            request.query("regex"),
        )?,
    })
}

/// Parses `ERROR`, `ERROR,CRITICAL` or `>=WARNING`.
fn parse_levels(string: &str) -> Result<Vec<Level>> {
    let error = || {
        Error::field(
            "level",
            "must be DEBUG, INFO, WARNING, ERROR or CRITICAL, a comma-separated list of them, or >= followed by one",
        )
    };
    let parse = |name: &str| Level::from_name(name.trim()).ok_or_else(error);
    match string.trim().strip_prefix(">=") {
        Some(name) => {
            let minimum = parse(name)?;
            Ok(Level::ALL.into_iter().filter(|level| *level >= minimum).collect())
        }
        None => string.split(',').map(parse).collect(),
    }
}

/// Handles `GET /api/logs/{id}/context`.
pub(super) fn context(viewer: &LogViewer, request: &Request) -> Result<Response> {
    let side = |name| request.query_number(name, CONTEXT_DEFAULT, 0..=CONTEXT_MAX);
    let [before, after] = [side("before"), side("after")].map(|count| usize::try_from(count).unwrap_or(0));
    let id = request.id("id")?;
    let reader = viewer.core.readers.acquire()?;
    let snapshot = reader.unchecked_transaction()?;
    let ids = store::context_ids(&snapshot, id, before, after)?;
    Ok(Response::streamed(200, JSON, list_body(viewer.core.readers.clone(), ids, "}")))
}

/// Number of entries by level.
#[derive(Debug, Default, Clone, Copy, Serialize)]
#[serde(rename_all = "UPPERCASE")]
struct ByLevel {
    debug: i64,
    info: i64,
    warning: i64,
    error: i64,
    critical: i64,
}

impl From<[i64; 5]> for ByLevel {
    fn from([debug, info, warning, error, critical]: [i64; 5]) -> Self {
        Self { debug, info, warning, error, critical }
    }
}

/// Handles `GET /api/logs/histogram`.
pub(super) fn histogram(viewer: &LogViewer, request: &Request) -> Result<Response> {
    #[derive(Serialize)]
    struct Bucket {
        bucket: Timestamp,
        count: i64,
        levels: ByLevel,
    }
    #[derive(Serialize)]
    struct Body {
        bucket_minutes: i64,
        buckets: Vec<Bucket>,
        total: i64,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        partial: bool,
    }
    let reader = viewer.core.readers.acquire()?;
    let filter = filter(&reader, request, viewer.limits)?;
    let snapshot = reader.unchecked_transaction()?;
    let stats = store::stats(&snapshot)?;
    let first = stats.oldest_ns.unwrap_or(0).max(filter.times_ns.start).div_euclid(NS_PER_MINUTE);
    let last = stats.newest_ns.unwrap_or(0).min(filter.times_ns.end.saturating_sub(1)).div_euclid(NS_PER_MINUTE);
    let bucket_minutes = request.query_number("bucket_minutes", default_bucket_minutes(last - first + 1), 1..=1_440);
    let (counts, partial) = BoundFilter::new(&snapshot, &filter)?.histogram(bucket_minutes)?;
    let bucket = |(minute, levels): (i64, [i64; 5])| Bucket {
        bucket: Timestamp::from_ms(minute.saturating_mul(60_000)),
        count: levels.iter().sum(),
        levels: levels.into(),
    };
    let buckets: Vec<Bucket> = counts.into_iter().map(bucket).collect();
    let total = buckets.iter().map(|bucket| bucket.count).sum();
    Ok(Response::json(200, &Body { bucket_minutes, buckets, total, partial }))
}

/// Returns the smallest round bucket size, in minutes, that divides a range into at most [`BUCKETS_MAX`] buckets.
fn default_bucket_minutes(range_minutes: i64) -> i64 {
    const SIZES: [i64; 9] = [1, 5, 10, 30, 60, 120, 360, 720, 1_440];
    SIZES.into_iter().find(|size| range_minutes / size <= BUCKETS_MAX).unwrap_or(1_440)
}

/// Handles `GET /api/logs/containers`.
pub(super) fn containers(viewer: &LogViewer, _: &Request) -> Result<Response> {
    #[derive(Debug, Default, Serialize)]
    struct Container {
        name: String,
        log_count: i64,
        levels: ByLevel,
        /// Abbreviated ID; that of the newest container if several had the name.
        id: String,
        image: String,
        project: String,
        service: String,
        /// Whether the log exists and can be read.
        followed: bool,
        /// Reason why the log cannot be read.
        reason: Option<String>,
    }
    #[derive(Serialize)]
    struct Body<'a> {
        containers: Vec<Container>,
        #[serde(skip_serializing_if = "<[String]>::is_empty")]
        troubles: &'a [String],
    }
    let reader = viewer.core.readers.acquire()?;
    let snapshot = reader.unchecked_transaction()?;
    let (stats, rows) = (store::stats(&snapshot)?, sources(&snapshot)?);
    let source_status = viewer.source_status();
    let mut by_name: BTreeMap<String, Container> = BTreeMap::new();
    for (row_id, row) in rows {
        let levels = stats.by_source.get(&row_id).copied().unwrap_or_default();
        let status = source_status.sources.get(&row.key);
        let entries: i64 = levels.iter().sum();
        if entries == 0 && status.is_none() {
            continue;
        }
        let container = by_name.entry(row.name.clone()).or_default();
        container.log_count += entries;
        container.levels.add(levels);
        // Row IDs ascend, so a later row is a newer container.
        if status.is_some() || !container.followed {
            container.name = row.name;
            container.id = row.key.chars().take(12).collect();
            (container.image, container.project, container.service) = (row.image, row.project, row.service);
            container.followed = status == Some(&None);
            container.reason = status.cloned().flatten();
        }
    }
    let containers = by_name.into_values().collect();
    Ok(Response::json(200, &Body { containers, troubles: &source_status.errors }))
}

impl ByLevel {
    fn add(&mut self, [debug, info, warning, error, critical]: [i64; 5]) {
        self.debug += debug;
        self.info += info;
        self.warning += warning;
        self.error += error;
        self.critical += critical;
    }
}

/// Handles `GET /api/logs/stats`.
pub(super) fn stats(viewer: &LogViewer, _: &Request) -> Result<Response> {
    #[derive(Serialize)]
    struct Body {
        total_logs: i64,
        oldest_log: Option<String>,
        newest_log: Option<String>,
        by_level: ByLevel,
        by_container: BTreeMap<String, i64>,
        gaps: i64,
    }
    let reader = viewer.core.readers.acquire()?;
    let snapshot = reader.unchecked_transaction()?;
    let (stats, rows) = (store::stats(&snapshot)?, sources(&snapshot)?);
    let mut by_level = ByLevel::default();
    let mut by_container: BTreeMap<String, i64> = BTreeMap::new();
    for (row_id, levels) in &stats.by_source {
        by_level.add(*levels);
        let name = rows.get(row_id).map(|row| row.name.clone()).unwrap_or_default();
        *by_container.entry(name).or_default() += levels.iter().sum::<i64>();
    }
    let body = Body {
        total_logs: by_container.values().sum(),
        oldest_log: stats.oldest_ns.map(format_timestamp),
        newest_log: stats.newest_ns.map(format_timestamp),
        by_level,
        by_container,
        gaps: counter(&snapshot, counter_names::MISSED_ROTATIONS)?,
    };
    Ok(Response::json(200, &body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn level_filter_is_one_level_a_list_or_a_minimum() {
        assert_eq!(parse_levels("error").unwrap(), [Level::Error]);
        assert_eq!(parse_levels("DEBUG, info").unwrap(), [Level::Debug, Level::Info]);
        assert_eq!(parse_levels(">=WARNING").unwrap(), [Level::Warning, Level::Error, Level::Critical]);
        for text in ["", "loud", ">=", ">=x", "ERROR,"] {
            assert!(parse_levels(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_histogram_has_a_limited_number_of_buckets() {
        for (minutes, expected) in [(0, 1), (120, 1), (121, 5), (1_440, 30), (10_080, 120), (1_000_000, 1_440)] {
            assert_eq!(default_bucket_minutes(minutes), expected, "{minutes}");
        }
    }
}
