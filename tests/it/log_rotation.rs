//! The log viewer with real programs that rotate logs, and with what administrators do to log files.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::json;

use crate::support::harness::{Service, Setup, TempDir, free_port, send_signal, wait_until};
use crate::support::logs::{
    Container, assert_eventually_eq, container_status, export_entries, message_lines, wait_for_entry_count,
};
use crate::support::peers;

const NGINX_WORKERS: usize = 8;
const NGINX_ROTATIONS: u32 = 40;
/// Time between two rotations. Each takes place while all workers write.
const NGINX_ROTATION_INTERVAL: Duration = Duration::from_millis(60);
const NGINX_CLIENTS: u64 = 6;
/// Number of requests after which a client pauses, so that debug binaries keep up.
const NGINX_BURST: u64 = 8;
const NGINX_PAUSE: Duration = Duration::from_millis(1);
/// Longer than any test, so that only reported changes lead to a scan.
const NO_POLLING_S: u32 = 3_600;

fn append(path: &Path, text: &str) {
    let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

/// Returns the setup of a viewer that follows files of its data folder, which are named after their logs.
fn viewer_of(data_dir: &Arc<TempDir>, files: &[(&str, &str)]) -> Setup {
    let list: Vec<String> =
        files.iter().map(|(name, file)| format!("{name}={}", data_dir.path().join(file).display())).collect();
    std::fs::create_dir_all(data_dir.path().join("containers")).unwrap();
    // Lines can be written before the first scan.
    let setup = Setup::log_viewer().data_dir(data_dir).env("TAIL_BUFFER", 1_000_000_000);
    setup.env("LOG_FILES", list.join(",")).env("MAX_ENTRIES", 1_000_000)
}

/// Returns all stored lines of a log in order.
fn stored_lines(viewer: &Service, name: &str) -> Vec<String> {
    message_lines(&export_entries(viewer, &format!("container={name}"))).into_iter().map(str::to_owned).collect()
}

/// Running nginx that logs the path of each request, stopped on drop.
struct Nginx {
    master: Child,
    port: u16,
    log: PathBuf,
}

impl Nginx {
    /// Starts nginx; `None` if it is not available.
    fn start(folder: &Path) -> Option<Self> {
        let (port, log) = (free_port(), folder.join("access.log"));
        let config = format!(
            "daemon off; user root; worker_processes {NGINX_WORKERS}; pid {0}/nginx.pid; error_log {0}/error.log;
             events {{ worker_connections 64; }}
             http {{
                 client_body_temp_path {0}/body; proxy_temp_path {0}/proxy; fastcgi_temp_path {0}/fastcgi;
                 uwsgi_temp_path {0}/uwsgi; scgi_temp_path {0}/scgi;
                 log_format path '$request_uri'; access_log {0}/access.log path; keepalive_requests 1000000;
                 server {{ listen 127.0.0.1:{port} reuseport; location / {{ return 204; }} }}
             }}",
            folder.display()
        );
        std::fs::write(folder.join("nginx.conf"), config).unwrap();
        let mut command = peers::command("nginx")?;
        // Before it reads its configuration, nginx writes errors to stderr.
        let error_log = File::create(folder.join("error.log")).unwrap();
        command.arg("-c").arg(folder.join("nginx.conf")).arg("-p").arg(folder).stdin(Stdio::null()).stderr(error_log);
        let nginx = Self { master: command.spawn().unwrap(), port, log };
        let listens = wait_until(|| TcpStream::connect(("127.0.0.1", port)).ok());
        assert!(listens.is_some(), "{}", std::fs::read_to_string(folder.join("error.log")).unwrap());
        Some(nginx)
    }

    /// Sends requests with increasing numbers from several clients until `is_done`. Returns the number of requests.
    fn load(&self, is_done: &AtomicBool) -> u64 {
        let next = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..NGINX_CLIENTS {
                scope.spawn(|| {
                    let mut client = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
                    for sent in 1.. {
                        if is_done.load(Ordering::Relaxed) {
                            break;
                        }
                        if sent % NGINX_BURST == 0 {
                            std::thread::sleep(NGINX_PAUSE);
                        }
                        let request =
                            format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", next.fetch_add(1, Ordering::Relaxed));
                        client.write_all(request.as_bytes()).unwrap();
                        let mut response = Vec::new();
                        while !response.ends_with(b"\r\n\r\n") {
                            let mut part = [0; 512];
                            let read = client.read(&mut part).unwrap();
                            assert!(read > 0, "nginx closed the connection");
                            response.extend_from_slice(&part[..read]);
                        }
                    }
                });
            }
        });
        next.into_inner()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        send_signal(self.master.id(), "QUIT");
        let _ = self.master.wait();
    }
}

