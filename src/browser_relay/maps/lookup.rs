//! What stood in the sources where an error happened: one block of mappings, and then the source's name, its function
//! and its lines from a block each.

use super::content::Piece;
use super::scopes::Around;
use super::vlq::NONE;
use super::{Kind, content_key, mappings, position_key, strings};
use crate::error::Result;

/// A place in a source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::browser_relay) struct Original {
    /// Name of the source: a path or a URL, never empty.
    pub(in crate::browser_relay) source: String,
    /// From 1.
    pub(in crate::browser_relay) line: u32,
    /// From 1, in UTF-16 units.
    pub(in crate::browser_relay) column: u32,
    /// The name that the map gives the word at this place, which is not that of the function around it.
    pub(in crate::browser_relay) name: Option<String>,
    /// The function around, as far as the source's content says.
    pub(in crate::browser_relay) function: Function,
    /// The lines around, at most one before and one after.
    pub(in crate::browser_relay) context: Vec<Line>,
}

/// The function around a place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::browser_relay) enum Function {
    /// The map does not have the source's content.
    #[default]
    Unknown,
    /// None: the module itself.
    Module,
    /// One without a name, and the innermost around it that has one.
    Anonymous(Option<String>),
    /// Its name, with that of its class before a dot.
    Named(String),
}

/// A line of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::browser_relay) struct Line {
    /// From 1.
    pub(in crate::browser_relay) number: u32,
    pub(in crate::browser_relay) text: String,
}

/// What a map says of a generated position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::browser_relay) enum Answer {
    Mapped(Original),
    /// The map says that this comes from no source: the bundler wrote it.
    Unmapped,
    /// No mapping stands at or before this column of this line.
    Nothing,
}

/// Looks a generated position up. `line` and `column` count from 1, as they stand in stacks (columns in UTF-16 units).
///
/// `block` answers the block of a kind with the greatest key that is not above the given one, and its key. It is asked
/// once for a position that is not mapped, and up to four times for one that is.
///
/// # Errors
/// What `block` answers.
pub(in crate::browser_relay) fn look_up(
    line: u32,
    column: u32,
    mut block: impl FnMut(Kind, i64) -> Result<Option<(i64, Vec<u8>)>>,
) -> Result<Answer> {
    let (Some(line), Some(column)) = (line.checked_sub(1), column.checked_sub(1)) else { return Ok(Answer::Nothing) };
    let Some((_, mappings)) = block(Kind::Mappings, position_key(line, column))? else { return Ok(Answer::Nothing) };
    let Some(mapping) = mappings::find(&mappings, line, column) else { return Ok(Answer::Nothing) };
    if mapping.source == NONE {
        return Ok(Answer::Unmapped);
    }
    let mut string = |kind, index| -> Result<Option<String>> {
        let found = block(kind, i64::from(index))?;
        Ok(found.and_then(|(first, strings)| strings::get(&strings, first, index)).filter(|string| !string.is_empty()))
    };
    let Some(source) = string(Kind::Sources, mapping.source)? else { return Ok(Answer::Unmapped) };
    let name = if mapping.name == NONE { None } else { string(Kind::Names, mapping.name)? };
    let mut original = Original {
        source,
        line: mapping.original_line.saturating_add(1),
        column: mapping.original_column.saturating_add(1),
        name,
        ..Original::default()
    };
    let of_source = |key: i64| key >= content_key(mapping.source, 0);
    let piece = block(Kind::Content, content_key(mapping.source, mapping.original_line))?;
    if let Some(piece) = piece.filter(|(key, _)| of_source(*key)).and_then(|(key, piece)| Piece::read(key, &piece)) {
        original.read(&piece);
    }
    Ok(Answer::Mapped(original))
}

impl Original {
    fn read(&mut self, piece: &Piece) {
        let line = self.line - 1;
        let lines = line.saturating_sub(1)..=line.saturating_add(1);
        self.context =
            lines.filter_map(|line| Some(Line { number: line + 1, text: piece.line(line)?.to_owned() })).collect();
        // A line that the source does not have says that map and content are not of one build.
        if !self.context.iter().any(|context| context.number == self.line) {
            self.context.clear();
            return;
        }
        self.function = match piece.around(line, self.column - 1) {
            Around::Module => Function::Module,
            Around::Anonymous(inside) => Function::Anonymous(inside.map(str::to_owned)),
            Around::Named(name) => Function::Named(name.to_owned()),
        };
    }
}
