//! `GET /api/metrics`: the buckets of a metric, merged over its series or by the values of a label, written part by part.
//! Buckets include points that are not rolled up yet, so results are current.
//!
//! A part reads as many buckets as fit into [`WINDOW_BYTES`], however many series and buckets the metric has. Each bucket is
//! read in one snapshot, so no point in it is counted twice or missed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};
use std::ops::Range;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use serde::ser::{Serialize, SerializeMap as _, Serializer};

use super::aggregate::{Aggregate, AggregateParts};
use super::metric_rollup::{self, MetricRollupRows};
use super::resolution::Resolution;
use super::rollup_reader::{RollupReader, merge_into};
use super::rollup_tables::{RollupScope, RollupTable};
use crate::clock::Timestamp;
use crate::db::ReaderPool;
use crate::error::{Error, Result};
use crate::http::{BodySource, PART_BYTES};
use crate::records::point::MetricKind;

/// Maximum number of groups in a response; further label values are combined in the group `other`.
const GROUPS_MAX: usize = 50;
/// Size of the aggregates that one part merges, in bytes. About as many bytes are written for them.
const WINDOW_BYTES: usize = 128 * 1024;
/// About the number of rows that are merged at once, so that a part takes a fraction of a second.
const WINDOW_ROWS: i64 = 200_000;
/// Number of buckets that are merged at once, however many series there are.
const WINDOW_BUCKETS_MIN: i64 = 16;
/// Time after which a part ends, also if it is empty, so that the queries of others are served in between.
const PART_TIME_MAX: Duration = Duration::from_millis(100);

/// Query for the buckets of a metric.
#[derive(Debug, Clone)]
pub(super) struct Query {
    pub(super) name: String,
    pub(super) project: Option<String>,
    /// Labels that a series must have, in any order.
    pub(super) labels: Vec<(String, String)>,
    pub(super) buckets: Range<i64>,
    pub(super) resolution: Resolution,
    /// Name of the label whose values form groups.
    pub(super) group_by: Option<String>,
    pub(super) fields: Fields,
}

/// Set of bucket members to return: bit i stands for the i-th of [`FIELDS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fields(u16);

/// Members of a bucket, in the order of the response. Only gauges have `last`.
const FIELDS: [&str; 9] = ["count", "sum", "min", "max", "avg", "p50", "p95", "p99", "last"];

impl Fields {
    pub(super) const ALL: Self = Self(u16::MAX);

    /// Parses a comma-separated list of names.
    ///
    /// # Errors
    /// [`Error::Invalid`] if a name is not one of [`FIELDS`].
    pub(super) fn parse(list: &str) -> Result<Self> {
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
    fn has_percentiles(self) -> bool {
        (5..8).any(|index| self.contains(index))
    }

    fn without_last(self) -> Self {
        Self(self.0 & !(1 << (FIELDS.len() - 1)))
    }

    fn contains(self, index: usize) -> bool {
        self.0 >> index & 1 == 1
    }
}

/// One bucket of the response.
#[derive(Debug)]
pub(super) struct Bucket {
    start: Timestamp,
    aggregate: Aggregate,
    fields: Fields,
}

impl Serialize for Bucket {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let Aggregate { count, min, max, last, .. } = &self.aggregate;
        let [p50, p95, p99] = self.aggregate.percentiles();
        let (sum, avg) = (self.aggregate.sum.value(), self.aggregate.avg());
        let numbers = [Some(sum), Some(*min), Some(*max), Some(avg), p50, p95, p99, Some(*last)];
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("bucket", &self.start)?;
        if self.fields.contains(0) {
            map.serialize_entry(FIELDS[0], count)?;
        }
        for (index, number) in (1..).zip(&numbers).filter(|(index, _)| self.fields.contains(*index)) {
            map.serialize_entry(FIELDS[index], number)?;
        }
        map.end()
    }
}

/// Series that matches a query, and the index of the group it belongs to.
struct MatchingSeries {
    id: i64,
    kind: Option<MetricKind>,
    group: usize,
    rollup: Option<MetricRollupRows>,
}

