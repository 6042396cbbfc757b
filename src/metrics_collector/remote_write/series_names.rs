//! Unique names of series on the remote write server.

use std::collections::{BTreeMap, HashMap};

use rusqlite::Connection;

use super::super::prometheus_names::{UsedNames, label_pairs, metric_name, stable_hash};
use super::super::series::SeriesKey;
use crate::error::Result;
use crate::records::point::MetricKind;

/// Names of all series. Metrics of different kinds get different names. If the names and labels of two series become
/// equal, the later one gets the label `series` with its id.
#[derive(Debug, Default)]
pub(super) struct SeriesNames {
    /// Unique metric names, by the hash of the kind and the valid Prometheus name; `None` if the name is the latter.
    metrics: HashMap<u64, Option<String>>,
    used: UsedNames,
    /// Id of the first series with a name and labels, by their hash.
    first: HashMap<u64, i64>,
    /// Id of the last series that was read.
    last_read: i64,
}

impl SeriesNames {
    /// Returns the metric name of a series, and its key with an additional label if an older series has the same name
    /// and labels.
    pub(super) fn get(
        &mut self,
        connection: &Connection,
        id: i64,
        series: &SeriesKey,
    ) -> Result<(String, Option<SeriesKey>)> {
        if id > self.last_read {
            self.read_new(connection)?;
        }
        let name = metric_name(&series.name);
        let unique = self.metrics.get(&metric_hash(series.kind, &name)).cloned().flatten();
        let name = unique.unwrap_or(name);
        let is_first = self.first.get(&hash(&name, series)).is_none_or(|first| *first == id);
        Ok((name, (!is_first).then(|| with_series_label(series, id))))
    }

    /// Reads new series in the order of their ids, so that names stay the same after a restart.
    fn read_new(&mut self, connection: &Connection) -> Result<()> {
        let mut read = connection
            .prepare_cached("SELECT id, type, name, project, labels FROM series_keys WHERE id > ?1 ORDER BY id")?;
        let mut rows = read.query([self.last_read])?;
        while let Some(row) = rows.next()? {
            self.last_read = row.get(0)?;
            let Some(kind) = MetricKind::from_name(row.get_ref(1)?.as_str().unwrap_or_default()) else { continue };
            let series = SeriesKey { kind, name: row.get(2)?, project: row.get(3)?, labels: row.get(4)? };
            let name = metric_name(&series.name);
            let unique = self
                .metrics
                .entry(metric_hash(kind, &name))
                .or_insert_with(|| Some(self.used.add_unique(&name, kind)).filter(|unique| *unique != name));
            let hash = hash(unique.as_deref().unwrap_or(&name), &series);
            self.first.entry(hash).or_insert(self.last_read);
        }
        Ok(())
    }
}

fn with_series_label(series: &SeriesKey, id: i64) -> SeriesKey {
    let mut labels: BTreeMap<String, String> = serde_json::from_str(&series.labels).unwrap_or_default();
    labels.insert("series".into(), id.to_string());
    SeriesKey { labels: serde_json::to_string(&labels).unwrap_or_default(), ..series.clone() }
}

/// Returns a hash of the name and labels by which the remote server identifies a series.
fn hash(name: &str, series: &SeriesKey) -> u64 {
    stable_hash((name, label_pairs(series)))
}

/// Returns a hash of a metric's kind and name.
fn metric_hash(kind: MetricKind, name: &str) -> u64 {
    stable_hash((kind.as_str(), name))
}
