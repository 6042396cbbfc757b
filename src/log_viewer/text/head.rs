//! What the first line of an entry tells: whether a new record begins with it, and its level.

use super::level::Level;
use super::prefix::{self, Prefix};
use super::{access, structured};
use crate::trace::class_name;

/// What a line tells by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Head {
    pub(super) level: Option<Level>,
    /// Whether a record begins here: a moment, a level, something in brackets, a JSON object, a line of an access log.
    pub(super) record: bool,
    /// Whether a logger wrote it, by its moment or its form, and not merely somebody.
    pub(super) logged: bool,
    /// Whether there is nothing in it.
    pub(super) blank: bool,
}

/// Reads a line without escapes.
pub(super) fn read(line: &str) -> Head {
    let line = line.trim_ascii();
    if line.is_empty() {
        return Head { blank: true, ..Head::default() };
    }
    if let Some(members) = line.strip_prefix('{') {
        let whole = members.ends_with('}') && members.trim_ascii_start().starts_with('"');
        let level = structured::json(line);
        return Head { level, record: whole || level.is_some(), logged: whole, blank: false };
    }
    let Prefix { level, logged, tagged, message } = prefix::read(line);
    let message = line[message..].trim_ascii_start();
    if level == Some(Level::Info)
        && let Some(inner) = message.strip_prefix("PHP message: ")
    {
        // php-fpm passes on whatever PHP says as a NOTICE.
        return Head { level: crash(inner).or(level), record: true, logged, blank: false };
    }
    if level.is_some() {
        return Head { level, record: true, logged, blank: false };
    }
    if let Some(status) = access::status(line) {
        return Head { level: Some(Level::of_status(status)), record: true, logged: true, blank: false };
    }
    Head { level: crash(message), record: logged || tagged, logged, blank: false }
}

/// The level of a message that is the first line of a crash, a warning of an interpreter, or what well-known programs say
/// on stderr whenever they start.
fn crash(message: &str) -> Option<Level> {
    let starts = |beginnings: &[&str]| beginnings.iter().any(|beginning| message.starts_with(beginning));
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
        _ => exception(message),
    }
}

/// `/app/cart.py:7: DeprecationWarning: …`, as Python's `warnings` prints them.
pub(super) fn is_python_warning(line: &str) -> bool {
    let Some((place, rest)) = line.split_once(": ") else { return false };
    let named = rest.split_once(": ").is_some_and(|(name, _)| name.ends_with("Warning") && is_class(name));
    named && place.rsplit_once(':').is_some_and(|(_, line)| line.bytes().all(|byte| byte.is_ascii_digit()))
}

/// `ValueError: …`, `java.lang.IllegalStateException`, `TypeError [ERR_INVALID_ARG_TYPE]: …`, `FooWarning: …`,
/// `app.rb:3:in 'pay': … (ArgumentError)`, `NoMethodError (undefined method …):`.
fn exception(message: &str) -> Option<Level> {
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

fn is_class(name: &str) -> bool {
    !name.is_empty() && class_name(name).len() == name.len()
}
