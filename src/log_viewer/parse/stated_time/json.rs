//! Time of a JSON object: the first of its members that is named like one.

use std::fmt;

use serde::Deserializer;
use serde::de::{Deserialize, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::cursor::Cursor;
use super::date_time;
use super::local_time::StatedTime;

/// Names of the members, and of the logfmt pairs, that contain the time.
pub(super) const TIME_KEYS: [&str; 12] = [
    "time",
    "ts",
    "timestamp",
    "@timestamp",
    "t",
    "@t",
    "datetime",
    "Time",
    "Timestamp",
    "time_local",
    "asctime",
    "date",
];

/// Returns the time of an object. Reading stops at the member with the time, so the rest of the text need not be JSON.
pub(super) fn parse(text: &str) -> Option<StatedTime> {
    let mut time = None;
    // Returns an error as soon as a time is found.
    let _ = serde_json::Deserializer::from_str(text).deserialize_map(Members(&mut time));
    time
}

struct Members<'t>(&'t mut Option<StatedTime>);

impl<'de> Visitor<'de> for Members<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(IsTimeKey(is_time)) = map.next_key()? {
            if !is_time {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            *self.0 = map.next_value::<TimeValue>()?.0;
            if self.0.is_some() {
                return Err(A::Error::custom("time found"));
            }
        }
        Ok(())
    }
}

/// Whether the key of a member is that of a time.
struct IsTimeKey(bool);

impl<'de> Deserialize<'de> for IsTimeKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Name;
        impl Visitor<'_> for Name {
            type Value = IsTimeKey;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a member name")
            }

            fn visit_str<E>(self, name: &str) -> Result<IsTimeKey, E> {
                Ok(IsTimeKey(TIME_KEYS.contains(&name) || name == "time_iso8601" || name == "$date"))
            }
        }
        deserializer.deserialize_str(Name)
    }
}

/// Time in any of its forms: text, number, or MongoDB's `{"$date":"…"}`.
struct TimeValue(Option<StatedTime>);

impl<'de> Deserialize<'de> for TimeValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Value;
        impl<'de> Visitor<'de> for Value {
            type Value = TimeValue;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_str<E>(self, text: &str) -> Result<TimeValue, E> {
                let number = || text.parse().ok().and_then(date_time::parse_number);
                Ok(TimeValue(date_time::parse(Cursor::new(text.trim_ascii())).or_else(number)))
            }

            fn visit_u64<E>(self, number: u64) -> Result<TimeValue, E> {
                Ok(TimeValue(date_time::parse_number(number as f64)))
            }

            fn visit_i64<E>(self, _: i64) -> Result<TimeValue, E> {
                Ok(TimeValue(None))
            }

            fn visit_f64<E>(self, number: f64) -> Result<TimeValue, E> {
                Ok(TimeValue(date_time::parse_number(number)))
            }

            fn visit_bool<E>(self, _: bool) -> Result<TimeValue, E> {
                Ok(TimeValue(None))
            }

            fn visit_unit<E>(self) -> Result<TimeValue, E> {
                Ok(TimeValue(None))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<TimeValue, A::Error> {
                while items.next_element::<IgnoredAny>()?.is_some() {}
                Ok(TimeValue(None))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<TimeValue, A::Error> {
                let mut time = None;
                while let Some(IsTimeKey(is_time)) = map.next_key()? {
                    if is_time {
                        time = map.next_value::<TimeValue>()?.0;
                    } else {
                        map.next_value::<IgnoredAny>()?;
                    }
                }
                Ok(TimeValue(time))
            }
        }
        deserializer.deserialize_any(Value)
    }
}
