//! `deploy/backup.sh` on programs at work: what a backup has, that it can be put back, and what is left when it cannot
//! be made.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::json;

use crate::harness::{Client, Request, Service, Setup, TempDir, binary, report_at, root_or_skip, wait_until};

const CLIENTS: u32 = 6;
/// Acknowledged to each client before a backup begins.
const WRITES_MIN: u64 = 40;
const DATABASES: [&str; 4] = ["errors.db", "logs.db", "metrics.db", "browser-relay.db"];
/// Holds the first database and not the second.
const SMALL: &str = "size=256k";

/// A script of `deploy/` with nothing of this environment but where programs are.
pub fn script(name: &str, arguments: &[&str], env: &[(&str, &str)]) -> Command {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name);
    let mut command = Command::new(script);
    command.args(arguments).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.envs(env.iter().copied());
    command
}

/// What a script said, on both ways.
pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A tracker, a viewer, a collector and a relay with their databases in one folder.
struct Stack {
    services: [Service; 4],
    folder: Arc<TempDir>,
}

impl Stack {
    fn in_folder(folder: &Arc<TempDir>) -> Self {
        let errors = Setup::error_tracker().data_dir(folder).start();
        let logs = Setup::log_viewer().env("LOG_FILES", "web=web.log").data_dir(folder).start();
        let metrics = Setup::metrics_collector().data_dir(folder).start();
        let relay = Setup::browser_relay(errors.address, metrics.address).data_dir(folder).start();
        Self { services: [errors, logs, metrics, relay], folder: Arc::clone(folder) }
    }

    fn start() -> Self {
        Self::in_folder(&Arc::new(TempDir::new()))
    }

    fn stop(self) -> Arc<TempDir> {
        for service in self.services {
            assert!(service.stop().0.success());
        }
        self.folder
    }

    /// Runs the script on these databases.
    fn backup(&self, arguments: &[&str]) -> Output {
        backup(self.folder.path(), arguments, &[])
    }
}

fn backup(data: &Path, arguments: &[&str], env: &[(&str, &str)]) -> Output {
    let programs = binary("error-tracker");
    let known = ["--bin", text(programs.parent().unwrap()), "--data", text(data)];
    script("backup.sh", &[&known[..], arguments].concat(), env).output().unwrap()
}

/// What lies in a folder, in order.
fn listed(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> = entries.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}

/// The backup that a script says it has made.
#[track_caller]
fn made(output: &Output) -> PathBuf {
    assert!(output.status.success(), "{}", said(output));
    PathBuf::from(String::from_utf8_lossy(&output.stdout).lines().last().unwrap())
}

fn integrity(path: &Path) -> String {
    let database = rusqlite::Connection::open(path).unwrap();
    database.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap()
}

/// What one client writes: a report to a group of its own, or a point to a series of its own.
fn write(client: u32) -> Request {
    if client.is_multiple_of(2) {
        return Request::post("/api/errors", &report_at("boom", client));
    }
    let labels = json!({ "client": client });
    Request::post("/api/metrics", &json!([{ "name": "sold", "type": "counter", "value": 1, "labels": labels }]))
}

/// How much of a client's a tracker and a collector have.
fn stored(client: u32, errors: &Service, metrics: &Service) -> u64 {
    if client.is_multiple_of(2) {
        let groups = errors.get("/api/errors?limit=200").expect(200).json();
        let location = format!("/app/pay.py:{client}");
        let found = groups["errors"].as_array().unwrap().iter().find(|group| group["location"] == location.as_str());
        return found.map_or(0, |group| group["count"].as_u64().unwrap());
    }
    let path = format!("/api/metrics?name=sold&period=2h&resolution=minute&labels=client:{client}");
    let buckets = metrics.get(&path).expect(200).json();
    buckets["data"].as_array().unwrap().iter().map(|bucket| bucket["sum"].as_f64().unwrap() as u64).sum()
}

