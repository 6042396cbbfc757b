//! Which logs there are: Docker's containers by their own files, and text files by name.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::config::Sources;

/// Docker's file on a container is a few kilobytes; labels are what makes it larger.
const CONFIG_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Letters of an id that stand for a container without a name, as `docker ps` shows them.
const SHORT_ID_CHARS: usize = 12;

/// What a log is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// Docker's `json-file`.
    Docker,
    /// Lines of text.
    Text,
}

/// A log that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// Docker's id, or `file:` and the name.
    pub(super) key: String,
    pub(super) name: String,
    /// Empty where there is none, as the two below.
    pub(super) image: String,
    /// Of compose.
    pub(super) project: String,
    pub(super) service: String,
    pub(super) format: Format,
    /// The file, or why there is none that can be read.
    pub(super) log: Result<PathBuf, String>,
}

/// Finds logs, and remembers what it has read of containers that did not change.
#[derive(Debug, Default)]
pub(super) struct Discovery {
    read: HashMap<PathBuf, (Version, Option<Found>)>,
}

/// Tells whether a file was written since.
type Version = (u64, i64, i64, u64);

/// What one look has found.
#[derive(Debug, Default)]
pub(super) struct Look {
    pub(super) logs: Vec<Found>,
    /// Folders that cannot be read, and why, in sentences.
    pub(super) troubles: Vec<String>,
    /// Folders worth watching for changes.
    pub(super) folders: Vec<PathBuf>,
}

impl Discovery {
    /// Looks at every source.
    pub(super) fn look(&mut self, sources: &Sources) -> Look {
        let mut look = Look::default();
        let mut seen = Vec::new();
        for folder in &sources.folders {
            look.folders.push(folder.clone());
            match containers_in(folder) {
                Ok(containers) => seen.extend(containers),
                // A machine without Docker that follows files only has nothing to complain of.
                Err(why) if why.kind() == ErrorKind::NotFound && !sources.files.is_empty() => {}
                Err(why) => look.troubles.push(unreadable(folder, &why)),
            }
        }
        self.read.retain(|folder, _| seen.contains(folder));
        for folder in seen {
            let found = self.container(&folder);
            look.folders.push(folder);
            look.logs.extend(found.filter(|found| wanted(&found.name, &sources.containers)));
        }
        for (name, path) in &sources.files {
            look.folders.extend(path.parent().map(Path::to_owned));
            look.logs.push(text_file(name, path));
        }
        look
    }

    /// The container of a folder; `None` for one that Docker is still making, or has just removed.
    fn container(&mut self, folder: &Path) -> Option<Found> {
        let config = folder.join("config.v2.json");
        // Database, since what may be looked at may not always be read.
        let version = File::open(&config).and_then(|file| file.metadata()).map(|file| version(&file));
        let known = self.read.get(folder);
        match (version, known) {
            (Ok(version), Some((of, found))) if *of == version => found.clone(),
            (Ok(version), known) => {
                // It is rewritten while the container runs, so what is read may be half of it: then what was known stands.
                let (of, found) = match read_container(folder, &config) {
                    // What cannot be read now may be soon, and nothing about the container changes with it.
                    Some(found) if found.log.is_err() => (Version::default(), Some(found)),
                    Some(found) => (version, Some(found)),
                    None => (Version::default(), known.and_then(|(_, found)| found.clone())),
                };
                self.read.insert(folder.to_owned(), (of, found.clone()));
                found
            }
            (Err(why), known) if why.kind() == ErrorKind::NotFound => {
                known.and_then(|(_, found)| found.clone()).or_else(|| without_config(folder))
            }
            (Err(why), _) => Some(Found { log: Err(unreadable(&config, &why)), ..unnamed(folder) }),
        }
    }
}

fn version(file: &Metadata) -> Version {
    (file.ino(), file.mtime(), file.mtime_nsec(), file.len())
}

fn containers_in(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut containers = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            containers.push(entry.path());
        }
    }
    Ok(containers)
}

/// A sentence for a file or a folder that cannot be read.
pub(super) fn unreadable(path: &Path, why: &std::io::Error) -> String {
    let path = path.display();
    match why.kind() {
        ErrorKind::NotFound => format!("{path} is not there: mount it, or set LOG_SOURCES"),
        ErrorKind::PermissionDenied => {
            format!("{path} cannot be read: it needs root, or the capability DAC_READ_SEARCH")
        }
        _ => format!("{path} cannot be read: {why}"),
    }
}

