//! `/federate` of the metrics collector: counters that never decrease, gauges with their last value, and histograms.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::support::collector::wait_for_rollup;
use crate::support::harness::{Request, Service, Setup, TempDir, wait_until};

fn point(name: &str, kind: &str, value: f64) -> Value {
    json!({ "name": name, "type": kind, "value": value, "project": "shop", "labels": { "a.b": "x\"y" } })
}

/// Scrapes `/federate`. Returns all samples by name and labels, and asserts that none occurs twice.
fn scrape(service: &Service) -> BTreeMap<String, f64> {
    let response = service.get("/federate").expect(200);
    assert_eq!(response.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let mut samples = BTreeMap::new();
    for line in response.text().lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap();
        assert_eq!(samples.insert(name.to_owned(), value.parse().unwrap()), None, "{name} occurs twice");
    }
    samples
}

#[test]
fn counters_are_exact_across_rollups_and_survive_sigkill() {
    let data_dir = Arc::new(TempDir::new());
    let mut expected = 0.0;
    for round in 0..4u32 {
        // With the long interval, the points of this round are rolled up at the next start.
        let service = Setup::metrics_collector().env("AGGREGATION_INTERVAL", 3_600).data_dir(&data_dir).start();
        // The collector rolls up at every start.
        wait_for_rollup(&data_dir);
        if round > 0 {
            let total = scrape(&service)["spent_seconds{project=\"shop\",a_b=\"x\\\"y\"}"];
            assert_eq!(total.to_bits(), f64::to_bits(expected), "not bit-identical: {total} and {expected}");
        }
        // Tenths have no exact binary representation, so adding them one by one without compensation rounds the sum.
        let batch: Vec<Value> =
            (1..=300).map(|tenths| point("spent_seconds", "counter", f64::from(tenths) / 10.0)).collect();
        service.post("/api/metrics", &json!(batch)).expect(202);
        expected += 4_515.0;
        let total = scrape(&service)["spent_seconds{project=\"shop\",a_b=\"x\\\"y\"}"];
        assert_eq!(total.to_bits(), expected.to_bits());
        service.kill();
    }
}

#[test]
fn gauges_have_the_last_value_and_histograms_cumulative_buckets() {
    let service = Setup::metrics_collector().env("AGGREGATION_INTERVAL", 1).start();
    let labels = "project=\"shop\",a_b=\"x\\\"y\"";
    for round in 1..=2 {
        let values = [0.5, 1.0, 1.5, 700.0];
        let mut batch: Vec<Value> = values.iter().map(|value| point("wait.ms", "histogram", *value)).collect();
        batch.extend([point("depth", "gauge", 7.0), point("depth", "gauge", f64::from(round))]);
        service.post("/api/metrics", &json!(batch)).expect(202);
        wait_for_rollup(&service.data_dir);
        let samples = scrape(&service);
        let rounds = f64::from(round);
        assert_eq!(samples[&format!("depth{{{labels}}}")], rounds);
        assert_eq!(samples[&format!("wait_ms_sum{{{labels}}}")], 703.0 * rounds);
        assert_eq!(samples[&format!("wait_ms_count{{{labels}}}")], 4.0 * rounds);
        for (bound, count) in [("0.25", 0.0), ("0.5", 1.0), ("1", 2.0), ("2", 3.0), ("512", 3.0), ("1024", 4.0)] {
            assert_eq!(samples[&format!("wait_ms_bucket{{{labels},le=\"{bound}\"}}")], count * rounds, "{bound}");
        }
        assert_eq!(samples[&format!("wait_ms_bucket{{{labels},le=\"+Inf\"}}")], 4.0 * rounds);
    }
}

#[test]
fn federate_requires_a_key_with_the_read_scope() {
    let service =
        Setup::metrics_collector().env("API_KEYS", "prom:read:prom-key-0123456789,app:ingest:app-key-0123456789");
    let service = service.start();
    let request = |key: &str| {
        Request::get("/federate").without_header("X-API-Key").header("Authorization", &format!("Bearer {key}"))
    };
    service.send(&request("prom-key-0123456789")).expect(200);
    service.send(&request("app-key-0123456789")).expect(403);
    service.send(&Request::get("/federate").without_header("X-API-Key")).expect(401);
}

