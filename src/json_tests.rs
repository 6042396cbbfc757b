use proptest::prelude::*;

use super::*;

/// Generates the parts of JSON strings: plain text, and every kind of escape except NUL.
fn escapes() -> impl Strategy<Value = String> {
    prop_oneof![
        "[^\u{0}-\u{1f}\"\\\\]{1,4}",
        "\\\\[bfnrt\"\\\\/]",
        any::<char>().prop_filter("NUL is rejected", |c| *c != '\0').prop_map(|c| {
            let mut units = [0; 2];
            c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")).collect()
        }),
    ]
}

fn rejection(body: &str) -> String {
    JsonObject::parse(body.as_bytes()).map(|_| ()).unwrap_err().to_string()
}

#[test]
fn members_are_parsed_by_name_and_type() {
    let body = br#"{"a":"x\n\u00e9\ud83d\ude00","n":-12.5e3,"o":{"k":[1]},"t":"2026-01-31T12:00:00+01:00","z":null,"a2":"pl\u0061in"}"#;
    let object = JsonObject::parse(body).unwrap();
    assert_eq!(object.required_string("a", 1..=4).unwrap(), "x\né😀");
    assert_eq!(object.string("a2").unwrap().unwrap(), "plain");
    assert_eq!(object.string_or_number("n").unwrap().unwrap(), "-12.5e3");
    assert_eq!(object.string_or_number("a").unwrap().unwrap(), "x\né😀");
    assert_eq!(object.object("o").unwrap(), Some(r#"{"k":[1]}"#));
    assert_eq!(object.timestamp("t").unwrap().unwrap().to_string(), "2026-01-31T11:00:00Z");
    assert_eq!(object.string("z").unwrap(), None);
    assert_eq!(object.string("missing").unwrap(), None);
}

#[test]
fn errors_name_the_field() {
    let object = JsonObject::parse(br#"{"a":1,"o":[],"t":"now","long":"aaaa","empty":"","b":true}"#).unwrap();
    for (found, expected) in [
        (object.required_string("x", 1..=3).unwrap_err(), "Field 'x' is required"),
        (object.required_string("long", 1..=3).unwrap_err(), "Field 'long' must be 1-3 characters"),
        (object.required_string("empty", 1..=3).unwrap_err(), "Field 'empty' must be 1-3 characters"),
        (object.string("a").unwrap_err(), "Field 'a' must be a string"),
        (object.string_or_number("b").unwrap_err(), "Field 'b' must be a string or a number"),
        (object.object("o").unwrap_err(), "Field 'o' must be an object"),
        (object.timestamp("t").unwrap_err(), "Field 't' must be a time such as 2026-01-31T12:00:00Z"),
    ] {
        assert_eq!(found.to_string(), expected);
    }
}

#[test]
fn anything_but_one_safe_object_is_rejected() {
    for body in ["", "x", "{", "[1]", "\"a\"", "{} {}", "{\"a\":1,}", "{'a':1}", "{\"a\":\"\u{1}\"}", "nul"] {
        assert!(JsonObject::parse(body.as_bytes()).is_err(), "{body:?}");
    }
    assert_eq!(
        rejection(&format!("{}1{}", "{\"a\":[".repeat(40), "]}".repeat(40))),
        "The body is nested deeper than 64 levels"
    );
    assert!(rejection(&"[".repeat(100_000)).contains("64"));
    for half in [r#"{"a":"\ud800"}"#, r#"{"a":"\udc00"}"#, r#"{"a":{"b":"\ud83dx"}}"#, r#"{"a":"\ud83d\u0041"}"#] {
        assert_eq!(rejection(half), "Strings must not contain unpaired surrogates (\\uD800–\\uDFFF)", "{half}");
    }
    assert_eq!(rejection(r#"{"x":{"\u0000":1}}"#), "Strings must not contain NUL (\\u0000)");
    assert_eq!(JsonObject::parse(b"{\"a\":\"\xff\"}").unwrap_err().to_string(), "The body must be UTF-8");
    let many: Vec<String> = (0..=MEMBERS_MAX).map(|n| format!("\"{n}\":0")).collect();
    assert!(rejection(&format!("{{{}}}", many.join(","))).contains("1000 fields"));
}

#[test]
fn escaped_backslash_before_u_is_not_an_escape() {
    assert!(JsonObject::parse(br#"{"a":"\\u0000 \\ud800"}"#).is_ok());
}

#[test]
fn whitespace_is_removed_only_between_tokens() {
    for (json, expected) in [
        ("{ }", "{}"),
        ("{ \"a b\" :\r\n[ 1 ,\t2.50 , \" \\\" \" ] }", r#"{"a b":[1,2.50," \" "]}"#),
        (r#"{"a\\" : " ", "b":null}"#, r#"{"a\\":" ","b":null}"#),
    ] {
        assert_eq!(compact(json), expected);
    }
}

/// Does the same as [`check`] byte by byte, as an oracle.
fn check_bytewise(text: &str, depth_max: usize) -> Result<()> {
    let bytes = text.as_bytes();
    let (mut depth, mut in_string, mut at) = (0usize, false, 0);
    while at < bytes.len() {
        at += 1;
        match (bytes[at - 1], in_string) {
            (b'"', _) => in_string = !in_string,
            (b'\\', true) => at += escape_length(bytes, at)?,
            (b'{' | b'[', false) if depth == depth_max => {
                return Err(Error::Invalid(format!("The body is nested deeper than {depth_max} levels")));
            }
            (b'{' | b'[', false) => depth += 1,
            (b'}' | b']', false) => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn check_equals_the_bytewise_check(
        text in r#"([\[\]{}"\\a é0]|\\u0000|\\ud83d|\\ude00|\\u00e9|"[a-z ]{0,70}"){0,60}"#,
        depth_max in 0usize..6,
    ) {
        let (found, expected) = (check(&text, depth_max), check_bytewise(&text, depth_max));
        prop_assert_eq!(found.map_err(|error| error.to_string()), expected.map_err(|error| error.to_string()));
    }

    #[test]
    fn arbitrary_bodies_never_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = JsonObject::parse(&body);
    }

    #[test]
    fn strings_round_trip(text in "[^\u{0}]{0,60}", name in "[a-z]{1,8}") {
        let body = serde_json::json!({ name.clone(): text.clone() }).to_string();
        let object = JsonObject::parse(body.as_bytes()).unwrap();
        prop_assert_eq!(object.string(&name).unwrap().unwrap(), text);
    }

    #[test]
    fn strings_are_unescaped_as_serde_json_unescapes_them(parts in proptest::collection::vec(escapes(), 0..12)) {
        let string = format!("\"{}\"", parts.concat());
        let expected: String = serde_json::from_str(&string).unwrap();
        let body = format!("{{\"a\":{string}}}");
        prop_assert_eq!(JsonObject::parse(body.as_bytes()).unwrap().string("a").unwrap().unwrap(), expected);
    }

    #[test]
    fn invalid_escapes_are_rejected_without_a_panic(escaped in "[\\\\u0-9a-fdDé\"n/x]{0,16}") {
        let expected: Option<String> = serde_json::from_str(&format!("\"{escaped}\"")).ok();
        if let Some(expected) = expected {
            prop_assert_eq!(unescape(&escaped), Some(expected));
        } else {
            let _ = unescape(&escaped);
        }
    }

    #[test]
    fn json_like_text_never_panics(body in "[\\[\\]{}\"\\\\u0-9a-fdD:, ]{0,80}") {
        let _ = JsonObject::parse(body.as_bytes());
    }
}
