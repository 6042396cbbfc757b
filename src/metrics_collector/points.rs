//! What clients send: batches of points, read in one pass over the JSON without building a tree of it.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::json;

/// Points in one request.
const BATCH_POINTS_MAX: usize = 1_000;
const NAME_CHARS_MAX: usize = 200;
const PROJECT_CHARS_MAX: usize = 100;
const LABELS_MAX: usize = 32;
const LABEL_CHARS_MAX: usize = 200;

/// What a series measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Kind {
    /// Deltas, which are summed.
    Counter,
    /// Values, of which the last one counts.
    Gauge,
    /// Values, of which the distribution counts.
    Histogram,
}

impl Kind {
    /// As it is written outside.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }

    /// The kind of that name.
    pub(super) fn named(name: &str) -> Option<Self> {
        [Self::Counter, Self::Gauge, Self::Histogram].into_iter().find(|kind| kind.name() == name)
    }
}

/// One measurement, borrowed from the body it came in.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Point<'a> {
    pub(super) name: Cow<'a, str>,
    pub(super) kind: Kind,
    pub(super) value: f64,
    /// Sorted by name, each name once.
    pub(super) labels: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    /// Empty where it has none.
    pub(super) project: Cow<'a, str>,
    /// When it was measured, as far as the client says.
    pub(super) at: Option<Timestamp>,
}

/// Reads a body: an array of points, or `{"metrics":[…]}`. All of them, or none.
///
/// # Errors
/// [`Error::Invalid`], naming the item and the field.
pub(super) fn parse(body: &[u8]) -> Result<Vec<Point<'_>>> {
    let text = json::checked_text(body)?;
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let batch = if text.trim_ascii_start().starts_with('{') {
        deserializer.deserialize_map(Envelope)
    } else {
        Batch.deserialize(&mut deserializer).map(Some)
    };
    let points = batch.and_then(|points| deserializer.end().map(|()| points)).map_err(|why| refusal(&why))?;
    match points {
        None => Err(Error::field("metrics", "is required")),
        Some(points) if points.is_empty() => Err(Error::Invalid("A batch must have 1-1000 metrics".into())),
        Some(points) => Ok(points),
    }
}

fn refusal(why: &serde_json::Error) -> Error {
    if !why.is_data() {
        return Error::Invalid(format!("The body is not JSON: line {}, column {}", why.line(), why.column()));
    }
    // Sentences of ours come with a position that says less than the item's number.
    let sentence = why.to_string();
    Error::Invalid(sentence.rsplit_once(" at line ").map_or(sentence.as_str(), |(ours, _)| ours).to_owned())
}

struct Envelope;

impl<'de> Visitor<'de> for Envelope {
    type Value = Option<Vec<Point<'de>>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of metrics")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Self::Value, A::Error> {
        let mut points = None;
        while let Some(name) = map.next_key::<Name>()? {
            match &*name.0 {
                "metrics" => points = Some(map.next_value_seed(Batch)?),
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(points)
    }
}

/// An array of points.
struct Batch;

impl<'de> DeserializeSeed<'de> for Batch {
    type Value = Vec<Point<'de>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Batch {
    type Value = Vec<Point<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of metrics")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> std::result::Result<Self::Value, A::Error> {
        let mut points = Vec::new();
        while let Some(point) =
            items.next_element_seed(Item(points.len())).map_err(|why| too_large(points.len(), why))?
        {
            if points.len() == BATCH_POINTS_MAX {
                return Err(A::Error::custom("A batch must have 1-1000 metrics"));
            }
            points.push(point);
        }
        Ok(points)
    }
}

/// A number beyond 64-bit floating point is JSON all the same, and serde_json's complaint is about syntax.
fn too_large<E: serde::de::Error>(index: usize, why: E) -> E {
    if !why.to_string().starts_with("number out of range") {
        return why;
    }
    E::custom(format_args!("Item {index}: a number is too large for 64-bit floating point"))
}

/// The point at one index.
struct Item(usize);

