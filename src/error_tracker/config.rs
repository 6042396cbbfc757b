//! Settings of the error tracker.

use std::time::Duration;

use crate::alerting::{self, AlertSettings};
use crate::client::{OutboundSettings, ProxyPolicy};
use crate::env::{Env, Variable};
use crate::forward::Exporter;
use crate::notify::{self, Notifier};
use crate::service::Defaults;

const DEFAULTS: Defaults = Defaults {
    key: "API_KEY",
    port: "5010",
    database_path: "./data/errors.db",
    rate_limit: "100",
    key_rate_limit: "0",
    max_body_size: "262144",
    synchronous: "FULL",
    max_db_mb: "1024",
};

const OWN: &[Variable] = &[
    Variable::plain("RETENTION_DAYS", "90", "Days to keep resolved groups and hourly counts, 1-3650"),
    Variable::plain(
        "MAX_GROUPS",
        "50000",
        "Maximum number of unresolved groups, 1-10000000; the stalest groups of the largest project are deleted first",
    ),
];

/// Returns all variables of the error tracker in the order of `--help`.
pub(super) fn variables() -> Vec<Variable> {
    let mut all = crate::service::common_variables(DEFAULTS);
    all.extend(crate::service::WebUi::variables());
    all.extend_from_slice(OWN);
    all.extend(alerting::variables("http://localhost:5010"));
    all.extend_from_slice(notify::VARIABLES);
    all.extend(Exporter::variables());
    all.extend(OutboundSettings::variables(ProxyPolicy::Environment));
    all
}

/// Parsed settings.
pub(super) struct Config {
    /// Time to keep resolved groups and hourly counts.
    pub(super) retention: Duration,
    /// Maximum number of unresolved groups.
    pub(super) groups_max: i64,
    /// Limits on alerts.
    pub(super) alerts: AlertSettings,
    /// Channels that alerts are sent through.
    pub(super) notifier: Notifier,
    /// Forwarding of reports to another store.
    pub(super) exporter: Exporter,
}

impl Config {
    /// Reads the settings; records invalid values in `env`.
    pub(super) fn from_env(env: &mut Env<'_>) -> Self {
        let outbound = OutboundSettings::from_env(env, ProxyPolicy::Environment, Some(notify::OLDER_CA_FILE));
        Self {
            retention: Duration::from_secs(86_400 * env.number("RETENTION_DAYS", 1..=3_650u64)),
            groups_max: env.number("MAX_GROUPS", 1..=10_000_000),
            alerts: AlertSettings::from_env(env),
            notifier: Notifier::from_env(env, &outbound),
            exporter: Exporter::from_env(env, &outbound, "monlight_errors"),
        }
    }
}
