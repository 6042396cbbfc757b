//! Labels without end: the collector stays small, its totals stay right, and it says which cap was reached.

use serde_json::{Value, json};

use crate::harness::{Request, Service, Setup};

const POINTS_AT_ONCE: usize = 1_000;

/// Sends points in batches over one connection.
fn send(collector: &Service, points: impl Iterator<Item = Value>) {
    let mut client = collector.connect();
    let points: Vec<Value> = points.collect();
    for batch in points.chunks(POINTS_AT_ONCE) {
        client.send(&Request::post("/api/metrics", &json!(batch))).expect(202);
    }
}

/// The sum and the count of everything of a name, from one tier.
fn sum_and_count(collector: &Service, name: &str, resolution: &str) -> (f64, u64) {
    let answer = collector.get(&format!("/api/metrics?name={name}&period=2h&resolution={resolution}")).expect(200);
    let buckets = answer.json()["data"].as_array().unwrap().clone();
    let sum = buckets.iter().map(|bucket| bucket["sum"].as_f64().unwrap()).sum();
    (sum, buckets.iter().map(|bucket| bucket["count"].as_u64().unwrap()).sum())
}

fn said(collector: &Service, what: &str) -> usize {
    collector.log().iter().filter(|line| line.contains(what)).count()
}

/// That both tiers hold exactly so much, and what memory that took at most, in bytes.
fn holds(collector: &Service, names: &[String], sum: f64, count: u64) -> u64 {
    for resolution in ["minute", "hour"] {
        let all = names.iter().map(|name| sum_and_count(collector, name, resolution));
        assert_eq!(all.fold((0.0, 0), |all, one| (all.0 + one.0, all.1 + one.1)), (sum, count), "{resolution}s");
    }
    collector.memory_kib().1 * 1024
}

#[test]
fn a_hundred_thousand_label_sets_are_counted_in_little_memory() {
    const LABEL_SETS: usize = 100_000;
    let collector = Setup::metrics_collector().start();
    let names: Vec<String> = (0..20).map(|n| format!("step_{n}_ms")).collect();
    let visit = |n: usize| json!({ "name": names[n % 20], "type": "histogram", "value": n % 1_000, "labels": { "visitor": format!("v-{n}"), "path": "/shop" } });
    let exact = (0..LABEL_SETS).map(|n| n % 1_000).sum::<usize>() as f64;
    send(&collector, (0..LABEL_SETS).map(visit));
    // Once more: what is known by now, and what is over the cap again.
    send(&collector, (0..LABEL_SETS).map(visit));
    let peak = holds(&collector, &names, 2.0 * exact, 2 * LABEL_SETS as u64);
    eprintln!("{:.1} MB resident at most with {LABEL_SETS} label sets", peak as f64 / 1e6);
    assert!(peak < 25_000_000, "{peak} bytes");

    let health = collector.get("/health").expect(200).json();
    assert_eq!(health["series"], 20_000 + 20, "those of their own, and one for all others of each name");
    assert_eq!(health["points_overflowed"], 2 * (LABEL_SETS - 20_000));
    assert!(health["warnings"][0].as_str().unwrap().starts_with("MAX_SERIES is reached"), "{health}");
    assert_eq!(said(&collector, "MAX_SERIES"), 1, "{:#?}", collector.log());
}

#[test]
fn a_metric_over_its_cap_is_named_to_those_who_may_read_it() {
    let collector = Setup::metrics_collector().start();
    let visit = |n: usize| json!({ "name": "visits", "type": "counter", "value": 1, "labels": { "visitor": n } });
    for _ in 0..2 {
        send(&collector, (0..3_000).map(visit));
    }
    holds(&collector, &["visits".to_owned()], 6_000.0, 6_000);
    let health = collector.get("/health").expect(200).json();
    assert_eq!((&health["series"], &health["points_overflowed"]), (&json!(2_001), &json!(2_000)));
    let warning = health["warnings"][0].as_str().unwrap();
    assert!(warning.starts_with("MAX_SERIES_PER_METRIC") && !warning.contains("visits"), "{warning}");
    let dashboard = collector.get("/api/dashboard").expect(200).json();
    assert!(dashboard["warnings"][0].as_str().unwrap().starts_with("visits has more series"), "{dashboard}");
    assert_eq!(said(&collector, "\"visits\" has reached MAX_SERIES_PER_METRIC"), 1, "{:#?}", collector.log());
}

#[test]
fn names_without_end_count_in_one_series() {
    let collector = Setup::metrics_collector().env("MAX_SERIES", 50).start();
    let point = |n: usize| json!({ "name": format!("job_{n}_total"), "type": "counter", "value": 2 });
    send(&collector, (0..3_000).map(point));
    // A metric that has series already keeps its total to itself.
    let again = |n: usize| json!({ "name": "job_7_total", "type": "counter", "value": 2, "labels": { "n": n } });
    send(&collector, (0..100).map(again));
    assert_eq!(sum_and_count(&collector, "job_7_total", "minute"), (202.0, 101));
    assert_eq!(sum_and_count(&collector, "overflow", "minute"), (2.0 * 2_950.0, 2_950));
    let summary = collector.get("/api/dashboard").expect(200).json()["summary"].clone();
    assert_eq!(summary["total_datapoints"], 3_100);
    let health = collector.get("/health").expect(200).json();
    assert_eq!((&health["series"], &health["points_overflowed"]), (&json!(52), &json!(3_050)));
    assert!(health["warnings"][0].as_str().unwrap().starts_with("MAX_SERIES is reached"), "{health}");
    assert_eq!(said(&collector, "MAX_SERIES is reached"), 1, "{:#?}", collector.log());
}

#[test]
fn below_the_caps_nothing_is_said_of_them() {
    let collector = Setup::metrics_collector().start();
    send(&collector, std::iter::once(json!({ "name": "sold", "type": "counter", "value": 1 })));
    assert_eq!(collector.get("/health").expect(200).json().get("warnings"), None);
}
