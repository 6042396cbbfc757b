//! Strict parser for untrusted JSON objects. It builds no tree: the members are borrowed from the body. Every error names the
//! field.

mod escapes;

use std::borrow::Cow;
use std::fmt;
use std::ops::RangeInclusive;

use serde::Deserializer as _;
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::clock::Timestamp;
use crate::error::{Error, Result};
pub use escapes::replace_unstorable_escapes;
use escapes::{escape_length, unescape};

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
        Self::parse_checked(checked_text(body)?)
    }

    /// Parses a text, or a part of one, that [`checked_text`] returned.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it is not a JSON object or has over 1,000 members.
    pub fn parse_checked(text: &'a str) -> Result<Self> {
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

    /// Returns the items of an array member as JSON, or `None` if it is missing.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it is not an array of 1 to `items_max` items.
    pub fn array(&self, name: &str, items_max: usize) -> Result<Option<Vec<&'a str>>> {
        let Some(raw) = self.member(name).map(RawValue::get) else { return Ok(None) };
        if !raw.starts_with('[') {
            return Err(Error::field(name, "must be an array"));
        }
        let items = serde_json::Deserializer::from_str(raw).deserialize_seq(ItemVisitor { items_max }).ok();
        let items = items.filter(|items| !items.is_empty());
        items.map(Some).ok_or_else(|| Error::field(name, format_args!("must have 1-{items_max} items")))
    }

    /// Returns a member as JSON, or `None` if it is missing.
    #[must_use]
    pub fn json(&self, name: &str) -> Option<&'a str> {
        self.member(name).map(RawValue::get)
    }

    /// Returns the names and the JSON of all members in order, including repeated ones and `null`.
    pub fn members(&self) -> impl Iterator<Item = (&str, &'a str)> {
        self.members.iter().map(|(name, value)| (&**name, value.get()))
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
    let text = UncheckedText::new(body)?;
    text.check()?;
    Ok(text.0)
}

/// A body whose depth and escapes are not checked yet, for a decoder that finds out whether the check is needed.
#[derive(Debug, Clone, Copy)]
pub struct UncheckedText<'a>(&'a str);

impl<'a> UncheckedText<'a> {
    /// Returns a body as text.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it is empty or is not UTF-8.
    pub fn new(body: &'a [u8]) -> Result<Self> {
        let text = std::str::from_utf8(body).map_err(|_| Error::Invalid("The body must be UTF-8".into()))?;
        if text.trim_ascii().is_empty() {
            return Err(Error::Invalid("The body is empty; expected JSON".into()));
        }
        Ok(Self(text))
    }

    /// Returns the text, which may be nested to any depth.
    #[must_use]
    pub fn as_str(self) -> &'a str {
        self.0
    }

    /// Whether the text contains an escape, which [`UncheckedText::check`] may reject.
    #[must_use]
    pub fn has_escapes(self) -> bool {
        memchr::memchr(b'\\', self.0.as_bytes()).is_some()
    }

    /// Checks the depth and the escapes.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the text is nested deeper than 64 levels, or contains a NUL or an unpaired surrogate in any
    /// string.
    pub fn check(self) -> Result<()> {
        check(self.0, DEPTH_MAX)
    }
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

fn not_an_object(why: &serde_json::Error) -> Error {
    if why.is_data() {
        return Error::Invalid("The body must be a JSON object with at most 1000 fields".into());
    }
    Error::Invalid(format!("The body is not JSON: line {}, column {}", why.line(), why.column()))
}

/// Visitor for the items of an array, which fails if there are too many.
struct ItemVisitor {
    items_max: usize,
}

impl<'de> Visitor<'de> for ItemVisitor {
    type Value = Vec<&'de str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> std::result::Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = array.next_element::<&RawValue>()? {
            if items.len() == self.items_max {
                return Err(serde::de::Error::custom("too many items"));
            }
            items.push(item.get());
        }
        Ok(items)
    }
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
    while let Some(ahead) = bytes.get(at..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) {
        at += ahead + 1;
        if bytes[at - 1] == b'"' {
            return Ok(at);
        }
        at += escape_length(bytes, at)?;
    }
    Ok(bytes.len())
}

#[cfg(test)]
#[path = "json_tests.rs"]
mod tests;
