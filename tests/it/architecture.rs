//! Rules of the source tree that readers rely on: layers, absences, no dependency cycles, the style of doc comments, and
//! documents that match the code.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::harness::binary;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Each service: its binary, its folder, and the document with its endpoints.
const SERVICES: [(&str, &str, &str); 4] = [
    ("browser-relay", "src/browser_relay", "docs/browser-relay.md"),
    ("error-tracker", "src/error_tracker", "docs/error-tracker.md"),
    ("log-viewer", "src/log_viewer", "docs/log-viewer.md"),
    ("metrics-collector", "src/metrics_collector", "docs/metrics-collector.md"),
];

/// The layer of each module of the library. A module uses only modules of lower layers.
const LAYERS: [(&str, u32); 26] = [
    ("clock", 0),
    ("error", 0),
    ("ip_network", 0),
    ("text", 0),
    ("varint", 0),
    ("background", 1),
    ("env", 1),
    ("json", 1),
    ("page_path", 1),
    ("random", 1),
    ("trace", 1),
    ("records", 2),
    ("client", 3),
    ("db", 3),
    ("http", 3),
    ("forward", 4),
    ("notify", 4),
    ("quota", 4),
    ("alerting", 5),
    ("service", 6),
    ("browser_relay", 7),
    ("error_tracker", 7),
    ("log_viewer", 7),
    ("metrics_collector", 7),
    ("fuzz", 8),
    ("lib", 9),
];

/// Words that only some folders may use, with the reason.
const ABSENCES: [(&str, &[&str], &str); 5] = [
    ("src/http", &["tiny_http", "httparse", "epoll"], "only the event loop owns connections"),
    ("src/db", &["Connection::open"], "only the writer's connection can write"),
    ("src/notify", &["lettre::"], "only notify sends mail"),
    ("src/client", &["ureq::"], "there is one outbound HTTP client"),
    ("src/service/allocator.rs", &["unsafe {", "unsafe_code)"], "there is one unsafe block, with its reason"),
];

/// The first words that doc comments must not start with: they announce a riddle instead of naming the item.
const RIDDLE_STARTS: [&str; 10] = ["What", "Who", "How", "Of", "That", "It", "Where", "Why", "So", "As"];

/// Maximum lines of a file in `src/`. A longer one states the reason in its first line, with the word `lines`.
const FILE_LINES_MAX: usize = 450;

/// Minimum words of a function's doc comment. Shorter ones only repeat the name.
const FUNCTION_DOC_WORDS_MIN: usize = 4;

/// The first words that names of tests must not start with: they stand where the subject belongs.
const SUBJECTLESS_STARTS: [&str; 19] = [
    "accepts", "checks", "detects", "expects", "finds", "handles", "keeps", "parses", "rates", "reads", "rejects",
    "returns", "should", "shows", "strips", "what", "when", "who", "without",
];

/// Returns the files in a folder and its subfolders that have one of the extensions.
fn files(folder: &str, extensions: &[&str]) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(ROOT).join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extensions.iter().any(|known| extension == *known)) {
                let text = std::fs::read_to_string(&path).unwrap();
                found.push((path.strip_prefix(ROOT).unwrap().to_owned(), text));
            }
        }
    }
    assert!(!found.is_empty(), "{folder} has sources");
    found
}

fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    files(folder, &["rs"])
}

fn layer(module: &str) -> u32 {
    let row = LAYERS.iter().find(|(name, _)| *name == module);
    row.unwrap_or_else(|| panic!("{module} has no layer; add it to LAYERS in tests/it/architecture.rs")).1
}

/// Returns the modules that a text names as `crate::module`.
fn crate_modules(text: &str) -> BTreeSet<&str> {
    let end = |rest: &str| rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
    text.split("crate::").skip(1).map(|rest| &rest[..end(rest)]).filter(|module| !module.is_empty()).collect()
}

