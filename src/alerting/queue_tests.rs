use std::time::Duration;

use rusqlite::Connection;

use super::alert::{AlertKind, AlertState, AlertSubject, NewAlert, Origin, Suppression};
use super::commands::{Admit, QueueDigest, queue, queue_test};
use super::held::read_digest;
use super::results::{Outcome, RecordOutcome};
use super::settings::AlertSettings;
use super::store::{self, DueDelivery};
use super::{create_tables, history, suppressed_count, warnings};
use crate::clock::Timestamp;
use crate::db::{Command as _, Migration, Schema, in_memory};
use crate::error::Result;
use crate::quota::Reason;
use crate::records::key_kind::KeyKind;

/// Schema of a service that has no tables but those of alerts.
pub(super) const SCHEMA: Schema = Schema {
    application_id: 1,
    create: create_tables,
    migrations: &[Migration {
        sql: concat!(
            include_str!("../../sql/common/0101_quota.sql"),
            include_str!("../../sql/alerting/0101_isolation.sql")
        ),
        oldest_reader: 100,
    }],
    import: None,
};

pub(super) const SMTP: i64 = 2;
pub(super) const WEBHOOK: i64 = 3;
pub(super) const SHOP: Origin<'_> = Origin { project: "shop", key_kind: KeyKind::Server, is_critical: false };
const PAGE: Origin<'_> = Origin { project: "shop", key_kind: KeyKind::Browser, is_critical: true };
const CRITICAL: Origin<'_> = Origin { project: "payments", key_kind: KeyKind::Server, is_critical: true };
pub(super) const DAY_S: i64 = 86_400;

pub(super) fn with_tables(test: impl FnOnce(&Connection) -> Result<()>) {
    in_memory(SCHEMA, test);
}

pub(super) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(seconds)
}

fn settings() -> AlertSettings {
    AlertSettings {
        base_url: "http://localhost".into(),
        cooldown: Duration::from_secs(600),
        per_hour_max: 20,
        digest_delay: Duration::from_secs(60),
    }
}

pub(super) fn raise(connection: &Connection, group: i64, origin: Origin<'_>, seconds: i64) -> Result<()> {
    let subject = AlertSubject::ErrorGroup(group);
    queue(connection, &NewAlert { kind: AlertKind::New, subject, origin, created_at: at(seconds) })
}

/// Decides about all waiting alerts with a limit per hour. Returns the groups of those that are sent.
pub(super) fn admit_all(connection: &Connection, per_hour_max: i64, seconds: i64) -> Result<Vec<i64>> {
    let mut admitted = Vec::new();
    while let Some(alert) = store::next_waiting(connection)? {
        let subject = alert.subject;
        let channels = vec![SMTP, WEBHOOK];
        let admit = Admit { alert, channels, per_hour_max, now: at(seconds), keep_sent: Duration::from_secs(3_600) };
        if admit.apply(connection)?.is_none() {
            admitted.extend(subject.map(AlertSubject::id));
        }
    }
    Ok(admitted)
}

pub(super) fn record(
    connection: &Connection,
    alert_id: i64,
    channel_id: i64,
    outcome: Outcome,
    seconds: i64,
) -> Result<()> {
    let attempt = 1 + next_attempts(connection, alert_id, channel_id);
    record_attempt(connection, (alert_id, channel_id), attempt, outcome, seconds)
}

fn record_attempt(
    connection: &Connection,
    (alert_id, channel_id): (i64, i64),
    attempt: u32,
    outcome: Outcome,
    seconds: i64,
) -> Result<()> {
    let (now, keep_sent) = (at(seconds), Duration::from_secs(3_600));
    RecordOutcome { alert_id, channel_id, attempt, outcome, has_recovered: false, now, keep_sent }.apply(connection)
}

fn next_attempts(connection: &Connection, alert_id: i64, channel_id: i64) -> u32 {
    let sql = "SELECT attempts FROM alert_deliveries WHERE alert_id = ?1 AND channel_id = ?2";
    connection.query_row(sql, [alert_id, channel_id], |row| row.get(0)).unwrap()
}

pub(super) fn retry() -> Outcome {
    Outcome::Retry { reason: "timed out".into(), after: None }
}

pub(super) fn rejected() -> Outcome {
    Outcome::Failed { reason: "HTTP 422".into() }
}

