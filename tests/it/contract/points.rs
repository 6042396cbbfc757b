//! `POST /api/metrics`: what a batch and a point must be, and that all of a batch counts or none of it.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use serde_json::{Value, json};

use super::{Case, assert_cases, with_field, without_field};
use crate::harness::{Request, Service, Setup};

fn point() -> Value {
    json!({ "name": "orders_total", "type": "counter", "value": 1 })
}

fn post(body: &Value) -> Request {
    Request::post("/api/metrics", body)
}

fn post_bytes(body: impl Into<Vec<u8>>) -> Request {
    Request::new("POST", "/api/metrics").body(body)
}

/// A batch of so many points.
fn batch(points: usize) -> Value {
    json!(vec![point(); points])
}

/// A point whose value is this text, between two good ones.
fn with_value(text: &str) -> Request {
    let item = with_field(point(), "value", "?").to_string().replace("\"?\"", text);
    post_bytes(format!("[{},{item},{}]", point(), point()))
}

/// How many points of all metrics are stored.
fn stored(service: &Service) -> u64 {
    let body = service.get("/api/dashboard?period=24h").expect(200).json();
    body["summary"]["total_datapoints"].as_u64().unwrap()
}

#[test]
fn a_batch_is_an_array_bare_or_among_other_members() {
    let service = Setup::metrics_collector().start();
    let accepted = |count: usize| json!({ "status": "accepted", "count": count });
    let (size, array) = (json!("A batch must have 1-1000 metrics"), json!("an array of metrics"));
    let wrapped = |points: usize| json!({ "metrics": batch(points) });
    let cases: [Case; 22] = [
        ("bare: 1", post(&batch(1)), 202, accepted(1)),
        ("bare: 1000", post(&batch(1_000)), 202, accepted(1_000)),
        ("wrapped: 1", post(&wrapped(1)), 202, accepted(1)),
        ("wrapped: 1000", post(&wrapped(1_000)), 202, accepted(1_000)),
        ("beside others", post(&with_field(with_field(wrapped(2), "v", 1), "a", json!([{}]))), 202, accepted(2)),
        ("blanks around", post_bytes(format!("\r\n\t {} \n", batch(1))), 202, accepted(1)),
        ("any media type", post(&batch(1)).header("Content-Type", "text/plain"), 202, accepted(1)),
        ("bare: 0", post(&batch(0)), 400, size.clone()),
        ("bare: 1001", post(&batch(1_001)), 400, size.clone()),
        ("wrapped: 0", post(&wrapped(0)), 400, size.clone()),
        ("wrapped: 1001", post(&wrapped(1_001)), 400, size),
        ("nothing of it", post(&json!({})), 400, json!("Field 'metrics' is required")),
        ("a point by itself", post(&point()), 400, json!("Field 'metrics' is required")),
        ("metrics: a number", post(&json!({ "metrics": 7 })), 400, array.clone()),
        ("metrics: null", post(&json!({ "metrics": null })), 400, array.clone()),
        ("metrics: a point", post(&json!({ "metrics": point() })), 400, array.clone()),
        ("a number", post_bytes("7"), 400, array.clone()),
        ("a text", post_bytes("\"orders_total\""), 400, array),
        ("nothing", Request::new("POST", "/api/metrics"), 400, json!("The body is empty")),
        ("half", post_bytes("[{\"name\":"), 400, json!("The body is not JSON: line 1, column 9")),
        ("two arrays", post_bytes(format!("{}{}", batch(1), batch(1))), 400, json!("The body is not JSON: line 1")),
        ("not UTF-8", post_bytes(b"[\"\xff\"]"), 400, json!("The body must be UTF-8")),
    ];
    assert_cases(&service, cases);
    assert_eq!(service.send(&post(&batch(2))).expect(202).text(), r#"{"status":"accepted","count":2}"#);
    assert_eq!(stored(&service), 2 * 1_001 + 2 + 2 + 2);
}

#[test]
fn one_bad_point_refuses_the_batch_and_is_named() {
    let service = Setup::metrics_collector().start();
    let (long, wide) = (|count: usize| json!("x".repeat(count)), |count: usize| json!("😀".repeat(count)));
    let (name, project) = ("field 'name' must be 1-200 characters", "field 'project' must be at most 100 characters");
    let (kind, value) = ("field 'type' must be counter, histogram or gauge", "field 'value' must be a finite number");
    let (scalars, sizes) =
        ("field 'labels' must hold texts, numbers and booleans", "field 'labels' may have 32 labels");
    let time = "field 'timestamp' must be a time such as 2026-01-31T12:00:00Z";
    let many: serde_json::Map<String, Value> = (0..33).map(|label| (format!("l{label}"), json!(label))).collect();
    let mut broken: Vec<(Value, &str)> = [("name", name), ("type", kind), ("value", value)]
        .into_iter()
        .flat_map(|(field, rule)| {
            [(without_field(point(), field), rule), (with_field(point(), field, Value::Null), rule)]
        })
        .collect();
    broken.extend([json!(7), Value::Null, json!([]), json!("x")].map(|item| (item, "an object as item 1")));
    broken.extend(
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
            ("labels", json!({ "a": {} }), scalars),
            ("labels", json!({ "a": ["x"] }), scalars),
            ("labels", Value::Object(many), sizes),
            ("labels", json!({ "": 1 }), sizes),
            ("labels", json!({ "x".repeat(201): 1 }), sizes),
            ("labels", json!({ "a": wide(201) }), sizes),
            ("project", json!(7), "field 'project' must be a text"),
            ("project", json!(["shop"]), "field 'project' must be a text"),
            ("project", long(101), project),
            ("project", wide(101), project),
            ("timestamp", json!(1_769_860_800), time),
            ("timestamp", json!(""), time),
            ("timestamp", json!("yesterday"), time),
            ("timestamp", json!("2026-01-31T12:00:00"), time),
            ("timestamp", json!("2026-02-30T12:00:00Z"), time),
        ]
        .map(|(field, given, rule)| (with_field(point(), field, given), rule)),
    );
    let wrong: Vec<String> = broken
        .into_iter()
        .filter_map(|(item, rule)| {
            let response = service.send(&post(&json!([point(), item, point()])));
            let detail = response.json()["detail"].as_str().unwrap_or_default().to_owned();
            let named = detail.to_lowercase().contains("item 1") && detail.contains(rule);
            (response.status != 400 || !named).then(|| format!("{} {detail:?} for {item}", response.status))
        })
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    service.get("/api/metrics/names").expect(200).has(json!({ "metrics": [] }));
    assert_eq!(stored(&service), 0);
}

