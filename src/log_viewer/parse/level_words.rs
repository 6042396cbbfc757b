//! Decision whether a word in the prefix of a line is the name of a level.

use super::ambiguous_level_names::is_unambiguous;
use crate::records::log_level::Level;

/// Context of a word in the prefix of a line.
#[derive(Debug, Clone, Copy)]
pub(super) struct WordPosition {
    /// Whether the line has a logger's prefix so far, or starts with a bracketed group.
    pub(super) in_prefix: bool,
    /// Whether a logger wrote the line.
    pub(super) from_logger: bool,
    /// Whether the previous word was a timestamp.
    pub(super) after_timestamp: bool,
    /// Whether the previous word was a number.
    pub(super) after_number: bool,
    /// Whether a sign such as `✖` precedes the word.
    pub(super) after_sign: bool,
    /// Whether a `|` precedes the word.
    pub(super) after_pipe: bool,
    /// Whether the previous word was the name of a program or a place in a file: `munged:`, `a.ts(1,5):`.
    pub(super) after_label: bool,
    /// Whether the word is the first one that is not part of a timestamp.
    pub(super) is_first: bool,
    /// Number of ordinary words so far.
    pub(super) ordinary_words: usize,
}

/// Returns the level that a word names, if it is in a position where it is a level. `rest` is the text after the word.
pub(super) fn level(word: &str, rest: &str, position: WordPosition) -> Option<Level> {
    let WordPosition {
        in_prefix, from_logger, after_timestamp, after_number, after_sign, after_pipe, after_label, ..
    } = position;
    let (name, tail) = split_name(word);
    if name.len() < 2 {
        return if after_timestamp {
            level_from_initial(word, rest)
        } else {
            level_from_mark(word).filter(|_| from_logger)
        };
    }
    if from_logger && let Some(level) = level_between_slashes(word) {
        return Some(level);
    }
    if in_prefix && let Some(inner) = word.strip_suffix(':') {
        // Monolog: `channel.LEVEL:`.
        if let Some((_, last)) = inner.rsplit_once('.')
            && last.len() > 1
            && last.bytes().all(|byte| byte.is_ascii_uppercase())
        {
            return Level::from_name(last);
        }
        // Icinga: `critical/ApiListener:`.
        if from_logger && tail.starts_with('/') {
            return Level::from_name(name);
        }
    }
    if position.is_first
        && tail.len() > 1
        && tail.starts_with(':')
        && let Some(level) = level_after_name(word)
    {
        return Some(level);
    }
    if after_timestamp && name.starts_with("LOG") && tail.is_empty() {
        return level_from_severity(word, rest);
    }
    let is_early = position.ordinary_words == 0 || (position.ordinary_words == 1 && (from_logger || after_number));
    // NTPsec logs the reading of its configuration as `ntpd[1]: CONFIG:`. As a level, the word comes first.
    let is_category = name == "CONFIG" && !position.is_first;
    let level = Level::from_name(name).filter(|_| is_early && !is_category)?;
    let is_column = tail.is_empty() && after_pipe && rest.trim_ascii_start().starts_with('|');
    let is_known = || is_unambiguous(name) || (from_logger && level >= Level::Warning);
    let is_level = if name.bytes().any(|byte| byte.is_ascii_lowercase()) {
        // `Error:` without a prefix is usually the name of an exception.
        let is_label = tail == ":" && (name != "Error" || from_logger || after_label) && is_known();
        let is_spaced_label =
            || tail.is_empty() && from_logger && rest.trim_ascii_start().starts_with(": ") && is_known();
        let is_diagnostic = || after_label && tail.is_empty() && is_before_code(rest);
        let is_separated = rest.starts_with('\t') || (after_timestamp && is_separated_name(name, rest));
        let is_after_sign = after_sign && rest.starts_with(' ') && is_unambiguous(name);
        is_label
            || is_spaced_label()
            || is_diagnostic()
            || is_column
            || (tail.is_empty() && ((from_logger && is_separated) || is_after_sign))
    } else {
        let has_colon = tail.starts_with(':');
        (tail.is_empty() || has_colon || tail == "," || tail == "!") && (has_colon || in_prefix || is_unambiguous(name))
    };
    let is_value = || tail == ":" && is_nothing(rest.trim_ascii());
    (is_level && !is_value()).then_some(level)
}

