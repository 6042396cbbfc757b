//! What must hold of lines, of moments, of Docker's files about containers and of searches whatever their bytes are.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use super::assembly::Assembly;
use super::commands::{Append, Register};
use super::config::{Limits, Sources};
use super::discovery::{Discovery, Format, Found};
use super::follower::{Place, RawLine, Resume};
use super::ring::Entry;
use super::store::Query;
use super::text::{ansi, docker};
use super::{SCHEMA, api};
use crate::clock::Timestamp;
use crate::db::{Command as _, ReaderPool};
use crate::error::Error;
use crate::http::fuzz::request;

/// Longer than any line is waited for.
const LONG: Duration = Duration::from_secs(60);
const LIMITS: Limits = Limits { entries: 10_000, bytes: 100_000_000, age: Duration::ZERO };

/// A log: nothing comes of it that is not in it, and a restart between two lines changes nothing.
pub(crate) fn lines(data: &[u8]) {
    let lines: Vec<&[u8]> = data.split(|byte| *byte == b'\n').collect();
    for line in &lines {
        let text = String::from_utf8_lossy(line);
        let shown = ansi::strip(&text);
        assert!(shown.len() <= text.len());
        assert_eq!(ansi::strip(&shown), shown, "what is stripped has nothing left to strip");
    }
    let _ = assembled(Format::Text, &lines, None);
    let whole = assembled(Format::Docker, &lines, None);
    assert!(whole.len() <= lines.len());
    // What is not UTF-8 takes three bytes for one, and what is left out of a line is said.
    assert!(whole.iter().map(|entry| entry.message.len()).sum::<usize>() <= 3 * data.len() + 64 * lines.len());
    // A line that is not Docker's has the moment of the line before, which may be another after a restart.
    if lines.iter().all(|line| docker::parse(line).is_some()) {
        let restart =
            data.iter().fold(7_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add((*byte).into())) % lines.len();
        let cut = assembled(Format::Docker, &lines, Some(restart));
        assert_eq!(sorted(cut), sorted(whole), "started again before line {restart}");
    }
}

fn assembled(format: Format, lines: &[&[u8]], restart: Option<usize>) -> Vec<Entry> {
    let now = Instant::now();
    let mut assembly = Assembly::new(format, &[], 0, now);
    let mut entries = Vec::new();
    for (number, bytes) in lines.iter().enumerate() {
        if restart == Some(number) {
            entries.extend(assembly.take());
            assembly = Assembly::new(format, &assembly.pending(), assembly.newest_ns(), now);
        }
        assembly.line(&RawLine { bytes, cut_bytes: 0 }, now);
    }
    assembly.flush(now + LONG);
    assert!(assembly.pending().is_empty() && assembly.due().is_none(), "nothing is waited for any more");
    entries.extend(assembly.take());
    entries
}

/// Of the two streams, either may be waited for longer.
fn sorted(entries: Vec<Entry>) -> Vec<(i64, &'static str, String)> {
    let mut sorted: Vec<_> =
        entries.into_iter().map(|entry| (entry.at_ns, entry.stream.name(), entry.message)).collect();
    sorted.sort();
    sorted
}

/// Moments: both readers of them agree, and what is written of one is read as the same.
pub(crate) fn moments(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let moment = Timestamp::parse(text);
    if let Some(moment) = moment {
        let written = moment.to_string();
        assert_eq!(Timestamp::parse(&written).map(Timestamp::seconds), Some(moment.seconds()), "{written}");
        assert_eq!(written.len(), 20);
    }
    let line = serde_json::json!({"log": "a\n", "stream": "stdout", "time": text}).to_string();
    let docker = docker::parse(line.as_bytes()).map(|line| line.time_ns.div_euclid(1_000_000));
    if let (Some(moment), Some(ms)) = (moment, docker) {
        assert_eq!(moment.ms(), ms, "{text}");
    }
    if let Some(request) = request(&format!("/?t={text}")) {
        let _ = request.query_time("t");
        let number = request.query_number("t", 5, 1..=10);
        assert!((1..=10).contains(&number));
    }
}

