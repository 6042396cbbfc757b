//! `GET /api/metrics`: the buckets of a metric, merged over its series or by the values of a label, written part by part.
//! Buckets include points that are not rolled up yet, so results are current. A response has the points of one type only: the
//! percentiles of a histogram cannot include the points of a gauge with its name.
//!
//! A part reads as many buckets as fit into a [`Window`], however many series and buckets the metric has. Each bucket is
//! read in one snapshot, so no point in it is counted twice or missed.

mod fields;
mod last_values;
mod point_counts;
mod query;
mod window;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use serde::Serialize;

use super::aggregate::AggregateParts;
use super::metric_rollup::{self, MetricRollupRows};
use super::rollup_reader::RollupReader;
use super::rollup_tables::{RollupScope, RollupTable};
use crate::clock::Timestamp;
use crate::db::ReaderPool;
use crate::error::{Error, Result};
use crate::http::{BodySource, PART_BYTES};
use crate::records::point::MetricKind;
use fields::Bucket;
pub(super) use fields::Fields;
use last_values::LastValues;
use point_counts::PointCounts;
pub(super) use query::{Coverage, Query};
use window::Window;

/// Maximum number of groups in a response; further label values are combined in the group `other`.
const GROUPS_MAX: usize = 50;
/// About the number of rows that are merged at once, so that a part takes a fraction of a second.
const WINDOW_ROWS: i64 = 200_000;
/// Number of buckets that are merged at once, however many series there are.
const WINDOW_BUCKETS_MIN: i64 = 16;
/// Time after which a part ends, also if it is empty, so that the queries of others are served in between.
const PART_TIME_MAX: Duration = Duration::from_millis(100);

/// Series that matches a query, and the index of the group it belongs to.
struct MatchingSeries {
    id: i64,
    kind: MetricKind,
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

/// Members of the response before its lists.
#[derive(Serialize)]
struct Head<'a> {
    name: &'a str,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    other_types: Vec<&'static str>,
    resolution: &'static str,
    period: &'a str,
    since: Timestamp,
    until: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    stored_since: Option<Timestamp>,
}

