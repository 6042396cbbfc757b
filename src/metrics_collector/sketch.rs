//! The distribution of a series' values, kept so that it can be merged: percentiles of any period, at any resolution,
//! over any set of series, come from the merged distribution and never from other percentiles.

/// Buckets grow by γ = 2^(1/32): an exponential histogram of scale 5 (OpenTelemetry metrics data model, "Exponential
/// histogram"; the estimate within a bucket is DDSketch's, Masson, Rim and Lee, VLDB 2019).
const BUCKETS_PER_DOUBLING: f64 = 32.0;
/// Smaller magnitudes count as zero: 2^-30, about 1e-9.
const SMALLEST: f64 = 9.313_225_746_154_785e-10;
/// Larger magnitudes share the last bucket: 2^60, about 1e18.
const LARGEST: f64 = 1.152_921_504_606_847e18;
/// The first byte of an encoded sketch, for formats to come.
const FORMAT: u8 = 1;
/// The bucket of [`SMALLEST`] at the lowest, which lies on a boundary, and that of [`LARGEST`].
const INDICES: std::ops::RangeInclusive<i32> = -961..=1_919;
/// Values that one sketch counts: as many as f64 holds exactly, and far from where counts of merged ones overflow.
const COUNT_MAX: u64 = 1 << 53;

/// Indices with their counts, sorted: a few dozen as a rule, which a tree would only spread over memory.
type Buckets = Vec<(i32, u64)>;

/// A sparse histogram of finite values.
///
/// A percentile of it lies within a relative error of (γ-1)/(γ+1) ≤ 1.09 % of the exact nearest-rank percentile, for
/// magnitudes from 1e-9 to 1e18; smaller ones are zero to it. There are at most 2,880 buckets for each sign, so it is
/// bounded whatever is added.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Sketch {
    zeros: u64,
    /// Bucket i holds the magnitudes in (γ^i, γ^(i+1)].
    positive: Buckets,
    negative: Buckets,
}

impl Sketch {
    /// Counts a finite value.
    pub(super) fn add(&mut self, value: f64) {
        let magnitude = value.abs();
        if magnitude < SMALLEST {
            self.zeros += 1;
            return;
        }
        let buckets = if value > 0.0 { &mut self.positive } else { &mut self.negative };
        let index = index(magnitude);
        match buckets.binary_search_by_key(&index, |(index, _)| *index) {
            Ok(known) => buckets[known].1 += 1,
            Err(at) => buckets.insert(at, (index, 1)),
        }
    }

    /// Adds everything another one counts. Union: the order of merges and adds does not matter.
    pub(super) fn merge(&mut self, other: &Self) {
        self.zeros += other.zeros;
        for (mine, theirs) in [(&mut self.positive, &other.positive), (&mut self.negative, &other.negative)] {
            merge(mine, theirs);
        }
    }

    /// How many values were counted.
    pub(super) fn count(&self) -> u64 {
        let sum = |buckets: &Buckets| buckets.iter().map(|(_, count)| count).sum::<u64>();
        self.zeros + sum(&self.positive) + sum(&self.negative)
    }

    /// The value at nearest rank ⌈q·n⌉ for a quantile within 0 and 1; `None` of nothing.
    pub(super) fn quantile(&self, q: f64) -> Option<f64> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        // f64 holds every count that a series reaches.
        let rank = ((q * count as f64).ceil() as u64).clamp(1, count);
        let mut seen = 0;
        let mut reached = |count: &u64| {
            seen += count;
            seen >= rank
        };
        let below = self.negative.iter().rev().find(|(_, count)| reached(count)).map(|(index, _)| -estimate(*index));
        let at_zero = below.or_else(|| reached(&self.zeros).then_some(0.0));
        at_zero.or_else(|| self.positive.iter().find(|(_, count)| reached(count)).map(|(index, _)| estimate(*index)))
    }

    /// How many values are at most `bound`, a bucket counting where its estimate lies. Exact for powers of two from
    /// 2^-30 to 2^59, on which a bucket ends.
    pub(super) fn count_up_to(&self, bound: f64) -> u64 {
        let negative = self.negative.iter().filter(|(index, _)| -estimate(*index) <= bound).map(|(_, count)| count);
        let positive = self.positive.iter().take_while(|(index, _)| estimate(*index) <= bound).map(|(_, count)| count);
        let zeros = if bound >= 0.0 { self.zeros } else { 0 };
        negative.sum::<u64>() + zeros + positive.sum::<u64>()
    }

    /// As it is stored: counts and distances between buckets as variable-length integers.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(8 + 3 * (self.positive.len() + self.negative.len()));
        bytes.push(FORMAT);
        push(&mut bytes, self.zeros);
        for buckets in [&self.positive, &self.negative] {
            push(&mut bytes, buckets.len() as u64);
            let mut previous = 0;
            for (index, count) in buckets {
                push(&mut bytes, zigzag(i64::from(index - previous)));
                push(&mut bytes, *count);
                previous = *index;
            }
        }
        bytes
    }

    /// Reads what [`Sketch::encode`] wrote; `None` for anything else, such as what a damaged disk made of it.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes.strip_prefix(&[FORMAT])?;
        let mut sketch = Self { zeros: pull(&mut rest)?, ..Self::default() };
        for buckets in [&mut sketch.positive, &mut sketch.negative] {
            let mut index = 0i32;
            let count = pull(&mut rest)?;
            // Each takes two bytes and more, whatever the count says.
            buckets.reserve_exact((rest.len() / 2).min(usize::try_from(count).ok()?));
            for _ in 0..count {
                index = index.checked_add(i32::try_from(unzigzag(pull(&mut rest)?)).ok()?)?;
                let fits = INDICES.contains(&index) && buckets.last().is_none_or(|(last, _)| *last < index);
                buckets.push(fits.then_some((index, pull(&mut rest)?))?);
            }
        }
        let counts = sketch.positive.iter().chain(&sketch.negative).map(|(_, count)| *count);
        let fits = counts.fold(sketch.zeros, u64::saturating_add) <= COUNT_MAX;
        (rest.is_empty() && fits).then_some(sketch)
    }
}