fn write_until_stopped(client: u32, address: SocketAddr, acknowledged: &AtomicU64, stop: &AtomicBool) {
    let mut connection = Client::new(std::net::TcpStream::connect(address).unwrap());
    while !stop.load(Ordering::Relaxed) {
        let answer = connection.send(&write(client));
        assert!(answer.status < 300, "{}", answer.text());
        acknowledged.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn a_backup_during_writes_is_put_back_with_all_that_was_acknowledged_before_it() {
    let stack = Stack::start();
    let [errors, logs, metrics, relay] = &stack.services;
    std::fs::write(stack.folder.path().join("web.log"), "2026-01-05 10:00:00 ERROR the cart is empty\n").unwrap();
    let found = |logs: &Service| logs.get("/api/logs?search=cart").expect(200).json()["total"] == 1;
    assert!(wait_until(|| found(logs).then_some(())).is_some(), "{:?}", logs.log());
    relay.post("/api/dsn-keys", &json!({ "project": "kept" })).expect(201);

    let stop = Arc::new(AtomicBool::new(false));
    let acknowledged: Vec<Arc<AtomicU64>> = (0..CLIENTS).map(|_| Arc::default()).collect();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let address = if client.is_multiple_of(2) { errors.address } else { metrics.address };
            let (count, stop) = (Arc::clone(&acknowledged[client as usize]), Arc::clone(&stop));
            std::thread::spawn(move || write_until_stopped(client, address, &count, &stop))
        })
        .collect();
    let counts = || acknowledged.iter().map(|count| count.load(Ordering::SeqCst)).collect::<Vec<_>>();
    wait_until(|| counts().iter().all(|count| *count >= WRITES_MIN).then_some(())).expect("writes");
    let backups = TempDir::new();
    let before = counts();
    let output = stack.backup(&["--to", text(backups.path())]);
    let after = counts();
    stop.store(true, Ordering::Relaxed);
    clients.into_iter().for_each(|client| client.join().unwrap());

    let copy = made(&output);
    assert!(before.iter().zip(&after).all(|(before, after)| before < after), "nobody wrote meanwhile");
    assert_eq!(listed(backups.path()), [copy.file_name().unwrap().to_str().unwrap()]);
    assert_eq!(listed(&copy), ["SHA256SUMS", "browser-relay.db", "errors.db", "logs.db", "metrics.db"]);
    assert_eq!(std::fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o700);
    assert!(said(&output).contains("error-tracker      errors.db "), "{}", said(&output));

    let empty = Arc::new(TempDir::new());
    let output = backup(empty.path(), &["--restore", text(&copy)], &[]);
    assert!(output.status.success(), "{}", said(&output));
    for database in DATABASES {
        assert_eq!(integrity(&empty.path().join(database)), "ok", "{database}");
    }
    let restored = Stack::in_folder(&empty);
    let [errors, logs, metrics, relay] = &restored.services;
    for client in 0..CLIENTS {
        let (at, count) = (client as usize, stored(client, errors, metrics));
        // A write that was on its way may have been stored and not yet counted by its client.
        assert!((before[at]..=after[at] + 1).contains(&count), "{client}: {} <= {count} <= {}", before[at], after[at]);
    }
    assert!(found(logs), "the log's line is there");
    let keys = relay.get("/api/dsn-keys").expect(200).text();
    assert!(keys.contains("\"kept\""), "{keys}");
    eprintln!("acknowledged before {} and after {}", before.iter().sum::<u64>(), after.iter().sum::<u64>());
}

