//! Benchmark of the log viewer, run by `make bench`: initial ingestion, query latency, live tail latency and idle cost.
//!
//! Ingestion reads half a million lines of Docker's json-file logs into an empty database. It is compared with two
//! ceilings of the same run: parsing the same files, and raw SQLite inserts of the same rows without a search index.

// A bench prints its results and is not a public API.
#![allow(clippy::print_stdout, missing_docs, unreachable_pub)]

mod data;
mod figures;
mod load;

use std::borrow::Cow;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use data::{CONTAINERS, create_container, docker_line, log_entry};
use figures::Figures;
use load::{
    Ceiling, Client, LatencyTable, Measurement, ServerProcess, TempDir, add_rate_row, begin_rate_table, get,
    measure_loop, measure_raw_inserts, median, median_measurement, median_ratio, p50_p99_ms,
};
use monlight::clock::Timestamp;
use rusqlite::Connection;
use serde::Deserialize;

const ROUNDS: usize = 5;
const LINES: u64 = 500_000;
/// Lines in the database that queries and the live tail are measured on.
const STORED_LINES: u64 = 100_000;
/// Rows per transaction, as in the viewer.
const ROWS_PER_COMMIT: usize = 1_000;
const CEILING_ROUND: Duration = Duration::from_secs(1);
/// Time that the viewer waits for a continuation of the last line, in ms.
const CONTINUATION_TIMEOUT_MS: f64 = 120.0;
const TIMEOUT: Duration = Duration::from_secs(120);
/// Time between the timestamps of two lines: 100,000 lines span a day.
const LINE_INTERVAL_NS: u64 = 864_000_000;

fn main() {
    let figures = Figures::new("log_viewer", "Log viewer", 20);
    figures.run(&[
        ("ingestion", measure_ingestion),
        ("reading", measure_queries),
        ("tail", measure_live_tail),
        ("idle", measure_idle),
    ]);
}

/// Starts a viewer that reads the logs in a folder of containers from their beginning.
fn start_viewer(folder: &Arc<TempDir>, sources: &TempDir, settings: &[(&str, &str)]) -> ServerProcess {
    let sources = sources.path.to_string_lossy();
    let settings = [&[("LOG_SOURCES", &*sources), ("TAIL_BUFFER", "1000000000")], settings].concat();
    ServerProcess::spawn_service(env!("CARGO_BIN_EXE_log-viewer"), folder, &settings)
}

/// Returns the timestamp of the `n`-th line as Docker writes it, with nanoseconds.
fn docker_timestamp(start: Timestamp, n: u64) -> String {
    let ns = n * LINE_INTERVAL_NS + n % 1_000_000;
    let seconds = Timestamp::from_ms(start.ms() / 1_000 * 1_000 + (ns / 1_000_000_000 * 1_000) as i64).to_string();
    format!("{}.{:09}Z", seconds.trim_end_matches('Z'), ns % 1_000_000_000)
}

/// Log files of three containers, with the number of their bytes and entries.
struct Logs {
    folder: Arc<TempDir>,
    bytes: u64,
    entries: u64,
}

impl Logs {
    /// Writes `lines` lines whose timestamps end now.
    fn write(lines: u64) -> Self {
        let folder = TempDir::new("containers");
        let start = Timestamp::now() - Duration::from_nanos(lines * LINE_INTERVAL_NS);
        let paths = [0, 1, 2].map(|number| create_container(&folder, number, CONTAINERS[number]));
        let mut files = paths.each_ref().map(|path| BufWriter::new(File::create(path).expect("create a log file")));
        let (mut written, mut entries) = (0, 0);
        while written < lines {
            let at = docker_timestamp(start, written);
            let entry = log_entry(entries, &at);
            for line in &entry.lines {
                let line = docker_line(line, entry.stderr, &at);
                files[entry.container].write_all(line.as_bytes()).expect("write a line");
                written += 1;
            }
            entries += 1;
        }
        files.iter_mut().for_each(|file| file.flush().expect("write the last lines"));
        let bytes = paths.iter().map(|path| path.metadata().expect("the size of a log file").len()).sum();
        Self { folder, bytes, entries }
    }

    fn paths(&self) -> impl Iterator<Item = PathBuf> {
        (0..CONTAINERS.len()).map(|number| create_container(&self.folder, number, CONTAINERS[number]))
    }
}

/// Connection to the database of a running viewer.
struct Database {
    connection: Connection,
    path: PathBuf,
}

