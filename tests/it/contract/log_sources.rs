//! What is followed: containers by name, text files through their rotations, and the reason where something is not.

use std::fs::{File, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};

use crate::harness::{Service, Setup, TempDir, root_or_skip};
use crate::logs::{
    Container, assert_eventually_eq, container_status, export_entries, message_lines, wait_for_entry_count,
};

/// Root, but held to what files allow.
const HELD_TO_PERMISSIONS: [&str; 3] = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"];
const SOMEONE: u32 = 65_534;

fn folder_with_containers() -> Arc<TempDir> {
    let folder = Arc::new(TempDir::new());
    std::fs::create_dir(folder.path().join("containers")).unwrap();
    folder
}

/// Makes something another user's, who lets nobody else at it, or lets everybody.
fn lock(path: &Path, locked: bool) {
    chown(path, Some(SOMEONE), Some(SOMEONE)).unwrap();
    let readable = if path.is_dir() { 0o755 } else { 0o644 };
    std::fs::set_permissions(path, Permissions::from_mode(if locked { readable & 0o710 } else { readable })).unwrap();
}

/// What health warns of, which the list of containers says as well.
fn troubles(viewer: &Service) -> Vec<String> {
    let health = viewer.get("/health").expect(200).has(json!({ "status": "ok" })).json();
    let listed = viewer.get("/api/logs/containers").expect(200).json();
    let texts = |list: &Value| -> Vec<String> {
        list.as_array().into_iter().flatten().map(|text| text.as_str().unwrap().to_owned()).collect()
    };
    if texts(&health["warnings"]) == texts(&listed["troubles"]) { texts(&listed["troubles"]) } else { Vec::new() }
}

#[test]
fn a_folder_that_is_not_there_is_told_of_until_it_is() {
    let folder = Arc::new(TempDir::new());
    let viewer = Setup::log_viewer().data_dir(&folder).env("LOG_SOURCES", "nowhere,containers").start();
    let missing = |name: &str| format!("{name} is not there: mount it, or set LOG_SOURCES");
    assert_eventually_eq(&vec![missing("nowhere"), missing("containers")], || troubles(&viewer));
    let web = Container::new(&folder, "web");
    web.write_lines([("2026-01-31T12:00:00Z", "stdout", "hello\n")]);
    assert_eventually_eq(&vec![missing("nowhere")], || troubles(&viewer));
    wait_for_entry_count(&viewer, "web", 1);
    std::fs::create_dir(folder.path().join("nowhere")).unwrap();
    assert_eventually_eq(&Vec::<String>::new(), || troubles(&viewer));
}

#[test]
fn what_may_not_be_read_says_so_until_it_may() {
    if !root_or_skip("files of another user") {
        return;
    }
    let folder = folder_with_containers();
    let containers = folder.path().join("containers");
    lock(&containers, true);
    let viewer = Setup::log_viewer().data_dir(&folder).wrapped_by(&HELD_TO_PERMISSIONS).start();
    let why = "cannot be read: it needs root, or the capability DAC_READ_SEARCH";
    assert_eventually_eq(&vec![format!("containers {why}")], || troubles(&viewer));
    lock(&containers, false);
    assert_eventually_eq(&Vec::<String>::new(), || troubles(&viewer));

    for what in ["log", "config.v2.json", "folder"] {
        let mut made = Container::new_hidden(&folder, what);
        made.write_lines([("2026-01-31T12:00:00Z", "stdout", "hello\n")]);
        let locked = |made: &Container| match what {
            "log" => made.log_path(),
            "folder" => made.dir().to_owned(),
            file => made.dir().join(file),
        };
        lock(&locked(&made), true);
        made.publish(&folder);
        let shown = if what == "log" { what.to_owned() } else { made.short_id() };
        assert_eventually_eq(&true, || {
            container_status(&viewer, &shown)["reason"].as_str().unwrap_or_default().contains(why)
        });
        assert_eq!(container_status(&viewer, &shown)["followed"], json!(false), "{what}");
        lock(&locked(&made), false);
        wait_for_entry_count(&viewer, what, 1);
        assert_eq!(container_status(&viewer, what)["followed"], json!(true), "{what}");
    }
}