#[test]
fn numbers_that_are_none_are_refused_however_they_are_written() {
    let service = Setup::metrics_collector().start();
    for text in ["NaN", "Infinity", "-Infinity", "nan", "inf", "1.", ".5", "+1", "0x10", "1e", "01"] {
        service.send(&with_value(text)).expect(400).has_detail("The body is not JSON: line 1, column ");
    }
    // These are JSON, and no 64-bit floating point holds them.
    for text in ["1e309", "-1e309", "1e999999999999", &format!("1{}", "0".repeat(400))] {
        service
            .send(&with_value(text))
            .expect(400)
            .has_detail("Item 1: a number is too large for 64-bit floating point");
    }
    assert_eq!(stored(&service), 0);
    for (index, text) in [
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
            with_field(with_field(point(), "name", name.as_str()), "value", "?").to_string().replace("\"?\"", text);
        service.send(&post_bytes(format!("[{item}]"))).expect(202);
        let body = service.get(&format!("/api/metrics?name={name}")).expect(200).json();
        let value: f64 = text.parse().unwrap();
        for field in ["sum", "min", "max", "avg"] {
            assert_eq!(body["data"][0][field].as_f64(), Some(value), "{field} of {text}");
        }
    }
}

#[test]
fn what_a_point_may_be_is_kept_as_it_came() {
    let service = Setup::metrics_collector().start();
    let many: serde_json::Map<String, Value> = (0..32).map(|label| (format!("l{label}"), json!(label))).collect();
    let (long, wide) = (|count: usize| json!("x".repeat(count)), |count: usize| json!("😀".repeat(count)));
    for (field, given) in [
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
        ("labels", Value::Object(many)),
        ("labels", json!({ "x".repeat(200): wide(200) })),
        ("unknown", json!([{ "a": null }])),
    ] {
        service.send(&post(&json!([with_field(point(), field, given.clone())]))).expect(202).has(json!({ "count": 1 }));
    }
    let names = service.get("/api/metrics/names").expect(200).json();
    let named = |name: &Value, kind: &str| json!({ "name": name, "type": kind });
    let expected = [
        named(&json!("http.server/näme 100% {a=\"b\"}"), "counter"),
        named(&json!("orders_total"), "counter"),
        named(&json!("orders_total"), "gauge"),
        named(&json!("orders_total"), "histogram"),
        named(&long(1), "counter"),
        named(&long(200), "counter"),
        named(&wide(200), "counter"),
    ];
    assert_eq!(names, json!({ "metrics": expected }));
    service.get("/api/projects").expect(200).has(json!({ "projects": [long(100), wide(100)] }));

    for (index, (given, shown)) in [
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
            json!({ "l": given })
        )])));
        let body = service.get(&format!("/api/metrics?name={name}&group_by=l")).expect(200).json();
        let values: Vec<&Value> = body["groups"].as_array().unwrap().iter().map(|group| &group["value"]).collect();
        assert_eq!(values, [shown], "{given}");
    }
}