#[test]
fn modules_use_only_lower_layers() {
    for (path, text) in sources("src") {
        let module = path.iter().nth(1).unwrap().to_str().unwrap().trim_end_matches(".rs");
        for other in crate_modules(&text) {
            let is_allowed = other == module || layer(other) < layer(module);
            assert!(is_allowed, "{} (layer {}) uses crate::{other}", path.display(), layer(module));
        }
    }
}

/// Removes comments and the test module at the end of a file.
fn production_code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

fn is_test_file(path: &Path) -> bool {
    let name = path.file_name().unwrap().to_str().unwrap();
    name.ends_with("_tests.rs")
        || ["tests.rs", "test_server.rs", "test_strategies.rs", "fuzz.rs", "corpus.rs"].contains(&name)
}

/// Expands the tree of a `use` declaration into full paths.
fn use_paths(prefix: &[String], tree: &str) -> Vec<Vec<String>> {
    let (mut paths, mut depth, mut start) = (Vec::new(), 0, 0);
    let mut branches = Vec::new();
    for (at, c) in tree.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                branches.push(&tree[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    branches.push(&tree[start..]);
    for branch in branches.into_iter().map(str::trim).filter(|branch| !branch.is_empty()) {
        let (path, inner) = match branch.split_once('{') {
            Some((path, inner)) => (path, inner.rsplit_once('}').map(|(inner, _)| inner)),
            None => (branch, None),
        };
        let segments = path.split("::").map(str::trim).filter(|segment| !segment.is_empty());
        let segments = segments.map(|segment| segment.split(" as ").next().unwrap_or_default().to_owned());
        let path: Vec<String> = prefix.iter().cloned().chain(segments).collect();
        match inner {
            Some(inner) => paths.extend(use_paths(&path, inner)),
            None => paths.push(path),
        }
    }
    paths
}

/// Returns the absolute paths below `crate` that a file uses. `module` is the path of the file's own module.
fn used_paths(module: &[String], code: &str) -> Vec<Vec<String>> {
    let mut paths = Vec::new();
    let mut rest = String::new();
    let mut remaining = code;
    while let Some(at) = remaining.find("use ") {
        let is_declaration = at == 0 || remaining[..at].ends_with(['\n', ' ']);
        let end = remaining[at..].find(';').map_or(remaining.len(), |end| at + end);
        if is_declaration {
            rest.push_str(&remaining[..at]);
            paths.extend(use_paths(&[], &remaining[at + 4..end]));
        } else {
            rest.push_str(&remaining[..end]);
        }
        remaining = &remaining[end..];
    }
    rest.push_str(remaining);
    for start in ["crate::", "super::"] {
        for (at, _) in rest.match_indices(start) {
            let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
            let path: String = rest[at..].chars().take_while(|c| is_path(*c)).collect();
            paths.push(path.split("::").filter(|segment| !segment.is_empty()).map(str::to_owned).collect());
        }
    }
    paths.into_iter().filter_map(|path| absolute_path(module, &path)).collect()
}

fn absolute_path(module: &[String], path: &[String]) -> Option<Vec<String>> {
    match path.first()?.as_str() {
        "crate" => Some(path[1..].to_vec()),
        "self" => Some([module, &path[1..]].concat()),
        "super" => {
            let mut base = module.to_vec();
            let ups = path.iter().take_while(|segment| *segment == "super").count();
            base.truncate(base.len().checked_sub(ups)?);
            Some([&base, &path[ups..]].concat())
        }
        _ => None,
    }
}

/// Returns the path of a file's module: `src/http/route.rs` is `http::route`, and `src/http/mod.rs` is `http`.
fn module_path(file: &Path) -> Vec<String> {
    let mut path: Vec<String> = file.iter().skip(1).map(|part| part.to_str().unwrap().to_owned()).collect();
    let name = path.pop().unwrap();
    if name != "mod.rs" {
        path.push(name.trim_end_matches(".rs").to_owned());
    }
    path
}

/// Returns the names that a `mod.rs` re-exports, each with the child module that defines it.
fn reexports(code: &str, children: &BTreeSet<String>) -> BTreeMap<String, String> {
    let mut names = BTreeMap::new();
    for declaration in code.split("use ").skip(1).filter_map(|rest| rest.split(';').next()) {
        for path in use_paths(&[], declaration) {
            let path: Vec<String> = path.into_iter().filter(|segment| segment != "self").collect();
            if let (Some(first), Some(last)) = (path.first(), path.last())
                && children.contains(first)
            {
                names.insert(last.clone(), first.clone());
            }
        }
    }
    names
}

#[test]
fn no_folder_has_dependency_cycles() {
    let files: Vec<(PathBuf, String)> = sources("src").into_iter().filter(|(path, _)| !is_test_file(path)).collect();
    let folders: BTreeSet<Vec<String>> =
        files.iter().filter(|(path, _)| path.ends_with("mod.rs")).map(|(path, _)| module_path(path)).collect();
    assert!(folders.len() > 10, "{folders:?}");
    for folder in folders {
        let depth = folder.len();
        let inside = |module: &[String]| module.len() > depth && module[..depth] == folder[..];
        let children: BTreeSet<String> =
            files.iter().map(|(path, _)| module_path(path)).filter(|m| inside(m)).map(|m| m[depth].clone()).collect();
        let own = files.iter().find(|(path, _)| path.ends_with("mod.rs") && module_path(path) == folder);
        let reexports = reexports(&production_code(&own.unwrap().1), &children);
        let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (path, text) in &files {
            let module = module_path(path);
            if !inside(&module) {
                continue;
            }
            let child = &module[depth];
            for used in used_paths(&module, &production_code(text)).iter().filter(|used| inside(used)) {
                let name = &used[depth];
                let target = if children.contains(name) { Some(name) } else { reexports.get(name) };
                let Some(target) = target else {
                    panic!("{} uses {name}, which its parent's mod.rs defines: a cycle", path.display());
                };
                if target != child {
                    edges.entry(child.clone()).or_default().insert(target.clone());
                }
            }
        }
        if let Some(cycle) = find_cycle(&edges) {
            panic!("src/{} has a dependency cycle: {}", folder.join("/"), cycle.join(" -> "));
        }
    }
}

/// Returns the nodes of a cycle, or `None` if the graph has none.
fn find_cycle(edges: &BTreeMap<String, BTreeSet<String>>) -> Option<Vec<String>> {
    fn visit(
        node: &str,
        edges: &BTreeMap<String, BTreeSet<String>>,
        path: &mut Vec<String>,
        done: &mut BTreeSet<String>,
    ) -> bool {
        if let Some(at) = path.iter().position(|visited| visited == node) {
            path.drain(..at);
            path.push(node.to_owned());
            return true;
        }
        if done.contains(node) {
            return false;
        }
        path.push(node.to_owned());
        if edges.get(node).is_some_and(|targets| targets.iter().any(|target| visit(target, edges, path, done))) {
            return true;
        }
        path.pop();
        done.insert(node.to_owned());
        false
    }
    let (mut path, mut done) = (Vec::new(), BTreeSet::new());
    edges.keys().any(|node| visit(node, edges, &mut path, &mut done)).then_some(path)
}

#[test]
fn cycles_are_found() {
    let graph = |pairs: &[(&str, &str)]| {
        let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (from, to) in pairs {
            edges.entry((*from).to_owned()).or_default().insert((*to).to_owned());
        }
        find_cycle(&edges)
    };
    assert_eq!(graph(&[("a", "b"), ("b", "c"), ("a", "c")]), None);
    assert_eq!(graph(&[("a", "b"), ("b", "c"), ("c", "b")]), Some(["b", "c", "b"].map(str::to_owned).into()));
    let module = ["http".to_owned(), "route".to_owned()];
    let used = used_paths(&module, "use super::request::{Request, parse as read};\nfn f() { super::keys::check() }");
    let used: Vec<String> = used.iter().map(|path| path.join("::")).collect();
    assert_eq!(used, ["http::request::Request", "http::request::parse", "http::keys::check"]);
}

#[test]
fn words_of_one_folder_occur_nowhere_else() {
    for (path, text) in sources("src") {
        let path = path.to_str().unwrap();
        if path.contains("test") {
            continue;
        }
        for (home, words, why) in ABSENCES {
            for word in words.iter().filter(|_| !home.split(' ').any(|home| path.starts_with(home))) {
                assert!(!text.contains(word), "{path} uses {word}, which belongs to {home}: {why}");
            }
        }
        let sql = ["SELECT ", "rusqlite"];
        assert!(!path.starts_with("src/http") || !sql.iter().any(|word| text.contains(word)), "{path} knows SQL");
    }
}

/// A doc comment with the item below it.
struct DocComment<'t> {
    line_number: usize,
    first_line: &'t str,
    words: usize,
    /// The first line of the item.
    item_start: &'t str,
    /// The item up to its body, or to the end of its first line if it is a field or a variant.
    item: String,
}

/// Returns the doc comments of a file.
fn doc_comments(text: &str) -> Vec<DocComment<'_>> {
    let lines: Vec<&str> = text.lines().map(str::trim_start).collect();
    let is_doc = |line: &str| line.starts_with("///") || line.starts_with("//!");
    let (mut comments, mut at) = (Vec::new(), 0);
    while at < lines.len() {
        if !is_doc(lines[at]) {
            at += 1;
            continue;
        }
        let marker = &lines[at][..3];
        let length = lines[at..].iter().take_while(|line| line.starts_with(marker)).count();
        let words = lines[at..at + length].iter().map(|line| line[3..].split_whitespace().count()).sum();
        let below = lines[at + length..].iter().skip_while(|line| line.starts_with('#') || line.starts_with("//"));
        let below: Vec<&str> = below.take(8).copied().collect();
        let item_start = below.first().copied().unwrap_or_default();
        let item = if item_start.ends_with(',') { item_start.to_owned() } else { below.join(" ") };
        let item = item.split_inclusive(['{', ';']).next().unwrap_or_default().to_owned();
        comments.push(DocComment { line_number: at + 1, first_line: lines[at][3..].trim(), words, item_start, item });
        at += length;
    }
    comments
}

