//! Every question asked of the error tracker's database.

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension as _, Row, params_from_iter};
use serde::Serialize;
use serde_json::value::RawValue;

use super::commands::OCCURRENCES_KEPT;
use super::search::{self, like_pattern};
use crate::clock::Timestamp;
use crate::error::Result;

/// Which groups are wanted; `None` means all.
#[derive(Debug, Default, Clone)]
pub(super) struct Filter {
    pub(super) project: Option<String>,
    /// Seen there at least once.
    pub(super) environment: Option<String>,
    /// Seen there at least once.
    pub(super) release: Option<String>,
    pub(super) resolved: Option<bool>,
    pub(super) source: Option<String>,
    pub(super) level: Option<String>,
    /// Among the occurrences that are kept.
    pub(super) session_id: Option<String>,
    /// Seen at this moment or later.
    pub(super) since: Option<Timestamp>,
    /// Seen at this moment or earlier.
    pub(super) until: Option<Timestamp>,
    /// Words, or where no word fits any text, in type, message and traceback.
    pub(super) search: Option<String>,
    pub(super) sort: Sort,
}

/// What comes first.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sort {
    #[default]
    LastSeen,
    FirstSeen,
    Count,
}

/// A group as lists show it.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    pub(super) id: i64,
    fingerprint: String,
    pub(super) project: String,
    pub(super) environment: String,
    pub(super) exception_type: String,
    pub(super) message: String,
    pub(super) location: Option<String>,
    pub(super) release: Option<String>,
    level: String,
    source: String,
    pub(super) count: i64,
    pub(super) first_seen: Timestamp,
    pub(super) last_seen: Timestamp,
    resolved: bool,
    resolved_at: Option<Timestamp>,
    /// Reports in each of the last hours, the running one last, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    hours: Option<Vec<i64>>,
}

/// A group with everything that is kept of it.
#[derive(Debug, Serialize)]
pub(super) struct Detail {
    #[serde(flatten)]
    pub(super) summary: Summary,
    pub(super) traceback: String,
    occurrences: Vec<Occurrence>,
}

/// One report, in full.
#[derive(Debug, Serialize)]
struct Occurrence {
    id: i64,
    timestamp: Timestamp,
    environment: String,
    release: Option<String>,
    level: String,
    message: String,
    request_url: Option<String>,
    request_method: Option<String>,
    request_headers: Box<RawValue>,
    user_id: Option<String>,
    session_id: Option<String>,
    extra: Box<RawValue>,
    traceback: String,
}

/// Some of the groups that fit, and how many fit in all.
#[derive(Debug, Serialize)]
pub(super) struct Page {
    pub(super) errors: Vec<Summary>,
    pub(super) total: i64,
    limit: i64,
    offset: i64,
}

const COLUMNS: &str = "e.id, e.fingerprint, e.project, e.environment, e.exception_type, e.message, e.location, \
                       e.release, e.level, e.source, e.count, e.first_seen, e.last_seen, e.resolved, e.resolved_at";

fn summary(row: &Row<'_>) -> rusqlite::Result<Summary> {
    Ok(Summary {
        id: row.get(0)?,
        fingerprint: row.get(1)?,
        project: row.get(2)?,
        environment: row.get(3)?,
        exception_type: row.get(4)?,
        message: row.get(5)?,
        location: row.get(6)?,
        release: row.get(7)?,
        level: row.get(8)?,
        source: row.get(9)?,
        count: row.get(10)?,
        first_seen: moment(row.get(11)?),
        last_seen: moment(row.get(12)?),
        resolved: row.get(13)?,
        resolved_at: row.get::<_, Option<i64>>(14)?.map(moment),
        hours: None,
    })
}

pub(super) fn moment(seconds: i64) -> Timestamp {
    Timestamp::from_ms(seconds.saturating_mul(1_000))
}

/// The groups that fit `filter`, those first that `filter.sort` says.
pub(super) fn list(connection: &Connection, filter: &Filter, limit: i64, offset: i64) -> Result<Page> {
    // One transaction, so that the total and the rows are of the same moment.
    let snapshot = connection.unchecked_transaction()?;
    let search = filter.search.as_deref().map(str::trim).filter(|typed| !typed.is_empty());
    let Some(typed) = search else { return page(&snapshot, &Condition::of(filter), filter.sort, limit, offset) };
    if let Some(words) = search::parse(typed) {
        let mut by_words = Condition::of(filter);
        by_words.and_costly("e.id IN (SELECT rowid FROM error_search WHERE error_search MATCH ?)", [words.fts.into()]);
        for piece in &words.pieces {
            by_words.contains(piece);
        }
        let found = page(&snapshot, &by_words, filter.sort, limit, offset)?;
        if found.total > 0 {
            return Ok(found);
        }
    }
    let mut by_substring = Condition::of(filter);
    by_substring.contains(typed);
    page(&snapshot, &by_substring, filter.sort, limit, offset)
}

