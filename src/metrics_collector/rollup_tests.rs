//! Random batches, late points, kills, restarts and clocks that jump, against an oracle that only adds up.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proptest::prelude::*;
use rusqlite::Connection;
use serde_json::json;

use super::super::SCHEMA;
use super::super::api::batch;
use super::super::commands::{Expire, Reader, RollUp};
use super::super::config::{Retention, SeriesCaps};
use super::super::store::{self, Query, Resolution};
use super::super::tally::Tally;
use crate::clock::Timestamp;
use crate::db::{Command, Opened, Settings, Synchronous, open};
use crate::error::{Error, Result};

const HOUR: Duration = Duration::from_secs(3_600);
const RETENTION: Retention =
    Retention { points: HOUR, minutes: HOUR.saturating_mul(24), hours: HOUR.saturating_mul(24 * 30) };
/// 2026-01-31T12:00:00Z
const BEGIN_MS: i64 = 1_769_860_800_000;
const DAY_MS: i64 = 86_400_000;
const AHEAD_MAX_MS: i64 = 600_000;
/// The bound of src/metrics_collector/sketch.rs.
const RELATIVE_ERROR: f64 = 0.0109;
/// A histogram, a counter and a gauge, each with two sets of labels.
const METRICS: [(&str, &str); 3] = [("wait_ms", "histogram"), ("sold", "counter"), ("queue", "gauge")];
const SERIES: usize = 6;

/// One thing that happens.
#[derive(Debug, Clone)]
enum Step {
    /// A batch of points: the series, the value, and what its clock is ahead of ours in ms, where it has one.
    Send(Vec<Sent>),
    /// The same, but the process is killed before COMMIT; nobody was told that it is stored.
    SendAndDie(Vec<Sent>),
    /// The clock moves by so many ms, and rollups run when their time has come.
    Wait(i64),
    /// A rollup whose process is killed before COMMIT.
    RollUpAndDie,
    Restart,
}

type Sent = (usize, i32, Option<i64>);

fn sent() -> impl Strategy<Value = Vec<Sent>> {
    let ahead_ms = prop_oneof![
        4 => Just(None),
        4 => (-90_000..0i64).prop_map(Some),
        3 => (-DAY_MS..AHEAD_MAX_MS).prop_map(Some),
        1 => prop_oneof![-5 * DAY_MS..-DAY_MS, AHEAD_MAX_MS + 1..DAY_MS, Just(-DAY_MS), Just(AHEAD_MAX_MS)].prop_map(Some),
    ];
    proptest::collection::vec((0..SERIES, -20..2_000i32, ahead_ms), 1..40)
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => sent().prop_map(Step::Send),
        1 => sent().prop_map(Step::SendAndDie),
        // Below a second, minutes, hours, backwards, and long enough for everything to go.
        8 => prop_oneof![0..1_000i64, 0..200_000i64, 0..4 * 3_600_000i64, -7_200_000..0i64].prop_map(Step::Wait),
        1 => prop_oneof![Just(2 * DAY_MS), Just(40 * DAY_MS)].prop_map(Step::Wait),
        1 => Just(Step::RollUpAndDie),
        1 => Just(Step::Restart),
    ]
}

/// Applies a command and then dies, as far as the database can tell.
struct Killed<C>(C);

impl<C: Command> Command for Killed<C> {
    type Answer = C::Answer;

    fn apply(self, transaction: &Connection) -> Result<C::Answer> {
        self.0.apply(transaction)?;
        Err(Error::Internal("killed".into()))
    }
}

/// A point as the oracle knows it: series, moment in ms, value.
type Point = (usize, i64, f64);
type Tier = BTreeMap<(usize, i64), Vec<(i64, f64)>>;

/// What must be there, by adding up.
#[derive(Default)]
struct Oracle {
    /// All points that are kept as they came, in the order of their arrival, and how many of them are rolled up.
    points: Vec<(u64, Point)>,
    arrived: u64,
    rolled_up: u64,
    minutes: Tier,
    hours: Tier,
    corrected: i64,
}

