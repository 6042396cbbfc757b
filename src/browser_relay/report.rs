//! Validation of the error reports of web pages, and conversion to the format of the error tracker.

use std::borrow::Cow;
use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;

use super::page_json::{PageJson, prune};
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::json::JsonObject;
use crate::records::optional_fields::OptionalFields;
use crate::records::report::{BROWSER_METHOD, NAME_CHARS_MAX, ReportLevel, TYPE_CHARS_MAX, URL_CHARS_MAX};

/// Maximum length of a stack trace. Longer ones come from endless recursion.
const STACK_CHARS_MAX: usize = 64 * 1024;
/// Type of errors without one, for example of a promise rejected with a string.
const TYPE_DEFAULT: &str = "Error";
/// Maximum nesting of `context`. The error tracker allows 64 levels, two of which are the report and `extra`.
const CONTEXT_LEVELS_MAX: usize = 62;
/// Maximum difference between a page's clock and ours. Beyond it, the page's clock is wrong.
const CLOCK_ERROR_MAX: Duration = Duration::from_secs(86_400);
/// Maximum number of parts of a fingerprint, and of characters in each of them.
const FINGERPRINT_PARTS_MAX: usize = 10;
const FINGERPRINT_PART_CHARS_MAX: usize = 200;
/// Maximum length of an idempotency key, as in the header `Idempotency-Key`.
const IDEMPOTENCY_KEY_CHARS_MAX: usize = 64;
/// Fields of a page's report that are read.
const FIELDS: [&str; 12] = [
    "type",
    "message",
    "stack",
    "url",
    "user_agent",
    "session_id",
    "release",
    "environment",
    "fingerprint",
    "context",
    "timestamp",
    "idempotency_key",
];

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
    level: Option<&'static str>,
    /// The grouping that the page asked for; the error tracker reads it.
    #[serde(skip_serializing_if = "Option::is_none")]
    fingerprint: Option<Vec<String>>,
    timestamp: Timestamp,
    pub(super) extra: Extra<'a>,
    /// Key that identifies a repeated request, if the body has one.
    #[serde(skip)]
    pub(super) idempotency_key: Option<String>,
    /// Names of the page's fields whose value was repaired, truncated or dropped.
    #[serde(skip)]
    pub(super) adjusted: Vec<&'static str>,
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
    /// Parses the report of a page that arrived at `now`. Everything but `type` and `message` is repaired or dropped if it is
    /// unusable.
    ///
    /// # Errors
    /// [`Error::Invalid`], naming the field.
    pub(super) fn parse(page: &'a PageJson<'_>, project: &'a str, now: Timestamp) -> Result<Self> {
        let object = JsonObject::parse_checked(page.as_str())?;
        let mut fields = OptionalFields::new(&object, prefix);
        object.string("type")?;
        let exception_type = fields.string("type", TYPE_CHARS_MAX).filter(|name| !name.is_empty());
        let message = object.string("message")?.ok_or_else(|| Error::field("message", "is required"))?;
        let (timestamp, is_page_time) = page_time(&object, now);
        fields.record_if("timestamp", !is_page_time);
        let context = fields.object("context").map(|context| prune(context, CONTEXT_LEVELS_MAX));
        fields.record_if("context", matches!(context, Some(Cow::Owned(_))));
        let (user_id, level) = user_and_level(context.as_deref(), &mut fields);
        let fingerprint = fields.strings("fingerprint", FINGERPRINT_PARTS_MAX, FINGERPRINT_PART_CHARS_MAX);
        let idempotency_key = idempotency_key(&mut fields);
        let mut bounded = |name, chars_max| -> Option<Cow<'a, str>> {
            fields.string(name, chars_max).filter(|value| !value.is_empty())
        };
        let (stack, request_url) = (bounded("stack", STACK_CHARS_MAX), bounded("url", URL_CHARS_MAX));
        let (user_agent, session_id) =
            (bounded("user_agent", NAME_CHARS_MAX * 5), bounded("session_id", NAME_CHARS_MAX));
        let (release, environment) = (bounded("release", NAME_CHARS_MAX), bounded("environment", NAME_CHARS_MAX));
        for name in FIELDS {
            fields.record_if(name, object.json(name).is_some_and(|json| page.is_repaired(json)));
        }
        Ok(Self {
            project,
            exception_type: exception_type.unwrap_or(Cow::Borrowed(TYPE_DEFAULT)),
            message,
            traceback: stack.unwrap_or_default(),
            environment,
            request_url,
            request_method: BROWSER_METHOD,
            user_id: user_id.map(Cow::Owned),
            level,
            fingerprint,
            timestamp,
            extra: Extra {
                user_agent,
                session_id,
                release: release.clone(),
                context: context.and_then(|context| RawValue::from_string(context.into_owned()).ok()),
                frames: None,
                skipped_frames: None,
            },
            release,
            idempotency_key,
            adjusted: fields.into_adjusted(),
        })
    }
}

