//! Mergeable sketch of a distribution. Percentiles of any period, resolution and set of series are computed from the
//! merged sketch, never from other percentiles.

use crate::varint;

/// Number of buckets between two powers of two. Bucket bounds grow by γ = 2^(1/32): an exponential histogram of scale 5
/// (OpenTelemetry metrics data model, "Exponential histogram"). The estimate within a bucket is that of DDSketch
/// (Masson, Rim and Lee, VLDB 2019).
const BUCKETS_PER_DOUBLING: f64 = 32.0;
/// Smallest magnitude that is distinguished from zero: 2^-30, about 1e-9.
const MAGNITUDE_MIN: f64 = 9.313_225_746_154_785e-10;
/// Upper bound of the last bucket, which also counts larger magnitudes: 2^60, about 1e18.
const MAGNITUDE_MAX: f64 = 1.152_921_504_606_847e18;
/// First byte of an encoded sketch. Distinguishes this format from later ones.
const FORMAT: u8 = 1;
/// Valid bucket indices: from the bucket that ends at [`MAGNITUDE_MIN`] to the one that ends at [`MAGNITUDE_MAX`].
const INDICES: std::ops::RangeInclusive<i32> = -961..=1_919;
/// Maximum number of values in a decoded sketch: the largest count that f64 represents exactly. Merging such sketches
/// cannot overflow a count.
const COUNT_MAX: u64 = 1 << 53;

/// Bucket indices with their counts, sorted by index. Usually a few dozen, for which a sorted vector is smaller and
/// faster than a tree.
type Buckets = Vec<(i32, u64)>;

/// Sparse histogram of finite values.
///
/// Percentiles are within a relative error of (γ-1)/(γ+1) ≤ 1.09 % of the exact nearest-rank percentile, for magnitudes
/// from 1e-9 to 1e18. Smaller magnitudes count as zero. There are at most 2,881 buckets per sign, so the size is bounded
/// for any input.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Sketch {
    zeros: u64,
    /// Bucket i counts the magnitudes in (γ^i, γ^(i+1)].
    positive: Buckets,
    negative: Buckets,
}

impl Sketch {
    /// Adds one finite value.
    pub(super) fn add(&mut self, value: f64) {
        let magnitude = value.abs();
        if magnitude < MAGNITUDE_MIN {
            self.zeros += 1;
            return;
        }
        let buckets = if value > 0.0 { &mut self.positive } else { &mut self.negative };
        let index = bucket_index(magnitude);
        match buckets.binary_search_by_key(&index, |(index, _)| *index) {
            Ok(position) => buckets[position].1 += 1,
            Err(position) => buckets.insert(position, (index, 1)),
        }
    }

    /// Adds all values of another sketch. The result does not depend on the order of merges and adds.
    pub(super) fn merge(&mut self, other: &Self) {
        self.zeros += other.zeros;
        for (mine, theirs) in [(&mut self.positive, &other.positive), (&mut self.negative, &other.negative)] {
            merge_buckets(mine, theirs);
        }
    }

    /// Returns the size of the buckets in memory.
    pub(super) fn heap_bytes(&self) -> usize {
        (self.positive.len() + self.negative.len()) * size_of::<(i32, u64)>()
    }

    /// Returns the number of values.
    pub(super) fn count(&self) -> u64 {
        let sum = |buckets: &Buckets| buckets.iter().map(|(_, count)| count).sum::<u64>();
        self.zeros + sum(&self.positive) + sum(&self.negative)
    }

    /// Returns the nearest rank ⌈q·n⌉ of a quantile from 0 to 1, counted from 1; `None` without values.
    pub(super) fn rank(&self, q: f64) -> Option<u64> {
        let count = self.count();
        // f64 represents every count that a series can reach.
        (count > 0).then(|| ((q * count as f64).ceil() as u64).clamp(1, count))
    }

    /// Returns the estimate of the value at a rank, counted from 1; `None` if there are fewer values.
    pub(super) fn value_at(&self, rank: u64) -> Option<f64> {
        let mut seen = 0;
        let mut reached = |count: &u64| {
            seen += count;
            seen >= rank
        };
        let below =
            self.negative.iter().rev().find(|(_, count)| reached(count)).map(|(index, _)| -bucket_estimate(*index));
        let at_zero = below.or_else(|| reached(&self.zeros).then_some(0.0));
        at_zero.or_else(|| {
            self.positive.iter().find(|(_, count)| reached(count)).map(|(index, _)| bucket_estimate(*index))
        })
    }

