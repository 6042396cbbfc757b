//! Missing, empty and damaged databases, full disks, and the default size limit: reported, never replaced or shrunk.

use std::fs::{File, OpenOptions};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use serde_json::json;

use crate::support::databases::assert_intact;
use crate::support::harness::{Request, SERVICES, Setup, TempDir, report_at, root_or_skip, wait_until};
use crate::support::programs::{is_installed, output_text};

const DATABASES: [&str; 4] = ["errors.db", "logs.db", "metrics.db", "browser-relay.db"];
const PAGE_BYTES: u64 = 4_096;
/// Bytes that fill the disk before it is measured.
const FILL_STEP_BYTES: usize = 64 * 1024;

fn setup(service: usize) -> Setup {
    let closed_port = SocketAddr::from(([127, 0, 0, 1], 9));
    match service {
        0 => Setup::error_tracker(),
        1 => Setup::log_viewer(),
        2 => Setup::metrics_collector(),
        _ => Setup::browser_relay(closed_port, closed_port),
    }
}

/// Runs a service that must not start, and returns its output.
#[track_caller]
fn refuse_to_start(service: usize, data_dir: &Arc<TempDir>) -> String {
    // A service that starts would never exit.
    let (code, output) = setup(service).data_dir(data_dir).wrapped_by(&["timeout", "20"]).run_to_exit();
    assert_eq!(code, Some(1), "{}: {output}", SERVICES[service]);
    output
}

/// Returns the number of groups of an error tracker on the databases in a folder, which then stops.
fn count_groups(data_dir: &Arc<TempDir>) -> i64 {
    let tracker = Setup::error_tracker().data_dir(data_dir).start();
    let total = tracker.get("/api/errors").expect(200).json()["total"].as_i64().unwrap();
    assert!(tracker.stop().0.success());
    total
}

/// Runs `--backup` or `--restore` of the error tracker.
#[track_caller]
fn run_tracker(data_dir: &Arc<TempDir>, argument: &str, file: &Path) -> String {
    let arguments = [argument, file.to_str().unwrap()];
    let (code, output) = Setup::error_tracker().data_dir(data_dir).arguments(&arguments).run_to_exit();
    assert_eq!(code, Some(0), "{output}");
    output
}

#[test]
fn missing_or_empty_database_is_never_replaced_by_a_new_one() {
    for (service, database) in DATABASES.iter().enumerate() {
        for (remains, content, message) in [
            ("", &b""[..], "it is empty (0 bytes), so its data is lost; restore a backup with --restore FILE"),
            (".before-restore", b"x", "a restore was interrupted. Run the restore again"),
            (".before-restore.2", b"x", "a restore was interrupted. Run the restore again"),
            (".unfinished", b"x", "a restore was interrupted. Run the restore again"),
            ("-wal", b"x", "but its write-ahead log "),
            (".last-backup", b"2026-01-31T12:00:00Z\n", "it was backed up at 2026-01-31T12:00:00Z"),
        ] {
            let data_dir = Arc::new(TempDir::new());
            let path = data_dir.path().join(database);
            std::fs::write(data_dir.path().join(format!("{database}{remains}")), content).unwrap();
            let output = refuse_to_start(service, &data_dir);
            assert!(
                output.contains(message) && output.contains(path.to_str().unwrap()),
                "{database}{remains}: {output}"
            );
            let files = std::fs::read_dir(data_dir.path()).unwrap().count();
            assert_eq!((files, path.exists()), (1, remains.is_empty()), "{database}{remains}: a file was created");
        }
    }
}

#[test]
fn database_that_is_deleted_after_a_backup_is_reported_until_it_is_restored() {
    let tracker = Setup::error_tracker().start();
    tracker.post("/api/errors", &report_at("boom", 1)).expect(201);
    let data_dir = Arc::clone(&tracker.data_dir);
    let copies = TempDir::new();
    let copy = copies.path().join("copy.db");
    run_tracker(&data_dir, "--backup", &copy);
    assert!(tracker.stop().0.success());
    std::fs::remove_file(data_dir.path().join("errors.db")).unwrap();
    assert!(refuse_to_start(0, &data_dir).contains("it is missing, although it was backed up at 2"));
    run_tracker(&data_dir, "--restore", &copy);
    assert_eq!(count_groups(&data_dir), 1);
}

