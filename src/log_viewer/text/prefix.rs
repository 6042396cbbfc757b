//! What a logger writes before the message: moments, brackets, process numbers, names, and somewhere among them the
//! level.
//!
//! There are as many layouts as programs, so none is spelled out here. The words of the line are taken one by one while
//! they can belong to a prefix, and a level word counts only where all that stands before it does. A word of the message
//! is never reached: the second ordinary word ends the prefix, and the first does where no moment came before.

use super::level::Level;
use super::{access, moment, structured, words};

/// Words looked at. Java's and Rails' prefixes have eight.
const WORDS_MAX: usize = 12;
/// The longest bracket group that is looked into.
const GROUP_BYTES_MAX: usize = 80;

/// What a line says before its message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Prefix {
    pub(super) level: Option<Level>,
    /// Whether a logger wrote it: there is a moment, a priority or a pair with a level.
    pub(super) logged: bool,
    /// Whether it begins with something in brackets.
    pub(super) tagged: bool,
    /// Where the message begins, in bytes, names of loggers and hosts being counted to it.
    pub(super) message: usize,
}

/// Reads the prefix of a line without escapes.
pub(super) fn read(line: &str) -> Prefix {
    special(line).unwrap_or_else(|| Reader::new(line).read())
}

/// The formats that begin with a code of their own.
fn special(line: &str) -> Option<Prefix> {
    let (level, message) = match line.as_bytes().first()? {
        b'<' => {
            let end = line.bytes().take(5).position(|byte| byte == b'>')?;
            let priority: i64 = line[1..end].parse().ok()?;
            (Level::of_syslog(priority & 7)?, end + 1)
        }
        b'D' | b'I' | b'W' | b'E' | b'F' => {
            // klog and glog: `E0131 12:00:00.000000       1 main.go:12] message`, some with the year.
            let (date, rest) = line[1..].split_once(' ')?;
            let is_date = matches!(date.len(), 4 | 8) && date.bytes().all(|byte| byte.is_ascii_digit());
            let after_clock = rest.find(' ').filter(|end| is_date && moment::is_part(&rest[..*end]))?;
            let message = rest.find("] ").map_or(after_clock, |end| end + 1);
            (words::level(&line[..1])?, line.len() - rest.len() + message)
        }
        _ => return None,
    };
    Some(Prefix { level: Some(level), logged: true, tagged: false, message })
}

struct Reader<'l> {
    line: &'l str,
    rest: &'l str,
    found: Prefix,
    /// Where the message began when the first name came, which may have been its first word.
    message: Option<usize>,
    /// Words that are nothing in particular, and names, which have marks or digits in them.
    plain: usize,
    names: usize,
    /// Whether the last word was a number, a moment.
    numbered: bool,
    timed: bool,
    redis: bool,
    /// Whether a `|` stood before the present word.
    piped: bool,
}

impl<'l> Reader<'l> {
    fn new(line: &'l str) -> Self {
        Self {
            line,
            rest: line,
            found: Prefix::default(),
            message: None,
            plain: 0,
            names: 0,
            numbered: false,
            timed: false,
            redis: false,
            piped: false,
        }
    }

    fn read(mut self) -> Prefix {
        for _ in 0..WORDS_MAX {
            self.skip_separators();
            let more = match self.rest.as_bytes().first() {
                None | Some(b'"' | b'{') => false,
                Some(b'[') => self.brackets(),
                Some(b'(') => self.in_prefix() && self.group(b')').is_some(),
                Some(b'<') => self.in_prefix() && self.group(b'>').is_some(),
                Some(_) => self.word(),
            };
            if !more {
                break;
            }
        }
        self.found.message = self.message.unwrap_or(self.line.len() - self.rest.len());
        self.found
    }

    fn skip_separators(&mut self) {
        let separators = self.rest.bytes().take_while(|byte| b" \t|-:,".contains(byte)).count();
        let (separators, rest) = self.rest.split_at(separators);
        self.piped = separators.contains('|');
        self.rest = rest;
    }

