//! Rules about the house that a reader should be able to rely on: layers, absences, and documents that are true.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::binary;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Each service: its binary, its folder, and the document that has its endpoints.
const SERVICES: [(&str, &str, &str); 4] = [
    ("browser-relay", "src/browser_relay", "docs/browser-relay.md"),
    ("error-tracker", "src/error_tracker", "docs/error-tracker.md"),
    ("log-viewer", "src/log_viewer", "docs/log-viewer.md"),
    ("metrics-collector", "src/metrics_collector", "docs/metrics-collector.md"),
];

/// Each part of the library and its layer. A part names only parts of lower layers.
const LAYERS: [(&str, u32); 23] = [
    ("background", 0),
    ("clock", 0),
    ("env", 0),
    ("error", 0),
    ("json", 1),
    ("network", 0),
    ("text", 0),
    ("varint", 0),
    ("db", 2),
    ("http", 2),
    ("client", 2),
    ("forward", 3),
    ("notify", 3),
    ("random", 1),
    ("records", 2),
    ("trace", 1),
    ("alerting", 4),
    ("service", 5),
    ("browser_relay", 6),
    ("error_tracker", 6),
    ("log_viewer", 6),
    ("metrics_collector", 6),
    ("fuzz", 7),
];

/// What only one folder may name, each with the reason for it.
const ABSENCES: [(&str, &[&str], &str); 5] = [
    ("src/http", &["tiny_http", "httparse", "epoll"], "connections are the door's affair"),
    ("src/db", &["Connection::open"], "only the writer's connection can write"),
    ("src/notify", &["lettre::"], "notifications are sent by one module"),
    ("src/client", &["ureq::", "rustls::"], "there is one outbound HTTP client"),
    ("src/service/allocator.rs", &["unsafe {", "unsafe_code)"], "one block, with its reason"),
];

fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(ROOT).join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                found.push((path.strip_prefix(ROOT).unwrap().to_owned(), text));
            }
        }
    }
    assert!(!found.is_empty(), "{folder} has sources");
    found
}

fn layer(part: &str) -> u32 {
    let known = LAYERS.iter().find(|(name, _)| *name == part);
    known.unwrap_or_else(|| panic!("{part} has no place in the layers; give it one in tests/it/tidy.rs")).1
}

/// The parts that a text names as `crate::part`.
fn named(text: &str) -> BTreeSet<&str> {
    let end = |rest: &str| rest.find(|letter: char| !letter.is_alphanumeric() && letter != '_').unwrap_or(rest.len());
    text.split("crate::").skip(1).map(|rest| &rest[..end(rest)]).filter(|part| !part.is_empty()).collect()
}

#[test]
fn a_part_names_only_parts_of_lower_layers() {
    for (path, text) in sources("src") {
        let part = path.iter().nth(1).unwrap().to_str().unwrap().trim_end_matches(".rs");
        if part == "lib" {
            continue;
        }
        for other in named(&text) {
            let allowed = other == part || layer(other) < layer(part);
            assert!(allowed, "{} (layer {}) names crate::{other}", path.display(), layer(part));
        }
    }
}

#[test]
fn what_one_folder_keeps_to_itself_stands_nowhere_else() {
    for (path, text) in sources("src") {
        let path = path.to_str().unwrap();
        if path.contains("test") {
            continue;
        }
        for (home, words, why) in ABSENCES {
            for word in words.iter().filter(|_| !home.split(' ').any(|home| path.starts_with(home))) {
                assert!(!text.contains(word), "{path} names {word}, which belongs to {home}: {why}");
            }
        }
        let sql = ["SELECT ", "rusqlite"];
        assert!(!path.starts_with("src/http") || !sql.iter().any(|word| text.contains(word)), "{path} knows SQL");
    }
}

/// Method and path of every route that the sources of a service set up, and of those that all services have.
fn routes(folder: &str) -> BTreeSet<String> {
    let mut routes = BTreeSet::new();
    for (_, text) in [sources(folder), sources("src/service")].concat() {
        for (call, method) in [
            ("Route::get(\"", "GET"),
            ("stream(\"", "GET"),
            ("post(\"", "POST"),
            ("upload(\"", "POST"),
            ("delete(\"", "DELETE"),
            ("service::ingest_route(\"", "POST"),
            ("service::command_route(\"", "POST"),
        ] {
            let paths = text.split(call).skip(1).filter_map(|rest| rest.split('"').next());
            routes.extend(paths.map(|path| format!("{method} {path}")));
        }
    }
    assert!(routes.len() > 6, "{routes:?}");
    routes
}

#[test]
fn every_route_stands_in_the_docs() {
    for (_, folder, document) in SERVICES {
        let text = read(document);
        for route in routes(folder) {
            assert!(text.contains(&format!("## `{route}`")), "{document} lacks {route}");
        }
    }
}

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(ROOT).join(path)).unwrap()
}

/// A variable's name, default and whether it is secret.
type Row = (String, String, bool);

#[test]
fn tables_of_variables_are_what_help_prints() {
    // The README has the error tracker's.
    let settings = SERVICES.map(|(service, _, document)| (service, document));
    for (service, document) in settings.map(|(service, document)| match service {
        "error-tracker" => (service, "README.md"),
        _ => (service, document),
    }) {
        assert_eq!(written(document), printed(service), "{document} (left) and {service} --help (right)");
    }
}

/// The variables that a service's `--help` prints.
fn printed(service: &str) -> Vec<Row> {
    let output = Command::new(binary(service)).arg("--help").output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    let printed: Vec<Row> = help
        .lines()
        .filter_map(|line| line.strip_prefix("  "))
        .filter_map(|line| {
            let (name, rest) = line.split_once("  ").filter(|(name, _)| !name.starts_with("--"))?;
            let secret = rest.ends_with(" (secret)");
            let rest = rest.trim_end_matches(" (secret)");
            let default = rest.rsplit_once(" [").and_then(|(_, default)| default.strip_suffix(']')).unwrap_or_default();
            Some((name.to_owned(), default.to_owned(), secret))
        })
        .collect();
    assert!(printed.len() > 20, "{help}");
    printed
}

/// The rows of a document's table that are about variables.
fn written(document: &str) -> Vec<Row> {
    read(document)
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .filter_map(|line| {
            let mut cells = line.split(" | ");
            let name = cells.next()?.trim_end_matches('`');
            let default = cells.next()?.trim().trim_matches('`');
            let secret = default == "secret";
            let plain =
                name.chars().all(|letter| letter.is_ascii_uppercase() || letter == '_' || letter.is_ascii_digit());
            plain.then(|| (name.to_owned(), if secret { String::new() } else { default.to_owned() }, secret))
        })
        .collect()
}

#[test]
fn the_changelog_knows_this_version() {
    assert!(read("CHANGELOG.md").contains(&format!("## {}", env!("CARGO_PKG_VERSION"))));
}
