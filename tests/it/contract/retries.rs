//! `Idempotency-Key`: a report that is sent again counts once, and its sender gets the first response again.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Case, assert_cases, group_detail, post_report, unique_report, unique_report_with, without_field};
use crate::harness::{Request, Response, Setup, TempDir};

/// The same report, with its key.
fn keyed(report: &Value, key: &str) -> Request {
    post_report(report).header("Idempotency-Key", key)
}

#[test]
fn a_repeat_gets_the_first_answer_and_changes_nothing() {
    let service = Setup::error_tracker().start();
    let report = unique_report();
    let other = unique_report();
    let mut first = Vec::new();
    for (key, status) in [("created", "created"), ("incremented", "incremented"), ("reopened", "reopened")] {
        if status == "reopened" {
            service.post("/api/errors/1/resolve", &json!({})).expect(200);
        }
        first.push((key, service.send(&keyed(&report, key)).has(json!({ "status": status }))));
    }
    let before = group_detail(&service, 1);
    assert_eq!(before["count"], 3);
    for (key, response) in &first {
        for report in [&report, &other] {
            let again = service.send(&keyed(report, key));
            assert_eq!((again.status, again.text()), (response.status, response.text()), "{key}");
        }
    }
    assert_eq!(group_detail(&service, 1), before);
    service.get("/api/errors?resolved=all").expect(200).has(json!({ "total": 1 }));
}

#[test]
fn keys_of_different_clients_do_not_meet() {
    let service = Setup::error_tracker().env("API_KEYS", "a:ingest:key-a,b:ingest:key-b").start();
    let report = keyed(&unique_report(), "one");
    for (key, count) in [("key-a", 1), ("key-b", 2), ("key-a", 2), ("key-b", 2)] {
        service.send(&report.clone().header("X-API-Key", key));
        assert_eq!(group_detail(&service, 1)["count"], count, "{key}");
    }
}

#[test]
fn what_a_key_may_be() {
    let service = Setup::error_tracker().start();
    let says = json!("Header 'Idempotency-Key' must be 1-64 characters");
    let cases: [Case; 7] = [
        ("one character", keyed(&unique_report(), "1"), 201, Value::Null),
        ("64", keyed(&unique_report(), &"k".repeat(64)), 201, Value::Null),
        ("64 of two bytes", keyed(&unique_report(), &"ü".repeat(64)), 201, Value::Null),
        ("65", keyed(&unique_report(), &"k".repeat(65)), 400, says.clone()),
        ("65 of two bytes", keyed(&unique_report(), &"ü".repeat(65)), 400, says.clone()),
        ("none", keyed(&unique_report(), ""), 400, says.clone()),
        ("its like is another", keyed(&unique_report(), "k"), 201, Value::Null),
    ];
    assert_cases(&service, cases);
    let mut latin = service.connect();
    let bytes = keyed(&unique_report(), "?").bytes();
    latin.write(&bytes.iter().map(|byte| if *byte == b'?' { 0xfc } else { *byte }).collect::<Vec<u8>>());
    latin.read_response().expect(400).has_detail(says.as_str().unwrap());
}

#[test]
fn what_was_refused_may_be_mended_under_the_same_key() {
    let service = Setup::error_tracker().start();
    let report = unique_report();
    service.send(&keyed(&without_field(report.clone(), "message"), "k")).expect(400);
    service.send(&keyed(&report, "k")).expect(201);
    service.send(&keyed(&report, "k")).expect(201);
}

#[test]
fn repeats_at_the_same_moment_count_once() {
    let service = Setup::error_tracker().start();
    for round in 0..5 {
        let request = keyed(&unique_report(), &format!("round-{round}"));
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
fn keys_survive_a_restart_and_a_power_cut() {
    let folder = Arc::new(TempDir::new());
    let start = || Setup::error_tracker().data_dir(&folder).start();
    let report = keyed(&unique_report_with("message", "once"), "k");
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
