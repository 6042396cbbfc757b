//! JSON parsing of request bodies: which input is accepted, ignored or rejected with a reason. No input crashes a
//! service.

use serde_json::{Value, json};

use super::{
    Case, assert_cases, group_detail, post_report, post_report_bytes, unique_report, unique_report_with, with_field,
};
use crate::support::harness::{Request, Setup};

/// Returns a report with these raw members appended.
fn report_with_members(members: &str) -> Request {
    let report = unique_report().to_string();
    post_report_bytes(format!("{},{members}}}", report.strip_suffix('}').unwrap()))
}

/// Returns a report with this nesting depth, including its own braces.
fn nested_report(levels: usize) -> Request {
    let arrays = levels - 2;
    report_with_members(&format!("\"extra\":{{\"a\":{}{}}}", "[".repeat(arrays), "]".repeat(arrays)))
}

#[test]
fn only_single_well_formed_objects_are_accepted() {
    let service = Setup::error_tracker().start();
    let (surrogate, nul, object) = (json!("unpaired surrogates"), json!("NUL"), json!("must be a JSON object"));
    let with_raw_message = |bytes: &[u8]| {
        let report = unique_report_with("message", "?").to_string().into_bytes();
        let at = report.iter().position(|byte| *byte == b'?').unwrap();
        post_report_bytes([&report[..at], bytes, &report[at + 1..]].concat())
    };
    let many_fields: Vec<String> = (0..1_000).map(|n| format!("\"{n}\":0")).collect();
    let cases: [Case; 33] = [
        ("unknown fields", report_with_members(r#""unknown":[1,{"a":null}],"x":"y""#), 201, Value::Null),
        ("null equals absent", report_with_members(r#""extra":null,"level":null,"timestamp":null"#), 201, Value::Null),
        ("surrounding whitespace", post_report_bytes(format!("\r\n\t {} \n", unique_report())), 201, Value::Null),
        ("any media type", post_report(&unique_report()).header("Content-Type", "text/plain"), 201, Value::Null),
        ("duplicate field: the last counts", report_with_members(r#""level":5,"level":"info""#), 201, Value::Null),
        (
            "duplicate field: the last is unusable",
            report_with_members(r#""level":"info","level":5"#),
            201,
            json!({ "adjusted": ["level"] }),
        ),
        ("64 levels", nested_report(64), 201, Value::Null),
        ("65 levels", nested_report(65), 400, json!("The body is nested deeper than 64 levels")),
        ("100,000 levels", post_report_bytes("[".repeat(100_000)), 400, json!("64 levels")),
        ("1,000 fields", report_with_members(&many_fields[..990].join(",")), 201, Value::Null),
        ("more than 1,000 fields", report_with_members(&many_fields.join(",")), 400, json!("at most 1000 fields")),
        ("surrogate pair", with_raw_message(br"\ud83d\ude00"), 201, Value::Null),
        ("unpaired high surrogate", with_raw_message(br"\ud83d"), 400, surrogate.clone()),
        ("unpaired low surrogate", with_raw_message(br"\ude00"), 400, surrogate.clone()),
        ("surrogates in the wrong order", with_raw_message(br"\ude00\ud83d"), 400, surrogate.clone()),
        ("unpaired surrogate in an unknown field", report_with_members(r#""unknown":"\ud800""#), 400, surrogate),
        ("escaped NUL", with_raw_message(br"\u0000"), 400, nul.clone()),
        ("NUL in extra", report_with_members(r#""extra":{"\u0000":1}"#), 400, nul),
        ("raw NUL", with_raw_message(b"\0"), 400, json!("not JSON")),
        ("a control character", with_raw_message(b"\x01"), 400, json!("not JSON")),
        ("an escaped backslash before u", with_raw_message(br"\\u0000"), 201, Value::Null),
        ("UTF-8", with_raw_message("ä→😀".as_bytes()), 201, Value::Null),
        ("invalid UTF-8", with_raw_message(b"\xff"), 400, json!("The body must be UTF-8")),
        ("surrogate encoded as UTF-8", with_raw_message(b"\xed\xa0\x80"), 400, json!("The body must be UTF-8")),
        ("empty", Request::new("POST", "/api/errors"), 400, json!("The body is empty")),
        ("only whitespace", post_report_bytes(" \n"), 400, json!("The body is empty")),
        ("truncated", post_report_bytes("{\"project\":"), 400, json!("The body is not JSON: line 1, column 11")),
        (
            "trailing characters",
            post_report_bytes(format!("{} x", unique_report())),
            400,
            json!("The body is not JSON: line 1"),
        ),
        (
            "two objects",
            post_report_bytes(format!("{}{}", unique_report(), unique_report())),
            400,
            json!("The body is not JSON: line 1"),
        ),
        ("an array", post_report(&json!([unique_report()])), 400, object.clone()),
        ("a number", post_report_bytes("7"), 400, object.clone()),
        ("a string", post_report_bytes("\"boom\""), 400, object),
        (
            "a form",
            post_report_bytes("project=shop&message=boom"),
            400,
            json!("The body is not JSON: line 1, column 1"),
        ),
    ];
    assert_cases(&service, cases);
}

#[test]
fn strings_are_returned_unchanged() {
    let service = Setup::error_tracker().start();
    for text in
        ["ä→😀 ﷽", "\"quoted\" \\ /", "tab\tline\nend\r", "\u{1}\u{1f}\u{7f}\u{2028}", "<b>&amp;</b>", "' OR 1=1 --"]
    {
        let report = with_field(unique_report_with("message", text), "extra", json!({ text: [text, { "n": 1 }] }));
        let report = with_field(report, "user_id", text);
        let group = group_detail(&service, service.post("/api/errors", &report).expect(201).id());
        let last = &group["occurrences"][0];
        assert_eq!((&group["message"], &last["message"]), (&json!(text), &json!(text)));
        assert_eq!((&last["extra"], &last["user_id"]), (&report["extra"], &json!(text)));
    }
}

#[test]
fn stored_json_is_returned_compact() {
    let service = Setup::error_tracker().start();
    let extra = "{ \"a b\" : [ 1,\n\t2.50 ] , \"c\\\" \" : { } ,\r\n\"big\": 123456789012345678901234567890 }";
    let id = service
        .send(&report_with_members(&format!("\"extra\": {extra}, \"request_headers\":\n{{ }}")))
        .expect(201)
        .id();
    let response = service.get(&format!("/api/errors/{id}")).expect(200).text();
    let compact = r#""extra":{"a b":[1,2.50],"c\" ":{},"big":123456789012345678901234567890}"#;
    assert!(response.contains(compact) && response.contains(r#""request_headers":{}"#), "{response}");
}
