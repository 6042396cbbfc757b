//! What is acknowledged stays, whatever happens to the process or to the disk.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;

use crate::harness::{Client, Request, Response, Service, Setup, TempDir, report_at, root_or_skip, wait_until};

const KILLS: usize = 20;
const CLIENTS: u32 = 16;
/// Between two kills, so that each finds commits, flushes and checkpoints in every state.
const LIFE: Duration = Duration::from_millis(120);

/// One client's part in the killing test.
struct Tally {
    line: u32,
    retrying: bool,
    acknowledged: u64,
    sent: u64,
}

/// Posts until told to stop. A retrying client sends each report again, with its key, until it is acknowledged.
fn keep_posting(
    report: fn(u32) -> Request,
    (line, retrying): (u32, bool),
    address: &Mutex<SocketAddr>,
    stop: &AtomicBool,
) -> Tally {
    let mut tally = Tally { line, retrying, acknowledged: 0, sent: 0 };
    let mut client: Option<Client> = None;
    while !stop.load(Ordering::Relaxed) {
        let key = format!("client-{line}-report-{}", tally.sent);
        let request = if retrying { report(line).header("Idempotency-Key", &key) } else { report(line) };
        tally.sent += 1;
        loop {
            if client.is_none() {
                client = std::net::TcpStream::connect(*address.lock().unwrap()).ok().map(Client::new);
            }
            let answer = client.as_mut().and_then(|client| {
                client.write(&request.bytes());
                client.try_read_response()
            });
            match answer {
                Some(Response { status: 200..=202, .. }) => {
                    tally.acknowledged += 1;
                    break;
                }
                _ => client = None,
            }
            if !retrying {
                break;
            }
        }
    }
    tally
}

/// Clients post to a service that is killed and started again; answers it as it then is, and what they did.
fn across_kills(setup: fn() -> Setup, report: fn(u32) -> Request, folder: &Arc<TempDir>) -> (Service, Vec<Tally>) {
    let mut service = setup().data_dir(folder).start();
    let address = Arc::new(Mutex::new(service.address));
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|n| {
            let (address, stop) = (Arc::clone(&address), Arc::clone(&stop));
            std::thread::spawn(move || keep_posting(report, (n + 1, n % 2 == 0), &address, &stop))
        })
        .collect();
    for _ in 0..KILLS {
        std::thread::sleep(LIFE);
        service.kill();
        service = setup().data_dir(folder).start();
        *address.lock().unwrap() = service.address;
    }
    stop.store(true, Ordering::Relaxed);
    let tallies: Vec<Tally> = clients.into_iter().map(|client| client.join().unwrap()).collect();
    let total: u64 = tallies.iter().map(|tally| tally.acknowledged).sum();
    eprintln!("{total} reports acknowledged across {KILLS} kills");
    (service, tallies)
}

impl Tally {
    /// Fails unless so many stored reports are right.
    fn agrees_with(&self, count: u64) {
        let Self { line, acknowledged, sent, .. } = self;
        assert!(*acknowledged > 0, "client {line} got nothing acknowledged");
        if self.retrying {
            assert_eq!(count, *sent, "client {line} retried until acknowledged");
        } else {
            let right = (*acknowledged..=*sent).contains(&count);
            assert!(right, "client {line}: {acknowledged} acknowledged, {sent} sent, {count} stored");
        }
    }
}

#[test]
fn nothing_acknowledged_is_lost_and_nothing_retried_counts_twice_across_twenty_kills() {
    let folder = Arc::new(TempDir::new());
    let report = |line| Request::post("/api/errors", &report_at("boom", line));
    let (service, tallies) = across_kills(Setup::error_tracker, report, &folder);
    let listed = service.get("/api/errors?limit=200").expect(200).json();
    for tally in &tallies {
        let location = format!("/app/pay.py:{}", tally.line);
        let found = listed["errors"].as_array().unwrap().iter().find(|group| group["location"] == location.as_str());
        tally.agrees_with(found.and_then(|group| group["count"].as_u64()).unwrap_or(0));
    }
    service.kill();
    let database = rusqlite::Connection::open(folder.path().join("errors.db")).unwrap();
    let verdict: String = database.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(verdict, "ok");
    let hourly: i64 = database.query_row("SELECT sum(count) FROM error_series", [], |row| row.get(0)).unwrap();
    let counted: i64 = database.query_row("SELECT sum(count) FROM errors", [], |row| row.get(0)).unwrap();
    assert_eq!(hourly, counted, "the series counts what the groups count");
}