/// Body of the response.
pub(super) struct BucketsBody {
    readers: ReaderPool,
    query: Query,
    /// The period as the client sent it.
    period: String,
    counts: PointCounts,
    /// Types of the metric whose points are left out.
    other_kinds: Vec<MetricKind>,
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
        Self {
            readers,
            next_bucket: query.buckets.start,
            query,
            period: period.to_owned(),
            counts: PointCounts::default(),
            other_kinds: Vec::new(),
            groups: Groups::default(),
            has_started: false,
            group: 0,
            has_items: false,
        }
    }

    /// Returns the number of lists of buckets in the response.
    fn groups_count(&self) -> usize {
        if self.query.group_by.is_none() { 1 } else { self.groups.values.len() + usize::from(self.groups.has_other) }
    }

    /// Passes the matching series behind an id to `visit`, in the order of their ids, with the value of the label that forms
    /// groups, until it returns `false`. The fixed order keeps last values the same in every response: another order could pick
    /// another of two simultaneous ones.
    fn for_each_series(
        &self,
        snapshot: &Connection,
        after_id: i64,
        mut visit: impl FnMut(MatchingSeries, &str) -> Result<bool>,
    ) -> Result<()> {
        let Query { name, kind, project, labels: filter, group_by, .. } = &self.query;
        let is_unfiltered = filter.is_empty() && group_by.is_none();
        let mut read = snapshot.prepare_cached(
            "SELECT id, labels, type, metric_id, rollup_from_h FROM series_keys
                 WHERE name = ?1 AND (?2 IS NULL OR project = ?2) AND id > ?3 AND (?4 IS NULL OR type = ?4) ORDER BY id",
        )?;
        let mut rows = read.query((name, project, after_id, kind.map(MetricKind::as_str)))?;
        while let Some(row) = rows.next()? {
            let Some(kind) = MetricKind::from_name(row.get_ref(2)?.as_str().unwrap_or_default()) else { continue };
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

    /// Returns the types of the metric that have series.
    fn kinds(&self, snapshot: &Connection) -> Result<Vec<MetricKind>> {
        let mut read = snapshot.prepare_cached(
            "SELECT DISTINCT t.name FROM metrics m JOIN metric_types t ON t.id = m.type_id
                 WHERE m.name = ?1 AND (?2 IS NULL OR m.project = ?2)
                     AND EXISTS (SELECT 1 FROM series WHERE metric_id = m.id) ORDER BY t.id",
        )?;
        let names = read.query_map((&self.query.name, &self.query.project), |row| row.get::<_, String>(0))?;
        let kinds = names.map(|name| name.map(|name| MetricKind::from_name(&name)));
        Ok(kinds.collect::<rusqlite::Result<Vec<_>>>()?.into_iter().flatten().collect())
    }

    /// Selects the type, and counts the points for this and for the groups if necessary, until a part has taken its time.
    /// Returns whether all are counted.
    fn select_kind(&mut self, snapshot: &Connection, started: Instant) -> Result<bool> {
        let kinds = self.kinds(snapshot)?;
        let is_ambiguous = self.query.kind.is_none() && kinds.len() > 1;
        if (is_ambiguous || self.query.group_by.is_some()) && !self.count_points(snapshot, started)? {
            return Ok(false);
        }
        let selected = self.query.kind.or_else(|| self.counts.largest_kind()).or(kinds.last().copied());
        self.other_kinds = kinds.into_iter().filter(|kind| Some(*kind) != selected).collect();
        self.query.kind = selected;
        Ok(true)
    }

    fn aggregate_parts(&self) -> AggregateParts {
        if self.query.fields.has_percentiles() {
            AggregateParts::for_metric(self.query.kind, &self.query.name)
        } else {
            AggregateParts::default()
        }
    }

    /// Counts the points of each type and value, until a part has taken its time. Returns whether all are counted.
    fn count_points(&mut self, snapshot: &Connection, started: Instant) -> Result<bool> {
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
                counts.add(series.kind, value, stored.unsigned_abs() + new);
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
        let mut largest: BTreeSet<(Reverse<u64>, String)> = BTreeSet::new();
        self.for_each_series(snapshot, 0, |series, value| {
            let Some(points) = self.counts.get(series.kind, value) else { return Ok(true) };
            if largest.len() < GROUPS_MAX || largest.last().is_some_and(|last| last.0 >= Reverse(points)) {
                largest.insert((Reverse(points), value.to_owned()));
            }
            if largest.len() > GROUPS_MAX {
                largest.pop_last();
            }
            Ok(true)
        })?;
        let has_other = self.query.kind.is_some_and(|kind| self.counts.values(kind) > largest.len());
        Ok(Groups { values: largest.into_iter().map(|(_, value)| value).collect(), has_other })
    }

    fn start(&mut self, snapshot: &Connection, out: &mut Vec<u8>) -> Result<()> {
        let Query { name, kind, resolution, group_by, coverage, .. } = &self.query;
        let head = Head {
            name,
            kind: kind.map(MetricKind::as_str),
            other_types: self.other_kinds.iter().map(|kind| kind.as_str()).collect(),
            resolution: resolution.as_str(),
            period: &self.period,
            since: coverage.since,
            until: coverage.until,
            stored_since: coverage.stored_since,
        };
        serde_json::to_writer(&mut *out, &head)
            .map_err(|why| Error::Internal(format!("failed to serialize: {why}")))?;
        // The lists continue the object.
        out.pop();
        let lists: &[u8] = if group_by.is_some() { br#","data":[],"groups":["# } else { br#","data":["# };
        out.extend_from_slice(lists);
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
        let (parts, mut rollups_read) = (self.aggregate_parts(), HashSet::new());
        for series in matching.iter().filter(|series| series.group == self.group) {
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

    /// Reads the last values of the current group, if the metric is a gauge and the query has them.
    fn read_last_values(
        &self,
        reader: &RollupReader<'_>,
        matching: &[MatchingSeries],
        window: &Window,
    ) -> Result<BTreeMap<i64, LastValues>> {
        if !self.has_last_values() {
            return Ok(BTreeMap::new());
        }
        let ids = matching.iter().filter(|series| series.group == self.group).map(|series| series.id);
        last_values::read(reader, ids, &window.buckets, self.gauge_lifetime_ms())
    }

    fn has_last_values(&self) -> bool {
        self.query.kind == Some(MetricKind::Gauge) && self.query.fields.has_last()
    }

    fn gauge_lifetime_ms(&self) -> i64 {
        i64::try_from(self.query.gauge_lifetime.as_millis()).unwrap_or(i64::MAX)
    }

    /// Appends the window to the list of the current group. Begins and ends the list where necessary.
    fn write_window(&mut self, window: Window, last: &BTreeMap<i64, LastValues>, out: &mut Vec<u8>) -> Result<()> {
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
            let (last, fields) = (last.get(&bucket).copied(), self.query.fields);
            serde_json::to_writer(&mut *out, &Bucket { start, aggregate, last, fields })
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
            if !self.select_kind(&snapshot, started)? {
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
        let parts_of =
            |id: i64| matching.binary_search_by_key(&id, |series| series.id).is_ok().then(|| self.aggregate_parts());
        let Query { buckets, resolution, .. } = &self.query;
        let before =
            if self.has_last_values() { last_values::buckets_before(*resolution, self.gauge_lifetime_ms()) } else { 0 };
        let reader = RollupReader::open(&snapshot, buckets.start.saturating_sub(before), *resolution, parts_of)?;
        while self.group < self.groups_count() {
            let window = self.read_window(&reader, &matching)?;
            let last = self.read_last_values(&reader, &matching, &window)?;
            self.write_window(window, &last, out)?;
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
