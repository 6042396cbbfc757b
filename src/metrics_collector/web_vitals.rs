//! Web Vitals: metric names, rating thresholds and rating counts.

/// Web Vital with its rating thresholds: <https://web.dev/articles/vitals>, "Core Web Vitals" and "Other Web Vitals".
#[derive(Debug, PartialEq)]
pub(super) struct WebVital {
    /// Metric name.
    pub(super) metric: &'static str,
    /// Largest good value, in ms. The layout shift has no unit.
    good_max: f64,
    /// Values above this are poor, in the same unit.
    poor_above: f64,
}

/// Number of Web Vitals.
pub(super) const WEB_VITAL_COUNT: usize = 5;

/// All Web Vitals, in the order of the API.
pub(super) const WEB_VITALS: [WebVital; WEB_VITAL_COUNT] = [
    WebVital { metric: "web_vitals_lcp", good_max: 2_500.0, poor_above: 4_000.0 },
    WebVital { metric: "web_vitals_inp", good_max: 200.0, poor_above: 500.0 },
    WebVital { metric: "web_vitals_cls", good_max: 0.1, poor_above: 0.25 },
    WebVital { metric: "web_vitals_fcp", good_max: 1_800.0, poor_above: 3_000.0 },
    WebVital { metric: "web_vitals_ttfb", good_max: 800.0, poor_above: 1_800.0 },
];

/// Rating of a value or of a 75th percentile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Rating {
    Good,
    NeedsImprovement,
    Poor,
}

impl WebVital {
    /// Returns the Web Vital with this metric name.
    pub(super) fn from_metric(metric: &str) -> Option<&'static Self> {
        WEB_VITALS.iter().find(|vital| vital.metric == metric)
    }

    /// Rates a value by the thresholds.
    pub(super) fn rate(&self, value: f64) -> Rating {
        if value <= self.good_max {
            Rating::Good
        } else if value > self.poor_above {
            Rating::Poor
        } else {
            Rating::NeedsImprovement
        }
    }

    /// Moves the estimate of a percentile to the nearest value with its exact rating. Otherwise an estimate just above a
    /// threshold could be shown with the rating below it.
    pub(super) fn fit_to_rating(&self, estimate: f64, rating: Rating) -> f64 {
        match rating {
            Rating::Good => estimate.min(self.good_max),
            Rating::NeedsImprovement => estimate.clamp(self.good_max.next_up(), self.poor_above),
            Rating::Poor => estimate.max(self.poor_above.next_up()),
        }
    }
}

/// Number of values per rating. A sketch cannot provide these counts, because its buckets do not end at the thresholds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct RatingCounts {
    pub(super) good: u64,
    pub(super) needs_improvement: u64,
    pub(super) poor: u64,
}

impl RatingCounts {
    /// Counts one value with this rating.
    pub(super) fn add(&mut self, rating: Rating) {
        match rating {
            Rating::Good => self.good += 1,
            Rating::NeedsImprovement => self.needs_improvement += 1,
            Rating::Poor => self.poor += 1,
        }
    }

    /// Adds the counts of another set of values.
    pub(super) fn merge(&mut self, other: Self) {
        self.good += other.good;
        self.needs_improvement += other.needs_improvement;
        self.poor += other.poor;
    }

    /// Returns the exact rating of the 75th percentile (nearest rank); `None` without values.
    pub(super) fn rating(self) -> Option<Rating> {
        let count = self.good + self.needs_improvement + self.poor;
        let rank = (count * 3).div_ceil(4);
        match count {
            0 => None,
            _ if self.good >= rank => Some(Rating::Good),
            _ if self.good + self.needs_improvement >= rank => Some(Rating::NeedsImprovement),
            _ => Some(Rating::Poor),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_belong_to_the_better_rating() {
        for (metric, good, poor) in [
            ("web_vitals_lcp", 2_500.0, 4_000.0),
            ("web_vitals_inp", 200.0, 500.0),
            ("web_vitals_cls", 0.1, 0.25),
            ("web_vitals_fcp", 1_800.0, 3_000.0),
            ("web_vitals_ttfb", 800.0, 1_800.0),
        ] {
            let vital = WebVital::from_metric(metric).unwrap();
            let next = f64::next_up;
            let rated = [0.0, good, next(good), poor, next(poor)].map(|value| vital.rate(value));
            use Rating::{Good, NeedsImprovement, Poor};
            assert_eq!(rated, [Good, Good, NeedsImprovement, NeedsImprovement, Poor], "{metric}");
        }
        assert_eq!(WebVital::from_metric("page_load_time"), None);
    }

    #[test]
    fn rating_is_that_of_the_75th_percentile() {
        for ((good, needs_improvement, poor), rating) in [
            ((0, 0, 0), None),
            ((3, 0, 1), Some(Rating::Good)),
            ((2, 1, 1), Some(Rating::NeedsImprovement)),
            ((2, 0, 2), Some(Rating::Poor)),
            ((0, 0, 1), Some(Rating::Poor)),
        ] {
            assert_eq!(RatingCounts { good, needs_improvement, poor }.rating(), rating);
        }
    }

    proptest::proptest! {
        #[test]
        fn fitted_percentile_has_its_rating_and_moves_only_to_the_nearest_bound(
            index in 0..WEB_VITAL_COUNT,
            exact in proptest::prop_oneof![0.0..10_000.0f64, 0.0..0.5f64],
            error in 0.98..1.02f64,
        ) {
            let vital = &WEB_VITALS[index];
            let fitted = vital.fit_to_rating(exact * error, vital.rate(exact));
            proptest::prop_assert_eq!(vital.rate(fitted), vital.rate(exact));
            proptest::prop_assert!((fitted - exact).abs() <= (exact * error - exact).abs());
        }
    }
}
