//! Conversion of the metrics of web pages to the format of the metrics collector.
//!
//! Labels that all points of a request share are written with each point and never held for each point in memory, because
//! a request of 40 KB can become megabytes.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::bounded_json::{BoundedJson, Full};
use super::report::truncate;
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::json::JsonObject;
use crate::records::report::NAME_CHARS_MAX;

const METRICS_MAX: usize = 1_000;
const LABELS_MAX: usize = 24;
/// Bytes that a point gains besides the shared labels: names of members, quotes and brackets.
const POINT_OVERHEAD_BYTES: usize = 40;

/// Converts the metrics of a page. Every point gets the labels `project` and `source=browser`, and `page` and `session_id`
/// if the request has them; pages cannot override these. `bytes_max` is the maximum size of the result.
///
/// # Errors
/// [`Error::Invalid`], naming the item and the field; [`Error::TooLargeToForward`] if the result exceeds `bytes_max`.
pub(super) fn convert_metrics(body: &[u8], project: &str, bytes_max: usize) -> Result<Vec<u8>> {
    let request = JsonObject::parse(body)?;
    // Values other than strings are ignored.
    let string = |name: &str| request.string(name).ok().flatten().filter(|value| !value.is_empty());
    let page = string("url").map(|url| truncate(Cow::Borrowed(url_path(&url)), NAME_CHARS_MAX).into_owned());
    let session = string("session_id").map(|id| truncate(id, NAME_CHARS_MAX));
    let items = request.array("metrics", METRICS_MAX)?.ok_or_else(|| Error::field("metrics", "must be an array"))?;
    let labels = [
        ("project", Some(project)),
        ("source", Some("browser")),
        ("page", page.as_deref()),
        ("session_id", session.as_deref()),
    ];
    let labels = labels.into_iter().filter_map(|(name, value)| Some((name, value?)));
    let shared = SharedLabels::new(labels.collect(), project)?;
    let too_large = || {
        let count = items.len();
        Error::TooLargeToForward(format!(
            "The {count} metrics exceed {bytes_max} bytes with the labels that the relay adds to each of them, and the \
             metrics collector would reject them; send fewer metrics in a request"
        ))
    };
    // Known before anything is written.
    if items.len() * shared.json.len() > bytes_max {
        return Err(too_large());
    }
    let mut points = BoundedJson::new(body.len() + items.len() * (shared.json.len() + POINT_OVERHEAD_BYTES), bytes_max);
    for (index, item) in items.iter().enumerate() {
        let item = Item::parse(item).map_err(|why| Error::Invalid(format!("Item {index}: {why}")))?;
        let separator = if index == 0 { "[" } else { "," };
        points.push(separator).and_then(|()| item.write(&mut points, &shared)).map_err(|Full| too_large())?;
    }
    points.push("]").map_err(|Full| too_large())?;
    Ok(points.into_bytes())
}

/// The labels that all points of a request share.
struct SharedLabels<'a> {
    labels: BTreeMap<&'static str, &'a str>,
    /// The members, the end of the labels, and the end of the point.
    json: String,
}

impl<'a> SharedLabels<'a> {
    fn new(labels: BTreeMap<&'static str, &'a str>, project: &str) -> Result<Self> {
        let internal = |why| Error::Internal(format!("cannot serialize labels: {why}"));
        let members = serde_json::to_string(&labels).map_err(internal)?;
        let project = serde_json::to_string(project).map_err(internal)?;
        let json = format!("{},\"project\":{project}}}", members.trim_start_matches('{'));
        Ok(Self { labels, json })
    }
}

/// A valid item of a request, as JSON.
struct Item<'a> {
    name: &'a str,
    kind: &'a str,
    value: &'a str,
    timestamp: Option<&'a str>,
    labels: Vec<(String, Cow<'a, str>)>,
}

