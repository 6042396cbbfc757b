//! Every question asked of the metrics collector's database. Points that are in no tier yet are counted in, so an
//! answer is right at any moment.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;

use rusqlite::{Connection, Row};
use serde::ser::{Serialize, SerializeMap as _, Serializer};

use super::commands::{MS_PER_HOUR, MS_PER_MINUTE};
use super::points::Kind;
use super::sketch::Sketch;
use super::tally::{Detail, Tally};
use super::vitals::Shares;
use super::whole::{self, Whole};
use crate::clock::Timestamp;
use crate::error::{Error, Result};

/// Values of a label that are answered apart.
const GROUPS_MAX: usize = 50;
/// Values of a label that are listed.
const LABEL_VALUES_MAX: usize = 100;

/// How wide a bucket is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resolution {
    Minute,
    Hour,
}

impl Resolution {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Minute => "minute",
            Self::Hour => "hour",
        }
    }

    pub(super) fn ms(self) -> i64 {
        match self {
            Self::Minute => MS_PER_MINUTE,
            Self::Hour => MS_PER_HOUR,
        }
    }

    /// The table of its tier.
    pub(super) fn tier(self) -> &'static str {
        match self {
            Self::Minute => "minutes",
            Self::Hour => "hours",
        }
    }
}

/// Which points are wanted.
#[derive(Debug, Clone)]
pub(super) struct Query {
    pub(super) name: String,
    pub(super) project: Option<String>,
    /// Pairs that a series must carry, in any order.
    pub(super) labels: Vec<(String, String)>,
    pub(super) buckets: Range<i64>,
    pub(super) resolution: Resolution,
    /// A label whose values are answered apart.
    pub(super) group_by: Option<String>,
    pub(super) fields: Fields,
}

/// What is answered of a bucket: by their places in [`FIELDS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fields(u16);

/// A bucket's members in the order of the answer. The last is of gauges alone.
const FIELDS: [&str; 9] = ["count", "sum", "min", "max", "avg", "p50", "p95", "p99", "last"];

impl Fields {
    pub(super) const ALL: Self = Self(u16::MAX);

    /// Reads names with commas between them.
    ///
    /// # Errors
    /// [`Error::Invalid`] for one that no bucket has.
    pub(super) fn named(text: &str) -> Result<Self> {
        let place = |name: &str| {
            let place = FIELDS.iter().position(|field| *field == name.trim());
            place.ok_or_else(|| Error::field("fields", format_args!("must be some of {}", FIELDS.join(","))))
        };
        text.split(',').try_fold(Self(0), |fields, name| Ok(Self(fields.0 | 1 << place(name)?)))
    }

    /// Whether distributions are needed: to read and merge them takes most of the time.
    fn has_percentiles(self) -> bool {
        (5..8).any(|place| self.has(place))
    }

    fn without_last(self) -> Self {
        Self(self.0 & !(1 << (FIELDS.len() - 1)))
    }

    fn has(self, place: usize) -> bool {
        self.0 >> place & 1 == 1
    }
}

/// One bucket, as it is answered.
#[derive(Debug)]
pub(super) struct Bucket {
    bucket: Timestamp,
    tally: Tally,
    fields: Fields,
}

impl Serialize for Bucket {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let Tally { count, sum, min, max, last, .. } = &self.tally;
        let [p50, p95, p99] = self.tally.percentiles();
        let avg = sum / (*count).max(1) as f64;
        let numbers = [Some(*sum), Some(*min), Some(*max), Some(avg), p50, p95, p99, Some(*last)];
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("bucket", &self.bucket)?;
        if self.fields.has(0) {
            map.serialize_entry(FIELDS[0], count)?;
        }
        for (place, number) in (1..).zip(&numbers).filter(|(place, _)| self.fields.has(*place)) {
            map.serialize_entry(FIELDS[place], number)?;
        }
        map.end()
    }
}

/// The buckets of one label's value.
#[derive(Debug, serde::Serialize)]
pub(super) struct Group {
    value: String,
    data: Vec<Bucket>,
}

/// One of the numbers in `totals`.
pub(super) fn total(connection: &Connection, name: &str) -> Result<i64> {
    let mut read = connection.prepare_cached("SELECT value FROM totals WHERE name = ?1")?;
    Ok(read.query_row([name], |row| row.get(0))?)
}

