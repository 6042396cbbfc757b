//! Settings of the log viewer.

use std::path::PathBuf;
use std::time::Duration;

use crate::client::{OutboundSettings, ProxyPolicy};
use crate::clock::Timestamp;
use crate::env::{Env, Variable};
use crate::forward::Exporter;
use crate::service::Defaults;

const DEFAULTS: Defaults = Defaults {
    key: "API_KEY",
    port: "5011",
    database_path: "./data/logs.db",
    rate_limit: "60",
    key_rate_limit: "0",
    max_body_size: "65536",
    synchronous: "NORMAL",
    max_db_mb: "2048",
};

const OWN: &[Variable] = &[
    Variable::plain(
        "LOG_SOURCES",
        "/var/lib/docker/containers",
        "Comma-separated list of directories with Docker containers",
    ),
    Variable::plain(
        "CONTAINERS",
        "",
        "Comma-separated list of container names to follow; * matches any characters; empty = all",
    ),
    Variable::plain("LOG_FILES", "", "Comma-separated list of text files to follow like containers, as name=path"),
    Variable::plain(
        "MAX_ENTRIES",
        "100000",
        "Maximum number of stored entries, 100-10000000; oldest are deleted first",
    ),
    Variable::plain("MAX_BYTES", "0", "Maximum total size of stored messages in bytes; 0 = unlimited"),
    Variable::plain("MAX_AGE_HOURS", "0", "Maximum age of stored entries in hours, up to 87600; 0 = unlimited"),
    Variable::plain("POLL_INTERVAL", "2", "Seconds between two scans for new logs and missed changes, 1-3600"),
    Variable::plain("TAIL_BUFFER", "65536", "Bytes to read from the end of each log at the first start, up to 1 GB"),
];

/// Returns all variables of the log viewer, in the order of `--help`.
pub(super) fn variables() -> Vec<Variable> {
    let mut all = crate::service::common_variables(DEFAULTS);
    all.extend(crate::service::WebUi::variables());
    all.extend_from_slice(OWN);
    all.extend(Exporter::variables());
    all.extend(OutboundSettings::variables(ProxyPolicy::Environment));
    all
}

/// Parsed settings that only the log viewer has.
pub(super) struct Config {
    pub(super) sources: SourceSettings,
    pub(super) limits: RetentionLimits,
    /// Time between two scans for new logs and for changes that inotify did not report.
    pub(super) poll_interval: Duration,
    /// Bytes to read from the end of each log at the first start.
    pub(super) tail_bytes: u64,
}

/// Settings for the logs to follow.
#[derive(Debug, Clone, Default)]
pub(super) struct SourceSettings {
    /// Directories with Docker containers.
    pub(super) folders: Vec<PathBuf>,
    /// Patterns for the names of containers, with `*`; empty = all.
    pub(super) containers: Vec<String>,
    /// Names and paths of text files.
    pub(super) files: Vec<(String, PathBuf)>,
}

/// Retention limits; 0 = unlimited.
#[derive(Debug, Clone, Copy)]
pub(super) struct RetentionLimits {
    pub(super) entries: i64,
    /// Total size of the messages.
    pub(super) bytes: i64,
    pub(super) age: Duration,
}

impl RetentionLimits {
    /// Returns the time of the oldest entry that is kept, in nanoseconds since 1970; `i64::MIN` if the age is unlimited.
    pub(super) fn oldest_ns(&self, now: Timestamp) -> i64 {
        if self.age.is_zero() { i64::MIN } else { (now - self.age).ms().saturating_mul(1_000_000) }
    }
}

impl Config {
    /// Parses the settings. Errors are collected in `env`.
    pub(super) fn read(env: &mut Env<'_>) -> Self {
        let mut files = Vec::new();
        for entry in env.list("LOG_FILES") {
            match entry.split_once('=') {
                Some((name, path)) if !name.trim().is_empty() && !path.trim().is_empty() => {
                    // A relative path may have no parent directory to watch.
                    let path = std::path::absolute(path.trim()).unwrap_or_else(|_| PathBuf::from(path.trim()));
                    files.push((name.trim().to_owned(), path));
                }
                _ => env.error("LOG_FILES", "must be a comma-separated list of name=path"),
            }
        }
        Self {
            sources: SourceSettings {
                folders: env.list("LOG_SOURCES").into_iter().map(PathBuf::from).collect(),
                containers: env.list("CONTAINERS"),
                files,
            },
            limits: RetentionLimits {
                entries: env.number("MAX_ENTRIES", 100..=10_000_000),
                bytes: env.number("MAX_BYTES", 0..=i64::MAX),
                age: Duration::from_secs(3_600 * env.number("MAX_AGE_HOURS", 0..=87_600u64)),
            },
            poll_interval: Duration::from_secs(env.number("POLL_INTERVAL", 1..=3_600)),
            tail_bytes: env.number("TAIL_BUFFER", 0..=1_000_000_000),
        }
    }
}
