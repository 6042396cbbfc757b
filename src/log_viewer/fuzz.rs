//! Fuzz targets: invariants of lines, timestamps, Docker's files about containers, and queries, for arbitrary bytes.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::checkpoint::{Checkpoint, LogPositions};
use super::commands::{AppendEntries, UpsertSource};
use super::config::{RetentionLimits, SourceSettings};
use super::discovery::{Discovery, LogFormat, LogSource};
use super::entry_assembler::EntryAssembler;
use super::entry_reader::EntryReader;
use super::line_clock::BatchTimes;
use super::line_splitter::RawLine;
use super::local_zone::LocalZone;
use super::parse::{ansi, docker};
use super::plausible_time::latest_plausible_ns;
use super::query::BoundFilter;
use super::text_lines::TextLines;
use super::{SCHEMA, api};
use crate::clock::Timestamp;
use crate::db::{Command as _, ReaderPool};
use crate::error::Error;
use crate::http::fuzz::request;
use crate::records::log_level::Level;
use crate::records::log_record::LogRecord;

/// Longer than all timeouts of the assembler.
const AFTER_ALL_TIMEOUTS: Duration = Duration::from_secs(60);
const LIMITS: RetentionLimits = RetentionLimits { entries: 10_000, bytes: 100_000_000, age: Duration::ZERO };

/// Parses a log. The entries contain nothing that is not in the log, and a restart between two lines changes nothing.
pub(crate) fn lines(data: &[u8]) {
    let lines: Vec<&[u8]> = data.split(|byte| *byte == b'\n').collect();
    for line in &lines {
        let text = String::from_utf8_lossy(line);
        let plain = ansi::strip(&text);
        assert!(plain.len() <= text.len());
        assert_eq!(ansi::strip(&plain), plain, "stripping is idempotent");
    }
    let _ = assemble(&LogFormat::Text(Arc::default()), &lines, None);
    let uninterrupted = assemble(&LogFormat::Docker, &lines, None);
    assert!(uninterrupted.len() <= lines.len());
    // An invalid byte becomes three, and a truncated line has a marker.
    assert!(uninterrupted.iter().map(|entry| entry.message.len()).sum::<usize>() <= 3 * data.len() + 64 * lines.len());
    // A line that is not Docker's has the latest timestamp before it, which can differ after a restart.
    if lines.iter().all(|line| docker::parse(line).is_some()) {
        let restart =
            data.iter().fold(7_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add((*byte).into())) % lines.len();
        let restarted = assemble(&LogFormat::Docker, &lines, Some(restart));
        assert_eq!(sorted(restarted), sorted(uninterrupted), "restarted before line {restart}");
    }
}

/// Assembles the entries of a log, with a restart before the line of index `restart`.
fn assemble(format: &LogFormat, lines: &[&[u8]], restart: Option<usize>) -> Vec<LogRecord> {
    let now = Instant::now();
    let mut assembler = EntryAssembler::new(format, &[], 0, now);
    let mut records = Vec::new();
    for (index, bytes) in lines.iter().enumerate() {
        if restart == Some(index) {
            records.extend(assembler.take_finished());
            assembler = EntryAssembler::new(format, &assembler.pending_lines(), assembler.newest_ns(), now);
        }
        assembler.push_line(&RawLine { bytes, truncated_bytes: 0 }, now);
    }
    assembler.flush(now + AFTER_ALL_TIMEOUTS);
    assert!(assembler.pending_lines().is_empty() && assembler.deadline().is_none(), "no entry is unfinished");
    records.extend(assembler.take_finished());
    records
}

/// Sorts records, because the order between the two streams depends on their timeouts.
fn sorted(records: Vec<LogRecord>) -> Vec<(i64, &'static str, String)> {
    let mut sorted: Vec<_> =
        records.into_iter().map(|record| (record.time_ns, record.stream.name(), record.message)).collect();
    sorted.sort();
    sorted
}

/// Reads the times of the lines of a text file in several zones. None is ahead, and no text is added.
pub(crate) fn line_times(data: &[u8]) {
    let now = Instant::now();
    for zone in ["UTC", "CET-1CEST,M3.5.0,M10.5.0/3", "<+1245>-12:45<+1345>,M9.5.0/2:45,M4.1.0/3:45"] {
        let zone = Arc::new(LocalZone::parse(zone).expect("the zone is valid"));
        let mut lines = TextLines::new(zone, now);
        for line in data.split(|byte| *byte == b'\n') {
            let first_ns = lines.parse(line, now).time_ns;
            assert!(first_ns <= latest_plausible_ns(Timestamp::now()), "{}", String::from_utf8_lossy(line));
            assert!(lines.parse(line, now).log.len() <= 3 * line.len());
        }
    }
}

/// Parses a timestamp. Both parsers agree, and a formatted timestamp is parsed to the same value.
pub(crate) fn timestamps(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let timestamp = Timestamp::parse(text);
    if let Some(timestamp) = timestamp {
        let formatted = timestamp.to_string();
        assert_eq!(Timestamp::parse(&formatted).map(Timestamp::seconds), Some(timestamp.seconds()), "{formatted}");
        assert_eq!(formatted.len(), 20);
    }
    let line = serde_json::json!({"log": "a\n", "stream": "stdout", "time": text}).to_string();
    let docker = docker::parse(line.as_bytes()).map(|line| line.time_ns.div_euclid(1_000_000));
    if let (Some(timestamp), Some(ms)) = (timestamp, docker) {
        assert_eq!(timestamp.ms(), ms, "{text}");
    }
    if let Some(request) = request(&format!("/?t={text}")) {
        let _ = request.query_time("t");
        let number = request.query_number("t", 5, 1..=10);
        assert!((1..=10).contains(&number));
    }
}