/// Returns the time of an error or a measurement, and whether it is the page's. The arrival replaces a time that is missing,
/// unreadable or implausible; a missing one counts as the page's.
pub(super) fn page_time(object: &JsonObject<'_>, now: Timestamp) -> (Timestamp, bool) {
    let plausible = now - CLOCK_ERROR_MAX..=now + CLOCK_ERROR_MAX;
    match object.timestamp("timestamp") {
        Ok(None) => (now, true),
        Ok(Some(sent)) if plausible.contains(&sent) => (sent, true),
        _ => (now, false),
    }
}

/// Returns the idempotency key in the body of a page, for `sendBeacon`, which cannot set headers. A key that is too long is
/// dropped: if it were truncated, two reports could have the same.
pub(super) fn idempotency_key(fields: &mut OptionalFields<'_, '_>) -> Option<String> {
    let name = "idempotency_key";
    let sent = fields.string(name, usize::MAX).filter(|key| !key.is_empty())?;
    let key = Some(sent).filter(|key| key.chars().count() <= IDEMPOTENCY_KEY_CHARS_MAX);
    fields.record_if(name, key.is_none());
    key.map(Cow::into_owned)
}

/// Returns the user and the level that the context of a report names.
fn user_and_level(
    context: Option<&str>,
    fields: &mut OptionalFields<'_, '_>,
) -> (Option<String>, Option<&'static str>) {
    let Some(Ok(context)) = context.map(JsonObject::parse_checked) else { return (None, None) };
    let level = context.string("level").ok().flatten().and_then(|name| ReportLevel::from_name(&name));
    let mut members = OptionalFields::new(&context, prefix);
    let user_id = members.user_id("user_id", NAME_CHARS_MAX).map(Cow::into_owned);
    fields.record_if("user_id", !members.into_adjusted().is_empty());
    (user_id, level.map(ReportLevel::name))
}

