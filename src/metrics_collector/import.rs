//! Taking over a `metrics.db` of the original: what it had worked out for each minute and hour stays as it was.

use std::borrow::Cow;
use std::collections::BTreeMap;

use rusqlite::{Connection, Row};
use serde_json::Value;

use super::commands::{Fold, MS_PER_HOUR, MS_PER_MINUTE};
use super::points::Kind;
use super::series::labels_json;
use super::tally::Tally;
use crate::clock::Timestamp;
use crate::db::Import;
use crate::error::Result;

/// How the original's last schema becomes ours.
pub(super) const IMPORT: Import = Import { version: 6, tables: &["metrics_raw", "metrics_aggregated"], convert };

/// Each point counts once in each tier:
///
/// - An old row of a tier becomes a row of that tier, without a sketch and with its own percentiles.
/// - The original makes an hour out of minutes when the hour is over. Minutes of an hour that it had not come to are
///   folded into that hour here. Percentiles of an hour are kept when one old row is all there is of it; those of
///   several cannot be merged, and the hour has none.
/// - Points of a minute that the original had worked out are in its row already and are left out; the others are
///   points of ours that wait for the next rollup.
fn convert(connection: &Connection) -> Result<()> {
    // The original has no index over all that a lookup names.
    connection.execute_batch(
        "CREATE TEMP TABLE worked_out AS
             SELECT DISTINCT resolution, bucket, name, labels, project FROM original_metrics_aggregated;
         CREATE INDEX temp.worked_out_of ON worked_out (name, bucket, resolution, labels)",
    )?;
    let rows = convert_aggregates(connection)?;
    let points = convert_points(connection)?;
    connection.execute_batch(
        "DROP TABLE temp.worked_out;
         UPDATE totals SET value = (SELECT count(*) FROM series) WHERE name = 'series'",
    )?;
    log::info!("{rows} minutes and hours and {points} newer points of the original were taken over");
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
        let text: String = row.get(0)?;
        let Some(at) = Timestamp::parse(&text).map(Timestamp::ms) else { continue };
        let tally = tally(row, at)?;
        let known_type: Option<String> = row.get(13)?;
        let origin = Origin::read(row)?;
        let known_type = known_type.as_deref().and_then(Kind::named);
        let series = origin.series(connection, known_type.unwrap_or_else(|| likely_kind(&origin.name, &tally)))?;
        let one = |tier, bucket, tally| Fold::into(connection, tier)?.put(series, bucket, tally);
        let hour = at.div_euclid(MS_PER_HOUR);
        if row.get_ref(1)?.as_str() == Ok("hour") {
            one("hours", hour, tally)?;
        } else {
            if !origin.is_worked_out(connection, "hour", hour * MS_PER_HOUR)? {
                one("hours", hour, tally.clone())?;
            }
            one("minutes", at.div_euclid(MS_PER_MINUTE), tally)?;
        }
        converted += 1;
    }
    Ok(converted)
}

/// The original keeps no last value; an average of the bucket stands for it until a point of ours comes.
fn tally(row: &Row<'_>, at: i64) -> Result<Tally> {
    let originals = match (row.get(10)?, row.get(11)?, row.get(12)?) {
        (Some(p50), Some(p95), Some(p99)) => Some(Box::new([p50, p95, p99])),
        _ => None,
    };
    let count: i64 = row.get(5)?;
    Ok(Tally {
        count: count.unsigned_abs(),
        sum: row.get(6)?,
        min: row.get(7)?,
        max: row.get(8)?,
        last: row.get(9)?,
        last_at: at,
        sketch: None,
        shares: None,
        originals,
    })
}

/// The original's rows do not say what they measure, and its points, which do, may be gone. Only histograms have
/// percentiles; of the others a counter goes by its name.
fn likely_kind(name: &str, tally: &Tally) -> Kind {
    match (&tally.originals, name.ends_with("_total")) {
        (Some(_), _) => Kind::Histogram,
        (None, true) => Kind::Counter,
        (None, false) => Kind::Gauge,
    }
}

