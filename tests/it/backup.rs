//! A copy of a database that is in use, and what it is worth.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::json;

use crate::harness::{Request, Service, Setup, TempDir, report_at, wait_until};

const CLIENTS: usize = 8;
/// Acknowledged before a backup begins.
const REPORTS_MIN: u64 = 500;
/// Groups the reports fall into.
const LINES: u64 = 40;

/// Runs a program with arguments on the database in a folder; answers its exit code and what it said.
fn run(setup: Setup, folder: &Arc<TempDir>, arguments: &[&str]) -> (Option<i32>, String) {
    setup.data_dir(folder).arguments(arguments).run_to_exit()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn is_whole(path: &Path) {
    let database = rusqlite::Connection::open(path).unwrap();
    let found: String = database.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(found, "ok");
    assert!(!path.with_extension("db-wal").exists(), "a backup is one file");
}

/// How many reports a tracker has counted.
fn reports(tracker: &Service) -> u64 {
    let body = tracker.get("/api/errors?limit=200").expect(200).json();
    body["errors"].as_array().unwrap().iter().map(|error| error["count"].as_u64().unwrap()).sum()
}

#[test]
fn a_backup_taken_during_writes_has_all_that_was_acknowledged_before() {
    let tracker = Setup::error_tracker().start();
    let (stop, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (stop, acknowledged, mut client) = (Arc::clone(&stop), Arc::clone(&acknowledged), tracker.connect());
            std::thread::spawn(move || {
                for report in (0..).map(|number| report_at("boom", 1 + (number % LINES) as u32)) {
                    let answer = client.send(&Request::post("/api/errors", &report));
                    assert!(answer.status < 300, "{}", answer.text());
                    acknowledged.fetch_add(1, Ordering::SeqCst);
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                }
            })
        })
        .collect();
    wait_until(|| (acknowledged.load(Ordering::SeqCst) >= REPORTS_MIN).then_some(())).expect("reports");
    let copies = TempDir::new();
    let copy = copies.path().join("errors.db");
    let before = acknowledged.load(Ordering::SeqCst);
    let (code, said) = run(Setup::error_tracker(), &tracker.data_dir, &["--backup", text(&copy)]);
    let after = acknowledged.load(Ordering::SeqCst);
    stop.store(true, Ordering::Relaxed);
    clients.into_iter().for_each(|client| client.join().unwrap());
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains(" bytes of ") && said.ends_with("checked\n"), "{said}");
    is_whole(&copy);

    let empty = Arc::new(TempDir::new());
    let (code, said) = run(Setup::error_tracker(), &empty, &["--restore", text(&copy)]);
    assert_eq!((code, said.contains("is restored\n")), (Some(0), true), "{said}");
    let restored = Setup::error_tracker().data_dir(&empty).start();
    let found = reports(&restored);
    // A client's last report may have been stored and not yet counted by its client.
    assert!((before..=after + CLIENTS as u64).contains(&found), "{before} <= {found} <= {after}");
    assert_eq!(reports(&tracker), acknowledged.load(Ordering::SeqCst), "the tracker lost nothing");
    restored.post("/api/errors", &report_at("boom", 1)).expect(200);
}

#[test]
fn every_service_can_be_copied_and_put_back() {
    let nowhere = std::net::SocketAddr::from(([127, 0, 0, 1], 9));
    let relay = move || Setup::browser_relay(nowhere, nowhere);
    let setups: [&dyn Fn() -> Setup; 4] =
        [&Setup::error_tracker, &Setup::log_viewer, &Setup::metrics_collector, &relay];
    for setup in setups {
        let service = setup().start();
        let folder = Arc::clone(&service.data_dir);
        let copy = folder.path().join("copy.db");
        let (code, said) = run(setup(), &folder, &["--backup", text(&copy)]);
        assert_eq!(code, Some(0), "{said}");
        is_whole(&copy);
        let (code, said) = run(setup(), &folder, &["--restore", text(&copy)]);
        assert_eq!((code, said.contains("another program uses it; stop that first")), (Some(1), true), "{said}");
        assert!(service.stop().0.success());
        let (code, said) = run(setup(), &folder, &["--restore", text(&copy)]);
        assert_eq!((code, said.contains("what was there is kept as ")), (Some(0), true), "{said}");
        setup().data_dir(&folder).start().get("/health").expect(200).has(json!({ "status": "ok" }));
    }
}

