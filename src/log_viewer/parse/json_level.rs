//! Level detection in JSON objects.

use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, Visitor};

use super::json_context::RecordContext;
use super::json_value::MemberValue;
use crate::records::log_level::Level;

/// Recognizes a line with a JSON object, or with the beginning of one whose level is known.
pub(super) fn json_record(line: &str) -> Option<Option<Level>> {
    let members = line.strip_prefix('{')?.trim_ascii_start();
    let level = json_level(line);
    (level.is_some() || (line.ends_with('}') && members.starts_with('"'))).then_some(level)
}

/// Returns the level that a member of a JSON object states, or else the level of the HTTP status that the object logs.
/// Reading stops at the member with the level, so the rest of the text need not be valid JSON.
pub(super) fn json_level(text: &str) -> Option<Level> {
    let mut members = RelevantMembers::default();
    // Returns an error as soon as a level is found.
    let _ = serde_json::Deserializer::from_str(text)
        .deserialize_map(ObjectVisitor { members: &mut members, is_nested: false });
    members.level()
}

/// Members of a record that can determine its level.
#[derive(Default)]
pub(super) struct RelevantMembers {
    pub(super) level: Option<Level>,
    /// A numeric level below 10, which programs count on different scales.
    small_level: Option<i64>,
    scale: Option<SmallScale>,
    pub(super) status: Option<i64>,
    pub(super) has_request: bool,
    is_serilog: bool,
    /// The level among the tags of a record of Kibana 7.
    tag: Option<Level>,
}

/// Scale of a numeric level below 10, to judge by the other members.
#[derive(Clone, Copy)]
enum SmallScale {
    /// GELF has the severities of syslog.
    Syslog,
    /// Nextcloud counts from 0 (debug) to 4 (fatal).
    Nextcloud,
    /// Go's `slog` has -4 (debug), 0, 4 and 8 (error).
    Slog,
}

impl RelevantMembers {
    pub(super) fn level(&self) -> Option<Level> {
        let status_level = || {
            let status = self.status.filter(|_| self.has_request).and_then(|status| u16::try_from(status).ok());
            status.filter(|status| (100..600).contains(status)).map(Level::from_http_status)
        };
        match self.level {
            // Traefik logs every request with the level info.
            Some(Level::Info) => status_level().or(self.level),
            Some(_) => self.level,
            None => self
                .small_level
                .and_then(|number| small_level(number, self.scale?))
                .or_else(status_level)
                .or(self.tag)
                // Serilog's compact format omits `@l` if the level is Information.
                .or_else(|| self.is_serilog.then_some(Level::Info)),
        }
    }
}

fn small_level(number: i64, scale: SmallScale) -> Option<Level> {
    match scale {
        SmallScale::Syslog => Level::from_syslog_severity(number),
        SmallScale::Nextcloud => u8::try_from(number).ok().and_then(Level::from_rank),
        SmallScale::Slog => match number {
            -8 | -4 => Some(Level::Debug),
            0 => Some(Level::Info),
            4 => Some(Level::Warning),
            8 => Some(Level::Error),
            _ => None,
        },
    }
}

/// Meaning of a member, by its name.
enum Member {
    Level,
    /// Number of Python's `logging`, whose scale differs from pino's.
    PythonLevel,
    /// Number of OpenTelemetry, 1 to 24.
    OtelSeverity,
    /// Number of journald, 0 to 7.
    JournaldPriority,
    /// MongoDB's initial of the level.
    Initial,
    /// Object that contains the level, as in Elastic's schema: `{"log":{"level":"info"}}`.
    NestedLog,
    /// Object that contains the level among members of the application, as in Roarr's records.
    Context,
    Status,
    Request,
    /// Member that only programs have which count levels on this scale.
    Scale(SmallScale),
    Tags,
    SerilogTime,
    Other,
}

struct MemberNameVisitor;

impl<'de> DeserializeSeed<'de> for MemberNameVisitor {
    type Value = Member;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Member, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for MemberNameVisitor {
    type Value = Member;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member name")
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
            "levelno" => Member::PythonLevel,
            "severity_number" | "severityNumber" | "SeverityNumber" => Member::OtelSeverity,
            "PRIORITY" => Member::JournaldPriority,
            "s" => Member::Initial,
            "log" => Member::NestedLog,
            "context" => Member::Context,
            "status" | "status_code" | "statusCode" | "DownstreamStatus" => Member::Status,
            "method" | "request" | "request_method" | "requestMethod" | "RequestMethod" | "verb" => Member::Request,
            "@t" => Member::SerilogTime,
            "short_message" => Member::Scale(SmallScale::Syslog),
            "reqId" => Member::Scale(SmallScale::Nextcloud),
            "msg" => Member::Scale(SmallScale::Slog),
            "tags" => Member::Tags,
            _ => Member::Other,
        })
    }
}

struct ObjectVisitor<'m> {
    members: &'m mut RelevantMembers,
    /// Whether this is the `log` object inside the record.
    is_nested: bool,
}

