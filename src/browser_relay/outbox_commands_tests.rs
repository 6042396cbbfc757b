use std::net::{IpAddr, Ipv4Addr};

use rusqlite::Connection;

use super::SCHEMA;
use super::outbox_commands::{EnqueueOutbox, OutboxBounds, RecordFailedAttempt, RetryDeadLetter, evict_from_outbox};
use super::outbox_store::count_dead_letters;
use super::upstream::{OutboundRequest, UpstreamKind};
use crate::clock::Timestamp;
use crate::db::{Command as _, counter, in_memory};
use crate::error::Result;
use crate::records::key_kind::KeyKind;

const BOUNDS: OutboxBounds = OutboxBounds { bytes_max: 10_000 };

fn now() -> Timestamp {
    Timestamp::from_seconds(1_000_000)
}

/// Stores a report of 1,000 bytes, as the outbox counts it, and returns its id.
fn enqueue(connection: &Connection, kind: UpstreamKind, project: &str, key_kind: KeyKind) -> Result<i64> {
    let request = OutboundRequest {
        kind,
        project: project.into(),
        key_kind,
        body: format!("{:?}", "x".repeat(798)).into_bytes(),
        idempotency_key: "k".into(),
        client: IpAddr::V4(Ipv4Addr::LOCALHOST),
        adjusted: Vec::new(),
        reservation: None,
    };
    EnqueueOutbox { request, bounds: BOUNDS, now: now() }.apply(connection)?;
    Ok(connection.query_row("SELECT max(id) FROM outbox", [], |row| row.get(0))?)
}

/// Returns the ids of the stored reports.
fn ids(connection: &Connection) -> Vec<i64> {
    let mut select = connection.prepare("SELECT id FROM outbox ORDER BY id").unwrap();
    select.query_map([], |row| row.get(0)).unwrap().map(std::result::Result::unwrap).collect()
}

#[test]
fn full_outbox_drops_from_the_project_that_holds_the_most_for_both_upstreams() {
    use KeyKind::{Browser, Server};
    use UpstreamKind::{Errors, Metrics};
    in_memory(SCHEMA, |connection| {
        let enqueue = |kind, project, key_kind| enqueue(connection, kind, project, key_kind);
        // 1-2 and 3-4 are for the other upstream, for which shop has less, and 5 is a server key's.
        for project in ["shop", "shop", "blog", "blog"] {
            enqueue(Metrics, project, Browser)?;
        }
        enqueue(Errors, "shop", Server)?;
        for _ in 0..4 {
            enqueue(Errors, "shop", Browser)?;
        }
        enqueue(Errors, "blog", Browser)?;
        assert_eq!(ids(connection), (1..=10).collect::<Vec<_>>());
        // The browser keys of shop hold more than half of its reports, so theirs go first.
        enqueue(Errors, "blog", Browser)?;
        enqueue(Errors, "shop", Browser)?;
        assert_eq!(ids(connection), [1, 2, 3, 4, 5, 8, 9, 10, 11, 12]);
        assert_eq!(counter(connection, "outbox_dropped")?, 2);
        assert_eq!((counter(connection, "outbox_waiting")?, counter(connection, "outbox_bytes")?), (10, 10_000));
        let rejected = "SELECT store || ' ' || project || ' ' || reason || ' ' || rejected FROM quota_rejections";
        let rejected: String = connection.query_row(rejected, [], |row| row.get(0))?;
        assert_eq!(rejected, "outbox_errors shop evicted 2");
        Ok(())
    });
}

#[test]
fn upstream_for_which_others_hold_more_loses_nothing_of_theirs() {
    use UpstreamKind::{Errors, Metrics};
    in_memory(SCHEMA, |connection| {
        for project in ["a", "b", "c"] {
            enqueue(connection, Errors, project, KeyKind::Browser)?;
            enqueue(connection, Errors, project, KeyKind::Browser)?;
        }
        for _ in 0..10 {
            enqueue(connection, Metrics, "shop", KeyKind::Browser)?;
        }
        assert_eq!(ids(connection), [1, 2, 3, 4, 5, 6, 13, 14, 15, 16]);
        // To free space in the database, the same project loses first.
        assert!(evict_from_outbox(connection)? && evict_from_outbox(connection)?);
        assert_eq!(ids(connection), [1, 2, 3, 4, 5, 6, 15, 16]);
        Ok(())
    });
}

#[test]
fn dead_letters_are_bounded_and_count_for_their_project() {
    in_memory(SCHEMA, |connection| {
        let fail = |id| {
            let reason = "HTTP 500".into();
            RecordFailedAttempt { id, status: Some(500), reason, bounds: BOUNDS, now: now() }.apply(connection)
        };
        let mut set_aside = Vec::new();
        for project in ["blog", "shop", "shop", "shop"] {
            let id = enqueue(connection, UpstreamKind::Errors, project, KeyKind::Browser)?;
            for attempt in 2..=4 {
                assert!(!fail(id)?, "attempt {attempt} is not the last");
            }
            assert!(fail(id)?);
            set_aside.push(count_dead_letters(connection, None)?);
        }
        // A quarter of the outbox is room for three bodies of 800 bytes; shop loses its oldest.
        assert_eq!(set_aside, [1, 2, 3, 3]);
        assert_eq!(count_dead_letters(connection, Some("shop"))?, 2);
        assert_eq!((counter(connection, "outbox_waiting")?, counter(connection, "outbox_dropped")?), (0, 1));
        assert!(!fail(99)?, "another command may have removed the report");

        // Dead letters of the largest project are dropped before its reports.
        for _ in 0..8 {
            enqueue(connection, UpstreamKind::Errors, "shop", KeyKind::Browser)?;
        }
        assert_eq!((ids(connection).len(), count_dead_letters(connection, Some("shop"))?), (8, 1));
        assert_eq!(count_dead_letters(connection, Some("blog"))?, 1);
        assert_eq!(RetryDeadLetter { id: 1 }.apply(connection)?, Some(UpstreamKind::Errors));
        assert_eq!(RetryDeadLetter { id: 1 }.apply(connection)?, None);
        assert_eq!((ids(connection).len(), count_dead_letters(connection, None)?), (9, 1));
        assert_eq!(counter(connection, "outbox_waiting")?, 9);
        Ok(())
    });
}