#[test]
fn so_many_backups_are_kept_and_what_was_left_unfinished_goes() {
    let stack = Stack::start();
    let backups = TempDir::new();
    let at = |name: &str| backups.path().join(name);
    // What is not named as a backup is none of the script's affair.
    for name in ["20240101T000000Z", "20240102T000000Z", "20240103T000000Z", "mine", "20240104T000000Z.unfinished"] {
        std::fs::create_dir(at(name)).unwrap();
    }
    let copy = made(&stack.backup(&["--to", text(backups.path()), "--keep", "2", "error-tracker"]));
    assert_eq!(listed(&copy), ["SHA256SUMS", "errors.db"]);
    assert_eq!(listed(backups.path()), ["20240103T000000Z", copy.file_name().unwrap().to_str().unwrap(), "mine"]);
    let next = made(&stack.backup(&["--to", text(backups.path()), "--keep", "0", "error-tracker"]));
    assert_eq!(listed(backups.path()).len(), 4, "0 keeps all");
    assert!(next > copy);

    let held = std::fs::File::open(backups.path()).unwrap();
    rustix::fs::flock(&held, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let output = stack.backup(&["--to", text(backups.path()), "--keep", "1"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("another backup or restore is running"), "{}", said(&output));
    let output = stack.backup(&["--restore", text(&next)]);
    assert!(said(&output).contains("another backup or restore is running"), "{}", said(&output));
    assert_eq!(listed(backups.path()).len(), 4);
}

#[test]
fn a_backup_that_fails_leaves_nothing_and_removes_nothing() {
    let stack = Stack::start();
    let backups = TempDir::new();
    let to = text(backups.path());
    std::fs::create_dir(backups.path().join("20240101T000000Z")).unwrap();
    std::fs::create_dir(backups.path().join("20240102T000000Z")).unwrap();
    let run = |env: &[(&str, &str)]| backup(stack.folder.path(), &["--to", to, "--keep", "1"], env);
    let not_ours = stack.folder.path().join("web.db");
    rusqlite::Connection::open(&not_ours).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
    for (env, says) in [
        (
            ("METRICS_COLLECTOR_DB", "/nowhere/metrics.db"),
            "failed to back up metrics-collector; this backup is discarded: ",
        ),
        (("BROWSER_RELAY_DB", text(&not_ours)), "a database of some other program"),
    ] {
        let output = run(&[env]);
        assert_eq!((output.status.code(), said(&output).contains(says)), (Some(1), true), "{}", said(&output));
        assert_eq!(listed(backups.path()), ["20240101T000000Z", "20240102T000000Z"]);
    }
    for (arguments, says) in [
        (&["--keep", "many"][..], "--keep must be a number, not 'many'"),
        (&["--to"], "--to needs a value"),
        (&["shop"], "unknown argument shop"),
        (&["--compose"], "--compose cannot be combined with"),
    ] {
        let output = stack.backup(arguments);
        assert_eq!((output.status.code(), said(&output).contains(says)), (Some(2), true), "{}", said(&output));
    }
    if !root_or_skip("a small file system") {
        return;
    }
    let programs = binary("error-tracker");
    let full = format!(
        "mount -t tmpfs -o {SMALL} none {to}; mkdir {to}/20240101T000000Z {to}/20240102T000000Z; \
         {root}/deploy/backup.sh --bin {bin} --data {data} --to {to} --keep 1 && exit 9; ls -A {to}",
        root = env!("CARGO_MANIFEST_DIR"),
        bin = programs.parent().unwrap().display(),
        data = stack.folder.path().display()
    );
    let output = Command::new("unshare").args(["--mount", "sh", "-c", &full]).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("; this backup is discarded: "), "{}", said(&output));
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(lines.ends_with("MB\n20240101T000000Z\n20240102T000000Z\n"), "{lines}");
}

#[test]
fn what_cannot_be_put_back_whole_changes_nothing() {
    let stack = Stack::start();
    stack.services[0].post("/api/errors", &report_at("boom", 1)).expect(201);
    let backups = TempDir::new();
    let copy = made(&stack.backup(&["--to", text(backups.path())]));
    stack.services[0].post("/api/errors", &report_at("boom", 2)).expect(201);

    let restore = |data: &Path, more: &[&str]| backup(data, &[&["--restore", text(&copy)], more].concat(), &[]);
    let refused = |output: &Output, says: &str| {
        assert_eq!((output.status.code(), said(output).contains(says)), (Some(1), true), "{}", said(output));
    };
    refused(&restore(stack.folder.path(), &[]), "error-tracker is running; stop it first. Nothing was changed");
    refused(&restore(stack.folder.path(), &["browser-relay"]), "browser-relay is running; stop it first");
    let folder = stack.stop();

    // One bit of the last one, which still is a database that passes every check of SQLite's.
    let last = copy.join("browser-relay.db");
    let good = std::fs::read(&last).unwrap();
    let mut bad = good.clone();
    bad[27] ^= 1;
    std::fs::write(&last, &bad).unwrap();
    assert_eq!(integrity(&last), "ok");
    refused(&restore(folder.path(), &[]), "browser-relay.db: the file is missing or damaged");
    std::fs::remove_file(&last).unwrap();
    refused(&restore(folder.path(), &[]), "browser-relay.db: the file is missing or damaged");
    let kept = |name: &str| folder.path().join(format!("{name}.before-restore")).exists();
    assert!(!DATABASES.iter().any(|name| kept(name)), "{:?}", listed(folder.path()));
    let groups = |errors: &Service| errors.get("/api/errors").expect(200).json()["total"].clone();
    let errors = Setup::error_tracker().data_dir(&folder).start();
    assert_eq!(groups(&errors), 2, "what was there stays");
    assert!(errors.stop().0.success());

    // What is whole of it can be put back by name, and the rest once it is whole again.
    let output = restore(folder.path(), &["error-tracker"]);
    assert!(output.status.success() && kept("errors.db") && !kept("logs.db"), "{}", said(&output));
    assert_eq!(groups(&Setup::error_tracker().data_dir(&folder).start()), 1);
    std::fs::write(&last, &good).unwrap();
    let output = restore(folder.path(), &[]);
    assert!(output.status.success() && DATABASES.iter().all(|name| kept(name)), "{}", said(&output));
    std::fs::remove_file(copy.join("SHA256SUMS")).unwrap();
    refused(&restore(folder.path(), &[]), "no readable SHA256SUMS");
}
