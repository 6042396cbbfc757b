//! Alerts that are held for the digest: their number, and the subjects that the digest lists.

use rusqlite::{Connection, OptionalExtension as _, Row};

use super::alert::{AlertSubject, Origin};
use super::limits::HELD_SUBJECTS_MAX;
use crate::clock::Timestamp;
use crate::error::Result;
use crate::records::key_kind::KeyKind;

/// Alerts about one subject that a digest lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldAlert {
    /// Object of the events.
    pub subject: AlertSubject,
    /// Project of the subject.
    pub project: String,
    /// Kind of the key that reported the events; server if at least one event came through a server key.
    pub key_kind: KeyKind,
    /// Whether a report was critical.
    pub is_critical: bool,
    /// Number of alerts.
    pub alerts: i64,
}

/// Holds an alert for the next digest, in the caller's transaction.
pub(super) fn hold(transaction: &Connection, subject: AlertSubject, origin: Origin<'_>, now: Timestamp) -> Result<()> {
    let mut count = transaction.prepare_cached(
        "UPDATE alert_digest SET since_s = iif(suppressed = 0, ?1, since_s), suppressed = suppressed + 1",
    )?;
    count.execute([now.seconds()])?;
    let (type_id, id) = (subject.type_id(), subject.id());
    let (kind, is_critical) = (origin.key_kind.id(), origin.is_critical);
    let mut update = transaction.prepare_cached(
        "UPDATE held_alerts SET alerts = alerts + 1, key_kind_id = min(key_kind_id, ?3), critical = max(critical, ?4)
         WHERE digest_id IS NULL AND subject_type_id = ?1 AND subject_id = ?2",
    )?;
    if update.execute((type_id, id, kind, is_critical))? > 0 {
        return Ok(());
    }
    let mut insert = transaction.prepare_cached(
        "INSERT INTO held_alerts (subject_type_id, subject_id, project, key_kind_id, critical, alerts)
         VALUES (?1, ?2, ?3, ?4, ?5, 1)",
    )?;
    insert.execute((type_id, id, origin.project, kind, is_critical))?;
    let mut evict = transaction.prepare_cached(
        "DELETE FROM held_alerts WHERE (SELECT count(*) FROM held_alerts WHERE digest_id IS NULL) > ?1 AND id =
             (SELECT id FROM held_alerts WHERE digest_id IS NULL AND project =
                 (SELECT project FROM held_alerts WHERE digest_id IS NULL GROUP BY project ORDER BY count(*) DESC LIMIT 1)
              ORDER BY key_kind_id DESC, critical, id DESC LIMIT 1)",
    )?;
    evict.execute([HELD_SUBJECTS_MAX])?;
    Ok(())
}

/// Moves all held alerts into the digest with this id.
pub(super) fn move_into_digest(transaction: &Connection, digest_id: i64, now: Timestamp) -> Result<()> {
    transaction.execute(
        "INSERT INTO alert_digests (alert_id, alerts, since_s) SELECT ?1, suppressed, since_s FROM alert_digest",
        [digest_id],
    )?;
    transaction.execute("UPDATE held_alerts SET digest_id = ?1 WHERE digest_id IS NULL", [digest_id])?;
    transaction.execute("UPDATE alert_digest SET suppressed = 0, since_s = ?1", [now.seconds()])?;
    Ok(())
}

/// Forgets the alerts of a digest that at least one channel has delivered. The alerts of any other digest are listed in the
/// next one.
pub(super) fn settle_digest(transaction: &Connection, digest_id: i64, is_delivered: bool) -> Result<()> {
    if is_delivered {
        transaction.execute("DELETE FROM held_alerts WHERE digest_id = ?1", [digest_id])?;
        return Ok(());
    }
    transaction.execute(
        "UPDATE alert_digest SET
             since_s = iif(suppressed = 0, d.since_s, min(alert_digest.since_s, d.since_s)),
             suppressed = suppressed + d.alerts
         FROM alert_digests d WHERE d.alert_id = ?1",
        [digest_id],
    )?;
    transaction.execute("UPDATE held_alerts SET digest_id = NULL WHERE digest_id = ?1", [digest_id])?;
    Ok(())
}

/// A digest that is being sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Digest {
    /// Number of held alerts.
    pub(super) alerts: i64,
    /// Time of the first of them.
    pub(super) since: Timestamp,
    /// Alerts to list: critical ones of servers, then other ones of servers, then those of browsers.
    pub(super) listed: Vec<HeldAlert>,
}

/// Reads the digest with this id; `None` for a digest of an earlier version.
pub(super) fn read_digest(reader: &Connection, digest_id: i64) -> Result<Option<Digest>> {
    let mut read = reader.prepare_cached("SELECT alerts, since_s FROM alert_digests WHERE alert_id = ?1")?;
    let numbers = |row: &Row<'_>| Ok((row.get(0)?, Timestamp::from_seconds(row.get(1)?)));
    let Some((alerts, since)) = read.query_row([digest_id], numbers).optional()? else { return Ok(None) };
    let mut read = reader.prepare_cached(
        "SELECT subject_type_id, subject_id, project, key_kind_id, critical, alerts FROM held_alerts
         WHERE digest_id = ?1 AND subject_type_id = ?2
         ORDER BY (critical = 1 AND key_kind_id = 1) DESC, key_kind_id, critical DESC, id",
    )?;
    let rows = read.query_map((digest_id, AlertSubject::ERROR_GROUP), |row| {
        Ok(HeldAlert {
            subject: AlertSubject::from_columns(row.get(0)?, row.get(1)?, 0)?,
            project: row.get(2)?,
            key_kind: KeyKind::from_id(row.get(3)?),
            is_critical: row.get(4)?,
            alerts: row.get(5)?,
        })
    })?;
    Ok(Some(Digest { alerts, since, listed: rows.collect::<rusqlite::Result<_>>()? }))
}