/// Returns the rule that a doc comment violates, if any.
fn doc_comment_error(comment: &DocComment<'_>) -> Option<String> {
    let first_word = comment.first_line.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
    if RIDDLE_STARTS.contains(&first_word) {
        return Some(format!("starts with '{first_word}'; start with a noun phrase or a third-person verb"));
    }
    if first_word == "Whether" && !comment.item.to_lowercase().contains("bool") {
        return Some("starts with 'Whether', but is not about a bool".to_owned());
    }
    let before_parameters = comment.item_start.split('(').next().unwrap_or_default();
    let is_function = !before_parameters.contains(':') && before_parameters.split(' ').any(|word| word == "fn");
    if is_function && comment.words < FUNCTION_DOC_WORDS_MIN {
        return Some(format!("has fewer than {FUNCTION_DOC_WORDS_MIN} words; extend or remove it"));
    }
    None
}

#[test]
fn doc_comments_name_their_item() {
    let mut errors = Vec::new();
    for (path, text) in ["src", "bins", "benches", "tests/it"].into_iter().flat_map(sources) {
        for comment in doc_comments(&text) {
            if let Some(error) = doc_comment_error(&comment) {
                errors.push(format!("{}:{}: doc comment {error}", path.display(), comment.line_number));
            }
        }
    }
    assert!(errors.is_empty(), "{}", errors.join("\n"));
}

