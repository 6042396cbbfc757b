//! Time that a line of a text file states, in the formats of common loggers. `tests.rs` has a real line of each.
//!
//! Only a time in the prefix counts: at the start of the line, or after words that loggers write before it, such as a level,
//! a process ID or the client of an access log. A time in the message does not.

mod cursor;
mod date_time;
mod json;
mod local_time;
#[cfg(test)]
mod tests;

use super::ansi;
use crate::records::log_level::Level;
use cursor::Cursor;
use json::TIME_KEYS;
pub(in crate::log_viewer) use local_time::{LocalTime, StatedTime};

/// Length of the beginning of a line in which its time is searched, in bytes.
const PREFIX_BYTES_MAX: usize = 256;
/// Maximum number of words, or pairs, before the time.
const WORDS_MAX: usize = 12;
/// Maximum number of brackets in which the time is searched.
const BRACKETS_MAX: usize = 6;

/// Returns the time that a line states; `None` if there is none, or it is ambiguous like 02/03/2026.
pub(in crate::log_viewer) fn parse(line: &str) -> Option<StatedTime> {
    let line = line.trim_ascii_start();
    if line.starts_with('{') {
        return json::parse(line);
    }
    let prefix = &line[..line.floor_char_boundary(PREFIX_BYTES_MAX)];
    if prefix.contains('\u{1b}') { in_prefix(ansi::strip(prefix).trim_ascii_start()) } else { in_prefix(prefix) }
}

fn in_prefix(prefix: &str) -> Option<StatedTime> {
    let mut rest = after_priority(prefix);
    for _ in 0..WORDS_MAX {
        rest = rest.trim_start_matches([' ', '\t', '-', '|', '>']);
        let opened = rest.trim_start_matches(['[', '(', '<', '"', '\'']);
        if let Some(time) = date_time::parse(Cursor::new(opened)) {
            return Some(time);
        }
        rest = match skip_word(rest) {
            PrefixWord::Skipped(after) => after,
            PrefixWord::Time(time) => return Some(time),
            PrefixWord::Message => break,
        };
    }
    in_brackets(prefix)
}

/// Skips a syslog priority and version: `<34>` or `<34>1 `.
fn after_priority(line: &str) -> &str {
    let digits = line.strip_prefix('<').and_then(|rest| rest.split_once('>'));
    match digits {
        Some((digits, rest)) if digits.len() <= 3 && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            rest.strip_prefix("1 ").unwrap_or(rest)
        }
        _ => line,
    }
}

/// First word of a text that can be in a prefix.
enum PrefixWord<'l> {
    /// The text after a word that can precede the time.
    Skipped(&'l str),
    /// The word is a pair that contains the time.
    Time(StatedTime),
    /// The message starts here.
    Message,
}

fn skip_word(text: &str) -> PrefixWord<'_> {
    let close = match text.as_bytes().first() {
        None => return PrefixWord::Message,
        Some(b'[') => Some(']'),
        Some(b'(') => Some(')'),
        Some(_) => None,
    };
    if let Some(close) = close {
        return text.split_once(close).map_or(PrefixWord::Message, |(_, after)| PrefixWord::Skipped(after));
    }
    let end = text.find([' ', '\t']).unwrap_or(text.len());
    let (word, after) = text.split_at(end);
    if let Some((key, _)) = word.split_once('=') {
        return skip_pair(&text[key.len() + 1..], key);
    }
    let name = word.trim_end_matches([':', ',', '.', ']']);
    let is_level = |name: &str| Level::from_name(name).is_some();
    let is_number = || name.bytes().all(|byte| byte.is_ascii_digit());
    // Redis: the process ID and the role, as in `1:M`. Zigbee2MQTT: the name and the level.
    let last = name.rsplit(':').next().unwrap_or_default();
    let can_precede = word.ends_with(':')
        || after.trim_ascii_start().starts_with('|')
        || is_level(name)
        || is_number()
        || (last.len() < name.len() && (is_level(last) || matches!(last, "M" | "C" | "S" | "X")))
        || (word.ends_with(',') && name.len() == 1);
    if can_precede { PrefixWord::Skipped(after) } else { PrefixWord::Message }
}

/// Skips the pair with this key, given the text from its value on.
fn skip_pair<'l>(value: &'l str, key: &str) -> PrefixWord<'l> {
    let unquoted = value.strip_prefix('"');
    // Linux audit: `msg=audit(1769860800.123:456):`.
    let inner = value.strip_prefix("audit(").filter(|_| key == "msg");
    if (TIME_KEYS.contains(&key) || inner.is_some())
        && let Some(time) = date_time::parse(Cursor::new(inner.or(unquoted).unwrap_or(value)))
    {
        return PrefixWord::Time(time);
    }
    match unquoted {
        Some(inside) => inside.split_once('"').map_or(PrefixWord::Message, |(_, after)| PrefixWord::Skipped(after)),
        None => PrefixWord::Skipped(&value[value.find([' ', '\t']).unwrap_or(value.len())..]),
    }
}

/// Finds the time of an access log, which is in brackets after the client: `10.0.0.1 - bob [31/Jan/2026:12:00:00 +0000]`.
fn in_brackets(prefix: &str) -> Option<StatedTime> {
    let before_request = prefix.split_once('"').map_or(prefix, |(before, _)| before);
    before_request.split('[').skip(1).take(BRACKETS_MAX).find_map(|inside| {
        let time = |text: &str| date_time::parse(Cursor::new(text));
        // Jupyter: `[E 2026-01-31 12:00:00.000 ServerApp]`.
        let after_level = || inside.split_once(' ').filter(|(word, _)| Level::from_name(word).is_some());
        time(inside).or_else(|| time(after_level()?.1))
    })
}
