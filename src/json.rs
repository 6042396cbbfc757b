//! Strict parser for untrusted JSON objects. It builds no tree: the members are borrowed from the body. Every error names the
//! field.

use std::borrow::Cow;
use std::fmt;
use std::ops::RangeInclusive;

use serde::Deserializer as _;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::clock::Timestamp;
use crate::error::{Error, Result};

const DEPTH_MAX: usize = 64;
const MEMBERS_MAX: usize = 1_000;

/// A JSON object whose values are unparsed. Unknown members are ignored, `null` counts as missing, and the last of several
/// members with the same name counts.
#[derive(Debug)]
pub struct JsonObject<'a> {
    members: Vec<(Cow<'a, str>, &'a RawValue)>,
}

impl<'a> JsonObject<'a> {
    /// Parses a body that must be one JSON object.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the body is empty, is not UTF-8, is not a JSON object, is nested deeper than 64 levels, has over
    /// 1,000 members, or contains a NUL or an unpaired surrogate in any string.
    pub fn parse(body: &'a [u8]) -> Result<Self> {
        let text = checked_text(body)?;
        let mut json = serde_json::Deserializer::from_str(text);
        let members = json.deserialize_map(MemberVisitor).map_err(|why| not_an_object(&why))?;
        json.end().map_err(|why| not_an_object(&why))?;
        Ok(Self { members })
    }

    fn member(&self, name: &str) -> Option<&'a RawValue> {
        let found = self.members.iter().rev().find(|(member, _)| member == name).map(|(_, value)| *value);
        found.filter(|value| value.get() != "null")
    }

    /// Returns a string member with a length in `chars`.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it is missing, is not a string, or is too short or too long.
    pub fn required_string(&self, name: &str, chars: RangeInclusive<usize>) -> Result<Cow<'a, str>> {
        let rule = || Error::field(name, format_args!("must be {}-{} characters", chars.start(), chars.end()));
        let text = self.string(name)?.ok_or_else(|| Error::field(name, "is required"))?;
        // Counts characters only if the number of bytes does not decide.
        let is_valid = if text.len() <= *chars.end() && *chars.start() <= 1 {
            text.len() >= *chars.start()
        } else {
            chars.contains(&text.chars().count())
        };
        if is_valid { Ok(text) } else { Err(rule()) }
    }

    /// Returns a string member of any length, or `None` if it is missing.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it is not a string.
    pub fn string(&self, name: &str) -> Result<Option<Cow<'a, str>>> {
        let Some(raw) = self.member(name) else { return Ok(None) };
        let escaped = raw.get().strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        let text = escaped.and_then(|escaped| {
            // Most strings have no escapes and can be borrowed.
            if escaped.contains('\\') { unescape(escaped).map(Cow::Owned) } else { Some(Cow::Borrowed(escaped)) }
        });
        text.map(Some).ok_or_else(|| Error::field(name, "must be a string"))
    }

    /// Returns a string member, or a number member in its original spelling, or `None` if it is missing.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it is neither.
    pub fn string_or_number(&self, name: &str) -> Result<Option<Cow<'a, str>>> {
        match self.member(name).map(RawValue::get) {
            Some(raw) if raw.starts_with(|first: char| first == '-' || first.is_ascii_digit()) => {
                Ok(Some(Cow::Borrowed(raw)))
            }
            _ => self.string(name).map_err(|_| Error::field(name, "must be a string or a number")),
        }
    }

    /// Returns an object member as JSON, or `None` if it is missing.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it is not an object.
    pub fn object(&self, name: &str) -> Result<Option<&'a str>> {
        match self.member(name).map(RawValue::get) {
            Some(raw) if raw.starts_with('{') => Ok(Some(raw)),
            Some(_) => Err(Error::field(name, "must be an object")),
            None => Ok(None),
        }
    }

    /// Returns a timestamp member in RFC 3339, or `None` if it is missing.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it is anything else.
    pub fn timestamp(&self, name: &str) -> Result<Option<Timestamp>> {
        let rule = || Error::field(name, "must be a time such as 2026-01-31T12:00:00Z");
        match self.string(name).map_err(|_| rule())? {
            Some(text) => Timestamp::parse(&text).map(Some).ok_or_else(rule),
            None => Ok(None),
        }
    }
}

