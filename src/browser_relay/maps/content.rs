//! What a source says, in pieces of a few hundred lines: the lines themselves, to show around a frame, and the
//! functions they are in, to call the frame by.
//!
//! A piece is one byte, 0 for plain or 1 for deflate and then the length it has unpacked, and then: how many names there are and the names; the function
//! that its first line begins in; how many changes there are and each as lines down, column and function; the lines. All
//! numbers are varints. A function is 0 for the module, 1 for one without a name, 2 + 2n for the one with the nth name
//! and 3 + 2n for one without a name within that. The key is that of the piece's first line; a line before it and one
//! behind it are there too, so that a frame's neighbours never need another piece.

use std::io::Write;

use flate2::write::DeflateEncoder;
use flate2::{Compression, Decompress, FlushDecompress, Status};

use super::scopes::{Around, Scopes};
use super::{Kind, content_key};
use crate::error::{Error, Result};
use crate::varint;

/// Bytes of text after which a piece ends with its line: the smaller, the faster one is read; the larger, the better it
/// compresses.
const PIECE_BYTES: usize = 8 * 1024;
/// Bytes of a line that are kept; only code that a machine wrote has longer ones.
const LINE_BYTES_MAX: usize = 2_000;
/// Bytes of a line that are looked over at once.
const PART_BYTES: usize = 16 * 1024;
/// Bytes that a piece can have, unpacked: its text and a last line with its neighbour, and names and changes.
const UNPACKED_BYTES_MAX: usize = 1024 * 1024;
/// Changes of the function in one piece; of what is written by hand there are hundreds.
const CHANGES_MAX: usize = 5_000;

const MODULE: u64 = 0;
const ANONYMOUS: u64 = 1;
const NAMED: u64 = 2;

/// Takes the content of one source in, and puts its pieces.
pub(super) struct Writer {
    source: u32,
    /// The line at hand as it comes, and its number and column from 0.
    part: Vec<u8>,
    line: u32,
    column: u32,
    scopes: Scopes,
    piece: PieceWriter,
}

struct PieceWriter {
    /// Its first line but for the neighbour.
    first: u32,
    text: Vec<u8>,
    /// Where the line before and the line at hand begin in the text.
    before: usize,
    present: usize,
    names: Vec<Box<str>>,
    start: u64,
    /// Line, column and function.
    changes: Vec<(u32, u32, u64)>,
    full: bool,
}

impl Writer {
    pub(super) fn new(source: u32) -> Self {
        Self {
            source,
            part: Vec::new(),
            line: 0,
            column: 0,
            scopes: Scopes::new(),
            piece: PieceWriter {
                first: 0,
                text: Vec::new(),
                before: 0,
                present: 0,
                names: Vec::new(),
                start: MODULE,
                changes: Vec::new(),
                full: false,
            },
        }
    }

    /// Takes the next bytes of the content.
    ///
    /// # Errors
    /// What `put` answers.
    pub(super) fn feed(&mut self, bytes: &[u8], put: &mut impl FnMut(Kind, i64, &[u8]) -> Result<()>) -> Result<()> {
        let mut rest = bytes;
        loop {
            let room = PART_BYTES - self.part.len();
            let end = memchr::memchr(b'\n', &rest[..rest.len().min(room)]);
            let length = end.unwrap_or(rest.len().min(room));
            self.part.extend_from_slice(&rest[..length]);
            rest = &rest[length..];
            if end.is_some() {
                rest = &rest[1..];
                self.take_part(self.part.len());
                self.end_line(put)?;
            } else if self.part.len() == PART_BYTES {
                // Not within a character.
                let whole = (1..4).find(|back| self.part[PART_BYTES - back] & 0xc0 != 0x80).unwrap_or(1);
                self.take_part(PART_BYTES - whole);
            } else {
                return Ok(());
            }
        }
    }

