//! Blocks, the unit in which the contents of a source map are stored, and their keys.
//!
//! ```text
//! kind              key                                  content
//! 1 Mappings        generated line << 32 | column        mappings.rs
//! 2 SourceUrls      index of the first URL               string_table.rs
//! 3 Names           index of the first name              string_table.rs
//! 4 SourceChunks    source index << 32 | first line      source_chunks.rs
//! ```
//!
//! The key of a block is that of its first item. The block that contains an item is therefore the one with the greatest
//! key that is not above the key of the item. Lines, columns and indices start at 0 and are below 2^31, so that keys are
//! ordered like positions.

use crate::error::Result;

/// Target size of a block. With the other columns of its row, it fits into one page of SQLite.
pub(super) const BLOCK_BYTES: usize = 4_000;

/// The content of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::browser_relay) enum BlockKind {
    /// Mappings, in the order of generated positions.
    Mappings,
    /// URLs of sources.
    SourceUrls,
    /// Names that mappings refer to.
    Names,
    /// A part of a source's content with its functions.
    SourceChunks,
}

impl BlockKind {
    /// Returns the id in the table `map_block_kinds`, which must never change.
    pub(in crate::browser_relay) fn id(self) -> i64 {
        match self {
            Self::Mappings => 1,
            Self::SourceUrls => 2,
            Self::Names => 3,
            Self::SourceChunks => 4,
        }
    }
}

/// Destination of finished blocks: a function of kind, key and bytes.
pub(in crate::browser_relay) trait BlockSink:
    FnMut(BlockKind, i64, &[u8]) -> Result<()>
{
}

impl<F: FnMut(BlockKind, i64, &[u8]) -> Result<()>> BlockSink for F {}

/// Returns the key of a generated position.
pub(super) fn mapping_key(line: u32, column: u32) -> i64 {
    i64::from(line) << 32 | i64::from(column)
}

/// Returns the key of a line of a source.
pub(super) fn source_line_key(source: u32, line: u32) -> i64 {
    i64::from(source) << 32 | i64::from(line)
}
