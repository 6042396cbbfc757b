//! SQL function `contains(text, part)`: whether a text contains a part, in upper or lower case of ASCII letters.
//!
//! The function matches the same texts as `LIKE '%part%'`. But LIKE compares the whole part at each character of the text, so
//! that one text of 250 KB can take a second, in which SQLite does not look at the time limit. This function is linear in the
//! text.

use memchr::memmem::Finder;
use rusqlite::Connection;
use rusqlite::functions::FunctionFlags;

use crate::error::Result;

/// Size of the pieces of a text that are converted to lower case at once.
const PIECE_BYTES: usize = 16 * 1024;

/// Adds the function to a connection.
pub(super) fn add_contains(connection: &Connection) -> Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
    connection.create_scalar_function("contains", 2, flags, |context| {
        let part = context.get_or_create_aux(1, |value| -> rusqlite::Result<_> { Ok(Part::new(value.as_str()?)) })?;
        let text = context.get_raw(0).as_str_or_null()?;
        Ok(text.is_some_and(|text| part.is_in(text.as_bytes())))
    })?;
    Ok(())
}

/// A string to search for, in lower case.
struct Part(Finder<'static>);

impl Part {
    fn new(part: &str) -> Self {
        Self(Finder::new(&part.to_ascii_lowercase()).into_owned())
    }

    fn is_in(&self, text: &[u8]) -> bool {
        // Pieces overlap, so that each occurrence is in one of them as a whole.
        let overlap = self.0.needle().len().saturating_sub(1);
        let mut lower = Vec::with_capacity(text.len().min(PIECE_BYTES + overlap));
        let mut start = 0;
        loop {
            let end = (start + PIECE_BYTES + overlap).min(text.len());
            lower.clear();
            lower.extend(text[start..end].iter().map(u8::to_ascii_lowercase));
            if self.0.find(&lower).is_some() {
                return true;
            }
            if end == text.len() {
                return false;
            }
            start += PIECE_BYTES;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contains_finds_what_like_finds() -> Result<()> {
        let connection = Connection::open_in_memory()?;
        add_contains(&connection)?;
        let long = format!("{}Needle{}", "x".repeat(PIECE_BYTES - 3), "y".repeat(2 * PIECE_BYTES));
        for (text, part, expected) in [
            (Some("Connection refused"), "TION REF", true),
            (Some("Connection refused"), "refuses", false),
            (Some("GRÖSSE"), "grÖsse", true),
            (Some("GRÖSSE"), "größe", false),
            (Some("100% of user_name"), "% of user_", true),
            (Some(""), "", true),
            (Some("a"), "ab", false),
            (None, "a", false),
            (Some(long.as_str()), "NEEDLE", true),
            (Some(long.as_str()), "yx", false),
        ] {
            let found: bool = connection.query_row("SELECT contains(?1, ?2)", (text, part), |row| row.get(0))?;
            assert_eq!(found, expected, "{part}");
        }
        Ok(())
    }
}
