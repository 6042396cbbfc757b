use proptest::prelude::*;

use super::*;

fn error(body: &str) -> String {
    decode(body.as_bytes()).map(|_| ()).unwrap_err().to_string()
}

#[test]
fn batch_is_an_array_or_an_object_with_metrics() {
    let item = r#"{"name":"a","type":"counter","value":1,"labels":{"z":true,"b":2,"n":null,"a":"x"},"timestamp":"2026-01-31T12:00:00Z","project":null,"more":[{}]}"#;
    for body in [format!("[{item}]"), format!(" {{\"v\":1,\"metrics\":[{item}]}}")] {
        let points = decode(body.as_bytes()).unwrap();
        let labels: Vec<(&str, &str)> = points[0].labels().iter().map(|(name, value)| (&**name, &**value)).collect();
        assert_eq!(labels, [("a", "x"), ("b", "2"), ("z", "true")]);
        assert_eq!((points[0].name(), points[0].kind(), points[0].value()), ("a", MetricKind::Counter, 1.0));
        assert_eq!(points[0].at().unwrap().to_string(), "2026-01-31T12:00:00Z");
    }
}

#[test]
fn one_invalid_item_rejects_the_batch_and_is_named() {
    let valid = r#"{"name":"a","type":"gauge","value":1.5}"#;
    for (item, expected) in [
        (r#"{"type":"gauge","value":1}"#, "Item 1: field 'name' must be 1-200 characters"),
        (r#"{"name":"","type":"gauge","value":1}"#, "Item 1: field 'name' must be 1-200 characters"),
        (r#"{"name":"a","type":"meter","value":1}"#, "Item 1: field 'type' must be counter, histogram or gauge"),
        (r#"{"name":"a","type":"gauge","value":"1"}"#, "Item 1: field 'value' must be a finite number"),
        (r#"{"name":"a","type":"gauge","value":null}"#, "Item 1: field 'value' must be a finite number"),
        (r#"{"name":"a","type":"gauge","value":1,"labels":[]}"#, "field 'labels' of item 1"),
        (r#"{"name":"a","type":"gauge","value":1,"labels":{"a":{}}}"#, "Item 1: field 'labels' must contain only"),
        (r#"{"name":"a","type":"gauge","value":1,"timestamp":7}"#, "Item 1: field 'timestamp' must be a time"),
        (r#"{"name":"a","type":"gauge","value":1,"project":7}"#, "Item 1: field 'project' must be a string"),
        ("7", "an object as item 1"),
    ] {
        let message = error(&format!("[{valid},{item}]"));
        assert!(message.contains(expected), "{message:?} lacks {expected:?}");
    }
    for body in ["", "[]", "{}", "7", "[1", r#"{"metrics":7}"#, r#"{"metrics":[]}"#, "[NaN]", "[] []"] {
        assert!(decode(body.as_bytes()).is_err(), "{body:?}");
    }
    let oversized = format!("[{}]", vec![valid; BATCH_POINTS_MAX + 1].join(","));
    assert_eq!(error(&oversized), "A batch must have 1-1000 metrics");
    assert_eq!(decode(format!("[{}]", vec![valid; BATCH_POINTS_MAX].join(",")).as_bytes()).unwrap().len(), 1_000);
}

#[test]
fn non_finite_values_are_rejected() {
    for value in ["1e999", "-1e999", "NaN", "Infinity", "\"NaN\""] {
        assert!(decode(format!(r#"[{{"name":"a","type":"gauge","value":{value}}}]"#).as_bytes()).is_err(), "{value}");
    }
}

/// Decodes after the check of the whole body, as an oracle.
fn decode_checked(body: &str) -> Result<Vec<Point<'_>>> {
    decode_unchecked(json::checked_text(body.as_bytes())?, &Cell::new(false))
}

fn outcome(decoded: Result<Vec<Point<'_>>>) -> std::result::Result<String, String> {
    decoded.map(|points| format!("{points:?}")).map_err(|error| error.to_string())
}

/// Returns the JSON of arrays and objects that are nested `levels` deep.
fn nested(levels: usize) -> String {
    let open: String = (0..levels).map(|level| if level % 2 == 0 { "[" } else { r#"{"a":"# }).collect();
    let close: String = (0..levels).rev().map(|level| if level % 2 == 0 { "]" } else { "}" }).collect();
    format!("{open}{close}").replace(":}", ":1}")
}

#[test]
fn depth_and_escapes_are_checked_wherever_they_are() {
    let strings = [r#""\ud800""#, r#""\u0000""#, r#""\\u0000""#, r#""\n""#, "1e999", "[{}]", "null"].map(str::to_owned);
    for value in [61, 62, 63].map(nested).into_iter().chain(strings) {
        for item in [
            format!(r#"{{"name":"a","type":"gauge","value":1,"more":{value}}}"#),
            format!(r#"{{"name":{value},"name":"a","type":"gauge","value":1}}"#),
            format!(r#"{{"name":"a","type":"gauge","value":{value},"value":1}}"#),
            format!(r#"{{"name":"a","type":"gauge","value":1,"labels":{{"a":{value}}}}}"#),
            format!(r#"{{"name":"a","type":"gauge","value":1,"labels":{value}}}"#),
            format!(r#"{{"name":"a","type":{value},"type":"gauge","value":1}}"#),
            format!(r#"{{"name":"a","type":"gauge","value":1,"timestamp":{value}}}"#),
        ] {
            for body in [
                format!("[{item}]"),
                format!(r#"{{"metrics":[{item}]}}"#),
                format!(r#"{{"more":{value},"metrics":[{item}]}}"#),
                format!("[{item}"),
            ] {
                assert_eq!(outcome(decode(body.as_bytes())), outcome(decode_checked(&body)), "{body}");
            }
        }
    }
    let escaped = r#"[{"name":"a","type":"gauge","value":1,"more":"\ud800"}]"#;
    assert_eq!(error(escaped), "Strings must not contain unpaired surrogates (\\uD800–\\uDFFF)");
    let deep = format!(r#"[{{"name":"a","type":"gauge","value":1,"more":{}}}]"#, nested(63));
    assert_eq!(error(&deep), "The body is nested deeper than 64 levels");
}

proptest! {
    #[test]
    fn random_bytes_never_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(&body);
    }

    #[test]
    fn json_like_input_never_panics(body in r#"[\[\]{}"\\a-z0-9:,. e+-]{0,120}"#) {
        let _ = decode(body.as_bytes());
    }
}
