//! Real bundlers and a real browser: what minified pages report from Chromium reaches the tracker in the words of the
//! sources, under the rules that browsers have of their own.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

use crate::harness::{API_KEY, Request, Service, Setup, TempDir, skip, wait_until};

const BUNDLERS: [&str; 3] = ["esbuild", "vite", "webpack"];
const CART: &str = include_str!("../browser/src/cart.js");
const MAIN: &str = include_str!("../browser/src/main.js");

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser")
}

/// Node with what `tests/browser/package-lock.json` names; `make test` installs it. Without it the test is to end; in CI that
/// is a failure.
pub fn node(script: impl AsRef<Path>) -> Option<Command> {
    if !folder().join("node_modules").exists() {
        skip("tests/browser/node_modules is not there: npm ci in tests/browser");
        return None;
    }
    let mut command = Command::new("node");
    command.arg(folder().join(script)).stderr(Stdio::inherit());
    Some(command)
}

pub fn chromium() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join("chromium")).find(|file| file.exists());
    if found.is_none() {
        skip("there is no chromium in the PATH");
    }
    found
}

/// The pages, built by every bundler into a folder.
fn built() -> Option<TempDir> {
    let built = TempDir::new();
    let status = node("build.mjs")?.arg(built.path()).status().unwrap();
    assert!(status.success(), "{status}");
    Some(built)
}

/// Chromium, and two origins that serve the pages.
struct Browser {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    origins: [String; 2],
}

impl Browser {
    fn start(pages: &TempDir) -> Option<Self> {
        let chromium = chromium()?;
        let mut command = node("visit.mjs")?;
        command.arg(pages.path()).arg(chromium).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (stdin, stdout) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        let mut browser = Self { child, stdin, stdout, origins: Default::default() };
        browser.origins = serde_json::from_value(browser.line()).unwrap();
        Some(browser)
    }

    fn line(&mut self) -> Value {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|why| panic!("{why}: {line:?}"))
    }

    /// Visits these pages; answers what each observed.
    fn visit(&mut self, addresses: &[String]) -> Vec<Value> {
        writeln!(self.stdin.as_mut().unwrap(), "{}", json!(addresses)).unwrap();
        addresses.iter().map(|_| self.line()).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The end of its input tells it to end, and its browser with it.
        drop(self.stdin.take());
        let _ = self.child.wait();
    }
}

fn key(at: usize) -> String {
    format!("{at:032x}")
}

/// The address of a bundler's page that reports to a relay.
fn page(origin: &str, relay: &Service, at: usize) -> String {
    let bundler = BUNDLERS[at];
    format!("{origin}/{bundler}/index.html#relay=http://{}&key={}&release={bundler}", relay.address, key(at))
}

/// Uploads the maps of a folder as whoever builds a page does.
fn upload(relay: &Service, project: &str, folder: &Path, served: &str) {
    let mut command = node("../../sdk/upload-source-maps.mjs").unwrap();
    command.env("MONLIGHT_URL", format!("http://{}", relay.address)).env("MONLIGHT_KEY", API_KEY).stdout(Stdio::null());
    let status = command.args([project, project]).arg(folder).arg(served).status().unwrap();
    assert!(status.success(), "{status}");
}

/// A relay for the three bundlers' projects, whose pages are at `origin`.
fn relay(tracker: &Service, collector: &Service, origin: &str) -> Service {
    let keys: Vec<String> = (0..3).map(|at| format!("{}:{}", BUNDLERS[at], key(at))).collect();
    let setup = Setup::browser_relay(tracker.address, collector.address);
    setup.env("DSN_KEYS", keys.join(",")).env("CORS_ORIGINS", origin).start()
}

/// `line:column` of a text that stands once in a source, from 1.
fn place(source: &str, text: &str) -> String {
    let at = source.find(text).unwrap_or_else(|| panic!("{text} is not there"));
    let before = &source[..at];
    format!("{}:{}", before.matches('\n').count() + 1, at - before.rfind('\n').map_or(0, |end| end + 1) + 1)
}

