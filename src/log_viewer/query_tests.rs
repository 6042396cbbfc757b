use super::super::SCHEMA;
use super::super::config::RetentionLimits;
use super::super::entry_reader::EntryReader;
use super::super::enumerations::SourceKind;
use super::super::log_entry::LogEntry;
use super::super::segment_ring::{SegmentRing, StreamPosition};
use super::super::sources::{Source, upsert_source};
use super::*;
use crate::clock::Timestamp;
use crate::db::ReaderPool;
use crate::records::log_record::{LogRecord, StdStream};

const LIMITS: RetentionLimits = RetentionLimits { entries: 11_000, bytes: 0, age: Duration::ZERO };
const NS_PER_SECOND: i64 = 1_000_000_000;
const SAFE_INTEGER_MAX: i64 = (1 << 53) - 1;

fn ns(timestamp: &str) -> i64 {
    Timestamp::parse(timestamp).unwrap().ms() * 1_000_000
}

fn record(time_ns: i64, message: String) -> LogRecord {
    LogRecord { time_ns, order_ns: time_ns, stream: StdStream::Stdout, level: Level::Info, message, search_text: None }
}

/// Inserts a source with a name.
fn source(transaction: &Connection, name: &str) -> Result<i64> {
    let [key, name] = [name, name].map(str::to_owned);
    let (image, project, service) = (String::new(), String::new(), String::new());
    upsert_source(transaction, SourceKind::DockerContainer, &Source { key, name, image, project, service }, true)
}

/// Returns a database with one source. Its entries have these times, and their numbers as messages.
fn database(limits: RetentionLimits, times: impl Iterator<Item = i64>) -> ReaderPool {
    crate::db::in_memory(SCHEMA, |transaction| {
        let source = source(transaction, "web")?;
        let records: Vec<LogRecord> =
            times.enumerate().map(|(number, time_ns)| record(time_ns, format!("line {number}"))).collect();
        let mut positions = [StreamPosition::default(); 2];
        for batch in records.chunks(1_000) {
            SegmentRing::open(transaction, limits)?.append(source, batch.to_vec(), &mut positions, i64::MAX)?;
        }
        Ok(())
    })
}

fn entries(reader: &Connection, ids: &[i64]) -> Vec<LogEntry> {
    let mut entries = EntryReader::new(reader).unwrap();
    ids.iter().map(|id| entries.read(*id, usize::MAX).unwrap().unwrap()).collect()
}

/// Returns all entries that match, the oldest first.
fn export(reader: &Connection, filter: &Filter) -> Vec<LogEntry> {
    let (mut all, mut next) = (Vec::new(), Some(0));
    while let Some(id) = next {
        let (ids, further) = BoundFilter::new(reader, filter).unwrap().ids_from(id, 500).unwrap();
        all.extend(entries(reader, &ids));
        next = further;
    }
    all
}

/// Returns the numbers of the entries of a period, the oldest first. The list, the counts, the export and the histogram
/// agree on them.
#[track_caller]
fn numbers(reader: &Connection, times_ns: Range<i64>, search: Option<&str>) -> Vec<usize> {
    let search = Search { fts_query: search.map(str::to_owned), ..Search::default() };
    let filter = Filter { times_ns, search, ..Filter::all() };
    let query = BoundFilter::new(reader, &filter).unwrap();
    let matches = query.newest(0, usize::MAX >> 1).unwrap();
    let mut listed = entries(reader, &matches.ids);
    listed.reverse();
    let numbers_of = |entries: &[LogEntry]| -> Vec<usize> {
        entries.iter().map(|entry| entry.message["line ".len()..].parse().unwrap()).collect()
    };
    let numbers = numbers_of(&listed);
    assert_eq!(matches.total, numbers.len() as i64);
    assert_eq!(numbers_of(&export(reader, &filter)), numbers);
    let (buckets, partial) = query.histogram(1).unwrap();
    let mut by_minute: BTreeMap<i64, i64> = BTreeMap::new();
    for entry in &listed {
        *by_minute.entry(entry.time_ns.div_euclid(NS_PER_MINUTE)).or_default() += 1;
    }
    let counted: BTreeMap<i64, i64> =
        buckets.into_iter().map(|(minute, levels)| (minute, levels.iter().sum())).collect();
    if filter.search.is_empty() {
        // Without a search, the minutes at both ends count as a whole.
        assert!(by_minute.iter().all(|(minute, count)| counted.get(minute).is_some_and(|all| all >= count)));
    } else {
        assert_eq!((counted, partial), (by_minute, false));
    }
    numbers
}

