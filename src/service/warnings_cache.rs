//! Warnings of a service, with a cache for readers without a key and for when no database connection is idle.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::db::ReaderPool;
use crate::records::warning::Warning;

/// The warnings that were read last, with the time.
#[derive(Debug, Default)]
pub(super) struct WarningsCache(Mutex<Option<(Instant, Vec<Warning>)>>);

impl WarningsCache {
    /// Returns the warnings, at most `max_age` old. They are older while no connection is idle, because a health check never
    /// waits for queries. `of_database` returns those that need a query, and `of_service` the others.
    pub(super) fn refresh(
        &self,
        readers: &ReaderPool,
        max_age: Duration,
        of_database: impl FnOnce(&Connection) -> Vec<Warning>,
        of_service: impl FnOnce() -> Vec<Warning>,
    ) -> Vec<Warning> {
        let mut cached = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_fresh = cached.as_ref().is_some_and(|(read_at, _)| read_at.elapsed() < max_age);
        if !is_fresh && let Some(reader) = readers.try_acquire() {
            let of_database = of_database(&reader);
            // Services acquire a connection of their own.
            drop(reader);
            *cached = Some((Instant::now(), of_service().into_iter().chain(of_database).collect()));
        }
        cached.as_ref().map(|(_, warnings)| warnings.clone()).unwrap_or_default()
    }
}
