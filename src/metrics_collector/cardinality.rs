//! Limits on the number and size of series and metric names, and the warnings about limits that were reached.

use rusqlite::Connection;

use crate::error::Result;
use crate::quota::{Bounds, Store, total_usage};
use crate::records::warning::Warning;

/// Labels of the overflow series, which receives the points of series beyond a limit.
pub(super) const OVERFLOW_LABELS: &str = r#"{"overflow":"true"}"#;
/// Maximum number of metrics that the dashboard names in warnings.
const NAMED_METRICS_MAX: usize = 10;
/// Size of the labels of all series together, for each of `MAX_SERIES`: three times as much as three short labels need.
const LABEL_BYTES_PER_SERIES: u64 = 200;
/// Size of the names of all metrics together, with their projects, for each of `MAX_SERIES`. Most metrics have several series.
const NAME_BYTES_PER_SERIES: u64 = 100;

/// Maximum numbers of series.
#[derive(Debug, Clone, Copy)]
pub(super) struct CardinalityLimits {
    /// Maximum number of series of all metrics together.
    pub(super) total: i64,
    /// Maximum number of series of one metric of a project, through each kind of key.
    pub(super) per_metric: i64,
}

impl CardinalityLimits {
    /// Returns the bounded store of series. Its bytes are those of the labels.
    pub(super) fn series(self) -> Store {
        Store { name: "series", warning: "series_over_quota", bounds: self.bounds(LABEL_BYTES_PER_SERIES) }
    }

    /// Returns the bounded store of metric names. Its bytes are those of the names and projects.
    pub(super) fn metric_names(self) -> Store {
        Store { name: "metric_names", warning: "metric_names_over_quota", bounds: self.bounds(NAME_BYTES_PER_SERIES) }
    }

    fn bounds(self, bytes_per_series: u64) -> Bounds {
        let rows_max = self.total.unsigned_abs();
        Bounds { rows_max, bytes_max: rows_max.saturating_mul(bytes_per_series) }
    }
}

/// Returns a warning per setting whose limit was reached.
pub(super) fn warnings(connection: &Connection, limits: CardinalityLimits) -> Result<Vec<Warning>> {
    let mut warnings = Vec::new();
    let series = total_usage(connection, &limits.series())?.rows;
    if series >= limits.total.unsigned_abs() {
        let message =
            "MAX_SERIES is reached: points of further series are added to overflow series (label overflow=true)";
        warnings.push(Warning::new("max_series", series, message));
    }
    let mut count = connection.prepare_cached(&select_overflowed("count(DISTINCT name)"))?;
    let metrics: i64 = count.query_row([], |row| row.get(0))?;
    if metrics > 0 {
        let message = format!(
            "MAX_SERIES_PER_METRIC or a share of MAX_SERIES was reached by {metrics} {}; the dashboard lists them by name",
            if metrics == 1 { "metric" } else { "metrics" }
        );
        warnings.push(Warning::new("series_folded", metrics.unsigned_abs(), &message));
    }
    Ok(warnings)
}

/// Returns a sentence per metric that has an overflow series, for readers with a key.
pub(super) fn metric_warnings(connection: &Connection) -> Result<Vec<String>> {
    let sql = format!("{} ORDER BY name LIMIT {NAMED_METRICS_MAX}", select_overflowed("DISTINCT name"));
    let mut read = connection.prepare_cached(&sql)?;
    let warning = |name: String| {
        format!(
            "{name} has more series than MAX_SERIES_PER_METRIC or its project's share of MAX_SERIES allows: totals are \
             correct, but points of further series are combined in one series with the label overflow=true"
        )
    };
    let names = read.query_map([], |row| row.get::<_, String>(0))?;
    Ok(names.map(|name| name.map(warning)).collect::<rusqlite::Result<_>>()?)
}

/// Returns a query over all overflow series. The labels are a literal, because SQLite uses the partial index on
/// overflow series only if the condition matches literally.
fn select_overflowed(columns: &str) -> String {
    format!("SELECT {columns} FROM series s JOIN metrics m ON m.id = s.metric_id WHERE s.labels = '{OVERFLOW_LABELS}'")
}
