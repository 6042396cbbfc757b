//! Messages of alerts: those of the service, the test message and the digest.

use rusqlite::Connection;

use super::alert::AlertKind;
use super::held::{Digest, read_digest};
use super::settings::AlertSettings;
use super::source::{AlertSource, DigestContent};
use super::store::DueDelivery;
use crate::error::Result;
use crate::notify::{Fact, Message, MessageId};

/// Renders the message of an alert with the current state of its subject; `None` if the subject no longer exists.
pub(super) fn render<S: AlertSource>(
    source: &S,
    reader: &Connection,
    alert: &DueDelivery,
    settings: &AlertSettings,
) -> Result<Option<Message>> {
    match (alert.kind, alert.subject) {
        (kind, Some(subject)) => source.render(reader, kind, subject, &settings.base_url),
        (AlertKind::Digest, None) => {
            let Some(digest) = read_digest(reader, alert.alert_id)? else { return Ok(None) };
            let content = source.summarize(reader, &digest.listed)?;
            Ok(Some(digest_message(&digest, content, settings)))
        }
        (_, None) => Ok(Some(test_message(settings))),
    }
}

/// Returns the id that all attempts of an alert share, also after a restart. The base URL distinguishes installations that
/// send from the same domain.
pub(super) fn message_id(alert: &DueDelivery, settings: &AlertSettings) -> MessageId {
    // FNV-1a: http://www.isthe.com/chongo/tech/comp/fnv/
    let hash = settings
        .base_url
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    MessageId {
        id: format!("{:x}.{}.{hash:016x}", alert.created_at.ms(), alert.alert_id),
        created_at: alert.created_at,
    }
}

fn test_message(settings: &AlertSettings) -> Message {
    Message {
        event: "test",
        title: "[monlight] Test alert".into(),
        facts: vec![Fact {
            key: "message",
            label: "Message",
            value: "Alerts of this installation are delivered.".into(),
        }],
        excerpt: String::new(),
        link: Some(settings.base_url.clone()),
    }
}

fn digest_message(digest: &Digest, content: DigestContent, settings: &AlertSettings) -> Message {
    let Digest { alerts, since, listed } = digest;
    let mut facts = vec![
        Fact { key: "held", label: "Alerts not sent", value: alerts.to_string() },
        Fact { key: "since", label: "Since", value: since.to_string() },
    ];
    facts.extend(content.facts);
    let unlisted = alerts - listed.iter().map(|held| held.alerts).sum::<i64>();
    let more = if unlisted > 0 { format!("{unlisted} more alerts are not listed\n") } else { String::new() };
    Message {
        event: "digest",
        title: format!("[monlight] {alerts} more alerts since {since}"),
        facts,
        excerpt: format!("{}{more}", content.excerpt),
        link: Some(settings.base_url.clone()),
    }
}
