//! The metrics collector's own settings.

use std::time::Duration;

use crate::env::{Env, Variable};
use crate::export::Target;
use crate::service::Defaults;

const DEFAULTS: Defaults = Defaults {
    key: "API_KEY",
    port: "5012",
    database_path: "./data/metrics.db",
    rate_limit: "200",
    key_rate_limit: "0",
    max_body_size: "524288",
    synchronous: "NORMAL",
};

const OWN: &[Variable] = &[
    Variable::plain("AGGREGATION_INTERVAL", "60", "Seconds between two rollups, 1-86400"),
    Variable::plain("RETENTION_RAW", "1", "Hours that points are kept as they came, 1-168"),
    Variable::plain("RETENTION_MINUTE", "24", "Hours that minutes are kept, 1-720"),
    Variable::plain("RETENTION_HOURLY", "30", "Days that hours are kept, 1-3650"),
    Variable::plain(
        "MAX_POINT_AGE",
        "24",
        "Hours back that a point's own time is believed, 1-8760; with more a past can be filled in",
    ),
    Variable::plain("ROLLUP_DROP_LABELS", "session_id", "Labels that points keep and that do not tell series apart"),
    Variable::plain("MAX_SERIES", "20000", "Series in all; what comes after counts in one more of its name, 1-1000000"),
    Variable::plain(
        "MAX_SERIES_PER_METRIC",
        "2000",
        "Series of one name; what comes after counts in one more, 1-1000000",
    ),
    Variable::plain("HOST_METRICS", "1", "1 measures this machine every 10 s; 0 does not"),
    Variable::plain(
        "REMOTE_WRITE_URL",
        "",
        "Where every point is sent on to by Prometheus' remote write, as of VictoriaMetrics",
    ),
    Variable::secret(
        "REMOTE_WRITE_HEADERS",
        "Headers sent there, 'Name: value', one a line or with semicolons between them",
    ),
];

/// Every variable of the metrics collector, in the order of `--help`.
pub(super) fn variables() -> Vec<Variable> {
    let mut all = crate::service::common_variables(DEFAULTS);
    all.extend(crate::service::WebUi::variables());
    all.extend_from_slice(OWN);
    all
}

/// The metrics collector's own settings, read.
pub(super) struct Config {
    /// Between two rollups.
    pub(super) rollup_every: Duration,
    /// How long each tier is kept.
    pub(super) retention: Retention,
    /// A point that says it is older has a wrong clock.
    pub(super) point_age_max: Duration,
    /// Labels that do not tell series apart.
    pub(super) dropped_labels: Vec<String>,
    /// Series kept apart.
    pub(super) caps: SeriesCaps,
    /// Whether this machine is measured.
    pub(super) host_metrics: bool,
    /// Who keeps metrics for longer.
    pub(super) remote_write: Option<Target>,
}

/// How long each tier is kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Retention {
    pub(super) points: Duration,
    pub(super) minutes: Duration,
    pub(super) hours: Duration,
}

/// Series kept apart.
#[derive(Debug, Clone, Copy)]
pub(super) struct SeriesCaps {
    pub(super) in_all: i64,
    pub(super) per_metric: i64,
}

impl Config {
    /// Reads them; what is wrong is noted in `env`.
    pub(super) fn read(env: &mut Env<'_>) -> Self {
        let hours = |hours: u64| Duration::from_secs(3_600 * hours);
        Self {
            rollup_every: Duration::from_secs(env.number("AGGREGATION_INTERVAL", 1..=86_400)),
            retention: Retention {
                points: hours(env.number("RETENTION_RAW", 1..=168)),
                minutes: hours(env.number("RETENTION_MINUTE", 1..=720)),
                hours: hours(24 * env.number("RETENTION_HOURLY", 1..=3_650u64)),
            },
            point_age_max: hours(env.number("MAX_POINT_AGE", 1..=8_760u64)),
            dropped_labels: env.list("ROLLUP_DROP_LABELS"),
            caps: SeriesCaps {
                in_all: env.number("MAX_SERIES", 1..=1_000_000),
                per_metric: env.number("MAX_SERIES_PER_METRIC", 1..=1_000_000),
            },
            host_metrics: env.boolean("HOST_METRICS"),
            remote_write: Target::read(env, "REMOTE_WRITE_URL", "REMOTE_WRITE_HEADERS"),
        }
    }
}
