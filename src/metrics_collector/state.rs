//! Shared state of the metrics collector: database access, series cache, and the statistics for `/health` and
//! `/metrics`.

use std::sync::Arc;

use rusqlite::Connection;

use super::config::Retention;
use super::dashboard::ClosedHoursCache;
use super::point_decoder::PointDecoder;
use super::rollup_quota::ROLLUPS;
use super::{cardinality, store};
use crate::clock::Timestamp;
use crate::db::counters;
use crate::error::Result;
use crate::forward::DeliveryStatus;
use crate::quota::{FreeSpace, Store};
use crate::records::warning::Warning;
use crate::service::{Core, ServiceState, Stat, StatsCache};

/// State that handlers and jobs share.
pub(super) struct Collector {
    pub(super) core: Core,
    pub(super) decoder: Arc<PointDecoder>,
    pub(super) free_space: FreeSpace,
    pub(super) retention: Retention,
    pub(super) closed_hours: ClosedHoursCache,
    /// Whether points are sent to another server.
    pub(super) remote_write_enabled: bool,
    pub(super) remote: DeliveryStatus,
    pub(super) stats: StatsCache,
}

impl ServiceState for Collector {
    fn core(&self) -> &Core {
        &self.core
    }

    fn stats(&self) -> Vec<Stat> {
        self.stats.refresh(&self.core.readers, |reader| self.read_stats(reader))
    }

    fn stores(&self) -> Vec<Store> {
        vec![self.decoder.limits.series(), self.decoder.limits.metric_names(), ROLLUPS]
    }

    fn warnings(&self) -> Vec<Warning> {
        let reader = self.core.readers.try_acquire();
        let warnings = reader.and_then(|reader| cardinality::warnings(&reader, self.decoder.limits).ok());
        warnings.unwrap_or_default().into_iter().chain(self.remote.warnings()).collect()
    }
}

impl Collector {
    fn read_stats(&self, reader: &Connection) -> Result<Vec<Stat>> {
        let now = Timestamp::now();
        let counters = counters(reader)?;
        let counter = |name: &str| counters.get(name).copied().unwrap_or(0);
        let received = "Points received in the current hour and the 23 hours before it.";
        let corrected = "Points whose timestamp was replaced by the time of arrival.";
        let rolled_up_at = Some(counter("rolled_up_at_ms")).filter(|ms| *ms > 0).map(Timestamp::from_ms);
        let mut stats = vec![
            Stat::count("metrics_received_24h", received, store::points_received(reader, now)?),
            Stat::count("series", "Number of series.", counter("series")),
            Stat::count("points_overflowed", "Points added to an overflow series.", counter("overflowed")),
            Stat::count("points_clock_corrected", corrected, counter("clock_corrected")),
            Stat::time("last_aggregation", "Time of the last rollup.", rolled_up_at),
        ];
        if self.remote_write_enabled {
            let (waiting, lag_seconds) = store::remote_write_lag(reader, now)?;
            let rejected = "Samples that the remote write server rejected permanently.";
            let lag = "Age of the last sent points while points wait for remote write, in seconds.";
            stats.extend([
                Stat::count("remote_write_sent", "Samples sent by remote write.", counter("remote_sent")),
                Stat::count("remote_write_refused", rejected, counter("remote_rejected")),
                Stat::count("remote_write_waiting", "Points that remote write has not sent yet.", waiting),
                Stat::count("remote_write_lag_seconds", lag, lag_seconds),
            ]);
        }
        Ok(stats)
    }
}
