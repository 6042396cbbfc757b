//! `make bench`: points into the metrics collector against ceilings taken in the same run (an empty handler of the same
//! server, parsing the same JSON, raw SQLite inserts of the same rows); then rollups against a bare SELECT of what they
//! fold, bytes on disk, memory, and the latency of reading.

// A bench prints its figures, and has no public face.
#![allow(clippy::print_stdout, missing_docs, unreachable_pub)]

mod data;
mod figures;
mod load;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use data::{bodies, chance, duration_s};
use figures::Figures;
use load::{
    Ceiling, Client, Folder, Latencies, Process, Round, Until, alone, is_empty_handler, load, median, middle, post,
    raw_sqlite, round_head, round_row,
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
/// Points of which bodies are made beforehand: to make them costs more than to take them in.
const POINTS_MADE: u64 = 20_000;
/// How long a rollup may take to be noticed as done.
const PATIENCE: Duration = Duration::from_secs(30);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

fn main() {
    if is_empty_handler("/api/metrics") {
        return;
    }
    let mut figures = Figures::new("metrics_collector", "Metrics collector", 30);
    figures.note(format!(
        "`SYNCHRONOUS=NORMAL`, points of 3 labels into {SERIES} series over {CONNECTIONS} connections, rollups meanwhile, \
         median of {ROUNDS} rounds."
    ));
    figures.measure(&[
        ("ingest", ingest),
        ("rollup", rollup),
        ("memory", memory),
        ("hour", an_hour),
        ("month", a_month),
    ]);
}

/// Rolls up every second.
fn collector(folder: &Arc<Folder>) -> Process {
    collector_with(folder, &[("AGGREGATION_INTERVAL", "1")])
}

fn collector_with(folder: &Arc<Folder>, settings: &[(&str, &str)]) -> Process {
    // More series of a name than by default, so that 5,000 are told apart.
    let settings = [&[("HOST_METRICS", "0"), ("MAX_SERIES_PER_METRIC", "10000")], settings].concat();
    Process::service(env!("CARGO_BIN_EXE_metrics-collector"), folder, &settings)
}

fn ingest(figures: &mut Figures) {
    let (collector, empty) = (collector(&Folder::new("ingest")), Process::empty_handler());
    for batch in [1, 100, BATCH] {
        let bodies = Arc::new(bodies(POINTS_MADE, SERIES, batch));
        let send = |process: &Process, time| {
            let bodies = Arc::clone(&bodies);
            let next = move |n: u64| post("/api/metrics", &bodies[n as usize % bodies.len()]);
            let round = load(process, CONNECTIONS, Until::Time(time), next);
            Round { per_second: round.per_second * batch as f64, cpu_us: round.cpu_us / batch as f64, ..round }
        };
        let (mut points, mut nothing, mut parsed, mut raw) = (vec![], vec![], vec![], vec![]);
        // In turn, so that a slow moment of the machine falls on all of them.
        for _ in 0..ROUNDS {
            nothing.push(send(&empty, CEILING_ROUND));
            parsed.push(parse(&bodies, batch));
            raw.push(raw_rows(batch as usize * CONNECTIONS));
            points.push(send(&collector, ROUND));
        }
        let ceilings = [
            Ceiling { name: "an empty handler", rounds: &nothing },
            Ceiling { name: "parsing the JSON", rounds: &parsed },
            Ceiling { name: "raw SQLite, same rows", rounds: &raw },
        ];
        round_head(figures, &format!("batches of {batch}"), "points", &ceilings);
        round_row(figures, "points", &points, &ceilings);
        if batch == BATCH {
            let (points, raw) = (median(&points), median(&raw));
            let figure = format!(
                "{:.0} a second, {:.0} a CPU-second, {:.2} of raw SQLite inserts",
                points.per_second,
                1e6 / points.cpu_us,
                raw.cpu_us / points.cpu_us
            );
            figures.summary("Points in batches of 1,000, rollups included", figure);
        }
    }
}

/// A ceiling: serde's own reading of the same JSON into texts that are borrowed from it.
fn parse(bodies: &[String], batch: u64) -> Round {
    #[derive(Deserialize)]
    #[expect(dead_code, reason = "they are read out of the JSON, and that is all")]
    struct Point<'a> {
        name: &'a str,
        r#type: &'a str,
        value: f64,
        timestamp: &'a str,
        #[serde(borrow)]
        labels: BTreeMap<&'a str, &'a str>,
        project: &'a str,
    }
    alone(CEILING_ROUND, batch as usize, |n| {
        let points: Vec<Point<'_>> = serde_json::from_str(&bodies[n as usize % bodies.len()]).expect("points");
        std::hint::black_box(&points);
    })
}

