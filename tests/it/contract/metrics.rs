//! Contract of `GET /metrics`: access, valid Prometheus text (exposition format 0.0.4), and the values of the metrics.

use std::collections::BTreeMap;

use serde_json::json;

use super::{post_report, unique_report, unique_report_with};
use crate::support::harness::{API_KEY, Request, Service, Setup};

/// Returns the samples by name and labels. Asserts that every line is valid.
fn samples(service: &Service) -> BTreeMap<String, f64> {
    let response = service.get("/metrics").expect(200);
    assert_eq!(response.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let text = response.text();
    assert!(text.ends_with('\n'));
    let (mut helped, mut typed, mut samples) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    let mut family = "";
    for line in text.lines() {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            assert!(helped.insert(name, help).is_none() && !help.is_empty(), "a metric must have one HELP: {line}");
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            assert!(matches!(kind, "counter" | "gauge" | "histogram"), "{line}");
            assert!(
                typed.insert(name, kind).is_none() && helped.contains_key(name),
                "TYPE must occur once, after HELP: {line}"
            );
            family = name;
        } else {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
            let suffix = name.strip_prefix(family).unwrap_or_else(|| panic!("{line} is not a sample of {family}"));
            let histogram = typed[family] == "histogram" && matches!(suffix, "_bucket" | "_sum" | "_count");
            assert!(suffix.is_empty() || histogram, "{line} is not a sample of {family}");
            assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'), "{line}");
            assert_valid_labels(labels.strip_suffix('}').unwrap());
            let value: f64 = value.parse().unwrap_or_else(|error| panic!("{error}: {line}"));
            assert!(samples.insert(series.to_owned(), value).is_none(), "duplicate sample: {line}");
        }
    }
    assert_eq!(helped.keys().collect::<Vec<_>>(), typed.keys().collect::<Vec<_>>());
    samples
}

/// Asserts the format `name="value",name="value"`, with `\`, `"` and line feeds escaped in values.
fn assert_valid_labels(labels: &str) {
    let mut rest = labels;
    while !rest.is_empty() {
        let (name, value) = rest.split_once("=\"").unwrap_or_else(|| panic!("{labels}"));
        assert!(!name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'), "{labels}");
        let mut escaped = false;
        let end = value.find(|character| {
            let ends = character == '"' && !escaped;
            escaped = character == '\\' && !escaped;
            ends
        });
        rest = &value[end.unwrap_or_else(|| panic!("{labels}")) + 1..];
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
}

#[test]
fn metrics_require_a_key_unless_metrics_open_is_set() {
    for (open, status) in [("", 401), ("0", 401), ("1", 200)] {
        let service = Setup::error_tracker().env("METRICS_OPEN", open).start();
        let metrics = Request::get("/metrics").without_header("X-API-Key");
        assert_eq!(service.send(&metrics).status, status, "METRICS_OPEN={open}");
        service.send(&metrics.clone().header("Authorization", &format!("Bearer {API_KEY}"))).expect(200);
        service.send(&Request::new("HEAD", "/metrics")).expect(200);
    }
}

#[test]
fn metrics_count_requests_and_groups() {
    let service = Setup::error_tracker().start();
    let before = samples(&service);
    let report = unique_report();
    service.post("/api/errors", &report).expect(201);
    for _ in 0..2 {
        service.post("/api/errors", &report).expect(200);
    }
    service.post("/api/errors", &json!({})).expect(400);
    service.get("/api/errors/1").expect(200);
    service.get("/api/errors/2").expect(404);
    service.get("/nothing").expect(404);
    service.post("/api/errors/1/resolve", &json!({})).expect(200);
    let after = samples(&service);
    for (series, value) in [
        (r#"requests_total{method="POST",route="/api/errors",status="201"}"#, 1.0),
        (r#"requests_total{method="POST",route="/api/errors",status="200"}"#, 2.0),
        (r#"requests_total{method="POST",route="/api/errors",status="400"}"#, 1.0),
        (r#"requests_total{method="GET",route="/api/errors/{id}",status="200"}"#, 1.0),
        (r#"requests_total{method="GET",route="/api/errors/{id}",status="404"}"#, 1.0),
        (r#"requests_total{method="-",route="-",status="404"}"#, 1.0),
        (r#"request_duration_seconds_bucket{le="+Inf"}"#, 9.0),
        ("request_duration_seconds_count", 9.0),
        ("queue_depth", 0.0),
        ("errors_unresolved", 0.0),
        ("errors_resolved", 1.0),
        ("errors_evicted", 0.0),
        ("occurrences_stripped", 0.0),
        ("alerts_held", 0.0),
    ] {
        assert_eq!(after.get(&format!("monlight_{series}")), Some(&value), "{series} in {after:#?}");
    }
    for (series, minimum) in [("commits_total", 4.0), ("writes_total", 4.0)] {
        let name = format!("monlight_{series}");
        assert!(after[&name] - before[&name] >= minimum, "{series}: {} {}", before[&name], after[&name]);
    }
    for (series, range) in [
        // Connections of earlier requests may still be counted, because the service notices their end with a delay.
        ("monlight_connections", 1.0..20.0),
        ("monlight_database_bytes", 4_096.0..1e7),
        ("monlight_wal_bytes", 1.0..1e7),
        ("monlight_request_duration_seconds_sum", 1e-6..60.0),
        ("process_resident_memory_bytes", 1e6..1e9),
    ] {
        assert!(range.contains(&after[series]), "{series}: {}", after[series]);
    }
}

#[test]
fn histogram_buckets_are_cumulative() {
    let service = Setup::error_tracker().start();
    for _ in 0..20 {
        service.get("/health").expect(200);
    }
    let samples = samples(&service);
    let mut buckets: Vec<(f64, f64)> = samples
        .iter()
        .filter_map(|(series, count)| {
            let bound = series.strip_prefix("monlight_request_duration_seconds_bucket{le=\"")?.strip_suffix("\"}")?;
            Some((bound.parse().unwrap(), *count))
        })
        .collect();
    buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
    assert!(buckets.len() > 5 && buckets.is_sorted_by(|one, other| one.1 <= other.1), "{buckets:?}");
    assert_eq!(buckets.last(), Some(&(f64::INFINITY, 20.0)));
}

#[test]
fn label_values_are_escaped() {
    let setup = Setup::error_tracker().env("API_KEYS", r#"a:ingest@sh"o\p:a-key"#).env("KEY_RATE_LIMIT", 1);
    let service = setup.start();
    let report = post_report(&unique_report_with("project", r#"sh"o\p"#)).header("X-API-Key", "a-key");
    service.send(&report).expect(201);
    service.send(&report).expect(429);
    assert_eq!(samples(&service)[r#"monlight_rate_limited_total{project="sh\"o\\p"}"#], 1.0);
}
