//! Command that rolls up points into the tables of minutes and hours.

use std::collections::hash_map::Entry;

use rusqlite::{CachedStatement, Connection, OptionalExtension as _, Row};

use super::super::aggregate::{Aggregate, AggregateParts};
use super::super::metric_rollup::PendingMetricRollups;
use super::super::resolution::Resolution;
use super::super::rollup_quota::RollupQuota;
use super::super::rollup_tables::{RollupScope, RollupWriter};
use super::super::running_totals::{RunningTotals, TotalsTable};
use super::super::series::IdMap;
use crate::clock::Timestamp;
use crate::db::{Command, counter, set_counter};
use crate::error::Result;
use crate::quota::Room;
use crate::records::key_kind::KeyKind;
use crate::records::point::MetricKind;

/// Maximum number of points in one transaction. The limits bound the memory and the time for which clients wait. A
/// larger batch writes fewer rows more than once.
const POINTS_BATCH_MAX: usize = 200_000;
/// Maximum number of aggregates, one per series and minute, in one transaction.
const AGGREGATES_BATCH_MAX: usize = 10_000;

/// Adds points that are not rolled up yet to the rollup tables, to the metric rollups and to the running totals. Each
/// point is added once: the tables and the id of the last rolled-up point change in one transaction.
pub(in super::super) struct RollUp {
    now: Timestamp,
    room: Room,
}

impl RollUp {
    /// Creates the command for a disk with enough room.
    pub(in super::super) fn at(now: Timestamp) -> Self {
        Self { now, room: Room::Enough }
    }

    /// Sets the room on the disk. If it is low, minutes of the largest project are not stored, but hours and totals are.
    pub(in super::super) fn with_room(self, room: Room) -> Self {
        Self { room, ..self }
    }
}

impl Command for RollUp {
    /// Whether more points may be left.
    type Output = bool;

    fn apply(self, transaction: &Connection) -> Result<bool> {
        let rolled_up = counter(transaction, "rolled_up")?;
        let mut read =
            transaction.prepare_cached("SELECT id, series_id, at_ms, value FROM points WHERE id > ?1 ORDER BY id")?;
        let mut metric_rollups = PendingMetricRollups::default();
        let mut quota = RollupQuota::new(transaction, self.room)?;
        let mut find = DirtySeries::prepare(transaction)?;
        let mut rows = read.query([rolled_up])?;
        let (mut last, mut points, mut aggregates, mut orphans) = (rolled_up, 0, 0, 0);
        let mut dirty: IdMap<i64, Option<Box<DirtySeries>>> = IdMap::default();
        let mut has_more = false;
        while let Some(row) = rows.next()? {
            if points == POINTS_BATCH_MAX || aggregates >= AGGREGATES_BATCH_MAX {
                has_more = true;
                break;
            }
            (last, points) = (row.get(0)?, points + 1);
            let series = match dirty.entry(row.get(1)?) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(vacant) => {
                    let series =
                        DirtySeries::load(&mut find, transaction, *vacant.key(), (&quota, &mut metric_rollups))?;
                    vacant.insert(series.map(Box::new))
                }
            };
            match series {
                Some(series) => {
                    series.totals.forget_future(self.now);
                    aggregates += usize::from(series.add(row.get(3)?, row.get(2)?));
                }
                None => orphans += 1,
            }
        }
        drop(rows);
        if orphans > 0 {
            log::warn!("rollup: {orphans} points refer to a missing series; they are left out");
        }
        // In the order of the primary key, so that neighboring rows are written together.
        let mut ids: Vec<i64> = dirty.keys().copied().collect();
        ids.sort_unstable();
        let mut writer = RollupWriter::new(transaction, RollupScope::Series)?;
        for id in ids {
            if let Some(Some(series)) = dirty.remove(&id) {
                series.store(transaction, id, &mut writer, (&mut quota, &mut metric_rollups))?;
            }
        }
        metric_rollups.write(&mut RollupWriter::new(transaction, RollupScope::Metric)?)?;
        quota.record(transaction, self.now)?;
        set_counter(transaction, "rolled_up", last)?;
        set_counter(transaction, "rolled_up_at_ms", self.now.ms())?;
        Ok(has_more)
    }
}

