//! Contract of `POST /api/metrics`: valid batches and points, and all-or-nothing acceptance of a batch.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use serde_json::{Value, json};

use super::{Case, assert_cases, with_field, without_field};
use crate::support::harness::{Request, Service, Setup};

fn point() -> Value {
    json!({ "name": "orders_total", "type": "counter", "value": 1 })
}

fn post(body: &Value) -> Request {
    Request::post("/api/metrics", body)
}

fn post_bytes(body: impl Into<Vec<u8>>) -> Request {
    Request::new("POST", "/api/metrics").body(body)
}

/// Returns a batch of `points` identical points.
fn batch(points: usize) -> Value {
    json!(vec![point(); points])
}

/// Returns a batch with a point whose value is the raw JSON `number`, between two valid points.
fn batch_with_value(number: &str) -> Request {
    let item = with_field(point(), "value", "?").to_string().replace("\"?\"", number);
    post_bytes(format!("[{},{item},{}]", point(), point()))
}

/// Returns the number of stored points of all metrics.
fn stored_points(service: &Service) -> u64 {
    let body = service.get("/api/dashboard?period=24h").expect(200).json();
    body["summary"]["total_datapoints"].as_u64().unwrap()
}

#[test]
fn batch_is_an_array_or_an_object_with_metrics() {
    let service = Setup::metrics_collector().start();
    let accepted = |count: usize| json!({ "status": "accepted", "count": count });
    let (size, array) = (json!("A batch must have 1-1000 metrics"), json!("an array of metrics"));
    let wrapped = |points: usize| json!({ "metrics": batch(points) });
    let cases: [Case; 22] = [
        ("bare: 1", post(&batch(1)), 202, accepted(1)),
        ("bare: 1000", post(&batch(1_000)), 202, accepted(1_000)),
        ("wrapped: 1", post(&wrapped(1)), 202, accepted(1)),
        ("wrapped: 1000", post(&wrapped(1_000)), 202, accepted(1_000)),
        ("with other members", post(&with_field(with_field(wrapped(2), "v", 1), "a", json!([{}]))), 202, accepted(2)),
        ("surrounding whitespace", post_bytes(format!("\r\n\t {} \n", batch(1))), 202, accepted(1)),
        ("any media type", post(&batch(1)).header("Content-Type", "text/plain"), 202, accepted(1)),
        ("bare: 0", post(&batch(0)), 400, size.clone()),
        ("bare: 1001", post(&batch(1_001)), 400, size.clone()),
        ("wrapped: 0", post(&wrapped(0)), 400, size.clone()),
        ("wrapped: 1001", post(&wrapped(1_001)), 400, size),
        ("empty object", post(&json!({})), 400, json!("Field 'metrics' is required")),
        ("single point", post(&point()), 400, json!("Field 'metrics' is required")),
        ("metrics: a number", post(&json!({ "metrics": 7 })), 400, array.clone()),
        ("metrics: null", post(&json!({ "metrics": null })), 400, array.clone()),
        ("metrics: a point", post(&json!({ "metrics": point() })), 400, array.clone()),
        ("a number", post_bytes("7"), 400, array.clone()),
        ("a string", post_bytes("\"orders_total\""), 400, array),
        ("empty body", Request::new("POST", "/api/metrics"), 400, json!("The body is empty")),
        ("truncated", post_bytes("[{\"name\":"), 400, json!("The body is not JSON: line 1, column 9")),
        ("two arrays", post_bytes(format!("{}{}", batch(1), batch(1))), 400, json!("The body is not JSON: line 1")),
        ("invalid UTF-8", post_bytes(b"[\"\xff\"]"), 400, json!("The body must be UTF-8")),
    ];
    assert_cases(&service, cases);
    assert_eq!(service.send(&post(&batch(2))).expect(202).text(), r#"{"status":"accepted","count":2}"#);
    assert_eq!(stored_points(&service), 2 * 1_001 + 2 + 2 + 2);
}

#[test]
fn one_invalid_point_rejects_the_batch_and_is_named() {
    let service = Setup::metrics_collector().start();
    let (long, wide) = (|count: usize| json!("x".repeat(count)), |count: usize| json!("😀".repeat(count)));
    let (name, project) = ("field 'name' must be 1-200 characters", "field 'project' must be at most 100 characters");
    let (kind, value) = ("field 'type' must be counter, histogram or gauge", "field 'value' must be a finite number");
    let (label_types, label_limits) =
        ("field 'labels' must contain only strings, numbers and booleans", "field 'labels' may have at most 32 labels");
    let time = "field 'timestamp' must be a time such as 2026-01-31T12:00:00Z";
    let many_labels: serde_json::Map<String, Value> =
        (0..33).map(|label| (format!("l{label}"), json!(label))).collect();
    let mut invalid: Vec<(Value, &str)> = [("name", name), ("type", kind), ("value", value)]
        .into_iter()
        .flat_map(|(field, rule)| {
            [(without_field(point(), field), rule), (with_field(point(), field, Value::Null), rule)]
        })
        .collect();
    invalid.extend([json!(7), Value::Null, json!([]), json!("x")].map(|item| (item, "an object as item 1")));
    invalid.extend(
        [
            ("name", json!(""), name),
            ("name", long(201), name),
            ("name", wide(201), name),
            ("name", json!(7), name),
            ("type", json!("meter"), kind),
            ("type", json!("Counter"), kind),
            ("type", json!(1), kind),
            ("value", json!("1"), value),
            ("value", json!("NaN"), value),
            ("value", json!(true), value),
            ("value", json!([1]), value),
            ("value", json!({}), value),
            ("labels", json!([]), "field 'labels' of item 1"),
            ("labels", json!("a:1"), "field 'labels' of item 1"),
            ("labels", json!({ "a": {} }), label_types),
            ("labels", json!({ "a": ["x"] }), label_types),
            ("labels", Value::Object(many_labels), label_limits),
            ("labels", json!({ "": 1 }), label_limits),
            ("labels", json!({ "x".repeat(201): 1 }), label_limits),
            ("labels", json!({ "a": wide(201) }), label_limits),
            ("project", json!(7), "field 'project' must be a string"),
            ("project", json!(["shop"]), "field 'project' must be a string"),
            ("project", long(101), project),
            ("project", wide(101), project),
            ("timestamp", json!(1_769_860_800), time),
            ("timestamp", json!(""), time),
            ("timestamp", json!("yesterday"), time),
            ("timestamp", json!("2026-01-31T12:00:00"), time),
            ("timestamp", json!("2026-02-30T12:00:00Z"), time),
        ]
        .map(|(field, value, rule)| (with_field(point(), field, value), rule)),
    );
    let failed: Vec<String> = invalid
        .into_iter()
        .filter_map(|(item, rule)| {
            let response = service.send(&post(&json!([point(), item, point()])));
            let detail = response.json()["detail"].as_str().unwrap_or_default().to_owned();
            let named = detail.to_lowercase().contains("item 1") && detail.contains(rule);
            (response.status != 400 || !named).then(|| format!("{} {detail:?} for {item}", response.status))
        })
        .collect();
    assert!(failed.is_empty(), "{failed:#?}");
    service.get("/api/metrics/names").expect(200).has(json!({ "metrics": [] }));
    assert_eq!(stored_points(&service), 0);
}

#[test]
fn non_finite_and_malformed_numbers_are_rejected() {
    let service = Setup::metrics_collector().start();
    for number in ["NaN", "Infinity", "-Infinity", "nan", "inf", "1.", ".5", "+1", "0x10", "1e", "01"] {
        service.send(&batch_with_value(number)).expect(400).has_detail("The body is not JSON: line 1, column ");
    }
    // These numbers are valid JSON but exceed the range of 64-bit floating point.
    for number in ["1e309", "-1e309", "1e999999999999", &format!("1{}", "0".repeat(400))] {
        service
            .send(&batch_with_value(number))
            .expect(400)
            .has_detail("Item 1: a number is too large for 64-bit floating point");
    }
    assert_eq!(stored_points(&service), 0);
    for (index, number) in [
        "0",
        "-0.0",
        "1.5",
        "-7",
        "1E2",
        "5e-324",
        "1e-400",
        "1.7976931348623157e308",
        "18446744073709551616",
        "99304.36546882299",
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("number_{index}");
        let item =
            with_field(with_field(point(), "name", name.as_str()), "value", "?").to_string().replace("\"?\"", number);
        service.send(&post_bytes(format!("[{item}]"))).expect(202);
        let body = service.get(&format!("/api/metrics?name={name}")).expect(200).json();
        let value: f64 = number.parse().unwrap();
        for field in ["sum", "min", "max", "avg"] {
            assert_eq!(body["data"][0][field].as_f64(), Some(value), "{field} of {number}");
        }
    }
}

#[test]
fn valid_points_are_stored_unchanged() {
    let service = Setup::metrics_collector().start();
    let many_labels: serde_json::Map<String, Value> =
        (0..32).map(|label| (format!("l{label}"), json!(label))).collect();
    let (long, wide) = (|count: usize| json!("x".repeat(count)), |count: usize| json!("😀".repeat(count)));
    for (field, value) in [
        ("name", long(1)),
        ("name", long(200)),
        ("name", wide(200)),
        ("name", json!("http.server/näme 100% {a=\"b\"}")),
        ("type", json!("gauge")),
        ("type", json!("histogram")),
        ("project", Value::Null),
        ("project", json!("")),
        ("project", long(100)),
        ("project", wide(100)),
        ("timestamp", Value::Null),
        ("labels", Value::Null),
        ("labels", json!({})),
        ("labels", Value::Object(many_labels)),
        ("labels", json!({ "x".repeat(200): wide(200) })),
        ("unknown", json!([{ "a": null }])),
    ] {
        service.send(&post(&json!([with_field(point(), field, value.clone())]))).expect(202).has(json!({ "count": 1 }));
    }
    let names = service.get("/api/metrics/names").expect(200).json();
    let metric = |name: &Value, kind: &str| json!({ "name": name, "type": kind });
    let expected = [
        metric(&json!("http.server/näme 100% {a=\"b\"}"), "counter"),
        metric(&json!("orders_total"), "counter"),
        metric(&json!("orders_total"), "gauge"),
        metric(&json!("orders_total"), "histogram"),
        metric(&long(1), "counter"),
        metric(&long(200), "counter"),
        metric(&wide(200), "counter"),
    ];
    assert_eq!(names, json!({ "metrics": expected }));
    service.get("/api/projects").expect(200).has(json!({ "projects": [long(100), wide(100)] }));

    for (index, (label, displayed)) in [
        (json!("ä→😀 \"\\"), "ä→😀 \"\\"),
        (json!(""), ""),
        (json!(2), "2"),
        (json!(-1.5), "-1.5"),
        (json!(u64::MAX), "18446744073709551615"),
        (json!(true), "true"),
        (Value::Null, ""),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("labelled_{index}");
        service.send(&post(&json!([with_field(
            with_field(point(), "name", name.as_str()),
            "labels",
            json!({ "l": label })
        )])));
        let body = service.get(&format!("/api/metrics?name={name}&group_by=l")).expect(200).json();
        let values: Vec<&Value> = body["groups"].as_array().unwrap().iter().map(|group| &group["value"]).collect();
        assert_eq!(values, [displayed], "{label}");
    }
}

#[test]
fn invalid_strings_and_deep_nesting_are_rejected() {
    let service = Setup::metrics_collector().start();
    let with_raw_name =
        |name: &str| post_bytes(format!("[{}]", with_field(point(), "name", "?").to_string().replace('?', name)));
    let nested = |levels: usize| {
        let (open, close) = ("[".repeat(levels - 2), "]".repeat(levels - 2));
        post_bytes(format!("[{{\"more\":{open}{close},{}]", &point().to_string()[1..]))
    };
    let cases: [Case; 7] = [
        ("NUL", with_raw_name(r"a\u0000"), 400, json!("NUL")),
        ("unpaired surrogate", with_raw_name(r"\ud83d"), 400, json!("unpaired surrogates")),
        ("surrogate pair", with_raw_name(r"\ud83d\ude00"), 202, Value::Null),
        ("a control character", with_raw_name("\u{1}"), 400, json!("The body is not JSON")),
        ("64 levels", nested(64), 202, Value::Null),
        ("65 levels", nested(65), 400, json!("The body is nested deeper than 64 levels")),
        ("100,000 levels", post_bytes("[".repeat(100_000)), 400, json!("64 levels")),
    ];
    assert_cases(&service, cases);
}

#[test]
fn compressed_batches_are_accepted_and_the_limit_counts_decoded_bytes() {
    let service = Setup::metrics_collector().start();
    let gzip = |body: &[u8]| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(body).unwrap();
        post_bytes(encoder.finish().unwrap()).header("Content-Encoding", "gzip")
    };
    let deflate = |body: &[u8]| {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(body).unwrap();
        post_bytes(encoder.finish().unwrap()).header("Content-Encoding", "deflate")
    };
    let padded_batch = |bytes: usize| {
        let mut body = batch(1_000).to_string().into_bytes();
        body.resize(bytes, b' ');
        body
    };
    let (largest, too_long) = (padded_batch(524_288), padded_batch(524_289));
    let (accepted, too_large) = (json!({ "count": 1_000 }), json!("The body exceeds 524288 bytes"));
    let cases: [Case; 7] = [
        ("uncompressed", post_bytes(largest.clone()), 202, accepted.clone()),
        ("gzip", gzip(&largest), 202, accepted.clone()),
        ("deflate", deflate(&largest), 202, accepted),
        ("one byte over the limit", post_bytes(too_long.clone()), 413, too_large.clone()),
        ("one over in gzip", gzip(&too_long), 413, too_large.clone()),
        ("one over in deflate", deflate(&too_long), 413, too_large),
        ("brotli", post_bytes(largest).header("Content-Encoding", "br"), 415, json!("gzip, deflate or identity")),
    ];
    assert_cases(&service, cases);
    assert_eq!(stored_points(&service), 3_000);
}

