//! Settings of alerting, the same for every service that raises alerts.

use std::time::Duration;

use super::limits::{QUEUE, hourly_store};
use crate::env::{Env, Variable};
use crate::quota::Store;

const HOUR: Duration = Duration::from_secs(3_600);

/// Limits on alerts, and the URL that their messages link to.
#[derive(Debug, Clone)]
pub struct AlertSettings {
    /// `BASE_URL`: public URL of the service, without a trailing slash.
    pub base_url: String,
    /// `ALERT_COOLDOWN`: minimum time between two alerts about one subject.
    pub cooldown: Duration,
    /// `ALERT_MAX_PER_HOUR`: maximum number of alerts in any 60 minutes, not counting digests and tests.
    pub per_hour_max: i64,
    /// `ALERT_DIGEST_DELAY`: minimum time between the first suppressed alert and the digest.
    pub digest_delay: Duration,
}

/// Returns the variables that [`AlertSettings::from_env`] reads, in the order of `--help`.
#[must_use]
pub fn variables(base_url_default: &'static str) -> [Variable; 4] {
    [
        Variable::plain("BASE_URL", base_url_default, "Public URL of this service, for links in alerts"),
        Variable::plain(
            "ALERT_COOLDOWN",
            "3600",
            "Minimum seconds between two alerts for the same group, 0-604800; 0 = no minimum",
        ),
        Variable::plain(
            "ALERT_MAX_PER_HOUR",
            "20",
            "Maximum alerts per hour, shared by the projects, 1-1000; the rest are listed in one digest",
        ),
        Variable::plain(
            "ALERT_DIGEST_DELAY",
            "60",
            "Seconds between the first suppressed alert and the digest, 1-3600",
        ),
    ]
}

impl AlertSettings {
    /// Returns the time for which sent alerts are kept even beyond the history, because the limits need them.
    pub(super) fn keep_sent(&self) -> Duration {
        self.cooldown.max(HOUR)
    }

    /// Returns the stores that the quotas of alerts bound.
    #[must_use]
    pub fn stores(&self) -> [Store; 2] {
        [QUEUE, hourly_store(self.per_hour_max)]
    }

    /// Reads the settings; records invalid values in `env`.
    pub fn from_env(env: &mut Env<'_>) -> Self {
        let base_url = env.string("BASE_URL").unwrap_or_default();
        if !base_url.starts_with("http://") && !base_url.starts_with("https://") {
            env.error("BASE_URL", "must begin with http:// or https://");
        }
        Self {
            base_url: base_url.trim_end_matches('/').to_owned(),
            cooldown: Duration::from_secs(env.number("ALERT_COOLDOWN", 0..=604_800)),
            per_hour_max: env.number("ALERT_MAX_PER_HOUR", 1..=1_000),
            digest_delay: Duration::from_secs(env.number("ALERT_DIGEST_DELAY", 1..=3_600)),
        }
    }
}