impl Database {
    fn open(folder: &TempDir) -> Self {
        let path = folder.path.join("data/logs.db");
        let connection = Connection::open(&path).expect("open the viewer's database");
        connection.busy_timeout(TIMEOUT).expect("set the busy timeout");
        Self { connection, path }
    }

    fn query_number(&self, sql: &str) -> u64 {
        self.connection.query_row(sql, [], |row| row.get::<_, i64>(0)).expect("a number").unsigned_abs()
    }

    /// Waits until the viewer has stored this number of entries.
    fn wait_for_entries(&self, entries: u64) {
        let deadline = Instant::now() + TIMEOUT;
        while self.query_number("SELECT value FROM counters WHERE name = 'ingested'") < entries {
            assert!(Instant::now() < deadline, "the viewer did not store {entries} entries within {TIMEOUT:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Returns the size of the file in bytes, divided by the number of retained entries.
    fn bytes_per_entry(&self) -> f64 {
        let bytes = self.path.metadata().expect("the size of the database").len();
        bytes as f64 / self.query_number("SELECT sum(entries) FROM segments") as f64
    }
}

fn measure_ingestion(figures: &mut Figures) {
    let logs = Logs::write(LINES);
    let mb = logs.bytes as f64 / 1e6;
    figures.add_note(format!(
        "`SYNCHRONOUS=NORMAL`: {LINES} lines of 3 containers, {mb:.0} MB in Docker's json-file format, are read into an \
         empty database and indexed for search; the newest 100,000 are retained. Median of {ROUNDS} rounds."
    ));
    let (mut rounds, mut parsed, mut inserts) = (vec![], vec![], vec![]);
    let (mut peaks, mut disk, mut written) = (vec![], vec![], vec![]);
    let rows = stored_rows();
    // The measurements alternate, so that a slow phase of the machine affects all of them.
    for _ in 0..ROUNDS {
        parsed.push(measure_parsing(&logs));
        inserts.push(measure_row_inserts(&rows));
        let folder = TempDir::new("ingestion");
        let start = Instant::now();
        let process = start_viewer(&folder, &logs.folder, &[]);
        let database = Database::open(&folder);
        // The viewer holds back the last entry of each stream, because more lines may belong to it.
        database.wait_for_entries(logs.entries - 2 * CONTAINERS.len() as u64);
        let (elapsed, cpu) = (start.elapsed(), process.cpu_time());
        let (per_second, cpu_us) = (LINES as f64 / elapsed.as_secs_f64(), cpu.as_secs_f64() * 1e6 / LINES as f64);
        rounds.push(Measurement { per_second, cpu_us, p50_ms: 0.0, p99_ms: 0.0 });
        peaks.push(process.memory_mb("VmHWM:"));
        disk.push(database.bytes_per_entry());
        written.push(process.bytes_written() / logs.bytes as f64);
    }
    let ceilings = [
        Ceiling { name: "parsing the files", rounds: &parsed },
        Ceiling { name: "SQLite without search", rounds: &inserts },
    ];
    begin_rate_table(figures, "initial ingestion", "lines", &ceilings);
    add_rate_row(figures, "lines", &rounds, &ceilings);
    let lines = median_measurement(&rounds);
    figures.add_summary(
        "Log lines read from Docker's json-file logs and indexed for search",
        format!("{:.0}/s, {:.1} µs of CPU time each", lines.per_second, lines.cpu_us),
    );
    figures.begin_table("resources used by the initial ingestion", &["value"]);
    let rate = |rounds: &[Measurement], ceiling: &[Measurement]| {
        median_ratio(rounds, ceiling, |round, ceiling| round.per_second / ceiling.per_second)
    };
    figures.add_row("MB/s", &[(lines.per_second * mb / LINES as f64).into()]);
    for ceiling in &ceilings {
        let ratio = rate(&rounds, ceiling.rounds);
        figures.add_row(&format!("lines/s as a share of {}", ceiling.name), &[ratio.into()]);
        let reason = "the rate depends on the disk; the ratio of CPU time is compared instead";
        figures.add_informational_ratio("lines/s", ceiling.name, ratio, reason);
    }
    let (peak, retained, written) = (median(peaks), median(disk), median(written));
    figures.add_row("peak memory, MB", &[peak.into()]);
    figures.add_ratio("peak memory", "the limit of 30 MB", 30.0 / peak);
    figures.add_row("bytes on disk per retained entry", &[retained.into()]);
    figures.add_ratio("bytes on disk per entry", "its size in Docker's file", mb * 1e6 / LINES as f64 / retained);
    figures.add_row("bytes written per byte read", &[written.into()]);
    figures.add_ratio("bytes written", "bytes read", 1.0 / written);
}

/// Measures a ceiling: parsing the same files with serde into borrowed strings.
fn measure_parsing(logs: &Logs) -> Measurement {
    #[derive(Deserialize)]
    #[expect(dead_code, reason = "the members are only parsed")]
    struct Line<'a> {
        #[serde(borrow)]
        log: Cow<'a, str>,
        stream: &'a str,
        time: &'a str,
    }
    measure_loop(Duration::ZERO, LINES as usize, |_| {
        let mut line = Vec::new();
        for path in logs.paths() {
            let mut file = BufReader::with_capacity(32 * 1024, File::open(path).expect("open a log file"));
            while file.read_until(b'\n', &mut line).expect("read a line") > 0 {
                let parsed: Line<'_> = serde_json::from_slice(&line).expect("a line in Docker's format");
                std::hint::black_box(&parsed);
                line.clear();
            }
        }
    })
}

/// Columns of a stored entry: timestamp, container, stream, level, message.
type Row = (i64, i64, i64, i64, String);

/// Returns rows like those that the viewer stores, as many as it retains.
fn stored_rows() -> Vec<Row> {
    let start = Timestamp::now();
    let row = |n: u64| {
        let entry = log_entry(n, &docker_timestamp(start, n));
        (n as i64, entry.container as i64, i64::from(entry.stderr), 1, entry.lines.join("\n"))
    };
    (0..STORED_LINES).map(row).collect()
}

/// Measures a ceiling: inserts of the same rows into a table without a search index.
fn measure_row_inserts(rows: &[Row]) -> Measurement {
    let schema = "PRAGMA synchronous = NORMAL;
                  CREATE TABLE rows (id INTEGER PRIMARY KEY, arrival INT, at INT, container_id INT, stream INT,
                      level INT, message TEXT)";
    let insert = "INSERT INTO rows (arrival, at, container_id, stream, level, message) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    measure_raw_inserts(CEILING_ROUND, ROWS_PER_COMMIT, schema, insert, |n| {
        let (at, container, stream, level, message) = &rows[n as usize % rows.len()];
        (n as i64, at, container, stream, level, message)
    })
}

