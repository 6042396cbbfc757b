//! What `make bench-compare` calls worse, and what `make bench` makes of figures.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::harness::{Folder, skip};

fn has_python() -> bool {
    Command::new("python3").arg("--version").output().is_ok()
}

/// A folder like a checkout, with `benches/figures.py` and nothing that git knows.
fn checkout() -> Folder {
    let folder = Folder::new();
    for place in ["benches", "docs", "target/figures"] {
        std::fs::create_dir_all(folder.path().join(place)).unwrap();
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/figures.py");
    std::fs::copy(script, folder.path().join("benches/figures.py")).unwrap();
    folder
}

fn leave(folder: &Folder, ratios: &Value) {
    let part = json!({
        "name": "tracker", "title": "Tracker", "command": "make bench", "order": 1, "notes": ["Of a test."],
        "tables": [{ "title": "reports", "columns": ["", "reports/s"], "rows": [["of 2 KB", 12345.6]] }],
        "ratios": ratios,
    });
    std::fs::write(folder.path().join("target/figures/tracker.json"), part.to_string()).unwrap();
}

/// Runs the script, and answers whether it ended well and what it said.
fn figures(folder: &Folder, command: &str) -> (bool, String) {
    let mut python = Command::new("python3");
    // No repository above it is asked what is committed.
    python.env("GIT_CEILING_DIRECTORIES", folder.path().parent().unwrap()).env("GIT_DIR", folder.path().join("none"));
    let output = python.arg(folder.path().join("benches/figures.py")).arg(command).output().unwrap();
    (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

#[test]
fn a_ratio_that_is_a_fifth_worse_or_gone_is_pointed_out() {
    if !has_python() {
        return skip("there is no python3");
    }
    let folder = checkout();
    let ratio = |row: &str, value: f64| json!({ "row": row, "to": "raw SQLite", "value": value });
    let loose = |value: f64| json!({ "row": "loose", "to": "the disk", "value": value, "loose": "the disk is slow" });
    leave(&folder, &json!([ratio("reports", 0.5), ratio("searches", 2.0), loose(1.0)]));
    assert!(figures(&folder, "render").0);
    for (ratios, worse) in [
        (json!([ratio("reports", 0.5), ratio("searches", 2.0), loose(1.0)]), None),
        (json!([ratio("reports", 0.41), ratio("searches", 9.0), loose(0.1)]), None),
        (json!([ratio("reports", 0.39), ratio("searches", 2.0)]), Some("tracker: reports, to raw SQLite")),
        (json!([ratio("reports", 0.5), ratio("lists", 2.0)]), Some("tracker: searches, to raw SQLite")),
    ] {
        leave(&folder, &ratios);
        let (well, said) = figures(&folder, "compare");
        assert_eq!(well, worse.is_none(), "{ratios}: {said}");
        assert_eq!(said.lines().count(), 1 + usize::from(worse.is_some()), "{said}");
        assert!(said.contains(worse.unwrap_or("2 ratios held to, 0 of them worse")), "{said}");
    }
}

#[test]
fn what_was_measured_becomes_a_page_and_what_was_not_stays_on_it() {
    if !has_python() {
        return skip("there is no python3");
    }
    let folder = checkout();
    leave(&folder, &json!([]));
    assert!(figures(&folder, "render").0);
    let measured = folder.path().join("target/figures");
    std::fs::rename(measured.join("tracker.json"), folder.path().join("kept.json")).unwrap();
    assert!(!figures(&folder, "render").0, "nothing was measured");
    let kept = std::fs::read_to_string(folder.path().join("kept.json")).unwrap();
    std::fs::write(measured.join("soak.json"), kept.replace("\"tracker\"", "\"soak\"").replace("Tracker", "Soak"))
        .unwrap();
    assert!(figures(&folder, "render").0);
    let page = std::fs::read_to_string(folder.path().join("docs/benchmarks.md")).unwrap();
    for expected in ["## Tracker", "## Soak", "**reports**", "|  | reports/s |\n|---|---:|\n| of 2 KB | 12,346 |"] {
        assert!(page.contains(expected), "{expected} is not in {page}");
    }
}
