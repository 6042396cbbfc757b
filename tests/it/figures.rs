//! Tests of `benches/figures.py`: `compare` reports ratios that got worse, `render` writes `docs/benchmarks.md`.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::harness::{TempDir, skip};
use crate::support::programs::{is_installed, output_text};

/// Returns a folder with the layout of a checkout and `benches/figures.py`, outside any Git repository.
fn checkout() -> TempDir {
    let checkout = TempDir::new();
    for folder in ["benches", "docs", "target/figures"] {
        std::fs::create_dir_all(checkout.path().join(folder)).unwrap();
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/figures.py");
    std::fs::copy(script, checkout.path().join("benches/figures.py")).unwrap();
    checkout
}

fn write_figures(checkout: &TempDir, ratios: &Value) {
    let figures = json!({
        "name": "tracker", "title": "Tracker", "command": "make bench", "order": 1, "notes": ["From a test."],
        "tables": [{ "title": "reports", "columns": ["", "reports/s"], "rows": [["of 2 KB", 12345.6]] }],
        "ratios": ratios,
    });
    std::fs::write(checkout.path().join("target/figures/tracker.json"), figures.to_string()).unwrap();
}

/// Runs the script; returns whether it succeeded and its output.
fn run_script(checkout: &TempDir, command: &str) -> (bool, String) {
    let mut python = Command::new("python3");
    // Keeps git from finding a repository in a parent folder.
    python.env("GIT_CEILING_DIRECTORIES", checkout.path().parent().unwrap());
    python.env("GIT_DIR", checkout.path().join("none"));
    let output = python.arg(checkout.path().join("benches/figures.py")).arg(command).output().unwrap();
    (output.status.success(), output_text(&output))
}

#[test]
fn compare_reports_ratios_that_are_a_fifth_worse_or_missing() {
    if !is_installed("python3") {
        return skip("python3 is not installed");
    }
    let checkout = checkout();
    let ratio = |row: &str, value: f64| json!({ "row": row, "to": "raw SQLite", "value": value });
    let loose = |value: f64| json!({ "row": "loose", "to": "the disk", "value": value, "loose": "the disk is slow" });
    write_figures(&checkout, &json!([ratio("reports", 0.5), ratio("searches", 2.0), loose(1.0)]));
    assert!(run_script(&checkout, "render").0);
    for (ratios, worse) in [
        (json!([ratio("reports", 0.5), ratio("searches", 2.0), loose(1.0)]), None),
        (json!([ratio("reports", 0.41), ratio("searches", 9.0), loose(0.1)]), None),
        (json!([ratio("reports", 0.39), ratio("searches", 2.0)]), Some("tracker: reports, relative to raw SQLite")),
        (json!([ratio("reports", 0.5), ratio("lists", 2.0)]), Some("tracker: searches, relative to raw SQLite")),
    ] {
        write_figures(&checkout, &ratios);
        let (success, output) = run_script(&checkout, "compare");
        assert_eq!(success, worse.is_none(), "{ratios}: {output}");
        assert_eq!(output.lines().count(), 1 + usize::from(worse.is_some()), "{output}");
        assert!(output.contains(worse.unwrap_or("compared 2 ratios; 0 are more than 20% worse")), "{output}");
    }
}

#[test]
fn render_updates_measured_sections_and_keeps_the_others() {
    if !is_installed("python3") {
        return skip("python3 is not installed");
    }
    let checkout = checkout();
    write_figures(&checkout, &json!([]));
    assert!(run_script(&checkout, "render").0);
    let figures = checkout.path().join("target/figures");
    std::fs::rename(figures.join("tracker.json"), checkout.path().join("kept.json")).unwrap();
    assert!(!run_script(&checkout, "render").0, "render must fail without figures");
    let kept = std::fs::read_to_string(checkout.path().join("kept.json")).unwrap();
    std::fs::write(figures.join("soak.json"), kept.replace("\"tracker\"", "\"soak\"").replace("Tracker", "Soak"))
        .unwrap();
    assert!(run_script(&checkout, "render").0);
    let page = std::fs::read_to_string(checkout.path().join("docs/benchmarks.md")).unwrap();
    for expected in ["## Tracker", "## Soak", "**reports**", "|  | reports/s |\n|---|---:|\n| of 2 KB | 12,346 |"] {
        assert!(page.contains(expected), "the page lacks {expected:?}: {page}");
    }
}