#[test]
fn every_request_to_nginx_is_stored_once_while_its_log_is_rotated() {
    let runs = std::env::var("MONLIGHT_ROTATION_RUNS").map_or(1, |runs| runs.parse().unwrap());
    for run in 1..=runs {
        let data_dir = Arc::new(TempDir::new());
        let Some(nginx) = Nginx::start(data_dir.path()) else { return };
        let viewer = viewer_of(&data_dir, &[("web", "access.log")]).start();
        let is_done = AtomicBool::new(false);
        let requests = std::thread::scope(|scope| {
            let load = scope.spawn(|| nginx.load(&is_done));
            for rotation in 0..NGINX_ROTATIONS {
                std::thread::sleep(NGINX_ROTATION_INTERVAL);
                let rotated = nginx.log.with_extension(format!("log-20260131-{rotation:02}"));
                std::fs::rename(&nginx.log, rotated).unwrap();
                send_signal(nginx.master.id(), "USR1");
            }
            is_done.store(true, Ordering::Relaxed);
            load.join().unwrap()
        });
        let total = || viewer.get("/api/logs/stats").expect(200).json()["total_logs"].as_u64().unwrap();
        let stored = wait_until(|| (total() >= requests).then_some(()));
        let mut counts: HashMap<String, u32> = HashMap::new();
        for line in stored_lines(&viewer, "web") {
            *counts.entry(line).or_default() += 1;
        }
        let missing: Vec<u64> = (0..requests).filter(|number| !counts.contains_key(&format!("/{number}"))).collect();
        let gaps = viewer.health_number("gaps");
        assert!(
            stored.is_some() && missing.is_empty(),
            "run {run}: {} of {requests} lines are missing, {gaps} gaps: {:?}…; {:#?}",
            missing.len(),
            &missing[..missing.len().min(10)],
            viewer.log()
        );
        assert!(counts.values().all(|count| *count == 1) && counts.len() as u64 == requests);
        assert_eq!(gaps, 0);
        eprintln!(
            "log_rotation: nginx, run {run}: {requests} lines, {NGINX_ROTATIONS} rotations, 0 lost, 0 duplicated"
        );
    }
}

/// Modes of logrotate, by the name of the log.
const LOGROTATE_MODES: [(&str, &str); 9] = [
    ("create", "create"),
    ("nocreate", "nocreate"),
    ("copytruncate", "copytruncate"),
    ("compress", "create\ncompress"),
    ("delaycompress", "create\ncompress\ndelaycompress"),
    ("dateext", "create\ndateext\ndateformat -%Y%m%d-%s"),
    ("datecompress", "create\ncompress\ndateext\ndateformat .%Y-%m-%d-%s"),
    ("extension", "create\nextension .log"),
    ("olddir", "create\nolddir old\ncreateolddir 755"),
];
/// Names that other programs give to a rotated `NAME.log`, in the order of two rotations.
const OTHER_NAMES: [(&str, [&str; 2]); 5] = [
    ("python", ["python.log.2026-01-30", "python.log.2026-01-31"]),
    ("pythonhours", ["pythonhours.log.2026-01-30_22", "pythonhours.log.2026-01-30_23"]),
    ("logback", ["logback.2026-01-30.0.log", "logback.2026-01-30.1.log"]),
    ("lumberjack", ["lumberjack-2026-01-30T12-00-00.000.log", "lumberjack-2026-01-30T13-00-00.000.log"]),
    ("log4j", ["log4j-1.log", "log4j-2.log"]),
];

/// Logs that are rotated in all modes.
struct RotatedLogs {
    data_dir: Arc<TempDir>,
    rotations: usize,
    lines: u32,
}

