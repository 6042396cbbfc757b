//! Source locations as traces write them, and their notations.

use std::fmt;

use super::scan::is_number;

/// Whitespace around a location.
const WHITESPACE: [char; 3] = [' ', '\t', '\r'];

/// A line of a source file, verbatim as the trace writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Location<'t> {
    /// A path, a URL or the name of a class's source file. Unbounded: a hostile trace can be one long file name.
    pub file: &'t str,
    /// Decimal digits, of any number and with leading zeros preserved, because fingerprints are hashes of this text.
    pub line: &'t str,
}

impl Location<'_> {
    /// Returns the line number, or `None` if it is out of range.
    pub(super) fn line_number(&self) -> Option<u32> {
        self.line.parse().ok()
    }
}

/// Formats the location as `file:line`.
impl fmt::Display for Location<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// Parses `file:line:column`, or `file:line` as Java writes it. Other colons, as in a URL or an IPv6 host, belong to the
/// file.
pub(super) fn file_line_column(text: &str) -> Option<Location<'_>> {
    let nearest = file_line(text.trim_matches(WHITESPACE))?;
    Some(file_line(nearest.file).unwrap_or(nearest))
}

/// Parses `file:line` by splitting at the last colon.
pub(super) fn file_line(text: &str) -> Option<Location<'_>> {
    let (file, line) = text.rsplit_once(':')?;
    (!file.is_empty() && is_number(line)).then_some(Location { file, line })
}

/// Returns the first in-app location, or the first of all if none is in-app. Each location comes with its in-app flag.
pub(super) fn first_in_app<'t>(locations: impl Iterator<Item = (Location<'t>, bool)>) -> Option<Location<'t>> {
    let mut first = None;
    for (location, in_app) in locations {
        if in_app {
            return Some(location);
        }
        first = first.or(Some(location));
    }
    first
}
