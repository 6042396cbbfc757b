//! Small scanners for lines, numbers and class names.

/// Every byte, for rules that cannot be narrowed down by the first byte of a line.
pub const ANY_BYTE: &[u8] = &{
    let mut bytes = [0; 256];
    let mut at = 0;
    while at < bytes.len() {
        bytes[at] = at as u8;
        at += 1;
    }
    bytes
};
/// First bytes of lower-case words.
pub(super) const LOWERCASE: &[u8] = b"abcdefghijklmnopqrstuvwxyz";
/// First bytes of a [`class_name`].
pub(super) const CLASS_START: &[u8] = b"_abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

/// Returns the lines of a text without trailing whitespace.
pub(super) fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.split('\n').map(str::trim_end)
}

/// Returns the first line of a text without trailing whitespace.
pub(super) fn first_line(text: &str) -> &str {
    text.find('\n').map_or(text, |end| &text[..end]).trim_end()
}

/// Returns whether a line starts with one of the prefixes.
pub(super) fn starts_with_any(line: &str, prefixes: &[&str]) -> bool {
    prefixes.iter().any(|prefix| line.starts_with(prefix))
}

/// Returns whether the text consists of one or more ASCII digits.
pub(super) fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Splits one or more leading ASCII digits from the rest of the text.
pub(super) fn leading_number(text: &str) -> Option<(&str, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    (digits > 0).then(|| text.split_at(digits))
}

/// Returns whether a path contains a fragment. `/` in the fragment also matches `\`.
pub(super) fn contains_path(path: &str, fragment: &str) -> bool {
    let same = |(byte, expected): (&u8, &u8)| byte == expected || (*byte == b'\\' && *expected == b'/');
    path.as_bytes().windows(fragment.len()).any(|window| window.iter().zip(fragment.as_bytes()).all(same))
}

/// Returns the class name at the start of a text, with its package or namespace; empty if there is none.
///
/// Segments are separated by `.`, `$` or `::`, which covers Java, Python, Ruby, JavaScript and .NET.
pub fn class_name(text: &str) -> &str {
    let bytes = text.as_bytes();
    if !bytes.first().is_some_and(|first| first.is_ascii_alphabetic() || *first == b'_') {
        return "";
    }
    let mut end = 0;
    while let Some(byte) = bytes.get(end) {
        if byte.is_ascii_alphanumeric() || b"._$".contains(byte) {
            end += 1;
        } else if bytes[end..].starts_with(b"::") {
            end += 2;
        } else {
            break;
        }
    }
    &text[..end]
}
