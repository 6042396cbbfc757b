//! Every point goes on to a server that keeps metrics for longer, by Prometheus' remote write: totals of counters and
//! histograms, which outlive whatever was missed, and the last values of gauges.
//!
//! Points are sent in the order they came in, some seconds of them at a time; what they add to is kept with the number
//! of the last one that was taken. So each counts once, however often it is sent and whatever happens meanwhile.

mod commands;
mod protocol;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::Collector;
use super::cumulative::{Cumulative, Named, Table};
use super::exposed::{free_name, label_pairs, metric_name};
use super::points::Kind;
use super::store::total;
use crate::background::{Job, StopToken};
use crate::clock::Timestamp;
use crate::db::Writer;
use crate::error::Result;
use crate::export::{Backoff, Outcome, Target};
pub(super) use commands::Forget;
use commands::{Begin, Claim, Sent};
use protocol::Request;

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How far apart samples of a series are: what came within it is one.
const STEP: Duration = Duration::from_secs(10);
/// Points sent together; more make another step.
const POINTS_AT_ONCE: usize = 5_000;
/// Samples of a request, about 200 bytes each before they are packed.
const SAMPLES_PER_REQUEST: usize = 2_000;

/// The job that sends.
pub(super) fn job(collector: &Arc<Collector>, target: Target) -> Job {
    let (backoff, names, stepped) = (Backoff::default(), Names::default(), Instant::now());
    let mut sending = Sending { collector: Arc::clone(collector), target, backoff, names, stepped };
    let run = Box::new(move |pause: &StopToken| {
        // What fails now is done at the next look; the writer says in the log when the disk is the reason.
        if let Err(why) = sending.look(pause) {
            log::warn!("remote write waits: {why}");
        }
    });
    Job { name: "remote-write", interval: LOOK_EVERY, run }
}

/// How many points wait, and how far behind what was sent is, in seconds.
pub(super) fn lag(connection: &Connection, now: Timestamp) -> Result<(i64, i64)> {
    let cursor = total(connection, "remote_cursor")?;
    let newest: Option<i64> = connection.query_row("SELECT max(id) FROM points", [], |row| row.get(0))?;
    let waiting = newest.filter(|_| cursor >= 0).map_or(0, |newest| newest - cursor);
    let behind = now.saturating_since(Timestamp::from_ms(total(connection, "remote_at")?)).as_secs();
    Ok((waiting, if waiting > 0 { behind.cast_signed() } else { 0 }))
}

struct Sending {
    collector: Arc<Collector>,
    target: Target,
    backoff: Backoff,
    names: Names,
    stepped: Instant,
}

impl Sending {
    fn look(&mut self, pause: &StopToken) -> Result<()> {
        let collector = Arc::clone(&self.collector);
        let writer = &collector.core.writer;
        while self.backoff.is_over(Instant::now()) && !pause.stopping() {
            let reader = collector.core.readers.acquire()?;
            if total(&reader, "remote_cursor")? < 0 {
                drop(reader);
                writer.run(Begin { now: Timestamp::now() })?;
                continue;
            }
            let Some(step) = Step::next(&reader, self.stepped.elapsed() >= STEP)? else { return Ok(()) };
            drop(reader);
            if !step.is_claimed {
                writer.run(Claim { last: step.last, now: Timestamp::now() })?;
                // What was claimed says of which moment it is.
                continue;
            }
            if !self.send(step, writer)? {
                return Ok(());
            }
            self.stepped = Instant::now();
        }
        Ok(())
    }

    /// Sends a step and notes that it was taken. Answers whether it was.
    fn send(&mut self, step: Step, writer: &Writer) -> Result<bool> {
        let (mut sent, mut refused) = (0, 0);
        let mut request = Request::default();
        let mut series = step.series.iter().peekable();
        while let Some((id, (named, all))) = series.next() {
            let (name, marked) = {
                let reader = self.collector.core.readers.acquire()?;
                self.names.of(&reader, *id, named)?
            };
            request.add(&name, marked.as_ref().unwrap_or(named), all, step.at);
            if series.peek().is_some() && request.samples() < SAMPLES_PER_REQUEST {
                continue;
            }
            let samples = i64::try_from(request.samples()).unwrap_or(i64::MAX);
            match self.target.post(&protocol::HEADERS, &std::mem::take(&mut request).packed()?) {
                Outcome::Taken => sent += samples,
                Outcome::Refused(why) => {
                    log::warn!("remote write: {samples} samples are refused: {why}");
                    refused += samples;
                }
                Outcome::Later(why, wait) => {
                    self.backoff.failed(Instant::now(), wait);
                    self.collector.remote.note(why);
                    return Ok(false);
                }
            }
        }
        self.backoff.succeeded();
        self.collector.remote.is_over();
        let states = step.series.into_iter().map(|(id, (_, all))| (id, all)).collect();
        writer.run(Sent { last: step.last, at: step.at, states, sent, refused })?;
        Ok(true)
    }
}

