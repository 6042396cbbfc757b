//! Reader for the bracketed groups in the prefix of a line: `[…]`, `(…)`, `<…>` and `{…}`.

use super::ambiguous_level_names::is_unambiguous;
use super::timestamps;
use crate::records::log_level::Level;

/// Maximum length of a bracketed group that is inspected, in bytes.
const GROUP_BYTES_MAX: usize = 80;

/// Splits a text that starts with an opening bracket into the inside of the group and the rest; `None` if the group does
/// not end within [`GROUP_BYTES_MAX`].
pub(super) fn split_group(text: &str, close: u8) -> Option<(&str, &str)> {
    let end = text.bytes().take(GROUP_BYTES_MAX).position(|byte| byte == close)?;
    Some((&text[1..end], &text[end + 1..]))
}

/// Parses the inside of a group in square brackets. Returns whether it contains a timestamp, and its level.
pub(super) fn parse_square(inside: &str) -> (bool, Option<Level>) {
    if let Some(level) = name(inside).or_else(|| level_behind_module(inside)) {
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

/// Parses the inside of a group in angle brackets, as in ClickHouse's `<Error>`.
pub(super) fn name(inside: &str) -> Option<Level> {
    // A module is often called `config`.
    Level::from_name(inside).filter(|_| inside.len() > 1 && inside != "config")
}

/// Parses `module:level` (Apache), `module#level` (Twisted) and `Server thread/WARN` (Minecraft).
fn level_behind_module(inside: &str) -> Option<Level> {
    let separator = inside.bytes().rposition(|byte| matches!(byte, b':' | b'#' | b'/'))?;
    let (module, level) = (&inside[..separator], &inside[separator + 1..]);
    match inside.as_bytes()[separator] {
        b':' => {
            let is_module = module.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'_');
            // Apache's trace levels have a number.
            Level::from_name(level.trim_end_matches(|last: char| last.is_ascii_digit())).filter(|_| is_module)
        }
        b'#' => name(level),
        _ => {
            let is_name = level.bytes().all(|byte| byte.is_ascii_uppercase()) && is_unambiguous(level);
            Level::from_name(level).filter(|_| is_name && !module.contains('/'))
        }
    }
}
