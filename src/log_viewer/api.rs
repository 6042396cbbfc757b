//! Request handlers of the log viewer.

use serde::Serialize;

use super::config::RetentionLimits;
use super::entry_bodies::{EntryBody, list_body};
use super::levels::ByLevel;
use super::plausible_time::{EARLIEST_PLAUSIBLE_NS, latest_plausible_ns};
use super::query::{BoundFilter, Filter};
use super::search::Search;
use super::state::LogViewer;
use super::store;
use crate::clock::Timestamp;
use crate::db::{QUERY_TIMED_OUT, Reader};
use crate::error::{Error, Result};
use crate::http::{JsonArray, Request, Response};
use crate::records::log_level::Level;

const JSON: &str = "application/json";
const LIMIT_DEFAULT: i64 = 100;
const LIMIT_MAX: i64 = 500;
/// Number of entries before and after an entry.
const CONTEXT_DEFAULT: i64 = 20;
const CONTEXT_MAX: i64 = 200;
/// Maximum number of buckets in a histogram, unless the request chooses their size.
const BUCKETS_MAX: i64 = 120;
/// Maximum number of buckets in a histogram whose bucket size the request chooses.
const BUCKETS_RETURNED_MAX: usize = 20_000;
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
    let matches = query.newest(skip, count).map_err(say_what_to_narrow)?;
    let search_mode = search_mode(&filter.search);
    let (total, partial) = (matches.total, matches.partial);
    let after = json(&AfterList { total, limit, offset, search_mode, partial })?;
    // The list and the members of `after` are in one object.
    let after = after.replacen('{', ",", 1);
    Ok(Response::streamed(200, JSON, list_body(readers.clone(), matches.ids, &after)))
}

/// Handles `GET /api/logs/{id}`.
pub(super) fn entry(viewer: &LogViewer, request: &Request) -> Result<Response> {
    Ok(Response::streamed(200, JSON, EntryBody::new(viewer.core.readers.clone(), request.id("id")?)))
}

/// Returns the error with a sentence about what to narrow, if it means that a query exceeded its time.
fn say_what_to_narrow(error: Error) -> Error {
    match error {
        Error::Busy(QUERY_TIMED_OUT) => {
            Error::Busy("The search took too long: narrow the period (since, until) or choose a container")
        }
        error => error,
    }
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

/// Handles `GET /api/logs/histogram`.
pub(super) fn histogram(viewer: &LogViewer, request: &Request) -> Result<Response> {
    #[derive(Serialize)]
    struct Bucket {
        bucket: Timestamp,
        count: i64,
        levels: ByLevel,
    }
    #[derive(Serialize)]
    struct AfterBuckets {
        total: i64,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        partial: bool,
    }
    let reader = viewer.core.readers.acquire()?;
    let mut filter = filter(&reader, request, viewer.limits)?;
    // Otherwise one entry that a wrong clock wrote would extend the range by decades.
    if request.query("until").is_none() {
        filter.times_ns.end = latest_plausible_ns(Timestamp::now());
        if request.query("since").is_none() {
            filter.times_ns.start = filter.times_ns.start.max(EARLIEST_PLAUSIBLE_NS);
        }
    }
    let snapshot = reader.unchecked_transaction()?;
    let stats = store::stats(&snapshot)?;
    let first = store::first_minute_from(&snapshot, filter.times_ns.start.div_euclid(NS_PER_MINUTE))?.unwrap_or(0);
    let last = stats.newest_ns.unwrap_or(0).min(filter.times_ns.end.saturating_sub(1)).div_euclid(NS_PER_MINUTE);
    let bucket_minutes = request.query_number("bucket_minutes", default_bucket_minutes(last - first + 1), 1..=1_440);
    let (counts, partial) =
        BoundFilter::new(&snapshot, &filter)?.histogram(bucket_minutes).map_err(say_what_to_narrow)?;
    let bucket = |(minute, levels): (i64, [i64; 5])| Bucket {
        bucket: Timestamp::from_ms(minute.saturating_mul(60_000)),
        count: levels.iter().sum(),
        levels: levels.into(),
    };
    if counts.len() > BUCKETS_RETURNED_MAX {
        let rule = format_args!("must be larger for this period: there are over {BUCKETS_RETURNED_MAX} buckets");
        return Err(Error::field("bucket_minutes", rule));
    }
    let total = counts.values().flatten().sum();
    let after = json(&AfterBuckets { total, partial })?.replacen('{', "],", 1);
    let before = format!(r#"{{"bucket_minutes":{bucket_minutes},"buckets":["#);
    let mut buckets = counts.into_iter().map(bucket);
    let body = JsonArray::new(before, after, move |out| {
        while !out.is_full() {
            match buckets.next() {
                Some(bucket) => out.push(&bucket)?,
                None => return Ok(false),
            }
        }
        Ok(true)
    });
    Ok(Response::streamed(200, JSON, body))
}

/// Serializes a part of a response.
fn json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|why| Error::Internal(format!("failed to serialize a response: {why}")))
}

/// Returns the smallest round bucket size, in minutes, that divides a range into at most [`BUCKETS_MAX`] buckets.
fn default_bucket_minutes(range_minutes: i64) -> i64 {
    const SIZES: [i64; 9] = [1, 5, 10, 30, 60, 120, 360, 720, 1_440];
    SIZES.into_iter().find(|size| range_minutes / size <= BUCKETS_MAX).unwrap_or(1_440)
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
