//! Tables of strings (source URLs and names) in blocks.
//!
//! ```text
//! block   string*                 key: index of the first string
//! string  length, UTF-8 bytes     length: varint
//! ```
//!
//! A string is found by its index in one block, without reading the others.

use super::layout::{BLOCK_BYTES, BlockKind, BlockSink};
use crate::error::Result;
use crate::varint;

/// Bytes of a string that are kept. Identifiers and paths are shorter.
const STRING_BYTES_MAX: usize = 2_000;

/// Writer of a string table.
pub(super) struct StringTableWriter {
    kind: BlockKind,
    /// Index of the first string in `block`.
    first: u32,
    count: u32,
    block: Vec<u8>,
}

impl StringTableWriter {
    pub(super) fn new(kind: BlockKind) -> Self {
        Self { kind, first: 0, count: 0, block: Vec::with_capacity(BLOCK_BYTES) }
    }

    /// Returns the number of strings so far.
    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// Appends a string, truncated to [`STRING_BYTES_MAX`] bytes.
    pub(super) fn push(&mut self, string: &str, sink: &mut impl BlockSink) -> Result<()> {
        let string = &string[..string.floor_char_boundary(STRING_BYTES_MAX)];
        if self.block.len() + string.len() + 2 > BLOCK_BYTES {
            self.finish(sink)?;
        }
        varint::put(&mut self.block, string.len() as u64);
        self.block.extend_from_slice(string.as_bytes());
        self.count += 1;
        Ok(())
    }

    /// Stores the last block.
    pub(super) fn finish(&mut self, sink: &mut impl BlockSink) -> Result<()> {
        if !self.block.is_empty() {
            sink(self.kind, i64::from(self.first), &self.block)?;
            self.block.clear();
        }
        self.first = self.count;
        Ok(())
    }
}

/// Returns the string with this index from the block with the key `first`.
pub(super) fn read_string(block: &[u8], first: i64, index: u32) -> Option<String> {
    let mut rest = block;
    for _ in 0..i64::from(index).checked_sub(first)? {
        varint::take_bytes(&mut rest)?;
    }
    varint::take_bytes(&mut rest).map(|bytes| String::from_utf8_lossy(bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_found_in_the_last_block_up_to_their_index() {
        let strings: Vec<String> = (0..3_000).map(|n| "é".repeat(n % 1_200) + &n.to_string()).collect();
        let mut blocks = Vec::new();
        let mut sink = |_: BlockKind, first: i64, bytes: &[u8]| {
            assert!(bytes.len() <= BLOCK_BYTES, "{}", bytes.len());
            blocks.push((first, bytes.to_vec()));
            Ok(())
        };
        let mut writer = StringTableWriter::new(BlockKind::Names);
        for string in &strings {
            writer.push(string, &mut sink).unwrap();
        }
        writer.finish(&mut sink).unwrap();
        for (index, string) in strings.iter().enumerate() {
            let (first, block) = blocks.iter().rfind(|(first, _)| *first <= index as i64).unwrap();
            let expected = &string[..string.floor_char_boundary(STRING_BYTES_MAX)];
            assert_eq!(read_string(block, *first, index as u32).unwrap(), expected);
        }
        assert_eq!(read_string(&blocks[0].1, 0, 100_000), None);
    }
}
