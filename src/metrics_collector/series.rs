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
/// The name that stands for all names that were new when there was no room for any.
const OVERFLOW_NAME: &str = "overflow";

/// What tells a series from all others, as 128 bits that nobody outside can steer.
pub(super) type Identity = u128;

/// Makes identities, with keys of this process's own.
#[derive(Debug, Clone, Default)]
pub(super) struct Hasher(RandomState, RandomState);

impl Hasher {
    /// The identity of a point's series; `parts` is where its parts are put side by side, since to hash them in one go
    /// takes a quarter of the time.
    pub(super) fn identity(&self, point: &Point<'_>, parts: &mut Vec<u8>) -> Identity {
        parts.clear();
        parts.push(point.kind as u8);
        let labels = point.labels.iter().flat_map(|(name, value)| [name, value]);
        for part in [&point.project, &point.name].into_iter().chain(labels) {
            // With its length, of which nobody has 65,536 bytes, so that no other parts are the same side by side.
            parts.extend_from_slice(&(part.len() as u16).to_le_bytes());
            parts.extend_from_slice(part.as_bytes());
        }
        u128::from(self.0.hash_one(&*parts)) << 64 | u128::from(self.1.hash_one(&*parts))
    }
}

/// The series that are known, by identity. Owned by the writer's thread through the commands it applies.
#[derive(Debug, Default)]
pub(super) struct Known {
    ids: HashMap<Identity, i64>,
    /// The series that take what is over a cap, by the identity of a point without labels.
    overflows: HashMap<Identity, i64>,
    /// The writer's count of failed writes when this was last right: a batch that failed takes its series with it.
    failures: u64,
    /// Whether the log has said already that there is no room for any more series.
    said_full: bool,
}

/// The series a point belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resolved {
    /// One of its own.
    Own(i64),
    /// That of everything over a cap.
    Overflow(i64),
}

/// Which cap keeps a series from being made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cap {
    InAll,
    PerMetric,
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
        self.overflows.clear();
    }

    pub(super) fn get(&self, identity: Identity) -> Option<i64> {
        self.ids.get(&identity).copied()
    }

    /// Finds or makes the series of a point; over a cap it is the overflow series of the same metric.
    pub(super) fn resolve(
        &mut self,
        transaction: &Connection,
        hasher: &Hasher,
        point: &Point<'_>,
        caps: SeriesCaps,
        now: Timestamp,
    ) -> Result<Resolved> {
        let (labels, mut parts) = (labels_json(&point.labels), Vec::new());
        let known = find(transaction, point, &labels)?;
        let id = match known {
            Some(id) => id,
            None => {
                let metric = hasher.identity(&Point { labels: Vec::new(), ..point.clone() }, &mut parts);
                if let Some(id) = self.overflows.get(&metric) {
                    return Ok(Resolved::Overflow(*id));
                }
                if let Some(cap) = reached(transaction, point, caps)? {
                    let id = self.overflow(transaction, point, cap, now)?;
                    self.overflows.insert(metric, id);
                    return Ok(Resolved::Overflow(id));
                }
                insert(transaction, point, &labels, now)?
            }
        };
        // Only what is apart is remembered: there may be no end of the others.
        self.ids.insert(hasher.identity(point, &mut parts), id);
        Ok(Resolved::Own(id))
    }

    /// Finds or makes the series for what is over a cap. There are at most as many as there are metrics, and three
    /// more: one of each type for metrics that are new when there is no room for any.
    fn overflow(&mut self, transaction: &Connection, point: &Point<'_>, cap: Cap, now: Timestamp) -> Result<i64> {
        if let Some(id) = find(transaction, point, OVERFLOW_LABELS)? {
            return Ok(id);
        }
        if cap == Cap::InAll && !exists(transaction, point)? {
            let any = Point { name: OVERFLOW_NAME.into(), project: "".into(), ..point.clone() };
            self.say_full();
            return match find(transaction, &any, OVERFLOW_LABELS)? {
                Some(id) => Ok(id),
                None => insert(transaction, &any, OVERFLOW_LABELS, now),
            };
        }
        match cap {
            Cap::InAll => self.say_full(),
            Cap::PerMetric => log::warn!(
                "the metric {:?} has reached MAX_SERIES_PER_METRIC: what is new counts in its series overflow=true",
                point.name
            ),
        }
        insert(transaction, point, OVERFLOW_LABELS, now)
    }

    fn say_full(&mut self) {
        if !std::mem::replace(&mut self.said_full, true) {
            log::warn!("MAX_SERIES is reached: what is new counts in series with the label overflow=true");
        }
    }
}

fn find(transaction: &Connection, point: &Point<'_>, labels: &str) -> Result<Option<i64>> {
    let mut find = transaction
        .prepare_cached("SELECT id FROM series WHERE name = ?1 AND type = ?2 AND project = ?3 AND labels = ?4")?;
    Ok(find.query_row((&point.name, point.kind.name(), &point.project, labels), |row| row.get(0)).optional()?)
}

/// Whether a point's metric has any series.
fn exists(transaction: &Connection, point: &Point<'_>) -> Result<bool> {
    let mut any =
        transaction.prepare_cached("SELECT 1 FROM series WHERE name = ?1 AND type = ?2 AND project = ?3 LIMIT 1")?;
    Ok(any.exists((&point.name, point.kind.name(), &point.project))?)
}

fn reached(transaction: &Connection, point: &Point<'_>, caps: SeriesCaps) -> Result<Option<Cap>> {
    let mut all = transaction.prepare_cached("SELECT value FROM totals WHERE name = 'series'")?;
    if all.query_row([], |row| row.get::<_, i64>(0))? >= caps.in_all {
        return Ok(Some(Cap::InAll));
    }
    let mut same = transaction.prepare_cached("SELECT count(*) FROM series WHERE name = ?1")?;
    let same: i64 = same.query_row([&point.name], |row| row.get(0))?;
    Ok((same >= caps.per_metric).then_some(Cap::PerMetric))
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