/// Values of the label by which series are grouped. Without such a label, all series belong to the only group.
#[derive(Default)]
struct Groups {
    /// The values with the most points, most points first.
    values: Vec<String>,
    /// Whether further values are combined in a group after these.
    has_other: bool,
}

impl Groups {
    /// Returns the index of a value's group.
    fn index_of(&self, value: &str) -> usize {
        self.values.iter().position(|known| known == value).unwrap_or(self.values.len())
    }
}

/// Numbers of points by the hashes of the label values: the number of values is unbounded, and only the largest are listed.
#[derive(Default)]
struct ValueCounts {
    hasher: RandomState,
    points: HashMap<u64, u64>,
    /// The last series that is counted.
    last_id: i64,
}

/// Body of the response.
pub(super) struct BucketsBody {
    readers: ReaderPool,
    query: Query,
    /// The period as the client sent it.
    period: String,
    counts: ValueCounts,
    groups: Groups,
    has_started: bool,
    /// Index of the group that is written.
    group: usize,
    /// The first bucket of this group that is not written yet.
    next_bucket: i64,
    /// Whether the list that is written has an item, so that a comma follows.
    has_items: bool,
}

impl BucketsBody {
    /// Creates the body of a query. `period` is repeated in the response.
    pub(super) fn new(readers: ReaderPool, query: Query, period: &str) -> Self {
        let (counts, groups, next_bucket) = (ValueCounts::default(), Groups::default(), query.buckets.start);
        let period = period.to_owned();
        Self { readers, query, period, counts, groups, has_started: false, group: 0, next_bucket, has_items: false }
    }

    /// Returns the number of lists of buckets in the response.
    fn groups_count(&self) -> usize {
        if self.query.group_by.is_none() { 1 } else { self.groups.values.len() + usize::from(self.groups.has_other) }
    }

    /// Passes the matching series behind an id to `visit`, in the order of their ids, with the value of the label that forms
    /// groups, until it returns `false`. The fixed order keeps sums and last values the same in every response: another order could round sums differently and pick
    /// another of two simultaneous last values.
    fn for_each_series(
        &self,
        snapshot: &Connection,
        after_id: i64,
        mut visit: impl FnMut(MatchingSeries, &str) -> Result<bool>,
    ) -> Result<()> {
        let Query { name, project, labels: filter, group_by, .. } = &self.query;
        let is_unfiltered = filter.is_empty() && group_by.is_none();
        let mut read = snapshot.prepare_cached(
            "SELECT id, labels, type, metric_id, rollup_from_h FROM series_keys
                 WHERE name = ?1 AND (?2 IS NULL OR project = ?2) AND id > ?3 ORDER BY id",
        )?;
        let mut rows = read.query((name, project, after_id))?;
        while let Some(row) = rows.next()? {
            let kind = MetricKind::from_name(row.get_ref(2)?.as_str().unwrap_or_default());
            let rollup = if is_unfiltered { MetricRollupRows::read(row, 3)? } else { None };
            let series = MatchingSeries { id: row.get(0)?, kind, group: 0, rollup };
            if is_unfiltered {
                if !visit(series, "")? {
                    break;
                }
                continue;
            }
            let labels: BTreeMap<String, String> =
                serde_json::from_str(row.get_ref(1)?.as_str().unwrap_or("{}")).unwrap_or_default();
            if filter.iter().all(|(name, value)| labels.get(name) == Some(value)) {
                let value = group_by.as_ref().and_then(|label| labels.get(label));
                if !visit(series, value.map_or("", String::as_str))? {
                    break;
                }
            }
        }
        Ok(())
    }

    fn aggregate_parts(&self, kind: Option<MetricKind>) -> AggregateParts {
        if self.query.fields.has_percentiles() {
            AggregateParts::for_metric(kind, &self.query.name)
        } else {
            AggregateParts::default()
        }
    }

