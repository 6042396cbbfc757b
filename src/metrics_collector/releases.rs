//! When which release went live. Whoever deploys says so with a gauge of its own, once or for as long as a program runs:
//! a moment of interest is where another release begins.

use std::collections::{BTreeMap, HashMap, HashSet};

use rusqlite::Connection;
use serde::Serialize;

use super::commands::{MS_PER_HOUR, MS_PER_MINUTE};
use super::store::{Resolution, Tier, put};
use super::tally::{Detail, Tally};
use crate::clock::Timestamp;
use crate::error::Result;

/// The gauge; its value says nothing. Prometheus calls metrics of this kind info (OpenMetrics 1.0, section 5.5).
const METRIC: &str = "release_info";
const LABEL: &str = "release";
/// Releases that are answered, the latest of them.
const RELEASES_MAX: usize = 200;

/// A release that went live.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Release {
    at: Timestamp,
    release: String,
    /// Empty where it has none.
    project: String,
}

/// One series of the gauge.
struct Gauge {
    project: String,
    release: String,
    created_at: i64,
}

/// The releases that a project told of, and when in the hour each began.
type ByHour<'a> = BTreeMap<i64, Vec<(Timestamp, &'a str)>>;

/// The releases of one project or of all that went live at a moment of interest, the first of them first.
pub(super) fn read(
    connection: &Connection,
    project: Option<&str>,
    of_interest: impl Fn(Timestamp) -> bool,
) -> Result<Vec<Release>> {
    let snapshot = connection.unchecked_transaction()?;
    let gauges = gauges(&snapshot, project)?;
    let detail = |id: i64| gauges.contains_key(&id).then(Detail::default);
    // All that is there: what went live first in a window shows only beside what was before it.
    let hours = Tier::open(&snapshot, i64::MIN, Resolution::Hour, detail)?;
    let minutes = Tier::open(&snapshot, i64::MIN, Resolution::Minute, detail)?;
    let mut live: BTreeMap<&str, ByHour<'_>> = BTreeMap::new();
    for (id, gauge) in &gauges {
        let mut of_gauge = BTreeMap::new();
        let all = i64::MIN..i64::MAX;
        hours.rows(*id, Detail::default(), &all, |hour, tally| put(&mut of_gauge, hour, tally))?;
        hours.fresh(*id, &all).for_each(|(hour, tally)| put(&mut of_gauge, hour, tally.clone()));
        let of_project = live.entry(&gauge.project).or_default();
        for (hour, tally) in of_gauge {
            let at = began(&minutes, *id, gauge, hour, &tally)?;
            of_project.entry(hour).or_default().push((at, &gauge.release));
        }
    }
    let mut found: Vec<Release> = live
        .into_iter()
        .flat_map(|(project, hours)| {
            let release =
                |(at, release): (Timestamp, &str)| Release { at, release: release.into(), project: project.into() };
            changes(hours).into_iter().map(release).collect::<Vec<_>>()
        })
        .filter(|release| of_interest(release.at))
        .collect();
    found.sort_by_key(|release| release.at);
    found.drain(..found.len().saturating_sub(RELEASES_MAX));
    Ok(found)
}

fn gauges(connection: &Connection, project: Option<&str>) -> Result<HashMap<i64, Gauge>> {
    let mut read = connection.prepare_cached(
        "SELECT id, project, json_extract(labels, '$.' || ?3), created_at FROM series
             WHERE name = ?1 AND (?2 IS NULL OR project = ?2) AND json_extract(labels, '$.' || ?3) IS NOT NULL",
    )?;
    let gauges = read.query_map((METRIC, project, LABEL), |row| {
        Ok((row.get(0)?, Gauge { project: row.get(1)?, release: row.get(2)?, created_at: row.get(3)? }))
    })?;
    Ok(gauges.collect::<rusqlite::Result<_>>()?)
}

/// When a gauge was first set within an hour, as exactly as is known: minutes are not kept for as long as hours.
fn began(minutes: &Tier<'_>, id: i64, gauge: &Gauge, hour: i64, tally: &Tally) -> Result<Timestamp> {
    if tally.count == 1 {
        return Ok(Timestamp::from_ms(tally.last_at));
    }
    let minutes_of = |hour: i64| hour * MS_PER_HOUR / MS_PER_MINUTE;
    let of_hour = minutes_of(hour)..minutes_of(hour + 1);
    let mut first = minutes.fresh(id, &of_hour).next().map(|(minute, _)| minute);
    minutes.rows(id, Detail::default(), &of_hour, |minute, _| {
        first = Some(first.map_or(minute, |known| known.min(minute)));
    })?;
    let (from, length) =
        first.map_or((hour * MS_PER_HOUR, MS_PER_HOUR), |minute| (minute * MS_PER_MINUTE, MS_PER_MINUTE));
    // When the first point of all arrived is as good as when it was measured.
    let is_first = (from..from + length).contains(&gauge.created_at);
    Ok(Timestamp::from_ms(if is_first { gauge.created_at } else { from }))
}

/// Where a release begins that was not live in the last hour of which anything is known. Two that are live side by side
/// for a while, as in a deployment step by step, begin once each.
fn changes(hours: ByHour<'_>) -> Vec<(Timestamp, &str)> {
    let mut before: HashSet<&str> = HashSet::new();
    let mut found = Vec::new();
    for live in hours.into_values() {
        found.extend(live.iter().filter(|(_, release)| !before.contains(release)));
        before = live.into_iter().map(|(_, release)| release).collect();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_begins_where_it_was_not_live_before() {
        let at = |hour: i64, minute: i64| Timestamp::from_ms((hour * 60 + minute) * 60_000);
        let hours = BTreeMap::from([
            (1, vec![(at(1, 0), "1.0")]),
            (2, vec![(at(2, 0), "1.0")]),
            // Step by step.
            (3, vec![(at(3, 0), "1.0"), (at(3, 20), "1.1")]),
            (4, vec![(at(4, 0), "1.0"), (at(4, 0), "1.1")]),
            (5, vec![(at(5, 0), "1.1")]),
            // Back again, after a night in which nothing ran.
            (19, vec![(at(19, 7), "1.0")]),
        ]);
        assert_eq!(changes(hours), [(at(1, 0), "1.0"), (at(3, 20), "1.1"), (at(19, 7), "1.0")]);
    }
}
