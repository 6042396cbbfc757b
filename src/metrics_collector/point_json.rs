//! JSON decoder for batches of points. Reads the body in one pass, without building a tree, and borrows strings from it.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::json;
use crate::records::point::{LABEL_CHARS_MAX, Labels, MetricKind, Point};

/// Maximum number of points in one request.
const BATCH_POINTS_MAX: usize = 1_000;

/// Decodes a body: an array of points, or an object with this array as its member `metrics`.
///
/// # Errors
/// [`Error::Invalid`] if the body is not JSON or if any point is invalid; the message names the item and the field.
pub(super) fn decode(body: &[u8]) -> Result<Vec<Point<'_>>> {
    let unchecked = json::UncheckedText::new(body)?;
    let skipped_nested = Cell::new(false);
    let decoded = decode_unchecked(unchecked.as_str(), &skipped_nested);
    // A decoded batch is nested four levels deep and contains only strings, except for values that were skipped. So the
    // check, which takes a tenth of the time, can be left out in most cases. Its errors precede others.
    if decoded.is_err() || skipped_nested.get() || unchecked.has_escapes() {
        unchecked.check()?;
    }
    decoded
}

/// Decodes a batch whose depth and escapes are not checked. Sets `skipped_nested` if it skips an array or an object.
fn decode_unchecked<'b>(json: &'b str, skipped_nested: &Cell<bool>) -> Result<Vec<Point<'b>>> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let batch = if json.trim_ascii_start().starts_with('{') {
        deserializer.deserialize_map(EnvelopeVisitor { skipped_nested })
    } else {
        BatchVisitor { skipped_nested }.deserialize(&mut deserializer).map(Some)
    };
    let points = batch.and_then(|points| deserializer.end().map(|()| points)).map_err(|error| invalid_body(&error))?;
    match points {
        None => Err(Error::field("metrics", "is required")),
        Some(points) if points.is_empty() => Err(Error::Invalid("A batch must have 1-1000 metrics".into())),
        Some(points) => Ok(points),
    }
}

fn invalid_body(error: &serde_json::Error) -> Error {
    if !error.is_data() {
        return Error::Invalid(format!("The body is not JSON: line {}, column {}", error.line(), error.column()));
    }
    // serde_json appends the position to our messages. The item number in them is more useful.
    let message = error.to_string();
    Error::Invalid(message.rsplit_once(" at line ").map_or(message.as_str(), |(own, _)| own).to_owned())
}

struct EnvelopeVisitor<'c> {
    skipped_nested: &'c Cell<bool>,
}

impl<'de> Visitor<'de> for EnvelopeVisitor<'_> {
    type Value = Option<Vec<Point<'de>>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of metrics")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Self::Value, A::Error> {
        let mut points = None;
        while let Some(name) = map.next_key::<MemberName>()? {
            match &*name.0 {
                "metrics" => {
                    points = Some(map.next_value_seed(BatchVisitor { skipped_nested: self.skipped_nested })?);
                }
                _ => skip_value(&mut map, self.skipped_nested)?,
            }
        }
        Ok(points)
    }
}

/// Reads the value of an object member. Sets `skipped_nested` if it is an array or an object, whose contents are skipped.
fn next_scalar<'de, A: MapAccess<'de>>(
    map: &mut A,
    skipped_nested: &Cell<bool>,
) -> std::result::Result<Scalar<'de>, A::Error> {
    let value = map.next_value()?;
    if matches!(value, Scalar::Other) {
        skipped_nested.set(true);
    }
    Ok(value)
}

/// Skips the value of an unknown member. Sets `skipped_nested` if it is an array or an object.
fn skip_value<'de, A: MapAccess<'de>>(map: &mut A, skipped_nested: &Cell<bool>) -> std::result::Result<(), A::Error> {
    let value: &RawValue = map.next_value()?;
    if value.get().starts_with(['[', '{']) {
        skipped_nested.set(true);
    }
    Ok(())
}

struct BatchVisitor<'c> {
    skipped_nested: &'c Cell<bool>,
}

impl<'de> DeserializeSeed<'de> for BatchVisitor<'_> {
    type Value = Vec<Point<'de>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for BatchVisitor<'_> {
    type Value = Vec<Point<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of metrics")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> std::result::Result<Self::Value, A::Error> {
        let mut points = Vec::new();
        while let Some(point) = items
            .next_element_seed(PointVisitor { index: points.len(), skipped_nested: self.skipped_nested })
            .map_err(|error| with_number_range(points.len(), error))?
        {
            if points.len() == BATCH_POINTS_MAX {
                return Err(A::Error::custom("A batch must have 1-1000 metrics"));
            }
            points.push(point);
        }
        Ok(points)
    }
}

/// Replaces the error for a number beyond 64-bit floating point. Such a number is valid JSON, but serde_json reports it
/// as a syntax error.
fn with_number_range<E: serde::de::Error>(index: usize, error: E) -> E {
    if !error.to_string().starts_with("number out of range") {
        return error;
    }
    E::custom(format_args!("Item {index}: a number is too large for 64-bit floating point"))
}

/// Visitor for the point at one index of the batch.
struct PointVisitor<'c> {
    index: usize,
    skipped_nested: &'c Cell<bool>,
}