/// Adds sorted buckets to sorted buckets. They are walked side by side: to search for each would take longer.
fn merge(mine: &mut Buckets, theirs: &Buckets) {
    let mut at = 0;
    for (index, count) in theirs {
        while mine.get(at).is_some_and(|(known, _)| known < index) {
            at += 1;
        }
        match mine.get_mut(at) {
            Some((known, sum)) if known == index => *sum += count,
            _ => mine.insert(at, (*index, *count)),
        }
    }
}

/// The bucket of a magnitude that is at least [`SMALLEST`].
fn index(magnitude: f64) -> i32 {
    const FRACTION_BITS: u32 = 52;
    const EXPONENT_OF_ONE: u64 = 1_023;
    // The exponent is taken from the bits: the logarithm of a number just above a power of two may round to a whole
    // one, and then that number would count below a boundary that it is above.
    let bits = magnitude.min(LARGEST).to_bits();
    let exponent = (bits >> FRACTION_BITS) as i32 - EXPONENT_OF_ONE as i32;
    let fraction = f64::from_bits(bits & ((1 << FRACTION_BITS) - 1) | EXPONENT_OF_ONE << FRACTION_BITS);
    exponent * BUCKETS_PER_DOUBLING as i32 + (fraction.log2() * BUCKETS_PER_DOUBLING).ceil() as i32 - 1
}

/// The magnitude that is as far, relatively, from both ends of a bucket.
fn estimate(index: i32) -> f64 {
    let upper = (f64::from(index + 1) / BUCKETS_PER_DOUBLING).exp2();
    let gamma = (1.0 / BUCKETS_PER_DOUBLING).exp2();
    2.0 * upper / (gamma + 1.0)
}

fn push(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn pull(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(first & 0x7f).checked_shl(shift)?;
        if first & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)).cast_unsigned()
}

fn unzigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
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
        fn percentiles_are_within_the_bound(values in values(), q in 0.0..=1.0f64) {
            let (estimate, exact) = (sketch(&values).quantile(q).unwrap(), exact(&values, q));
            let allowed = (exact.abs() * RELATIVE_ERROR_MAX).max(SMALLEST);
            prop_assert!((estimate - exact).abs() <= allowed, "{} for {}", estimate, exact);
        }

        #[test]
        fn merging_is_union_in_any_order(a in values(), b in values(), c in values()) {
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
        fn what_is_encoded_is_read_back(values in values()) {
            let sketch = sketch(&values);
            prop_assert_eq!(Sketch::decode(&sketch.encode()), Some(sketch));
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = Sketch::decode(&bytes);
        }

        #[test]
        fn any_finite_value_is_counted_in_bounded_space(values in proptest::collection::vec(any::<f64>(), 1..500)) {
            let finite: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
            let sketch = sketch(&finite);
            prop_assert_eq!(sketch.count(), finite.len() as u64);
            prop_assert!(sketch.positive.iter().chain(&sketch.negative).all(|(index, _)| (-961..1_920).contains(index)));
        }
    }

    #[test]
    fn what_nothing_could_have_counted_is_no_sketch() {
        let sketch = |positive: Buckets, zeros| Sketch { zeros, positive, negative: Vec::new() };
        for (sketch, is_one) in [
            (sketch(vec![(*INDICES.start(), 1), (*INDICES.end(), COUNT_MAX - 1)], 0), true),
            (sketch(vec![(*INDICES.end() + 1, 1)], 0), false),
            (sketch(vec![(i32::MIN, 1)], 0), false),
            (sketch(vec![(0, COUNT_MAX)], 1), false),
            (sketch(vec![(0, u64::MAX)], u64::MAX), false),
        ] {
            assert_eq!(Sketch::decode(&sketch.encode()).is_some(), is_one, "{sketch:?}");
        }
    }

    #[test]
    fn counts_up_to_a_power_of_two_are_exact() {
        for exponent in -29..60 {
            let bound = f64::from(exponent).exp2();
            let values = [-bound, 0.0, bound.next_down(), bound, bound.next_up(), bound * 1.01];
            assert_eq!(sketch(&values).count_up_to(bound), 4, "2^{exponent}");
        }
    }

    #[test]
    fn an_hour_of_quiet_minutes_and_a_slow_one_has_the_slow_ones_tail() {
        let mut hour = Sketch::default();
        let mut averaged = 0.0;
        for minute in 0..60 {
            let minute = if minute == 59 { sketch(&[5_000.0; 600]) } else { sketch(&[10.0; 100]) };
            averaged += minute.quantile(0.95).unwrap() / 60.0;
            hour.merge(&minute);
        }
        assert!((hour.quantile(0.95).unwrap() - 5_000.0).abs() < 55.0);
        assert!(averaged < 250.0, "an average of percentiles says {averaged}");
    }
}
