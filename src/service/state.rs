//! State that every service has, and the trait by which the common routes use it.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use super::stats::Stat;
use super::warnings_cache::WarningsCache;
use crate::db::{ReaderPool, Writer};
use crate::http::{Sessions, Stats};
use crate::quota::Store;
use crate::records::warning::Warning;

/// The state of a service, as the common routes need it.
pub trait ServiceState: Send + Sync + 'static {
    /// Returns the state that every service has.
    fn core(&self) -> &Core;
    /// Returns a few statistics that are cheap to read, for `/health` and `/metrics`.
    fn stats(&self) -> Vec<Stat>;
    /// Returns the stores that a quota bounds.
    fn stores(&self) -> Vec<Store> {
        Vec::new()
    }
    /// Returns the problems that need attention although the service works, for `/health`.
    fn warnings(&self) -> Vec<Warning> {
        Vec::new()
    }
}

/// The state that every service has.
pub struct Core {
    /// The writer thread of the database.
    pub writer: Writer,
    /// The read-only connections of the database.
    pub readers: ReaderPool,
    /// The counters of the HTTP server.
    pub http: Arc<Stats>,
    /// Set if a background job has panicked.
    pub jobs_failed: Arc<AtomicBool>,
    /// The sessions of the web UI.
    pub sessions: Arc<Sessions>,
    pub(super) warnings: WarningsCache,
    pub(super) started: Instant,
}
