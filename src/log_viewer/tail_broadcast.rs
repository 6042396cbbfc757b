//! Notifier for live tails: wakes them when a batch is stored. Holds the ranges of batches, not their entries, so a slow
//! reader costs no memory. A reader that is more than [`BATCHES_MAX`] batches behind has to query the database.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::segments::BatchRange;

/// Maximum number of batches that are remembered.
const BATCHES_MAX: usize = 1_024;

/// Broadcast of the most recent batches.
#[derive(Debug)]
pub(super) struct TailBroadcast {
    recent: Mutex<RecentBatches>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct RecentBatches {
    /// The oldest first.
    batches: VecDeque<BatchRange>,
    last_seq: i64,
}

/// Result of waiting for entries after a sequence number.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum TailUpdate {
    /// No entry was stored before the timeout.
    TimedOut,
    /// Batches that contain all entries after the number, in the order of ingestion.
    Batches(Vec<BatchRange>),
    /// Some of the batches are no longer remembered. The value is the sequence number of the newest entry.
    Behind(i64),
}

impl TailBroadcast {
    /// Creates a broadcast. `last_seq` is the ingest sequence number of the newest stored entry.
    pub(super) fn new(last_seq: i64) -> Self {
        Self { recent: Mutex::new(RecentBatches { last_seq, ..RecentBatches::default() }), changed: Condvar::new() }
    }

    /// Adds stored batches and wakes all waiting readers.
    pub(super) fn publish(&self, batches: &[BatchRange]) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        for batch in batches {
            if recent.batches.len() == BATCHES_MAX {
                recent.batches.pop_front();
            }
            recent.last_seq = recent.last_seq.max(batch.last_seq);
            recent.batches.push_back(*batch);
        }
        drop(recent);
        self.changed.notify_all();
    }

    /// Returns the ingest sequence number of the newest entry.
    pub(super) fn last_seq(&self) -> i64 {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner).last_seq
    }

    /// Returns what was stored after a sequence number. Waits at most `timeout` for it.
    pub(super) fn wait_after(&self, seq: i64, timeout: Duration) -> TailUpdate {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(recent, timeout, |recent| recent.last_seq <= seq);
        let (recent, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if recent.last_seq <= seq {
            return TailUpdate::TimedOut;
        }
        match recent.batches.front() {
            Some(first) if first.first_seq <= seq + 1 => {
                TailUpdate::Batches(recent.batches.iter().filter(|batch| batch.last_seq > seq).copied().collect())
            }
            _ => TailUpdate::Behind(recent.last_seq),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(first_seq: i64, last_seq: i64) -> BatchRange {
        BatchRange { segment: 0, first_id: 0, last_id: 0, first_seq, last_seq }
    }

    #[test]
    fn a_reader_receives_the_batches_that_it_has_not_read() {
        let broadcast = TailBroadcast::new(10);
        let after = |seq| broadcast.wait_after(seq, Duration::ZERO);
        assert_eq!(after(10), TailUpdate::TimedOut);
        assert_eq!(after(9), TailUpdate::Behind(10));
        broadcast.publish(&[batch(11, 12), batch(13, 13)]);
        assert_eq!(after(10), TailUpdate::Batches(vec![batch(11, 12), batch(13, 13)]));
        assert_eq!(after(12), TailUpdate::Batches(vec![batch(13, 13)]));
        assert_eq!(after(13), TailUpdate::TimedOut);
        assert_eq!(after(8), TailUpdate::Behind(13));
    }
}
