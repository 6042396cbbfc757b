//! Backups with `--backup` of a database in use, and `--restore` from them.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::json;

use crate::support::databases::assert_intact;
use crate::support::harness::{Request, Service, Setup, TempDir, report_at, root_or_skip, wait_until};

const CLIENTS: usize = 8;
/// Minimum number of acknowledged reports before the backup starts.
const REPORTS_MIN: u64 = 500;
/// Number of groups that the reports belong to.
const GROUPS: u64 = 40;

/// Runs a service with arguments on the database in a folder. Returns its exit code and its output.
fn run(setup: Setup, data_dir: &Arc<TempDir>, arguments: &[&str]) -> (Option<i32>, String) {
    setup.data_dir(data_dir).arguments(arguments).run_to_exit()
}

fn path_str(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn assert_complete(path: &Path) {
    assert_intact(path);
    assert!(!path.with_extension("db-wal").exists(), "the backup has a write-ahead log and is not a single file");
}

/// Returns the number of reports that the tracker has counted in all groups.
fn count_reports(tracker: &Service) -> u64 {
    let body = tracker.get("/api/errors?limit=200").expect(200).json();
    body["errors"].as_array().unwrap().iter().map(|error| error["count"].as_u64().unwrap()).sum()
}

#[test]
fn backup_during_writes_contains_every_report_acknowledged_before() {
    let tracker = Setup::error_tracker().start();
    let (stop, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (stop, acknowledged, mut client) = (Arc::clone(&stop), Arc::clone(&acknowledged), tracker.connect());
            std::thread::spawn(move || {
                for report in (0..).map(|number| report_at("boom", 1 + (number % GROUPS) as u32)) {
                    let response = client.send(&Request::post("/api/errors", &report));
                    assert!(response.status < 300, "{}", response.text());
                    acknowledged.fetch_add(1, Ordering::SeqCst);
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                }
            })
        })
        .collect();
    wait_until(|| (acknowledged.load(Ordering::SeqCst) >= REPORTS_MIN).then_some(()))
        .expect("the clients get reports acknowledged");
    let copies = TempDir::new();
    let copy = copies.path().join("errors.db");
    let before = acknowledged.load(Ordering::SeqCst);
    let (code, output) = run(Setup::error_tracker(), &tracker.data_dir, &["--backup", path_str(&copy)]);
    let after = acknowledged.load(Ordering::SeqCst);
    stop.store(true, Ordering::Relaxed);
    clients.into_iter().for_each(|client| client.join().unwrap());
    assert_eq!(code, Some(0), "{output}");
    assert!(output.contains(" bytes of ") && output.ends_with("checked\n"), "{output}");
    assert_complete(&copy);

    let empty = Arc::new(TempDir::new());
    let (code, output) = run(Setup::error_tracker(), &empty, &["--restore", path_str(&copy)]);
    assert_eq!((code, output.ends_with("errors.db restored\n")), (Some(0), true), "{output}");
    let restored = Setup::error_tracker().data_dir(&empty).start();
    let stored = count_reports(&restored);
    // The last report of each client may have been committed before the client counted its acknowledgment.
    assert!((before..=after + CLIENTS as u64).contains(&stored), "{before} <= {stored} <= {after}");
    assert_eq!(count_reports(&tracker), acknowledged.load(Ordering::SeqCst), "the tracker lost an acknowledged report");
    restored.post("/api/errors", &report_at("boom", 1)).expect(200);
}

#[test]
fn every_service_can_be_backed_up_and_restored() {
    let closed_port = std::net::SocketAddr::from(([127, 0, 0, 1], 9));
    let relay = move || Setup::browser_relay(closed_port, closed_port);
    let setups: [&dyn Fn() -> Setup; 4] =
        [&Setup::error_tracker, &Setup::log_viewer, &Setup::metrics_collector, &relay];
    for setup in setups {
        let service = setup().start();
        let data_dir = Arc::clone(&service.data_dir);
        let copy = data_dir.path().join("copy.db");
        let (code, output) = run(setup(), &data_dir, &["--backup", path_str(&copy)]);
        assert_eq!(code, Some(0), "{output}");
        assert_complete(&copy);
        let (code, output) = run(setup(), &data_dir, &["--restore", path_str(&copy)]);
        assert_eq!(
            (code, output.contains("another process uses it; stop that process first")),
            (Some(1), true),
            "{output}"
        );
        assert!(service.stop().0.success());
        let (code, output) = run(setup(), &data_dir, &["--restore", path_str(&copy)]);
        assert_eq!((code, output.contains("restored; the replaced database is kept as ")), (Some(0), true), "{output}");
        setup().data_dir(&data_dir).start().get("/health").expect(200).has(json!({ "status": "ok" }));
    }
}