#[test]
fn only_the_containers_wanted_are_followed() {
    let folder = folder_with_containers();
    let made: Vec<Container> =
        ["web", "web-1", "shop_web_1", "db", "dbx", "cache"].iter().map(|name| Container::new(&folder, name)).collect();
    let write = |text: &str| made.iter().for_each(|one| one.write_lines([("2026-01-31T12:00:00Z", "stdout", text)]));
    write("one\n");
    let viewer = Setup::log_viewer().data_dir(&folder).env("CONTAINERS", "web*, *_1 ,db").start();
    let names = || -> Vec<(String, i64)> {
        let response = viewer.get("/api/logs/containers").expect(200).json();
        let pair = |one: &Value| (one["name"].as_str().unwrap().to_owned(), one["log_count"].as_i64().unwrap());
        response["containers"].as_array().unwrap().iter().map(pair).collect()
    };
    let expected = |count: i64| ["db", "shop_web_1", "web", "web-1"].map(|name| (name.to_owned(), count)).to_vec();
    assert_eventually_eq(&expected(1), names);
    write("two\n");
    Container::new(&folder, "other").write_lines([("2026-01-31T12:00:00Z", "stdout", "no\n")]);
    Container::new(&folder, "webber").write_lines([("2026-01-31T12:00:00Z", "stdout", "yes\n")]);
    wait_for_entry_count(&viewer, "webber", 1);
    let mut all = expected(2);
    all.push(("webber".to_owned(), 1));
    assert_eventually_eq(&all, names);
}

#[test]
fn files_are_named_in_pairs() {
    for files in ["app", "app=", "=app.log", "app=a.log,b"] {
        let (code, said) = Setup::log_viewer().env("LOG_FILES", files).run_to_exit();
        assert!(code == Some(2) && said.contains("LOG_FILES") && said.contains("name=path"), "{files}: {said}");
    }
}

/// A text file that is rotated as people do.
struct TextLog(PathBuf);

impl TextLog {
    fn at(&self, suffix: &str) -> PathBuf {
        PathBuf::from(format!("{}{suffix}", self.0.display()))
    }

    fn append(&self, suffix: &str, text: &str) {
        let mut file = File::options().create(true).append(true).open(self.at(suffix)).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    fn rename(&self, from: &str, to: &str) {
        std::fs::rename(self.at(from), self.at(to)).unwrap();
    }

    fn pack(&self, suffix: &str) {
        let packed = File::create(self.at(&format!("{suffix}.gz"))).unwrap();
        let mut packed = flate2::write::GzEncoder::new(packed, flate2::Compression::fast());
        packed.write_all(&std::fs::read(self.at(suffix)).unwrap()).unwrap();
        packed.finish().unwrap();
        std::fs::remove_file(self.at(suffix)).unwrap();
    }

    fn copy_and_truncate(&self, to: &str) {
        std::fs::copy(self.at(""), self.at(to)).unwrap();
        File::options().write(true).open(self.at("")).unwrap().set_len(0).unwrap();
    }
}

/// A viewer that follows `app.log`, and what it should have by now.
struct Following {
    folder: Arc<TempDir>,
    viewer: Service,
    expected: Vec<String>,
}

impl Following {
    fn start(folder: &Arc<TempDir>) -> Self {
        Self { folder: Arc::clone(folder), viewer: Self::viewer(folder), expected: Vec::new() }
    }

    fn viewer(folder: &Arc<TempDir>) -> Service {
        Setup::log_viewer().data_dir(folder).env("LOG_FILES", "app=app.log, later=later.log").start()
    }

    fn away(self, meanwhile: impl Fn()) -> Self {
        self.viewer.stop();
        meanwhile();
        Self { viewer: Self::viewer(&self.folder), ..self }
    }