#[test]
fn repeated_idempotency_key_returns_the_first_response() {
    let service = Setup::metrics_collector().start();
    let keyed = |body: &Value, key: &str| post(body).header("Idempotency-Key", key);
    let wrong_clock = json!([with_field(point(), "timestamp", "2020-01-01T00:00:00Z")]);
    let accepted = |count: usize| json!({ "status": "accepted", "count": count });
    let invalid_key = json!("Header 'Idempotency-Key' must be 1-64 characters");
    let cases: [Case; 11] = [
        ("first batch", keyed(&batch(3), "one"), 202, accepted(3)),
        ("repeated", keyed(&batch(3), "one"), 202, accepted(3)),
        ("repeated with other points", keyed(&batch(5), "one"), 202, accepted(3)),
        ("another key", keyed(&batch(3), "two"), 202, accepted(3)),
        ("implausible clock", keyed(&wrong_clock, "late"), 202, accepted(1)),
        ("implausible clock repeated", keyed(&wrong_clock, "late"), 202, accepted(1)),
        ("rejected", keyed(&json!([point(), {}]), "corrected"), 400, json!("Item 1")),
        ("corrected with the same key", keyed(&batch(2), "corrected"), 202, accepted(2)),
        ("64 characters", keyed(&batch(1), &"k".repeat(64)), 202, accepted(1)),
        ("65 characters", keyed(&batch(1), &"k".repeat(65)), 400, invalid_key.clone()),
        ("empty key", keyed(&batch(1), ""), 400, invalid_key),
    ];
    assert_cases(&service, cases);
    assert_eq!(stored_points(&service), 3 + 3 + 1 + 2 + 1);
    service.get("/health").expect(200).has(json!({ "points_clock_corrected": 1 }));
    let data_dir = service.kill();
    let service = Setup::metrics_collector().data_dir(&data_dir).start();
    service.send(&keyed(&batch(3), "one")).expect(202).has(accepted(3));
    assert_eq!(stored_points(&service), 10);
}

#[test]
fn label_values_accept_any_number() {
    let service = Setup::metrics_collector().start();
    let numbers = ["1e300", "-1.5e-300", "0.1", "1e21", "7"];
    for number in numbers {
        let body = format!(r#"[{{"name":"n","type":"gauge","value":1,"labels":{{"a":{number}}}}}]"#);
        service.send(&post_bytes(body)).expect(202);
    }
    let listed = service.get("/api/metrics/labels?name=n").expect(200).json();
    let values = json!(["-1.5e-300", "0.1", "1000000000000000000000", "1e300", "7"]);
    assert_eq!(listed["labels"], json!([{ "name": "a", "values": values }]));
}
