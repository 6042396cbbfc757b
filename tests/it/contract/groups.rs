//! Error groups: fingerprints, counting, reopening, and the fields of a group.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{
    Case, assert_cases, create_group, group_detail, member_names, post_report, unique_report, unique_report_with,
    with_field,
};
use crate::support::harness::{Request, Setup, report, report_at};

#[test]
fn fingerprints_equal_the_original_monlight() {
    let service = Setup::error_tracker().start();
    let cases: Vec<Value> = serde_json::from_str(include_str!("../../fixtures/fingerprints.json")).unwrap();
    for case in cases {
        // In these two cases, the original does not recognize the location, but this implementation does.
        let expected = match case["case"].as_str().unwrap() {
            "go panic" => format!("{:x}", md5::compute("svc:panic:/app/main.go:12")),
            "php" => format!("{:x}", md5::compute("svc:E:/app/a.php:3")),
            _ => case["fingerprint"].as_str().unwrap().to_owned(),
        };
        let response = service.post("/api/errors", &with_field(case.clone(), "message", "boom"));
        assert!(matches!(response.status, 200 | 201), "{}", response.text());
        assert_eq!(response.json()["fingerprint"], expected, "{}", case["case"]);
    }
}

#[test]
fn reports_with_same_project_type_file_and_line_form_one_group() {
    let service = Setup::error_tracker().start();
    let first = report("boom");
    let changed = |change: Value| {
        let mut report = first.clone();
        report.as_object_mut().unwrap().append(&mut change.as_object().unwrap().clone());
        post_report(&report)
    };
    let other_file = json!({ "traceback": "  File \"/app/buy.py\", line 42, in charge" });
    let (same_group, new_group) = (json!({ "status": "incremented", "id": 1 }), json!({ "status": "created" }));
    let cases: [Case; 11] = [
        ("first report", post_report(&first), 201, json!({ "status": "created", "id": 1 })),
        ("same report", post_report(&first), 200, json!({ "status": "incremented", "id": 1, "count": 2 })),
        ("another message", changed(json!({ "message": "bang" })), 200, same_group.clone()),
        ("another environment", changed(json!({ "environment": "staging" })), 200, same_group.clone()),
        (
            "another release, level, user",
            changed(json!({ "release": "2", "level": "info", "user_id": 1 })),
            200,
            same_group.clone(),
        ),
        ("from a browser", changed(json!({ "request_method": "BROWSER" })), 200, same_group),
        ("another project", changed(json!({ "project": "blog" })), 201, new_group.clone()),
        ("another type", changed(json!({ "exception_type": "TypeError" })), 201, new_group.clone()),
        ("another line", post_report(&report_at("boom", 43)), 201, new_group.clone()),
        ("another file", changed(other_file), 201, new_group.clone()),
        ("without a location, the whole traceback counts", changed(json!({ "traceback": "boom" })), 201, new_group),
    ];
    assert_cases(&service, cases);
    service.get("/api/errors").expect(200).has(json!({ "total": 6 }));
}

#[test]
fn counts_are_exact_and_five_occurrences_are_kept() {
    let service = Setup::error_tracker().start();
    let base = unique_report();
    for n in 1..=12 {
        let report = with_field(with_field(base.clone(), "extra", json!({ "n": n })), "message", format!("boom {n}"));
        let (status, outcome) = if n == 1 { (201, "created") } else { (200, "incremented") };
        let response = service.post("/api/errors", &report).expect(status).has(json!({ "status": outcome, "id": 1 }));
        assert_eq!(response.json().get("count"), (n > 1).then(|| json!(n)).as_ref());
        let group = group_detail(&service, 1);
        assert_eq!(group["count"], n);
        let kept: Vec<i64> = group["occurrences"]
            .as_array()
            .unwrap()
            .iter()
            .map(|occurrence| occurrence["extra"]["n"].as_i64().unwrap())
            .collect();
        assert_eq!(kept, (1..=n).rev().take(5).collect::<Vec<_>>(), "newest first");
        assert_eq!(group["occurrences"][0]["message"], format!("boom {n}"));
        assert_eq!(group["message"], "boom 1", "the group has the message of its first report");
    }
}

#[test]
fn resolved_error_reopens_when_it_recurs() {
    let service = Setup::error_tracker().start();
    let base = unique_report();
    service.post("/api/errors", &base).expect(201);
    let resolve = |id: &str| Request::new("POST", &format!("/api/errors/{id}/resolve"));
    let resolved = json!({ "status": "resolved", "id": 1 });
    assert_cases(
        &service,
        [
            ("once", resolve("1"), 200, resolved.clone()),
            ("again", resolve("1"), 200, resolved.clone()),
            ("with an ignored body", resolve("1").body("{"), 200, resolved),
            ("unknown", resolve("2"), 404, json!("Error group 2 not found")),
            ("ID 0", resolve("0"), 404, json!("Not found: id must be a positive integer")),
            (
                "ID above the maximum",
                resolve("99999999999999999999"),
                404,
                json!("Not found: id must be a positive integer"),
            ),
            ("non-numeric ID", resolve("one"), 404, json!("Not found: id must be a positive integer")),
        ],
    );
    let group = group_detail(&service, 1);
    assert_eq!((&group["resolved"], &group["count"]), (&json!(true), &json!(1)));
    assert!(group["resolved_at"].is_string(), "{group}");
    service.post("/api/errors", &base).expect(200).has(json!({ "status": "reopened", "id": 1, "count": 2 }));
    let group = group_detail(&service, 1);
    assert_eq!((&group["resolved"], &group["resolved_at"]), (&json!(false), &Value::Null));
    service.post("/api/errors", &base).expect(200).has(json!({ "status": "incremented", "count": 3 }));
}

