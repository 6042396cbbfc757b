//! Eviction of unresolved groups beyond `MAX_GROUPS`: from the project that has the most of them.

use rusqlite::{Connection, OptionalExtension as _};

use super::stores;
use crate::clock::Timestamp;
use crate::db::add_to_counter;
use crate::error::Result;
use crate::quota::{Measure, Reason, Store, largest_project, record_rejection, total_usage};
use crate::records::key_kind::KeyKind;

/// Maximum number of groups that one report evicts. More than one is necessary only after `MAX_GROUPS` was reduced.
const EVICTIONS_MAX: i64 = 200;

/// Counts a group that became unresolved, and evicts others until the unresolved groups are within their bounds. Takes them
/// from the largest project, whose groups of browser keys come first if they are more than half, in the order of their last
/// report.
pub(super) fn count_unresolved(transaction: &Connection, added: i64, groups_max: i64, now: Timestamp) -> Result<()> {
    let (store, mut evicted) = (stores::groups(groups_max), 0);
    while evicted < EVICTIONS_MAX {
        let usage = total_usage(transaction, &store)?;
        let measure = match store.bounds {
            bounds if usage.rows > bounds.rows_max => Measure::Rows,
            bounds if usage.bytes > bounds.bytes_max => Measure::Bytes,
            _ => break,
        };
        let Some((id, project)) = next_eviction(transaction, &store, measure, added)? else { break };
        delete_group(transaction, id)?;
        record_rejection(transaction, &store, &project, Reason::Evicted, 1, now)?;
        evicted += 1;
        if usage.rows == store.bounds.rows_max + 1 && usage.bytes <= store.bounds.bytes_max {
            break;
        }
    }
    if evicted != 1 {
        add_to_counter(transaction, "unresolved", 1 - evicted)?;
    }
    if evicted > 0 {
        add_to_counter(transaction, "evicted", evicted)?;
    }
    Ok(())
}

/// Returns the id and the project of the group to evict; never of the group `added`.
fn next_eviction(
    transaction: &Connection,
    store: &Store,
    measure: Measure,
    added: i64,
) -> Result<Option<(i64, String)>> {
    let stalest = |condition: &str, project: &str| -> Result<Option<i64>> {
        let mut select = transaction.prepare_cached(&format!(
            "SELECT id FROM error_groups WHERE project = ?1 AND resolved = 0 {condition} AND id <> ?2
             ORDER BY last_seen_s, id LIMIT 1"
        ))?;
        Ok(select.query_row((project, added), |row| row.get(0)).optional()?)
    };
    if let Some((project, kind)) = largest_project(transaction, store, measure)? {
        let of_browsers = match kind {
            // A literal, because a partial index is used only if its condition is in the query.
            KeyKind::Browser => stalest("AND key_kind_id = 2", &project)?,
            KeyKind::Server => None,
        };
        if let Some(id) = of_browsers.map_or_else(|| stalest("", &project), |id| Ok(Some(id)))? {
            return Ok(Some((id, project)));
        }
    }
    let mut select = transaction.prepare_cached(
        "SELECT id, project FROM error_groups WHERE resolved = 0 AND id <> ?1 ORDER BY last_seen_s, id LIMIT 1",
    )?;
    Ok(select.query_row([added], |row| Ok((row.get(0)?, row.get(1)?))).optional()?)
}

/// Deletes a group and everything that refers to it. The caller updates the counters.
pub(super) fn delete_group(transaction: &Connection, id: i64) -> Result<()> {
    transaction.prepare_cached("DELETE FROM error_search WHERE rowid = ?1")?.execute([id])?;
    transaction.prepare_cached("DELETE FROM error_groups WHERE id = ?1")?.execute([id])?;
    Ok(())
}
