//! Quotas for the new series of one batch: who sent the batch, what the quotas refused, and how many points were folded.
//!
//! A project that a quota has refused is not asked for again in the same batch, so that thousands of new series beyond a
//! quota cost little.

use std::collections::HashMap;

use rusqlite::Connection;

use super::cardinality::CardinalityLimits;
use crate::clock::Timestamp;
use crate::error::Result;
use crate::quota::{self, Holder, Reason, Store, Usage, record_rejection};
use crate::records::key_kind::KeyKind;

/// Store that limits new series.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum SeriesStore {
    Series,
    MetricNames,
}

/// Refusals and folded points of one batch.
pub(super) struct BatchQuota<'t> {
    pub(super) transaction: &'t Connection,
    pub(super) limits: CardinalityLimits,
    /// The kind of the key with which the batch was sent.
    pub(super) kind: KeyKind,
    pub(super) now: Timestamp,
    /// Indices in `folded` of the projects that a store refuses.
    refused: HashMap<(SeriesStore, String), usize>,
    folded: Vec<FoldedPoints>,
}

/// Points of one project that went to overflow series because of a quota.
struct FoldedPoints {
    store: SeriesStore,
    project: String,
    reason: Reason,
    points: u64,
}

impl<'t> BatchQuota<'t> {
    /// Starts a batch in the transaction that stores it.
    pub(super) fn new(transaction: &'t Connection, limits: CardinalityLimits, kind: KeyKind, now: Timestamp) -> Self {
        Self { transaction, limits, kind, now, refused: HashMap::new(), folded: Vec::new() }
    }

    /// Asks the quota for one more row of a store. Returns the index of the refusal for [`Self::count_folded`]; `None` if the
    /// row may be added.
    pub(super) fn refusal(&mut self, store: SeriesStore, project: &str, bytes: usize) -> Result<Option<usize>> {
        let key = (store, project.to_owned());
        if let Some(index) = self.refused.get(&key) {
            return Ok(Some(*index));
        }
        let Some(reason) = self.check(store, Holder { project, kind: self.kind }, bytes)? else { return Ok(None) };
        let index = self.folded.len();
        self.folded.push(FoldedPoints { store, project: project.to_owned(), reason, points: 0 });
        self.refused.insert(key, index);
        Ok(Some(index))
    }

    /// Whether a store has no room for anybody.
    pub(super) fn is_full(&self, store: SeriesStore, project: &str) -> Result<bool> {
        Ok(self.check(store, Holder { project, kind: KeyKind::Server }, 0)? == Some(Reason::StoreFull))
    }

    /// Counts a point that a refusal sent to an overflow series.
    pub(super) fn count_folded(&mut self, refusal: usize) {
        if let Some(folded) = self.folded.get_mut(refusal) {
            folded.points += 1;
        }
    }

    /// Records the folded points by project and reason.
    pub(super) fn record(&self) -> Result<()> {
        self.folded.iter().try_for_each(|FoldedPoints { store, project, reason, points }| {
            record_rejection(self.transaction, &self.store(*store), project, *reason, *points, self.now)
        })
    }

    fn check(&self, store: SeriesStore, holder: Holder<'_>, bytes: usize) -> Result<Option<Reason>> {
        quota::check(self.transaction, &self.store(store), holder, Usage { rows: 1, bytes: bytes as u64 })
    }

    fn store(&self, store: SeriesStore) -> Store {
        match store {
            SeriesStore::Series => self.limits.series(),
            SeriesStore::MetricNames => self.limits.metric_names(),
        }
    }
}