fn convert_points(connection: &Connection) -> Result<u64> {
    let mut read = connection
        .prepare("SELECT timestamp, type, name, labels, project, value FROM original_metrics_raw ORDER BY id")?;
    let mut rows = read.query([])?;
    let mut insert = connection.prepare("INSERT INTO points (series_id, at, value) VALUES (?1, ?2, ?3)")?;
    let mut converted = 0;
    while let Some(row) = rows.next()? {
        let (text, kind, value): (String, String, f64) = (row.get(0)?, row.get(1)?, row.get(5)?);
        let (Some(at), Some(kind)) = (Timestamp::parse(&text).map(Timestamp::ms), Kind::named(&kind)) else { continue };
        let origin = Origin::read(row)?;
        let minute = at.div_euclid(MS_PER_MINUTE);
        if !value.is_finite() || origin.is_worked_out(connection, "minute", minute * MS_PER_MINUTE)? {
            continue;
        }
        insert.execute((origin.series(connection, kind)?, at, value))?;
        converted += 1;
    }
    Ok(converted)
}

/// What a row of the original's is about.
struct Origin {
    name: String,
    labels: Option<String>,
    project: Option<String>,
}

impl Origin {
    /// From the columns that both queries have alike.
    fn read(row: &Row<'_>) -> Result<Self> {
        Ok(Self { name: row.get(2)?, labels: row.get(3)?, project: row.get(4)? })
    }

    /// Whether the original had a row for a bucket of it. Its rows are mostly without a project, also for points that
    /// have one: such a row holds the points of all of them.
    fn is_worked_out(&self, connection: &Connection, resolution: &str, at: i64) -> Result<bool> {
        let mut look = connection.prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM temp.worked_out WHERE name = ?1 AND bucket = ?2 AND resolution = ?3
                 AND labels IS ?4 AND (coalesce(project, '') = '' OR project IS ?5))",
        )?;
        let bucket = Timestamp::from_ms(at).to_string();
        Ok(look.query_row((&self.name, bucket, resolution, &self.labels, &self.project), |row| row.get(0))?)
    }

    /// Finds or makes the series. All labels are kept, also those that ours drops: otherwise rows of many sessions
    /// would be one without percentiles.
    fn series(&self, connection: &Connection, kind: Kind) -> Result<i64> {
        let labels = labels_as_ours(self.labels.as_deref().unwrap_or_default());
        let (project, now) = (self.project.as_deref().unwrap_or_default(), Timestamp::now().ms());
        connection
            .prepare_cached(
                "INSERT OR IGNORE INTO series (name, type, project, labels, created_at) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute((&self.name, kind.name(), project, &labels, now))?;
        let sql = "SELECT id FROM series WHERE name = ?1 AND type = ?2 AND project = ?3 AND labels = ?4";
        let found = (&self.name, kind.name(), project, &labels);
        Ok(connection.prepare_cached(sql)?.query_row(found, |row| row.get(0))?)
    }
}

/// The original stores labels as they came; ours are sorted texts, so that a series goes on under its labels.
fn labels_as_ours(stored: &str) -> String {
    let stored: BTreeMap<String, Value> = serde_json::from_str(stored).unwrap_or_default();
    let shown = |value: Value| match value {
        Value::Null => None,
        Value::String(text) => Some(text),
        other => Some(other.to_string()),
    };
    let pairs = stored.into_iter().filter_map(|(name, value)| Some((Cow::Owned(name), Cow::Owned(shown(value)?))));
    labels_json(&pairs.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_become_sorted_texts() {
        for (stored, ours) in [
            (r#"{"z":"1","a":2,"n":null,"b":true}"#, r#"{"a":"2","b":"true","z":"1"}"#),
            ("", "{}"),
            ("null", "{}"),
            ("[1]", "{}"),
        ] {
            assert_eq!(labels_as_ours(stored), ours);
        }
    }
}
