//! `make bench`: half a million lines of Docker's into the log viewer from cold, against ceilings taken in the same run
//! (bare SQLite inserts of the same rows without a search index, parsing the same files); then how long questions take,
//! how soon a live tail hears of a line, and what following costs while nothing is logged.

// A bench prints its figures, and has no public face.
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

use data::{CONTAINERS, container, docker_line, said};
use figures::Figures;
use load::{
    Ceiling, Client, Folder, Latencies, Process, Round, alone, get, in_turn, median, middle, middle_and_tail_ms,
    raw_sqlite, round_head, round_row,
};
use monlight::clock::Timestamp;
use rusqlite::Connection;
use serde::Deserialize;

const ROUNDS: usize = 5;
const LINES: u64 = 500_000;
/// Lines that questions are asked of.
const KEPT: u64 = 100_000;
/// As many rows as the viewer gives its writer at once.
const BATCH: usize = 1_000;
const CEILING_ROUND: Duration = Duration::from_secs(1);
/// How long the viewer waits for a line that may belong to the last one.
const MORE_WITHIN_MS: f64 = 120.0;
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two lines: a day of 100,000.
const STEP_NS: u64 = 864_000_000;

fn main() {
    let figures = Figures::new("log_viewer", "Log viewer", 20);
    figures.measure(&[("cold", cold), ("reading", reading), ("tail", tail), ("idle", idle)]);
}

/// Starts a viewer that reads everything there is in a folder of containers.
fn viewer(folder: &Arc<Folder>, sources: &Folder, settings: &[(&str, &str)]) -> Process {
    let sources = sources.0.to_string_lossy();
    let settings = [&[("LOG_SOURCES", &*sources), ("TAIL_BUFFER", "1000000000")], settings].concat();
    Process::service(env!("CARGO_BIN_EXE_log-viewer"), folder, &settings)
}

/// A moment of the bench, with nanoseconds, as Docker writes it.
fn moment(began: Timestamp, n: u64) -> String {
    let ns = n * STEP_NS + n % 1_000_000;
    let whole = Timestamp::from_ms(began.ms() / 1_000 * 1_000 + (ns / 1_000_000_000 * 1_000) as i64).to_string();
    format!("{}.{:09}Z", whole.trim_end_matches('Z'), ns % 1_000_000_000)
}

/// Logs that three containers have written.
struct Logs {
    folder: Arc<Folder>,
    bytes: u64,
    entries: u64,
}

impl Logs {
    /// So many lines, the last of them about now.
    fn of(lines: u64) -> Self {
        let folder = Folder::new("containers");
        let began = Timestamp::now() - Duration::from_nanos(lines * STEP_NS);
        let paths = [0, 1, 2].map(|number| container(&folder, number, CONTAINERS[number]));
        let mut files = paths.each_ref().map(|path| BufWriter::new(File::create(path).expect("a file")));
        let (mut written, mut entries) = (0, 0);
        while written < lines {
            let at = moment(began, written);
            let said = said(entries, &at);
            for line in &said.lines {
                files[said.container].write_all(docker_line(line, said.stderr, &at).as_bytes()).expect("a line");
                written += 1;
            }
            entries += 1;
        }
        files.iter_mut().for_each(|file| file.flush().expect("the rest"));
        let bytes = paths.iter().map(|path| path.metadata().expect("a file").len()).sum();
        Self { folder, bytes, entries }
    }

    fn paths(&self) -> impl Iterator<Item = PathBuf> {
        (0..CONTAINERS.len()).map(|number| container(&self.folder, number, CONTAINERS[number]))
    }
}

/// The database of a viewer that runs.
struct Database {
    connection: Connection,
    path: PathBuf,
}

impl Database {
    fn of(folder: &Folder) -> Self {
        let path = folder.0.join("data/logs.db");
        let connection = Connection::open(&path).expect("the viewer's database");
        connection.busy_timeout(PATIENCE).expect("a timeout");
        Self { connection, path }
    }

    fn number(&self, sql: &str) -> u64 {
        self.connection.query_row(sql, [], |row| row.get::<_, i64>(0)).expect("a number").unsigned_abs()
    }

