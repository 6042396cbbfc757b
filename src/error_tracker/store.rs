//! Queries of the error tracker.

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension as _, Row, params_from_iter};
use serde::Serialize;
use serde_json::value::RawValue;

use super::fingerprint::Fingerprint;
use super::search;
use crate::clock::Timestamp;
use crate::error::Result;

/// Filter and order of groups; `None` matches all.
#[derive(Debug, Default, Clone)]
pub(super) struct Filter {
    pub(super) project: Option<String>,
    /// Environment of at least one report.
    pub(super) environment: Option<String>,
    /// Release of at least one report.
    pub(super) release: Option<String>,
    pub(super) resolved: Option<bool>,
    pub(super) source: Option<String>,
    pub(super) level: Option<String>,
    /// Session of at least one stored report.
    pub(super) session_id: Option<String>,
    /// Matches groups with a report at this time or later.
    pub(super) since: Option<Timestamp>,
    /// Matches groups with a report at this time or earlier.
    pub(super) until: Option<Timestamp>,
    /// Word prefixes in type, message and traceback; if they match no group, a substring of one of them.
    pub(super) search: Option<String>,
    pub(super) sort: Sort,
}

/// Order of groups, always descending.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sort {
    #[default]
    LastSeen,
    FirstSeen,
    Count,
}

/// A group in a list.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    pub(super) id: i64,
    fingerprint: String,
    pub(super) project: String,
    pub(super) environment: String,
    pub(super) exception_type: String,
    /// Message of the first report; truncated in lists.
    pub(super) message: String,
    /// Whether the details have a longer message.
    message_truncated: bool,
    pub(super) location: Option<String>,
    pub(super) release: Option<String>,
    level: String,
    source: String,
    pub(super) count: i64,
    pub(super) first_seen: Timestamp,
    pub(super) last_seen: Timestamp,
    resolved: bool,
    resolved_at: Option<Timestamp>,
    /// Number of reports in each of the last hours; the last value is the current hour. `None` if not requested.
    #[serde(skip_serializing_if = "Option::is_none")]
    hours: Option<Vec<i64>>,
}

/// A group with its full message and its traceback.
#[derive(Debug, Serialize)]
pub(super) struct Detail {
    #[serde(flatten)]
    pub(super) summary: Summary,
    pub(super) traceback: String,
}

/// A stored report.
#[derive(Debug, Serialize)]
pub(super) struct Occurrence {
    pub(super) id: i64,
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

/// The ids on a page of matching groups, and the number of all matching groups.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) ids: Vec<i64>,
    pub(super) total: i64,
}

const COLUMNS: &str = "g.id, g.fingerprint, g.project, g.environment, g.exception_type, g.message, g.location, \
                       g.release, (SELECT name FROM error_levels WHERE id = g.level_id), \
                       (SELECT name FROM error_sources WHERE id = g.source_id), g.count, g.first_seen_s, \
                       g.last_seen_s, g.resolved, g.resolved_at_s, \
                       EXISTS (SELECT 1 FROM error_texts t WHERE t.group_id = g.id AND t.message IS NOT NULL)";

fn summary(row: &Row<'_>) -> rusqlite::Result<Summary> {
    Ok(Summary {
        id: row.get(0)?,
        fingerprint: Fingerprint::from_bytes(row.get(1)?).to_string(),
        project: row.get(2)?,
        environment: row.get(3)?,
        exception_type: row.get(4)?,
        message: row.get(5)?,
        message_truncated: row.get(15)?,
        location: row.get(6)?,
        release: row.get(7)?,
        level: row.get(8)?,
        source: row.get(9)?,
        count: row.get(10)?,
        first_seen: Timestamp::from_seconds(row.get(11)?),
        last_seen: Timestamp::from_seconds(row.get(12)?),
        resolved: row.get(13)?,
        resolved_at: row.get::<_, Option<i64>>(14)?.map(Timestamp::from_seconds),
        hours: None,
    })
}

/// Returns the ids of a page of the groups that match `filter`.
pub(super) fn find(connection: &Connection, filter: &Filter, limit: i64, offset: i64) -> Result<Page> {
    // One transaction, so that the total and the rows are consistent.
    let snapshot = connection.unchecked_transaction()?;
    let search = filter.search.as_deref().map(str::trim).filter(|query| !query.is_empty());
    let Some(query) = search else { return page(&snapshot, &Condition::new(filter), filter.sort, limit, offset) };
    if let Some(terms) = search::parse(query) {
        let mut by_words = Condition::new(filter);
        let sql = "g.id IN (SELECT rowid FROM error_search WHERE error_search MATCH ?)";
        by_words.and_unindexed(sql, [terms.fts.into()]);
        for substring in &terms.substrings {
            by_words.and_contains(substring);
        }
        let matches = page(&snapshot, &by_words, filter.sort, limit, offset)?;
        if matches.total > 0 {
            return Ok(matches);
        }
    }
    let mut by_substring = Condition::new(filter);
    by_substring.and_contains(query);
    page(&snapshot, &by_substring, filter.sort, limit, offset)
}

