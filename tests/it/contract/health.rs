//! `GET /health`: open to everybody, never counted, and what it tells.

use serde_json::json;

use super::{Case, fresh, hold, members, post};
use crate::harness::{Request, Setup};

#[test]
fn health_is_open_whatever_stands_beside_the_path() {
    let service = Setup::error_tracker().start();
    let ok = json!({ "status": "ok" });
    let anybody = |path| Request::get(path).without("X-API-Key");
    let cases: [Case; 6] = [
        ("without a key", anybody("/health"), 200, ok.clone()),
        ("with a query", anybody("/health?from=balancer&x=%20"), 200, ok.clone()),
        ("with an empty query", anybody("/health?"), 200, ok.clone()),
        ("with a wrong key", Request::get("/health").header("X-API-Key", "wrong"), 200, ok),
        ("another path", anybody("/health/"), 404, json!("There is nothing at this path")),
        ("another method", Request::new("POST", "/health"), 405, json!("GET, HEAD")),
    ];
    hold(&service, cases);
    let head = service.send(&Request::new("HEAD", "/health?x=1").without("X-API-Key")).expect(200);
    let length: usize = head.header("content-length").unwrap().parse().unwrap();
    assert!(head.body.is_empty() && length > 0, "HEAD has the length of GET and no body");
}

#[test]
fn health_tells_a_few_cheap_facts() {
    let service = Setup::error_tracker().start();
    let first = post(&fresh());
    let id = service.send(&first).expect(201).id();
    service.send(&first).expect(200);
    service.send(&post(&fresh())).expect(201);
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
    assert_eq!(members(&health).len(), 9, "{health}");
}