/// Points that are sent together, added to all that was sent before.
struct Step {
    /// The number of the last one.
    last: i64,
    /// Whether it was decided before that these are sent together.
    is_claimed: bool,
    /// Of which moment the samples are, in ms since 1970: later than those before.
    at: i64,
    series: BTreeMap<i64, (Named, Cumulative)>,
}

impl Step {
    /// What comes next, if it is enough to be sent or `is_time`.
    fn next(connection: &Connection, is_time: bool) -> Result<Option<Self>> {
        let snapshot = connection.unchecked_transaction()?;
        let [cursor, claimed, claimed_at, before] =
            ["remote_cursor", "remote_claimed", "remote_claimed_at", "remote_at"].map(|name| total(&snapshot, name));
        let (cursor, claimed) = (cursor?, claimed?);
        let is_claimed = claimed > cursor;
        let mut read = snapshot.prepare_cached(
            "SELECT p.id, p.series_id, p.at, p.value, s.type, s.name, s.project, s.labels
             FROM points p LEFT JOIN series s ON s.id = p.series_id WHERE p.id > ?1 AND p.id <= ?2 ORDER BY p.id",
        )?;
        let mut rows = read.query((cursor, if is_claimed { claimed } else { i64::MAX }))?;
        let (mut last, mut latest, mut ends_at, mut is_full) = (cursor, i64::MIN, None, false);
        let (mut series, mut points) = (BTreeMap::new(), 0);
        while let Some(row) = rows.next()? {
            let (id, at): (i64, i64) = (row.get(0)?, row.get(2)?);
            let ends_at =
                *ends_at.get_or_insert(at.saturating_add(i64::try_from(STEP.as_millis()).unwrap_or(i64::MAX)));
            if !is_claimed && (points == POINTS_AT_ONCE || at > ends_at) {
                is_full = true;
                break;
            }
            (last, latest, points) = (id, latest.max(at), points + 1);
            // A series goes after its points. Were one missing all the same, the others must not wait for it.
            let Some(kind) = Kind::named(row.get_ref(4)?.as_str().unwrap_or_default()) else { continue };
            let (series_id, value) = (row.get(1)?, row.get(3)?);
            let (_, all) = match series.entry(series_id) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(first) => {
                    let named = Named { kind, name: row.get(5)?, project: row.get(6)?, labels: row.get(7)? };
                    first.insert((named, Cumulative::load(&snapshot, Table::Remote, series_id)?))
                }
            };
            all.add(kind, value, at);
            if kind == Kind::Histogram {
                all.sketch.add(value);
            }
        }
        if last == cursor || !(is_claimed || is_full || is_time) {
            return Ok(None);
        }
        Ok(Some(Self { last, is_claimed, at: latest.min(claimed_at?).max(before? + 1), series }))
    }
}

/// What metrics are called where types of one name are told apart by their names, and which series would be mistaken for
/// others.
#[derive(Debug, Default)]
struct Names {
    /// By kind and name as it may stand.
    metrics: HashMap<(Kind, String), String>,
    taken: HashSet<String>,
    /// The first series of each name and set of labels.
    first: HashMap<u64, i64>,
    /// Up to which series is known.
    known: i64,
}

impl Names {
    /// What a series is called, and how it is told apart where it would be another one's double: by its number.
    fn of(&mut self, connection: &Connection, id: i64, named: &Named) -> Result<(String, Option<Named>)> {
        if id > self.known {
            self.read(connection)?;
        }
        let key = (named.kind, metric_name(&named.name));
        let name = self.metrics.get(&key).cloned().unwrap_or(key.1);
        let is_first = self.first.get(&identity(&name, named)).is_none_or(|first| *first == id);
        let marked = || {
            let mut labels: BTreeMap<String, String> = serde_json::from_str(&named.labels).unwrap_or_default();
            labels.insert("series".into(), id.to_string());
            let labels = serde_json::to_string(&labels).unwrap_or_default();
            Named { kind: named.kind, name: named.name.clone(), project: named.project.clone(), labels }
        };
        Ok((name, (!is_first).then(marked)))
    }

    /// Gets to know new series, in the order of their numbers, so that names stay what they are.
    fn read(&mut self, connection: &Connection) -> Result<()> {
        let mut read = connection
            .prepare_cached("SELECT id, type, name, project, labels FROM series WHERE id > ?1 ORDER BY id")?;
        let mut rows = read.query([self.known])?;
        while let Some(row) = rows.next()? {
            self.known = row.get(0)?;
            let Some(kind) = Kind::named(row.get_ref(1)?.as_str().unwrap_or_default()) else { continue };
            let named = Named { kind, name: row.get(2)?, project: row.get(3)?, labels: row.get(4)? };
            let key = (kind, metric_name(&named.name));
            if !self.metrics.contains_key(&key) {
                let name = free_name(&mut self.taken, &key.1, kind);
                self.metrics.insert(key.clone(), name);
            }
            self.first.entry(identity(&self.metrics[&key], &named)).or_insert(self.known);
        }
        Ok(())
    }
}

/// What tells series apart on the other side.
fn identity(name: &str, named: &Named) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one((name, label_pairs(named)))
}
