//! Taking over an `errors.db` of the original: ids, counts, occurrences and fingerprints stay what they were, so the
//! next recurrence lands in the old group.

use rusqlite::{Connection, Row, params};
use serde_json::value::RawValue;

use super::commands::{AS_THE_ORIGINAL, add_to_series, add_to_total, keep_texts, name_id, short_message};
use super::fingerprint::{Fingerprint, fingerprints};
use crate::clock::Timestamp;
use crate::db::Import;
use crate::error::Result;

/// How the original's last schema becomes ours.
pub(super) const IMPORT: Import = Import { version: 4, tables: &["errors", "error_occurrences"], convert };

/// The original knows neither environments nor levels.
const ENVIRONMENT: &str = "prod";
const LEVEL: &str = "error";

fn convert(connection: &Connection) -> Result<()> {
    // Where the original has two groups of one fingerprint, the one that is open and newest goes on.
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
    // An id is never given twice, also not one whose group is gone.
    connection.execute_batch(
        "UPDATE sqlite_sequence SET seq = max(seq, coalesce(
             (SELECT seq FROM sqlite_sequence WHERE name = 'original_errors'), 0)) WHERE name = 'errors'",
    )?;
    let (open, resolved): (i64, i64) = connection.query_row(
        "SELECT count(*) FILTER (WHERE NOT resolved), count(*) FILTER (WHERE resolved) FROM errors",
        [],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    add_to_total(connection, "unresolved", open)?;
    add_to_total(connection, "resolved", resolved)?;
    log::info!("{} groups of the original were taken over", open + resolved);
    Ok(())
}

fn convert_group(connection: &Connection, row: &Row<'_>) -> Result<()> {
    let id: i64 = row.get(0)?;
    let (hash, project, kind): (String, String, String) = (row.get(1)?, row.get(2)?, row.get(3)?);
    let (message, traceback): (String, String) = (row.get(4)?, row.get(5)?);
    let ours = fingerprints(&project, &kind, &traceback);
    let fingerprint = Fingerprint::from_hex(&hash).unwrap_or(ours.original.unwrap_or(ours.primary));
    let (count, resolved, browser): (i64, bool, bool) = (row.get(6)?, row.get(9)?, row.get(11)?);
    let moments =
        (seconds(row.get(7)?), seconds(row.get(8)?), row.get::<_, Option<String>>(10)?.map(|at| seconds(Some(at))));
    connection.execute(
        "INSERT INTO errors (id, fingerprint, project, exception_type, message, location, environment, level, source,
             count, first_seen, last_seen, resolved, resolved_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
        params![
            id,
            fingerprint.to_string(),
            project,
            kind,
            short_message(&message),
            ours.location.map(|location| short_message(&location.to_string()).into_owned()),
            ENVIRONMENT,
            LEVEL,
            if browser { "browser" } else { "server" },
            count,
            moments.0,
            moments.1,
            resolved,
            // Retention counts from here; a group resolved without a moment counts from its last report.
            if resolved { moments.2.or(Some(moments.1)) } else { None }
        ],
    )?;
    connection.execute(
        "INSERT OR REPLACE INTO error_fingerprints (project, algorithm, hash, error_id) VALUES (?1, ?2, ?3, ?4)",
        (project, AS_THE_ORIGINAL, fingerprint.bytes(), id),
    )?;
    keep_texts(connection, id, &kind, &message, &traceback)
}

fn convert_occurrence(connection: &Connection, row: &Row<'_>) -> Result<()> {
    let (id, error_id, at): (i64, i64, i64) = (row.get(0)?, row.get(1)?, seconds(row.get(2)?));
    connection.execute(
        "INSERT INTO error_occurrences (id, error_id, timestamp, environment, level, request_url, request_method,
             request_headers, user_id, extra, traceback)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        params![
            id,
            error_id,
            at,
            ENVIRONMENT,
            LEVEL,
            row.get::<_, Option<String>>(3)?,
            row.get::<_, Option<String>>(4)?,
            object(row.get(5)?),
            row.get::<_, Option<String>>(6)?,
            object(row.get(7)?),
            row.get::<_, Option<String>>(8)?
        ],
    )?;
    // What the original did not keep cannot be counted by the hour; its total is in the group's count.
    let names = (name_id(connection, ENVIRONMENT)?, name_id(connection, "")?);
    add_to_series(connection, error_id, at.div_euclid(3_600), names, 1)
}

/// The original writes `2026-01-31T12:00:00Z`.
fn seconds(stored: Option<String>) -> i64 {
    stored.and_then(|text| Timestamp::parse(&text)).unwrap_or_else(Timestamp::now).seconds()
}

/// The original stores any JSON; ours is an object, so another value gets a name.
fn object(stored: Option<String>) -> Option<String> {
    let text = stored?;
    match serde_json::from_str::<&RawValue>(&text) {
        Ok(raw) if raw.get().starts_with('{') => Some(text),
        Ok(raw) => Some(format!("{{\"value\":{}}}", raw.get())),
        Err(_) => Some(serde_json::json!({ "value": text }).to_string()),
    }
}
