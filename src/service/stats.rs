//! Statistics of a service for `/health` and `/metrics`, with a cache for when no database connection is idle.

use std::sync::{Mutex, PoisonError};

use rusqlite::Connection;
use serde::Serialize;

use crate::clock::Timestamp;
use crate::db::ReaderPool;
use crate::error::Result;
use crate::forward::ExportStat;

/// One statistic about stored data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// The name in `/health`; in `/metrics` it has the prefix `monlight_`.
    pub name: &'static str,
    /// The HELP text of the metric.
    pub help: &'static str,
    /// The value.
    pub value: StatValue,
}

/// The value of a statistic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum StatValue {
    /// A number.
    Count(i64),
    /// The time of an event, if it has occurred; in `/metrics` in seconds since 1970, and 0 for never.
    Time(Option<Timestamp>),
}

impl Stat {
    /// Creates a statistic that is a number.
    #[must_use]
    pub fn count(name: &'static str, help: &'static str, value: i64) -> Self {
        Self { name, help, value: StatValue::Count(value) }
    }

    /// Creates a statistic that is the time of an event.
    #[must_use]
    pub fn time(name: &'static str, help: &'static str, at: Option<Timestamp>) -> Self {
        Self { name, help, value: StatValue::Time(at) }
    }
}

impl From<ExportStat> for Stat {
    fn from(ExportStat { name, help, value }: ExportStat) -> Self {
        Self::count(name, help, value)
    }
}

impl StatValue {
    pub(super) fn number(self) -> u64 {
        match self {
            Self::Count(count) => count.unsigned_abs(),
            Self::Time(at) => at.map_or(0, |at| at.seconds().unsigned_abs()),
        }
    }
}

/// The statistics that were read last.
#[derive(Debug, Default)]
pub struct StatsCache(Mutex<Vec<Stat>>);

impl StatsCache {
    /// Reads the statistics if a connection is idle. Returns the last ones otherwise, so that a health check never waits for
    /// slow queries, and also if reading fails.
    pub fn refresh(&self, readers: &ReaderPool, read: impl FnOnce(&Connection) -> Result<Vec<Stat>>) -> Vec<Stat> {
        let fresh = readers.try_acquire().and_then(|reader| read(&reader).ok());
        let mut cached = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(fresh) = fresh {
            *cached = fresh;
        }
        cached.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_serialized_as_numbers_and_timestamps() {
        let values = [StatValue::Count(7), StatValue::Time(None), StatValue::Time(Some(Timestamp::from_ms(61_999)))];
        assert_eq!(serde_json::to_string(&values).unwrap(), r#"[7,null,"1970-01-01T00:01:01Z"]"#);
        assert_eq!(values.map(StatValue::number), [7, 0, 61]);
    }
}