    /// Waits until so many entries were stored.
    fn stored(&self, entries: u64) {
        let until = Instant::now() + PATIENCE;
        while self.number("SELECT value FROM totals WHERE name = 'arrivals'") < entries {
            assert!(Instant::now() < until, "this takes too long");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Bytes of the file for each entry that is kept.
    fn bytes_per_entry(&self) -> f64 {
        let bytes = self.path.metadata().expect("the file").len();
        bytes as f64 / self.number("SELECT sum(entries) FROM segments") as f64
    }
}

fn cold(figures: &mut Figures) {
    let logs = Logs::of(LINES);
    let mb = logs.bytes as f64 / 1e6;
    figures.note(format!(
        "`SYNCHRONOUS=NORMAL`, {LINES} lines of 3 containers, {mb:.0} MB of Docker's JSON, read from cold and indexed for \
         search, 100,000 of them kept; median of {ROUNDS} rounds."
    ));
    let (mut rounds, mut parsed, mut tables) = (vec![], vec![], vec![]);
    let (mut peaks, mut disk, mut written) = (vec![], vec![], vec![]);
    let rows = rows();
    // In turn, so that a slow moment of the machine falls on all of them.
    for _ in 0..ROUNDS {
        parsed.push(parse(&logs));
        tables.push(table(&rows));
        let folder = Folder::new("cold");
        let began = Instant::now();
        let process = viewer(&folder, &logs.folder, &[]);
        let database = Database::of(&folder);
        // The last of either stream waits for lines that may belong to it.
        database.stored(logs.entries - 2 * CONTAINERS.len() as u64);
        let (took, cpu) = (began.elapsed(), process.cpu());
        let per_second = LINES as f64 / took.as_secs_f64();
        rounds.push(Round { per_second, cpu_us: cpu.as_secs_f64() * 1e6 / LINES as f64, p50_ms: 0.0, p99_ms: 0.0 });
        peaks.push(process.mb("VmHWM:"));
        disk.push(database.bytes_per_entry());
        written.push(process.bytes_written() / logs.bytes as f64);
    }
    let ceilings = [
        Ceiling { name: "parsing the files", rounds: &parsed },
        Ceiling { name: "SQLite without search", rounds: &tables },
    ];
    round_head(figures, "from cold", "lines", &ceilings);
    round_row(figures, "lines", &rounds, &ceilings);
    let lines = median(&rounds);
    figures.summary(
        "Lines of Docker's JSON, read and indexed for search",
        format!("{:.0} a second, {:.1} µs of CPU time each", lines.per_second, lines.cpu_us),
    );
    figures.table("what that takes", &["figure"]);
    let rate = |rounds: &[Round], ceiling: &[Round]| in_turn(rounds, ceiling, |a, b| a.per_second / b.per_second);
    figures.row("MB/s", &[(lines.per_second * mb / LINES as f64).into()]);
    for ceiling in &ceilings {
        let ratio = rate(&rounds, ceiling.rounds);
        figures.row(&format!("lines/s as a part of {}", ceiling.name), &[ratio.into()]);
        figures.loose_ratio("lines/s", ceiling.name, ratio, "it waits for the disk; CPU time is held to");
    }
    let (peak, kept, written) = (middle(peaks), middle(disk), middle(written));
    figures.row("peak of memory, MB", &[peak.into()]);
    figures.ratio("peak of memory", "the limit of 30 MB", 30.0 / peak);
    figures.row("bytes on disk for an entry that is kept", &[kept.into()]);
    figures.ratio("bytes on disk for an entry", "its bytes as Docker writes it", mb * 1e6 / LINES as f64 / kept);
    figures.row("bytes written for a byte read", &[written.into()]);
    figures.ratio("bytes written", "bytes read", 1.0 / written);
}

/// A ceiling: serde's own reading of the same files into texts that are borrowed from them.
fn parse(logs: &Logs) -> Round {
    #[derive(Deserialize)]
    #[expect(dead_code, reason = "they are read out of the JSON, and that is all")]
    struct Line<'a> {
        #[serde(borrow)]
        log: Cow<'a, str>,
        stream: &'a str,
        time: &'a str,
    }
    alone(Duration::ZERO, LINES as usize, |_| {
        let mut line = Vec::new();
        for path in logs.paths() {
            let mut file = BufReader::with_capacity(32 * 1024, File::open(path).expect("a log"));
            while file.read_until(b'\n', &mut line).expect("a line") > 0 {
                let parsed: Line<'_> = serde_json::from_slice(&line).expect("a line of Docker's");
                std::hint::black_box(&parsed);
                line.clear();
            }
        }
    })
}

/// What is stored of an entry.
type Row = (i64, i64, i64, i64, String);

/// Rows as the viewer stores them, as many as it keeps.
fn rows() -> Vec<Row> {
    let began = Timestamp::now();
    let row = |n: u64| {
        let said = said(n, &moment(began, n));
        (n as i64, said.container as i64, i64::from(said.stderr), 1, said.lines.join("\n"))
    };
    (0..KEPT).map(row).collect()
}

/// A ceiling: the same rows as bare inserts into a table that has no search.
fn table(rows: &[Row]) -> Round {
    let schema = "PRAGMA synchronous = NORMAL;
                  CREATE TABLE rows (id INTEGER PRIMARY KEY, arrival INT, at INT, container_id INT, stream INT,
                      level INT, message TEXT)";
    let insert = "INSERT INTO rows (arrival, at, container_id, stream, level, message) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    raw_sqlite(CEILING_ROUND, BATCH, schema, insert, |n| {
        let (at, container, stream, level, message) = &rows[n as usize % rows.len()];
        (n as i64, at, container, stream, level, message)
    })
}

/// A viewer that has read 100,000 lines and keeps them all.
fn filled() -> (Logs, Arc<Folder>, Process) {
    let (logs, folder) = (Logs::of(KEPT), Folder::new("filled"));
    let process = viewer(&folder, &logs.folder, &[("MAX_ENTRIES", "110000")]);
    Database::of(&folder).stored(logs.entries);
    (logs, folder, process)
}

