//! Metric points: one measurement with its metric name, kind, labels and project.
//!
//! A [`Point`] can only be created within the limits below, so code that receives one does not check them again. It
//! borrows its strings from the request body where the format allows it.

use std::borrow::Cow;
use std::fmt;

use crate::clock::Timestamp;
use crate::page_path::fold_page_path;

/// Maximum length of a metric name, in characters.
pub const NAME_CHARS_MAX: usize = 200;
/// Maximum length of a project name, in characters.
pub const PROJECT_CHARS_MAX: usize = 100;
/// Maximum number of labels of one point.
pub const LABELS_MAX: usize = 32;
/// Maximum length of a label name and of a label value, in characters.
pub const LABEL_CHARS_MAX: usize = 200;

/// Kind of a metric, which decides how its points are aggregated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MetricKind {
    /// Increments, which are summed.
    Counter,
    /// Values of which the last one counts.
    Gauge,
    /// Values of which the distribution counts.
    Histogram,
}

impl MetricKind {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::Counter, Self::Gauge, Self::Histogram];

    /// Returns the name that the API and the database use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }

    /// Returns the kind with this name; `None` for an unknown name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// Name and value of a label.
pub type Label<'a> = (Cow<'a, str>, Cow<'a, str>);

/// Labels of one point, in the order in which they were added.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Labels<'a>(Vec<Label<'a>>);

impl<'a> Labels<'a> {
    /// Appends a label.
    ///
    /// # Errors
    /// [`InvalidField`] if the name is empty, if the name or the value is too long, or if there are already
    /// [`LABELS_MAX`] labels.
    pub fn push(&mut self, name: Cow<'a, str>, value: Cow<'a, str>) -> Result<(), InvalidField> {
        let allowed = self.0.len() < LABELS_MAX
            && has_length(&name, 1, LABEL_CHARS_MAX)
            && has_length(&value, 0, LABEL_CHARS_MAX);
        if !allowed {
            let rule = "may have at most 32 labels with names of 1-200 and values of 0-200 characters";
            return Err(InvalidField { field: "labels", rule });
        }
        self.0.push((name, value));
        Ok(())
    }
}

/// One measurement of a metric.
#[derive(Debug, Clone, PartialEq)]
pub struct Point<'a> {
    name: Cow<'a, str>,
    kind: MetricKind,
    value: f64,
    labels: Vec<Label<'a>>,
    project: Cow<'a, str>,
    at: Option<Timestamp>,
}

impl<'a> Point<'a> {
    /// Creates a point. Sorts the labels; of labels with the same name it keeps the one with the smallest value.
    ///
    /// # Errors
    /// [`InvalidField`] if the name or the project is too long, the name is empty, or the value is not finite.
    pub fn new(
        name: Cow<'a, str>,
        kind: MetricKind,
        value: f64,
        labels: Labels<'a>,
        project: Cow<'a, str>,
        at: Option<Timestamp>,
    ) -> Result<Self, InvalidField> {
        if !has_length(&name, 1, NAME_CHARS_MAX) {
            return Err(InvalidField { field: "name", rule: "must be 1-200 characters" });
        }
        if !value.is_finite() {
            return Err(InvalidField { field: "value", rule: "must be a finite number" });
        }
        if !has_length(&project, 0, PROJECT_CHARS_MAX) {
            return Err(InvalidField { field: "project", rule: "must be at most 100 characters" });
        }
        let Labels(mut labels) = labels;
        labels.sort_unstable();
        labels.dedup_by(|next, kept| next.0 == kept.0);
        Ok(Self { name, kind, value, labels, project, at })
    }

    /// Returns the metric name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the metric kind.
    #[must_use]
    pub fn kind(&self) -> MetricKind {
        self.kind
    }

    /// Returns the finite value.
    #[must_use]
    pub fn value(&self) -> f64 {
        self.value
    }

    /// Returns the labels, sorted by name, without duplicate names.
    #[must_use]
    pub fn labels(&self) -> &[Label<'a>] {
        &self.labels
    }