impl<'de> DeserializeSeed<'de> for PointVisitor<'_> {
    type Value = Point<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for PointVisitor<'_> {
    type Value = Point<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object as item {}", self.index)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Self::Value, A::Error> {
        let Self { index, skipped_nested } = self;
        let invalid = |field: &str, rule: &str| A::Error::custom(format_args!("Item {index}: field '{field}' {rule}"));
        let (mut name, mut kind, mut value, mut labels) = (None, None, None, Labels::default());
        let (mut project, mut at) = (Cow::Borrowed(""), None);
        while let Some(MemberName(field)) = map.next_key()? {
            match &*field {
                "name" => name = next_scalar(&mut map, skipped_nested)?.into_string(),
                "type" => {
                    let string = next_scalar(&mut map, skipped_nested)?.into_string();
                    kind = string.and_then(|name| MetricKind::from_name(&name));
                }
                "value" => value = next_scalar(&mut map, skipped_nested)?.as_number(),
                "labels" => labels = map.next_value_seed(LabelsVisitor { index })?,
                "project" => match next_scalar(&mut map, skipped_nested)? {
                    Scalar::Null => {}
                    other => {
                        project = other.into_string().ok_or_else(|| invalid("project", "must be a string"))?;
                    }
                },
                "timestamp" => match next_scalar(&mut map, skipped_nested)? {
                    Scalar::Null => {}
                    other => {
                        let time = other.into_string().and_then(|string| Timestamp::parse(&string));
                        at = Some(
                            time.ok_or_else(|| invalid("timestamp", "must be a time such as 2026-01-31T12:00:00Z"))?,
                        );
                    }
                },
                _ => skip_value(&mut map, skipped_nested)?,
            }
        }
        // A missing name or value violates the same rule as an empty name or a value that is not finite.
        let (name, value) = (name.unwrap_or_default(), value.unwrap_or(f64::NAN));
        if name.is_empty() {
            return Err(invalid("name", "must be 1-200 characters"));
        }
        let kind = kind.ok_or_else(|| invalid("type", "must be counter, histogram or gauge"))?;
        Point::new(name, kind, value, labels, project, at)
            .map_err(|error| A::Error::custom(format_args!("Item {index}: {error}")))
    }
}

/// Visitor for the labels of the point at one index: an object of strings, numbers and booleans. A `null` value counts
/// as absent.
struct LabelsVisitor {
    index: usize,
}

impl<'de> DeserializeSeed<'de> for LabelsVisitor {
    type Value = Labels<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for LabelsVisitor {
    type Value = Labels<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object as field 'labels' of item {}", self.index)
    }

    fn visit_unit<E>(self) -> std::result::Result<Self::Value, E> {
        Ok(Labels::default())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Self::Value, A::Error> {
        let index = self.index;
        let mut labels = Labels::default();
        while let Some((MemberName(name), value)) = map.next_entry::<MemberName, Scalar>()? {
            let value = match value {
                Scalar::Null => continue,
                value => value.into_label_value().ok_or_else(|| {
                    let rule = "must contain only strings, numbers and booleans";
                    A::Error::custom(format_args!("Item {index}: field 'labels' {rule}"))
                })?,
            };
            labels.push(name, value).map_err(|error| A::Error::custom(format_args!("Item {index}: {error}")))?;
        }
        Ok(labels)
    }
}

/// Name of an object member, borrowed if it has no escapes.
struct MemberName<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for MemberName<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        match Scalar::deserialize(deserializer)? {
            Scalar::String(name) => Ok(Self(name)),
            _ => Err(D::Error::custom("expected a member name")),
        }
    }
}

/// Any JSON value. The contents of arrays and objects are skipped.
enum Scalar<'a> {
    Null,
    Bool(bool),
    Float(f64),
    Unsigned(u64),
    Signed(i64),
    String(Cow<'a, str>),
    Other,
}

impl<'a> Scalar<'a> {
    fn into_string(self) -> Option<Cow<'a, str>> {
        if let Self::String(string) = self { Some(string) } else { None }
    }

    fn as_number(&self) -> Option<f64> {
        match *self {
            Self::Float(number) => Some(number),
            // Above 2^53, the last digits are lost, as in other JSON parsers.
            Self::Unsigned(number) => Some(number as f64),
            Self::Signed(number) => Some(number as f64),
            _ => None,
        }
    }

    /// Returns the string to store as a label value; `None` for arrays, objects and `null`.
    fn into_label_value(self) -> Option<Cow<'a, str>> {
        match self {
            Self::String(string) => Some(string),
            Self::Bool(flag) => Some(Cow::Borrowed(if flag { "true" } else { "false" })),
            Self::Float(number) => {
                // Without an exponent, very large and very small numbers have hundreds of digits and exceed the limit.
                let decimal = number.to_string();
                let exceeds_limit = decimal.len() > LABEL_CHARS_MAX;
                Some(Cow::Owned(if exceeds_limit { format!("{number:e}") } else { decimal }))
            }
            Self::Unsigned(number) => Some(Cow::Owned(number.to_string())),
            Self::Signed(number) => Some(Cow::Owned(number.to_string())),
            Self::Null | Self::Other => None,
        }
    }
}

impl<'de> Deserialize<'de> for Scalar<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct ScalarVisitor;
        impl<'de> Visitor<'de> for ScalarVisitor {
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

            fn visit_borrowed_str<E>(self, string: &'de str) -> std::result::Result<Self::Value, E> {
                Ok(Scalar::String(Cow::Borrowed(string)))
            }

            fn visit_str<E>(self, string: &str) -> std::result::Result<Self::Value, E> {
                Ok(Scalar::String(Cow::Owned(string.to_owned())))
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
        deserializer.deserialize_any(ScalarVisitor)
    }
}

#[cfg(test)]
#[path = "point_json_tests.rs"]
mod tests;
