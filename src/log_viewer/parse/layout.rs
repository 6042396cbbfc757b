//! Layouts: sequences of parts that the lines of a format start with. One of the parts can be the level.

use super::timestamps;
use crate::records::log_level::Level;

/// A part of a layout.
#[derive(Debug, Clone, Copy)]
pub(super) enum Part {
    /// Exactly this text.
    Text(&'static str),
    /// Everything up to and including this text.
    Until(&'static str),
    /// One or more blanks.
    Blanks,
    /// One of these numbers of digits.
    Digits(&'static [usize]),
    /// One or more digits.
    Number,
    /// One of these bytes.
    OneOf(&'static [u8]),
    /// A date, a clock time or both, with everything that belongs to them, as in `Sat Jan 31 12:00:00 2026`.
    Time,
    /// The name of a level.
    LevelName,
    /// The initial of a level.
    LevelLetter,
    /// The priority of syslog, 0 to 191: eight times the facility, and the severity.
    SyslogPriority,
    /// The status of an HTTP response.
    HttpStatus,
    /// The mark of Redis.
    RedisMark,
}

/// Level and length of a part.
type PartMatch = (Option<Level>, usize);

/// Matches the start of a line. Returns the level, if one of the parts states it.
pub(super) fn read(parts: &[Part], line: &str) -> Option<Option<Level>> {
    let (mut level, mut rest) = (None, line);
    for part in parts {
        let (stated, bytes) = part.read(rest)?;
        level = stated.or(level);
        rest = &rest[bytes..];
    }
    Some(level)
}

impl Part {
    fn read(self, text: &str) -> Option<PartMatch> {
        match self {
            Self::Text(expected) => text.starts_with(expected).then_some((None, expected.len())),
            Self::Until(end) => text.find(end).map(|start| (None, start + end.len())),
            Self::Blanks => Some((None, count(text, |byte| matches!(byte, b' ' | b'\t'))?)),
            Self::Digits(lengths) => {
                let digits = count(text, u8::is_ascii_digit)?;
                lengths.contains(&digits).then_some((None, digits))
            }
            Self::Number => Some((None, count(text, u8::is_ascii_digit)?)),
            Self::OneOf(bytes) => bytes.contains(text.as_bytes().first()?).then_some((None, 1)),
            Self::Time => timestamps::time_length(text).map(|length| (None, length)),
            Self::LevelName => {
                let length = count(text, u8::is_ascii_alphanumeric).filter(|length| *length > 1)?;
                Some((Some(Level::from_name(&text[..length])?), length))
            }
            Self::LevelLetter => Some((Some(Level::from_letter(*text.as_bytes().first()?)?), 1)),
            Self::SyslogPriority => {
                let length = count(text, u8::is_ascii_digit).filter(|length| *length <= 3)?;
                let priority: i64 = text[..length].parse().ok().filter(|priority| *priority <= 191)?;
                Some((Level::from_syslog_severity(priority & 7), length))
            }
            Self::HttpStatus => {
                let digits = text.get(..3).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
                let status = digits.parse().ok().filter(|status| (100..600).contains(status))?;
                Some((Some(Level::from_http_status(status)), 3))
            }
            Self::RedisMark => redis_level(*text.as_bytes().first()?).map(|level| (Some(level), 1)),
        }
    }
}

/// Counts the bytes at the start of a text that have a property; `None` if the first one has not.
fn count(text: &str, has: impl Fn(&u8) -> bool) -> Option<usize> {
    Some(text.bytes().take_while(|byte| has(byte)).count()).filter(|count| *count > 0)
}

/// Converts Redis' marks for debug, verbose, notice and warning. Redis passes the same levels to syslog
/// (`serverLogRaw`).
fn redis_level(mark: u8) -> Option<Level> {
    match mark {
        b'.' => Some(Level::Debug),
        b'-' | b'*' => Some(Level::Info),
        b'#' => Some(Level::Warning),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::Part::*;
    use super::*;

    #[test]
    fn layouts_match_whole_parts_only() {
        let klog = [LevelLetter, Digits(&[4, 6]), Text(" "), Time];
        for (parts, line, expected) in [
            (&klog[..], "E0131 12:00:00.000000 1 main.go:12] x", Some(Some(Level::Error))),
            (&klog, "E01311 12:00:00.000000", None),
            (&klog, "E0131 x", None),
            (&klog, "É0131 12:00:00", None),
            (&[Text("<"), SyslogPriority, Text(">")], "<191>x", Some(Some(Level::Debug))),
            (&[Text("<"), SyslogPriority, Text(">")], "<192>x", None),
            (&[Text("<"), SyslogPriority, Text(">")], "<>x", None),
            (&[Until("] ["), HttpStatus, Text("]")], "[a] [503]", Some(Some(Level::Error))),
            (&[Until("] ["), HttpStatus, Text("]")], "[a] [603]", None),
            (&[HttpStatus], "+50", None),
            (&[HttpStatus], "5é", None),
            (&[OneOf(b"MC"), Blanks, Number, Text(".")], "M \t12.", Some(None)),
            (&[OneOf(b"MC"), Blanks], "M", None),
            (&[LevelName, Text(":")], "Warning:", Some(Some(Level::Warning))),
            (&[LevelName], "E", None),
            (&[RedisMark], "", None),
        ] {
            assert_eq!(read(parts, line), expected, "{line}");
        }
    }
}
