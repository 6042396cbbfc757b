//! Counters of the HTTP server, for `GET /metrics` and `GET /health`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::error::Error;
use crate::text::truncate_chars;

/// Upper bounds of the latency histogram's buckets, in seconds.
pub const LATENCY_BUCKETS_S: [f64; 11] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0];
/// Maximum number of projects whose rejections are counted by name. The others are counted together.
const PROJECTS_MAX: usize = 100;
/// Maximum number of origins whose rejections are counted by name. The others are counted together.
const ORIGINS_MAX: usize = 20;
/// Length to which the names of origins are truncated, in characters.
const ORIGIN_CHARS_MAX: usize = 200;
/// Name of the row that counts all names beyond the maximum.
const OTHER: &str = "(other)";

/// The counters since the start.
#[derive(Debug)]
pub struct Stats {
    /// The method and the path of each route.
    routes: Vec<(String, &'static str)>,
    /// The number of responses by route (`usize::MAX` = no route) and status.
    responses: Mutex<BTreeMap<(usize, u16), u64>>,
    latency: [AtomicU64; LATENCY_BUCKETS_S.len() + 1],
    latency_us: AtomicU64,
    /// Connections that are open now.
    pub connections: AtomicU64,
    /// Connections that were closed to admit others.
    pub evicted: AtomicU64,
    /// Requests that rate limits rejected.
    pub rejections: Arc<RateLimitRejections>,
    /// Requests of pages whose origin is not allowed.
    pub rejected_origins: Arc<RejectedOrigins>,
    /// Requests with a forwarded address that is ignored.
    pub ignored_addresses: Arc<IgnoredAddresses>,
}

/// The number of responses of one route with one status.
#[derive(Debug, Clone, Copy)]
pub struct ResponseCount {
    /// The index of the route; `None` if no route matched.
    pub route: Option<usize>,
    /// The status code.
    pub status: u16,
    /// The number of responses.
    pub count: u64,
}

impl Stats {
    pub(in crate::http) fn new(routes: Vec<(String, &'static str)>) -> Self {
        Self {
            routes,
            responses: Mutex::default(),
            latency: std::array::from_fn(|_| AtomicU64::new(0)),
            latency_us: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            evicted: AtomicU64::new(0),
            rejections: Arc::default(),
            rejected_origins: Arc::default(),
            ignored_addresses: Arc::default(),
        }
    }

    /// Counts a response. `route` is `None` if no route matched.
    pub(in crate::http) fn record_response(&self, route: Option<usize>, status: u16, latency: Duration) {
        let row = (route.unwrap_or(usize::MAX), status);
        *self.responses.lock().unwrap_or_else(PoisonError::into_inner).entry(row).or_insert(0) += 1;
        let latency_s = latency.as_secs_f64();
        let bucket = LATENCY_BUCKETS_S.iter().position(|bound| latency_s <= *bound).unwrap_or(LATENCY_BUCKETS_S.len());
        self.latency[bucket].fetch_add(1, Ordering::Relaxed);
        self.latency_us.fetch_add(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Returns the number of responses by route and status.
    #[must_use]
    pub fn responses(&self) -> Vec<ResponseCount> {
        let responses = self.responses.lock().unwrap_or_else(PoisonError::into_inner);
        let row = |((route, status), count): (&(usize, u16), &u64)| ResponseCount {
            route: (*route != usize::MAX).then_some(*route),
            status: *status,
            count: *count,
        };
        responses.iter().map(row).collect()
    }

    /// Returns the method and the path of a route, as in the route table.
    #[must_use]
    pub fn route(&self, index: usize) -> (&str, &'static str) {
        self.routes.get(index).map_or(("", ""), |(method, path)| (method.as_str(), *path))
    }

    /// Returns the latency histogram: the number of responses in each bucket (not cumulative; the last bucket is
    /// unbounded), and the sum of the latencies in seconds.
    #[must_use]
    pub fn latency(&self) -> ([u64; LATENCY_BUCKETS_S.len() + 1], f64) {
        let buckets = std::array::from_fn(|index| self.latency[index].load(Ordering::Relaxed));
        (buckets, Duration::from_micros(self.latency_us.load(Ordering::Relaxed)).as_secs_f64())
    }
}

/// Counts by name. Names beyond a maximum are counted together.
#[derive(Debug, Default)]
struct NamedCounts(Mutex<BTreeMap<String, u64>>);

impl NamedCounts {
    fn increment(&self, name: &str, names_max: usize) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let row = if counts.len() >= names_max && !counts.contains_key(name) { OTHER } else { name };
        *counts.entry(row.to_owned()).or_insert(0) += 1;
    }

    fn rows(&self) -> Vec<(String, u64)> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.iter().map(|(name, count)| (name.clone(), *count)).collect()
    }
}

/// The number of requests that rate limits rejected, by the project of their key.
#[derive(Debug, Default)]
pub struct RateLimitRejections(NamedCounts);

impl RateLimitRejections {
    /// Counts a rejection and returns its error.
    pub(in crate::http) fn record(&self, project: Option<&str>, retry_after_s: u64) -> Error {
        self.0.increment(project.unwrap_or_default(), PROJECTS_MAX);
        Error::TooMany { retry_after_s }
    }

    /// Returns the rejections by project; those without a project are under the empty name.
    #[must_use]
    pub fn by_project(&self) -> Vec<(String, u64)> {
        self.0.rows()
    }
}

/// The number of reports and preflight requests of pages whose origin is not allowed, by origin.
#[derive(Debug, Default)]
pub struct RejectedOrigins(NamedCounts);

impl RejectedOrigins {
    /// Counts a request of a page.
    pub(in crate::http) fn record(&self, origin: &str) {
        self.0.increment(&truncate_chars(origin, ORIGIN_CHARS_MAX), ORIGINS_MAX);
    }

    /// Returns the requests by origin, and under `(other)` those beyond the maximum.
    #[must_use]
    pub fn by_origin(&self) -> Vec<(String, u64)> {
        self.0.rows()
    }
}

/// The requests whose `X-Forwarded-For` is ignored because their peer is not a trusted proxy.
#[derive(Debug, Default)]
pub struct IgnoredAddresses(Mutex<Option<(IpAddr, u64)>>);

impl IgnoredAddresses {
    /// Counts a request of a peer.
    pub(in crate::http) fn record(&self, peer: IpAddr) {
        let mut ignored = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = ignored.map_or(0, |(_, count)| count);
        if count == 0 {
            log::warn!("http: X-Forwarded-For from {peer} is ignored: TRUSTED_PROXIES does not include this address");
        }
        *ignored = Some((peer, count + 1));
    }

    /// Returns the latest of these peers and the number of requests of all of them; `None` if there are none.
    #[must_use]
    pub fn latest(&self) -> Option<(IpAddr, u64)> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_beyond_the_maximum_are_counted_together() {
        let origins = RejectedOrigins::default();
        for number in 0..100 {
            origins.record(&format!("https://{number:02}.example"));
        }
        origins.record("https://00.example");
        origins.record(&"x".repeat(10_000));
        let rows = origins.by_origin();
        assert_eq!(rows.len(), ORIGINS_MAX + 1);
        assert_eq!((&rows[0], &rows[1]), (&(OTHER.to_owned(), 81), &("https://00.example".to_owned(), 2)));
    }
}
