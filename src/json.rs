//! JSON bodies from strangers, read without building a tree: one object's members are borrowed from the body, and
//! every complaint names the field.

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

/// A JSON object whose values are still the bytes they came as. Unknown members are ignored, `null` is as good as
/// absent, and of a member that stands twice the last one counts.
#[derive(Debug)]
pub struct Object<'a> {
    members: Vec<(Cow<'a, str>, &'a RawValue)>,
}

impl<'a> Object<'a> {
    /// Reads a body that must be one JSON object.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the body is empty, not UTF-8, not JSON, not an object, nests deeper than 64 levels, has more
    /// than 1,000 members, or has a NUL or half a surrogate pair in any text.
    pub fn parse(body: &'a [u8]) -> Result<Self> {
        let text = text(body)?;
        let mut json = serde_json::Deserializer::from_str(text);
        let members = json.deserialize_map(Members).map_err(|why| not_an_object(&why))?;
        json.end().map_err(|why| not_an_object(&why))?;
        Ok(Self { members })
    }

    fn member(&self, name: &str) -> Option<&'a RawValue> {
        let found = self.members.iter().rev().find(|(member, _)| member == name).map(|(_, value)| *value);
        found.filter(|value| value.get() != "null")
    }

    /// A text of that many characters.
    ///
    /// # Errors
    /// [`Error::Invalid`] when it is missing, not a text, or too short or long.
    pub fn required_text(&self, name: &str, chars: RangeInclusive<usize>) -> Result<Cow<'a, str>> {
        let rule = || Error::field(name, format_args!("must be {}-{} characters", chars.start(), chars.end()));
        let text = self.text(name)?.ok_or_else(|| Error::field(name, "is required"))?;
        // Counting characters is only worth it when the bytes do not settle it.
        let fits = if text.len() <= *chars.end() && *chars.start() <= 1 {
            text.len() >= *chars.start()
        } else {
            chars.contains(&text.chars().count())
        };
        if fits { Ok(text) } else { Err(rule()) }
    }

    /// A text of any length, when there is one.
    ///
    /// # Errors
    /// [`Error::Invalid`] when it is not a text.
    pub fn text(&self, name: &str) -> Result<Option<Cow<'a, str>>> {
        let Some(raw) = self.member(name) else { return Ok(None) };
        let text = raw.get();
        // Most texts have no escapes and can be borrowed as they stand between their quotes.
        if let Some(inner) = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'))
            && !inner.contains('\\')
        {
            return Ok(Some(Cow::Borrowed(inner)));
        }
        serde_json::from_str(text)
            .map(|text: String| Some(Cow::Owned(text)))
            .map_err(|_| Error::field(name, "must be a text"))
    }

    /// A text, or a number as it was written.
    ///
    /// # Errors
    /// [`Error::Invalid`] when it is neither.
    pub fn text_or_number(&self, name: &str) -> Result<Option<Cow<'a, str>>> {
        match self.member(name).map(RawValue::get) {
            Some(raw) if raw.starts_with(|first: char| first == '-' || first.is_ascii_digit()) => {
                Ok(Some(Cow::Borrowed(raw)))
            }
            _ => self.text(name).map_err(|_| Error::field(name, "must be a text or a number")),
        }
    }

    /// An object, as the JSON it was written in.
    ///
    /// # Errors
    /// [`Error::Invalid`] when it is something else.
    pub fn object(&self, name: &str) -> Result<Option<&'a str>> {
        match self.member(name).map(RawValue::get) {
            Some(raw) if raw.starts_with('{') => Ok(Some(raw)),
            Some(_) => Err(Error::field(name, "must be an object")),
            None => Ok(None),
        }
    }

    /// A moment in RFC 3339.
    ///
    /// # Errors
    /// [`Error::Invalid`] when it is anything else.
    pub fn time(&self, name: &str) -> Result<Option<Timestamp>> {
        let rule = || Error::field(name, "must be a time such as 2026-01-31T12:00:00Z");
        match self.text(name).map_err(|_| rule())? {
            Some(text) => Timestamp::parse(&text).map(Some).ok_or_else(rule),
            None => Ok(None),
        }
    }
}

/// A body as text that is safe to read as JSON and to store.
///
/// # Errors
/// [`Error::Invalid`] when it is empty, not UTF-8, nests deeper than 64 levels, or has a NUL or half a surrogate pair in
/// any text.
pub fn text(body: &[u8]) -> Result<&str> {
    let text = std::str::from_utf8(body).map_err(|_| Error::Invalid("The body must be UTF-8".into()))?;
    if text.trim_ascii().is_empty() {
        return Err(Error::Invalid("The body is empty; JSON is expected".into()));
    }
    check(text, DEPTH_MAX)?;
    Ok(text)
}

