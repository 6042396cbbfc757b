//! Log parser: from the lines of a container's log file to entries with a time and a level. Pure: no files, no clock.
//!
//! ```text
//! docker::parse → PartialLineJoiner (long lines that Docker split) → EntryJoiner (multi-line entries, with their level)
//! ```

pub(super) mod ansi;
pub(super) mod cri;
pub(super) mod docker;
pub(super) mod entry_joiner;
pub(super) mod format;
pub(super) mod level;
pub(super) mod multiline;
pub(super) mod partial_lines;
pub(super) mod stated_time;

mod access_log;
mod ambiguous_level_names;
#[cfg(test)]
mod block_tests;
mod blocks;
mod brackets;
mod calendar;
#[cfg(test)]
mod corpus_tests;
#[cfg(test)]
mod entry_joiner_tests;
mod exceptions;
mod first_line;
#[cfg(test)]
mod format_tests;
mod formats;
mod json_context;
mod json_level;
mod json_value;
mod layout;
#[cfg(test)]
mod level_tests;
mod level_words;
mod logfmt;
mod prefix;
mod timestamps;
