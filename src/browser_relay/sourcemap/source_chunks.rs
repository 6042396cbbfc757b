//! Contents of sources in chunks of a few hundred lines: the lines, which are shown around a frame, and the functions
//! that enclose them, which name the frame.
//!
//! ```text
//! block     0, chunk | 1, length of the chunk, deflate(chunk)        key: source index << 32 | first line
//! chunk     name count, name*, function, change count, change*, text
//! name      length, UTF-8 bytes
//! function  0 module | 1 anonymous | 2 + 2n named | 3 + 2n anonymous inside a named one      n: index of the name
//! change    line delta, column, function      from this position on, the enclosing function is another
//! text      UTF-8 lines, each with a line feed
//! ```
//!
//! The first byte is a byte; all other numbers are varints. The first `function` encloses the start of the chunk. Line
//! deltas are relative to the previous change, the first one to the first line. The text also contains the line before the
//! first line and the line after the last one, so that the context of a frame never needs a second chunk.

use std::io::Write;

use flate2::write::DeflateEncoder;
use flate2::{Compression, Decompress, FlushDecompress, Status};

use super::layout::{BlockKind, BlockSink, source_line_key};
use super::scopes::{EnclosingFunction, ScopeScanner};
use crate::error::{Error, Result};
use crate::varint;

/// Size of the text after which a chunk ends with the current line. Smaller chunks are faster to read, larger ones
/// compress better.
const CHUNK_BYTES: usize = 8 * 1024;
/// Bytes of a line that are kept. Only generated code has longer lines.
const LINE_BYTES_MAX: usize = 2_000;
/// Maximum bytes of a line that are scanned at once.
const SEGMENT_BYTES: usize = 16 * 1024;
/// Maximum size of an uncompressed chunk in bytes: its lines, the line before and after them, names and changes.
const UNCOMPRESSED_BYTES_MAX: usize = 1024 * 1024;
/// Maximum changes in a chunk. Handwritten code has hundreds.
const CHANGES_MAX: usize = 5_000;

const PLAIN: u8 = 0;
const DEFLATED: u8 = 1;

const MODULE: u64 = 0;
const ANONYMOUS: u64 = 1;
const NAMED: u64 = 2;

/// A position, line and column from 0, and the code of the function that encloses the following code.
type Change = (u32, u32, u64);

/// Writer for the content of one source.
pub(super) struct SourceChunkWriter {
    /// Index of the source.
    source: u32,
    /// Bytes of the current line that have not been scanned.
    segment: Vec<u8>,
    /// Current line, and the column at which `segment` starts, from 0.
    line: u32,
    column: u32,
    scanner: ScopeScanner,
    chunk: ChunkBuilder,
}

/// A chunk that is being built.
#[derive(Default)]
struct ChunkBuilder {
    /// First line, not counting the line before it.
    first_line: u32,
    text: Vec<u8>,
    /// Offsets in `text` at which the previous and the current line start.
    previous_line_start: usize,
    current_line_start: usize,
    names: Vec<Box<str>>,
    /// Function at the start of the chunk.
    start: u64,
    changes: Vec<Change>,
    /// Whether the chunk is complete except for the line after its last one.
    is_full: bool,
}

impl SourceChunkWriter {
    pub(super) fn new(source: u32) -> Self {
        Self {
            source,
            segment: Vec::new(),
            line: 0,
            column: 0,
            scanner: ScopeScanner::new(),
            chunk: ChunkBuilder::default(),
        }
    }

    /// Appends bytes to the content.
    ///
    /// # Errors
    /// Returns the errors of `sink`.
    pub(super) fn feed(&mut self, bytes: &[u8], sink: &mut impl BlockSink) -> Result<()> {
        let mut rest = bytes;
        loop {
            let room = SEGMENT_BYTES - self.segment.len();
            let line_end = memchr::memchr(b'\n', &rest[..rest.len().min(room)]);
            let length = line_end.unwrap_or(rest.len().min(room));
            self.segment.extend_from_slice(&rest[..length]);
            rest = &rest[length..];
            if line_end.is_some() {
                rest = &rest[1..];
                self.scan_segment(self.segment.len());
                self.end_line(sink)?;
            } else if self.segment.len() == SEGMENT_BYTES {
                // A character that starts in the last bytes may be incomplete.
                let incomplete = (1..4).find(|back| self.segment[SEGMENT_BYTES - back] & 0xc0 != 0x80).unwrap_or(1);
                self.scan_segment(SEGMENT_BYTES - incomplete);
            } else {
                return Ok(());
            }
        }
    }

