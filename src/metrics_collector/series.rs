//! Which series a point belongs to. Series are found by a hash of their identity in a table in memory, so that a known
//! one costs no query; the database decides on the others.

use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};

use rusqlite::{Connection, OptionalExtension as _};

use super::config::SeriesCaps;
use super::points::Point;
use crate::clock::Timestamp;
use crate::error::Result;

/// The labels of the series that takes what is over a cap.
pub(super) const OVERFLOW_LABELS: &str = r#"{"overflow":"true"}"#;

/// What tells a series from all others, as 128 bits that nobody outside can steer.
pub(super) type Identity = u128;

/// Makes identities, with keys of this process's own.
#[derive(Debug, Clone, Default)]
pub(super) struct Hasher(RandomState, RandomState);

impl Hasher {
    /// The identity of a point's series.
    pub(super) fn identity(&self, point: &Point<'_>) -> Identity {
        let parts = (point.kind, &point.project, &point.name, &point.labels);
        u128::from(self.0.hash_one(parts)) << 64 | u128::from(self.1.hash_one(parts))
    }
}

/// The series that are known, by identity. Owned by the writer's thread through the commands it applies.
#[derive(Debug, Default)]
pub(super) struct Known {
    ids: HashMap<Identity, i64>,
    /// The writer's count of failed writes when this was last right: a batch that failed takes its series with it.
    failures: u64,
}

impl Known {
    /// Forgets everything when writes have failed since the last look.
    pub(super) fn trust_unless(&mut self, failures: u64) {
        if failures != self.failures {
            self.forget();
            self.failures = failures;
        }
    }

    pub(super) fn forget(&mut self) {
        self.ids.clear();
    }

    pub(super) fn get(&self, identity: Identity) -> Option<i64> {
        self.ids.get(&identity).copied()
    }

    /// Finds or makes the series of a point; over a cap it is the overflow series of the same metric.
    pub(super) fn resolve(
        &mut self,
        transaction: &Connection,
        identity: Identity,
        point: &Point<'_>,
        caps: SeriesCaps,
        now: Timestamp,
    ) -> Result<i64> {
        let labels = labels_json(&point.labels);
        let id = match find(transaction, point, &labels)? {
            Some(id) => id,
            None if full(transaction, point, caps)? => {
                let counted = "UPDATE totals SET value = value + 1 WHERE name = 'overflowed'";
                transaction.prepare_cached(counted)?.execute([])?;
                match find(transaction, point, OVERFLOW_LABELS)? {
                    Some(id) => return Ok(id),
                    None => return insert(transaction, point, OVERFLOW_LABELS, now),
                }
            }
            None => insert(transaction, point, &labels, now)?,
        };
        // Only what is apart is remembered: there may be no end of the others.
        self.ids.insert(identity, id);
        Ok(id)
    }
}

fn find(transaction: &Connection, point: &Point<'_>, labels: &str) -> Result<Option<i64>> {
    let mut find = transaction
        .prepare_cached("SELECT id FROM series WHERE name = ?1 AND type = ?2 AND project = ?3 AND labels = ?4")?;
    Ok(find.query_row((&point.name, point.kind.name(), &point.project, labels), |row| row.get(0)).optional()?)
}

fn full(transaction: &Connection, point: &Point<'_>, caps: SeriesCaps) -> Result<bool> {
    let mut all = transaction.prepare_cached("SELECT value FROM totals WHERE name = 'series'")?;
    if all.query_row([], |row| row.get::<_, i64>(0))? >= caps.in_all {
        return Ok(true);
    }
    let mut same = transaction.prepare_cached("SELECT count(*) FROM series WHERE name = ?1")?;
    Ok(same.query_row([&point.name], |row| row.get::<_, i64>(0))? >= caps.per_metric)
}

fn insert(transaction: &Connection, point: &Point<'_>, labels: &str, now: Timestamp) -> Result<i64> {
    let mut insert = transaction
        .prepare_cached("INSERT INTO series (name, type, project, labels, created_at) VALUES (?1, ?2, ?3, ?4, ?5)")?;
    let id = insert.insert((&point.name, point.kind.name(), &point.project, labels, now.ms()))?;
    transaction.prepare_cached("UPDATE totals SET value = value + 1 WHERE name = 'series'")?.execute([])?;
    Ok(id)
}

/// Labels as a JSON object, in the order they are in.
pub(super) fn labels_json(labels: &[(Cow<'_, str>, Cow<'_, str>)]) -> String {
    let text = |text: &str| serde_json::Value::from(text).to_string();
    let members: Vec<String> = labels.iter().map(|(name, value)| format!("{}:{}", text(name), text(value))).collect();
    format!("{{{}}}", members.join(","))
}