impl RotatedLogs {
    fn names() -> impl Iterator<Item = &'static str> {
        LOGROTATE_MODES.iter().map(|(name, _)| *name).chain(OTHER_NAMES.iter().map(|(name, _)| *name))
    }

    fn path_of(&self, file: &str) -> PathBuf {
        self.data_dir.path().join(file)
    }

    fn write_config(&self) {
        let entry = |(name, mode): &(&str, &str)| {
            format!("{} {{\nrotate 9\nsu root root\n{mode}\n}}\n", self.path_of(&format!("{name}.log")).display())
        };
        let config: String = LOGROTATE_MODES.iter().map(entry).collect();
        std::fs::write(self.path_of("logrotate.conf"), config).unwrap();
    }

    /// Appends a few lines to every log. All logs begin with the same line after a rotation.
    fn write(&mut self) {
        let lines: String = (1..=5).map(|number| format!("line {}\n", self.lines + number)).collect();
        for name in Self::names() {
            let path = self.path_of(&format!("{name}.log"));
            let is_empty = std::fs::metadata(&path).map_or(true, |file| file.len() == 0);
            append(&path, &format!("{}{lines}", if is_empty { "=== head ===\n" } else { "" }));
        }
        self.lines += 5;
    }

    fn rotate(&mut self) {
        // The date of a file's name has a resolution of one second.
        let second = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let last = second();
        wait_until(|| (second() > last).then_some(())).unwrap();
        let mut logrotate = peers::command("logrotate").unwrap();
        logrotate.arg("-f").arg("-s").arg(self.path_of("logrotate.state")).arg(self.path_of("logrotate.conf"));
        let output = logrotate.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        for (name, rotated) in OTHER_NAMES {
            std::fs::rename(self.path_of(&format!("{name}.log")), self.path_of(rotated[self.rotations % 2])).unwrap();
        }
        self.rotations += 1;
    }

    /// Asserts that a viewer has all lines of all logs.
    fn assert_stored(&self, viewer: &Service) {
        let numbered: Vec<String> = (1..=self.lines).map(|number| format!("line {number}")).collect();
        for name in Self::names() {
            let read = || -> Vec<String> {
                let lines = stored_lines(viewer, name);
                lines.into_iter().filter(|line| line != "=== head ===").collect()
            };
            let stored = wait_until(|| (read().len() >= numbered.len()).then_some(()));
            assert!(stored.is_some() && read() == numbered, "{name}: {:?} {:#?}", read(), viewer.log());
        }
        assert_eq!(viewer.health_number("gaps"), 0);
    }
}

#[test]
fn lines_are_stored_once_in_all_modes_of_rotation() {
    if peers::find_program("logrotate").is_none() {
        return;
    }
    let mut logs = RotatedLogs { data_dir: Arc::new(TempDir::new()), rotations: 0, lines: 0 };
    logs.write_config();
    let files: Vec<(&str, String)> = RotatedLogs::names().map(|name| (name, format!("{name}.log"))).collect();
    let files: Vec<(&str, &str)> = files.iter().map(|(name, file)| (*name, file.as_str())).collect();
    let start = |logs: &RotatedLogs| viewer_of(&logs.data_dir, &files).start();
    let viewer = start(&logs);
    logs.write();
    logs.assert_stored(&viewer);
    // Twice while the viewer is stopped.
    viewer.kill();
    for _ in 0..2 {
        logs.write();
        logs.rotate();
        logs.write();
    }
    let viewer = start(&logs);
    logs.assert_stored(&viewer);
    logs.write();
    logs.rotate();
    logs.write();
    logs.assert_stored(&viewer);
}

#[test]
fn a_file_is_followed_after_its_folder_was_deleted_or_moved() {
    let data_dir = Arc::new(TempDir::new());
    let folder = data_dir.path().join("a/b");
    let viewer = viewer_of(&data_dir, &[("app", "a/b/app.log")]).env("POLL_INTERVAL", NO_POLLING_S).start();
    let mut expected = Vec::new();
    for change in ["missing", "deleted", "moved"] {
        match change {
            "deleted" => std::fs::remove_dir_all(folder.parent().unwrap()).unwrap(),
            "moved" => std::fs::rename(&folder, folder.with_extension("old")).unwrap(),
            _ => {}
        }
        std::fs::create_dir_all(&folder).unwrap();
        for number in 1..=2 {
            expected.push(format!("{change} {number}"));
            append(&folder.join("app.log"), &format!("{change} {number}\n"));
            assert_eventually_eq(&expected, || stored_lines(&viewer, "app"));
        }
    }
}

