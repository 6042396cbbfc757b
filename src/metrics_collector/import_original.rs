//! Import of a `metrics.db` of the original Monlight. Its aggregates of minutes and hours keep their values.

use std::borrow::Cow;
use std::collections::BTreeMap;

use rusqlite::{Connection, Row};
use serde_json::Value;

use super::aggregate::Aggregate;
use super::compensated_sum::CompensatedSum;
use super::resolution::Resolution;
use super::rollup_quota;
use super::rollup_tables::{RollupScope, RollupTable, UpsertStmt};
use super::series::{self, MetricRef, labels_json};
use crate::clock::Timestamp;
use crate::db::OriginalImport;
use crate::error::Result;
use crate::records::key_kind::KeyKind;
use crate::records::point::MetricKind;

/// Conversion from the original's last schema.
pub(super) const IMPORT: OriginalImport =
    OriginalImport { version: 6, tables: &["metrics_raw", "metrics_aggregated"], convert };

/// Converts the original's tables so that each point counts once in each rollup table:
///
/// - A row of minutes or hours becomes a row of the same table, with its own percentiles and without a sketch.
/// - The original aggregates the minutes of an hour when the hour ends. If it had not aggregated an hour yet, its minutes
///   are also merged into the hour here. The hour keeps percentiles only if it consists of a single row, because
///   percentiles of several rows cannot be merged.
/// - Raw points are skipped if the original had aggregated their minute, because the row of the minute contains them.
///   The other points are imported and added by the next rollup.
fn convert(connection: &Connection) -> Result<()> {
    // The original has no index on the columns of the lookup below.
    connection.execute_batch(
        "CREATE TEMP TABLE aggregated AS
             SELECT DISTINCT resolution, bucket, name, labels, project FROM original_metrics_aggregated;
         CREATE INDEX temp.aggregated_by_name ON aggregated (name, bucket, resolution, labels)",
    )?;
    let rows = convert_aggregates(connection)?;
    let points = convert_points(connection)?;
    connection.execute_batch("DROP TABLE temp.aggregated")?;
    series::recount(connection)?;
    rollup_quota::recount(connection)?;
    log::info!("import: imported {rows} minutes and hours and {points} points that were not aggregated yet");
    Ok(())
}

fn convert_aggregates(connection: &Connection) -> Result<u64> {
    let mut read = connection.prepare(
        "SELECT bucket, resolution, name, labels, project, count, sum, min, max, avg, p50, p95, p99,
             (SELECT type FROM original_metrics_raw r WHERE r.name = a.name ORDER BY id DESC LIMIT 1)
         FROM original_metrics_aggregated a WHERE count > 0 ORDER BY id",
    )?;
    let mut rows = read.query([])?;
    let mut converted = 0;
    while let Some(row) = rows.next()? {
        let time: String = row.get(0)?;
        let Some(at) = Timestamp::parse(&time).map(Timestamp::ms) else { continue };
        let aggregate = aggregate(row, at)?;
        let kind: Option<String> = row.get(13)?;
        let original = OriginalSeries::read(row)?;
        let kind = kind.as_deref().and_then(MetricKind::from_name);
        let kind = kind.unwrap_or_else(|| infer_kind(&original.name, &aggregate));
        let series = original.get_or_create(connection, kind)?;
        let merge = |resolution: Resolution, aggregate| {
            let table = RollupTable::new(RollupScope::Series, resolution);
            UpsertStmt::prepare(connection, table)?.merge(series, resolution.bucket(at), aggregate)
        };
        if row.get_ref(1)?.as_str() == Ok("hour") {
            merge(Resolution::Hour, aggregate)?;
        } else {
            if !original.has_aggregate(connection, Resolution::Hour, at)? {
                merge(Resolution::Hour, aggregate.clone())?;
            }
            merge(Resolution::Minute, aggregate)?;
        }
        converted += 1;
    }
    Ok(converted)
}

/// Decodes a row of aggregates. The original stores no last value; the average of the bucket replaces it until a new
/// point arrives.
fn aggregate(row: &Row<'_>, at: i64) -> Result<Aggregate> {
    let imported_percentiles = match (row.get(10)?, row.get(11)?, row.get(12)?) {
        (Some(p50), Some(p95), Some(p99)) => Some(Box::new([p50, p95, p99])),
        _ => None,
    };
    let count: i64 = row.get(5)?;
    Ok(Aggregate {
        count: count.unsigned_abs(),
        sum: CompensatedSum::from_parts(row.get(6)?, 0.0),
        min: row.get(7)?,
        max: row.get(8)?,
        last: row.get(9)?,
        last_at: at,
        sketch: None,
        ratings: None,
        imported_percentiles,
    })
}

