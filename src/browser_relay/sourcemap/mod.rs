//! Source maps (ECMA-426, revision 3): conversion to blocks, lookup of positions, and symbolication of stack traces.
//!
//! Pure: uses no HTTP, no SQL and no clock.
//!
//! ```text
//! upload  upload_body (fields, and the map inside a JSON string) → convert (two passes) → blocks → storage
//! report  stack → url_match (selects the map) → lookup (a few blocks) → stack and frames
//! ```
//!
//! A map of several megabytes is never in memory at once. It is read twice through a small buffer, and its contents are
//! stored in blocks of about 4 KB. A lookup reads one block of mappings, and then one block each for the source URL, the
//! name and the source lines.

pub(in crate::browser_relay) mod convert;
pub(in crate::browser_relay) mod frames;
pub(in crate::browser_relay) mod layout;
pub(in crate::browser_relay) mod lookup;
pub(in crate::browser_relay) mod stack;
pub(in crate::browser_relay) mod upload_body;
pub(in crate::browser_relay) mod url_match;

#[cfg(test)]
mod convert_tests;
#[cfg(test)]
mod corpus_tests;
mod first_pass;
#[cfg(any(test, fuzzing))]
pub(in crate::browser_relay) mod fuzz;
mod js_keywords;
mod js_lexer;
mod json;
#[cfg(test)]
mod json_tests;
mod mappings;
mod members;
mod open_bracket;
#[cfg(test)]
mod scope_oracle_tests;
mod scopes;
#[cfg(test)]
mod scopes_tests;
mod second_pass;
mod source_chunks;
mod source_urls;
#[cfg(test)]
mod stack_tests;
mod string_table;
mod validation;
mod vlq;
