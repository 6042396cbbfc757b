//! Replacement of the characters that Prometheus does not allow in names.

use std::fmt::Write as _;

/// Returns a metric name in the form that Prometheus accepts.
pub(super) fn metric_name(name: &str) -> String {
    sanitize(name, true)
}

/// Replaces characters other than ASCII letters, digits and `_` (and `:` if `allow_colons`) with `_`, and prefixes `_`
/// to a leading digit. A name with letters or digits of another alphabet is escaped instead, because different names would
/// become equal.
pub(super) fn sanitize(name: &str, allow_colons: bool) -> String {
    let is_allowed = |char: char| char.is_ascii_alphanumeric() || char == '_' || (allow_colons && char == ':');
    if name.chars().any(|char| !char.is_ascii() && char.is_alphanumeric()) {
        return escape(name, is_allowed);
    }
    let mut sanitized: String = name.chars().map(|char| if is_allowed(char) { char } else { '_' }).collect();
    if sanitized.starts_with(|first: char| first.is_ascii_digit()) || sanitized.is_empty() {
        sanitized.insert(0, '_');
    }
    sanitized
}

/// Escapes a name as Prometheus does: `U__`, and then each character that is not allowed as `_` with its number in hexadecimal
/// and `_` (prometheus.io/docs/instrumenting/escaping_schemes, "values").
fn escape(name: &str, is_allowed: impl Fn(char) -> bool) -> String {
    let mut escaped = "U__".to_owned();
    for char in name.chars() {
        match char {
            '_' => escaped.push_str("__"),
            char if is_allowed(char) => escaped.push(char),
            // Writing to a String cannot fail.
            char => drop(write!(escaped, "_{:x}_", u32::from(char))),
        }
    }
    escaped
}