#[test]
fn doc_comment_rules_reject_riddles() {
    for (text, is_valid) in [
        ("/// Returns the number of rows.\nfn count() -> u64 {", true),
        ("/// What waits to be sent.\nstruct Queue;", false),
        ("//! How lines are read.\n", false),
        ("/// Whether it is empty.\nfn is_empty(&self) -> bool {", true),
        ("/// Whether it is empty.\nfn count(&self) -> u64 {", false),
        ("/// Whether rows remain.\n#[must_use]\nremaining: bool,", true),
        ("/// The rows.\nfn rows() {", false),
        ("/// The rows.\nrows: u64,", true),
        ("/// Assigns an id to a row.\nfn assign() {", true),
    ] {
        let comments = doc_comments(text);
        assert_eq!(comments.len(), 1, "{text}");
        assert_eq!(doc_comment_error(&comments[0]).is_none(), is_valid, "{text}");
    }
}

/// Returns the names of the tests in a file: Rust functions with `#[test]`, Python functions that start with `test_`
/// (without that prefix), and the titles of JavaScript tests.
fn test_names(text: &str) -> Vec<&str> {
    let end = |rest: &str| rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
    let rust =
        text.split("#[test]\n").skip(1).filter_map(|rest| rest.split_once("fn ")).map(|(_, rest)| &rest[..end(rest)]);
    let lines = || text.lines().map(|line| line.trim_start().trim_start_matches("async "));
    let python = lines().filter_map(|line| line.strip_prefix("def test_")).map(|rest| &rest[..end(rest)]);
    let javascript = lines().filter_map(|line| line.strip_prefix("test(")?.get(1..)?.split(['"', '`']).next());
    rust.chain(python).chain(javascript).collect()
}