/// Returns at most the first `chars_max` characters of a string.
pub(super) fn prefix(string: &str, chars_max: usize) -> Cow<'_, str> {
    let end = string.char_indices().nth(chars_max).map_or(string.len(), |(end, _)| end);
    Cow::Borrowed(&string[..end])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    const NOW: &str = "2026-01-31T12:00:00Z";

    /// Returns the report in the format of the tracker, and the names of the adjusted fields.
    fn convert(body: &str) -> Result<(Value, Vec<&'static str>)> {
        let page = PageJson::new(body.as_bytes())?;
        let report = TrackerReport::parse(&page, "shop", Timestamp::parse(NOW).unwrap())?;
        Ok((serde_json::to_value(&report).unwrap(), report.adjusted))
    }

    #[test]
    fn errors_are_converted_to_the_format_of_the_tracker() {
        let body = r#"{"type":"TypeError","message":"x is undefined","stack":"TypeError: x\n    at f (https://a/b.js:1:2)",
            "url":"https://a/cart?x=1","user_agent":"UA","session_id":"s1","release":"1.0","environment":"prod","context":{"user_id":7,"level":"warning"},
            "fingerprint":["cart"]}"#;
        let expected = json!({
            "project": "shop", "exception_type": "TypeError", "message": "x is undefined",
            "traceback": "TypeError: x\n    at f (https://a/b.js:1:2)", "environment": "prod", "release": "1.0",
            "request_url": "https://a/cart?x=1", "request_method": "BROWSER", "user_id": "7", "level": "warning",
            "fingerprint": ["cart"], "timestamp": NOW,
            "extra": { "user_agent": "UA", "session_id": "s1", "release": "1.0", "context": { "user_id": 7, "level": "warning" } },
        });
        assert_eq!(convert(body).unwrap(), (expected, vec![]));
    }

    #[test]
    fn fields_are_optional_and_truncated() {
        let (report, adjusted) = convert(r#"{"message":"","type":""}"#).unwrap();
        assert_eq!((&report["exception_type"], &report["traceback"]), (&json!("Error"), &json!("")));
        assert!(adjusted.is_empty(), "{adjusted:?}");
        let long = format!(r#"{{"message":"m","type":"{0}","stack":"{1}"}}"#, "\u{fc}".repeat(300), "s".repeat(70_000));
        let (report, adjusted) = convert(&long).unwrap();
        let chars = |name: &str| report[name].as_str().unwrap().chars().count();
        assert_eq!((chars("exception_type"), chars("traceback")), (200, STACK_CHARS_MAX));
        assert_eq!(adjusted, ["type", "stack"]);
    }

    #[test]
    fn only_type_and_message_are_rejected() {
        for body in
            ["", "[]", "{}", r#"{"message":7}"#, r#"{"message":null}"#, r#"{"message":"m","type":5}"#, "{\"message\":"]
        {
            assert!(convert(body).is_err(), "{body}");
        }
    }

    #[test]
    fn unusable_values_are_repaired_or_dropped_and_named() {
        let deep = |levels: usize| format!("{}1{}", r#"{"a":"#.repeat(levels), "}".repeat(levels));
        for (members, adjusted, field, value) in [
            (r#""url":5"#, "url", "/request_url", json!("5")),
            (r#""stack":{}"#, "stack", "/traceback", json!("")),
            (r#""release":142"#, "release", "/release", json!("142")),
            (r#""environment":[1]"#, "environment", "/environment", Value::Null),
            (r#""session_id":7"#, "session_id", "/extra/session_id", json!("7")),
            (r#""context":[]"#, "context", "/extra/context", Value::Null),
            (r#""context":{"user_id":{"id":7,"email":"e"}}"#, "user_id", "/user_id", json!("7")),
            (r#""context":{"user_id":{"email":"e"}}"#, "user_id", "/user_id", Value::Null),
            (r#""context":{"user_id":true}"#, "user_id", "/user_id", json!("true")),
            (r#""fingerprint":["{{ default }}","eve"]"#, "", "/fingerprint", json!(["{{ default }}", "eve"])),
            (r#""fingerprint":[7,{},"cart"]"#, "fingerprint", "/fingerprint", json!(["7", "cart"])),
            (r#""fingerprint":"cart""#, "fingerprint", "/fingerprint", json!(["cart"])),
            (r#""fingerprint":[]"#, "", "/fingerprint", Value::Null),
            (r#""fingerprint":{"a":1}"#, "fingerprint", "/fingerprint", Value::Null),
            (r#""fingerprint":["a\ud800"]"#, "fingerprint", "/fingerprint/0", json!("a\u{fffd}")),
            (
                &format!(r#""fingerprint":["{}"]"#, "x".repeat(201)),
                "fingerprint",
                "/fingerprint/0",
                json!("x".repeat(200)),
            ),
            (&format!(r#""fingerprint":[{}1]"#, "1,".repeat(10)), "fingerprint", "/fingerprint/9", json!("1")),
            (&format!(r#""fingerprint":[{}1]"#, "1,".repeat(10)), "fingerprint", "/fingerprint/10", Value::Null),
            (r#""idempotency_key":"k-1""#, "", "/idempotency_key", Value::Null),
            (r#""idempotency_key":{}"#, "idempotency_key", "/message", json!("m")),
            (r#""timestamp":1769860800000"#, "timestamp", "/timestamp", json!(NOW)),
            (r#""timestamp":"2015-01-01T00:00:00Z""#, "timestamp", "/timestamp", json!(NOW)),
            (r#""timestamp":"2026-02-01T12:00:01Z""#, "timestamp", "/timestamp", json!(NOW)),
            (r#""timestamp":"2026-01-30T12:00:00Z""#, "", "/timestamp", json!("2026-01-30T12:00:00Z")),
            (r#""message":"a\ud800\u0000b""#, "message", "/message", json!("a\u{fffd}\u{fffd}b")),
            (r#""context":{"\udc00":"\u0000"}"#, "context", "/extra/context", json!({ "\u{fffd}": "\u{fffd}" })),
            (r#""unknown":"\ud800""#, "", "/message", json!("m")),
            (&format!(r#""unknown":{}"#, deep(5_000)), "", "/message", json!("m")),
            (&format!(r#""context":{{"a":1,"b":{}}}"#, deep(5_000)), "context", "/extra/context/a", json!(1)),
            (&format!(r#""context":{}"#, deep(CONTEXT_LEVELS_MAX)), "", "/message", json!("m")),
            (&format!(r#""context":{}"#, deep(CONTEXT_LEVELS_MAX + 1)), "context", "/message", json!("m")),
            (r#""context":{"level":"loud"}"#, "", "/level", Value::Null),
            (r#""context":{"level":"fatal"}"#, "", "/level", json!("critical")),
        ] {
            let (report, named) = convert(&format!(r#"{{"message":"m",{members}}}"#)).unwrap();
            let members = &members[..members.len().min(80)];
            assert_eq!(named, Vec::from_iter((!adjusted.is_empty()).then_some(adjusted)), "{members}");
            assert_eq!(report.pointer(field), Some(&value).filter(|value| !value.is_null()), "{members}");
        }
    }

    #[test]
    fn idempotency_keys_in_bodies_have_1_to_64_characters() {
        let key_in = |json: &str| {
            let body = format!(r#"{{"message":"m","idempotency_key":{json}}}"#);
            let page = PageJson::new(body.as_bytes()).unwrap();
            let report = TrackerReport::parse(&page, "shop", Timestamp::parse(NOW).unwrap()).unwrap();
            (report.idempotency_key, report.adjusted)
        };
        let longest = "\u{fc}".repeat(64);
        for (json, key, adjusted) in [
            (r#""k-1""#, Some("k-1"), vec![]),
            (r#""""#, None, vec![]),
            ("null", None, vec![]),
            ("7", Some("7"), vec!["idempotency_key"]),
            ("[7]", None, vec!["idempotency_key"]),
            (&format!(r#""{longest}""#), Some(&*longest), vec![]),
            (&format!(r#""{longest}x""#), None, vec!["idempotency_key"]),
        ] {
            assert_eq!(key_in(json), (key.map(str::to_owned), adjusted), "{json}");
        }
    }

    #[test]
    fn context_with_very_many_members_is_kept() {
        let members: Vec<String> = (0..1_001).map(|n| format!(r#""{n}":0"#)).collect();
        let (report, _) = convert(&format!(r#"{{"message":"m","context":{{{}}}}}"#, members.join(","))).unwrap();
        assert_eq!(report["extra"]["context"].as_object().unwrap().len(), 1_001);
    }

    proptest! {
        #[test]
        fn arbitrary_bodies_never_panic(body in "[\\[\\]{}\"\\\\:,a-fu0-9é]{0,80}") {
            let _ = convert(&body);
        }
    }
}
