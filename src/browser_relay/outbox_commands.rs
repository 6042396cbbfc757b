//! Commands: every change to the outbox and its dead letters.

use rusqlite::{Connection, OptionalExtension as _};

use super::upstream::{OutboundRequest, UpstreamKind};
use crate::clock::Timestamp;
use crate::db::{Command, add_to_counter};
use crate::error::Result;
use crate::quota::{Bounds, Reason, Store, largest_project_of_two, record_rejection, total_usage};
use crate::records::key_kind::KeyKind;

/// Estimated bytes of an outbox row besides its body. The triggers of the table use the same number.
const OUTBOX_ROW_BYTES: i64 = 200;
/// Failed attempts after which a report is set aside.
const ATTEMPTS_MAX: i64 = 5;
/// Maximum number of dead letters.
const DEAD_LETTERS_MAX: i64 = 1_000;
/// Part of the outbox that dead letters may use.
const DEAD_LETTERS_PERCENT: u64 = 25;

/// Bounds of the outbox.
#[derive(Debug, Clone, Copy)]
pub(super) struct OutboxBounds {
    /// Maximum size of all reports and dead letters of both upstreams, in bytes.
    pub(super) bytes_max: u64,
}

impl OutboxBounds {
    /// Returns the store of an upstream. Together, the stores may use `bytes_max`.
    pub(super) fn store(self, kind: UpstreamKind) -> Store {
        let name = match kind {
            UpstreamKind::Errors => "outbox_errors",
            UpstreamKind::Metrics => "outbox_metrics",
        };
        Store { name, warning: "outbox_dropped", bounds: Bounds { rows_max: u64::MAX, bytes_max: self.bytes_max } }
    }
}

/// Stores a report that could not be forwarded. If the outbox exceeds its limit, drops the oldest reports of the project that
/// holds the most, because recent reports are more useful.
pub(super) struct EnqueueOutbox {
    pub(super) request: OutboundRequest,
    pub(super) bounds: OutboxBounds,
    pub(super) now: Timestamp,
}

impl Command for EnqueueOutbox {
    type Output = ();

    fn apply(self, transaction: &Connection) -> Result<()> {
        let OutboundRequest { kind, project, key_kind, body, idempotency_key, client, .. } = &self.request;
        let mut insert = transaction.prepare_cached(
            "INSERT INTO outbox (upstream_id, project, key_kind_id, idempotency_key, body, client, created_at_ms)
                 VALUES (?1, ?2, ?3, ?4, CAST(?5 AS TEXT), ?6, ?7)",
        )?;
        insert.execute((
            kind.id(),
            project,
            key_kind.id(),
            idempotency_key,
            body,
            client.to_string(),
            self.now.ms(),
        ))?;
        add_to_counter(transaction, "outbox_waiting", 1)?;
        add_to_counter(transaction, "outbox_bytes", body.len() as i64 + OUTBOX_ROW_BYTES)?;
        evict_surplus(transaction, self.bounds, self.now)
    }
}

/// Evicts while the outbox exceeds its limit.
fn evict_surplus(transaction: &Connection, bounds: OutboxBounds, now: Timestamp) -> Result<()> {
    loop {
        let mut bytes = 0;
        for kind in UpstreamKind::ALL {
            bytes += total_usage(transaction, &bounds.store(kind))?.bytes;
        }
        if bytes <= bounds.bytes_max || !evict(transaction, bounds, now)? {
            return Ok(());
        }
    }
}

/// Drops the oldest report of the project that holds the most for both upstreams, of the upstream for which it holds more:
/// first its dead letters, then those of its browser keys if they make up more than half. Returns `false` if there is none.
fn evict(transaction: &Connection, bounds: OutboxBounds, now: Timestamp) -> Result<bool> {
    let stores = UpstreamKind::ALL.map(|kind| bounds.store(kind));
    let Some(largest) = largest_project_of_two(transaction, &stores)? else { return Ok(false) };
    let (kind, store) = (UpstreamKind::ALL[largest.store], &stores[largest.store]);
    let oldest = |table: &str, key_kind: Option<KeyKind>| -> Result<Option<i64>> {
        let sql = format!(
            "SELECT id FROM {table} WHERE upstream_id = ?1 AND project = ?2 AND (?3 IS NULL OR key_kind_id = ?3)
                 ORDER BY id LIMIT 1"
        );
        let mut select = transaction.prepare_cached(&sql)?;
        let key_kind = key_kind.map(KeyKind::id);
        Ok(select.query_row((kind.id(), &largest.project, key_kind), |row| row.get(0)).optional()?)
    };
    let browser = Some(largest.key_kind).filter(|kind| *kind == KeyKind::Browser);
    let is_dropped = if let Some(id) = oldest("dead_letters", None)? {
        delete_dead_letter(transaction, id)?
    } else {
        let id = match oldest("outbox", browser)? {
            None if browser.is_some() => oldest("outbox", None)?,
            id => id,
        };
        id.map_or(Ok(false), |id| remove_from_outbox(transaction, id))?
    };
    if is_dropped {
        add_to_counter(transaction, "outbox_dropped", 1)?;
        record_rejection(transaction, store, &largest.project, Reason::Evicted, 1, now)?;
    }
    Ok(is_dropped)
}

/// Drops the oldest report of the project that holds the most, to free space in the database. Returns `false` if the outbox is
/// empty.
pub(super) fn evict_from_outbox(transaction: &Connection) -> Result<bool> {
    evict(transaction, OutboxBounds { bytes_max: 0 }, Timestamp::now())
}

/// Removes a delivered report from the outbox.
pub(super) struct RemoveFromOutbox {
    pub(super) id: i64,
    /// Whether the upstream accepted the report. Rejected ones are counted.
    pub(super) is_accepted: bool,
}

