//! Usage of the bounded stores by project and kind of key, from the table `quota_usage`.

use rusqlite::{Connection, OptionalExtension as _, Row};
use serde::Serialize;

use super::shares::{BROWSER_PERCENT, Bounds, Holdings, Reason, Usage, refusal, share};
use crate::error::Result;
use crate::records::key_kind::KeyKind;

/// A bounded store of a service.
#[derive(Debug, Clone, Copy)]
pub struct Store {
    /// The name in `quota_usage` and `/api/quota`.
    pub name: &'static str,
    /// The code of the warning in `/health` when data were rejected or evicted.
    pub warning: &'static str,
    /// The bounds of all projects together.
    pub bounds: Bounds,
}

/// Sender of data: a project, and the kind of the key.
#[derive(Debug, Clone, Copy)]
pub struct Holder<'a> {
    /// The project; empty if none.
    pub project: &'a str,
    /// The kind of the key.
    pub kind: KeyKind,
}

/// Measure by which projects are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// The number of rows.
    Rows,
    /// The stored size.
    Bytes,
}

/// Stored data of one project through one kind of key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProjectUsage {
    /// The project; empty if none.
    pub project: String,
    /// The kind of the key: `server` or `browser`.
    pub key_kind: &'static str,
    /// The number of rows.
    pub rows: u64,
    /// Their size.
    pub bytes: u64,
}

/// Returns the reason why a holder may not add to a store that cannot evict; `None` if it may.
///
/// # Errors
/// Fails if the database cannot be read.
pub fn check(connection: &Connection, store: &Store, holder: Holder<'_>, added: Usage) -> Result<Option<Reason>> {
    let total = total_usage(connection, store)?;
    let mut own = connection.prepare_cached(
        "SELECT key_kind_id, row_count, stored_bytes FROM quota_usage WHERE store = ?1 AND project = ?2",
    )?;
    let rows = own.query_map((store.name, holder.project), |row| Ok((row.get::<_, i64>(0)?, usage(row, 1)?)))?;
    let (mut project, mut project_browser) = (Usage::default(), Usage::default());
    for row in rows {
        let (kind, usage) = row?;
        project = Usage { rows: project.rows + usage.rows, bytes: project.bytes + usage.bytes };
        if kind == KeyKind::Browser.id() {
            project_browser = usage;
        }
    }
    // Data without a project describe this machine or belong to a user without projects; they make nobody a neighbor.
    let mut others = connection.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM quota_usage WHERE store = ?1 AND project > '' AND project < ?2)
             OR EXISTS (SELECT 1 FROM quota_usage WHERE store = ?1 AND project > ?2)",
    )?;
    let is_alone = !others.query_row((store.name, holder.project), |row| row.get::<_, bool>(0))?;
    let held = Holdings { total, project, project_browser, is_alone };
    Ok(refusal(store.bounds, &held, holder.kind, added))
}

/// Adds to what a holder has stored, for stores without triggers. Negative numbers take away.
///
/// # Errors
/// Fails if the database cannot be written.
pub fn add_usage(transaction: &Connection, store: &Store, holder: Holder<'_>, rows: i64, bytes: i64) -> Result<()> {
    let mut update = transaction.prepare_cached(
        "UPDATE quota_usage SET row_count = row_count + ?4, stored_bytes = max(stored_bytes + ?5, 0)
         WHERE store = ?1 AND project = ?2 AND key_kind_id = ?3",
    )?;
    let key = (store.name, holder.project, holder.kind.id(), rows, bytes);
    if update.execute(key)? == 0 && rows > 0 {
        let mut insert = transaction.prepare_cached(
            "INSERT INTO quota_usage (store, project, key_kind_id, row_count, stored_bytes) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?;
        insert.execute(key)?;
    }
    Ok(())
}

/// Returns what all projects have stored.
///
/// # Errors
/// Fails if the database cannot be read.
pub fn total_usage(connection: &Connection, store: &Store) -> Result<Usage> {
    let mut total = connection.prepare_cached("SELECT row_count, stored_bytes FROM quota_totals WHERE store = ?1")?;
    if let Some(total) = total.query_row([store.name], |row| usage(row, 0)).optional()? {
        return Ok(total);
    }
    // A store without a total, whose sum is only asked for by readers.
    let mut sum = connection.prepare_cached(
        "SELECT coalesce(sum(row_count), 0), coalesce(sum(stored_bytes), 0) FROM quota_usage WHERE store = ?1",
    )?;
    Ok(sum.query_row([store.name], |row| usage(row, 0))?)
}

/// Returns what one project, or all if `None`, has stored through keys of one kind.
///
/// # Errors
/// Fails if the database cannot be read.
pub fn kind_usage(connection: &Connection, store: &Store, project: Option<&str>, kind: KeyKind) -> Result<Usage> {
    let mut sum = connection.prepare_cached(
        "SELECT coalesce(sum(row_count), 0), coalesce(sum(stored_bytes), 0) FROM quota_usage
         WHERE store = ?1 AND key_kind_id = ?2 AND (?3 IS NULL OR project = ?3)",
    )?;
    Ok(sum.query_row((store.name, kind.id(), project), |row| usage(row, 0))?)
}

/// Returns the project that holds the most of a store, from which the store then evicts, and the kind of keys whose data it
/// loses first: browsers, if they hold more than half of the project's data or more than their share of the store. `None` if
/// the store is empty.
///
/// # Errors
/// Fails if the database cannot be read.
pub fn largest_project(connection: &Connection, store: &Store, by: Measure) -> Result<Option<(String, KeyKind)>> {
    let (column, max) = match by {
        Measure::Rows => ("row_count", store.bounds.rows_max),
        Measure::Bytes => ("stored_bytes", store.bounds.bytes_max),
    };
    let mut largest = connection.prepare_cached(&format!(
        "SELECT project, sum({column}) AS held, sum(CASE key_kind_id WHEN ?2 THEN {column} ELSE 0 END) AS browser
         FROM quota_usage WHERE store = ?1 GROUP BY project ORDER BY held DESC, project LIMIT 1"
    ))?;
    let project = |row: &Row<'_>| {
        let (held, browser): (i64, i64) = (row.get(1)?, row.get(2)?);
        let is_over = browser * 2 > held || browser.unsigned_abs() > share(max, BROWSER_PERCENT);
        Ok((row.get(0)?, if is_over { KeyKind::Browser } else { KeyKind::Server }))
    };
    Ok(largest.query_row((store.name, KeyKind::Browser.id()), project).optional()?)
}

