//! Import of an `errors.db` of the original. Ids, counts, reports and fingerprints are preserved, so that a recurring
//! error is added to its old group.

use rusqlite::{Connection, Row, params};
use serde_json::value::RawValue;

use super::enumerations::{FingerprintAlgorithm, level_id, source_id};
use super::fingerprint::{Fingerprint, fingerprints};
use super::payloads::{insert_texts, list_message, recount};
use super::variants::ReportCount;
use crate::clock::Timestamp;
use crate::db::{OriginalImport, add_to_counter};
use crate::error::Result;
use crate::quota::Holder;
use crate::records::key_kind::KeyKind;
use crate::records::report::{ReportLevel, ReportSource};

/// Conversion of the original's last schema.
pub(super) const IMPORT: OriginalImport =
    OriginalImport { version: 4, tables: &["errors", "error_occurrences"], convert };

/// Environment and level of imported reports, because the original stores neither.
const ENVIRONMENT: &str = "prod";
const LEVEL: ReportLevel = ReportLevel::Error;

fn convert(connection: &Connection) -> Result<()> {
    // If two groups of the original have the same fingerprint, new reports are added to the one that is converted last:
    // an unresolved one rather than a resolved one, then the one with the higher id.
    let mut groups = connection.prepare(
        "SELECT id, fingerprint, project, exception_type, message, traceback, count, first_seen, last_seen, resolved,
             resolved_at, EXISTS (SELECT 1 FROM original_error_occurrences o
                 WHERE o.error_id = e.id AND o.request_method = 'BROWSER')
         FROM original_errors e ORDER BY resolved DESC, id",
    )?;
    let mut rows = groups.query([])?;
    while let Some(row) = rows.next()? {
        convert_group(connection, row)?;
    }
    let mut occurrences = connection.prepare(
        "SELECT o.id, o.error_id, o.timestamp, o.request_url, o.request_method, o.request_headers, o.user_id, o.extra,
             nullif(o.traceback, e.traceback)
         FROM original_error_occurrences o JOIN original_errors e ON e.id = o.error_id ORDER BY o.id",
    )?;
    let mut rows = occurrences.query([])?;
    while let Some(row) = rows.next()? {
        convert_occurrence(connection, row)?;
    }
    recount(connection)?;
    // Continues the original's ids, so that the id of a deleted group is not used again.
    connection.execute_batch(
        "UPDATE sqlite_sequence SET seq = max(seq, coalesce(
             (SELECT seq FROM sqlite_sequence WHERE name = 'original_errors'), 0)) WHERE name = 'error_groups'",
    )?;
    let (unresolved, resolved): (i64, i64) = connection.query_row(
        "SELECT count(*) FILTER (WHERE NOT resolved), count(*) FILTER (WHERE resolved) FROM error_groups",
        [],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    add_to_counter(connection, "unresolved", unresolved)?;
    add_to_counter(connection, "resolved", resolved)?;
    log::info!("imported {} error groups of the original", unresolved + resolved);
    Ok(())
}

fn convert_group(connection: &Connection, row: &Row<'_>) -> Result<()> {
    let id: i64 = row.get(0)?;
    let (hash, project, exception_type): (String, String, String) = (row.get(1)?, row.get(2)?, row.get(3)?);
    let (message, traceback): (String, String) = (row.get(4)?, row.get(5)?);
    let computed = fingerprints(&project, &exception_type, &traceback);
    let fingerprint = Fingerprint::from_hex(&hash).unwrap_or(computed.original.unwrap_or(computed.primary));
    let (count, resolved, from_browser): (i64, bool, bool) = (row.get(6)?, row.get(9)?, row.get(11)?);
    let first_seen = seconds(row.get(7)?);
    let last_seen = seconds(row.get(8)?).max(first_seen);
    let resolved_at = row.get::<_, Option<String>>(10)?.map(|at| seconds(Some(at)));
    connection.execute(
        "INSERT INTO error_groups (id, fingerprint, project, exception_type, message, location, environment, level_id,
             source_id, key_kind_id, count, first_seen_s, last_seen_s, resolved, resolved_at_s)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
        params![
            id,
            fingerprint.bytes(),
            project,
            exception_type,
            list_message(&message),
            computed.location.map(|location| list_message(&location.to_string()).into_owned()),
            ENVIRONMENT,
            level_id(LEVEL),
            source_id(if from_browser { ReportSource::Browser } else { ReportSource::Server }),
            (if from_browser { KeyKind::Browser } else { KeyKind::Server }).id(),
            count.max(1),
            first_seen,
            last_seen,
            resolved,
            // Without a value, retention would never delete a resolved group.
            if resolved { resolved_at.or(Some(last_seen)) } else { None }
        ],
    )?;
    connection.execute(
        "INSERT OR REPLACE INTO error_fingerprints (project, algorithm_id, hash, group_id) VALUES (?1, ?2, ?3, ?4)",
        (project, FingerprintAlgorithm::Original.id(), fingerprint.bytes(), id),
    )?;
    insert_texts(connection, id, &exception_type, &message, &traceback)?;
    Ok(())
}

fn convert_occurrence(connection: &Connection, row: &Row<'_>) -> Result<()> {
    let (id, group_id, at): (i64, i64, i64) = (row.get(0)?, row.get(1)?, seconds(row.get(2)?));
    connection.execute(
        "INSERT INTO error_occurrences (id, group_id, occurred_at_s, environment, level_id, request_url, request_method,
             request_headers, user_id, extra, traceback)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        params![
            id,
            group_id,
            at,
            ENVIRONMENT,
            level_id(LEVEL),
            row.get::<_, Option<String>>(3)?,
            row.get::<_, Option<String>>(4)?,
            json_object(row.get(5)?),
            row.get::<_, Option<String>>(6)?,
            json_object(row.get(7)?),
            row.get::<_, Option<String>>(8)?
        ],
    )?;
    // Only stored reports can be counted by hour. The count of the group includes the others.
    let sql = "SELECT project, key_kind_id FROM error_groups WHERE id = ?1";
    let (project, kind): (String, i64) =
        connection.prepare_cached(sql)?.query_row([group_id], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let now = Timestamp::from_seconds(at);
    let holder = Holder { project: &project, kind: KeyKind::from_id(kind) };
    ReportCount { group_id, reports: 1, holder, environment: ENVIRONMENT, release: "", hour: now.hour(), now }
        .add(connection)
}

/// Converts a time of the original, `2026-01-31T12:00:00Z`; an invalid one becomes the current time.
fn seconds(stored: Option<String>) -> i64 {
    stored.and_then(|time| Timestamp::parse(&time)).unwrap_or_else(Timestamp::now).seconds()
}

/// Converts a JSON value of the original to an object: any other value becomes the member `value`.
fn json_object(stored: Option<String>) -> Option<String> {
    let json = stored?;
    match serde_json::from_str::<&RawValue>(&json) {
        Ok(raw) if raw.get().starts_with('{') => Some(json),
        Ok(raw) => Some(format!("{{\"value\":{}}}", raw.get())),
        Err(_) => Some(serde_json::json!({ "value": json }).to_string()),
    }
}
