//! Selection of the series that a dashboard summarizes.

use std::collections::BTreeMap;

/// Project and labels that series must have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in super::super) struct SeriesFilter {
    /// `None` selects all projects.
    pub(in super::super) project: Option<String>,
    /// Names and values, all of which a series must have.
    pub(in super::super) labels: Vec<(String, String)>,
}

impl SeriesFilter {
    /// Whether series with other labels are left out, so that rollups over all series of a metric cannot be read.
    pub(super) fn has_labels(&self) -> bool {
        !self.labels.is_empty()
    }

    /// Whether the labels of a series, a JSON object, match.
    pub(super) fn matches(&self, labels: &str) -> bool {
        if self.labels.is_empty() {
            return true;
        }
        let labels: BTreeMap<String, String> = serde_json::from_str(labels).unwrap_or_default();
        self.labels.iter().all(|(name, value)| labels.get(name) == Some(value))
    }
}
