//! End-to-end tests of the browser relay with real bundlers and Chromium: minified pages report errors, which reach the
//! tracker symbolicated, and the browser enforces its own rules, such as CORS.

use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::support::browser::{chromium_or_skip, node};
use crate::support::harness::{API_KEY, Request, Service, Setup, TempDir, wait_until};
use crate::support::programs::LineProgram;

const BUNDLERS: [&str; 3] = ["esbuild", "vite", "webpack"];
const CART: &str = include_str!("../browser/src/cart.js");
const MAIN: &str = include_str!("../browser/src/main.js");

/// Builds the test pages with every bundler and returns their folder.
fn build_pages() -> Option<TempDir> {
    let pages = TempDir::new();
    let status = node("build.mjs")?.arg(pages.path()).status().unwrap();
    assert!(status.success(), "{status}");
    Some(pages)
}

/// Chromium, and web servers that serve the pages from two origins. The script closes the browser at the end of its input.
struct Browser {
    program: LineProgram,
    origins: [String; 2],
}

impl Browser {
    fn start(pages: &TempDir) -> Option<Self> {
        let chromium = chromium_or_skip()?;
        let mut command = node("visit.mjs")?;
        command.arg(pages.path()).arg(chromium);
        let mut program = LineProgram::start(command);
        let origins = serde_json::from_value(program.read_json_line()).unwrap();
        Some(Self { program, origins })
    }

    /// Visits the pages and returns the observations of each.
    fn visit(&mut self, urls: &[String]) -> Vec<Value> {
        self.program.write_json_line(&json!(urls));
        urls.iter().map(|_| self.program.read_json_line()).collect()
    }
}

fn public_key(index: usize) -> String {
    format!("{index:032x}")
}

/// Returns the URL of a bundler's page, whose fragment tells it to report to the relay.
fn page_url(origin: &str, relay: &Service, index: usize) -> String {
    let bundler = BUNDLERS[index];
    format!("{origin}/{bundler}/index.html#relay=http://{}&key={}&release={bundler}", relay.address, public_key(index))
}

/// Uploads the source maps in a folder with the upload script that users run after a build.
fn upload_source_maps(relay: &Service, project: &str, folder: &Path, base_url: &str) {
    let mut command = node("../../sdk/upload-source-maps.mjs").unwrap();
    command.env("MONLIGHT_URL", format!("http://{}", relay.address)).env("MONLIGHT_KEY", API_KEY).stdout(Stdio::null());
    let status = command.args([project, project]).arg(folder).arg(base_url).status().unwrap();
    assert!(status.success(), "{status}");
}

/// Starts a relay with a project per bundler, whose pages are at `origin`.
fn start_relay(tracker: &Service, collector: &Service, origin: &str) -> Service {
    let keys: Vec<String> = (0..3).map(|index| format!("{}:{}", BUNDLERS[index], public_key(index))).collect();
    let setup = Setup::browser_relay(tracker.address, collector.address);
    setup.env("DSN_KEYS", keys.join(",")).env("CORS_ORIGINS", origin).start()
}

/// Returns the position of a string that occurs once in a source, as `line:column`, both starting at 1.
fn position_of(source: &str, text: &str) -> String {
    let at = source.find(text).unwrap_or_else(|| panic!("the source does not contain {text}"));
    let before = &source[..at];
    format!("{}:{}", before.matches('\n').count() + 1, at - before.rfind('\n').map_or(0, |end| end + 1) + 1)
}

#[test]
fn minified_stack_traces_are_symbolicated_with_source_positions_and_names() {
    let Some(pages) = build_pages() else { return };
    let Some(mut browser) = Browser::start(&pages) else { return };
    let (tracker, collector) = (Setup::error_tracker().start(), Setup::metrics_collector().start());
    let origin = browser.origins[0].clone();
    let relay = start_relay(&tracker, &collector, &origin);
    for bundler in BUNDLERS {
        upload_source_maps(&relay, bundler, &pages.path().join(bundler), &format!("{origin}/{bundler}/"));
    }
    for observed in browser.visit(&[0, 1, 2].map(|index| page_url(&origin, &relay, index))) {
        let statuses: Vec<_> =
            observed["errors"].as_array().unwrap().iter().map(|response| &response["status"]).collect();
        assert_eq!(statuses, [201; 4], "{observed}");
    }
    let expected = [
        (
            "thrown",
            "RangeError",
            "priceOf",
            position_of(CART, "new RangeError"),
            "pay",
            position_of(MAIN, "priceOf({})"),
        ),
        (
            "class-method",
            "Error",
            "Cart.add",
            position_of(CART, "new Error"),
            "fill",
            position_of(MAIN, "add(\"shoe\")"),
        ),
        (
            "rejected",
            "SyntaxError",
            "Cart.refuse",
            position_of(CART, "new SyntaxError"),
            "leave",
            position_of(MAIN, "refuse(\"rejected\")"),
        ),
        (
            "async",
            "TypeError",
            "checkOut",
            position_of(CART, "new TypeError"),
            "async order",
            position_of(MAIN, "await checkOut"),
        ),
    ];
    let order_position = position_of(MAIN, "async function order");
    for bundler in BUNDLERS {
        for (message, kind, function, position, caller, call_position) in &expected {
            // Terser's source maps have no segment for an `await`; the segment before it is the start of the function.
            let call_position =
                if bundler == "webpack" && *message == "async" { &order_position } else { call_position };
            let list = tracker.get(&format!("/api/errors?project={bundler}&search={message}")).expect(200).json();
            assert_eq!(list["total"], 1, "{bundler} {message}: {list}");
            let group = tracker.get(&format!("/api/errors/{}", list["errors"][0]["id"])).expect(200).json();
            let stack = group["traceback"].as_str().unwrap();
            let mut lines = stack.lines();
            assert_eq!(lines.next(), Some(&*format!("{kind}: {message}")), "{bundler}");
            for (function, file, position) in [(function, "cart.js", position), (caller, "main.js", call_position)] {
                let line = lines.next().unwrap_or_default();
                let matches = line.starts_with(&format!("    at {function} ("))
                    && line.ends_with(&format!("src/{file}:{position})"));
                assert!(matches, "{bundler} {message}: expected {function} at {file}:{position} in\n{stack}");
            }
            let latest = &group["occurrences"][0];
            let context = latest["extra"]["frames"][0]["context"].to_string();
            assert!(context.contains(&format!("new {kind}(")), "{bundler} {message}: {context}");
            assert_eq!((&latest["user_id"], &latest["session_id"]), (&json!("u-42"), &json!("session-1")));
        }
    }
}