/// Returns a body as text that is safe to parse as JSON and to store.
///
/// # Errors
/// [`Error::Invalid`] if it is empty, is not UTF-8, is nested deeper than 64 levels, or contains a NUL or an unpaired
/// surrogate in any string.
pub fn checked_text(body: &[u8]) -> Result<&str> {
    let text = std::str::from_utf8(body).map_err(|_| Error::Invalid("The body must be UTF-8".into()))?;
    if text.trim_ascii().is_empty() {
        return Err(Error::Invalid("The body is empty; expected JSON".into()));
    }
    check(text, DEPTH_MAX)?;
    Ok(text)
}

/// Whether a JSON value is nested at most `levels` deep.
#[must_use]
pub fn depth_at_most(json: &str, levels: usize) -> bool {
    check(json, levels).is_ok()
}

/// Returns valid JSON without the whitespace between its tokens.
#[must_use]
pub fn compact(json: &str) -> String {
    let (mut in_string, mut escaped) = (false, false);
    let is_significant = |c: &char| {
        let is_quote = *c == '"' && !escaped;
        escaped = *c == '\\' && !escaped;
        in_string ^= is_quote;
        in_string || !c.is_ascii_whitespace()
    };
    // Without the capacity, the string would grow in steps, and each step takes the allocator's lock.
    let mut compacted = String::with_capacity(json.len());
    compacted.extend(json.chars().filter(is_significant));
    compacted
}

/// Returns the text of a JSON string, given without its quotes; `None` if it has an invalid escape.
///
/// Allocates once, because a text is never longer than its escaped form. serde_json doubles a buffer until the text fits
/// and then copies it, and each of these steps takes the allocator's lock, for which the threads compete. Measured with
/// error reports of 2 KB: with this function and [`compact`], a worker takes the lock for 14 instead of 32 allocations and
/// reallocations per report.
fn unescape(escaped: &str) -> Option<String> {
    let mut text = String::with_capacity(escaped.len());
    let mut rest = escaped;
    while let Some(at) = memchr::memchr(b'\\', rest.as_bytes()) {
        text.push_str(&rest[..at]);
        let escape = &rest[at + 1..];
        let (decoded, bytes) = match escape.as_bytes().first()? {
            b'b' => ('\u{8}', 1),
            b'f' => ('\u{c}', 1),
            b'n' => ('\n', 1),
            b'r' => ('\r', 1),
            b't' => ('\t', 1),
            punctuation @ (b'"' | b'\\' | b'/') => (char::from(*punctuation), 1),
            b'u' => unescape_unicode(escape)?,
            _ => return None,
        };
        text.push(decoded);
        rest = &escape[bytes..];
    }
    text.push_str(rest);
    Some(text)
}

/// Returns the character of an escape `uXXXX` or of the surrogate pair `uXXXX\uXXXX`, and the escape's length in bytes.
fn unescape_unicode(escape: &str) -> Option<(char, usize)> {
    let unit = |at: usize| u16::from_str_radix(escape.get(at..at + 4)?, 16).ok();
    let high = unit(1)?;
    if matches!(high, 0xD800..=0xDBFF) {
        let character = char::decode_utf16([high, unit(7)?]).next()?.ok()?;
        return Some((character, 11));
    }
    Some((char::from_u32(high.into())?, 5))
}

fn not_an_object(why: &serde_json::Error) -> Error {
    if why.is_data() {
        return Error::Invalid("The body must be a JSON object with at most 1000 fields".into());
    }
    Error::Invalid(format!("The body is not JSON: line {}, column {}", why.line(), why.column()))
}

struct MemberVisitor;

