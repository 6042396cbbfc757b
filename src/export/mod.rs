//! What a service has stored goes on to somewhere else, over HTTP, for when one machine is no longer enough. What was
//! sent is told by a mark in the service's own database, so nothing is stored twice for it: here is how records become
//! bodies and bodies requests, and what is done while nobody takes them.

mod records;
mod target;
mod trouble;

pub use records::{Format, Record};
pub use target::{Backoff, Outcome, Target};
pub use trouble::Trouble;
