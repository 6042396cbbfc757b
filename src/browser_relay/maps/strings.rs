//! Tables of strings (names, sources) as blocks: each string as its length and its bytes, so that one is found by its
//! index with one block and without the others.

use super::{BLOCK_BYTES, Kind};
use crate::error::Result;
use crate::varint;

/// Bytes of a string that are kept. Names are identifiers, and what a loader makes of a path stays below.
const STRING_BYTES_MAX: usize = 2_000;

/// Writes a table, block by block.
pub(super) struct Strings {
    kind: Kind,
    /// The index of the first string in `bytes`.
    first: u32,
    count: u32,
    bytes: Vec<u8>,
}

impl Strings {
    pub(super) fn new(kind: Kind) -> Self {
        Self { kind, first: 0, count: 0, bytes: Vec::with_capacity(BLOCK_BYTES) }
    }

    /// Strings so far.
    pub(super) fn count(&self) -> u32 {
        self.count
    }

    pub(super) fn push(&mut self, string: &str, put: &mut impl FnMut(Kind, i64, &[u8]) -> Result<()>) -> Result<()> {
        let kept = &string[..string.floor_char_boundary(STRING_BYTES_MAX)];
        if self.bytes.len() + kept.len() + 2 > BLOCK_BYTES {
            self.finish(put)?;
        }
        varint::put(&mut self.bytes, kept.len() as u64);
        self.bytes.extend_from_slice(kept.as_bytes());
        self.count += 1;
        Ok(())
    }

    /// Puts what is left.
    pub(super) fn finish(&mut self, put: &mut impl FnMut(Kind, i64, &[u8]) -> Result<()>) -> Result<()> {
        if !self.bytes.is_empty() {
            put(self.kind, i64::from(self.first), &self.bytes)?;
            self.bytes.clear();
        }
        self.first = self.count;
        Ok(())
    }
}

/// The string of that index in a block with the key `first`.
pub(super) fn get(block: &[u8], first: i64, index: u32) -> Option<String> {
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
    fn every_string_is_in_the_block_before_or_at_its_index() {
        let strings: Vec<String> = (0..3_000).map(|n| "é".repeat(n % 1_200) + &n.to_string()).collect();
        let mut blocks = Vec::new();
        let mut put = |_: Kind, first: i64, bytes: &[u8]| {
            assert!(bytes.len() <= BLOCK_BYTES, "{}", bytes.len());
            blocks.push((first, bytes.to_vec()));
            Ok(())
        };
        let mut table = Strings::new(Kind::Names);
        for string in &strings {
            table.push(string, &mut put).unwrap();
        }
        table.finish(&mut put).unwrap();
        for (index, string) in strings.iter().enumerate() {
            let (first, block) = blocks.iter().rfind(|(first, _)| *first <= index as i64).unwrap();
            let kept = &string[..string.floor_char_boundary(STRING_BYTES_MAX)];
            assert_eq!(get(block, *first, index as u32).unwrap(), kept);
        }
        assert_eq!(get(&blocks[0].1, 0, 100_000), None);
    }
}
