//! Parser for the prefix that a logger writes before the message: timestamps, brackets, process IDs, logger names, and
//! among them the level.
//!
//! Every program has its own layout, so no layout is spelled out here. The parser reads words as long as they can belong
//! to a prefix, and accepts a level name only if all words before it can. It never reads a word of the message as a
//! level: a prefix ends at the second ordinary word, or at the first if there is no timestamp before it.

use super::ambiguous_level_names::is_unambiguous;
use super::{access_log, structured, timestamps};
use crate::records::log_level::Level;

/// Maximum number of words in a prefix. Those of Java and Rails have eight.
const WORDS_MAX: usize = 12;
/// Maximum length of a bracketed group that is inspected, in bytes.
const GROUP_BYTES_MAX: usize = 80;

/// Prefix of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Prefix {
    pub(super) level: Option<Level>,
    /// Whether a logger wrote the line: there is a timestamp, a priority or a `key=value` pair with a level.
    pub(super) from_logger: bool,
    /// Whether the line starts with a bracketed group.
    pub(super) starts_with_bracket: bool,
    /// Byte offset of the message. Names of loggers and hosts count as part of the message.
    pub(super) message_start: usize,
}

/// Parses the prefix of a line without terminal escapes.
pub(super) fn parse(line: &str) -> Prefix {
    parse_coded(line).unwrap_or_else(|| PrefixParser::new(line).parse())
}

/// Parses the formats that start with a code: syslog priorities, klog and glog.
fn parse_coded(line: &str) -> Option<Prefix> {
    let (level, message_start) = match line.as_bytes().first()? {
        b'<' => {
            let end = line.bytes().take(5).position(|byte| byte == b'>')?;
            let priority: i64 = line[1..end].parse().ok()?;
            (Level::from_syslog_severity(priority & 7)?, end + 1)
        }
        b'D' | b'I' | b'W' | b'E' | b'F' => {
            // klog and glog: `E0131 12:00:00.000000       1 main.go:12] message`. The date may include the year.
            let (date, rest) = line[1..].split_once(' ')?;
            let is_date = matches!(date.len(), 4 | 8) && date.bytes().all(|byte| byte.is_ascii_digit());
            let after_clock = rest.find(' ').filter(|end| is_date && timestamps::is_timestamp(&rest[..*end]))?;
            let message = rest.find("] ").map_or(after_clock, |end| end + 1);
            (Level::from_name(&line[..1])?, line.len() - rest.len() + message)
        }
        _ => return None,
    };
    Some(Prefix { level: Some(level), from_logger: true, starts_with_bracket: false, message_start })
}

struct PrefixParser<'l> {
    line: &'l str,
    rest: &'l str,
    prefix: Prefix,
    /// Byte offset of the first name, which can also be the first word of the message.
    first_name_start: Option<usize>,
    /// Number of ordinary words.
    ordinary_words: usize,
    /// Number of names: words that contain punctuation or digits.
    names: usize,
    /// Whether the previous word was a number.
    after_number: bool,
    /// Whether the previous word was a timestamp.
    after_timestamp: bool,
    is_redis: bool,
    /// Whether a `|` precedes the current word.
    after_pipe: bool,
}

impl<'l> PrefixParser<'l> {
    fn new(line: &'l str) -> Self {
        Self {
            line,
            rest: line,
            prefix: Prefix::default(),
            first_name_start: None,
            ordinary_words: 0,
            names: 0,
            after_number: false,
            after_timestamp: false,
            is_redis: false,
            after_pipe: false,
        }
    }

    fn parse(mut self) -> Prefix {
        for _ in 0..WORDS_MAX {
            self.skip_separators();
            let more = match self.rest.as_bytes().first() {
                None | Some(b'"' | b'{') => false,
                Some(b'[') => self.read_brackets(),
                Some(b'(') => self.in_prefix() && self.read_group(b')').is_some(),
                Some(b'<') => self.in_prefix() && self.read_group(b'>').is_some(),
                Some(_) => self.read_word(),
            };
            if !more {
                break;
            }
        }
        self.prefix.message_start = self.first_name_start.unwrap_or(self.line.len() - self.rest.len());
        self.prefix
    }