/// Whether a JSON text nests at most so many levels, so that it may become part of another.
#[must_use]
pub fn nests_within(json: &str, levels: usize) -> bool {
    check(json, levels).is_ok()
}

/// A valid JSON text without the blanks between its tokens.
#[must_use]
pub fn compact(json: &str) -> String {
    let (mut in_text, mut escaped) = (false, false);
    let belongs = |letter: &char| {
        let ends = *letter == '"' && !escaped;
        escaped = *letter == '\\' && !escaped;
        in_text ^= ends;
        in_text || !letter.is_ascii_whitespace()
    };
    json.chars().filter(belongs).collect()
}

fn not_an_object(why: &serde_json::Error) -> Error {
    if why.is_data() {
        return Error::Invalid("The body must be a JSON object with at most 1000 fields".into());
    }
    Error::Invalid(format!("The body is not JSON: line {}, column {}", why.line(), why.column()))
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Vec<(Cow<'de, str>, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Self::Value, A::Error> {
        let mut members = Vec::with_capacity(16);
        while let Some((Key(name), value)) = map.next_entry()? {
            if members.len() == MEMBERS_MAX {
                return Err(serde::de::Error::custom("too many fields"));
            }
            members.push((name, value));
        }
        Ok(members)
    }
}

/// A member's name, borrowed where it has no escapes.
struct Key<'a>(Cow<'a, str>);

impl<'de> serde::Deserialize<'de> for Key<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Name;
        impl<'de> Visitor<'de> for Name {
            type Value = Key<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }

            fn visit_borrowed_str<E>(self, name: &'de str) -> std::result::Result<Self::Value, E> {
                Ok(Key(Cow::Borrowed(name)))
            }

            fn visit_str<E>(self, name: &str) -> std::result::Result<Self::Value, E> {
                Ok(Key(Cow::Owned(name.to_owned())))
            }
        }
        deserializer.deserialize_str(Name)
    }
}

/// Walks over the text once and refuses what would hurt later: nesting that exhausts somebody's stack, and escapes
/// that no text in a database or in strict JSON may hold. Whether it is JSON at all is the parser's to say.
fn check(text: &str, depth_max: usize) -> Result<()> {
    let bytes = text.as_bytes();
    let (mut depth, mut at) = (0usize, 0usize);
    // Two loops over what says nothing, which is nearly all of it, are twice as fast as one that asks where it is.
    let next = |at: usize, says: fn(&u8) -> bool| bytes[at..].iter().position(says).map(|ahead| at + ahead);
    while let Some(found) = next(at, |byte| matches!(byte, b'"' | b'{' | b'[' | b'}' | b']')) {
        at = found + 1;
        match bytes[found] {
            b'"' => at = text_end(bytes, at)?,
            b'{' | b'[' => {
                depth += 1;
                if depth > depth_max {
                    return Err(Error::Invalid(format!("The body nests deeper than {depth_max} levels")));
                }
            }
            _ => depth = depth.saturating_sub(1),
        }
    }
    Ok(())
}

/// Where a text ends that begins there.
fn text_end(bytes: &[u8], mut at: usize) -> Result<usize> {
    while let Some(ahead) = bytes.get(at..).and_then(|rest| rest.iter().position(|byte| matches!(byte, b'"' | b'\\'))) {
        at += ahead + 1;
        if bytes[at - 1] == b'"' {
            return Ok(at);
        }
        at += escape_length(bytes, at)?;
    }
    Ok(bytes.len())
}

/// How many bytes the escape behind a backslash takes; a surrogate pair counts as one.
fn escape_length(bytes: &[u8], at: usize) -> Result<usize> {
    let unit = |at: usize| {
        let digits = bytes.get(at..at + 5).filter(|escape| escape[0] == b'u')?;
        u16::from_str_radix(std::str::from_utf8(&digits[1..]).ok()?, 16).ok()
    };
    match unit(at) {
        Some(0) => Err(Error::Invalid("Texts must not hold NUL (\\u0000)".into())),
        Some(0xD800..=0xDBFF) => {
            let low = (bytes.get(at + 5) == Some(&b'\\')).then(|| unit(at + 6)).flatten();
            if matches!(low, Some(0xDC00..=0xDFFF)) { Ok(11) } else { Err(half_a_pair()) }
        }
        Some(0xDC00..=0xDFFF) => Err(half_a_pair()),
        Some(_) => Ok(5),
        None => Ok(1),
    }
}