impl Oracle {
    fn add(&mut self, sent: &[Sent], now: Timestamp) {
        for (series, value, ahead_ms) in sent {
            let right = ahead_ms.is_none_or(|ahead| (-DAY_MS..=AHEAD_MAX_MS).contains(&ahead));
            self.corrected += i64::from(!right);
            let at = now.ms() + ahead_ms.filter(|_| right).unwrap_or(0);
            self.arrived += 1;
            self.points.push((self.arrived, (*series, at, f64::from(*value))));
        }
    }

    fn roll_up(&mut self) {
        let fresh: Vec<Point> = self.fresh().collect();
        put(&mut self.minutes, fresh.iter().copied(), Resolution::Minute);
        put(&mut self.hours, fresh.into_iter(), Resolution::Hour);
        self.rolled_up = self.arrived;
    }

    fn fresh(&self) -> impl Iterator<Item = Point> {
        self.points.iter().filter(|(number, _)| *number > self.rolled_up).map(|(_, point)| *point)
    }

    fn expire(&mut self, now: Timestamp) {
        let newest = self.arrived;
        let before = now.minus(RETENTION.points).ms();
        let rolled_up = self.rolled_up;
        self.points.retain(|(number, (_, at, _))| *number > rolled_up || *number == newest || *at >= before);
        for (tier, kept, resolution) in [
            (&mut self.minutes, RETENTION.minutes, Resolution::Minute),
            (&mut self.hours, RETENTION.hours, Resolution::Hour),
        ] {
            let first = now.minus(kept).ms().div_euclid(resolution.ms());
            tier.retain(|(_, bucket), _| *bucket >= first);
        }
    }

    fn tier(&self, resolution: Resolution) -> &Tier {
        if resolution == Resolution::Minute { &self.minutes } else { &self.hours }
    }
}

fn put(tier: &mut Tier, points: impl Iterator<Item = Point>, resolution: Resolution) {
    for (series, at, value) in points {
        tier.entry((series, at.div_euclid(resolution.ms()))).or_default().push((at, value));
    }
}

/// A collector's database with a clock of the test's own.
struct World {
    path: PathBuf,
    /// `None` only while it restarts.
    opened: Option<Opened>,
    reader: Arc<Reader>,
    now: Timestamp,
    /// Between two rollups, and how long ago the last one was: this clock never runs backwards.
    every: Duration,
    since_rollup: Duration,
    oracle: Oracle,
}

impl World {
    fn new(every: Duration) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("monlight-rollup-{}-{}.db", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        let (opened, reader) = start(&path);
        let now = Timestamp::from_ms(BEGIN_MS);
        Self { path, opened: Some(opened), reader, now, every, since_rollup: Duration::ZERO, oracle: Oracle::default() }
    }

    fn opened(&self) -> &Opened {
        self.opened.as_ref().unwrap()
    }

    fn restart(&mut self) {
        assert!(self.opened.take().unwrap().writer.stop(Duration::from_secs(10)));
        let (opened, reader) = start(&self.path);
        (self.opened, self.reader) = (Some(opened), reader);
        // As the job does when it starts.
        self.roll_up();
    }

    fn roll_up(&mut self) {
        while self.opened().writer.run(RollUp { now: self.now }).unwrap() {}
        self.oracle.roll_up();
        let expire = || Expire { retention: RETENTION, reader: Arc::clone(&self.reader), now: self.now };
        while self.opened().writer.run(expire()).unwrap() {}
        self.oracle.expire(self.now);
        self.since_rollup = Duration::ZERO;
    }

    fn body(&self, sent: &[Sent]) -> Vec<u8> {
        let item = |(series, value, ahead_ms): &Sent| {
            let (name, kind) = METRICS[series / 2];
            let at = ahead_ms.map(|ahead| time(Timestamp::from_ms(self.now.ms() + ahead)));
            json!({ "name": name, "type": kind, "value": value, "timestamp": at, "labels": { "n": series % 2, "session_id": value } })
        };
        json!(sent.iter().map(item).collect::<Vec<_>>()).to_string().into_bytes()
    }

