//! Compensated summation of 64-bit floating-point numbers.

use serde::{Serialize, Serializer};

/// Sum as a number and the rounding error that it cannot hold, also known as double-double (Dekker, "A floating-point technique
/// for extending the available precision", 1971).
///
/// The state depends only on the sequence of numbers, and not on how often it was stored in between. The value never decreases
/// while the numbers are not negative. Intermediate sums may be up to twice the largest number.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct CompensatedSum {
    value: f64,
    rest: f64,
}

impl CompensatedSum {
    /// Creates a sum from its stored parts.
    pub(super) fn from_parts(value: f64, rest: f64) -> Self {
        Self { value, rest }
    }

    /// Returns the sum, rounded once and limited to finite numbers.
    pub(super) fn value(self) -> f64 {
        self.value
    }

    /// Returns the rounding error: the sum is the value plus this.
    pub(super) fn rest(self) -> f64 {
        self.rest
    }

    /// Adds a finite number.
    pub(super) fn add(&mut self, number: f64) {
        let (value, error) = two_sum(self.value, number);
        (self.value, self.rest) = two_sum(value, (self.rest + error).clamp(f64::MIN, f64::MAX));
    }

    /// Adds another sum.
    pub(super) fn merge(&mut self, other: Self) {
        self.add(other.value);
        self.add(other.rest);
    }

    /// Returns the mean of `count` numbers with this sum, which is finite although the sum may not be.
    pub(super) fn mean(self, count: u64) -> f64 {
        let count = count.max(1) as f64;
        self.value / count + self.rest / count
    }
}

impl Serialize for CompensatedSum {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.value)
    }
}

/// Returns the sum of two numbers and its rounding error (Dekker, as above; Knuth's algorithm, which needs no comparison, can
/// overflow although the sum does not). A sum beyond the largest number is that number, and the error is the excess.
fn two_sum(left: f64, right: f64) -> (f64, f64) {
    let sum = left + right;
    if sum.is_infinite() {
        let limit = f64::MAX.copysign(sum);
        return (limit, left - limit + right);
    }
    let (larger, smaller) = if left.abs() >= right.abs() { (left, right) } else { (right, left) };
    (sum, smaller - (sum - larger))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sum(numbers: &[f64]) -> CompensatedSum {
        let mut sum = CompensatedSum::default();
        numbers.iter().for_each(|number| sum.add(*number));
        sum
    }

    #[test]
    fn cancelled_large_numbers_leave_the_small_ones() {
        for (numbers, expected) in [
            (&[][..], 0.0),
            (&[1e100, 1.0, -1e100], 1.0),
            (&[1.0, 1e100, 1.0, -1e100], 2.0),
            (&[0.1; 10], 1.0),
            (&[1e16, 1.0, 1.0, 1.0, 1.0], 1e16 + 4.0),
            (&[1.7e308, 1.7e308, -1.7e308], 1.7e308),
            (&[-1.7e308, -1.7e308, 1.7e308], -1.7e308),
            (&[f64::MAX, f64::MAX, f64::MIN, f64::MIN, 3.0], 3.0),
            (&[-7.731665821846671e307, f64::MAX, f64::MIN], -7.731665821846671e307),
        ] {
            assert_eq!(sum(numbers).value().to_bits(), f64::to_bits(expected), "{numbers:?}");
        }
        assert_eq!(sum(&[f64::MAX, f64::MAX]).mean(2).to_bits(), f64::MAX.to_bits());
        assert_eq!(sum(&[f64::MAX; 9]).value().to_bits(), f64::MAX.to_bits());
    }

    proptest! {
        #[test]
        fn integers_are_summed_exactly_in_any_split(numbers in proptest::collection::vec(-1i64 << 53..1 << 53, 0..50), at in 0..50usize) {
            let floats: Vec<f64> = numbers.iter().map(|number| *number as f64).collect();
            let exact = numbers.iter().map(|number| i128::from(*number)).sum::<i128>();
            let (first, second) = floats.split_at(at.min(floats.len()));
            let mut merged = sum(first);
            merged.merge(sum(second));
            prop_assert_eq!(merged.value() as i128 + merged.rest() as i128, exact);
            prop_assert_eq!(sum(&floats).value().to_bits(), (exact as f64 + 0.0).to_bits());
        }

        #[test]
        fn sums_of_increments_never_decrease_and_finite_numbers_have_a_finite_sum(
            numbers in proptest::collection::vec(any::<f64>().prop_filter("finite", |number| number.is_finite()), 1..60),
        ) {
            let (mut increments, mut all) = (CompensatedSum::default(), CompensatedSum::default());
            for number in numbers {
                let before = increments.value();
                increments.add(number.abs());
                all.add(number);
                prop_assert!(increments.value() >= before);
                let parts = [all.value(), all.rest(), all.mean(7), increments.rest()];
                prop_assert!(parts.iter().all(|part| part.is_finite()), "{parts:?}");
            }
        }
    }
}
