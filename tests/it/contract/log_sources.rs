//! Log sources: container selection, text files and their rotation, and reported reasons for unreadable sources.

use std::fs::{File, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};

use crate::support::harness::{Service, Setup, TempDir, root_or_skip};
use crate::support::logs::{
    Container, assert_eventually_eq, container_status, export_entries, message_lines, wait_for_entry_count,
};

/// Wrapper that drops the capabilities with which root bypasses file permissions.
const WITHOUT_DAC_OVERRIDE: [&str; 3] = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"];
const OTHER_UID: u32 = 65_534;

fn data_dir_with_containers() -> Arc<TempDir> {
    let data_dir = Arc::new(TempDir::new());
    std::fs::create_dir(data_dir.path().join("containers")).unwrap();
    data_dir
}

/// Gives a path to another user and removes (`locked`) or grants access for everybody else.
fn set_locked(path: &Path, locked: bool) {
    chown(path, Some(OTHER_UID), Some(OTHER_UID)).unwrap();
    let readable = if path.is_dir() { 0o755 } else { 0o644 };
    std::fs::set_permissions(path, Permissions::from_mode(if locked { readable & 0o710 } else { readable })).unwrap();
}

/// Returns the warnings of `/health`, once `/api/logs/containers` lists the same; empty until then.
fn warnings(viewer: &Service) -> Vec<String> {
    let health = viewer.get("/health").expect(200).has(json!({ "status": "ok" })).json();
    let listed = viewer.get("/api/logs/containers").expect(200).json();
    let strings = |list: &Value, text: fn(&Value) -> &Value| -> Vec<String> {
        list.as_array().into_iter().flatten().map(|item| text(item).as_str().unwrap().to_owned()).collect()
    };
    let warnings = strings(&health["warnings"], |warning| &warning["message"]);
    if warnings == strings(&listed["troubles"], |trouble| trouble) { warnings } else { Vec::new() }
}

#[test]
fn missing_source_is_reported_until_it_exists() {
    let data_dir = Arc::new(TempDir::new());
    let viewer = Setup::log_viewer().data_dir(&data_dir).env("LOG_SOURCES", "nowhere,containers").start();
    let missing = |name: &str| format!("{name} not found: mount it, or set LOG_SOURCES");
    assert_eventually_eq(&vec![missing("nowhere"), missing("containers")], || warnings(&viewer));
    let web = Container::new(&data_dir, "web");
    web.write_lines([("2026-01-31T12:00:00Z", "stdout", "hello\n")]);
    assert_eventually_eq(&vec![missing("nowhere")], || warnings(&viewer));
    wait_for_entry_count(&viewer, "web", 1);
    std::fs::create_dir(data_dir.path().join("nowhere")).unwrap();
    assert_eventually_eq(&Vec::<String>::new(), || warnings(&viewer));
}

#[test]
fn unreadable_source_is_reported_until_it_is_readable() {
    if !root_or_skip("changing the owner of files") {
        return;
    }
    let data_dir = data_dir_with_containers();
    let containers = data_dir.path().join("containers");
    set_locked(&containers, true);
    let viewer = Setup::log_viewer().data_dir(&data_dir).wrapped_by(&WITHOUT_DAC_OVERRIDE).start();
    let reason = "permission denied; run as root or with the capability CAP_DAC_READ_SEARCH";
    assert_eventually_eq(&vec![format!("cannot read containers: {reason}")], || warnings(&viewer));
    set_locked(&containers, false);
    assert_eventually_eq(&Vec::<String>::new(), || warnings(&viewer));

    for part in ["log", "config.v2.json", "folder"] {
        let mut container = Container::new_hidden(&data_dir, part);
        container.write_lines([("2026-01-31T12:00:00Z", "stdout", "hello\n")]);
        let locked_path = |container: &Container| match part {
            "log" => container.log_path(),
            "folder" => container.dir().to_owned(),
            file => container.dir().join(file),
        };
        set_locked(&locked_path(&container), true);
        container.publish(&data_dir);
        // The name is in config.v2.json, so without it the container is listed by its short ID.
        let listed_name = if part == "log" { part.to_owned() } else { container.short_id() };
        assert_eventually_eq(&true, || {
            container_status(&viewer, &listed_name)["reason"].as_str().unwrap_or_default().contains(reason)
        });
        assert_eq!(container_status(&viewer, &listed_name)["followed"], json!(false), "{part}");
        set_locked(&locked_path(&container), false);
        wait_for_entry_count(&viewer, part, 1);
        assert_eq!(container_status(&viewer, part)["followed"], json!(true), "{part}");
    }
}