/// Returns the number of points that the collector has stored for a metric.
fn count_points(collector: &Service, name: &str) -> i64 {
    let database = rusqlite::Connection::open(collector.data_dir.path().join("metrics.db")).unwrap();
    let sql = "SELECT count(*) FROM metrics_raw WHERE name = ?1";
    database.query_row(sql, [name], |row| row.get(0)).unwrap()
}

#[test]
fn cors_blocks_other_origins_and_beacons_arrive_after_the_page_is_closed() {
    let Some(pages) = build_pages() else { return };
    let Some(mut browser) = Browser::start(&pages) else { return };
    let (tracker, collector) = (Setup::error_tracker().start(), Setup::metrics_collector().start());
    let [allowed, other] = browser.origins.clone();
    let relay = start_relay(&tracker, &collector, &allowed);
    let observed = browser.visit(&[page_url(&allowed, &relay, 0), page_url(&other, &relay, 1)]);
    let (first, second) = (&observed[0], &observed[1]);
    assert_eq!((&first["metrics"]["status"], &first["text"]["status"]), (&json!(202), &json!(202)), "{first}");
    assert_eq!(first["metrics"]["body"]["status"], "accepted");
    for response in second["errors"].as_array().unwrap().iter().chain([&second["metrics"], &second["text"]]) {
        assert!(response["refused"].as_str().is_some_and(|error| error.contains("Failed to fetch")), "{second}");
    }
    let names = ["with_preflight", "without_preflight", "beacon_json", "beacon_text", "keepalive_fetch"];
    let arrived = wait_until(|| names.iter().all(|name| count_points(&collector, name) > 0).then_some(()));
    let counts = names.map(|name| (name, count_points(&collector, name)));
    assert!(arrived.is_some() && counts.iter().all(|(_, count)| *count == 1), "{counts:?}");
    assert_eq!(tracker.get("/api/projects").expect(200).json(), json!({ "projects": ["esbuild"] }));
    assert_eq!(collector.get("/api/projects").expect(200).json(), json!({ "projects": ["esbuild"] }));
}

#[test]
fn lookups_in_a_large_source_map_agree_with_an_independent_library() {
    let Some(pages) = build_pages() else { return };
    let closed_port = ([127, 0, 0, 1], 1).into();
    let relay = Setup::browser_relay(closed_port, closed_port).start();
    let large = pages.path().join("large");
    let map_bytes = std::fs::metadata(large.join("app.js.map")).unwrap().len();
    assert!(map_bytes > 4_500_000, "{map_bytes}");
    upload_source_maps(&relay, "large", &large, "/");
    let output = node("positions.mjs").unwrap().arg(large.join("app.js")).args(["10000", "7"]).output().unwrap();
    let rows = String::from_utf8(output.stdout).unwrap();
    let mut client = relay.connect();
    let (mut mapped, mut named) = (0, 0);
    for row in rows.lines() {
        let cells: Vec<&str> = row.split('\t').collect();
        let query = format!("project=large&release=large&url=/app.js&line={}&column={}", cells[0], cells[1]);
        let response = client.send(&Request::get(&format!("/api/source-maps/verify?{query}"))).expect(200).json();
        let string = |name: &str| response["original"][name].as_str().unwrap_or("-").to_owned();
        let number = |name: &str| response["original"][name].as_u64().unwrap_or(0).to_string();
        assert_eq!(
            [string("file"), number("line"), number("column"), string("name")][..],
            cells[2..],
            "{row}: {response}"
        );
        mapped += usize::from(cells[2] != "-");
        named += usize::from(cells[5] != "-");
    }
    assert!(rows.lines().count() == 10_000 && mapped > 9_000 && named > 500, "{mapped} mapped, {named} named");
    eprintln!("10000 positions in a map of {map_bytes} bytes: {mapped} mapped, {named} with a name, all as expected");
}