/// Returns whether a name such as `Error` or `error` after a timestamp is separated from the message by more than one
/// blank, or by its case.
fn is_separated_name(name: &str, rest: &str) -> bool {
    let Some(next) = rest.strip_prefix(' ') else { return false };
    let is_capitalized = name.starts_with(|first: char| first.is_ascii_uppercase());
    is_unambiguous(name)
        && next
            .starts_with(|next: char| matches!(next, ' ' | '[' | '(') || (is_capitalized && next.is_ascii_uppercase()))
}

/// Returns whether the text after a level starts with the code of a diagnostic, as TypeScript and C# print it: ` TS2322: `.
fn is_before_code(rest: &str) -> bool {
    let (code, tail) = split_name(rest.trim_ascii_start());
    let digits = code.trim_start_matches(|letter: char| letter.is_ascii_uppercase());
    let is_code = !digits.is_empty() && digits.len() < code.len() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_code && tail.starts_with(": ")
}

/// Returns whether the text after `Error:` or the like says that there is none.
pub(super) fn is_nothing(value: &str) -> bool {
    matches!(value, "0" | "none" | "None" | "NONE" | "no" | "null" | "nil" | "false" | "[]" | "{}")
}

/// Parses `app:error`, `gpsd:ERROR:` and `log4j:WARN`, the names of a logger and a level.
fn level_after_name(word: &str) -> Option<Level> {
    let (logger, level) = word.trim_end_matches(':').rsplit_once(':')?;
    let is_logger = logger.starts_with(|first: char| first.is_ascii_alphabetic()) && !logger.ends_with(':');
    Level::from_name(level).filter(|_| is_logger && level.len() >= 4 && is_unambiguous(level))
}

/// Parses a level between two names: `host/WARNING/logger:` (Locust).
fn level_between_slashes(word: &str) -> Option<Level> {
    let (level, logger) = word.split_once('/')?.1.split_once('/')?;
    let is_name = level.bytes().all(|byte| byte.is_ascii_uppercase()) && is_unambiguous(level);
    Level::from_name(level).filter(|_| is_name && logger.ends_with(':') && !logger.contains('/'))
}

/// Parses the severity of syslog as stunnel writes it after a timestamp: `LOG3[ui]:`.
fn level_from_severity(word: &str, rest: &str) -> Option<Level> {
    let [digit @ b'0'..=b'7'] = *word.strip_prefix("LOG")?.as_bytes() else { return None };
    Level::from_syslog_severity(i64::from(digit - b'0')).filter(|_| rest.starts_with('['))
}

/// Parses the initial of a level after a timestamp: `E!` (Telegraf), `E |` (etcd) and `E/Tag` (Android).
fn level_from_initial(word: &str, rest: &str) -> Option<Level> {
    let [letter, tail @ ..] = word.as_bytes() else { return None };
    let is_initial = match tail {
        [] => rest.starts_with(" | "),
        [b'!'] => true,
        [b'/', ..] => true,
        _ => false,
    };
    Level::from_letter(*letter).filter(|_| is_initial)
}

/// Parses the initial of a level in front of a message: `E>` (Tarantool).
fn level_from_mark(word: &str) -> Option<Level> {
    let [letter, b'>'] = *word.as_bytes() else { return None };
    Level::from_letter(letter)
}

/// Parses a level that is attached to a timestamp: `12:00:00,123::ERROR::`, `12:00:00,123:ERROR:shop`, `12:00:00.123:WARN`.
pub(super) fn level_after_timestamp(word: &str) -> Option<Level> {
    // `12:00:00` is the shortest timestamp, and `:WARN:` the shortest level.
    const BYTES_MIN: usize = 14;
    if word.len() < BYTES_MIN {
        return None;
    }
    let is_attached = |pair: &[u8]| pair[0] == b':' && pair[1].is_ascii_uppercase();
    const CLOCK_BYTES: usize = 8;
    let start = CLOCK_BYTES + word.as_bytes()[CLOCK_BYTES..].windows(2).position(is_attached)?;
    let (name, tail) = split_name(&word[start + 1..]);
    Level::from_name(name).filter(|_| name.len() > 1 && (tail.is_empty() || tail.starts_with(':')))
}

/// Splits the letters and digits at the start of a text from the rest.
pub(super) fn split_name(text: &str) -> (&str, &str) {
    text.split_at(text.bytes().position(|byte| !byte.is_ascii_alphanumeric()).unwrap_or(text.len()))
}

/// Returns the level of a sign in front of a message.
pub(super) fn sign_level(sign: char) -> Option<Level> {
    match sign {
        '✖' | '✗' | '✘' | '⨯' | '❌' | '🚨' | '🔥' => Some(Level::Error),
        '⚠' => Some(Level::Warning),
        _ => None,
    }
}
