//! Tests of the shares: browsers of several projects leave room for servers, and critical alerts of servers come first.

use rusqlite::Connection;

use super::alert::Origin;
use super::limits::{QUEUE, hourly_store};
use super::queue_tests::{SMTP, WEBHOOK, admit_all, next, raise, record, retry, with_tables};
use super::results::Outcome;
use crate::error::Result;
use crate::quota::{Store, kind_usage};
use crate::records::key_kind::KeyKind;

const CRITICAL: Origin<'_> = Origin { project: "payments", key_kind: KeyKind::Server, is_critical: true };
const APP: Origin<'_> = Origin { project: "app", key_kind: KeyKind::Server, is_critical: false };

/// Raises alerts with the browser keys of five projects.
fn flood(connection: &Connection, alerts_per_project: i64) -> Result<()> {
    for (page, project) in (1..).zip(["a", "b", "c", "d", "e"]) {
        for number in 0..alerts_per_project {
            let origin = Origin { project, key_kind: KeyKind::Browser, is_critical: true };
            raise(connection, page * 1_000 + number, origin, 1_000)?;
        }
    }
    Ok(())
}

/// Returns the number of alerts of browsers and of servers in a store.
fn used(connection: &Connection, store: &Store) -> (u64, u64) {
    let rows = |kind| kind_usage(connection, store, None, kind).unwrap().rows;
    (rows(KeyKind::Browser), rows(KeyKind::Server))
}

/// Finishes an attempt of all alerts in the queue of a channel.
fn attempt_all(connection: &Connection, channel_id: i64, outcome: &Outcome) -> Result<()> {
    while let Some(due) = next(connection, channel_id, 1_000) {
        record(connection, due.alert_id, channel_id, outcome.clone(), 1_000)?;
    }
    Ok(())
}

#[test]
fn browsers_of_all_projects_use_half_of_the_hour() {
    with_tables(|connection| {
        flood(connection, 6)?;
        assert_eq!(admit_all(connection, 20, 1_000)?.len(), 10);
        for channel in [SMTP, WEBHOOK] {
            attempt_all(connection, channel, &Outcome::Sent)?;
        }
        for group in 1..=9 {
            raise(connection, group, APP, 1_000)?;
        }
        assert_eq!(admit_all(connection, 20, 1_000)?.len(), 9);
        raise(connection, 100, CRITICAL, 1_000)?;
        assert_eq!(admit_all(connection, 20, 1_000)?, [100]);
        // The half of servers is used too.
        raise(connection, 101, CRITICAL, 1_000)?;
        assert_eq!(admit_all(connection, 20, 1_000)?, [0_i64; 0]);
        assert_eq!(used(connection, &hourly_store(20)), (10, 10));
        Ok(())
    });
}

#[test]
fn critical_alerts_of_servers_displace_those_of_other_browsers_that_nobody_received() {
    with_tables(|connection| {
        flood(connection, 6)?;
        for group in 1..=10 {
            raise(connection, group, APP, 1_000)?;
        }
        // The browsers leave the reserve of servers.
        assert_eq!(admit_all(connection, 20, 1_000)?.len(), 18);
        // The channels are down, and have tried all alerts.
        for channel in [SMTP, WEBHOOK] {
            attempt_all(connection, channel, &retry())?;
        }
        for group in 101..=110 {
            raise(connection, group, CRITICAL, 1_000)?;
        }
        assert_eq!(admit_all(connection, 20, 1_000)?, (101..=110).collect::<Vec<_>>());
        assert_eq!(used(connection, &hourly_store(20)), (0, 20));
        Ok(())
    });
}

#[test]
fn critical_alerts_of_servers_are_not_held_because_of_the_own_browsers() {
    with_tables(|connection| {
        flood(connection, 5)?;
        let own = Origin { project: "a", ..APP };
        for group in 1..=6 {
            raise(connection, group, own, 1_000)?;
        }
        assert_eq!(admit_all(connection, 20, 1_000)?.len(), 16);
        for channel in [SMTP, WEBHOOK] {
            attempt_all(connection, channel, &Outcome::Sent)?;
        }
        for group in 101..=105 {
            raise(connection, group, Origin { is_critical: true, ..own }, 1_000)?;
        }
        assert_eq!(admit_all(connection, 20, 1_000)?, [101, 102, 103, 104]);
        Ok(())
    });
}

#[test]
fn browsers_of_all_projects_use_half_of_the_queue_and_make_room_in_it() {
    with_tables(|connection| {
        flood(connection, 25)?;
        assert_eq!(used(connection, &QUEUE), (50, 0));
        for group in 1..=60 {
            raise(connection, group, APP, 1_000)?;
        }
        assert_eq!(used(connection, &QUEUE), (50, 50));
        raise(connection, 100, Origin { is_critical: false, ..CRITICAL }, 1_000)?;
        assert_eq!(used(connection, &QUEUE), (50, 50), "it is not critical");
        for group in 101..=160 {
            raise(connection, group, CRITICAL, 1_000)?;
        }
        assert_eq!(used(connection, &QUEUE), (0, 100));
        Ok(())
    });
}
