//! Retries with `Idempotency-Key`: a repeated report counts once, and the client receives the first response again.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Case, assert_cases, group_detail, post_report, unique_report, unique_report_with, without_field};
use crate::support::harness::{Request, Response, Setup, TempDir};

/// Returns a request that sends a report with an idempotency key.
fn with_key(report: &Value, key: &str) -> Request {
    post_report(report).header("Idempotency-Key", key)
}

#[test]
fn retry_returns_the_first_response_and_changes_nothing() {
    let service = Setup::error_tracker().start();
    let report = unique_report();
    let other = unique_report();
    let mut first = Vec::new();
    for (key, status) in [("created", "created"), ("incremented", "incremented"), ("reopened", "reopened")] {
        if status == "reopened" {
            service.post("/api/errors/1/resolve", &json!({})).expect(200);
        }
        first.push((key, service.send(&with_key(&report, key)).has(json!({ "status": status }))));
    }
    let before = group_detail(&service, 1);
    assert_eq!(before["count"], 3);
    for (key, response) in &first {
        for report in [&report, &other] {
            let repeated = service.send(&with_key(report, key));
            assert_eq!((repeated.status, repeated.text()), (response.status, response.text()), "{key}");
        }
    }
    assert_eq!(group_detail(&service, 1), before);
    service.get("/api/errors?resolved=all").expect(200).has(json!({ "total": 1 }));
}

#[test]
fn equal_keys_of_different_clients_are_independent() {
    let service = Setup::error_tracker().env("API_KEYS", "a:ingest:key-a,b:ingest:key-b").start();
    let report = with_key(&unique_report(), "one");
    for (key, count) in [("key-a", 1), ("key-b", 2), ("key-a", 2), ("key-b", 2)] {
        service.send(&report.clone().header("X-API-Key", key));
        assert_eq!(group_detail(&service, 1)["count"], count, "{key}");
    }
}

#[test]
fn equal_keys_of_different_projects_are_independent() {
    let service = Setup::error_tracker().start();
    for project in ["a", "b"] {
        let report = with_key(&unique_report_with("project", json!(project)), "one");
        for _ in 0..2 {
            service.send(&report);
        }
        service.get(&format!("/api/errors?project={project}")).expect(200).has(json!({ "total": 1 }));
    }
    let collector = Setup::metrics_collector().start();
    for project in ["a", "b"] {
        let point = json!([{ "name": "orders", "type": "counter", "value": 1, "project": project }]);
        let request = Request::post("/api/metrics", &point).header("Idempotency-Key", "one");
        for _ in 0..2 {
            collector.send(&request).expect(202);
        }
    }
    let names = collector.get("/api/projects").expect(200).json();
    assert_eq!(names["projects"], json!(["a", "b"]));
}

#[test]
fn idempotency_key_is_1_to_64_characters_of_utf8() {
    let service = Setup::error_tracker().start();
    let invalid_key = json!("Header 'Idempotency-Key' must be 1-64 characters");
    let cases: [Case; 7] = [
        ("one character", with_key(&unique_report(), "1"), 201, Value::Null),
        ("64 characters", with_key(&unique_report(), &"k".repeat(64)), 201, Value::Null),
        ("64 characters of two bytes", with_key(&unique_report(), &"ü".repeat(64)), 201, Value::Null),
        ("65 characters", with_key(&unique_report(), &"k".repeat(65)), 400, invalid_key.clone()),
        ("65 characters of two bytes", with_key(&unique_report(), &"ü".repeat(65)), 400, invalid_key.clone()),
        ("empty", with_key(&unique_report(), ""), 400, invalid_key.clone()),
        ("prefix of an earlier key", with_key(&unique_report(), "k"), 201, Value::Null),
    ];
    assert_cases(&service, cases);
    let mut latin = service.connect();
    let bytes = with_key(&unique_report(), "?").bytes();
    latin.write(&bytes.iter().map(|byte| if *byte == b'?' { 0xfc } else { *byte }).collect::<Vec<u8>>());
    latin.read_response().expect(400).has_detail(invalid_key.as_str().unwrap());
}

#[test]
fn rejected_report_can_be_corrected_with_the_same_key() {
    let service = Setup::error_tracker().start();
    let report = unique_report();
    service.send(&with_key(&without_field(report.clone(), "message"), "k")).expect(400);
    service.send(&with_key(&report, "k")).expect(201);
    service.send(&with_key(&report, "k")).expect(201);
}

#[test]
fn concurrent_retries_count_once() {
    let service = Setup::error_tracker().start();
    for round in 0..5 {
        let request = with_key(&unique_report(), &format!("round-{round}"));
        let mut clients: Vec<_> = (0..16).map(|_| service.connect()).collect();
        for client in &mut clients {
            client.write(&request.bytes());
        }
        let responses: Vec<Response> = clients.iter_mut().map(|client| client.read_response().expect(201)).collect();
        assert!(responses.iter().all(|response| response.body == responses[0].body), "{responses:?}");
        assert_eq!(group_detail(&service, responses[0].id())["count"], 1);
    }
}

#[test]
fn idempotency_keys_survive_a_restart_and_a_kill() {
    let data_dir = Arc::new(TempDir::new());
    let start = || Setup::error_tracker().data_dir(&data_dir).start();
    let report = with_key(&unique_report_with("message", "once"), "k");
    let service = start();
    let first = service.send(&report).expect(201);
    service.kill();
    let service = start();
    assert_eq!(service.send(&report).expect(201).text(), first.text());
    service.stop();
    let service = start();
    assert_eq!(service.send(&report).expect(201).text(), first.text());
    assert_eq!(group_detail(&service, 1)["count"], 1);
}