#[test]
fn entries_since_a_sequence_number_are_in_order_of_ingestion() {
    let readers = database(LIMITS, [1_800_000_000, 1_500_000_000].map(|seconds| seconds * NS_PER_SECOND).into_iter());
    let (reader, filter) = (readers.acquire().unwrap(), Filter::all());
    let found = BoundFilter::new(&reader, &filter).unwrap().ids_since(0, 10).unwrap();
    assert_eq!(found.iter().map(|(seq, _)| *seq).collect::<Vec<_>>(), [1, 2]);
    assert!(found[0].1 > found[1].1, "{found:?}");
}

#[test]
fn entries_of_all_years_have_safe_ids_and_are_found_by_their_times() {
    let times = [
        "1700-01-01T00:00:00Z",
        "1969-12-31T23:59:59Z",
        "1970-01-01T00:00:00Z",
        "1970-01-01T00:00:01Z",
        "2026-01-31T12:00:00Z",
        "2039-06-01T00:00:00Z",
        "2108-12-31T23:59:59Z",
        "2109-03-01T00:00:00Z",
        "2109-06-01T00:00:00Z",
        "2200-01-01T00:00:00Z",
    ]
    .map(ns);
    let readers = database(LIMITS, times.into_iter());
    let reader = readers.acquire().unwrap();
    let all = export(&reader, &Filter::all());
    assert!(all.iter().all(|entry| (1..=SAFE_INTEGER_MAX).contains(&entry.id)), "{all:?}");
    assert_eq!(all.iter().map(|entry| entry.time_ns).collect::<Vec<_>>(), times);
    for search in [None, Some("line")] {
        for (first, first_ns) in times.iter().enumerate() {
            for (last, last_ns) in times.iter().enumerate() {
                let expected: Vec<usize> = (first..=last).collect();
                assert_eq!(numbers(&reader, *first_ns..last_ns + 1, search), expected, "{search:?}");
                assert_eq!(numbers(&reader, first_ns + 1..last_ns + 1, search), expected.get(1..).unwrap_or_default());
            }
        }
    }
}

/// Three streams with bursts of entries with one timestamp, which overlap.
#[test]
fn filters_use_the_times_of_entries_whose_ids_are_ahead() {
    let start_ns = ns("2026-01-31T12:00:59.990Z");
    let readers = crate::db::in_memory(SCHEMA, |transaction| {
        let mut number = 0;
        let mut append = |source: &str, times: Vec<i64>| {
            let source = self::source(transaction, source)?;
            let mut records = Vec::new();
            for offset_ms in times {
                records.push(record(start_ns + offset_ms * 1_000_000, format!("line {number}")));
                number += 1;
            }
            SegmentRing::open(transaction, LIMITS)?.append(
                source,
                records,
                &mut [StreamPosition::default(); 2],
                i64::MAX,
            )
        };
        append("spread", (0..40).collect())?;
        // 2,560 ticks, which are 10 ms.
        append("burst", vec![0; 2_560])?;
        append("second burst", vec![5; 2_000])?;
        Ok(())
    });
    let reader = readers.acquire().unwrap();
    let time_of = |number: usize| match number {
        0..40 => number as i64,
        40..2_600 => 0,
        _ => 5,
    };
    for search in [None, Some("line")] {
        for (start_ms, end_ms) in [(0, 1), (0, 40), (1, 40), (1, 5), (5, 6), (6, 40), (6, 20), (10, 15), (30, 90)] {
            let [start, end] = [start_ms, end_ms].map(|ms| start_ns + ms * 1_000_000);
            let mut found = numbers(&reader, start..end, search);
            found.sort_unstable();
            let expected: Vec<usize> =
                (0..4_600).filter(|number| (start_ms..end_ms).contains(&time_of(*number))).collect();
            assert!(found == expected, "{search:?} {start_ms}..{end_ms}: {} of {}", found.len(), expected.len());
        }
    }
    let ids: Vec<i64> = export(&reader, &Filter::all()).iter().map(|entry| entry.id).collect();
    assert_eq!(ids.len(), 4_600);
    assert!(ids.is_sorted_by(|one, next| one < next));
    // A page up to an ID is exactly the rest of the list.
    for (index, id) in ids.iter().enumerate().step_by(500) {
        for search in [None, Some("line")] {
            let search = Search { fts_query: search.map(str::to_owned), ..Search::default() };
            let filter = Filter { end_id: id + 1, search, ..Filter::all() };
            let matches = BoundFilter::new(&reader, &filter).unwrap().newest(0, 3).unwrap();
            assert_eq!(matches.total, index as i64 + 1);
            assert!(matches.ids.iter().eq(ids[..=index].iter().rev().take(3)));
        }
    }
}

