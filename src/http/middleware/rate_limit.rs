//! Rate limiter: a sliding window per client, in a table of bounded size.
//!
//! The window is estimated from two fixed windows: the count of the current one, plus the count of the previous one
//! weighted with the share of it that lies within the last minute (the "sliding window counter", described by Cloudflare in
//! 2017). It admits at most twice the limit in any minute and takes 24 bytes per client.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

const WINDOW: Duration = Duration::from_secs(60);
/// Maximum number of clients in the table. A full table evicts the clients that have been idle the longest.
const CLIENTS_MAX: usize = 20_000;

/// The limit of an IPv6 /48 as a multiple of the limit of one address. One subscriber can hold a /48, which contains 65,536
/// prefixes of 64 bits.
const SITE_FACTOR: u32 = 16;

/// Counts the requests of each address, with one key or with any, against one limit. The /64 of an IPv6 address counts as the
/// address, and its /48 has a wider limit of its own.
#[derive(Debug)]
pub(in crate::http) struct AddressRateLimit {
    addresses: RateLimit<(i64, IpAddr)>,
    sites: RateLimit<(i64, Ipv6Addr)>,
}

impl AddressRateLimit {
    /// Creates a limit in requests per minute; 0 = unlimited.
    pub(in crate::http) fn new(per_minute: u32) -> Self {
        let sites = RateLimit::new(per_minute.saturating_mul(SITE_FACTOR));
        Self { addresses: RateLimit::new(per_minute), sites }
    }

    /// Counts a request of an address, which [`rate_limit_key`](super::client_address::rate_limit_key) has returned. Each
    /// `key` has limits of its own.
    ///
    /// # Errors
    /// If a limit is reached, returns the seconds until the next request can succeed, at least 1.
    pub(in crate::http) fn admit(&mut self, key: i64, address: IpAddr, now: Instant) -> Result<(), u64> {
        self.addresses.admit((key, address), now)?;
        match address {
            IpAddr::V4(_) => Ok(()),
            IpAddr::V6(v6) => self.sites.admit((key, site(v6)), now),
        }
    }

    /// Checks that a request of an address would be admitted, without counting it.
    ///
    /// # Errors
    /// See [`AddressRateLimit::admit`].
    pub(in crate::http) fn check(&mut self, key: i64, address: IpAddr, now: Instant) -> Result<(), u64> {
        self.addresses.check((key, address), now)?;
        match address {
            IpAddr::V4(_) => Ok(()),
            IpAddr::V6(v6) => self.sites.check((key, site(v6)), now),
        }
    }
}

/// Returns the /48 prefix of an address.
fn site(address: Ipv6Addr) -> Ipv6Addr {
    Ipv6Addr::from_bits(address.to_bits() & !(u128::MAX >> 48))
}

/// Counts the requests of each client against one limit.
#[derive(Debug)]
pub(in crate::http) struct RateLimit<K> {
    per_minute: u32,
    clients: HashMap<K, Window>,
}

#[derive(Debug, Clone, Copy)]
struct Window {
    started: Instant,
    count: u32,
    previous_count: u32,
}

impl<K: Hash + Eq + Copy> RateLimit<K> {
    /// Creates a limit in requests per minute; 0 = unlimited.
    pub(in crate::http) fn new(per_minute: u32) -> Self {
        Self { per_minute, clients: HashMap::new() }
    }

    /// Counts a request of `client`.
    ///
    /// # Errors
    /// If the client is over the limit, returns the seconds until its next request can succeed, at least 1.
    pub(in crate::http) fn admit(&mut self, client: K, now: Instant) -> Result<(), u64> {
        if self.per_minute == 0 {
            return Ok(());
        }
        if self.clients.len() >= CLIENTS_MAX && !self.clients.contains_key(&client) {
            self.evict_idle(now);
        }
        let window = self.clients.entry(client).or_insert(Window { started: now, count: 0, previous_count: 0 });
        window.check(self.per_minute, now)?;
        window.count += 1;
        Ok(())
    }

    /// Checks that a request of `client` would be admitted, without counting it.
    ///
    /// # Errors
    /// See [`RateLimit::admit`].
    pub(in crate::http) fn check(&mut self, client: K, now: Instant) -> Result<(), u64> {
        self.clients.get_mut(&client).map_or(Ok(()), |window| window.check(self.per_minute, now))
    }

    /// Evicts clients whose requests no longer count, and the older half of the others if that frees too little.
    fn evict_idle(&mut self, now: Instant) {
        self.clients.retain(|_, window| now.saturating_duration_since(window.started) < WINDOW * 2);
        if self.clients.len() < CLIENTS_MAX / 2 {
            return;
        }
        let mut starts: Vec<Instant> = self.clients.values().map(|window| window.started).collect();
        let middle = starts.len() / 2;
        let (_, median, _) = starts.select_nth_unstable(middle);
        let median = *median;
        self.clients.retain(|_, window| window.started > median);
    }
}

impl Window {
    /// Moves the window to `now` and checks that it has room for one more request. If not, returns the seconds until it has.
    fn check(&mut self, per_minute: u32, now: Instant) -> Result<(), u64> {
        self.slide(now);
        let limit = f64::from(per_minute);
        let elapsed_s = now.saturating_duration_since(self.started).as_secs_f64();
        let previous_share = 1.0 - (elapsed_s / WINDOW.as_secs_f64()).min(1.0);
        if f64::from(self.count) + f64::from(self.previous_count) * previous_share + 1.0 <= limit {
            return Ok(());
        }
        Err(self.retry_after_s(limit, elapsed_s))
    }