/// Series with points in the current rollup.
struct DirtySeries {
    kind: MetricKind,
    project: String,
    key_kind: KeyKind,
    stores_minutes: bool,
    aggregate_kind: AggregateParts,
    totals: RunningTotals,
    /// Index of its metric in the pending metric rollups, if the metric has one.
    metric_rollup: Option<usize>,
    /// Aggregates by minute, sorted. Usually one or two.
    minutes: Vec<(i64, Aggregate)>,
}

impl DirtySeries {
    /// Prepares the statement for [`Self::load`].
    fn prepare(transaction: &Connection) -> Result<CachedStatement<'_>> {
        Ok(transaction.prepare_cached(
            "SELECT s.metric_id, m.name, t.name, m.project, s.key_kind_id FROM series s JOIN metrics m ON m.id = s.metric_id
                 JOIN metric_types t ON t.id = m.type_id WHERE s.id = ?1",
        )?)
    }

    /// Loads a series. Returns `None` if it does not exist. A series is deleted after its points, so it should exist; if
    /// it were missing, rollups must not fail forever.
    fn load(
        find: &mut CachedStatement<'_>,
        transaction: &Connection,
        id: i64,
        (quota, metric_rollups): (&RollupQuota, &mut PendingMetricRollups),
    ) -> Result<Option<Self>> {
        let metric = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?));
        let metric: Option<(i64, String, String, String, i64)> = find.query_row([id], metric).optional()?;
        let Some((metric_id, name, kind, project, key_kind)) = metric else { return Ok(None) };
        let (key_kind, stores_minutes) = (KeyKind::from_id(key_kind), quota.stores_minutes(&project));
        let kind = MetricKind::from_name(&kind).unwrap_or(MetricKind::Gauge);
        let aggregate_kind = AggregateParts::for_metric(Some(kind), &name);
        let metric_rollup = metric_rollups.index_of(transaction, metric_id, stores_minutes)?;
        let totals = RunningTotals::load_without_sketch(transaction, TotalsTable::RolledUp, id)?;
        let minutes = Vec::with_capacity(1);
        Ok(Some(Self { kind, project, key_kind, stores_minutes, aggregate_kind, totals, metric_rollup, minutes }))
    }

    /// Adds a point. Returns whether it is the first of its minute.
    fn add(&mut self, value: f64, at: i64) -> bool {
        self.totals.add(self.kind, value, at);
        let minute = Resolution::Minute.bucket(at);
        match self.minutes.binary_search_by_key(&minute, |(minute, _)| *minute) {
            Ok(index) => self.minutes[index].1.add(value, at, self.aggregate_kind),
            Err(index) => {
                self.minutes.insert(index, (minute, Aggregate::from_point(value, at, self.aggregate_kind)));
                return true;
            }
        }
        false
    }

    fn store(
        mut self,
        transaction: &Connection,
        id: i64,
        writer: &mut RollupWriter<'_>,
        (quota, metric_rollups): (&mut RollupQuota, &mut PendingMetricRollups),
    ) -> Result<()> {
        if self.kind == MetricKind::Histogram {
            self.totals.load_sketch(transaction, TotalsTable::RolledUp, id)?;
        }
        for (minute, aggregate) in &self.minutes {
            if let Some(sketch) = &aggregate.sketch {
                self.totals.sketch.merge(sketch);
            }
            if let Some(index) = self.metric_rollup {
                metric_rollups.add(index, *minute, aggregate);
            }
        }
        if !self.stores_minutes {
            let points = self.minutes.iter().map(|(_, aggregate)| aggregate.count).sum();
            quota.count_points_without_minutes(&self.project, points);
        }
        let new_rows = writer.merge(id, self.stores_minutes, self.minutes)?;
        quota.count_rows(&self.project, self.key_kind, new_rows);
        self.totals.store(transaction, TotalsTable::RolledUp, id)
    }
}
