//! Metric names, labels and histogram bounds in the form that Prometheus accepts.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher, Hash};

pub(super) use super::prometheus_characters::metric_name;
use super::prometheus_characters::sanitize;
use super::series::SeriesKey;
use crate::records::point::MetricKind;

/// Number of histogram bounds.
pub(super) const BOUNDS: usize = 41;

/// Returns the histogram bounds: powers of two from 2^-10 to 2^20, for seconds and milliseconds, and then every second one to
/// 2^40, for bytes. A bucket of the sketch ends at each of them, so the counts are exact.
pub(super) fn histogram_bounds() -> impl Iterator<Item = f64> {
    (-10..=20).chain((22..=40).step_by(2)).map(|exponent: i32| f64::from(exponent).exp2())
}

/// Hashes of the metric names that are used. The names themselves would need megabytes.
#[derive(Debug, Default)]
pub(super) struct UsedNames(HashSet<u64>);

impl UsedNames {
    /// Returns the name, with the kind appended if a metric of another kind already has it. Adds the result.
    pub(super) fn add_unique(&mut self, name: &str, kind: MetricKind) -> String {
        let suffixes: &[&str] = if kind == MetricKind::Histogram { &["", "_bucket", "_sum", "_count"] } else { &[""] };
        let hashes =
            |name: &str| suffixes.iter().map(|suffix| stable_hash(format!("{name}{suffix}"))).collect::<Vec<_>>();
        let mut name = name.to_owned();
        while hashes(&name).iter().any(|hash| self.0.contains(hash)) {
            name = format!("{name}_{}", kind.as_str());
        }
        self.0.extend(hashes(&name));
        name
    }
}

/// Returns a hash that is the same in every process.
pub(super) fn stable_hash(value: impl Hash) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(value)
}

/// Returns the label pairs of a series: the project, then its labels by name. Label names that Prometheus reserves, and
/// a label named `project` in a series with a project, get the prefix `exported_`, as in Prometheus. If two names become
/// equal, the second gets the suffix `_`.
pub(super) fn label_pairs(series: &SeriesKey) -> Vec<(String, String)> {
    let labels: BTreeMap<String, String> = serde_json::from_str(&series.labels).unwrap_or_default();
    let (mut used, mut pairs) = (BTreeSet::new(), Vec::new());
    if !series.project.is_empty() {
        used.insert("project".to_owned());
        pairs.push(("project".to_owned(), series.project.clone()));
    }
    // Prometheus treats a label with an empty value as absent.
    for (name, value) in labels.into_iter().filter(|(_, value)| !value.is_empty()) {
        let mut name = sanitize(&name, false);
        if name.starts_with("__") || name == "le" || used.contains(&name) && name == "project" {
            name.insert_str(0, "exported_");
        }
        while !used.insert(name.clone()) {
            name.push('_');
        }
        pairs.push((name, value));
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histogram_bounds_ascend_from_a_thousandth_to_a_terabyte() {
        let bounds: Vec<f64> = histogram_bounds().collect();
        assert!(bounds.len() == BOUNDS && bounds.is_sorted(), "{bounds:?}");
        assert_eq!((bounds[0], bounds[30], bounds[BOUNDS - 1]), (1.0 / 1_024.0, 1_048_576.0, 1024f64.powi(4)));
    }

    #[test]
    fn label_names_are_valid_and_unique() {
        for (project, labels, expected) in [
            ("", "{}", ""),
            ("shop", r#"{"a":"x"}"#, "project=shop,a=x"),
            ("shop", r#"{"project":"web"}"#, "project=shop,exported_project=web"),
            ("", r#"{"project":"web"}"#, "project=web"),
            ("", r#"{"a.b":"1","a_b":"2","a-b":""}"#, "a_b=1,a_b_=2"),
            (
                "",
                r#"{"le":"1","__name__":"x","1st":"y","ö":"z"}"#,
                "_1st=y,exported___name__=x,exported_le=1,U___f6_=z",
            ),
        ] {
            let (name, project, labels) = ("n".into(), project.into(), labels.to_owned());
            let series = SeriesKey { kind: MetricKind::Counter, name, project, labels };
            let pairs = label_pairs(&series);
            let pairs: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
            assert_eq!(pairs.join(","), expected, "{}", series.labels);
        }
    }
}
