//! Buckets that are merged at once, with a limit on their size in memory.

use std::collections::BTreeMap;
use std::ops::Range;

use super::super::aggregate::Aggregate;
use super::super::rollup_reader::merge_into;

/// Size of the aggregates that one part merges, in bytes. About as many bytes are written for them.
const WINDOW_BYTES: usize = 128 * 1024;

/// The first buckets of a range, as many as fit into [`WINDOW_BYTES`]. At least one.
pub(super) struct Window {
    /// The range in which all buckets are in the window. Its end moves down when buckets are left out.
    pub(super) range: Range<i64>,
    pub(super) buckets: BTreeMap<i64, Aggregate>,
    size_bytes: usize,
}

impl Window {
    /// Creates an empty window for a range of buckets.
    pub(super) fn new(range: Range<i64>) -> Self {
        Self { range, buckets: BTreeMap::new(), size_bytes: 0 }
    }

    /// Merges an aggregate into its bucket, unless the bucket is behind the end.
    pub(super) fn add(&mut self, bucket: i64, aggregate: Aggregate) {
        if bucket >= self.range.end {
            return;
        }
        self.size_bytes -= self.buckets.get(&bucket).map_or(0, Aggregate::size_bytes);
        merge_into(&mut self.buckets, bucket, aggregate);
        self.size_bytes += self.buckets.get(&bucket).map_or(0, Aggregate::size_bytes);
        while self.size_bytes > WINDOW_BYTES && self.buckets.len() > 1 {
            if let Some((last, aggregate)) = self.buckets.pop_last() {
                self.size_bytes -= aggregate.size_bytes();
                self.range.end = last;
            }
        }
    }
}