#[test]
fn restore_that_is_killed_between_its_steps_loses_nothing_when_it_is_repeated() {
    let tracker = Setup::error_tracker().start();
    tracker.post("/api/errors", &report_at("boom", 1)).expect(201);
    let data_dir = Arc::clone(&tracker.data_dir);
    let copies = TempDir::new();
    let copy = copies.path().join("copy.db");
    run_tracker(&data_dir, "--backup", &copy);
    tracker.post("/api/errors", &report_at("boom", 2)).expect(201);
    // Leaves a write-ahead log with the second report.
    tracker.kill();
    let at = |name: &str| data_dir.path().join(name);
    let rename = |from: &str, to: &str| std::fs::rename(at(from), at(to)).unwrap();

    // Killed after the database was moved away, and after its log was.
    rename("errors.db", "errors.db.before-restore");
    std::fs::write(at("errors.db.unfinished"), "half a copy").unwrap();
    assert!(refuse_to_start(0, &data_dir).contains("errors.db.before-restore exists: a restore was interrupted"));
    run_tracker(&data_dir, "--restore", &copy);
    assert!(!at("errors.db-wal").exists() && at("errors.db.before-restore-wal").exists());
    assert_eq!(count_groups(&data_dir), 1);

    rename("errors.db", "errors.db.before-restore.2");
    refuse_to_start(0, &data_dir);
    run_tracker(&data_dir, "--restore", &at("errors.db.before-restore"));
    assert_eq!(count_groups(&data_dir), 2, "the write-ahead log of the replaced database is lost");
    assert!(!at("errors.db.unfinished").exists());
}

/// Overwrites a page of a database file.
fn damage_page(path: &Path, page: u64) {
    let mut file = OpenOptions::new().write(true).open(path).unwrap();
    file.seek(SeekFrom::Start((page - 1) * PAGE_BYTES)).unwrap();
    file.write_all(&[0xA5; PAGE_BYTES as usize]).unwrap();
}

fn root_page(path: &Path, table: &str) -> u64 {
    let database = rusqlite::Connection::open(path).unwrap();
    let sql = "SELECT rootpage FROM sqlite_schema WHERE name = ?1";
    database.query_row(sql, [table], |row| row.get::<_, i64>(0)).unwrap() as u64
}

#[test]
fn damaged_page_is_reported_at_the_start_and_in_health() {
    for (service, table) in [(0, "error_occurrences"), (1, "counters"), (2, "counters"), (3, "counters")] {
        let started = setup(service).start();
        let data_dir = Arc::clone(&started.data_dir);
        assert!(started.stop().0.success());
        let path = data_dir.path().join(DATABASES[service]);
        damage_page(&path, root_page(&path, table));
        let before = std::fs::metadata(&path).unwrap().len();
        if [1, 2].contains(&service) {
            // They read the damaged table at the start.
            let output = refuse_to_start(service, &data_dir);
            assert!(output.contains("the database is damaged") && output.contains("restore a backup"), "{output}");
            assert_eq!(std::fs::metadata(&path).unwrap().len(), before);
            continue;
        }
        let damaged = setup(service).data_dir(&data_dir).start();
        let health = damaged.get("/health").expect(503);
        health.has(json!({ "status": "degraded", "reason": "the database is damaged; restore a backup" }));
        let log = damaged.log();
        let message = format!("db: the database is damaged: table {table}: ");
        assert!(log.iter().any(|line| line.contains(&message)), "{log:?}");
    }
}

#[test]
fn damage_that_appears_later_is_reported_as_damage_and_not_as_a_full_disk() {
    let tracker = Setup::error_tracker().start();
    let data_dir = Arc::clone(&tracker.data_dir);
    assert!(tracker.stop().0.success());
    let path = data_dir.path().join("errors.db");
    let alerts = root_page(&path, "alert_events");
    let tracker = Setup::error_tracker().data_dir(&data_dir).start();
    tracker.get("/health").expect(200);
    // Only readers use this page.
    damage_page(&path, alerts);
    tracker.get("/api/alerts").expect(503);
    tracker.get("/health").expect(503).has(json!({ "reason": "the database is damaged; restore a backup" }));
    tracker
        .wait_for_log("db: the database is damaged: database disk image is malformed; stop the service and restore")
        .expect("the log names the damage");
}

