//! State that the handlers and jobs of the error tracker share.

use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;

use super::stores;
use crate::alerting;
use crate::clock::Timestamp;
use crate::db::counters;
use crate::error::Result;
use crate::forward::{Exporter, RecordSource as _};
use crate::quota::{FreeSpace, Store};
use crate::records::warning::Warning;
use crate::service::{Core, ServiceState, Stat, StatsCache};

/// State of the service.
pub(super) struct Tracker {
    pub(super) core: Core,
    /// Maximum number of unresolved groups.
    pub(super) groups_max: i64,
    /// Time to keep resolved groups and hourly counts.
    pub(super) retention: Duration,
    /// Free space of the disk with the database.
    pub(super) free_space: FreeSpace,
    /// Names of the configured alert channels; empty if alerts are off.
    pub(super) channels: Vec<&'static str>,
    /// Variables that must be set before alerts can be sent, as a sentence; `None` if a channel is configured.
    pub(super) alerts_missing: Option<String>,
    /// Quotas of alerts.
    pub(super) alert_stores: [Store; 2],
    /// Forwarding of reports to another store.
    pub(super) exporter: Arc<Exporter>,
    pub(super) stats_cache: StatsCache,
}

impl Tracker {
    fn read_stats(&self, reader: &Connection) -> Result<Vec<Stat>> {
        let counters = counters(reader)?;
        let counter = |name| counters.get(name).copied().unwrap_or_default();
        let mut stats = vec![
            Stat::count("errors_unresolved", "Unresolved error groups.", counter("unresolved")),
            Stat::count("errors_resolved", "Resolved error groups that are still stored.", counter("resolved")),
            Stat::count("errors_evicted", "Error groups deleted because of MAX_GROUPS.", counter("evicted")),
            Stat::count("occurrences_stripped", "Full reports deleted because of MAX_DB_MB.", counter("stripped")),
            Stat::count(
                "alerts_held",
                "Suppressed alerts that the next digest will contain.",
                alerting::suppressed_count(reader)?,
            ),
        ];
        let exported = self.exporter.stats(reader, self.latest_id(reader)?)?;
        stats.extend(exported.into_iter().map(Stat::from));
        Ok(stats)
    }
}

impl ServiceState for Tracker {
    fn core(&self) -> &Core {
        &self.core
    }

    fn stats(&self) -> Vec<Stat> {
        self.stats_cache.refresh(&self.core.readers, |reader| self.read_stats(reader))
    }

    fn stores(&self) -> Vec<Store> {
        let own = [stores::groups(self.groups_max), stores::NAMES, stores::HOURLY_COUNTS, stores::OCCURRENCES];
        own.into_iter().chain(self.alert_stores).collect()
    }

    fn warnings(&self) -> Vec<Warning> {
        // Without an idle connection there are no warnings about alerts, because a health check never waits for queries.
        let reader = self.core.readers.try_acquire();
        let alerts = reader.and_then(|reader| alerting::warnings(&reader, Timestamp::now()).ok());
        self.exporter.warnings().into_iter().chain(alerts.unwrap_or_default()).collect()
    }
}
