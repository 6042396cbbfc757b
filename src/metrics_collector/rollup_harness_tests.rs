//! Test collector: a database with its own clock, compared with the oracle.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rusqlite::Connection;
use serde_json::json;

use super::SCHEMA;
use super::aggregate::Aggregate;
use super::buckets::{BucketsBody, Coverage, Fields, Query};
use super::cardinality::CardinalityLimits;
use super::commands::{AddPoints, DeleteExpired, RollUp};
use super::metric_rollup::MetricRollupRows;
use super::point_decoder::PointDecoder;
use super::resolution::Resolution;
use super::rollup_oracle_tests::{
    HOUR, LABEL_SETS, METRICS, Oracle, OracleTable, PROJECTS, RETENTION, SERIES, START_MS, SentPoint, Step,
    add_to_table,
};
use super::rollup_tables::{AGGREGATE_COLUMNS, RollupScope, RollupTable, read_aggregate};
use super::sketch::Sketch;
use crate::clock::Timestamp;
use crate::db::{Command, Database, Settings, Synchronous, counter, open};
use crate::error::{Error, Result};
use crate::http::BodySource;
use crate::records::key_kind::KeyKind;

/// Maximum relative error of a percentile; see src/metrics_collector/sketch.rs.
const RELATIVE_ERROR: f64 = 0.0109;

/// Applies a command and then fails, as if the process had been killed before COMMIT.
struct Killed<C>(C);

impl<C: Command> Command for Killed<C> {
    type Output = C::Output;

    fn apply(self, transaction: &Connection) -> Result<C::Output> {
        self.0.apply(transaction)?;
        Err(Error::Internal("killed".into()))
    }
}

/// Executes SQL statements.
pub(super) struct Sql(pub(super) String);

impl Command for Sql {
    type Output = ();

    fn apply(self, transaction: &Connection) -> Result<()> {
        transaction.execute_batch(&self.0)?;
        Ok(())
    }
}

/// Rollups over all series of a metric.
pub(super) struct MetricRollup {
    pub(super) name: String,
    kind: String,
    project: String,
    pub(super) rows: MetricRollupRows,
}

/// Collector's database with a clock that the test controls, and the oracle.
pub(super) struct TestCollector {
    path: PathBuf,
    /// `None` only during a restart.
    database: Option<Database>,
    pub(super) decoder: Arc<PointDecoder>,
    pub(super) now: Timestamp,
    rollup_interval: Duration,
    /// Time since the last rollup, by a clock that never runs backwards.
    since_rollup: Duration,
    pub(super) oracle: Oracle,
}

impl TestCollector {
    pub(super) fn new(rollup_interval: Duration) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("monlight-rollup-{}-{}.db", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        let (database, decoder) = start(&path);
        Self {
            path,
            database: Some(database),
            decoder,
            now: Timestamp::from_ms(START_MS),
            rollup_interval,
            since_rollup: Duration::ZERO,
            oracle: Oracle::default(),
        }
    }

    pub(super) fn database(&self) -> &Database {
        self.database.as_ref().unwrap()
    }

    pub(super) fn restart(&mut self) {
        assert!(self.database.take().unwrap().writer.stop(Duration::from_secs(10)));
        let (database, decoder) = start(&self.path);
        (self.database, self.decoder) = (Some(database), decoder);
        // The rollup job runs at its start.
        self.roll_up();
    }

    /// Rolls up the points and leaves the database as after an import, which creates no metric rollups.
    pub(super) fn roll_up_as_imported(&mut self) {
        self.database().writer.run(RollUp::at(self.now)).unwrap();
        self.oracle.roll_up();
        let sql = "UPDATE metrics SET rollup_from_h = NULL; DELETE FROM metric_minutes; DELETE FROM metric_hours";
        self.database().writer.run(Sql(sql.into())).unwrap();
    }

    pub(super) fn roll_up(&mut self) {
        while self.database().writer.run(RollUp::at(self.now)).unwrap() {}
        self.oracle.roll_up();
        let delete = || DeleteExpired { retention: RETENTION, decoder: Arc::clone(&self.decoder), now: self.now };
        while self.database().writer.run(delete()).unwrap() {}
        self.oracle.expire(self.now);
        self.since_rollup = Duration::ZERO;
    }

    /// Sends two points of each series.
    pub(super) fn send_to_each_series(&mut self) {
        let sent = (0..SERIES).flat_map(|series| [(series, 7 * series as i32, None), (series, 40, Some(-70_000))]);
        self.run(&Step::Send(sent.collect()));
    }

