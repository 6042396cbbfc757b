//! Mappings as compact blocks: put in order, written as differences, and found again by their generated position.
//!
//! A block is a run of entries, each a varint `number << 3 | what`: 0 goes `number` lines down and to column 0; the
//! others go `number` columns right to a mapping that has 1 no source, 2 the source of the mapping before, 3 that and a
//! name, 4 another source, 5 that and a name. Then follow, as signed varints and relative to the latest mapping of the
//! block that had them, the source (4, 5), the original line, the original column and the name (3, 5). A block begins
//! with everything at 0, so each is read by itself: three to four bytes a mapping.

use super::vlq::{Mapping, NONE};
use super::{BLOCK_BYTES, Kind, position_key};
use crate::error::{Error, Result};
use crate::varint;

/// Mappings of one generated line that are put in order together. The standard lets them come in any order within a
/// line; of a longer line, only ones that are further than half of this from their place are refused.
const WINDOW_MAPPINGS: usize = 65_536;
/// Bytes of the longest mapping.
const MAPPING_BYTES_MAX: usize = 40;

const DOWN: u64 = 0;
const NO_SOURCE: u64 = 1;
const SAME_SOURCE: u64 = 2;
const OTHER_SOURCE: u64 = 4;

/// Writes mappings, line by line, block by block.
pub(super) struct Writer {
    window: Vec<Mapping>,
    /// The greatest column of this line that has left the window.
    floor: u32,
    /// The mapping that is written next, and how many of its position there were so far.
    held: Option<Mapping>,
    alike: usize,
    /// The position that the block begins with, the mapping written last, and what differences are from.
    first: Option<(u32, u32)>,
    last: (u32, u32),
    state: State,
    block: Vec<u8>,
    /// Mappings written.
    pub(super) count: u64,
}

#[derive(Default)]
struct State {
    line: u32,
    column: u32,
    source: u32,
    original_line: u32,
    original_column: u32,
    name: u32,
}

impl Writer {
    pub(super) fn new() -> Self {
        Self {
            window: Vec::new(),
            floor: 0,
            held: None,
            alike: 0,
            first: None,
            last: (0, 0),
            state: State::default(),
            block: Vec::with_capacity(BLOCK_BYTES),
            count: 0,
        }
    }

    /// Takes a mapping: in any order within a line, the lines in order.
    ///
    /// # Errors
    /// [`Error::Invalid`] for one that is too far from its place, and what `put` answers.
    pub(super) fn push(
        &mut self,
        mapping: Mapping,
        put: &mut impl FnMut(Kind, i64, &[u8]) -> Result<()>,
    ) -> Result<()> {
        if self.window.first().is_some_and(|first| first.line != mapping.line) {
            self.leave(self.window.len(), put)?;
            self.floor = 0;
        } else if self.window.len() == WINDOW_MAPPINGS {
            self.leave(WINDOW_MAPPINGS / 2, put)?;
        }
        if mapping.column < self.floor {
            return Err(Error::Invalid(format!(
                "The source map's mappings of generated line {} are too far out of order",
                mapping.line + 1
            )));
        }
        self.window.push(mapping);
        Ok(())
    }

    /// Writes what is left.
    ///
    /// # Errors
    /// What `put` answers.
    pub(super) fn finish(&mut self, put: &mut impl FnMut(Kind, i64, &[u8]) -> Result<()>) -> Result<()> {
        self.leave(self.window.len(), put)?;
        if let Some(held) = self.held.take() {
            self.write(held, put)?;
        }
        self.cut(put)
    }

    /// Writes the first so many of the window, in order.
    fn leave(&mut self, count: usize, put: &mut impl FnMut(Kind, i64, &[u8]) -> Result<()>) -> Result<()> {
        if !self.window.is_sorted_by_key(|mapping| mapping.column) {
            self.window.sort_by_key(|mapping| mapping.column);
        }
        for at in 0..count {
            let mapping = self.window[at];
            self.floor = mapping.column;
            self.hold(mapping, put)?;
        }
        self.window.drain(..count);
        Ok(())
    }