#[derive(Deserialize)]
struct Container {
    #[serde(rename = "ID", default)]
    id: String,
    #[serde(rename = "Name", default)]
    name: String,
    #[serde(rename = "LogPath", default)]
    log_path: String,
    #[serde(rename = "Config", default)]
    config: ContainerConfig,
}

#[derive(Deserialize, Default)]
struct ContainerConfig {
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

fn read_container(folder: &Path, config: &Path) -> Option<Found> {
    let container: Container = serde_json::from_slice(&read_bounded(config)?).ok()?;
    let mut found = unnamed(folder);
    if !container.id.is_empty() {
        found.key = container.id;
    }
    let name = container.name.trim_start_matches('/');
    if !name.is_empty() {
        found.name = name.to_owned();
    }
    found.image = container.config.image.unwrap_or_default();
    let mut labels = container.config.labels.unwrap_or_default();
    let mut label = |name: &str| labels.remove(name).unwrap_or_default();
    found.project = label("com.docker.compose.project");
    found.service = label("com.docker.compose.service");
    // Docker's own path need not be ours: the folder may be mounted elsewhere.
    let file = Path::new(&container.log_path).file_name();
    found.log = match file.map(|file| folder.join(file)) {
        Some(path) => readable(path),
        None => match driver(folder).as_deref() {
            None | Some("json-file" | "") => Err("it was never started".into()),
            Some(driver) => Err(format!(
                "its log driver is {driver}, which keeps no file that can be read; json-file does, \
                 see docker run --log-driver"
            )),
        },
    };
    Some(found)
}

fn read_bounded(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = File::open(path).ok()?;
    std::io::Read::read_to_end(&mut std::io::Read::take(file, CONFIG_BYTES_MAX), &mut bytes).ok()?;
    Some(bytes)
}

fn driver(folder: &Path) -> Option<String> {
    let host: HostConfig = serde_json::from_slice(&read_bounded(&folder.join("hostconfig.json"))?).ok()?;
    Some(host.log.driver)
}

/// A folder with a log and nothing else, as a copy of one may be.
fn without_config(folder: &Path) -> Option<Found> {
    let found = unnamed(folder);
    let path = folder.join(format!("{}-json.log", found.key));
    path.exists().then(|| Found { log: readable(path), ..found })
}

fn unnamed(folder: &Path) -> Found {
    let id = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Found {
        name: id.chars().take(SHORT_ID_CHARS).collect(),
        key: id,
        image: String::new(),
        project: String::new(),
        service: String::new(),
        format: Format::Docker,
        log: Err(String::new()),
    }
}

fn text_file(name: &str, path: &Path) -> Found {
    Found {
        key: format!("file:{name}"),
        name: name.to_owned(),
        image: String::new(),
        project: String::new(),
        service: String::new(),
        format: Format::Text,
        log: readable(path.to_owned()),
    }
}

/// A log's path, unless it cannot be opened. One that is not there yet will be.
fn readable(path: PathBuf) -> Result<PathBuf, String> {
    match File::open(&path) {
        Ok(_) => Ok(path),
        Err(why) if why.kind() == ErrorKind::NotFound => Ok(path),
        Err(why) => Err(unreadable(&path, &why)),
    }
}

fn wanted(name: &str, patterns: &[String]) -> bool {
    patterns.is_empty() || patterns.iter().any(|pattern| fits(name, pattern))
}

/// Whether a name fits a pattern in which `*` stands for any letters. Takes time linear in the name for each `*`.
pub(super) fn fits(name: &str, pattern: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.len() >= last.len() && rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_names() {
        for (name, pattern, fit) in [
            ("web", "web", true),
            ("web-1", "web", false),
            ("web-1", "web*", true),
            ("shop_web_1", "*web*", true),
            ("web", "*", true),
            ("", "*", true),
            ("aba", "ab*ba", false),
            ("abcbca", "a*bc*a", true),
            ("web", "we**b", true),
        ] {
            assert_eq!(fits(name, pattern), fit, "{name} {pattern}");
        }
    }
}
