//! Environments and releases to filter groups by: those that were used last.

use rusqlite::Connection;
use serde::Serialize;

use super::name_eviction::NameKind;
use crate::error::Result;

/// Filter of environments and releases; `None` matches all.
#[derive(Debug, Default)]
pub(super) struct FacetFilter<'a> {
    pub(super) project: Option<&'a str>,
    /// Part of the name, in upper or lower case.
    pub(super) search: Option<&'a str>,
    /// Maximum number of environments, and of releases.
    pub(super) limit: usize,
}

/// The environments and releases that were used last, each in alphabetical order.
#[derive(Debug, Serialize)]
pub(super) struct Facets {
    environments: Vec<String>,
    releases: Vec<String>,
    /// Whether there are more than the limit.
    has_more: bool,
}

/// Returns the environments and the releases that were used last.
pub(super) fn environments_and_releases(connection: &Connection, filter: &FacetFilter<'_>) -> Result<Facets> {
    let (environments, more_environments) = names(connection, NameKind::Environment, filter)?;
    let (releases, more_releases) = names(connection, NameKind::Release, filter)?;
    Ok(Facets { environments, releases, has_more: more_environments || more_releases })
}

/// Returns the names of one kind that were used last, and whether there are more. "(other)" comes last, because it stands for
/// names that were used long ago.
fn names(connection: &Connection, kind: NameKind, filter: &FacetFilter<'_>) -> Result<(Vec<String>, bool)> {
    let column = kind.column();
    let mut read = connection.prepare_cached(&format!(
        "SELECT n.name, max(p.last_used_s) AS used_s FROM project_names p JOIN variant_names n ON n.id = p.name_id
         WHERE p.is_release = ?1 AND (?2 IS NULL OR p.project = ?2) AND (?3 IS NULL OR contains(n.name, ?3))
             AND EXISTS (SELECT 1 FROM error_variants WHERE {column} = n.id)
         GROUP BY n.id
         UNION ALL SELECT n.name, NULL FROM variant_names n
             WHERE n.id = 0 AND (?3 IS NULL OR contains(n.name, ?3)) AND EXISTS
                 (SELECT 1 FROM error_variants v CROSS JOIN error_groups g ON g.id = v.group_id
                  WHERE v.{column} = n.id AND (?2 IS NULL OR g.project = ?2))
         ORDER BY used_s DESC NULLS LAST, name LIMIT ?4"
    ))?;
    let parameters = (kind == NameKind::Release, filter.project, filter.search, filter.limit as i64 + 1);
    let rows = read.query_map(parameters, |row| row.get(0))?;
    let mut names = rows.collect::<rusqlite::Result<Vec<String>>>()?;
    let has_more = names.len() > filter.limit;
    names.truncate(filter.limit);
    names.sort_unstable();
    Ok((names, has_more))
}
