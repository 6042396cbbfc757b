//! Recognizers for the first line of an exception, a panic or a warning.

use super::level_words::is_nothing;
use crate::records::log_level::Level;
use crate::trace::class_name;

/// Recognizes `thread 'main' panicked at src/main.rs:3:5:`.
pub(super) fn rust_panic_level(message: &str) -> Option<Option<Level>> {
    (message.starts_with("thread '") && message.contains("panicked at")).then_some(Some(Level::Error))
}

/// Recognizes `(node:7) [DEP0040] DeprecationWarning: …`.
pub(super) fn node_warning_level(message: &str) -> Option<Option<Level>> {
    (message.starts_with("(node:") && message.contains("Warning: ")).then_some(Some(Level::Warning))
}

/// Recognizes `/app/cart.py:7: DeprecationWarning: …`, the format of Python's `warnings`.
pub(super) fn python_warning_level(message: &str) -> Option<Option<Level>> {
    let (location, rest) = message.split_once(": ")?;
    let (name, _) = rest.split_once(": ")?;
    let (_, line) = location.rsplit_once(':')?;
    let is_warning = name.ends_with("Warning") && class_name(name).len() == name.len();
    (is_warning && line.bytes().all(|byte| byte.is_ascii_digit())).then_some(Some(Level::Warning))
}

/// Returns the level of a message that starts with the name of an exception or a warning:
///
/// `ValueError: …`, `java.lang.IllegalStateException`, `TypeError [ERR_INVALID_ARG_TYPE]: …`, `FooWarning: …`,
/// `app.rb:3:in 'pay': … (ArgumentError)`, `NoMethodError (undefined method …):`, `Options error: …`.
pub(super) fn exception_level(message: &str) -> Option<Option<Level>> {
    let name = class_name(message);
    let after = &message[name.len()..];
    let ends = after.is_empty() || after.starts_with(": ") || after == ":" || after.starts_with(" [");
    let ends = ends || (after.starts_with(" (") && after.ends_with("):"));
    if ends && (name.ends_with("Error") || name.ends_with("Exception")) {
        let is_counter = after.strip_prefix(": ").is_some_and(|value| is_nothing(value.trim_ascii()));
        return (!is_counter).then_some(Some(Level::Error));
    }
    if ends && !after.is_empty() && name.ends_with("Warning") {
        return Some(Some(Level::Warning));
    }
    if let Some(what) = after.strip_prefix(' ').filter(|_| name.len() > 2)
        && let Some(message) = what.strip_prefix("error: ").or_else(|| what.strip_prefix("ERROR: "))
        && !is_nothing(message.trim_ascii())
    {
        return Some(Some(Level::Error));
    }
    let is_ruby = message.ends_with(')') && message.contains(".rb:") && message.contains(":in ");
    is_ruby.then_some(Some(Level::Error))
}
