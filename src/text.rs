//! Truncation and cleaning of strings.

use std::borrow::Cow;

/// Returns at most `chars_max` characters of `value`; a truncated string ends with "…".
#[must_use]
pub fn truncate_chars(value: &str, chars_max: usize) -> Cow<'_, str> {
    // A string has at most as many characters as bytes.
    if value.len() <= chars_max || value.char_indices().nth(chars_max).is_none() {
        return Cow::Borrowed(value);
    }
    let end = value.char_indices().nth(chars_max.saturating_sub(1)).map_or(0, |(end, _)| end);
    Cow::Owned(format!("{}…", &value[..end]))
}

/// Replaces each control character, including line breaks, with a space.
#[must_use]
pub fn replace_control_chars(value: &str) -> String {
    value.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn truncation_counts_characters() {
        assert_eq!(truncate_chars("äöü", 3), "äöü");
        assert_eq!(truncate_chars("äöüß", 3), "äö…");
    }

    #[test]
    fn control_characters_become_spaces() {
        assert_eq!(replace_control_chars("a\r\nb\u{1b}[0m"), "a  b [0m");
    }
}
