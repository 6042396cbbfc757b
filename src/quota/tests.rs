use rusqlite::Connection;

use super::{
    Bounds, Holder, Measure, Reason, Store, Usage, add_usage as change_usage, check, largest_project, largest_usages,
    record_rejection, rejection_entries, rejection_warnings, total_usage,
};
use crate::clock::Timestamp;
use crate::db::{Migration, Schema, in_memory};
use crate::error::Result;
use crate::records::key_kind::KeyKind;

const STORE: Store =
    Store { name: "things", warning: "things_over_quota", bounds: Bounds { rows_max: 100, bytes_max: u64::MAX } };
const DAY_S: i64 = 24 * 3_600;

fn with_tables(test: impl FnOnce(&Connection) -> Result<()>) {
    let migrations = &[Migration { sql: include_str!("../../sql/common/0101_quota.sql"), oldest_reader: 100 }];
    in_memory(Schema { application_id: 1, create: |_| Ok(()), migrations, import: None }, test);
}

fn add_usage(connection: &Connection, project: &str, kind: KeyKind, rows: i64, bytes: i64) -> Result<()> {
    connection.execute(
        "INSERT INTO quota_usage (store, project, key_kind_id, row_count, stored_bytes) VALUES ('things', ?1, ?2, ?3, ?4)",
        (project, kind.id(), rows, bytes),
    )?;
    Ok(())
}

#[test]
fn neighbors_reduce_the_share_of_a_project() {
    with_tables(|connection| {
        let check = |project, kind| check(connection, &STORE, Holder { project, kind }, Usage { rows: 1, bytes: 1 });
        add_usage(connection, "", KeyKind::Server, 5, 0)?;
        add_usage(connection, "shop", KeyKind::Server, 60, 0)?;
        add_usage(connection, "shop", KeyKind::Browser, 20, 0)?;
        assert_eq!(check("shop", KeyKind::Server)?, None, "data without a project are no neighbor");
        add_usage(connection, "blog", KeyKind::Browser, 1, 0)?;
        assert_eq!(check("shop", KeyKind::Server)?, Some(Reason::ProjectShare));
        assert_eq!(check("shop", KeyKind::Browser)?, Some(Reason::ProjectShare));
        assert_eq!(check("blog", KeyKind::Browser)?, None);
        add_usage(connection, "wiki", KeyKind::Server, 5, 0)?;
        assert_eq!(check("blog", KeyKind::Browser)?, Some(Reason::ServerReserve));
        assert_eq!(check("new", KeyKind::Server)?, None);
        assert_eq!(total_usage(connection, &STORE)?.rows, 91);
        Ok(())
    });
}

#[test]
fn largest_project_counts_all_its_keys() {
    with_tables(|connection| {
        assert_eq!(largest_project(connection, &STORE, Measure::Rows)?, None);
        add_usage(connection, "blog", KeyKind::Server, 30, 900)?;
        add_usage(connection, "shop", KeyKind::Server, 20, 100)?;
        add_usage(connection, "shop", KeyKind::Browser, 21, 100)?;
        let largest = |by| largest_project(connection, &STORE, by);
        assert_eq!(largest(Measure::Rows)?, Some(("shop".to_owned(), KeyKind::Browser)), "more than half of shop's");
        assert_eq!(largest(Measure::Bytes)?, Some(("blog".to_owned(), KeyKind::Server)));
        let usages = largest_usages(connection, &STORE, 2)?;
        let usages: Vec<_> = usages.iter().map(|usage| (&*usage.project, usage.key_kind, usage.rows)).collect();
        assert_eq!(usages, [("blog", "server", 30), ("shop", "browser", 21)]);
        connection.execute("UPDATE quota_usage SET row_count = row_count - 30 WHERE project = 'blog'", [])?;
        assert_eq!(largest_usages(connection, &STORE, 9)?.len(), 2, "a project without rows has no entry");
        Ok(())
    });
}

