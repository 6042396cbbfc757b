//! Golden corpus: source maps of four bundlers for the same program, and stack traces of three engines.
//!
//! - `tests/corpus/maps/NAME.map`: output of the bundler; `sourcesContent` is the program
//! - `tests/corpus/maps/NAME.positions`: lookups of `@jridgewell/trace-mapping`: generated line and column, source URL,
//!   line, column and name; lines and columns start at 1
//! - `tests/corpus/stacks/NAME.ENGINE.txt`: stack traces of the bundle in Chromium, Firefox and JavaScriptCore
//! - `tests/corpus/stacks/NAME.ENGINE.expected`: the symbolicated stack traces
//!
//! After an intended change, `UPDATE_CORPUS=1 cargo test corpus` rewrites the expected files; review the diff.

use std::path::PathBuf;

use super::convert_tests::StoredMap;
use super::lookup::LookupResult;
use super::stack;

fn folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(name)
}

fn files(folder_name: &str, extension: &str) -> Vec<PathBuf> {
    let files = std::fs::read_dir(folder(folder_name)).unwrap().map(|file| file.unwrap().path());
    let mut files: Vec<_> = files.filter(|file| file.extension().is_some_and(|it| it == extension)).collect();
    files.sort();
    files
}

fn convert_map(name: &str) -> StoredMap {
    StoredMap::convert(&std::fs::read(folder("maps").join(name).with_extension("map")).unwrap()).unwrap()
}

#[test]
fn lookups_equal_those_of_trace_mapping() {
    let mut positions = 0;
    for file in files("maps", "positions") {
        let name = file.file_stem().unwrap().to_str().unwrap();
        let map = convert_map(name);
        for row in std::fs::read_to_string(&file).unwrap().lines() {
            let cells: Vec<&str> = row.split('\t').collect();
            let actual = match map.look_up(cells[0].parse().unwrap(), cells[1].parse().unwrap()) {
                LookupResult::Resolved(original) => {
                    let name = original.name.unwrap_or("-".into());
                    [original.source, original.line.to_string(), original.column.to_string(), name]
                }
                LookupResult::Generated | LookupResult::NoMapping => ["-", "0", "0", "-"].map(str::to_owned),
            };
            assert_eq!(actual[..], cells[2..], "{name} {row}");
            positions += 1;
        }
    }
    assert!(positions > 1_000, "{positions} positions");
}

#[test]
fn symbolicated_stacks_equal_the_expected_files() {
    let mut stacks = 0;
    for file in files("stacks", "txt") {
        let name = file.file_name().unwrap().to_str().unwrap();
        let map = convert_map(&format!("{}.map", name.split('.').next().unwrap()));
        let text = std::fs::read_to_string(&file).unwrap();
        let symbolicated: Vec<String> = text
            .split("\n\n")
            .map(|stack| {
                stacks += 1;
                let message = stack.lines().next().unwrap().split_once(": ").unwrap().1;
                let resolve = |url: &str, line, column| match map.look_up(line, column) {
                    LookupResult::Resolved(original) if url.ends_with("/app.js") => Some(original),
                    _ => None,
                };
                stack::symbolicate_stack(stack, message, resolve).stack
            })
            .collect();
        let symbolicated = symbolicated.join("\n\n");
        let expected = file.with_extension("expected");
        if std::env::var_os("UPDATE_CORPUS").is_some() {
            std::fs::write(&expected, &symbolicated).unwrap();
        }
        let expected = std::fs::read_to_string(&expected).unwrap_or_default();
        assert_eq!(symbolicated.lines().collect::<Vec<_>>(), expected.lines().collect::<Vec<_>>(), "{name}");
    }
    assert!(stacks > 150, "{stacks} stacks");
}
