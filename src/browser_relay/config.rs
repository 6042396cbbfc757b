//! The browser relay's own settings.

use std::time::Duration;

use crate::env::{Env, Secret, Variable};
use crate::http::AllowedOrigins;
use crate::service::Defaults;

const DEFAULTS: Defaults = Defaults {
    key: KEY,
    port: "5013",
    database_path: "./data/browser-relay.db",
    rate_limit: "300",
    key_rate_limit: "3000",
    max_body_size: "65536",
    synchronous: "FULL",
};
/// The variable of the key that may do everything.
pub(super) const KEY: &str = "ADMIN_API_KEY";

const OWN: &[Variable] = &[
    Variable::plain("ERROR_TRACKER_URL", "", "Where errors go, http://localhost:5010; required"),
    Variable::secret("ERROR_TRACKER_API_KEY", "A key of the error tracker with the scope ingest; required"),
    Variable::plain("METRICS_COLLECTOR_URL", "", "Where metrics go, http://localhost:5012; required"),
    Variable::secret("METRICS_COLLECTOR_API_KEY", "A key of the metrics collector with the scope ingest; required"),
    Variable::plain("CORS_ORIGINS", "", "Origins whose pages may read answers, https://*.example.com,...; at most 32"),
    Variable::plain("DSN_KEYS", "", "Public keys to make at start, project:32 hexadecimal digits,..."),
    Variable::plain("MAX_SOURCE_MAP_SIZE", "5242880", "Bytes a source map may have, 1024-67108864"),
    Variable::plain("RETENTION_DAYS", "90", "Days that a source map is kept after its last use, 1-3650"),
    Variable::plain("OUTBOX_MAX_MB", "16", "Megabytes kept for upstreams that do not answer, 1-10000"),
];

/// Every variable of the browser relay, in the order of `--help`.
pub(super) fn variables() -> Vec<Variable> {
    let mut all = crate::service::common_variables(DEFAULTS);
    all.extend_from_slice(OWN);
    all
}

/// The browser relay's own settings, read.
pub(super) struct Config {
    pub(super) error_tracker: Target,
    pub(super) metrics_collector: Target,
    pub(super) origins: AllowedOrigins,
    /// Public keys and their projects.
    pub(super) dsn_keys: Vec<(String, String)>,
    pub(super) map_bytes_max: usize,
    /// How long a source map is kept after its last use.
    pub(super) retention: Duration,
    pub(super) outbox_bytes_max: i64,
}

/// Another service, and how it is spoken to.
pub(super) struct Target {
    /// Without a slash at its end.
    pub(super) url: String,
    pub(super) key: Secret,
}

impl Config {
    /// Reads them; what is wrong is noted in `env`.
    pub(super) fn read(env: &mut Env<'_>) -> Self {
        let mut dsn_keys = Vec::new();
        for item in env.list("DSN_KEYS") {
            match item.rsplit_once(':') {
                Some((project, key)) if is_project(project) && is_public_key(key) => {
                    dsn_keys.push((key.to_owned(), project.to_owned()));
                }
                _ => env.error("DSN_KEYS", "must be project:key,... with keys of 32 hexadecimal digits"),
            }
        }
        let origins = AllowedOrigins::new(&env.list("CORS_ORIGINS")).unwrap_or_else(|faults| {
            for fault in faults {
                env.error("CORS_ORIGINS", fault);
            }
            AllowedOrigins::default()
        });
        Self {
            error_tracker: target(env, "ERROR_TRACKER_URL", "ERROR_TRACKER_API_KEY"),
            metrics_collector: target(env, "METRICS_COLLECTOR_URL", "METRICS_COLLECTOR_API_KEY"),
            origins,
            dsn_keys,
            map_bytes_max: env.number("MAX_SOURCE_MAP_SIZE", 1_024..=64 * 1024 * 1024),
            retention: Duration::from_secs(env.number("RETENTION_DAYS", 1..=3_650u64) * 86_400),
            outbox_bytes_max: env.number("OUTBOX_MAX_MB", 1..=10_000) * 1_000_000,
        }
    }
}

fn target(env: &mut Env<'_>, url_name: &'static str, key_name: &'static str) -> Target {
    let url = env.string(url_name).unwrap_or_default();
    let usable =
        ["http://", "https://"].iter().any(|scheme| url.strip_prefix(scheme).is_some_and(|host| !host.is_empty()));
    if !usable {
        env.error(url_name, "must be an URL such as http://localhost:5010");
    }
    Target { url: url.trim_end_matches('/').to_owned(), key: env.required_secret(key_name) }
}

/// Whether a text can be a project's name.
pub(super) fn is_project(text: &str) -> bool {
    (1..=100).contains(&text.chars().count()) && !text.chars().any(char::is_control)
}

fn is_public_key(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}
