//! Query for the buckets of a metric.

use std::ops::Range;
use std::time::Duration;

use super::super::resolution::Resolution;
use super::fields::Fields;
use crate::clock::Timestamp;
use crate::records::point::MetricKind;

/// Query for the buckets of a metric.
#[derive(Debug, Clone)]
pub(in super::super) struct Query {
    pub(in super::super) name: String,
    /// Type of the metric; `None` selects the one with the most points.
    pub(in super::super) kind: Option<MetricKind>,
    pub(in super::super) project: Option<String>,
    /// Labels that a series must have, in any order.
    pub(in super::super) labels: Vec<(String, String)>,
    pub(in super::super) buckets: Range<i64>,
    pub(in super::super) resolution: Resolution,
    /// Name of the label whose values form groups.
    pub(in super::super) group_by: Option<String>,
    pub(in super::super) fields: Fields,
    /// Time after its last point for which a series of a gauge is live.
    pub(in super::super) gauge_lifetime: Duration,
    pub(in super::super) coverage: Coverage,
}

/// Time range that the response covers, which begins and ends with a bucket.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Coverage {
    pub(in super::super) since: Timestamp,
    pub(in super::super) until: Timestamp,
    /// Start of the stored buckets, if the range begins earlier.
    pub(in super::super) stored_since: Option<Timestamp>,
}
