//! Parser for the prefix that a logger writes before the message: timestamps, brackets, process IDs, logger names, and
//! among them the level.
//!
//! Every program has its own layout, so no layout is spelled out here; [`super::formats`] has those that are exceptions.
//! The parser reads words as long as they can belong to a prefix, and accepts a level name only if all words before it
//! can. It never reads a word of the message as a level: a prefix ends at the second ordinary word, or at the first if
//! there is no timestamp before it.

use super::brackets::{self, split_group};
use super::format::Format;
use super::level_words::{self, WordPosition};
use super::{access_log, formats, json_level, logfmt, timestamps};
use crate::records::log_level::Level;

/// Maximum number of words in a prefix. Those of Java and Rails have eight.
const WORDS_MAX: usize = 12;

/// Prefix of a line.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Prefix {
    pub(super) level: Option<Level>,
    /// The format that states the level.
    pub(super) format: Option<&'static Format>,
    /// Whether a logger wrote the line: there is a timestamp, a priority or a `key=value` pair with a level.
    pub(super) from_logger: bool,
    /// Whether the line starts with a bracketed group.
    pub(super) starts_with_bracket: bool,
    /// Byte offset of the message. If no level is stated, names of loggers and hosts count as part of the message.
    pub(super) message_start: usize,
}

