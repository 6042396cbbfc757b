//! Contract of `POST /api/errors`: required and optional fields, their limits, and how each is stored.

use serde_json::{Value, json};

use super::{
    Case, assert_cases, create_group, group_detail, post_report, unique_report, unique_report_with, without_field,
};
use crate::support::harness::{Request, Setup};

#[test]
fn required_fields_are_validated() {
    let service = Setup::error_tracker().start();
    let set = |field: &str, value: Value| post_report(&unique_report_with(field, value));
    let missing = |field: &str| post_report(&without_field(unique_report(), field));
    let ascii = |count: usize| json!("x".repeat(count));
    let emoji = |count: usize| json!("😀".repeat(count));
    let (project, kind) =
        (json!("'project' must be 1-100 characters"), json!("'exception_type' must be 1-200 characters"));
    let cases: [Case; 26] = [
        ("project: missing", missing("project"), 400, json!("Field 'project' is required")),
        ("project: null", set("project", Value::Null), 400, json!("Field 'project' is required")),
        ("project: empty", set("project", json!("")), 400, project.clone()),
        ("project: 1", set("project", ascii(1)), 201, Value::Null),
        ("project: 100", set("project", ascii(100)), 201, Value::Null),
        ("project: 101", set("project", ascii(101)), 400, project.clone()),
        ("project: 100 characters of four bytes", set("project", emoji(100)), 201, Value::Null),
        ("project: 101 characters of four bytes", set("project", emoji(101)), 400, project),
        ("project: a number", set("project", json!(7)), 400, json!("Field 'project' must be a string")),
        ("exception_type: missing", missing("exception_type"), 400, json!("Field 'exception_type' is required")),
        ("exception_type: empty", set("exception_type", json!("")), 400, kind.clone()),
        ("exception_type: 200", set("exception_type", ascii(200)), 201, Value::Null),
        ("exception_type: 201", set("exception_type", ascii(201)), 400, kind.clone()),
        ("exception_type: 200 characters of four bytes", set("exception_type", emoji(200)), 201, Value::Null),
        ("exception_type: 201 characters of four bytes", set("exception_type", emoji(201)), 400, kind),
        (
            "exception_type: an array",
            set("exception_type", json!(["E"])),
            400,
            json!("'exception_type' must be a string"),
        ),
        ("message: missing", missing("message"), 400, json!("Field 'message' is required")),
        ("message: null", set("message", Value::Null), 400, json!("Field 'message' is required")),
        ("message: empty", set("message", json!("")), 201, Value::Null),
        ("message: long", set("message", ascii(100_000)), 201, Value::Null),
        ("message: an object", set("message", json!({})), 400, json!("Field 'message' must be a string")),
        ("traceback: missing", missing("traceback"), 400, json!("Field 'traceback' is required")),
        ("traceback: empty", set("traceback", json!("")), 201, Value::Null),
        ("traceback: long", set("traceback", ascii(200_000)), 201, Value::Null),
        ("traceback: an array", set("traceback", json!(["a", "b"])), 400, json!("Field 'traceback' must be a string")),
        ("empty object", post_report(&json!({})), 400, json!("Field 'project' is required")),
    ];
    assert_cases(&service, cases);
}

#[test]
fn optional_fields_are_stored_with_defaults_and_limits() {
    let service = Setup::error_tracker().start();
    let long = "x".repeat(5_000);
    let truncated = |chars: usize| json!(format!("{}…", "x".repeat(chars - 1)));
    for (field, value, stored) in [
        ("environment", Value::Null, json!("prod")),
        ("environment", json!(""), json!("prod")),
        ("environment", json!("Größe 1"), json!("Größe 1")),
        ("environment", json!(long), truncated(200)),
        ("release", Value::Null, Value::Null),
        ("release", json!("web@1.2.3+abc"), json!("web@1.2.3+abc")),
        ("release", json!(7), json!("7")),
        ("level", Value::Null, json!("error")),
        ("level", json!("DEBUG"), json!("debug")),
        ("level", json!("info"), json!("info")),
        ("level", json!("warn"), json!("warning")),
        ("level", json!("Warning"), json!("warning")),
        ("level", json!("fatal"), json!("critical")),
        ("level", json!("critical"), json!("critical")),
        ("request_url", Value::Null, Value::Null),
        ("request_url", json!("https://shop.example/pay?order=7#top"), json!("https://shop.example/pay?order=7#top")),
        ("request_url", json!(long), truncated(2_000)),
        ("request_method", Value::Null, Value::Null),
        ("request_method", json!("PATCH"), json!("PATCH")),
        ("request_headers", Value::Null, json!({})),
        ("request_headers", json!({ "Accept": "*/*", "X-N": ["1", 2] }), json!({ "Accept": "*/*", "X-N": ["1", 2] })),
        ("user_id", Value::Null, Value::Null),
        ("user_id", json!("u-42"), json!("u-42")),
        ("user_id", json!(42), json!("42")),
        ("user_id", json!(-1.5), json!("-1.5")),
        ("user_id", json!(9_007_199_254_740_993_i64), json!("9007199254740993")),
        ("extra", Value::Null, json!({})),
        ("extra", json!({}), json!({})),
        (
            "extra",
            json!({ "deep": { "er": [1, 2.5, null, true, "x"] } }),
            json!({ "deep": { "er": [1, 2.5, null, true, "x"] } }),
        ),
    ] {
        let group = create_group(&service, &unique_report_with(field, value.clone()));
        assert_eq!(group["occurrences"][0][field], stored, "{field}: {value}");
        if ["environment", "release", "level"].contains(&field) {
            assert_eq!(group[field], stored, "{field} of the group: {value}");
        }
    }
}