    fn skip_separators(&mut self) {
        let separators = self.rest.bytes().take_while(|byte| b" \t|-:,".contains(byte)).count();
        let (separators, rest) = self.rest.split_at(separators);
        self.after_pipe = separators.contains('|');
        self.rest = rest;
    }

    fn in_prefix(&self) -> bool {
        self.prefix.from_logger || self.prefix.starts_with_bracket
    }

    /// Stores the level, which ends the prefix. Returns `false`, like the readers of the last word.
    fn end_with(&mut self, level: Level) -> bool {
        self.prefix.level = Some(level);
        false
    }

    /// Consumes a bracketed group and returns its inside; `None` if it does not end within [`GROUP_BYTES_MAX`].
    fn read_group(&mut self, close: u8) -> Option<&'l str> {
        let end = self.rest.bytes().take(GROUP_BYTES_MAX).position(|byte| byte == close)?;
        let inside = &self.rest[1..end];
        self.rest = &self.rest[end + 1..];
        Some(inside)
    }

    /// Consumes a group in square brackets. Returns whether the prefix continues.
    fn read_brackets(&mut self) -> bool {
        let is_first = self.rest.len() == self.line.len();
        let Some(inside) = self.read_group(b']') else { return false };
        self.prefix.starts_with_bracket |= is_first;
        let (has_timestamp, level) = parse_bracketed(inside.trim_ascii());
        self.prefix.from_logger |= has_timestamp;
        self.after_timestamp = has_timestamp;
        match level {
            Some(level) => self.end_with(level),
            None => true,
        }
    }

    /// Consumes a word. Returns whether the prefix continues.
    fn read_word(&mut self) -> bool {
        let end = self.rest.bytes().position(|byte| b" \t|[".contains(&byte)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        let (after_timestamp, after_number) = (self.after_timestamp, self.after_number);
        (self.after_timestamp, self.after_number) = (false, false);
        if timestamps::is_timestamp(word) {
            self.rest = rest;
            self.prefix.from_logger = true;
            self.after_timestamp = true;
            return match rest.as_bytes() {
                [b' ', mark, b' ', ..] if self.is_redis => redis_level(*mark).is_none_or(|level| self.end_with(level)),
                _ => true,
            };
        }
        if let Some(level) = self.level(word, rest, after_number) {
            self.rest = rest;
            return self.end_with(level);
        }
        if self.is_code(word, rest, after_timestamp) {
            self.rest = rest;
            return true;
        }
        if let Some(level) = self.status_column(word, rest) {
            return self.end_with(level);
        }
        if word.bytes().all(|byte| byte.is_ascii_digit() || byte == b',') {
            self.rest = rest;
            self.after_number = true;
            return true;
        }
        if word.contains('=') {
            return self.read_pair(word, rest);
        }
        self.read_name(word, rest)
    }

    /// Returns the level that the word names, if it is in a position where it is a level.
    fn level(&self, word: &str, rest: &str, after_number: bool) -> Option<Level> {
        let name_end = word.bytes().position(|byte| !byte.is_ascii_alphanumeric()).unwrap_or(word.len());
        let (name, tail) = word.split_at(name_end);
        if name.len() < 2 {
            return None;
        }
        if self.in_prefix() && word.ends_with(':') {
            // Monolog: `channel.LEVEL:`.
            let last = word[..word.len() - 1].rsplit('.').next().unwrap_or_default();
            if last.len() > 1 && last.len() < word.len() - 1 && last.bytes().all(|byte| byte.is_ascii_uppercase()) {
                return Level::from_name(last);
            }
        }
        let is_early =
            self.ordinary_words == 0 || (self.ordinary_words == 1 && (self.prefix.from_logger || after_number));
        let level = Level::from_name(name).filter(|_| is_early)?;
        let colon = tail.starts_with(':');
        let column = tail.is_empty() && self.after_pipe && rest.trim_ascii_start().starts_with('|');
        let is_level = if name.bytes().any(|byte| byte.is_ascii_lowercase()) {
            // `Error:` is usually the name of an exception. zap's console encoder separates columns with tabs.
            let label = tail == ":" && name != "Error" && is_unambiguous(name);
            label || column || (self.prefix.from_logger && tail.is_empty() && rest.starts_with('\t'))
        } else {
            (tail.is_empty() || colon || tail == ",") && (colon || self.in_prefix() || is_unambiguous(name))
        };
        is_level.then_some(level)
    }

    /// Returns whether the word is a part of a prefix that is neither a name nor a level: a month, a weekday, a time
    /// zone, or the first word of a line by Ruby or Redis.
    fn is_code(&mut self, word: &str, rest: &str, after_timestamp: bool) -> bool {
        let bytes = word.as_bytes();
        if timestamps::is_month_or_weekday(word) {
            let next = rest.trim_ascii_start();
            return next.starts_with(|first: char| first.is_ascii_digit())
                || timestamps::is_month_or_weekday(next.get(..3).unwrap_or_default());
        }
        if after_timestamp && timestamps::is_zone(word) {
            return true;
        }
        // Redis: the process ID and the role, as in `1:M`.
        if let Some((number, [b'M' | b'C' | b'S' | b'X'])) =
            bytes.split_last_chunk::<1>().map(|(number, role)| (number, *role))
            && let Some((b':', number)) = number.split_last()
        {
            self.is_redis = !number.is_empty() && number.iter().all(u8::is_ascii_digit);
            return self.is_redis;
        }
        // Ruby: the level's initial, as in `F, [2026-01-31T12:00:00.000000 #1] FATAL -- :`.
        matches!(bytes, [b'A'..=b'Z', b','])
    }

    /// Rates the status in `| 500 |`, the column of the access logs of Gin and Fiber.
    fn status_column(&self, word: &str, rest: &str) -> Option<Level> {
        let column = self.prefix.from_logger && self.after_pipe && rest.trim_ascii_start().starts_with('|');
        access_log::status_code(word).filter(|_| column).map(Level::from_http_status)
    }

    fn read_pair(&mut self, word: &str, rest: &'l str) -> bool {
        if let Some(level) = structured::logfmt_level(self.rest) {
            self.prefix.from_logger = true;
            return self.end_with(level);
        }
        let value = word.split_once('=').map_or("", |(_, value)| value);
        self.prefix.from_logger |= timestamps::is_timestamp(value.trim_start_matches('"'));
        self.rest = rest;
        !value.starts_with('"')
    }

    fn read_name(&mut self, word: &str, rest: &'l str) -> bool {
        self.first_name_start.get_or_insert(self.line.len() - self.rest.len());
        let is_name = word.bytes().any(|byte| byte.is_ascii_digit() || b"._/@:#+".contains(&byte));
        if is_name && (self.in_prefix() || word.ends_with(':')) {
            self.names += 1;
        } else {
            self.ordinary_words += 1;
        }
        let may_continue = self.prefix.from_logger
            || self.prefix.starts_with_bracket
            || self.ordinary_words == 0
            || rest.trim_ascii_start().starts_with(|first: char| first.is_ascii_digit());
        self.rest = rest;
        self.ordinary_words <= 1 && self.names <= 4 && may_continue
    }
}

