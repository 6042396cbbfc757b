//! Random batches, late points, kills, restarts and clocks that jump, against an oracle that only adds up.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proptest::prelude::*;
use rusqlite::Connection;
use serde_json::json;

use super::super::SCHEMA;
use super::super::api::batch;
use super::super::commands::{Expire, Fold, Reader, RollUp};
use super::super::config::{Retention, SeriesCaps};
use super::super::dashboard::{self, Settled};
use super::super::points::Kind;
use super::super::sketch::Sketch;
use super::super::store::{self, Fields, Query, Resolution};
use super::super::tally::{Detail, Tally};
use super::super::whole::{self, Metric, Whole};
use crate::clock::Timestamp;
use crate::db::{Command, Database, Schema, Settings, Synchronous, open};
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
/// A histogram, a counter and a gauge, each with three sets of labels, the last of which is of a project.
const METRICS: [(&str, &str); 3] = [("wait_ms", "histogram"), ("sold", "counter"), ("queue", "gauge")];
const SETS: usize = 3;
const SERIES: usize = METRICS.len() * SETS;
const PROJECTS: [&str; SETS] = ["", "", "shop"];
/// The schema of a program that knows no wholes.
const OLDER: Schema = Schema { migrations: SCHEMA.migrations.split_at(2).0, ..SCHEMA };

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
    /// A program that knows no wholes runs in between and rolls up.
    RunOlder,
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
        1 => Just(Step::RunOlder),
    ]
}

/// Applies a command and then dies, as far as the database can tell.
struct Killed<C>(C);

impl<C: Command> Command for Killed<C> {
    type Output = C::Output;

    fn apply(self, transaction: &Connection) -> Result<C::Output> {
        self.0.apply(transaction)?;
        Err(Error::Internal("killed".into()))
    }
}

/// A change by hand.
struct Sql(String);

impl Command for Sql {
    type Output = ();

    fn apply(self, transaction: &Connection) -> Result<()> {
        transaction.execute_batch(&self.0)?;
        Ok(())
    }
}

/// The rollup of a program that knows no wholes, as far as the tiers are concerned.
struct RollUpWithoutWholes;

impl Command for RollUpWithoutWholes {
    type Output = ();

