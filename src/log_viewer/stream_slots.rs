//! Limit for the number of open streams, with fair shares for clients.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::http::{Digest, Request, Sessions};

/// Client that streams are counted for: a session of the web UI, or else an address. For IPv6, the address is the /64 prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StreamClient {
    Session(Digest),
    Address(IpAddr),
}

impl StreamClient {
    /// Returns the client of a request.
    pub(super) fn new(request: &Request, sessions: &Sessions) -> Self {
        let session = request.session_token_digest(sessions).filter(|token| sessions.is_open(*token));
        session.map_or_else(|| Self::Address(network_of(request.client())), Self::Session)
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
    /// Whether a stream can be ended to make room for a client that has fewer.
    evicts: bool,
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
    /// Creates slots for at most `max` streams that run to their end, of which one client can have half.
    pub(super) fn with_half_per_client(max: usize) -> Arc<Self> {
        Arc::new(Self { max, client_max: max / 2, evicts: false, open: Mutex::default() })
    }

    /// Creates slots for at most `max` streams, all of which one client can have while no other needs one. When all are
    /// used, a client with at least two fewer than another replaces the oldest stream of that one.
    pub(super) fn with_eviction(max: usize) -> Arc<Self> {
        Arc::new(Self { max, client_max: max, evicts: true, open: Mutex::default() })
    }

    /// Acquires a slot for a client; `None` if there is none.
    pub(super) fn acquire(self: &Arc<Self>, client: StreamClient) -> Option<StreamPermit> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = |open: &[Slot], client| open.iter().filter(|slot| slot.client == client).count();
        let own = count(&open, client);
        if own >= self.client_max {
            return None;
        }
        if open.len() >= self.max {
            let largest = open.iter().map(|slot| count(&open, slot.client)).max().unwrap_or(0);
            if !self.evicts || largest < own + 2 {
                return None;
            }
            // The slots are in the order in which they were acquired.
            let oldest = open.iter().position(|slot| count(&open, slot.client) == largest)?;
            open.remove(oldest).evicted.store(true, Ordering::Relaxed);
        }
        let evicted = Arc::new(AtomicBool::new(false));
        open.push(Slot { client, evicted: Arc::clone(&evicted) });
        Some(StreamPermit { slots: Arc::clone(self), evicted })
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
        StreamClient::Address(network_of(address.parse().unwrap()))
    }

    #[test]
    fn a_client_may_use_all_slots_until_another_needs_one() {
        let slots = StreamSlots::with_eviction(5);
        let (one, two) = (client("192.0.2.1"), client("192.0.2.2"));
        let mut first: Vec<StreamPermit> = (0..5).map(|_| slots.acquire(one).unwrap()).collect();
        assert!(slots.acquire(one).is_none());
        let second: Vec<StreamPermit> = (0..2).map(|_| slots.acquire(two).unwrap()).collect();
        assert!(slots.acquire(two).is_none() && slots.acquire(one).is_none());
        let evicted: Vec<bool> = first.iter().map(StreamPermit::is_evicted).collect();
        assert_eq!(evicted, [true, true, false, false, false]);
        // An evicted permit has no slot to release.
        first.drain(..2);
        assert!(slots.acquire(one).is_none());
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
}