/// How many points were received within [`RECEIVED_HOURS`], as it is called among all totals.
pub(super) const RECEIVED: &str = "received";
/// Hours of which the points received are counted, the one that is not over being the last.
pub(super) const RECEIVED_HOURS: i64 = 24;

/// All numbers in `totals`, by name, and [`RECEIVED`].
pub(super) fn totals(connection: &Connection, now: Timestamp) -> Result<HashMap<String, i64>> {
    let mut read = connection.prepare_cached(
        "SELECT name, value FROM totals UNION ALL SELECT ?1, coalesce(sum(points), 0) FROM received WHERE hour > ?2",
    )?;
    let totals = read.query_map((RECEIVED, now.hour() - RECEIVED_HOURS), |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(totals.collect::<rusqlite::Result<_>>()?)
}

/// What [`read_numbers`] reads.
const NUMBER_COLUMNS: &str = "count, sum, min, max, last, last_at";
/// What [`read_tally`] reads.
pub(super) const TALLY_COLUMNS: &str =
    "count, sum, min, max, last, last_at, sketch, p50, p95, p99, good, needs_improvement, poor";

/// A tier's row from its column `count` on.
pub(super) fn read_tally(row: &Row<'_>, from: usize) -> Result<Tally> {
    let sketch = row.get_ref(from + 6)?.as_blob_or_null().ok().flatten().and_then(Sketch::decode);
    let originals = match row.get(from + 7)? {
        Some(p50) => Some(Box::new([p50, row.get(from + 8)?, row.get(from + 9)?])),
        None => None,
    };
    let share = |column| row.get(from + column).map(i64::unsigned_abs);
    let shares = match row.get(from + 10)? {
        Some(good) => {
            let good = i64::unsigned_abs(good);
            Some(Box::new(Shares { good, needs_improvement: share(11)?, poor: share(12)? }))
        }
        None => None,
    };
    Ok(Tally { sketch, originals, shares, ..read_numbers(row, from)? })
}

/// The same without what only histograms have.
fn read_numbers(row: &Row<'_>, from: usize) -> Result<Tally> {
    let count: i64 = row.get(from)?;
    Ok(Tally {
        count: count.unsigned_abs(),
        sum: row.get(from + 1)?,
        min: row.get(from + 2)?,
        max: row.get(from + 3)?,
        last: row.get(from + 4)?,
        last_at: row.get(from + 5)?,
        sketch: None,
        originals: None,
        shares: None,
    })
}

/// A tier from one bucket on, with the points that are in none of its rows yet.
pub(super) struct Tier<'c> {
    connection: &'c Connection,
    resolution: Resolution,
    fresh: BTreeMap<(i64, i64), Tally>,
}

impl<'c> Tier<'c> {
    /// Looks for points that are in no row yet, from the bucket `first` on; `detail` answers `None` for series that are
    /// of no interest. The connection must be in a transaction, so that no point is both in a row and not.
    pub(super) fn open(
        connection: &'c Connection,
        first: i64,
        resolution: Resolution,
        detail: impl Fn(i64) -> Option<Detail>,
    ) -> Result<Self> {
        let mut fresh: BTreeMap<(i64, i64), Tally> = BTreeMap::new();
        let mut read = connection.prepare_cached("SELECT series_id, at, value FROM points WHERE id > ?1")?;
        let mut rows = read.query([total(connection, "rolled_up")?])?;
        while let Some(row) = rows.next()? {
            let (series, at, value): (i64, i64, f64) = (row.get(0)?, row.get(1)?, row.get(2)?);
            let bucket = at.div_euclid(resolution.ms());
            let Some(detail) = detail(series).filter(|_| bucket >= first) else { continue };
            fresh
                .entry((series, bucket))
                .and_modify(|tally| tally.add(value, at, detail))
                .or_insert_with(|| Tally::of(value, at, detail));
        }
        Ok(Self { connection, resolution, fresh })
    }

    /// What is in no row yet of one series, by bucket.
    pub(super) fn fresh(&self, series: i64, buckets: &Range<i64>) -> impl Iterator<Item = (i64, &Tally)> {
        self.fresh.range((series, buckets.start)..(series, buckets.end)).map(|((_, bucket), tally)| (*bucket, tally))
    }

