//! Settings of the metrics collector.

use std::time::Duration;

use super::cardinality::CardinalityLimits;
use super::resolution::Resolution;
use crate::client::{OutboundSettings, ProxyPolicy};
use crate::env::{Env, Variable};
use crate::forward::HttpSink;
use crate::service::Defaults;

const DEFAULTS: Defaults = Defaults {
    key: "API_KEY",
    port: "5012",
    database_path: "./data/metrics.db",
    rate_limit: "200",
    key_rate_limit: "0",
    max_body_size: "524288",
    synchronous: "NORMAL",
    max_db_mb: "1024",
};

const VARIABLES: &[Variable] = &[
    Variable::plain("AGGREGATION_INTERVAL", "60", "Seconds between two rollups, 1-86400"),
    Variable::plain("RETENTION_RAW", "1", "Hours to keep raw points, 1-168"),
    Variable::plain("RETENTION_MINUTE", "24", "Hours to keep minutes, 1-720"),
    Variable::plain("RETENTION_HOURLY", "30", "Days to keep hours, 1-3650"),
    Variable::plain(
        "GAUGE_LIFETIME",
        "5",
        "Minutes after its last point for which a gauge is in `GET /federate` and in the last value of several series, 1-1440",
    ),
    Variable::plain(
        "MAX_POINT_AGE",
        "24",
        "Maximum age of a point's timestamp in hours, 1-8760; older timestamps are replaced by the time of arrival; \
         increase it to backfill",
    ),
    Variable::plain(
        "ROLLUP_DROP_LABELS",
        "session_id",
        "Comma-separated list of labels that are stored with points but do not create series",
    ),
    Variable::plain(
        "MAX_SERIES",
        "20000",
        "Maximum number of series, 1-1000000, of which each project has a share; further points go to one overflow series \
         per metric",
    ),
    Variable::plain(
        "MAX_SERIES_PER_METRIC",
        "2000",
        "Maximum number of series per metric, project and kind of key, 1-1000000; further points go to its overflow series",
    ),
    Variable::plain("HOST_METRICS", "1", "1 = measure this machine every 10 s; 0 = off"),
    Variable::plain(
        "REMOTE_WRITE_URL",
        "",
        "URL of the server that receives all points by Prometheus remote write, for example VictoriaMetrics",
    ),
    Variable::secret("REMOTE_WRITE_HEADERS", "HTTP headers of remote write requests, one 'Name: value' per line"),
];

/// Returns every variable of the metrics collector, in the order of `--help`.
pub(super) fn variables() -> Vec<Variable> {
    let mut variables = crate::service::common_variables(DEFAULTS);
    variables.extend(crate::service::WebUi::variables());
    variables.extend_from_slice(VARIABLES);
    variables.extend(OutboundSettings::variables(ProxyPolicy::Environment));
    variables
}

/// Settings that only the metrics collector has.
pub(super) struct Config {
    /// Interval between two rollups.
    pub(super) rollup_interval: Duration,
    pub(super) retention: Retention,
    /// Maximum age of a point's timestamp. Older timestamps are replaced by the time of arrival.
    pub(super) point_age_max: Duration,
    /// Labels that are stored with points but do not create series.
    pub(super) dropped_labels: Vec<String>,
    pub(super) limits: CardinalityLimits,
    /// Whether this machine is measured.
    pub(super) host_metrics: bool,
    /// Remote write server; `None` if remote write is off.
    pub(super) remote_write: Option<HttpSink>,
}

/// Retention of raw points and of each rollup table, and the lifetime of gauges.
#[derive(Debug, Clone, Copy)]
pub(super) struct Retention {
    pub(super) points: Duration,
    pub(super) minutes: Duration,
    pub(super) hours: Duration,
    /// Time after its last point for which a gauge is live.
    pub(super) gauges: Duration,
}

impl Retention {
    /// Returns the retention of the buckets of a resolution.
    pub(super) fn of(self, resolution: Resolution) -> Duration {
        match resolution {
            Resolution::Minute => self.minutes,
            Resolution::Hour => self.hours,
        }
    }
}

impl Config {
    /// Reads the settings. Records invalid ones in `env`.
    pub(super) fn from_env(env: &mut Env<'_>) -> Self {
        let outbound = OutboundSettings::from_env(env, ProxyPolicy::Environment, None);
        let hours = |hours: u64| Duration::from_secs(3_600 * hours);
        Self {
            rollup_interval: Duration::from_secs(env.number("AGGREGATION_INTERVAL", 1..=86_400)),
            retention: Retention {
                points: hours(env.number("RETENTION_RAW", 1..=168)),
                minutes: hours(env.number("RETENTION_MINUTE", 1..=720)),
                hours: hours(24 * env.number("RETENTION_HOURLY", 1..=3_650u64)),
                gauges: Duration::from_secs(60 * env.number("GAUGE_LIFETIME", 1..=1_440u64)),
            },
            point_age_max: hours(env.number("MAX_POINT_AGE", 1..=8_760u64)),
            dropped_labels: env.list("ROLLUP_DROP_LABELS"),
            limits: CardinalityLimits {
                total: env.number("MAX_SERIES", 1..=1_000_000),
                per_metric: env.number("MAX_SERIES_PER_METRIC", 1..=1_000_000),
            },
            host_metrics: env.boolean("HOST_METRICS"),
            remote_write: HttpSink::from_env(env, &outbound, ["REMOTE_WRITE_URL", "REMOTE_WRITE_HEADERS"], None),
        }
    }
}
