//! Settings of the browser relay.

use std::time::Duration;

use super::commands::SeededKey;
use super::upstream::{Upstream, UpstreamKind};
use crate::client::{OutboundSettings, ProxyPolicy};
use crate::env::{Env, Variable};
use crate::http::AllowedOrigins;
use crate::records::key_kind::KeyKind;
use crate::service::Defaults;

const DEFAULTS: Defaults = Defaults {
    key: KEY,
    port: "5013",
    database_path: "./data/browser-relay.db",
    rate_limit: "300",
    key_rate_limit: "3000",
    max_body_size: "65536",
    synchronous: "FULL",
    max_db_mb: "256",
};
/// Name of the variable of the key with full access.
pub(super) const KEY: &str = "ADMIN_API_KEY";

const OWN: &[Variable] = &[
    Variable::plain("ERROR_TRACKER_URL", "", "URL of the error tracker, for example http://localhost:5010; required"),
    Variable::secret("ERROR_TRACKER_API_KEY", "Key of the error tracker with the scope ingest; required"),
    Variable::plain(
        "METRICS_COLLECTOR_URL",
        "",
        "URL of the metrics collector, for example http://localhost:5012; required",
    ),
    Variable::secret("METRICS_COLLECTOR_API_KEY", "Key of the metrics collector with the scope ingest; required"),
    Variable::plain(
        "CORS_ORIGINS",
        "",
        "Comma-separated list of origins whose pages may report and read responses, for example \
         https://*.example.com; at most 32",
    ),
    Variable::plain(
        "DSN_KEYS",
        "",
        "Comma-separated list of public keys to create at start, project:key or project:key:kind with a key of 32 \
         hexadecimal digits and the kind browser (default) or server",
    ),
    Variable::plain("MAX_SOURCE_MAP_SIZE", "5242880", "Maximum size of a source map in bytes, 1024-67108864"),
    Variable::plain("RETENTION_DAYS", "90", "Days to keep a source map after its last use, 1-3650"),
    Variable::plain(
        "OUTBOX_MAX_MB",
        "16",
        "Maximum size of the outbox in MB, 1-10000; the oldest reports of the project that holds the most are dropped first",
    ),
];

/// Returns the variables of the browser relay in the order of `--help`.
pub(super) fn variables() -> Vec<Variable> {
    let mut all = crate::service::common_variables(DEFAULTS);
    all.extend_from_slice(OWN);
    all.extend(OutboundSettings::variables(ProxyPolicy::Direct));
    all
}

/// The values of the settings.
pub(super) struct Config {
    /// In the order of [`UpstreamKind::ALL`].
    pub(super) upstreams: [Upstream; 2],
    pub(super) origins: AllowedOrigins,
    pub(super) dsn_keys: Vec<SeededKey>,
    /// Maximum size of a source map, in bytes.
    pub(super) map_bytes_max: usize,
    /// Time that a source map is kept after its last use.
    pub(super) retention: Duration,
    pub(super) outbox_bytes_max: u64,
}

impl Config {
    /// Reads the settings. Reports errors to `env`.
    pub(super) fn from_env(env: &mut Env<'_>) -> Self {
        let mut dsn_keys = Vec::new();
        for item in env.list("DSN_KEYS") {
            match parse_dsn_key(&item) {
                Some(key) => dsn_keys.push(key),
                None => env.error(
                    "DSN_KEYS",
                    "must be a comma-separated list of project:key or project:key:kind, each key with 32 hexadecimal \
                     digits, kind browser or server",
                ),
            }
        }
        let origins = AllowedOrigins::new(&env.list("CORS_ORIGINS")).unwrap_or_else(|errors| {
            for error in errors {
                env.error("CORS_ORIGINS", error);
            }
            AllowedOrigins::default()
        });
        // The upstreams are parts of the same installation and never behind a forward proxy.
        let outbound = OutboundSettings::from_env(env, ProxyPolicy::Direct, None);
        Self {
            upstreams: UpstreamKind::ALL.map(|kind| Upstream::from_env(env, &outbound, kind)),
            origins,
            dsn_keys,
            map_bytes_max: env.number("MAX_SOURCE_MAP_SIZE", 1_024..=64 * 1024 * 1024),
            retention: Duration::from_secs(env.number("RETENTION_DAYS", 1..=3_650u64) * 86_400),
            outbox_bytes_max: env.number("OUTBOX_MAX_MB", 1..=10_000u64) * 1_000_000,
        }
    }
}

/// Whether a string is a valid project name: 1-100 characters without control characters.
pub(super) fn is_valid_project_name(name: &str) -> bool {
    (1..=100).contains(&name.chars().count()) && !name.chars().any(char::is_control)
}

/// Parses `project:key` or `project:key:kind`.
fn parse_dsn_key(item: &str) -> Option<SeededKey> {
    let (item, kind) = match item.rsplit_once(':') {
        Some((rest, kind)) if KeyKind::from_name(kind).is_some() => (rest, KeyKind::from_name(kind)),
        _ => (item, None),
    };
    let (project, key) =
        item.rsplit_once(':').filter(|(project, key)| is_valid_project_name(project) && is_public_key(key))?;
    Some(SeededKey { public_key: key.to_owned(), project: project.to_owned(), kind })
}

fn is_public_key(key: &str) -> bool {
    key.len() == 32 && key.bytes().all(|byte| byte.is_ascii_hexdigit())
}
