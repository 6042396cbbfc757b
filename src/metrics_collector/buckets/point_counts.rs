//! Numbers of points by type and by the value of a label, which decide what a response contains.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};

use crate::records::point::MetricKind;

/// Numbers of points by type and by the hashes of the label values: the number of values is unbounded, and only the largest are
/// listed.
#[derive(Default)]
pub(super) struct PointCounts {
    hasher: RandomState,
    by_kind: [HashMap<u64, u64>; MetricKind::ALL.len()],
    /// The last series that is counted.
    pub(super) last_id: i64,
}

impl PointCounts {
    /// Adds points of a type and label value.
    pub(super) fn add(&mut self, kind: MetricKind, value: &str, points: u64) {
        *self.by_kind[kind as usize].entry(self.hasher.hash_one(value)).or_default() += points;
    }

    /// Returns the number of points of a type and label value; `None` without points.
    pub(super) fn get(&self, kind: MetricKind, value: &str) -> Option<u64> {
        self.by_kind[kind as usize].get(&self.hasher.hash_one(value)).copied()
    }

    /// Returns the number of label values of a type.
    pub(super) fn values(&self, kind: MetricKind) -> usize {
        self.by_kind[kind as usize].len()
    }

    /// Returns the type with the most points; `None` without points. Of types with equally many, it is the later one of
    /// [`MetricKind::ALL`].
    pub(super) fn largest_kind(&self) -> Option<MetricKind> {
        let points = |kind: &MetricKind| self.by_kind[*kind as usize].values().sum::<u64>();
        MetricKind::ALL.into_iter().max_by_key(points).filter(|kind| points(kind) > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn type_with_the_most_points_is_the_largest() {
        let mut counts = PointCounts::default();
        assert_eq!(counts.largest_kind(), None);
        for (kind, value, points, largest) in [
            (MetricKind::Gauge, "", 1, MetricKind::Gauge),
            (MetricKind::Counter, "", 2, MetricKind::Counter),
            (MetricKind::Histogram, "a", 1, MetricKind::Counter),
            (MetricKind::Histogram, "b", 1, MetricKind::Histogram),
            (MetricKind::Gauge, "", 2, MetricKind::Gauge),
        ] {
            counts.add(kind, value, points);
            assert_eq!(counts.largest_kind(), Some(largest));
        }
        assert_eq!((counts.get(MetricKind::Gauge, ""), counts.get(MetricKind::Gauge, "a")), (Some(3), None));
        assert_eq!(counts.values(MetricKind::Histogram), 2);
    }
}