impl<'de> DeserializeSeed<'de> for Item {
    type Value = Point<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Item {
    type Value = Point<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object as item {}", self.0)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Self::Value, A::Error> {
        let wrong = |field: &str, rule: &str| A::Error::custom(format_args!("Item {}: field '{field}' {rule}", self.0));
        let (mut name, mut kind, mut value, mut labels) = (None, None, None, Vec::new());
        let (mut project, mut at) = (Cow::Borrowed(""), None);
        while let Some(Name(field)) = map.next_key()? {
            match &*field {
                "name" => name = Some(map.next_value::<Scalar>()?),
                "type" => kind = map.next_value::<Scalar>()?.text().and_then(|text| Kind::named(&text)),
                "value" => value = map.next_value::<Scalar>()?.number(),
                "labels" => labels = map.next_value_seed(Labels(self.0))?,
                "project" => match map.next_value()? {
                    Scalar::Null => {}
                    other => project = other.text().ok_or_else(|| wrong("project", "must be a text"))?,
                },
                "timestamp" => match map.next_value()? {
                    Scalar::Null => {}
                    other => {
                        let moment = other.text().and_then(|text| Timestamp::parse(&text));
                        at = Some(
                            moment.ok_or_else(|| wrong("timestamp", "must be a time such as 2026-01-31T12:00:00Z"))?,
                        );
                    }
                },
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        let name = name.and_then(Scalar::text).filter(|name| fits(name, 1, NAME_CHARS_MAX));
        let name = name.ok_or_else(|| wrong("name", "must be 1-200 characters"))?;
        let kind = kind.ok_or_else(|| wrong("type", "must be counter, histogram or gauge"))?;
        let value = value.filter(|value| value.is_finite()).ok_or_else(|| wrong("value", "must be a finite number"))?;
        if !fits(&project, 0, PROJECT_CHARS_MAX) {
            return Err(wrong("project", "must be at most 100 characters"));
        }
        labels.sort_unstable();
        labels.dedup_by(|later, kept| later.0 == kept.0);
        Ok(Point { name, kind, value, labels, project, at })
    }
}

fn fits(text: &str, chars_min: usize, chars_max: usize) -> bool {
    text.len() >= chars_min && (text.len() <= chars_max || text.chars().count() <= chars_max)
}

/// The labels of the point at one index: texts, numbers and booleans; `null` is as good as absent.
struct Labels(usize);

impl<'de> DeserializeSeed<'de> for Labels {
    type Value = Vec<(Cow<'de, str>, Cow<'de, str>)>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Labels {
    type Value = Vec<(Cow<'de, str>, Cow<'de, str>)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object as field 'labels' of item {}", self.0)
    }

    fn visit_unit<E>(self) -> std::result::Result<Self::Value, E> {
        Ok(Vec::new())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Self::Value, A::Error> {
        let wrong = |rule: &str| A::Error::custom(format_args!("Item {}: field 'labels' {rule}", self.0));
        let mut labels = Vec::new();
        while let Some((Name(name), value)) = map.next_entry::<Name, Scalar>()? {
            let value = match value {
                Scalar::Null => continue,
                value => value.shown().ok_or_else(|| wrong("must hold texts, numbers and booleans"))?,
            };
            if labels.len() == LABELS_MAX || !fits(&name, 1, LABEL_CHARS_MAX) || !fits(&value, 0, LABEL_CHARS_MAX) {
                return Err(wrong("may have 32 labels of at most 200 characters"));
            }
            labels.push((name, value));
        }
        Ok(labels)
    }
}

/// A member's name, borrowed where it has no escapes.
struct Name<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        match Scalar::deserialize(deserializer)? {
            Scalar::Text(name) => Ok(Self(name)),
            _ => Err(D::Error::custom("a name is expected")),
        }
    }
}

/// Any value; what is no scalar is read over.
enum Scalar<'a> {
    Null,
    Bool(bool),
    Float(f64),
    Unsigned(u64),
    Signed(i64),
    Text(Cow<'a, str>),
    Other,
}

impl<'a> Scalar<'a> {
    fn text(self) -> Option<Cow<'a, str>> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    fn number(self) -> Option<f64> {
        match self {
            Self::Float(number) => Some(number),
            // Beyond 2^53 a count loses its last digits, as everywhere in JSON.
            Self::Unsigned(number) => Some(number as f64),
            Self::Signed(number) => Some(number as f64),
            _ => None,
        }
    }

    /// As a label shows it.
    fn shown(self) -> Option<Cow<'a, str>> {
        match self {
            Self::Text(text) => Some(text),
            Self::Bool(flag) => Some(Cow::Borrowed(if flag { "true" } else { "false" })),
            Self::Float(number) => {
                // What is very large or very small would be hundreds of digits, more than a label may have.
                let plain = number.to_string();
                Some(Cow::Owned(if plain.len() > LABEL_CHARS_MAX { format!("{number:e}") } else { plain }))
            }
            Self::Unsigned(number) => Some(Cow::Owned(number.to_string())),
            Self::Signed(number) => Some(Cow::Owned(number.to_string())),
            Self::Null | Self::Other => None,
        }
    }
}

