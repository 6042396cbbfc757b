//! A report's stack said in the words of the sources, by the maps that were uploaded for its release.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

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
/// How old the note of a map's last use gets before it is renewed.
const USE_NOTED_EVERY_MS: i64 = 3_600_000;

/// The maps of one release of a project.
pub(super) struct Release<'a> {
    connection: &'a Connection,
    project: &'a str,
    name: &'a str,
    /// By the URL of a frame.
    chosen: HashMap<String, Option<Candidate>>,
}

impl<'a> Release<'a> {
    pub(super) fn new(connection: &'a Connection, project: &'a str, name: &'a str) -> Self {
        Self { connection, project, name, chosen: HashMap::new() }
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
        let connection = self.connection;
        let Some(map) = self.map_of(url)? else { return Ok(None) };
        look_up(line, column, |kind, key| store::block(connection, map.id, kind, key)).map(Some)
    }

    /// The maps that were used and whose last use was noted before `moment`.
    fn used_since(&self, moment: Timestamp) -> Vec<i64> {
        self.chosen.values().flatten().filter(|map| map.used_at < moment).map(|map| map.id).collect()
    }
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
    let reader = relay.core.readers.lend()?;
    let name = report.release.as_deref().unwrap_or_default();
    let mut release = Release::new(&reader, report.project, name);
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