/// Infers the kind of a metric whose raw points, which contain it, are already deleted. Only histograms have percentiles;
/// of the others, names that end in `_total` are counters.
fn infer_kind(name: &str, aggregate: &Aggregate) -> MetricKind {
    match (&aggregate.imported_percentiles, name.ends_with("_total")) {
        (Some(_), _) => MetricKind::Histogram,
        (None, true) => MetricKind::Counter,
        (None, false) => MetricKind::Gauge,
    }
}

fn convert_points(connection: &Connection) -> Result<u64> {
    let mut read = connection
        .prepare("SELECT timestamp, type, name, labels, project, value FROM original_metrics_raw ORDER BY id")?;
    let mut rows = read.query([])?;
    let mut insert = connection.prepare("INSERT INTO points (series_id, at_ms, value) VALUES (?1, ?2, ?3)")?;
    let mut converted = 0;
    while let Some(row) = rows.next()? {
        let (time, kind, value): (String, String, f64) = (row.get(0)?, row.get(1)?, row.get(5)?);
        let (Some(at), Some(kind)) = (Timestamp::parse(&time).map(Timestamp::ms), MetricKind::from_name(&kind)) else {
            continue;
        };
        let original = OriginalSeries::read(row)?;
        if !value.is_finite() || original.has_aggregate(connection, Resolution::Minute, at)? {
            continue;
        }
        insert.execute((original.get_or_create(connection, kind)?, at, value))?;
        converted += 1;
    }
    Ok(converted)
}

/// Series of a row in the original's database.
struct OriginalSeries {
    name: String,
    labels: Option<String>,
    project: Option<String>,
}

impl OriginalSeries {
    /// Reads the columns 2 to 4, which are the same in both queries.
    fn read(row: &Row<'_>) -> Result<Self> {
        Ok(Self { name: row.get(2)?, labels: row.get(3)?, project: row.get(4)? })
    }

    /// Whether the original has an aggregate of the bucket that contains a time in ms since 1970. Most of its aggregates
    /// have no project and contain the points of all projects.
    fn has_aggregate(&self, connection: &Connection, resolution: Resolution, at: i64) -> Result<bool> {
        let mut find = connection.prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM temp.aggregated WHERE name = ?1 AND bucket = ?2 AND resolution = ?3
                 AND labels IS ?4 AND (coalesce(project, '') = '' OR project IS ?5))",
        )?;
        let bucket = Timestamp::from_ms(resolution.bucket(at) * resolution.ms()).to_string();
        let key = (&self.name, bucket, resolution.as_str(), &self.labels, &self.project);
        Ok(find.query_row(key, |row| row.get(0))?)
    }

    /// Finds or creates the series. Keeps all labels, including those in `ROLLUP_DROP_LABELS`: otherwise the rows of many
    /// sessions would be merged into one without percentiles.
    fn get_or_create(&self, connection: &Connection, kind: MetricKind) -> Result<i64> {
        let labels = convert_labels(self.labels.as_deref().unwrap_or_default());
        let project = self.project.as_deref().unwrap_or_default();
        let metric = MetricRef { name: &self.name, kind, project };
        let is_browser = labels.contains(r#""source":"browser""#);
        let key_kind = if is_browser { KeyKind::Browser } else { KeyKind::Server };
        series::get_or_create(connection, metric, &labels, key_kind, Timestamp::now())
    }
}

/// Converts the original's labels, which are stored as received, to sorted strings. New points of the same series then
/// have equal labels.
fn convert_labels(stored: &str) -> String {
    let stored: BTreeMap<String, Value> = serde_json::from_str(stored).unwrap_or_default();
    let to_string = |value: Value| match value {
        Value::Null => None,
        Value::String(string) => Some(string),
        other => Some(other.to_string()),
    };
    let pairs = stored.into_iter().filter_map(|(name, value)| Some((Cow::Owned(name), Cow::Owned(to_string(value)?))));
    labels_json(&pairs.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_become_sorted_strings() {
        for (stored, converted) in [
            (r#"{"z":"1","a":2,"n":null,"b":true}"#, r#"{"a":"2","b":"true","z":"1"}"#),
            ("", "{}"),
            ("null", "{}"),
            ("[1]", "{}"),
        ] {
            assert_eq!(convert_labels(stored), converted);
        }
    }
}