fn half_a_pair() -> Error {
    Error::Invalid("Texts must not hold half a surrogate pair".into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn refusal(body: &str) -> String {
        Object::parse(body.as_bytes()).map(|_| ()).unwrap_err().to_string()
    }

    #[test]
    fn members_are_read_by_name_and_type() {
        let body = br#"{"a":"x\n\u00e9\ud83d\ude00","n":-12.5e3,"o":{"k":[1]},"t":"2026-01-31T12:00:00+01:00","z":null,"a2":"pl\u0061in"}"#;
        let object = Object::parse(body).unwrap();
        assert_eq!(object.required_text("a", 1..=4).unwrap(), "x\né😀");
        assert_eq!(object.text("a2").unwrap().unwrap(), "plain");
        assert_eq!(object.text_or_number("n").unwrap().unwrap(), "-12.5e3");
        assert_eq!(object.text_or_number("a").unwrap().unwrap(), "x\né😀");
        assert_eq!(object.object("o").unwrap(), Some(r#"{"k":[1]}"#));
        assert_eq!(object.time("t").unwrap().unwrap().to_string(), "2026-01-31T11:00:00Z");
        assert_eq!(object.text("z").unwrap(), None);
        assert_eq!(object.text("missing").unwrap(), None);
    }

    #[test]
    fn complaints_name_the_field() {
        let object = Object::parse(br#"{"a":1,"o":[],"t":"now","long":"aaaa","empty":"","b":true}"#).unwrap();
        for (found, expected) in [
            (object.required_text("x", 1..=3).unwrap_err(), "Field 'x' is required"),
            (object.required_text("long", 1..=3).unwrap_err(), "Field 'long' must be 1-3 characters"),
            (object.required_text("empty", 1..=3).unwrap_err(), "Field 'empty' must be 1-3 characters"),
            (object.text("a").unwrap_err(), "Field 'a' must be a text"),
            (object.text_or_number("b").unwrap_err(), "Field 'b' must be a text or a number"),
            (object.object("o").unwrap_err(), "Field 'o' must be an object"),
            (object.time("t").unwrap_err(), "Field 't' must be a time such as 2026-01-31T12:00:00Z"),
        ] {
            assert_eq!(found.to_string(), expected);
        }
    }

    #[test]
    fn what_is_not_one_harmless_object_is_refused() {
        for body in ["", "x", "{", "[1]", "\"a\"", "{} {}", "{\"a\":1,}", "{'a':1}", "{\"a\":\"\u{1}\"}", "nul"] {
            assert!(Object::parse(body.as_bytes()).is_err(), "{body:?}");
        }
        assert_eq!(
            refusal(&format!("{}1{}", "{\"a\":[".repeat(40), "]}".repeat(40))),
            "The body nests deeper than 64 levels"
        );
        assert!(refusal(&"[".repeat(100_000)).contains("64"));
        for half in [r#"{"a":"\ud800"}"#, r#"{"a":"\udc00"}"#, r#"{"a":{"b":"\ud83dx"}}"#, r#"{"a":"\ud83d\u0041"}"#] {
            assert_eq!(refusal(half), "Texts must not hold half a surrogate pair", "{half}");
        }
        assert_eq!(refusal(r#"{"x":{"\u0000":1}}"#), "Texts must not hold NUL (\\u0000)");
        assert_eq!(Object::parse(b"{\"a\":\"\xff\"}").unwrap_err().to_string(), "The body must be UTF-8");
        let many: Vec<String> = (0..=MEMBERS_MAX).map(|n| format!("\"{n}\":0")).collect();
        assert!(refusal(&format!("{{{}}}", many.join(","))).contains("1000 fields"));
    }

    #[test]
    fn an_escaped_backslash_before_u_is_no_escape() {
        assert!(Object::parse(br#"{"a":"\\u0000 \\ud800"}"#).is_ok());
    }

    #[test]
    fn blanks_go_between_tokens_and_stay_in_texts() {
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
        fn no_body_panics(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Object::parse(&body);
        }

        #[test]
        fn any_text_comes_back_as_it_was(text in "[^\u{0}]{0,60}", name in "[a-z]{1,8}") {
            let body = serde_json::json!({ name.clone(): text.clone() }).to_string();
            let object = Object::parse(body.as_bytes()).unwrap();
            prop_assert_eq!(object.text(&name).unwrap().unwrap(), text);
        }

        #[test]
        fn json_like_text_never_panics(body in "[\\[\\]{}\"\\\\u0-9a-fdD:, ]{0,80}") {
            let _ = Object::parse(body.as_bytes());
        }
    }
}