    /// Of several mappings of one position only the first and the last are ever an answer.
    fn hold(&mut self, mapping: Mapping, put: &mut impl FnMut(Kind, i64, &[u8]) -> Result<()>) -> Result<()> {
        let held = self.held.replace(mapping);
        let Some(held) = held else { return Ok(()) };
        if (held.line, held.column) != (mapping.line, mapping.column) {
            self.alike = 0;
        } else if self.alike == 1 {
            return Ok(());
        } else {
            self.alike = 1;
        }
        self.write(held, put)
    }

    fn write(&mut self, mapping: Mapping, put: &mut impl FnMut(Kind, i64, &[u8]) -> Result<()>) -> Result<()> {
        let position = (mapping.line, mapping.column);
        // Those of one position stay together: the block is found by it.
        if self.block.len() + 2 * MAPPING_BYTES_MAX > BLOCK_BYTES && position != self.last {
            self.cut(put)?;
        }
        self.first.get_or_insert(position);
        self.last = position;
        self.count += 1;
        let Self { state, block, .. } = self;
        if mapping.line > state.line {
            varint::put(block, u64::from(mapping.line - state.line) << 3 | DOWN);
            (state.line, state.column) = (mapping.line, 0);
        }
        let right = u64::from(mapping.column - state.column) << 3;
        state.column = mapping.column;
        if mapping.source == NONE {
            varint::put(block, right | NO_SOURCE);
            return Ok(());
        }
        let named = u64::from(mapping.name != NONE);
        if mapping.source == state.source {
            varint::put(block, right | SAME_SOURCE | named);
        } else {
            varint::put(block, right | OTHER_SOURCE | named);
            difference(block, &mut state.source, mapping.source);
        }
        difference(block, &mut state.original_line, mapping.original_line);
        difference(block, &mut state.original_column, mapping.original_column);
        if mapping.name != NONE {
            difference(block, &mut state.name, mapping.name);
        }
        Ok(())
    }

    fn cut(&mut self, put: &mut impl FnMut(Kind, i64, &[u8]) -> Result<()>) -> Result<()> {
        if let Some((line, column)) = self.first.take() {
            put(Kind::Mappings, position_key(line, column), &self.block)?;
            self.block.clear();
            self.state = State::default();
        }
        Ok(())
    }
}

fn difference(block: &mut Vec<u8>, from: &mut u32, to: u32) {
    varint::put_signed(block, i64::from(to) - i64::from(*from));
    *from = to;
}

/// The mappings of a block in their order. Ends early where the block is damaged.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    state: State,
}

impl<'a> Reader<'a> {
    pub(super) fn new(block: &'a [u8]) -> Self {
        Self { rest: block, state: State::default() }
    }
}

impl Iterator for Reader<'_> {
    type Item = Mapping;

    #[inline]
    fn next(&mut self) -> Option<Mapping> {
        let Self { rest, state } = self;
        let mut entry = varint::take(rest)?;
        while entry & 7 == DOWN {
            state.line = state.line.wrapping_add((entry >> 3) as u32);
            state.column = 0;
            entry = varint::take(rest)?;
        }
        state.column = state.column.wrapping_add((entry >> 3) as u32);
        let what = entry & 7;
        let mut mapping = Mapping {
            line: state.line,
            column: state.column,
            source: NONE,
            original_line: 0,
            original_column: 0,
            name: NONE,
        };
        if what != NO_SOURCE {
            if what & OTHER_SOURCE != 0 {
                go(rest, &mut state.source)?;
            }
            go(rest, &mut state.original_line)?;
            go(rest, &mut state.original_column)?;
            if what & 1 != 0 {
                go(rest, &mut state.name)?;
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
fn go(rest: &mut &[u8], from: &mut u32) -> Option<()> {
    *from = from.wrapping_add(varint::take_signed(rest)? as u32);
    Some(())
}

/// The mapping of a block that answers for a generated position: the greatest on the same line that is not behind it.
/// Of several at one position it is the first for exactly this position and the last for those behind it, as
/// `originalPositionFor` of `@jridgewell/trace-mapping` and the `sourcemap` crate have it.
pub(super) fn find(block: &[u8], line: u32, column: u32) -> Option<Mapping> {
    let mut found: Option<Mapping> = None;
    for mapping in Reader::new(block) {
        if (mapping.line, mapping.column) > (line, column) {
            break;
        }
        let exact = (mapping.line, mapping.column) == (line, column);
        found = Some(mapping);
        if exact {
            break;
        }
    }
    found.filter(|mapping| mapping.line == line)
}