impl<'a> Item<'a> {
    /// Parses one item. Returns an error message that names the field.
    fn parse(json: &'a str) -> std::result::Result<Self, String> {
        if !json.starts_with('{') {
            return Err("must be an object".into());
        }
        let item = JsonObject::parse_checked(json).map_err(|_| "must be an object with at most 1000 fields")?;
        let string = |name: &str| item.string(name).ok().flatten().unwrap_or_default();
        if !(1..=NAME_CHARS_MAX).contains(&string("name").chars().count()) {
            return Err(format!("field 'name' must be 1-{NAME_CHARS_MAX} characters"));
        }
        if !["counter", "gauge", "histogram"].contains(&&*string("type")) {
            return Err("field 'type' must be counter, histogram or gauge".into());
        }
        let value = item.json("value").filter(|value| is_finite_number(value));
        let value = value.ok_or("field 'value' must be a finite number")?;
        // The collector would reject an invalid timestamp, possibly long after the page received 202.
        let timestamp = item.json("timestamp");
        if timestamp.is_some() && Timestamp::parse(&string("timestamp")).is_none() {
            return Err("field 'timestamp' must be a time such as 2026-01-31T12:00:00Z".into());
        }
        let labels = match item.json("labels") {
            None => Vec::new(),
            Some(labels) => parse_labels(labels)?,
        };
        let member = |name| item.json(name).unwrap_or_default();
        Ok(Self { name: member("name"), kind: member("type"), value, timestamp, labels })
    }

    /// Appends the point with its own labels and the shared ones.
    fn write(&self, points: &mut BoundedJson, shared: &SharedLabels<'_>) -> std::result::Result<(), Full> {
        for part in ["{\"name\":", self.name, ",\"type\":", self.kind, ",\"value\":", self.value] {
            points.push(part)?;
        }
        if let Some(timestamp) = self.timestamp {
            points.push(",\"timestamp\":")?;
            points.push(timestamp)?;
        }
        points.push(",\"labels\":{")?;
        for (index, (name, value)) in self.labels.iter().enumerate() {
            // The last of several labels with the same name counts.
            let is_repeated = self.labels[index + 1..].iter().any(|(later, _)| later == name);
            if is_repeated || shared.labels.contains_key(name.as_str()) {
                continue;
            }
            points.push(&serde_json::to_string(name).map_err(|_| Full)?)?;
            points.push(":")?;
            points.push(value)?;
            points.push(",")?;
        }
        points.push(&shared.json)
    }
}

/// Parses the labels of an item into their names and the JSON of their values. Returns an error message.
fn parse_labels(json: &str) -> std::result::Result<Vec<(String, Cow<'_, str>)>, String> {
    let rule = || format!("field 'labels' must be an object with at most {LABELS_MAX} members");
    let object = JsonObject::parse_checked(json).map_err(|_| rule())?;
    if object.members().count() > LABELS_MAX {
        return Err(rule());
    }
    object.members().map(|(name, value)| Ok((label_name(name)?, label_value(value)?))).collect()
}

fn label_name(name: &str) -> std::result::Result<String, String> {
    if (1..=NAME_CHARS_MAX).contains(&name.chars().count()) {
        return Ok(name.to_owned());
    }
    Err(format!("field 'labels' must have names of 1-{NAME_CHARS_MAX} characters"))
}

/// Returns the JSON of a label's value, which is truncated if it is a long string.
fn label_value(json: &str) -> std::result::Result<Cow<'_, str>, String> {
    let rule = "field 'labels' must contain only strings, numbers and booleans";
    // A string has at most as many characters as its JSON has bytes.
    if json.starts_with('"') && json.len() > NAME_CHARS_MAX {
        let string: String = serde_json::from_str(json).map_err(|_| rule)?;
        let string = truncate(Cow::Owned(string), NAME_CHARS_MAX);
        return serde_json::to_string(&string).map(Cow::Owned).map_err(|_| rule.into());
    }
    let is_word = ["true", "false", "null"].contains(&json);
    if json.starts_with('"') || is_word || is_finite_number(json) { Ok(Cow::Borrowed(json)) } else { Err(rule.into()) }
}

/// Whether a JSON value is a number that a 64-bit floating-point number can represent.
fn is_finite_number(json: &str) -> bool {
    let is_number = json.starts_with(|first: char| first == '-' || first.is_ascii_digit());
    is_number && json.parse().is_ok_and(f64::is_finite)
}