impl<'de> Visitor<'de> for MemberVisitor {
    type Value = Vec<(Cow<'de, str>, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Self::Value, A::Error> {
        let mut members = Vec::with_capacity(16);
        while let Some((MemberName(name), value)) = map.next_entry()? {
            if members.len() == MEMBERS_MAX {
                return Err(serde::de::Error::custom("too many fields"));
            }
            members.push((name, value));
        }
        Ok(members)
    }
}

/// A member's name, borrowed if it has no escapes.
struct MemberName<'a>(Cow<'a, str>);

impl<'de> serde::Deserialize<'de> for MemberName<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct MemberNameVisitor;
        impl<'de> Visitor<'de> for MemberNameVisitor {
            type Value = MemberName<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }

            fn visit_borrowed_str<E>(self, name: &'de str) -> std::result::Result<Self::Value, E> {
                Ok(MemberName(Cow::Borrowed(name)))
            }

            fn visit_str<E>(self, name: &str) -> std::result::Result<Self::Value, E> {
                Ok(MemberName(Cow::Owned(name.to_owned())))
            }
        }
        deserializer.deserialize_str(MemberNameVisitor)
    }
}

/// Checks the depth and the string escapes of a JSON text in one pass. It does not check the syntax.
///
/// # Errors
/// Fails on nesting that could exhaust a stack, and on escapes that databases and strict parsers reject.
fn check(text: &str, depth_max: usize) -> Result<()> {
    let bytes = text.as_bytes();
    let (mut depth, mut at) = (0usize, 0usize);
    // Two loops that skip ordinary bytes, one outside and one inside strings, are twice as fast as one with a state.
    let next = |at: usize, is_special: fn(&u8) -> bool| bytes[at..].iter().position(is_special).map(|ahead| at + ahead);
    while let Some(found) = next(at, |byte| matches!(byte, b'"' | b'{' | b'[' | b'}' | b']')) {
        at = found + 1;
        match bytes[found] {
            b'"' => at = string_end(bytes, at)?,
            b'{' | b'[' => {
                depth += 1;
                if depth > depth_max {
                    return Err(Error::Invalid(format!("The body is nested deeper than {depth_max} levels")));
                }
            }
            _ => depth = depth.saturating_sub(1),
        }
    }
    Ok(())
}

/// Returns the position after the closing quote of the string that starts at `at`.
fn string_end(bytes: &[u8], mut at: usize) -> Result<usize> {
    while let Some(ahead) = bytes.get(at..).and_then(|rest| rest.iter().position(|byte| matches!(byte, b'"' | b'\\'))) {
        at += ahead + 1;
        if bytes[at - 1] == b'"' {
            return Ok(at);
        }
        at += escape_length(bytes, at)?;
    }
    Ok(bytes.len())
}

/// Returns the length of the escape after a backslash, in bytes; a surrogate pair counts as one escape.
fn escape_length(bytes: &[u8], at: usize) -> Result<usize> {
    let unit = |at: usize| {
        let digits = bytes.get(at..at + 5).filter(|escape| escape[0] == b'u')?;
        u16::from_str_radix(std::str::from_utf8(&digits[1..]).ok()?, 16).ok()
    };
    match unit(at) {
        Some(0) => Err(Error::Invalid("Strings must not contain NUL (\\u0000)".into())),
        Some(0xD800..=0xDBFF) => {
            let low = (bytes.get(at + 5) == Some(&b'\\')).then(|| unit(at + 6)).flatten();
            if matches!(low, Some(0xDC00..=0xDFFF)) { Ok(11) } else { Err(unpaired_surrogate()) }
        }
        Some(0xDC00..=0xDFFF) => Err(unpaired_surrogate()),
        Some(_) => Ok(5),
        None => Ok(1),
    }
}

fn unpaired_surrogate() -> Error {
    Error::Invalid("Strings must not contain unpaired surrogates (\\uD800–\\uDFFF)".into())
}

#[cfg(test)]
mod tests {
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

    proptest! {
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
}