/// The part of a query behind WHERE, with its values.
struct Condition {
    sql: String,
    values: Vec<Value>,
    /// Whether every group has to be looked up elsewhere.
    costly: bool,
}

impl Condition {
    fn of(filter: &Filter) -> Self {
        let mut condition = Self { sql: "1".into(), values: Vec::new(), costly: false };
        let mut equal = |column: &str, value: &Option<String>| {
            if let Some(value) = value {
                condition.and(&format!("{column} = ?"), [value.clone().into()]);
            }
        };
        equal("e.project", &filter.project);
        equal("e.source", &filter.source);
        equal("e.level", &filter.level);
        for (column, name) in [("environment_id", &filter.environment), ("release_id", &filter.release)] {
            if let Some(name) = name {
                let sql = format!(
                    "e.id IN (SELECT error_id FROM error_variants WHERE {column} = (SELECT id FROM names WHERE name = ?))"
                );
                condition.and_costly(&sql, [name.clone().into()]);
            }
        }
        if let Some(session) = &filter.session_id {
            let sql = "e.id IN (SELECT error_id FROM error_occurrences WHERE session_id = ?)";
            condition.and_costly(sql, [session.clone().into()]);
        }
        if let Some(resolved) = filter.resolved {
            condition.and("e.resolved = ?", [resolved.into()]);
        }
        if let Some(since) = filter.since {
            condition.and("e.last_seen >= ?", [since.seconds().into()]);
        }
        if let Some(until) = filter.until {
            condition.and("e.first_seen <= ?", [until.seconds().into()]);
        }
        condition
    }

    /// That the text stands in type, message or traceback as it is, in whatever case.
    fn contains(&mut self, text: &str) {
        let pattern = Value::from(like_pattern(text));
        self.and_costly(
            "(e.exception_type LIKE ? ESCAPE '\\' OR e.message LIKE ? ESCAPE '\\' OR EXISTS
                 (SELECT 1 FROM error_texts t WHERE t.error_id = e.id
                      AND (t.traceback LIKE ? ESCAPE '\\' OR t.message LIKE ? ESCAPE '\\')))",
            [pattern.clone(), pattern.clone(), pattern.clone(), pattern],
        );
    }

    fn and_costly<const N: usize>(&mut self, sql: &str, values: [Value; N]) {
        self.costly = true;
        self.and(sql, values);
    }

    fn and<const N: usize>(&mut self, sql: &str, values: [Value; N]) {
        self.sql.push_str(" AND ");
        self.sql.push_str(sql);
        self.values.extend(values);
    }
}

fn page(connection: &Connection, condition: &Condition, sort: Sort, limit: i64, offset: i64) -> Result<Page> {
    let order = match sort {
        Sort::LastSeen => "e.last_seen DESC, e.id DESC",
        Sort::FirstSeen => "e.first_seen DESC, e.id DESC",
        Sort::Count => "e.count DESC, e.id DESC",
    };
    let (total, ids) = if condition.costly {
        walk(connection, condition, order, limit, offset)?
    } else {
        count_and_pick(connection, condition, order, limit, offset)?
    };
    let mut read = connection.prepare_cached(&format!("SELECT {COLUMNS} FROM errors e WHERE e.id = ?1"))?;
    let errors = ids.iter().map(|id| read.query_row([id], summary)).collect::<rusqlite::Result<_>>()?;
    Ok(Page { errors, total, limit, offset })
}