#[test]
fn errors_of_minified_pages_have_their_original_places_and_names() {
    let Some(pages) = built() else { return };
    let Some(mut browser) = Browser::start(&pages) else { return };
    let (tracker, collector) = (Setup::error_tracker().start(), Setup::metrics_collector().start());
    let origin = browser.origins[0].clone();
    let relay = relay(&tracker, &collector, &origin);
    for bundler in BUNDLERS {
        upload(&relay, bundler, &pages.path().join(bundler), &format!("{origin}/{bundler}/"));
    }
    for observed in browser.visit(&[0, 1, 2].map(|at| page(&origin, &relay, at))) {
        let statuses: Vec<_> = observed["errors"].as_array().unwrap().iter().map(|answer| &answer["status"]).collect();
        assert_eq!(statuses, [201; 4], "{observed}");
    }
    let expected = [
        ("thrown", "RangeError", "priceOf", place(CART, "new RangeError"), "pay", place(MAIN, "priceOf({})")),
        ("class-method", "Error", "Cart.add", place(CART, "new Error"), "fill", place(MAIN, "add(\"shoe\")")),
        (
            "rejected",
            "SyntaxError",
            "Cart.refuse",
            place(CART, "new SyntaxError"),
            "leave",
            place(MAIN, "refuse(\"rejected\")"),
        ),
        ("async", "TypeError", "checkOut", place(CART, "new TypeError"), "async order", place(MAIN, "await checkOut")),
    ];
    let place_of_order = place(MAIN, "async function order");
    for bundler in BUNDLERS {
        for (message, kind, function, place, caller, called) in &expected {
            // Terser's maps have nothing of an `await`; what is before it is the function.
            let called = if bundler == "webpack" && *message == "async" { &place_of_order } else { called };
            let found = tracker.get(&format!("/api/errors?project={bundler}&search={message}")).expect(200).json();
            assert_eq!(found["total"], 1, "{bundler} {message}: {found}");
            let group = tracker.get(&format!("/api/errors/{}", found["errors"][0]["id"])).expect(200).json();
            let stack = group["traceback"].as_str().unwrap();
            let mut lines = stack.lines();
            assert_eq!(lines.next(), Some(&*format!("{kind}: {message}")), "{bundler}");
            for (function, file, place) in [(function, "cart.js", place), (caller, "main.js", called)] {
                let line = lines.next().unwrap_or_default();
                let fits = line.starts_with(&format!("    at {function} ("))
                    && line.ends_with(&format!("src/{file}:{place})"));
                assert!(fits, "{bundler} {message}: {function} at {file}:{place} is not\n{stack}");
            }
            let latest = &group["occurrences"][0];
            let context = latest["extra"]["frames"][0]["context"].to_string();
            assert!(context.contains(&format!("new {kind}(")), "{bundler} {message}: {context}");
            assert_eq!((&latest["user_id"], &latest["session_id"]), (&json!("u-42"), &json!("session-1")));
        }
    }
}

/// How many points the collector has of a name.
fn points(collector: &Service, name: &str) -> i64 {
    let database = rusqlite::Connection::open(collector.data_dir.path().join("metrics.db")).unwrap();
    let sql = "SELECT count(*) FROM metrics_raw WHERE name = ?1";
    database.query_row(sql, [name], |row| row.get(0)).unwrap()
}

#[test]
fn browsers_keep_their_rules_and_beacons_arrive_after_the_page_is_gone() {
    let Some(pages) = built() else { return };
    let Some(mut browser) = Browser::start(&pages) else { return };
    let (tracker, collector) = (Setup::error_tracker().start(), Setup::metrics_collector().start());
    let [listed, other] = browser.origins.clone();
    let relay = relay(&tracker, &collector, &listed);
    let observed = browser.visit(&[page(&listed, &relay, 0), page(&other, &relay, 1)]);
    let (first, second) = (&observed[0], &observed[1]);
    assert_eq!((&first["metrics"]["status"], &first["text"]["status"]), (&json!(202), &json!(202)), "{first}");
    assert_eq!(first["metrics"]["body"]["status"], "accepted");
    for answer in second["errors"].as_array().unwrap().iter().chain([&second["metrics"], &second["text"]]) {
        assert!(answer["refused"].as_str().is_some_and(|why| why.contains("Failed to fetch")), "{second}");
    }
    let names = ["with_preflight", "without_preflight", "beacon_json", "beacon_text", "keepalive_fetch"];
    let all = wait_until(|| names.iter().all(|name| points(&collector, name) > 0).then_some(()));
    let found = names.map(|name| (name, points(&collector, name)));
    assert!(all.is_some() && found.iter().all(|(_, count)| *count == 1), "{found:?}");
    assert_eq!(tracker.get("/api/projects").expect(200).json(), json!({ "projects": ["esbuild"] }));
    assert_eq!(collector.get("/api/projects").expect(200).json(), json!({ "projects": ["esbuild"] }));
}

#[test]
fn ten_thousand_positions_of_a_large_map_are_those_of_an_independent_library() {
    let Some(pages) = built() else { return };
    let nowhere = ([127, 0, 0, 1], 1).into();
    let relay = Setup::browser_relay(nowhere, nowhere).start();
    let large = pages.path().join("large");
    let map_bytes = std::fs::metadata(large.join("app.js.map")).unwrap().len();
    assert!(map_bytes > 4_500_000, "{map_bytes}");
    upload(&relay, "large", &large, "/");
    let output = node("positions.mjs").unwrap().arg(large.join("app.js")).args(["10000", "7"]).output().unwrap();
    let rows = String::from_utf8(output.stdout).unwrap();
    let mut client = relay.connect();
    let (mut mapped, mut named) = (0, 0);
    for row in rows.lines() {
        let cells: Vec<&str> = row.split('\t').collect();
        let query = format!("project=large&release=large&url=/app.js&line={}&column={}", cells[0], cells[1]);
        let answer = client.send(&Request::get(&format!("/api/source-maps/verify?{query}"))).expect(200).json();
        let text = |name: &str| answer["original"][name].as_str().unwrap_or("-").to_owned();
        let number = |name: &str| answer["original"][name].as_u64().unwrap_or(0).to_string();
        assert_eq!([text("file"), number("line"), number("column"), text("name")][..], cells[2..], "{row}: {answer}");
        mapped += usize::from(cells[2] != "-");
        named += usize::from(cells[5] != "-");
    }
    assert!(rows.lines().count() == 10_000 && mapped > 9_000 && named > 500, "{mapped} mapped, {named} named");
    eprintln!("10000 positions of a map of {map_bytes} bytes: {mapped} mapped, {named} with a name, all equal");
}