    /// Counts the points of each value, until a part has taken its time. Returns whether all are counted.
    fn count_values(&mut self, snapshot: &Connection, started: Instant) -> Result<bool> {
        let mut counts = std::mem::take(&mut self.counts);
        let Query { buckets, resolution, .. } = &self.query;
        let any = |_| Some(AggregateParts::default());
        let reader = RollupReader::open(snapshot, buckets.start, *resolution, any)?;
        let RollupTable { name, id, bucket } = RollupTable::new(RollupScope::Series, *resolution);
        let mut count = snapshot.prepare_cached(&format!(
            "SELECT coalesce(sum(count), 0) FROM {name} WHERE {id} = ?1 AND {bucket} >= ?2 AND {bucket} < ?3"
        ))?;
        let mut is_complete = true;
        self.for_each_series(snapshot, counts.last_id, |series, value| {
            let stored: i64 = count.query_row((series.id, buckets.start, buckets.end), |row| row.get(0))?;
            let new: u64 = reader.not_rolled_up(series.id, buckets).map(|(_, aggregate)| aggregate.count).sum();
            if stored > 0 || new > 0 {
                *counts.points.entry(counts.hasher.hash_one(value)).or_default() += stored.unsigned_abs() + new;
            }
            counts.last_id = series.id;
            is_complete = started.elapsed() < PART_TIME_MAX;
            Ok(is_complete)
        })?;
        self.counts = counts;
        Ok(is_complete)
    }

    /// Finds the values with the most points.
    fn find_groups(&self, snapshot: &Connection) -> Result<Groups> {
        let ValueCounts { points, hasher, .. } = &self.counts;
        let mut largest: BTreeSet<(Reverse<u64>, String)> = BTreeSet::new();
        self.for_each_series(snapshot, 0, |_, value| {
            let Some(points) = points.get(&hasher.hash_one(value)) else { return Ok(true) };
            if largest.len() < GROUPS_MAX || largest.last().is_some_and(|last| last.0 >= Reverse(*points)) {
                largest.insert((Reverse(*points), value.to_owned()));
            }
            if largest.len() > GROUPS_MAX {
                largest.pop_last();
            }
            Ok(true)
        })?;
        let has_other = points.len() > largest.len();
        Ok(Groups { values: largest.into_iter().map(|(_, value)| value).collect(), has_other })
    }

