//! Lists of metrics, labels and projects, written part by part from the database: their number is unbounded.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::OptionalExtension as _;
use serde::Serialize;

use crate::db::ReaderPool;
use crate::http::{BodySource, JsonArray};
use crate::records::point::MetricKind;

/// Maximum number of values that are listed per label.
const LABEL_VALUES_MAX: usize = 100;
/// Size of the labels that one part collects, in bytes.
const LABELS_PART_BYTES: usize = 128 * 1024;

/// Metrics to list.
#[derive(Debug, Default)]
pub(super) struct MetricsFilter {
    pub(super) project: Option<String>,
    /// Part of the name, in any case.
    pub(super) search: Option<String>,
    /// Maximum number of metrics; `None` lists all.
    pub(super) limit: Option<u64>,
}

/// Name and type of a metric.
#[derive(Debug, Serialize)]
struct Metric<'a> {
    name: &'a str,
    r#type: &'a str,
}

/// Label with its first values in alphabetical order.
#[derive(Debug, Serialize)]
struct LabelValues {
    name: String,
    values: BTreeSet<String>,
}

/// Returns `{"metrics":[…]}`: names and types in alphabetical order, each once.
pub(super) fn metrics(readers: ReaderPool, filter: MetricsFilter) -> impl BodySource {
    let MetricsFilter { project, search, limit } = filter;
    let search = search.map(|search| search.to_lowercase());
    // SQLite knows the case of ASCII letters only.
    let is_found = move |name: &str| search.as_ref().is_none_or(|search| name.to_lowercase().contains(search));
    let mut left = limit.unwrap_or(u64::MAX);
    let mut last = (String::new(), 0);
    JsonArray::new(r#"{"metrics":["#.into(), "]}".into(), move |out| {
        let reader = readers.acquire()?;
        let mut read = reader.prepare_cached(
            "SELECT name, type_id FROM metrics WHERE (name, type_id) > (?1, ?2) AND (?3 IS NULL OR project = ?3)
                 AND EXISTS (SELECT 1 FROM series WHERE metric_id = metrics.id)
             ORDER BY name, type_id",
        )?;
        let mut rows = read.query((last.0.clone(), last.1, &project))?;
        while let Some(row) = rows.next()? {
            let (name, type_id) = (row.get_ref(0)?.as_str().unwrap_or_default(), row.get(1)?);
            // The same metric of another project is listed once.
            if name == last.0 && type_id == last.1 || !is_found(name) {
                continue;
            }
            if left == 0 {
                return Ok(false);
            }
            out.push(&Metric { name, r#type: type_name(type_id) })?;
            last = (name.to_owned(), type_id);
            left -= 1;
            if out.is_full() {
                return Ok(true);
            }
        }
        Ok(false)
    })
}

/// Returns the name of a type by its id, which a test compares with the table.
pub(super) fn type_name(type_id: i64) -> &'static str {
    let index = usize::try_from(type_id - 1).unwrap_or_default();
    MetricKind::ALL.get(index).map_or("", |kind| kind.as_str())
}

/// Returns the id of a type.
pub(super) fn type_id(kind: MetricKind) -> i64 {
    MetricKind::ALL.iter().position(|other| *other == kind).map_or(0, |index| index as i64 + 1)
}

/// Returns `{"labels":[…]}`: the labels of a metric's series in alphabetical order, each with its first values.
///
/// Each part reads all series, and keeps the first labels behind the last one that was written.
pub(super) fn labels(readers: ReaderPool, name: String, project: Option<String>) -> impl BodySource {
    let mut last: Option<String> = None;
    JsonArray::new(r#"{"labels":["#.into(), "]}".into(), move |out| {
        let reader = readers.acquire()?;
        let mut read =
            reader.prepare_cached("SELECT labels FROM series_keys WHERE name = ?1 AND (?2 IS NULL OR project = ?2)")?;
        let mut rows = read.query((&name, &project))?;
        let mut found = FirstLabels::default();
        while let Some(row) = rows.next()? {
            let labels = row.get_ref(0)?.as_str().unwrap_or("{}");
            let labels: BTreeMap<String, String> = serde_json::from_str(labels).unwrap_or_default();
            for (name, value) in labels {
                if last.as_ref().is_none_or(|last| name > *last) {
                    found.add(name, value);
                }
            }
        }
        for (name, values) in found.labels {
            last = Some(name.clone());
            out.push(&LabelValues { name, values })?;
        }
        Ok(found.end.is_some())
    })
}

/// The first labels, as many as fit into [`LABELS_PART_BYTES`]. At least one.
#[derive(Default)]
struct FirstLabels {
    labels: BTreeMap<String, BTreeSet<String>>,
    size_bytes: usize,
    /// The first label that was left out.
    end: Option<String>,
}

impl FirstLabels {
    fn add(&mut self, name: String, value: String) {
        if self.end.as_ref().is_some_and(|end| name >= *end) {
            return;
        }
        let (name_bytes, value_bytes) = (size_bytes(&name), size_bytes(&value));
        let values = self.labels.entry(name).or_insert_with(|| {
            self.size_bytes += name_bytes;
            BTreeSet::new()
        });
        if values.len() == LABEL_VALUES_MAX && values.last().is_some_and(|last| *last <= value) {
            return;
        }
        if values.insert(value) {
            self.size_bytes += value_bytes;
        }
        if values.len() > LABEL_VALUES_MAX {
            self.size_bytes -= values.pop_last().map_or(0, |value| size_bytes(&value));
        }
        while self.size_bytes > LABELS_PART_BYTES && self.labels.len() > 1 {
            if let Some((name, values)) = self.labels.pop_last() {
                self.size_bytes -= size_bytes(&name) + values.iter().map(|value| size_bytes(value)).sum::<usize>();
                self.end = Some(name);
            }
        }
    }
}

/// Returns the size of a string in a tree, in bytes.
fn size_bytes(string: &str) -> usize {
    string.len() + 2 * size_of::<String>()
}

/// Returns `{"projects":[…]}`: the names of all projects in alphabetical order.
pub(super) fn projects(readers: ReaderPool) -> impl BodySource {
    let mut last = String::new();
    JsonArray::new(r#"{"projects":["#.into(), "]}".into(), move |out| {
        let reader = readers.acquire()?;
        let snapshot = reader.unchecked_transaction()?;
        let mut read =
            snapshot.prepare_cached("SELECT project FROM metrics WHERE project > ?1 ORDER BY project LIMIT 1")?;
        while let Some(project) = read.query_row([&last], |row| row.get::<_, String>(0)).optional()? {
            out.push(&project)?;
            last = project;
            if out.is_full() {
                return Ok(true);
            }
        }
        Ok(false)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_labels_and_values_are_kept() {
        let mut found = FirstLabels::default();
        for n in (0..1_000).rev() {
            for label in ["c", "a", "b"] {
                found.add(label.repeat(200), format!("{n:03}{}", "x".repeat(1_197)));
            }
        }
        // 100 values of 1,248 bytes: two labels do not fit.
        assert_eq!(found.labels.keys().collect::<Vec<_>>(), [&"a".repeat(200)]);
        assert_eq!(found.end, Some("b".repeat(200)));
        let values = &found.labels[&"a".repeat(200)];
        assert!(values.len() == LABEL_VALUES_MAX && values.last().is_some_and(|last| last.starts_with("099")));
        let size = size_bytes(&"a".repeat(200)) + values.iter().map(|value| size_bytes(value)).sum::<usize>();
        assert_eq!(found.size_bytes, size);
    }
}
