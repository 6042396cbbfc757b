//! The log viewer's own settings.

use std::path::PathBuf;
use std::time::Duration;

use crate::env::{Env, Variable};
use crate::service::Defaults;

const DEFAULTS: Defaults = Defaults {
    key: "API_KEY",
    port: "5011",
    database_path: "./data/logs.db",
    rate_limit: "60",
    key_rate_limit: "0",
    max_body_size: "65536",
    synchronous: "NORMAL",
};

const OWN: &[Variable] = &[
    Variable::plain("LOG_SOURCES", "/var/lib/docker/containers", "Folders of Docker's containers, separated by commas"),
    Variable::plain("CONTAINERS", "", "Names to follow, with * for any letters; empty follows all"),
    Variable::plain("LOG_FILES", "", "Text files to follow as if they were containers, name=path,..."),
    Variable::plain("MAX_ENTRIES", "100000", "Entries that are kept, 100-10000000"),
    Variable::plain("MAX_BYTES", "0", "Bytes of messages that are kept; 0 is no limit"),
    Variable::plain("MAX_AGE_HOURS", "0", "Hours that entries are kept, at most 87600; 0 is no limit"),
    Variable::plain("POLL_INTERVAL", "2", "Seconds between two looks where the system reports no changes, 1-3600"),
    Variable::plain("TAIL_BUFFER", "65536", "Bytes at the end of each log that the first start reads, up to 1 GB"),
];

/// Every variable of the log viewer, in the order of `--help`.
pub(super) fn variables() -> Vec<Variable> {
    let mut all = crate::service::common_variables(DEFAULTS);
    all.extend(crate::service::WebUi::variables());
    all.extend_from_slice(OWN);
    all.extend(crate::service::Export::variables());
    all
}

/// The log viewer's own settings, read.
pub(super) struct Config {
    pub(super) sources: Sources,
    pub(super) limits: Limits,
    /// Between two looks where nothing says that there is something new.
    pub(super) poll_every: Duration,
    /// Bytes of each log that the first start reads.
    pub(super) tail_bytes: u64,
}

/// What is followed.
#[derive(Debug, Clone, Default)]
pub(super) struct Sources {
    /// Folders of Docker's containers.
    pub(super) folders: Vec<PathBuf>,
    /// Names, with `*` for any letters; empty is all of them.
    pub(super) containers: Vec<String>,
    /// Text files and the names they are shown by.
    pub(super) files: Vec<(String, PathBuf)>,
}

/// What is kept; 0 is no limit.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) entries: i64,
    /// Of messages.
    pub(super) bytes: i64,
    pub(super) age: Duration,
}

impl Config {
    /// Reads them; what is wrong is noted in `env`.
    pub(super) fn read(env: &mut Env<'_>) -> Self {
        let mut files = Vec::new();
        for entry in env.list("LOG_FILES") {
            match entry.split_once('=') {
                Some((name, path)) if !name.trim().is_empty() && !path.trim().is_empty() => {
                    // A name alone has no folder that could be watched.
                    let path = std::path::absolute(path.trim()).unwrap_or_else(|_| PathBuf::from(path.trim()));
                    files.push((name.trim().to_owned(), path));
                }
                _ => env.error("LOG_FILES", "must be name=path,name=path"),
            }
        }
        Self {
            sources: Sources {
                folders: env.list("LOG_SOURCES").into_iter().map(PathBuf::from).collect(),
                containers: env.list("CONTAINERS"),
                files,
            },
            limits: Limits {
                entries: env.number("MAX_ENTRIES", 100..=10_000_000),
                bytes: env.number("MAX_BYTES", 0..=i64::MAX),
                age: Duration::from_secs(3_600 * env.number("MAX_AGE_HOURS", 0..=87_600u64)),
            },
            poll_every: Duration::from_secs(env.number("POLL_INTERVAL", 1..=3_600)),
            tail_bytes: env.number("TAIL_BUFFER", 0..=1_000_000_000),
        }
    }
}