#[test]
fn missing_row_of_totals_is_reported_as_damage() {
    let collector = Setup::metrics_collector().start();
    let data_dir = Arc::clone(&collector.data_dir);
    assert!(collector.stop().0.success());
    let database = rusqlite::Connection::open(data_dir.path().join("metrics.db")).unwrap();
    database.execute("DELETE FROM counters WHERE name = 'series'", []).unwrap();
    drop(database);
    let collector = Setup::metrics_collector().data_dir(&data_dir).start();
    collector.post("/api/metrics", &json!([{ "name": "a", "type": "gauge", "value": 1 }])).expect(503);
    collector.get("/health").expect(503).has(json!({ "reason": "the database is damaged; restore a backup" }));
}

#[test]
fn file_that_is_no_database_is_not_touched_and_the_message_names_the_remedy() {
    let data_dir = Arc::new(TempDir::new());
    let content =
        "not a database, but long enough to be read as one, since it has more bytes than a header of 100 bytes";
    std::fs::write(data_dir.path().join("errors.db"), content).unwrap();
    let output = refuse_to_start(0, &data_dir);
    assert!(output.contains("it is damaged: file is not a database; restore a backup with --restore FILE"), "{output}");
    assert_eq!(std::fs::read_to_string(data_dir.path().join("errors.db")).unwrap(), content);
}

#[test]
fn database_larger_than_the_default_keeps_its_size_and_a_warning_says_so() {
    for (service, database) in DATABASES.iter().enumerate() {
        let started = setup(service).start();
        let data_dir = Arc::clone(&started.data_dir);
        let health = started.get("/health").expect(200).text();
        assert!(!health.contains("database_over_max"), "{health}");
        assert!(started.stop().0.success());
        // The size that the database had at its first start with the default.
        let connection = rusqlite::Connection::open(data_dir.path().join(database)).unwrap();
        let sql = "UPDATE _meta SET value = '5000000000' WHERE key = 'size_at_default_limit_bytes'";
        assert_eq!(connection.execute(sql, []).unwrap(), 1, "{database}");
        drop(connection);
        let started = setup(service).data_dir(&data_dir).start();
        let health = started.get("/health").expect(200).json();
        let warnings = health["warnings"].as_array().unwrap();
        let warning = warnings.iter().find(|warning| warning["code"] == "database_over_max");
        assert_eq!(warning.unwrap()["count"], 5_000, "{health}");
        assert!(started.stop().0.success());
        // The operator's choice ends the exception.
        let started = setup(service).data_dir(&data_dir).env("MAX_DB_MB", 100).start();
        let health = started.get("/health").expect(200).text();
        assert!(!health.contains("database_over_max"), "{health}");
    }
}

/// Small ext4 file system in an image file, mounted through a loop device and unmounted on drop.
struct Ext4 {
    folder: Arc<TempDir>,
    _image_dir: TempDir,
}

impl Ext4 {
    fn new(block_bytes: u32) -> Self {
        let (image_dir, folder) = (TempDir::new(), Arc::new(TempDir::new()));
        let image = image_dir.path().join("image");
        File::create(&image).unwrap().set_len(16 << 20).unwrap();
        let image = image.display().to_string();
        run_program("mkfs.ext4", &["-q", "-F", "-m", "0", "-b", &block_bytes.to_string(), &image]);
        run_program("mount", &["-o", "loop", &image, &folder.path().display().to_string()]);
        Self { folder, _image_dir: image_dir }
    }

    /// Fills the file system, except for `free_bytes`.
    fn fill(&self, free_bytes: u64) {
        let path = self.folder.path().join("fill");
        let mut file = OpenOptions::new().create(true).append(true).open(&path).unwrap();
        for bytes in [FILL_STEP_BYTES, 1_024] {
            while file.write_all(&vec![1; bytes]).and_then(|()| file.sync_data()).is_ok() {}
        }
        let length = file.metadata().unwrap().len();
        file.set_len(length.saturating_sub(free_bytes)).unwrap();
        file.sync_all().unwrap();
    }
}

impl Drop for Ext4 {
    fn drop(&mut self) {
        // No process uses the file system any more. If unmounting fails, only an unused mount remains.
        let _ = Command::new("umount").arg("--lazy").arg(self.folder.path()).status();
    }
}

#[track_caller]
fn run_program(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?} failed: {}", output_text(&output));
}

