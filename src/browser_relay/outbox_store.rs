//! Queries of the outbox and its dead letters.

use std::net::{IpAddr, Ipv4Addr};

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension as _, Row};
use serde::Serialize;

use super::upstream::{OutboundRequest, UpstreamKind};
use crate::clock::Timestamp;
use crate::error::Result;
use crate::records::key_kind::KeyKind;

/// A report in the outbox.
#[derive(Debug)]
pub(super) struct OutboxItem {
    pub(super) id: i64,
    pub(super) request: OutboundRequest,
}

/// Returns the projects with reports for an upstream, in the order of their names.
pub(super) fn waiting_projects(connection: &Connection, kind: UpstreamKind) -> Result<Vec<String>> {
    // Each step jumps to the next project in the index instead of reading all reports.
    let mut select = connection.prepare_cached(
        "SELECT project FROM outbox WHERE upstream_id = ?1 AND project > ?2 ORDER BY project LIMIT 1",
    )?;
    let mut first =
        connection.prepare_cached("SELECT project FROM outbox WHERE upstream_id = ?1 ORDER BY project LIMIT 1")?;
    let mut projects = Vec::new();
    let mut next: Option<String> = first.query_row([kind.id()], |row| row.get(0)).optional()?;
    while let Some(project) = next {
        next = select.query_row((kind.id(), &project), |row| row.get(0)).optional()?;
        projects.push(project);
    }
    Ok(projects)
}

/// Returns the id and the client of a project's oldest report for an upstream that has a greater id than `after`.
pub(super) fn next_outbox_id(
    connection: &Connection,
    kind: UpstreamKind,
    project: &str,
    after: i64,
) -> Result<Option<(i64, IpAddr)>> {
    let mut select = connection.prepare_cached(
        "SELECT id, client FROM outbox WHERE upstream_id = ?1 AND project = ?2 AND id > ?3 ORDER BY id LIMIT 1",
    )?;
    Ok(select.query_row((kind.id(), project, after), |row| Ok((row.get(0)?, client(row.get_ref(1)?)))).optional()?)
}

/// Returns the report with this id.
pub(super) fn outbox_item(connection: &Connection, kind: UpstreamKind, id: i64) -> Result<Option<OutboxItem>> {
    let mut select = connection.prepare_cached(
        "SELECT project, key_kind_id, idempotency_key, CAST(body AS BLOB), client FROM outbox WHERE id = ?1",
    )?;
    let item = |row: &Row<'_>| {
        let request = OutboundRequest {
            kind,
            project: row.get(0)?,
            key_kind: KeyKind::from_id(row.get(1)?),
            idempotency_key: row.get(2)?,
            body: row.get(3)?,
            client: client(row.get_ref(4)?),
            adjusted: Vec::new(),
            reservation: None,
        };
        Ok(OutboxItem { id, request })
    };
    Ok(select.query_row([id], item).optional()?)
}

fn client(address: ValueRef<'_>) -> IpAddr {
    address.as_str().ok().and_then(|text| text.parse().ok()).unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
}

/// Returns the number of reports that wait for an upstream.
pub(super) fn count_waiting(connection: &Connection, kind: UpstreamKind) -> Result<i64> {
    let mut count = connection.prepare_cached("SELECT count(*) FROM outbox WHERE upstream_id = ?1")?;
    Ok(count.query_row([kind.id()], |row| row.get(0))?)
}

/// A dead letter as the API lists it.
#[derive(Debug, Serialize)]
pub(super) struct DeadLetter {
    pub(super) id: i64,
    project: String,
    upstream: String,
    key_kind: &'static str,
    created_at: Timestamp,
    failed_at: Timestamp,
    attempts: i64,
    status: Option<u16>,
    reason: String,
    body_bytes: i64,
}

const DEAD_LETTER_COLUMNS: &str = "d.id, d.project, u.name, d.key_kind_id, d.created_at_ms, d.failed_at_ms, d.attempts, \
                                   d.status, d.reason, octet_length(d.body)";

fn dead_letter(row: &Row<'_>) -> rusqlite::Result<DeadLetter> {
    Ok(DeadLetter {
        id: row.get(0)?,
        project: row.get(1)?,
        upstream: row.get(2)?,
        key_kind: KeyKind::from_id(row.get(3)?).name(),
        created_at: Timestamp::from_ms(row.get(4)?),
        failed_at: Timestamp::from_ms(row.get(5)?),
        attempts: row.get(6)?,
        status: row.get(7)?,
        reason: row.get(8)?,
        body_bytes: row.get(9)?,
    })
}

/// Returns the number of dead letters of a project, or of all.
pub(super) fn count_dead_letters(connection: &Connection, project: Option<&str>) -> Result<i64> {
    let mut count = connection.prepare_cached("SELECT count(*) FROM dead_letters WHERE ?1 IS NULL OR project = ?1")?;
    Ok(count.query_row([project], |row| row.get(0))?)
}

/// Returns `limit` dead letters of a project or of all with an id less than `before`, latest first, without the first `offset`
/// of them.
pub(super) fn list_dead_letters(
    connection: &Connection,
    project: Option<&str>,
    before: i64,
    limit: i64,
    offset: i64,
) -> Result<Vec<DeadLetter>> {
    let mut select = connection.prepare_cached(&format!(
        "SELECT {DEAD_LETTER_COLUMNS} FROM dead_letters d JOIN upstreams u ON u.id = d.upstream_id
             WHERE (?1 IS NULL OR d.project = ?1) AND d.id < ?2 ORDER BY d.id DESC LIMIT ?3 OFFSET ?4"
    ))?;
    Ok(select.query_map((project, before, limit, offset), dead_letter)?.collect::<rusqlite::Result<_>>()?)
}

/// Returns a dead letter and its body.
pub(super) fn find_dead_letter(connection: &Connection, id: i64) -> Result<Option<(DeadLetter, String)>> {
    let mut select = connection.prepare_cached(&format!(
        "SELECT {DEAD_LETTER_COLUMNS}, d.body FROM dead_letters d JOIN upstreams u ON u.id = d.upstream_id
             WHERE d.id = ?1"
    ))?;
    Ok(select.query_row([id], |row| Ok((dead_letter(row)?, row.get(10)?))).optional()?)
}
