//! How often each client may ask: a sliding window per client, in a table of bounded size.
//!
//! The window is estimated from two fixed ones: the requests of the running window, and those of the one before
//! weighted with the share of it that still lies within the last minute (the "sliding window counter", described by
//! Cloudflare in 2017). It never lets more than twice the limit pass in any minute and needs 24 bytes a client.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

const WINDOW: Duration = Duration::from_secs(60);
/// Clients remembered at once; a table this full forgets those that have been silent the longest.
const CLIENTS_MAX: usize = 20_000;

/// The requests of each client in the last minute, against one limit.
#[derive(Debug)]
pub(super) struct RateLimit<K> {
    per_minute: u32,
    clients: HashMap<K, Window>,
}

#[derive(Debug, Clone, Copy)]
struct Window {
    started: Instant,
    count: u32,
    count_before: u32,
}

impl<K: Hash + Eq + Copy> RateLimit<K> {
    /// A limit in requests a minute; 0 switches it off.
    pub(super) fn new(per_minute: u32) -> Self {
        Self { per_minute, clients: HashMap::new() }
    }

    /// Counts a request of `client`, or answers after how many seconds it may come again.
    pub(super) fn admit(&mut self, client: K, now: Instant) -> Result<(), u64> {
        if self.per_minute == 0 {
            return Ok(());
        }
        if self.clients.len() >= CLIENTS_MAX && !self.clients.contains_key(&client) {
            self.forget_the_silent(now);
        }
        let window = self.clients.entry(client).or_insert(Window { started: now, count: 0, count_before: 0 });
        window.slide(now);
        let limit = f64::from(self.per_minute);
        let elapsed = now.saturating_duration_since(window.started).as_secs_f64();
        let share_before = 1.0 - (elapsed / WINDOW.as_secs_f64()).min(1.0);
        if f64::from(window.count) + f64::from(window.count_before) * share_before + 1.0 <= limit {
            window.count += 1;
            return Ok(());
        }
        Err(window.wait_s(limit, elapsed))
    }

    /// Drops clients whose last requests no longer count, and when that frees too little the older half of the rest.
    fn forget_the_silent(&mut self, now: Instant) {
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
    fn slide(&mut self, now: Instant) {
        let age = now.saturating_duration_since(self.started);
        if age < WINDOW {
            return;
        }
        self.count_before = if age < WINDOW * 2 { self.count } else { 0 };
        self.count = 0;
        // The new window starts where the old one ended, or now when a whole one passed in silence.
        self.started = if age < WINDOW * 2 { self.started + WINDOW } else { now };
    }

    /// Whole seconds until one more request fits, at least 1.
    fn wait_s(&self, limit: f64, elapsed: f64) -> u64 {
        let window = WINDOW.as_secs_f64();
        let (count, before) = (f64::from(self.count), f64::from(self.count_before));
        let wait = if count + 1.0 > limit {
            // Even without the window before there is no room: the running one must end and fade.
            let fade = (1.0 - (limit - 1.0) / count).max(0.0);
            window - elapsed + window * fade
        } else {
            // Room comes as the window before fades.
            window * (1.0 - (limit - 1.0 - count) / before) - elapsed
        };
        // Bounded to 1..=120 by the line above; the cast cannot lose anything.
        wait.ceil().clamp(1.0, 120.0) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_holds_exactly_within_a_first_minute() {
        let (start, mut rate) = (Instant::now(), RateLimit::new(100));
        for n in 0..100 {
            assert_eq!(rate.admit(1, start + Duration::from_millis(n * 10)), Ok(()), "{n}");
        }
        assert!(rate.admit(1, start + Duration::from_secs(1)).is_err());
        assert_eq!(rate.admit(2, start), Ok(()), "another client has its own");
    }

    #[test]
    fn waiting_as_told_is_enough_and_no_more_than_a_second_too_long() {
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
    fn no_minute_holds_more_than_twice_the_limit_and_the_long_run_holds_the_limit() {
        let (start, mut rate) = (Instant::now(), RateLimit::new(60));
        let passed = (0..6_000u64).filter(|n| rate.admit(1, start + Duration::from_millis(n * 100)).is_ok()).count();
        assert!((500..=660).contains(&passed), "{passed} in ten minutes at 60 a minute");
    }

    #[test]
    fn the_table_of_clients_is_bounded() {
        let (start, mut rate) = (Instant::now(), RateLimit::new(1));
        for client in 0..100_000u64 {
            let _ = rate.admit(client, start + Duration::from_micros(client));
            assert!(rate.clients.len() <= CLIENTS_MAX);
        }
    }

    #[test]
    fn zero_switches_it_off() {
        let mut rate = RateLimit::new(0);
        assert!((0..1_000).all(|_| rate.admit(1, Instant::now()).is_ok()));
        assert!(rate.clients.is_empty());
    }
}
