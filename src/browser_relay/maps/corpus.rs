//! The golden corpus: stacks of three engines running what four bundlers made of the same sources, and their maps.
//!
//! `tests/corpus/maps/NAME.map` is what the bundler wrote (their `sourcesContent` is the program); `NAME.positions` has
//! what `@jridgewell/trace-mapping` says of places in the generated code: line and column, and the source's name, line,
//! column and name, all from 1. `tests/corpus/stacks/NAME.ENGINE.txt` are stacks of that bundle in Chromium, Firefox and
//! JavaScriptCore, and `NAME.ENGINE.expected` what becomes of them. After a change that is meant to change them,
//! `UPDATE_CORPUS=1 cargo test corpus` writes them anew, to be read as a diff.

use std::path::PathBuf;

use super::convert_tests::Stored;
use super::lookup::Answer;
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

fn map(name: &str) -> Stored {
    Stored::convert(&std::fs::read(folder("maps").join(name).with_extension("map")).unwrap()).unwrap()
}

#[test]
fn positions_are_those_of_an_independent_library() {
    let mut positions = 0;
    for file in files("maps", "positions") {
        let name = file.file_stem().unwrap().to_str().unwrap();
        let map = map(name);
        for row in std::fs::read_to_string(&file).unwrap().lines() {
            let cells: Vec<&str> = row.split('\t').collect();
            let found = match map.look_up(cells[0].parse().unwrap(), cells[1].parse().unwrap()) {
                Answer::Mapped(original) => {
                    let named = original.name.unwrap_or("-".into());
                    [original.source, original.line.to_string(), original.column.to_string(), named]
                }
                Answer::Unmapped | Answer::Nothing => ["-", "0", "0", "-"].map(str::to_owned),
            };
            assert_eq!(found[..], cells[2..], "{name} {row}");
            positions += 1;
        }
    }
    assert!(positions > 1_000, "{positions} positions");
}

#[test]
fn every_stack_becomes_what_is_expected_of_it() {
    let mut stacks = 0;
    for file in files("stacks", "txt") {
        let name = file.file_name().unwrap().to_str().unwrap();
        let map = map(&format!("{}.map", name.split('.').next().unwrap()));
        let text = std::fs::read_to_string(&file).unwrap();
        let rewritten: Vec<String> = text
            .split("\n\n")
            .map(|stack| {
                stacks += 1;
                let message = stack.lines().next().unwrap().split_once(": ").unwrap().1;
                let resolve = |url: &str, line, column| match map.look_up(line, column) {
                    Answer::Mapped(original) if url.ends_with("/app.js") => Some(original),
                    _ => None,
                };
                stack::rewrite(stack, message, resolve).stack
            })
            .collect();
        let rewritten = rewritten.join("\n\n");
        let expected = file.with_extension("expected");
        if std::env::var_os("UPDATE_CORPUS").is_some() {
            std::fs::write(&expected, &rewritten).unwrap();
        }
        let expected = std::fs::read_to_string(&expected).unwrap_or_default();
        assert_eq!(rewritten.lines().collect::<Vec<_>>(), expected.lines().collect::<Vec<_>>(), "{name}");
    }
    assert!(stacks > 150, "{stacks} stacks");
}
