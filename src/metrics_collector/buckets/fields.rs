//! Members of a bucket in the response, of which a query can select some.

use serde::ser::{Serialize, SerializeMap as _, Serializer};

use super::super::aggregate::Aggregate;
use super::last_values::LastValues;
use crate::clock::Timestamp;
use crate::error::{Error, Result};

/// Set of bucket members to return: bit i stands for the i-th of [`FIELDS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Fields(u16);

/// Members of a bucket, in the order of the response.
const FIELDS: [&str; 10] = ["count", "sum", "min", "max", "avg", "p50", "p95", "p99", "last", "last_avg"];
/// Indices of the percentiles, which need sketches.
const PERCENTILES: std::ops::Range<usize> = 5..8;
/// Indices of the members that only gauges have.
const LAST: std::ops::Range<usize> = 8..10;

impl Fields {
    pub(in super::super) const ALL: Self = Self(u16::MAX);

    /// Parses a comma-separated list of names.
    ///
    /// # Errors
    /// [`Error::Invalid`] if a name is not one of [`FIELDS`].
    pub(in super::super) fn parse(list: &str) -> Result<Self> {
        let index_of = |name: &str| {
            let index = FIELDS.iter().position(|field| *field == name.trim());
            index.ok_or_else(|| {
                let allowed = FIELDS.join(", ");
                Error::field("fields", format_args!("must be a comma-separated list of these names: {allowed}"))
            })
        };
        list.split(',').try_fold(Self(0), |fields, name| Ok(Self(fields.0 | 1 << index_of(name)?)))
    }

    /// Whether sketches are needed. Reading and merging them takes most of the time of a query.
    pub(super) fn has_percentiles(self) -> bool {
        PERCENTILES.into_iter().any(|index| self.contains(index))
    }

    /// Whether the last values of all series are needed.
    pub(super) fn has_last(self) -> bool {
        LAST.into_iter().any(|index| self.contains(index))
    }

    fn contains(self, index: usize) -> bool {
        self.0 >> index & 1 == 1
    }
}

/// One bucket of the response.
#[derive(Debug)]
pub(super) struct Bucket {
    pub(super) start: Timestamp,
    pub(super) aggregate: Aggregate,
    /// Only for gauges.
    pub(super) last: Option<LastValues>,
    pub(super) fields: Fields,
}

impl Serialize for Bucket {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let Aggregate { count, sum, min, max, .. } = &self.aggregate;
        let [p50, p95, p99] = self.aggregate.percentiles();
        let numbers = [Some(sum.value()), Some(*min), Some(*max), Some(self.aggregate.avg()), p50, p95, p99];
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("bucket", &self.start)?;
        if self.fields.contains(0) {
            map.serialize_entry(FIELDS[0], count)?;
        }
        let last = self.last.iter().flat_map(|last| [Some(last.sum()), Some(last.avg())]);
        for (index, number) in
            (1..).zip(numbers.into_iter().chain(last)).filter(|(index, _)| self.fields.contains(*index))
        {
            map.serialize_entry(FIELDS[index], &number)?;
        }
        map.end()
    }
}