#[test]
fn containers_setting_selects_containers_by_name() {
    let data_dir = data_dir_with_containers();
    let containers: Vec<Container> = ["web", "web-1", "shop_web_1", "db", "dbx", "cache"]
        .iter()
        .map(|name| Container::new(&data_dir, name))
        .collect();
    let write = |text: &str| {
        containers.iter().for_each(|container| container.write_lines([("2026-01-31T12:00:00Z", "stdout", text)]));
    };
    write("one\n");
    let viewer = Setup::log_viewer().data_dir(&data_dir).env("CONTAINERS", "web*, *_1 ,db").start();
    let counts = || -> Vec<(String, i64)> {
        let response = viewer.get("/api/logs/containers").expect(200).json();
        let count = |container: &Value| {
            (container["name"].as_str().unwrap().to_owned(), container["log_count"].as_i64().unwrap())
        };
        response["containers"].as_array().unwrap().iter().map(count).collect()
    };
    let expected = |count: i64| ["db", "shop_web_1", "web", "web-1"].map(|name| (name.to_owned(), count)).to_vec();
    assert_eventually_eq(&expected(1), counts);
    write("two\n");
    Container::new(&data_dir, "other").write_lines([("2026-01-31T12:00:00Z", "stdout", "no\n")]);
    Container::new(&data_dir, "webber").write_lines([("2026-01-31T12:00:00Z", "stdout", "yes\n")]);
    wait_for_entry_count(&viewer, "webber", 1);
    let mut all = expected(2);
    all.push(("webber".to_owned(), 1));
    assert_eventually_eq(&all, counts);
}

#[test]
fn log_files_setting_requires_name_and_path() {
    for files in ["app", "app=", "=app.log", "app=a.log,b"] {
        let (code, output) = Setup::log_viewer().env("LOG_FILES", files).run_to_exit();
        assert!(code == Some(2) && output.contains("LOG_FILES") && output.contains("name=path"), "{files}: {output}");
    }
}

/// Text log file with the rotation schemes of common tools.
struct TextLog(PathBuf);

impl TextLog {
    fn path(&self, suffix: &str) -> PathBuf {
        PathBuf::from(format!("{}{suffix}", self.0.display()))
    }

    fn append(&self, suffix: &str, text: &str) {
        let mut file = File::options().create(true).append(true).open(self.path(suffix)).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    fn rename(&self, from: &str, to: &str) {
        std::fs::rename(self.path(from), self.path(to)).unwrap();
    }

    fn compress(&self, suffix: &str) {
        let file = File::create(self.path(&format!("{suffix}.gz"))).unwrap();
        let mut encoder = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
        encoder.write_all(&std::fs::read(self.path(suffix)).unwrap()).unwrap();
        encoder.finish().unwrap();
        std::fs::remove_file(self.path(suffix)).unwrap();
    }

    fn copy_and_truncate(&self, to: &str) {
        std::fs::copy(self.path(""), self.path(to)).unwrap();
        File::options().write(true).open(self.path("")).unwrap().set_len(0).unwrap();
    }
}

/// Log viewer that follows `app.log`, with the lines it should have stored.
struct Fixture {
    data_dir: Arc<TempDir>,
    viewer: Service,
    expected: Vec<String>,
}

impl Fixture {
    fn start(data_dir: &Arc<TempDir>) -> Self {
        Self { data_dir: Arc::clone(data_dir), viewer: Self::start_viewer(data_dir), expected: Vec::new() }
    }

