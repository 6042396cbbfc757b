//! Value of a member of a JSON object, read as a level or a status.

use std::fmt;

use serde::Deserializer;
use serde::de::{Deserialize, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::ansi;
use crate::records::log_level::Level;

/// Value of a member, in each form that can be a level or a status.
#[derive(Default)]
pub(super) struct MemberValue {
    name: Option<Level>,
    /// The level of a single letter.
    pub(super) initial: Option<Level>,
    pub(super) number: Option<i64>,
    /// The first level among the items of an array.
    pub(super) item: Option<Level>,
}

impl MemberValue {
    pub(super) fn level(&self) -> Option<Level> {
        self.name.or(self.initial).or_else(|| self.number.and_then(numeric_level))
    }

    pub(super) fn from_string(string: &str) -> Self {
        let string = &*ansi::strip(string);
        // slog writes a level between two others as `INFO+2`.
        let name = string.split(['+', '-']).next().unwrap_or_default().trim_ascii();
        let level = Level::from_name(name);
        let number = string.parse().ok();
        if name.len() == 1 || (name.len() == 2 && name.starts_with('D')) {
            // MongoDB's debug levels are D1 to D5.
            return Self { initial: Level::from_name(&name[..1]), number, ..Self::default() };
        }
        Self { name: level, number, ..Self::default() }
    }
}

impl<'de> Deserialize<'de> for MemberValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MemberValueVisitor;
        impl<'de> Visitor<'de> for MemberValueVisitor {
            type Value = MemberValue;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_str<E>(self, string: &str) -> Result<MemberValue, E> {
                Ok(MemberValue::from_string(string))
            }

            fn visit_u64<E>(self, number: u64) -> Result<MemberValue, E> {
                Ok(MemberValue { number: i64::try_from(number).ok(), ..MemberValue::default() })
            }

            fn visit_i64<E>(self, number: i64) -> Result<MemberValue, E> {
                Ok(MemberValue { number: Some(number), ..MemberValue::default() })
            }

            fn visit_f64<E>(self, _: f64) -> Result<MemberValue, E> {
                Ok(MemberValue::default())
            }

            fn visit_bool<E>(self, _: bool) -> Result<MemberValue, E> {
                Ok(MemberValue::default())
            }

            fn visit_unit<E>(self) -> Result<MemberValue, E> {
                Ok(MemberValue::default())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<MemberValue, A::Error> {
                let mut item = None;
                while let Some(value) = items.next_element::<MemberValue>()? {
                    item = item.or(value.name);
                }
                Ok(MemberValue { item, ..MemberValue::default() })
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<MemberValue, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(MemberValue::default())
            }
        }
        deserializer.deserialize_any(MemberValueVisitor)
    }
}

/// Converts the numbers of bunyan and pino, 10 to 60, and of Monolog, 100 to 600. A number between two levels counts as
/// the lower.
fn numeric_level(number: i64) -> Option<Level> {
    Some(match number {
        10..=29 | 100..=199 => Level::Debug,
        30..=39 | 200..=299 => Level::Info,
        40..=49 | 300..=399 => Level::Warning,
        50..=59 | 400..=499 => Level::Error,
        60..=69 | 500..=600 => Level::Critical,
        _ => return None,
    })
}
