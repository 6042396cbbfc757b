//! Understanding: from the bytes of Docker's files to entries with a moment and a level. Pure: no files, no clock.
//!
//! ```text
//! docker::parse → Pieces (long lines made whole) → Joiner (lines of one stack trace made one entry, with its level)
//! ```

pub(super) mod ansi;
pub(super) mod docker;
pub(super) mod entry;
pub(super) mod level;
pub(super) mod pieces;

mod access;
#[cfg(test)]
mod corpus;
#[cfg(test)]
mod entry_tests;
mod head;
#[cfg(test)]
mod level_tests;
mod moment;
mod multiline;
mod prefix;
mod structured;
mod words;

/// Which of a container's two outputs a line was written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    /// As Docker writes it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}