#[test]
fn points_rollups_and_totals_agree_with_what_was_acknowledged_across_twenty_kills() {
    let folder = Arc::new(TempDir::new());
    let report = |line: u32| {
        let labels = json!({ "client": line });
        let sold = json!({ "name": "sold", "type": "counter", "value": 2, "labels": labels });
        let wait = json!({ "name": "wait_ms", "type": "histogram", "value": 5, "labels": labels });
        Request::post("/api/metrics", &json!([sold, wait]))
    };
    // Every start rolls up what there is, so kills also find rollups half done.
    let (service, tallies) = across_kills(Setup::metrics_collector, report, &folder);
    let sum = |name: &str, field: &str, resolution: &str, line: u32| -> f64 {
        let path = format!("/api/metrics?name={name}&period=2h&resolution={resolution}&labels=client:{line}");
        let buckets = service.get(&path).expect(200).json();
        buckets["data"].as_array().unwrap().iter().map(|bucket| bucket[field].as_f64().unwrap()).sum()
    };
    let totals = service.get("/federate").expect(200).text();
    for tally in &tallies {
        let count = sum("wait_ms", "count", "minute", tally.line);
        tally.agrees_with(count as u64);
        for resolution in ["minute", "hour"] {
            assert_eq!(sum("sold", "sum", resolution, tally.line), 2.0 * count, "{resolution}s of {}", tally.line);
            assert_eq!(sum("wait_ms", "sum", resolution, tally.line), 5.0 * count, "{resolution}s of {}", tally.line);
        }
        for total in [
            format!("sold{{client=\"{}\"}} {}\n", tally.line, 2.0 * count),
            format!("wait_ms_count{{client=\"{}\"}} {count}\n", tally.line),
        ] {
            assert!(totals.contains(&total), "{total} in {totals}");
        }
    }
    service.kill();
    integrity(&folder.path().join("metrics.db"));
}

/// A file system of its own size, unmounted with the test.
struct SmallDisk(Arc<TempDir>);

impl SmallDisk {
    fn new(megabytes: u32) -> Self {
        let folder = Arc::new(TempDir::new());
        let disk = Self(folder);
        disk.mount(&format!("size={megabytes}m"));
        disk
    }

    fn grow(&self, megabytes: u32) {
        self.mount(&format!("remount,size={megabytes}m"));
    }

    /// Fails unless a service on this disk says that it is full, and finds by itself that it no longer is.
    fn recovers(&self, service: &Service) {
        let degraded = service.get("/health").expect(503);
        degraded.has(json!({ "status": "degraded", "reason": "the database refuses writes" }));
        self.grow(8);
        wait_until(|| (service.get("/health").status == 200).then_some(()))
            .expect("health recovers without any traffic");
        assert!(service.log().iter().any(|line| line.contains("refuses writes")), "{:#?}", service.log());
        service.wait_for_log("takes writes again").expect("it says so");
    }

