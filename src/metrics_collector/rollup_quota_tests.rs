//! Tests of the shares of projects in the rollup tables.

use std::sync::Arc;

use rusqlite::Connection;
use serde_json::{Value, json};

use super::commands::{AddPoints, RollUp, evict_oldest};
use super::rollup_harness_tests::TestCollector;
use super::rollup_oracle_tests::HOUR;
use crate::db::Command;
use crate::error::Result;
use crate::quota::Room;
use crate::records::key_kind::KeyKind;

/// Number of points, one per minute, of each series.
const MINUTES: i64 = 100;

/// Evicts once.
struct Evict;

impl Command for Evict {
    type Output = bool;

    fn apply(self, transaction: &Connection) -> Result<bool> {
        evict_oldest(transaction)
    }
}

/// Adds points of series in a project, one per minute, and rolls them up with this room on the disk.
fn add(collector: &TestCollector, (project, kind): (&str, KeyKind), series: usize, room: Room) {
    let point = |n: usize, minute: i64| {
        let at = crate::clock::Timestamp::from_ms(collector.now.ms() - 60_000 * minute);
        json!({ "name": "n", "type": "counter", "value": 1, "project": project, "labels": { "n": n },
            "timestamp": at.to_string() })
    };
    for n in 0..series {
        let points: Vec<Value> = (0..MINUTES).map(|minute| point(n, minute)).collect();
        let body = Arc::new(json!(points).to_string().into_bytes());
        let (decoder, now) = (&collector.decoder, collector.now);
        let add = AddPoints::decode(decoder, body, now, &Arc::default(), kind, |_, _| Ok(())).unwrap();
        collector.database().writer.run(add).unwrap();
    }
    while collector.database().writer.run(RollUp::at(collector.now).with_room(room)).unwrap() {}
}

/// Returns the number of rows of a project in a table of series.
fn rows(collector: &TestCollector, table: &str, project: &str) -> i64 {
    let join = "JOIN series s ON s.id = series_id JOIN metrics m ON m.id = s.metric_id";
    collector.query_number(&format!("SELECT count(*) FROM {table} {join} WHERE project = '{project}'"))
}

/// Asserts that the usage by project is the number of rows.
fn assert_usage(collector: &TestCollector) {
    let usage = "SELECT coalesce(sum(row_count), 0) FROM quota_usage WHERE store = 'rollups'";
    let stored = "SELECT (SELECT count(*) FROM series_minutes) + (SELECT count(*) FROM series_hours)";
    assert_eq!(collector.query_number(usage), collector.query_number(stored));
}

#[test]
fn full_database_takes_rows_of_the_largest_project() {
    let collector = TestCollector::new(HOUR);
    add(&collector, ("shop", KeyKind::Server), 1, Room::Enough);
    add(&collector, ("payments", KeyKind::Server), 2, Room::Enough);
    add(&collector, ("shop", KeyKind::Browser), 20, Room::Enough);
    assert_usage(&collector);
    let before = (rows(&collector, "series_minutes", "payments"), rows(&collector, "series_hours", "payments"));
    assert_eq!(before.0, 2 * MINUTES);
    let shop = || rows(&collector, "series_minutes", "shop") + rows(&collector, "series_hours", "shop");
    let server = "SELECT count(*) FROM series_minutes JOIN series s ON s.id = series_id WHERE key_kind_id = 1";
    while shop() > before.0 + before.1 + 20 * 11 {
        assert!(collector.database().writer.run(Evict).unwrap());
        assert_usage(&collector);
    }
    let after = (rows(&collector, "series_minutes", "payments"), rows(&collector, "series_hours", "payments"));
    assert_eq!(after, before, "the others lose nothing");
    assert_eq!(collector.query_number(server), 3 * MINUTES, "nor do servers of the same project");
    let evicted = "SELECT rejected FROM quota_rejections WHERE store = 'rollups' AND project = 'shop'";
    assert!(collector.query_number(evicted) > 1_500);
    while collector.database().writer.run(Evict).unwrap() {}
    assert_eq!(collector.query_number("SELECT count(*) FROM series_hours"), 0);
    assert_usage(&collector);
}

#[test]
fn full_disk_keeps_hours_and_totals_without_minutes() {
    let mut collector = TestCollector::new(HOUR);
    add(&collector, ("shop", KeyKind::Browser), 3, Room::Enough);
    let minutes =
        |collector: &TestCollector| ["shop", "blog"].map(|project| rows(collector, "series_minutes", project));
    collector.now = collector.now + 3 * HOUR;
    add(&collector, ("shop", KeyKind::Browser), 3, Room::Low);
    add(&collector, ("blog", KeyKind::Browser), 1, Room::Low);
    assert_eq!(minutes(&collector), [3 * MINUTES, MINUTES], "only the largest project loses its minutes");
    collector.now = collector.now + 3 * HOUR;
    add(&collector, ("blog", KeyKind::Browser), 1, Room::VeryLow);
    assert_eq!(minutes(&collector), [3 * MINUTES, MINUTES]);
    let counts = "SELECT CAST(sum(count) AS INTEGER) FROM series_hours";
    assert_eq!(collector.query_number(counts), (3 + 3 + 1 + 1) * MINUTES, "hours are complete");
    assert_eq!(collector.query_number("SELECT sum(count) FROM series_totals"), 8 * MINUTES);
    let rejected = "SELECT sum(rejected) FROM quota_rejections WHERE store = 'rollups' AND reason = 'disk_full'";
    assert_eq!(collector.query_number(rejected), (3 + 1) * MINUTES);
    collector.now = collector.now + 3 * HOUR;
    add(&collector, ("shop", KeyKind::Browser), 3, Room::Enough);
    assert_eq!(minutes(&collector), [6 * MINUTES, MINUTES], "minutes resume with room");
    assert_usage(&collector);
}