impl Command for RemoveFromOutbox {
    type Output = ();

    fn apply(self, transaction: &Connection) -> Result<()> {
        if remove_from_outbox(transaction, self.id)? && !self.is_accepted {
            add_to_counter(transaction, "outbox_refused", 1)?;
        }
        Ok(())
    }
}

/// Removes the report with this id. Returns `false` if there is none.
fn remove_from_outbox(transaction: &Connection, id: i64) -> Result<bool> {
    let mut delete = transaction.prepare_cached("DELETE FROM outbox WHERE id = ?1 RETURNING octet_length(body)")?;
    let body_bytes: Option<i64> = delete.query_row([id], |row| row.get(0)).optional()?;
    if let Some(body_bytes) = body_bytes {
        add_to_counter(transaction, "outbox_waiting", -1)?;
        add_to_counter(transaction, "outbox_bytes", -body_bytes - OUTBOX_ROW_BYTES)?;
    }
    Ok(body_bytes.is_some())
}

/// Records an attempt that failed while others succeeded. After too many, the report becomes a dead letter.
pub(super) struct RecordFailedAttempt {
    pub(super) id: i64,
    /// The HTTP status; `None` if the upstream did not respond.
    pub(super) status: Option<u16>,
    pub(super) reason: String,
    pub(super) bounds: OutboxBounds,
    pub(super) now: Timestamp,
}

impl Command for RecordFailedAttempt {
    /// Whether the report is a dead letter now.
    type Output = bool;

    fn apply(self, transaction: &Connection) -> Result<bool> {
        let mut update =
            transaction.prepare_cached("UPDATE outbox SET attempts = attempts + 1 WHERE id = ?1 RETURNING attempts")?;
        let attempts: Option<i64> = update.query_row([self.id], |row| row.get(0)).optional()?;
        // The first failed attempt is not counted, because nobody knew then whether others would succeed.
        let Some(attempts) = attempts.map(|counted| counted + 1).filter(|attempts| *attempts >= ATTEMPTS_MAX) else {
            return Ok(false);
        };
        let mut insert = transaction.prepare_cached(
            "INSERT INTO dead_letters (upstream_id, project, key_kind_id, idempotency_key, body, client, created_at_ms,
                                       failed_at_ms, attempts, status, reason)
                 SELECT upstream_id, project, key_kind_id, idempotency_key, body, client, created_at_ms, ?2, ?3, ?4, ?5
                 FROM outbox WHERE id = ?1",
        )?;
        insert.execute((self.id, self.now.ms(), attempts, self.status, &self.reason))?;
        remove_from_outbox(transaction, self.id)?;
        enforce_dead_letter_bounds(transaction, self.bounds, self.now)?;
        Ok(true)
    }
}

/// Deletes the oldest dead letters of the project with the most, while there are too many.
fn enforce_dead_letter_bounds(transaction: &Connection, bounds: OutboxBounds, now: Timestamp) -> Result<()> {
    let bytes_max = (bounds.bytes_max / 100 * DEAD_LETTERS_PERCENT).cast_signed();
    loop {
        let mut totals =
            transaction.prepare_cached("SELECT count(*), coalesce(sum(octet_length(body)), 0) FROM dead_letters")?;
        let (rows, bytes): (i64, i64) = totals.query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        if rows <= DEAD_LETTERS_MAX && bytes <= bytes_max {
            return Ok(());
        }
        let mut largest = transaction.prepare_cached(
            "SELECT min(id), project, upstream_id FROM dead_letters GROUP BY project, upstream_id
                 ORDER BY sum(octet_length(body)) DESC LIMIT 1",
        )?;
        let (id, project, upstream): (i64, String, i64) =
            largest.query_row([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        delete_dead_letter(transaction, id)?;
        add_to_counter(transaction, "outbox_dropped", 1)?;
        let store = bounds.store(UpstreamKind::from_id(upstream));
        record_rejection(transaction, &store, &project, Reason::Evicted, 1, now)?;
    }
}

/// Moves a dead letter back to the outbox.
pub(super) struct RetryDeadLetter {
    pub(super) id: i64,
}

impl Command for RetryDeadLetter {
    /// The upstream, or `None` if the id is unknown.
    type Output = Option<UpstreamKind>;

    fn apply(self, transaction: &Connection) -> Result<Self::Output> {
        let mut insert = transaction.prepare_cached(
            "INSERT INTO outbox (upstream_id, project, key_kind_id, idempotency_key, body, client, created_at_ms)
                 SELECT upstream_id, project, key_kind_id, idempotency_key, body, client, created_at_ms
                 FROM dead_letters WHERE id = ?1
                 RETURNING upstream_id, octet_length(body)",
        )?;
        let moved = insert.query_row([self.id], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))).optional()?;
        let Some((upstream, body_bytes)) = moved else { return Ok(None) };
        delete_dead_letter(transaction, self.id)?;
        add_to_counter(transaction, "outbox_waiting", 1)?;
        add_to_counter(transaction, "outbox_bytes", body_bytes + OUTBOX_ROW_BYTES)?;
        Ok(Some(UpstreamKind::from_id(upstream)))
    }
}

/// Deletes a dead letter.
pub(super) struct DeleteDeadLetter {
    pub(super) id: i64,
}

impl Command for DeleteDeadLetter {
    /// Whether the dead letter existed.
    type Output = bool;

    fn apply(self, transaction: &Connection) -> Result<bool> {
        delete_dead_letter(transaction, self.id)
    }
}

/// Deletes a dead letter. Returns `false` if there is none with this id.
fn delete_dead_letter(transaction: &Connection, id: i64) -> Result<bool> {
    Ok(transaction.prepare_cached("DELETE FROM dead_letters WHERE id = ?1")?.execute([id])? > 0)
}
