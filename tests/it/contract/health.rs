//! `GET /health`: open to everybody, never counted, and what it tells.

use monlight::clock::Timestamp;
use serde_json::{Value, json};

use super::{Case, assert_cases, member_names, post_report, unique_report};
use crate::harness::{Request, Service, Setup, wait_until};

#[test]
fn health_is_open_whatever_stands_beside_the_path() {
    let service = Setup::error_tracker().start();
    let ok = json!({ "status": "ok" });
    let anybody = |path| Request::get(path).without_header("X-API-Key");
    let wrong = |method| Request::new(method, "/health").without_header("X-API-Key");
    let cases: [Case; 8] = [
        ("without a key", anybody("/health"), 200, ok.clone()),
        ("with a query", anybody("/health?from=balancer&x=%20"), 200, ok.clone()),
        ("with an empty query", anybody("/health?"), 200, ok.clone()),
        ("with a wrong key", Request::get("/health").header("X-API-Key", "wrong"), 200, ok),
        ("another path", anybody("/health/"), 404, json!("There is nothing at this path")),
        ("another method", Request::new("POST", "/health"), 405, json!("GET, HEAD")),
        ("another method without a key", wrong("DELETE"), 405, json!("GET, HEAD")),
        ("a method that is none of HTTP's", wrong("BREW"), 405, json!("GET, HEAD")),
    ];
    assert_cases(&service, cases);
    let head = service.send(&Request::new("HEAD", "/health?x=1").without_header("X-API-Key")).expect(200);
    let length: usize = head.header("content-length").unwrap().parse().unwrap();
    assert!(head.body.is_empty() && length > 0, "HEAD has the length of GET and no body");
}

#[test]
fn health_tells_a_few_cheap_facts() {
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
fn the_collector_tells_what_it_received_and_when_it_rolled_up() {
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

    let mut folder = service.kill();
    let before = Timestamp::now().seconds();
    let rolled_up_at = |service: &Service| {
        let health = service.get("/health").expect(200).json();
        health["last_aggregation"].as_str().map(|at| Timestamp::parse(at).unwrap().seconds())
    };
    for (hours, received) in [(22, 5), (3, 0)] {
        let database = rusqlite::Connection::open(folder.path().join("metrics.db")).unwrap();
        database.execute("UPDATE received SET hour = hour - ?1", [hours]).unwrap();
        database.execute("UPDATE totals SET value = 0 WHERE name = 'rolled_up_at'", []).unwrap();
        let service = Setup::metrics_collector().env("METRICS_OPEN", 1).data_dir(&folder).start();
        let at = wait_until(|| rolled_up_at(&service)).expect("a start rolls up");
        assert!((before..=Timestamp::now().seconds()).contains(&at), "{at}");
        service.get("/health").expect(200).has(json!({ "metrics_received_24h": received }));
        let metrics = service.get("/metrics").expect(200).text();
        for sample in [format!("metrics_received_24h {received}"), format!("last_aggregation {at}")] {
            assert!(metrics.contains(&format!("\nmonlight_{sample}\n")), "{sample} in {metrics}");
        }
        let kept = || database.query_row("SELECT count(*) FROM received", [], |row| row.get::<_, i64>(0)).unwrap();
        wait_until(|| (kept() == i64::from(received > 0)).then_some(())).expect("what is older is removed");
        folder = service.kill();
    }
}
