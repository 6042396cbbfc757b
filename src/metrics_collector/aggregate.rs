//! Aggregates of points: count, sum, extremes, last value and distribution. Aggregates can be merged, so any period and
//! any set of series has one.

use super::compensated_sum::CompensatedSum;
use super::sketch::Sketch;
use super::web_vitals::{RatingCounts, WebVital};
use crate::records::point::MetricKind;

/// Parts of an aggregate that only some metrics have.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct AggregateParts {
    sketch: bool,
    vital: Option<&'static WebVital>,
}

impl AggregateParts {
    /// Returns the parts for a metric: histograms have a sketch, Web Vitals also have rating counts.
    pub(super) fn for_metric(kind: Option<MetricKind>, metric: &str) -> Self {
        let sketch = kind == Some(MetricKind::Histogram);
        Self { sketch, vital: WebVital::from_metric(metric).filter(|_| sketch) }
    }

    /// Whether the aggregate has a sketch.
    pub(super) fn has_sketch(self) -> bool {
        self.sketch
    }
}

/// Aggregate of one or more points.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Aggregate {
    pub(super) count: u64,
    pub(super) sum: CompensatedSum,
    pub(super) min: f64,
    pub(super) max: f64,
    /// Value of the latest point.
    pub(super) last: f64,
    /// Time of the latest point, in ms since 1970.
    pub(super) last_at: i64,
    /// Distribution; only for histograms.
    pub(super) sketch: Option<Sketch>,
    /// The 50th, 95th and 99th percentile that the original computed. Only in an aggregate read from a single imported
    /// row: these percentiles cannot be merged.
    pub(super) imported_percentiles: Option<Box<[f64; 3]>>,
    /// Rating counts; only for Web Vitals. Boxed, because most aggregates have none.
    pub(super) ratings: Option<Box<RatingCounts>>,
}

impl Aggregate {
    /// Creates the aggregate of a single point; `at` is in ms since 1970.
    pub(super) fn from_point(value: f64, at: i64, kind: AggregateParts) -> Self {
        let mut aggregate = Self {
            count: 0,
            sum: CompensatedSum::default(),
            min: value,
            max: value,
            last: value,
            last_at: at,
            sketch: kind.sketch.then(Sketch::default),
            ratings: kind.vital.map(|_| Box::default()),
            imported_percentiles: None,
        };
        aggregate.add(value, at, kind);
        aggregate
    }

    /// Adds a point; `at` is in ms since 1970.
    pub(super) fn add(&mut self, value: f64, at: i64, kind: AggregateParts) {
        if let Some(sketch) = &mut self.sketch {
            sketch.add(value);
        }
        if let (Some(ratings), Some(vital)) = (&mut self.ratings, kind.vital) {
            ratings.add(vital.rate(value));
        }
        self.imported_percentiles = None;
        self.count += 1;
        self.sum.add(value);
        self.min = self.min.min(value);
        self.max = self.max.max(value);
        if at >= self.last_at {
            (self.last, self.last_at) = (value, at);
        }
    }