#[test]
fn gauge_point_of_a_clock_that_is_ahead_hides_no_later_point() {
    let data_dir = Arc::new(TempDir::new());
    let start = || Setup::metrics_collector().env("AGGREGATION_INTERVAL", 3_600).data_dir(&data_dir).start();
    let value = |service: &Service| scrape(service)["workers{project=\"shop\",a_b=\"x\\\"y\"}"];
    let database = rusqlite::Connection::open_in_memory().unwrap();
    let nine_minutes_ahead: String =
        database.query_row("SELECT strftime('%Y-%m-%dT%H:%M:%SZ', 'now', '+9 minutes')", [], |row| row.get(0)).unwrap();
    let mut ahead = point("workers", "gauge", 1.0);
    ahead["timestamp"] = json!(nine_minutes_ahead);
    let service = start();
    // The collector rolls up at every start.
    wait_for_rollup(&data_dir);
    service.post("/api/metrics", &json!([ahead])).expect(202);
    assert_eq!(value(&service), 1.0);
    service.post("/api/metrics", &json!([point("workers", "gauge", 2.0)])).expect(202);
    assert_eq!(value(&service), 2.0, "before the rollup");
    service.post("/api/metrics", &json!([ahead])).expect(202);
    service.kill();
    let service = start();
    wait_for_rollup(&data_dir);
    assert_eq!(value(&service), 1.0);
    service.post("/api/metrics", &json!([point("workers", "gauge", 3.0)])).expect(202);
    assert_eq!(value(&service), 3.0, "after the rollup");
}

#[test]
fn counters_continue_after_their_raw_points_are_deleted() {
    let data_dir = Arc::new(TempDir::new());
    let start = || {
        let service = Setup::metrics_collector().env("AGGREGATION_INTERVAL", 3_600).data_dir(&data_dir).start();
        // The collector rolls up at every start.
        wait_for_rollup(&data_dir);
        service
    };
    let batch = |at: Option<String>| {
        let mut point = point("orders_total", "counter", 1.0);
        point["timestamp"] = json!(at);
        json!([point, point])
    };
    let total = |service: &Service| scrape(service)["orders_total{project=\"shop\",a_b=\"x\\\"y\"}"];
    let database = rusqlite::Connection::open_in_memory().unwrap();
    let two_hours_ago: String =
        database.query_row("SELECT strftime('%Y-%m-%dT%H:%M:%SZ', 'now', '-2 hours')", [], |row| row.get(0)).unwrap();
    let service = start();
    service.post("/api/metrics", &batch(Some(two_hours_ago))).expect(202);
    assert_eq!(total(&service), 2.0);
    service.kill();
    // The collector deletes points older than an hour at every start.
    let service = start();
    let old_points_are_deleted = || {
        let database = rusqlite::Connection::open(data_dir.path().join("metrics.db")).unwrap();
        let remaining: i64 = database.query_row("SELECT count(*) FROM points", [], |row| row.get(0)).unwrap();
        (remaining < 2).then_some(())
    };
    assert_eq!(wait_until(old_points_are_deleted), Some(()));
    assert_eq!(total(&service), 2.0);
    service.post("/api/metrics", &batch(None)).expect(202);
    assert_eq!(total(&service), 4.0, "new points were taken for points that are already rolled up");
    service.kill();
    assert_eq!(total(&start()), 4.0);
}

#[test]
fn accept_encoding_gzip_returns_the_same_text_compressed() {
    let service = Setup::metrics_collector().env("AGGREGATION_INTERVAL", 3_600).start();
    let batch: Vec<Value> = (0..1_000)
        .map(|page| json!({ "name": "wait_ms", "type": "histogram", "value": page, "labels": { "page": page } }))
        .collect();
    service.post("/api/metrics", &json!(batch)).expect(202);
    let plain = service.get("/federate").expect(200);
    let compressed = service.send(&Request::get("/federate").header("Accept-Encoding", "deflate, gzip")).expect(200);
    assert_eq!((plain.header("content-encoding"), compressed.header("content-encoding")), (None, Some("gzip")));
    let mut text = String::new();
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&*compressed.body), &mut text).unwrap();
    assert_eq!(text, plain.text());
    assert!(compressed.body.len() * 10 < text.len(), "{} of {} bytes", compressed.body.len(), text.len());
}
