//! Truncation and cleaning of strings.
//!
//! Lengths in `units` are UTF-16 code units, because the services that receive our messages count in code units,
//! characters or bytes. A string of n code units has at most n characters and at most 3n bytes.

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

/// Escapes control characters as in Rust strings, so that a line break in untrusted text cannot forge a log line.
#[must_use]
pub fn escape_controls(value: &str) -> Cow<'_, str> {
    if !value.chars().any(is_unprintable) {
        return Cow::Borrowed(value);
    }
    let mut escaped = String::with_capacity(value.len() + 16);
    for c in value.chars() {
        if is_unprintable(c) { escaped.extend(c.escape_default()) } else { escaped.push(c) }
    }
    Cow::Owned(escaped)
}

/// Returns `value` as one line of at most `units_max`: line breaks, control characters and runs of whitespace become
/// one space each. A longer line is truncated and ends with "…".
#[must_use]
pub fn one_line(value: &str, units_max: usize) -> String {
    let words = value.split(|c: char| c.is_whitespace() || is_unprintable(c)).filter(|word| !word.is_empty());
    truncate_utf16(&words.collect::<Vec<_>>().join(" "), units_max)
}

/// Returns `value` with `\n` as its only line break and without control characters except tabs. Removes the middle of a
/// longer string, because the informative frames of a stack trace are at its ends.
#[must_use]
pub fn multi_line(value: &str, units_max: usize) -> String {
    let unix = value.replace("\r\n", "\n").replace('\r', "\n");
    let clean: String = unix.chars().filter(|c| matches!(c, '\n' | '\t') || !is_unprintable(*c)).collect();
    truncate_middle(clean.trim_matches('\n'), units_max)
}

/// Returns at most `units_max` of `value`; a truncated string ends with "…".
#[must_use]
pub fn truncate_utf16(value: &str, units_max: usize) -> String {
    if utf16_len(value) <= units_max {
        return value.to_owned();
    }
    format!("{}…", &value[..prefix_bytes(value.chars(), units_max.saturating_sub(1))])
}

/// Returns at most `units_max` of `value`; a line "…" replaces what was removed from the middle.
#[must_use]
pub fn truncate_middle(value: &str, units_max: usize) -> String {
    if utf16_len(value) <= units_max {
        return value.to_owned();
    }
    let half_units = units_max.saturating_sub("\n…\n".chars().count()) / 2;
    let head = prefix_bytes(value.chars(), half_units);
    let tail = prefix_bytes(value.chars().rev(), half_units);
    format!("{}\n…\n{}", &value[..head], &value[value.len() - tail..])
}

fn utf16_len(value: &str) -> usize {
    value.chars().map(char::len_utf16).sum()
}

/// Returns the number of bytes in the longest prefix of `chars` that has at most `units_max` code units.
fn prefix_bytes(chars: impl Iterator<Item = char>, units_max: usize) -> usize {
    let mut units = 0;
    let fits = |c: &char| {
        units += c.len_utf16();
        units <= units_max
    };
    chars.take_while(fits).map(char::len_utf8).sum()
}

/// Whether `c` is a control character, a Unicode line separator, or a bidirectional control, which can make a string
/// look like a different one.
fn is_unprintable(c: char) -> bool {
    let is_bidi_control = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || is_bidi_control || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}')
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

    #[test]
    fn one_line_removes_breaks_and_control_characters() {
        for (value, line) in [
            ("plain", "plain"),
            ("a\r\nBcc: b\u{0}\u{7f}c", "a Bcc: b c"),
            (" \t a \u{2028}\u{85} b\u{202e}c ", "a b c"),
            ("\r\n", ""),
            ("1234567890+", "123456789…"),
            ("😀😀😀😀😀", "😀😀😀😀😀"),
            ("😀😀😀😀😀😀", "😀😀😀😀…"),
        ] {
            assert_eq!(one_line(value, 10), line);
        }
    }

    #[test]
    fn long_strings_lose_their_middle() {
        assert_eq!(multi_line("a\r\n\tb\u{1b}[0m\rc\n", 99), "a\n\tb[0m\nc");
        assert_eq!(multi_line("0123456789", 9), "012\n…\n789");
        assert_eq!(multi_line("0123456789", 10), "0123456789");
        assert_eq!(multi_line("😀😀😀😀😀😀", 8), "😀\n…\n😀");
    }
}
