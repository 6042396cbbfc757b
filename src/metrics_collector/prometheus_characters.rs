//! Replacement of the characters that Prometheus does not allow in names.

/// Returns a metric name in which `_` replaces the characters that Prometheus does not allow.
pub(super) fn metric_name(name: &str) -> String {
    sanitize(name, true)
}

/// Replaces characters other than ASCII letters, digits and `_` (and `:` if `allow_colons`) with `_`, and prefixes `_`
/// to a leading digit.
pub(super) fn sanitize(name: &str, allow_colons: bool) -> String {
    let is_allowed = |char: char| char.is_ascii_alphanumeric() || char == '_' || (allow_colons && char == ':');
    let mut sanitized: String = name.chars().map(|char| if is_allowed(char) { char } else { '_' }).collect();
    if sanitized.starts_with(|first: char| first.is_ascii_digit()) || sanitized.is_empty() {
        sanitized.insert(0, '_');
    }
    sanitized
}