    /// Ends the last line and the last piece.
    ///
    /// # Errors
    /// What `put` answers.
    pub(super) fn finish(mut self, put: &mut impl FnMut(Kind, i64, &[u8]) -> Result<()>) -> Result<()> {
        if !self.part.is_empty() || self.column > 0 {
            self.take_part(self.part.len());
            self.end_line(put)?;
        }
        if !self.piece.text.is_empty() {
            self.piece.put(self.source, put)?;
        }
        Ok(())
    }

    /// Looks over the first so many bytes of the line at hand and keeps them while there is room.
    fn take_part(&mut self, length: usize) {
        let part = String::from_utf8_lossy(&self.part[..length]);
        let Self { piece, scopes, line, .. } = self;
        let kept = piece.text.len() - piece.present;
        let room = part.floor_char_boundary(LINE_BYTES_MAX.saturating_sub(kept));
        piece.text.extend_from_slice(part[..room].as_bytes());
        scopes.read(&part, self.column, |column, around| piece.change(*line, column, around));
        self.column += part.chars().map(|letter| letter.len_utf16() as u32).sum::<u32>();
        drop(part);
        self.part.drain(..length);
    }

    fn end_line(&mut self, put: &mut impl FnMut(Kind, i64, &[u8]) -> Result<()>) -> Result<()> {
        let piece = &mut self.piece;
        if piece.text.ends_with(b"\r") {
            piece.text.pop();
        }
        piece.text.push(b'\n');
        if piece.full {
            // The line at hand was only its neighbour: it and the one before begin the next.
            let behind = piece.changes.partition_point(|(line, ..)| *line < self.line);
            let changes = piece.changes.split_off(behind);
            let text = piece.text.split_off(piece.before);
            let start = piece.changes.last().map_or(piece.start, |(.., function)| *function);
            let names = piece.names.clone();
            piece.text.extend_from_slice(&text);
            piece.put(self.source, put)?;
            let present = piece.present - piece.before;
            *piece = PieceWriter { first: self.line, text, before: 0, present, names, start, changes, full: false };
            piece.forget_names();
        }
        piece.full = piece.text.len() >= PIECE_BYTES || piece.changes.len() >= CHANGES_MAX / 2;
        (piece.before, piece.present) = (piece.present, piece.text.len());
        self.line = self.line.saturating_add(1);
        self.column = 0;
        Ok(())
    }
}

impl PieceWriter {
    fn change(&mut self, line: u32, column: u32, around: Around<'_>) {
        if self.changes.len() == CHANGES_MAX {
            return;
        }
        let function = match around {
            Around::Module => MODULE,
            Around::Anonymous(None) => ANONYMOUS,
            Around::Named(name) => self.index(name) * 2 + NAMED,
            Around::Anonymous(Some(name)) => self.index(name) * 2 + NAMED + 1,
        };
        self.changes.push((line, column, function));
    }

    /// The place of a name, which is added where it is not among the latest.
    fn index(&mut self, name: &str) -> u64 {
        let latest = self.names.len().saturating_sub(32);
        let known = self.names[latest..].iter().position(|known| **known == *name).map(|at| latest + at);
        known.unwrap_or_else(|| {
            self.names.push(name.into());
            self.names.len() - 1
        }) as u64
    }

    /// Keeps only the names that are needed.
    fn forget_names(&mut self) {
        let names = std::mem::take(&mut self.names);
        let mut changes = std::mem::take(&mut self.changes);
        for function in changes.iter_mut().map(|(.., function)| function) {
            self.rename(function, &names);
        }
        let mut start = self.start;
        self.rename(&mut start, &names);
        (self.start, self.changes) = (start, changes);
    }

    fn rename(&mut self, function: &mut u64, names: &[Box<str>]) {
        if let Some(named) = function.checked_sub(NAMED) {
            *function = self.index(&names[(named / 2) as usize]) * 2 + NAMED + named % 2;
        }
    }