    fn mount(&self, options: &str) {
        let status = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(self.0.path()).status();
        assert!(status.unwrap().success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // The service that used it is gone by now; a leftover mount would only be untidy.
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

/// Posts until the disk is full; answers the last refusal.
fn until_full(mut post: impl FnMut() -> Response) -> Response {
    let mut refused_in_a_row = 0;
    // A refusal may be followed by a success, once the write-ahead log was emptied; twenty in a row mean a full disk.
    let refusal = wait_until(|| {
        let answer = post();
        refused_in_a_row = if answer.status == 503 { refused_in_a_row + 1 } else { 0 };
        (refused_in_a_row == 20).then_some(answer)
    });
    let refusal = refusal.expect("a disk of 1 MB fills up");
    assert_eq!(refusal.header("retry-after"), Some("5"));
    refusal
}

fn integrity(path: &Path) {
    let database = rusqlite::Connection::open(path).unwrap();
    let verdict: String = database.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(verdict, "ok");
}

#[test]
fn a_full_disk_is_said_so_and_recovered_from_without_losing_what_was_acknowledged() {
    if !root_or_skip("mounting a small disk") {
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
    let refusal = until_full(|| {
        line += 1;
        let answer = post(line);
        if answer.status == 201 {
            stored.push(answer.id());
        }
        answer
    });
    refusal.expect(503).has_detail("nothing was stored");
    service.get("/api/errors").expect(200);
    disk.recovers(&service);
    stored.push(post(100_000).expect(201).id());
    assert!(stored.len() > 5, "only {} were stored", stored.len());
    for id in &stored {
        service.get(&format!("/api/errors/{id}")).expect(200);
    }
    let folder = service.kill();
    integrity(&folder.path().join("errors.db"));
}

#[test]
fn a_full_disk_loses_no_acknowledged_point_and_counts_no_refused_one() {
    if !root_or_skip("mounting a small disk") {
        return;
    }
    let disk = SmallDisk::new(1);
    // Every second rollups need room too.
    let setup = || Setup::metrics_collector().env("AGGREGATION_INTERVAL", 1).data_dir(&disk.0);
    let service = setup().start();
    let mut batches = 0;
    let batch = |number: u32| {
        let point = |n: u32| json!({ "name": "wait_ms", "type": "histogram", "value": 3, "labels": { "worker": n, "hour": number % 7 } });
        json!((0..100).map(point).collect::<Vec<_>>())
    };
    let mut post = |number: u32| {
        let answer = service.post("/api/metrics", &batch(number));
        batches += u32::from(answer.status == 202);
        answer
    };
    let mut number = 0;
    let refusal = until_full(|| {
        number += 1;
        post(number)
    });
    refusal.expect(503).has_detail("nothing was stored");
    disk.recovers(&service);
    post(number + 1).expect(202);
    assert!(batches > 10, "only {batches} batches were stored");
    let agrees = |service: &Service| {
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
    agrees(&service);
    let folder = service.kill();
    integrity(&folder.path().join("metrics.db"));
    agrees(&setup().start());
}

#[test]
fn a_file_of_the_original_opens_in_place_and_its_groups_go_on() {
    let folder = Arc::new(TempDir::new());
    let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/original/errors.db");
    let path = folder.path().join("errors.db");
    std::fs::copy(fixture, &path).unwrap();
    let before = originals(&path);
    let service = Setup::error_tracker().data_dir(&folder).start();
    let listed = service.get("/api/errors?resolved=all&limit=200").expect(200).json();
    assert_eq!(listed["total"], before.len());
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
        let kept: Vec<i64> =
            detail["occurrences"].as_array().unwrap().iter().map(|kept| kept["id"].as_i64().unwrap()).collect();
        assert_eq!(kept, original.occurrences, "occurrences of {}", original.id);
        let again = json!({
            "project": original.project,
            "exception_type": original.exception_type,
            "message": "again",
            "traceback": original.traceback,
        });
        let status = if original.resolved { "reopened" } else { "incremented" };
        let expected = json!({ "status": status, "id": original.id, "count": original.count + 1, "fingerprint": original.fingerprint });
        service.post("/api/errors", &again).expect(200).has(expected);
    }
    assert!(service.post("/api/errors", &report_at("new", 7_777)).expect(201).id() > 28, "no id is given twice");
    assert!(service.get("/api/errors?search=undefined").json()["total"].as_i64().unwrap() > 0, "searchable");
    let (status, _) = service.stop();
    assert!(status.success());
    assert_eq!(originals(&folder.path().join("errors.db.original-4")).len(), before.len());
    Setup::error_tracker().data_dir(&folder).start().get("/health").expect(200);
}

/// A group as the original stored it.
struct Original {
    id: i64,
    fingerprint: String,
    project: String,
    exception_type: String,
    traceback: String,
    count: i64,
    first_seen: String,
    resolved: bool,
    /// Newest first.
    occurrences: Vec<i64>,
}

fn originals(path: &Path) -> Vec<Original> {
    let database = rusqlite::Connection::open(path).unwrap();
    let sql = "SELECT id, fingerprint, project, exception_type, traceback, count, first_seen, resolved FROM errors";
    let mut groups = database.prepare(sql).unwrap();
    let mut kept = database.prepare("SELECT id FROM error_occurrences WHERE error_id = ?1 ORDER BY id DESC").unwrap();
    let rows = groups.query_map([], |row| {
        let id = row.get(0)?;
        Ok(Original {
            id,
            fingerprint: row.get(1)?,
            project: row.get(2)?,
            exception_type: row.get(3)?,
            traceback: row.get(4)?,
            count: row.get(5)?,
            first_seen: row.get(6)?,
            resolved: row.get(7)?,
            occurrences: kept.query_map([id], |row| row.get(0))?.collect::<Result<_, _>>()?,
        })
    });
    rows.unwrap().collect::<Result<_, _>>().unwrap()
}
