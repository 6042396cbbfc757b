//! Cache of recent source map lookups: many pages report the same error.
//!
//! Two generations approximate LRU. Once the young generation is full, it replaces the old one; entries of the old
//! generation that are requested again move to the young one. Entries never become stale, because a source map does not
//! change under its id.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::sourcemap::lookup::LookupResult;

/// Maximum size of a generation.
const GENERATION_BYTES_MAX: usize = 384 * 1024;
/// Estimated size of a cached lookup besides its strings.
const ENTRY_BYTES: usize = 300;

/// Id of a source map, and line and column of the generated code, both from 1.
pub(super) type GeneratedPosition = (i64, u32, u32);

/// Cache that all worker threads share.
#[derive(Debug, Default)]
pub(super) struct LookupCache(Mutex<Generations>);

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<GeneratedPosition, LookupResult>,
    old: HashMap<GeneratedPosition, LookupResult>,
    young_bytes: usize,
}

impl LookupCache {
    /// Returns the cached lookup of a position.
    pub(super) fn get(&self, position: GeneratedPosition) -> Option<LookupResult> {
        let mut generations = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lookup) = generations.young.get(&position) {
            return Some(lookup.clone());
        }
        let lookup = generations.old.remove(&position)?;
        generations.insert(position, lookup.clone());
        Some(lookup)
    }

    /// Adds a lookup to the cache.
    pub(super) fn insert(&self, position: GeneratedPosition, lookup: &LookupResult) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(position, lookup.clone());
    }
}

impl Generations {
    fn insert(&mut self, position: GeneratedPosition, lookup: LookupResult) {
        self.young_bytes += size_bytes(&lookup);
        self.young.insert(position, lookup);
        if self.young_bytes > GENERATION_BYTES_MAX {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
    }
}

/// Returns the estimated size of a lookup, in bytes.
fn size_bytes(lookup: &LookupResult) -> usize {
    let LookupResult::Resolved(original) = lookup else { return ENTRY_BYTES };
    let context_bytes: usize = original.context.iter().map(|line| line.text.len()).sum();
    ENTRY_BYTES + original.source.len() + context_bytes
}

#[cfg(test)]
mod tests {
    use super::super::sourcemap::lookup::OriginalPosition;
    use super::*;

    fn lookup(source_bytes: usize) -> LookupResult {
        LookupResult::Resolved(OriginalPosition { source: "s".repeat(source_bytes), ..OriginalPosition::default() })
    }

    #[test]
    fn frequent_lookups_stay_cached_and_the_cache_is_bounded() {
        let cache = LookupCache::default();
        cache.insert((1, 1, 1), &lookup(7));
        for column in 0..10_000 {
            cache.insert((2, 1, column), &lookup(700));
            assert_eq!(cache.get((1, 1, 1)), Some(lookup(7)), "{column}");
            let generations = cache.0.lock().unwrap();
            assert!(generations.young.len() + generations.old.len() < 900);
        }
        assert_eq!(cache.get((2, 1, 0)), None);
        assert_eq!(cache.get((2, 1, 9_999)), Some(lookup(700)));
    }
}
