//! Values, strings and documents within strings, well and badly written.

use std::io::Read;

use proptest::prelude::*;

use super::json::{Json, StringReader};
use crate::error::{Error, Result};

fn text(json: &str) -> Result<String> {
    Json::new(json.as_bytes(), "body").text(usize::MAX)
}

#[test]
fn strings_are_unescaped() {
    for (json, expected) in [
        (r#""plain""#, "plain"),
        (r#"  "a\n\t\r\b\f\"\\\/""#, "a\n\t\r\u{8}\u{c}\"\\/"),
        (r#""\u00e9\ud83d\ude00é😀""#, "é😀é😀"),
        (r#""\ud83d.\ude00\ud83d\ud83d\ude00\ud83d\u0041\ud83d""#, "\u{fffd}.\u{fffd}\u{fffd}😀\u{fffd}A\u{fffd}"),
    ] {
        assert_eq!(text(json).unwrap(), expected, "{json}");
    }
    for json in [r#""no end"#, r#""\x""#, r#""\u12"#, r#""\u12g4""#, "12", ""] {
        assert!(matches!(text(json), Err(Error::Invalid(_))), "{json}");
    }
}

#[test]
fn what_is_skipped_needs_matching_brackets() {
    for (json, fine) in [
        ("[1,-2.5e+3,{\"a\":[null,true,\"]\"]}]", true),
        ("[}", false),
        ("]", false),
        (",", false),
        ("[[[", false),
        (&("[".repeat(2_000) + &"]".repeat(2_000)), true),
        (&"[".repeat(100_000), false),
    ] {
        let mut reader = Json::new(json.as_bytes(), "body");
        assert_eq!(reader.skip().and_then(|()| reader.end()).is_ok(), fine, "{json:.20}");
    }
}

#[test]
fn whole_numbers() {
    for (json, number) in [("3", Some(3)), ("3.0", Some(3)), ("-1", None), ("1.5", None), ("1e400", None)] {
        assert_eq!(Json::new(json.as_bytes(), "body").whole().unwrap(), number, "{json}");
    }
    assert!(Json::new("\"3\"".as_bytes(), "body").whole().is_err());
    assert!(Json::new("--".as_bytes(), "body").whole().is_err());
}

proptest! {
    #[test]
    fn a_document_in_a_string_is_that_document(document in "(?s).{0,60}", step in 1usize..9) {
        let json = serde_json::to_string(&document).unwrap();
        let mut reader = StringReader::new(Json::new(json.as_bytes(), "body")).unwrap();
        let mut found = Vec::new();
        let mut chunk = vec![0; step];
        loop {
            let length = reader.read(&mut chunk).unwrap();
            if length == 0 {
                break;
            }
            found.extend_from_slice(&chunk[..length]);
        }
        prop_assert_eq!(String::from_utf8(found).unwrap(), document);
    }

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(prop::sample::select(&b"{}[]\",:\\u0 1nd"[..]), 0..40)) {
        let mut json = Json::new(&bytes[..], "body");
        let _ = json.skip();
        let _ = Json::new(&bytes[..], "body").object(|json, _| json.skip());
    }
}
