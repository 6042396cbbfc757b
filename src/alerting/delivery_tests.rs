use std::time::Duration;

use super::alert::AlertState;
use super::commands::QueueDigest;
use super::held::read_digest;
use super::queue_tests::{
    DAY_S, SHOP, SMTP, WEBHOOK, admit_all, at, next, raise, record, rejected, retry, state_of, with_tables,
};
use super::results::{Outcome, ResumeDeliveries};
use super::{history, suppressed_count, warnings};
use crate::db::Command as _;

#[test]
fn each_channel_has_its_own_state_and_sent_means_all() {
    with_tables(|connection| {
        raise(connection, 1, SHOP, 1_000)?;
        admit_all(connection, 20, 1_000)?;
        record(connection, 1, SMTP, Outcome::Sent, 1_001)?;
        assert_eq!(state_of(connection, 1), AlertState::Sending);
        assert_eq!((next(connection, SMTP, 2_000), next(connection, WEBHOOK, 1_000).is_some()), (None, true));
        record(connection, 1, WEBHOOK, retry(), 1_001)?;
        let delivery = &history(connection)?[0].deliveries[1];
        assert_eq!((delivery.channel, delivery.attempts, delivery.next_attempt_at), ("webhook", 1, Some(at(1_002))));
        assert_eq!((next(connection, WEBHOOK, 1_001), next(connection, WEBHOOK, 1_002).is_some()), (None, true));
        record(connection, 1, WEBHOOK, Outcome::Sent, 1_002)?;
        let entry = &history(connection)?[0];
        assert_eq!(
            (entry.state, entry.finished_at, suppressed_count(connection)?),
            (AlertState::Sent, Some(at(1_002)), 0)
        );
        let detail = r#"[{"channel":"smtp","attempts":1,"outcome":"sent","reason":null},{"channel":"webhook","attempts":2,"outcome":"sent","reason":null}]"#;
        assert_eq!(entry.detail.get(), detail);
        Ok(())
    });
}

#[test]
fn rejected_alerts_go_into_the_next_digest() {
    with_tables(|connection| {
        raise(connection, 7, SHOP, 1_000)?;
        admit_all(connection, 20, 1_000)?;
        record(connection, 1, SMTP, Outcome::Sent, 1_001)?;
        record(connection, 1, WEBHOOK, rejected(), 1_001)?;
        assert_eq!((state_of(connection, 1), suppressed_count(connection)?), (AlertState::Failed, 1));
        let codes: Vec<(&str, u64)> =
            warnings(connection, at(1_002))?.iter().map(|warning| (warning.code, warning.count)).collect();
        assert_eq!(codes, [("alerts_failed", 1)]);
        QueueDigest { channels: vec![SMTP, WEBHOOK], now: at(1_100) }.apply(connection)?;
        // A digest is sent again only if no channel has delivered it.
        for channel in [SMTP, WEBHOOK] {
            record(connection, 2, channel, rejected(), 1_101)?;
        }
        assert_eq!((state_of(connection, 2), suppressed_count(connection)?), (AlertState::Failed, 1));
        QueueDigest { channels: vec![SMTP, WEBHOOK], now: at(9_000) }.apply(connection)?;
        assert_eq!(read_digest(connection, 3)?.unwrap().listed[0].subject.id(), 7);
        record(connection, 3, SMTP, Outcome::Sent, 9_001)?;
        record(connection, 3, WEBHOOK, rejected(), 9_001)?;
        assert_eq!((state_of(connection, 3), suppressed_count(connection)?), (AlertState::Failed, 0));
        Ok(())
    });
}

#[test]
fn a_channel_gives_up_after_a_day_and_not_before() {
    with_tables(|connection| {
        raise(connection, 1, SHOP, 1_000)?;
        raise(connection, 2, SHOP, 1_000)?;
        admit_all(connection, 20, 1_000)?;
        let mut now_s = 1_000;
        while let Some(due) = next(connection, WEBHOOK, now_s) {
            record(connection, due.alert_id, WEBHOOK, retry(), now_s)?;
            now_s += 1_000;
        }
        // The last attempt was at or after the end of the day, and gave up both alerts.
        assert!((1_000 + DAY_S..1_000 + DAY_S + 3_000).contains(&now_s), "{now_s}");
        let codes: Vec<&str> = warnings(connection, at(now_s))?.iter().map(|warning| warning.code).collect();
        assert_eq!((codes, suppressed_count(connection)?), (vec![], 0), "smtp has not finished");
        for id in [1, 2] {
            record(connection, id, SMTP, Outcome::Sent, now_s)?;
            assert_eq!(state_of(connection, id), AlertState::Failed);
        }
        assert_eq!(suppressed_count(connection)?, 2);
        Ok(())
    });
}

#[test]
fn repeated_failures_are_a_warning() {
    with_tables(|connection| {
        raise(connection, 1, SHOP, 1_000)?;
        admit_all(connection, 20, 1_000)?;
        record(connection, 1, WEBHOOK, retry(), 1_000)?;
        assert_eq!(warnings(connection, at(1_001))?, []);
        record(connection, 1, WEBHOOK, retry(), 1_001)?;
        let warnings = warnings(connection, at(1_002))?;
        assert_eq!((warnings.len(), warnings[0].code, warnings[0].count), (1, "alerts_failing", 1));
        assert!(warnings[0].message.contains("webhook failed 2 times, will retry: timed out"), "{warnings:?}");
        Ok(())
    });
}

#[test]
fn removed_channels_give_up_at_the_next_start_and_others_are_due() {
    with_tables(|connection| {
        raise(connection, 1, SHOP, 1_000)?;
        admit_all(connection, 20, 1_000)?;
        record(connection, 1, SMTP, retry(), 1_000)?;
        assert_eq!(next(connection, SMTP, 1_000), None);
        let (now, keep_sent) = (at(1_000), Duration::from_secs(3_600));
        ResumeDeliveries { channels: vec![SMTP], now, keep_sent }.apply(connection)?;
        assert_eq!(next(connection, SMTP, 1_000).map(|due| due.attempts), Some(1));
        record(connection, 1, SMTP, Outcome::Sent, 1_001)?;
        let entry = &history(connection)?[0];
        assert_eq!(entry.state, AlertState::Failed);
        assert!(entry.detail.get().contains("the channel is no longer configured"), "{}", entry.detail);
        Ok(())
    });
}
