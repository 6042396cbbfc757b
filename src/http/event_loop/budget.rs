//! Memory budget for the bytes of unanswered requests, in total and per client.
//!
//! Limiting the number of messages would not bound memory: 256 queued bodies of 512 KB are 128 MB. So memory is reserved as
//! bytes arrive, not from `Content-Length`, and released when the request is answered.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// Maximum bytes of all requests together.
const TOTAL_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Maximum bytes of one client's requests, so that no client can take the whole budget.
const CLIENT_BYTES_MAX: usize = TOTAL_BYTES_MAX / 2;
/// A client whose requests are at most this large may exceed the total, so that a few large bodies do not block small
/// reports and health checks.
const SMALL_REQUEST_BYTES: usize = 16 * 1024;
/// Maximum bytes by which small requests together may exceed the total.
const RESERVE_BYTES: usize = 512 * 1024;

/// The limit that a reservation would exceed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) enum Exhausted {
    /// The limit of this client.
    ClientLimit,
    /// The limit of all clients together.
    Total,
}

#[derive(Debug, Default)]
struct BudgetState {
    total: usize,
    clients: HashMap<IpAddr, usize>,
}

/// A handle to the budget that all reservations share.
#[derive(Debug, Clone, Default)]
pub(in crate::http) struct Budget(Arc<Mutex<BudgetState>>);

impl Budget {
    /// Returns an empty reservation for `client`.
    pub(in crate::http) fn reserve(&self, client: IpAddr) -> Reservation {
        Reservation { budget: self.clone(), client, bytes: 0 }
    }
}

/// Memory reserved for one request; released when dropped.
#[derive(Debug)]
pub(in crate::http) struct Reservation {
    budget: Budget,
    client: IpAddr,
    bytes: usize,
}

impl Reservation {
    /// Returns the reserved size in bytes.
    pub(in crate::http) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Resizes the reservation to `bytes`. Shrinking always succeeds.
    ///
    /// # Errors
    /// Fails if the growth would exceed a limit; then the reservation keeps its size.
    pub(in crate::http) fn resize(&mut self, bytes: usize) -> Result<(), Exhausted> {
        if bytes == self.bytes {
            return Ok(());
        }
        let mut state = self.budget.0.lock().unwrap_or_else(PoisonError::into_inner);
        let total = state.total - self.bytes + bytes;
        let client_total = state.clients.get(&self.client).copied().unwrap_or(0) - self.bytes + bytes;
        if bytes > self.bytes {
            if client_total > CLIENT_BYTES_MAX {
                return Err(Exhausted::ClientLimit);
            }
            if total > TOTAL_BYTES_MAX + if client_total > SMALL_REQUEST_BYTES { 0 } else { RESERVE_BYTES } {
                return Err(Exhausted::Total);
            }
        }
        state.total = total;
        if client_total == 0 {
            state.clients.remove(&self.client);
        } else {
            state.clients.insert(self.client, client_total);
        }
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        // Shrinking always succeeds.
        let _ = self.resize(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reservations_are_limited_per_client_and_in_total_and_are_released() {
        let budget = Budget::default();
        let reserve = |last: u8, bytes| {
            let mut reservation = budget.reserve(IpAddr::from([10, 0, 0, last]));
            reservation.resize(bytes).map(|()| reservation)
        };
        let first = reserve(1, CLIENT_BYTES_MAX).unwrap();
        assert_eq!(reserve(1, 1).unwrap_err(), Exhausted::ClientLimit);
        let second = reserve(2, CLIENT_BYTES_MAX).unwrap();
        assert_eq!(reserve(3, SMALL_REQUEST_BYTES + 1).unwrap_err(), Exhausted::Total);
        drop(first);
        let third = reserve(3, SMALL_REQUEST_BYTES + 1).unwrap();
        drop((second, third));
        let state = budget.0.lock().unwrap();
        assert_eq!((state.total, state.clients.len()), (0, 0));
    }

    #[test]
    fn small_requests_are_admitted_when_the_budget_is_full() {
        let budget = Budget::default();
        let reserve = |client: u32, bytes| {
            let mut reservation = budget.reserve(IpAddr::from(client.to_be_bytes()));
            reservation.resize(bytes).map(|()| reservation)
        };
        let _large = [reserve(1, CLIENT_BYTES_MAX).unwrap(), reserve(2, CLIENT_BYTES_MAX).unwrap()];
        let small: Vec<_> = (3..).map_while(|client| reserve(client, SMALL_REQUEST_BYTES).ok()).collect();
        assert_eq!(small.len(), RESERVE_BYTES / SMALL_REQUEST_BYTES);
        assert_eq!(reserve(1_000, 1).unwrap_err(), Exhausted::Total);
    }

    #[test]
    fn failed_resize_changes_nothing() {
        let budget = Budget::default();
        let mut reservation = budget.reserve(IpAddr::from([10, 0, 0, 1]));
        reservation.resize(100).unwrap();
        assert!(reservation.resize(CLIENT_BYTES_MAX + 1).is_err());
        assert_eq!(reservation.bytes(), 100);
        reservation.resize(50).unwrap();
        assert_eq!(budget.0.lock().unwrap().total, 50);
    }
}
