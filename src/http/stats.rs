//! What the server counts of itself, for `GET /metrics` and `/health`.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::error::Error;

/// Upper bounds of the latency histogram's buckets, in seconds.
pub const LATENCY_BUCKETS_S: [f64; 11] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0];
/// Projects whose refusals are counted by name; the rest is counted together.
const PROJECTS_MAX: usize = 100;

/// Everything counted since the start.
#[derive(Debug)]
pub struct Stats {
    /// Method and path of each route.
    routes: Vec<(String, &'static str)>,
    answers: Mutex<BTreeMap<(usize, u16), u64>>,
    latency: [AtomicU64; LATENCY_BUCKETS_S.len() + 1],
    latency_us: AtomicU64,
    /// Connections that are open now.
    pub connections: AtomicU64,
    /// Connections closed to make room for others.
    pub evicted: AtomicU64,
    /// What limits refused.
    pub refused: Arc<Refused>,
}

/// One row of the requests' table.
#[derive(Debug, Clone, Copy)]
pub struct ResponseCounts {
    /// The route's method and path; `None` for what fits no route.
    pub route: Option<usize>,
    /// The status answered.
    pub status: u16,
    /// How often.
    pub count: u64,
}

impl Stats {
    pub(super) fn new(routes: Vec<(String, &'static str)>) -> Self {
        Self {
            routes,
            answers: Mutex::default(),
            latency: std::array::from_fn(|_| AtomicU64::new(0)),
            latency_us: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            evicted: AtomicU64::new(0),
            refused: Arc::default(),
        }
    }

    /// Counts an answer; `route` is `None` where no route was found.
    pub(super) fn answered(&self, route: Option<usize>, status: u16, took: Duration) {
        let row = (route.unwrap_or(usize::MAX), status);
        *self.answers.lock().unwrap_or_else(PoisonError::into_inner).entry(row).or_insert(0) += 1;
        let took_s = took.as_secs_f64();
        let bucket = LATENCY_BUCKETS_S.iter().position(|bound| took_s <= *bound).unwrap_or(LATENCY_BUCKETS_S.len());
        self.latency[bucket].fetch_add(1, Ordering::Relaxed);
        self.latency_us.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Requests by route and status.
    #[must_use]
    pub fn answers(&self) -> Vec<ResponseCounts> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let row = |((route, status), count): (&(usize, u16), &u64)| ResponseCounts {
            route: (*route != usize::MAX).then_some(*route),
            status: *status,
            count: *count,
        };
        answers.iter().map(row).collect()
    }

    /// Method and path of a route, as the table of routes writes them.
    #[must_use]
    pub fn route(&self, index: usize) -> (&str, &'static str) {
        self.routes.get(index).map_or(("", ""), |(method, path)| (method.as_str(), *path))
    }

    /// The latency histogram: answers within each bucket (not cumulated, the last one has no bound), and their sum in
    /// seconds.
    #[must_use]
    pub fn latency(&self) -> ([u64; LATENCY_BUCKETS_S.len() + 1], f64) {
        let buckets = std::array::from_fn(|index| self.latency[index].load(Ordering::Relaxed));
        (buckets, Duration::from_micros(self.latency_us.load(Ordering::Relaxed)).as_secs_f64())
    }
}

/// What the rate limits refused, by project where the key told it.
#[derive(Debug, Default)]
pub struct Refused(Mutex<BTreeMap<String, u64>>);

impl Refused {
    /// Counts a refusal and makes the error for it.
    pub(super) fn too_many(&self, project: Option<&str>, retry_after_s: u64) -> Error {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let named = project.unwrap_or_default();
        let row = if counts.len() >= PROJECTS_MAX && !counts.contains_key(named) { "(other)" } else { named };
        *counts.entry(row.to_owned()).or_insert(0) += 1;
        Error::TooMany { retry_after_s }
    }

    /// Refusals by project; those without one stand under the empty name.
    #[must_use]
    pub fn by_project(&self) -> Vec<(String, u64)> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.iter().map(|(project, count)| (project.clone(), *count)).collect()
    }
}
