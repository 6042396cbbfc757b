//! The error tracker's own settings.

use std::time::Duration;

use crate::env::{Env, Variable};
use crate::notify::{self, Notifier};
use crate::service::{Defaults, Export};

const DEFAULTS: Defaults = Defaults {
    key: "API_KEY",
    port: "5010",
    database_path: "./data/errors.db",
    rate_limit: "100",
    key_rate_limit: "0",
    max_body_size: "262144",
    synchronous: "FULL",
};

const OWN: &[Variable] = &[
    Variable::plain("RETENTION_DAYS", "90", "Days until resolved errors and hourly counts are removed, 1-3650"),
    Variable::plain("MAX_GROUPS", "50000", "Unresolved groups kept, the stalest going first, 1-10000000"),
    Variable::plain(
        "BASE_URL",
        "http://localhost:5010",
        "Where people reach this service; links in alerts begin with it",
    ),
    Variable::plain("ALERT_COOLDOWN", "3600", "Seconds in which a group alerts once, 0-604800"),
    Variable::plain("ALERT_MAX_PER_HOUR", "20", "Alerts an hour before the rest becomes one digest, 1-1000"),
    Variable::plain("ALERT_DIGEST_DELAY", "60", "Seconds a digest waits for more to count, 1-3600"),
];

/// Every variable of the error tracker, in the order of `--help`.
pub(super) fn variables() -> Vec<Variable> {
    let mut all = crate::service::common_variables(DEFAULTS);
    all.extend(crate::service::WebUi::variables());
    all.extend_from_slice(OWN);
    all.extend_from_slice(notify::VARIABLES);
    all.extend(Export::variables());
    all
}

/// The error tracker's own settings, read.
pub(super) struct Config {
    /// How long resolved errors, and hourly counts, are kept.
    pub(super) retention: Duration,
    /// Unresolved groups kept at most.
    pub(super) groups_max: i64,
    /// How and when alerts go out.
    pub(super) alerts: AlertSettings,
    /// Where alerts go.
    pub(super) notifier: Notifier,
    /// What is sent on to somewhere else.
    pub(super) export: Export,
}

/// How and when alerts go out.
#[derive(Debug, Clone)]
pub(super) struct AlertSettings {
    /// Where people reach this service, without a slash at the end.
    pub(super) base_url: String,
    /// A group alerts once in this time.
    pub(super) cooldown: Duration,
    /// Alerts in any hour.
    pub(super) per_hour_max: i64,
    /// How long a digest waits for more to count.
    pub(super) digest_delay: Duration,
}

impl Config {
    /// Reads them; what is wrong is noted in `env`.
    pub(super) fn read(env: &mut Env<'_>) -> Self {
        let base_url = env.string("BASE_URL").unwrap_or_default();
        if !base_url.starts_with("http://") && !base_url.starts_with("https://") {
            env.error("BASE_URL", "must begin with http:// or https://");
        }
        Self {
            retention: Duration::from_secs(86_400 * env.number("RETENTION_DAYS", 1..=3_650u64)),
            groups_max: env.number("MAX_GROUPS", 1..=10_000_000),
            alerts: AlertSettings {
                base_url: base_url.trim_end_matches('/').to_owned(),
                cooldown: Duration::from_secs(env.number("ALERT_COOLDOWN", 0..=604_800)),
                per_hour_max: env.number("ALERT_MAX_PER_HOUR", 1..=1_000),
                digest_delay: Duration::from_secs(env.number("ALERT_DIGEST_DELAY", 1..=3_600)),
            },
            notifier: Notifier::from_env(env),
            export: Export::read(env, "monlight_errors"),
        }
    }
}
