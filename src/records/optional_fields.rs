//! Optional fields of reports: one unusable value must not cost the whole report.

use std::borrow::Cow;

use super::string_list::StringList;
use crate::json::JsonObject;

/// Shortens a string to a maximum number of characters.
type Truncate = fn(&str, usize) -> Cow<'_, str>;

/// Reader for the optional fields of a JSON object. Repairs values of the wrong type whose meaning is clear, drops the other
/// unusable ones, and remembers the names of both, and of those that it truncates.
#[derive(Debug)]
pub struct OptionalFields<'o, 'a> {
    object: &'o JsonObject<'a>,
    truncate: Truncate,
    adjusted: Vec<&'static str>,
}

impl<'o, 'a> OptionalFields<'o, 'a> {
    /// Creates a reader for the fields of `object`.
    #[must_use]
    pub fn new(object: &'o JsonObject<'a>, truncate: Truncate) -> Self {
        Self { object, truncate, adjusted: Vec::new() }
    }

    /// Returns a string of at most `chars_max` characters. A number or a boolean becomes one.
    pub fn string(&mut self, name: &'static str, chars_max: usize) -> Option<Cow<'a, str>> {
        self.scalar(name, |first| first == '"', chars_max)
    }

    /// Returns a string or a number, of at most `chars_max` characters. A boolean becomes a string.
    pub fn string_or_number(&mut self, name: &'static str, chars_max: usize) -> Option<Cow<'a, str>> {
        self.scalar(name, |first| matches!(first, '"' | '-' | '0'..='9'), chars_max)
    }

    /// Returns the id of a user: a string, a number, or the member `id` of an object, the form that other SDKs send.
    pub fn user_id(&mut self, name: &'static str, chars_max: usize) -> Option<Cow<'a, str>> {
        let Ok(Some(user)) = self.object.object(name) else { return self.string_or_number(name, chars_max) };
        self.record(name);
        let id = JsonObject::parse_checked(user).ok().and_then(|user| scalar(&user, "id"));
        self.truncated(name, id, chars_max)
    }

    /// Returns the strings of an array: at most `items_max` of at most `chars_max` characters each. Numbers and booleans become
    /// strings, other items are dropped, and a single value counts as an array of one. `None` if no string is left.
    pub fn strings(&mut self, name: &'static str, items_max: usize, chars_max: usize) -> Option<Vec<String>> {
        let StringList { mut items, is_adjusted } = StringList::parse(self.object.json(name)?, items_max);
        self.record_if(name, is_adjusted);
        for item in &mut items {
            let truncated = (self.truncate)(item, chars_max);
            if truncated != *item {
                let truncated = truncated.into_owned();
                *item = truncated;
                self.record(name);
            }
        }
        Some(items).filter(|items| !items.is_empty())
    }

    /// Returns the JSON of an object. Other values are dropped.
    pub fn object(&mut self, name: &'static str) -> Option<&'a str> {
        let value = self.object.object(name);
        self.record_if(name, value.is_err());
        value.ok().flatten()
    }

    /// Records that the value of a field was changed or dropped.
    pub fn record(&mut self, name: &'static str) {
        if !self.adjusted.contains(&name) {
            self.adjusted.push(name);
        }
    }

    /// Records that the value of a field was changed or dropped, if it was.
    pub fn record_if(&mut self, name: &'static str, is_adjusted: bool) {
        if is_adjusted {
            self.record(name);
        }
    }

    /// Returns the names of the fields whose value was changed or dropped, each once.
    #[must_use]
    pub fn into_adjusted(self) -> Vec<&'static str> {
        self.adjusted
    }

    /// Returns a string, or the JSON of another scalar. `is_expected` decides by the first character of the JSON whether the
    /// value has the type of the field.
    fn scalar(
        &mut self,
        name: &'static str,
        is_expected: impl Fn(char) -> bool,
        chars_max: usize,
    ) -> Option<Cow<'a, str>> {
        let json = self.object.json(name)?;
        self.record_if(name, !json.starts_with(is_expected));
        self.truncated(name, scalar(self.object, name), chars_max)
    }

    fn truncated(&mut self, name: &'static str, value: Option<Cow<'a, str>>, chars_max: usize) -> Option<Cow<'a, str>> {
        let value = value?;
        let truncated = (self.truncate)(&value, chars_max);
        if truncated == value {
            return Some(value);
        }
        self.record(name);
        Some(Cow::Owned(truncated.into_owned()))
    }
}

/// Returns a string member, or the JSON of a number or a boolean; `None` for other values.
fn scalar<'a>(object: &JsonObject<'a>, name: &str) -> Option<Cow<'a, str>> {
    match object.json(name)? {
        json if json.starts_with(['{', '[']) => None,
        json if json.starts_with('"') => object.string(name).ok().flatten(),
        json => Some(Cow::Borrowed(json)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::truncate_chars;

    /// Returns the value that a method reads from a field, and whether the field is named as adjusted.
    fn read(json: &str, method: impl Fn(&mut OptionalFields<'_, '_>) -> Option<String>) -> (Option<String>, bool) {
        let body = format!(r#"{{"f":{json}}}"#);
        let object = JsonObject::parse(body.as_bytes()).unwrap();
        let mut fields = OptionalFields::new(&object, truncate_chars);
        let value = method(&mut fields);
        (value, fields.into_adjusted() == ["f"])
    }

    #[test]
    fn unusable_values_are_repaired_or_dropped_and_named() {
        type Row = (&'static str, [(Option<&'static str>, bool); 3]);
        let rows: [Row; 11] = [
            // As a string, as a string or a number, and as a user.
            ("null", [(None, false); 3]),
            (r#""abc""#, [(Some("abc"), false); 3]),
            (r#""abcdefg""#, [(Some("abcd…"), true); 3]),
            ("7", [(Some("7"), true), (Some("7"), false), (Some("7"), false)]),
            ("1234567", [(Some("1234…"), true); 3]),
            ("true", [(Some("true"), true); 3]),
            ("[1]", [(None, true); 3]),
            ("{}", [(None, true); 3]),
            (r#"{"id":7}"#, [(None, true), (None, true), (Some("7"), true)]),
            (r#"{"id":{"id":7}}"#, [(None, true); 3]),
            (r#"{"id":"abcdefg"}"#, [(None, true), (None, true), (Some("abcd…"), true)]),
        ];
        for (json, [string, string_or_number, user_id]) in rows {
            let owned = |value: Option<Cow<'_, str>>| value.map(Cow::into_owned);
            let expect = |(value, is_adjusted): (Option<&str>, bool)| (value.map(str::to_owned), is_adjusted);
            assert_eq!(read(json, |fields| owned(fields.string("f", 5))), expect(string), "{json}");
            let found = read(json, |fields| owned(fields.string_or_number("f", 5)));
            assert_eq!(found, expect(string_or_number), "{json}");
            assert_eq!(read(json, |fields| owned(fields.user_id("f", 5))), expect(user_id), "{json}");
        }
    }

    #[test]
    fn objects_of_the_wrong_type_are_dropped_and_named() {
        for (json, value, is_adjusted) in
            [(r#"{"a":1}"#, Some(r#"{"a":1}"#), false), ("null", None, false), ("[]", None, true), ("7", None, true)]
        {
            let found = read(json, |fields| fields.object("f").map(str::to_owned));
            assert_eq!(found, (value.map(str::to_owned), is_adjusted), "{json}");
        }
    }
}