#[test]
fn a_million_lines_of_one_second_keep_their_order_and_their_second() {
    const LINES: i64 = 1_000_000;
    const SECOND_NS: i64 = 1_769_860_800 * NS_PER_SECOND;
    const NEXT_NS: i64 = SECOND_NS + NS_PER_SECOND;
    let limits = RetentionLimits { entries: 22_000_000, ..LIMITS };
    let readers = crate::db::in_memory(SCHEMA, |transaction| {
        let (web, db) = (source(transaction, "web")?, source(transaction, "db")?);
        let mut positions = [StreamPosition::default(); 2];
        // Empty messages, because most of the time would be spent on indexing them.
        for _ in 0..LINES / 1_000 {
            let records = vec![record(SECOND_NS, String::new()); 1_000];
            SegmentRing::open(transaction, limits)?.append(web, records, &mut positions, i64::MAX)?;
        }
        // Each of these streams has to find the end of the million.
        for stream in 0..200 {
            let records = vec![record(SECOND_NS + stream, "of another stream".into())];
            SegmentRing::open(transaction, limits)?.append(
                db,
                records,
                &mut [StreamPosition::default(); 2],
                i64::MAX,
            )?;
        }
        let times =
            [("next second", NEXT_NS), ("out of order", NEXT_NS - 1), ("set back", NEXT_NS - 3 * NS_PER_SECOND)];
        let records = times.map(|(message, time_ns)| record(time_ns, message.into())).to_vec();
        SegmentRing::open(transaction, limits)?.append(web, records, &mut positions, i64::MAX)?;
        Ok(())
    });
    let reader = readers.acquire().unwrap();
    let mut read = reader.prepare("SELECT ingest_seq FROM segment_0 ORDER BY id").unwrap();
    let order = read.query_map([], |row| row.get(0)).unwrap().collect::<rusqlite::Result<Vec<i64>>>().unwrap();
    drop(read);
    // The clock was set back before the last line.
    assert_eq!((order[0], order.len() as i64), (LINES + 203, LINES + 203));
    assert!(order[1..].iter().copied().eq(1..=LINES + 202));
    drop(reader);
    let newest = |times_ns, search: Option<&str>| {
        let reader = readers.acquire().unwrap();
        let search = Search { fts_query: search.map(str::to_owned), ..Search::default() };
        let filter = Filter { times_ns, search, ..Filter::all() };
        let query = BoundFilter::new(&reader, &filter).unwrap();
        let matches = query.newest(0, 1).unwrap();
        let message = entries(&reader, &matches.ids).pop().map(|entry| entry.message);
        (matches.total, message.unwrap_or_default())
    };
    assert_eq!(newest(NEXT_NS..i64::MAX, None), (1, "next second".into()));
    assert_eq!(newest(NEXT_NS..i64::MAX, Some("next OR stream")), (1, "next second".into()));
    assert_eq!(newest(SECOND_NS..NEXT_NS, None), (LINES + 201, "out of order".into()));
    assert_eq!(newest(SECOND_NS..NEXT_NS, Some("stream")), (200, "of another stream".into()));
    assert_eq!(newest(i64::MIN..SECOND_NS, None), (1, "set back".into()));
}
