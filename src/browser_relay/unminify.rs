//! A report's stack said in the words of the sources, by the maps that were uploaded for its release.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Mutex, PoisonError};

use rusqlite::Connection;
use serde_json::value::to_raw_value;

use super::Relay;
use super::commands::Used;
use super::maps::lookup::{Answer, Original, look_up};
use super::maps::{frames, stack, urls};
use super::report::ErrorReport;
use super::store::{self, Candidate};
use crate::clock::Timestamp;
use crate::error::{Error, Result};

/// A mapped stack that is longer, in bytes, goes as it came: the error tracker would refuse it.
const STACK_BYTES_MAX: usize = 128 * 1024;
/// Bytes of answers in a generation of those that are remembered.
const GENERATION_BYTES_MAX: usize = 384 * 1024;
/// How old the note of a map's last use gets before it is renewed.
const USE_NOTED_EVERY_MS: i64 = 3_600_000;

/// The maps of one release of a project.
pub(super) struct Release<'a> {
    connection: &'a Connection,
    recent: &'a Recent,
    project: &'a str,
    name: &'a str,
    /// By the URL of a frame.
    chosen: HashMap<String, Option<Candidate>>,
}

impl<'a> Release<'a> {
    pub(super) fn new(connection: &'a Connection, recent: &'a Recent, project: &'a str, name: &'a str) -> Self {
        Self { connection, recent, project, name, chosen: HashMap::new() }
    }

    /// The map of the file at a URL.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub(super) fn map_of(&mut self, url: &str) -> Result<Option<&Candidate>> {
        let chosen = match self.chosen.entry(url.to_owned()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => {
                let mut maps = store::candidates(self.connection, self.project, self.name, urls::name(url))?;
                let best = urls::best(maps.iter().map(|map| &*map.file_url), url);
                unknown.insert(best.map(|at| maps.swap_remove(at)))
            }
        };
        Ok(chosen.as_ref())
    }

    /// What the map of a frame's file says of its position; `None` where there is no map.
    ///
    /// # Errors
    /// As [`Release::map_of`].
    pub(super) fn look_up(&mut self, url: &str, line: u32, column: u32) -> Result<Option<Answer>> {
        let (connection, recent) = (self.connection, self.recent);
        let Some(map) = self.map_of(url)? else { return Ok(None) };
        let position = (map.id, line, column);
        if let Some(known) = recent.get(position) {
            return Ok(Some(known));
        }
        let answer = look_up(line, column, |kind, key| store::block(connection, map.id, kind, key))?;
        recent.put(position, &answer);
        Ok(Some(answer))
    }

    /// The maps that were used and whose last use was noted before `moment`.
    fn used_since(&self, moment: Timestamp) -> Vec<i64> {
        self.chosen.values().flatten().filter(|map| map.used_at < moment).map(|map| map.id).collect()
    }
}

/// A map's id, and line and column of the generated code.
type Position = (i64, u32, u32);

/// Answers to what was asked lately: one defect is reported by many pages. There are two generations, of which the older
/// goes when the younger is full, so that what is asked for again stays. Maps never change under their id.
#[derive(Debug, Default)]
pub(super) struct Recent(Mutex<Generations>);

#[derive(Debug, Default)]
struct Generations {
    younger: HashMap<Position, Answer>,
    older: HashMap<Position, Answer>,
    younger_bytes: usize,
}

impl Recent {
    fn get(&self, position: Position) -> Option<Answer> {
        let mut generations = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = generations.younger.get(&position) {
            return Some(known.clone());
        }
        let known = generations.older.remove(&position)?;
        generations.put(position, known.clone());
        Some(known)
    }

    fn put(&self, position: Position, answer: &Answer) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).put(position, answer.clone());
    }
}

impl Generations {
    fn put(&mut self, position: Position, answer: Answer) {
        self.younger_bytes += bytes(&answer);
        self.younger.insert(position, answer);
        if self.younger_bytes > GENERATION_BYTES_MAX {
            self.older = std::mem::take(&mut self.younger);
            self.younger_bytes = 0;
        }
    }
}

/// Bytes that an answer takes, roughly.
fn bytes(answer: &Answer) -> usize {
    const OWN_BYTES: usize = 300;
    let Answer::Mapped(original) = answer else { return OWN_BYTES };
    let lines: usize = original.context.iter().map(|line| line.text.len()).sum();
    OWN_BYTES + original.source.len() + lines
}

/// Maps a report's stack where its release has maps, and notes that these are in use. A report whose maps cannot be
/// read stays as it came.
pub(super) fn unminify(relay: &Relay, report: &mut ErrorReport<'_>) {
    if report.release.is_none() || report.traceback.is_empty() {
        return;
    }
    if let Err(why) = try_to(relay, report) {
        log::warn!("a stack is passed on as it came: {why}");
    }
}

fn try_to(relay: &Relay, report: &mut ErrorReport<'_>) -> Result<()> {
    let now = Timestamp::now();
    let reader = relay.core.readers.acquire()?;
    let name = report.release.as_deref().unwrap_or_default();
    let mut release = Release::new(&reader, &relay.recent, report.project, name);
    let mut trouble = None;
    let resolve = |url: &str, line, column| -> Option<Original> {
        match release.look_up(url, line, column) {
            Ok(Some(Answer::Mapped(original))) => Some(original),
            Ok(_) => None,
            Err(why) => {
                trouble = Some(why);
                None
            }
        }
    };
    let rewritten = stack::rewrite(&report.traceback, &report.message, resolve);
    if let Some(why) = trouble {
        return Err(why);
    }
    let used = release.used_since(Timestamp::from_ms(now.ms() - USE_NOTED_EVERY_MS));
    if !used.is_empty() {
        relay.core.writer.submit(Used { maps: used, now }, |outcome| {
            if let Err(why) = outcome {
                log::warn!("that source maps are in use is not noted: {why}");
            }
        });
    }
    if rewritten.frames.is_empty() || rewritten.stack.len() > STACK_BYTES_MAX {
        return Ok(());
    }
    let described = to_raw_value(&frames::described(&rewritten.frames));
    let described = described.map_err(|why| Error::Internal(format!("frames cannot be written as JSON: {why}")))?;
    report.extra.frames = Some(described);
    report.traceback = rewritten.stack.into();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(text_bytes: usize) -> Answer {
        Answer::Mapped(Original { source: "s".repeat(text_bytes), ..Original::default() })
    }

    #[test]
    fn what_is_asked_for_again_stays_and_the_rest_is_bounded() {
        let recent = Recent::default();
        recent.put((1, 1, 1), &answer(7));
        for column in 0..10_000 {
            recent.put((2, 1, column), &answer(700));
            assert_eq!(recent.get((1, 1, 1)), Some(answer(7)), "{column}");
            let generations = recent.0.lock().unwrap();
            assert!(generations.younger.len() + generations.older.len() < 900);
        }
        assert_eq!(recent.get((2, 1, 0)), None);
        assert_eq!(recent.get((2, 1, 9_999)), Some(answer(700)));
    }
}