    #[track_caller]
    fn reads(&mut self, more: &[&str]) {
        self.expected.extend(more.iter().map(|line| (*line).to_owned()));
        assert_eventually_eq(&self.expected, || {
            message_lines(&export_entries(&self.viewer, "container=app")).into_iter().map(str::to_owned).collect()
        });
        self.viewer.get("/api/logs/stats").expect(200).has(json!({ "gaps": 0 }));
    }
}

#[test]
fn a_text_file_is_followed_while_it_is_renamed_and_packed() {
    let folder = Arc::new(TempDir::new());
    let log = TextLog(folder.path().join("app.log"));
    log.append(".1", "packed away\n");
    log.pack(".1");
    log.append("", "one\n[ERROR] two\n");
    let mut following = Following::start(&folder);
    following.reads(&["packed away", "one", "[ERROR] two"]);
    assert_eq!(export_entries(&following.viewer, "level=ERROR").len(), 1);
    assert_eq!(troubles(&following.viewer), Vec::<String>::new(), "without Docker there is nothing to complain of");
    log.append("", "th");
    log.append("", "ree\n");
    following.reads(&["three"]);
    // Whoever writes has not noticed yet.
    log.rename(".1.gz", ".2.gz");
    log.rename("", ".1");
    log.append(".1", "late\n");
    log.append("", "four\n");
    following.reads(&["late", "four"]);
    following = following.away(|| {
        log.append("", "five\n");
        for (from, to) in [(".2.gz", ".3.gz"), (".1", ".2"), ("", ".1")] {
            log.rename(from, to);
        }
        log.pack(".1");
        log.append("", "six\n");
    });
    following.reads(&["five", "six"]);
    std::fs::remove_file(log.at("")).unwrap();
    log.append("", "seven\n");
    following.reads(&["seven"]);
    std::fs::write(folder.path().join("later.log"), "at last\n").unwrap();
    wait_for_entry_count(&following.viewer, "later", 1);
}

#[test]
fn a_text_file_is_followed_while_it_is_copied_and_cut() {
    let folder = Arc::new(TempDir::new());
    let log = TextLog(folder.path().join("app.log"));
    let mut following = Following::start(&folder);
    following.reads(&[]);
    log.append("", "one\ntwo\n");
    following.reads(&["one", "two"]);
    log.append("", "three\n");
    log.copy_and_truncate(".1");
    log.append("", "four\n");
    following.reads(&["three", "four"]);
    log.pack(".1");
    log.rename(".1.gz", ".2.gz");
    log.copy_and_truncate(".1");
    log.append("", "five, which is longer than what was there\n");
    following.reads(&["five, which is longer than what was there"]);
    following = following.away(|| {
        log.append("", "six\n");
        log.rename(".2.gz", ".3.gz");
        log.rename(".1", ".2");
        log.copy_and_truncate(".1");
        log.append("", "seven\n");
    });
    following.reads(&["six", "seven"]);
    log.append("", "ei\u{0}ght \u{1b}[1mbold\u{1b}[0m\r\n");
    following.reads(&["ei\u{0}ght \u{1b}[1mbold\u{1b}[0m"]);
}

#[test]
fn files_may_be_rotated_to_the_names_of_days() {
    let folder = Arc::new(TempDir::new());
    let log = TextLog(folder.path().join("app.log"));
    let start = || Setup::log_viewer().data_dir(&folder).env("LOG_FILES", "app=app.log").start();
    log.append("-20260130", "one\n");
    log.pack("-20260130");
    log.append("", "two\n");
    let mut viewer = start();
    wait_for_entry_count(&viewer, "app", 2);
    log.rename("", "-20260131");
    log.append("", "three\n");
    wait_for_entry_count(&viewer, "app", 3);
    viewer.stop();
    for day in ["-20260201", "-20260202"] {
        log.append("", &format!("before {day}\n"));
        log.rename("", day);
        log.pack(day);
    }
    log.append("", "four\n");
    viewer = start();
    let expected = ["one", "two", "three", "before -20260201", "before -20260202", "four"].map(str::to_owned);
    assert_eventually_eq(&expected.to_vec(), || {
        message_lines(&export_entries(&viewer, "")).into_iter().map(str::to_owned).collect()
    });
    viewer.get("/api/logs/stats").expect(200).has(json!({ "gaps": 0 }));
}

#[test]
fn the_first_start_reads_the_end_of_a_log_from_a_lines_beginning() {
    let folder = folder_with_containers();
    let text: String = (0..1_000).map(|n| format!("line {n:04}\n")).collect();
    std::fs::write(folder.path().join("app.log"), &text).unwrap();
    let web = Container::new(&folder, "web");
    web.write_numbered_lines(0..1_000);
    let files = |setup: Setup| setup.data_dir(&folder).env("LOG_FILES", "app=app.log");
    // Ten whole lines and a part of one.
    let viewer = files(Setup::log_viewer()).env("TAIL_BUFFER", 105).start();
    wait_for_entry_count(&viewer, "app", 10);
    assert_eq!(export_entries(&viewer, "container=app")[0].message, "line 0990");
    assert_eventually_eq(&json!("line 999"), || {
        viewer.get("/api/logs?container=web").json()["logs"][0]["message"].clone()
    });
    let before = export_entries(&viewer, "container=web").len();
    assert!((1..=2).contains(&before), "{before}");
    // What is new while it runs is new from its beginning.
    Container::new(&folder, "new").write_numbered_lines(0..1_000);
    wait_for_entry_count(&viewer, "new", 1_000);
    viewer.stop();
    let viewer = files(Setup::log_viewer()).start();
    web.write_numbered_lines(1_000..1_001);
    assert_eventually_eq(&(before + 1), || export_entries(&viewer, "container=web").len());
    wait_for_entry_count(&viewer, "app", 10);
}

#[test]
fn lines_become_entries_with_the_level_they_state() {
    let folder = folder_with_containers();
    let web = Container::new(&folder, "web");
    let long = "z".repeat(16_384);
    let at = "2026-01-31T12:00:00Z";
    web.write_lines([
        (at, "stdout", "{\"level\":30,\"msg\":\"pino\"}\n"),
        (at, "stdout", "{\"severity\":\"CRITICAL\",\"message\":\"cloud\"}\n"),
        (at, "stderr", "2026/01/31 12:00:00 go's log is on stderr\n"),
        (at, "stdout", "127.0.0.1 - - [31/Jan/2026:12:00:00 +0000] \"GET / HTTP/1.1\" 502 157 \"-\" \"curl/8\"\n"),
        (at, "stderr", "E0131 12:00:00.000000       1 main.go:7] klog\n"),
        (at, "stderr", "plain\n"),
        (at, "stdout", "plain\n"),
        (at, "stdout", long.as_str()),
        (at, "stderr", "panic: boom\n"),
        (at, "stdout", "the end of a long line\n"),
        (at, "stderr", "\n"),
        (at, "stderr", "goroutine 1 [running]:\n"),
        (at, "stderr", "main.main()\n"),
        (at, "stderr", "\t/app/main.go:7 +0x1d\n"),
        (at, "stdout", "\u{1b}[33mWARN\u{1b}[0m colours\r\n"),
    ]);
    let viewer = Setup::log_viewer().data_dir(&folder).start();
    let expected: Vec<(String, String, usize)> = [
        ("stdout", "INFO", 1),
        ("stdout", "CRITICAL", 1),
        ("stderr", "INFO", 1),
        ("stdout", "ERROR", 1),
        ("stderr", "ERROR", 1),
        ("stderr", "ERROR", 1),
        ("stdout", "INFO", 1),
        ("stdout", "INFO", 1),
        ("stderr", "CRITICAL", 5),
        ("stdout", "WARNING", 1),
    ]
    .map(|(stream, level, lines)| (stream.to_owned(), level.to_owned(), lines))
    .into();
    let sorted = |mut entries: Vec<(String, String, usize)>| {
        entries.sort();
        entries
    };
    assert_eventually_eq(&sorted(expected), || {
        let entries = export_entries(&viewer, "");
        sorted(entries.into_iter().map(|one| (one.stream, one.level, one.message.split('\n').count())).collect())
    });
    let joined = viewer.get("/api/logs?search=zz*").expect(200).json();
    assert_eq!(joined["logs"][0]["message"], format!("{long}the end of a long line"));
}
