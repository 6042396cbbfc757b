//! Benchmark of the metrics collector, run by `make bench`: ingestion, rollups, size on disk, memory and query latency.
//!
//! Ingestion is compared with three ceilings of the same run: an empty handler of the same server, parsing the same JSON,
//! and raw SQLite inserts of the same rows. A rollup is compared with a bare SELECT of the points that it aggregates.

// A bench prints its results and is not a public API.
#![allow(clippy::print_stdout, missing_docs, unreachable_pub)]

mod data;
mod figures;
mod load;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use data::{duration_s, metric_batches, pseudo_random};
use figures::Figures;
use load::{
    Ceiling, Client, LatencyTable, Measurement, ServerProcess, StopAfter, TempDir, add_rate_row, begin_rate_table,
    measure_loop, measure_raw_inserts, median, median_measurement, post, run_empty_handler_if_requested, run_load,
};
use monlight::clock::Timestamp;
use rusqlite::Connection;
use serde::Deserialize;

const ROUNDS: usize = 7;
const ROUND: Duration = Duration::from_secs(1);
const CEILING_ROUND: Duration = Duration::from_millis(300);
const CONNECTIONS: usize = 8;
const SERIES: u64 = 50;
const BATCH: u64 = 1_000;
/// Points in the request bodies that are generated before a measurement: generating a body costs more than ingesting it.
const GENERATED_POINTS: u64 = 20_000;
/// Maximum time to wait for a background job of the collector.
const TIMEOUT: Duration = Duration::from_secs(30);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

fn main() {
    if run_empty_handler_if_requested("/api/metrics") {
        return;
    }
    let mut figures = Figures::new("metrics_collector", "Metrics collector", 30);
    figures.add_note(format!(
        "`SYNCHRONOUS=NORMAL`: points with 3 labels into {SERIES} series over {CONNECTIONS} connections, with rollups in \
         the background. Median of {ROUNDS} rounds."
    ));
    figures.run(&[
        ("ingest", measure_ingestion),
        ("rollup", measure_rollup),
        ("memory", measure_memory),
        ("hour", measure_hour_queries),
        ("month", measure_month_queries),
    ]);
}

/// Starts a collector that rolls up every second.
fn start_collector(folder: &Arc<TempDir>) -> ServerProcess {
    start_collector_with(folder, &[("AGGREGATION_INTERVAL", "1")])
}

fn start_collector_with(folder: &Arc<TempDir>, settings: &[(&str, &str)]) -> ServerProcess {
    // The default limit of series per metric is below the 5,000 series that the rollup is measured with.
    let settings = [&[("HOST_METRICS", "0"), ("MAX_SERIES_PER_METRIC", "10000")], settings].concat();
    ServerProcess::spawn_service(env!("CARGO_BIN_EXE_metrics-collector"), folder, &settings)
}

fn measure_ingestion(figures: &mut Figures) {
    let (collector, empty_handler) = (start_collector(&TempDir::new("ingest")), ServerProcess::spawn_empty_handler());
    for batch in [1, 100, BATCH] {
        let bodies = Arc::new(metric_batches(GENERATED_POINTS, SERIES, batch));
        let send = |process: &ServerProcess, time| {
            let bodies = Arc::clone(&bodies);
            let request = move |n: u64| post("/api/metrics", &bodies[n as usize % bodies.len()]);
            let round = run_load(process, CONNECTIONS, StopAfter::Time(time), request);
            Measurement { per_second: round.per_second * batch as f64, cpu_us: round.cpu_us / batch as f64, ..round }
        };
        let (mut points, mut empty, mut parsed, mut raw) = (vec![], vec![], vec![], vec![]);
        // The measurements alternate, so that a slow phase of the machine affects all of them.
        for _ in 0..ROUNDS {
            empty.push(send(&empty_handler, CEILING_ROUND));
            parsed.push(measure_parsing(&bodies, batch));
            raw.push(measure_raw_points(batch as usize * CONNECTIONS));
            points.push(send(&collector, ROUND));
        }
        let ceilings = [
            Ceiling { name: "an empty handler", rounds: &empty },
            Ceiling { name: "parsing the JSON", rounds: &parsed },
            Ceiling { name: "raw SQLite, same rows", rounds: &raw },
        ];
        begin_rate_table(figures, &format!("batches of {batch}"), "points", &ceilings);
        add_rate_row(figures, "points", &points, &ceilings);
        if batch == BATCH {
            let (points, raw) = (median_measurement(&points), median_measurement(&raw));
            let result = format!(
                "{:.0}/s, {:.0} per CPU-second, {:.2} of raw SQLite inserts",
                points.per_second,
                1e6 / points.cpu_us,
                raw.cpu_us / points.cpu_us
            );
            figures.add_summary("Metric points in batches of 1,000, including rollups", result);
        }
    }
}

