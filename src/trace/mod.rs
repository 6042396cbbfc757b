//! Stack traces of all languages: one model of a frame, and one table of languages.
//!
//! Each language is one file in `languages/` and one line of [`LANGUAGES`]. It defines how its traces start, which lines
//! continue them, what a frame and a cause look like, and which files and modules are library code. Four users share the
//! table:
//!
//! - grouping of errors: [`legacy_location()`] and [`extended_location()`],
//! - multi-line entries of logs: [`OpenTrace`],
//! - symbolication of browser errors: [`javascript`],
//! - the error page: [`sections()`].
//!
//! All functions are pure and take time linear in the length of the text, whatever it contains.

mod display_sections;
mod extended_location;
mod first_byte_index;
mod frame;
mod language;
mod languages;
mod legacy_location;
mod location_notation;
mod multiline;
mod render;
mod scan;

#[cfg(test)]
mod corpus_tests;
#[cfg(test)]
pub(crate) mod test_strategies;

pub use display_sections::{LineRun, RunKind, sections};
pub use extended_location::extended_location;
pub use first_byte_index::FirstByteIndex;
pub use frame::{ContextLine, Frame};
pub use language::{CandidateLine, Language, LogLine};
pub use languages::{LANGUAGES, javascript};
pub use legacy_location::legacy_location;
pub use location_notation::Location;
pub use multiline::{OpenTrace, introduces_cause, is_continuation_only};
pub use render::render;
pub use scan::{ANY_BYTE, class_name};
