//! Web Vitals: metric names, rating thresholds, rating counts, and normalization of page paths.

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

/// Minimum number of hexadecimal digits that make a path segment an id rather than a word.
const HEX_DIGITS_MIN: usize = 16;

/// Returns the path of a page without query, with ids replaced: `https://a.com/user/123?x=1` becomes `/user/:id`.
/// Numbers, UUIDs and long hexadecimal numbers count as ids.
pub(super) fn normalize_path(page: &str) -> String {
    let page = page.split_once("://").map_or(page, |(_, rest)| rest.find('/').map_or("/", |path| &rest[path..]));
    let path = page.split(['?', '#']).next().unwrap_or_default();
    let segments: Vec<&str> = path.split('/').map(|segment| if is_id(segment) { ":id" } else { segment }).collect();
    let normalized = segments.join("/");
    if normalized.is_empty() { "/".to_owned() } else { normalized }
}

fn is_id(segment: &str) -> bool {
    let is_hex = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let has_digit = || segment.bytes().any(|byte| byte.is_ascii_digit());
    let is_number = !segment.is_empty() && segment.bytes().all(|byte| byte.is_ascii_digit());
    let is_long_hex = segment.len() >= HEX_DIGITS_MIN && is_hex(segment) && has_digit();
    let is_uuid = segment.split('-').map(str::len).eq([8, 4, 4, 4, 12]) && segment.split('-').all(is_hex);
    is_number || is_long_hex || is_uuid
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

    #[test]
    fn only_ids_are_replaced_in_paths() {
        for (page, normalized) in [
            ("/user/123", "/user/:id"),
            ("/user/123/", "/user/:id/"),
            ("/", "/"),
            ("", "/"),
            ("/a/9f1c2d3e-0000-4aaa-8bbb-0123456789ab/b", "/a/:id/b"),
            ("/commit/9fceb02d0ae598e95dc970b74767f19372d61af8", "/commit/:id"),
            ("/507f1f77bcf86cd799439011", "/:id"),
            ("/deadbeef", "/deadbeef"),
            ("/facade/2fast", "/facade/2fast"),
            ("/v2/items", "/v2/items"),
            ("/list?page=2#top", "/list"),
            ("https://shop.example/user/7?x=1", "/user/:id"),
            ("https://shop.example", "/"),
            ("/späti/1", "/späti/:id"),
        ] {
            assert_eq!(normalize_path(page), normalized, "{page}");
        }
    }

    proptest::proptest! {
        #[test]
        fn normalizing_is_idempotent(page in ".{0,60}") {
            let normalized = normalize_path(&page);
            if !normalized.contains("://") {
                proptest::prop_assert_eq!(&normalize_path(&normalized), &normalized);
            }
        }
    }
}
