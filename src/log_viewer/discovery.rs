//! Discovery of Docker's containers from the files that Docker keeps about them.

use std::collections::{HashMap, HashSet};
use std::fs::Metadata;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::config::SourceSettings;
use super::glob::glob_match;
use super::local_zone::LocalZone;
use super::safe_open::open_file;
use crate::records::warning::Warning;

/// Maximum size of Docker's files about a container, in bytes. They have a few kilobytes, unless there are many labels.
const CONFIG_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Length of the abbreviated ID that replaces a missing name, as in `docker ps`, in characters.
const SHORT_ID_CHARS: usize = 12;

/// Time after which a `config.v2.json` that is incomplete is taken for damaged. Docker writes it within milliseconds.
const CONFIG_WRITE_TIME_MAX: Duration = Duration::from_secs(10);

/// Maximum number of containers that are followed at a time.
const FOLLOWED_MAX: usize = 2_000;

/// Format of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LogFormat {
    /// Docker's json-file.
    Docker,
    /// Lines of text, with the zone of the times that state none.
    Text(Arc<LocalZone>),
}

/// A log that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LogSource {
    /// Docker's container ID, or `file:` and the name or the path.
    pub(super) key: String,
    pub(super) name: String,
    /// Whether the name and the labels are known. Otherwise, those that are stored remain.
    pub(super) is_named: bool,
    /// Image of the container; empty if there is none, like the two fields below.
    pub(super) image: String,
    /// Compose project.
    pub(super) project: String,
    /// Compose service.
    pub(super) service: String,
    pub(super) format: LogFormat,
    /// Path of the file, or the reason why there is no readable file.
    pub(super) path: Result<PathBuf, String>,
}

/// Scanner for logs. Caches what it read about containers that did not change.
#[derive(Debug, Default)]
pub(super) struct Discovery {
    cache: HashMap<PathBuf, (FileVersion, Option<LogSource>)>,
}

/// Inode, modification time and length of a file, which together change whenever the file does.
type FileVersion = (u64, i64, i64, u64);

/// Result of a scan.
#[derive(Debug, Default)]
pub(super) struct SourceSnapshot {
    pub(super) sources: Vec<LogSource>,
    /// Settings that cannot be applied, such as folders and files that cannot be read.
    pub(super) problems: Vec<Warning>,
    /// Files of `sources` that do not exist, with the sentence that says so.
    pub(super) missing: HashMap<PathBuf, String>,
    /// Folders of containers, to watch for changes.
    pub(super) folders: Vec<PathBuf>,
    /// Folders to watch that can be deleted and created again.
    pub(super) recreated_folders: Vec<PathBuf>,
}

impl SourceSnapshot {
    /// Returns the reason why a log cannot be read, if there is one.
    pub(super) fn reason<'s>(&'s self, source: &'s LogSource) -> Option<&'s String> {
        source.path.as_ref().map_or_else(Some, |path| self.missing.get(path))
    }
}

/// Returns the warning that something cannot be read.
pub(super) fn unreadable(message: &str) -> Warning {
    Warning::new("source_unreadable", 1, message)
}

/// Returns the warning that nothing exists yet that a setting names.
pub(super) fn missing(message: &str) -> Warning {
    Warning::new("source_missing", 1, message)
}