/// Measures a ceiling: parsing the same JSON with serde into borrowed strings.
fn measure_parsing(bodies: &[String], batch: u64) -> Measurement {
    #[derive(Deserialize)]
    #[expect(dead_code, reason = "the members are only parsed")]
    struct Point<'a> {
        name: &'a str,
        r#type: &'a str,
        value: f64,
        timestamp: &'a str,
        #[serde(borrow)]
        labels: BTreeMap<&'a str, &'a str>,
        project: &'a str,
    }
    measure_loop(CEILING_ROUND, batch as usize, |n| {
        let points: Vec<Point<'_>> = serde_json::from_str(&bodies[n as usize % bodies.len()]).expect("valid points");
        std::hint::black_box(&points);
    })
}

/// Measures the raw inserts of the same rows, with one batch per client in each transaction.
fn measure_raw_points(rows_per_commit: usize) -> Measurement {
    let schema = "PRAGMA synchronous = NORMAL;
                  CREATE TABLE rows (id INTEGER PRIMARY KEY, series_id INTEGER, at INTEGER, value REAL)";
    let insert = "INSERT INTO rows (series_id, at, value) VALUES (?1, ?2, ?3)";
    let now = Timestamp::now().ms();
    let bind = |row| ((row % SERIES) as i64, now, duration_s(row));
    measure_raw_inserts(CEILING_ROUND, rows_per_commit, schema, insert, bind)
}

/// Second connection to the database of a running collector, to observe it and to insert points of any age.
struct Database(Connection);

impl Database {
    fn open(folder: &TempDir) -> Self {
        let connection = Connection::open(folder.path.join("data/metrics.db")).expect("open the collector's database");
        connection.busy_timeout(TIMEOUT).expect("set the busy timeout");
        connection.pragma_update(None, "synchronous", "NORMAL").expect("set synchronous");
        Self(connection)
    }

    fn query_number(&self, sql: &str) -> i64 {
        self.0.query_row(sql, [], |row| row.get(0)).expect("a number")
    }

    /// Inserts raw points in one transaction, like the backlog after an interruption of the rollup job.
    fn insert_points(&self, points: impl Iterator<Item = (i64, Timestamp, f64)>) {
        let sql = "INSERT INTO points (series_id, at_ms, value) VALUES (?1, ?2, ?3)";
        self.0.execute_batch("BEGIN IMMEDIATE").expect("begin a transaction");
        let mut insert = self.0.prepare(sql).expect("prepare the insert");
        for (series, at, value) in points {
            insert.execute((series, at.ms(), value)).expect("insert a point");
        }
        self.0.execute_batch("COMMIT").expect("commit");
    }

    /// Waits until the collector has rolled up all points.
    fn wait_for_rollup(&self) {
        self.wait_for_zero("SELECT max(id) - (SELECT value FROM counters WHERE name = 'rolled_up') FROM points");
    }