    /// Whether points before a bucket are in no row yet.
    pub(super) fn has_fresh_before(&self, end: i64) -> bool {
        self.fresh.keys().any(|(_, bucket)| *bucket < end)
    }

    /// How wide its buckets are.
    pub(super) fn resolution(&self) -> Resolution {
        self.resolution
    }

    /// The rows of one series, or of a metric's whole, in a range of buckets.
    pub(super) fn rows(
        &self,
        id: i64,
        detail: Detail,
        buckets: &Range<i64>,
        mut put: impl FnMut(i64, Tally),
    ) -> Result<()> {
        if buckets.is_empty() {
            return Ok(());
        }
        // What is not asked for takes half of the time: a month of many series is a lot of rows.
        let all = detail.is_distribution();
        let columns = if all { TALLY_COLUMNS } else { NUMBER_COLUMNS };
        let mut read = self.connection.prepare_cached(&format!(
            "SELECT bucket, {columns} FROM {} WHERE series_id = ?1 AND bucket >= ?2 AND bucket < ?3",
            self.resolution.tier()
        ))?;
        let mut rows = read.query((id, buckets.start, buckets.end))?;
        while let Some(row) = rows.next()? {
            put(row.get(0)?, if all { read_tally(row, 1)? } else { read_numbers(row, 1)? });
        }
        Ok(())
    }
}

/// Adds a tally to those of its key.
pub(super) fn put<K: Ord>(tallies: &mut BTreeMap<K, Tally>, key: K, tally: Tally) {
    match tallies.get_mut(&key) {
        Some(known) => known.merge(&tally),
        None => drop(tallies.insert(key, tally)),
    }
}

/// A series that a query fits, and the group it counts in.
struct Fitting {
    kind: Option<Kind>,
    group: String,
    whole: Option<Whole>,
}

/// In the order of their numbers: any other order would round sums and choose among last values differently each time.
fn fitting(connection: &Connection, query: &Query) -> Result<BTreeMap<i64, Fitting>> {
    let all_together = query.labels.is_empty() && query.group_by.is_none();
    let wholes = if all_together { whole::of_name(connection, &query.name)? } else { HashMap::new() };
    let mut read = connection.prepare_cached(
        "SELECT id, labels, name, type, project FROM series WHERE name = ?1 AND (?2 IS NULL OR project = ?2)",
    )?;
    let mut rows = read.query((&query.name, &query.project))?;
    let mut found = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let metric = whole::Metric::read(row, 2)?;
        let mut fitting =
            Fitting { kind: Kind::named(&metric.kind), group: String::new(), whole: wholes.get(&metric).copied() };
        if !all_together {
            let labels: BTreeMap<String, String> =
                serde_json::from_str(row.get_ref(1)?.as_str().unwrap_or("{}")).unwrap_or_default();
            if query.labels.iter().any(|(name, value)| labels.get(name) != Some(value)) {
                continue;
            }
            fitting.group = query.group_by.as_ref().and_then(|label| labels.get(label)).cloned().unwrap_or_default();
        }
        found.insert(row.get(0)?, fitting);
    }
    Ok(found)
}