    /// Adds the points of another aggregate. If one of them lacks a sketch or rating counts, as imported rows do, the
    /// result has none: percentiles of only a part of the points would be wrong.
    pub(super) fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.sum.merge(other.sum);
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        if other.last_at >= self.last_at {
            (self.last, self.last_at) = (other.last, other.last_at);
        }
        self.imported_percentiles = None;
        match (&mut self.sketch, &other.sketch) {
            (Some(mine), Some(theirs)) => mine.merge(theirs),
            (mine, _) => *mine = None,
        }
        match (&mut self.ratings, &other.ratings) {
            (Some(mine), Some(theirs)) => mine.merge(**theirs),
            (mine, _) => *mine = None,
        }
    }

    /// Returns the 50th, 95th and 99th percentile, each between minimum and maximum; `None` without a distribution.
    pub(super) fn percentiles(&self) -> [Option<f64>; 3] {
        match &self.imported_percentiles {
            Some(percentiles) => percentiles.map(Some),
            None => [0.50, 0.95, 0.99].map(|q| self.quantile(q)),
        }
    }

    /// Returns about the size in memory as a value of a tree, in bytes.
    pub(super) fn size_bytes(&self) -> usize {
        size_of::<(i64, Self)>() + self.sketch.as_ref().map_or(0, Sketch::heap_bytes)
    }

    /// Returns the mean, between minimum and maximum. The quotient of a rounded sum can be outside: that of three times 0.1 is
    /// greater than 0.1.
    pub(super) fn avg(&self) -> f64 {
        self.sum.mean(self.count).max(self.min).min(self.max)
    }

    /// Returns the value at a quantile from 0 to 1, between minimum and maximum, which are the exact values at the first and the
    /// last rank; `None` without a sketch.
    pub(super) fn quantile(&self, q: f64) -> Option<f64> {
        let sketch = self.sketch.as_ref()?;
        let rank = sketch.rank(q)?;
        if rank == 1 {
            return Some(self.min);
        }
        if rank == sketch.count() {
            return Some(self.max);
        }
        sketch.value_at(rank).map(|value| value.max(self.min).min(self.max))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn imported() -> Aggregate {
        let point = Aggregate::from_point(10.0, 0, AggregateParts::default());
        let imported_percentiles = Some(Box::new([10.0, 25.0, 29.0]));
        let sum = CompensatedSum::from_parts(90.0, 0.0);
        Aggregate { count: 9, sum, min: 1.0, max: 30.0, imported_percentiles, ..point }
    }

    #[test]
    fn imported_percentiles_are_lost_in_a_merge() {
        assert_eq!(imported().percentiles(), [Some(10.0), Some(25.0), Some(29.0)]);
        let kind = AggregateParts::for_metric(Some(MetricKind::Histogram), "web_vitals_lcp");
        let (mut first, mut second) = (imported(), Aggregate::from_point(500.0, 1, kind));
        first.merge(&second);
        second.merge(&imported());
        for merged in [first, second] {
            assert_eq!((merged.percentiles(), &merged.ratings), ([None; 3], &None));
            assert_eq!((merged.count, merged.sum.value(), merged.max, merged.last), (10, 590.0, 500.0, 500.0));
        }
    }

    #[test]
    fn percentiles_at_the_first_and_last_rank_are_exact() {
        let kind = AggregateParts::for_metric(Some(MetricKind::Histogram), "ms");
        let mut aggregate = Aggregate::from_point(0.0, 0, kind);
        aggregate.add(1_000.0, 1, kind);
        assert_eq!(aggregate.percentiles(), [Some(0.0), Some(1_000.0), Some(1_000.0)]);
        (0..98).for_each(|at| aggregate.add(500.0, at, kind));
        let [p50, _, p99] = aggregate.percentiles().map(Option::unwrap);
        assert!((p50 - 500.0).abs() < 5.5 && (p99 - 500.0).abs() < 5.5, "{p50}, {p99}");
    }

    proptest! {
        #[test]
        fn average_and_percentiles_are_between_minimum_and_maximum(
            values in proptest::collection::vec(prop_oneof![
                Just(0.1), Just(f64::MAX), Just(f64::MIN), -1.0..1.0f64, 1e-12..1e-8f64, 1e17..1e20f64,
                any::<f64>().prop_filter("finite", |value| value.is_finite()),
            ], 1..40),
            split_at in 0..40usize,
        ) {
            let kind = AggregateParts::for_metric(Some(MetricKind::Histogram), "ms");
            let aggregate_of = |values: &[f64]| {
                let mut aggregate = Aggregate::from_point(values[0], 0, kind);
                values[1..].iter().for_each(|value| aggregate.add(*value, 0, kind));
                aggregate
            };
            let (first, second) = values.split_at(split_at.clamp(1, values.len()));
            let mut merged = aggregate_of(first);
            if !second.is_empty() {
                merged.merge(&aggregate_of(second));
            }
            let [p50, p95, p99] = merged.percentiles().map(Option::unwrap);
            prop_assert!(merged.min <= p50 && p50 <= p95 && p95 <= p99 && p99 <= merged.max, "{merged:?}");
            prop_assert!(merged.min <= merged.avg() && merged.avg() <= merged.max, "{merged:?}");
            prop_assert!(merged.sum.value().is_finite());
        }

        #[test]
        fn average_of_equal_values_is_their_value(value in -1e6..1e6f64, count in 1..100i64) {
            let mut aggregate = Aggregate::from_point(value, 0, AggregateParts::default());
            (1..count).for_each(|at| aggregate.add(value, at, AggregateParts::default()));
            prop_assert_eq!(aggregate.avg(), value);
        }
    }
}