/// Parses the prefix of a line without terminal escapes.
pub(super) fn parse(line: &str) -> Prefix {
    if let [letter @ (b'D' | b'E' | b'I' | b'N' | b'W'), b':', b' ', ..] = line.as_bytes() {
        let (level, format) = (Level::from_letter(*letter), Some(&formats::LETTER_LABEL));
        return Prefix { level, format, message_start: 2, ..Prefix::default() };
    }
    PrefixParser::new(line).parse()
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
    /// Whether a `|` precedes the current word.
    after_pipe: bool,
    /// Whether the previous word was the name of a program or a place in a file: `munged:`, `a.ts(1,5):`.
    after_label: bool,
    /// Whether a sign such as `✖` precedes the current word.
    after_sign: bool,
    /// Level of the first sign.
    sign_level: Option<Level>,
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
            after_pipe: false,
            after_label: false,
            after_sign: false,
            sign_level: None,
        }
    }

    fn parse(mut self) -> Prefix {
        for _ in 0..WORDS_MAX {
            self.skip_separators();
            let more = match self.rest.as_bytes().first() {
                None | Some(b'"') => false,
                Some(b'[') => self.read_brackets(),
                Some(b'(') => self.read_parentheses(),
                Some(b'<') => self.in_prefix() && self.read_angle_brackets(),
                Some(b'{') => self.read_braces(),
                Some(_) => self.read_word(),
            };
            if !more {
                break;
            }
        }
        if self.prefix.level.is_none()
            && let Some(level) = self.sign_level
        {
            self.end_with(level, &formats::SIGN);
        }
        let end = self.line.len() - self.rest.len();
        let name_start = self.first_name_start.filter(|_| self.prefix.level.is_none());
        self.prefix.message_start = name_start.unwrap_or(end);
        self.prefix
    }

    /// Skips blanks, punctuation between words, and signs.
    fn skip_separators(&mut self) {
        (self.after_pipe, self.after_sign) = (false, false);
        loop {
            let separators = self.rest.bytes().take_while(|byte| b" \t|-:,".contains(byte)).count();
            let (separators, rest) = self.rest.split_at(separators);
            self.after_pipe |= separators.bytes().any(|byte| byte == b'|');
            self.rest = rest;
            if rest.as_bytes().first().is_none_or(u8::is_ascii) {
                return;
            }
            let Some(sign) = rest.chars().next().filter(|first| !first.is_alphanumeric()) else { return };
            self.rest = &rest[sign.len_utf8()..];
            self.after_sign = true;
            if self.ordinary_words == 0 && self.names == 0 {
                self.sign_level = self.sign_level.or(level_words::sign_level(sign));
            }
        }
    }

    fn in_prefix(&self) -> bool {
        self.prefix.from_logger || self.prefix.starts_with_bracket
    }

    /// Stores the level, which ends the prefix. Returns `false`, like the readers of the last word.
    fn end_with(&mut self, level: Level, format: &'static Format) -> bool {
        (self.prefix.level, self.prefix.format) = (Some(level), Some(format));
        false
    }

    fn end_with_name(&mut self, level: Option<Level>) -> bool {
        level.is_none_or(|level| self.end_with(level, &formats::PREFIX))
    }

    /// Consumes a group in square brackets. Returns whether the prefix continues.
    fn read_brackets(&mut self) -> bool {
        let is_first = self.rest.len() == self.line.len();
        let Some((inside, rest)) = split_group(self.rest, b']') else { return false };
        self.rest = rest;
        self.prefix.starts_with_bracket |= is_first;
        let (has_timestamp, level) = brackets::parse_square(inside.trim_ascii());
        self.prefix.from_logger |= has_timestamp;
        self.after_timestamp = false;
        self.end_with_name(level)
    }

    /// Consumes a group in parentheses. At the start of the line, a level must follow, as in
    /// `(EngineCore pid=271) ERROR …`.
    fn read_parentheses(&mut self) -> bool {
        let Some((inside, rest)) = split_group(self.rest, b')') else { return false };
        if self.rest.len() < self.line.len() {
            self.rest = rest;
            // PTPd: `ptpd2[4].startup (warning)`.
            let level = brackets::name(inside).filter(|_| self.prefix.from_logger);
            return self.end_with_name(level) && self.in_prefix();
        }
        let (name, rest) = level_words::split_name(rest.trim_ascii_start());
        let is_level = name.len() > 1 && name.bytes().all(|byte| byte.is_ascii_uppercase()) && rest.starts_with(' ');
        Level::from_name(name).filter(|_| is_level).is_some_and(|level| {
            self.rest = rest;
            self.end_with(level, &formats::PREFIX)
        })
    }

    fn read_angle_brackets(&mut self) -> bool {
        let Some((inside, rest)) = split_group(self.rest, b'>') else { return false };
        self.rest = rest;
        self.end_with_name(brackets::name(inside))
    }

    /// Consumes a group in braces, such as the identifier of a query in ClickHouse's log, or reads a JSON object.
    fn read_braces(&mut self) -> bool {
        if self.rest[1..].trim_ascii_start().starts_with('"') {
            let level = json_level::json_level(self.rest).filter(|_| self.ordinary_words == 0);
            return level.is_some_and(|level| self.end_with(level, &formats::PREFIXED_JSON));
        }
        let group = split_group(self.rest, b'}').filter(|_| self.in_prefix());
        group.is_some_and(|(_, rest)| {
            self.rest = rest;
            true
        })
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
            return self.end_with_name(level_words::level_after_timestamp(word));
        }
        let position = WordPosition {
            in_prefix: self.in_prefix(),
            from_logger: self.prefix.from_logger,
            after_timestamp,
            after_number,
            after_sign: self.after_sign,
            after_pipe: self.after_pipe,
            after_label: std::mem::take(&mut self.after_label),
            is_first: self.ordinary_words == 0 && self.names == 0,
            ordinary_words: self.ordinary_words,
        };
        if let Some(level) = level_words::level(word, rest, position) {
            self.rest = rest;
            return self.end_with(level, &formats::PREFIX);
        }
        // Ruby's Logger writes the initial of the level in front of the timestamp.
        let is_initial = matches!(word.as_bytes(), [b'A'..=b'Z', b',']);
        if is_initial || is_part_of_date(word, rest, after_timestamp) {
            self.rest = rest;
            return true;
        }
        if let Some(level) = self.status_column(word, rest) {
            return self.end_with(level, &formats::STATUS_COLUMN);
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

    /// Rates the status in `| 500 |`, the column of the access logs of Gin and Fiber.
    fn status_column(&self, word: &str, rest: &str) -> Option<Level> {
        let column = self.prefix.from_logger && self.after_pipe && rest.trim_ascii_start().starts_with('|');
        access_log::status_code(word).filter(|_| column).map(Level::from_http_status)
    }

    fn read_pair(&mut self, word: &str, rest: &'l str) -> bool {
        if let Some(level) = logfmt::logfmt_level(self.rest) {
            self.prefix.from_logger = true;
            return self.end_with(level, &formats::LOGFMT);
        }
        let value = word.split_once('=').map_or("", |(_, value)| value);
        self.prefix.from_logger |= timestamps::is_timestamp(value.trim_start_matches('"'));
        self.rest = rest;
        !value.starts_with('"')
    }

    fn read_name(&mut self, word: &str, rest: &'l str) -> bool {
        let next = rest.trim_ascii_start();
        // Compose writes the name of the service and a `|` in front of each line.
        let is_column = next.starts_with("| ");
        if !is_column {
            self.first_name_start.get_or_insert(self.line.len() - self.rest.len());
        }
        // The name of an exception starts with a capital.
        self.after_label =
            word.ends_with(':') && (word.starts_with(|first: char| first.is_ascii_lowercase()) || word.ends_with("):"));
        let is_name = word.bytes().any(|byte| byte.is_ascii_digit() || b"._/@:#+".contains(&byte));
        if is_column
            || (is_name && (self.in_prefix() || word.ends_with(':')))
            || (self.prefix.from_logger && starts_with_process_id(rest))
        {
            self.names += 1;
        } else {
            self.ordinary_words += 1;
        }
        let is_before_number = next.starts_with(|first: char| first.is_ascii_digit());
        let may_continue = self.in_prefix() || self.ordinary_words == 0 || is_before_number;
        self.rest = rest;
        self.ordinary_words <= 1 && self.names <= 4 && may_continue
    }
}

/// Returns whether the text after a word is a process ID in brackets: `[8692]`.
fn starts_with_process_id(rest: &str) -> bool {
    let Some((inside, _)) = rest.starts_with('[').then(|| split_group(rest, b']')).flatten() else { return false };
    !inside.is_empty() && inside.bytes().all(|byte| byte.is_ascii_digit())
}

/// Returns whether a word belongs to a date without being one: a month, a weekday, a day or a time zone.
fn is_part_of_date(word: &str, rest: &str, after_timestamp: bool) -> bool {
    let next = rest.trim_ascii_start();
    let is_before_number = next.starts_with(|first: char| first.is_ascii_digit());
    if timestamps::is_month_or_weekday(word) {
        return is_before_number || timestamps::is_month_or_weekday(next.get(..3).unwrap_or_default());
    }
    (timestamps::is_month_and_day(word) && is_before_number) || (after_timestamp && timestamps::is_zone(word))
}