    fn put(&self, source: u32, put: &mut impl FnMut(Kind, i64, &[u8]) -> Result<()>) -> Result<()> {
        let mut plain = vec![0];
        varint::put(&mut plain, self.names.len() as u64);
        for name in &self.names {
            varint::put(&mut plain, name.len() as u64);
            plain.extend_from_slice(name.as_bytes());
        }
        varint::put(&mut plain, self.start);
        varint::put(&mut plain, self.changes.len() as u64);
        let mut from = self.first;
        for (line, column, function) in &self.changes {
            varint::put(&mut plain, u64::from(line - from));
            varint::put(&mut plain, u64::from(*column));
            varint::put(&mut plain, *function);
            from = *line;
        }
        plain.extend_from_slice(&self.text);
        let packed = packed(&plain[1..]).map_err(|why| Error::Internal(format!("deflate: {why}")))?;
        let smaller = if packed.len() < plain.len() { &packed } else { &plain };
        put(Kind::Content, content_key(source, self.first), smaller)
    }
}

fn packed(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut packed = vec![1];
    varint::put(&mut packed, bytes.len() as u64);
    let mut encoder = DeflateEncoder::new(packed, Compression::new(6));
    encoder.write_all(bytes)?;
    encoder.finish()
}

/// A piece that was read back.
pub(super) struct Piece {
    first: u32,
    names: Vec<String>,
    start: u64,
    changes: Vec<(u32, u32, u64)>,
    text: String,
}

impl Piece {
    /// Reads a piece with that key; `None` where it is damaged.
    pub(super) fn read(key: i64, block: &[u8]) -> Option<Self> {
        let (packed, bytes) = block.split_first()?;
        let mut unpacked = Vec::new();
        let mut rest = match packed {
            0 => bytes,
            _ => {
                let mut bytes = bytes;
                let length = usize::try_from(varint::take(&mut bytes)?).ok().filter(|it| *it <= UNPACKED_BYTES_MAX)?;
                unpacked.reserve_exact(length);
                let mut inflate = Decompress::new(false);
                let status = inflate.decompress_vec(bytes, &mut unpacked, FlushDecompress::Finish);
                status.ok().filter(|status| *status == Status::StreamEnd)?;
                &unpacked[..]
            }
        };
        let rest = &mut rest;
        let first = key as u32;
        let mut names = Vec::new();
        for _ in 0..varint::take(rest)? {
            names.push(String::from_utf8_lossy(varint::take_bytes(rest)?).into_owned());
        }
        let start = varint::take(rest)?;
        let mut line = first;
        let mut changes = Vec::new();
        for _ in 0..varint::take(rest)? {
            line = line.wrapping_add(varint::take(rest)? as u32);
            changes.push((line, varint::take(rest)? as u32, varint::take(rest)?));
        }
        Some(Self { first, names, start, changes, text: String::from_utf8_lossy(rest).into_owned() })
    }

    /// The function around a position, counted from 0.
    pub(super) fn around(&self, line: u32, column: u32) -> Around<'_> {
        let before = self.changes.partition_point(|(at, from, _)| (*at, *from) <= (line, column));
        let function = before.checked_sub(1).map_or(self.start, |at| self.changes[at].2);
        match function {
            MODULE => Around::Module,
            named => match self.names.get((named.saturating_sub(NAMED) / 2) as usize) {
                Some(name) if named >= NAMED && named % 2 == 0 => Around::Named(name),
                Some(name) if named >= NAMED => Around::Anonymous(Some(name)),
                _ => Around::Anonymous(None),
            },
        }
    }

    /// A line by its number from 0; only those of this piece and its neighbours.
    pub(super) fn line(&self, line: u32) -> Option<&str> {
        // A piece begins with the line before its first.
        let at = line.checked_sub(self.first.saturating_sub(1))?;
        self.text.lines().nth(at as usize)
    }
}
