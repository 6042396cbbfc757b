//! Contract tests of the HTTP API. Most are tables of cases: a request, the expected status and the part of the
//! response that matters, with invalid inputs next to valid ones. One submodule per topic.

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
mod log_files;
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

use crate::support::harness::{Request, Response, Service, report_at};

/// Test case: name, request, expected status and expected body. An object lists the members that matter; a string must
/// be part of the `detail` of an error response; null accepts any body.
type Case = (&'static str, Request, u16, Value);

/// Sends the requests in order and fails with a list of all mismatches.
#[track_caller]
fn assert_cases(service: &Service, cases: impl IntoIterator<Item = Case>) {
    let failed: Vec<String> = cases
        .into_iter()
        .filter_map(|(name, request, status, expected)| {
            let reason = mismatch(&service.send(&request), status, &expected)?;
            Some(format!("{name}: {reason}"))
        })
        .collect();
    assert!(failed.is_empty(), "{} cases failed:\n{}", failed.len(), failed.join("\n"));
}

/// Returns how a response differs from the expectation; `None` if it matches.
fn mismatch(response: &Response, status: u16, expected: &Value) -> Option<String> {
    let text = String::from_utf8_lossy(&response.body);
    if response.status != status {
        return Some(format!("status {}, expected {status}: {text}", response.status));
    }
    if response.header("content-type") != Some("application/json") {
        return Some(format!("the content type is {:?}", response.header("content-type")));
    }
    let Ok(body) = serde_json::from_slice::<Value>(&response.body) else {
        return Some(format!("the body is not JSON: {text}"));
    };
    if status >= 400 {
        let part = expected.as_str().unwrap_or_default();
        let sentence = body["detail"].as_str().filter(|sentence| !sentence.is_empty());
        let only_member = body.as_object().is_some_and(|members| members.len() == 1);
        // SQL in a message would leak internals.
        let matches =
            only_member && sentence.is_some_and(|sentence| sentence.contains(part) && !sentence.contains("SELECT"));
        return (!matches).then(|| format!("{text} should have only a detail that contains {part:?}"));
    }
    (!expected.is_null() && !contains_subset(&body, expected)).then(|| format!("{text} should contain {expected}"))
}

/// Returns whether `actual` contains `expected`. Objects may have more members than expected; arrays must have the same
/// length.
fn contains_subset(actual: &Value, expected: &Value) -> bool {
    match (actual, expected) {
        (Value::Object(actual), Value::Object(expected)) => {
            expected.iter().all(|(name, value)| actual.get(name).is_some_and(|actual| contains_subset(actual, value)))
        }
        (Value::Array(actual), Value::Array(expected)) => {
            actual.len() == expected.len()
                && actual.iter().zip(expected).all(|(actual, expected)| contains_subset(actual, expected))
        }
        _ => actual == expected,
    }
}

/// Returns a report that creates a new group: no other call uses the same line.
fn unique_report() -> Value {
    static LINE: AtomicU32 = AtomicU32::new(1_000);
    report_at("boom", LINE.fetch_add(1, Ordering::Relaxed))
}

/// Returns a unique report with one field set.
fn unique_report_with(field: &str, value: impl Into<Value>) -> Value {
    with_field(unique_report(), field, value)
}

fn with_field(mut report: Value, field: &str, value: impl Into<Value>) -> Value {
    report[field] = value.into();
    report
}

fn without_field(mut report: Value, field: &str) -> Value {
    report.as_object_mut().unwrap().remove(field);
    report
}

fn post_report(body: &Value) -> Request {
    Request::post("/api/errors", body)
}

/// Returns a request that reports an error with exactly these bytes as its body.
fn post_report_bytes(body: impl Into<Vec<u8>>) -> Request {
    Request::new("POST", "/api/errors").body(body)
}

/// Returns the error group with this ID.
#[track_caller]
fn group_detail(service: &Service, id: i64) -> Value {
    service.get(&format!("/api/errors/{id}")).expect(200).json()
}

/// Posts a report that creates a group and returns the group.
#[track_caller]
fn create_group(service: &Service, report: &Value) -> Value {
    let id = service.post("/api/errors", report).expect(201).id();
    group_detail(service, id)
}

/// Returns the names of an object's members.
fn member_names(object: &Value) -> BTreeSet<&str> {
    object.as_object().unwrap().keys().map(String::as_str).collect()
}

/// Returns the time `minutes` ago in the services' format.
pub fn minutes_ago(minutes: u64) -> String {
    (Timestamp::now() - Duration::from_secs(minutes * 60)).to_string()
}

#[test]
fn mismatch_detects_wrong_status_body_and_detail() {
    let response = |status, body: Value| Response {
        status,
        headers: vec![("content-type".to_owned(), "application/json".to_owned())],
        body: body.to_string().into_bytes(),
    };
    let good = response(200, json!({ "a": [1, { "b": null, "c": 2 }] }));
    for (expected, matches) in [
        (Value::Null, true),
        (json!({ "a": [1, { "b": null }] }), true),
        (json!({ "a": [1] }), false),
        (json!({ "a": [1, { "b": 0 }] }), false),
        (json!({ "z": null }), false),
    ] {
        assert_eq!(mismatch(&good, 200, &expected).is_none(), matches, "{expected}");
    }
    assert!(mismatch(&good, 201, &Value::Null).is_some());
    assert!(mismatch(&response(400, json!({ "detail": "Field 'x' is wrong" })), 400, &json!("'x'")).is_none());
    assert!(mismatch(&response(400, json!({ "detail": "Wrong" })), 400, &json!("'x'")).is_some());
    assert!(mismatch(&response(400, json!({ "error": "'x'" })), 400, &Value::Null).is_some());
}
