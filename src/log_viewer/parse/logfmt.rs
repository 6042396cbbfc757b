//! Level detection in logfmt (`key=value` pairs).

use super::json_level::RelevantMembers;
use super::json_value::MemberValue;
use crate::records::log_level::Level;

/// Maximum number of logfmt pairs that are searched for a level. It is usually among the first.
const PAIRS_MAX: usize = 32;

/// Returns the level among the logfmt pairs at the start of a text, or else that of the request which the pairs describe:
/// `time=… level=info msg="…"`, `method=GET path=/cart status=500`. Skips quoted values, and stops at the first word that
/// is not a pair.
pub(super) fn logfmt_level(text: &str) -> Option<Level> {
    let mut members = RelevantMembers::default();
    let mut rest = text;
    for _ in 0..PAIRS_MAX {
        let Some((key, value, after)) = split_pair(rest) else { break };
        match key {
            "level" | "lvl" | "severity" | "loglevel" | "log_level" | "log.level" | "levelname" | "@level" | "prio" => {
                members.level = MemberValue::from_string(value).level();
                if members.level.is_some() {
                    break;
                }
            }
            "status" => members.status = value.parse().ok(),
            "method" => members.has_request = true,
            _ => {}
        }
        rest = after.trim_ascii_start();
    }
    members.level()
}

/// Splits a text into the key and the value of its first pair, and the rest.
fn split_pair(text: &str) -> Option<(&str, &str, &str)> {
    let (key, after) = text.split_at(text.find(['=', ' ', '"'])?);
    let value = after.strip_prefix('=').filter(|_| !key.is_empty())?;
    let (value, after) = split_value(value)?;
    Some((key, value, after))
}

/// Splits a value, without its quotes, from the rest of the text.
fn split_value(text: &str) -> Option<(&str, &str)> {
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
    fn level_of_logfmt_pairs_is_read() {
        for (text, level) in [
            (r#"time="2026-01-31T12:00:00Z" level=warning msg="level=error""#, Some(Level::Warning)),
            ("t=2026-01-31T12:00:00+0000 lvl=eror msg=x", Some(Level::Error)),
            (r#"msg="set level=debug" level="info""#, Some(Level::Info)),
            (r#"msg="a \" level=debug""#, None),
            ("pid=1 started with level=debug", None),
            ("=x level=debug", None),
            ("method=GET path=/pay format=html status=500 duration=5.8", Some(Level::Error)),
            ("at=error code=H12 desc=\"Request timeout\" method=GET path=\"/\" status=503", Some(Level::Error)),
            ("path=/pay status=500", None),
            ("error_count=0 retries=0", None),
            ("a=", None),
            ("", None),
        ] {
            assert_eq!(logfmt_level(text), level, "{text}");
        }
    }
}