    /// Returns the number of values that are at most `bound`. A bucket counts if its estimate is at most `bound`. Exact
    /// for powers of two from 2^-30 to 2^59, because a bucket ends at each of them.
    pub(super) fn count_at_most(&self, bound: f64) -> u64 {
        let negative =
            self.negative.iter().filter(|(index, _)| -bucket_estimate(*index) <= bound).map(|(_, count)| count);
        let positive =
            self.positive.iter().take_while(|(index, _)| bucket_estimate(*index) <= bound).map(|(_, count)| count);
        let zeros = if bound >= 0.0 { self.zeros } else { 0 };
        negative.sum::<u64>() + zeros + positive.sum::<u64>()
    }

    /// Encodes the sketch: counts and the differences between bucket indices as variable-length integers.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(8 + 3 * (self.positive.len() + self.negative.len()));
        bytes.push(FORMAT);
        varint::put(&mut bytes, self.zeros);
        for buckets in [&self.positive, &self.negative] {
            varint::put(&mut bytes, buckets.len() as u64);
            let mut previous = 0;
            for (index, count) in buckets {
                varint::put_signed(&mut bytes, i64::from(index - previous));
                varint::put(&mut bytes, *count);
                previous = *index;
            }
        }
        bytes
    }

    /// Decodes the output of [`Sketch::encode`]; `None` for any other bytes, for example from a corrupt disk.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes.strip_prefix(&[FORMAT])?;
        let mut sketch = Self { zeros: varint::take(&mut rest)?, ..Self::default() };
        for buckets in [&mut sketch.positive, &mut sketch.negative] {
            let mut index = 0i32;
            let count = varint::take(&mut rest)?;
            // A bucket takes at least two bytes. A corrupt count must not reserve more than the remaining bytes can fill.
            buckets.reserve_exact((rest.len() / 2).min(usize::try_from(count).ok()?));
            for _ in 0..count {
                index = index.checked_add(i32::try_from(varint::take_signed(&mut rest)?).ok()?)?;
                let valid = INDICES.contains(&index) && buckets.last().is_none_or(|(last, _)| *last < index);
                buckets.push(valid.then_some((index, varint::take(&mut rest)?))?);
            }
        }
        let counts = sketch.positive.iter().chain(&sketch.negative).map(|(_, count)| *count);
        let valid = counts.fold(sketch.zeros, u64::saturating_add) <= COUNT_MAX;
        (rest.is_empty() && valid).then_some(sketch)
    }
}

/// Adds sorted buckets to sorted buckets in one pass over both, which is faster than a binary search per bucket.
fn merge_buckets(mine: &mut Buckets, theirs: &Buckets) {
    let mut position = 0;
    for (index, count) in theirs {
        while mine.get(position).is_some_and(|(own, _)| own < index) {
            position += 1;
        }
        match mine.get_mut(position) {
            Some((own, sum)) if own == index => *sum += count,
            _ => mine.insert(position, (*index, *count)),
        }
    }
}

/// Returns the index of the bucket for a magnitude of at least [`MAGNITUDE_MIN`].
fn bucket_index(magnitude: f64) -> i32 {
    const FRACTION_BITS: u32 = 52;
    const EXPONENT_OF_ONE: u64 = 1_023;
    // The exponent comes from the bits. The logarithm of a number just above a power of two may round down to an
    // integer, which would count the number in the bucket below the boundary.
    let bits = magnitude.min(MAGNITUDE_MAX).to_bits();
    let exponent = (bits >> FRACTION_BITS) as i32 - EXPONENT_OF_ONE as i32;
    let fraction = f64::from_bits(bits & ((1 << FRACTION_BITS) - 1) | EXPONENT_OF_ONE << FRACTION_BITS);
    exponent * BUCKETS_PER_DOUBLING as i32 + (fraction.log2() * BUCKETS_PER_DOUBLING).ceil() as i32 - 1
}

