//! Lookup of a generated position: source URL, line, column, name, enclosing function and source lines.

use super::layout::{BlockKind, mapping_key, source_line_key};
use super::mappings::find_mapping;
use super::scopes::EnclosingFunction;
use super::source_chunks::SourceChunk;
use super::string_table::read_string;
use super::vlq::NO_INDEX;
use crate::error::Result;

/// A position in a source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::browser_relay) struct OriginalPosition {
    /// URL or path of the source, never empty.
    pub(in crate::browser_relay) source: String,
    /// Line, from 1.
    pub(in crate::browser_relay) line: u32,
    /// Column, from 1, in UTF-16 code units.
    pub(in crate::browser_relay) column: u32,
    /// Name that the map has for the identifier at this position. It is not the name of the enclosing function.
    pub(in crate::browser_relay) name: Option<String>,
    /// The enclosing function, according to the content of the source.
    pub(in crate::browser_relay) function: FunctionName,
    /// The source line, and at most one line before and one after it.
    pub(in crate::browser_relay) context: Vec<SourceLine>,
}

/// The function that encloses a position.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::browser_relay) enum FunctionName {
    /// The map lacks the content of the source.
    #[default]
    Unknown,
    /// No function: code at the top level of the module.
    Module,
    /// An anonymous function, with the name of the innermost named function around it.
    Anonymous(Option<String>),
    /// A named function. The name of a member starts with its class and a dot.
    Named(String),
}

/// A line of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::browser_relay) struct SourceLine {
    /// Line number, from 1.
    pub(in crate::browser_relay) number: u32,
    pub(in crate::browser_relay) text: String,
}

/// The result of a lookup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::browser_relay) enum LookupResult {
    Resolved(OriginalPosition),
    /// The bundler generated the code at this position; it has no source.
    Generated,
    /// The map has no mapping at or before this column of the line.
    NoMapping,
}

/// Looks up a generated position. Line and column start at 1, as in stack traces; columns count UTF-16 code units.
///
/// `find_block` returns the key and the bytes of the block with the greatest key up to the given one. It is called once
/// for a position without a source, and up to four times otherwise.
///
/// # Errors
/// Returns the errors of `find_block`.
pub(in crate::browser_relay) fn look_up(
    line: u32,
    column: u32,
    mut find_block: impl FnMut(BlockKind, i64) -> Result<Option<(i64, Vec<u8>)>>,
) -> Result<LookupResult> {
    let (Some(line), Some(column)) = (line.checked_sub(1), column.checked_sub(1)) else {
        return Ok(LookupResult::NoMapping);
    };
    let block = find_block(BlockKind::Mappings, mapping_key(line, column))?;
    let Some(mapping) = block.and_then(|(_, block)| find_mapping(&block, line, column)) else {
        return Ok(LookupResult::NoMapping);
    };
    if mapping.source == NO_INDEX {
        return Ok(LookupResult::Generated);
    }
    let mut find_string = |kind, index| -> Result<Option<String>> {
        let block = find_block(kind, i64::from(index))?;
        let string = block.and_then(|(first, block)| read_string(&block, first, index));
        Ok(string.filter(|string| !string.is_empty()))
    };
    let Some(source) = find_string(BlockKind::SourceUrls, mapping.source)? else { return Ok(LookupResult::Generated) };
    let name = if mapping.name == NO_INDEX { None } else { find_string(BlockKind::Names, mapping.name)? };
    let mut original = OriginalPosition {
        source,
        line: mapping.original_line.saturating_add(1),
        column: mapping.original_column.saturating_add(1),
        name,
        ..OriginalPosition::default()
    };
    // The block may belong to a source before this one, if this one has no content.
    let is_of_source = |key: i64| key >= source_line_key(mapping.source, 0);
    let block = find_block(BlockKind::SourceChunks, source_line_key(mapping.source, mapping.original_line))?;
    let block = block.filter(|(key, _)| is_of_source(*key));
    if let Some(chunk) = block.and_then(|(key, block)| SourceChunk::read(key, &block)) {
        original.add_context(&chunk);
    }
    Ok(LookupResult::Resolved(original))
}

impl OriginalPosition {
    /// Sets the source lines and the enclosing function.
    fn add_context(&mut self, chunk: &SourceChunk) {
        let line = self.line - 1;
        let lines = line.saturating_sub(1)..=line.saturating_add(1);
        self.context = lines
            .filter_map(|line| Some(SourceLine { number: line + 1, text: chunk.line(line)?.to_owned() }))
            .collect();
        // If the source lacks the line, then map and content are not from the same build.
        if !self.context.iter().any(|context| context.number == self.line) {
            self.context.clear();
            return;
        }
        self.function = match chunk.enclosing_function(line, self.column - 1) {
            EnclosingFunction::Module => FunctionName::Module,
            EnclosingFunction::Anonymous(outer) => FunctionName::Anonymous(outer.map(str::to_owned)),
            EnclosingFunction::Named(name) => FunctionName::Named(name.to_owned()),
        };
    }
}
