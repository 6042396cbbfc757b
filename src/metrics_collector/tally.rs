//! What is known of a bucket: how many points, their sum, extremes, last value, and their distribution. Tallies merge,
//! so that any set of series and any span of time has one.

use super::points::Kind;
use super::sketch::Sketch;
use super::vitals::{Shares, Vital};

/// What the tallies of a series hold besides counts and extremes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Detail {
    sketch: bool,
    vital: Option<&'static Vital>,
}

impl Detail {
    /// Whether there is more to a tally than its numbers.
    pub(super) fn is_distribution(self) -> bool {
        self.sketch
    }

    /// Of the series of a metric. Histograms have distributions, web vitals also exact shares.
    pub(super) fn of(kind: Option<Kind>, metric: &str) -> Self {
        let sketch = kind == Some(Kind::Histogram);
        Self { sketch, vital: Vital::named(metric).filter(|_| sketch) }
    }
}

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
    /// Of web vitals. On the heap, since most tallies have none.
    pub(super) shares: Option<Box<Shares>>,
}

impl Tally {
    /// Of a single point.
    pub(super) fn of(value: f64, at: i64, detail: Detail) -> Self {
        let mut tally = Self {
            count: 0,
            sum: 0.0,
            min: value,
            max: value,
            last: value,
            last_at: at,
            sketch: detail.sketch.then(Sketch::default),
            shares: detail.vital.map(|_| Box::default()),
            originals: None,
        };
        tally.add(value, at, detail);
        tally
    }

    /// Adds a point.
    pub(super) fn add(&mut self, value: f64, at: i64, detail: Detail) {
        if let Some(sketch) = &mut self.sketch {
            sketch.add(value);
        }
        if let (Some(shares), Some(vital)) = (&mut self.shares, detail.vital) {
            shares.add(vital.rate(value));
        }
        self.originals = None;
        self.count += 1;
        self.sum = finite(self.sum + value);
        self.min = self.min.min(value);
        self.max = self.max.max(value);
        if at >= self.last_at {
            (self.last, self.last_at) = (value, at);
        }
    }

    /// Adds everything of another one. What has no sketch, such as a row of the original's, leaves the whole without
    /// percentiles and shares: those of a part of the points would be wrong.
    pub(super) fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.sum = finite(self.sum + other.sum);
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        if other.last_at >= self.last_at {
            (self.last, self.last_at) = (other.last, other.last_at);
        }
        self.originals = None;
        match (&mut self.sketch, &other.sketch) {
            (Some(mine), Some(theirs)) => mine.merge(theirs),
            (mine, _) => *mine = None,
        }
        match (&mut self.shares, &other.shares) {
            (Some(mine), Some(theirs)) => mine.merge(**theirs),
            (mine, _) => *mine = None,
        }
    }

    /// The 50th, 95th and 99th percentile, within the extremes; `None` without a distribution.
    pub(super) fn percentiles(&self) -> [Option<f64>; 3] {
        match &self.originals {
            Some(originals) => originals.map(Some),
            None => [0.50, 0.95, 0.99].map(|q| self.quantile(q)),
        }
    }

    /// The value at a quantile, likewise, of what is more than one row of the original's.
    pub(super) fn quantile(&self, q: f64) -> Option<f64> {
        self.sketch.as_ref()?.quantile(q).map(|value| value.clamp(self.min, self.max))
    }
}

/// An infinite sum could become no number at all, which no table takes.
fn finite(sum: f64) -> f64 {
    sum.clamp(f64::MIN, f64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_the_original() -> Tally {
        let row = Tally { count: 9, sum: 90.0, min: 1.0, max: 30.0, ..Tally::of(10.0, 0, Detail::default()) };
        Tally { originals: Some(Box::new([10.0, 25.0, 29.0])), ..row }
    }

    #[test]
    fn an_original_rows_percentiles_are_its_own_and_nobody_elses() {
        assert_eq!(of_the_original().percentiles(), [Some(10.0), Some(25.0), Some(29.0)]);
        let (mut one, mut other) =
            (of_the_original(), Tally::of(500.0, 1, Detail::of(Some(Kind::Histogram), "web_vitals_lcp")));
        one.merge(&other);
        other.merge(&of_the_original());
        for merged in [one, other] {
            assert_eq!((merged.percentiles(), &merged.shares), ([None; 3], &None));
            assert_eq!((merged.count, merged.sum, merged.max, merged.last), (10, 590.0, 500.0, 500.0));
        }
    }

    #[test]
    fn a_sum_stays_a_number() {
        let mut tally = Tally::of(f64::MAX, 0, Detail::default());
        tally.add(f64::MAX, 1, Detail::default());
        tally.merge(&Tally::of(f64::MIN, 2, Detail::default()));
        tally.add(f64::MIN, 3, Detail::default());
        assert!(tally.sum.is_finite());
    }
}
