//! Source maps of one release: selects the map for a file and looks positions up in it.

use std::collections::HashMap;

use rusqlite::Connection;

use super::lookup_cache::LookupCache;
use super::sourcemap::lookup::{LookupResult, look_up};
use super::sourcemap::url_match;
use super::store::{self, CandidateMap};
use crate::clock::Timestamp;
use crate::error::Result;

/// Maximum source maps of a release with the same file name that are compared with a file: the latest ones.
const CANDIDATES_MAX: usize = 2_000;
/// Maximum candidates that are read and compared for all frames of a report: about a millisecond.
const STEPS_MAX: usize = 20_000;
/// Maximum size of the URLs of all candidates in memory.
const CANDIDATE_BYTES_MAX: usize = 512 * 1024;

/// The source maps of a project's release, for one report. Its work is bounded: once the limit is reached, further files have
/// no map.
pub(super) struct ReleaseMaps<'a> {
    connection: &'a Connection,
    cache: &'a LookupCache,
    project: &'a str,
    release: &'a str,
    /// Source maps by file name as URLs encode it, so that they are read once for all files of the same name.
    candidates: HashMap<String, Vec<CandidateMap>>,
    /// The best match for each file URL, so that every file is matched once.
    selected: HashMap<String, Option<CandidateMap>>,
    steps_left: usize,
    candidate_bytes_left: usize,
    skipped_frames: usize,
}

impl<'a> ReleaseMaps<'a> {
    pub(super) fn new(connection: &'a Connection, cache: &'a LookupCache, project: &'a str, release: &'a str) -> Self {
        Self {
            connection,
            cache,
            project,
            release,
            candidates: HashMap::new(),
            selected: HashMap::new(),
            steps_left: STEPS_MAX,
            candidate_bytes_left: CANDIDATE_BYTES_MAX,
            skipped_frames: 0,
        }
    }

    /// Returns the number of lookups that were skipped because the report had used up its share of work.
    pub(super) fn skipped_frames(&self) -> usize {
        self.skipped_frames
    }

    /// Returns the source map that matches the URL of a generated file best.
    ///
    /// # Errors
    /// Fails if the database cannot be read.
    pub(super) fn find_map(&mut self, url: &str) -> Result<Option<&CandidateMap>> {
        if !self.selected.contains_key(url) {
            let Some(selected) = self.select_map(url)? else {
                self.skipped_frames += 1;
                return Ok(None);
            };
            self.selected.insert(url.to_owned(), selected);
        }
        Ok(self.selected.get(url).and_then(Option::as_ref))
    }

    /// Compares the candidates with the URL of a file. Returns `None` if no work is left for that.
    fn select_map(&mut self, url: &str) -> Result<Option<Option<CandidateMap>>> {
        let file_name = url_match::encoded_file_name(url);
        if !self.candidates.contains_key(file_name) {
            if self.steps_left == 0 || self.candidate_bytes_left == 0 {
                return Ok(None);
            }
            let maps = self.read_candidates(url)?;
            let bytes: usize = maps.iter().map(|map| map.file_url.len()).sum();
            // A file name without maps costs a step too.
            self.steps_left = self.steps_left.saturating_sub(maps.len().max(1));
            self.candidate_bytes_left = self.candidate_bytes_left.saturating_sub(bytes);
            self.candidates.insert(file_name.to_owned(), maps);
        }
        let maps = self.candidates.get(file_name).map(Vec::as_slice).unwrap_or_default();
        if maps.len() > self.steps_left {
            return Ok(None);
        }
        self.steps_left -= maps.len();
        let best = url_match::best_match(maps.iter().map(|map| &*map.file_url), url);
        Ok(Some(best.map(|index| maps[index].clone())))
    }

    /// Reads the source maps that were uploaded for a file of the same name.
    fn read_candidates(&self, url: &str) -> Result<Vec<CandidateMap>> {
        let limit = CANDIDATES_MAX.min(self.steps_left);
        let read = |file_name: &str| {
            let (project, release, bytes_max) = (self.project, self.release, self.candidate_bytes_left);
            store::maps_by_file_name(self.connection, project, release, file_name, limit, bytes_max)
        };
        let (decoded, encoded) = (url_match::file_name(url), url_match::encoded_file_name(url));
        let mut maps = read(&decoded)?;
        if decoded != encoded {
            // Older maps are stored under the name as it was uploaded.
            maps.extend(read(encoded)?);
        }
        Ok(maps)
    }

    /// Looks up a position of a generated file, line and column from 1. Returns `None` if the file has no source map.
    ///
    /// # Errors
    /// Fails if the database cannot be read.
    pub(super) fn look_up(&mut self, url: &str, line: u32, column: u32) -> Result<Option<LookupResult>> {
        let (connection, cache) = (self.connection, self.cache);
        let Some(map) = self.find_map(url)? else { return Ok(None) };
        let position = (map.id, line, column);
        if let Some(cached) = cache.get(position) {
            return Ok(Some(cached));
        }
        let lookup = look_up(line, column, |kind, key| store::find_block(connection, map.id, kind, key))?;
        cache.insert(position, &lookup);
        Ok(Some(lookup))
    }

    /// Returns the ids of the selected maps whose recorded last use is before `time`.
    pub(super) fn last_used_before(&self, time: Timestamp) -> Vec<i64> {
        self.selected.values().flatten().filter(|map| map.used_at < time).map(|map| map.id).collect()
    }
}