/// How many groups fit and which are on the page, where an index answers both without looking at every group.
fn count_and_pick(
    connection: &Connection,
    condition: &Condition,
    order: &str,
    limit: i64,
    offset: i64,
) -> Result<(i64, Vec<i64>)> {
    let Condition { sql, values, .. } = condition;
    let mut count = connection.prepare_cached(&format!("SELECT count(*) FROM errors e WHERE {sql}"))?;
    let total = count.query_row(params_from_iter(values), |row| row.get(0))?;
    let paged = values.iter().cloned().chain([limit.into(), offset.into()]);
    let sql = format!("SELECT e.id FROM errors e WHERE {sql} ORDER BY {order} LIMIT ? OFFSET ?");
    let mut pick = connection.prepare_cached(&sql)?;
    let ids = pick.query_map(params_from_iter(paged), |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    Ok((total, ids))
}

/// The same in one walk over all that fit, where finding them is what costs.
fn walk(
    connection: &Connection,
    condition: &Condition,
    order: &str,
    limit: i64,
    offset: i64,
) -> Result<(i64, Vec<i64>)> {
    let Condition { sql, values, .. } = condition;
    let mut find = connection.prepare_cached(&format!("SELECT e.id FROM errors e WHERE {sql} ORDER BY {order}"))?;
    let mut rows = find.query(params_from_iter(values))?;
    let (mut total, mut ids) = (0, Vec::new());
    while let Some(row) = rows.next()? {
        if (offset..offset.saturating_add(limit)).contains(&total) {
            ids.push(row.get(0)?);
        }
        total += 1;
    }
    Ok((total, ids))
}

/// One group in full, `None` when there is none with that id.
pub(super) fn detail(connection: &Connection, id: i64) -> Result<Option<Detail>> {
    let snapshot = connection.unchecked_transaction()?;
    let mut read = snapshot.prepare_cached(&format!("SELECT {COLUMNS} FROM errors e WHERE e.id = ?1"))?;
    let Some(mut summary) = read.query_row([id], summary).optional()? else { return Ok(None) };
    let mut texts = snapshot.prepare_cached("SELECT message, traceback FROM error_texts WHERE error_id = ?1")?;
    let texts: Option<(Option<String>, String)> =
        texts.query_row([id], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    let (whole_message, traceback) = texts.unwrap_or_default();
    if let Some(whole) = whole_message {
        summary.message = whole;
    }
    let mut read = snapshot.prepare_cached(
        "SELECT id, timestamp, environment, release, level, message, request_url, request_method, request_headers,
             user_id, session_id, extra, traceback
         FROM error_occurrences WHERE error_id = ?1 ORDER BY id DESC LIMIT ?2",
    )?;
    let occurrence = |row: &Row<'_>| {
        Ok(Occurrence {
            id: row.get(0)?,
            timestamp: moment(row.get(1)?),
            environment: row.get(2)?,
            release: row.get(3)?,
            level: row.get(4)?,
            message: row.get::<_, Option<String>>(5)?.unwrap_or_else(|| summary.message.clone()),
            request_url: row.get(6)?,
            request_method: row.get(7)?,
            request_headers: object(row.get(8)?),
            user_id: row.get(9)?,
            session_id: row.get(10)?,
            extra: object(row.get(11)?),
            traceback: row.get::<_, Option<String>>(12)?.unwrap_or_else(|| traceback.clone()),
        })
    };
    let occurrences = read.query_map([id, OCCURRENCES_KEPT], occurrence)?.collect::<rusqlite::Result<_>>()?;
    Ok(Some(Detail { summary, traceback, occurrences }))
}

/// Adds to groups how many reports each had in the last `hours` hours, of which the running one is the last.
pub(super) fn add_hours<'g>(
    connection: &Connection,
    groups: impl IntoIterator<Item = &'g mut Summary>,
    hours: i64,
    now: Timestamp,
) -> Result<()> {
    let first = now.seconds().div_euclid(3_600) + 1 - hours;
    let mut read = connection
        .prepare_cached("SELECT hour, sum(count) FROM error_series WHERE error_id = ?1 AND hour >= ?2 GROUP BY hour")?;
    for group in groups {
        let mut counts = vec![0; usize::try_from(hours).unwrap_or_default()];
        let mut rows = read.query([group.id, first])?;
        while let Some(row) = rows.next()? {
            let index = usize::try_from(row.get::<_, i64>(0)? - first).unwrap_or_default();
            if let Some(count) = counts.get_mut(index) {
                *count = row.get(1)?;
            }
        }
        group.hours = Some(counts);
    }
    Ok(())
}

/// The names of environments and of releases that a group was seen in, each in alphabetical order.
pub(super) fn variants(connection: &Connection) -> Result<[Vec<String>; 2]> {
    let names = |column: &str| -> Result<Vec<String>> {
        // From each name to whether anything has it, however many groups do.
        let mut read = connection.prepare_cached(&format!(
            "SELECT name FROM names WHERE name <> '' AND EXISTS (SELECT 1 FROM error_variants WHERE {column} = names.id)
             ORDER BY name"
        ))?;
        Ok(read.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?)
    };
    Ok([names("environment_id")?, names("release_id")?])
}

/// A stored JSON object; `{}` where there is none.
pub(super) fn object(stored: Option<String>) -> Box<RawValue> {
    let stored = stored.and_then(|text| RawValue::from_string(text).ok());
    stored.unwrap_or_else(|| RawValue::from_string("{}".into()).expect("{} is JSON"))
}

/// The names of all projects with a group, in alphabetical order.
pub(super) fn projects(connection: &Connection) -> Result<Vec<String>> {
    // From each name straight to the next in the index, however many groups one has.
    let mut read = connection.prepare_cached(
        "WITH RECURSIVE p (name) AS (
             SELECT min(project) FROM errors
             UNION ALL SELECT (SELECT min(project) FROM errors WHERE project > p.name) FROM p WHERE p.name IS NOT NULL
         ) SELECT name FROM p WHERE name IS NOT NULL",
    )?;
    Ok(read.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?)
}

/// The numbers in `totals`, by name.
pub(super) fn totals(connection: &Connection) -> Result<Vec<(String, i64)>> {
    let mut read = connection.prepare_cached("SELECT name, value FROM totals")?;
    Ok(read.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<rusqlite::Result<_>>()?)
}
