//! Validation of the reports of web pages, and conversion to the formats of the error tracker and the metrics collector.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::json::{self, JsonObject};
use crate::records::report::{BROWSER_METHOD, NAME_CHARS_MAX, TYPE_CHARS_MAX, URL_CHARS_MAX};

/// Maximum length of a stack trace. Longer ones come from endless recursion.
const STACK_CHARS_MAX: usize = 64 * 1024;
/// Type of errors without one, for example of a promise rejected with a string.
const TYPE_DEFAULT: &str = "Error";
const METRICS_MAX: usize = 1_000;
const LABELS_MAX: usize = 24;
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
            },
            release,
        })
    }
}

/// Truncates a string to at most `chars_max` characters.
fn truncate(string: Cow<'_, str>, chars_max: usize) -> Cow<'_, str> {
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

/// Converts the metrics of a page to the format of the metrics collector. Every point gets the labels `project` and
/// `source=browser`, and `page` and `session_id` if the request has them; pages cannot override these.
///
/// # Errors
/// [`Error::Invalid`], naming the item and the field.
pub(super) fn convert_metrics(body: &[u8], project: &str) -> Result<Vec<u8>> {
    let text = json::checked_text(body)?;
    let mut request: Map<String, Value> =
        serde_json::from_str(text).map_err(|why| Error::Invalid(format!("The body is not a JSON object: {why}")))?;
    let string = |name: &str| request.get(name).and_then(Value::as_str).filter(|value| !value.is_empty());
    let page = string("url").map(|url| truncate(url_path(url).into(), NAME_CHARS_MAX).into_owned());
    let session = string("session_id").map(|id| truncate(id.into(), NAME_CHARS_MAX).into_owned());
    let Some(Value::Array(items)) = request.remove("metrics") else {
        return Err(Error::field("metrics", "must be an array"));
    };
    if !(1..=METRICS_MAX).contains(&items.len()) {
        return Err(Error::field("metrics", format_args!("must have 1-{METRICS_MAX} items")));
    }
    let common_labels = [
        ("project", Some(project)),
        ("source", Some("browser")),
        ("page", page.as_deref()),
        ("session_id", session.as_deref()),
    ];
    let common_labels: Map<String, Value> =
        common_labels.into_iter().filter_map(|(name, value)| Some((name.into(), value?.into()))).collect();
    let points = items.into_iter().enumerate().map(|(index, item)| {
        let mut point = convert_point(item).map_err(|why| Error::Invalid(format!("Item {index}: {why}")))?;
        if let Some(Value::Object(labels)) = point.get_mut("labels") {
            labels.extend(common_labels.clone());
        }
        point.insert("project".into(), project.into());
        Ok(point)
    });
    let points: Vec<_> = points.collect::<Result<_>>()?;
    serde_json::to_vec(&points).map_err(|why| Error::Internal(format!("cannot serialize points: {why}")))
}

/// Converts one item to a point with labels. Returns an error message that names the field.
fn convert_point(item: Value) -> std::result::Result<Map<String, Value>, String> {
    let Value::Object(mut item) = item else { return Err("must be an object".into()) };
    let string = |name: &str| item.get(name).and_then(Value::as_str).unwrap_or_default();
    if !(1..=NAME_CHARS_MAX).contains(&string("name").chars().count()) {
        return Err(format!("field 'name' must be 1-{NAME_CHARS_MAX} characters"));
    }
    if !["counter", "gauge", "histogram"].contains(&string("type")) {
        return Err("field 'type' must be counter, histogram or gauge".into());
    }
    if !item.get("value").and_then(Value::as_f64).is_some_and(f64::is_finite) {
        return Err("field 'value' must be a finite number".into());
    }
    // The collector would reject an invalid timestamp, possibly long after the page received 202.
    let timestamp = item.get("timestamp").filter(|timestamp| !timestamp.is_null());
    if timestamp.is_some_and(|timestamp| timestamp.as_str().and_then(Timestamp::parse).is_none()) {
        return Err("field 'timestamp' must be a time such as 2026-01-31T12:00:00Z".into());
    }
    let labels = match item.remove("labels") {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(labels)) if labels.len() <= LABELS_MAX => labels,
        Some(_) => return Err(format!("field 'labels' must be an object with at most {LABELS_MAX} members")),
    };
    let labels: Map<String, Value> = labels.into_iter().map(convert_label).collect::<std::result::Result<_, _>>()?;
    let members = ["name", "type", "value", "timestamp"].map(|name| (name.to_owned(), item.remove(name)));
    let mut point: Map<String, Value> = members.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
    point.insert("labels".into(), labels.into());
    Ok(point)
}

fn convert_label((name, value): (String, Value)) -> std::result::Result<(String, Value), String> {
    if !(1..=NAME_CHARS_MAX).contains(&name.chars().count()) {
        return Err(format!("field 'labels' must have names of 1-{NAME_CHARS_MAX} characters"));
    }
    match value {
        Value::Array(_) | Value::Object(_) => {
            Err("field 'labels' must contain only strings, numbers and booleans".into())
        }
        Value::String(string) => Ok((name, truncate(Cow::Owned(string), NAME_CHARS_MAX).into_owned().into())),
        scalar => Ok((name, scalar)),
    }
}

/// Returns the path of a URL, without query and fragment.
fn url_path(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest.find('/').map_or("/", |at| &rest[at..]));
    rest.split(['?', '#']).next().filter(|path| !path.is_empty()).unwrap_or("/")
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

    #[test]
    fn pages_cannot_override_common_labels() {
        let body = br#"{"metrics":[{"name":"n","type":"counter","value":1,"labels":{"project":"other","a":true},"project":"other"}],
            "url":"https://a/user/7?q#f","session_id":"s"}"#;
        let points: Value = serde_json::from_slice(&convert_metrics(body, "shop").unwrap()).unwrap();
        let labels = serde_json::json!({ "project": "shop", "source": "browser", "page": "/user/7", "session_id": "s", "a": true });
        assert_eq!(
            points,
            serde_json::json!([{ "name": "n", "type": "counter", "value": 1, "labels": labels, "project": "shop" }])
        );
        let bare: Value = serde_json::from_slice(
            &convert_metrics(
                br#"{"metrics":[{"name":"n","type":"gauge","value":1.5,"labels":{"page":"/x"}}]}"#,
                "shop",
            )
            .unwrap(),
        )
        .unwrap();
        assert_eq!(bare[0]["labels"], serde_json::json!({ "project": "shop", "source": "browser", "page": "/x" }));
    }

    #[test]
    fn invalid_points_are_reported_by_item_and_field() {
        for (item, message) in [
            ("7", "Item 0: must be an object"),
            (r#"{"type":"counter","value":1}"#, "Item 0: field 'name'"),
            (r#"{"name":"n","type":"x","value":1}"#, "Item 0: field 'type'"),
            (r#"{"name":"n","type":"gauge","value":"1"}"#, "Item 0: field 'value'"),
            (r#"{"name":"n","type":"gauge","value":1,"labels":{"a":[]}}"#, "Item 0: field 'labels'"),
            (r#"{"name":"n","type":"gauge","value":1,"labels":{"":1}}"#, "Item 0: field 'labels'"),
            (r#"{"name":"n","type":"gauge","value":1,"timestamp":7}"#, "Item 0: field 'timestamp'"),
            (r#"{"name":"n","type":"gauge","value":1,"timestamp":"now"}"#, "Item 0: field 'timestamp'"),
        ] {
            let why = convert_metrics(format!(r#"{{"metrics":[{item}]}}"#).as_bytes(), "shop").unwrap_err().to_string();
            assert!(why.contains(message), "{why}");
        }
        for body in ["", "[]", "{}", r#"{"metrics":[]}"#, r#"{"metrics":{}}"#] {
            assert!(convert_metrics(body.as_bytes(), "shop").is_err(), "{body}");
        }
    }

    #[test]
    fn url_path_excludes_host_query_and_fragment() {
        for (url, expected) in
            [("https://a/b/c?d#e", "/b/c"), ("https://a", "/"), ("/x?y", "/x"), ("", "/"), ("#", "/")]
        {
            assert_eq!(url_path(url), expected, "{url}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bodies_never_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = (TrackerReport::parse(&body, "p"), convert_metrics(&body, "p"));
        }
    }
}
