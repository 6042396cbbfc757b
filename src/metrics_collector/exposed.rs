//! Names, labels and buckets as Prometheus knows them.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::RangeInclusive;

use super::cumulative::Named;
use super::points::Kind;

/// Histograms are told of up to each of these powers of two, on which a bucket of theirs ends, so counts are exact.
pub(super) const BOUNDARIES: RangeInclusive<i32> = -10..=20;

/// The name, or, where another type has it already, the name and the type.
pub(super) fn free_name(taken: &mut HashSet<String>, name: &str, kind: Kind) -> String {
    let endings: &[&str] = if kind == Kind::Histogram { &["", "_bucket", "_sum", "_count"] } else { &[""] };
    let mut name = name.to_owned();
    while endings.iter().any(|ending| taken.contains(&format!("{name}{ending}"))) {
        name = format!("{name}_{}", kind.name());
    }
    taken.extend(endings.iter().map(|ending| format!("{name}{ending}")));
    name
}

/// What Prometheus allows: letters, digits and `_`, no digit first, and in a metric's name also `:`.
fn sanitised(name: &str, colons: bool) -> String {
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || (colons && letter == ':');
    let mut clean: String = name.chars().map(|letter| if allowed(letter) { letter } else { '_' }).collect();
    if clean.starts_with(|first: char| first.is_ascii_digit()) || clean.is_empty() {
        clean.insert(0, '_');
    }
    clean
}

pub(super) fn metric_name(name: &str) -> String {
    sanitised(name, true)
}

/// Labels by name, the project first. One whose name is Prometheus' own, or ours for the project, gets `exported_` in
/// front, as Prometheus does it; of two whose names have become the same, the second gets one more `_`.
pub(super) fn label_pairs(series: &Named) -> Vec<(String, String)> {
    let own: BTreeMap<String, String> = serde_json::from_str(&series.labels).unwrap_or_default();
    let (mut used, mut pairs) = (BTreeSet::new(), Vec::new());
    if !series.project.is_empty() {
        used.insert("project".to_owned());
        pairs.push(("project".to_owned(), series.project.clone()));
    }
    // To Prometheus an empty label is none.
    for (name, value) in own.into_iter().filter(|(_, value)| !value.is_empty()) {
        let mut name = sanitised(&name, false);
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
    fn labels_are_what_prometheus_allows() {
        for (project, given, shown) in [
            ("", "{}", ""),
            ("shop", r#"{"a":"x"}"#, "project=shop,a=x"),
            ("shop", r#"{"project":"web"}"#, "project=shop,exported_project=web"),
            ("", r#"{"project":"web"}"#, "project=web"),
            ("", r#"{"a.b":"1","a_b":"2","a-b":""}"#, "a_b=1,a_b_=2"),
            ("", r#"{"le":"1","__name__":"x","1st":"y","ö":"z"}"#, "_1st=y,exported___name__=x,exported_le=1,_=z"),
        ] {
            let series = Named { kind: Kind::Counter, name: "n".into(), project: project.into(), labels: given.into() };
            let pairs = label_pairs(&series);
            let shown_as: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
            assert_eq!(shown_as.join(","), shown, "{given}");
        }
    }
}