    fn start_viewer(data_dir: &Arc<TempDir>) -> Service {
        Setup::log_viewer().data_dir(data_dir).env("LOG_FILES", "app=app.log, later=later.log").start()
    }

    /// Stops the viewer, runs `while_stopped`, and starts it again.
    fn restart(self, while_stopped: impl Fn()) -> Self {
        self.viewer.stop();
        while_stopped();
        Self { viewer: Self::start_viewer(&self.data_dir), ..self }
    }

    /// Waits until exactly the expected lines, including these new ones, are stored.
    #[track_caller]
    fn expect_lines(&mut self, new: &[&str]) {
        self.expected.extend(new.iter().map(|line| (*line).to_owned()));
        assert_eventually_eq(&self.expected, || {
            message_lines(&export_entries(&self.viewer, "container=app")).into_iter().map(str::to_owned).collect()
        });
        self.viewer.get("/api/logs/stats").expect(200).has(json!({ "gaps": 0 }));
    }
}

#[test]
fn text_file_is_followed_through_rename_and_compression() {
    let data_dir = Arc::new(TempDir::new());
    let log = TextLog(data_dir.path().join("app.log"));
    log.append(".1", "compressed\n");
    log.compress(".1");
    log.append("", "one\n[ERROR] two\n");
    let mut fixture = Fixture::start(&data_dir);
    fixture.expect_lines(&["compressed", "one", "[ERROR] two"]);
    assert_eq!(export_entries(&fixture.viewer, "level=ERROR").len(), 1);
    let later = fixture.data_dir.path().join("later.log").display().to_string();
    assert_eq!(
        warnings(&fixture.viewer),
        [format!("{later} does not exist (yet)")],
        "without Docker, the default source must cause no warning"
    );
    log.append("", "th");
    log.append("", "ree\n");
    fixture.expect_lines(&["three"]);
    // The writing program still has the renamed file open.
    log.rename(".1.gz", ".2.gz");
    log.rename("", ".1");
    log.append(".1", "late\n");
    log.append("", "four\n");
    fixture.expect_lines(&["late", "four"]);
    fixture = fixture.restart(|| {
        log.append("", "five\n");
        for (from, to) in [(".2.gz", ".3.gz"), (".1", ".2"), ("", ".1")] {
            log.rename(from, to);
        }
        log.compress(".1");
        log.append("", "six\n");
    });
    fixture.expect_lines(&["five", "six"]);
    std::fs::remove_file(log.path("")).unwrap();
    log.append("", "seven\n");
    fixture.expect_lines(&["seven"]);
    std::fs::write(data_dir.path().join("later.log"), "created later\n").unwrap();
    wait_for_entry_count(&fixture.viewer, "later", 1);
}

#[test]
fn text_file_is_followed_through_copytruncate() {
    let data_dir = Arc::new(TempDir::new());
    let log = TextLog(data_dir.path().join("app.log"));
    let mut fixture = Fixture::start(&data_dir);
    fixture.expect_lines(&[]);
    log.append("", "one\ntwo\n");
    fixture.expect_lines(&["one", "two"]);
    log.append("", "three\n");
    log.copy_and_truncate(".1");
    log.append("", "four\n");
    fixture.expect_lines(&["three", "four"]);
    log.compress(".1");
    log.rename(".1.gz", ".2.gz");
    log.copy_and_truncate(".1");
    log.append("", "five, which is longer than what was there\n");
    fixture.expect_lines(&["five, which is longer than what was there"]);
    fixture = fixture.restart(|| {
        log.append("", "six\n");
        log.rename(".2.gz", ".3.gz");
        log.rename(".1", ".2");
        log.copy_and_truncate(".1");
        log.append("", "seven\n");
    });
    fixture.expect_lines(&["six", "seven"]);
    log.append("", "ei\u{0}ght \u{1b}[1mbold\u{1b}[0m\r\n");
    fixture.expect_lines(&["eight \u{1b}[1mbold\u{1b}[0m"]);
}

#[test]
fn rotation_with_date_suffixes_is_supported() {
    let data_dir = Arc::new(TempDir::new());
    let log = TextLog(data_dir.path().join("app.log"));
    let start = || Setup::log_viewer().data_dir(&data_dir).env("LOG_FILES", "app=app.log").start();
    log.append("-20260130", "one\n");
    log.compress("-20260130");
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
        log.compress(day);
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
fn first_start_reads_the_last_whole_lines_within_tail_buffer() {
    let data_dir = data_dir_with_containers();
    let text: String = (0..1_000).map(|n| format!("line {n:04}\n")).collect();
    std::fs::write(data_dir.path().join("app.log"), &text).unwrap();
    let web = Container::new(&data_dir, "web");
    web.write_numbered_lines(0..1_000);
    let with_files = |setup: Setup| setup.data_dir(&data_dir).env("LOG_FILES", "app=app.log");
    // The buffer covers ten whole lines and part of an eleventh.
    let viewer = with_files(Setup::log_viewer()).env("TAIL_BUFFER", 105).start();
    wait_for_entry_count(&viewer, "app", 10);
    assert_eq!(export_entries(&viewer, "container=app")[0].message, "line 0990");
    assert_eventually_eq(&json!("line 999"), || {
        viewer.get("/api/logs?container=web").json()["logs"][0]["message"].clone()
    });
    let before = export_entries(&viewer, "container=web").len();
    assert!((1..=2).contains(&before), "{before}");
    // A container that appears while the viewer runs is read from its beginning.
    Container::new(&data_dir, "new").write_numbered_lines(0..1_000);
    wait_for_entry_count(&viewer, "new", 1_000);
    viewer.stop();
    let viewer = with_files(Setup::log_viewer()).start();
    web.write_numbered_lines(1_000..1_001);
    assert_eventually_eq(&(before + 1), || export_entries(&viewer, "container=web").len());
    wait_for_entry_count(&viewer, "app", 10);
}

#[test]
fn entries_get_the_level_of_their_lines() {
    let data_dir = data_dir_with_containers();
    let web = Container::new(&data_dir, "web");
    let long = "z".repeat(16_384);
    let at = "2026-01-31T12:00:00Z";
    web.write_lines([
        (at, "stdout", "{\"level\":30,\"msg\":\"pino\"}\n"),
        (at, "stdout", "{\"severity\":\"CRITICAL\",\"message\":\"cloud\"}\n"),
        (at, "stderr", "2026/01/31 12:00:00 go's log is on stderr\n"),
        (at, "stdout", "127.0.0.1 - - [31/Jan/2026:12:00:00 +0000] \"GET / HTTP/1.1\" 502 157 \"-\" \"curl/8\"\n"),
        (at, "stderr", "E0131 12:00:00.000000       1 main.go:7] klog\n"),
        ("2026-01-31T12:00:01Z", "stderr", "plain\n"),
        (at, "stdout", "plain\n"),
        (at, "stdout", long.as_str()),
        (at, "stderr", "panic: boom\n"),
        (at, "stdout", "the end of a long line\n"),
        (at, "stderr", "\n"),
        (at, "stderr", "goroutine 1 [running]:\n"),
        (at, "stderr", "main.main()\n"),
        (at, "stderr", "\t/app/main.go:7 +0x1d\n"),
        (at, "stdout", "\u{1b}[33mWARN\u{1b}[0m colors\r\n"),
    ]);
    let viewer = Setup::log_viewer().data_dir(&data_dir).start();
    let expected: Vec<(String, String, usize)> = [
        ("stdout", "INFO", 1),
        ("stdout", "CRITICAL", 1),
        ("stderr", "INFO", 1),
        ("stdout", "ERROR", 1),
        ("stderr", "ERROR", 1),
        ("stderr", "INFO", 1),
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
        let fields = entries.into_iter().map(|entry| (entry.stream, entry.level, entry.message.split('\n').count()));
        sorted(fields.collect())
    });
    let joined = viewer.get("/api/logs?search=zz*").expect(200).json();
    let whole = viewer.get(&format!("/api/logs/{}", joined["logs"][0]["id"])).expect(200).json();
    assert_eq!(whole["message"], format!("{long}the end of a long line"));
}