/// Reads Docker's two files about a container, separated by a line `--`. Whatever they contain, the log is in the
/// container's folder.
pub(crate) fn containers(data: &[u8]) {
    let id = format!("monlight-fuzz-{}-{:?}", std::process::id(), std::thread::current().id());
    let all = std::env::temp_dir().join(id);
    let folder = all.join("0123456789abcdef");
    std::fs::create_dir_all(&folder).expect("the temporary folder is writable");
    let text = String::from_utf8_lossy(data);
    let (config, host) = text.split_once("\n--\n").unwrap_or((&text, ""));
    for (name, content) in [("config.v2.json", config), ("hostconfig.json", host)] {
        std::fs::write(folder.join(name), content).expect("the temporary folder is writable");
    }
    let settings = SourceSettings { folders: vec![all.clone()], ..SourceSettings::default() };
    let mut discovery = Discovery::default();
    let snapshot = discovery.scan(&settings);
    assert_eq!(discovery.scan(&settings).sources, snapshot.sources, "a second scan finds the same");
    assert!(snapshot.sources.len() <= 1 && snapshot.problems.is_empty());
    for LogSource { path, key, name, .. } in &snapshot.sources {
        assert!(!key.is_empty() && !name.is_empty());
        if let Ok(path) = path {
            assert_eq!(path.parent(), Some(&*folder), "{}", path.display());
        }
    }
    std::fs::remove_dir_all(&all).expect("the folder can be removed");
}

/// Runs a query. Any query is answered, with at most the requested number of entries, all of which match.
pub(crate) fn queries(data: &[u8]) {
    static DATABASE: OnceLock<ReaderPool> = OnceLock::new();
    let Some(request) = request(&format!("/api/logs?{}", String::from_utf8_lossy(data))) else { return };
    let reader = DATABASE.get_or_init(database).acquire().expect("the reader is free");
    let Ok(filter) = api::filter(&reader, &request, LIMITS) else { return };
    let query = BoundFilter::new(&reader, &filter).expect("the database is readable");
    let limit = request.query_number("limit", 100, 1..=500).unsigned_abs();
    let matches = match query.newest(0, usize::try_from(limit).unwrap_or(usize::MAX)) {
        Err(Error::Busy(_)) => return,
        matches => matches.expect("a search never causes a database error"),
    };
    assert!(matches.ids.len() as u64 <= limit && matches.ids.len() as i64 <= matches.total);
    let mut entries = EntryReader::new(&reader).expect("the database is readable");
    for id in &matches.ids {
        let entry = entries.read(*id, usize::MAX).expect("the database is readable").expect("the entry exists");
        assert!(filter.times_ns.contains(&entry.time_ns) && entry.id < filter.end_id);
        let level = |level: &Level| level.name() == entry.level;
        assert!(filter.levels.is_empty() || filter.levels.iter().any(level));
        assert!(filter.search.matches_entry(&entry.message).unwrap_or(true));
    }
    let (buckets, partial) = query.histogram(60).expect("a search never causes a database error");
    let counted: i64 = buckets.values().flatten().sum();
    // Without a search, partial minutes at both ends count as whole minutes.
    let is_equal = counted == matches.total || filter.search.is_empty() && counted >= matches.total;
    assert!(partial || matches.partial || is_equal);
}

/// Returns a database with the entries of two containers.
fn database() -> ReaderPool {
    const LOGS: [&str; 6] = [
        "12:00:01 INFO GET /pay?x=1 200 10.0.0.1",
        "ERROR foo-bar C++ \\\"quoted\\\" größe 支付",
        "WARNING a.b OR NEAR( 50%_",
        "\\u001b[31mCRITICAL\\u001b[0m message:error",
        "DEBUG aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!",
        "",
    ];
    crate::db::in_memory(SCHEMA, |transaction| {
        for (number, name) in ["web", "shop_db_1"].into_iter().enumerate() {
            let source = LogSource {
                key: name.into(),
                name: name.into(),
                is_named: true,
                image: String::new(),
                project: String::new(),
                service: String::new(),
                format: LogFormat::Docker,
                path: Err(String::new()),
            };
            let source = UpsertSource { source, keep: Vec::new() }.apply(transaction)?.id;
            let lines: Vec<String> = LOGS
                .iter()
                .enumerate()
                .map(|(minute, log)| {
                    let time = format!("2026-01-31T12:{:02}:00Z", 7 * minute + number);
                    format!(r#"{{"log":"{log}\n","stream":"stdout","time":"{time}"}}"#)
                })
                .collect();
            let lines: Vec<&[u8]> = lines.iter().map(String::as_bytes).collect();
            let checkpoint = Checkpoint { positions: LogPositions::default(), newest_ns: 0, pending_lines: Vec::new() };
            let (records, now) = (assemble(&LogFormat::Docker, &lines, None), Timestamp::now());
            let (version, missed_rotations, times) = (0, 0, BatchTimes::default());
            AppendEntries { source, records, checkpoint, version, missed_rotations, times, limits: LIMITS, now }
                .apply(transaction)?;
        }
        Ok(())
    })
}
