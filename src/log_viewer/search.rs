//! Search terms of a request: a query in the syntax of FTS5 if it is valid, or else plain words.

use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::parse::ansi;
use super::pattern::Pattern;
use crate::error::{Error, Result};

/// Limits for queries in FTS5 syntax: longer ones, or those with more prefix terms (`*`), could keep SQLite busy.
const FTS_BYTES_MAX: usize = 256;
const FTS_PREFIXES_MAX: usize = 8;
/// Minimum length of a part of a term that the index is queried for, in characters. Shorter parts match too many entries.
const INDEXED_PART_CHARS_MIN: usize = 3;
/// Maximum number of terms in a plain search. Further terms are ignored.
const TERMS_MAX: usize = 16;
/// Maximum length of a search, a substring or a regular expression, in characters.
const SEARCH_CHARS_MAX: usize = 1_000;
/// Maximum time for matching one entry, where no other deadline applies.
const ENTRY_TIMEOUT: Duration = Duration::from_secs(1);

/// A search that is ready to run. The default matches every entry.
#[derive(Debug, Default)]
pub(super) struct Search {
    /// Query for the full-text index; `None` if the index cannot help.
    pub(super) fts_query: Option<String>,
    /// Patterns that the text of an entry must also match.
    pub(super) patterns: Vec<Pattern>,
    /// Whether the search terms were taken as plain words, because they are not in FTS5 syntax.
    pub(super) is_plain: bool,
}

impl Search {
    /// Parses the parameters `search`, `contains` and `regex`. The connection validates FTS5 syntax.
    ///
    /// # Errors
    /// Returns [`Error::Invalid`] if a parameter has over 1,000 characters, or a pattern is invalid or too large.
    pub(super) fn parse(
        connection: &Connection,
        terms: Option<&str>,
        contains: Option<&str>,
        regex: Option<&str>,
    ) -> Result<Self> {
        for (name, value) in [("search", terms), ("contains", contains), ("regex", regex)] {
            if value.is_some_and(|value| value.chars().nth(SEARCH_CHARS_MAX).is_some()) {
                return Err(Error::field(name, "must be at most 1,000 characters"));
            }
        }
        let terms = terms.map(str::trim).filter(|terms| !terms.is_empty());
        let mut search = match terms {
            None => Self::default(),
            Some(terms) if is_valid_fts(connection, terms) => {
                Self { fts_query: Some(terms.to_owned()), ..Self::default() }
            }
            Some(terms) => parse_plain(terms)?,
        };
        if let Some(substring) = contains.filter(|substring| !substring.is_empty()) {
            search.patterns.push(Pattern::substring("contains", substring)?);
        }
        if let Some(pattern) = regex.filter(|pattern| !pattern.is_empty()) {
            search.patterns.push(Pattern::regex(pattern)?);
        }
        Ok(search)
    }

    /// Returns whether the search matches every entry.
    pub(super) fn is_empty(&self) -> bool {
        self.fts_query.is_none() && self.patterns.is_empty()
    }

    /// Returns whether an entry that matches `fts_query` also matches the patterns; `None` if this was not known before the
    /// deadline.
    pub(super) fn matches(&self, message: &str, deadline: Instant) -> Option<bool> {
        if self.patterns.is_empty() {
            return Some(true);
        }
        let plain = ansi::strip(message);
        for pattern in &self.patterns {
            if !pattern.is_match(&plain, deadline)? {
                return Some(false);
            }
        }
        Some(true)
    }

    /// Returns whether a single entry matches, as [`Search::matches`] does, within a second.
    ///
    /// # Errors
    /// Returns [`Error::Busy`] if that takes longer.
    pub(super) fn matches_entry(&self, message: &str) -> Result<bool> {
        let matches = self.matches(message, Instant::now() + ENTRY_TIMEOUT);
        matches.ok_or(Error::Busy(
            "The regular expression is too slow for a long entry: simplify it or choose a container",
        ))
    }
}

/// Returns whether FTS5 accepts the terms as a query. It parses them against an empty index, so no entry is read.
fn is_valid_fts(connection: &Connection, terms: &str) -> bool {
    if terms.len() > FTS_BYTES_MAX || terms.matches('*').count() > FTS_PREFIXES_MAX {
        return false;
    }
    let query = connection.prepare_cached("SELECT rowid FROM search_syntax WHERE search_syntax MATCH ?1");
    query.is_ok_and(|mut query| query.exists([terms]).is_ok())
}

/// Parses plain terms. An entry must contain all of them. A term that is more than one word, such as `10.0.0.1` or `C++`,
/// must occur in the text exactly as typed.
fn parse_plain(terms: &str) -> Result<Search> {
    let mut words = Vec::new();
    let mut patterns = Vec::new();
    for term in terms.split(|character: char| character.is_whitespace() || character == '"').take(TERMS_MAX) {
        let parts: Vec<&str> =
            term.split(|character: char| !character.is_alphanumeric()).filter(|part| !part.is_empty()).collect();
        let is_word = parts == [term];
        if !is_word && !term.is_empty() {
            patterns.push(Pattern::substring("search", term)?);
        }
        for (index, part) in parts.iter().enumerate() {
            // The pattern reads the text anyway, so the index is not queried for parts that nearly every entry contains.
            if is_word || part.chars().count() >= INDEXED_PART_CHARS_MIN {
                // The last part can be the beginning of a longer word.
                let star = if index + 1 == parts.len() { " *" } else { "" };
                words.push(format!("\"{part}\"{star}"));
            }
        }
    }
    let fts_query = (!words.is_empty()).then(|| words.join(" "));
    Ok(Search { fts_query, patterns, is_plain: true })
}