/// Starts a viewer and waits until it has stored [`STORED_LINES`] lines, all of which it retains.
fn start_filled_viewer() -> (Logs, Arc<TempDir>, ServerProcess) {
    let (logs, folder) = (Logs::write(STORED_LINES), TempDir::new("filled"));
    let process = start_viewer(&folder, &logs.folder, &[("MAX_ENTRIES", "110000")]);
    Database::open(&folder).wait_for_entries(logs.entries);
    (logs, folder, process)
}

fn measure_queries(figures: &mut Figures) {
    let (logs, folder, process) = start_filled_viewer();
    let id = Database::open(&folder).query_number("SELECT id FROM log_entries ORDER BY id LIMIT 1 OFFSET 50000");
    let context = format!("/api/logs/{id}/context");
    figures.add_note(format!("Queries are measured with {} entries of 3 containers.", logs.entries));
    let mut latencies = LatencyTable::begin(figures, &process, "queries");
    for (label, path) in [
        ("all", "/api/logs"),
        ("level=ERROR", "/api/logs?level=ERROR"),
        ("container", "/api/logs?container=shop-api-1"),
        ("rare word", "/api/logs?search=deadlock"),
        ("common word", "/api/logs?search=order"),
        ("common word and level", "/api/logs?search=order&level=ERROR"),
        ("phrase", "/api/logs?search=%22connection+refused%22"),
        ("prefix", "/api/logs?search=custom*"),
        ("plain search, 10.0.0.1", "/api/logs?search=10.0.0.1"),
        ("offset=5000", "/api/logs?offset=5000"),
        ("last hour", "/api/logs?since=#"),
        ("contains=", "/api/logs?contains=dlock"),
        ("regex=", "/api/logs?regex=dead(lock)%3F"),
        ("histogram", "/api/logs/histogram"),
        ("histogram of a rare word", "/api/logs/histogram?search=deadlock"),
        ("histogram of a common word", "/api/logs/histogram?search=order"),
        ("stats", "/api/logs/stats"),
        ("containers", "/api/logs/containers"),
        ("context", &context),
        ("health", "/health"),
    ] {
        let hour_ago = (Timestamp::now() - Duration::from_secs(3_600)).to_string();
        latencies.measure(label, |_| path.replace('#', &hour_ago));
    }
    latencies.measure_queries(5, "export of all entries", |_| "/api/logs/export".into());
    ServerProcess::memory_table(figures);
    process.memory_row(figures, "after all queries");
}