#[test]
fn unusable_optional_fields_are_repaired_or_dropped_and_named() {
    let service = Setup::error_tracker().start();
    let dropped = Value::Null;
    for (field, value, stored) in [
        ("environment", json!(1), json!("1")),
        ("environment", json!(["prod"]), json!("prod")),
        ("environment", json!("x".repeat(201)), json!(format!("{}…", "x".repeat(199)))),
        ("release", json!(true), json!("true")),
        ("release", json!({}), dropped.clone()),
        ("level", json!("loud"), json!("error")),
        ("level", json!(40), json!("error")),
        ("request_url", json!({}), dropped.clone()),
        ("request_url", json!(5), json!("5")),
        ("request_method", json!(7), json!("7")),
        ("request_headers", json!([["Accept", "*/*"]]), json!({})),
        ("request_headers", json!("Accept: */*"), json!({})),
        ("user_id", json!(true), json!("true")),
        ("user_id", json!({ "id": 7, "email": "a@example.com" }), json!("7")),
        ("user_id", json!({ "id": "u-42" }), json!("u-42")),
        ("user_id", json!({ "email": "a@example.com" }), dropped.clone()),
        ("user_id", json!([7]), dropped.clone()),
        ("extra", json!([]), json!({})),
        ("extra", json!("{}"), json!({})),
        ("extra", json!(1), json!({})),
    ] {
        let response = service.send(&post_report(&unique_report_with(field, value.clone()))).expect(201);
        assert_eq!(response.json()["adjusted"], json!([field]), "{field}: {value}");
        let group = group_detail(&service, response.id());
        assert_eq!(group["occurrences"][0][field], stored, "{field}: {value}");
    }
    let unusable = json!({ "user_id": { "id": 7 }, "level": 40, "extra": [] });
    let mut report = unique_report();
    report.as_object_mut().unwrap().append(&mut unusable.as_object().unwrap().clone());
    let request = post_report(&report).header("Idempotency-Key", "odd");
    for _ in 0..2 {
        let response = service.send(&request).expect(201).json();
        assert_eq!(
            response["adjusted"],
            json!(["level", "user_id", "extra"]),
            "a repeated request gets the same response"
        );
    }
}

/// Uses a request of `monlight` 0.3 (PyPI) from a FastAPI application. The client has removed sensitive headers.
#[test]
fn reports_of_the_original_python_client_are_accepted() {
    let service = Setup::error_tracker().start();
    let traceback = "Traceback (most recent call last):\n  File \"/app/main.py\", line 12, in pay\n    charge(order)\n  File \"/app/pay.py\", line 42, in charge\n    raise PaymentError.Declined(\"card \u{2192} declined\")\npay.PaymentError.Declined: card \u{2192} declined\n";
    let payload = json!({
        "project": "shop",
        "exception_type": "PaymentError.Declined",
        "message": "card \u{2192} declined",
        "traceback": traceback,
        "request_url": "http://shop.example/pay?order=7",
        "request_method": "POST",
        "request_headers": { "host": "shop.example", "user-agent": "curl/8", "content-length": "0" },
        "user_id": "u1",
        "extra": { "order": 7 },
    });
    // httpx before 0.28 adds spaces after commas and colons. Every version sends Content-Type.
    let with_spaces = payload.to_string().replace("\":", "\": ").replace(",\"", ", \"");
    for (body, status) in [(payload.to_string(), 201), (with_spaces, 200)] {
        let request = Request::new("POST", "/api/errors").body(body).header("Content-Type", "application/json");
        service.send(&request.header("Accept-Encoding", "gzip, deflate")).expect(status);
    }
    let group = group_detail(&service, 1);
    let expected = "shop:PaymentError.Declined:/app/pay.py:42";
    assert_eq!(group["fingerprint"], format!("{:x}", md5::compute(expected)));
    assert_eq!((&group["environment"], &group["source"]), (&json!("prod"), &json!("server")));
    for occurrence in group["occurrences"].as_array().unwrap() {
        for field in ["message", "traceback", "request_url", "request_method", "request_headers", "user_id", "extra"] {
            assert_eq!(occurrence[field], payload[field], "{field}");
        }
    }
}

#[test]
fn reports_of_the_browser_relay_are_accepted() {
    let service = Setup::error_tracker().start();
    let context = json!({ "user_id": "u-42", "level": "error", "type": "NetworkError" });
    let group = create_group(
        &service,
        &json!({
            "project": "web",
            "exception_type": "TypeError",
            "message": "x is undefined",
            "traceback": "TypeError: x is undefined\n    at pay (https://shop.example/app.js:10:5)",
            "environment": "prod",
            "release": "1.0.0",
            "request_url": "https://shop.example/checkout",
            "request_method": "BROWSER",
            "user_id": "u-42",
            "timestamp": "2026-01-31T12:00:00.000Z",
            "extra": { "user_agent": "Mozilla/5.0", "session_id": "s-1", "release": "1.0.0", "context": context },
        }),
    );
    assert_eq!(group["fingerprint"], format!("{:x}", md5::compute("web:TypeError:https://shop.example/app.js:10")));
    let location = json!("https://shop.example/app.js:10");
    assert_eq!((&group["source"], &group["location"]), (&json!("browser"), &location));
    let last = &group["occurrences"][0];
    assert_eq!((&last["session_id"], &last["release"]), (&json!("s-1"), &json!("1.0.0")));
    assert_eq!(last["extra"]["context"], context);
}
