//! The five web vitals: what they are called, which values are good and which are poor, and which page they are of.

/// A web vital and its bounds: <https://web.dev/articles/vitals>, "Core Web Vitals" and "Other Web Vitals".
#[derive(Debug, PartialEq)]
pub(super) struct Vital {
    /// The name of its metric.
    pub(super) metric: &'static str,
    /// Values up to this are good. In ms, except that the layout shift has no unit.
    good_max: f64,
    /// Values over this are poor, in the same unit.
    poor_over: f64,
}

/// How many there are.
pub(super) const VITALS_COUNT: usize = 5;

/// All of them, in the order of answers.
pub(super) const VITALS: [Vital; VITALS_COUNT] = [
    Vital { metric: "web_vitals_lcp", good_max: 2_500.0, poor_over: 4_000.0 },
    Vital { metric: "web_vitals_inp", good_max: 200.0, poor_over: 500.0 },
    Vital { metric: "web_vitals_cls", good_max: 0.1, poor_over: 0.25 },
    Vital { metric: "web_vitals_fcp", good_max: 1_800.0, poor_over: 3_000.0 },
    Vital { metric: "web_vitals_ttfb", good_max: 800.0, poor_over: 1_800.0 },
];

/// What a value, or a 75th percentile, is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Rating {
    Good,
    NeedsImprovement,
    Poor,
}

impl Vital {
    /// The vital that a metric of that name measures.
    pub(super) fn named(metric: &str) -> Option<&'static Self> {
        VITALS.iter().find(|vital| vital.metric == metric)
    }

    /// What a value is worth.
    pub(super) fn rate(&self, value: f64) -> Rating {
        if value <= self.good_max {
            Rating::Good
        } else if value > self.poor_over {
            Rating::Poor
        } else {
            Rating::NeedsImprovement
        }
    }
}

/// How many values were worth what. A sketch cannot tell: its buckets do not end where the bounds lie.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Shares {
    pub(super) good: u64,
    pub(super) needs_improvement: u64,
    pub(super) poor: u64,
}

impl Shares {
    /// Counts a value.
    pub(super) fn add(&mut self, rating: Rating) {
        match rating {
            Rating::Good => self.good += 1,
            Rating::NeedsImprovement => self.needs_improvement += 1,
            Rating::Poor => self.poor += 1,
        }
    }

    /// Adds everything another one counts.
    pub(super) fn merge(&mut self, other: Self) {
        self.good += other.good;
        self.needs_improvement += other.needs_improvement;
        self.poor += other.poor;
    }

    /// What the 75th percentile (nearest rank) is worth, exactly; `None` of nothing.
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

/// Hexadecimal digits from which on a part of a path is an id rather than a word.
const HEX_DIGITS_MIN: usize = 16;

/// A page without what differs from one visitor to the next: `https://a.com/user/123?x=1` is `/user/:id`. Numbers,
/// UUIDs and long hexadecimal numbers are ids.
pub(super) fn fold_page(page: &str) -> String {
    let page = page.split_once("://").map_or(page, |(_, rest)| rest.find('/').map_or("/", |path| &rest[path..]));
    let path = page.split(['?', '#']).next().unwrap_or_default();
    let folded: Vec<&str> = path.split('/').map(|part| if is_id(part) { ":id" } else { part }).collect();
    match folded.join("/") {
        empty if empty.is_empty() => "/".to_owned(),
        folded => folded,
    }
}

fn is_id(part: &str) -> bool {
    let hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let number = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let long_hex = part.len() >= HEX_DIGITS_MIN && hex(part) && part.bytes().any(|byte| byte.is_ascii_digit());
    let uuid = part.split('-').map(str::len).eq([8, 4, 4, 4, 12]) && part.split('-').all(hex);
    number || long_hex || uuid
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_belong_to_the_better_side() {
        for (metric, good, poor) in [
            ("web_vitals_lcp", 2_500.0, 4_000.0),
            ("web_vitals_inp", 200.0, 500.0),
            ("web_vitals_cls", 0.1, 0.25),
            ("web_vitals_fcp", 1_800.0, 3_000.0),
            ("web_vitals_ttfb", 800.0, 1_800.0),
        ] {
            let vital = Vital::named(metric).unwrap();
            let next = f64::next_up;
            let rated = [0.0, good, next(good), poor, next(poor)].map(|value| vital.rate(value));
            use Rating::{Good, NeedsImprovement, Poor};
            assert_eq!(rated, [Good, Good, NeedsImprovement, NeedsImprovement, Poor], "{metric}");
        }
        assert_eq!(Vital::named("page_load_time"), None);
    }

    #[test]
    fn the_rating_is_that_of_the_75th_percentile() {
        for ((good, needs_improvement, poor), rating) in [
            ((0, 0, 0), None),
            ((3, 0, 1), Some(Rating::Good)),
            ((2, 1, 1), Some(Rating::NeedsImprovement)),
            ((2, 0, 2), Some(Rating::Poor)),
            ((0, 0, 1), Some(Rating::Poor)),
        ] {
            assert_eq!(Shares { good, needs_improvement, poor }.rating(), rating);
        }
    }

    #[test]
    fn ids_are_folded_and_words_are_not() {
        for (page, folded) in [
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
            assert_eq!(fold_page(page), folded, "{page}");
        }
    }

    proptest::proptest! {
        #[test]
        fn folding_twice_is_folding_once(page in ".{0,60}") {
            let folded = fold_page(&page);
            if !folded.contains("://") {
                proptest::prop_assert_eq!(&fold_page(&folded), &folded);
            }
        }
    }
}
