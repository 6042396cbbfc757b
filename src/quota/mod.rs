//! Quotas: the shares of bounded stores that one project and its browser keys may use.
//!
//! Everybody can read the browser key of a page. So what a project sends must never take the place of other projects, and
//! what comes through a browser key must never take the place of the project's own servers.
//!
//! - `shares.rs`: the shares, and the decision on one addition; pure.
//! - `usage.rs`: what each project has stored, as triggers of the stored tables count it.
//! - `rejections.rs`: what was rejected, folded or evicted, for `/api/quota` and `/health`.
//! - `free_space.rs`: whether the disk has room for payloads.
//!
//! A store that cannot evict asks [`check`] before it adds a row. A store that can evict adds first, and then evicts from the
//! project that [`largest_project`] returns. Both report what was lost with [`record_rejection`].

mod free_space;
mod rejections;
mod shares;
#[cfg(test)]
mod tests;
mod usage;

pub use free_space::{FreeSpace, Room};
pub use rejections::{RejectionEntry, record_rejection, rejection_entries, rejection_warnings};
pub use shares::{
    ALL_BROWSERS_PERCENT, BROWSER_PERCENT, Bounds, PROJECT_PERCENT, Reason, SERVER_RESERVE_PERCENT, Usage, evictions,
};
pub use usage::{
    Holder, LargestProject, Measure, ProjectUsage, Store, add_usage, check, kind_usage, largest_project,
    largest_project_of_two, largest_usages, total_usage,
};
