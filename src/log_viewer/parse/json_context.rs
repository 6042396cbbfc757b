//! Reader for the member `context` of a JSON object, whose members are those of the application.

use std::fmt;

use serde::Deserializer;
use serde::de::{Deserialize, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::json_value::MemberValue;
use crate::records::log_level::Level;

/// The level in a record's context. Only Roarr writes it there: `{"context":{"logLevel":30}}`. Members with other names
/// of levels are the application's, as in the records of Monolog.
pub(super) struct RecordContext {
    pub(super) level: Option<Level>,
}

impl<'de> Deserialize<'de> for RecordContext {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ContextVisitor).map(|level| Self { level })
    }
}

struct ContextVisitor;

impl<'de> Visitor<'de> for ContextVisitor {
    type Value = Option<Level>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a context")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Option<Level>, A::Error> {
        let mut level = None;
        while let Some(name) = map.next_key::<std::borrow::Cow<'_, str>>()? {
            if name == "logLevel" {
                level = map.next_value::<MemberValue>()?.level();
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(level)
    }

    // PHP writes an empty object as an array.
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Option<Level>, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn visit_str<E>(self, _: &str) -> Result<Option<Level>, E> {
        Ok(None)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Option<Level>, E> {
        Ok(None)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Option<Level>, E> {
        Ok(None)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Option<Level>, E> {
        Ok(None)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Option<Level>, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Option<Level>, E> {
        Ok(None)
    }
}
