//! Contract of `GET /health`: it needs no key, is not rate limited, and reports key figures.

use monlight::clock::Timestamp;
use serde_json::{Value, json};

use super::{Case, assert_cases, member_names, post_report, unique_report};
use crate::support::harness::{Request, Service, Setup, wait_until};

#[test]
fn health_requires_no_key_and_ignores_the_query() {
    let service = Setup::error_tracker().start();
    let ok = json!({ "status": "ok" });
    let without_key = |path| Request::get(path).without_header("X-API-Key");
    let with_method = |method| Request::new(method, "/health").without_header("X-API-Key");
    let cases: [Case; 8] = [
        ("without a key", without_key("/health"), 200, ok.clone()),
        ("with a query", without_key("/health?from=balancer&x=%20"), 200, ok.clone()),
        ("with an empty query", without_key("/health?"), 200, ok.clone()),
        ("with a wrong key", Request::get("/health").header("X-API-Key", "wrong"), 200, ok),
        ("trailing slash", without_key("/health/"), 404, json!("No such endpoint")),
        ("wrong method", Request::new("POST", "/health"), 405, json!("GET, HEAD")),
        ("wrong method without a key", with_method("DELETE"), 405, json!("GET, HEAD")),
        ("unknown method", with_method("BREW"), 405, json!("GET, HEAD")),
    ];
    assert_cases(&service, cases);
    let head = service.send(&Request::new("HEAD", "/health?x=1").without_header("X-API-Key")).expect(200);
    let length: usize = head.header("content-length").unwrap().parse().unwrap();
    assert!(head.body.is_empty() && length > 0, "HEAD must have the length of GET and no body");
}

#[test]
fn error_tracker_health_reports_counts() {
    let service = Setup::error_tracker().start();
    let first = post_report(&unique_report());
    let id = service.send(&first).expect(201).id();
    service.send(&first).expect(200);
    service.send(&post_report(&unique_report())).expect(201);
    service.post(&format!("/api/errors/{id}/resolve"), &json!({})).expect(200);
    let health = service.get("/health").expect(200).has(json!({
        "status": "ok",
        "version": env!("CARGO_PKG_VERSION"),
        "errors_unresolved": 1,
        "errors_resolved": 1,
        "errors_evicted": 0,
        "occurrences_stripped": 0,
        "alerts_held": 0,
        "rate_limited": 0,
    }));
    let health = health.json();
    assert!(health["uptime_seconds"].as_u64().is_some_and(|seconds| seconds < 60), "{health}");
    assert_eq!(member_names(&health).len(), 9, "{health}");
}

#[test]
fn collector_health_reports_received_points_and_last_rollup() {
    let point = json!({ "name": "n", "type": "counter", "value": 1 });
    let late = json!({ "name": "n", "type": "counter", "value": 1, "timestamp": "2020-01-01T00:00:00Z" });
    let post_points = |points: &[&Value]| Request::post("/api/metrics", &json!(points));
    let service = Setup::metrics_collector().start();
    service.get("/health").expect(200).has(json!({ "metrics_received_24h": 0 }));
    service.send(&post_points(&[&point, &point, &late])).expect(202);
    for _ in 0..2 {
        service.send(&post_points(&[&point, &point]).header("Idempotency-Key", "once")).expect(202);
    }
    service.send(&post_points(&[&point, &json!({})])).expect(400);
    service.get("/health").expect(200).has(json!({ "metrics_received_24h": 5 }));

    let mut data_dir = service.kill();
    let before = Timestamp::now().seconds();
    let rolled_up_at = |service: &Service| {
        let health = service.get("/health").expect(200).json();
        health["last_aggregation"].as_str().map(|at| Timestamp::parse(at).unwrap().seconds())
    };
    for (hours, received) in [(22, 5), (3, 0)] {
        let database = rusqlite::Connection::open(data_dir.path().join("metrics.db")).unwrap();
        database.execute("UPDATE points_received SET at_h = at_h - ?1", [hours]).unwrap();
        database.execute("UPDATE counters SET value = 0 WHERE name = 'rolled_up_at_ms'", []).unwrap();
        let service = Setup::metrics_collector().env("METRICS_OPEN", 1).data_dir(&data_dir).start();
        let at = wait_until(|| rolled_up_at(&service)).expect("the service rolls up after its start");
        assert!((before..=Timestamp::now().seconds()).contains(&at), "{at}");
        service.get("/health").expect(200).has(json!({ "metrics_received_24h": received }));
        let metrics = service.get("/metrics").expect(200).text();
        for sample in [format!("metrics_received_24h {received}"), format!("last_aggregation {at}")] {
            assert!(metrics.contains(&format!("\nmonlight_{sample}\n")), "{sample} in {metrics}");
        }
        let hour_count =
            || database.query_row("SELECT count(*) FROM points_received", [], |row| row.get::<_, i64>(0)).unwrap();
        wait_until(|| (hour_count() == i64::from(received > 0)).then_some(()))
            .expect("counts older than 24 hours are deleted");
        data_dir = service.kill();
    }
}

#[test]
fn forwarded_addresses_of_an_untrusted_proxy_cause_a_warning() {
    let warnings = |service: &Service| service.get("/health").expect(200).json()["warnings"].clone();
    let forwarded = Request::get("/api/projects").header("X-Forwarded-For", "203.0.113.7");
    let service = Setup::error_tracker().start();
    service.get("/api/projects").expect(200);
    assert_eq!(warnings(&service), Value::Null);
    for _ in 0..2 {
        service.send(&forwarded).expect(200);
    }
    let warning = &warnings(&service)[0];
    assert_eq!((&warning["code"], &warning["count"]), (&json!("proxy_not_trusted"), &json!(2)), "{warning}");
    assert!(warning["message"].as_str().unwrap().contains("add 127.0.0.1 to TRUSTED_PROXIES"), "{warning}");
    let public = service.send(&Request::get("/health").without_header("X-API-Key")).expect(200).json();
    assert_eq!(public["warnings"], json!([{ "code": "proxy_not_trusted", "count": 2 }]));
    let lines =
        service.stop_and_collect_log().into_iter().filter(|line| line.contains("X-Forwarded-For from 127.0.0.1"));
    assert_eq!(lines.count(), 1, "one log line is enough");
    let trusting = Setup::error_tracker().env("TRUSTED_PROXIES", "127.0.0.1").start();
    trusting.send(&forwarded).expect(200);
    assert_eq!(warnings(&trusting), Value::Null);
}