fn has_subject(test_name: &str) -> bool {
    let first_word = test_name.split(['_', ' ']).next().unwrap_or_default().to_lowercase();
    test_name.contains(['_', ' ']) && !SUBJECTLESS_STARTS.contains(&first_word.as_str())
}

#[test]
fn test_names_have_a_subject() {
    let folders =
        [("src", &["rs"][..]), ("tests/it", &["rs"]), ("sdk/python/tests", &["py"]), ("sdk/js/tests", &["ts"])];
    for (folder, extensions) in folders.into_iter().chain([("static/tests", &["mjs", "ts"][..])]) {
        let names: Vec<_> = files(folder, extensions)
            .into_iter()
            .flat_map(|(path, text)| {
                test_names(&text).into_iter().map(|name| (path.clone(), name.to_owned())).collect::<Vec<_>>()
            })
            .collect();
        assert!(names.len() > 20, "{folder}: only {} tests found", names.len());
        for (path, name) in names {
            assert!(has_subject(&name), "{}: the name {name:?} does not state who does what", path.display());
        }
    }
}

#[test]
fn test_name_rule_rejects_names_without_a_subject() {
    for (text, name, is_valid) in [
        ("#[test]\n    fn lines_are_read() {}", "lines_are_read", true),
        ("#[test]\nfn reads_lines() {}", "reads_lines", false),
        ("#[test]\n#[ignore]\nfn lines() {}", "lines", false),
        ("def test_line_is_read(path):", "line_is_read", true),
        ("async def test_reads_a_line():", "reads_a_line", false),
        ("test(\"without a line the page is empty\", async () => {", "without a line the page is empty", false),
        ("  test(`${status} ends the stream`, () => {", "${status} ends the stream", true),
    ] {
        assert_eq!(test_names(text), [name], "{text}");
        assert_eq!(has_subject(name), is_valid, "{text}");
    }
}

#[test]
fn long_files_state_the_reason() {
    for (path, text) in sources("src") {
        let first_line = text.lines().next().unwrap_or_default();
        let has_reason = first_line.contains("lines");
        let lines = text.lines().count();
        assert!(
            lines <= FILE_LINES_MAX || has_reason,
            "{} has {lines} lines; split it, or state the reason in its first line",
            path.display()
        );
    }
}

