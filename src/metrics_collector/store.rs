//! Read queries: buckets of a metric, metric names, labels and projects. Buckets include points that are not rolled up
//! yet, so results are current.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;

use rusqlite::{Connection, Row};
use serde::ser::{Serialize, SerializeMap as _, Serializer};

use super::aggregate::{Aggregate, AggregateParts};
use super::metric_rollup::{self, MetricRollupRows};
use super::resolution::Resolution;
use super::rollup_reader::{RollupReader, merge_into};
use super::rollup_tables::RollupScope;
use crate::clock::Timestamp;
use crate::db::counter;
use crate::error::{Error, Result};
use crate::records::point::MetricKind;

/// Maximum number of groups in a response; further label values are combined in the group `other`.
const GROUPS_MAX: usize = 50;
/// Maximum number of values that are listed per label.
const LABEL_VALUES_MAX: usize = 100;
/// Number of hours for which received points are counted, including the current hour.
pub(super) const RECEIVED_HOURS: i64 = 24;

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
        let Aggregate { count, sum, min, max, last, .. } = &self.aggregate;
        let [p50, p95, p99] = self.aggregate.percentiles();
        let avg = sum / (*count).max(1) as f64;
        let numbers = [Some(*sum), Some(*min), Some(*max), Some(avg), p50, p95, p99, Some(*last)];
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

/// Buckets of the series with one label value.
#[derive(Debug, serde::Serialize)]
pub(super) struct Group {
    value: String,
    data: Vec<Bucket>,
}

/// Series that matches a query, and the group it belongs to.
struct MatchingSeries {
    kind: Option<MetricKind>,
    group: String,
    rollup: Option<MetricRollupRows>,
}

/// Returns the matching series by id. The fixed order keeps sums and last values the same in every response: another
/// order could round sums differently and pick another of two simultaneous last values.
fn matching_series(connection: &Connection, query: &Query) -> Result<BTreeMap<i64, MatchingSeries>> {
    let is_unfiltered = query.labels.is_empty() && query.group_by.is_none();
    let mut read = connection.prepare_cached(
        "SELECT id, labels, type, metric_id, rollup_from_h FROM series_keys
             WHERE name = ?1 AND (?2 IS NULL OR project = ?2)",
    )?;
    let mut rows = read.query((&query.name, &query.project))?;
    let mut found = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let kind = MetricKind::from_name(row.get_ref(2)?.as_str().unwrap_or_default());
        let rollup = if is_unfiltered { MetricRollupRows::read(row, 3)? } else { None };
        let mut series = MatchingSeries { kind, group: String::new(), rollup };
        if !is_unfiltered {
            let labels: BTreeMap<String, String> =
                serde_json::from_str(row.get_ref(1)?.as_str().unwrap_or("{}")).unwrap_or_default();
            if query.labels.iter().any(|(name, value)| labels.get(name) != Some(value)) {
                continue;
            }
            series.group = query.group_by.as_ref().and_then(|label| labels.get(label)).cloned().unwrap_or_default();
        }
        found.insert(row.get(0)?, series);
    }
    Ok(found)
}

/// Returns the merged buckets of all matching series; with `group_by`, the buckets of each group instead.
pub(super) fn buckets(connection: &Connection, query: &Query) -> Result<(Vec<Bucket>, Vec<Group>)> {
    let snapshot = connection.unchecked_transaction()?;
    let matching = matching_series(&snapshot, query)?;
    let aggregate_kind = |kind| {
        if query.fields.has_percentiles() {
            AggregateParts::for_metric(kind, &query.name)
        } else {
            AggregateParts::default()
        }
    };
    let kind_of = |id: i64| matching.get(&id).map(|series| aggregate_kind(series.kind));
    let reader = RollupReader::open(&snapshot, query.buckets.start, query.resolution, kind_of)?;
    let mut groups: HashMap<&str, BTreeMap<i64, Aggregate>> = HashMap::new();
    let mut rollups_read = HashSet::new();
    for (id, series) in &matching {
        let buckets = groups.entry(series.group.as_str()).or_default();
        let kind = aggregate_kind(series.kind);
        let [per_series, per_metric] = metric_rollup::split_range(&query.buckets, series.rollup, query.resolution);
        if let Some(rollup) = series.rollup.filter(|rollup| rollups_read.insert(rollup.metric_id)) {
            reader.for_each_row((RollupScope::Metric, rollup.metric_id), kind, &per_metric, |bucket, aggregate| {
                merge_into(buckets, bucket, aggregate);
            })?;
        }
        reader.for_each_row((RollupScope::Series, *id), kind, &per_series, |bucket, aggregate| {
            merge_into(buckets, bucket, aggregate);
        })?;
        for (bucket, aggregate) in reader.not_rolled_up(*id, &query.buckets) {
            merge_into(buckets, bucket, aggregate.clone());
        }
    }
    groups.retain(|_, buckets| !buckets.is_empty());
    let has_gauge = matching.values().any(|series| series.kind == Some(MetricKind::Gauge));
    let display = |buckets: BTreeMap<i64, Aggregate>| display_buckets(buckets, query, has_gauge);
    if query.group_by.is_none() {
        return Ok((display(groups.into_values().next().unwrap_or_default()), Vec::new()));
    }
    Ok((Vec::new(), largest_groups(groups, display)))
}