impl<'de> Visitor<'de> for ObjectVisitor<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { members, is_nested } = self;
        while let Some(member) = map.next_key_seed(MemberNameVisitor)? {
            let level = match member {
                Member::Level => {
                    let value = map.next_value::<MemberValue>()?;
                    members.small_level = members.small_level.or(value.number.filter(|number| *number < 10));
                    value.level()
                }
                Member::PythonLevel => map.next_value::<MemberValue>()?.number.and_then(python_level),
                Member::OtelSeverity => map.next_value::<MemberValue>()?.number.and_then(Level::from_otel_severity),
                Member::JournaldPriority => {
                    map.next_value::<MemberValue>()?.number.and_then(Level::from_syslog_severity)
                }
                Member::Initial => map.next_value::<MemberValue>()?.initial,
                Member::NestedLog if !is_nested => {
                    map.next_value_seed(NestedObject(&mut *members))?;
                    members.level
                }
                Member::Context => map.next_value::<RecordContext>()?.level,
                Member::Status => {
                    members.status = map.next_value::<MemberValue>()?.number;
                    None
                }
                Member::Tags => {
                    members.tag = map.next_value::<MemberValue>()?.item;
                    None
                }
                other => {
                    members.has_request |= matches!(other, Member::Request);
                    members.is_serilog |= matches!(other, Member::SerilogTime);
                    if let Member::Scale(scale) = other {
                        members.scale.get_or_insert(scale);
                    }
                    map.next_value::<IgnoredAny>()?;
                    None
                }
            };
            if level.is_some() {
                members.level = level;
                return Err(A::Error::custom("level found"));
            }
        }
        Ok(())
    }

    // `log` can also be a string, a number or null.
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

struct NestedObject<'m>(&'m mut RelevantMembers);

impl<'de> DeserializeSeed<'de> for NestedObject<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(ObjectVisitor { members: self.0, is_nested: true })
    }
}

/// Converts the numbers of Python's `logging`, 10 to 50.
fn python_level(number: i64) -> Option<Level> {
    Some(match number {
        1..=19 => Level::Debug,
        20..=29 => Level::Info,
        30..=39 => Level::Warning,
        40..=49 => Level::Error,
        50..=59 => Level::Critical,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn level_of_json_objects_is_read() {
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
            (r#"{"context":{"a":[1],"logLevel":50},"message":"x"}"#, Some(Level::Error)),
            (r#"{"context":{"level":"error","status":500},"level":"info"}"#, Some(Level::Info)),
            (r#"{"context":[],"level":400}"#, Some(Level::Error)),
            (r#"{"context":"x","level":400}"#, Some(Level::Error)),
            (r#"{"context":-1.5,"level":400}"#, Some(Level::Error)),
            (r#"{"log":{"log":{"level":"error"}},"severity_number":13}"#, Some(Level::Warning)),
            (r#"{"t":{"$date":"x"},"s":"W","c":"NETWORK"}"#, Some(Level::Warning)),
            (r#"{"t":{"$date":"x"},"s":"D2"}"#, Some(Level::Debug)),
            (r#"{"@t":"x","@mt":"x"}"#, Some(Level::Info)),
            (r#"{"@t":"x","@mt":"x","@l":"Fatal"}"#, Some(Level::Critical)),
            (r#"{"MESSAGE":"x","PRIORITY":"3"}"#, Some(Level::Error)),
            (r#"{"status":502,"request":"GET / HTTP/1.1"}"#, Some(Level::Error)),
            (r#"{"request_method":"GET","status":"404"}"#, Some(Level::Warning)),
            (r#"{"status":500,"message":"x"}"#, None),
            // Other programs count levels below 10 on other scales.
            (r#"{"version":"1.1","host":"h","short_message":"x","level":3}"#, Some(Level::Error)),
            (r#"{"level":2,"version":"1.1","short_message":"x"}"#, Some(Level::Critical)),
            (r#"{"version":"1.1","short_message":"x","level":7}"#, Some(Level::Debug)),
            (r#"{"reqId":"x","level":3,"app":"PHP","message":"x"}"#, Some(Level::Error)),
            (r#"{"reqId":"x","level":0,"app":"PHP","message":"x"}"#, Some(Level::Debug)),
            (r#"{"reqId":"x","level":4,"app":"PHP","message":"x"}"#, Some(Level::Critical)),
            (r#"{"time":"x","level":8,"msg":"x"}"#, Some(Level::Error)),
            (r#"{"time":"x","level":-4,"msg":"x"}"#, Some(Level::Debug)),
            (r#"{"time":"x","level":5,"msg":"x"}"#, None),
            (r#"{"level":7,"player":"x"}"#, None),
            (r#"{"DownstreamStatus":502,"RequestMethod":"GET","level":"info","msg":""}"#, Some(Level::Error)),
            (r#"{"DownstreamStatus":200,"RequestMethod":"GET","level":"info","msg":""}"#, Some(Level::Info)),
            (r#"{"status":500,"method":"GET","level":"debug"}"#, Some(Level::Debug)),
            (r#"{"level":"\u001b[31merror\u001b[39m","message":"x"}"#, Some(Level::Error)),
            (r#"{"type":"log","tags":["listening","error"],"message":"x"}"#, Some(Level::Error)),
            (r#"{"tags":["error"],"level":"info"}"#, Some(Level::Info)),
            (r#"{"tags":[{"level":"error"},[["error"]]]}"#, None),
            (r#"{"level":"expert"}"#, None),
            (r#"{"level":null,"lvl":[1],"severity":{},"loglevel":true,"log_level":-1,"@level":1.5}"#, None),
            (r#"{"message":"{\"level\":\"error\"}"}"#, None),
            (r#"{"level"#, None),
            ("{}", None),
            ("{", None),
            ("{not json", None),
        ] {
            assert_eq!(json_level(text), level, "{text}");
        }
    }
}
