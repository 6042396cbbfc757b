//! A format of log lines: how a line is recognized, and what states its level.

use std::fmt;

use super::layout::{self, Part};
use crate::records::log_level::Level;
use crate::trace::FirstByteIndex;

/// A row of the table of formats.
pub(in crate::log_viewer) struct Format {
    /// Name of the format, as `--explain` prints it.
    pub(in crate::log_viewer) name: &'static str,
    /// Source of the level, as `--explain` prints it.
    pub(in crate::log_viewer) level_from: &'static str,
    /// Possible first bytes. Comparing them first keeps the cost of other lines low.
    pub(super) first_bytes: &'static [u8],
    pub(super) rule: Rule,
}

/// A test of lines. It also finds their level.
pub(super) enum Rule {
    /// Lines that start with these parts.
    Layout(&'static [Part]),
    /// Lines that start with one of these texts, and their level.
    Starts(&'static [&'static str], Level),
    /// Lines that a function recognizes by returning a level, or `Some(None)` if they state none.
    Parser(fn(&str) -> Option<Option<Level>>),
}

/// A format that a line has, and the level that the line states.
pub(super) type FormatMatch = (&'static Format, Option<Level>);

impl Format {
    fn level(&self, line: &str) -> Option<Option<Level>> {
        match self.rule {
            Rule::Layout(parts) => layout::read(parts, line),
            Rule::Starts(texts, level) => texts.iter().any(|text| line.starts_with(text)).then_some(Some(level)),
            Rule::Parser(parse) => parse(line),
        }
    }
}

impl fmt::Debug for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// A section of the table of formats.
pub(super) struct Formats {
    rows: &'static [Format],
    index: FirstByteIndex,
}

impl Formats {
    pub(super) const fn new(rows: &'static [Format]) -> Self {
        let mut index = FirstByteIndex::EMPTY;
        let mut row = 0;
        while row < rows.len() {
            index = index.with(row, rows[row].first_bytes);
            row += 1;
        }
        Self { rows, index }
    }

    /// Returns the first format of the section that a line has.
    pub(super) fn find(&self, line: &str) -> Option<FormatMatch> {
        let mut rows = self.index.candidates(line).map(|row| &self.rows[row]);
        rows.find_map(|format| format.level(line).map(|level| (format, level)))
    }

    /// Returns the names of the formats, in the order of the table.
    #[cfg(test)]
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.rows.iter().map(|format| format.name)
    }
}
