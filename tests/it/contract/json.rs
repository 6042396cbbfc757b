//! JSON from strangers: what is read, what is ignored, what is refused with the reason; never a crash.

use serde_json::{Value, json};

use super::{
    Case, assert_cases, group_detail, post_report, post_report_bytes, unique_report, unique_report_with, with_field,
};
use crate::harness::{Request, Setup};

/// A report whose text ends with these members.
fn ending(members: &str) -> Request {
    let report = unique_report().to_string();
    post_report_bytes(format!("{},{members}}}", report.strip_suffix('}').unwrap()))
}

/// A report that nests so deep, its own braces counted.
fn deep(levels: usize) -> Request {
    let arrays = levels - 2;
    ending(&format!("\"extra\":{{\"a\":{}{}}}", "[".repeat(arrays), "]".repeat(arrays)))
}

#[test]
fn bodies_that_are_one_harmless_object_and_those_that_are_not() {
    let service = Setup::error_tracker().start();
    let (pair, nul, object) = (json!("half a surrogate pair"), json!("NUL"), json!("must be a JSON object"));
    let raw = |bytes: &[u8]| {
        let report = unique_report_with("message", "?").to_string().into_bytes();
        let at = report.iter().position(|byte| *byte == b'?').unwrap();
        post_report_bytes([&report[..at], bytes, &report[at + 1..]].concat())
    };
    let many: Vec<String> = (0..1_000).map(|n| format!("\"{n}\":0")).collect();
    let cases: [Case; 33] = [
        ("unknown fields", ending(r#""unknown":[1,{"a":null}],"x":"y""#), 201, Value::Null),
        ("null is as good as absent", ending(r#""extra":null,"level":null,"timestamp":null"#), 201, Value::Null),
        ("blanks around", post_report_bytes(format!("\r\n\t {} \n", unique_report())), 201, Value::Null),
        ("any media type", post_report(&unique_report()).header("Content-Type", "text/plain"), 201, Value::Null),
        ("the last of two counts", ending(r#""level":5,"level":"info""#), 201, Value::Null),
        ("the last of two counts", ending(r#""level":"info","level":5"#), 400, json!("Field 'level' must be a text")),
        ("64 levels", deep(64), 201, Value::Null),
        ("65 levels", deep(65), 400, json!("The body nests deeper than 64 levels")),
        ("100,000 levels", post_report_bytes("[".repeat(100_000)), 400, json!("64 levels")),
        ("1,000 fields", ending(&many[..990].join(",")), 201, Value::Null),
        ("more", ending(&many.join(",")), 400, json!("at most 1000 fields")),
        ("a whole pair", raw(br"\ud83d\ude00"), 201, Value::Null),
        ("half a pair", raw(br"\ud83d"), 400, pair.clone()),
        ("the other half", raw(br"\ude00"), 400, pair.clone()),
        ("halves in the wrong order", raw(br"\ude00\ud83d"), 400, pair.clone()),
        ("half a pair where it is ignored", ending(r#""unknown":"\ud800""#), 400, pair),
        ("NUL escaped", raw(br"\u0000"), 400, nul.clone()),
        ("NUL in extra", ending(r#""extra":{"\u0000":1}"#), 400, nul),
        ("NUL itself", raw(b"\0"), 400, json!("not JSON")),
        ("a control character", raw(b"\x01"), 400, json!("not JSON")),
        ("an escaped backslash before u", raw(br"\\u0000"), 201, Value::Null),
        ("UTF-8", raw("ä→😀".as_bytes()), 201, Value::Null),
        ("not UTF-8", raw(b"\xff"), 400, json!("The body must be UTF-8")),
        ("a surrogate in UTF-8", raw(b"\xed\xa0\x80"), 400, json!("The body must be UTF-8")),
        ("nothing", Request::new("POST", "/api/errors"), 400, json!("The body is empty")),
        ("blanks alone", post_report_bytes(" \n"), 400, json!("The body is empty")),
        ("half", post_report_bytes("{\"project\":"), 400, json!("The body is not JSON: line 1, column 11")),
        (
            "something behind",
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
        ("a text", post_report_bytes("\"boom\""), 400, object),
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
fn texts_come_back_as_they_were() {
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
fn answers_are_compact_however_the_report_was_written() {
    let service = Setup::error_tracker().start();
    let extra = "{ \"a b\" : [ 1,\n\t2.50 ] , \"c\\\" \" : { } ,\r\n\"big\": 123456789012345678901234567890 }";
    let id = service.send(&ending(&format!("\"extra\": {extra}, \"request_headers\":\n{{ }}"))).expect(201).id();
    let response = service.get(&format!("/api/errors/{id}")).expect(200).text();
    let kept = r#""extra":{"a b":[1,2.50],"c\" ":{},"big":123456789012345678901234567890}"#;
    assert!(response.contains(kept) && response.contains(r#""request_headers":{}"#), "{response}");
}
