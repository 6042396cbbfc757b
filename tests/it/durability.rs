//! Durability: acknowledged writes survive SIGKILL and a full disk, and the original's database can be opened in place.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;

use crate::support::databases::{assert_intact, copy_original};
use crate::support::harness::{
    Client, Request, Response, Service, Setup, TempDir, report_at, root_or_skip, wait_until,
};
use crate::support::logs::Container;

const KILLS: usize = 20;
const CLIENTS: u32 = 16;
/// Time between two kills. It is short, so that kills interrupt commits, flushes and checkpoints in every state.
const KILL_INTERVAL: Duration = Duration::from_millis(120);

/// Writes of one client across the kills.
struct ClientStats {
    line: u32,
    retrying: bool,
    acknowledged: u64,
    sent: u64,
}

/// Sends requests until `stop` is set. A retrying client repeats each request with its idempotency key until it is
/// acknowledged.
fn send_until_stopped(
    make_request: fn(u32) -> Request,
    (line, retrying): (u32, bool),
    address: &Mutex<SocketAddr>,
    stop: &AtomicBool,
) -> ClientStats {
    let mut client_stats = ClientStats { line, retrying, acknowledged: 0, sent: 0 };
    let mut client: Option<Client> = None;
    while !stop.load(Ordering::Relaxed) {
        let key = format!("client-{line}-report-{}", client_stats.sent);
        let request = if retrying { make_request(line).header("Idempotency-Key", &key) } else { make_request(line) };
        client_stats.sent += 1;
        loop {
            if client.is_none() {
                client = std::net::TcpStream::connect(*address.lock().unwrap()).ok().map(Client::new);
            }
            let response = client.as_mut().and_then(|client| {
                client.write(&request.bytes());
                client.try_read_response()
            });
            match response {
                Some(Response { status: 200..=202, .. }) => {
                    client_stats.acknowledged += 1;
                    break;
                }
                _ => client = None,
            }
            if !retrying {
                break;
            }
        }
    }
    client_stats
}

/// Kills and restarts a service repeatedly while clients send requests. Returns the running service and the clients'
/// statistics.
fn kill_under_load(
    setup: fn() -> Setup,
    make_request: fn(u32) -> Request,
    data_dir: &Arc<TempDir>,
) -> (Service, Vec<ClientStats>) {
    let mut service = setup().data_dir(data_dir).start();
    let address = Arc::new(Mutex::new(service.address));
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|n| {
            let (address, stop) = (Arc::clone(&address), Arc::clone(&stop));
            std::thread::spawn(move || send_until_stopped(make_request, (n + 1, n % 2 == 0), &address, &stop))
        })
        .collect();
    for _ in 0..KILLS {
        std::thread::sleep(KILL_INTERVAL);
        service.kill();
        service = setup().data_dir(data_dir).start();
        *address.lock().unwrap() = service.address;
    }
    stop.store(true, Ordering::Relaxed);
    let stats: Vec<ClientStats> = clients.into_iter().map(|client| client.join().unwrap()).collect();
    let acknowledged: u64 = stats.iter().map(|client_stats| client_stats.acknowledged).sum();
    eprintln!("{acknowledged} requests acknowledged across {KILLS} kills");
    (service, stats)
}

impl ClientStats {
    /// Asserts that `stored` is a correct number of stored writes for this client.
    fn assert_stored(&self, stored: u64) {
        let Self { line, acknowledged, sent, .. } = self;
        assert!(*acknowledged > 0, "client {line} got nothing acknowledged");
        if self.retrying {
            assert_eq!(stored, *sent, "client {line} retried until acknowledged");
        } else {
            let valid = (*acknowledged..=*sent).contains(&stored);
            assert!(valid, "client {line}: {acknowledged} acknowledged, {sent} sent, {stored} stored");
        }
    }
}

#[test]
fn sigkill_loses_no_acknowledged_report_and_counts_no_retry_twice() {
    let data_dir = Arc::new(TempDir::new());
    let make_request = |line| Request::post("/api/errors", &report_at("boom", line));
    let (service, stats) = kill_under_load(Setup::error_tracker, make_request, &data_dir);
    let list = service.get("/api/errors?limit=200").expect(200).json();
    for client_stats in &stats {
        let location = format!("/app/pay.py:{}", client_stats.line);
        let group = list["errors"].as_array().unwrap().iter().find(|group| group["location"] == location.as_str());
        client_stats.assert_stored(group.and_then(|group| group["count"].as_u64()).unwrap_or(0));
    }
    service.kill();
    assert_intact(&data_dir.path().join("errors.db"));
    let database = rusqlite::Connection::open(data_dir.path().join("errors.db")).unwrap();
    let hourly: i64 = database.query_row("SELECT sum(count) FROM hourly_counts", [], |row| row.get(0)).unwrap();
    let total: i64 = database.query_row("SELECT sum(count) FROM error_groups", [], |row| row.get(0)).unwrap();
    assert_eq!(hourly, total, "the hourly series and the groups have different counts");
}

