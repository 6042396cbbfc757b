//! Text files of `LOG_FILES`: files by path and files that match a pattern.
//!
//! A file that a program rotated matches the same pattern as before, but belongs to the log of the file that it was. It is
//! recognized by its name, or by its inode if it was seen under its old path.

use std::collections::{HashMap, HashSet};
use std::fs::Metadata;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use super::config::{FileSetting, SourceSettings};
use super::discovery::{LogFormat, LogSource, SourceSnapshot, describe_io_error, missing, unreadable};
use super::file_kind::unsupported_kind;
use super::glob::glob_match;
use super::safe_open::open_file;

/// Maximum number of files that patterns find.
const MATCHES_MAX: usize = 500;
/// Maximum number of names in the folders that are searched for matches.
const NAMES_MAX: usize = 20_000;
/// Extensions of compressed files, which are rotated.
const COMPRESSED: [&str; 6] = [".gz", ".bz2", ".xz", ".zst", ".zip", ".lz4"];
/// Suffixes of names of files that were replaced.
const REPLACED: [&str; 4] = [".old", ".bak", ".orig", "~"];

/// Device and inode number, and the time of creation if the file system knows it, because numbers are reused at once.
type Identity = (u64, u64, Option<SystemTime>);

/// Finder for text files. Remembers what it found, to recognize files that were renamed.
#[derive(Debug, Default)]
pub(super) struct FileFinder {
    /// Files that matched a pattern at the last scan.
    matched: HashMap<PathBuf, Identity>,
    /// Files that were matched under another path before, by their paths now.
    renamed: HashMap<PathBuf, Identity>,
    /// Paths without a pattern at which there was a file at the last scan.
    present: HashSet<PathBuf>,
}

/// A file that matches a pattern.
struct Match {
    path: PathBuf,
    identity: Identity,
    modified_s: i64,
}

impl FileFinder {
    /// Adds the text files, and what is wrong with them, to a snapshot.
    pub(super) fn scan(&mut self, settings: &SourceSettings, snapshot: &mut SourceSnapshot) {
        let mut paths: HashSet<PathBuf> = HashSet::new();
        let mut named: HashSet<&str> = HashSet::new();
        let base = common_folder(&settings.files);
        let matches = self.matches(&settings.files, snapshot);
        let plain = settings.files.iter().filter(|file| !is_pattern(&file.path)).map(|file| (file, file.path.clone()));
        let matched = matches.into_iter().map(|(index, found)| (&settings.files[index], found.path));
        for (setting, path) in plain.chain(matched) {
            if !paths.insert(path.clone()) {
                continue;
            }
            snapshot.recreated_folders.extend(path.parent().map(Path::to_owned));
            let shown = path.strip_prefix(&base).unwrap_or(&path).display().to_string();
            let (key, name) = match &setting.name {
                // A name had only one file in earlier versions, and its key was the name.
                Some(name) if !is_pattern(&setting.path) && named.insert(name) => {
                    (format!("file:{name}"), name.clone())
                }
                Some(name) => (format!("file:{name}={}", path.display()), name.clone()),
                None => (format!("file:{}", path.display()), shown),
            };
            let source = LogSource {
                key,
                name,
                is_named: true,
                image: String::new(),
                project: String::new(),
                service: String::new(),
                format: LogFormat::Text(Arc::clone(&settings.zone)),
                path: self.check(path, snapshot),
            };
            snapshot.sources.push(source);
        }
        self.present.retain(|path| paths.contains(path));
    }

    /// Returns the path, or the reason why the file cannot be followed. A file that does not exist yet is reported, but can be
    /// followed.
    fn check(&mut self, path: PathBuf, snapshot: &mut SourceSnapshot) -> Result<PathBuf, String> {
        let reason = match open_file(&path) {
            Ok(file) => {
                let kind = unsupported_kind(&file);
                self.present.insert(path.clone());
                kind.map(|kind| format!("{} is {kind}", path.display()))
            }
            Err(why) if why.kind() == ErrorKind::NotFound => {
                // While a log is rotated, there is no file for a moment.
                if !self.present.remove(&path) {
                    let why = describe_missing(&path);
                    snapshot.problems.push(missing(&why));
                    snapshot.missing.insert(path.clone(), why);
                }
                None
            }
            Err(why) => Some(describe_io_error(&path, &why)),
        };
        match reason {
            None => Ok(path),
            Some(reason) => {
                snapshot.problems.push(unreadable(&reason));
                Err(reason)
            }
        }
    }

    /// Returns the files that match patterns, each with the index of its setting.
    fn matches(&mut self, settings: &[FileSetting], snapshot: &mut SourceSnapshot) -> Vec<(usize, Match)> {
        let (mut found, mut names_left) = (Vec::new(), NAMES_MAX);
        let (mut renamed, mut seen) = (HashMap::new(), HashSet::new());
        for (index, setting) in settings.iter().enumerate().filter(|(_, setting)| is_pattern(&setting.path)) {
            let before = found.len();
            for file in matching_files(&setting.path, &mut names_left) {
                if self.is_renamed(&file) {
                    renamed.insert(file.path, file.identity);
                } else if seen.insert(file.identity) {
                    // A link and the file that it leads to are one log.
                    found.push((index, file));
                }
            }
            if found.len() == before {
                let why = format!("no file matches {} in LOG_FILES (yet)", setting.path.display());
                snapshot.problems.push(missing(&why));
            }
        }
        if names_left == 0 {
            let why = format!("the folders of LOG_FILES have over {NAMES_MAX} names, so not all are searched");
            snapshot.problems.push(unreadable(&why));
        }
        if found.len() > MATCHES_MAX {
            let count = found.len();
            let why = format!(
                "{count} files match LOG_FILES, of which the {MATCHES_MAX} that changed last are followed: narrow the patterns"
            );
            snapshot.problems.push(unreadable(&why));
            found.sort_by_key(|(_, file)| std::cmp::Reverse(file.modified_s));
            found.truncate(MATCHES_MAX);
            found.sort_by(|(_, one), (_, other)| one.path.cmp(&other.path));
        }
        self.renamed = renamed;
        self.matched = found.iter().map(|(_, file)| (file.path.clone(), file.identity)).collect();
        found
    }