#[test]
fn report_response_has_the_documented_members() {
    let service = Setup::error_tracker().start();
    let base = unique_report();
    for (status, outcome, names) in [
        (201, "created", &["fingerprint", "id", "status"][..]),
        (200, "incremented", &["count", "fingerprint", "id", "status"]),
        (200, "reopened", &["count", "fingerprint", "id", "status"]),
    ] {
        if outcome == "reopened" {
            service.post("/api/errors/1/resolve", &json!({})).expect(200);
        }
        let response = service.post("/api/errors", &base).expect(status).has(json!({ "status": outcome })).json();
        assert_eq!(member_names(&response), names.iter().copied().collect());
        let fingerprint = response["fingerprint"].as_str().unwrap();
        let hex = fingerprint.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
        assert!(fingerprint.len() == 32 && hex, "{fingerprint}");
    }
}

const SUMMARY: [&str; 16] = [
    "id",
    "fingerprint",
    "project",
    "environment",
    "exception_type",
    "message",
    "message_truncated",
    "location",
    "release",
    "level",
    "source",
    "count",
    "first_seen",
    "last_seen",
    "resolved",
    "resolved_at",
];

#[test]
fn trace_separates_frames_of_the_program_from_library_frames() {
    let service = Setup::error_tracker().start();
    let traceback = "Traceback (most recent call last):\n  File \"/app/pay.py\", line 4, in pay\n    json.loads(text)\n  \
                     File \"/usr/lib/python3.12/json/decoder.py\", line 355, in raw_decode\nValueError: boom\n";
    let section = |kind: &str, first_line: u64, lines: u64, frames: u64| json!({ "kind": kind, "first_line": first_line, "lines": lines, "frames": frames });
    let group = create_group(&service, &unique_report_with("traceback", traceback));
    let expected =
        [section("text", 0, 1, 0), section("in_app", 1, 2, 1), section("library", 3, 1, 1), section("text", 4, 1, 0)];
    assert_eq!(group["trace"], json!(expected));
    let without_traceback = create_group(&service, &unique_report_with("traceback", ""));
    assert_eq!(without_traceback["trace"], json!([]));
}

#[test]
fn group_and_occurrence_fields_have_documented_types() {
    let service = Setup::error_tracker().start();
    let optional = json!({
        "release": "1.0", "request_url": "/pay", "request_method": "POST", "request_headers": { "A": "b" },
        "user_id": 7, "extra": { "session_id": "s-1" },
    });
    let mut report = unique_report_with("message", "boom");
    report.as_object_mut().unwrap().append(&mut optional.as_object().unwrap().clone());
    let minimal = create_group(&service, &unique_report());
    let complete = create_group(&service, &report);
    let listed = service.get("/api/errors?limit=1").expect(200).json()["errors"][0].take();
    assert_eq!(member_names(&listed), BTreeSet::from(SUMMARY));
    assert_eq!(member_names(&complete), SUMMARY.into_iter().chain(["traceback", "trace", "occurrences"]).collect());
    for name in SUMMARY {
        assert_eq!(complete[name], listed[name], "{name} differs between list and detail");
    }
    let string = |value: &Value| value.is_string();
    let time = |value: &Value| value.as_str().is_some_and(|at| at.len() == 20 && at.ends_with('Z'));
    let optional_string = |value: &Value| value.is_null() || value.is_string();
    type Check = fn(&Value) -> bool;
    let group_fields: [(&str, Check); 19] = [
        ("id", Value::is_i64),
        ("fingerprint", string),
        ("project", string),
        ("environment", string),
        ("exception_type", string),
        ("message", string),
        ("message_truncated", Value::is_boolean),
        ("location", optional_string),
        ("release", optional_string),
        ("level", string),
        ("source", string),
        ("count", Value::is_i64),
        ("first_seen", time),
        ("last_seen", time),
        ("resolved", Value::is_boolean),
        ("resolved_at", Value::is_null),
        ("traceback", string),
        ("trace", Value::is_array),
        ("occurrences", Value::is_array),
    ];
    let occurrence_fields: [(&str, Check); 13] = [
        ("id", Value::is_i64),
        ("timestamp", time),
        ("environment", string),
        ("release", optional_string),
        ("level", string),
        ("message", string),
        ("request_url", optional_string),
        ("request_method", optional_string),
        ("request_headers", Value::is_object),
        ("user_id", optional_string),
        ("session_id", optional_string),
        ("extra", Value::is_object),
        ("traceback", string),
    ];
    for group in [&minimal, &complete] {
        for (name, check) in group_fields {
            assert!(check(&group[name]), "{name} in {group}");
        }
        let occurrence = &group["occurrences"][0];
        assert_eq!(member_names(occurrence), occurrence_fields.iter().map(|(name, _)| *name).collect());
        for (name, check) in occurrence_fields {
            assert!(check(&occurrence[name]), "{name} in {occurrence}");
        }
    }
}
