//! Answers of the metrics collector with 20,000 series whose names have 200 characters of four bytes: complete, and written
//! part by part, so that several at once fit into memory. And expensive queries, which must not delay those of others.

use std::io::Read as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use serde_json::Value;

use crate::support::harness::{Request, Service, Setup, TEST_TIMEOUT};

const SERIES: usize = 20_000;
/// Maximum resident memory of the release binary, in bytes.
const MEMORY_BYTES_MAX: u64 = 24_000_000;
/// Requests of each kind at once.
const SIMULTANEOUS: usize = 6;
/// Part of the names that Prometheus allows, so that they differ there too.
const DIGITS: usize = 8;

fn name(n: usize) -> String {
    format!("{n:0DIGITS$}{}", "\u{1F600}".repeat(200 - DIGITS))
}

/// Starts a collector with the series in its database, beyond its quota as an older version could have stored them.
fn start() -> Service {
    let collector = Setup::metrics_collector().start();
    let database = collector.data_dir.path().join("metrics.db");
    let data_dir = collector.kill();
    let mut connection = Connection::open(database).unwrap();
    let transaction = connection.transaction().unwrap();
    let now_ms: i64 =
        transaction.query_row("SELECT CAST(unixepoch('subsec') * 1000 AS INTEGER)", [], |row| row.get(0)).unwrap();
    for n in 0..SERIES {
        let id = n as i64 + 1;
        let project = format!("p{}", n % 10);
        let page = format!("{{\"page\":\"/{n}\"}}");
        transaction
            .execute("INSERT INTO metrics (id, name, type_id, project) VALUES (?1, ?2, 2, ?3)", (id, name(n), project))
            .unwrap();
        transaction
            .execute(
                "INSERT INTO series (id, metric_id, labels, created_at_ms) VALUES (?1, ?1, ?2, ?3)",
                (id, page, now_ms),
            )
            .unwrap();
        transaction.execute("INSERT INTO series_totals VALUES (?1, 1, 1.0, 1.0, ?2, NULL, 0.0)", (id, now_ms)).unwrap();
        for (table, bucket_ms) in [("series_minutes", 60_000), ("series_hours", 3_600_000)] {
            let insert = format!(
                "INSERT INTO {table} VALUES (?1, ?2, 1, 1.0, 1.0, 1.0, 1.0, ?3, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0.0)"
            );
            transaction.execute(&insert, (id, now_ms / bucket_ms, now_ms)).unwrap();
        }
    }
    transaction.commit().unwrap();
    drop(connection);
    Setup::metrics_collector().data_dir(&data_dir).start()
}

/// Sends a request over several connections at once and returns the bodies.
fn get_at_once(collector: &Service, path: &str) -> Vec<Vec<u8>> {
    let get = || {
        let mut client = collector.connect();
        client.socket().set_read_timeout(Some(TEST_TIMEOUT * 3)).unwrap();
        let request = Request::get(path);
        client.send(&request).expect(200).body
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..SIMULTANEOUS).map(|_| scope.spawn(get)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn answers_with_many_long_names_are_complete_in_bounded_memory() {
    let collector = start();
    // These never read. Their answers must not be in memory.
    let silent: Vec<_> = (0..SIMULTANEOUS)
        .map(|n| {
            let mut client = collector.connect();
            let path = if n % 2 == 0 { "/api/metrics/names" } else { "/federate" };
            client.write(&Request::get(path).header("Accept-Encoding", ["identity", "gzip"][n / 2 % 2]).bytes());
            client
        })
        .collect();
    for body in get_at_once(&collector, "/api/metrics/names") {
        let body: Value = serde_json::from_slice(&body).unwrap();
        let names: Vec<&str> =
            body["metrics"].as_array().unwrap().iter().map(|metric| metric["name"].as_str().unwrap()).collect();
        assert!(names.len() == SERIES && names.is_sorted() && names[7] == name(7), "{} names", names.len());
    }
    for body in get_at_once(&collector, "/federate") {
        let body = String::from_utf8(body).unwrap();
        let samples = body.lines().filter(|line| !line.starts_with('#')).count();
        assert_eq!(samples, SERIES);
    }
    for body in get_at_once(&collector, "/api/dashboard") {
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["summary"]["distinct_metrics"], SERIES);
        assert_eq!(body["top_metrics"][9]["name"], name(9));
    }
    for path in ["/api/projects", "/api/metrics/releases", "/api/metrics/names?search=00000012&limit=5"] {
        get_at_once(&collector, path);
    }
    let gzip = collector.send(&Request::get("/api/metrics/names").header("Accept-Encoding", "gzip")).expect(200);
    let mut names = String::new();
    flate2::read::GzDecoder::new(&*gzip.body).read_to_string(&mut names).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&names).unwrap()["metrics"].as_array().unwrap().len(), SERIES);
    let labels = format!("/api/metrics/labels?name={}", percent_encode(&name(3)));
    assert_eq!(get_at_once(&collector, &labels)[0], br#"{"labels":[{"name":"page","values":["/3"]}]}"#);
    drop(silent);
    let (_, peak) = collector.memory_kib();
    eprintln!("{:.1} MB peak resident memory", peak as f64 * 1024.0 / 1e6);
    // The binary of `cargo test` is not optimized for size and needs more.
    if std::env::var_os("MONLIGHT_BIN_DIR").is_some() {
        assert!(peak * 1024 < MEMORY_BYTES_MAX, "{peak} KiB");
    }
}

