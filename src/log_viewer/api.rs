//! The log viewer's handlers: each parses, asks once, answers.

use std::collections::BTreeMap;

use serde::Serialize;

use super::LogViewer;
use super::config::Limits;
use super::ring::{id_at, minute_of_id};
use super::search::Search;
use super::store::{self, Filter, Query, Shown};
use super::text::level::Level;
use crate::clock::Timestamp;
use crate::db::Reader;
use crate::error::{Error, Result};
use crate::http::{Request, Response};

const LIMIT_DEFAULT: i64 = 100;
const LIMIT_MAX: i64 = 500;
/// Entries on either side of one.
const CONTEXT_DEFAULT: i64 = 20;
const CONTEXT_MAX: i64 = 200;
/// Buckets that a chart has room for.
const BUCKETS_MAX: i64 = 120;
const NS_PER_MS: i64 = 1_000_000;

/// `GET /api/logs`
pub(super) fn list(viewer: &LogViewer, request: &Request) -> Result<Response> {
    #[derive(Serialize)]
    struct Answer {
        logs: Vec<Shown>,
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
    let reader = viewer.core.readers.acquire()?;
    let filter = filter(&reader, request, viewer.limits)?;
    let snapshot = reader.unchecked_transaction()?;
    let query = Query::new(&snapshot, &filter)?;
    let [skipped, wanted] = [offset, offset + limit].map(|count| usize::try_from(count).unwrap_or(usize::MAX));
    let found = query.newest(wanted)?;
    let logs = query.entries(found.ids.get(skipped..).unwrap_or_default())?;
    let search_mode = mode(&filter.search);
    Ok(Response::json(200, &Answer { logs, total: found.total, limit, offset, search_mode, partial: found.partial }))
}

fn mode(search: &Search) -> Option<&'static str> {
    if search.is_empty() {
        return None;
    }
    Some(if search.plain { "plain" } else { "match" })
}

/// What a request asks for.
pub(super) fn filter(reader: &Reader<'_>, request: &Request, limits: Limits) -> Result<Filter> {
    let text = |name| request.query(name);
    let ms = |moment: Option<Timestamp>, absent| moment.map_or(absent, |moment: Timestamp| moment.ms());
    let oldest_ms = if limits.age.is_zero() { 0 } else { (Timestamp::now() - limits.age).ms() };
    let since_ms = ms(request.query_time("since")?, 0).max(oldest_ms);
    // An entry of the last millisecond is still one of it.
    let until_ms = ms(request.query_time("until")?, i64::MAX / NS_PER_MS - 1);
    Ok(Filter {
        container: text("container").map(str::to_owned),
        levels: text("level").map(levels).transpose()?.unwrap_or_default(),
        first_id: id_at(since_ms.saturating_mul(NS_PER_MS)),
        end_id: id_at(until_ms.saturating_add(1).saturating_mul(NS_PER_MS)),
        search: Search::of(reader, text("search").or(text("q")), text("contains"), text("regex"))?,
    })
}

/// `ERROR`, `ERROR,CRITICAL`, or `>=WARNING`.
fn levels(text: &str) -> Result<Vec<Level>> {
    let rule = || Error::field("level", "must be DEBUG, INFO, WARNING, ERROR or CRITICAL, or >= and one of them");
    let named = |name: &str| Level::named(name.trim()).ok_or_else(rule);
    match text.trim().strip_prefix(">=") {
        Some(name) => {
            let least = named(name)?;
            Ok(Level::ALL.into_iter().filter(|level| *level >= least).collect())
        }
        None => text.split(',').map(named).collect(),
    }
}

/// `GET /api/logs/{id}/context`
pub(super) fn context(viewer: &LogViewer, request: &Request) -> Result<Response> {
    #[derive(Serialize)]
    struct Answer {
        logs: Vec<Shown>,
    }
    let side = |name| request.query_number(name, CONTEXT_DEFAULT, 0..=CONTEXT_MAX);
    let [before, after] = [side("before"), side("after")].map(|count| usize::try_from(count).unwrap_or(0));
    // Of what was written before 2026, it is negative.
    let id = request.param("id").parse().map_err(|_| Error::NotFound("There is no entry with that id".into()))?;
    let reader = viewer.core.readers.acquire()?;
    let snapshot = reader.unchecked_transaction()?;
    Ok(Response::json(200, &Answer { logs: store::context(&snapshot, id, before, after)? }))
}

/// Entries by level.
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

