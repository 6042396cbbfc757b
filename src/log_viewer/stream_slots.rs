//! Limit for the number of open streams, with fair shares for clients.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::http::{Digest, Request, Sessions};

/// Client that streams are counted for, of all that use the same key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StreamClient {
    /// Name of the key.
    key: String,
    origin: Origin,
}

/// Origin of a client's requests: a session of the web UI, or else an address. For IPv6, the address is the /64 prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    Session(Digest),
    Address(IpAddr),
}

impl StreamClient {
    /// Returns the client of a request.
    pub(super) fn new(request: &Request, sessions: &Sessions) -> Self {
        let session = request.session_token_digest(sessions).filter(|token| sessions.is_open(*token));
        let origin = session.map_or_else(|| Origin::Address(network_of(request.client())), Origin::Session);
        Self { key: request.principal().name.clone(), origin }
    }
}

fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        v4 => v4,
    }
}

/// Slots for one kind of stream.
#[derive(Debug)]
pub(super) struct StreamSlots {
    max: usize,
    /// Maximum number for one client.
    client_max: usize,
    /// Whether a stream can be ended to make room for a client with the same key that has fewer.
    evicts_within_key: bool,
    open: Mutex<Vec<Slot>>,
}

#[derive(Debug)]
struct Slot {
    client: StreamClient,
    evicted: Arc<AtomicBool>,
}

/// Permit for one stream. Dropping it releases the slot.
#[derive(Debug)]
pub(super) struct StreamPermit {
    slots: Arc<StreamSlots>,
    evicted: Arc<AtomicBool>,
}

impl StreamSlots {
    /// Creates slots for at most `max` streams, of which one client can have half. When all are used, a key with at least two
    /// fewer than another replaces the oldest stream of that one. All others run to their end.
    pub(super) fn with_half_per_client(max: usize) -> Arc<Self> {
        Arc::new(Self { max, client_max: max / 2, evicts_within_key: false, open: Mutex::default() })
    }

    /// Creates slots for at most `max` streams, all of which one client can have while no other needs one. When all are
    /// used, a key with at least two fewer than another replaces the oldest stream of that one, and so does a client among
    /// those with the same key.
    pub(super) fn with_eviction(max: usize) -> Arc<Self> {
        Arc::new(Self { max, client_max: max, evicts_within_key: true, open: Mutex::default() })
    }

    /// Acquires a slot for a client; `None` if there is none.
    pub(super) fn acquire(self: &Arc<Self>, client: StreamClient) -> Option<StreamPermit> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.iter().filter(|slot| slot.client == client).count() >= self.client_max {
            return None;
        }
        if open.len() >= self.max {
            let slot = self.replaceable(&open, &client)?;
            open.remove(slot).evicted.store(true, Ordering::Relaxed);
        }
        let evicted = Arc::new(AtomicBool::new(false));
        open.push(Slot { client, evicted: Arc::clone(&evicted) });
        Some(StreamPermit { slots: Arc::clone(self), evicted })
    }

    /// Returns the index of the slot that a client may replace. The slots are in the order in which they were acquired.
    fn replaceable(&self, open: &[Slot], client: &StreamClient) -> Option<usize> {
        let of_key = |key: &str| open.iter().filter(|slot| slot.client.key == key).count();
        let of_client = |client: &StreamClient| open.iter().filter(|slot| slot.client == *client).count();
        let largest_key = open.iter().map(|slot| of_key(&slot.client.key)).max()?;
        let is_fair = largest_key < of_key(&client.key) + 2;
        if is_fair && !self.evicts_within_key {
            return None;
        }
        let is_candidate = |slot: &Slot| {
            if is_fair { slot.client.key == client.key } else { of_key(&slot.client.key) == largest_key }
        };
        let candidates = || open.iter().enumerate().filter(|(_, slot)| is_candidate(slot));
        let largest = candidates().map(|(_, slot)| of_client(&slot.client)).max()?;
        if is_fair && largest < of_client(client) + 2 {
            return None;
        }
        candidates().find(|(_, slot)| of_client(&slot.client) == largest).map(|(index, _)| index)
    }
}

impl StreamPermit {
    /// Whether another client needs the slot, so that the stream has to end.
    pub(super) fn is_evicted(&self) -> bool {
        self.evicted.load(Ordering::Relaxed)
    }
}

impl Drop for StreamPermit {
    fn drop(&mut self) {
        let mut open = self.slots.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|slot| !Arc::ptr_eq(&slot.evicted, &self.evicted));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(address: &str) -> StreamClient {
        client_of("API_KEY", address)
    }

    fn client_of(key: &str, address: &str) -> StreamClient {
        StreamClient { key: key.into(), origin: Origin::Address(network_of(address.parse().unwrap())) }
    }

    #[test]
    fn a_client_may_use_all_slots_until_another_needs_one() {
        let slots = StreamSlots::with_eviction(5);
        let (one, two) = (client("192.0.2.1"), client("192.0.2.2"));
        let mut first: Vec<StreamPermit> = (0..5).map(|_| slots.acquire(one.clone()).unwrap()).collect();
        assert!(slots.acquire(one.clone()).is_none());
        let second: Vec<StreamPermit> = (0..2).map(|_| slots.acquire(two.clone()).unwrap()).collect();
        assert!(slots.acquire(two.clone()).is_none() && slots.acquire(one.clone()).is_none());
        let evicted: Vec<bool> = first.iter().map(StreamPermit::is_evicted).collect();
        assert_eq!(evicted, [true, true, false, false, false]);
        // An evicted permit has no slot to release.
        first.drain(..2);
        assert!(slots.acquire(one.clone()).is_none());
        first.pop();
        assert!(slots.acquire(client("192.0.2.3")).is_some() && !second[0].is_evicted());
    }

    #[test]
    fn a_client_has_at_most_half_of_slots_without_eviction() {
        let slots = StreamSlots::with_half_per_client(4);
        let _first: Vec<StreamPermit> = (0..2).map(|_| slots.acquire(client("2001:db8::1")).unwrap()).collect();
        assert!(slots.acquire(client("2001:db8::2")).is_none(), "the same /64");
        let _second: Vec<StreamPermit> = (0..2).map(|_| slots.acquire(client("2001:db8:0:1::1")).unwrap()).collect();
        assert!(slots.acquire(client("192.0.2.1")).is_none());
    }

    #[test]
    fn clients_of_one_key_do_not_exclude_other_keys() {
        for slots in [StreamSlots::with_half_per_client(4), StreamSlots::with_eviction(4)] {
            let eye = |number: usize| client_of("eye", &format!("192.0.2.{number}"));
            let eyes: Vec<StreamPermit> = (0..4).map(|number| slots.acquire(eye(number)).unwrap()).collect();
            assert!(slots.acquire(eye(5)).is_none());
            let own: Vec<StreamPermit> = (0..2).map(|_| slots.acquire(client("192.0.2.1")).unwrap()).collect();
            assert!(slots.acquire(eye(5)).is_none(), "the keys have two each");
            let evicted: Vec<bool> = eyes.iter().map(StreamPermit::is_evicted).collect();
            assert_eq!(evicted, [true, true, false, false]);
            assert!(slots.acquire(client_of("third", "192.0.2.1")).is_some());
            drop(own);
        }
    }
}