#[test]
fn what_a_killed_service_left_in_its_log_is_not_mixed_with_what_is_restored() {
    let tracker = Setup::error_tracker().start();
    tracker.post("/api/errors", &report_at("boom", 1)).expect(201);
    let folder = Arc::clone(&tracker.data_dir);
    let copy = folder.path().join("copy.db");
    assert_eq!(run(Setup::error_tracker(), &folder, &["--backup", text(&copy)]).0, Some(0));
    for line in 2..50 {
        tracker.post("/api/errors", &report_at("boom", line)).expect(201);
    }
    tracker.kill();
    assert!(folder.path().join("errors.db-wal").exists(), "there is a log to be mixed with");
    let (code, said) = run(Setup::error_tracker(), &folder, &["--restore", text(&copy)]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(reports(&Setup::error_tracker().data_dir(&folder).start()), 1);
    // What was there is whole, with its log.
    let kept = folder.path().join("errors.db.before-restore");
    assert!(said.contains(text(&kept)), "{said}");
    let (code, said) = run(Setup::error_tracker(), &folder, &["--restore", text(&kept)]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(reports(&Setup::error_tracker().data_dir(&folder).start()), 49);
}

#[test]
fn what_cannot_be_copied_is_refused_and_leaves_nothing() {
    let tracker = Setup::error_tracker().start();
    for line in 1..200 {
        tracker.post("/api/errors", &report_at("boom", line)).expect(201);
    }
    let folder = Arc::clone(&tracker.data_dir);
    assert!(tracker.stop().0.success());
    let at = |name: &str| folder.path().join(name);
    assert_eq!(run(Setup::error_tracker(), &folder, &["--backup", text(&at("good.db"))]).0, Some(0));
    let mut bytes = std::fs::read(at("good.db")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 8_192].fill(0xA5);
    std::fs::write(at("damaged.db"), &bytes).unwrap();
    std::fs::write(at("text.db"), "no database at all, but long enough to be looked at").unwrap();
    std::fs::write(at("empty.db"), "").unwrap();
    rusqlite::Connection::open(at("other.db")).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
    for (arguments, code, says) in [
        (&["--backup", text(&at("good.db"))][..], 1, "good.db exists already"),
        (&["--backup", "/nowhere/copy.db"], 1, "/nowhere/copy.db"),
        (&["--backup"], 2, "--backup needs a FILE"),
        (&["--backup", "a", "b"], 2, "unknown argument --backup a b"),
        (&["--restore", text(&at("missing.db"))], 1, "No such file"),
        (&["--restore", text(&at("damaged.db"))], 1, "damaged.db: "),
        (&["--restore", text(&at("text.db"))], 1, "file is not a database"),
        (&["--restore", text(&at("empty.db"))], 1, "it is empty"),
        (&["--restore", text(&at("other.db"))], 1, "a database of some other program"),
    ] {
        let (found, said) = run(Setup::error_tracker(), &folder, arguments);
        assert_eq!((found, said.contains(says)), (Some(code), true), "{arguments:?}: {said}");
    }
    let (code, said) = run(Setup::metrics_collector(), &folder, &["--restore", text(&at("good.db"))]);
    assert_eq!((code, said.contains("some other program")), (Some(1), true), "{said}");
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().contains("unfinished")), "{left:?}");
    assert_eq!(reports(&Setup::error_tracker().data_dir(&folder).start()), 199, "what was there stays");
}

#[test]
fn a_database_has_one_program_at_a_time() {
    let tracker = Setup::error_tracker().start();
    let (code, said) = Setup::error_tracker().data_dir(&tracker.data_dir).run_to_exit();
    assert_eq!((code, said.contains("errors.db: another program uses it; stop that first")), (Some(1), true), "{said}");
    let folder = tracker.kill();
    Setup::error_tracker().data_dir(&folder).start().get("/health").expect(200);
}