    pub(super) fn metric_rollups(&self) -> Vec<MetricRollup> {
        let connection = self.database().readers.acquire().unwrap();
        let sql = "SELECT m.name, t.name, m.project, m.id, m.rollup_from_h FROM metrics m
                 JOIN metric_types t ON t.id = m.type_id WHERE m.rollup_from_h IS NOT NULL ORDER BY m.name";
        let mut read = connection.prepare(sql).unwrap();
        let rollup = |row: &rusqlite::Row<'_>| {
            let rows = MetricRollupRows::read(row, 3)?.unwrap();
            Ok(MetricRollup { name: row.get(0)?, kind: row.get(1)?, project: row.get(2)?, rows })
        };
        read.query_map([], rollup).unwrap().map(|rollup| rollup.unwrap()).collect()
    }

    pub(super) fn query_number(&self, sql: &str) -> i64 {
        self.database().readers.acquire().unwrap().query_row(sql, [], |row| row.get(0)).unwrap()
    }

    fn body(&self, sent: &[SentPoint]) -> Vec<u8> {
        let item = |(series, value, offset_ms): &SentPoint| {
            let (name, kind) = METRICS[series / LABEL_SETS];
            let at = offset_ms.map(|offset| rfc3339_ms(Timestamp::from_ms(self.now.ms() + offset)));
            let labels = json!({ "n": series % LABEL_SETS, "session_id": value });
            let project = Some(PROJECTS[series % LABEL_SETS]).filter(|project| !project.is_empty());
            json!({ "name": name, "type": kind, "value": value, "timestamp": at, "labels": labels, "project": project })
        };
        json!(sent.iter().map(item).collect::<Vec<_>>()).to_string().into_bytes()
    }

    pub(super) fn run(&mut self, step: &Step) {
        let writer = self.database().writer.clone();
        let add = |collector: &Self, sent: &[SentPoint]| {
            let body = Arc::new(collector.body(sent));
            AddPoints::decode(&collector.decoder, body, collector.now, writer.stats(), KeyKind::Server, |_, _| Ok(()))
                .unwrap()
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
                assert!(writer.run(Killed(RollUp::at(self.now))).is_err());
                self.restart();
            }
            Step::Restart => self.restart(),
            Step::Wait(ms) => {
                self.now = Timestamp::from_ms(self.now.ms() + ms);
                self.since_rollup += Duration::from_millis(ms.unsigned_abs());
                if self.since_rollup >= self.rollup_interval {
                    self.roll_up();
                }
            }
        }
    }

    /// Compares query results with the oracle, bucket by bucket, including points that are not rolled up: for each
    /// series, for the series of a project, and for all series of a metric.
    pub(super) fn check_queries(&self) {
        for metric in 0..METRICS.len() {
            for set in 0..LABEL_SETS {
                self.check_query(metric, &[set], Some(&set.to_string()), None);
            }
            self.check_query(metric, &[0, 1], None, Some(""));
            self.check_query(metric, &[2], None, Some("shop"));
            self.check_query(metric, &[0, 1, 2], None, None);
        }
    }

    pub(super) fn check_query(&self, metric: usize, sets: &[usize], label: Option<&str>, project: Option<&str>) {
        for (resolution, retention) in [(Resolution::Minute, RETENTION.minutes), (Resolution::Hour, RETENTION.hours)] {
            let mut table = self.oracle.table(resolution).clone();
            add_to_table(&mut table, self.oracle.not_rolled_up(), resolution);
            let first = resolution.bucket((self.now - retention).ms());
            let mut expected: BTreeMap<i64, Vec<(i64, f64)>> = BTreeMap::new();
            for ((series, bucket), points) in &table {
                if *bucket >= first && series / LABEL_SETS == metric && sets.contains(&(series % LABEL_SETS)) {
                    expected.entry(*bucket).or_default().extend(points);
                }
            }
            let (name, kind) = METRICS[metric];
            let query = Query {
                name: name.to_owned(),
                kind: None,
                project: project.map(str::to_owned),
                labels: label.map(|value| ("n".to_owned(), value.to_owned())).into_iter().collect(),
                buckets: first..resolution.bucket((self.now + HOUR * 24 * 366).ms()),
                resolution,
                group_by: None,
                fields: Fields::ALL,
                gauge_lifetime: RETENTION.gauges,
                coverage: Coverage { since: self.now, until: self.now, stored_since: None },
            };
            let json = read_json(BucketsBody::new(self.database().readers.clone(), query.clone(), "1h"));
            let buckets = json["data"].as_array().unwrap();
            assert_eq!(buckets.len(), expected.len(), "{query:?}: {json} instead of {expected:?}");
            for (bucket, (number, points)) in buckets.iter().zip(expected) {
                assert_eq!(bucket["bucket"], Timestamp::from_ms(number * resolution.ms()).to_string());
                check_bucket(bucket, kind, &points, &format!("{query:?}"));
                if kind == "gauge" {
                    let series = sets.iter().map(|set| metric * LABEL_SETS + set);
                    let expected = live_last_values(&table, series, number);
                    let (sum, count) = (expected.iter().sum::<f64>(), expected.len() as f64);
                    assert_eq!([&bucket["last"], &bucket["last_avg"]], [sum, sum / count], "{query:?}: {expected:?}");
                }
            }
        }
    }

    /// Compares the tables with the oracle. All points must be rolled up. Every row must be expected, and every expected
    /// row must exist.
    pub(super) fn check_tables(&self) {
        let rollups = self.metric_rollups();
        let connection = self.database().readers.acquire().unwrap();
        let series: HashMap<i64, usize> = self.series_indices(&connection);
        for resolution in [Resolution::Minute, Resolution::Hour] {
            let mut rows = read_rows(&connection, resolution);
            let table = self.oracle.table(resolution);
            for (id, index) in &series {
                for ((_, bucket), points) in table.range((*index, i64::MIN)..(index + 1, i64::MIN)) {
                    check_row(
                        &rows.remove(&(RollupScope::Series, *id, *bucket)).unwrap(),
                        points,
                        METRICS[index / LABEL_SETS].1,
                    );
                }
            }
            for metric in &rollups {
                let mut expected: BTreeMap<i64, Vec<(i64, f64)>> = BTreeMap::new();
                let first = metric.rows.first_bucket(resolution);
                for ((index, bucket), points) in table.iter().filter(|((_, bucket), _)| *bucket >= first) {
                    let (name, project) = (METRICS[index / LABEL_SETS].0, PROJECTS[index % LABEL_SETS]);
                    if name == metric.name && project == metric.project {
                        expected.entry(*bucket).or_default().extend(points);
                    }
                }
                for (bucket, points) in expected {
                    check_row(
                        &rows.remove(&(RollupScope::Metric, metric.rows.metric_id, bucket)).unwrap(),
                        &points,
                        &metric.kind,
                    );
                }
            }
            assert_eq!(rows, BTreeMap::new(), "unexpected rows by {}", resolution.as_str());
        }
        let stored: (i64, f64) = connection
            .query_row("SELECT count(*), coalesce(sum(value), 0.0) FROM points", [], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .unwrap();
        let points = &self.oracle.points;
        let sum = points.iter().map(|(_, (_, _, value))| value).sum::<f64>();
        assert_eq!(stored, (points.len() as i64, sum), "raw points");
        assert_eq!(counter(&connection, "clock_corrected").unwrap(), self.oracle.corrected);
    }

    /// Returns the index of each series by its id.
    fn series_indices(&self, connection: &Connection) -> HashMap<i64, usize> {
        let mut read = connection.prepare("SELECT id, name, labels FROM series_keys").unwrap();
        let row = |row: &rusqlite::Row<'_>| {
            let (name, labels): (String, String) = (row.get(1)?, row.get(2)?);
            let metric = METRICS.iter().position(|(known, _)| *known == name).unwrap();
            let set = (0..LABEL_SETS).find(|set| labels == format!(r#"{{"n":"{set}"}}"#)).unwrap();
            Ok((row.get(0)?, LABEL_SETS * metric + set))
        };
        read.query_map([], row).unwrap().map(|row| row.unwrap()).collect()
    }
}

impl Drop for TestCollector {
    fn drop(&mut self) {
        // After a failed test, the writer may not stop. The files are deleted in any case.
        let _ = self.database.take().map(|database| database.writer.stop(Duration::from_secs(10)));
        for suffix in ["", "-wal", "-shm"] {
            let mut path = self.path.clone().into_os_string();
            path.push(suffix);
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Returns a body that is produced part by part.
pub(super) fn read_json(mut body: impl BodySource) -> serde_json::Value {
    let mut json = Vec::new();
    while body.write_part(&mut json).unwrap() {}
    serde_json::from_slice(&json).unwrap()
}

fn start(path: &Path) -> (Database, Arc<PointDecoder>) {
    let synchronous = Synchronous::Normal;
    let settings = Settings { path: path.to_owned(), schema: SCHEMA, synchronous, readers: 1, limit: None };
    let limits = CardinalityLimits { total: 1_000, per_metric: 1_000 };
    let decoder = PointDecoder::new(vec!["session_id".into()], limits, HOUR * 24);
    (open(&settings).unwrap(), Arc::new(decoder))
}

/// Returns all rows of a resolution by kind, id and bucket.
fn read_rows(connection: &Connection, resolution: Resolution) -> BTreeMap<(RollupScope, i64, i64), Aggregate> {
    let mut rows = BTreeMap::new();
    for scope in [RollupScope::Series, RollupScope::Metric] {
        let RollupTable { name, id, bucket } = RollupTable::new(scope, resolution);
        let mut read = connection.prepare(&format!("SELECT {id}, {bucket}, {AGGREGATE_COLUMNS} FROM {name}")).unwrap();
        let row = |row: &rusqlite::Row<'_>| Ok(((scope, row.get(0)?, row.get(1)?), read_aggregate(row, 2).unwrap()));
        rows.extend(read.query_map([], row).unwrap().map(|row| row.unwrap()));
    }
    rows
}

fn check_bucket(bucket: &serde_json::Value, kind: &str, points: &[(i64, f64)], query: &str) {
    let values: Vec<f64> = points.iter().map(|(_, value)| *value).collect();
    assert_eq!(bucket["count"], values.len(), "{query}: {bucket}");
    assert_eq!(bucket["sum"], values.iter().sum::<f64>(), "{query}: {bucket}");
    assert_eq!([bucket["min"].as_f64(), bucket["max"].as_f64()].map(Option::unwrap), extremes(points));
    assert_eq!(bucket.get("last").is_some(), kind == "gauge");
    let percentiles = ["p50", "p95", "p99"].map(|field| bucket[field].as_f64());
    if kind == "histogram" {
        check_percentiles(percentiles, values);
    } else {
        assert_eq!(percentiles, [None; 3]);
    }
}

/// Returns the last values of the series that are live in a bucket.
fn live_last_values(table: &OracleTable, series: impl Iterator<Item = usize> + Clone, bucket: i64) -> Vec<f64> {
    let points = series.clone().filter_map(|series| table.get(&(series, bucket)));
    let latest = points.flatten().map(|(at, _)| *at).max().unwrap();
    let lifetime_ms = RETENTION.gauges.as_millis() as i64;
    let last = |series: usize| {
        let (_, points) = table.range((series, i64::MIN)..=(series, bucket)).next_back()?;
        // Of points with the same time, the one that arrived last.
        let (at, value) = points.iter().max_by_key(|(at, _)| *at)?;
        (*at >= latest - lifetime_ms).then_some(*value)
    };
    series.filter_map(last).collect()
}

fn check_row(aggregate: &Aggregate, points: &[(i64, f64)], kind: &str) {
    let sum = points.iter().map(|(_, value)| value).sum::<f64>();
    assert_eq!((aggregate.count, aggregate.sum.value()), (points.len() as u64, sum), "{points:?}");
    assert_eq!([aggregate.min, aggregate.max], extremes(points), "{points:?}");
    let (at, values) = last_values(points);
    let Aggregate { last, last_at, .. } = aggregate;
    assert!(*last_at == at && values.contains(last), "{last} is not the last of {points:?}");
    let sketched = aggregate.sketch.as_ref().map(Sketch::count);
    assert_eq!(sketched, (kind == "histogram").then_some(aggregate.count));
}

fn extremes(points: &[(i64, f64)]) -> [f64; 2] {
    let values = || points.iter().map(|(_, value)| *value);
    [values().fold(f64::INFINITY, f64::min), values().fold(f64::NEG_INFINITY, f64::max)]
}

/// Returns the time of the latest point in ms, and the values of all points with this time.
fn last_values(points: &[(i64, f64)]) -> (i64, Vec<f64>) {
    let last = points.iter().map(|(at, _)| *at).max().unwrap();
    (last, points.iter().filter(|(at, _)| *at == last).map(|(_, value)| *value).collect())
}

/// Formats a time as RFC 3339 with milliseconds, which [`Timestamp`] leaves out.
fn rfc3339_ms(at: Timestamp) -> String {
    at.to_string().replace('Z', &format!(".{:03}Z", at.ms().rem_euclid(1_000)))
}

/// Checks that the 50th, 95th and 99th percentile are within the sketch's error of the nearest-rank percentiles.
fn check_percentiles(percentiles: [Option<f64>; 3], mut values: Vec<f64>) {
    values.sort_unstable_by(f64::total_cmp);
    for (percentile, q) in percentiles.into_iter().zip([0.50, 0.95, 0.99]) {
        let rank = (q * values.len() as f64).ceil() as usize;
        let exact = values[rank.clamp(1, values.len()) - 1];
        let estimate = percentile.unwrap();
        let is_close = (estimate - exact).abs() <= RELATIVE_ERROR * exact.abs();
        assert!(is_close, "p{q}: {estimate} instead of {exact} of {values:?}");
    }
}
