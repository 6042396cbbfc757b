//! What Prometheus is told of every series: totals that only grow, last values, distributions.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::collector::wait_for_rollup;
use crate::harness::{Request, Service, Setup, TempDir, wait_until};

fn point(name: &str, kind: &str, value: f64) -> Value {
    json!({ "name": name, "type": kind, "value": value, "project": "shop", "labels": { "a.b": "x\"y" } })
}

/// Every sample by its name and labels; no name may come twice.
fn samples(service: &Service) -> BTreeMap<String, f64> {
    let answer = service.get("/federate").expect(200);
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let mut samples = BTreeMap::new();
    for line in answer.text().lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap();
        assert_eq!(samples.insert(name.to_owned(), value.parse().unwrap()), None, "{name} comes twice");
    }
    samples
}

#[test]
fn totals_are_the_same_before_and_after_a_rollup_and_go_on_after_a_kill() {
    let folder = Arc::new(TempDir::new());
    let mut expected = 0.0;
    for round in 0..4u32 {
        // The long interval leaves what is sent here out of the tiers until the next start.
        let service = Setup::metrics_collector().env("AGGREGATION_INTERVAL", 3_600).data_dir(&folder).start();
        // A start rolls up.
        wait_for_rollup(&folder);
        if round > 0 {
            let of_it = samples(&service)["spent_seconds{project=\"shop\",a_b=\"x\\\"y\"}"];
            assert_eq!(of_it.to_bits(), f64::to_bits(expected), "not by its last digit: {of_it} {expected}");
        }
        // Tenths are no exact binary fractions: sums in another order would differ.
        let batch: Vec<Value> =
            (1..=300).map(|tenths| point("spent_seconds", "counter", f64::from(tenths) / 10.0)).collect();
        service.post("/api/metrics", &json!(batch)).expect(202);
        expected = (1..=300).fold(expected, |sum, tenths| sum + f64::from(tenths) / 10.0);
        let of_it = samples(&service)["spent_seconds{project=\"shop\",a_b=\"x\\\"y\"}"];
        assert_eq!(of_it.to_bits(), expected.to_bits());
        service.kill();
    }
}

#[test]
fn gauges_are_last_values_and_histograms_cumulative_buckets() {
    let service = Setup::metrics_collector().env("AGGREGATION_INTERVAL", 1).start();
    let labels = "project=\"shop\",a_b=\"x\\\"y\"";
    for round in 1..=2 {
        let values = [0.5, 1.0, 1.5, 700.0];
        let mut batch: Vec<Value> = values.iter().map(|value| point("wait.ms", "histogram", *value)).collect();
        batch.extend([point("depth", "gauge", 7.0), point("depth", "gauge", f64::from(round))]);
        service.post("/api/metrics", &json!(batch)).expect(202);
        wait_for_rollup(&service.data_dir);
        let samples = samples(&service);
        let of = f64::from(round);
        assert_eq!(samples[&format!("depth{{{labels}}}")], of);
        assert_eq!(samples[&format!("wait_ms_sum{{{labels}}}")], 703.0 * of);
        assert_eq!(samples[&format!("wait_ms_count{{{labels}}}")], 4.0 * of);
        for (bound, count) in [("0.25", 0.0), ("0.5", 1.0), ("1", 2.0), ("2", 3.0), ("512", 3.0), ("1024", 4.0)] {
            assert_eq!(samples[&format!("wait_ms_bucket{{{labels},le=\"{bound}\"}}")], count * of, "{bound}");
        }
        assert_eq!(samples[&format!("wait_ms_bucket{{{labels},le=\"+Inf\"}}")], 4.0 * of);
    }
}

#[test]
fn whoever_reads_needs_a_key_that_may() {
    let service =
        Setup::metrics_collector().env("API_KEYS", "prom:read:prom-key-0123456789,app:ingest:app-key-0123456789");
    let service = service.start();
    let with = |key: &str| {
        Request::get("/federate").without_header("X-API-Key").header("Authorization", &format!("Bearer {key}"))
    };
    service.send(&with("prom-key-0123456789")).expect(200);
    service.send(&with("app-key-0123456789")).expect(403);
    service.send(&Request::get("/federate").without_header("X-API-Key")).expect(401);
}

#[test]
fn totals_outlive_the_points_and_go_on_when_all_of_them_are_gone() {
    let folder = Arc::new(TempDir::new());
    let start = || {
        let service = Setup::metrics_collector().env("AGGREGATION_INTERVAL", 3_600).data_dir(&folder).start();
        // A start rolls up.
        wait_for_rollup(&folder);
        service
    };
    let sent = |at: Option<String>| {
        let mut point = point("orders_total", "counter", 1.0);
        point["timestamp"] = json!(at);
        json!([point, point])
    };
    let total = |service: &Service| samples(service)["orders_total{project=\"shop\",a_b=\"x\\\"y\"}"];
    let database = rusqlite::Connection::open_in_memory().unwrap();
    let two_hours_ago: String =
        database.query_row("SELECT strftime('%Y-%m-%dT%H:%M:%SZ', 'now', '-2 hours')", [], |row| row.get(0)).unwrap();
    let service = start();
    service.post("/api/metrics", &sent(Some(two_hours_ago))).expect(202);
    assert_eq!(total(&service), 2.0);
    service.kill();
    // A start also removes points that are older than an hour.
    let service = start();
    let kept = || {
        let database = rusqlite::Connection::open(folder.path().join("metrics.db")).unwrap();
        let kept: i64 = database.query_row("SELECT count(*) FROM points", [], |row| row.get(0)).unwrap();
        (kept < 2).then_some(())
    };
    assert_eq!(wait_until(kept), Some(()));
    assert_eq!(total(&service), 2.0);
    service.post("/api/metrics", &sent(None)).expect(202);
    assert_eq!(total(&service), 4.0, "what comes after them is not taken for folded");
    service.kill();
    assert_eq!(total(&start()), 4.0);
}

#[test]
fn whoever_takes_gzip_gets_the_same_text_compressed() {
    let service = Setup::metrics_collector().env("AGGREGATION_INTERVAL", 3_600).start();
    let batch: Vec<Value> = (0..1_000)
        .map(|page| json!({ "name": "wait_ms", "type": "histogram", "value": page, "labels": { "page": page } }))
        .collect();
    service.post("/api/metrics", &json!(batch)).expect(202);
    let plain = service.get("/federate").expect(200);
    let small = service.send(&Request::get("/federate").header("Accept-Encoding", "deflate, gzip")).expect(200);
    assert_eq!((plain.header("content-encoding"), small.header("content-encoding")), (None, Some("gzip")));
    let mut text = String::new();
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&*small.body), &mut text).unwrap();
    assert_eq!(text, plain.text());
    assert!(small.body.len() * 10 < text.len(), "{} of {}", small.body.len(), text.len());
}