    fn take(&mut self, step: &Step) {
        let writer = self.opened().writer.clone();
        let add = |world: &Self, sent: &[Sent]| {
            let failures = writer.stats().refused.load(Ordering::Relaxed);
            batch(&world.reader, Arc::new(world.body(sent)), world.now, failures, |_| Ok(())).unwrap()
        };
        match step {
            Step::Send(sent) => {
                writer.run(add(self, sent)).unwrap();
                self.oracle.add(sent, self.now);
            }
            Step::SendAndDie(sent) => {
                assert!(writer.run(Killed(add(self, sent))).is_err());
                self.restart();
            }
            Step::RollUpAndDie => {
                assert!(writer.run(Killed(RollUp { now: self.now })).is_err());
                self.restart();
            }
            Step::Restart => self.restart(),
            Step::Wait(ms) => {
                self.now = Timestamp::from_ms(self.now.ms() + ms);
                self.since_rollup += Duration::from_millis(ms.unsigned_abs());
                if self.since_rollup >= self.every {
                    self.roll_up();
                }
            }
        }
    }

    /// Compares what queries answer, fresh points included, bucket by bucket.
    fn check_answers(&self) {
        let connection = self.opened().readers.lend().unwrap();
        for (resolution, kept) in [(Resolution::Minute, RETENTION.minutes), (Resolution::Hour, RETENTION.hours)] {
            let mut expected = self.oracle.tier(resolution).clone();
            put(&mut expected, self.oracle.fresh(), resolution);
            let since = self.now.minus(kept);
            let first = since.ms().div_euclid(resolution.ms());
            for series in 0..SERIES {
                let query = Query {
                    name: METRICS[series / 2].0.to_owned(),
                    project: None,
                    labels: vec![("n".into(), (series % 2).to_string())],
                    since,
                    resolution,
                    group_by: None,
                };
                let (buckets, _) = store::buckets(&connection, &query).unwrap();
                let answered = serde_json::to_value(&buckets).unwrap();
                let range: Range<(usize, i64)> = (series, first)..(series + 1, i64::MIN);
                let expected: Vec<_> = expected.range(range).collect();
                assert_eq!(buckets.len(), expected.len(), "{answered} for {expected:?}");
                for (answer, ((_, bucket), points)) in answered.as_array().unwrap().iter().zip(expected) {
                    assert_eq!(answer["bucket"], Timestamp::from_ms(bucket * resolution.ms()).to_string());
                    let values: Vec<f64> = points.iter().map(|(_, value)| *value).collect();
                    assert_eq!(answer["count"], values.len(), "{answer}");
                    assert_eq!(answer["sum"], values.iter().sum::<f64>(), "{answer}");
                    let percentiles = ["p50", "p95", "p99"].map(|field| answer[field].as_f64());
                    if series < 2 {
                        close(percentiles, values);
                    } else {
                        assert_eq!(percentiles, [None; 3]);
                    }
                }
            }
        }
    }