/// `GET /api/logs/histogram`
pub(super) fn histogram(viewer: &LogViewer, request: &Request) -> Result<Response> {
    #[derive(Serialize)]
    struct Bucket {
        bucket: Timestamp,
        count: i64,
        levels: ByLevel,
    }
    #[derive(Serialize)]
    struct Answer {
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
    let first = minute_of_id(stats.oldest_id.unwrap_or(0).max(filter.first_id));
    let last = minute_of_id(stats.newest_id.unwrap_or(0).min(filter.end_id.saturating_sub(1)));
    let bucket_minutes = request.query_number("bucket_minutes", grain(last - first + 1), 1..=1_440);
    let (counted, partial) = Query::new(&snapshot, &filter)?.histogram(bucket_minutes)?;
    let bucket = |(minute, levels): (i64, [i64; 5])| Bucket {
        bucket: Timestamp::from_ms(minute.saturating_mul(60_000)),
        count: levels.iter().sum(),
        levels: levels.into(),
    };
    let buckets: Vec<Bucket> = counted.into_iter().map(bucket).collect();
    let total = buckets.iter().map(|bucket| bucket.count).sum();
    Ok(Response::json(200, &Answer { bucket_minutes, buckets, total, partial }))
}

/// The finest round number of minutes in which a span is no more buckets than a chart has room for.
fn grain(minutes: i64) -> i64 {
    const GRAINS: [i64; 9] = [1, 5, 10, 30, 60, 120, 360, 720, 1_440];
    GRAINS.into_iter().find(|grain| minutes / grain <= BUCKETS_MAX).unwrap_or(1_440)
}

/// `GET /api/logs/containers`
pub(super) fn containers(viewer: &LogViewer, _: &Request) -> Result<Response> {
    #[derive(Debug, Default, Serialize)]
    struct Container {
        name: String,
        log_count: i64,
        levels: ByLevel,
        /// Docker's id, shortened; of the newest where several had the name.
        id: String,
        image: String,
        project: String,
        service: String,
        /// Whether there is a log that is read now.
        followed: bool,
        /// Why there is none.
        reason: Option<String>,
    }
    #[derive(Serialize)]
    struct Answer<'a> {
        containers: Vec<Container>,
        #[serde(skip_serializing_if = "<[String]>::is_empty")]
        troubles: &'a [String],
    }
    let reader = viewer.core.readers.acquire()?;
    let snapshot = reader.unchecked_transaction()?;
    let (stats, rows) = (store::stats(&snapshot)?, store::containers(&snapshot)?);
    let overview = viewer.overview();
    let mut by_name: BTreeMap<String, Container> = BTreeMap::new();
    for (number, row) in rows {
        let levels = stats.by_container.get(&number).copied().unwrap_or_default();
        let status = overview.logs.get(&row.key);
        let entries: i64 = levels.iter().sum();
        if entries == 0 && status.is_none() {
            continue;
        }
        let container = by_name.entry(row.name.clone()).or_default();
        container.log_count += entries;
        container.levels.add(levels);
        // Numbers ascend, so this is the newer one.
        if status.is_some() || !container.followed {
            container.name = row.name;
            container.id = row.key.chars().take(12).collect();
            (container.image, container.project, container.service) = (row.image, row.project, row.service);
            container.followed = status == Some(&None);
            container.reason = status.cloned().flatten();
        }
    }
    let containers = by_name.into_values().collect();
    Ok(Response::json(200, &Answer { containers, troubles: &overview.troubles }))
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

/// `GET /api/logs/stats`
pub(super) fn stats(viewer: &LogViewer, _: &Request) -> Result<Response> {
    #[derive(Serialize)]
    struct Answer {
        total_logs: i64,
        oldest_log: Option<String>,
        newest_log: Option<String>,
        by_level: ByLevel,
        by_container: BTreeMap<String, i64>,
        gaps: i64,
    }
    let reader = viewer.core.readers.acquire()?;
    let snapshot = reader.unchecked_transaction()?;
    let (stats, rows) = (store::stats(&snapshot)?, store::containers(&snapshot)?);
    let mut by_level = ByLevel::default();
    let mut by_container: BTreeMap<String, i64> = BTreeMap::new();
    for (number, levels) in &stats.by_container {
        by_level.add(*levels);
        let name = rows.get(number).map(|row| row.name.clone()).unwrap_or_default();
        *by_container.entry(name).or_default() += levels.iter().sum::<i64>();
    }
    let moment = |id: Option<i64>| id.map(|id| store::moment_of(&snapshot, id)).transpose().map(Option::flatten);
    let answer = Answer {
        total_logs: by_container.values().sum(),
        oldest_log: moment(stats.oldest_id)?,
        newest_log: moment(stats.newest_id)?,
        by_level,
        by_container,
        gaps: store::total(&snapshot, "gaps")?,
    };
    Ok(Response::json(200, &answer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_one_some_or_all_from_one_on() {
        assert_eq!(levels("error").unwrap(), [Level::Error]);
        assert_eq!(levels("DEBUG, info").unwrap(), [Level::Debug, Level::Info]);
        assert_eq!(levels(">=WARNING").unwrap(), [Level::Warning, Level::Error, Level::Critical]);
        for text in ["", "loud", ">=", ">=x", "ERROR,"] {
            assert!(levels(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_chart_has_room() {
        for (minutes, expected) in [(0, 1), (120, 1), (121, 5), (1_440, 30), (10_080, 120), (1_000_000, 1_440)] {
            assert_eq!(grain(minutes), expected, "{minutes}");
        }
    }
}
