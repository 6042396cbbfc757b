//! State that the handlers of the browser relay share.

use std::sync::Arc;

use super::direct_forwarder::DirectForwarder;
use super::lookup_cache::LookupCache;
use super::store;
use super::uploads::UploadQueue;
use crate::db::counter;
use crate::http::PublicKeys;
use crate::service::{Core, ServiceState, Stat, StatsCache};

/// The browser relay.
pub(super) struct Relay {
    pub(super) core: Core,
    /// The active public keys, which authenticate pages.
    pub(super) public_keys: Arc<PublicKeys>,
    pub(super) forwarder: DirectForwarder,
    pub(super) uploads: UploadQueue,
    pub(super) lookup_cache: LookupCache,
    pub(super) stats: StatsCache,
}

/// Counters in `/health` and `/metrics`, with their HELP texts.
const COUNTERS: [(&str, &str); 4] = [
    ("outbox_waiting", "Reports waiting in the outbox."),
    ("outbox_bytes", "Size of the outbox in bytes."),
    ("outbox_dropped", "Reports dropped because the outbox was full."),
    ("outbox_refused", "Reports from the outbox that the upstream rejected."),
];

impl ServiceState for Relay {
    fn core(&self) -> &Core {
        &self.core
    }

    fn stats(&self) -> Vec<Stat> {
        self.stats.refresh(&self.core.readers, |reader| {
            let counters = COUNTERS.into_iter().map(|(name, help)| Ok(Stat::count(name, help, counter(reader, name)?)));
            let maps = store::count_maps(reader, store::MapFilter::default());
            counters.chain([maps.map(|maps| Stat::count("source_maps", "Stored source maps.", maps))]).collect()
        })
    }
}
