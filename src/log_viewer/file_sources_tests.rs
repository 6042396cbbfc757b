use std::fs;

use super::*;

/// Folder that is deleted at the end of the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str, files: &[&str]) -> Self {
        let folder = Self(std::env::temp_dir().join(format!("monlight-files-{name}-{}", std::process::id())));
        fs::create_dir_all(&folder.0).unwrap();
        files.iter().for_each(|file| folder.write(file));
        folder
    }

    fn write(&self, file: &str) {
        let path = self.0.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "line\n").unwrap();
    }

    /// Returns settings for these items of `LOG_FILES`, which are relative to the folder.
    fn settings(&self, items: &[(Option<&str>, &str)]) -> SourceSettings {
        let setting = |(name, path): &(Option<&str>, &str)| FileSetting {
            name: name.map(str::to_owned),
            path: self.0.join(path),
        };
        SourceSettings { files: items.iter().map(setting).collect(), ..SourceSettings::default() }
    }

    /// Returns the names and paths of the sources.
    fn scan(&self, finder: &mut FileFinder, settings: &SourceSettings) -> (Vec<(String, String)>, Vec<String>) {
        let mut snapshot = SourceSnapshot::default();
        finder.scan(settings, &mut snapshot);
        let shown = |path: &Path| path.strip_prefix(&self.0).unwrap_or(path).display().to_string();
        let sources = snapshot
            .sources
            .iter()
            .map(|source| (source.name.clone(), source.path.as_ref().map_or_else(Clone::clone, |path| shown(path))));
        let folder = format!("{}/", self.0.display());
        (sources.collect(), snapshot.problems.iter().map(|problem| problem.message.replace(&folder, "")).collect())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, path)| ((*name).to_owned(), (*path).to_owned())).collect()
}

#[test]
fn rotated_files_are_recognized_by_their_names() {
    let names: HashSet<String> = ["app.log", "syslog", "web-1.log"].map(str::to_owned).into();
    for (name, rotated) in [
        ("app.log.1", true),
        ("app.log-20260131", true),
        ("app.log.2026-01-30_12", true),
        ("app.1.log", true),
        ("app-1.log", true),
        ("app-20260131.log", true),
        ("app.2026-01-30.0.log", true),
        ("app-2026-01-30T12-00-00.000.log", true),
        ("app.log.gz", true),
        ("other.log.gz", true),
        ("app.log.old", true),
        ("syslog.1", true),
        ("app.log", false),
        ("app2.log", false),
        ("app-worker.log", false),
        ("web-1.log", false),
        ("web-2.log", false),
        ("größe-ä.log", false),
        ("2026-01-31.log", false),
    ] {
        assert_eq!(is_rotated(name, &names), rotated, "{name}");
    }
}

#[test]
fn patterns_find_files_and_name_them() {
    let folder =
        Folder::new("patterns", &["nginx/access.log", "nginx/error.log", "apache2/error.log", "nginx/error.log.1"]);
    let mut finder = FileFinder::default();
    let settings = folder.settings(&[(None, "nginx/*.log*"), (None, "apache2/error.log"), (None, "nginx/error.log")]);
    let expected = [
        ("apache2/error.log", "apache2/error.log"),
        ("nginx/error.log", "nginx/error.log"),
        ("nginx/access.log", "nginx/access.log"),
    ];
    assert_eq!(folder.scan(&mut finder, &settings), (pairs(&expected), Vec::new()));
    let settings = folder.settings(&[(Some("web"), "*/error.log"), (None, "none*")]);
    let expected = [("web", "apache2/error.log"), ("web", "nginx/error.log")];
    let problem = "no file matches none* in LOG_FILES (yet)".to_owned();
    assert_eq!(folder.scan(&mut finder, &settings), (pairs(&expected), vec![problem]));
}

#[test]
fn a_file_that_is_renamed_is_not_followed_twice() {
    let folder = Folder::new("renamed", &["app.log"]);
    let mut finder = FileFinder::default();
    let settings = folder.settings(&[(None, "*.log")]);
    let only_app = (pairs(&[("app.log", "app.log")]), Vec::new());
    assert_eq!(folder.scan(&mut finder, &settings), only_app);
    fs::rename(folder.0.join("app.log"), folder.0.join("yesterday.log")).unwrap();
    folder.write("app.log");
    for _ in 0..2 {
        assert_eq!(folder.scan(&mut finder, &settings), only_app);
    }
    fs::remove_file(folder.0.join("yesterday.log")).unwrap();
    folder.write("new.log");
    std::os::unix::fs::symlink("app.log", folder.0.join("a-link.log")).unwrap();
    assert_eq!(folder.scan(&mut finder, &settings).0, pairs(&[("app.log", "app.log"), ("new.log", "new.log")]));
}

#[test]
fn files_that_cannot_be_followed_are_named_with_the_reason() {
    let folder = Folder::new("kinds", &[]);
    for (name, start) in [("utf16.log", &b"\xff\xfea\0"[..]), ("packed.log", b"\x1f\x8b\x08"), ("ok.log", b"ok")] {
        fs::write(folder.0.join(name), start).unwrap();
    }
    std::os::unix::fs::symlink("nowhere", folder.0.join("link.log")).unwrap();
    fs::create_dir(folder.0.join("folder.log")).unwrap();
    let items = ["utf16.log", "packed.log", "link.log", "folder.log", "typo.log", "ok.log"].map(|path| (None, path));
    let problems = [
        "utf16.log is UTF-16 text, which is not supported; let the program write UTF-8",
        "packed.log is compressed, so no program appends lines to it; name the file that is written to",
        "link.log is a link to nowhere, which does not exist (yet)",
        "cannot read folder.log: it is a directory, not a regular file",
        "typo.log does not exist (yet)",
    ];
    assert_eq!(folder.scan(&mut FileFinder::default(), &folder.settings(&items)).1, problems);
}

#[test]
fn a_file_that_is_being_rotated_is_not_reported_as_missing() {
    let folder = Folder::new("moment", &["app.log"]);
    let (mut finder, settings) = (FileFinder::default(), folder.settings(&[(Some("app"), "app.log")]));
    assert!(folder.scan(&mut finder, &settings).1.is_empty());
    fs::remove_file(folder.0.join("app.log")).unwrap();
    assert!(folder.scan(&mut finder, &settings).1.is_empty());
    assert_eq!(folder.scan(&mut finder, &settings).1, ["app.log does not exist (yet)"]);
}

#[test]
fn files_with_one_name_have_keys_of_their_own() {
    let folder = Folder::new("keys", &["a.log", "b.log"]);
    let settings = folder.settings(&[(Some("web"), "a.log"), (Some("web"), "b.log"), (Some("web"), "a.log")]);
    let mut snapshot = SourceSnapshot::default();
    FileFinder::default().scan(&settings, &mut snapshot);
    let keys: Vec<&str> = snapshot.sources.iter().map(|source| source.key.as_str()).collect();
    assert_eq!(keys, ["file:web", &format!("file:web={}", folder.0.join("b.log").display())]);
}
