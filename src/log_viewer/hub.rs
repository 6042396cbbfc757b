//! Who wants to know at once what was stored: where it is, not what it is, so that nobody's slowness costs memory.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::ring::Landed;

/// Batches that are remembered. A reader further behind looks for itself.
const REMEMBERED: usize = 1_024;

/// What was stored last.
#[derive(Debug)]
pub(super) struct Hub {
    recent: Mutex<Recent>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Recent {
    landed: VecDeque<Landed>,
    latest_arrival: i64,
}

/// What there is for a reader that has seen everything up to an arrival.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum News {
    Nothing,
    /// In the order of arrival.
    Landed(Vec<Landed>),
    /// More than is remembered, up to this arrival.
    Behind(i64),
}

impl Hub {
    /// With the arrival of what was stored last before anything lands.
    pub(super) fn new(latest_arrival: i64) -> Self {
        Self { recent: Mutex::new(Recent { latest_arrival, ..Recent::default() }), changed: Condvar::new() }
    }

    /// Notes what was stored, and wakes those who wait for it.
    pub(super) fn landed(&self, landed: &[Landed]) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        for batch in landed {
            if recent.landed.len() == REMEMBERED {
                recent.landed.pop_front();
            }
            recent.latest_arrival = recent.latest_arrival.max(batch.last_arrival);
            recent.landed.push_back(*batch);
        }
        drop(recent);
        self.changed.notify_all();
    }

    /// The arrival of what was stored last.
    pub(super) fn latest(&self) -> i64 {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner).latest_arrival
    }

    /// What came after an arrival; waits for it at most `patience`.
    pub(super) fn after(&self, arrival: i64, patience: Duration) -> News {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(recent, patience, |recent| recent.latest_arrival <= arrival);
        let (recent, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if recent.latest_arrival <= arrival {
            return News::Nothing;
        }
        match recent.landed.front() {
            Some(first) if first.first_arrival <= arrival + 1 => {
                News::Landed(recent.landed.iter().filter(|batch| batch.last_arrival > arrival).copied().collect())
            }
            _ => News::Behind(recent.latest_arrival),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(first_arrival: i64, last_arrival: i64) -> Landed {
        Landed { slot: 0, first_id: 0, last_id: 0, first_arrival, last_arrival }
    }

    #[test]
    fn a_reader_hears_of_what_it_has_not_seen() {
        let hub = Hub::new(10);
        assert_eq!(hub.after(10, Duration::ZERO), News::Nothing);
        assert_eq!(hub.after(9, Duration::ZERO), News::Behind(10));
        hub.landed(&[batch(11, 12), batch(13, 13)]);
        assert_eq!(hub.after(10, Duration::ZERO), News::Landed(vec![batch(11, 12), batch(13, 13)]));
        assert_eq!(hub.after(12, Duration::ZERO), News::Landed(vec![batch(13, 13)]));
        assert_eq!(hub.after(13, Duration::ZERO), News::Nothing);
        assert_eq!(hub.after(8, Duration::ZERO), News::Behind(13));
    }
}
