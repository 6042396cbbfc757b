//! Oracle for rollups: random steps, and the expected contents of the database, computed by adding up points.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::config::Retention;
use super::resolution::Resolution;
use crate::clock::Timestamp;

pub(super) const HOUR: Duration = Duration::from_secs(3_600);
pub(super) const RETENTION: Retention = Retention {
    points: HOUR,
    minutes: HOUR.saturating_mul(24),
    hours: HOUR.saturating_mul(24 * 30),
    gauges: Duration::from_secs(300),
};
/// 2026-01-31T12:00:00Z
pub(super) const START_MS: i64 = 1_769_860_800_000;
const DAY_MS: i64 = 86_400_000;
const CLOCK_SKEW_MAX_MS: i64 = 600_000;
/// One metric of each kind. Each has [`LABEL_SETS`] series.
pub(super) const METRICS: [(&str, &str); 3] = [("wait_ms", "histogram"), ("sold", "counter"), ("queue", "gauge")];
/// Number of series per metric. The last one belongs to a project.
pub(super) const LABEL_SETS: usize = 3;
pub(super) const SERIES: usize = METRICS.len() * LABEL_SETS;
pub(super) const PROJECTS: [&str; LABEL_SETS] = ["", "", "shop"];

/// Event in the life of a collector.
#[derive(Debug, Clone)]
pub(super) enum Step {
    /// Sends a batch.
    Send(Vec<SentPoint>),
    /// Sends a batch, but the process is killed before COMMIT, so the client gets no response.
    SendAndDie(Vec<SentPoint>),
    /// Moves the clock by a number of ms, and runs a rollup if it is due.
    Wait(i64),
    /// Runs a rollup, but the process is killed before COMMIT.
    RollUpAndDie,
    Restart,
}

/// Index of the series, value, and offset of the point's timestamp from the clock in ms, if it has one.
pub(super) type SentPoint = (usize, i32, Option<i64>);

fn sent_points() -> impl Strategy<Value = Vec<SentPoint>> {
    let offset_ms = prop_oneof![
        4 => Just(None),
        4 => (-90_000..0i64).prop_map(Some),
        3 => (-DAY_MS..CLOCK_SKEW_MAX_MS).prop_map(Some),
        1 => prop_oneof![
            -5 * DAY_MS..-DAY_MS,
            CLOCK_SKEW_MAX_MS + 1..DAY_MS,
            Just(-DAY_MS),
            Just(CLOCK_SKEW_MAX_MS)
        ]
        .prop_map(Some),
    ];
    proptest::collection::vec((0..SERIES, -20..2_000i32, offset_ms), 1..40)
}

/// Returns a strategy for random steps.
pub(super) fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => sent_points().prop_map(Step::Send),
        1 => sent_points().prop_map(Step::SendAndDie),
        // Less than a second, minutes, hours, and backwards.
        8 => prop_oneof![0..1_000i64, 0..200_000i64, 0..4 * 3_600_000i64, -7_200_000..0i64].prop_map(Step::Wait),
        // Long enough for all data to expire.
        1 => prop_oneof![Just(2 * DAY_MS), Just(40 * DAY_MS)].prop_map(Step::Wait),
        1 => Just(Step::RollUpAndDie),
        1 => Just(Step::Restart),
    ]
}

/// Point in the oracle: index of the series, time in ms, value.
pub(super) type OraclePoint = (usize, i64, f64);
/// Points by series index and bucket, as time in ms and value.
pub(super) type OracleTable = BTreeMap<(usize, i64), Vec<(i64, f64)>>;

/// Expected contents of the database.
#[derive(Default)]
pub(super) struct Oracle {
    /// Stored raw points in the order of arrival, numbered from 1.
    pub(super) points: Vec<(u64, OraclePoint)>,
    arrived: u64,
    /// Number of the last point that is rolled up.
    rolled_up: u64,
    minutes: OracleTable,
    hours: OracleTable,
    /// Number of points with a corrected timestamp.
    pub(super) corrected: i64,
}

impl Oracle {
    pub(super) fn add(&mut self, sent: &[SentPoint], now: Timestamp) {
        for (series, value, offset_ms) in sent {
            let is_valid = offset_ms.is_none_or(|offset| (-DAY_MS..=CLOCK_SKEW_MAX_MS).contains(&offset));
            self.corrected += i64::from(!is_valid);
            let at = now.ms() + offset_ms.filter(|_| is_valid).unwrap_or(0);
            self.arrived += 1;
            self.points.push((self.arrived, (*series, at, f64::from(*value))));
        }
    }

    pub(super) fn roll_up(&mut self) {
        let new: Vec<OraclePoint> = self.not_rolled_up().collect();
        add_to_table(&mut self.minutes, new.iter().copied(), Resolution::Minute);
        add_to_table(&mut self.hours, new.into_iter(), Resolution::Hour);
        self.rolled_up = self.arrived;
    }

    pub(super) fn not_rolled_up(&self) -> impl Iterator<Item = OraclePoint> {
        self.points.iter().filter(|(number, _)| *number > self.rolled_up).map(|(_, point)| *point)
    }

    pub(super) fn expire(&mut self, now: Timestamp) {
        let newest = self.arrived;
        let before = (now - RETENTION.points).ms();
        let rolled_up = self.rolled_up;
        self.points.retain(|(number, (_, at, _))| *number > rolled_up || *number == newest || *at >= before);
        for (table, retention, resolution) in [
            (&mut self.minutes, RETENTION.minutes, Resolution::Minute),
            (&mut self.hours, RETENTION.hours, Resolution::Hour),
        ] {
            let first = resolution.bucket((now - retention).ms());
            table.retain(|(_, bucket), _| *bucket >= first);
        }
    }

    pub(super) fn table(&self, resolution: Resolution) -> &OracleTable {
        if resolution == Resolution::Minute { &self.minutes } else { &self.hours }
    }
}

pub(super) fn add_to_table(table: &mut OracleTable, points: impl Iterator<Item = OraclePoint>, resolution: Resolution) {
    for (series, at, value) in points {
        table.entry((series, resolution.bucket(at))).or_default().push((at, value));
    }
}