#[test]
fn sources_with_gaps_are_named() {
    let data_dir = Arc::new(TempDir::new());
    let container = Container::new(&data_dir, "shop");
    let start = || viewer_of(&data_dir, &[("app", "app.log")]).start();
    let viewer = start();
    append(&data_dir.path().join("app.log"), "line 1\n");
    container.write_numbered_lines(1..=10);
    wait_for_entry_count(&viewer, "shop", 10);
    wait_for_entry_count(&viewer, "app", 1);
    viewer.get("/health").expect(200).has(json!({ "gaps": 0 }));
    viewer.kill();
    // Docker with max-file=1.
    container.write_numbered_lines(11..=15);
    std::fs::remove_file(container.log_path()).unwrap();
    container.write_numbered_lines(16..=20);
    let viewer = start();
    wait_for_entry_count(&viewer, "shop", 15);
    let message = "Lines of shop may be missing: files were deleted, truncated or damaged before they were read";
    let warning = json!({ "code": "lines_missing", "count": 1, "message": message });
    assert_eventually_eq(&json!([warning]), || viewer.get("/health").expect(200).json()["warnings"].clone());
    assert_eq!(container_status(&viewer, "shop")["gaps"], json!(1));
    assert_eq!(container_status(&viewer, "app")["gaps"], json!(0));
    viewer.get("/api/logs/stats").expect(200).has(json!({ "gaps": 1 }));
}

#[test]
fn lines_around_a_power_failure_are_stored() {
    let data_dir = Arc::new(TempDir::new());
    let container = Container::new(&data_dir, "shop");
    let viewer = viewer_of(&data_dir, &[("app", "app.log")]).start();
    let nuls = "\0".repeat(2 * 1024 * 1024);
    let record =
        |text: &str| format!("{{\"log\":\"{text}\\n\",\"stream\":\"stderr\",\"time\":\"2026-01-31T12:00:05Z\"}}");
    let (first, second, third) = (record("ERROR 1"), record("ERROR 2"), record("ERROR 3"));
    append(&container.log_path(), &format!("{{\"log\":\"interrupted by the po{first}\n{nuls}{second}{third}\n"));
    // `copytruncate` under a program that does not open its log for appending.
    append(&data_dir.path().join("app.log"), "before\n");
    wait_for_entry_count(&viewer, "app", 1);
    let file = File::options().write(true).open(data_dir.path().join("app.log")).unwrap();
    file.set_len(0).unwrap();
    file.set_len(59_000_000).unwrap();
    append(&data_dir.path().join("app.log"), &format!("after\n{}\n", &nuls[..100_000]));
    let entries = || -> Vec<(String, String, String)> {
        let entries = export_entries(&viewer, "").into_iter();
        let mut entries: Vec<_> = entries.map(|entry| (entry.stream, entry.level, entry.message)).collect();
        entries.sort();
        entries
    };
    let expected = [
        ("stderr", "ERROR", "ERROR 1"),
        ("stderr", "ERROR", "ERROR 2"),
        ("stderr", "ERROR", "ERROR 3"),
        ("stdout", "INFO", "after"),
        ("stdout", "INFO", "before"),
        ("stdout", "INFO", "interrupted by the po"),
    ];
    let expected = expected.map(|(stream, level, text)| (stream.to_owned(), level.to_owned(), text.to_owned()));
    assert_eventually_eq(&expected.to_vec(), entries);
}

#[test]
fn recreated_containers_share_their_history() {
    let data_dir = Arc::new(TempDir::new());
    let viewer = viewer_of(&data_dir, &[]).start();
    let mut expected = Vec::new();
    for version in 1..=3_u32 {
        let container = Container::new(&data_dir, "shop_api_1");
        container.write_now([format!("version {version} starts")]);
        wait_for_entry_count(&viewer, "shop_api_1", version * 2 - 1);
        // docker-compose 1 renames the old container before it creates the new one and removes the old one.
        let config = container.dir().join("config.v2.json");
        let name = format!("/{}_shop_api_1", container.short_id());
        std::fs::write(&config, std::fs::read_to_string(&config).unwrap().replace("/shop_api_1", &name)).unwrap();
        container.write_now([format!("version {version} stops")]);
        wait_for_entry_count(&viewer, "shop_api_1", version * 2);
        std::fs::remove_dir_all(container.dir()).unwrap();
        let is_removed = || container_status(&viewer, "shop_api_1")["followed"] == json!(false);
        assert!(wait_until(|| is_removed().then_some(())).is_some());
        expected.extend([format!("version {version} starts"), format!("version {version} stops")]);
    }
    let containers = viewer.get("/api/logs/containers").expect(200).json();
    assert_eq!(containers["containers"].as_array().unwrap().len(), 1, "{containers}");
    // The context of the first line of a container shows what the one before it said last.
    let first = export_entries(&viewer, "").into_iter().find(|entry| entry.message == "version 3 starts").unwrap();
    let context = viewer.get(&format!("/api/logs/{}/context", first.id)).expect(200).json();
    let messages: Vec<&str> =
        context["logs"].as_array().unwrap().iter().map(|entry| entry["message"].as_str().unwrap()).collect();
    assert_eq!(messages, expected);
}
