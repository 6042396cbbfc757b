//! Export of stored reports in order of arrival. Only the last five reports of a group are stored, so earlier ones are
//! missing if they arrive faster than they are exported. Each exported report has the total count of its group.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::ControlFlow;

use rusqlite::{Connection, OptionalExtension as _, Row};
use serde::Serialize;
use serde_json::value::RawValue;

use super::fingerprint::Fingerprint;
use super::state::Tracker;
use super::store::json_object;
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::forward::{Format, PendingRecord, Record, RecordSource};

/// A stored report with the fields of its group.
#[derive(Debug, Serialize)]
pub(super) struct ExportedReport {
    /// Id of the report.
    id: i64,
    /// Id of the group.
    error_id: i64,
    timestamp: Timestamp,
    fingerprint: String,
    project: String,
    exception_type: String,
    message: String,
    location: Option<String>,
    environment: String,
    release: Option<String>,
    level: String,
    source: String,
    /// Number of reports of the group at the time of the export.
    count: i64,
    request_url: Option<String>,
    request_method: Option<String>,
    user_id: Option<String>,
    session_id: Option<String>,
    extra: Extra,
    traceback: String,
}

/// Additional data of a report.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Extra {
    Nested(Box<RawValue>),
    /// A JSON object as a string, for ClickHouse, whose columns cannot be arbitrary objects.
    String(String),
}

impl RecordSource for Tracker {
    type Record = ExportedReport;

    type Key = ();

    fn pending(&self, reader: &Connection, position: i64, count: usize) -> Result<Vec<PendingRecord<()>>> {
        let mut read = reader.prepare_cached("SELECT id FROM error_occurrences WHERE id > ?1 ORDER BY id LIMIT ?2")?;
        let pending = read.query_map((position, count as i64), |row| Ok(PendingRecord { id: row.get(0)?, key: () }))?;
        Ok(pending.collect::<rusqlite::Result<_>>()?)
    }

    fn read(
        &self,
        reader: &Connection,
        keys: &[PendingRecord<()>],
        format: Format,
        visit: &mut dyn FnMut(Option<ExportedReport>) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        let mut read = reader.prepare_cached(
            "SELECT o.id, o.group_id, o.occurred_at_s, g.fingerprint, g.project, g.exception_type,
                 coalesce(o.message, t.message, g.message), g.location, o.environment, o.release,
                 (SELECT name FROM error_levels WHERE id = o.level_id),
                 (SELECT name FROM error_sources WHERE id = g.source_id), g.count, o.request_url, o.request_method,
                 o.user_id, o.session_id, o.extra, coalesce(o.traceback, t.traceback, '')
             FROM error_occurrences o JOIN error_groups g ON g.id = o.group_id
                 LEFT JOIN error_texts t ON t.group_id = g.id
             WHERE o.id = ?1",
        )?;
        let report = |row: &Row<'_>| {
            let extra = json_object(row.get(17)?);
            Ok(ExportedReport {
                id: row.get(0)?,
                error_id: row.get(1)?,
                timestamp: Timestamp::from_seconds(row.get(2)?),
                fingerprint: Fingerprint::from_bytes(row.get(3)?).to_string(),
                project: row.get(4)?,
                exception_type: row.get(5)?,
                message: row.get(6)?,
                location: row.get(7)?,
                environment: row.get(8)?,
                release: row.get(9)?,
                level: row.get(10)?,
                source: row.get(11)?,
                count: row.get(12)?,
                request_url: row.get(13)?,
                request_method: row.get(14)?,
                user_id: row.get(15)?,
                session_id: row.get(16)?,
                extra: if format == Format::ClickHouse {
                    Extra::String(extra.get().into())
                } else {
                    Extra::Nested(extra)
                },
                traceback: row.get(18)?,
            })
        };
        for record in keys {
            if visit(read.query_row([record.id], report).optional()?)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    fn latest_id(&self, reader: &Connection) -> Result<i64> {
        let mut read = reader.prepare_cached("SELECT coalesce(max(id), 0) FROM error_occurrences")?;
        Ok(read.query_row([], |row| row.get(0))?)
    }
}

impl Record for ExportedReport {
    fn at_ns(&self) -> i64 {
        self.timestamp.ms().saturating_mul(1_000_000)
    }

    fn labels(&self) -> BTreeMap<&'static str, Cow<'_, str>> {
        [
            ("project", self.project.as_str()),
            ("environment", &self.environment),
            ("level", &self.level),
            ("source", &self.source),
        ]
        .map(|(name, value)| (name, Cow::Borrowed(value)))
        .into()
    }

    fn line(&self) -> Result<Cow<'_, str>> {
        let line = serde_json::to_string(self);
        line.map(Cow::Owned).map_err(|why| Error::Internal(format!("cannot serialize a report: {why}")))
    }
}