/// Returns the method and path of each route in the sources of a service, and of those that all services have.
fn routes(folder: &str) -> BTreeSet<String> {
    let mut routes = BTreeSet::new();
    for (_, text) in [sources(folder), sources("src/service")].concat() {
        for (call, method) in [
            ("Route::get(\"", "GET"),
            ("stream(\"", "GET"),
            ("post(\"", "POST"),
            ("browser(\"", "POST"),
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
fn docs_describe_every_route() {
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

/// The name, the default and the secrecy of a variable.
type Row = (String, String, bool);

#[test]
fn settings_tables_match_help() {
    // The README has the error tracker's.
    let settings = SERVICES.map(|(service, _, document)| (service, document));
    for (service, document) in settings.map(|(service, document)| match service {
        "error-tracker" => (service, "README.md"),
        _ => (service, document),
    }) {
        assert_eq!(documented_rows(document), help_rows(service), "{document} (left) and {service} --help (right)");
    }
}

/// Returns the variables that `--help` of a service prints.
fn help_rows(service: &str) -> Vec<Row> {
    let output = Command::new(binary(service)).arg("--help").output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    let printed: Vec<Row> = help
        .lines()
        .filter_map(|line| line.strip_prefix("  "))
        .filter_map(|line| {
            let (name, rest) = line.split_once("  ").filter(|(name, _)| is_variable(name))?;
            let secret = rest.ends_with(" (secret)");
            let rest = rest.trim_end_matches(" (secret)");
            let default = rest.rsplit_once(" [").and_then(|(_, default)| default.strip_suffix(']')).unwrap_or_default();
            Some((name.to_owned(), default.to_owned(), secret))
        })
        .collect();
    assert!(printed.len() > 20, "{help}");
    printed
}

/// Returns the rows about variables in a document's tables.
fn documented_rows(document: &str) -> Vec<Row> {
    read(document)
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .filter_map(|line| {
            let mut cells = line.split(" | ");
            let name = cells.next()?.trim_end_matches('`');
            let default = cells.next()?.trim().trim_matches('`');
            let secret = default == "secret";
            is_variable(name)
                .then(|| (name.to_owned(), if secret { String::new() } else { default.to_owned() }, secret))
        })
        .collect()
}

fn is_variable(name: &str) -> bool {
    name.chars().all(|c| c.is_ascii_uppercase() || c == '_' || c.is_ascii_digit())
}

/// Returns the section of a document below a heading of the second level.
fn section<'a>(document: &'a str, heading: &str) -> &'a str {
    let (_, rest) = document.split_once(&format!("\n## {heading}\n")).unwrap_or_else(|| panic!("no section {heading}"));
    rest.split("\n## ").next().unwrap_or_default()
}

/// Returns the paths of all Rust tests as `cargo test` prints them, for example `db::writer::tests::files_are_private`.
fn test_paths() -> BTreeSet<String> {
    let (library, integration) = (sources("src"), sources("tests/it"));
    // Modules of tests with a file of their own: the file, the file that declares it, and its name.
    let declared: BTreeMap<PathBuf, (&Path, &str)> = library
        .iter()
        .flat_map(|(file, text)| text.split("#[path = \"").skip(1).map(move |rest| (file, rest)))
        .filter_map(|(file, rest)| {
            let (path, rest) = rest.split_once("\"]\n")?;
            let name = rest.strip_prefix("mod ")?.split(';').next()?;
            Some((file.with_file_name(path), (file.as_path(), name)))
        })
        .collect();
    let paths = |file: &Path, text: &str| -> Vec<String> {
        let mut module = declared_path(file, &declared);
        if file.starts_with("tests/it") {
            module.remove(0);
        }
        if text.contains("\nmod tests {\n") {
            module.push("tests".to_owned());
        }
        test_names(text).into_iter().map(|name| format!("{}::{name}", module.join("::"))).collect()
    };
    [library.as_slice(), &integration].concat().iter().flat_map(|(file, text)| paths(file, text)).collect()
}

/// Returns the path of the module in a file, which may be declared by another file than its folder says.
fn declared_path(file: &Path, declared: &BTreeMap<PathBuf, (&Path, &str)>) -> Vec<String> {
    declared.get(file).map_or_else(
        || module_path(file),
        |(declaring, name)| [declared_path(declaring, declared), vec![(*name).to_owned()]].concat(),
    )
}

/// Returns the rows of the tables in a section whose last cell is neither `none` nor a list of tests, which are the paths of
/// Rust tests or files with tests in other languages.
fn rows_without_tests<'a>(section: &'a str, tests: &BTreeSet<String>) -> Vec<&'a str> {
    let is_test = |name: &str| tests.contains(name) || (name.contains('/') && Path::new(ROOT).join(name).is_file());
    let names_tests = |row: &str| {
        let cell = row.trim_end_matches(" |").rsplit("| ").next().unwrap_or_default();
        let mut names = cell.split(", ").map(|name| name.strip_prefix('`').and_then(|name| name.strip_suffix('`')));
        cell == "none" || names.all(|name| name.is_some_and(is_test))
    };
    let rows = section.lines().filter(|line| line.starts_with("| ") && !line.ends_with("| Test |"));
    // The name of a group of rows is bold, and the other cells of its row are empty.
    let is_heading = |row: &str| {
        row.strip_prefix("| **")
            .and_then(|row| row.split_once("**"))
            .is_some_and(|(_, rest)| !rest.contains(|c| c != '|' && c != ' '))
    };
    rows.filter(|row| !is_heading(row) && !names_tests(row)).collect()
}