impl Discovery {
    /// Scans all configured folders.
    pub(super) fn scan(&mut self, settings: &SourceSettings) -> SourceSnapshot {
        let mut snapshot = SourceSnapshot::default();
        let mut containers = Vec::new();
        for folder in &settings.folders {
            snapshot.recreated_folders.push(folder.clone());
            match list_containers(folder) {
                Ok(folders) => containers.extend(folders),
                // Without Docker, following only files is a valid setup.
                Err(why) if why.kind() == ErrorKind::NotFound && !settings.files.is_empty() => {}
                Err(why) => snapshot.problems.push(unreadable(&describe_io_error(folder, &why))),
            }
        }
        if containers.len() > FOLLOWED_MAX {
            let count = containers.len();
            // Those that are followed already stay.
            containers.sort_unstable_by_key(|folder| !self.cache.contains_key(folder));
            containers.truncate(FOLLOWED_MAX);
            snapshot.problems.push(unreadable(&format!(
                "there are {count} containers, of which {FOLLOWED_MAX} are followed: remove stopped ones (docker container prune)"
            )));
        }
        let folders: HashSet<&PathBuf> = containers.iter().collect();
        self.cache.retain(|folder, _| folders.contains(folder));
        let mut unmatched: Vec<&str> = settings.containers.iter().map(String::as_str).collect();
        for folder in containers {
            let source = self.container(&folder, &mut snapshot.problems);
            snapshot.folders.push(folder);
            let Some(source) = source else { continue };
            unmatched.retain(|pattern| !glob_match(&source.name, pattern));
            if matches_any(&source.name, &settings.containers) {
                snapshot.sources.push(source);
            }
        }
        // If the folders cannot be read, that is the problem.
        if snapshot.problems.is_empty() {
            snapshot.problems.extend(unmatched.into_iter().map(|pattern| {
                missing(&format!("no container matches {pattern} in CONTAINERS (yet); only * has a special meaning"))
            }));
        }
        let zone_error = settings.zone_error.as_deref().filter(|_| !settings.files.is_empty());
        snapshot.problems.extend(zone_error.map(|why| Warning::new("time_zone_unknown", 1, why)));
        snapshot
    }

    /// Returns the container of a folder; `None` while Docker creates or removes it.
    fn container(&mut self, folder: &Path, problems: &mut Vec<Warning>) -> Option<LogSource> {
        let config = folder.join("config.v2.json");
        let cached = self.cache.get(folder);
        let known = cached.and_then(|(_, source)| source.clone());
        // Docker creates the log after the configuration. So if there is a log before and after it is found missing, the
        // container has none, and its ID must do as its name.
        let has_log = known.is_none() && container_without_config(folder).is_some();
        let unnamed = || has_log.then(|| container_without_config(folder)).flatten();
        // Opened rather than only inspected, because a file with readable metadata can still be unreadable.
        let file = match open_file(&config).and_then(|file| file.metadata()) {
            Ok(file) => file,
            Err(why) if why.kind() == ErrorKind::NotFound => return known.or_else(unnamed),
            Err(why) => {
                return Some(LogSource { path: Err(describe_io_error(&config, &why)), ..unnamed_container(folder) });
            }
        };
        let version = file_version(&file);
        if cached.is_some_and(|(cached_version, _)| *cached_version == version) {
            return known;
        }
        let (version, source) = match read_container(folder, &config) {
            // The log can become readable without a change of this file, so the source is not cached as current.
            Some(source) if source.path.is_err() => (FileVersion::default(), Some(source)),
            Some(source) => (version, Some(source)),
            // Docker rewrites the file while the container runs, so it can be incomplete. The cached source is used until
            // the next scan.
            None if file.modified().is_ok_and(|at| at.elapsed().is_ok_and(|age| age < CONFIG_WRITE_TIME_MAX)) => {
                (FileVersion::default(), known)
            }
            None => {
                let why = format!("{} is damaged: the container's name and labels are unknown", config.display());
                problems.push(unreadable(&why));
                (FileVersion::default(), known.or_else(unnamed))
            }
        };
        // A container without a name is looked at again.
        self.cache.insert(folder.to_owned(), (version, source.clone().filter(|source| source.is_named)));
        source
    }
}

fn file_version(file: &Metadata) -> FileVersion {
    (file.ino(), file.mtime(), file.mtime_nsec(), file.len())
}

fn list_containers(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut containers = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            containers.push(entry.path());
        }
    }
    Ok(containers)
}

/// Describes why a file or a folder cannot be read, and how to correct it, in one sentence.
pub(super) fn describe_io_error(path: &Path, why: &std::io::Error) -> String {
    let path = path.display();
    match why.kind() {
        ErrorKind::NotFound => format!("{path} not found: mount it, or set LOG_SOURCES"),
        // Without an error number, the file could be read, but must not be.
        ErrorKind::PermissionDenied if why.raw_os_error().is_some() => {
            format!("cannot read {path}: permission denied; run as root or with the capability CAP_DAC_READ_SEARCH")
        }
        _ => format!("cannot read {path}: {why}"),
    }
}

#[derive(Deserialize)]
struct ConfigV2 {
    #[serde(rename = "ID", default)]
    id: String,
    #[serde(rename = "Name", default)]
    name: String,
    #[serde(rename = "LogPath", default)]
    log_path: String,
    #[serde(rename = "Config", default)]
    config: ConfigV2Config,
}

