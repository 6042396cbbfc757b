//! State that the handlers of the browser relay share.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::commands::MAP_STORE;
use super::direct_forwarder::DirectForwarder;
use super::forward_budget::ForwardBudget;
use super::lookup_cache::LookupCache;
use super::outbox::Outbox;
use super::uploads::UploadQueue;
use super::upstream::UpstreamKind;
use super::{outbox_store, store};
use crate::db::counter;
use crate::http::PublicKeys;
use crate::quota;
use crate::records::warning::Warning;
use crate::service::{Core, ServiceState, Stat, StatsCache};

/// The browser relay.
pub(super) struct Relay {
    pub(super) core: Core,
    /// The active public keys, which authenticate pages.
    pub(super) public_keys: Arc<PublicKeys>,
    pub(super) forwarder: DirectForwarder,
    pub(super) forward_budget: ForwardBudget,
    pub(super) outbox: Arc<Outbox>,
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
            let dead_letters = outbox_store::count_dead_letters(reader, None);
            let others = [
                maps.map(|maps| Stat::count("source_maps", "Stored source maps.", maps)),
                dead_letters.map(|count| Stat::count("dead_letters", "Reports that were set aside.", count)),
            ];
            counters.chain(others).collect()
        })
    }

    fn stores(&self) -> Vec<quota::Store> {
        let outbox = UpstreamKind::ALL.map(|kind| self.outbox.bounds.store(kind));
        outbox.into_iter().chain([MAP_STORE]).collect()
    }

    fn warnings(&self) -> Vec<Warning> {
        let mut warnings: Vec<Warning> =
            UpstreamKind::ALL.into_iter().filter_map(|kind| self.delivery_warning(kind)).collect();
        let rejected = self.outbox.rejected.load(Ordering::Relaxed);
        if rejected > 0 {
            let message = format!("{rejected} reports from the outbox were rejected since the start, see the log");
            warnings.push(Warning::new("outbox_refused", rejected, &message));
        }
        let dead_letters =
            self.core.readers.try_acquire().and_then(|reader| outbox_store::count_dead_letters(&reader, None).ok());
        if let Some(count) = dead_letters.filter(|count| *count > 0) {
            let message = format!(
                "{count} reports failed repeatedly while others succeeded and were set aside; GET /api/outbox/dead-letters \
                 lists them, and POST /api/outbox/dead-letters/{{id}}/retry delivers them again"
            );
            warnings.push(Warning::new("dead_letters", count.unsigned_abs(), &message));
        }
        warnings
    }
}

impl Relay {
    /// Returns a warning if the last attempt at an upstream failed.
    fn delivery_warning(&self, kind: UpstreamKind) -> Option<Warning> {
        let failure = self.outbox.state(kind).last_failure()?;
        let reader = self.core.readers.try_acquire()?;
        let waiting = outbox_store::count_waiting(&reader, kind).ok()?.unsigned_abs();
        let (service, reason) = (kind.service(), &failure.reason);
        let message = |cause: &str| {
            format!("forwarding to the {service} failed: {reason}; {cause}; {waiting} reports wait in the outbox")
        };
        let warning = if failure.is_key_rejected() {
            let cause = "it rejects the relay's API key; correct the key";
            Warning::new("upstream_rejects_key", waiting, &message(cause))
        } else {
            Warning::new("outbox_waiting", waiting, &message("the relay retries"))
        };
        (waiting > 0).then_some(warning)
    }
}