#[test]
fn sigkill_keeps_points_rollups_and_counters_consistent_with_acknowledgments() {
    let data_dir = Arc::new(TempDir::new());
    let make_request = |line: u32| {
        let labels = json!({ "client": line });
        let sold = json!({ "name": "sold", "type": "counter", "value": 2, "labels": labels });
        let wait = json!({ "name": "wait_ms", "type": "histogram", "value": 5, "labels": labels });
        Request::post("/api/metrics", &json!([sold, wait]))
    };
    // The collector rolls up at every start, so kills also interrupt rollups.
    let (service, stats) = kill_under_load(Setup::metrics_collector, make_request, &data_dir);
    let sum = |name: &str, field: &str, resolution: &str, line: u32| -> f64 {
        let path = format!("/api/metrics?name={name}&period=2h&resolution={resolution}&labels=client:{line}");
        let buckets = service.get(&path).expect(200).json();
        buckets["data"].as_array().unwrap().iter().map(|bucket| bucket[field].as_f64().unwrap()).sum()
    };
    let counters = service.get("/federate").expect(200).text();
    for client_stats in &stats {
        let count = sum("wait_ms", "count", "minute", client_stats.line);
        client_stats.assert_stored(count as u64);
        for resolution in ["minute", "hour"] {
            assert_eq!(
                sum("sold", "sum", resolution, client_stats.line),
                2.0 * count,
                "{resolution}s of {}",
                client_stats.line
            );
            assert_eq!(
                sum("wait_ms", "sum", resolution, client_stats.line),
                5.0 * count,
                "{resolution}s of {}",
                client_stats.line
            );
        }
        for counter in [
            format!("sold{{client=\"{}\"}} {}\n", client_stats.line, 2.0 * count),
            format!("wait_ms_count{{client=\"{}\"}} {count}\n", client_stats.line),
        ] {
            assert!(counters.contains(&counter), "{counter:?} is missing in {counters}");
        }
    }
    service.kill();
    assert_intact(&data_dir.path().join("metrics.db"));
}

/// Temporary file system with a size limit, unmounted on drop.
struct SmallDisk(Arc<TempDir>);

impl SmallDisk {
    fn new(megabytes: u32) -> Self {
        let data_dir = Arc::new(TempDir::new());
        let disk = Self(data_dir);
        disk.mount(&format!("size={megabytes}m"));
        disk
    }

    fn grow(&self, megabytes: u32) {
        self.mount(&format!("remount,size={megabytes}m"));
    }

    /// Asserts that a service on the full disk reports itself as degraded, and recovers on its own after the disk grows.
    fn assert_recovery(&self, service: &Service) {
        let degraded = service.get("/health").expect(503);
        degraded.has(json!({ "status": "degraded", "reason": "writing to the database fails" }));
        self.grow(8);
        wait_until(|| (service.get("/health").status == 200).then_some(()))
            .expect("health recovers without any traffic");
        assert!(service.log().iter().any(|line| line.contains("db: writing failed: ")), "{:#?}", service.log());
        service.wait_for_log("db: writing recovered").expect("the service logs its recovery");
    }

