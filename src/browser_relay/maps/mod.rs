//! Source maps and stacks: from the map that a bundler wrote to compact blocks, and from a browser's minified stack to
//! one with the original files, lines, columns and function names. Pure: no HTTP, no SQL, no clock.
//!
//! ```text
//! upload  upload (a body's fields, and the map in it) → convert: vlq → mappings · strings · content with its functions
//!         → blocks → whoever stores them
//! error   stack::rewrite → (urls: which map) → lookup: one block, then its strings and its piece → stack, frames
//! ```
//!
//! A map of 5 MB is never whole in memory: it is read twice from its beginning through a small buffer, and what is kept
//! of it leaves in blocks of about 4 KB, each under a [`Kind`] and the key of the first thing in it. The block that
//! answers a question is the one with the greatest key that is not above the question's.
//!
//! The format of maps is ECMA-426 (revision 3 of source maps).

pub(in crate::browser_relay) mod convert;
pub(in crate::browser_relay) mod frames;
pub(in crate::browser_relay) mod lookup;
pub(in crate::browser_relay) mod stack;
pub(in crate::browser_relay) mod upload;
pub(in crate::browser_relay) mod urls;

mod content;
#[cfg(test)]
mod convert_tests;
#[cfg(test)]
mod corpus;
#[cfg(any(test, fuzzing))]
pub(in crate::browser_relay) mod fuzz;
mod json;
#[cfg(test)]
mod json_tests;
mod lexer;
mod mappings;
mod scopes;
#[cfg(test)]
mod scopes_tests;
mod sources;
#[cfg(test)]
mod stack_tests;
mod strings;
mod vlq;

/// Bytes a block aims at: with its row it fits into one page of SQLite.
const BLOCK_BYTES: usize = 4_000;

/// What a block holds, and what its key counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::browser_relay) enum Kind {
    /// Mappings, by [`position_key`] of the first generated position.
    Mappings,
    /// Names of sources, by the index of the first.
    Sources,
    /// Names that mappings give, by the index of the first.
    Names,
    /// A piece of a source's content, by [`content_key`] of its first line.
    Content,
}

impl Kind {
    /// The number to store it by. It never changes.
    pub(in crate::browser_relay) fn number(self) -> i64 {
        match self {
            Self::Mappings => 0,
            Self::Sources => 1,
            Self::Names => 2,
            Self::Content => 3,
        }
    }
}

/// The key of a generated position, line and column counted from 0 and below 2^31. Keys order as positions do.
fn position_key(line: u32, column: u32) -> i64 {
    i64::from(line) << 32 | i64::from(column)
}

/// The key of a line of a source's content, both counted from 0 and below 2^31.
fn content_key(source: u32, line: u32) -> i64 {
    i64::from(source) << 32 | i64::from(line)
}
