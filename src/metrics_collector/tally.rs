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
}

impl Tally {
    /// Of a single point.
    pub(super) fn of(value: f64, at: i64, with_sketch: bool) -> Self {
        let sketch = with_sketch.then(|| {
            let mut sketch = Sketch::default();
            sketch.add(value);
            sketch
        });
        Self { count: 1, sum: value, min: value, max: value, last: value, last_at: at, sketch }
    }

    /// Adds a point.
    pub(super) fn add(&mut self, value: f64, at: i64) {
        if let Some(sketch) = &mut self.sketch {
            sketch.add(value);
        }
        self.put(&Self { count: 1, sum: value, min: value, max: value, last: value, last_at: at, sketch: None });
    }

    /// Adds everything of another one.
    pub(super) fn merge(&mut self, other: &Self) {
        self.put(other);
        match (&mut self.sketch, &other.sketch) {
            (Some(mine), Some(theirs)) => mine.merge(theirs),
            (mine @ None, Some(theirs)) => *mine = Some(theirs.clone()),
            (_, None) => {}
        }
    }

    fn put(&mut self, other: &Self) {
        self.count += other.count;
        self.sum += other.sum;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        if other.last_at >= self.last_at {
            (self.last, self.last_at) = (other.last, other.last_at);
        }
    }

    /// The value at a quantile, within the extremes; `None` without a distribution.
    pub(super) fn quantile(&self, q: f64) -> Option<f64> {
        self.sketch.as_ref()?.quantile(q).map(|value| value.clamp(self.min, self.max))
    }
}
