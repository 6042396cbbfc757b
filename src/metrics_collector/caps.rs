//! Which caps on series were reached, in words.

use rusqlite::Connection;

use super::config::SeriesCaps;
use super::series::OVERFLOW_LABELS;
use super::store::total;
use crate::error::Result;

/// Metrics over their cap that are named.
const NAMED_MAX: usize = 10;

/// By the names of their variables: this is for everybody to read.
pub(super) fn reached(connection: &Connection, caps: SeriesCaps) -> Result<Vec<String>> {
    let mut sentences = Vec::new();
    if total(connection, "series")? >= caps.in_all {
        sentences.push("MAX_SERIES is reached: what is new counts in series with the label overflow=true".into());
    }
    let mut count = connection.prepare_cached(&over_cap("count(DISTINCT name)"))?;
    let metrics: i64 = count.query_row([], |row| row.get(0))?;
    if metrics > 0 {
        sentences.push(format!(
            "MAX_SERIES_PER_METRIC or MAX_SERIES was reached by {metrics} {}; the dashboard names them",
            if metrics == 1 { "metric" } else { "metrics" }
        ));
    }
    Ok(sentences)
}

/// By metric, for those who may read them.
pub(super) fn by_metric(connection: &Connection) -> Result<Vec<String>> {
    let mut read =
        connection.prepare_cached(&format!("{} ORDER BY name LIMIT {NAMED_MAX}", over_cap("DISTINCT name")))?;
    let sentence = |name: String| {
        format!(
            "{name} has more series than MAX_SERIES_PER_METRIC or MAX_SERIES allow: totals stay right, and what came \
             after counts in one series with the label overflow=true"
        )
    };
    let names = read.query_map([], |row| row.get::<_, String>(0))?;
    Ok(names.map(|name| name.map(sentence)).collect::<rusqlite::Result<_>>()?)
}

/// The labels stand in the statement itself, so that the index of overflow series answers it.
fn over_cap(what: &str) -> String {
    format!("SELECT {what} FROM series WHERE labels = '{OVERFLOW_LABELS}'")
}