impl<'de> Deserialize<'de> for Scalar<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Scalar<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_unit<E>(self) -> std::result::Result<Self::Value, E> {
                Ok(Scalar::Null)
            }

            fn visit_bool<E>(self, flag: bool) -> std::result::Result<Self::Value, E> {
                Ok(Scalar::Bool(flag))
            }

            fn visit_f64<E>(self, number: f64) -> std::result::Result<Self::Value, E> {
                Ok(Scalar::Float(number))
            }

            fn visit_u64<E>(self, number: u64) -> std::result::Result<Self::Value, E> {
                Ok(Scalar::Unsigned(number))
            }

            fn visit_i64<E>(self, number: i64) -> std::result::Result<Self::Value, E> {
                Ok(Scalar::Signed(number))
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> std::result::Result<Self::Value, E> {
                Ok(Scalar::Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> std::result::Result<Self::Value, E> {
                Ok(Scalar::Text(Cow::Owned(text.to_owned())))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> std::result::Result<Self::Value, A::Error> {
                while items.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Scalar::Other)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Self::Value, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Scalar::Other)
            }
        }
        deserializer.deserialize_any(Any)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn refusal(body: &str) -> String {
        parse(body.as_bytes()).map(|_| ()).unwrap_err().to_string()
    }

    #[test]
    fn both_shapes_of_a_batch_are_read() {
        let item = r#"{"name":"a","type":"counter","value":1,"labels":{"z":true,"b":2,"n":null,"a":"x"},"timestamp":"2026-01-31T12:00:00Z","project":null,"more":[{}]}"#;
        for body in [format!("[{item}]"), format!(" {{\"v\":1,\"metrics\":[{item}]}}")] {
            let points = parse(body.as_bytes()).unwrap();
            let labels: Vec<(&str, &str)> = points[0].labels.iter().map(|(name, value)| (&**name, &**value)).collect();
            assert_eq!(labels, [("a", "x"), ("b", "2"), ("z", "true")]);
            assert_eq!((&*points[0].name, points[0].kind, points[0].value), ("a", Kind::Counter, 1.0));
            assert_eq!(points[0].at.unwrap().to_string(), "2026-01-31T12:00:00Z");
        }
    }

    #[test]
    fn one_bad_item_refuses_the_batch_and_is_named() {
        let good = r#"{"name":"a","type":"gauge","value":1.5}"#;
        for (item, said) in [
            (r#"{"type":"gauge","value":1}"#, "Item 1: field 'name' must be 1-200 characters"),
            (r#"{"name":"","type":"gauge","value":1}"#, "Item 1: field 'name' must be 1-200 characters"),
            (r#"{"name":"a","type":"meter","value":1}"#, "Item 1: field 'type' must be counter, histogram or gauge"),
            (r#"{"name":"a","type":"gauge","value":"1"}"#, "Item 1: field 'value' must be a finite number"),
            (r#"{"name":"a","type":"gauge","value":null}"#, "Item 1: field 'value' must be a finite number"),
            (r#"{"name":"a","type":"gauge","value":1,"labels":[]}"#, "field 'labels' of item 1"),
            (r#"{"name":"a","type":"gauge","value":1,"labels":{"a":{}}}"#, "Item 1: field 'labels' must hold texts"),
            (r#"{"name":"a","type":"gauge","value":1,"timestamp":7}"#, "Item 1: field 'timestamp' must be a time"),
            (r#"{"name":"a","type":"gauge","value":1,"project":7}"#, "Item 1: field 'project' must be a text"),
            ("7", "an object as item 1"),
        ] {
            let sentence = refusal(&format!("[{good},{item}]"));
            assert!(sentence.contains(said), "{sentence:?} should say {said:?}");
        }
        for body in ["", "[]", "{}", "7", "[1", r#"{"metrics":7}"#, r#"{"metrics":[]}"#, "[NaN]", "[] []"] {
            assert!(parse(body.as_bytes()).is_err(), "{body:?}");
        }
        let many = format!("[{}]", vec![good; BATCH_POINTS_MAX + 1].join(","));
        assert_eq!(refusal(&many), "A batch must have 1-1000 metrics");
        assert_eq!(parse(format!("[{}]", vec![good; BATCH_POINTS_MAX].join(",")).as_bytes()).unwrap().len(), 1_000);
    }

    #[test]
    fn infinities_are_refused_however_they_are_written() {
        for value in ["1e999", "-1e999", "NaN", "Infinity", "\"NaN\""] {
            assert!(
                parse(format!(r#"[{{"name":"a","type":"gauge","value":{value}}}]"#).as_bytes()).is_err(),
                "{value}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_body_panics(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&body);
        }

        #[test]
        fn json_like_text_never_panics(body in r#"[\[\]{}"\\a-z0-9:,. e+-]{0,120}"#) {
            let _ = parse(body.as_bytes());
        }
    }
}
