//! Parser for the first line of an entry: whether it starts a record, and its level.

use super::prefix::{self, Prefix};
use super::{access_log, structured};
use crate::records::log_level::Level;
use crate::trace::class_name;

/// Properties of a line that do not depend on other lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct FirstLine {
    pub(super) level: Option<Level>,
    /// Whether the line starts a record: with a timestamp, a level, a bracketed group, a JSON object or a line of an
    /// access log.
    pub(super) starts_record: bool,
    /// Whether a logger wrote the line, to judge by its timestamp or its format.
    pub(super) from_logger: bool,
    /// Whether the line is empty or contains only whitespace.
    pub(super) is_blank: bool,
}

/// Parses a line without terminal escapes.
pub(super) fn parse(line: &str) -> FirstLine {
    let line = line.trim_ascii();
    if line.is_empty() {
        return FirstLine { is_blank: true, ..FirstLine::default() };
    }
    if let Some(members) = line.strip_prefix('{') {
        let is_object = members.ends_with('}') && members.trim_ascii_start().starts_with('"');
        let level = structured::json_level(line);
        let starts_record = is_object || level.is_some();
        return FirstLine { level, starts_record, from_logger: is_object, is_blank: false };
    }
    let Prefix { level, from_logger, starts_with_bracket, message_start } = prefix::parse(line);
    let message = line[message_start..].trim_ascii_start();
    if level == Some(Level::Info)
        && let Some(inner) = message.strip_prefix("PHP message: ")
    {
        // php-fpm logs all messages of PHP as NOTICE.
        let level = crash_level(inner).or(level);
        return FirstLine { level, starts_record: true, from_logger, is_blank: false };
    }
    if level.is_some() {
        return FirstLine { level, starts_record: true, from_logger, is_blank: false };
    }
    if let Some(status) = access_log::status(line) {
        let level = Some(Level::from_http_status(status));
        return FirstLine { level, starts_record: true, from_logger: true, is_blank: false };
    }
    let starts_record = from_logger || starts_with_bracket;
    FirstLine { level: crash_level(message), starts_record, from_logger, is_blank: false }
}

/// Returns the level of a message that is the first line of a crash, an interpreter's warning, or output that well-known
/// programs write to stderr at every start.
fn crash_level(message: &str) -> Option<Level> {
    let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| message.starts_with(prefix));
    match message.as_bytes().first()? {
        b'P' if starts(&["PHP Fatal error:"]) => Some(Level::Critical),
        b'P' if starts(&["PHP Parse error:", "PHP Recoverable fatal error:"]) => Some(Level::Error),
        b'P' if starts(&["PHP Warning:", "PHP Deprecated:"]) => Some(Level::Warning),
        b'P' if starts(&["PHP Notice:", "Picked up JAVA_TOOL_OPTIONS: "]) => Some(Level::Info),
        b'O' if starts(&["OpenJDK 64-Bit Server VM warning: "]) => Some(Level::Warning),
        b'S' if starts(&["SLF4J: "]) => Some(Level::Warning),
        b'A' if starts(&["AH00558: "]) => Some(Level::Warning),
        b'N' if starts(&["Not Found: /"]) => Some(Level::Warning),
        b'V' if starts(&["Version: '"]) => Some(Level::Info),
        // A shell's `set -x`.
        b'+' if starts(&["+ ", "++ "]) => Some(Level::Info),
        b'F' if starts(&["Fatal error: "]) => Some(Level::Critical),
        b'p' if starts(&["panic: "]) => Some(Level::Critical),
        b'f' if starts(&["fatal error: "]) => Some(Level::Critical),
        b'h' if starts(&["http: panic serving "]) => Some(Level::Error),
        b'n' if starts(&["npm ERR!", "npm error "]) => Some(Level::Error),
        b'n' if starts(&["npm WARN ", "npm warn "]) => Some(Level::Warning),
        b'n' if starts(&["npm notice"]) => Some(Level::Info),
        b'T' if starts(&["Traceback (most recent call last)", "Task exception was never retrieved"]) => {
            Some(Level::Error)
        }
        b't' if message.starts_with("thread '") && message.contains("panicked at") => Some(Level::Error),
        b'E' if starts(&["Exception in thread ", "Exception ignored in"]) => Some(Level::Error),
        b'U' if starts(&["Unhandled exception", "Unhandled Exception", "Uncaught "]) => Some(Level::Error),
        b'*' if starts(&["** ("]) => Some(Level::Error),
        b'(' if starts(&["(node:"]) => message.contains("Warning: ").then_some(Level::Warning),
        b'/' | b'<' if is_python_warning(message) => Some(Level::Warning),
        _ => exception_level(message),
    }
}

/// Recognizes `/app/cart.py:7: DeprecationWarning: …`, the format of Python's `warnings`.
fn is_python_warning(line: &str) -> bool {
    let Some((location, rest)) = line.split_once(": ") else { return false };
    let is_warning = rest.split_once(": ").is_some_and(|(name, _)| name.ends_with("Warning") && is_class_name(name));
    is_warning && location.rsplit_once(':').is_some_and(|(_, line)| line.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Returns the level of a message that starts with the name of an exception or a warning:
///
/// `ValueError: …`, `java.lang.IllegalStateException`, `TypeError [ERR_INVALID_ARG_TYPE]: …`, `FooWarning: …`,
/// `app.rb:3:in 'pay': … (ArgumentError)`, `NoMethodError (undefined method …):`.
fn exception_level(message: &str) -> Option<Level> {
    let name = class_name(message);
    let after = &message[name.len()..];
    let ends = after.is_empty() || after.starts_with(": ") || after == ":" || after.starts_with(" [");
    let ends = ends || (after.starts_with(" (") && after.ends_with("):"));
    if ends && (name.ends_with("Error") || name.ends_with("Exception")) {
        return Some(Level::Error);
    }
    if ends && !after.is_empty() && name.ends_with("Warning") {
        return Some(Level::Warning);
    }
    (message.ends_with(')') && message.contains(".rb:") && message.contains(":in ")).then_some(Level::Error)
}

fn is_class_name(name: &str) -> bool {
    !name.is_empty() && class_name(name).len() == name.len()
}
