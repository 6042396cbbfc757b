//! Source maps of one release: selects the map for a file and looks positions up in it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use rusqlite::Connection;

use super::lookup_cache::LookupCache;
use super::sourcemap::lookup::{LookupResult, look_up};
use super::sourcemap::url_match;
use super::store::{self, CandidateMap};
use crate::clock::Timestamp;
use crate::error::Result;

/// The source maps of a project's release.
pub(super) struct ReleaseMaps<'a> {
    connection: &'a Connection,
    cache: &'a LookupCache,
    project: &'a str,
    release: &'a str,
    /// The best match for each file URL, so that every file is matched once.
    selected: HashMap<String, Option<CandidateMap>>,
}

impl<'a> ReleaseMaps<'a> {
    pub(super) fn new(connection: &'a Connection, cache: &'a LookupCache, project: &'a str, release: &'a str) -> Self {
        Self { connection, cache, project, release, selected: HashMap::new() }
    }

    /// Returns the source map that matches the URL of a generated file best.
    ///
    /// # Errors
    /// Fails if the database cannot be read.
    pub(super) fn find_map(&mut self, url: &str) -> Result<Option<&CandidateMap>> {
        let selected = match self.selected.entry(url.to_owned()) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let file_name = url_match::file_name(url);
                let mut maps = store::maps_by_file_name(self.connection, self.project, self.release, file_name)?;
                let best = url_match::best_match(maps.iter().map(|map| &*map.file_url), url);
                entry.insert(best.map(|index| maps.swap_remove(index)))
            }
        };
        Ok(selected.as_ref())
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
