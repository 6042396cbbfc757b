//! Groups: what makes two errors one, counting, reopening, and what a group shows of itself.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{
    Case, assert_cases, create_group, group_detail, member_names, post_report, unique_report, unique_report_with,
    with_field,
};
use crate::harness::{Request, Setup, report, report_at};

#[test]
fn fingerprints_are_those_of_the_original() {
    let service = Setup::error_tracker().start();
    let cases: Vec<Value> = serde_json::from_str(include_str!("../../fixtures/fingerprints.json")).unwrap();
    for case in cases {
        // In these two the original found no location where there is one.
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
fn what_makes_two_errors_one() {
    let service = Setup::error_tracker().start();
    let first = report("boom");
    let one = |change: Value| {
        let mut other = first.clone();
        other.as_object_mut().unwrap().append(&mut change.as_object().unwrap().clone());
        post_report(&other)
    };
    let elsewhere = json!({ "traceback": "  File \"/app/buy.py\", line 42, in charge" });
    let (alike, apart) = (json!({ "status": "incremented", "id": 1 }), json!({ "status": "created" }));
    let cases: [Case; 11] = [
        ("the first", post_report(&first), 201, json!({ "status": "created", "id": 1 })),
        ("the same", post_report(&first), 200, json!({ "status": "incremented", "id": 1, "count": 2 })),
        ("another message", one(json!({ "message": "bang" })), 200, alike.clone()),
        ("another environment", one(json!({ "environment": "staging" })), 200, alike.clone()),
        (
            "another release, level, user",
            one(json!({ "release": "2", "level": "info", "user_id": 1 })),
            200,
            alike.clone(),
        ),
        ("from a browser", one(json!({ "request_method": "BROWSER" })), 200, alike),
        ("another project", one(json!({ "project": "blog" })), 201, apart.clone()),
        ("another type", one(json!({ "exception_type": "TypeError" })), 201, apart.clone()),
        ("another line", post_report(&report_at("boom", 43)), 201, apart.clone()),
        ("another file", one(elsewhere), 201, apart.clone()),
        ("without a location the whole text counts", one(json!({ "traceback": "boom" })), 201, apart),
    ];
    assert_cases(&service, cases);
    service.get("/api/errors").expect(200).has(json!({ "total": 6 }));
}

#[test]
fn counts_are_exact_and_the_last_five_reports_are_kept() {
    let service = Setup::error_tracker().start();
    let base = unique_report();
    for n in 1..=12 {
        let report = with_field(with_field(base.clone(), "extra", json!({ "n": n })), "message", format!("boom {n}"));
        let (status, word) = if n == 1 { (201, "created") } else { (200, "incremented") };
        let response = service.post("/api/errors", &report).expect(status).has(json!({ "status": word, "id": 1 }));
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
        assert_eq!(group["message"], "boom 1", "a group is called by its first");
    }
}

#[test]
fn a_resolved_error_stays_so_until_it_recurs() {
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
            ("with a body nobody needs", resolve("1").body("{"), 200, resolved),
            ("unknown", resolve("2"), 404, json!("There is no error 2")),
            ("never to be", resolve("0"), 404, json!("There is nothing with that id")),
            ("larger than any", resolve("99999999999999999999"), 404, json!("There is nothing with that id")),
            ("no number", resolve("one"), 404, json!("There is nothing with that id")),
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
fn a_report_is_answered_in_these_three_shapes() {
    let service = Setup::error_tracker().start();
    let base = unique_report();
    for (status, word, named) in [
        (201, "created", &["fingerprint", "id", "status"][..]),
        (200, "incremented", &["count", "fingerprint", "id", "status"]),
        (200, "reopened", &["count", "fingerprint", "id", "status"]),
    ] {
        if word == "reopened" {
            service.post("/api/errors/1/resolve", &json!({})).expect(200);
        }
        let response = service.post("/api/errors", &base).expect(status).has(json!({ "status": word })).json();
        assert_eq!(member_names(&response), named.iter().copied().collect());
        let fingerprint = response["fingerprint"].as_str().unwrap();
        let hex = fingerprint.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
        assert!(fingerprint.len() == 32 && hex, "{fingerprint}");
    }
}

const SUMMARY: [&str; 15] = [
    "id",
    "fingerprint",
    "project",
    "environment",
    "exception_type",
    "message",
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
fn a_group_shows_all_there_is_in_the_types_that_are_documented() {
    let service = Setup::error_tracker().start();
    let full = json!({
        "release": "1.0", "request_url": "/pay", "request_method": "POST", "request_headers": { "A": "b" },
        "user_id": 7, "extra": { "session_id": "s-1" },
    });
    let mut report = unique_report_with("message", "boom");
    report.as_object_mut().unwrap().append(&mut full.as_object().unwrap().clone());
    let least = create_group(&service, &unique_report());
    let group = create_group(&service, &report);
    let listed = service.get("/api/errors?limit=1").expect(200).json()["errors"][0].take();
    assert_eq!(member_names(&listed), BTreeSet::from(SUMMARY));
    assert_eq!(member_names(&group), SUMMARY.into_iter().chain(["traceback", "occurrences"]).collect());
    for name in SUMMARY {
        assert_eq!(group[name], listed[name], "{name} in the list and alone");
    }
    let text = |value: &Value| value.is_string();
    let time = |value: &Value| value.as_str().is_some_and(|at| at.len() == 20 && at.ends_with('Z'));
    let maybe = |value: &Value| value.is_null() || value.is_string();
    type Check = fn(&Value) -> bool;
    let of_a_group: [(&str, Check); 17] = [
        ("id", Value::is_i64),
        ("fingerprint", text),
        ("project", text),
        ("environment", text),
        ("exception_type", text),
        ("message", text),
        ("location", maybe),
        ("release", maybe),
        ("level", text),
        ("source", text),
        ("count", Value::is_i64),
        ("first_seen", time),
        ("last_seen", time),
        ("resolved", Value::is_boolean),
        ("resolved_at", Value::is_null),
        ("traceback", text),
        ("occurrences", Value::is_array),
    ];
    let of_an_occurrence: [(&str, Check); 13] = [
        ("id", Value::is_i64),
        ("timestamp", time),
        ("environment", text),
        ("release", maybe),
        ("level", text),
        ("message", text),
        ("request_url", maybe),
        ("request_method", maybe),
        ("request_headers", Value::is_object),
        ("user_id", maybe),
        ("session_id", maybe),
        ("extra", Value::is_object),
        ("traceback", text),
    ];
    for group in [&least, &group] {
        for (name, check) in of_a_group {
            assert!(check(&group[name]), "{name} in {group}");
        }
        let occurrence = &group["occurrences"][0];
        assert_eq!(member_names(occurrence), of_an_occurrence.iter().map(|(name, _)| *name).collect());
        for (name, check) in of_an_occurrence {
            assert!(check(&occurrence[name]), "{name} in {occurrence}");
        }
    }
}
