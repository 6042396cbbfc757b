//! Parser for the first line of an entry: whether it starts a record, and its level.

use super::format::{Format, FormatMatch};
use super::formats::{EXCEPTION, MESSAGES, RECORDS, REQUESTS};
use super::prefix::{self, Prefix};
use crate::records::log_level::Level;

/// Properties of a line that do not depend on other lines.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::log_viewer) struct FirstLine {
    pub(super) level: Option<Level>,
    /// The format that the line was recognized by.
    pub(in crate::log_viewer) format: Option<&'static Format>,
    /// Whether the line starts a record: with a timestamp, a level, a bracketed group, a JSON object or a line of an
    /// access log.
    pub(super) starts_record: bool,
    /// Whether a logger wrote the line, to judge by its timestamp or its format.
    pub(super) from_logger: bool,
    pub(super) message: MessageEnd,
    /// Whether the line is empty or contains only whitespace.
    pub(super) is_blank: bool,
}

impl FirstLine {
    /// Returns whether the line is the name of an exception, with or without its message.
    pub(super) fn names_exception(&self) -> bool {
        self.format.is_some_and(|format| format.name == EXCEPTION)
    }
}

/// End of the message that starts in a line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum MessageEnd {
    /// Nothing else belongs to a JSON object or to a line of an access log.
    Certain,
    #[default]
    Unknown,
    /// The message is on the next lines, because it is empty or ends in a colon.
    Announced,
}

impl MessageEnd {
    fn of(message: &str) -> Self {
        if message.is_empty() || message.ends_with(':') { Self::Announced } else { Self::Unknown }
    }
}

/// Parses a line without terminal escapes.
pub(super) fn parse(line: &str) -> FirstLine {
    let line = line.trim_ascii();
    if line.is_empty() {
        return FirstLine { is_blank: true, ..FirstLine::default() };
    }
    if let Some(found) = RECORDS.find(line) {
        let message = match line.as_bytes()[0] {
            b'{' => MessageEnd::Certain,
            b'=' | b'#' => MessageEnd::Announced,
            _ => MessageEnd::of(line),
        };
        return logged(found, message);
    }
    let prefix = prefix::parse(line);
    let message = line[prefix.message_start..].trim_ascii_start();
    match prefix.level {
        None => match REQUESTS.find(line) {
            Some(request) => logged(request, MessageEnd::Certain),
            None => unlabelled(&prefix, message),
        },
        Some(Level::Info) => match REQUESTS.find(message_of_request(message)) {
            Some(request) => logged(request, MessageEnd::Certain),
            // php-fpm logs all messages of PHP as NOTICE.
            None => match message.strip_prefix("PHP message: ").and_then(|message| MESSAGES.find(message)) {
                Some((format, level)) => FirstLine { level, format: Some(format), ..labelled(&prefix, message) },
                None => labelled(&prefix, message),
            },
        },
        Some(_) => labelled(&prefix, message),
    }
}

/// Returns the properties of a line that a logger wrote, by its format.
fn logged((format, level): FormatMatch, message: MessageEnd) -> FirstLine {
    FirstLine { level, format: Some(format), starts_record: true, from_logger: true, message, is_blank: false }
}

/// Returns the properties of a line with a level in its prefix.
fn labelled(prefix: &Prefix, message: &str) -> FirstLine {
    FirstLine {
        level: prefix.level,
        format: prefix.format,
        starts_record: true,
        from_logger: prefix.from_logger,
        message: MessageEnd::of(message),
        is_blank: false,
    }
}

/// Returns the properties of a line without a level in its prefix, or without a prefix.
fn unlabelled(prefix: &Prefix, message: &str) -> FirstLine {
    let found = MESSAGES.find(message);
    FirstLine {
        level: found.and_then(|(_, level)| level),
        format: found.map(|(format, _)| format),
        starts_record: prefix.from_logger || prefix.starts_with_bracket,
        from_logger: prefix.from_logger,
        message: MessageEnd::of(message),
        is_blank: false,
    }
}

/// Returns the message of a record without what may come between the level and the request: `-- : [4f1c] `.
fn message_of_request(message: &str) -> &str {
    let separators = message.bytes().take_while(|byte| b" -:|".contains(byte)).count();
    let message = &message[separators..];
    let tag_end = if message.starts_with('[') { message.bytes().position(|byte| byte == b']') } else { None };
    tag_end.map_or(message, |end| message[end + 1..].trim_ascii_start())
}