fn percent_encode(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// Number of series and of minutes of the metric that the expensive queries read.
const GROUPS: i64 = 2_000;
const MINUTES: i64 = 120;

#[test]
fn worst_group_by_of_four_readers_does_not_delay_others() {
    let collector = Setup::metrics_collector().start();
    let data_dir = collector.kill();
    let mut connection = Connection::open(data_dir.path().join("metrics.db")).unwrap();
    let transaction = connection.transaction().unwrap();
    let rows = format!(
        "INSERT INTO metrics (id, name, type_id, project) VALUES (1, 'visits', 1, 'shop');
        WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {GROUPS})
            INSERT INTO series (id, metric_id, labels, created_at_ms) SELECT n, 1, json_object('page', '/' || n), 0 FROM n;
        WITH RECURSIVE m(m) AS (SELECT 0 UNION ALL SELECT m + 1 FROM m WHERE m < {MINUTES} - 1)
            INSERT INTO series_minutes (series_id, at_min, count, sum, min, max, last, last_at_ms)
            SELECT s.id, unixepoch() / 60 - m, 1, 1.0, 1.0, 1.0, 1.0, unixepoch() * 1000 FROM series s, m ORDER BY 1, 2;"
    );
    transaction.execute_batch(&rows).unwrap();
    transaction.commit().unwrap();
    drop(connection);
    let collector = Setup::metrics_collector().data_dir(&data_dir).env("API_KEYS", "slow:read:slow-key").start();
    let path = "/api/metrics?name=visits&group_by=page&resolution=minute&period=24h";
    let is_done = AtomicBool::new(false);
    let slow = || {
        let request = Request::get(path).without_header("X-API-Key").header("X-API-Key", "slow-key");
        let mut answers = 0;
        while !is_done.load(Ordering::Relaxed) {
            let mut client = collector.connect();
            let body = client.send(&request).expect(200).json();
            let groups = body["groups"].as_array().unwrap();
            assert_eq!(groups.len(), 51);
            assert_eq!(groups[50]["data"].as_array().unwrap().len() as i64, MINUTES);
            assert_eq!(groups[50]["data"][5]["sum"], (GROUPS - 50) as f64);
            answers += 1;
        }
        answers
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(slow)).collect();
        let deadline = Instant::now() + Duration::from_secs(3);
        let mut slowest = Duration::ZERO;
        while Instant::now() < deadline {
            let started = Instant::now();
            collector.get("/api/metrics/names").expect(200);
            collector
                .post("/api/metrics", &serde_json::json!([{ "name": "n", "type": "counter", "value": 1 }]))
                .expect(202);
            slowest = slowest.max(started.elapsed());
        }
        is_done.store(true, Ordering::Relaxed);
        let answers: usize = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
        eprintln!("slowest page {slowest:?} beside {answers} expensive queries");
        assert!(answers >= 4 && slowest < Duration::from_secs(2), "{slowest:?}, {answers} answers");
    });
}
