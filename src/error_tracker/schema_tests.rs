use std::time::Duration;

use rusqlite::Connection;

use super::SCHEMA;
use super::commands::{IngestReport, IngestResult, Resolve};
use super::group_eviction::delete_group;
use super::grouping::GroupedReport;
use super::retention::ExpireGroups;
use super::variants::ReportCount;
use crate::clock::Timestamp;
use crate::db::{Command as _, counter, in_memory};
use crate::error::Result;
use crate::quota::{Holder, Room};
use crate::records::key_kind::KeyKind;
use crate::records::report::Report;

const HOUR_S: i64 = 3_600;
const RETENTION: Duration = Duration::from_secs(90 * 86_400);

fn ingest(connection: &Connection, report: &serde_json::Value, now_s: i64) -> Result<IngestResult> {
    let grouped = GroupedReport::new(Report::from_json(report.to_string().as_bytes())?);
    let now = Timestamp::from_seconds(now_s);
    let command = IngestReport {
        grouped,
        key_kind: KeyKind::Server,
        now,
        groups_max: 100,
        retention: RETENTION,
        room: Room::Enough,
        alerts_enabled: false,
    };
    Ok(command.apply(connection)?.result)
}

fn report(release: &str) -> serde_json::Value {
    serde_json::json!({"project": "shop", "exception_type": "E", "message": "m", "traceback": "t", "release": release})
}

fn count(connection: &Connection, table: &str) -> i64 {
    connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
}

#[test]
fn the_longest_and_earliest_values_are_stored() {
    in_memory(SCHEMA, |connection| {
        let (name, endless) = ("😀".repeat(100), "😀".repeat(9_000));
        let report = serde_json::json!({
            "project": name, "exception_type": name.repeat(2), "message": endless, "environment": endless,
            "traceback": format!("  File \"{endless}\", line 1, in f"), "release": endless, "level": "FATAL",
            "request_url": endless, "request_method": endless, "request_headers": {"h": endless}, "user_id": endless,
            "extra": {"session_id": endless}, "timestamp": "0000-01-01T00:00:00Z",
        });
        for _ in 0..2 {
            ingest(connection, &report, 1_000)?;
        }
        let sql = "SELECT occurred_at_s, count FROM error_groups g JOIN error_occurrences o ON o.group_id = g.id";
        let (occurred_at_s, count): (i64, i64) = connection.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
        assert_eq!((occurred_at_s, count), (-62_167_219_200, 2));
        Ok(())
    });
}

#[test]
fn deleting_a_group_deletes_its_rows_in_every_table() {
    in_memory(SCHEMA, |connection| {
        let tables = "SELECT t.name FROM pragma_table_list t JOIN pragma_table_info(t.name) c WHERE t.type = 'table' AND c.name = 'group_id'";
        let mut select = connection.prepare(tables)?;
        let mut tables: Vec<String> = select.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
        assert_eq!(tables.len(), 5, "{tables:?}");
        tables.extend(["error_groups", "error_search"].map(str::to_owned));
        let id = ingest(connection, &report("1"), 1_000)?.id();
        ingest(connection, &report("2"), 2 * HOUR_S)?;
        assert_eq!(tables.iter().filter(|table| count(connection, table) == 0).count(), 0);
        delete_group(connection, id)?;
        for table in &tables {
            assert_eq!(count(connection, table), 0, "{table}");
        }
        Ok(())
    });
}

#[test]
fn expired_hours_are_deleted_in_batches_before_their_group() {
    in_memory(SCHEMA, |connection| {
        let id = ingest(connection, &report("0"), 1_000)?.id();
        let holder = Holder { project: "shop", kind: KeyKind::Server };
        for release in ["1", "2", "3"] {
            for hour in 0..6_000 {
                let now = Timestamp::from_seconds(hour * HOUR_S);
                ReportCount { group_id: id, reports: 1, holder, environment: "prod", release, hour, now }
                    .add(connection)?;
            }
        }
        Resolve { id, now: Timestamp::from_seconds(6_000 * HOUR_S) }.apply(connection)?;
        let expire = || ExpireGroups { before: Timestamp::from_seconds(6_001 * HOUR_S) }.apply(connection);
        assert!(expire()?, "more hours are expired");
        let (groups, hours) = (count(connection, "error_groups"), count(connection, "hourly_counts"));
        assert!(groups == 1 && (1_000..=8_001).contains(&hours), "{groups} groups, {hours} hours");
        while expire()? {}
        let left = ["error_groups", "error_variants", "hourly_counts"].map(|table| count(connection, table));
        assert_eq!((left, count(connection, "variant_names"), counter(connection, "resolved")?), ([0; 3], 1, 0));
        Ok(())
    });
}

#[test]
fn expired_variants_are_deleted_except_the_latest_of_each_group() {
    in_memory(SCHEMA, |connection| {
        for (release, hour) in [("1", 10), ("2", 20), ("3", 30)] {
            ingest(connection, &report(release), hour * HOUR_S)?;
        }
        let expire = |hour: i64| ExpireGroups { before: Timestamp::from_seconds(hour * HOUR_S) }.apply(connection);
        let left = |connection| (count(connection, "error_variants"), count(connection, "hourly_counts"));
        assert!(!expire(15)?);
        assert_eq!(left(connection), (2, 2));
        assert!(!expire(99)?);
        assert_eq!((left(connection), count(connection, "error_groups")), ((1, 0), 1));
        // "(other)", "prod" and "3"
        assert_eq!(count(connection, "variant_names"), 3);
        Ok(())
    });
}
