//! What was typed into a search: FTS5's syntax where it is that, and else plain words.

use regex::{Regex, RegexBuilder};
use rusqlite::Connection;

use super::text::ansi;
use crate::error::{Error, Result};

/// What FTS5 is asked to understand: enough for a person, and too little to keep it busy.
const SYNTAX_CHARS_MAX: usize = 256;
const SYNTAX_PREFIXES_MAX: usize = 8;
/// A part of a word that is shorter says little.
const TELLING_CHARS: usize = 3;
/// Pieces of a plain search that count.
const PIECES_MAX: usize = 16;
const REGEX_BYTES_MAX: usize = 1_000;
/// Bytes of memory for what becomes of one, and as much again while it is searched for.
const REGEX_SIZE_MAX: usize = 1 << 20;

/// A search, ready to be asked.
#[derive(Debug, Default)]
pub(super) struct Search {
    /// For FTS5; `None` when there is no word to look for.
    pub(super) words: Option<String>,
    /// What an entry's text must match besides.
    pub(super) tests: Vec<Regex>,
    /// Whether it was not FTS5's syntax.
    pub(super) plain: bool,
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
            Some(typed) => plain(typed)?,
        };
        if let Some(part) = contains.filter(|part| !part.is_empty()) {
            search.tests.push(containing(part)?);
        }
        if let Some(pattern) = regex.filter(|pattern| !pattern.is_empty()) {
            search.tests.push(compiled(pattern)?);
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
        self.tests.iter().all(|test| test.is_match(&shown))
    }
}

/// What matches texts that have a part, in any case.
fn containing(part: &str) -> Result<Regex> {
    let regex = RegexBuilder::new(&regex::escape(part)).case_insensitive(true).build();
    regex.map_err(|why| Error::field("contains", format_args!("cannot be looked for: {why}")))
}

fn compiled(pattern: &str) -> Result<Regex> {
    if pattern.len() > REGEX_BYTES_MAX {
        return Err(Error::field("regex", format_args!("must be at most {REGEX_BYTES_MAX} bytes")));
    }
    let regex = RegexBuilder::new(pattern).size_limit(REGEX_SIZE_MAX).dfa_size_limit(REGEX_SIZE_MAX).build();
    regex.map_err(|why| Error::field("regex", format_args!("is not one: {why}")))
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
fn plain(typed: &str) -> Result<Search> {
    let mut words = Vec::new();
    let mut tests = Vec::new();
    for piece in typed.split(|letter: char| letter.is_whitespace() || letter == '"').take(PIECES_MAX) {
        let parts: Vec<&str> =
            piece.split(|letter: char| !letter.is_alphanumeric()).filter(|part| !part.is_empty()).collect();
        let whole = parts == [piece];
        if !whole && !piece.is_empty() {
            tests.push(containing(piece)?);
        }
        for (index, part) in parts.iter().enumerate() {
            // Where the text is looked at anyway, the index is not asked for what nearly every text has.
            if whole || part.chars().count() >= TELLING_CHARS {
                // The last may be the beginning of a longer word.
                let star = if index + 1 == parts.len() { " *" } else { "" };
                words.push(format!("\"{part}\"{star}"));
            }
        }
    }
    let words = (!words.is_empty()).then(|| words.join(" "));
    Ok(Search { words, tests, plain: true })
}
