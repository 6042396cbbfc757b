//! Conversion of the metrics of web pages to the format of the metrics collector.
//!
//! Labels that all points of a request share are written with each point and never held for each point in memory, because
//! a request of 40 KB can become megabytes.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::bounded_json::{BoundedJson, Full};
use super::page_json::PageJson;
use super::report::{idempotency_key, page_time, prefix};
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::json::JsonObject;
use crate::page_path::fold_page_path;
use crate::records::optional_fields::OptionalFields;
use crate::records::report::NAME_CHARS_MAX;

const METRICS_MAX: usize = 1_000;
const LABELS_MAX: usize = 24;
/// Label with the path of the page.
const PAGE_LABEL: &str = "page";
/// Bytes that a point gains besides the shared labels: names of members, quotes and brackets.
const POINT_OVERHEAD_BYTES: usize = 40;

/// The metrics of a page in the format of the metrics collector.
#[derive(Debug)]
pub(super) struct ConvertedMetrics {
    pub(super) body: Vec<u8>,
    /// Key that identifies a repeated request, if the body has one.
    pub(super) idempotency_key: Option<String>,
    /// Names of the page's fields whose value was repaired, truncated or dropped.
    pub(super) adjusted: Vec<&'static str>,
}

/// Converts the metrics of a page, which arrived at `now`. Every point gets the labels `project` and `source=browser`, and
/// `page`, `session_id`, `environment` and `release` if the request has them; pages cannot override these. Ids in page paths are
/// folded. Unusable labels and times are repaired or dropped, and so are items without a usable name, type and value, if there
/// are others. `bytes_max` is the maximum size of the result.
///
/// # Errors
/// [`Error::Invalid`], naming the item and the field, if no item is usable; [`Error::TooLargeToForward`] if the result exceeds
/// `bytes_max`.
pub(super) fn convert_metrics(
    page: &PageJson<'_>,
    project: &str,
    bytes_max: usize,
    now: Timestamp,
) -> Result<ConvertedMetrics> {
    let request = JsonObject::parse_checked(page.as_str())?;
    let mut fields = OptionalFields::new(&request, prefix);
    let idempotency_key = idempotency_key(&mut fields);
    let url = request.string("url");
    fields.record_if("url", url.is_err());
    let url = url.ok().flatten().filter(|url| !url.is_empty());
    let path = url.map(|url| fold_page_path(&url, NAME_CHARS_MAX).into_owned());
    let [session, environment, release] = ["session_id", "environment", "release"]
        .map(|name| fields.string(name, NAME_CHARS_MAX).filter(|value| !value.is_empty()));
    let items = request.array("metrics", METRICS_MAX)?.ok_or_else(|| Error::field("metrics", "must be an array"))?;
    let labels = [
        ("project", Some(project)),
        ("source", Some("browser")),
        (PAGE_LABEL, path.as_deref()),
        ("session_id", session.as_deref()),
        ("environment", environment.as_deref()),
        ("release", release.as_deref()),
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
    let expected_bytes = page.as_str().len() + items.len() * (shared.json.len() + POINT_OVERHEAD_BYTES);
    let mut points = BoundedJson::new(expected_bytes, bytes_max);
    let (mut separator, mut first_error) = ("[", None);
    for (index, json) in items.iter().enumerate() {
        match Item::parse(json, now, &mut fields) {
            Ok(item) => {
                points.push(separator).and_then(|()| item.write(&mut points, &shared)).map_err(|Full| too_large())?;
                separator = ",";
            }
            Err(why) => _ = first_error.get_or_insert_with(|| Error::Invalid(format!("Item {index}: {why}"))),
        }
        fields.record_if("metrics", first_error.is_some() || page.is_repaired(json));
    }
    if let Some(error) = first_error.filter(|_| separator == "[") {
        return Err(error);
    }
    points.push("]").map_err(|Full| too_large())?;
    Ok(ConvertedMetrics { body: points.into_bytes(), idempotency_key, adjusted: fields.into_adjusted() })
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
    timestamp: Option<Cow<'a, str>>,
    labels: Vec<(String, Cow<'a, str>)>,
}

impl<'a> Item<'a> {
    /// Parses one item, and records which of its optional fields it repairs. Returns an error message that names the field.
    fn parse(json: &'a str, now: Timestamp, fields: &mut OptionalFields<'_, '_>) -> std::result::Result<Self, String> {
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
        let (timestamp, is_page_time) = page_time(&item, now);
        fields.record_if("timestamp", !is_page_time);
        let (labels, all_usable) = item.json("labels").map_or_else(|| (Vec::new(), true), parse_labels);
        fields.record_if("labels", !all_usable);
        let member = |name| item.json(name).unwrap_or_default();
        let timestamp = item.json("timestamp").map(|sent| match is_page_time {
            true => Cow::Borrowed(sent),
            false => Cow::Owned(format!("\"{timestamp}\"")),
        });
        Ok(Self { name: member("name"), kind: member("type"), value, timestamp, labels })
    }

    /// Appends the point with its own labels and the shared ones.
    fn write(&self, points: &mut BoundedJson, shared: &SharedLabels<'_>) -> std::result::Result<(), Full> {
        for part in ["{\"name\":", self.name, ",\"type\":", self.kind, ",\"value\":", self.value] {
            points.push(part)?;
        }
        if let Some(timestamp) = &self.timestamp {
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

/// Parses the labels of an item into their names and the JSON of their values. Leaves out unusable labels and those beyond the
/// maximum, and returns whether there are none.
fn parse_labels(json: &str) -> (Vec<(String, Cow<'_, str>)>, bool) {
    let Ok(object) = JsonObject::parse_checked(json) else { return (Vec::new(), false) };
    let is_name = |name: &str| (1..=NAME_CHARS_MAX).contains(&name.chars().count());
    let usable = object.members().filter(|(name, _)| is_name(name));
    let usable = usable.filter_map(|(name, value)| Some((name.to_owned(), label_value(name, value)?)));
    let labels: Vec<_> = usable.take(LABELS_MAX).collect();
    let all_usable = labels.len() == object.members().count();
    (labels, all_usable)
}

/// Returns the JSON of a label's value; `None` if it is not a scalar. A page path is folded, and a long string is truncated.
fn label_value<'a>(name: &str, json: &'a str) -> Option<Cow<'a, str>> {
    let is_page = name == PAGE_LABEL;
    // A string has at most as many characters as its JSON has bytes.
    if json.starts_with('"') && (is_page || json.len() > NAME_CHARS_MAX) {
        let string: String = serde_json::from_str(json).ok()?;
        let fold = if is_page { fold_page_path } else { prefix };
        return serde_json::to_string(&fold(&string, NAME_CHARS_MAX)).ok().map(Cow::Owned);
    }
    let is_word = ["true", "false", "null"].contains(&json);
    (json.starts_with('"') || is_word || is_finite_number(json)).then_some(Cow::Borrowed(json))
}

/// Whether a JSON value is a number that a 64-bit floating-point number can represent.
fn is_finite_number(json: &str) -> bool {
    let is_number = json.starts_with(|first: char| first == '-' || first.is_ascii_digit());
    is_number && json.parse().is_ok_and(f64::is_finite)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    const BYTES_MAX: usize = 512 * 1024;

    fn try_convert(body: &[u8], bytes_max: usize) -> Result<ConvertedMetrics> {
        convert_metrics(&PageJson::new(body)?, "shop", bytes_max, Timestamp::from_seconds(1_769_860_800))
    }

    fn convert(body: &str) -> Value {
        serde_json::from_slice(&try_convert(body.as_bytes(), BYTES_MAX).unwrap().body).unwrap()
    }

    #[test]
    fn pages_cannot_override_common_labels() {
        let body = r#"{"metrics":[{"name":"n","type":"counter","value":1,"labels":{"project":"other","a":true},"project":"other"}],
            "url":"https://a/user/7?q#f","session_id":"s"}"#;
        let points = convert(body);
        let labels = serde_json::json!({ "project": "shop", "source": "browser", "page": "/user/:id", "session_id": "s", "a": true });
        assert_eq!(
            points,
            serde_json::json!([{ "name": "n", "type": "counter", "value": 1, "labels": labels, "project": "shop" }])
        );
        let bare = convert(r#"{"metrics":[{"name":"n","type":"gauge","value":1.5,"labels":{"page":"/x"}}]}"#);
        assert_eq!(bare[0]["labels"], serde_json::json!({ "project": "shop", "source": "browser", "page": "/x" }));
    }

    #[test]
    fn idempotency_key_of_a_request_is_returned() {
        let point = r#"{"name":"n","type":"counter","value":1}"#;
        let key_in = |members: &str| {
            let converted = try_convert(format!(r#"{{"metrics":[{point}]{members}}}"#).as_bytes(), BYTES_MAX).unwrap();
            (converted.idempotency_key, converted.adjusted)
        };
        assert_eq!(key_in(r#","idempotency_key":"k-1""#), (Some("k-1".to_owned()), vec![]));
        assert_eq!(key_in(r#","idempotency_key":[]"#), (None, vec!["idempotency_key"]));
        assert_eq!(key_in(""), (None, vec![]));
    }

    #[test]
    fn requests_without_a_usable_item_are_rejected_by_item_and_field() {
        for (items, message) in [
            ("7", "Item 0: must be an object"),
            (r#"{"type":"counter","value":1}"#, "Item 0: field 'name'"),
            (r#"{"name":"n","type":"x","value":1},7"#, "Item 0: field 'type'"),
            (r#"{"name":"n","type":"gauge","value":"1"}"#, "Item 0: field 'value'"),
        ] {
            let why = try_convert(format!(r#"{{"metrics":[{items}]}}"#).as_bytes(), BYTES_MAX).unwrap_err().to_string();
            assert!(why.contains(message), "{why}");
        }
        for body in ["", "[]", "{}", r#"{"metrics":[]}"#, r#"{"metrics":{}}"#] {
            assert!(try_convert(body.as_bytes(), BYTES_MAX).is_err(), "{body}");
        }
    }

    #[test]
    fn unusable_parts_of_a_request_are_dropped_and_named() {
        let labels = |json: &str| format!(r#""labels":{json}"#);
        let many = (0..30).map(|n| format!(r#""l{n:02}":{n}"#)).collect::<Vec<_>>().join(",");
        for (member, adjusted, label_count) in [
            (labels(r#"{"a":1}"#), None, 1),
            (labels(r#"{"a":[],"b":2,"":1,"c":1e999}"#), Some("labels"), 1),
            (labels("[1]"), Some("labels"), 0),
            (labels(&format!("{{{many}}}")), Some("labels"), 24),
            (r#""timestamp":7"#.to_owned(), Some("timestamp"), 0),
            (r#""timestamp":"now""#.to_owned(), Some("timestamp"), 0),
            (r#""timestamp":"2026-01-29T12:00:00Z""#.to_owned(), Some("timestamp"), 0),
            (r#""timestamp":"2026-01-31T11:00:00.25Z""#.to_owned(), None, 0),
            (labels(r#"{"a":"\ud800"}"#), Some("metrics"), 1),
        ] {
            let item = format!(r#"{{"name":"n","type":"gauge","value":1,{member}}}"#);
            let converted = try_convert(format!(r#"{{"metrics":[{item}]}}"#).as_bytes(), BYTES_MAX).unwrap();
            assert_eq!(converted.adjusted, Vec::from_iter(adjusted), "{member}");
            let points: Value = serde_json::from_slice(&converted.body).unwrap();
            assert_eq!(points[0]["labels"].as_object().unwrap().len(), label_count + 2, "{points}");
            let arrival = adjusted.filter(|name| *name == "timestamp").map(|_| Value::from("2026-01-31T12:00:00Z"));
            assert!(arrival.is_none_or(|arrival| points[0]["timestamp"] == arrival), "{points}");
        }
        let items =
            r#"{"metrics":[{"name":"a","type":"gauge","value":1},7,{"name":"b","type":"gauge","value":2}],"url":7}"#;
        let converted = try_convert(items.as_bytes(), BYTES_MAX).unwrap();
        let points: Value = serde_json::from_slice(&converted.body).unwrap();
        assert_eq!((&points[0]["name"], &points[1]["name"]), (&Value::from("a"), &Value::from("b")));
        assert_eq!(converted.adjusted, ["url", "metrics"]);
    }

    #[test]
    fn page_paths_are_folded_in_the_request_and_in_the_labels_of_items() {
        let item =
            r#"{"name":"n","type":"gauge","value":1,"labels":{"page":"/reset/john%40a.example;s=1?x","to":"/user/7"}}"#;
        let labels = |more: &str| convert(&format!(r#"{{"metrics":[{item}]{more}}}"#))[0]["labels"].clone();
        assert_eq!(labels("")["page"], "/reset/:id");
        assert_eq!(labels("")["to"], "/user/7");
        assert_eq!(labels(r#","url":"https://shop.example/order/ORD-12345?x#y""#)["page"], "/order/:id");
        assert_eq!(labels(r#","url":"https://shop.example""#)["page"], "/");
    }

    #[test]
    fn environment_and_release_of_a_request_are_labels_of_all_its_points() {
        let items =
            r#"[{"name":"a","type":"gauge","value":1},{"name":"b","type":"gauge","value":1,"labels":{"release":"9"}}]"#;
        let points = |more: &str| convert(&format!(r#"{{"metrics":{items}{more}}}"#));
        let labelled = points(r#","environment":"staging","release":"1.4.2""#);
        for point in labelled.as_array().unwrap() {
            let labels = &point["labels"];
            assert_eq!((&labels["environment"], &labels["release"]), (&"staging".into(), &"1.4.2".into()));
        }
        for more in ["", r#","environment":"","release":{}"#, r#","environment":null,"release":["1"]"#] {
            let plain = points(more);
            assert_eq!(plain[0]["labels"], serde_json::json!({ "project": "shop", "source": "browser" }), "{more}");
            assert_eq!(plain[1]["labels"]["release"], "9", "{more}");
        }
        let long = points(&format!(r#","release":"{}""#, "\u{1F600}".repeat(201)));
        assert_eq!(long[0]["labels"]["release"].as_str().unwrap().chars().count(), 200);
    }

    #[test]
    fn labels_of_a_point_are_at_most_as_many_as_the_collector_accepts() {
        let labels: Vec<String> = (0..LABELS_MAX).map(|n| format!(r#""l{n}":1"#)).collect();
        let points = convert(&format!(
            r#"{{"url":"/a","session_id":"s","environment":"e","release":"r",
                "metrics":[{{"name":"n","type":"gauge","value":1,"labels":{{{}}}}}]}}"#,
            labels.join(",")
        ));
        assert!(points[0]["labels"].as_object().unwrap().len() <= crate::records::point::LABELS_MAX);
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
            let why = try_convert(body(1_000, &long).as_bytes(), BYTES_MAX).unwrap_err();
            assert!(matches!(&why, Error::TooLargeToForward(sentence) if sentence.contains("send fewer")), "{why}");
            assert!(try_convert(body(150, &long).as_bytes(), BYTES_MAX).is_ok());
        }
        let ordinary = body(1_000, "0123456789abcdef0123456789abcdef");
        assert!(try_convert(ordinary.as_bytes(), BYTES_MAX).unwrap().body.len() < BYTES_MAX / 2);
        let exact = try_convert(body(3, "x").as_bytes(), BYTES_MAX).unwrap().body;
        assert_eq!(try_convert(body(3, "x").as_bytes(), exact.len()).unwrap().body, exact);
        assert!(try_convert(body(3, "x").as_bytes(), exact.len() - 1).is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_bodies_never_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = try_convert(&body, BYTES_MAX);
        }
    }
}