#[test]
fn usage_without_triggers_is_counted_by_the_store() {
    with_tables(|connection| {
        let holder = Holder { project: "shop", kind: KeyKind::Browser };
        for (rows, total) in [(-5, 0), (7, 7), (3, 10), (-4, 6), (-6, 0)] {
            change_usage(connection, &STORE, holder, rows, 0)?;
            assert_eq!(total_usage(connection, &STORE)?.rows, total);
        }
        assert!(largest_usages(connection, &STORE, 9)?.is_empty());
        Ok(())
    });
}

#[test]
fn browsers_lose_theirs_first_beyond_their_share_of_the_store() {
    with_tables(|connection| {
        let largest = || Ok::<_, crate::error::Error>(largest_project(connection, &STORE, Measure::Rows)?.unwrap().1);
        add_usage(connection, "shop", KeyKind::Server, 60, 0)?;
        add_usage(connection, "shop", KeyKind::Browser, 25, 0)?;
        assert_eq!(largest()?, KeyKind::Server);
        connection.execute("UPDATE quota_usage SET row_count = 26 WHERE key_kind_id = 2", [])?;
        assert_eq!(largest()?, KeyKind::Browser);
        Ok(())
    });
}

#[test]
fn totals_follow_every_change_of_the_usage() {
    with_tables(|connection| {
        let total = || total_usage(connection, &STORE);
        add_usage(connection, "blog", KeyKind::Server, 30, 900)?;
        add_usage(connection, "shop", KeyKind::Server, 20, 100)?;
        assert_eq!(total()?, Usage { rows: 50, bytes: 1_000 });
        connection.execute("UPDATE quota_usage SET row_count = row_count - 1, stored_bytes = stored_bytes - 10", [])?;
        assert_eq!(total()?, Usage { rows: 48, bytes: 980 });
        connection.execute("UPDATE quota_usage SET row_count = 0, stored_bytes = 5 WHERE project = 'blog'", [])?;
        assert_eq!(total()?, Usage { rows: 19, bytes: 90 });
        connection.execute("DELETE FROM quota_usage", [])?;
        assert_eq!(total()?, Usage::default());
        Ok(())
    });
}

#[test]
fn rejections_are_counted_for_a_day_and_named_in_warnings() {
    with_tables(|connection| {
        let at = |second| Timestamp::from_seconds(1_000_000 + second);
        let record =
            |project, reason, count, second| record_rejection(connection, &STORE, project, reason, count, at(second));
        record("shop", Reason::BrowserShare, 0, 0)?;
        assert!(rejection_entries(connection, 9)?.is_empty());
        record("shop", Reason::BrowserShare, 2, 0)?;
        record("shop", Reason::BrowserShare, 3, 10)?;
        record("blog", Reason::Evicted, 1, 20)?;
        let entries = rejection_entries(connection, 9)?;
        let entry = |entry: &super::RejectionEntry| (entry.project.clone(), entry.count, entry.since, entry.last_at);
        let expected = [("blog".to_owned(), 1, at(20), at(20)), ("shop".to_owned(), 5, at(0), at(10))];
        assert_eq!(entries.iter().map(entry).collect::<Vec<_>>(), expected);
        let warnings = rejection_warnings(connection, &STORE, at(30))?;
        assert_eq!(
            (warnings[0].code, warnings[0].count, warnings[0].project.as_deref()),
            (STORE.warning, 5, Some("shop"))
        );
        assert!(
            warnings[0].message.ends_with("the browser keys of one project may use 25 %"),
            "{}",
            warnings[0].message
        );
        assert!(rejection_warnings(connection, &STORE, at(DAY_S + 21))?.is_empty());
        record("shop", Reason::BrowserShare, 7, DAY_S + 21)?;
        assert_eq!(rejection_entries(connection, 1)?[0].count, 7, "a new period starts after a day");
        Ok(())
    });
}

#[test]
fn counts_of_rejections_are_bounded() {
    with_tables(|connection| {
        for second in 0..1_005 {
            let project = format!("p{second}");
            record_rejection(connection, &STORE, &project, Reason::StoreFull, 1, Timestamp::from_seconds(second))?;
        }
        let entries = rejection_entries(connection, 2_000)?;
        assert_eq!((entries.len(), &*entries[999].project), (1_000, "p5"));
        Ok(())
    });
}