pub(super) fn next(connection: &Connection, channel_id: i64, seconds: i64) -> Option<DueDelivery> {
    store::next_delivery(connection, channel_id, i64::MAX, at(seconds)).unwrap()
}

pub(super) fn state_of(connection: &Connection, id: i64) -> AlertState {
    history(connection).unwrap().into_iter().find(|entry| entry.id == id).unwrap().state
}

#[test]
fn browsers_use_a_quarter_of_the_hour_and_servers_get_through() {
    with_tables(|connection| {
        for group in 1..=20 {
            raise(connection, group, PAGE, 1_000)?;
        }
        assert_eq!(admit_all(connection, 20, 1_000)?, [1, 2, 3, 4, 5]);
        assert_eq!(suppressed_count(connection)?, 15);
        raise(connection, 100, CRITICAL, 1_001)?;
        assert_eq!(admit_all(connection, 20, 1_001)?, [100]);
        // The own servers of the project, which is no longer alone, use the rest of its half.
        for group in 201..=220 {
            raise(connection, group, SHOP, 1_002)?;
        }
        assert_eq!(admit_all(connection, 20, 1_002)?, [201, 202, 203, 204, 205]);
        Ok(())
    });
}

#[test]
fn critical_alerts_of_servers_pass_others_and_those_of_browsers_do_not() {
    with_tables(|connection| {
        raise(connection, 1, PAGE, 1_000)?;
        raise(connection, 2, SHOP, 1_000)?;
        raise(connection, 3, CRITICAL, 1_000)?;
        assert_eq!(admit_all(connection, 20, 1_000)?, [3, 2, 1]);
        let order: Vec<i64> = (0..3)
            .map(|_| {
                let due = next(connection, SMTP, 1_000).unwrap();
                record(connection, due.alert_id, SMTP, Outcome::Sent, 1_000).unwrap();
                due.subject.unwrap().id()
            })
            .collect();
        assert_eq!(order, [3, 2, 1]);
        Ok(())
    });
}

#[test]
fn a_lonely_project_uses_all_but_the_reserve() {
    for (per_hour_max, expected) in [(20, 18), (10, 9), (1, 1)] {
        with_tables(|connection| {
            for group in 1..=30 {
                raise(connection, group, SHOP, 1_000)?;
            }
            assert_eq!(admit_all(connection, per_hour_max, 1_000)?.len(), expected, "{per_hour_max}");
            Ok(())
        });
    }
}

#[test]
fn critical_alerts_of_servers_take_the_place_of_others_that_nobody_has_received() {
    with_tables(|connection| {
        for group in 1..=30 {
            raise(connection, group, SHOP, 1_000)?;
        }
        assert_eq!(admit_all(connection, 20, 1_000)?.len(), 18);
        let critical = Origin { is_critical: true, ..SHOP };
        raise(connection, 100, critical, 1_001)?;
        assert_eq!(admit_all(connection, 20, 1_001)?, [100]);
        assert_eq!((state_of(connection, 18), state_of(connection, 17)), (AlertState::Suppressed, AlertState::Sending));
        let admissions: i64 = connection.query_row("SELECT count(*) FROM alert_admissions", [], |row| row.get(0))?;
        assert_eq!((admissions, suppressed_count(connection)?), (18, 13));
        // The result of an attempt that was under way changes nothing.
        record_attempt(connection, (18, SMTP), 1, Outcome::Sent, 1_002)?;
        assert_eq!(state_of(connection, 18), AlertState::Suppressed);
        // A critical report of a page takes nobody's place.
        raise(connection, 101, PAGE, 1_001)?;
        assert_eq!(admit_all(connection, 20, 1_001)?, [0_i64; 0]);
        Ok(())
    });
}

#[test]
fn an_hour_later_the_shares_are_free_again() {
    with_tables(|connection| {
        for seconds in [1_000, 4_599, 4_600] {
            for group in 1..=10 {
                raise(connection, seconds + group, PAGE, seconds)?;
            }
            let expected = if seconds == 4_599 { 0 } else { 5 };
            assert_eq!(admit_all(connection, 20, seconds)?.len(), expected, "{seconds}");
        }
        Ok(())
    });
}

