use std::time::Duration;

use rusqlite::Connection;

use super::alert::{AlertKind, AlertState, AlertSubject, NewAlert};
use super::commands::{FinishAlert, RecordDigest, queue};
use super::settings::AlertSettings;
use super::store::{self, PendingDigest};
use super::{create_tables, history, suppressed_count};
use crate::clock::Timestamp;
use crate::db::{Command as _, Schema, in_memory};
use crate::error::Result;

const GROUP: AlertSubject = AlertSubject::ErrorGroup(7);

/// Runs `test` on the tables of [`create_tables`] alone, as in a service that has no others.
fn with_tables(test: impl FnOnce(&Connection) -> Result<()>) {
    in_memory(Schema { application_id: 1, create: create_tables, migrations: &[], import: None }, test);
}

fn settings() -> AlertSettings {
    AlertSettings {
        base_url: "http://localhost".into(),
        cooldown: Duration::from_secs(600),
        per_hour_max: 20,
        digest_delay: Duration::from_secs(60),
    }
}

fn new_alert(subject: AlertSubject, seconds: i64) -> NewAlert {
    NewAlert { kind: AlertKind::New, subject: Some(subject), created_at: Timestamp::from_seconds(seconds) }
}

fn finish(id: i64, state: AlertState, seconds: i64, in_digest: bool) -> FinishAlert {
    let now = Timestamp::from_seconds(seconds);
    FinishAlert { id, state, detail: "[]".into(), now, in_digest, keep_sent: Duration::from_secs(3_600) }
}

#[test]
fn a_full_queue_counts_alerts_for_the_digest() {
    with_tables(|connection| {
        for n in 0..103 {
            queue(connection, &new_alert(AlertSubject::ErrorGroup(n), 1_000 + n))?;
        }
        assert_eq!((history(connection)?.len(), suppressed_count(connection)?), (100, 3));
        assert_eq!(store::next_waiting(connection)?.unwrap().subject, Some(AlertSubject::ErrorGroup(0)));
        let digest = store::due_digest(connection, Timestamp::from_seconds(1_160), &settings())?;
        assert_eq!(digest, Some(PendingDigest { suppressed: 3, since: Timestamp::from_seconds(1_100) }));
        Ok(())
    });
}

#[test]
fn cool_down_counts_per_subject() {
    with_tables(|connection| {
        queue(connection, &new_alert(GROUP, 1_000))?;
        finish(1, AlertState::Sent, 1_001, false).apply(connection)?;
        let is_cooling_down = |subject, seconds| {
            store::is_cooling_down(connection, subject, Timestamp::from_seconds(seconds), &settings()).unwrap()
        };
        assert!(is_cooling_down(GROUP, 1_600) && !is_cooling_down(GROUP, 1_601));
        assert!(!is_cooling_down(AlertSubject::ErrorGroup(8), 1_001));
        Ok(())
    });
}

#[test]
fn digests_wait_for_the_delay_and_are_at_least_an_hour_apart() {
    with_tables(|connection| {
        let due = |seconds| {
            let digest = store::due_digest(connection, Timestamp::from_seconds(seconds), &settings()).unwrap();
            digest.map(|digest| digest.suppressed)
        };
        let suppress = |id, seconds| {
            queue(connection, &new_alert(GROUP, seconds))?;
            finish(id, AlertState::Suppressed, seconds, true).apply(connection)
        };
        let record = |state, suppressed, seconds| {
            let now = Timestamp::from_seconds(seconds);
            RecordDigest { suppressed, state, detail: "[]".into(), now }.apply(connection)
        };
        suppress(1, 1_000)?;
        assert_eq!((due(1_059), due(1_060)), (None, Some(1)));
        suppress(2, 1_100)?;
        record(AlertState::Failed, 1, 1_101)?;
        assert_eq!((due(4_701 - 1), due(4_701)), (None, Some(2)), "a failed digest leaves its alerts for the next");
        suppress(4, 4_702)?;
        record(AlertState::Sent, 2, 4_703)?;
        assert_eq!(suppressed_count(connection)?, 1, "the alert that was suppressed meanwhile");
        Ok(())
    });
}

#[test]
fn history_keeps_100_alerts_and_those_that_limits_need() {
    with_tables(|connection| {
        for id in 1..=150 {
            queue(connection, &new_alert(AlertSubject::ErrorGroup(id), 10_000))?;
            let state = if id <= 2 { AlertState::Sent } else { AlertState::Failed };
            finish(id, state, if id == 1 { 5_000 } else { 10_000 }, false).apply(connection)?;
        }
        let stored: i64 = connection.query_row("SELECT count(*) FROM alert_events", [], |row| row.get(0))?;
        assert_eq!((history(connection)?.len(), stored), (100, 101), "alert 2 was sent within the last hour");
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
        queue(connection, &new_alert(GROUP, 2))?;
        let waiting = store::next_waiting(connection)?.map(|alert| alert.kind);
        assert_eq!((waiting, history(connection)?.len()), (Some(AlertKind::New), 1));
        Ok(())
    });
}