#[test]
fn restore_ignores_the_write_ahead_log_of_a_killed_service() {
    let tracker = Setup::error_tracker().start();
    tracker.post("/api/errors", &report_at("boom", 1)).expect(201);
    let data_dir = Arc::clone(&tracker.data_dir);
    let copy = data_dir.path().join("copy.db");
    assert_eq!(run(Setup::error_tracker(), &data_dir, &["--backup", path_str(&copy)]).0, Some(0));
    for line in 2..50 {
        tracker.post("/api/errors", &report_at("boom", line)).expect(201);
    }
    tracker.kill();
    assert!(data_dir.path().join("errors.db-wal").exists(), "the killed tracker left no write-ahead log");
    let (code, output) = run(Setup::error_tracker(), &data_dir, &["--restore", path_str(&copy)]);
    assert_eq!(code, Some(0), "{output}");
    assert_eq!(count_reports(&Setup::error_tracker().data_dir(&data_dir).start()), 1);
    // The replaced database is kept, including the content of its write-ahead log.
    let replaced = data_dir.path().join("errors.db.before-restore");
    assert!(output.contains(path_str(&replaced)), "{output}");
    let (code, output) = run(Setup::error_tracker(), &data_dir, &["--restore", path_str(&replaced)]);
    assert_eq!(code, Some(0), "{output}");
    assert_eq!(count_reports(&Setup::error_tracker().data_dir(&data_dir).start()), 49);
}

fn mode(path: &Path) -> u32 {
    std::fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn copies_are_readable_only_by_their_owner_whatever_the_mode_of_the_database() {
    let tracker = Setup::error_tracker().start();
    let data_dir = Arc::clone(&tracker.data_dir);
    assert!(tracker.stop().0.success());
    let (database, copy) = (data_dir.path().join("errors.db"), data_dir.path().join("copy.db"));
    std::fs::set_permissions(&database, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(run(Setup::error_tracker(), &data_dir, &["--backup", path_str(&copy)]).0, Some(0));
    assert_eq!(mode(&copy), 0o600);
    std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o666)).unwrap();
    assert_eq!(run(Setup::error_tracker(), &data_dir, &["--restore", path_str(&copy)]).0, Some(0));
    assert_eq!(mode(&database), 0o600);
}

#[test]
fn each_restore_keeps_the_replaced_database_under_a_name_of_its_own() {
    let tracker = Setup::error_tracker().start();
    tracker.post("/api/errors", &report_at("boom", 1)).expect(201);
    let data_dir = Arc::clone(&tracker.data_dir);
    let at = |name: &str| data_dir.path().join(name);
    assert_eq!(run(Setup::error_tracker(), &data_dir, &["--backup", path_str(&at("copy.db"))]).0, Some(0));
    tracker.post("/api/errors", &report_at("boom", 2)).expect(201);
    assert!(tracker.stop().0.success());
    for kept in ["errors.db.before-restore", "errors.db.before-restore.2", "errors.db.before-restore.3"] {
        let (code, output) = run(Setup::error_tracker(), &data_dir, &["--restore", path_str(&at("copy.db"))]);
        assert_eq!((code, output.trim_end().ends_with(path_str(&at(kept)))), (Some(0), true), "{output}");
    }
    let count = |name: &str| -> i64 {
        let database = rusqlite::Connection::open(at(name)).unwrap();
        database.query_row("SELECT count(*) FROM error_groups", [], |row| row.get(0)).unwrap()
    };
    assert_eq!((count("errors.db.before-restore"), count("errors.db.before-restore.2")), (2, 1));
}

/// User and group of `nobody`.
const NOBODY: u32 = 65_534;