    fn in_prefix(&self) -> bool {
        self.found.logged || self.found.tagged
    }

    fn ends_with(&mut self, level: Level) -> bool {
        self.found.level = Some(level);
        false
    }

    /// Takes a group in brackets, if it ends in time.
    fn group(&mut self, close: u8) -> Option<&'l str> {
        let end = self.rest.bytes().take(GROUP_BYTES_MAX).position(|byte| byte == close)?;
        let inside = &self.rest[1..end];
        self.rest = &self.rest[end + 1..];
        Some(inside)
    }

    fn brackets(&mut self) -> bool {
        let first = self.rest.len() == self.line.len();
        let Some(inside) = self.group(b']') else { return false };
        self.found.tagged |= first;
        let (moment, level) = bracketed(inside.trim_ascii());
        self.found.logged |= moment;
        self.timed = moment;
        match level {
            Some(level) => self.ends_with(level),
            None => true,
        }
    }

    fn word(&mut self) -> bool {
        let end = self.rest.bytes().position(|byte| b" \t|[".contains(&byte)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        let (was_timed, was_numbered) = (self.timed, self.numbered);
        (self.timed, self.numbered) = (false, false);
        if moment::is_part(word) {
            self.rest = rest;
            self.found.logged = true;
            self.timed = true;
            return match rest.as_bytes() {
                [b' ', mark, b' ', ..] if self.redis => redis(*mark).is_none_or(|level| self.ends_with(level)),
                _ => true,
            };
        }
        if let Some(level) = self.level(word, rest, was_numbered) {
            self.rest = rest;
            return self.ends_with(level);
        }
        if self.is_code(word, rest, was_timed) {
            self.rest = rest;
            return true;
        }
        if let Some(level) = self.status(word, rest) {
            return self.ends_with(level);
        }
        if word.bytes().all(|byte| byte.is_ascii_digit() || byte == b',') {
            self.rest = rest;
            self.numbered = true;
            return true;
        }
        if word.contains('=') {
            return self.pair(word, rest);
        }
        self.name(word, rest)
    }

    /// A level word in a place where it is one.
    fn level(&self, word: &str, rest: &str, numbered: bool) -> Option<Level> {
        let letters = word.bytes().position(|byte| !byte.is_ascii_alphanumeric()).unwrap_or(word.len());
        let (letters, tail) = word.split_at(letters);
        if letters.len() < 2 {
            return None;
        }
        if self.in_prefix() && word.ends_with(':') {
            // Monolog's `channel.LEVEL:`.
            let last = word[..word.len() - 1].rsplit('.').next().unwrap_or_default();
            if last.len() > 1 && last.len() < word.len() - 1 && last.bytes().all(|byte| byte.is_ascii_uppercase()) {
                return words::level(last);
            }
        }
        let placed = self.plain == 0 || (self.plain == 1 && (self.found.logged || numbered));
        let level = words::level(letters).filter(|_| placed)?;
        let colon = tail.starts_with(':');
        let column = tail.is_empty() && self.piped && rest.trim_ascii_start().starts_with('|');
        let fits = if letters.bytes().any(|byte| byte.is_ascii_lowercase()) {
            // `Error:` is rather an exception's name. A tab is how zap's console sets a column off.
            let named = tail == ":" && letters != "Error" && words::is_unmistakable(letters);
            named || column || (self.found.logged && tail.is_empty() && rest.starts_with('\t'))
        } else {
            (tail.is_empty() || colon || tail == ",") && (colon || self.in_prefix() || words::is_unmistakable(letters))
        };
        fits.then_some(level)
    }

    /// A part of a prefix that names nothing: a month, a weekday, a zone, Ruby's and redis' first words.
    fn is_code(&mut self, word: &str, rest: &str, timed: bool) -> bool {
        let bytes = word.as_bytes();
        if moment::is_month_or_day(word) {
            let next = rest.trim_ascii_start();
            return next.starts_with(|first: char| first.is_ascii_digit())
                || moment::is_month_or_day(next.get(..3).unwrap_or_default());
        }
        if timed && moment::is_zone(word) {
            return true;
        }
        if let Some((number, [b'M' | b'C' | b'S' | b'X'])) =
            bytes.split_last_chunk::<1>().map(|(number, role)| (number, *role))
            && let Some((b':', number)) = number.split_last()
        {
            self.redis = !number.is_empty() && number.iter().all(u8::is_ascii_digit);
            return self.redis;
        }
        matches!(bytes, [b'A'..=b'Z', b','])
    }

    /// `| 500 |`, as Gin and Fiber write an access log.
    fn status(&self, word: &str, rest: &str) -> Option<Level> {
        let column = self.found.logged && self.piped && rest.trim_ascii_start().starts_with('|');
        access::number(word).filter(|_| column).map(Level::of_status)
    }

    fn pair(&mut self, word: &str, rest: &'l str) -> bool {
        if let Some(level) = structured::logfmt(self.rest) {
            self.found.logged = true;
            return self.ends_with(level);
        }
        let value = word.split_once('=').map_or("", |(_, value)| value);
        self.found.logged |= moment::is_part(value.trim_start_matches('"'));
        self.rest = rest;
        !value.starts_with('"')
    }

    fn name(&mut self, word: &str, rest: &'l str) -> bool {
        self.message.get_or_insert(self.line.len() - self.rest.len());
        let marked = word.bytes().any(|byte| byte.is_ascii_digit() || b"._/@:#+".contains(&byte));
        if marked && (self.in_prefix() || word.ends_with(':')) {
            self.names += 1;
        } else {
            self.plain += 1;
        }
        let goes_on = self.found.logged
            || self.found.tagged
            || self.plain == 0
            || rest.trim_ascii_start().starts_with(|first: char| first.is_ascii_digit());
        self.rest = rest;
        self.plain <= 1 && self.names <= 4 && goes_on
    }
}

