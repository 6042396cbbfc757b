//! The bytes of unanswered requests that may lie in memory at once, in all and for one client.
//!
//! Counting messages does not bound memory: 256 queued bodies of 512 KB are 128 MB. So bytes are charged as they
//! arrive, a declared length costs nothing, and the charge is given back when the request is answered.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// In all.
const TOTAL_BYTES_MAX: usize = 4 * 1024 * 1024;
/// For one client, so that a stranger cannot take it all.
const CLIENT_BYTES_MAX: usize = TOTAL_BYTES_MAX / 2;
/// What a client may hold when the others hold everything, and how much more that may be in all: the large bodies of a
/// few must not keep small reports and health checks out.
const LITTLE_BYTES: usize = 16 * 1024;
const RESERVE_BYTES: usize = 512 * 1024;

/// Why a charge was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exhausted {
    /// This client holds its share already.
    Share,
    /// All clients together hold everything.
    Total,
}

#[derive(Debug, Default)]
struct Ledger {
    total: usize,
    clients: HashMap<IpAddr, usize>,
}

/// The ledger all charges are written in.
#[derive(Debug, Clone, Default)]
pub(super) struct Budget(Arc<Mutex<Ledger>>);

impl Budget {
    /// An empty charge for `client`.
    pub(super) fn charge(&self, client: IpAddr) -> Charge {
        Charge { budget: self.clone(), client, bytes: 0 }
    }
}

/// What one request holds; given back when dropped.
#[derive(Debug)]
pub(super) struct Charge {
    budget: Budget,
    client: IpAddr,
    bytes: usize,
}

impl Charge {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Makes this charge `bytes` large. Growing can be refused, and then nothing changes.
    pub(super) fn set(&mut self, bytes: usize) -> Result<(), Exhausted> {
        if bytes == self.bytes {
            return Ok(());
        }
        let mut ledger = self.budget.0.lock().unwrap_or_else(PoisonError::into_inner);
        let total = ledger.total - self.bytes + bytes;
        let share = ledger.clients.get(&self.client).copied().unwrap_or(0) - self.bytes + bytes;
        if bytes > self.bytes {
            if share > CLIENT_BYTES_MAX {
                return Err(Exhausted::Share);
            }
            if total > TOTAL_BYTES_MAX + if share > LITTLE_BYTES { 0 } else { RESERVE_BYTES } {
                return Err(Exhausted::Total);
            }
        }
        ledger.total = total;
        if share == 0 {
            ledger.clients.remove(&self.client);
        } else {
            ledger.clients.insert(self.client, share);
        }
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        // Shrinking is never refused.
        let _ = self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charges_add_up_to_the_share_and_to_the_total_and_come_back() {
        let budget = Budget::default();
        let charge = |last: u8, bytes| {
            let mut charge = budget.charge(IpAddr::from([10, 0, 0, last]));
            charge.set(bytes).map(|()| charge)
        };
        let first = charge(1, CLIENT_BYTES_MAX).unwrap();
        assert_eq!(charge(1, 1).unwrap_err(), Exhausted::Share);
        let second = charge(2, CLIENT_BYTES_MAX).unwrap();
        assert_eq!(charge(3, LITTLE_BYTES + 1).unwrap_err(), Exhausted::Total);
        drop(first);
        let third = charge(3, LITTLE_BYTES + 1).unwrap();
        drop((second, third));
        let ledger = budget.0.lock().unwrap();
        assert_eq!((ledger.total, ledger.clients.len()), (0, 0));
    }

    #[test]
    fn who_holds_little_finds_room_when_others_hold_everything() {
        let budget = Budget::default();
        let charge = |client: u32, bytes| {
            let mut charge = budget.charge(IpAddr::from(client.to_be_bytes()));
            charge.set(bytes).map(|()| charge)
        };
        let _large = [charge(1, CLIENT_BYTES_MAX).unwrap(), charge(2, CLIENT_BYTES_MAX).unwrap()];
        let little: Vec<_> = (3..).map_while(|client| charge(client, LITTLE_BYTES).ok()).collect();
        assert_eq!(little.len(), RESERVE_BYTES / LITTLE_BYTES);
        assert_eq!(charge(1_000, 1).unwrap_err(), Exhausted::Total);
    }

    #[test]
    fn a_refused_growth_changes_nothing() {
        let budget = Budget::default();
        let mut charge = budget.charge(IpAddr::from([10, 0, 0, 1]));
        charge.set(100).unwrap();
        assert!(charge.set(CLIENT_BYTES_MAX + 1).is_err());
        assert_eq!(charge.bytes(), 100);
        charge.set(50).unwrap();
        assert_eq!(budget.0.lock().unwrap().total, 50);
    }
}