#[test]
fn restore_by_root_gives_its_files_to_the_owner_of_the_folder_and_follows_no_link() {
    if !root_or_skip("restoring into a folder of another user") {
        return;
    }
    let tracker = Setup::error_tracker().start();
    tracker.post("/api/errors", &report_at("boom", 1)).expect(201);
    let data_dir = Arc::clone(&tracker.data_dir);
    let private = TempDir::new();
    let (copy, secret) = (private.path().join("copy.db"), private.path().join("secret"));
    assert_eq!(run(Setup::error_tracker(), &data_dir, &["--backup", path_str(&copy)]).0, Some(0));
    assert!(tracker.stop().0.success());
    std::fs::write(&secret, "of root").unwrap();
    let database = data_dir.path().join("errors.db");
    chown(data_dir.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    // The owner of the folder puts links where root writes, and another over the restored database as soon as it appears.
    for name in ["errors.db.unfinished", "errors.db.unfinished-journal"] {
        symlink(&secret, data_dir.path().join(name)).unwrap();
    }
    let before = std::fs::symlink_metadata(&database).unwrap().ino();
    let stop = Arc::new(AtomicBool::new(false));
    let attacker = {
        let (stop, database, secret, link) =
            (Arc::clone(&stop), database.clone(), secret.clone(), data_dir.path().join("link"));
        std::thread::spawn(move || {
            loop {
                let is_last = stop.load(Ordering::SeqCst);
                if let Ok(found) = std::fs::symlink_metadata(&database)
                    && found.ino() != before
                {
                    symlink(&secret, &link).unwrap();
                    std::fs::rename(&link, &database).unwrap();
                    return Some(found.uid());
                }
                if is_last {
                    return None;
                }
            }
        })
    };
    let (code, output) = run(Setup::error_tracker(), &data_dir, &["--restore", path_str(&copy)]);
    stop.store(true, Ordering::SeqCst);
    assert_eq!(code, Some(0), "{output}");
    assert_eq!(attacker.join().unwrap(), Some(NOBODY), "the restored database belonged to root when it appeared");
    let metadata = std::fs::metadata(&secret).unwrap();
    assert_eq!((metadata.uid(), std::fs::read_to_string(&secret).unwrap().as_str()), (0, "of root"));

    // The database itself is a link now.
    let (code, output) = run(Setup::error_tracker(), &data_dir, &["--restore", path_str(&copy)]);
    assert_eq!((code, output.contains("it is a symbolic link")), (Some(1), true), "{output}");
    assert_eq!(std::fs::read_to_string(&secret).unwrap(), "of root");
}

#[test]
fn failed_backup_and_restore_report_the_cause_and_leave_no_files() {
    let tracker = Setup::error_tracker().start();
    for line in 1..200 {
        tracker.post("/api/errors", &report_at("boom", line)).expect(201);
    }
    let data_dir = Arc::clone(&tracker.data_dir);
    assert!(tracker.stop().0.success());
    let at = |name: &str| data_dir.path().join(name);
    assert_eq!(run(Setup::error_tracker(), &data_dir, &["--backup", path_str(&at("good.db"))]).0, Some(0));
    let mut bytes = std::fs::read(at("good.db")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 8_192].fill(0xA5);
    std::fs::write(at("damaged.db"), &bytes).unwrap();
    std::fs::write(at("text.db"), "not a database, but long enough to be read as one").unwrap();
    std::fs::write(at("empty.db"), "").unwrap();
    rusqlite::Connection::open(at("other.db")).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
    for (arguments, code, message) in [
        (&["--backup", path_str(&at("good.db"))][..], 1, "good.db already exists"),
        (&["--backup", "/nowhere/copy.db"], 1, "/nowhere/copy.db"),
        (&["--backup"], 2, "--backup requires a FILE"),
        (&["--backup", "a", "b"], 2, "unknown argument --backup a b"),
        (&["--restore", path_str(&at("missing.db"))], 1, "No such file"),
        (&["--restore", path_str(&at("damaged.db"))], 1, "damaged.db: "),
        (&["--restore", path_str(&at("text.db"))], 1, "file is not a database"),
        (&["--restore", path_str(&at("empty.db"))], 1, "it is empty"),
        (&["--restore", path_str(&at("other.db"))], 1, "a database of another program"),
    ] {
        let (exit_code, output) = run(Setup::error_tracker(), &data_dir, arguments);
        assert_eq!((exit_code, output.contains(message)), (Some(code), true), "{arguments:?}: {output}");
    }
    let (code, output) = run(Setup::metrics_collector(), &data_dir, &["--restore", path_str(&at("good.db"))]);
    assert_eq!((code, output.contains("a database of another program")), (Some(1), true), "{output}");
    let files: Vec<_> = std::fs::read_dir(data_dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!files.iter().any(|name| name.to_string_lossy().contains("unfinished")), "{files:?}");
    assert_eq!(
        count_reports(&Setup::error_tracker().data_dir(&data_dir).start()),
        199,
        "a failed restore changed the database"
    );
}

#[test]
fn second_service_on_the_same_database_does_not_start() {
    let tracker = Setup::error_tracker().start();
    let (code, output) = Setup::error_tracker().data_dir(&tracker.data_dir).run_to_exit();
    assert_eq!(
        (code, output.contains("errors.db: another process uses it; stop that process first")),
        (Some(1), true),
        "{output}"
    );
    let data_dir = tracker.kill();
    Setup::error_tracker().data_dir(&data_dir).start().get("/health").expect(200);
}