#[derive(Deserialize, Default)]
struct ConfigV2Config {
    #[serde(rename = "Image", default)]
    image: Option<String>,
    #[serde(rename = "Labels", default)]
    labels: Option<HashMap<String, String>>,
}

#[derive(Deserialize)]
struct HostConfig {
    #[serde(rename = "LogConfig", default)]
    log: LogConfig,
}

#[derive(Deserialize, Default)]
struct LogConfig {
    #[serde(rename = "Type", default)]
    driver: String,
}

/// Reads Docker's `config.v2.json`; `None` if it is missing or incomplete.
fn read_container(folder: &Path, config: &Path) -> Option<LogSource> {
    let container: ConfigV2 = serde_json::from_slice(&read_config_file(config)?).ok()?;
    let mut source = unnamed_container(folder);
    if !container.id.is_empty() {
        source.key = container.id;
    }
    let name = container.name.trim_start_matches('/');
    // docker-compose 1 renames a container like this before it replaces it (docker/compose#1349).
    let replaced_name = name.strip_prefix(&source.name).and_then(|name| name.strip_prefix('_'));
    let name = replaced_name.filter(|name| !name.is_empty()).unwrap_or(name);
    if !name.is_empty() {
        source.name = name.to_owned();
    }
    source.is_named = true;
    source.image = container.config.image.unwrap_or_default();
    let mut labels = container.config.labels.unwrap_or_default();
    let mut label = |name: &str| labels.remove(name).unwrap_or_default();
    source.project = label("com.docker.compose.project");
    source.service = label("com.docker.compose.service");
    // The folder may be mounted at another path than Docker's, so only the file name is used.
    let file = Path::new(&container.log_path).file_name();
    source.path = match file.map(|file| folder.join(file)) {
        Some(path) => check_readable(path),
        None => match log_driver(folder).as_deref() {
            None | Some("json-file" | "") => Err("the container was never started".into()),
            Some(driver) => Err(describe_driver(driver)),
        },
    };
    Some(source)
}

/// Says why the logs of a driver other than json-file cannot be read.
fn describe_driver(driver: &str) -> String {
    let why = match driver {
        "none" => "keeps no logs",
        "local" => "keeps them in a format of its own, which only Docker reads",
        // Docker's copy of them for `docker logs` is in the format of the driver local.
        _ => "sends them to another system",
    };
    format!("its log driver is {driver}, which {why}; use json-file (docker run --log-driver json-file)")
}

fn read_config_file(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = open_file(path).ok()?;
    std::io::Read::read_to_end(&mut std::io::Read::take(file, CONFIG_BYTES_MAX), &mut bytes).ok()?;
    Some(bytes)
}

fn log_driver(folder: &Path) -> Option<String> {
    let host: HostConfig = serde_json::from_slice(&read_config_file(&folder.join("hostconfig.json"))?).ok()?;
    Some(host.log.driver)
}

/// Returns the container of a folder that has a log but no `config.v2.json`, for example in a copy of Docker's folder.
fn container_without_config(folder: &Path) -> Option<LogSource> {
    let source = unnamed_container(folder);
    let path = folder.join(format!("{}-json.log", source.key));
    path.exists().then(|| LogSource { path: check_readable(path), ..source })
}

/// Returns a container of which only the folder is known.
fn unnamed_container(folder: &Path) -> LogSource {
    let id = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    LogSource {
        name: id.chars().take(SHORT_ID_CHARS).collect(),
        key: id,
        is_named: false,
        image: String::new(),
        project: String::new(),
        service: String::new(),
        format: LogFormat::Docker,
        path: Err(String::new()),
    }
}

/// Returns the path, or the reason why the file cannot be opened. A file that does not exist yet is accepted.
fn check_readable(path: PathBuf) -> Result<PathBuf, String> {
    match open_file(&path) {
        Ok(_) => Ok(path),
        Err(why) if why.kind() == ErrorKind::NotFound => Ok(path),
        Err(why) => Err(describe_io_error(&path, &why)),
    }
}

/// Returns whether the name matches one of the patterns, or there are none.
fn matches_any(name: &str, patterns: &[String]) -> bool {
    patterns.is_empty() || patterns.iter().any(|pattern| glob_match(name, pattern))
}

#[cfg(test)]
#[path = "discovery_tests.rs"]
mod tests;
