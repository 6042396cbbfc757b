//! How much is kept: never more than the limits say, the newest of it, and the space of the rest is given back.

use std::sync::Arc;
use std::time::Duration;

use monlight::clock::Timestamp;
use serde_json::{Value, json};

use crate::harness::{Folder, Service, Setup, wait_until};
use crate::logs::{Container, becomes, exported, has};

/// What the API says of how much there is, by every way of asking.
fn totals(viewer: &Service) -> Vec<i64> {
    let number = |path: &str, field: &str| viewer.get(path).expect(200).json()[field].as_i64().unwrap();
    vec![
        number("/api/logs?limit=1", "total"),
        number("/api/logs?limit=1&search=line", "total"),
        number("/api/logs/stats", "total_logs"),
        number("/api/logs/histogram", "total"),
        exported(viewer, "").len() as i64,
        number("/health", "logs_indexed"),
    ]
}

/// The number of the newest line.
fn newest(viewer: &Service) -> Option<u32> {
    let answer = viewer.get("/api/logs?limit=1").expect(200).json();
    answer["logs"][0]["message"].as_str()?.trim_start_matches("line ").parse().ok()
}

fn file_bytes(folder: &Folder) -> u64 {
    std::fs::metadata(folder.path().join("logs.db")).unwrap().len()
}

#[test]
fn never_more_entries_than_may_be_and_always_the_newest() {
    const ENTRIES_MAX: i64 = 100;
    let folder = Arc::new(Folder::new());
    let web = Container::new(&folder, "web");
    web.counts(0..1_000);
    let viewer = Setup::log_viewer().folder(&folder).env("MAX_ENTRIES", ENTRIES_MAX).start();
    let mut next = 1_000;
    for batch in [1, 7, 50, 99, 100, 101, 333, 2_000] {
        let upto = next + batch;
        web.counts(next..upto);
        next = upto;
        let mut most = 0;
        wait_until(|| {
            most = most.max(*totals(&viewer).iter().max().unwrap());
            (newest(&viewer) == Some(upto - 1)).then_some(())
        })
        .expect("the newest line");
        assert!(most <= ENTRIES_MAX, "{most}");
        let totals = totals(&viewer);
        assert!(totals.iter().all(|total| *total == totals[0] && (90..=ENTRIES_MAX).contains(total)), "{totals:?}");
        let kept: Vec<String> = exported(&viewer, "").into_iter().map(|entry| entry.message).collect();
        let expected: Vec<String> = (upto - kept.len() as u32..upto).map(|n| format!("line {n}")).collect();
        assert_eq!(kept, expected);
    }
    viewer.get("/api/logs?offset=1000").expect(200).has(json!({ "offset": ENTRIES_MAX, "logs": [] }));
}

#[test]
fn limits_that_shrink_hold_at_once_and_give_space_back() {
    // What is given back leaves a megabyte for what comes, and the tables of an empty ring take some.
    const SMALL_BYTES: u64 = 1_600_000;
    let folder = Arc::new(Folder::new());
    let web = Container::new(&folder, "web");
    web.counts(0..60_000);
    let start = |entries: u32| {
        let setup = Setup::log_viewer().folder(&folder).env("TAIL_BUFFER", 100_000_000);
        setup.env("MAX_ENTRIES", entries).start()
    };
    let viewer = start(100_000);
    has(&viewer, "web", 60_000);
    let (status, _) = viewer.stop();
    assert!(status.success());
    assert!(file_bytes(&folder) > 2 * SMALL_BYTES, "{}", file_bytes(&folder));
    for entries in [6_000, 1_000, 100] {
        let viewer = start(entries);
        let most = i64::from(entries);
        for totals in [totals(&viewer), totals(&viewer)] {
            assert!(totals.iter().all(|total| *total <= most), "{totals:?} of {entries}");
        }
        becomes(&true, || totals(&viewer).iter().all(|total| (most * 4 / 10..=most).contains(total)));
        assert_eq!(newest(&viewer), Some(59_999));
        let given_back = wait_until(|| {
            let metrics = viewer.get("/metrics").expect(200).text();
            let bytes =
                metrics.lines().find_map(|line| line.strip_prefix("monlight_database_bytes ")?.parse::<u64>().ok());
            bytes.filter(|bytes| *bytes < SMALL_BYTES)
        });
        assert!(given_back.is_some(), "with {entries}");
        viewer.stop();
        assert!(file_bytes(&folder) < SMALL_BYTES, "{} bytes with {entries}", file_bytes(&folder));
    }
    let viewer = start(100_000);
    web.counts(60_000..60_010);
    becomes(&Some(60_009), || newest(&viewer));
}

#[test]
fn never_more_bytes_than_may_be() {
    const BYTES_MAX: usize = 200_000;
    let folder = Arc::new(Folder::new());
    let web = Container::new(&folder, "web");
    let viewer = Setup::log_viewer().folder(&folder).env("MAX_BYTES", BYTES_MAX).start();
    for round in 0..8 {
        let texts: Vec<String> = (0..100).map(|n| format!("{round} {n:03} {}\n", "x".repeat(1_000))).collect();
        web.writes(texts.iter().map(|text| ("2026-01-31T12:00:00Z", "stdout", text.as_str())));
        let last = texts[99].trim_end().to_owned();
        becomes(&true, || exported(&viewer, "").last().is_some_and(|entry| entry.message == last));
        let kept: usize = exported(&viewer, "").iter().map(|entry| entry.message.len()).sum();
        assert!(kept <= BYTES_MAX + 2_000 && (round < 2 || kept > BYTES_MAX / 2), "{kept} in round {round}");
    }
}

#[test]
fn what_is_too_old_is_not_shown() {
    let folder = Arc::new(Folder::new());
    let web = Container::new(&folder, "web");
    let ago = |minutes: u64| (Timestamp::now() - Duration::from_secs(60 * minutes)).to_string();
    web.writes([
        (ago(180).as_str(), "stdout", "three hours\n"),
        (ago(110).as_str(), "stdout", "nearly two\n"),
        (ago(1).as_str(), "stdout", "just now\n"),
    ]);
    for (hours, expected) in [(0, 3), (2, 2), (1, 1)] {
        let viewer = Setup::log_viewer().folder(&folder).env("MAX_AGE_HOURS", hours).start();
        becomes(&json!(expected), || viewer.get("/api/logs").expect(200).json()["total"].clone());
        let shown: Vec<String> = exported(&viewer, "").into_iter().map(|entry| entry.message).collect();
        assert_eq!(shown, ["three hours", "nearly two", "just now"][3 - expected..]);
        let answer: Value = viewer.get("/api/logs?since=2000-01-01T00:00:00Z").expect(200).json();
        assert_eq!(answer["total"], expected);
        viewer.stop();
    }
}