/// Returns the groups with the most points, largest first, and combines the rest in the group `other`.
fn largest_groups(
    groups: HashMap<&str, BTreeMap<i64, Aggregate>>,
    display: impl Fn(BTreeMap<i64, Aggregate>) -> Vec<Bucket>,
) -> Vec<Group> {
    let points = |buckets: &BTreeMap<i64, Aggregate>| buckets.values().map(|aggregate| aggregate.count).sum::<u64>();
    let mut sorted: Vec<(&str, BTreeMap<i64, Aggregate>)> = groups.into_iter().collect();
    sorted.sort_by(|(value, buckets), (other_value, other_buckets)| {
        points(other_buckets).cmp(&points(buckets)).then(value.cmp(other_value))
    });
    let rest = sorted.split_off(sorted.len().min(GROUPS_MAX));
    let group = |(value, buckets): (&str, _)| Group { value: value.to_owned(), data: display(buckets) };
    let mut groups: Vec<Group> = sorted.into_iter().map(group).collect();
    if let Some(others) = rest.into_iter().map(|(_, buckets)| buckets).reduce(merge_buckets) {
        groups.push(Group { value: "other".into(), data: display(others) });
    }
    groups
}

fn merge_buckets(mut buckets: BTreeMap<i64, Aggregate>, other: BTreeMap<i64, Aggregate>) -> BTreeMap<i64, Aggregate> {
    for (bucket, aggregate) in other {
        merge_into(&mut buckets, bucket, aggregate);
    }
    buckets
}

fn display_buckets(buckets: BTreeMap<i64, Aggregate>, query: &Query, has_gauge: bool) -> Vec<Bucket> {
    let fields = if has_gauge { query.fields } else { query.fields.without_last() };
    let start = |bucket: i64| Timestamp::from_ms(bucket.saturating_mul(query.resolution.ms()));
    buckets.into_iter().map(|(bucket, aggregate)| Bucket { start: start(bucket), aggregate, fields }).collect()
}

/// Name and type of a metric.
#[derive(Debug, serde::Serialize)]
pub(super) struct Metric {
    name: String,
    r#type: String,
}

/// Label with its first values in alphabetical order.
#[derive(Debug, serde::Serialize)]
pub(super) struct LabelValues {
    name: String,
    values: Vec<String>,
}

/// Returns names and types of the metrics of one project, or of all projects, in alphabetical order.
pub(super) fn metrics(connection: &Connection, project: Option<&str>) -> Result<Vec<Metric>> {
    let mut read = connection.prepare_cached(
        "SELECT DISTINCT name, type FROM series_keys WHERE ?1 IS NULL OR project = ?1 ORDER BY name, type",
    )?;
    let metric = |row: &Row<'_>| Ok(Metric { name: row.get(0)?, r#type: row.get(1)? });
    Ok(read.query_map([project], metric)?.collect::<rusqlite::Result<_>>()?)
}

/// Returns the labels of a metric's series, in alphabetical order.
pub(super) fn labels(connection: &Connection, name: &str, project: Option<&str>) -> Result<Vec<LabelValues>> {
    let mut read = connection.prepare_cached(
        "SELECT DISTINCT label.key, label.value FROM series_keys AS series, json_each(series.labels) AS label
             WHERE name = ?1 AND (?2 IS NULL OR project = ?2) ORDER BY label.key, label.value",
    )?;
    let mut rows = read.query((name, project))?;
    let mut labels: Vec<LabelValues> = Vec::new();
    while let Some(row) = rows.next()? {
        let (name, value): (String, String) = (row.get(0)?, row.get(1)?);
        match labels.last_mut().filter(|label| label.name == name) {
            Some(label) if label.values.len() < LABEL_VALUES_MAX => label.values.push(value),
            Some(_) => {}
            None => labels.push(LabelValues { name, values: vec![value] }),
        }
    }
    Ok(labels)
}

/// Returns the names of all projects, in alphabetical order.
pub(super) fn projects(connection: &Connection) -> Result<Vec<String>> {
    let mut read =
        connection.prepare_cached("SELECT DISTINCT project FROM metrics WHERE project <> '' ORDER BY project")?;
    Ok(read.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?)
}

/// Returns the number of points received in the current hour and the 23 hours before it.
pub(super) fn points_received(connection: &Connection, now: Timestamp) -> Result<i64> {
    let mut read = connection.prepare_cached("SELECT coalesce(sum(points), 0) FROM points_received WHERE at_h > ?1")?;
    Ok(read.query_row([now.hour() - RECEIVED_HOURS], |row| row.get(0))?)
}

/// Returns the number of points that remote write has not sent yet, and the age of the last sent batch in seconds; 0 if
/// no points wait.
pub(super) fn remote_write_lag(connection: &Connection, now: Timestamp) -> Result<(i64, i64)> {
    if counter(connection, "remote_on")? == 0 {
        return Ok((0, 0));
    }
    let newest: Option<i64> = connection.query_row("SELECT max(id) FROM points", [], |row| row.get(0))?;
    let cursor = counter(connection, "remote_cursor")?;
    let waiting = newest.map_or(0, |newest| newest - cursor);
    let sent_at = Timestamp::from_ms(counter(connection, "remote_sample_at_ms")?);
    let lag_s = now.saturating_since(sent_at).as_secs().cast_signed();
    Ok((waiting, if waiting > 0 { lag_s } else { 0 }))
}
