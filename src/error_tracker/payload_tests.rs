use std::time::Duration;

use rusqlite::Connection;

use super::SCHEMA;
use super::commands::{IngestReport, IngestResult, Resolve};
use super::group_eviction::delete_group;
use super::grouping::GroupedReport;
use super::payload_eviction::evict_payloads;
use super::payloads::recount;
use super::stores::OCCURRENCES;
use crate::clock::Timestamp;
use crate::db::{Command as _, in_memory};
use crate::error::Result;
use crate::quota::{Reason, Room, largest_usages, rejection_entries};
use crate::records::key_kind::KeyKind;
use crate::records::report::Report;

fn now() -> Timestamp {
    Timestamp::from_seconds(1_769_860_800)
}

/// Sends a report of the group `line` with `bytes` of additional data.
fn ingest(
    connection: &Connection,
    (project, key_kind): (&str, KeyKind),
    line: usize,
    bytes: usize,
    room: Room,
) -> Result<IngestResult> {
    let body = serde_json::json!({"project": project, "exception_type": "E", "message": format!("{bytes}"),
        "traceback": format!("  File \"/app/a.py\", line {line}, in f"), "extra": {"padding": "x".repeat(bytes)}});
    let grouped = GroupedReport::new(Report::from_json(body.to_string().as_bytes())?);
    let retention = Duration::from_secs(90 * 86_400);
    let command =
        IngestReport { grouped, key_kind, now: now(), groups_max: 1_000, retention, room, alerts_enabled: false };
    Ok(command.apply(connection)?.result)
}

/// Returns the counted usage as (project, kind, rows, bytes), and checks that a new count gives the same.
fn usage(connection: &Connection) -> Result<Vec<(String, &'static str, u64, u64)>> {
    let read = || -> Result<Vec<_>> {
        let entries = largest_usages(connection, &OCCURRENCES, 100)?;
        Ok(entries.into_iter().map(|entry| (entry.project, entry.key_kind, entry.rows, entry.bytes)).collect())
    };
    let counted = read()?;
    connection.execute("DELETE FROM quota_usage WHERE store = 'occurrences'", [])?;
    recount(connection)?;
    assert_eq!(read()?, counted, "a new count differs");
    Ok(counted)
}

fn stored(connection: &Connection, project: &str) -> Result<i64> {
    let sql = "SELECT count(*) FROM error_occurrences o JOIN error_groups g ON g.id = o.group_id WHERE g.project = ?1";
    Ok(connection.query_row(sql, [project], |row| row.get(0))?)
}

#[test]
fn payloads_are_counted_by_project_and_kind_of_key() {
    in_memory(SCHEMA, |connection| {
        let (shop, page) = (("shop", KeyKind::Server), ("shop", KeyKind::Browser));
        for number in 0..8 {
            ingest(connection, shop, 1, 1_000 * number, Room::Enough)?;
            ingest(connection, page, 2, 10, Room::Enough)?;
        }
        let id = ingest(connection, page, 3, 500, Room::Enough)?.id();
        ingest(connection, ("blog", KeyKind::Server), 1, 1, Room::Enough)?;
        let rows = |usage: Vec<(String, &'static str, u64, u64)>| -> Vec<_> {
            usage.into_iter().map(|(project, kind, rows, _)| format!("{project} {kind} {rows}")).collect()
        };
        assert_eq!(rows(usage(connection)?), ["shop server 5", "shop browser 6", "blog server 1"]);
        // A server that reports the group of a page takes it over.
        ingest(connection, shop, 2, 10, Room::Enough)?;
        assert_eq!(rows(usage(connection)?), ["shop server 10", "shop browser 1", "blog server 1"]);
        Resolve { id, now: now() }.apply(connection)?;
        delete_group(connection, id)?;
        assert_eq!(rows(usage(connection)?), ["shop server 10", "blog server 1"]);
        Ok(())
    });
}

#[test]
fn size_limit_takes_the_oldest_reports_of_the_largest_project() {
    in_memory(SCHEMA, |connection| {
        for line in 0..40 {
            ingest(connection, ("blog", KeyKind::Server), line, 2_000, Room::Enough)?;
        }
        for line in 0..10 {
            ingest(connection, ("shop", KeyKind::Server), line, 1_000, Room::Enough)?;
        }
        for line in 100..120 {
            ingest(connection, ("shop", KeyKind::Browser), line, 20_000, Room::Enough)?;
        }
        // Until shop has no more than blog, it loses the reports of its pages.
        while usage(connection)?[0].0 == "shop" {
            assert!(evict_payloads(connection)?);
            assert_eq!(stored(connection, "blog")?, 40);
        }
        let left = "SELECT count(*) FILTER (WHERE key_kind_id = 1), min(g.id) FILTER (WHERE key_kind_id = 2)
             FROM error_occurrences o JOIN error_groups g ON g.id = o.group_id WHERE project = 'shop'";
        let (by_servers, first_of_pages): (i64, i64) =
            connection.query_row(left, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
        assert_eq!(by_servers, 10);
        assert!(
            (62..=70).contains(&first_of_pages),
            "the newest reports of pages stay, from group {first_of_pages} on"
        );
        let evicted: u64 = rejection_entries(connection, 9)?.iter().map(|entry| entry.count).sum();
        assert_eq!(evicted, u64::try_from(first_of_pages - 51).unwrap_or(0));
        // In the end everything goes, and the usage agrees.
        while stored(connection, "blog")? + stored(connection, "shop")? > 0 {
            assert!(evict_payloads(connection)?);
        }
        assert_eq!(usage(connection)?, []);
        let texts: i64 = connection.query_row("SELECT count(*) FROM error_texts", [], |row| row.get(0))?;
        assert_eq!(texts, 0);
        Ok(())
    });
}

#[test]
fn full_disk_stops_payloads_of_the_largest_project_first_and_counts_go_on() {
    in_memory(SCHEMA, |connection| {
        let (shop, blog) = (("shop", KeyKind::Browser), ("blog", KeyKind::Server));
        ingest(connection, shop, 1, 9_000, Room::Enough)?;
        ingest(connection, blog, 1, 1_000, Room::Enough)?;
        let both = |room| -> Result<(i64, i64)> {
            ingest(connection, shop, 1, 9_000, room)?;
            ingest(connection, blog, 1, 1_000, room)?;
            Ok((stored(connection, "shop")?, stored(connection, "blog")?))
        };
        assert_eq!(both(Room::Low)?, (1, 2));
        assert_eq!(both(Room::VeryLow)?, (1, 2));
        let new = ingest(connection, shop, 2, 9_000, Room::VeryLow)?;
        assert!(matches!(new, IngestResult::Created { .. }));
        let rejected = |project: &str| -> Result<u64> {
            let entries = rejection_entries(connection, 9)?;
            let of_project = entries.iter().filter(|entry| entry.project == project);
            Ok(of_project.filter(|entry| entry.reason == Reason::DiskFull.name()).map(|entry| entry.count).sum())
        };
        assert_eq!((rejected("shop")?, rejected("blog")?), (3, 1));
        assert_eq!(both(Room::Enough)?, (2, 3), "payloads resume by themselves");
        let counts = "SELECT group_concat(count) FROM (SELECT count FROM error_groups ORDER BY id)";
        let counts: String = connection.query_row(counts, [], |row| row.get(0))?;
        assert_eq!(counts, "4,4,1");
        Ok(())
    });
}