/// The same rows as bare inserts, as many a transaction as all clients send at once.
fn raw_rows(rows_per_commit: usize) -> Round {
    let schema = "PRAGMA synchronous = NORMAL;
                  CREATE TABLE rows (id INTEGER PRIMARY KEY, series_id INTEGER, at INTEGER, value REAL)";
    let insert = "INSERT INTO rows (series_id, at, value) VALUES (?1, ?2, ?3)";
    let now = Timestamp::now().ms();
    raw_sqlite(CEILING_ROUND, rows_per_commit, schema, insert, |row| ((row % SERIES) as i64, now, duration_s(row)))
}

/// The database of a collector that runs, for a look, and for points of any age.
struct Database(Connection);

impl Database {
    fn of(folder: &Folder) -> Self {
        let connection = Connection::open(folder.0.join("data/metrics.db")).expect("the collector's database");
        connection.busy_timeout(PATIENCE).expect("a timeout");
        connection.pragma_update(None, "synchronous", "NORMAL").expect("a setting");
        Self(connection)
    }

    fn number(&self, sql: &str) -> i64 {
        self.0.query_row(sql, [], |row| row.get(0)).expect("a number")
    }

    /// Adds points that are in no tier yet, all at once, as after a time in which rollups had to wait.
    fn add(&self, points: impl Iterator<Item = (i64, Timestamp, f64)>) {
        let sql = "INSERT INTO points (series_id, at, value) VALUES (?1, ?2, ?3)";
        self.0.execute_batch("BEGIN IMMEDIATE").expect("a transaction");
        let mut insert = self.0.prepare(sql).expect("a statement");
        for (series, at, value) in points {
            insert.execute((series, at.ms(), value)).expect("a row");
        }
        self.0.execute_batch("COMMIT").expect("a commit");
    }

    /// Waits until all points are in the tiers.
    fn rolled_up(&self) {
        self.none("SELECT max(id) - (SELECT value FROM totals WHERE name = 'rolled_up') FROM points");
    }

