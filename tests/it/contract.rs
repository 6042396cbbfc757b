//! The HTTP contract, row by row: what is said, the request, the status, and the part of the answer that matters, the
//! wrong inputs beside the right ones. Each room holds one theme.

mod age;
mod alerts;
mod bodies;
mod buckets;
mod clocks;
mod collector_keys;
mod connections;
mod errors;
mod groups;
mod headers;
mod health;
mod json;
mod keys;
mod lists;
mod log_ring;
mod log_search;
mod log_sources;
mod log_tail;
mod logs;
mod metrics;
mod points;
mod rate;
mod relay;
mod relay_maps;
mod relay_rates;
mod reports;
mod retries;
mod sessions;
mod start;
mod stop;
mod times;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use monlight::clock::Timestamp;
use serde_json::{Value, json};

use crate::harness::{Answer, Request, Service, report_at};

/// One row: what it says, the request, the status, and what the answer must have. An object names the members that
/// matter, a text is part of the sentence that a refusal gives, null leaves the answer open.
type Case = (&'static str, Request, u16, Value);

/// Sends every request in its turn and tells of all rows that do not hold.
#[track_caller]
fn hold(service: &Service, cases: impl IntoIterator<Item = Case>) {
    let broken: Vec<String> = cases
        .into_iter()
        .filter_map(|(what, request, status, expected)| {
            let why = fault(&service.send(&request), status, &expected)?;
            Some(format!("{what}: {why}"))
        })
        .collect();
    assert!(broken.is_empty(), "{} rows do not hold:\n{}", broken.len(), broken.join("\n"));
}

/// What is wrong with an answer, if anything.
fn fault(answer: &Answer, status: u16, expected: &Value) -> Option<String> {
    let text = String::from_utf8_lossy(&answer.body);
    if answer.status != status {
        return Some(format!("{} instead of {status}: {text}", answer.status));
    }
    if answer.header("content-type") != Some("application/json") {
        return Some(format!("its type is {:?}", answer.header("content-type")));
    }
    let Ok(body) = serde_json::from_slice::<Value>(&answer.body) else { return Some(format!("no JSON: {text}")) };
    if status >= 400 {
        let part = expected.as_str().unwrap_or_default();
        let sentence = body["detail"].as_str().filter(|sentence| !sentence.is_empty());
        let alone = body.as_object().is_some_and(|members| members.len() == 1);
        let says = alone && sentence.is_some_and(|sentence| sentence.contains(part) && !sentence.contains("SELECT"));
        return (!says).then(|| format!("{text} should be a detail that says {part:?}"));
    }
    (!expected.is_null() && !fits(&body, expected)).then(|| format!("{text} should have {expected}"))
}

/// Whether `found` has everything that `expected` has; it may have more members, not more items.
fn fits(found: &Value, expected: &Value) -> bool {
    match (found, expected) {
        (Value::Object(found), Value::Object(expected)) => {
            expected.iter().all(|(name, value)| found.get(name).is_some_and(|found| fits(found, value)))
        }
        (Value::Array(found), Value::Array(expected)) => {
            found.len() == expected.len() && found.iter().zip(expected).all(|(found, expected)| fits(found, expected))
        }
        _ => found == expected,
    }
}

/// A report that opens a group of its own.
fn fresh() -> Value {
    static LINE: AtomicU32 = AtomicU32::new(1_000);
    report_at("boom", LINE.fetch_add(1, Ordering::Relaxed))
}

/// The same with one field set.
fn fresh_with(field: &str, value: impl Into<Value>) -> Value {
    with(fresh(), field, value)
}

fn with(mut report: Value, field: &str, value: impl Into<Value>) -> Value {
    report[field] = value.into();
    report
}

fn without(mut report: Value, field: &str) -> Value {
    report.as_object_mut().unwrap().remove(field);
    report
}

fn post(body: &Value) -> Request {
    Request::post("/api/errors", body)
}

/// A report whose body is exactly these bytes.
fn post_bytes(body: impl Into<Vec<u8>>) -> Request {
    Request::new("POST", "/api/errors").body(body)
}

/// What the group of this id looks like.
#[track_caller]
fn detail(service: &Service, id: i64) -> Value {
    service.get(&format!("/api/errors/{id}")).expect(200).json()
}

/// Posts a report that opens a group, and answers what the group looks like.
#[track_caller]
fn group_of(service: &Service, report: &Value) -> Value {
    let id = service.post("/api/errors", report).expect(201).id();
    detail(service, id)
}

/// The names of an object's members.
fn members(object: &Value) -> BTreeSet<&str> {
    object.as_object().unwrap().keys().map(String::as_str).collect()
}

/// A moment as the service writes it.
fn minutes_ago(minutes: u64) -> String {
    (Timestamp::now() - Duration::from_secs(minutes * 60)).to_string()
}

#[test]
fn the_tables_notice_what_does_not_hold() {
    let answer = |status, body: Value| Answer {
        status,
        headers: vec![("content-type".to_owned(), "application/json".to_owned())],
        body: body.to_string().into_bytes(),
    };
    let good = answer(200, json!({ "a": [1, { "b": null, "c": 2 }] }));
    for (expected, holds) in [
        (Value::Null, true),
        (json!({ "a": [1, { "b": null }] }), true),
        (json!({ "a": [1] }), false),
        (json!({ "a": [1, { "b": 0 }] }), false),
        (json!({ "z": null }), false),
    ] {
        assert_eq!(fault(&good, 200, &expected).is_none(), holds, "{expected}");
    }
    assert!(fault(&good, 201, &Value::Null).is_some());
    assert!(fault(&answer(400, json!({ "detail": "Field 'x' is wrong" })), 400, &json!("'x'")).is_none());
    assert!(fault(&answer(400, json!({ "detail": "Wrong" })), 400, &json!("'x'")).is_some());
    assert!(fault(&answer(400, json!({ "error": "'x'" })), 400, &Value::Null).is_some());
}
