//! Search terms of a request: a query in the syntax of FTS5 if it is valid, or else plain words.

use regex::{Regex, RegexBuilder};
use rusqlite::Connection;

use super::parse::ansi;
use crate::error::{Error, Result};

/// Limits for queries in FTS5 syntax: longer ones, or those with more prefix terms (`*`), could keep SQLite busy.
const FTS_BYTES_MAX: usize = 256;
const FTS_PREFIXES_MAX: usize = 8;
/// Minimum length of a part of a term that the index is queried for, in characters. Shorter parts match too many entries.
const INDEXED_PART_CHARS_MIN: usize = 3;
/// Maximum number of terms in a plain search. Further terms are ignored.
const TERMS_MAX: usize = 16;
const REGEX_BYTES_MAX: usize = 1_000;
/// Maximum memory of a compiled regular expression, in bytes. Its cache during a search has the same limit.
const REGEX_MEMORY_BYTES_MAX: usize = 1 << 20;

/// A search that is ready to run. The default matches every entry.
#[derive(Debug, Default)]
pub(super) struct Search {
    /// Query for the full-text index; `None` if the index cannot help.
    pub(super) fts_query: Option<String>,
    /// Patterns that the text of an entry must also match.
    pub(super) patterns: Vec<Regex>,
    /// Whether the search terms were taken as plain words, because they are not in FTS5 syntax.
    pub(super) is_plain: bool,
}

impl Search {
    /// Parses the parameters `search`, `contains` and `regex`. The connection validates FTS5 syntax.
    ///
    /// # Errors
    /// Returns [`Error::Invalid`] if a pattern is invalid or too large.
    pub(super) fn parse(
        connection: &Connection,
        terms: Option<&str>,
        contains: Option<&str>,
        regex: Option<&str>,
    ) -> Result<Self> {
        let terms = terms.map(str::trim).filter(|terms| !terms.is_empty());
        let mut search = match terms {
            None => Self::default(),
            Some(terms) if is_valid_fts(connection, terms) => {
                Self { fts_query: Some(terms.to_owned()), ..Self::default() }
            }
            Some(terms) => parse_plain(terms)?,
        };
        if let Some(substring) = contains.filter(|substring| !substring.is_empty()) {
            search.patterns.push(substring_pattern(substring)?);
        }
        if let Some(pattern) = regex.filter(|pattern| !pattern.is_empty()) {
            search.patterns.push(compile(pattern)?);
        }
        Ok(search)
    }

    /// Returns whether the search matches every entry.
    pub(super) fn is_empty(&self) -> bool {
        self.fts_query.is_none() && self.patterns.is_empty()
    }

    /// Returns whether an entry that matches `fts_query` also matches the patterns.
    pub(super) fn matches(&self, message: &str) -> bool {
        if self.patterns.is_empty() {
            return true;
        }
        let plain = ansi::strip(message);
        self.patterns.iter().all(|pattern| pattern.is_match(&plain))
    }
}

/// Returns a case-insensitive pattern for texts that contain a substring.
fn substring_pattern(substring: &str) -> Result<Regex> {
    let regex = RegexBuilder::new(&regex::escape(substring)).case_insensitive(true).build();
    regex.map_err(|why| Error::field("contains", format_args!("is too long: {why}")))
}

fn compile(pattern: &str) -> Result<Regex> {
    if pattern.len() > REGEX_BYTES_MAX {
        return Err(Error::field("regex", format_args!("must be at most {REGEX_BYTES_MAX} bytes")));
    }
    let regex =
        RegexBuilder::new(pattern).size_limit(REGEX_MEMORY_BYTES_MAX).dfa_size_limit(REGEX_MEMORY_BYTES_MAX).build();
    regex.map_err(|why| Error::field("regex", format_args!("is not a valid regular expression: {why}")))
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
            patterns.push(substring_pattern(term)?);
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
