//! What was typed into a search: FTS5's syntax where it is that, and else plain words.

use rusqlite::Connection;

use super::text::ansi;
use crate::error::{Error, Result};

/// What FTS5 is asked to understand: enough for a person, and too little to keep it busy.
const SYNTAX_CHARS_MAX: usize = 256;
const SYNTAX_PREFIXES_MAX: usize = 8;
/// Pieces of a plain search that count.
const PIECES_MAX: usize = 16;
const REGEX_BYTES_MAX: usize = 1_000;

/// A search, ready to be asked.
#[derive(Debug, Default)]
pub(super) struct Search {
    /// For FTS5; `None` when there is no word to look for.
    pub(super) words: Option<String>,
    /// What an entry's text must pass besides.
    pub(super) tests: Vec<Test>,
    /// Whether it was not FTS5's syntax.
    pub(super) plain: bool,
}

/// What a text must pass.
#[derive(Debug)]
pub(super) enum Test {
    /// To hold this, in any case. Lower case.
    Contains(String),
    Matches(regex_lite::Regex),
}

impl Test {
    fn passes(&self, shown: &str, lower: &mut Option<String>) -> bool {
        match self {
            Self::Contains(part) => lower.get_or_insert_with(|| shown.to_lowercase()).contains(part),
            Self::Matches(regex) => regex.is_match(shown),
        }
    }
}

impl Search {
    /// From what was typed as `search`, `contains` and `regex`. The connection tells what FTS5 understands.
    pub(super) fn of(
        connection: &Connection,
        typed: Option<&str>,
        contains: Option<&str>,
        regex: Option<&str>,
    ) -> Result<Self> {
        let typed = typed.map(str::trim).filter(|typed| !typed.is_empty());
        let mut search = match typed {
            None => Self::default(),
            Some(typed) if understood(connection, typed) => Self { words: Some(typed.to_owned()), ..Self::default() },
            Some(typed) => plain(typed),
        };
        if let Some(part) = contains.filter(|part| !part.is_empty()) {
            search.tests.push(Test::Contains(part.to_lowercase()));
        }
        if let Some(pattern) = regex.filter(|pattern| !pattern.is_empty()) {
            search.tests.push(Test::Matches(compiled(pattern)?));
        }
        Ok(search)
    }

    /// Whether there is nothing to look for.
    pub(super) fn is_empty(&self) -> bool {
        self.words.is_none() && self.tests.is_empty()
    }

    /// Whether an entry that has the words passes everything else.
    pub(super) fn passes(&self, message: &str) -> bool {
        if self.tests.is_empty() {
            return true;
        }
        let shown = ansi::strip(message);
        let mut lower = None;
        self.tests.iter().all(|test| test.passes(&shown, &mut lower))
    }
}

fn compiled(pattern: &str) -> Result<regex_lite::Regex> {
    if pattern.len() > REGEX_BYTES_MAX {
        return Err(Error::field("regex", format_args!("must be at most {REGEX_BYTES_MAX} bytes")));
    }
    let mut builder = regex_lite::RegexBuilder::new(pattern);
    builder.size_limit(1 << 20).build().map_err(|why| Error::field("regex", format_args!("is not one: {why}")))
}

/// Whether FTS5 takes it for a query. An empty index says so without looking at anything.
fn understood(connection: &Connection, typed: &str) -> bool {
    if typed.len() > SYNTAX_CHARS_MAX || typed.matches('*').count() > SYNTAX_PREFIXES_MAX {
        return false;
    }
    let query = connection.prepare_cached("SELECT rowid FROM search_syntax WHERE search_syntax MATCH ?1");
    query.is_ok_and(|mut query| query.exists([typed]).is_ok())
}

/// Words as they were typed, none of them syntax: all of them have to be there, and what was typed in one piece and is
/// more than one word, such as `10.0.0.1` or `C++`, has to stand in the text as it is.
fn plain(typed: &str) -> Search {
    let mut words = Vec::new();
    let mut tests = Vec::new();
    for piece in typed.split(|letter: char| letter.is_whitespace() || letter == '"').take(PIECES_MAX) {
        let parts: Vec<&str> =
            piece.split(|letter: char| !letter.is_alphanumeric()).filter(|part| !part.is_empty()).collect();
        if !piece.is_empty() && parts != [piece] {
            tests.push(Test::Contains(piece.to_lowercase()));
        }
        if !parts.is_empty() {
            // The words of a piece stand in a row, and the last of them may be the beginning of a longer one. A letter
            // that this program takes for a part of a word and the index does not only makes a longer row.
            words.push(format!("\"{}\" *", parts.join(" ")));
        }
    }
    let words = (!words.is_empty()).then(|| words.join(" "));
    Search { words, tests, plain: true }
}
