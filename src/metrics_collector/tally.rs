//! What is known of a bucket: how many points, their sum, extremes, last value, and their distribution. Tallies merge,
//! so that any set of series and any span of time has one.

use super::sketch::Sketch;

/// The points of a bucket, put together.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tally {
    pub(super) count: u64,
    pub(super) sum: f64,
    pub(super) min: f64,
    pub(super) max: f64,
    /// The value of the latest point, and when it was measured, in ms since 1970.
    pub(super) last: f64,
    pub(super) last_at: i64,
    /// Of histograms.
    pub(super) sketch: Option<Sketch>,
    /// The 50th, 95th and 99th percentile as the original worked them out, of a bucket that is one row of its alone.
    pub(super) originals: Option<Box<[f64; 3]>>,
}

impl Tally {
    /// Of a single point.
    pub(super) fn of(value: f64, at: i64, with_sketch: bool) -> Self {
        let sketch = with_sketch.then(|| {
            let mut sketch = Sketch::default();
            sketch.add(value);
            sketch
        });
        Self { count: 1, sum: value, min: value, max: value, last: value, last_at: at, sketch, originals: None }
    }

    /// Adds a point.
    pub(super) fn add(&mut self, value: f64, at: i64) {
        if let Some(sketch) = &mut self.sketch {
            sketch.add(value);
        }
        self.put(&Self::of(value, at, false));
    }

    /// Adds everything of another one. What has no sketch, such as a row of the original's, leaves the whole without
    /// percentiles: those of a part of the points would be wrong.
    pub(super) fn merge(&mut self, other: &Self) {
        self.put(other);
        match (&mut self.sketch, &other.sketch) {
            (Some(mine), Some(theirs)) => mine.merge(theirs),
            (mine, _) => *mine = None,
        }
    }

    fn put(&mut self, other: &Self) {
        self.count += other.count;
        // An infinite sum could become no number at all, which no table takes.
        self.sum = (self.sum + other.sum).clamp(f64::MIN, f64::MAX);
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        if other.last_at >= self.last_at {
            (self.last, self.last_at) = (other.last, other.last_at);
        }
        self.originals = None;
    }

    /// The 50th, 95th and 99th percentile, within the extremes; `None` without a distribution.
    pub(super) fn percentiles(&self) -> [Option<f64>; 3] {
        match &self.originals {
            Some(originals) => originals.map(Some),
            None => [0.50, 0.95, 0.99].map(|q| self.quantile(q)),
        }
    }

    fn quantile(&self, q: f64) -> Option<f64> {
        self.sketch.as_ref()?.quantile(q).map(|value| value.clamp(self.min, self.max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_the_original() -> Tally {
        let row = Tally { count: 9, sum: 90.0, min: 1.0, max: 30.0, ..Tally::of(10.0, 0, false) };
        Tally { originals: Some(Box::new([10.0, 25.0, 29.0])), ..row }
    }

    #[test]
    fn an_original_rows_percentiles_are_its_own_and_nobody_elses() {
        assert_eq!(of_the_original().percentiles(), [Some(10.0), Some(25.0), Some(29.0)]);
        let (mut one, mut other) = (of_the_original(), Tally::of(500.0, 1, true));
        one.merge(&other);
        other.merge(&of_the_original());
        for merged in [one, other] {
            assert_eq!(merged.percentiles(), [None; 3]);
            assert_eq!((merged.count, merged.sum, merged.max, merged.last), (10, 590.0, 500.0, 500.0));
        }
    }

    #[test]
    fn a_sum_stays_a_number() {
        let mut tally = Tally::of(f64::MAX, 0, false);
        tally.add(f64::MAX, 1);
        tally.merge(&Tally::of(f64::MIN, 2, false));
        tally.add(f64::MIN, 3);
        assert!(tally.sum.is_finite());
    }
}