    fn apply(self, transaction: &Connection) -> Result<()> {
        let sql = "SELECT p.id, s.id, s.name, s.type, p.at, p.value FROM points p JOIN series s ON s.id = p.series_id
             WHERE p.id > (SELECT value FROM totals WHERE name = 'rolled_up') ORDER BY p.id";
        let mut read = transaction.prepare(sql)?;
        let mut rows = read.query([])?;
        while let Some(row) = rows.next()? {
            let (name, kind, at): (String, String, i64) = (row.get(2)?, row.get(3)?, row.get(4)?);
            let tally = Tally::of(row.get(5)?, at, Detail::of(Kind::named(&kind), &name));
            for (tier, ms) in [("minutes", 60_000), ("hours", 3_600_000)] {
                Fold::into(transaction, tier)?.put(row.get(1)?, at.div_euclid(ms), tally.clone())?;
            }
            transaction.execute("UPDATE totals SET value = ?1 WHERE name = 'rolled_up'", [row.get::<_, i64>(0)?])?;
        }
        Ok(())
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
        let before = (now - RETENTION.points).ms();
        let rolled_up = self.rolled_up;
        self.points.retain(|(number, (_, at, _))| *number > rolled_up || *number == newest || *at >= before);
        for (tier, kept, resolution) in [
            (&mut self.minutes, RETENTION.minutes, Resolution::Minute),
            (&mut self.hours, RETENTION.hours, Resolution::Hour),
        ] {
            let first = (now - kept).ms().div_euclid(resolution.ms());
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
    opened: Option<Database>,
    reader: Arc<Reader>,
    now: Timestamp,
    /// Between two rollups, and how long ago the last one was: this clock never runs backwards.
    every: Duration,
    since_rollup: Duration,
    oracle: Oracle,
}

impl World {
    fn new(every: Duration, schema: Schema) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("monlight-rollup-{}-{}.db", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        let (opened, reader) = start(&path, schema);
        let now = Timestamp::from_ms(BEGIN_MS);
        Self { path, opened: Some(opened), reader, now, every, since_rollup: Duration::ZERO, oracle: Oracle::default() }
    }

    fn opened(&self) -> &Database {
        self.opened.as_ref().unwrap()
    }

    fn restart(&mut self) {
        self.restart_with(SCHEMA);
        // As the job does when it starts.
        self.roll_up();
    }

    fn restart_with(&mut self, schema: Schema) {
        assert!(self.opened.take().unwrap().writer.stop(Duration::from_secs(10)));
        let (opened, reader) = start(&self.path, schema);
        (self.opened, self.reader) = (Some(opened), reader);
    }

    fn run_older(&mut self) {
        self.restart_with(OLDER);
        self.opened().writer.run(RollUpWithoutWholes).unwrap();
        self.oracle.roll_up();
        self.restart_with(SCHEMA);
    }

    fn roll_up(&mut self) {
        while self.opened().writer.run(RollUp { now: self.now }).unwrap() {}
        self.oracle.roll_up();
        let expire = || Expire { retention: RETENTION, reader: Arc::clone(&self.reader), now: self.now };
        while self.opened().writer.run(expire()).unwrap() {}
        self.oracle.expire(self.now);
        self.since_rollup = Duration::ZERO;
    }

    fn send_of_each_series(&mut self) {
        let sent = (0..SERIES).flat_map(|series| [(series, 7 * series as i32, None), (series, 40, Some(-70_000))]);
        self.take(&Step::Send(sent.collect()));
    }

    fn wholes(&self) -> HashMap<Metric, Whole> {
        whole::of_all(&self.opened().readers.acquire().unwrap()).unwrap()
    }

    fn number(&self, sql: &str) -> i64 {
        self.opened().readers.acquire().unwrap().query_row(sql, [], |row| row.get(0)).unwrap()
    }

    fn body(&self, sent: &[Sent]) -> Vec<u8> {
        let item = |(series, value, ahead_ms): &Sent| {
            let (name, kind) = METRICS[series / SETS];
            let at = ahead_ms.map(|ahead| time(Timestamp::from_ms(self.now.ms() + ahead)));
            let labels = json!({ "n": series % SETS, "session_id": value });
            let project = Some(PROJECTS[series % SETS]).filter(|project| !project.is_empty());
            json!({ "name": name, "type": kind, "value": value, "timestamp": at, "labels": labels, "project": project })
        };
        json!(sent.iter().map(item).collect::<Vec<_>>()).to_string().into_bytes()
    }

    fn take(&mut self, step: &Step) {
        let writer = self.opened().writer.clone();
        let add = |world: &Self, sent: &[Sent]| {
            let failures = writer.stats().failed_writes.load(Ordering::Relaxed);
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
            Step::RunOlder => self.run_older(),
            Step::Wait(ms) => {
                self.now = Timestamp::from_ms(self.now.ms() + ms);
                self.since_rollup += Duration::from_millis(ms.unsigned_abs());
                if self.since_rollup >= self.every {
                    self.roll_up();
                }
            }
        }
    }

    /// Compares what queries answer, fresh points included, bucket by bucket: each series, those of a project, and all
    /// of a metric.
    fn check_answers(&self) {
        for metric in 0..METRICS.len() {
            for set in 0..SETS {
                self.check_answer(metric, &[set], Some(&set.to_string()), None);
            }
            self.check_answer(metric, &[0, 1], None, Some(""));
            self.check_answer(metric, &[2], None, Some("shop"));
            self.check_answer(metric, &[0, 1, 2], None, None);
        }
    }

    fn check_answer(&self, metric: usize, sets: &[usize], label: Option<&str>, project: Option<&str>) {
        let connection = self.opened().readers.acquire().unwrap();
        for (resolution, kept) in [(Resolution::Minute, RETENTION.minutes), (Resolution::Hour, RETENTION.hours)] {
            let mut tier = self.oracle.tier(resolution).clone();
            put(&mut tier, self.oracle.fresh(), resolution);
            let first = (self.now - kept).ms().div_euclid(resolution.ms());
            let mut expected: BTreeMap<i64, Vec<(i64, f64)>> = BTreeMap::new();
            for ((series, bucket), points) in &tier {
                if *bucket >= first && series / SETS == metric && sets.contains(&(series % SETS)) {
                    expected.entry(*bucket).or_default().extend(points);
                }
            }
            let (name, kind) = METRICS[metric];
            let labels = label.map(|value| ("n".to_owned(), value.to_owned())).into_iter().collect();
            let (name, project) = (name.to_owned(), project.map(str::to_owned));
            let query = Query {
                name,
                project,
                labels,
                buckets: first..i64::MAX,
                resolution,
                group_by: None,
                fields: Fields::ALL,
            };
            let (buckets, _) = store::buckets(&connection, &query).unwrap();
            let answered = serde_json::to_value(&buckets).unwrap();
            assert_eq!(buckets.len(), expected.len(), "{query:?}: {answered} for {expected:?}");
            for (answer, (bucket, points)) in answered.as_array().unwrap().iter().zip(expected) {
                assert_eq!(answer["bucket"], Timestamp::from_ms(bucket * resolution.ms()).to_string());
                let values: Vec<f64> = points.iter().map(|(_, value)| *value).collect();
                assert_eq!(answer["count"], values.len(), "{query:?}: {answer}");
                assert_eq!(answer["sum"], values.iter().sum::<f64>(), "{query:?}: {answer}");
                assert_eq!([answer["min"].as_f64(), answer["max"].as_f64()].map(Option::unwrap), extremes(&points));
                let last = answer.get("last").map(|last| last.as_f64().unwrap());
                assert_eq!(last.is_some(), kind == "gauge");
                assert!(last.is_none_or(|last| of_last(&points).1.contains(&last)), "{query:?}: {answer}");
                let percentiles = ["p50", "p95", "p99"].map(|field| answer[field].as_f64());
                if kind == "histogram" {
                    close(percentiles, values);
                } else {
                    assert_eq!(percentiles, [None; 3]);
                }
            }
        }
    }

    /// Compares the tables themselves once everything is rolled up: every row of every tier, and no other.
    fn check_tables(&self) {
        let connection = self.opened().readers.acquire().unwrap();
        let numbers: HashMap<i64, usize> = self.series(&connection);
        let wholes = whole::of_all(&connection).unwrap();
        for resolution in [Resolution::Minute, Resolution::Hour] {
            let table = resolution.tier();
            let sql = format!("SELECT series_id, bucket, {} FROM {table}", store::TALLY_COLUMNS);
            let mut read = connection.prepare(&sql).unwrap();
            let row = |row: &rusqlite::Row<'_>| Ok(((row.get(0)?, row.get(1)?), store::read_tally(row, 2).unwrap()));
            let mut rows: BTreeMap<(i64, i64), Tally> =
                read.query_map([], row).unwrap().map(|row| row.unwrap()).collect();
            let tier = self.oracle.tier(resolution);
            for (id, number) in &numbers {
                for ((_, bucket), points) in tier.range((*number, i64::MIN)..(number + 1, i64::MIN)) {
                    check_row(&rows.remove(&(*id, *bucket)).unwrap(), points, METRICS[number / SETS].1);
                }
            }
            for (metric, whole) in &wholes {
                let mut expected: BTreeMap<i64, Vec<(i64, f64)>> = BTreeMap::new();
                for ((number, bucket), points) in
                    tier.iter().filter(|((_, bucket), _)| *bucket >= whole.first(resolution))
                {
                    if METRICS[number / SETS].0 == metric.name && PROJECTS[number % SETS] == metric.project {
                        expected.entry(*bucket).or_default().extend(points);
                    }
                }
                for (bucket, points) in expected {
                    check_row(&rows.remove(&(whole.id, bucket)).unwrap(), &points, &metric.kind);
                }
            }
            assert_eq!(rows, BTreeMap::new(), "{table}");
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
            let set = (0..SETS).find(|set| labels == format!(r#"{{"n":"{set}"}}"#)).unwrap();
            Ok((row.get(0)?, SETS * metric + set))
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

fn start(path: &std::path::Path, schema: Schema) -> (Database, Arc<Reader>) {
    let synchronous = Synchronous::Normal;
    let settings = Settings { path: path.to_owned(), schema, synchronous, readers: 1, limit: None };
    let reader = Reader {
        hasher: Default::default(),
        known: Mutex::default(),
        dropped_labels: vec!["session_id".into()],
        caps: SeriesCaps { in_all: 1_000, per_metric: 1_000 },
        point_age_max: HOUR * 24,
    };
    (open(&settings).unwrap(), Arc::new(reader))
}

fn check_row(tally: &Tally, points: &[(i64, f64)], kind: &str) {
    let sum = points.iter().map(|(_, value)| value).sum::<f64>();
    assert_eq!((tally.count, tally.sum), (points.len() as u64, sum), "{points:?}");
    assert_eq!([tally.min, tally.max], extremes(points), "{points:?}");
    let (at, values) = of_last(points);
    assert!(tally.last_at == at && values.contains(&tally.last), "{} is not the last of {points:?}", tally.last);
    let sketched = tally.sketch.as_ref().map(Sketch::count);
    assert_eq!(sketched, (kind == "histogram").then_some(tally.count));
}

fn extremes(points: &[(i64, f64)]) -> [f64; 2] {
    let values = || points.iter().map(|(_, value)| *value);
    [values().fold(f64::INFINITY, f64::min), values().fold(f64::NEG_INFINITY, f64::max)]
}

/// The moment of the latest point and the values that were measured then.
fn of_last(points: &[(i64, f64)]) -> (i64, Vec<f64>) {
    let last = points.iter().map(|(at, _)| *at).max().unwrap();
    (last, points.iter().filter(|(at, _)| *at == last).map(|(_, value)| *value).collect())
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
        let mut world = World::new(Duration::from_secs(every), SCHEMA);
        for step in &steps {
            world.take(step);
            world.check_answers();
        }
        world.send_of_each_series();
        world.roll_up();
        world.check_tables();
        prop_assert_eq!(world.wholes().len(), METRICS.len(), "those with a second series of the same project");
        world.restart();
        world.check_answers();
        world.check_tables();
    }
}

#[test]
fn what_was_rolled_up_before_there_were_wholes_is_read_of_the_series() {
    let mut world = World::new(HOUR, OLDER);
    for _ in 0..3 {
        world.send_of_each_series();
        world.opened().writer.run(RollUpWithoutWholes).unwrap();
        world.oracle.roll_up();
        world.now = world.now + HOUR;
    }
    world.now = world.now - HOUR;
    world.send_of_each_series();
    world.restart_with(SCHEMA);
    world.check_answers();
    assert!(world.wholes().is_empty());
    world.roll_up();
    world.check_answers();
    world.check_tables();
    let begin = world.now.ms().div_euclid(3_600_000) + 1;
    let firsts: Vec<i64> = world.wholes().values().map(|whole| whole.first(Resolution::Hour)).collect();
    assert_eq!(firsts, [begin; METRICS.len()], "the hour that is not over has rows that are in no whole");
    assert_eq!(world.number("SELECT count(*) FROM hours WHERE series_id < 0"), 0);

    for _ in 0..2 {
        world.now = world.now + HOUR;
        world.send_of_each_series();
        world.roll_up();
        world.check_answers();
        world.check_tables();
    }
    assert_eq!(world.number("SELECT count(*) FROM hours WHERE series_id < 0"), 2 * METRICS.len() as i64);
    // From then on nothing is read of the series, and before it everything.
    for sql in [
        format!("DELETE FROM hours WHERE series_id > 0 AND bucket >= {begin}"),
        format!("DELETE FROM minutes WHERE series_id > 0 AND bucket >= 60 * {begin}"),
    ] {
        world.opened().writer.run(Sql(sql)).unwrap();
    }
    for metric in 0..METRICS.len() {
        world.check_answer(metric, &[0, 1], None, Some(""));
    }
}

#[test]
fn a_whole_begins_with_the_second_series_and_goes_with_the_last() {
    let mut world = World::new(HOUR, SCHEMA);
    world.take(&Step::Send(vec![(0, 5, None), (3, 5, None), (4, 5, None)]));
    world.roll_up();
    let names = |world: &World| {
        let mut names: Vec<String> = world.wholes().into_keys().map(|metric| metric.name).collect();
        names.sort_unstable();
        names
    };
    assert_eq!(names(&world), ["sold"]);
    assert_eq!(world.number("SELECT from_hour FROM metrics"), 0, "nothing was rolled up without it");
    world.take(&Step::Send(vec![(1, 5, None), (2, 5, None)]));
    world.roll_up();
    assert_eq!(names(&world), ["sold", "wait_ms"]);
    world.now = world.now + HOUR * 24 * 40;
    world.roll_up();
    // The newest point stays, and its series with it.
    assert_eq!(world.number("SELECT count(*) FROM series"), 1);
    world.take(&Step::Send(vec![(6, 5, None)]));
    world.roll_up();
    world.roll_up();
    assert_eq!(names(&world), [""; 0]);
    world.send_of_each_series();
    world.roll_up();
    world.check_answers();
    world.check_tables();
}

#[test]
fn a_dashboard_is_the_same_whether_points_are_rolled_up_or_not() {
    let mut world = World::new(HOUR, SCHEMA);
    let mut items = Vec::new();
    for (vital, labels) in [
        ("lcp", json!({ "source": "browser", "page": "/user/1" })),
        ("lcp", json!({ "source": "browser", "page": "/user/2" })),
        ("lcp", json!({ "source": "browser", "page": "/" })),
        ("lcp", json!({ "source": "laboratory", "page": "/" })),
        ("inp", json!({ "source": "browser", "page": "/" })),
        ("inp", json!({ "source": "browser" })),
        ("cls", json!({ "source": "laboratory", "page": "/" })),
        ("cls", json!({ "source": "laboratory", "page": "/user/1" })),
    ] {
        for value in [100 + 90 * items.len(), 7_000 - 11 * items.len()] {
            items.push(
                json!({ "name": format!("web_vitals_{vital}"), "type": "histogram", "value": value, "labels": labels }),
            );
        }
    }
    let dashboards = |world: &World| {
        let connection = world.opened().readers.acquire().unwrap();
        [Resolution::Minute, Resolution::Hour].map(|resolution| {
            let settled = Settled::new(HOUR * 24);
            let buckets = (world.now - HOUR * 24).ms().div_euclid(resolution.ms())..i64::MAX;
            let read = dashboard::read(&connection, &settled, None, buckets, resolution, world.now).unwrap();
            serde_json::to_value(&read).unwrap()
        })
    };
    // The second time there are wholes of the same hour already.
    for _ in 0..2 {
        world.send_of_each_series();
        let body = Arc::new(json!(items).to_string().into_bytes());
        world.opened().writer.run(batch(&world.reader, body, world.now, 0, |_| Ok(())).unwrap()).unwrap();
        let before = dashboards(&world);
        assert_eq!(before[0]["web_vitals"]["by_page"].as_array().unwrap().len(), 2, "{before:?}");
        world.opened().writer.run(RollUp { now: world.now }).unwrap();
        assert_eq!(dashboards(&world), before);
    }
    assert_eq!(world.wholes().len(), METRICS.len() + 3);
}