/// Appends lines to a log file as Docker does.
struct LogWriter(File);

impl LogWriter {
    fn open(path: &Path) -> Self {
        Self(OpenOptions::new().create(true).append(true).open(path).expect("open a log file"))
    }

    /// Appends the lines with a single write.
    fn append(&mut self, lines: impl Iterator<Item = String>) {
        let now = Timestamp::now().to_string();
        let text = lines.fold(String::new(), |mut text, line| {
            let _ = write!(text, "{}", docker_line(&line, false, &now));
            text
        });
        self.0.write_all(text.as_bytes()).expect("append to a log file");
    }
}

fn measure_live_tail(figures: &mut Figures) {
    const APPENDED: u64 = 200;
    const BURST: u64 = 5_000;
    let (logs, _folder, process) = start_filled_viewer();
    let mut writer = LogWriter::open(&logs.paths().next().expect("the path of a log file"));
    let mut client = Client::connect(process.address);
    assert_eq!(client.send_and_read_head(&get("/api/logs/tail")).0, 200);
    let mut wait_for = |text: &str| {
        client.clear_body();
        while !client.body().windows(text.len()).any(|window| window == text.as_bytes()) {
            assert!(client.read_chunk(), "the live tail ended");
        }
    };
    let mut latencies: Vec<Duration> = (0..APPENDED)
        .map(|n| {
            std::thread::sleep(Duration::from_millis(n * 7 % 60));
            let start = Instant::now();
            writer.append([format!("appended {n}.")].into_iter());
            wait_for(&format!("appended {n}."));
            start.elapsed()
        })
        .collect();
    let (p50_ms, p99_ms) = p50_p99_ms(&mut latencies);
    figures.begin_table("live tail, 100,000 entries stored", &["median ms", "p99 ms"]);
    let reference = "the wait for continuation lines";
    figures.add_row("from an appended line to its event", &[p50_ms.into(), p99_ms.into()]);
    figures.add_ratio("from an appended line to its event", reference, CONTINUATION_TIMEOUT_MS / p50_ms);
    let mut bursts: Vec<Duration> = (0..ROUNDS)
        .map(|round| {
            let start = Instant::now();
            writer.append((0..=BURST).map(|n| format!("burst {round} {n}.")));
            wait_for(&format!("burst {round} {}.", BURST - 1));
            start.elapsed()
        })
        .collect();
    let (p50_ms, _) = p50_p99_ms(&mut bursts);
    figures.add_row("from 5,000 appended lines to the last event", &[p50_ms.into(), None.into()]);
    let (ratio, reason) = (CONTINUATION_TIMEOUT_MS / p50_ms, "the median of five bursts is not stable");
    figures.add_informational_ratio("from 5,000 appended lines to the last event", reference, ratio, reason);
}

fn measure_idle(figures: &mut Figures) {
    const DURATION: Duration = Duration::from_secs(6);
    figures.begin_table("idle, no new log lines", &["CPU %", "MB"]);
    for containers in [3, 20, 200] {
        let (sources, folder) = (TempDir::new("idle"), TempDir::new("idle-viewer"));
        for number in 0..containers {
            let path = create_container(&sources, number, &format!("shop-{number}"));
            LogWriter::open(&path).append((0..100).map(|n| format!("line {n} of {number}")));
        }
        let process = start_viewer(&folder, &sources, &[]);
        Database::open(&folder).wait_for_entries(100 * containers as u64);
        std::thread::sleep(Duration::from_secs(1));
        let cpu = process.cpu_time();
        std::thread::sleep(DURATION);
        let percent = (process.cpu_time() - cpu).as_secs_f64() / DURATION.as_secs_f64() * 100.0;
        let (label, mb) = (format!("{containers} containers"), process.memory_mb("VmRSS:"));
        figures.add_row(&label, &[percent.into(), mb.into()]);
        let reason = "a CPU time of a few ms varies between runs";
        figures.add_informational_ratio(&label, "1 % of a CPU", 1.0 / percent, reason);
        figures.add_ratio(&format!("{label}, memory"), "the limit of 30 MB", 30.0 / mb);
    }
}