fn reading(figures: &mut Figures) {
    let (logs, folder, process) = filled();
    let id = Database::of(&folder).number("SELECT id FROM log_entries ORDER BY id LIMIT 1 OFFSET 50000");
    let context = format!("/api/logs/{id}/context");
    figures.note(format!("Questions are asked of {} entries of 3 containers.", logs.entries));
    let mut latencies = Latencies::of(figures, &process, "reading");
    for (what, path) in [
        ("all", "/api/logs"),
        ("level=ERROR", "/api/logs?level=ERROR"),
        ("container", "/api/logs?container=shop-api-1"),
        ("a rare word", "/api/logs?search=deadlock"),
        ("a common word", "/api/logs?search=order"),
        ("a common word and a level", "/api/logs?search=order&level=ERROR"),
        ("a phrase", "/api/logs?search=%22connection+refused%22"),
        ("a prefix", "/api/logs?search=custom*"),
        ("a plain search, 10.0.0.1", "/api/logs?search=10.0.0.1"),
        ("offset=5000", "/api/logs?offset=5000"),
        ("the last hour", "/api/logs?since=#"),
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
        latencies.row(what, |_| path.replace('#', &hour_ago));
    }
    latencies.row_of(5, "export of everything", |_| "/api/logs/export".into());
    Process::memory_head(figures);
    process.memory_row(figures, "after all of these");
}

/// Appends to a log as Docker does.
struct Writer(File);

impl Writer {
    fn of(path: &Path) -> Self {
        Self(OpenOptions::new().create(true).append(true).open(path).expect("a log"))
    }

    /// Writes these lines at once.
    fn write(&mut self, lines: impl Iterator<Item = String>) {
        let now = Timestamp::now().to_string();
        let text = lines.fold(String::new(), |mut text, line| {
            let _ = write!(text, "{}", docker_line(&line, false, &now));
            text
        });
        self.0.write_all(text.as_bytes()).expect("it can be written");
    }
}

fn tail(figures: &mut Figures) {
    const APPENDED: u64 = 200;
    const BURST: u64 = 5_000;
    let (logs, _folder, process) = filled();
    let mut writer = Writer::of(&logs.paths().next().expect("a log"));
    let mut client = Client::connect(process.address);
    assert_eq!(client.begin(&get("/api/logs/tail")).0, 200);
    let mut wait_for = |text: &str| {
        client.clear();
        while !client.body().windows(text.len()).any(|found| found == text.as_bytes()) {
            assert!(client.chunk(), "the tail ended");
        }
    };
    let mut took: Vec<Duration> = (0..APPENDED)
        .map(|n| {
            std::thread::sleep(Duration::from_millis(n * 7 % 60));
            let began = Instant::now();
            writer.write([format!("appended {n}.")].into_iter());
            wait_for(&format!("appended {n}."));
            began.elapsed()
        })
        .collect();
    let (p50_ms, p99_ms) = middle_and_tail_ms(&mut took);
    figures.table("live tail, 100,000 entries stored", &["median ms", "p99 ms"]);
    figures.row("from a line appended to its event", &[p50_ms.into(), p99_ms.into()]);
    figures.ratio("from a line appended to its event", "the wait for more of its entry", MORE_WITHIN_MS / p50_ms);
    let mut bursts: Vec<Duration> = (0..ROUNDS)
        .map(|round| {
            let began = Instant::now();
            writer.write((0..=BURST).map(|n| format!("burst {round} {n}.")));
            wait_for(&format!("burst {round} {}.", BURST - 1));
            began.elapsed()
        })
        .collect();
    let (p50_ms, _) = middle_and_tail_ms(&mut bursts);
    figures.row("of 5,000 lines appended at once", &[p50_ms.into(), None.into()]);
    let why = "three bursts are few";
    figures.loose_ratio("of 5,000 lines", "the wait for more of its entry", MORE_WITHIN_MS / p50_ms, why);
}

fn idle(figures: &mut Figures) {
    const WATCHED: Duration = Duration::from_secs(6);
    figures.table("while nothing is logged", &["CPU %", "MB"]);
    for containers in [3, 20, 200] {
        let (sources, folder) = (Folder::new("idle"), Folder::new("idle-viewer"));
        for number in 0..containers {
            let path = container(&sources, number, &format!("shop-{number}"));
            Writer::of(&path).write((0..100).map(|n| format!("line {n} of {number}")));
        }
        let process = viewer(&folder, &sources, &[]);
        Database::of(&folder).stored(100 * containers as u64);
        std::thread::sleep(Duration::from_secs(1));
        let cpu = process.cpu();
        std::thread::sleep(WATCHED);
        let percent = (process.cpu() - cpu).as_secs_f64() / WATCHED.as_secs_f64() * 100.0;
        let (what, mb) = (format!("{containers} containers"), process.mb("VmRSS:"));
        figures.row(&what, &[percent.into(), mb.into()]);
        figures.loose_ratio(&what, "1 % of a CPU", 1.0 / percent, "a few ms of CPU time differ from run to run");
        figures.ratio(&format!("{what}, memory"), "the limit of 30 MB", 30.0 / mb);
    }
}