    fn mount(&self, options: &str) {
        let status = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(self.0.path()).status();
        assert!(status.unwrap().success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // No process uses the file system any more. If unmounting fails, only an unused mount remains.
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

/// Sends requests until the disk is full and returns the last rejection.
fn send_until_disk_full(mut post: impl FnMut() -> Response) -> Response {
    let mut consecutive_rejections = 0;
    // A checkpoint of the write-ahead log can free space, so only 20 consecutive rejections mean that the disk is full.
    let rejection = wait_until(|| {
        let response = post();
        consecutive_rejections = if response.status == 503 { consecutive_rejections + 1 } else { 0 };
        (consecutive_rejections == 20).then_some(response)
    });
    let rejection = rejection.expect("a disk of 1 MB becomes full");
    assert_eq!(rejection.header("retry-after"), Some("5"));
    rejection
}

#[test]
fn full_disk_is_reported_and_loses_no_acknowledged_report() {
    if !root_or_skip("mounting a small file system, to test a full disk,") {
        return;
    }
    let disk = SmallDisk::new(1);
    let service = Setup::error_tracker().data_dir(&disk.0).start();
    let filler = "f".repeat(8_000);
    let post = |line: u32| {
        let mut report = report_at("boom", line);
        report["extra"] = json!({ "filler": filler });
        service.post("/api/errors", &report)
    };
    let mut stored = Vec::new();
    let mut line = 0;
    let rejection = send_until_disk_full(|| {
        line += 1;
        let response = post(line);
        if response.status == 201 {
            stored.push(response.id());
        }
        response
    });
    rejection.expect(503).has_detail("nothing was stored");
    service.get("/api/errors").expect(200);
    disk.assert_recovery(&service);
    stored.push(post(100_000).expect(201).id());
    assert!(stored.len() > 5, "only {} reports were stored", stored.len());
    for id in &stored {
        service.get(&format!("/api/errors/{id}")).expect(200);
    }
    let data_dir = service.kill();
    assert_intact(&data_dir.path().join("errors.db"));
}

#[test]
fn full_disk_loses_no_acknowledged_point_and_counts_no_rejected_one() {
    if !root_or_skip("mounting a small file system, to test a full disk,") {
        return;
    }
    let disk = SmallDisk::new(1);
    // The rollups, every second, need disk space too.
    let setup = || Setup::metrics_collector().env("AGGREGATION_INTERVAL", 1).data_dir(&disk.0);
    let service = setup().start();
    let mut batches = 0;
    let batch = |number: u32| {
        let point = |n: u32| json!({ "name": "wait_ms", "type": "histogram", "value": 3, "labels": { "worker": n, "hour": number % 7 } });
        json!((0..100).map(point).collect::<Vec<_>>())
    };
    let mut post = |number: u32| {
        let response = service.post("/api/metrics", &batch(number));
        batches += u32::from(response.status == 202);
        response
    };
    let mut number = 0;
    let rejection = send_until_disk_full(|| {
        number += 1;
        post(number)
    });
    rejection.expect(503).has_detail("nothing was stored");
    disk.assert_recovery(&service);
    post(number + 1).expect(202);
    assert!(batches > 10, "only {batches} batches were stored");
    let assert_counts = |service: &Service| {
        for resolution in ["minute", "hour"] {
            let path = format!("/api/metrics?name=wait_ms&period=2h&resolution={resolution}");
            let buckets = service.get(&path).expect(200).json();
            let sum = |field: &str| -> f64 {
                buckets["data"].as_array().unwrap().iter().map(|bucket| bucket[field].as_f64().unwrap()).sum()
            };
            let count = f64::from(batches * 100);
            assert_eq!((sum("count"), sum("sum")), (count, 3.0 * count), "{resolution}s");
        }
    };
    assert_counts(&service);
    let data_dir = service.kill();
    assert_intact(&data_dir.path().join("metrics.db"));
    assert_counts(&setup().start());
}

#[test]
fn original_database_opens_in_place_and_keeps_counting_its_groups() {
    let data_dir = Arc::new(TempDir::new());
    let path = data_dir.path().join("errors.db");
    copy_original("errors.db", &path);
    let before = read_original_groups(&path);
    let service = Setup::error_tracker().data_dir(&data_dir).start();
    let list = service.get("/api/errors?resolved=all&limit=200").expect(200).json();
    assert_eq!(list["total"], before.len());
    for original in &before {
        let detail = service.get(&format!("/api/errors/{}", original.id)).expect(200).json();
        for (field, value) in [
            ("fingerprint", json!(original.fingerprint)),
            ("count", json!(original.count)),
            ("resolved", json!(original.resolved)),
            ("traceback", json!(original.traceback)),
            ("first_seen", json!(original.first_seen)),
        ] {
            assert_eq!(detail[field], value, "{field} of {}", original.id);
        }
        let occurrences = detail["occurrences"].as_array().unwrap();
        let ids: Vec<i64> = occurrences.iter().map(|occurrence| occurrence["id"].as_i64().unwrap()).collect();
        assert_eq!(ids, original.occurrences, "occurrences of {}", original.id);
        let repeat = json!({
            "project": original.project,
            "exception_type": original.exception_type,
            "message": "again",
            "traceback": original.traceback,
        });
        let status = if original.resolved { "reopened" } else { "incremented" };
        let expected = json!({ "status": status, "id": original.id, "count": original.count + 1, "fingerprint": original.fingerprint });
        service.post("/api/errors", &repeat).expect(200).has(expected);
    }
    assert!(
        service.post("/api/errors", &report_at("new", 7_777)).expect(201).id() > 28,
        "a group of the original database has the same ID"
    );
    assert!(
        service.get("/api/errors?search=undefined").json()["total"].as_i64().unwrap() > 0,
        "the imported groups are not in the search index"
    );
    let (status, _) = service.stop();
    assert!(status.success());
    assert_eq!(read_original_groups(&data_dir.path().join("errors.db.original-4")).len(), before.len());
    Setup::error_tracker().data_dir(&data_dir).start().get("/health").expect(200);
}

/// Group as stored by the original.
struct OriginalGroup {
    id: i64,
    fingerprint: String,
    project: String,
    exception_type: String,
    traceback: String,
    count: i64,
    first_seen: String,
    resolved: bool,
    /// IDs of the stored occurrences, newest first.
    occurrences: Vec<i64>,
}

fn read_original_groups(path: &Path) -> Vec<OriginalGroup> {
    let database = rusqlite::Connection::open(path).unwrap();
    let sql = "SELECT id, fingerprint, project, exception_type, traceback, count, first_seen, resolved FROM errors";
    let mut groups = database.prepare(sql).unwrap();
    let mut occurrences =
        database.prepare("SELECT id FROM error_occurrences WHERE error_id = ?1 ORDER BY id DESC").unwrap();
    let rows = groups.query_map([], |row| {
        let id = row.get(0)?;
        Ok(OriginalGroup {
            id,
            fingerprint: row.get(1)?,
            project: row.get(2)?,
            exception_type: row.get(3)?,
            traceback: row.get(4)?,
            count: row.get(5)?,
            first_seen: row.get(6)?,
            resolved: row.get(7)?,
            occurrences: occurrences.query_map([id], |row| row.get(0))?.collect::<Result<_, _>>()?,
        })
    });
    rows.unwrap().collect::<Result<_, _>>().unwrap()
}

#[test]
fn almost_full_disk_pauses_the_largest_log_and_loses_no_line() {
    if !root_or_skip("mounting a small file system, to test an almost full disk,") {
        return;
    }
    const LINE_BYTES: usize = 60_000;
    let (disk, logs) = (SmallDisk::new(160), TempDir::new());
    let (loud, quiet) = (Container::new(&logs, "loud"), Container::new(&logs, "quiet"));
    quiet.write_now(["first"]);
    let containers = logs.path().join("containers");
    let viewer = Setup::log_viewer().data_dir(&disk.0).env("LOG_SOURCES", containers.display()).start();
    let count = |container: &str| {
        let listed = viewer.get(&format!("/api/logs?container={container}&limit=1")).expect(200).json();
        listed["total"].as_u64().unwrap()
    };
    let is_paused = || {
        let health = viewer.get("/health").expect(200).json();
        health["warnings"].as_array().into_iter().flatten().any(|warning| warning["code"] == "disk_low")
    };
    // A small database may store entries on any disk, so it has to exceed 64 MiB. The disk also holds the write-ahead log,
    // which exceeds its usual size on a busy machine.
    let words = format!("INFO {}", "word ".repeat(LINE_BYTES / 5));
    let lines = 1_150;
    // Of a log that exists at the first round, only the end is read.
    wait_until(|| (count("quiet") == 1).then_some(())).expect("the first round ends");
    // In small batches, so that a busy machine stores each of them before the deadline.
    for batch in 1..=lines / 10 {
        loud.write_now((0..10).map(|_| &words));
        wait_until(|| (count("loud") == batch * 10).then_some(())).expect("the lines are stored");
    }
    assert!(!is_paused());
    // Another program leaves 7.5 % of the disk free: less than 10 %, but more than 5 %.
    let space = rustix::fs::statvfs(disk.0.path()).unwrap();
    let filler_bytes = (space.f_bavail - space.f_blocks * 75 / 1_000) * space.f_frsize;
    std::fs::write(disk.0.path().join("filler"), vec![1; usize::try_from(filler_bytes).unwrap()]).unwrap();
    wait_until(|| is_paused().then_some(())).expect("the largest log is paused");
    loud.write_now(["INFO after the pause"]);
    quiet.write_now(["INFO second"]);
    wait_until(|| (count("quiet") == 2).then_some(())).expect("other logs are read");
    assert_eq!(count("loud"), lines, "the largest log is not read");
    disk.grow(600);
    wait_until(|| (count("loud") == lines + 1).then_some(())).expect("the paused log is read to its end");
    assert!(!is_paused());
}