/// WHERE clause of a query, with its parameters.
struct Condition {
    sql: String,
    values: Vec<Value>,
    /// Whether no index of `error_groups` covers the clause, so that every group must be checked.
    unindexed: bool,
}

impl Condition {
    fn new(filter: &Filter) -> Self {
        let mut condition = Self { sql: "1".into(), values: Vec::new(), unindexed: false };
        for (sql, value) in [
            ("g.project = ?", &filter.project),
            ("g.source_id = (SELECT id FROM error_sources WHERE name = ?)", &filter.source),
            ("g.level_id = (SELECT id FROM error_levels WHERE name = ?)", &filter.level),
        ] {
            if let Some(value) = value {
                condition.and(sql, [value.clone().into()]);
            }
        }
        for (column, name) in [("environment_id", &filter.environment), ("release_id", &filter.release)] {
            if let Some(name) = name {
                let sql = format!(
                    "g.id IN (SELECT group_id FROM error_variants
                         WHERE {column} = (SELECT id FROM variant_names WHERE name = ?))"
                );
                condition.and_unindexed(&sql, [name.clone().into()]);
            }
        }
        if let Some(session) = &filter.session_id {
            let sql = "g.id IN (SELECT group_id FROM error_occurrences WHERE session_id = ?)";
            condition.and_unindexed(sql, [session.clone().into()]);
        }
        if let Some(resolved) = filter.resolved {
            condition.and("g.resolved = ?", [resolved.into()]);
        }
        if let Some(since) = filter.since {
            condition.and("g.last_seen_s >= ?", [since.seconds().into()]);
        }
        if let Some(until) = filter.until {
            condition.and("g.first_seen_s <= ?", [until.seconds().into()]);
        }
        condition
    }

    /// Requires a substring of type, message or traceback, in upper or lower case.
    fn and_contains(&mut self, substring: &str) {
        let part = Value::from(substring.to_owned());
        self.and_unindexed(
            "(contains(g.exception_type, ?) OR contains(g.message, ?) OR EXISTS
                 (SELECT 1 FROM error_texts t WHERE t.group_id = g.id
                      AND (contains(t.traceback, ?) OR contains(t.message, ?))))",
            [part.clone(), part.clone(), part.clone(), part],
        );
    }

    fn and_unindexed<const N: usize>(&mut self, sql: &str, values: [Value; N]) {
        self.unindexed = true;
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
        Sort::LastSeen => "g.last_seen_s DESC, g.id DESC",
        Sort::FirstSeen => "g.first_seen_s DESC, g.id DESC",
        Sort::Count => "g.count DESC, g.id DESC",
    };
    let (total, ids) = if condition.unindexed {
        scan_page(connection, condition, order, limit, offset)?
    } else {
        index_page(connection, condition, order, limit, offset)?
    };
    Ok(Page { ids, total })
}

/// Returns a group; `None` if the id is unknown.
pub(super) fn group(connection: &Connection, id: i64) -> Result<Option<Summary>> {
    let mut read = connection.prepare_cached(&format!("SELECT {COLUMNS} FROM error_groups g WHERE g.id = ?1"))?;
    Ok(read.query_row([id], summary).optional()?)
}