    /// Waits until the query returns 0.
    fn wait_for_zero(&self, sql: &str) {
        let deadline = Instant::now() + TIMEOUT;
        while self.query_number(sql) > 0 {
            assert!(Instant::now() < deadline, "not 0 within {TIMEOUT:?}: {sql}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Adds a row with the size on disk of a series' row in a table. The rows that aggregate all series of a metric are
    /// included in the size but not in the number of rows.
    fn add_row_size(&self, figures: &mut Figures, label: &str, table: &str) {
        let metric_table = table.replace("series_", "metric_");
        let tables = format!("name IN ('{table}', '{metric_table}')");
        let bytes = self.query_number(&format!("SELECT sum(pgsize) FROM dbstat WHERE {tables}")) as f64;
        let rows = self.query_number(&format!("SELECT count(*) FROM {table}")) as f64;
        figures.add_row(label, &[(bytes / rows).into()]);
        figures.add_ratio(label, "two 8-byte numbers", 16.0 * rows / bytes);
    }
}

/// Creates series by sending their points, and waits until the collector has rolled them up.
fn create_series(collector: &ServerProcess, database: &Database, bodies: &[String]) {
    let mut client = Client::connect(collector.address);
    for body in bodies {
        assert_eq!(client.send(&post("/api/metrics", body)), 202);
    }
    database.wait_for_rollup();
}

fn measure_rollup(figures: &mut Figures) {
    const POINTS: u64 = 200_000;
    figures.begin_table("rollup of 200,000 points", &["CPU ms", "CPU ms of a bare SELECT", "SELECT ÷ rollup"]);
    for series in [SERIES, 5_000] {
        let folder = TempDir::new("rollup");
        let collector = start_collector(&folder);
        let database = Database::open(&folder);
        create_series(&collector, &database, &metric_batches(series, series, BATCH));
        let (mut rollups, mut selects) = (vec![], vec![]);
        for _ in 0..ROUNDS {
            let (last_id, now) = (database.query_number("SELECT max(id) FROM points"), Timestamp::now());
            database.insert_points((0..POINTS).map(|n| {
                let at = now - MINUTE.mul_f64((POINTS - n) as f64 / POINTS as f64);
                ((n % series) as i64 + 1, at, if n.is_multiple_of(2) { 1.0 } else { duration_s(n) })
            }));
            let cpu = collector.cpu_time();
            database.wait_for_rollup();
            rollups.push((collector.cpu_time() - cpu).as_secs_f64() * 1e3);
            selects.push(measure_select(&database, last_id).cpu_us / 1e3);
        }
        let ratio = median(rollups.iter().zip(&selects).map(|(rollup, select)| select / rollup).collect());
        let label = format!("{series} series, one minute");
        figures.add_row(&label, &[median(rollups).into(), median(selects).into(), ratio.into()]);
        let reason = "a few rounds of 30 ms vary by a fifth between runs";
        figures.add_informational_ratio(&label, "a bare SELECT of the points", ratio, reason);
    }
}

/// Measures a ceiling: reading the points after `last_id` without aggregating them.
fn measure_select(database: &Database, last_id: i64) -> Measurement {
    let sql = "SELECT id, series_id, at_ms, value FROM points WHERE id > ?1 ORDER BY id";
    let mut select = database.0.prepare(sql).expect("prepare the query");
    measure_loop(Duration::ZERO, 1, |_| {
        let mut rows = select.query([last_id]).expect("start the query");
        while let Some(row) = rows.next().expect("read a row") {
            let values: (i64, i64, i64, f64) = row.try_into().expect("the columns of a point");
            std::hint::black_box(values);
        }
    })
}

fn measure_memory(figures: &mut Figures) {
    ServerProcess::memory_table(figures);
    let folder = TempDir::new("memory");
    let process = start_collector(&folder);
    let database = Database::open(&folder);
    process.memory_row(figures, "idle");
    let bodies = metric_batches(GENERATED_POINTS, SERIES, BATCH);
    let request = move |n: u64| post("/api/metrics", &bodies[n as usize % bodies.len()]);
    run_load(&process, CONNECTIONS, StopAfter::Requests(1_000), request);
    database.wait_for_rollup();
    process.memory_row(figures, "after 1,000,000 points in batches of 1,000");

    let folder = TempDir::new("labels");
    let process = start_collector(&folder);
    let bodies = metric_batches(100_000, 100_000, BATCH);
    let request = move |n: u64| post("/api/metrics", &bodies[n as usize % bodies.len()]);
    run_load(&process, CONNECTIONS, StopAfter::Requests(100), request);
    Database::open(&folder).wait_for_rollup();
    process.memory_row(figures, "after 100,000 distinct label sets");
    figures.begin_table("size on disk, raw points", &["bytes"]);
    database.add_row_size(figures, "raw point", "points");
}

/// Measures query latencies. `#` in a path is replaced with a number of hours that starts at 30 days and decreases with
/// each request, so that no two requests are equal.
fn measure_queries(figures: &mut Figures, collector: &ServerProcess, title: &str, queries: &[(&str, &str)]) {
    let mut latencies = LatencyTable::begin(figures, collector, title);
    for (label, path) in queries {
        latencies.measure(label, |n| path.replace('#', &(30 * 24 - n).to_string()));
    }
}

/// Starts a collector with these series and points. Waits until the points are rolled up and the expired ones deleted.
/// The returned collector then rolls up only when its limit of raw points is reached.
fn start_filled_collector(
    series: &[String],
    points: impl Iterator<Item = (i64, Timestamp, f64)>,
) -> (ServerProcess, Database) {
    let folder = TempDir::new("filled");
    let initial = start_collector(&folder);
    let database = Database::open(&folder);
    create_series(&initial, &database, series);
    drop(initial);
    database.insert_points(points);
    let collector = start_collector_with(&folder, &[("AGGREGATION_INTERVAL", "86400")]);
    database.wait_for_rollup();
    let expiry = (Timestamp::now() - (HOUR + MINUTE)).ms();
    database.wait_for_zero(&format!(
        "SELECT EXISTS (SELECT 1 FROM points WHERE at_ms < {expiry} AND id < (SELECT max(id) FROM points))"
    ));
    database.wait_for_zero("SELECT freelist_count > 256 FROM pragma_freelist_count");
    (collector, database)
}

fn measure_hour_queries(figures: &mut Figures) {
    const POINTS: u64 = 200_000;
    // Slightly below the number of raw points that triggers a rollup.
    const RAW_POINTS: u64 = 9_500;
    let now = Timestamp::now();
    let point = |n: u64| {
        let at = now - HOUR.mul_f64((POINTS - n) as f64 / POINTS as f64);
        ((n % SERIES) as i64 + 1, at, if n.is_multiple_of(2) { 1.0 } else { duration_s(n) })
    };
    let series = metric_batches(SERIES, SERIES, BATCH);
    let (collector, database) = start_filled_collector(&series, (0..POINTS - RAW_POINTS).map(point));
    database.insert_points((POINTS - RAW_POINTS..POINTS).map(point));
    measure_queries(
        figures,
        &collector,
        "queries, one hour with 200,000 points, 9,500 not rolled up",
        &[
            ("1h by minute, counters", "/api/metrics?name=http_requests_total&period=1h"),
            ("1h by minute, histograms", "/api/metrics?name=http_request_duration_seconds&period=1h"),
            (
                "1h by minute, histograms by endpoint",
                "/api/metrics?name=http_request_duration_seconds&period=1h&group_by=endpoint",
            ),
            ("names", "/api/metrics/names"),
            ("dashboard, 1h", "/api/dashboard?period=1h"),
            ("dashboard, 24h", "/api/dashboard?period=24h"),
            ("federate", "/federate"),
            ("health", "/health"),
        ],
    );
}

fn measure_month_queries(figures: &mut Figures) {
    const VITALS: [(&str, f64); 5] =
        [("lcp", 2_000.0), ("inp", 150.0), ("cls", 0.08), ("fcp", 1_500.0), ("ttfb", 600.0)];
    const PAGES: u64 = 5;
    const ALL_SERIES: u64 = SERIES + VITALS.len() as u64 * PAGES;
    const POINTS_PER_HOUR: u64 = 20;
    const POINTS_PER_MINUTE: u64 = 2;
    let mut series = metric_batches(SERIES, SERIES, BATCH);
    let vitals = (0..ALL_SERIES - SERIES).map(|n| {
        let ((vital, typical), page) = (VITALS[n as usize % VITALS.len()], n / VITALS.len() as u64);
        format!(
            r#"{{"name":"web_vitals_{vital}","type":"histogram","value":{typical},"labels":{{"page":"/shop/{page}","source":"browser"}},"project":"shop"}}"#
        )
    });
    series.push(format!("[{}]", vitals.collect::<Vec<_>>().join(",")));
    let now = Timestamp::now();
    let value = move |series: u64, n: u64| match series {
        SERIES.. => VITALS[(series - SERIES) as usize % VITALS.len()].1 * (0.4 + 2.0 * pseudo_random(n)),
        even if even % 2 == 0 => 1.0,
        _ => duration_s(n),
    };
    // Points of all series for a span that ends now: `count` points of each series per bucket.
    let points_of_span = move |span: Duration, bucket_width: Duration, count: u64| {
        let buckets = span.as_secs() / bucket_width.as_secs();
        (0..buckets * ALL_SERIES * count).map(move |n| {
            let (series, bucket) = (n / count % ALL_SERIES, n / count / ALL_SERIES);
            (series as i64 + 1, now - (span - bucket_width * bucket as u32), value(series, n))
        })
    };
    let month = points_of_span(30 * 24 * HOUR, HOUR, POINTS_PER_HOUR);
    let points = month.chain(points_of_span(24 * HOUR, MINUTE, POINTS_PER_MINUTE));
    let (collector, database) = start_filled_collector(&series, points);
    measure_queries(
        figures,
        &collector,
        "queries, 30 days of 75 series, 25 of them web vitals",
        &[
            ("24h by minute, counters", "/api/metrics?name=http_requests_total&period=24h"),
            ("24h by minute, histograms", "/api/metrics?name=http_request_duration_seconds&period=24h"),
            ("7d by hour, histograms", "/api/metrics?name=http_request_duration_seconds&period=7d"),
            ("30d by hour, counters", "/api/metrics?name=http_requests_total&period=30d"),
            ("30d by hour, histograms", "/api/metrics?name=http_request_duration_seconds&period=30d"),
            (
                "30d by hour, histograms by endpoint",
                "/api/metrics?name=http_request_duration_seconds&period=30d&group_by=endpoint",
            ),
            ("names", "/api/metrics/names"),
            ("projects", "/api/projects"),
            ("dashboard, 24h", "/api/dashboard?period=24h"),
            ("dashboard, 30d", "/api/dashboard?period=30d"),
            ("dashboard, 26-30d, not cached", "/api/dashboard?period=#h"),
            ("federate", "/federate"),
            ("health", "/health"),
        ],
    );
    figures.begin_table("size on disk, rollups", &["bytes"]);
    database.add_row_size(figures, "one minute of a series", "series_minutes");
    database.add_row_size(figures, "one hour of a series", "series_hours");
}
