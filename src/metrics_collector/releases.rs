//! Times at which releases went live. Clients report a release with the gauge `release_info`, once per deployment or for
//! as long as the program runs. A release goes live in an hour if the previous hour with reports does not contain it.

use std::collections::{BTreeMap, HashMap, HashSet};

use rusqlite::Connection;
use serde::Serialize;

use super::aggregate::{Aggregate, AggregateParts};
use super::resolution::{MS_PER_HOUR, MS_PER_MINUTE, Resolution};
use super::rollup_reader::{RollupReader, merge_into};
use super::rollup_tables::RollupScope;
use crate::clock::Timestamp;
use crate::error::{Error, Result};

/// Name of the gauge. Its value has no meaning; OpenMetrics calls this type info (OpenMetrics 1.0, section 5.5).
pub(super) const METRIC: &str = "release_info";
const LABEL: &str = "release";
/// Maximum number of releases in the result; the latest are returned.
const RELEASES_MAX: usize = 200;
/// Maximum number of hours of all releases together that one request reads: about 5 MB.
const HOURS_MAX: usize = 100_000;

/// Release with the time at which it went live.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Release {
    at: Timestamp,
    release: String,
    /// Empty if the series has no project.
    project: String,
}

/// Series of the gauge.
struct ReleaseInfoSeries {
    project: String,
    release: String,
    created_at: i64,
}

/// Releases of one project by hour, each with the time of its first report in that hour.
type ReleasesByHour<'a> = BTreeMap<i64, Vec<(Timestamp, &'a str)>>;

/// Returns the releases of one project, or of all projects, that went live in a time range, earliest first.
pub(super) fn read(
    connection: &Connection,
    project: Option<&str>,
    in_range: impl Fn(Timestamp) -> bool,
) -> Result<Vec<Release>> {
    let snapshot = connection.unchecked_transaction()?;
    let series = release_series(&snapshot, project)?;
    let mut hours_left = HOURS_MAX;
    let kind_of = |id: i64| series.contains_key(&id).then(AggregateParts::default);
    // Reads all stored hours: the first release in the range is only a change compared to the hour before it.
    let hours = RollupReader::open(&snapshot, i64::MIN, Resolution::Hour, kind_of)?;
    let minutes = RollupReader::open(&snapshot, i64::MIN, Resolution::Minute, kind_of)?;
    let mut projects: BTreeMap<&str, ReleasesByHour<'_>> = BTreeMap::new();
    for (id, release) in &series {
        let mut by_hour = BTreeMap::new();
        let all = i64::MIN..i64::MAX;
        hours.for_each_row((RollupScope::Series, *id), AggregateParts::default(), &all, |hour, aggregate| {
            merge_into(&mut by_hour, hour, aggregate);
        })?;
        for (hour, aggregate) in hours.not_rolled_up(*id, &all) {
            merge_into(&mut by_hour, hour, aggregate.clone());
        }
        let too_many = Error::Busy("Too many releases are stored; choose a project or lower RETENTION_HOURLY");
        hours_left = hours_left.checked_sub(by_hour.len()).ok_or(too_many)?;
        let releases = projects.entry(&release.project).or_default();
        for (hour, aggregate) in by_hour {
            let at = first_report(&minutes, *id, release, hour, &aggregate)?;
            releases.entry(hour).or_default().push((at, &release.release));
        }
    }
    let mut found: Vec<Release> = projects
        .into_iter()
        .flat_map(|(project, hours)| {
            let release =
                |(at, release): (Timestamp, &str)| Release { at, release: release.into(), project: project.into() };
            went_live(hours).into_iter().map(release).collect::<Vec<_>>()
        })
        .filter(|release| in_range(release.at))
        .collect();
    found.sort_by_key(|release| release.at);
    found.drain(..found.len().saturating_sub(RELEASES_MAX));
    Ok(found)
}

fn release_series(connection: &Connection, project: Option<&str>) -> Result<HashMap<i64, ReleaseInfoSeries>> {
    let mut read = connection.prepare_cached(
        "SELECT id, project, json_extract(labels, '$.' || ?3), created_at_ms FROM series_keys
             WHERE name = ?1 AND (?2 IS NULL OR project = ?2) AND json_extract(labels, '$.' || ?3) IS NOT NULL",
    )?;
    let series = read.query_map((METRIC, project, LABEL), |row| {
        Ok((row.get(0)?, ReleaseInfoSeries { project: row.get(1)?, release: row.get(2)?, created_at: row.get(3)? }))
    })?;
    Ok(series.collect::<rusqlite::Result<_>>()?)
}

/// Returns the time of a series' first report in an hour, as exactly as it is known: exact for the only point of the
/// hour and for the first point of the series, otherwise the start of its minute, or of the hour if minutes expired.
fn first_report(
    minutes: &RollupReader<'_>,
    id: i64,
    series: &ReleaseInfoSeries,
    hour: i64,
    aggregate: &Aggregate,
) -> Result<Timestamp> {
    if aggregate.count == 1 {
        return Ok(Timestamp::from_ms(aggregate.last_at));
    }
    let first_minute = |hour: i64| hour * MS_PER_HOUR / MS_PER_MINUTE;
    let range = first_minute(hour)..first_minute(hour + 1);
    let mut first = minutes.not_rolled_up(id, &range).next().map(|(minute, _)| minute);
    minutes.for_each_row((RollupScope::Series, id), AggregateParts::default(), &range, |minute, _| {
        first = Some(first.map_or(minute, |known| known.min(minute)));
    })?;
    let (start, width) =
        first.map_or((hour * MS_PER_HOUR, MS_PER_HOUR), |minute| (minute * MS_PER_MINUTE, MS_PER_MINUTE));
    // The time at which the series was created is the arrival of its first point.
    let is_first = (start..start + width).contains(&series.created_at);
    Ok(Timestamp::from_ms(if is_first { series.created_at } else { start }))
}

/// Returns the releases that were not reported in the previous hour with any report. Two releases that are reported side
/// by side, as in a rolling deployment, go live once each.
fn went_live(hours: ReleasesByHour<'_>) -> Vec<(Timestamp, &str)> {
    let mut previous: HashSet<&str> = HashSet::new();
    let mut found = Vec::new();
    for releases in hours.into_values() {
        found.extend(releases.iter().filter(|(_, release)| !previous.contains(release)));
        previous = releases.into_iter().map(|(_, release)| release).collect();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn release_goes_live_if_the_previous_hour_lacks_it() {
        let at = |hour: i64, minute: i64| Timestamp::from_ms((hour * 60 + minute) * 60_000);
        let hours = BTreeMap::from([
            (1, vec![(at(1, 0), "1.0")]),
            (2, vec![(at(2, 0), "1.0")]),
            // A rolling deployment.
            (3, vec![(at(3, 0), "1.0"), (at(3, 20), "1.1")]),
            (4, vec![(at(4, 0), "1.0"), (at(4, 0), "1.1")]),
            (5, vec![(at(5, 0), "1.1")]),
            // A rollback, after hours without reports.
            (19, vec![(at(19, 7), "1.0")]),
        ]);
        assert_eq!(went_live(hours), [(at(1, 0), "1.0"), (at(3, 20), "1.1"), (at(19, 7), "1.0")]);
    }
}
