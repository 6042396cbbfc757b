//! Settings of the log viewer.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::local_zone::LocalZone;
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
    Variable::plain(
        "LOG_FILES",
        "",
        "Comma-separated list of text files to follow like containers, as name=path or path; * matches any characters",
    ),
    Variable::plain(
        "LOG_FILES_TZ",
        "",
        "Time zone of times in LOG_FILES that state none, for example Europe/Berlin; empty = TZ",
    ),
    Variable::plain("TZ", "", "Time zone of the machine; empty = /etc/localtime, or UTC without that file"),
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
    pub(super) files: Vec<FileSetting>,
    /// Zone of times in text files that state none.
    pub(super) zone: Arc<LocalZone>,
    /// Sentence that says why `TZ` does not apply.
    pub(super) zone_error: Option<String>,
}

/// Item of `LOG_FILES`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileSetting {
    /// Name of the source; `None` if each file is a source of its own.
    pub(super) name: Option<String>,
    /// Absolute path, in which `*` stands for any characters of a file or folder name.
    pub(super) path: PathBuf,
}

impl FileSetting {
    /// Parses `name=path`, or a path that starts with `/` or `.`. Returns `None` for anything else.
    fn parse(item: &str) -> Option<Self> {
        let (name, path) = match item.split_once('=') {
            _ if item.starts_with(['/', '.']) => (None, item),
            Some((name, path)) => (Some(name.trim().to_owned()).filter(|name| !name.is_empty()), path.trim()),
            None => return None,
        };
        if path.is_empty() || (name.is_none() && path != item) {
            return None;
        }
        // A relative path may have no parent directory to watch.
        Some(Self { name, path: std::path::absolute(path).unwrap_or_else(|_| PathBuf::from(path)) })
    }
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
        let files: Option<Vec<_>> = env.list("LOG_FILES").iter().map(|item| FileSetting::parse(item)).collect();
        if files.is_none() {
            env.error("LOG_FILES", "must be a comma-separated list of name=path, or of paths that start with / or .");
        }
        let (zone, zone_error) = zone(env);
        Self {
            sources: SourceSettings {
                folders: env.list("LOG_SOURCES").into_iter().map(PathBuf::from).collect(),
                containers: env.list("CONTAINERS"),
                files: files.unwrap_or_default(),
                zone: Arc::new(zone),
                zone_error,
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

/// Returns the zone of times in text files, and a sentence if `TZ` has an unknown one. Other programs on the machine may know
/// it, so it does not prevent the start.
fn zone(env: &mut Env<'_>) -> (LocalZone, Option<String>) {
    const UNKNOWN: &str = "unknown time zone; its file must be in /usr/share/zoneinfo";
    if let Some(name) = env.string("LOG_FILES_TZ") {
        let zone = LocalZone::parse(name.trim());
        if zone.is_none() {
            env.error("LOG_FILES_TZ", UNKNOWN);
        }
        return (zone.unwrap_or_default(), None);
    }
    match env.string("TZ").map(|name| (LocalZone::parse(name.trim()), name)) {
        None => (LocalZone::of_machine(), None),
        Some((Some(zone), _)) => (zone, None),
        Some((None, name)) => {
            let error = format!("TZ={name}: {UNKNOWN}. Times in LOG_FILES that state no zone are read in UTC");
            (LocalZone::default(), Some(error))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_have_a_name_or_a_path_that_looks_like_one() {
        let setting = |item: &str| FileSetting::parse(item).map(|setting| (setting.name, setting.path));
        let here = std::env::current_dir().unwrap();
        for (item, name, path) in [
            ("web=/var/log/web.log", Some("web"), PathBuf::from("/var/log/web.log")),
            (" web = a=b.log", Some("web"), here.join("a=b.log")),
            ("/var/log/*.log", None, PathBuf::from("/var/log/*.log")),
            ("/var/log/a=b.log", None, PathBuf::from("/var/log/a=b.log")),
            ("./app.log", None, here.join("app.log")),
        ] {
            assert_eq!(setting(item), Some((name.map(str::to_owned), path)), "{item}");
        }
        for item in ["app", "app=", "=app.log", "*.log", " = "] {
            assert_eq!(setting(item), None, "{item}");
        }
    }
}