    fn start(&mut self, snapshot: &Connection, out: &mut Vec<u8>) -> Result<()> {
        let Query { name, resolution, group_by, .. } = &self.query;
        let (name, period) = (serde_json::Value::from(name.as_str()), serde_json::Value::from(self.period.as_str()));
        let resolution = resolution.as_str();
        let lists = if group_by.is_some() { r#""data":[],"groups":["# } else { r#""data":["# };
        out.extend_from_slice(
            format!(r#"{{"name":{name},"resolution":"{resolution}","period":{period},{lists}"#).as_bytes(),
        );
        if group_by.is_some() {
            self.groups = self.find_groups(snapshot)?;
        }
        Ok(())
    }

    /// Merges the next buckets of the current group.
    fn read_window(&self, reader: &RollupReader<'_>, matching: &[MatchingSeries]) -> Result<Window> {
        let series = matching.iter().filter(|series| series.group == self.group).count() as i64;
        let buckets_max = (WINDOW_ROWS / series.max(1)).max(WINDOW_BUCKETS_MIN);
        let end = self.query.buckets.end.min(self.next_bucket.saturating_add(buckets_max));
        let mut window = Window::new(self.next_bucket..end);
        let mut rollups_read = HashSet::new();
        for series in matching.iter().filter(|series| series.group == self.group) {
            let parts = self.aggregate_parts(series.kind);
            let [per_series, per_metric] =
                metric_rollup::split_range(&window.range, series.rollup, self.query.resolution);
            if let Some(rollup) = series.rollup.filter(|rollup| rollups_read.insert(rollup.metric_id)) {
                reader.for_each_row((RollupScope::Metric, rollup.metric_id), parts, &per_metric, |bucket, row| {
                    window.add(bucket, row);
                })?;
            }
            reader.for_each_row((RollupScope::Series, series.id), parts, &per_series, |bucket, row| {
                window.add(bucket, row);
            })?;
            for (bucket, aggregate) in reader.not_rolled_up(series.id, &window.range.clone()) {
                window.add(bucket, aggregate.clone());
            }
        }
        Ok(window)
    }

    /// Appends the window to the list of the current group. Begins and ends the list where necessary.
    fn write_window(&mut self, window: Window, fields: Fields, out: &mut Vec<u8>) -> Result<()> {
        let is_grouped = self.query.group_by.is_some();
        if is_grouped && self.next_bucket == self.query.buckets.start {
            let value = self.groups.values.get(self.group).map_or("other", String::as_str);
            let comma = if self.group > 0 { "," } else { "" };
            out.extend_from_slice(
                format!(r#"{comma}{{"value":{},"data":["#, serde_json::Value::from(value)).as_bytes(),
            );
        }
        for (bucket, aggregate) in window.buckets {
            if std::mem::replace(&mut self.has_items, true) {
                out.push(b',');
            }
            let start = Timestamp::from_ms(bucket.saturating_mul(self.query.resolution.ms()));
            serde_json::to_writer(&mut *out, &Bucket { start, aggregate, fields })
                .map_err(|why| Error::Internal(format!("failed to serialize a bucket: {why}")))?;
        }
        self.next_bucket = window.range.end;
        if self.next_bucket == self.query.buckets.end {
            (self.group, self.next_bucket, self.has_items) = (self.group + 1, self.query.buckets.start, false);
            if is_grouped {
                out.extend_from_slice(b"]}");
            }
        }
        Ok(())
    }
}

impl BodySource for BucketsBody {
    fn write_part(&mut self, out: &mut Vec<u8>) -> Result<bool> {
        let readers = self.readers.clone();
        let connection = readers.acquire()?;
        let snapshot = connection.unchecked_transaction()?;
        let started = Instant::now();
        if !self.has_started {
            if self.query.group_by.is_some() && !self.count_values(&snapshot, started)? {
                return Ok(true);
            }
            self.start(&snapshot, out)?;
            self.has_started = true;
        }
        let mut matching = Vec::new();
        self.for_each_series(&snapshot, 0, |series, value| {
            let group = if self.query.group_by.is_some() { self.groups.index_of(value) } else { 0 };
            matching.push(MatchingSeries { group, ..series });
            Ok(true)
        })?;
        let parts_of = |id: i64| {
            let index = matching.binary_search_by_key(&id, |series| series.id).ok()?;
            Some(self.aggregate_parts(matching[index].kind))
        };
        let reader = RollupReader::open(&snapshot, self.query.buckets.start, self.query.resolution, parts_of)?;
        let has_gauge = matching.iter().any(|series| series.kind == Some(MetricKind::Gauge));
        let fields = if has_gauge { self.query.fields } else { self.query.fields.without_last() };
        while self.group < self.groups_count() {
            let window = self.read_window(&reader, &matching)?;
            self.write_window(window, fields, out)?;
            if out.len() >= PART_BYTES || started.elapsed() >= PART_TIME_MAX {
                break;
            }
        }
        if self.group < self.groups_count() {
            return Ok(true);
        }
        out.extend_from_slice(b"]}");
        Ok(false)
    }
}

/// The first buckets of a range, as many as fit into [`WINDOW_BYTES`]. At least one.
struct Window {
    /// The range in which all buckets are in the window. Its end moves down when buckets are left out.
    range: Range<i64>,
    buckets: BTreeMap<i64, Aggregate>,
    size_bytes: usize,
}

impl Window {
    fn new(range: Range<i64>) -> Self {
        Self { range, buckets: BTreeMap::new(), size_bytes: 0 }
    }

    fn add(&mut self, bucket: i64, aggregate: Aggregate) {
        if bucket >= self.range.end {
            return;
        }
        self.size_bytes -= self.buckets.get(&bucket).map_or(0, Aggregate::size_bytes);
        merge_into(&mut self.buckets, bucket, aggregate);
        self.size_bytes += self.buckets.get(&bucket).map_or(0, Aggregate::size_bytes);
        while self.size_bytes > WINDOW_BYTES && self.buckets.len() > 1 {
            if let Some((last, aggregate)) = self.buckets.pop_last() {
                self.size_bytes -= aggregate.size_bytes();
                self.range.end = last;
            }
        }
    }
}
