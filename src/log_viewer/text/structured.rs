//! Levels of records that are data: JSON objects and logfmt's `key=value` pairs.

use std::fmt;

use serde::Deserializer;
use serde::de::{Deserialize, DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::level::Level;
use super::words;

/// Pairs of logfmt looked at for a level, which stands among the first.
const PAIRS_MAX: usize = 32;

/// The level that a JSON object states in one of its members, otherwise that of the status of the request it is about.
/// What follows the member, or the object, is not looked at.
pub(super) fn json(text: &str) -> Option<Level> {
    let mut found = Found::default();
    // Reading ends with an error as soon as there is a level.
    let _ = serde_json::Deserializer::from_str(text).deserialize_map(Members { found: &mut found, inner: false });
    let status = found.status.filter(|_| found.request).and_then(|status| u16::try_from(status).ok());
    let level = found.level.or_else(|| status.filter(|status| (100..600).contains(status)).map(Level::of_status));
    // Serilog's compact format leaves `@l` out when it is Information.
    level.or_else(|| found.serilog.then_some(Level::Info))
}

#[derive(Default)]
struct Found {
    level: Option<Level>,
    status: Option<i64>,
    request: bool,
    serilog: bool,
}

/// What a member is to us.
enum Member {
    Level,
    /// Python's numbers, which are not those of pino.
    Levelno,
    /// OpenTelemetry's 1 to 24.
    SeverityNumber,
    /// journald's 0 to 7.
    Priority,
    /// MongoDB's letter.
    Letter,
    /// An object that has it: `{"log":{"level":"info"}}`, as Elastic's schema nests it.
    Log,
    Status,
    Request,
    Serilog,
    Other,
}

struct Name;

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Member;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Member, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Name {
    type Value = Member;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Member, E> {
        Ok(match name {
            "level" | "Level" | "LEVEL" | "severity" | "Severity" | "SEVERITY" | "lvl" | "log.level" | "levelname" => {
                Member::Level
            }
            "@l" | "@level" | "loglevel" | "logLevel" | "LogLevel" | "log_level" | "level_name" | "severity_text" => {
                Member::Level
            }
            "severityText" | "SeverityText" | "syslog.severity" => Member::Level,
            "levelno" => Member::Levelno,
            "severity_number" | "severityNumber" | "SeverityNumber" => Member::SeverityNumber,
            "PRIORITY" => Member::Priority,
            "s" => Member::Letter,
            "log" => Member::Log,
            "status" | "status_code" | "statusCode" | "DownstreamStatus" => Member::Status,
            "method" | "request" | "request_method" | "requestMethod" | "RequestMethod" | "verb" => Member::Request,
            "@t" => Member::Serilog,
            _ => Member::Other,
        })
    }
}

struct Members<'f> {
    found: &'f mut Found,
    /// Whether this is the object within the record.
    inner: bool,
}

impl<'de> Visitor<'de> for Members<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { found, inner } = self;
        while let Some(member) = map.next_key_seed(Name)? {
            let level = match member {
                Member::Level => map.next_value::<Value>()?.level(),
                Member::Levelno => map.next_value::<Value>()?.number.and_then(python),
                Member::SeverityNumber => map.next_value::<Value>()?.number.and_then(opentelemetry),
                Member::Priority => map.next_value::<Value>()?.number.and_then(Level::of_syslog),
                Member::Letter => map.next_value::<Value>()?.letter,
                Member::Log if !inner => {
                    map.next_value_seed(Inner(&mut *found))?;
                    found.level
                }
                Member::Status => {
                    found.status = map.next_value::<Value>()?.number;
                    None
                }
                other => {
                    found.request |= matches!(other, Member::Request);
                    found.serilog |= matches!(other, Member::Serilog);
                    map.next_value::<IgnoredAny>()?;
                    None
                }
            };
            if level.is_some() {
                found.level = level;
                return Err(A::Error::custom("found"));
            }
        }
        Ok(())
    }

    // A text or a number in the place of the inner object.
    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

struct Inner<'f>(&'f mut Found);

impl<'de> DeserializeSeed<'de> for Inner<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(Members { found: self.0, inner: true })
    }
}

/// A member's value as far as it can be a level or a status.
#[derive(Default)]
struct Value {
    word: Option<Level>,
    letter: Option<Level>,
    number: Option<i64>,
}

impl Value {
    fn level(&self) -> Option<Level> {
        self.word.or(self.letter).or_else(|| self.number.and_then(numeric))
    }

    fn of_text(text: &str) -> Self {
        // slog writes what lies between two levels as `INFO+2`.
        let word = text.split(['+', '-']).next().unwrap_or_default().trim_ascii();
        let level = words::level(word);
        let number = text.parse().ok();
        if word.len() == 1 || (word.len() == 2 && word.starts_with('D')) {
            // MongoDB numbers its debug levels D1 to D5.
            return Self { letter: words::level(&word[..1]), number, ..Self::default() };
        }
        Self { word: level, number, ..Self::default() }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Value;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_str<E>(self, text: &str) -> Result<Value, E> {
                Ok(Value::of_text(text))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
                Ok(Value { number: i64::try_from(number).ok(), ..Value::default() })
            }

            fn visit_i64<E>(self, _: i64) -> Result<Value, E> {
                Ok(Value::default())
            }

            fn visit_f64<E>(self, _: f64) -> Result<Value, E> {
                Ok(Value::default())
            }

            fn visit_bool<E>(self, _: bool) -> Result<Value, E> {
                Ok(Value::default())
            }

            fn visit_unit<E>(self) -> Result<Value, E> {
                Ok(Value::default())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
                while items.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Value::default())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Value::default())
            }
        }
        deserializer.deserialize_any(Any)
    }
}

