//! Last values of the live series of a gauge. They are read by series, because a rollup over all series knows only the last of
//! their points.

use std::collections::BTreeMap;

use super::super::aggregate::{Aggregate, AggregateParts};
use super::super::compensated_sum::CompensatedSum;
use super::super::resolution::Resolution;
use super::super::rollup_reader::{RollupReader, merge_into};
use super::super::rollup_tables::RollupScope;
use crate::error::Result;

/// Sum and number of the last values of the series that are live at the end of a bucket.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct LastValues {
    sum: CompensatedSum,
    count: u64,
}

impl LastValues {
    /// Returns the sum of the last values. With one series, this is its last value.
    pub(super) fn sum(self) -> f64 {
        self.sum.value()
    }

    /// Returns the mean of the last values.
    pub(super) fn avg(self) -> f64 {
        self.sum.mean(self.count)
    }
}

/// Returns the number of buckets before a bucket in which the last point of a live series can be.
pub(super) fn buckets_before(resolution: Resolution, lifetime_ms: i64) -> i64 {
    (lifetime_ms - 1).div_euclid(resolution.ms()) + 1
}

/// Reads the last values of some series for each of some buckets. A series is live in a bucket if its last point is at most
/// `lifetime_ms` older than the latest point of all series in this bucket.
pub(super) fn read(
    reader: &RollupReader<'_>,
    series: impl Iterator<Item = i64>,
    buckets: &BTreeMap<i64, Aggregate>,
    lifetime_ms: i64,
) -> Result<BTreeMap<i64, LastValues>> {
    let mut last_values: BTreeMap<i64, LastValues> = BTreeMap::new();
    let (Some((first, _)), Some((last, _))) = (buckets.first_key_value(), buckets.last_key_value()) else {
        return Ok(last_values);
    };
    let range = first - buckets_before(reader.resolution(), lifetime_ms)..last + 1;
    for id in series {
        let mut rows: BTreeMap<i64, Aggregate> = BTreeMap::new();
        reader.for_each_row((RollupScope::Series, id), AggregateParts::default(), &range, |bucket, row| {
            rows.insert(bucket, row);
        })?;
        for (bucket, aggregate) in reader.not_rolled_up(id, &range) {
            merge_into(&mut rows, bucket, aggregate.clone());
        }
        for (bucket, all) in buckets {
            let Some((_, row)) = rows.range(..=bucket).next_back() else { continue };
            if row.last_at >= all.last_at - lifetime_ms {
                let values = last_values.entry(*bucket).or_default();
                values.sum.add(row.last);
                values.count += 1;
            }
        }
    }
    Ok(last_values)
}