#[test]
fn texts_that_no_database_takes_are_refused() {
    let service = Setup::metrics_collector().start();
    let raw = |text: &str| post_bytes(format!("[{}]", with_field(point(), "name", "?").to_string().replace('?', text)));
    let deep = |levels: usize| {
        let (open, close) = ("[".repeat(levels - 2), "]".repeat(levels - 2));
        post_bytes(format!("[{{\"more\":{open}{close},{}]", &point().to_string()[1..]))
    };
    let cases: [Case; 7] = [
        ("NUL", raw(r"a\u0000"), 400, json!("NUL")),
        ("half a pair", raw(r"\ud83d"), 400, json!("half a surrogate pair")),
        ("a whole pair", raw(r"\ud83d\ude00"), 202, Value::Null),
        ("a control character", raw("\u{1}"), 400, json!("The body is not JSON")),
        ("64 levels", deep(64), 202, Value::Null),
        ("65 levels", deep(65), 400, json!("The body nests deeper than 64 levels")),
        ("100,000 levels", post_bytes("[".repeat(100_000)), 400, json!("64 levels")),
    ];
    assert_cases(&service, cases);
}

#[test]
fn bodies_may_be_compressed_and_the_limit_counts_what_they_unpack_to() {
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
    let sized = |bytes: usize| {
        let mut body = batch(1_000).to_string().into_bytes();
        body.resize(bytes, b' ');
        body
    };
    let (most, more) = (sized(524_288), sized(524_289));
    let (accepted, too_large) = (json!({ "count": 1_000 }), json!("The body may be at most 524288 bytes"));
    let cases: [Case; 7] = [
        ("as it is", post_bytes(most.clone()), 202, accepted.clone()),
        ("gzip", gzip(&most), 202, accepted.clone()),
        ("deflate", deflate(&most), 202, accepted),
        ("one byte more", post_bytes(more.clone()), 413, too_large.clone()),
        ("one more in gzip", gzip(&more), 413, too_large.clone()),
        ("one more in deflate", deflate(&more), 413, too_large),
        ("brotli", post_bytes(most).header("Content-Encoding", "br"), 415, json!("gzip, deflate or identity")),
    ];
    assert_cases(&service, cases);
    assert_eq!(stored(&service), 3_000);
}

#[test]
fn a_repeat_under_a_key_gets_the_first_answer_and_counts_nothing() {
    let service = Setup::metrics_collector().start();
    let keyed = |body: &Value, key: &str| post(body).header("Idempotency-Key", key);
    let wrong_clock = json!([with_field(point(), "timestamp", "2020-01-01T00:00:00Z")]);
    let accepted = |count: usize| json!({ "status": "accepted", "count": count });
    let says = json!("Header 'Idempotency-Key' must be 1-64 characters");
    let cases: [Case; 11] = [
        ("the first", keyed(&batch(3), "one"), 202, accepted(3)),
        ("again", keyed(&batch(3), "one"), 202, accepted(3)),
        ("again, and other points", keyed(&batch(5), "one"), 202, accepted(3)),
        ("another key", keyed(&batch(3), "two"), 202, accepted(3)),
        ("a wrong clock", keyed(&wrong_clock, "late"), 202, accepted(1)),
        ("again", keyed(&wrong_clock, "late"), 202, accepted(1)),
        ("refused", keyed(&json!([point(), {}]), "mended"), 400, json!("Item 1")),
        ("mended under the same key", keyed(&batch(2), "mended"), 202, accepted(2)),
        ("64 characters", keyed(&batch(1), &"k".repeat(64)), 202, accepted(1)),
        ("65 characters", keyed(&batch(1), &"k".repeat(65)), 400, says.clone()),
        ("none", keyed(&batch(1), ""), 400, says),
    ];
    assert_cases(&service, cases);
    assert_eq!(stored(&service), 3 + 3 + 1 + 2 + 1);
    service.get("/health").expect(200).has(json!({ "points_clock_corrected": 1 }));
    let folder = service.kill();
    let service = Setup::metrics_collector().data_dir(&folder).start();
    service.send(&keyed(&batch(3), "one")).expect(202).has(accepted(3));
    assert_eq!(stored(&service), 10);
}

#[test]
fn a_label_has_room_for_any_number() {
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
