//! Limits of source maps and checks of their members, with error messages that name the member.

use std::io::Read;

use super::json::JsonReader;
use crate::error::{Error, Result};

/// Maximum sections of an index map.
pub(super) const SECTIONS_MAX: usize = 20_000;
/// Maximum sources. A bundle of 5 MB has a few thousand.
pub(super) const SOURCES_MAX: u32 = 100_000;
/// Bytes of a source URL, or of `sourceRoot`, that are kept.
pub(super) const SOURCE_URL_BYTES_MAX: usize = 2_000;
/// Bytes of a name that are kept.
pub(super) const NAME_BYTES_MAX: usize = 1_000;

pub(super) fn invalid(sentence: impl Into<String>) -> Error {
    Error::Invalid(sentence.into())
}

pub(super) fn too_many() -> Error {
    invalid(format!("The source map may have at most {SOURCES_MAX} sources and {SECTIONS_MAX} sections"))
}

pub(super) fn wrong_type(member: &str, expected: &str) -> Error {
    invalid(format!("The source map's '{member}' must be {expected}"))
}

/// Checks the type of the next value by its first byte.
pub(super) fn require<R: Read>(json: &mut JsonReader<R>, first: u8, member: &str, expected: &str) -> Result<()> {
    if json.next()? == first { Ok(()) } else { Err(wrong_type(member, expected)) }
}

/// Reads a string, at most the first `bytes_max` bytes, or a number as it is written. Returns an empty string for any other
/// value.
pub(super) fn read_text<R: Read>(json: &mut JsonReader<R>, bytes_max: usize) -> Result<String> {
    match json.next()? {
        b'"' => json.string_prefix(bytes_max),
        b'-' | b'0'..=b'9' => json.number_text(),
        _ => json.skip().map(|()| String::new()),
    }
}