/// bunyan's and pino's 10 to 60, and Monolog's 100 to 600. What lies between two counts as the lower.
fn numeric(number: i64) -> Option<Level> {
    Some(match number {
        10..=29 | 100..=199 => Level::Debug,
        30..=39 | 200..=299 => Level::Info,
        40..=49 | 300..=399 => Level::Warning,
        50..=59 | 400..=499 => Level::Error,
        60..=69 | 500..=600 => Level::Critical,
        _ => return None,
    })
}

/// `logging`'s 10 to 50.
fn python(number: i64) -> Option<Level> {
    Some(match number {
        1..=19 => Level::Debug,
        20..=29 => Level::Info,
        30..=39 => Level::Warning,
        40..=49 => Level::Error,
        50..=59 => Level::Critical,
        _ => return None,
    })
}

/// OpenTelemetry's log data model, "SeverityNumber".
fn opentelemetry(number: i64) -> Option<Level> {
    Some(match number {
        1..=8 => Level::Debug,
        9..=12 => Level::Info,
        13..=16 => Level::Warning,
        17..=20 => Level::Error,
        21..=24 => Level::Critical,
        _ => return None,
    })
}

/// The level among the pairs that `text` begins with: `time=… level=info msg="…"`. Quoted values are passed over whole,
/// and the first word that is not a pair ends them.
pub(super) fn logfmt(text: &str) -> Option<Level> {
    let mut rest = text;
    for _ in 0..PAIRS_MAX {
        let (key, after) = rest.split_at(rest.find(['=', ' ', '"'])?);
        let value_on = after.strip_prefix('=').filter(|_| !key.is_empty())?;
        let (value, after) = value(value_on)?;
        if matches!(key, "level" | "lvl" | "severity" | "loglevel" | "log_level" | "log.level" | "levelname" | "@level")
        {
            let level = Value::of_text(value).level();
            if level.is_some() {
                return level;
            }
        }
        rest = after.trim_ascii_start();
    }
    None
}

/// A value, without its quotes, and what follows it.
fn value(text: &str) -> Option<(&str, &str)> {
    match text.strip_prefix('"') {
        None => Some(text.split_at(text.find(' ').unwrap_or(text.len()))),
        Some(inside) => {
            let mut escaped = false;
            let end = inside.bytes().position(|byte| {
                let closes = byte == b'"' && !escaped;
                escaped = byte == b'\\' && !escaped;
                closes
            })?;
            Some((&inside[..end], &inside[end + 1..]))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_name_their_level_in_many_ways() {
        for (text, level) in [
            (r#"{"level":"info","ts":1769860800.1,"msg":"error"}"#, Some(Level::Info)),
            (r#"{"time":"x","level":"WARN","msg":"x"}"#, Some(Level::Warning)),
            (r#"{"level":30,"time":1,"msg":"x"}"#, Some(Level::Info)),
            (r#"{"level":60}"#, Some(Level::Critical)),
            (r#"{"message":"x","level":400,"level_name":"ERROR"}"#, Some(Level::Error)),
            (r#"{"levelno":30,"msg":"x"}"#, Some(Level::Warning)),
            (r#"{"level":"ERROR+2"}"#, Some(Level::Error)),
            (r#"{"level":"e"}"#, Some(Level::Error)),
            (r#"{"severity":"CRITICAL"}"#, Some(Level::Critical)),
            (r#"{"log.level":"DEBUG"}"#, Some(Level::Debug)),
            (r#"{"log":{"logger":"x","level":"error"},"message":"x"}"#, Some(Level::Error)),
            (r#"{"log":"text","level":"error"}"#, Some(Level::Error)),
            (r#"{"log":{"log":{"level":"error"}},"severity_number":13}"#, Some(Level::Warning)),
            (r#"{"t":{"$date":"x"},"s":"W","c":"NETWORK"}"#, Some(Level::Warning)),
            (r#"{"t":{"$date":"x"},"s":"D2"}"#, Some(Level::Debug)),
            (r#"{"@t":"x","@mt":"x"}"#, Some(Level::Info)),
            (r#"{"@t":"x","@mt":"x","@l":"Fatal"}"#, Some(Level::Critical)),
            (r#"{"MESSAGE":"x","PRIORITY":"3"}"#, Some(Level::Error)),
            (r#"{"status":502,"request":"GET / HTTP/1.1"}"#, Some(Level::Error)),
            (r#"{"request_method":"GET","status":"404"}"#, Some(Level::Warning)),
            (r#"{"status":500,"message":"x"}"#, None),
            (r#"{"level":7,"player":"x"}"#, None),
            (r#"{"level":"expert"}"#, None),
            (r#"{"level":null,"lvl":[1],"severity":{},"loglevel":true,"log_level":-1,"@level":1.5}"#, None),
            (r#"{"message":"{\"level\":\"error\"}"}"#, None),
            (r#"{"level"#, None),
            ("{}", None),
            ("{", None),
            ("{not json", None),
        ] {
            assert_eq!(json(text), level, "{text}");
        }
    }

    #[test]
    fn pairs_name_it_too() {
        for (text, level) in [
            (r#"time="2026-01-31T12:00:00Z" level=warning msg="level=error""#, Some(Level::Warning)),
            ("t=2026-01-31T12:00:00+0000 lvl=eror msg=x", Some(Level::Error)),
            (r#"msg="set level=debug" level="info""#, Some(Level::Info)),
            (r#"msg="a \" level=debug""#, None),
            ("pid=1 started with level=debug", None),
            ("=x level=debug", None),
            ("error_count=0 retries=0", None),
            ("a=", None),
            ("", None),
        ] {
            assert_eq!(logfmt(text), level, "{text}");
        }
    }
}