fn ext4_or_skip() -> bool {
    if !is_installed("mkfs.ext4") {
        crate::support::harness::skip("mkfs.ext4 is not installed; starts on a full ext4 file system are not tested");
        return false;
    }
    root_or_skip("mounting an ext4 file system, to test starts on a full disk,")
}

#[test]
fn start_on_a_full_disk_says_so_and_is_not_killed() {
    if !ext4_or_skip() {
        return;
    }
    for block_bytes in [1_024, 4_096] {
        let disk = Ext4::new(block_bytes);
        for service in 0..SERVICES.len() {
            assert!(setup(service).data_dir(&disk.folder).start().stop().0.success());
        }
        for free_kib in [0, 24, 48, 128] {
            disk.fill(free_kib * 1_024);
            for service in 0..SERVICES.len() {
                let output = refuse_to_start(service, &disk.folder);
                let message = format!("the disk of {} is full: ", disk.folder.path().display());
                assert!(output.contains(&message), "{block_bytes}, {free_kib} KiB free: {output}");
            }
        }
        // A first start, which leaves no file behind.
        let path = disk.folder.path().join("new/errors.db");
        disk.fill(0);
        let (code, output) =
            Setup::error_tracker().env("DATABASE_PATH", path.display()).wrapped_by(&["timeout", "20"]).run_to_exit();
        assert_eq!((code, output.contains(" is full: ")), (Some(1), true), "{output}");
        assert!(!path.exists());
        // The services recover without any other repair.
        std::fs::remove_file(disk.folder.path().join("fill")).unwrap();
        for service in 0..SERVICES.len() {
            setup(service).data_dir(&disk.folder).start().get("/health").expect(200);
        }
    }
}

#[test]
fn backup_of_a_stopped_service_works_on_a_full_disk() {
    if !ext4_or_skip() {
        return;
    }
    let (disk, copies) = (Ext4::new(1_024), TempDir::new());
    let tracker = Setup::error_tracker().data_dir(&disk.folder).start();
    tracker.post("/api/errors", &report_at("boom", 1)).expect(201);
    assert!(tracker.stop().0.success());
    for free_kib in [0, 4, 8, 12, 16, 32, 64] {
        disk.fill(free_kib * 1_024);
        let copy = copies.path().join(format!("copy-{free_kib}.db"));
        run_tracker(&disk.folder, "--backup", &copy);
        assert_intact(&copy);
    }
    std::fs::remove_file(disk.folder.path().join("fill")).unwrap();
    // The last changes are only in the write-ahead log.
    let tracker = Setup::error_tracker().data_dir(&disk.folder).start();
    tracker.post("/api/errors", &report_at("boom", 2)).expect(201);
    tracker.kill();
    disk.fill(0);
    let copy = copies.path().join("copy.db");
    let arguments = ["--backup", copy.to_str().unwrap()];
    let (code, output) = Setup::error_tracker().data_dir(&disk.folder).arguments(&arguments).run_to_exit();
    assert_eq!((code, output.contains(" is full: ")), (Some(1), true), "{output}");
    assert!(!copy.exists());
}

#[test]
fn disk_that_becomes_full_after_the_start_kills_no_service() {
    if !ext4_or_skip() {
        return;
    }
    let disk = Ext4::new(1_024);
    let services: Vec<_> = (0..SERVICES.len()).map(|service| setup(service).data_dir(&disk.folder).start()).collect();
    disk.fill(0);
    // Larger than what the file system can still find for a moment.
    let post = |line: u32| {
        let mut report = report_at("boom", line);
        report["extra"] = json!({ "filler": "f".repeat(100_000) });
        services[0].post("/api/errors", &report).status
    };
    let mut line = 0;
    let is_rejected = || {
        line += 1;
        (post(line) == 503).then_some(())
    };
    wait_until(is_rejected).expect("the disk is full");
    services[2].post("/api/metrics", &json!([{ "name": "a", "type": "gauge", "value": 1 }]));
    services[3].post("/api/dsn-keys", &json!({ "project": "shop" }));
    services[0].get("/health").expect(503).has(json!({ "reason": "writing to the database fails" }));
    std::fs::remove_file(disk.folder.path().join("fill")).unwrap();
    for service in &services {
        wait_until(|| (service.send(&Request::get("/health")).status == 200).then_some(()))
            .expect("the service recovers");
    }
}