    /// Ends the last line and stores the last chunk.
    ///
    /// # Errors
    /// Returns the errors of `sink`.
    pub(super) fn finish(mut self, sink: &mut impl BlockSink) -> Result<()> {
        if !self.segment.is_empty() || self.column > 0 {
            self.scan_segment(self.segment.len());
            self.end_line(sink)?;
        }
        if !self.chunk.text.is_empty() {
            self.chunk.store(self.source, sink)?;
        }
        Ok(())
    }

    /// Scans the first `length` bytes of the segment for functions and appends them to the text, up to the maximum length
    /// of a line.
    fn scan_segment(&mut self, length: usize) {
        let segment = String::from_utf8_lossy(&self.segment[..length]);
        let Self { chunk, scanner, line, .. } = self;
        let line_bytes = chunk.text.len() - chunk.current_line_start;
        let kept = segment.floor_char_boundary(LINE_BYTES_MAX.saturating_sub(line_bytes));
        chunk.text.extend_from_slice(segment[..kept].as_bytes());
        scanner.scan(&segment, self.column, |column, function| chunk.push_change(*line, column, function));
        self.column += segment.chars().map(|character| character.len_utf16() as u32).sum::<u32>();
        drop(segment);
        self.segment.drain(..length);
    }

    fn end_line(&mut self, sink: &mut impl BlockSink) -> Result<()> {
        let chunk = &mut self.chunk;
        if chunk.text.ends_with(b"\r") {
            chunk.text.pop();
        }
        chunk.text.push(b'\n');
        if chunk.is_full {
            // This line was only the neighbor of the last one. The next chunk starts with this line, after its neighbor.
            let next = chunk.split_off(self.line);
            chunk.store(self.source, sink)?;
            *chunk = next;
        }
        chunk.is_full = chunk.text.len() >= CHUNK_BYTES || chunk.changes.len() >= CHANGES_MAX / 2;
        (chunk.previous_line_start, chunk.current_line_start) = (chunk.current_line_start, chunk.text.len());
        self.line = self.line.saturating_add(1);
        self.column = 0;
        Ok(())
    }
}

impl ChunkBuilder {
    /// Removes the changes from `line` on. Returns them as a new chunk, whose text starts with the previous line.
    fn split_off(&mut self, line: u32) -> Self {
        let first_change = self.changes.partition_point(|(change_line, ..)| *change_line < line);
        let changes = self.changes.split_off(first_change);
        let mut next = Self {
            first_line: line,
            text: self.text[self.previous_line_start..].to_vec(),
            previous_line_start: 0,
            current_line_start: self.current_line_start - self.previous_line_start,
            names: self.names.clone(),
            start: self.changes.last().map_or(self.start, |(.., function)| *function),
            changes,
            is_full: false,
        };
        next.drop_unused_names();
        next
    }

    fn push_change(&mut self, line: u32, column: u32, function: EnclosingFunction<'_>) {
        if self.changes.len() == CHANGES_MAX {
            return;
        }
        let function = match function {
            EnclosingFunction::Module => MODULE,
            EnclosingFunction::Anonymous(None) => ANONYMOUS,
            EnclosingFunction::Named(name) => self.intern(name) * 2 + NAMED,
            EnclosingFunction::Anonymous(Some(outer)) => self.intern(outer) * 2 + NAMED + 1,
        };
        self.changes.push((line, column, function));
    }

    /// Returns the index of a name. Appends the name unless it is among the last 32.
    fn intern(&mut self, name: &str) -> u64 {
        let recent = self.names.len().saturating_sub(32);
        let known = self.names[recent..].iter().position(|known| **known == *name).map(|index| recent + index);
        known.unwrap_or_else(|| {
            self.names.push(name.into());
            self.names.len() - 1
        }) as u64
    }

    /// Removes the names that no function refers to.
    fn drop_unused_names(&mut self) {
        let names = std::mem::take(&mut self.names);
        let mut changes = std::mem::take(&mut self.changes);
        for function in changes.iter_mut().map(|(.., function)| function) {
            self.reindex_name(function, &names);
        }
        let mut start = self.start;
        self.reindex_name(&mut start, &names);
        (self.start, self.changes) = (start, changes);
    }