    /// Waits until a query answers 0.
    fn none(&self, sql: &str) {
        let until = Instant::now() + PATIENCE;
        while self.number(sql) > 0 {
            assert!(Instant::now() < until, "this takes too long: {sql}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Adds how much of the file a series' row of a table takes, with its share of the rows of wholes.
    fn bytes_row(&self, figures: &mut Figures, what: &str, table: &str) {
        let bytes = self.number(&format!("SELECT sum(pgsize) FROM dbstat WHERE name = '{table}'")) as f64;
        let rows = self.number(&format!("SELECT count(*) FROM {table} WHERE series_id > 0")) as f64;
        figures.row(what, &[(bytes / rows).into()]);
        figures.ratio(what, "two numbers of 8 bytes", 16.0 * rows / bytes);
    }
}

/// Makes series by sending a point of each, and waits until the collector has nothing left to do.
fn make_series(collector: &Process, database: &Database, bodies: &[String]) {
    let mut client = Client::connect(collector.address);
    for body in bodies {
        assert_eq!(client.send(&post("/api/metrics", body)), 202);
    }
    database.rolled_up();
}

fn rollup(figures: &mut Figures) {
    const POINTS: u64 = 200_000;
    figures.table("rollup of 200,000 points", &["CPU ms", "CPU ms of a bare SELECT", "of the SELECT"]);
    for series in [SERIES, 5_000] {
        let folder = Folder::new("rollup");
        let collector = collector(&folder);
        let database = Database::of(&folder);
        make_series(&collector, &database, &bodies(series, series, BATCH));
        let (mut rollups, mut selects) = (vec![], vec![]);
        for _ in 0..ROUNDS {
            let (mark, now) = (database.number("SELECT max(id) FROM points"), Timestamp::now());
            database.add((0..POINTS).map(|n| {
                let at = now - MINUTE.mul_f64((POINTS - n) as f64 / POINTS as f64);
                ((n % series) as i64 + 1, at, if n.is_multiple_of(2) { 1.0 } else { duration_s(n) })
            }));
            let cpu = collector.cpu();
            database.rolled_up();
            rollups.push((collector.cpu() - cpu).as_secs_f64() * 1e3);
            selects.push(select(&database, mark).cpu_us / 1e3);
        }
        let ratio = middle(rollups.iter().zip(&selects).map(|(rollup, select)| select / rollup).collect());
        let what = format!("in {series} series of one minute");
        figures.row(&what, &[middle(rollups).into(), middle(selects).into(), ratio.into()]);
        let why = "few rounds of 30 ms, which differ by a fifth between runs";
        figures.loose_ratio(&what, "a bare SELECT of them", ratio, why);
    }
}

/// A ceiling: bare reading of the points beyond a number.
fn select(database: &Database, mark: i64) -> Round {
    let sql = "SELECT id, series_id, at, value FROM points WHERE id > ?1 ORDER BY id";
    let mut read = database.0.prepare(sql).expect("a statement");
    alone(Duration::ZERO, 1, |_| {
        let mut rows = read.query([mark]).expect("rows");
        while let Some(row) = rows.next().expect("a row") {
            let values: (i64, i64, i64, f64) = row.try_into().expect("its values");
            std::hint::black_box(values);
        }
    })
}

fn memory(figures: &mut Figures) {
    Process::memory_head(figures);
    let folder = Folder::new("memory");
    let process = collector(&folder);
    let database = Database::of(&folder);
    process.memory_row(figures, "idle");
    let many = bodies(POINTS_MADE, SERIES, BATCH);
    load(&process, CONNECTIONS, Until::Requests(1_000), move |n| post("/api/metrics", &many[n as usize % many.len()]));
    database.rolled_up();
    process.memory_row(figures, "after 1,000,000 points in batches of 1,000");

    let folder = Folder::new("labels");
    let process = collector(&folder);
    let distinct = bodies(100_000, 100_000, BATCH);
    let next = move |n: u64| post("/api/metrics", &distinct[n as usize % distinct.len()]);
    load(&process, CONNECTIONS, Until::Requests(100), next);
    Database::of(&folder).rolled_up();
    process.memory_row(figures, "after 100,000 distinct sets of labels");
    figures.table("on disk, points", &["bytes"]);
    database.bytes_row(figures, "a point as it came", "points");
}

/// Measures how long answers take; `#` in a path stands for hours, up to 30 days of them and others each time.
fn reading(figures: &mut Figures, collector: &Process, title: &str, paths: &[(&str, &str)]) {
    let mut latencies = Latencies::of(figures, collector, title);
    for (what, path) in paths {
        latencies.row(what, |n| path.replace('#', &(30 * 24 - n).to_string()));
    }
}

/// Starts a collector on a database with these series and points, and waits until they are rolled up and what is older
/// than it is kept is gone. From then on points wait for a rollup until there are too many of them.
fn filled(series: &[String], points: impl Iterator<Item = (i64, Timestamp, f64)>) -> (Process, Database) {
    let folder = Folder::new("filled");
    let first = collector(&folder);
    let database = Database::of(&folder);
    make_series(&first, &database, series);
    drop(first);
    database.add(points);
    let collector = collector_with(&folder, &[("AGGREGATION_INTERVAL", "86400")]);
    database.rolled_up();
    let kept = (Timestamp::now() - HOUR + MINUTE).ms();
    database
        .none(&format!("SELECT EXISTS (SELECT 1 FROM points WHERE at < {kept} AND id < (SELECT max(id) FROM points))"));
    database.none("SELECT freelist_count > 256 FROM pragma_freelist_count");
    (collector, database)
}

fn an_hour(figures: &mut Figures) {
    const POINTS: u64 = 200_000;
    // As many as may wait for a rollup, or nearly.
    const FRESH: u64 = 9_500;
    let now = Timestamp::now();
    let point = |n: u64| {
        let at = now - HOUR.mul_f64((POINTS - n) as f64 / POINTS as f64);
        ((n % SERIES) as i64 + 1, at, if n.is_multiple_of(2) { 1.0 } else { duration_s(n) })
    };
    let (collector, database) = filled(&bodies(SERIES, SERIES, BATCH), (0..POINTS - FRESH).map(point));
    database.add((POINTS - FRESH..POINTS).map(point));
    reading(
        figures,
        &collector,
        "200,000 points of an hour, 9,500 not rolled up",
        &[
            ("1h by the minute, counters", "/api/metrics?name=http_requests_total&period=1h"),
            ("1h by the minute, histograms", "/api/metrics?name=http_request_duration_seconds&period=1h"),
            ("the same by endpoint", "/api/metrics?name=http_request_duration_seconds&period=1h&group_by=endpoint"),
            ("names", "/api/metrics/names"),
            ("dashboard, 1h", "/api/dashboard?period=1h"),
            ("dashboard, 24h", "/api/dashboard?period=24h"),
            ("federate", "/federate"),
            ("health", "/health"),
        ],
    );
}

fn a_month(figures: &mut Figures) {
    const VITALS: [(&str, f64); 5] =
        [("lcp", 2_000.0), ("inp", 150.0), ("cls", 0.08), ("fcp", 1_500.0), ("ttfb", 600.0)];
    const PAGES: u64 = 5;
    const ALL: u64 = SERIES + VITALS.len() as u64 * PAGES;
    const PER_HOUR: u64 = 20;
    const PER_MINUTE: u64 = 2;
    let mut series = bodies(SERIES, SERIES, BATCH);
    let vitals = (0..ALL - SERIES).map(|n| {
        let ((vital, typical), page) = (VITALS[n as usize % VITALS.len()], n / VITALS.len() as u64);
        format!(
            r#"{{"name":"web_vitals_{vital}","type":"histogram","value":{typical},"labels":{{"page":"/shop/{page}","source":"browser"}},"project":"shop"}}"#
        )
    });
    series.push(format!("[{}]", vitals.collect::<Vec<_>>().join(",")));
    let now = Timestamp::now();
    let value = move |series: u64, n: u64| match series {
        SERIES.. => VITALS[(series - SERIES) as usize % VITALS.len()].1 * (0.4 + 2.0 * chance(n)),
        even if even % 2 == 0 => 1.0,
        _ => duration_s(n),
    };
    let every = move |span: Duration, of: Duration, count: u64| {
        let buckets = span.as_secs() / of.as_secs();
        (0..buckets * ALL * count).map(move |n| {
            let (series, bucket) = (n / count % ALL, n / count / ALL);
            (series as i64 + 1, now - span - of * bucket as u32, value(series, n))
        })
    };
    let points = every(30 * 24 * HOUR, HOUR, PER_HOUR).chain(every(24 * HOUR, MINUTE, PER_MINUTE));
    let (collector, database) = filled(&series, points);
    reading(
        figures,
        &collector,
        "30 days of 75 series, 25 of web vitals",
        &[
            ("24h by the minute, counters", "/api/metrics?name=http_requests_total&period=24h"),
            ("24h by the minute, histograms", "/api/metrics?name=http_request_duration_seconds&period=24h"),
            ("7d by the hour, histograms", "/api/metrics?name=http_request_duration_seconds&period=7d"),
            ("30d by the hour, counters", "/api/metrics?name=http_requests_total&period=30d"),
            ("30d by the hour, histograms", "/api/metrics?name=http_request_duration_seconds&period=30d"),
            ("the same by endpoint", "/api/metrics?name=http_request_duration_seconds&period=30d&group_by=endpoint"),
            ("names", "/api/metrics/names"),
            ("projects", "/api/projects"),
            ("dashboard, 24h", "/api/dashboard?period=24h"),
            ("dashboard, 30d", "/api/dashboard?period=30d"),
            ("dashboard, 26-30d, the first look of an hour", "/api/dashboard?period=#h"),
            ("federate", "/federate"),
            ("health", "/health"),
        ],
    );
    figures.table("on disk, tiers", &["bytes"]);
    database.bytes_row(figures, "a minute of a series", "minutes");
    database.bytes_row(figures, "an hour of a series", "hours");
}
