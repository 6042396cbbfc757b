//! `deploy/backup.sh` with running services: the content of a backup, its restoration, and the state after a failure.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::json;

use crate::support::databases::assert_intact;
use crate::support::harness::{Client, Request, Service, Setup, TempDir, binary, report_at, root_or_skip, wait_until};
use crate::support::programs::{deploy_script, output_text};
use crate::support::stack::{VIEWER, start_services};

const CLIENTS: u32 = 6;
/// Minimum number of acknowledged writes per client before the backup starts.
const WRITES_MIN: u64 = 40;
const DATABASES: [&str; 4] = ["errors.db", "logs.db", "metrics.db", "browser-relay.db"];
/// Size of a file system that has room for the first database but not for the second, as an option of `mount`.
const SMALL_TMPFS: &str = "size=448k";

fn path_str(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// All four services with their databases in one folder.
struct Stack {
    services: [Service; 4],
    data_dir: Arc<TempDir>,
}

impl Stack {
    fn start_in(data_dir: &Arc<TempDir>) -> Self {
        let services = start_services(|service, setup| {
            let setup = if service == VIEWER { setup.env("LOG_FILES", "web=web.log") } else { setup };
            setup.data_dir(data_dir)
        });
        Self { services, data_dir: Arc::clone(data_dir) }
    }

    fn start() -> Self {
        Self::start_in(&Arc::new(TempDir::new()))
    }

    fn stop(self) -> Arc<TempDir> {
        for service in self.services {
            assert!(service.stop().0.success());
        }
        self.data_dir
    }

    /// Runs `backup.sh` on the databases of the stack.
    fn run_backup_script(&self, arguments: &[&str]) -> Output {
        run_backup_script(self.data_dir.path(), arguments, &[])
    }
}

fn run_backup_script(data_dir: &Path, arguments: &[&str], env: &[(&str, &str)]) -> Output {
    let tracker = binary("error-tracker");
    let options = ["--bin", path_str(tracker.parent().unwrap()), "--data", path_str(data_dir)];
    deploy_script("backup.sh", &[&options[..], arguments].concat(), env).output().unwrap()
}

/// Returns the names in a folder, sorted.
fn list_folder(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> = entries.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}

/// Returns the path of the backup that the script reports on its last line.
#[track_caller]
fn backup_path(output: &Output) -> PathBuf {
    assert!(output.status.success(), "{}", output_text(output));
    PathBuf::from(String::from_utf8_lossy(&output.stdout).lines().last().unwrap())
}

/// Returns a write of one client: a report to its own group if the number is even, otherwise a point of its own series.
fn write_request(client: u32) -> Request {
    if client.is_multiple_of(2) {
        return Request::post("/api/errors", &report_at("boom", client));
    }
    let labels = json!({ "client": client });
    Request::post("/api/metrics", &json!([{ "name": "sold", "type": "counter", "value": 1, "labels": labels }]))
}

/// Returns how many writes of a client the tracker or the collector has stored.
fn count_stored(client: u32, errors: &Service, metrics: &Service) -> u64 {
    if client.is_multiple_of(2) {
        let groups = errors.get("/api/errors?limit=200").expect(200).json();
        let location = format!("/app/pay.py:{client}");
        let group = groups["errors"].as_array().unwrap().iter().find(|group| group["location"] == location.as_str());
        return group.map_or(0, |group| group["count"].as_u64().unwrap());
    }
    let path = format!("/api/metrics?name=sold&period=2h&resolution=minute&labels=client:{client}");
    let buckets = metrics.get(&path).expect(200).json();
    buckets["data"].as_array().unwrap().iter().map(|bucket| bucket["sum"].as_f64().unwrap() as u64).sum()
}

fn write_until_stopped(client: u32, address: SocketAddr, acknowledged: &AtomicU64, stop: &AtomicBool) {
    let mut connection = Client::new(std::net::TcpStream::connect(address).unwrap());
    while !stop.load(Ordering::Relaxed) {
        let response = connection.send(&write_request(client));
        assert!(response.status < 300, "{}", response.text());
        acknowledged.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn restored_backup_contains_every_write_acknowledged_before() {
    let stack = Stack::start();
    let [errors, logs, metrics, relay] = &stack.services;
    std::fs::write(stack.data_dir.path().join("web.log"), "2026-01-05 10:00:00 ERROR the cart is empty\n").unwrap();
    let is_indexed = |logs: &Service| logs.get("/api/logs?search=cart").expect(200).json()["total"] == 1;
    assert!(wait_until(|| is_indexed(logs).then_some(())).is_some(), "{:?}", logs.log());
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
    wait_until(|| counts().iter().all(|count| *count >= WRITES_MIN).then_some(()))
        .expect("the clients get writes acknowledged");
    let backups = TempDir::new();
    let before = counts();
    let output = stack.run_backup_script(&["--to", path_str(backups.path())]);
    let after = counts();
    stop.store(true, Ordering::Relaxed);
    clients.into_iter().for_each(|client| client.join().unwrap());

    let copy = backup_path(&output);
    assert!(
        before.iter().zip(&after).all(|(before, after)| before < after),
        "a client got no write acknowledged during the backup"
    );
    assert_eq!(list_folder(backups.path()), [copy.file_name().unwrap().to_str().unwrap()]);
    assert_eq!(list_folder(&copy), ["SHA256SUMS", "browser-relay.db", "errors.db", "logs.db", "metrics.db"]);
    assert_eq!(std::fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o700);
    assert!(output_text(&output).contains("error-tracker      errors.db "), "{}", output_text(&output));

    let empty = Arc::new(TempDir::new());
    let output = run_backup_script(empty.path(), &["--restore", path_str(&copy)], &[]);
    assert!(output.status.success(), "{}", output_text(&output));
    for database in DATABASES {
        assert_intact(&empty.path().join(database));
    }
    let restored = Stack::start_in(&empty);
    let [errors, logs, metrics, relay] = &restored.services;
    for client in 0..CLIENTS {
        let (index, count) = (client as usize, count_stored(client, errors, metrics));
        // The last write of a client may have been committed before the client counted its acknowledgment.
        assert!(
            (before[index]..=after[index] + 1).contains(&count),
            "{client}: {} <= {count} <= {}",
            before[index],
            after[index]
        );
    }
    assert!(is_indexed(logs), "the restored database lacks the log entry");
    let keys = relay.get("/api/dsn-keys").expect(200).text();
    assert!(keys.contains("\"kept\""), "{keys}");
    eprintln!(
        "{} writes acknowledged before the backup, {} after it",
        before.iter().sum::<u64>(),
        after.iter().sum::<u64>()
    );
}

#[test]
fn old_and_unfinished_backups_are_deleted_and_other_files_are_kept() {
    let stack = Stack::start();
    let backups = TempDir::new();
    let at = |name: &str| backups.path().join(name);
    // The script must keep files whose names it did not choose.
    for name in ["20240101T000000Z", "20240102T000000Z", "20240103T000000Z", "mine", "20240104T000000Z.unfinished"] {
        std::fs::create_dir(at(name)).unwrap();
    }
    let copy =
        backup_path(&stack.run_backup_script(&["--to", path_str(backups.path()), "--keep", "2", "error-tracker"]));
    assert_eq!(list_folder(&copy), ["SHA256SUMS", "errors.db"]);
    assert_eq!(list_folder(backups.path()), ["20240103T000000Z", copy.file_name().unwrap().to_str().unwrap(), "mine"]);
    let next =
        backup_path(&stack.run_backup_script(&["--to", path_str(backups.path()), "--keep", "0", "error-tracker"]));
    assert_eq!(list_folder(backups.path()).len(), 4, "--keep 0 deleted a backup");
    assert!(next > copy);

    let lock = std::fs::File::open(backups.path()).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let output = stack.run_backup_script(&["--to", path_str(backups.path()), "--keep", "1"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(output_text(&output).contains("another backup or restore is running"), "{}", output_text(&output));
    let output = stack.run_backup_script(&["--restore", path_str(&next)]);
    assert!(output_text(&output).contains("another backup or restore is running"), "{}", output_text(&output));
    assert_eq!(list_folder(backups.path()).len(), 4);
}

#[test]
fn new_backup_is_kept_and_names_in_the_future_are_reported() {
    let stack = Stack::start();
    let backups = TempDir::new();
    let at = |name: &str| backups.path().join(name);
    let future = ["20990101T000000Z", "20990102T000000Z", "20990103T000000Z"];
    for name in future.iter().chain(&["20240101T000000Z", "20240102T000000Z"]) {
        std::fs::create_dir(at(name)).unwrap();
    }
    let output = stack.run_backup_script(&["--to", path_str(backups.path()), "--keep", "02", "error-tracker"]);
    let copy = backup_path(&output);
    assert!(copy.join("errors.db").exists(), "the new backup is gone: {}", output_text(&output));
    let name = copy.file_name().unwrap().to_str().unwrap();
    assert_eq!(list_folder(backups.path()), [&["20240102T000000Z", name], &future[..]].concat());
    let text = output_text(&output);
    assert!(text.contains("warning: 3 backups have names in the future: ") && text.contains(future[2]), "{text}");

    for keep in ["08", "1"] {
        let output = stack.run_backup_script(&["--to", path_str(backups.path()), "--keep", keep, "error-tracker"]);
        assert!(backup_path(&output).join("errors.db").exists(), "--keep {keep}: {}", output_text(&output));
    }
    assert_eq!(list_folder(backups.path()).len(), 4);
}

#[test]
fn failed_backup_leaves_no_files_and_deletes_no_older_backup() {
    let stack = Stack::start();
    let backups = TempDir::new();
    let to = path_str(backups.path());
    std::fs::create_dir(backups.path().join("20240101T000000Z")).unwrap();
    std::fs::create_dir(backups.path().join("20240102T000000Z")).unwrap();
    let run = |env: &[(&str, &str)]| run_backup_script(stack.data_dir.path(), &["--to", to, "--keep", "1"], env);
    let foreign_database = stack.data_dir.path().join("web.db");
    rusqlite::Connection::open(&foreign_database).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
    for (env, message) in [
        (
            ("METRICS_COLLECTOR_DB", "/nowhere/metrics.db"),
            "failed to back up metrics-collector; this backup is discarded: ",
        ),
        (("BROWSER_RELAY_DB", path_str(&foreign_database)), "a database of another program"),
    ] {
        let output = run(&[env]);
        assert_eq!(
            (output.status.code(), output_text(&output).contains(message)),
            (Some(1), true),
            "{}",
            output_text(&output)
        );
        assert_eq!(list_folder(backups.path()), ["20240101T000000Z", "20240102T000000Z"]);
    }
    for (arguments, message) in [
        (&["--keep", "many"][..], "--keep must be a number, not 'many'"),
        (&["--keep", "12345678901234567890"], "--keep must be a number of at most 6 digits"),
        (&["--to"], "--to needs a value"),
        (&["shop"], "unknown argument shop"),
        (&["--compose"], "--compose cannot be combined with"),
    ] {
        let output = stack.run_backup_script(arguments);
        assert_eq!(
            (output.status.code(), output_text(&output).contains(message)),
            (Some(2), true),
            "{}",
            output_text(&output)
        );
    }
    if !root_or_skip("mounting a small file system, to test a backup on a full disk,") {
        return;
    }
    let tracker = binary("error-tracker");
    let on_full_disk = format!(
        "mount -t tmpfs -o {SMALL_TMPFS} none {to}; mkdir {to}/20240101T000000Z {to}/20240102T000000Z; \
         {root}/deploy/backup.sh --bin {bin} --data {data} --to {to} --keep 1 && exit 9; ls -A {to}",
        root = env!("CARGO_MANIFEST_DIR"),
        bin = tracker.parent().unwrap().display(),
        data = stack.data_dir.path().display()
    );
    let output = Command::new("unshare").args(["--mount", "sh", "-c", &on_full_disk]).output().unwrap();
    assert!(output.status.success(), "{}", output_text(&output));
    assert!(output_text(&output).contains("; this backup is discarded: "), "{}", output_text(&output));
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(stdout.ends_with("MB\n20240101T000000Z\n20240102T000000Z\n"), "{stdout}");
}

#[test]
fn failed_restore_changes_nothing() {
    let stack = Stack::start();
    stack.services[0].post("/api/errors", &report_at("boom", 1)).expect(201);
    let backups = TempDir::new();
    let copy = backup_path(&stack.run_backup_script(&["--to", path_str(backups.path())]));
    stack.services[0].post("/api/errors", &report_at("boom", 2)).expect(201);

    let restore = |data_dir: &Path, services: &[&str]| {
        run_backup_script(data_dir, &[&["--restore", path_str(&copy)], services].concat(), &[])
    };
    let assert_fails = |output: &Output, message: &str| {
        assert_eq!(
            (output.status.code(), output_text(output).contains(message)),
            (Some(1), true),
            "{}",
            output_text(output)
        );
    };
    assert_fails(&restore(stack.data_dir.path(), &[]), "error-tracker is running; stop it first. Nothing was changed");
    assert_fails(&restore(stack.data_dir.path(), &["browser-relay"]), "browser-relay is running; stop it first");
    let data_dir = stack.stop();

    // A flipped bit that SQLite's integrity check does not detect.
    let last = copy.join("browser-relay.db");
    let intact = std::fs::read(&last).unwrap();
    let mut damaged = intact.clone();
    damaged[27] ^= 1;
    std::fs::write(&last, &damaged).unwrap();
    assert_intact(&last);
    assert_fails(&restore(data_dir.path(), &[]), "browser-relay.db: the file is missing or damaged");
    std::fs::remove_file(&last).unwrap();
    assert_fails(&restore(data_dir.path(), &[]), "browser-relay.db: the file is missing or damaged");
    let was_replaced = |name: &str| data_dir.path().join(format!("{name}.before-restore")).exists();
    assert!(!DATABASES.iter().any(|name| was_replaced(name)), "{:?}", list_folder(data_dir.path()));
    let group_count = |errors: &Service| errors.get("/api/errors").expect(200).json()["total"].clone();
    let errors = Setup::error_tracker().data_dir(&data_dir).start();
    assert_eq!(group_count(&errors), 2, "a failed restore changed the database");
    assert!(errors.stop().0.success());

    // The intact databases can be restored by name; the others once the backup is repaired.
    let output = restore(data_dir.path(), &["error-tracker"]);
    assert!(
        output.status.success() && was_replaced("errors.db") && !was_replaced("logs.db"),
        "{}",
        output_text(&output)
    );
    assert_eq!(group_count(&Setup::error_tracker().data_dir(&data_dir).start()), 1);
    std::fs::write(&last, &intact).unwrap();
    let output = restore(data_dir.path(), &[]);
    assert!(output.status.success() && DATABASES.iter().all(|name| was_replaced(name)), "{}", output_text(&output));
    std::fs::remove_file(copy.join("SHA256SUMS")).unwrap();
    assert_fails(&restore(data_dir.path(), &[]), "no readable SHA256SUMS");
}
