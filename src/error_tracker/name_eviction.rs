//! Eviction of the names of environments and releases: from the project with the most of them, the one that was not used for
//! the longest time. What was counted for it is added to "(other)".

use rusqlite::{Connection, OptionalExtension as _, Row};

use super::stores::NAMES;
use crate::clock::Timestamp;
use crate::error::Result;
use crate::quota::{Measure, Reason, largest_project, record_rejection, total_usage};
use crate::records::key_kind::KeyKind;

/// Id of the name "(other)", which replaces evicted names.
pub(super) const OTHER: i64 = 0;
/// Maximum number of names that one report evicts. More than two are necessary only if they are short.
const EVICTIONS_MAX: usize = 16;
/// Number of variants that are read at once when their name is evicted.
const VARIANT_BATCH_MAX: usize = 100;

/// Kind of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NameKind {
    Environment,
    Release,
}

impl NameKind {
    /// Returns the kind for a value of the column `is_release`.
    pub(super) fn new(is_release: bool) -> Self {
        if is_release { Self::Release } else { Self::Environment }
    }

    /// Returns the column of `error_variants` and `hourly_counts` with the id of the name.
    pub(super) fn column(self) -> &'static str {
        match self {
            Self::Environment => "environment_id",
            Self::Release => "release_id",
        }
    }
}

/// Evicts names other than `kept` until the names of all projects are within their bounds.
pub(super) fn evict_names(transaction: &Connection, kept: [i64; 2], now: Timestamp) -> Result<()> {
    for _ in 0..EVICTIONS_MAX {
        let usage = total_usage(transaction, &NAMES)?;
        let measure = match NAMES.bounds {
            bounds if usage.bytes > bounds.bytes_max => Measure::Bytes,
            bounds if usage.rows > bounds.rows_max => Measure::Rows,
            _ => break,
        };
        let Some((project, kind)) = largest_project(transaction, &NAMES, measure)? else { break };
        let Some((name_kind, id)) = least_recently_used(transaction, &project, kind, kept)? else { break };
        evict_name(transaction, &project, name_kind, id)?;
        record_rejection(transaction, &NAMES, &project, Reason::Evicted, 1, now)?;
    }
    Ok(())
}

/// Returns the name of a project that was not used for the longest time; one of its browser keys if `kind` is that of
/// browsers. Of several in the same second, the one that was stored first.
fn least_recently_used(
    transaction: &Connection,
    project: &str,
    kind: KeyKind,
    kept: [i64; 2],
) -> Result<Option<(NameKind, i64)>> {
    let mut oldest = transaction.prepare_cached(
        "SELECT last_used_s, name_id, is_release FROM project_names
         WHERE project = ?1 AND key_kind_id = ?2 AND name_id NOT IN (?3, ?4)
         ORDER BY last_used_s, name_id, is_release LIMIT 1",
    )?;
    let name = |row: &Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, bool>(2)?));
    let mut oldest = |kind: KeyKind| oldest.query_row((project, kind.id(), kept[0], kept[1]), name).optional();
    let of_browsers = oldest(KeyKind::Browser)?;
    let found = match of_browsers {
        Some(name) if kind == KeyKind::Browser => Some(name),
        of_browsers => of_browsers.into_iter().chain(oldest(KeyKind::Server)?).min(),
    };
    Ok(found.map(|(_, id, is_release)| (NameKind::new(is_release), id)))
}

/// Deletes a name of a project, and adds what was counted for it to "(other)".
fn evict_name(transaction: &Connection, project: &str, name_kind: NameKind, id: i64) -> Result<()> {
    let column = name_kind.column();
    // CROSS JOIN keeps this order of the tables: few groups have the name, but the project may have many groups.
    let mut select = transaction.prepare_cached(&format!(
        "SELECT v.group_id, v.environment_id, v.release_id, v.last_seen_h
         FROM error_variants v CROSS JOIN error_groups g ON g.id = v.group_id
         WHERE v.{column} = ?1 AND g.project = ?2 LIMIT ?3"
    ))?;
    let variant = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?));
    loop {
        let rows = select.query_map((id, project, VARIANT_BATCH_MAX as i64), variant)?;
        let variants = rows.collect::<rusqlite::Result<Vec<(i64, i64, i64, i64)>>>()?;
        for (group, environment, release, last_seen_h) in &variants {
            let to = match name_kind {
                NameKind::Environment => (OTHER, *release),
                NameKind::Release => (*environment, OTHER),
            };
            move_counts(transaction, *group, (*environment, *release), to, *last_seen_h)?;
        }
        if variants.len() < VARIANT_BATCH_MAX {
            break;
        }
    }
    let mut delete = transaction
        .prepare_cached("DELETE FROM project_names WHERE project = ?1 AND is_release = ?2 AND name_id = ?3")?;
    delete.execute((project, name_kind == NameKind::Release, id))?;
    let mut delete = transaction.prepare_cached(
        "DELETE FROM variant_names WHERE id = ?1
             AND NOT EXISTS (SELECT 1 FROM project_names WHERE name_id = ?1)
             AND NOT EXISTS (SELECT 1 FROM error_variants WHERE environment_id = ?1)
             AND NOT EXISTS (SELECT 1 FROM error_variants WHERE release_id = ?1)",
    )?;
    delete.execute([id])?;
    Ok(())
}

/// Adds the hourly counts of one variant of a group to those of another, and deletes the first.
fn move_counts(transaction: &Connection, group: i64, from: (i64, i64), to: (i64, i64), last_seen_h: i64) -> Result<()> {
    let mut upsert = transaction.prepare_cached(
        "INSERT INTO error_variants (group_id, environment_id, release_id, last_seen_h) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT DO UPDATE SET last_seen_h = max(last_seen_h, excluded.last_seen_h)",
    )?;
    upsert.execute((group, to.0, to.1, last_seen_h))?;
    let mut add = transaction.prepare_cached(
        "INSERT INTO hourly_counts (group_id, environment_id, release_id, at_h, count, key_kind_id)
             SELECT group_id, ?4, ?5, at_h, count, key_kind_id FROM hourly_counts
             WHERE group_id = ?1 AND environment_id = ?2 AND release_id = ?3
         ON CONFLICT DO UPDATE SET count = count + excluded.count",
    )?;
    add.execute((group, from.0, from.1, to.0, to.1))?;
    let mut delete = transaction
        .prepare_cached("DELETE FROM error_variants WHERE group_id = ?1 AND environment_id = ?2 AND release_id = ?3")?;
    delete.execute((group, from.0, from.1))?;
    Ok(())
}