/// The buckets of everything a query fits, merged, and for `group_by` those of each value.
pub(super) fn buckets(connection: &Connection, query: &Query) -> Result<(Vec<Bucket>, Vec<Group>)> {
    let snapshot = connection.unchecked_transaction()?;
    let series = fitting(&snapshot, query)?;
    let of_kind = |kind| if query.fields.has_percentiles() { Detail::of(kind, &query.name) } else { Detail::default() };
    let detail = |id: i64| series.get(&id).map(|fitting| of_kind(fitting.kind));
    let tier = Tier::open(&snapshot, query.buckets.start, query.resolution, detail)?;
    let all = query.buckets.clone();
    let mut groups: HashMap<&str, BTreeMap<i64, Tally>> = HashMap::new();
    let mut wholes = HashSet::new();
    for (id, fitting) in &series {
        let buckets = groups.entry(fitting.group.as_str()).or_default();
        let detail = of_kind(fitting.kind);
        let [apart, together] = whole::split(&all, fitting.whole, query.resolution);
        if let Some(whole) = fitting.whole.filter(|whole| wholes.insert(whole.id)) {
            tier.rows(whole.id, detail, &together, |bucket, tally| put(buckets, bucket, tally))?;
        }
        tier.rows(*id, detail, &apart, |bucket, tally| put(buckets, bucket, tally))?;
        tier.fresh(*id, &all).for_each(|(bucket, tally)| put(buckets, bucket, tally.clone()));
    }
    groups.retain(|_, buckets| !buckets.is_empty());
    let gauges = series.values().any(|fitting| fitting.kind == Some(Kind::Gauge));
    let shown = |buckets: BTreeMap<i64, Tally>| show(buckets, query, gauges);
    if query.group_by.is_none() {
        return Ok((shown(groups.into_values().next().unwrap_or_default()), Vec::new()));
    }
    let mut apart: Vec<(&str, BTreeMap<i64, Tally>)> = groups.into_iter().collect();
    let size = |buckets: &BTreeMap<i64, Tally>| buckets.values().map(|tally| tally.count).sum::<u64>();
    apart.sort_by(|(name, one), (other_name, other)| size(other).cmp(&size(one)).then(name.cmp(other_name)));
    let rest = apart.split_off(apart.len().min(GROUPS_MAX));
    let mut groups: Vec<Group> =
        apart.into_iter().map(|(value, buckets)| Group { value: value.to_owned(), data: shown(buckets) }).collect();
    if !rest.is_empty() {
        let others = rest.into_iter().map(|(_, buckets)| buckets).reduce(merged).unwrap_or_default();
        groups.push(Group { value: "other".into(), data: shown(others) });
    }
    Ok((Vec::new(), groups))
}

fn merged(mut one: BTreeMap<i64, Tally>, other: BTreeMap<i64, Tally>) -> BTreeMap<i64, Tally> {
    for (bucket, tally) in other {
        one.entry(bucket).and_modify(|known| known.merge(&tally)).or_insert(tally);
    }
    one
}

fn show(buckets: BTreeMap<i64, Tally>, query: &Query, gauges: bool) -> Vec<Bucket> {
    let fields = if gauges { query.fields } else { query.fields.without_last() };
    let moment = |bucket: i64| Timestamp::from_ms(bucket.saturating_mul(query.resolution.ms()));
    buckets.into_iter().map(|(bucket, tally)| Bucket { bucket: moment(bucket), tally, fields }).collect()
}

/// A metric's name and type.
#[derive(Debug, serde::Serialize)]
pub(super) struct Metric {
    name: String,
    r#type: String,
}

/// A label and the first of its values, in alphabetical order.
#[derive(Debug, serde::Serialize)]
pub(super) struct Label {
    name: String,
    values: Vec<String>,
}

/// The names of all metrics, of one project or of all, in alphabetical order.
pub(super) fn names(connection: &Connection, project: Option<&str>) -> Result<Vec<Metric>> {
    let mut read = connection.prepare_cached(
        "SELECT DISTINCT name, type FROM series WHERE ?1 IS NULL OR project = ?1 ORDER BY name, type",
    )?;
    let metric = |row: &Row<'_>| Ok(Metric { name: row.get(0)?, r#type: row.get(1)? });
    Ok(read.query_map([project], metric)?.collect::<rusqlite::Result<_>>()?)
}

/// The labels that tell the series of a metric apart, in alphabetical order.
pub(super) fn labels(connection: &Connection, name: &str, project: Option<&str>) -> Result<Vec<Label>> {
    let mut read = connection.prepare_cached(
        "SELECT DISTINCT label.key, label.value FROM series, json_each(series.labels) AS label
             WHERE name = ?1 AND (?2 IS NULL OR project = ?2) ORDER BY label.key, label.value",
    )?;
    let mut rows = read.query((name, project))?;
    let mut labels: Vec<Label> = Vec::new();
    while let Some(row) = rows.next()? {
        let (name, value): (String, String) = (row.get(0)?, row.get(1)?);
        match labels.last_mut().filter(|label| label.name == name) {
            Some(label) if label.values.len() < LABEL_VALUES_MAX => label.values.push(value),
            Some(_) => {}
            None => labels.push(Label { name, values: vec![value] }),
        }
    }
    Ok(labels)
}

/// The names of all projects, in alphabetical order.
pub(super) fn projects(connection: &Connection) -> Result<Vec<String>> {
    let mut read =
        connection.prepare_cached("SELECT DISTINCT project FROM series WHERE project <> '' ORDER BY project")?;
    Ok(read.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?)
}