#[test]
fn tables_of_tests_name_existing_ones() {
    let (security, regressions, tests) = (read("docs/security.md"), read("docs/regressions.md"), test_paths());
    for (page, heading) in [(&security, "Claims and tests"), (&security, "Attacks"), (&regressions, "Inputs and tests")]
    {
        let section = section(page, heading);
        assert!(section.matches("::").count() > 40, "{heading}: there are tests");
        let rows = rows_without_tests(section, &tests);
        assert!(rows.is_empty(), "{heading}: these rows name a test that does not exist: {rows:#?}");
    }
}

#[test]
fn rows_with_missing_tests_are_found() {
    let tests = BTreeSet::from(["a::lines_are_read".to_owned()]);
    for (row, is_valid) in [
        ("| Claim | `a::lines_are_read` |", true),
        ("| Claim | `a::lines_are_read`, `tests/it/main.rs` |", true),
        ("| Claim | none |", true),
        ("| **Group** | |", true),
        ("| **Group** | | |", true),
        ("| **Claim** | a test |", false),
        ("| Claim | Test |", true),
        ("| Claim | `a::lines_are_lost` |", false),
        ("| Claim | `a::lines_are_read`, `b::lines_are_read` |", false),
        ("| Claim | `tests/it/missing.rs` |", false),
        ("| Claim | a test |", false),
        ("| Claim | |", false),
    ] {
        assert_eq!(rows_without_tests(row, &tests).is_empty(), is_valid, "{row}");
    }
}

/// Returns the codes of warnings in the text of a source file: the first argument of `Warning::new`, which is a literal or
/// the code of a store, and the codes of stores.
fn warning_codes(text: &str) -> BTreeSet<String> {
    let code = production_code(text);
    let literal = |rest: &str| -> Option<String> {
        let (literal, _) = rest.trim_start().strip_prefix('"')?.split_once('"')?;
        literal.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_').then(|| literal.to_owned())
    };
    let created = code.split("Warning::new(").skip(1).filter(|rest| !rest.starts_with("store.warning")).map(|rest| {
        literal(rest)
            .unwrap_or_else(|| panic!("the code of a warning must be a literal: {}", rest.lines().next().unwrap()))
    });
    created.chain(code.split("warning: ").skip(1).filter_map(literal)).collect()
}

#[test]
fn operations_page_lists_every_warning() {
    let page = read("docs/operations.md");
    let rows = section(&page, "Health checks").lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let documented: BTreeSet<String> = rows.map(str::to_owned).collect();
    let files = sources("src").into_iter().filter(|(path, _)| !is_test_file(path));
    let codes: BTreeSet<String> = files.flat_map(|(_, text)| warning_codes(&text)).collect();
    assert!(codes.len() > 20, "{codes:?}");
    assert_eq!(documented, codes, "docs/operations.md (left) and src (right)");
}

#[test]
fn changelog_has_the_current_version() {
    assert!(read("CHANGELOG.md").contains(&format!("## {}", env!("CARGO_PKG_VERSION"))));
}
