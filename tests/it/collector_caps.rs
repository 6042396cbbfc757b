//! Cardinality limits of the metrics collector: with unbounded labels and names, memory stays bounded, totals stay
//! correct, and a warning names the limit.

use serde_json::{Value, json};

use crate::support::harness::{Request, Service, Setup};

const POINTS_PER_BATCH: usize = 1_000;

/// Sends points in batches over one connection.
fn send(collector: &Service, points: impl Iterator<Item = Value>) {
    let mut client = collector.connect();
    let points: Vec<Value> = points.collect();
    for batch in points.chunks(POINTS_PER_BATCH) {
        client.send(&Request::post("/api/metrics", &json!(batch))).expect(202);
    }
}

/// Returns the sum and the count of all points of a metric, from the rollup table of one resolution.
fn sum_and_count(collector: &Service, name: &str, resolution: &str) -> (f64, u64) {
    let response = collector.get(&format!("/api/metrics?name={name}&period=2h&resolution={resolution}")).expect(200);
    let buckets = response.json()["data"].as_array().unwrap().clone();
    let sum = buckets.iter().map(|bucket| bucket["sum"].as_f64().unwrap()).sum();
    (sum, buckets.iter().map(|bucket| bucket["count"].as_u64().unwrap()).sum())
}

fn count_log_lines(collector: &Service, part: &str) -> usize {
    collector.log().iter().filter(|line| line.contains(part)).count()
}

/// Asserts the sum and the count of all points in both rollup tables. Returns the peak memory of the collector in bytes.
fn assert_totals(collector: &Service, names: &[String], sum: f64, count: u64) -> u64 {
    for resolution in ["minute", "hour"] {
        let totals = names.iter().map(|name| sum_and_count(collector, name, resolution));
        let total = totals.fold((0.0, 0), |total, metric| (total.0 + metric.0, total.1 + metric.1));
        assert_eq!(total, (sum, count), "{resolution}s");
    }
    collector.memory_kib().1 * 1024
}

#[test]
fn unbounded_label_sets_are_counted_in_bounded_memory() {
    const LABEL_SETS: usize = 100_000;
    let collector = Setup::metrics_collector().start();
    let names: Vec<String> = (0..20).map(|n| format!("step_{n}_ms")).collect();
    let visit = |n: usize| json!({ "name": names[n % 20], "type": "histogram", "value": n % 1_000, "labels": { "visitor": format!("v-{n}"), "path": "/shop" } });
    let exact = (0..LABEL_SETS).map(|n| n % 1_000).sum::<usize>() as f64;
    send(&collector, (0..LABEL_SETS).map(visit));
    // The second round hits the series cache, and again exceeds the limit.
    send(&collector, (0..LABEL_SETS).map(visit));
    let peak = assert_totals(&collector, &names, 2.0 * exact, 2 * LABEL_SETS as u64);
    eprintln!("{:.1} MB peak resident memory with {LABEL_SETS} label sets", peak as f64 / 1e6);
    assert!(peak < 25_000_000, "{peak} bytes");

    let health = collector.get("/health").expect(200).json();
    assert_eq!(
        health["series"],
        18_000 + 20,
        "one series per label set up to the share of 90 % of MAX_SERIES, and one overflow series per metric"
    );
    assert_eq!(health["points_overflowed"], 2 * (LABEL_SETS - 18_000));
    let codes: Vec<&Value> = health["warnings"].as_array().unwrap().iter().map(|warning| &warning["code"]).collect();
    assert_eq!(codes, ["series_folded", "series_over_quota"], "{health}");
    assert_eq!(count_log_lines(&collector, "MAX_SERIES"), 1, "{:#?}", collector.log());
}

#[test]
fn metric_over_its_series_limit_is_named_only_to_authenticated_readers() {
    let collector = Setup::metrics_collector().start();
    let visit = |n: usize| json!({ "name": "visits", "type": "counter", "value": 1, "labels": { "visitor": n } });
    for _ in 0..2 {
        send(&collector, (0..3_000).map(visit));
    }
    assert_totals(&collector, &["visits".to_owned()], 6_000.0, 6_000);
    let health = collector.get("/health").expect(200).json();
    assert_eq!((&health["series"], &health["points_overflowed"]), (&json!(2_001), &json!(2_000)));
    let warning = &health["warnings"][0];
    assert!(warning["message"].as_str().unwrap().starts_with("MAX_SERIES_PER_METRIC"), "{warning}");
    let public = collector.connect().send(&Request::get("/health").without_header("X-API-Key")).expect(200).json();
    assert_eq!(public["warnings"], json!([{ "code": "series_folded", "count": 1 }]), "causes need a key");
    let dashboard = collector.get("/api/dashboard").expect(200).json();
    assert!(dashboard["warnings"][0].as_str().unwrap().starts_with("visits has more series"), "{dashboard}");
    assert_eq!(
        count_log_lines(&collector, "\"visits\" has reached MAX_SERIES_PER_METRIC"),
        1,
        "{:#?}",
        collector.log()
    );
}

#[test]
fn metrics_beyond_the_series_limit_share_an_overflow_series() {
    let collector = Setup::metrics_collector().env("MAX_SERIES", 50).start();
    let point = |n: usize| json!({ "name": format!("job_{n}_total"), "type": "counter", "value": 2 });
    send(&collector, (0..3_000).map(point));
    // A metric that already has a series keeps its own total.
    let again = |n: usize| json!({ "name": "job_7_total", "type": "counter", "value": 2, "labels": { "n": n } });
    send(&collector, (0..100).map(again));
    assert_eq!(sum_and_count(&collector, "job_7_total", "minute"), (202.0, 101));
    // The last tenth is for other projects.
    assert_eq!(sum_and_count(&collector, "overflow", "minute"), (2.0 * 2_955.0, 2_955));
    let summary = collector.get("/api/dashboard").expect(200).json()["summary"].clone();
    assert_eq!(summary["total_datapoints"], 3_100);
    let health = collector.get("/health").expect(200).json();
    assert_eq!((&health["series"], &health["points_overflowed"]), (&json!(47), &json!(3_055)));
    let codes: Vec<&Value> = health["warnings"].as_array().unwrap().iter().map(|warning| &warning["code"]).collect();
    assert_eq!(codes, ["series_folded", "series_over_quota", "metric_names_over_quota"], "{health}");
    assert!(collector.wait_for_log("share of MAX_SERIES").is_some());
    assert_eq!(count_log_lines(&collector, "share of MAX_SERIES"), 1, "{:#?}", collector.log());
}

#[test]
fn no_warning_appears_below_the_limits() {
    let collector = Setup::metrics_collector().start();
    send(&collector, std::iter::once(json!({ "name": "sold", "type": "counter", "value": 1 })));
    assert_eq!(collector.get("/health").expect(200).json().get("warnings"), None);
}
