use rusqlite::Connection;

use super::SCHEMA;
use super::commands::{IngestReport, IngestResult, Resolve, delete_group, increment_hourly, intern};
use super::grouping::GroupedReport;
use super::retention::ExpireGroups;
use crate::clock::Timestamp;
use crate::db::{Command as _, counter, in_memory};
use crate::error::Result;
use crate::records::key_kind::KeyKind;
use crate::records::report::Report;

const HOUR_S: i64 = 3_600;

fn ingest(connection: &Connection, report: &serde_json::Value, now_s: i64) -> Result<IngestResult> {
    let grouped = GroupedReport::new(Report::from_json(report.to_string().as_bytes())?);
    let now = Timestamp::from_seconds(now_s);
    IngestReport { grouped, key_kind: KeyKind::Server, now, groups_max: 100, alerts_enabled: false }.apply(connection)
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
        let sql = "SELECT first_seen_s, count FROM error_groups";
        let (first_seen_s, count): (i64, i64) = connection.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
        assert_eq!((first_seen_s, count), (-62_167_219_200, 2));
        Ok(())
    });
}

#[test]
fn deleting_a_group_deletes_its_rows_in_every_table() {
    in_memory(SCHEMA, |connection| {
        let tables =
            "SELECT t.name FROM pragma_table_list t JOIN pragma_table_info(t.name) c WHERE c.name = 'group_id'";
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
        let environment = intern(connection, "prod")?;
        for release in 1..=3 {
            let release = intern(connection, &release.to_string())?;
            for hour in 0..6_000 {
                increment_hourly(connection, id, hour, (environment, release), 1)?;
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