/// The project that loses data of two stores with a common bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LargestProject {
    /// The project; empty if none.
    pub project: String,
    /// The kind of keys whose data are lost first.
    pub key_kind: KeyKind,
    /// Index of the store in which these keys, or all, hold more.
    pub store: usize,
}

/// Returns the project with the most bytes in two stores with a common bound, as [`largest_project`] does for one. `None` if
/// both are empty.
///
/// # Errors
/// Fails if the database cannot be read.
pub fn largest_project_of_two(connection: &Connection, stores: &[Store; 2]) -> Result<Option<LargestProject>> {
    let mut largest = connection.prepare_cached(
        "SELECT project, sum(stored_bytes) AS held,
                sum(CASE key_kind_id WHEN ?3 THEN stored_bytes ELSE 0 END) AS browser,
                sum(CASE store WHEN ?1 THEN stored_bytes ELSE 0 END) AS first_held,
                sum(CASE WHEN store = ?1 AND key_kind_id = ?3 THEN stored_bytes ELSE 0 END) AS first_browser
         FROM quota_usage WHERE store IN (?1, ?2) GROUP BY project ORDER BY held DESC, project LIMIT 1",
    )?;
    let project = |row: &Row<'_>| {
        let (held, browser): (i64, i64) = (row.get(1)?, row.get(2)?);
        let bytes_max = stores[0].bounds.bytes_max;
        let is_over = browser * 2 > held || browser.unsigned_abs() > share(bytes_max, BROWSER_PERCENT);
        let (key_kind, all, first) =
            if is_over { (KeyKind::Browser, browser, row.get(4)?) } else { (KeyKind::Server, held, row.get(3)?) };
        let first: i64 = first;
        Ok(LargestProject { project: row.get(0)?, key_kind, store: usize::from(first * 2 < all) })
    };
    Ok(largest.query_row((stores[0].name, stores[1].name, KeyKind::Browser.id()), project).optional()?)
}

/// Returns the `limit` largest usages of a store, the largest first.
///
/// # Errors
/// Fails if the database cannot be read.
pub fn largest_usages(connection: &Connection, store: &Store, limit: usize) -> Result<Vec<ProjectUsage>> {
    let mut select = connection.prepare_cached(
        "SELECT project, key_kind_id, row_count, stored_bytes FROM quota_usage WHERE store = ?1
         ORDER BY stored_bytes DESC, row_count DESC, project LIMIT ?2",
    )?;
    let rows = select.query_map((store.name, limit as i64), |row| {
        let key_kind = KeyKind::from_id(row.get(1)?).name();
        let Usage { rows, bytes } = usage(row, 2)?;
        Ok(ProjectUsage { project: row.get(0)?, key_kind, rows, bytes })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Returns the usage in two columns from `index` on.
fn usage(row: &Row<'_>, index: usize) -> rusqlite::Result<Usage> {
    let (rows, bytes): (i64, i64) = (row.get(index)?, row.get(index + 1)?);
    Ok(Usage { rows: rows.max(0).unsigned_abs(), bytes: bytes.max(0).unsigned_abs() })
}