    fn slide(&mut self, now: Instant) {
        let age = now.saturating_duration_since(self.started);
        if age < WINDOW {
            return;
        }
        self.previous_count = if age < WINDOW * 2 { self.count } else { 0 };
        self.count = 0;
        // The new window starts at the end of the old one, or now if at least one whole window passed without a request.
        self.started = if age < WINDOW * 2 { self.started + WINDOW } else { now };
    }

    /// Returns the whole seconds until one more request is within the limit, 1 to 120.
    fn retry_after_s(&self, limit: f64, elapsed_s: f64) -> u64 {
        let window_s = WINDOW.as_secs_f64();
        let (count, previous) = (f64::from(self.count), f64::from(self.previous_count));
        let wait_s = if count + 1.0 > limit {
            // The current window alone is over the limit: it must end, and then its weight must fall.
            let fade = (1.0 - (limit - 1.0) / count).max(0.0);
            window_s - elapsed_s + window_s * fade
        } else {
            // The weight of the previous window must fall.
            window_s * (1.0 - (limit - 1.0 - count) / previous) - elapsed_s
        };
        // The range makes the cast lossless.
        wait_s.ceil().clamp(1.0, 120.0) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limit_is_exact_in_the_first_minute() {
        let (start, mut rate) = (Instant::now(), RateLimit::new(100));
        for n in 0..100 {
            assert_eq!(rate.admit(1, start + Duration::from_millis(n * 10)), Ok(()), "{n}");
        }
        assert!(rate.admit(1, start + Duration::from_secs(1)).is_err());
        assert_eq!(rate.admit(2, start), Ok(()), "another client has its own");
    }

    #[test]
    fn check_counts_nothing_and_rejects_at_the_limit() {
        let (now, mut rate) = (Instant::now(), AddressRateLimit::new(2));
        let address = IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1]);
        assert!((0..100).all(|_| rate.check(0, address, now).is_ok()));
        assert!((0..2).all(|_| rate.admit(0, address, now).is_ok()));
        assert_eq!((rate.check(0, address, now), rate.admit(0, address, now)), (Err(90), Err(90)));
        assert_eq!(rate.check(0, address, now + WINDOW * 2), Ok(()));
        assert_eq!(AddressRateLimit::new(0).check(0, address, now), Ok(()));
    }

    #[test]
    fn retry_after_is_sufficient_and_at_most_a_second_too_long() {
        for (limit, gap_ms) in [(1u32, 10u64), (5, 1_000), (100, 100), (60, 500), (3, 25_000)] {
            let (start, mut rate) = (Instant::now(), RateLimit::new(limit));
            let mut now = start;
            for _ in 0..400 {
                now += Duration::from_millis(gap_ms);
                if let Err(wait_s) = rate.admit(1, now) {
                    let early = now + Duration::from_secs(wait_s.saturating_sub(1));
                    if wait_s > 1 {
                        assert!(rate.admit(1, early - Duration::from_millis(1)).is_err(), "{limit} {gap_ms}");
                    }
                    now += Duration::from_secs(wait_s);
                    assert_eq!(rate.admit(1, now), Ok(()), "limit {limit}, gap {gap_ms} ms");
                }
            }
        }
    }

    #[test]
    fn sustained_rate_stays_at_the_limit() {
        let (start, mut rate) = (Instant::now(), RateLimit::new(60));
        let passed = (0..6_000u64).filter(|n| rate.admit(1, start + Duration::from_millis(n * 100)).is_ok()).count();
        assert!((500..=660).contains(&passed), "{passed} in ten minutes at 60 a minute");
    }

    #[test]
    fn client_table_is_bounded() {
        let (start, mut rate) = (Instant::now(), RateLimit::new(1));
        for client in 0..100_000u64 {
            let _ = rate.admit(client, start + Duration::from_micros(client));
            assert!(rate.clients.len() <= CLIENTS_MAX);
        }
    }

    #[test]
    fn ipv6_sites_have_a_wider_limit_than_their_addresses() {
        let (now, mut rate) = (Instant::now(), AddressRateLimit::new(2));
        let address = |site: u16, network: u16| IpAddr::from([0x2001, 0xdb8, site, network, 0, 0, 0, 0]);
        assert_eq!([1, 1, 1].map(|network| rate.admit(0, address(1, network), now).is_ok()), [true, true, false]);
        let admitted = (2..100).filter(|network| rate.admit(0, address(1, *network), now).is_ok()).count();
        assert_eq!(admitted, 30, "the site may send 32 requests, and has sent two");
        assert_eq!(rate.admit(0, address(2, 1), now), Ok(()), "another site");
        assert_eq!(rate.admit(7, address(1, 200), now), Ok(()), "another key");
        let v4 = (0..100).filter(|n| rate.admit(0, IpAddr::from([10, 0, 0, *n]), now).is_ok()).count();
        assert_eq!(v4, 100);
    }

    #[test]
    fn zero_disables_the_limit() {
        let mut rate = RateLimit::new(0);
        assert!((0..1_000).all(|_| rate.admit(1, Instant::now()).is_ok()));
        assert!(rate.clients.is_empty());
    }
}