/// What stands in brackets: whether it has a moment, and its level.
fn bracketed(inside: &str) -> (bool, Option<Level>) {
    if inside.len() > 1
        && let Some(level) = words::level(inside)
    {
        return (false, Some(level));
    }
    // Apache's `module:level`.
    if let Some((module, level)) = inside.split_once(':')
        && module.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'_')
        && let Some(level) = words::level(level.trim_end_matches(|last: char| last.is_ascii_digit()))
    {
        return (false, Some(level));
    }
    let (mut moment, mut level) = (false, None);
    // `2026-01-31T12:00:00Z INFO  shop` of env_logger, `2026-01-31 12:00:00,123: INFO/MainProcess` of celery, and
    // `E 2026-01-31 12:00:00.000 ServerApp` of Jupyter.
    let parts = inside.split([' ', '/']).filter(|part| !part.is_empty()).take(6);
    for (place, part) in parts.enumerate() {
        let part = part.trim_end_matches([',', ':']);
        if moment::is_part(part) {
            moment = true;
        } else if level.is_none() && part.bytes().all(|byte| byte.is_ascii_uppercase()) && (moment || place == 0) {
            level = words::level(part).filter(|_| place == 0 || words::is_unmistakable(part));
        }
    }
    let letter = inside.as_bytes().get(1) == Some(&b' ');
    (moment, level.filter(|_| moment || !letter))
}

/// redis marks `.-*#` from debug to warning, and itself hands them to syslog as these levels (`serverLogRaw`).
fn redis(mark: u8) -> Option<Level> {
    match mark {
        b'.' => Some(Level::Debug),
        b'-' | b'*' => Some(Level::Info),
        b'#' => Some(Level::Warning),
        _ => None,
    }
}
