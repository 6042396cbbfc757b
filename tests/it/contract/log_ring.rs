//! Retention of log entries: `MAX_ENTRIES`, `MAX_BYTES` and `MAX_AGE_HOURS` are never exceeded, the newest entries are
//! kept, and freed space is returned to the file system.

use std::sync::Arc;
use std::time::Duration;

use monlight::clock::Timestamp;
use serde_json::{Value, json};

use crate::support::harness::{Service, Setup, TempDir, wait_until};
use crate::support::logs::{Container, assert_eventually_eq, export_entries, wait_for_entry_count};

/// Returns the number of entries as reported by each endpoint.
fn entry_counts(viewer: &Service) -> Vec<i64> {
    let number = |path: &str, field: &str| viewer.get(path).expect(200).json()[field].as_i64().unwrap();
    vec![
        number("/api/logs?limit=1", "total"),
        number("/api/logs?limit=1&search=line", "total"),
        number("/api/logs/stats", "total_logs"),
        number("/api/logs/histogram", "total"),
        export_entries(viewer, "").len() as i64,
        number("/health", "logs_indexed"),
    ]
}

/// Returns the number of the newest line.
fn newest_number(viewer: &Service) -> Option<u32> {
    let response = viewer.get("/api/logs?limit=1").expect(200).json();
    response["logs"][0]["message"].as_str()?.trim_start_matches("line ").parse().ok()
}

fn database_bytes(data_dir: &TempDir) -> u64 {
    std::fs::metadata(data_dir.path().join("logs.db")).unwrap().len()
}

#[test]
fn max_entries_is_never_exceeded_and_the_newest_are_kept() {
    const ENTRIES_MAX: i64 = 100;
    let data_dir = Arc::new(TempDir::new());
    let web = Container::new(&data_dir, "web");
    web.write_numbered_lines(0..1_000);
    let viewer = Setup::log_viewer().data_dir(&data_dir).env("MAX_ENTRIES", ENTRIES_MAX).start();
    let mut next = 1_000;
    for batch in [1, 7, 50, 99, 100, 101, 333, 2_000] {
        let end = next + batch;
        web.write_numbered_lines(next..end);
        next = end;
        let mut peak = 0;
        wait_until(|| {
            peak = peak.max(*entry_counts(&viewer).iter().max().unwrap());
            (newest_number(&viewer) == Some(end - 1)).then_some(())
        })
        .expect("the newest line is stored");
        assert!(peak <= ENTRIES_MAX, "{peak}");
        let counts = entry_counts(&viewer);
        assert!(counts.iter().all(|count| *count == counts[0] && (90..=ENTRIES_MAX).contains(count)), "{counts:?}");
        let kept: Vec<String> = export_entries(&viewer, "").into_iter().map(|entry| entry.message).collect();
        let expected: Vec<String> = (end - kept.len() as u32..end).map(|n| format!("line {n}")).collect();
        assert_eq!(kept, expected);
    }
    viewer.get("/api/logs?offset=1000").expect(200).has(json!({ "offset": ENTRIES_MAX, "logs": [] }));
}

#[test]
fn lower_limits_apply_at_start_and_shrink_the_file() {
    // Vacuuming keeps about one megabyte of free pages for new entries, and an empty ring has its tables.
    const SMALL_BYTES: u64 = 1_600_000;
    let data_dir = Arc::new(TempDir::new());
    let web = Container::new(&data_dir, "web");
    web.write_numbered_lines(0..60_000);
    let start = |entries: u32| {
        let setup = Setup::log_viewer().data_dir(&data_dir).env("TAIL_BUFFER", 100_000_000);
        setup.env("MAX_ENTRIES", entries).start()
    };
    let viewer = start(100_000);
    wait_for_entry_count(&viewer, "web", 60_000);
    let (status, _) = viewer.stop();
    assert!(status.success());
    assert!(database_bytes(&data_dir) > 2 * SMALL_BYTES, "{}", database_bytes(&data_dir));
    for entries in [6_000, 1_000, 100] {
        let viewer = start(entries);
        let limit = i64::from(entries);
        for counts in [entry_counts(&viewer), entry_counts(&viewer)] {
            assert!(counts.iter().all(|count| *count <= limit), "{counts:?}, limit {entries}");
        }
        assert_eventually_eq(&true, || {
            entry_counts(&viewer).iter().all(|count| (limit * 4 / 10..=limit).contains(count))
        });
        assert_eq!(newest_number(&viewer), Some(59_999));
        let shrunk = wait_until(|| {
            let metrics = viewer.get("/metrics").expect(200).text();
            let bytes =
                metrics.lines().find_map(|line| line.strip_prefix("monlight_database_bytes ")?.parse::<u64>().ok());
            bytes.filter(|bytes| *bytes < SMALL_BYTES)
        });
        assert!(shrunk.is_some(), "the database does not shrink with MAX_ENTRIES={entries}");
        viewer.stop();
        assert!(
            database_bytes(&data_dir) < SMALL_BYTES,
            "{} bytes with MAX_ENTRIES={entries}",
            database_bytes(&data_dir)
        );
    }
    let viewer = start(100_000);
    web.write_numbered_lines(60_000..60_010);
    assert_eventually_eq(&Some(60_009), || newest_number(&viewer));
}

#[test]
fn max_bytes_is_not_exceeded() {
    const BYTES_MAX: usize = 200_000;
    let data_dir = Arc::new(TempDir::new());
    let web = Container::new(&data_dir, "web");
    let viewer = Setup::log_viewer().data_dir(&data_dir).env("MAX_BYTES", BYTES_MAX).start();
    for round in 0..8 {
        let lines: Vec<String> = (0..100).map(|n| format!("{round} {n:03} {}\n", "x".repeat(1_000))).collect();
        web.write_lines(lines.iter().map(|line| ("2026-01-31T12:00:00Z", "stdout", line.as_str())));
        let last = lines[99].trim_end().to_owned();
        assert_eventually_eq(&true, || export_entries(&viewer, "").last().is_some_and(|entry| entry.message == last));
        let kept: usize = export_entries(&viewer, "").iter().map(|entry| entry.message.len()).sum();
        assert!(kept <= BYTES_MAX + 2_000 && (round < 2 || kept > BYTES_MAX / 2), "{kept} in round {round}");
    }
}

#[test]
fn entries_older_than_max_age_are_not_returned() {
    let data_dir = Arc::new(TempDir::new());
    let web = Container::new(&data_dir, "web");
    let ago = |minutes: u64| (Timestamp::now() - Duration::from_secs(60 * minutes)).to_string();
    web.write_lines([
        (ago(180).as_str(), "stdout", "three hours old\n"),
        (ago(110).as_str(), "stdout", "almost two hours old\n"),
        (ago(1).as_str(), "stdout", "new\n"),
    ]);
    for (hours, expected) in [(0, 3), (2, 2), (1, 1)] {
        let viewer = Setup::log_viewer().data_dir(&data_dir).env("MAX_AGE_HOURS", hours).start();
        assert_eventually_eq(&json!(expected), || viewer.get("/api/logs").expect(200).json()["total"].clone());
        let shown: Vec<String> = export_entries(&viewer, "").into_iter().map(|entry| entry.message).collect();
        assert_eq!(shown, ["three hours old", "almost two hours old", "new"][3 - expected..]);
        let response: Value = viewer.get("/api/logs?since=2000-01-01T00:00:00Z").expect(200).json();
        assert_eq!(response["total"], expected);
        viewer.stop();
    }
}