/// Returns the path of a URL, without query and fragment.
fn url_path(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest.find('/').map_or("/", |at| &rest[at..]));
    rest.split(['?', '#']).next().filter(|path| !path.is_empty()).unwrap_or("/")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    const BYTES_MAX: usize = 512 * 1024;

    fn convert(body: &str) -> Value {
        serde_json::from_slice(&convert_metrics(body.as_bytes(), "shop", BYTES_MAX).unwrap()).unwrap()
    }

    #[test]
    fn pages_cannot_override_common_labels() {
        let body = r#"{"metrics":[{"name":"n","type":"counter","value":1,"labels":{"project":"other","a":true},"project":"other"}],
            "url":"https://a/user/7?q#f","session_id":"s"}"#;
        let points = convert(body);
        let labels = serde_json::json!({ "project": "shop", "source": "browser", "page": "/user/7", "session_id": "s", "a": true });
        assert_eq!(
            points,
            serde_json::json!([{ "name": "n", "type": "counter", "value": 1, "labels": labels, "project": "shop" }])
        );
        let bare = convert(r#"{"metrics":[{"name":"n","type":"gauge","value":1.5,"labels":{"page":"/x"}}]}"#);
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
            let why = convert_metrics(format!(r#"{{"metrics":[{item}]}}"#).as_bytes(), "shop", BYTES_MAX);
            let why = why.unwrap_err().to_string();
            assert!(why.contains(message), "{why}");
        }
        for body in ["", "[]", "{}", r#"{"metrics":[]}"#, r#"{"metrics":{}}"#] {
            assert!(convert_metrics(body.as_bytes(), "shop", BYTES_MAX).is_err(), "{body}");
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

    #[test]
    fn labels_are_kept_as_they_are_sent_or_truncated() {
        let long = "\u{1F600}".repeat(201);
        let points = convert(&format!(
            r#"{{"url":7,"session_id":{{}},"metrics":[{{"name":"a\u0041","type":"gauge","value":-1e3,"timestamp":null,
                "labels":{{"a":"x\n","b":1.50,"a":"\"y","source":"me","c":null,"d":"{long}"}}}}]}}"#
        ));
        let labels = serde_json::json!({
            "a": "\"y", "b": 1.5, "c": null, "d": "\u{1F600}".repeat(200), "project": "shop", "source": "browser",
        });
        let point =
            serde_json::json!([{ "name": "aA", "type": "gauge", "value": -1e3, "labels": labels, "project": "shop" }]);
        assert_eq!(points, point);
    }

    #[test]
    fn labels_that_multiply_a_request_are_rejected_before_they_are_written() {
        let item = r#"{"name":"a","type":"gauge","value":1}"#;
        let body = |items: usize, long: &str| {
            format!(r#"{{"metrics":[{}],"url":"https://x/{long}","session_id":"{long}"}}"#, vec![item; items].join(","))
        };
        for long in ["\u{1F600}".repeat(200), "\\u0001".repeat(200)] {
            let why = convert_metrics(body(1_000, &long).as_bytes(), "shop", BYTES_MAX).unwrap_err();
            assert!(matches!(&why, Error::TooLargeToForward(sentence) if sentence.contains("send fewer")), "{why}");
            assert!(convert_metrics(body(150, &long).as_bytes(), "shop", BYTES_MAX).is_ok());
        }
        let ordinary = body(1_000, "0123456789abcdef0123456789abcdef");
        assert!(convert_metrics(ordinary.as_bytes(), "shop", BYTES_MAX).unwrap().len() < BYTES_MAX / 2);
        let exact = convert_metrics(body(3, "x").as_bytes(), "shop", BYTES_MAX).unwrap();
        assert_eq!(convert_metrics(body(3, "x").as_bytes(), "shop", exact.len()).unwrap(), exact);
        assert!(convert_metrics(body(3, "x").as_bytes(), "shop", exact.len() - 1).is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_bodies_never_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = convert_metrics(&body, "p", BYTES_MAX);
        }
    }
}
