use std::time::Duration;

use super::SCHEMA;
use super::checkpoint::{Checkpoint, LogPositions};
use super::commands::{AppendEntries, ApplyRetention, UpsertSource};
use super::config::RetentionLimits;
use super::discovery::{LogFormat, LogSource};
use super::entry_reader::EntryReader;
use super::line_clock::BatchTimes;
use super::query::{BoundFilter, Filter};
use super::store;
use crate::clock::Timestamp;
use crate::db::{Database, replanned_statements};
use crate::records::log_level::Level;
use crate::records::log_record::{LogRecord, StdStream};

const START_MS: i64 = 1_769_860_800_000;
/// Large enough that every round stays in the first segment.
const LIMITS: RetentionLimits = RetentionLimits { entries: 100_000, bytes: 0, age: Duration::from_secs(86_400) };

/// Stores the lines of one round, and reads pages as the web UI does.
fn store_and_read(database: &Database, round: i64) {
    let now = Timestamp::from_ms(START_MS + round * 1_000);
    let source = LogSource {
        key: "web".into(),
        name: "web".into(),
        is_named: true,
        image: String::new(),
        project: String::new(),
        service: String::new(),
        format: LogFormat::Docker,
        path: Err(String::new()),
    };
    let stored = database.writer.run(UpsertSource { source, keep: Vec::new() }).unwrap();
    let record = |n: i64| LogRecord {
        time_ns: (now.ms() + n) * 1_000_000,
        order_ns: (now.ms() + n) * 1_000_000,
        stream: if n % 2 == 0 { StdStream::Stdout } else { StdStream::Stderr },
        level: if n % 3 == 0 { Level::Error } else { Level::Info },
        message: format!("order {n} failed"),
        search_text: None,
    };
    let checkpoint = Checkpoint { positions: LogPositions::default(), newest_ns: 0, pending_lines: Vec::new() };
    let (source, version) = (stored.id, stored.version);
    let records = (0..10).map(record).collect();
    let (missed_rotations, times) = (0, BatchTimes::default());
    let append = AppendEntries { source, records, checkpoint, version, missed_rotations, times, limits: LIMITS, now };
    database.writer.run(append).unwrap();
    database
        .writer
        .run(ApplyRetention { limits: LIMITS, existing: Some(vec![source]), expires_before_ns: LIMITS.oldest_ns(now) })
        .unwrap();

    let reader = database.readers.acquire().unwrap();
    let errors = Filter { source: Some("web".into()), levels: vec![Level::Error], ..Filter::all() };
    for filter in [Filter::all(), errors] {
        let query = BoundFilter::new(&reader, &filter).unwrap();
        let matches = query.newest(0, 50).unwrap();
        assert!(EntryReader::new(&reader).unwrap().read(matches.ids[0], 100).unwrap().is_some());
        query.histogram(1).unwrap();
        assert!(store::context_ids(&reader, matches.ids[0], 5, 5).is_ok());
    }
}

#[test]
fn repeated_lines_are_never_planned_again() {
    let replanned = replanned_statements("log-viewer", SCHEMA, store_and_read);
    assert!(replanned.with_qpsg.is_empty(), "{:#?}", replanned.with_qpsg);
    assert!(!replanned.without_qpsg.is_empty(), "QPSG makes no difference, so this test cannot fail");
}
