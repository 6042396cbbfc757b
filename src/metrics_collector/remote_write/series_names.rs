//! Unique names of series on the remote write server.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};

use rusqlite::Connection;

use super::super::prometheus_names::{label_pairs, metric_name, unique_name};
use super::super::series::SeriesKey;
use crate::error::Result;
use crate::records::point::MetricKind;

/// Names of all series. Metrics of different kinds get different names. If the names and labels of two series become
/// equal, the later one gets the label `series` with its id.
#[derive(Debug, Default)]
pub(super) struct SeriesNames {
    /// Unique metric names, by kind and valid Prometheus name.
    metrics: HashMap<(MetricKind, String), String>,
    used: HashSet<String>,
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
        let key = (series.kind, metric_name(&series.name));
        let name = self.metrics.get(&key).cloned().unwrap_or(key.1);
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
            let key = (kind, metric_name(&series.name));
            if !self.metrics.contains_key(&key) {
                let name = unique_name(&mut self.used, &key.1, kind);
                self.metrics.insert(key.clone(), name);
            }
            self.first.entry(hash(&self.metrics[&key], &series)).or_insert(self.last_read);
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
    BuildHasherDefault::<DefaultHasher>::default().hash_one((name, label_pairs(series)))
}
