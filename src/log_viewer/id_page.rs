//! Collector for one page of IDs, of which an offset is skipped: keeps a bounded number of IDs, however large the offset is.

/// Number of collected IDs from which those that are certainly skipped are dropped.
const SETTLE_IDS: usize = 8_192;

/// Page of the highest IDs after those that are skipped. The IDs arrive segment by segment, in descending order within a
/// segment. Segments can overlap, so an ID is in its final place only if no segment can follow with a higher one.
#[derive(Debug)]
pub(super) struct IdPage {
    skip: usize,
    count: usize,
    ids: Vec<i64>,
    settle_at: usize,
}

impl IdPage {
    /// Creates an empty page of `count` IDs after the `skip` highest ones.
    pub(super) fn new(skip: usize, count: usize) -> Self {
        Self { skip, count, ids: Vec::new(), settle_at: SETTLE_IDS.max(2 * count) }
    }

    /// Adds an ID. `bound` is the highest ID that can follow from a later segment.
    pub(super) fn push(&mut self, id: i64, bound: i64) {
        self.ids.push(id);
        if self.ids.len() >= self.settle_at {
            self.settle(bound.max(id));
            self.settle_at = SETTLE_IDS.max(2 * self.count).max(2 * self.ids.len());
        }
    }

    /// Drops the IDs that are skipped or behind the page, given the highest ID that can follow.
    pub(super) fn settle(&mut self, bound: i64) {
        self.ids.sort_unstable_by_key(|id| std::cmp::Reverse(*id));
        let settled = self.ids.partition_point(|id| *id >= bound).min(self.skip);
        self.ids.drain(..settled);
        self.skip -= settled;
        self.ids.truncate(self.skip.saturating_add(self.count));
    }

    /// Returns whether the page is complete if only IDs up to `bound` follow.
    pub(super) fn is_complete(&mut self, bound: i64) -> bool {
        self.settle(bound.saturating_add(1));
        self.ids.len() >= self.skip.saturating_add(self.count) && self.ids.last().is_none_or(|id| *id > bound)
    }

    /// Returns the IDs of the page, the highest first.
    pub(super) fn finish(mut self) -> Vec<i64> {
        self.settle(i64::MIN);
        self.ids.truncate(self.count);
        self.ids
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_page_is_a_slice_of_all_ids(
            segments in prop::collection::vec(prop::collection::btree_set(0_i64..60_000, 0..30_000), 1..4),
            skip in 0_usize..70_000,
            count in 0_usize..100,
        ) {
            let mut segments: Vec<Vec<i64>> =
                segments.into_iter().map(|ids| ids.into_iter().rev().collect()).collect();
            segments.sort_by_key(|ids| std::cmp::Reverse(ids.first().copied()));
            let mut page = IdPage::new(skip, count);
            for (index, ids) in segments.iter().enumerate() {
                let bound = segments.get(index + 1).and_then(|ids| ids.first().copied()).unwrap_or(0);
                for id in ids {
                    page.push(*id, bound);
                }
                if page.is_complete(bound) {
                    break;
                }
            }
            let mut all = segments.concat();
            all.sort_unstable_by_key(|id| std::cmp::Reverse(*id));
            let expected: Vec<i64> = all.into_iter().skip(skip).take(count).collect();
            prop_assert_eq!(page.finish(), expected);
        }
    }

    #[test]
    fn a_large_offset_needs_little_memory() {
        let mut page = IdPage::new(5_000_000, 500);
        for id in (0..6_000_000).rev() {
            page.push(id, 0);
        }
        assert!(page.ids.capacity() < 4 * SETTLE_IDS, "{}", page.ids.capacity());
        assert_eq!(page.finish()[0], 999_999);
    }
}
