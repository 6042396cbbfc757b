//! Fuzz targets: one function per parser of untrusted input, which asserts the invariants of the parser.
//!
//! `make fuzz` runs them with cargo-fuzz, which needs a nightly compiler. The tests below run them on the corpus in
//! `fuzz/corpus`, which contains examples and past findings. Neither is part of a program.

use crate::page_path::fold_page_path;
use crate::records::point::LABEL_CHARS_MAX;
use crate::{browser_relay, error_tracker, http, log_viewer, metrics_collector};

/// A fuzz target: its name, which is also that of its file in `fuzz/targets` and of its folder in `fuzz/corpus`, and its
/// function.
pub type Target = (&'static str, fn(&[u8]));

/// All fuzz targets.
pub const TARGETS: &[Target] = &[
    ("addresses", http::fuzz::addresses),
    ("containers", log_viewer::fuzz::containers),
    ("error_queries", error_tracker::fuzz::queries),
    ("error_reports", error_tracker::fuzz::reports),
    ("http_bodies", http::fuzz::bodies),
    ("http_heads", http::fuzz::heads),
    ("line_times", log_viewer::fuzz::line_times),
    ("log_lines", log_viewer::fuzz::lines),
    ("log_queries", log_viewer::fuzz::queries),
    ("metric_points", metrics_collector::fuzz::batches),
    ("metric_queries", metrics_collector::fuzz::queries),
    ("page_paths", page_paths),
    ("page_reports", page_reports),
    ("sketches", metrics_collector::fuzz::sketches),
    ("source_maps", browser_relay::fuzz::maps),
    ("sources", browser_relay::fuzz::sources),
    ("stacks", browser_relay::fuzz::stacks),
    ("timestamps", log_viewer::fuzz::timestamps),
];

/// Checks that a folded path is a label value, that folding it again changes nothing, and that it has no query.
fn page_paths(data: &[u8]) {
    let page = String::from_utf8_lossy(data);
    let folded = fold_page_path(&page, LABEL_CHARS_MAX);
    assert!((1..=LABEL_CHARS_MAX).contains(&folded.chars().count()) && !folded.contains(['?', '#', ';']), "{folded}");
    // A path can contain what looks like the host of a URL, and a truncated one half an id.
    if !folded.contains("://") && !folded.ends_with('…') {
        assert_eq!(fold_page_path(&folded, LABEL_CHARS_MAX), folded);
    }
}

/// Checks that every page report that the relay accepts is accepted by the upstream service, because the relay may have
/// answered it by then.
fn page_reports(data: &[u8]) {
    let [error, metrics] = browser_relay::fuzz::forwarded(data);
    for (body, taken) in [
        (error.ok(), error_tracker::fuzz::accepts as fn(&[u8]) -> Result<(), crate::error::Error>),
        (metrics.ok(), metrics_collector::fuzz::takes),
    ] {
        let Some(body) = body else { continue };
        assert_eq!(taken(&body), Ok(()), "{}", String::from_utf8_lossy(&body));
    }
}

/// Runs the target with this name on `data`.
///
/// # Panics
/// Panics if an invariant is violated, or if no target has this name.
pub fn run(name: &str, data: &[u8]) {
    let (_, target) = TARGETS.iter().find(|(target, _)| *target == name).expect("a target has this name");
    target(data);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::{Path, PathBuf};

    use super::*;

    fn files(folder: &str) -> Vec<PathBuf> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(folder);
        let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
        files.sort();
        files
    }

    fn stems(files: &[PathBuf]) -> BTreeSet<&str> {
        files.iter().map(|file| file.file_stem().unwrap().to_str().unwrap()).collect()
    }

    #[test]
    fn every_target_has_a_corpus_and_a_binary() {
        let names: BTreeSet<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
        assert_eq!(stems(&files("targets")), names);
        assert_eq!(stems(&files("corpus")), names);
    }

    #[test]
    fn invariants_hold_for_the_whole_corpus() {
        for (name, target) in TARGETS {
            let corpus = files(&format!("corpus/{name}"));
            assert!(!corpus.is_empty(), "{name}");
            for file in corpus {
                let data = std::fs::read(&file).unwrap();
                let result = std::panic::catch_unwind(|| target(&data));
                assert!(result.is_ok(), "{}", file.display());
            }
        }
    }
}