/// Returns the number of matching groups and the ids on the page, in two queries that an index answers.
fn index_page(
    connection: &Connection,
    condition: &Condition,
    order: &str,
    limit: i64,
    offset: i64,
) -> Result<(i64, Vec<i64>)> {
    let Condition { sql, values, .. } = condition;
    let mut count = connection.prepare_cached(&format!("SELECT count(*) FROM error_groups g WHERE {sql}"))?;
    let total = count.query_row(params_from_iter(values), |row| row.get(0))?;
    let paged = values.iter().cloned().chain([limit.into(), offset.into()]);
    let sql = format!("SELECT g.id FROM error_groups g WHERE {sql} ORDER BY {order} LIMIT ? OFFSET ?");
    let mut page = connection.prepare_cached(&sql)?;
    let ids = page.query_map(params_from_iter(paged), |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    Ok((total, ids))
}

/// Returns the same as [`index_page`] in one scan over all matching groups, because each match is expensive to
/// find.
fn scan_page(
    connection: &Connection,
    condition: &Condition,
    order: &str,
    limit: i64,
    offset: i64,
) -> Result<(i64, Vec<i64>)> {
    let Condition { sql, values, .. } = condition;
    let mut scan =
        connection.prepare_cached(&format!("SELECT g.id FROM error_groups g WHERE {sql} ORDER BY {order}"))?;
    let mut rows = scan.query(params_from_iter(values))?;
    let (mut total, mut ids) = (0, Vec::new());
    while let Some(row) = rows.next()? {
        if (offset..offset.saturating_add(limit)).contains(&total) {
            ids.push(row.get(0)?);
        }
        total += 1;
    }
    Ok((total, ids))
}

/// Returns a group with its texts; `None` if the id is unknown.
pub(super) fn detail(connection: &Connection, id: i64) -> Result<Option<Detail>> {
    let snapshot = connection.unchecked_transaction()?;
    let Some(mut summary) = group(&snapshot, id)? else { return Ok(None) };
    let mut texts = snapshot.prepare_cached("SELECT message, traceback FROM error_texts WHERE group_id = ?1")?;
    let texts: Option<(Option<String>, String)> =
        texts.query_row([id], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    let (full_message, traceback) = texts.unwrap_or_default();
    if let Some(message) = full_message {
        summary.message = message;
        summary.message_truncated = false;
    }
    Ok(Some(Detail { summary, traceback }))
}

/// Returns the latest stored report of a group whose id is below `before`; `None` if there is none.
pub(super) fn occurrence_before(connection: &Connection, group_id: i64, before: i64) -> Result<Option<Occurrence>> {
    let mut read = connection.prepare_cached(
        "SELECT o.id, o.occurred_at_s, o.environment, o.release,
             (SELECT name FROM error_levels WHERE id = o.level_id), coalesce(o.message, t.message, g.message),
             o.request_url, o.request_method, o.request_headers, o.user_id, o.session_id, o.extra,
             coalesce(o.traceback, t.traceback, '')
         FROM error_occurrences o JOIN error_groups g ON g.id = o.group_id LEFT JOIN error_texts t ON t.group_id = g.id
         WHERE o.group_id = ?1 AND o.id < ?2 ORDER BY o.id DESC LIMIT 1",
    )?;
    let occurrence = |row: &Row<'_>| {
        Ok(Occurrence {
            id: row.get(0)?,
            timestamp: Timestamp::from_seconds(row.get(1)?),
            environment: row.get(2)?,
            release: row.get(3)?,
            level: row.get(4)?,
            message: row.get(5)?,
            request_url: row.get(6)?,
            request_method: row.get(7)?,
            request_headers: json_object(row.get(8)?),
            user_id: row.get(9)?,
            session_id: row.get(10)?,
            extra: json_object(row.get(11)?),
            traceback: row.get(12)?,
        })
    };
    Ok(read.query_row((group_id, before), occurrence).optional()?)
}

/// Adds the number of reports in each of the last `hours` hours to a group. The last hour is the current one.
pub(super) fn add_hourly_counts(
    connection: &Connection,
    group: &mut Summary,
    hours: i64,
    now: Timestamp,
) -> Result<()> {
    let first = now.hour() + 1 - hours;
    // CROSS JOIN keeps this order of the tables: it seeks to the first hour of each variant, where the other order would read
    // all hours of the group.
    let mut read = connection.prepare_cached(
        "SELECT c.at_h, sum(c.count)
         FROM error_variants v CROSS JOIN hourly_counts c USING (group_id, environment_id, release_id)
         WHERE v.group_id = ?1 AND v.last_seen_h >= ?2 AND c.at_h >= ?2 GROUP BY c.at_h",
    )?;
    let mut counts = vec![0; usize::try_from(hours).unwrap_or_default()];
    let mut rows = read.query([group.id, first])?;
    while let Some(row) = rows.next()? {
        let index = usize::try_from(row.get::<_, i64>(0)? - first).unwrap_or_default();
        if let Some(count) = counts.get_mut(index) {
            *count = row.get(1)?;
        }
    }
    group.hours = Some(counts);
    Ok(())
}

/// Wraps a stored JSON object; `None` becomes `{}`.
pub(super) fn json_object(stored: Option<String>) -> Box<RawValue> {
    let stored = stored.and_then(|json| RawValue::from_string(json).ok());
    stored.unwrap_or_else(|| RawValue::from_string("{}".into()).expect("{} is JSON"))
}

/// Returns the first project after `name` in alphabetical order; `None` if there is none.
pub(super) fn project_after(connection: &Connection, name: &str) -> Result<Option<String>> {
    let mut read = connection.prepare_cached("SELECT min(project) FROM error_groups WHERE project > ?1")?;
    Ok(read.query_row([name], |row| row.get(0))?)
}

/// Returns the project and the exception type of a group; `None` if the id is unknown.
pub(super) fn project_and_type(connection: &Connection, id: i64) -> Result<Option<(String, String)>> {
    let mut read = connection.prepare_cached("SELECT project, exception_type FROM error_groups WHERE id = ?1")?;
    Ok(read.query_row([id], |row| Ok((row.get(0)?, row.get(1)?))).optional()?)
}
