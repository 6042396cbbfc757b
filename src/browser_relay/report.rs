//! Validation of the error reports of web pages, and conversion to the format of the error tracker.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::value::RawValue;

use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::json::{self, JsonObject};
use crate::records::report::{BROWSER_METHOD, NAME_CHARS_MAX, TYPE_CHARS_MAX, URL_CHARS_MAX};

/// Maximum length of a stack trace. Longer ones come from endless recursion.
const STACK_CHARS_MAX: usize = 64 * 1024;
/// Type of errors without one, for example of a promise rejected with a string.
const TYPE_DEFAULT: &str = "Error";
/// Maximum nesting of `context`. The error tracker allows 64 levels, two of which are the report and `extra`.
const CONTEXT_LEVELS_MAX: usize = 62;

/// An error report in the format of the error tracker.
#[derive(Debug, Serialize)]
pub(super) struct TrackerReport<'a> {
    pub(super) project: &'a str,
    exception_type: Cow<'a, str>,
    pub(super) message: Cow<'a, str>,
    pub(super) traceback: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    environment: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) release: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_url: Option<Cow<'a, str>>,
    request_method: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<Timestamp>,
    pub(super) extra: Extra<'a>,
}

/// Member `extra` of a report.
#[derive(Debug, Serialize)]
pub(super) struct Extra<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    user_agent: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session_id: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    release: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    context: Option<Box<RawValue>>,
    /// The resolved frames of the stack trace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) frames: Option<Box<RawValue>>,
    /// The number of frames that were left as they are because the report would have cost too much work.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) skipped_frames: Option<usize>,
}

impl<'a> TrackerReport<'a> {
    /// Parses and truncates the report of a page.
    ///
    /// # Errors
    /// [`Error::Invalid`], naming the field.
    pub(super) fn parse(body: &'a [u8], project: &'a str) -> Result<Self> {
        let object = JsonObject::parse(body)?;
        let bounded = |name, chars_max| -> Result<Option<Cow<'a, str>>> {
            Ok(object.string(name)?.filter(|value| !value.is_empty()).map(|value| truncate(value, chars_max)))
        };
        let context = object.object("context")?;
        if context.is_some_and(|context| !json::depth_at_most(context, CONTEXT_LEVELS_MAX)) {
            return Err(Error::field(
                "context",
                format_args!("must be nested at most {CONTEXT_LEVELS_MAX} levels deep"),
            ));
        }
        let user_id = match context {
            Some(context) => JsonObject::parse(context.as_bytes())?.string_or_number("user_id")?,
            None => None,
        };
        let release = bounded("release", NAME_CHARS_MAX)?;
        Ok(Self {
            project,
            exception_type: bounded("type", TYPE_CHARS_MAX)?.unwrap_or(Cow::Borrowed(TYPE_DEFAULT)),
            message: object.string("message")?.ok_or_else(|| Error::field("message", "is required"))?,
            traceback: bounded("stack", STACK_CHARS_MAX)?.unwrap_or_default(),
            environment: bounded("environment", NAME_CHARS_MAX)?,
            request_url: bounded("url", URL_CHARS_MAX)?,
            request_method: BROWSER_METHOD,
            user_id: user_id.map(|id| truncate(Cow::Owned(id.into_owned()), NAME_CHARS_MAX)),
            timestamp: object.timestamp("timestamp")?,
            extra: Extra {
                user_agent: bounded("user_agent", NAME_CHARS_MAX * 5)?,
                session_id: bounded("session_id", NAME_CHARS_MAX)?,
                release: release.clone(),
                context: context.and_then(|context| RawValue::from_string(context.to_owned()).ok()),
                frames: None,
                skipped_frames: None,
            },
            release,
        })
    }
}

/// Truncates a string to at most `chars_max` characters.
pub(super) fn truncate(string: Cow<'_, str>, chars_max: usize) -> Cow<'_, str> {
    match string.char_indices().nth(chars_max) {
        None => string,
        Some((end, _)) => match string {
            Cow::Borrowed(string) => Cow::Borrowed(&string[..end]),
            Cow::Owned(mut string) => {
                string.truncate(end);
                Cow::Owned(string)
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn errors_are_converted_to_the_format_of_the_tracker() {
        let body = br#"{"type":"TypeError","message":"x is undefined","stack":"TypeError: x\n    at f (https://a/b.js:1:2)",
            "url":"https://a/cart?x=1","user_agent":"UA","session_id":"s1","release":"1.0","environment":"prod","context":{"user_id":7,"level":"warning"}}"#;
        let report = serde_json::to_value(TrackerReport::parse(body, "shop").unwrap()).unwrap();
        let expected = serde_json::json!({
            "project": "shop", "exception_type": "TypeError", "message": "x is undefined",
            "traceback": "TypeError: x\n    at f (https://a/b.js:1:2)", "environment": "prod", "release": "1.0",
            "request_url": "https://a/cart?x=1", "request_method": "BROWSER", "user_id": "7",
            "extra": { "user_agent": "UA", "session_id": "s1", "release": "1.0", "context": { "user_id": 7, "level": "warning" } },
        });
        assert_eq!(report, expected);
    }

    #[test]
    fn fields_are_optional_and_truncated() {
        let report = TrackerReport::parse(br#"{"message":"","type":""}"#, "shop").unwrap();
        assert_eq!((&*report.exception_type, &*report.traceback), ("Error", ""));
        let long = format!(r#"{{"message":"m","type":"{0}","stack":"{1}"}}"#, "\u{fc}".repeat(300), "s".repeat(70_000));
        let report = TrackerReport::parse(long.as_bytes(), "shop").unwrap();
        assert_eq!((report.exception_type.chars().count(), report.traceback.len()), (200, STACK_CHARS_MAX));
        for body in
            ["", "[]", "{}", r#"{"message":7}"#, r#"{"message":"m","context":[]}"#, r#"{"message":"m","stack":{}}"#]
        {
            assert!(TrackerReport::parse(body.as_bytes(), "shop").is_err(), "{body}");
        }
    }

    #[test]
    fn context_nesting_leaves_room_for_the_enclosing_report() {
        let report = |levels: usize| {
            format!(r#"{{"message":"m","context":{}1{}}}"#, r#"{"a":"#.repeat(levels), "}".repeat(levels))
        };
        assert!(TrackerReport::parse(report(CONTEXT_LEVELS_MAX).as_bytes(), "shop").is_ok());
        let why = TrackerReport::parse(report(CONTEXT_LEVELS_MAX + 1).as_bytes(), "shop").unwrap_err();
        assert_eq!(why.to_string(), "Field 'context' must be nested at most 62 levels deep");
    }

    proptest! {
        #[test]
        fn arbitrary_bodies_never_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = TrackerReport::parse(&body, "p");
        }
    }
}