#[test]
fn a_full_queue_holds_the_alerts_of_the_project_that_fills_it() {
    with_tables(|connection| {
        for group in 1..=60 {
            raise(connection, group, PAGE, 1_000)?;
        }
        raise(connection, 100, CRITICAL, 1_001)?;
        assert_eq!((history(connection)?.len(), suppressed_count(connection)?), (26, 35));
        assert_eq!(store::next_waiting(connection)?.unwrap().subject, Some(AlertSubject::ErrorGroup(100)));
        let warnings = crate::quota::rejection_warnings(connection, &settings().stores()[0], at(1_002))?;
        assert_eq!(
            (warnings[0].code, warnings[0].count, warnings[0].project.as_deref()),
            ("alerts_held", 35, Some("shop"))
        );
        Ok(())
    });
}

#[test]
fn digests_list_the_held_alerts_by_id_and_the_most_important_first() {
    with_tables(|connection| {
        for group in 1..=300 {
            raise(connection, group, PAGE, 1_000)?;
            admit_all(connection, 1, 1_000)?;
        }
        raise(connection, 999, CRITICAL, 1_100)?;
        assert_eq!(admit_all(connection, 0, 1_100)?, [0_i64; 0]);
        QueueDigest { channels: vec![SMTP], now: at(1_200) }.apply(connection)?;
        let due = next(connection, SMTP, 1_200).unwrap();
        let digest = read_digest(connection, due.alert_id)?.unwrap();
        let ids: Vec<i64> = digest.listed.iter().map(|held| held.subject.id()).collect();
        assert_eq!((due.kind, digest.alerts, digest.since), (AlertKind::Digest, 301, at(1_000)));
        assert_eq!(ids, std::iter::once(999).chain(1..=300).collect::<Vec<_>>());
        assert_eq!(suppressed_count(connection)?, 0);
        Ok(())
    });
}

#[test]
fn a_full_list_loses_subjects_of_the_largest_project() {
    with_tables(|connection| {
        raise(connection, 1, CRITICAL, 1_000)?;
        admit_all(connection, 0, 1_000)?;
        for group in 2..=700 {
            raise(connection, group, PAGE, 1_000)?;
            admit_all(connection, 0, 1_000)?;
        }
        QueueDigest { channels: vec![SMTP], now: at(1_200) }.apply(connection)?;
        let digest = read_digest(connection, next(connection, SMTP, 1_200).unwrap().alert_id)?.unwrap();
        assert_eq!((digest.alerts, digest.listed.len()), (700, 500));
        assert_eq!(digest.listed[0].subject.id(), 1);
        Ok(())
    });
}

#[test]
fn cool_down_counts_per_subject() {
    with_tables(|connection| {
        raise(connection, 7, SHOP, 1_000)?;
        admit_all(connection, 20, 1_000)?;
        let is_cooling_down = |group, seconds| {
            store::is_cooling_down(connection, AlertSubject::ErrorGroup(group), at(seconds), &settings()).unwrap()
        };
        assert!(is_cooling_down(7, 99_000), "the alert is still being sent");
        for channel in [SMTP, WEBHOOK] {
            record(connection, 1, channel, Outcome::Sent, 1_001)?;
        }
        assert!(is_cooling_down(7, 1_600) && !is_cooling_down(7, 1_601));
        assert!(!is_cooling_down(8, 1_001));
        let none = AlertSettings { cooldown: Duration::ZERO, ..settings() };
        assert!(!store::is_cooling_down(connection, AlertSubject::ErrorGroup(7), at(1_001), &none)?);
        Ok(())
    });
}

#[test]
fn digests_wait_for_the_delay_and_are_at_least_an_hour_apart() {
    with_tables(|connection| {
        let due = |seconds| store::is_digest_due(connection, at(seconds), &settings()).unwrap();
        raise(connection, 1, SHOP, 1_000)?;
        admit_all(connection, 0, 1_000)?;
        assert_eq!((due(1_059), due(1_060)), (false, true));
        QueueDigest { channels: vec![SMTP], now: at(1_060) }.apply(connection)?;
        raise(connection, 2, SHOP, 1_100)?;
        admit_all(connection, 0, 1_100)?;
        assert_eq!((due(1_200), due(4_659), due(4_660)), (false, false, true));
        Ok(())
    });
}