    /// Compares the tables themselves once everything is rolled up: every row of every tier, and no other.
    fn check_tables(&self) {
        let connection = self.opened().readers.lend().unwrap();
        let numbers: HashMap<i64, usize> = self.series(&connection);
        for resolution in [Resolution::Minute, Resolution::Hour] {
            let table = if resolution == Resolution::Minute { "minutes" } else { "hours" };
            let sql = format!("SELECT series_id, bucket, {} FROM {table}", store::TALLY_COLUMNS);
            let mut read = connection.prepare(&sql).unwrap();
            let row = |row: &rusqlite::Row<'_>| Ok(((row.get(0)?, row.get(1)?), store::read_tally(row, 2).unwrap()));
            let rows: Vec<((i64, i64), Tally)> = read.query_map([], row).unwrap().map(|row| row.unwrap()).collect();
            let expected = self.oracle.tier(resolution);
            assert_eq!(rows.len(), expected.len(), "{table}");
            for ((id, bucket), tally) in rows {
                let points = &expected[&(numbers[&id], bucket)];
                let sum = points.iter().map(|(_, value)| value).sum::<f64>();
                let last = points.iter().map(|(at, _)| *at).max();
                let of_last: Vec<f64> = points.iter().filter(|(at, _)| Some(*at) == last).map(|(_, v)| *v).collect();
                assert_eq!((tally.count, tally.sum), (points.len() as u64, sum), "{table} {bucket}");
                assert_eq!(tally.min, points.iter().map(|(_, value)| *value).fold(f64::INFINITY, f64::min));
                assert_eq!(tally.max, points.iter().map(|(_, value)| *value).fold(f64::NEG_INFINITY, f64::max));
                assert!(Some(tally.last_at) == last && of_last.contains(&tally.last), "{table} {bucket}: the last");
                assert_eq!(tally.sketch.map(|sketch| sketch.count()), (numbers[&id] < 2).then_some(tally.count));
            }
        }
        let sum: (i64, f64) = connection
            .query_row("SELECT count(*), coalesce(sum(value), 0.0) FROM points", [], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .unwrap();
        let kept = &self.oracle.points;
        assert_eq!(sum, (kept.len() as i64, kept.iter().map(|(_, (_, _, value))| value).sum::<f64>()), "points");
        assert_eq!(store::total(&connection, "clock_corrected").unwrap(), self.oracle.corrected);
    }

    /// Which of the test's series has which number.
    fn series(&self, connection: &Connection) -> HashMap<i64, usize> {
        let mut read = connection.prepare("SELECT id, name, labels FROM series").unwrap();
        let row = |row: &rusqlite::Row<'_>| {
            let (name, labels): (String, String) = (row.get(1)?, row.get(2)?);
            let metric = METRICS.iter().position(|(known, _)| *known == name).unwrap();
            Ok((row.get(0)?, 2 * metric + usize::from(labels == r#"{"n":"1"}"#)))
        };
        read.query_map([], row).unwrap().map(|row| row.unwrap()).collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // A test that failed may leave the writer at work; the files go in any case.
        let _ = self.opened.take().map(|opened| opened.writer.stop(Duration::from_secs(10)));
        for suffix in ["", "-wal", "-shm"] {
            let mut path = self.path.clone().into_os_string();
            path.push(suffix);
            let _ = std::fs::remove_file(path);
        }
    }
}

fn start(path: &std::path::Path) -> (Opened, Arc<Reader>) {
    let synchronous = Synchronous::Normal;
    let settings = Settings { path: path.to_owned(), schema: SCHEMA, synchronous, readers: 1, limit: None };
    let reader = Reader {
        hasher: Default::default(),
        known: Mutex::default(),
        dropped_labels: vec!["session_id".into()],
        caps: SeriesCaps { in_all: 1_000, per_metric: 1_000 },
    };
    (open(&settings).unwrap(), Arc::new(reader))
}

/// RFC 3339 with the fraction that [`Timestamp`]'s own form leaves out.
fn time(at: Timestamp) -> String {
    at.to_string().replace('Z', &format!(".{:03}Z", at.ms().rem_euclid(1_000)))
}

/// That the 50th, 95th and 99th percentile are those by nearest rank, within the sketch's error.
fn close(percentiles: [Option<f64>; 3], mut values: Vec<f64>) {
    values.sort_unstable_by(f64::total_cmp);
    for (percentile, q) in percentiles.into_iter().zip([0.50, 0.95, 0.99]) {
        let rank = (q * values.len() as f64).ceil() as usize;
        let exact = values[rank.clamp(1, values.len()) - 1];
        let found = percentile.unwrap();
        assert!((found - exact).abs() <= RELATIVE_ERROR * exact.abs(), "p{q}: {found} for {exact} of {values:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 48 } else { 256 }))]

    #[test]
    fn each_point_counts_once_in_each_tier(
        every in prop_oneof![Just(1), Just(7), Just(60), Just(3_600)],
        steps in proptest::collection::vec(step(), 1..40),
    ) {
        let mut world = World::new(Duration::from_secs(every));
        for step in &steps {
            world.take(step);
            world.check_answers();
        }
        world.roll_up();
        world.check_tables();
        world.restart();
        world.check_tables();
    }
}