/// Parses the inside of a bracketed group. Returns whether it contains a timestamp, and its level.
fn parse_bracketed(inside: &str) -> (bool, Option<Level>) {
    if inside.len() > 1
        && let Some(level) = Level::from_name(inside)
    {
        return (false, Some(level));
    }
    // Apache: `module:level`.
    if let Some((module, level)) = inside.split_once(':')
        && module.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'_')
        && let Some(level) = Level::from_name(level.trim_end_matches(|last: char| last.is_ascii_digit()))
    {
        return (false, Some(level));
    }
    let (mut has_timestamp, mut level) = (false, None);
    // `2026-01-31T12:00:00Z INFO  shop` (env_logger), `2026-01-31 12:00:00,123: INFO/MainProcess` (Celery) and
    // `E 2026-01-31 12:00:00.000 ServerApp` (Jupyter).
    let parts = inside.split([' ', '/']).filter(|part| !part.is_empty()).take(6);
    for (index, part) in parts.enumerate() {
        let part = part.trim_end_matches([',', ':']);
        if timestamps::is_timestamp(part) {
            has_timestamp = true;
        } else if level.is_none() && part.bytes().all(|byte| byte.is_ascii_uppercase()) && (has_timestamp || index == 0)
        {
            level = Level::from_name(part).filter(|_| index == 0 || is_unambiguous(part));
        }
    }
    let starts_with_initial = inside.as_bytes().get(1) == Some(&b' ');
    (has_timestamp, level.filter(|_| has_timestamp || !starts_with_initial))
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
