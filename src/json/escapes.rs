//! Escapes in JSON strings: decoding, and those that databases and strict parsers reject.

use std::borrow::Cow;

use crate::error::{Error, Result};

/// Returns the text of a JSON string, given without its quotes; `None` if it has an invalid escape.
///
/// Allocates once, because a text is never longer than its escaped form. serde_json doubles a buffer until the text fits
/// and then copies it, and each of these steps takes the allocator's lock, for which the threads compete. Measured with
/// error reports of 2 KB: with this function and [`super::compact`], a worker takes the lock for 14 instead of 32 allocations and
/// reallocations per report.
pub(super) fn unescape(escaped: &str) -> Option<String> {
    let mut text = String::with_capacity(escaped.len());
    let mut rest = escaped;
    while let Some(at) = memchr::memchr(b'\\', rest.as_bytes()) {
        text.push_str(&rest[..at]);
        let escape = &rest[at + 1..];
        let (decoded, bytes) = match escape.as_bytes().first()? {
            b'b' => ('\u{8}', 1),
            b'f' => ('\u{c}', 1),
            b'n' => ('\n', 1),
            b'r' => ('\r', 1),
            b't' => ('\t', 1),
            punctuation @ (b'"' | b'\\' | b'/') => (char::from(*punctuation), 1),
            b'u' => unescape_unicode(escape)?,
            _ => return None,
        };
        text.push(decoded);
        rest = &escape[bytes..];
    }
    text.push_str(rest);
    Some(text)
}

/// Returns the character of an escape `uXXXX` or of the surrogate pair `uXXXX\uXXXX`, and the escape's length in bytes.
fn unescape_unicode(escape: &str) -> Option<(char, usize)> {
    let unit = |at: usize| u16::from_str_radix(escape.get(at..at + 4)?, 16).ok();
    let high = unit(1)?;
    if matches!(high, 0xD800..=0xDBFF) {
        let character = char::decode_utf16([high, unit(7)?]).next()?.ok()?;
        return Some((character, 11));
    }
    Some((char::from_u32(high.into())?, 5))
}

/// Returns the length of the escape after a backslash, in bytes; a surrogate pair counts as one escape.
pub(super) fn escape_length(bytes: &[u8], at: usize) -> Result<usize> {
    let unit = |at: usize| {
        let digits = bytes.get(at..at + 5).filter(|escape| escape[0] == b'u')?;
        u16::from_str_radix(std::str::from_utf8(&digits[1..]).ok()?, 16).ok()
    };
    match unit(at) {
        Some(0) => Err(Error::Invalid("Strings must not contain NUL (\\u0000)".into())),
        Some(0xD800..=0xDBFF) => {
            let low = (bytes.get(at + 5) == Some(&b'\\')).then(|| unit(at + 6)).flatten();
            if matches!(low, Some(0xDC00..=0xDFFF)) { Ok(11) } else { Err(unpaired_surrogate()) }
        }
        Some(0xDC00..=0xDFFF) => Err(unpaired_surrogate()),
        Some(_) => Ok(5),
        None => Ok(1),
    }
}

fn unpaired_surrogate() -> Error {
    Error::Invalid("Strings must not contain unpaired surrogates (\\uD800–\\uDFFF)".into())
}

/// Returns `text` with `\ufffd` in place of each escape that cannot be stored: NUL and unpaired surrogates. The text keeps
/// its length, so that a part of it can be compared with the same part of the original.
#[must_use]
pub fn replace_unstorable_escapes(text: &str) -> Cow<'_, str> {
    const REPLACEMENT: &str = "ufffd";
    let (mut repaired, mut at) = (Cow::Borrowed(text), 0);
    while let Some(ahead) = text.as_bytes().get(at..).and_then(|rest| memchr::memchr(b'\\', rest)) {
        at += ahead + 1;
        at += escape_length(text.as_bytes(), at).unwrap_or_else(|_| {
            repaired.to_mut().replace_range(at..at + REPLACEMENT.len(), REPLACEMENT);
            REPLACEMENT.len()
        });
    }
    repaired
}
