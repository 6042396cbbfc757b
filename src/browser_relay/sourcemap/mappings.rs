//! Mappings in blocks, ordered by generated position. A mapping takes three to four bytes.
//!
//! ```text
//! block    entry*                                       key: generated line << 32 | column of the first mapping
//! entry    number << 3 | tag, fields of the tag         varint, then zigzag varints
//!
//! tag               number          fields
//! 0 NEXT_LINE       line delta      -                   column = 0, no mapping
//! 1 NO_SOURCE       column delta    -
//! 2 SAME_SOURCE     column delta    original line, original column
//! 3   with name     column delta    original line, original column, name
//! 4 OTHER_SOURCE    column delta    source, original line, original column
//! 5   with name     column delta    source, original line, original column, name
//! ```
//!
//! Every field is relative to the previous entry of the same block that had it. A block starts with all values at 0, so it
//! can be read without the blocks before it.

use super::layout::{BLOCK_BYTES, BlockKind, BlockSink, mapping_key};
use super::vlq::{Mapping, NO_INDEX};
use crate::error::{Error, Result};
use crate::varint;

/// Number of mappings of one generated line that are sorted together. The standard allows any order within a line. In
/// lines with more mappings, a mapping is rejected if it is more than half of this from its sorted position.
const REORDER_BUFFER_MAPPINGS: usize = 65_536;
/// Maximum encoded size of a mapping.
const MAPPING_BYTES_MAX: usize = 40;

const NEXT_LINE: u64 = 0;
const NO_SOURCE: u64 = 1;
const SAME_SOURCE: u64 = 2;
const OTHER_SOURCE: u64 = 4;
/// Bit of a tag whose mapping has a name.
const NAMED: u64 = 1;

/// Writer of mappings.
pub(super) struct MappingsWriter {
    /// Mappings of the current line that may still be reordered.
    reorder_buffer: Vec<Mapping>,
    /// Greatest column of the current line that has left the buffer.
    flushed_column: u32,
    /// Mapping that is written next, unless it turns out to be a duplicate.
    pending: Option<Mapping>,
    /// Whether a mapping with the position of `pending` has been written.
    is_first_written: bool,
    /// Position of the first mapping in the block.
    first: Option<(u32, u32)>,
    /// Position of the last written mapping.
    last: (u32, u32),
    state: DeltaState,
    block: Vec<u8>,
    /// Number of written mappings.
    pub(super) count: u64,
}

/// The values that the next entry is relative to.
#[derive(Default)]
struct DeltaState {
    line: u32,
    column: u32,
    source: u32,
    original_line: u32,
    original_column: u32,
    name: u32,
}

impl MappingsWriter {
    pub(super) fn new() -> Self {
        Self {
            reorder_buffer: Vec::new(),
            flushed_column: 0,
            pending: None,
            is_first_written: false,
            first: None,
            last: (0, 0),
            state: DeltaState::default(),
            block: Vec::with_capacity(BLOCK_BYTES),
            count: 0,
        }
    }

    /// Appends a mapping. Lines must be in order, columns may come in any order.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the mapping is too far from its sorted position, and the errors of `sink`.
    pub(super) fn push(&mut self, mapping: Mapping, sink: &mut impl BlockSink) -> Result<()> {
        if self.reorder_buffer.first().is_some_and(|first| first.line != mapping.line) {
            self.flush(self.reorder_buffer.len(), sink)?;
            self.flushed_column = 0;
        } else if self.reorder_buffer.len() == REORDER_BUFFER_MAPPINGS {
            self.flush(REORDER_BUFFER_MAPPINGS / 2, sink)?;
        }
        if mapping.column < self.flushed_column {
            return Err(Error::Invalid(format!(
                "The source map's mappings of generated line {} are too far out of order",
                mapping.line + 1
            )));
        }
        self.reorder_buffer.push(mapping);
        Ok(())
    }

    /// Writes the remaining mappings and stores the last block.
    ///
    /// # Errors
    /// Returns the errors of `sink`.
    pub(super) fn finish(&mut self, sink: &mut impl BlockSink) -> Result<()> {
        self.flush(self.reorder_buffer.len(), sink)?;
        if let Some(pending) = self.pending.take() {
            self.write(pending, sink)?;
        }
        self.store_block(sink)
    }

    /// Writes the first `count` mappings of the sorted buffer.
    fn flush(&mut self, count: usize, sink: &mut impl BlockSink) -> Result<()> {
        if !self.reorder_buffer.is_sorted_by_key(|mapping| mapping.column) {
            self.reorder_buffer.sort_by_key(|mapping| mapping.column);
        }
        for index in 0..count {
            let mapping = self.reorder_buffer[index];
            self.flushed_column = mapping.column;
            self.dedupe(mapping, sink)?;
        }
        self.reorder_buffer.drain(..count);
        Ok(())
    }

