//! Tests for the streaming JSON reader: valid and malformed values, strings, and documents inside strings.

use std::io::Read;

use proptest::prelude::*;

use super::json::{JsonReader, StringReader};
use crate::error::{Error, Result};

fn read_string(json: &str) -> Result<String> {
    JsonReader::new(json.as_bytes(), "body").string_prefix(usize::MAX)
}

#[test]
fn strings_are_unescaped() {
    for (json, expected) in [
        (r#""plain""#, "plain"),
        (r#"  "a\n\t\r\b\f\"\\\/""#, "a\n\t\r\u{8}\u{c}\"\\/"),
        (r#""\u00e9\ud83d\ude00é😀""#, "é😀é😀"),
        (r#""\ud83d.\ude00\ud83d\ud83d\ude00\ud83d\u0041\ud83d""#, "\u{fffd}.\u{fffd}\u{fffd}😀\u{fffd}A\u{fffd}"),
    ] {
        assert_eq!(read_string(json).unwrap(), expected, "{json}");
    }
    for json in [r#""no end"#, r#""\x""#, r#""\u12"#, r#""\u12g4""#, "12", ""] {
        assert!(matches!(read_string(json), Err(Error::Invalid(_))), "{json}");
    }
}

#[test]
fn skipped_values_need_matching_brackets() {
    for (json, is_valid) in [
        ("[1,-2.5e+3,{\"a\":[null,true,\"]\"]}]", true),
        ("[}", false),
        ("]", false),
        (",", false),
        ("[[[", false),
        (&("[".repeat(2_000) + &"]".repeat(2_000)), true),
        (&"[".repeat(100_000), false),
    ] {
        let mut reader = JsonReader::new(json.as_bytes(), "body");
        assert_eq!(reader.skip().and_then(|()| reader.end()).is_ok(), is_valid, "{json:.20}");
    }
}

#[test]
fn only_integers_of_at_least_0_are_unsigned() {
    for (json, number) in [("3", Some(3)), ("3.0", Some(3)), ("-1", None), ("1.5", None), ("1e400", None)] {
        assert_eq!(JsonReader::new(json.as_bytes(), "body").unsigned().unwrap(), number, "{json}");
    }
    assert!(JsonReader::new("\"3\"".as_bytes(), "body").unsigned().is_err());
    assert!(JsonReader::new("--".as_bytes(), "body").unsigned().is_err());
}

proptest! {
    #[test]
    fn string_reader_returns_the_document_inside_a_string(document in "(?s).{0,60}", step in 1usize..9) {
        let json = serde_json::to_string(&document).unwrap();
        let mut reader = StringReader::new(JsonReader::new(json.as_bytes(), "body")).unwrap();
        let mut read = Vec::new();
        let mut chunk = vec![0; step];
        loop {
            let length = reader.read(&mut chunk).unwrap();
            if length == 0 {
                break;
            }
            read.extend_from_slice(&chunk[..length]);
        }
        prop_assert_eq!(String::from_utf8(read).unwrap(), document);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(prop::sample::select(&b"{}[]\",:\\u0 1nd"[..]), 0..40)) {
        let mut json = JsonReader::new(&bytes[..], "body");
        let _ = json.skip();
        let _ = JsonReader::new(&bytes[..], "body").object(|json, _| json.skip());
    }
}
