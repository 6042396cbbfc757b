//! Repetition of totals that have not changed. Prometheus forgets a series five minutes after its last sample, and computes no
//! increase of a counter whose previous value it has forgotten.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::super::running_totals::{RunningTotals, TotalsTable};
use super::super::series::SeriesKey;
use super::batch::BatchSeries;
use crate::clock::Timestamp;
use crate::error::Result;
use crate::records::point::MetricKind;

/// Interval between two repetitions of a series.
const INTERVAL: Duration = Duration::from_secs(60);
/// Maximum number of samples in one repetition. Of more series, each is repeated in every second or third repetition.
const SAMPLES_MAX: usize = 20_000;
/// Number of series that are in memory at once.
const SERIES_MAX: usize = 200;

/// Progress of the repetitions.
#[derive(Debug, Default)]
pub(super) struct Repetition {
    started_at: Option<Instant>,
    /// Id of the last repeated series; the next repetition continues behind it.
    after_id: i64,
    /// Number of samples that this repetition may still send.
    samples_left: usize,
}

impl Repetition {
    /// Whether it is time to repeat the totals. The first repetition is at the start, because the service was down.
    pub(super) fn is_due(&self) -> bool {
        self.started_at.is_none_or(|at| at.elapsed() >= INTERVAL)
    }

    /// Starts a repetition.
    pub(super) fn start(&mut self) {
        (self.started_at, self.samples_left) = (Some(Instant::now()), SAMPLES_MAX);
    }

    /// Returns the next series, by id: counters and histograms whose last point is in a time range. Returns none at the end of
    /// the repetition.
    pub(super) fn next_series(
        &self,
        connection: &Connection,
        last_point: std::ops::Range<Timestamp>,
    ) -> Result<BTreeMap<i64, BatchSeries>> {
        let mut read = connection.prepare_cached(
            "SELECT s.id, s.type, s.name, s.project, s.labels FROM series_totals_sent t JOIN series_keys s ON s.id = t.series_id
                 WHERE t.series_id > ?1 AND t.last_at_ms >= ?2 AND t.last_at_ms < ?3 AND s.type <> ?4
             ORDER BY t.series_id LIMIT ?5",
        )?;
        let limit = SERIES_MAX.min(self.samples_left) as i64;
        let gauge = MetricKind::Gauge.as_str();
        let mut rows = read.query((self.after_id, last_point.start.ms(), last_point.end.ms(), gauge, limit))?;
        let mut series = BTreeMap::new();
        while let Some(row) = rows.next()? {
            let Some(kind) = MetricKind::from_name(row.get_ref(1)?.as_str().unwrap_or_default()) else { continue };
            let id = row.get(0)?;
            let key = SeriesKey { kind, name: row.get(2)?, project: row.get(3)?, labels: row.get(4)? };
            let totals = RunningTotals::load(connection, TotalsTable::Remote, id)?;
            series.insert(id, BatchSeries { key, totals, is_new: false });
        }
        Ok(series)
    }

    /// Records that samples of the series up to an id were sent. Even if that failed, the others are next: the server may fail
    /// with one of these.
    pub(super) fn passed(&mut self, last_id: i64, samples: usize) {
        self.after_id = last_id;
        self.samples_left = self.samples_left.saturating_sub(samples);
    }

    /// Lets the next repetition begin with the first series, unless this one has reached the maximum before the last.
    pub(super) fn finish(&mut self) {
        if self.samples_left > 0 {
            self.after_id = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::SCHEMA;
    use super::super::super::series::{MetricRef, get_or_create};
    use super::*;
    use crate::records::key_kind::KeyKind;

    #[test]
    fn quiet_counters_are_repeated_in_turn_and_gauges_are_not() {
        let minute = |minute: i64| Timestamp::from_ms(minute * 60_000);
        let readers = crate::db::in_memory(SCHEMA, |connection| {
            for (n, kind, last_minute) in [
                (1, MetricKind::Counter, 5),
                (2, MetricKind::Gauge, 5),
                (3, MetricKind::Counter, 0),
                (4, MetricKind::Counter, 9),
            ]
            .into_iter()
            .chain((5..300).map(|n| (n, MetricKind::Counter, 8)))
            {
                let metric = MetricRef { name: "n", kind, project: "" };
                let labels = format!(r#"{{"n":"{n}"}}"#);
                let id = get_or_create(connection, metric, &labels, KeyKind::Server, Timestamp::from_ms(0))?;
                assert_eq!(id, n);
                let mut totals = RunningTotals::default();
                totals.add(kind, 50.0, minute(last_minute).ms());
                totals.store(connection, TotalsTable::Remote, id)?;
            }
            Ok(())
        });
        let connection = readers.acquire().unwrap();
        let mut repetition = Repetition::default();
        assert!(repetition.is_due());
        let next = |repetition: &Repetition| {
            let series = repetition.next_series(&connection, minute(1)..minute(9)).unwrap();
            assert!(series.values().all(|series| !series.is_new && series.totals.sum.value() == 50.0));
            series.into_keys().collect::<Vec<_>>()
        };
        repetition.start();
        assert!(!repetition.is_due());
        let first = next(&repetition);
        assert_eq!((first.len(), &first[..3], first.last()), (SERIES_MAX, &[1, 5, 6][..], Some(&203)));
        repetition.passed(203, SAMPLES_MAX - 10);
        assert_eq!(next(&repetition), (204..214).collect::<Vec<_>>(), "as many as the maximum of samples allows");
        repetition.passed(213, 10);
        assert_eq!(next(&repetition), [0; 0]);
        repetition.finish();
        repetition.start();
        assert_eq!(next(&repetition), (214..300).collect::<Vec<_>>());
        repetition.passed(299, 86);
        assert_eq!(next(&repetition), [0; 0]);
        repetition.finish();
        repetition.start();
        assert_eq!(next(&repetition), first);
    }
}