#[test]
fn times_ahead_of_now_mute_nothing() {
    with_tables(|connection| {
        let year_s = 365 * DAY_S;
        raise(connection, 7, PAGE, year_s)?;
        admit_all(connection, 20, year_s)?;
        for channel in [SMTP, WEBHOOK] {
            record(connection, 1, channel, Outcome::Sent, year_s)?;
        }
        raise(connection, 8, SHOP, year_s)?;
        admit_all(connection, 0, year_s)?;
        QueueDigest { channels: vec![WEBHOOK], now: at(year_s) }.apply(connection)?;
        raise(connection, 9, SHOP, year_s)?;
        admit_all(connection, 0, year_s)?;
        // The clock is right again.
        assert!(!store::is_cooling_down(connection, AlertSubject::ErrorGroup(7), at(1_000), &settings())?);
        assert!(store::has_expired_admissions(connection, at(1_000))?);
        assert!(store::is_digest_due(connection, at(1_000), &settings())?);
        assert!(next(connection, WEBHOOK, 1_000).is_some(), "the digest is due");
        for group in 11..=15 {
            raise(connection, group, PAGE, 1_000)?;
        }
        assert_eq!(admit_all(connection, 20, 1_000)?.len(), 5);
        assert_eq!(warnings(connection, at(1_000))?, []);
        Ok(())
    });
}

#[test]
fn history_keeps_100_alerts_and_those_that_limits_need() {
    with_tables(|connection| {
        for group in 1..=150 {
            raise(connection, group, SHOP, 10_000)?;
            admit_all(connection, 1_000, 10_000)?;
            let seconds = if group == 1 { 5_000 } else { 10_000 };
            for channel in [SMTP, WEBHOOK] {
                let outcome = if group <= 2 { Outcome::Sent } else { rejected() };
                record(connection, group, channel, outcome, seconds)?;
            }
        }
        let stored: i64 = connection.query_row("SELECT count(*) FROM alert_events", [], |row| row.get(0))?;
        assert_eq!((history(connection)?.len(), stored), (100, 149), "alert 1 was sent more than an hour ago");
        assert_eq!(history(connection)?[0].id, 150);
        Ok(())
    });
}

#[test]
fn alerts_of_a_later_version_are_skipped() {
    with_tables(|connection| {
        connection.execute_batch(
            "INSERT INTO alert_kinds VALUES (99, 'later');
             INSERT INTO alert_subject_types VALUES (99, 'later');
             INSERT INTO alert_events (kind_id, created_at_s, state_id) VALUES (99, 1, 1);
             INSERT INTO alert_events (kind_id, subject_type_id, subject_id, created_at_s, state_id)
                 VALUES (1, 99, 1, 1, 1);",
        )?;
        raise(connection, 7, SHOP, 2)?;
        let waiting = store::next_waiting(connection)?.map(|alert| alert.kind);
        assert_eq!((waiting, history(connection)?.len()), (Some(AlertKind::New), 1));
        Ok(())
    });
}

#[test]
fn alerts_of_an_older_version_have_no_origin() {
    with_tables(|connection| {
        connection.execute_batch(
            "INSERT INTO alert_events (kind_id, subject_type_id, subject_id, created_at_s, state_id) VALUES (1, 1, 5, 1, 1)",
        )?;
        assert_eq!(admit_all(connection, 20, 1_000)?, [5]);
        Ok(())
    });
}

#[test]
fn few_test_alerts_wait_and_none_is_limited() {
    with_tables(|connection| {
        for _ in 0..10 {
            queue_test(connection, at(1_000))?;
        }
        queue_test(connection, at(1_000))?;
        admit_all(connection, 0, 1_000)?;
        assert_eq!(next(connection, SMTP, 1_000).map(|due| due.kind), Some(AlertKind::Test));
        queue_test(connection, at(1_000))?;
        assert_eq!(history(connection)?.len(), 10, "ten are still being sent");
        Ok(())
    });
}

#[test]
fn the_reason_names_the_share() {
    let text = Suppression::HourlyLimit(Reason::BrowserShare).describe(AlertSubject::ErrorGroup(1));
    assert!(text.starts_with("ALERT_MAX_PER_HOUR: the browser keys of one project may use 25 %"), "{text}");
}