/// Returns the magnitude with the same relative distance to both bounds of a bucket.
fn bucket_estimate(index: i32) -> f64 {
    let upper = (f64::from(index + 1) / BUCKETS_PER_DOUBLING).exp2();
    let gamma = (1.0 / BUCKETS_PER_DOUBLING).exp2();
    2.0 * upper / (gamma + 1.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RELATIVE_ERROR_MAX: f64 = 0.0109;

    fn sketch(values: &[f64]) -> Sketch {
        let mut sketch = Sketch::default();
        values.iter().for_each(|value| sketch.add(*value));
        sketch
    }

    fn quantile(sketch: &Sketch, q: f64) -> f64 {
        sketch.rank(q).and_then(|rank| sketch.value_at(rank)).unwrap()
    }

    fn exact(values: &[f64], q: f64) -> f64 {
        let mut sorted = values.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        sorted[((q * sorted.len() as f64).ceil() as usize).clamp(1, sorted.len()) - 1]
    }

    fn values() -> impl Strategy<Value = Vec<f64>> {
        let value = prop_oneof![-1e9..1e9, 0.0..1.0, 1e-8..1e-3, 1e3..1e15, Just(0.0), -1.0..0.0f64];
        proptest::collection::vec(value, 1..200)
    }

    proptest! {
        #[test]
        fn percentiles_are_within_the_error_bound(values in values(), q in 0.0..=1.0f64) {
            let (estimate, exact) = (quantile(&sketch(&values), q), exact(&values, q));
            let allowed = (exact.abs() * RELATIVE_ERROR_MAX).max(MAGNITUDE_MIN);
            prop_assert!((estimate - exact).abs() <= allowed, "{} instead of {}", estimate, exact);
        }

        #[test]
        fn merge_order_does_not_matter(a in values(), b in values(), c in values()) {
            let all = sketch(&[a.clone(), b.clone(), c.clone()].concat());
            for [x, y, z] in [[&a, &b, &c], [&c, &a, &b], [&b, &c, &a]] {
                let (mut left, mut inner) = (sketch(x), sketch(y));
                inner.merge(&sketch(z));
                left.merge(&inner);
                prop_assert_eq!(&left, &all);
                let mut right = sketch(x);
                right.merge(&sketch(y));
                right.merge(&sketch(z));
                prop_assert_eq!(&right, &all);
            }
        }

        #[test]
        fn encoding_round_trips(values in values()) {
            let sketch = sketch(&values);
            prop_assert_eq!(Sketch::decode(&sketch.encode()), Some(sketch));
        }

        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = Sketch::decode(&bytes);
        }

        #[test]
        fn size_is_bounded_for_all_finite_values(values in proptest::collection::vec(any::<f64>(), 1..500)) {
            let finite: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
            let sketch = sketch(&finite);
            prop_assert_eq!(sketch.count(), finite.len() as u64);
            prop_assert!(sketch.positive.iter().chain(&sketch.negative).all(|(index, _)| (-961..1_920).contains(index)));
        }
    }

    #[test]
    fn impossible_sketches_do_not_decode() {
        let sketch = |positive: Buckets, zeros| Sketch { zeros, positive, negative: Vec::new() };
        for (sketch, is_valid) in [
            (sketch(vec![(*INDICES.start(), 1), (*INDICES.end(), COUNT_MAX - 1)], 0), true),
            (sketch(vec![(*INDICES.end() + 1, 1)], 0), false),
            (sketch(vec![(i32::MIN, 1)], 0), false),
            (sketch(vec![(0, COUNT_MAX)], 1), false),
            (sketch(vec![(0, u64::MAX)], u64::MAX), false),
        ] {
            assert_eq!(Sketch::decode(&sketch.encode()).is_some(), is_valid, "{sketch:?}");
        }
    }

    #[test]
    fn counts_at_most_a_power_of_two_are_exact() {
        for exponent in -29..60 {
            let bound = f64::from(exponent).exp2();
            let values = [-bound, 0.0, bound.next_down(), bound, bound.next_up(), bound * 1.01];
            assert_eq!(sketch(&values).count_at_most(bound), 4, "2^{exponent}");
        }
    }

    #[test]
    fn merged_hour_keeps_the_tail_of_one_slow_minute() {
        let mut hour = Sketch::default();
        let mut averaged = 0.0;
        for minute in 0..60 {
            let minute = if minute == 59 { sketch(&[5_000.0; 600]) } else { sketch(&[10.0; 100]) };
            averaged += quantile(&minute, 0.95) / 60.0;
            hour.merge(&minute);
        }
        assert!((quantile(&hour, 0.95) - 5_000.0).abs() < 55.0);
        assert!(averaged < 250.0, "the average of percentiles is {averaged}");
    }
}