    fn reindex_name(&mut self, function: &mut u64, names: &[Box<str>]) {
        if let Some(named) = function.checked_sub(NAMED) {
            *function = self.intern(&names[(named / 2) as usize]) * 2 + NAMED + named % 2;
        }
    }

    fn store(&self, source: u32, sink: &mut impl BlockSink) -> Result<()> {
        let mut plain = vec![PLAIN];
        varint::put(&mut plain, self.names.len() as u64);
        for name in &self.names {
            varint::put(&mut plain, name.len() as u64);
            plain.extend_from_slice(name.as_bytes());
        }
        varint::put(&mut plain, self.start);
        varint::put(&mut plain, self.changes.len() as u64);
        let mut previous_line = self.first_line;
        for (line, column, function) in &self.changes {
            varint::put(&mut plain, u64::from(line - previous_line));
            varint::put(&mut plain, u64::from(*column));
            varint::put(&mut plain, *function);
            previous_line = *line;
        }
        plain.extend_from_slice(&self.text);
        let compressed = compress(&plain[1..]).map_err(|why| Error::Internal(format!("deflate failed: {why}")))?;
        let smaller = if compressed.len() < plain.len() { &compressed } else { &plain };
        sink(BlockKind::SourceChunks, source_line_key(source, self.first_line), smaller)
    }
}

fn compress(chunk: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut block = vec![DEFLATED];
    varint::put(&mut block, chunk.len() as u64);
    let mut encoder = DeflateEncoder::new(block, Compression::new(6));
    encoder.write_all(chunk)?;
    encoder.finish()
}

/// Returns the uncompressed chunk, or `None` if it is corrupt.
fn decompress(mut block: &[u8]) -> Option<Vec<u8>> {
    let length = usize::try_from(varint::take(&mut block)?).ok().filter(|length| *length <= UNCOMPRESSED_BYTES_MAX)?;
    let mut chunk = Vec::new();
    chunk.reserve_exact(length);
    let status = Decompress::new(false).decompress_vec(block, &mut chunk, FlushDecompress::Finish);
    status.ok().filter(|status| *status == Status::StreamEnd)?;
    Some(chunk)
}

/// A stored chunk.
pub(super) struct SourceChunk {
    first_line: u32,
    names: Vec<String>,
    /// Function at the start of the chunk.
    start: u64,
    changes: Vec<Change>,
    text: String,
}

impl SourceChunk {
    /// Decodes a block with its key. Returns `None` if it is corrupt.
    pub(super) fn read(key: i64, block: &[u8]) -> Option<Self> {
        let decompressed;
        let mut rest = match block.split_first()? {
            (&PLAIN, chunk) => chunk,
            (_, compressed) => {
                decompressed = decompress(compressed)?;
                &decompressed[..]
            }
        };
        let rest = &mut rest;
        let first_line = key as u32;
        let mut names = Vec::new();
        for _ in 0..varint::take(rest)? {
            names.push(String::from_utf8_lossy(varint::take_bytes(rest)?).into_owned());
        }
        let start = varint::take(rest)?;
        let mut line = first_line;
        let mut changes = Vec::new();
        for _ in 0..varint::take(rest)? {
            line = line.wrapping_add(varint::take(rest)? as u32);
            changes.push((line, varint::take(rest)? as u32, varint::take(rest)?));
        }
        Some(Self { first_line, names, start, changes, text: String::from_utf8_lossy(rest).into_owned() })
    }

    /// Returns the function that encloses a position, line and column from 0.
    pub(super) fn enclosing_function(&self, line: u32, column: u32) -> EnclosingFunction<'_> {
        let changes = self.changes.partition_point(|(at_line, at_column, _)| (*at_line, *at_column) <= (line, column));
        let function = changes.checked_sub(1).map_or(self.start, |last| self.changes[last].2);
        match function {
            MODULE => EnclosingFunction::Module,
            named => match self.names.get((named.saturating_sub(NAMED) / 2) as usize) {
                Some(name) if named >= NAMED && named % 2 == 0 => EnclosingFunction::Named(name),
                Some(name) if named >= NAMED => EnclosingFunction::Anonymous(Some(name)),
                _ => EnclosingFunction::Anonymous(None),
            },
        }
    }

    /// Returns a line by its number from 0, if it is in this chunk or adjacent to it.
    pub(super) fn line(&self, line: u32) -> Option<&str> {
        // The text starts with the line before the first one.
        let index = line.checked_sub(self.first_line.saturating_sub(1))?;
        self.text.lines().nth(index as usize)
    }
}