    /// Returns whether a file was followed under another path, at which there is another file or none now.
    fn is_renamed(&self, file: &Match) -> bool {
        let is_same = |known: &Identity| *known == file.identity;
        self.renamed.get(&file.path).is_some_and(is_same)
            || !self.matched.get(&file.path).is_some_and(is_same) && self.matched.values().any(is_same)
    }
}

/// Describes that a file does not exist, or that a link leads nowhere.
fn describe_missing(path: &Path) -> String {
    let shown = path.display();
    match std::fs::read_link(path) {
        Ok(target) => format!("{shown} is a link to {}, which does not exist (yet)", target.display()),
        Err(_) => format!("{shown} does not exist (yet)"),
    }
}

fn is_pattern(path: &Path) -> bool {
    path.as_os_str().as_encoded_bytes().contains(&b'*')
}

/// Returns the folder above the first part of a path with a `*`.
fn fixed_folder(path: &Path) -> &Path {
    let pattern = path.ancestors().filter(|ancestor| is_pattern(ancestor)).last().unwrap_or(path);
    pattern.parent().unwrap_or(pattern)
}

/// Returns the folder that all files without a name have in common. They are named by their paths below it.
fn common_folder(settings: &[FileSetting]) -> PathBuf {
    let mut folders = settings.iter().filter(|file| file.name.is_none()).map(|file| fixed_folder(&file.path));
    let Some(mut common) = folders.next() else { return PathBuf::new() };
    for folder in folders {
        common = common.ancestors().find(|ancestor| folder.starts_with(ancestor)).unwrap_or(common);
    }
    common.to_owned()
}

/// Returns the regular files that match a pattern and were not rotated, in the order of their paths.
fn matching_files(pattern: &Path, names_left: &mut usize) -> Vec<Match> {
    let mut folders = vec![fixed_folder(pattern).to_owned()];
    let mut parts = pattern.strip_prefix(fixed_folder(pattern)).unwrap_or(pattern).iter().peekable();
    let mut files = Vec::new();
    while let Some(part) = parts.next() {
        let part = part.to_string_lossy();
        let is_last = parts.peek().is_none();
        let mut next = Vec::new();
        for folder in folders {
            let names = names_in(&folder, names_left);
            for name in names.iter().filter(|name| glob_match(name, &part)) {
                let path = folder.join(name);
                let Ok(metadata) = std::fs::metadata(&path) else { continue };
                if !is_last && metadata.is_dir() {
                    next.push(path);
                } else if is_last && metadata.is_file() && !is_rotated(name, &names) {
                    files.push(Match::new(path, &metadata));
                }
            }
        }
        folders = next;
    }
    files.sort_by(|one, other| one.path.cmp(&other.path));
    files
}

impl Match {
    fn new(path: PathBuf, file: &Metadata) -> Self {
        Self { path, identity: (file.dev(), file.ino(), file.created().ok()), modified_s: file.mtime() }
    }
}

/// Lists the names in a folder, except hidden ones and those that are not UTF-8.
fn names_in(folder: &Path, names_left: &mut usize) -> HashSet<String> {
    let Ok(entries) = std::fs::read_dir(folder) else { return HashSet::new() };
    let mut names = HashSet::new();
    for entry in entries.take(*names_left).flatten() {
        *names_left -= 1;
        names.extend(entry.file_name().into_string().ok().filter(|name| !name.starts_with('.')));
    }
    names
}

/// Returns whether a file was rotated, to judge by its name: it is compressed, or the name is that of another file with a
/// date or a number inserted, as `app.log.1`, `app-2026-01-31.log` and `app.2026-01-31.0.log` are for `app.log`.
fn is_rotated(name: &str, names: &HashSet<String>) -> bool {
    if COMPRESSED.iter().any(|extension| name.ends_with(extension)) {
        return true;
    }
    if REPLACED.iter().any(|suffix| name.strip_suffix(suffix).is_some_and(|base| names.contains(base))) {
        return true;
    }
    let is_separator = |byte: u8| b".-_".contains(&byte);
    let is_inserted = |text: &str| {
        text.bytes().any(|byte| byte.is_ascii_digit())
            && text.bytes().all(|byte| byte.is_ascii_digit() || is_separator(byte) || b"TZ:+".contains(&byte))
    };
    let mut starts = name.bytes().enumerate().filter(|(index, byte)| *index > 0 && is_separator(*byte));
    starts.any(|(start, _)| {
        (start + 1..=name.len()).any(|end| {
            let rest = name.get(end..).filter(|rest| rest.is_empty() || rest.starts_with('.'));
            rest.is_some_and(|rest| {
                is_inserted(&name[start + 1..end]) && names.contains(&format!("{}{rest}", &name[..start]))
            })
        })
    })
}

#[cfg(test)]
#[path = "file_sources_tests.rs"]
mod tests;