    /// Returns the project name; empty if the point has none.
    #[must_use]
    pub fn project(&self) -> &str {
        &self.project
    }

    /// Returns the time of the measurement; `None` if the sender did not report it.
    #[must_use]
    pub fn at(&self) -> Option<Timestamp> {
        self.at
    }

    /// Returns the value of a label.
    #[must_use]
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(label, _)| label == name).map(|(_, value)| &**value)
    }

    /// Folds the ids in a label that contains the path of a page, if the point has it.
    pub fn fold_page_label(&mut self, name: &str) {
        let Some((_, value)) = self.labels.iter_mut().find(|(label, _)| label == name) else { return };
        let folded = fold_page_path(value, LABEL_CHARS_MAX);
        if folded != *value {
            *value = Cow::Owned(folded.into_owned());
        }
    }

    /// Removes the labels whose names match, and returns them in their order.
    pub fn remove_labels(&mut self, matches: impl Fn(&str) -> bool) -> Vec<Label<'a>> {
        self.labels.extract_if(.., |(name, _)| matches(name)).collect()
    }
}

/// Field of a point that violates a limit. Its text reads `field 'name' must be 1-200 characters`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidField {
    /// Name of the field.
    pub field: &'static str,
    /// The rule that the field violates, beginning with a verb.
    pub rule: &'static str,
}

impl fmt::Display for InvalidField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "field '{}' {}", self.field, self.rule)
    }
}

impl std::error::Error for InvalidField {}

/// Whether the string has a number of characters within the limits; `chars_min` is 0 or 1.
fn has_length(string: &str, chars_min: usize, chars_max: usize) -> bool {
    // Counting characters is only necessary if the number of bytes exceeds the limit.
    string.len() >= chars_min && (string.len() <= chars_max || string.chars().count() <= chars_max)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(name: &str, value: f64, labels: Labels<'static>, project: &str) -> Result<Point<'static>, InvalidField> {
        Point::new(name.to_owned().into(), MetricKind::Gauge, value, labels, project.to_owned().into(), None)
    }

    fn labels(pairs: &[(&'static str, &'static str)]) -> Labels<'static> {
        let mut labels = Labels::default();
        pairs.iter().for_each(|(name, value)| labels.push((*name).into(), (*value).into()).unwrap());
        labels
    }

    #[test]
    fn limits_count_characters_and_name_the_field() {
        assert!(point(&"ä".repeat(200), 1.0, Labels::default(), &"ä".repeat(100)).is_ok());
        for (point, field) in [
            (point("", 1.0, Labels::default(), ""), "name"),
            (point(&"ä".repeat(201), 1.0, Labels::default(), ""), "name"),
            (point("n", f64::NAN, Labels::default(), ""), "value"),
            (point("n", f64::NEG_INFINITY, Labels::default(), ""), "value"),
            (point("n", 1.0, Labels::default(), &"p".repeat(101)), "project"),
        ] {
            assert_eq!(point.unwrap_err().field, field);
        }
        let mut full = Labels::default();
        assert!(full.push("".into(), "x".into()).is_err());
        assert!(full.push("x".into(), "x".repeat(201).into()).is_err());
        (0..LABELS_MAX).for_each(|label| full.push(label.to_string().into(), "".into()).unwrap());
        assert!(full.push("one_more".into(), "".into()).is_err());
    }

    #[test]
    fn labels_are_sorted_and_have_unique_names() {
        let mut point = point("n", 1.0, labels(&[("b", "2"), ("a", "y"), ("a", "x"), ("c", "3")]), "").unwrap();
        let pair = |(name, value): (&'static str, &'static str)| (Cow::Borrowed(name), Cow::Borrowed(value));
        assert_eq!(point.labels(), [("a", "x"), ("b", "2"), ("c", "3")].map(pair));
        assert_eq!(point.remove_labels(|name| name != "b"), [("a", "x"), ("c", "3")].map(pair));
        assert_eq!(point.labels(), [("b", "2")].map(pair));
        assert_eq!((point.label("b"), point.label("a")), (Some("2"), None));
    }
}