/// Docker's two files about a container, with a line `--` between them: whatever they say, its log is in its folder.
pub(crate) fn containers(data: &[u8]) {
    let id = format!("monlight-fuzz-{}-{:?}", std::process::id(), std::thread::current().id());
    let all = std::env::temp_dir().join(id);
    let folder = all.join("0123456789abcdef");
    std::fs::create_dir_all(&folder).expect("the folder for temporary files can be written to");
    let text = String::from_utf8_lossy(data);
    let (config, host) = text.split_once("\n--\n").unwrap_or((&text, ""));
    for (name, content) in [("config.v2.json", config), ("hostconfig.json", host)] {
        std::fs::write(folder.join(name), content).expect("the folder for temporary files can be written to");
    }
    let sources = Sources { folders: vec![all.clone()], files: Vec::new(), containers: Vec::new() };
    let mut discovery = Discovery::default();
    let look = discovery.look(&sources);
    assert_eq!(discovery.look(&sources).logs, look.logs, "seen twice");
    assert!(look.logs.len() <= 1 && look.troubles.is_empty());
    for Found { log, key, name, .. } in &look.logs {
        assert!(!key.is_empty() && !name.is_empty());
        if let Ok(log) = log {
            assert_eq!(log.parent(), Some(&*folder), "{}", log.display());
        }
    }
    std::fs::remove_dir_all(&all).expect("what was written can be removed");
}

/// Lists: any query is answered, by no more than it asked for, with what fits.
pub(crate) fn queries(data: &[u8]) {
    static STORED: OnceLock<ReaderPool> = OnceLock::new();
    let Some(request) = request(&format!("/api/logs?{}", String::from_utf8_lossy(data))) else { return };
    let reader = STORED.get_or_init(stored).acquire().expect("nobody else has it");
    let Ok(filter) = api::filter(&reader, &request, LIMITS) else { return };
    let query = Query::new(&reader, &filter).expect("the database has no trouble");
    let limit = request.query_number("limit", 100, 1..=500).unsigned_abs();
    let found = match query.newest(usize::try_from(limit).unwrap_or(usize::MAX)) {
        Err(Error::Busy(_)) => return,
        found => found.expect("a search is never the database's trouble"),
    };
    assert!(found.ids.len() as u64 <= limit && found.ids.len() as i64 <= found.total);
    for entry in query.entries(&found.ids).expect("the database has no trouble") {
        assert!((filter.first_id..filter.end_id).contains(&entry.id));
        let level = |level: &super::text::level::Level| level.name() == entry.level;
        assert!(filter.levels.is_empty() || filter.levels.iter().any(level));
        assert!(filter.search.passes(&entry.message));
    }
    let (buckets, partial) = query.histogram(60).expect("a search is never the database's trouble");
    let counted: i64 = buckets.values().flatten().sum();
    // Without a search, minutes that are wanted in part are counted whole.
    assert!(partial || found.partial || filter.search.is_empty() && counted >= found.total || counted == found.total);
}

fn stored() -> ReaderPool {
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
            let found = Found {
                key: name.into(),
                name: name.into(),
                image: String::new(),
                project: String::new(),
                service: String::new(),
                format: Format::Docker,
                log: Err(String::new()),
            };
            let container = Register { found }.apply(transaction)?.container;
            let lines: Vec<String> = LOGS
                .iter()
                .enumerate()
                .map(|(minute, log)| {
                    let time = format!("2026-01-31T12:{:02}:00Z", 7 * minute + number);
                    format!(r#"{{"log":"{log}\n","stream":"stdout","time":"{time}"}}"#)
                })
                .collect();
            let lines: Vec<&[u8]> = lines.iter().map(String::as_bytes).collect();
            let resume = Resume { place: Place::default(), before: None, newest_ns: 0, pending: Vec::new() };
            let (entries, now) = (assembled(Format::Docker, &lines, None), Timestamp::now());
            Append { container, entries, resume, version: 0, gaps: 0, limits: LIMITS, now }.apply(transaction)?;
        }
        Ok(())
    })
}