    /// Writes only the first and the last of several mappings with the same position, because no lookup returns the
    /// others.
    fn dedupe(&mut self, mapping: Mapping, sink: &mut impl BlockSink) -> Result<()> {
        let Some(pending) = self.pending.replace(mapping) else { return Ok(()) };
        let is_same_position = (pending.line, pending.column) == (mapping.line, mapping.column);
        if is_same_position && self.is_first_written {
            return Ok(());
        }
        self.is_first_written = is_same_position;
        self.write(pending, sink)
    }

    fn write(&mut self, mapping: Mapping, sink: &mut impl BlockSink) -> Result<()> {
        let position = (mapping.line, mapping.column);
        // Mappings with the same position stay in one block, because lookups find the block by the position.
        if self.block.len() + 2 * MAPPING_BYTES_MAX > BLOCK_BYTES && position != self.last {
            self.store_block(sink)?;
        }
        self.first.get_or_insert(position);
        self.last = position;
        self.count += 1;
        let Self { state, block, .. } = self;
        if mapping.line > state.line {
            varint::put(block, u64::from(mapping.line - state.line) << 3 | NEXT_LINE);
            (state.line, state.column) = (mapping.line, 0);
        }
        let column_delta = u64::from(mapping.column - state.column) << 3;
        state.column = mapping.column;
        if mapping.source == NO_INDEX {
            varint::put(block, column_delta | NO_SOURCE);
            return Ok(());
        }
        let named = if mapping.name == NO_INDEX { 0 } else { NAMED };
        if mapping.source == state.source {
            varint::put(block, column_delta | SAME_SOURCE | named);
        } else {
            varint::put(block, column_delta | OTHER_SOURCE | named);
            put_delta(block, &mut state.source, mapping.source);
        }
        put_delta(block, &mut state.original_line, mapping.original_line);
        put_delta(block, &mut state.original_column, mapping.original_column);
        if mapping.name != NO_INDEX {
            put_delta(block, &mut state.name, mapping.name);
        }
        Ok(())
    }

    fn store_block(&mut self, sink: &mut impl BlockSink) -> Result<()> {
        if let Some((line, column)) = self.first.take() {
            sink(BlockKind::Mappings, mapping_key(line, column), &self.block)?;
            self.block.clear();
            self.state = DeltaState::default();
        }
        Ok(())
    }
}

fn put_delta(block: &mut Vec<u8>, previous: &mut u32, value: u32) {
    varint::put_signed(block, i64::from(value) - i64::from(*previous));
    *previous = value;
}

/// Iterator over the mappings of a block. Ends early if the block is corrupt.
pub(super) struct MappingsReader<'a> {
    rest: &'a [u8],
    state: DeltaState,
}

impl<'a> MappingsReader<'a> {
    pub(super) fn new(block: &'a [u8]) -> Self {
        Self { rest: block, state: DeltaState::default() }
    }
}

impl Iterator for MappingsReader<'_> {
    type Item = Mapping;

    #[inline]
    fn next(&mut self) -> Option<Mapping> {
        let Self { rest, state } = self;
        let mut entry = varint::take(rest)?;
        while entry & 7 == NEXT_LINE {
            state.line = state.line.wrapping_add((entry >> 3) as u32);
            state.column = 0;
            entry = varint::take(rest)?;
        }
        state.column = state.column.wrapping_add((entry >> 3) as u32);
        let tag = entry & 7;
        let mut mapping = Mapping {
            line: state.line,
            column: state.column,
            source: NO_INDEX,
            original_line: 0,
            original_column: 0,
            name: NO_INDEX,
        };
        if tag != NO_SOURCE {
            if tag & OTHER_SOURCE != 0 {
                take_delta(rest, &mut state.source)?;
            }
            take_delta(rest, &mut state.original_line)?;
            take_delta(rest, &mut state.original_column)?;
            if tag & NAMED != 0 {
                take_delta(rest, &mut state.name)?;
                mapping.name = state.name;
            }
            mapping.source = state.source;
            mapping.original_line = state.original_line;
            mapping.original_column = state.original_column;
        }
        Some(mapping)
    }
}

#[inline]
fn take_delta(rest: &mut &[u8], value: &mut u32) -> Option<()> {
    *value = value.wrapping_add(varint::take_signed(rest)? as u32);
    Some(())
}

/// Returns the mapping of a block that applies to a generated position: the last one on the same line that is not after
/// it.
///
/// If several mappings have the same position, the first applies to exactly this position and the last to the positions
/// after it, as in `originalPositionFor` of `@jridgewell/trace-mapping` and in the `sourcemap` crate.
pub(super) fn find_mapping(block: &[u8], line: u32, column: u32) -> Option<Mapping> {
    let mut found: Option<Mapping> = None;
    for mapping in MappingsReader::new(block) {
        if (mapping.line, mapping.column) > (line, column) {
            break;
        }
        let is_exact = (mapping.line, mapping.column) == (line, column);
        found = Some(mapping);
        if is_exact {
            break;
        }
    }
    found.filter(|mapping| mapping.line == line)
}
