//! Log search: valid FTS5 syntax is used as such, any other input is searched as plain words, and no input causes an
//! error.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::Value;

use crate::support::harness::{Client, Request, Setup, TempDir};
use crate::support::logs::{Container, percent_encode, wait_for_entry_count};
use crate::support::rng::Rng;

const SEARCH_CHARS_MAX: usize = 1_000;
const RANDOM_SEARCHES: u64 = 10_000;
/// Maximum duration of one search and of all random searches together.
const SEARCH_TIMEOUT: Duration = Duration::from_secs(2);
const TOTAL_TIMEOUT: Duration = Duration::from_secs(60);
const MEMORY_KIB_MAX: u64 = 20_000;

/// Searches with the lines that match, which the tests of the page's highlighter also use.
const CASES: &str = include_str!("../../fixtures/log-search.json");

/// Lines, each of which starts with its number, and searches in them.
#[derive(Deserialize)]
struct Fixture {
    lines: Vec<String>,
    cases: Vec<Case>,
}

#[derive(Debug, Deserialize)]
struct Case {
    search: Option<String>,
    contains: Option<String>,
    regex: Option<String>,
    /// Expected interpretation: `match` as FTS5 syntax, `plain` as plain words; `None` if there is no search.
    mode: Option<String>,
    /// Numbers of the matching lines.
    lines: Vec<usize>,
}

impl Case {
    fn path(&self) -> String {
        let parameters = [("search", &self.search), ("contains", &self.contains), ("regex", &self.regex)];
        let parameters = parameters.iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
        let query: Vec<String> = parameters.map(|(name, value)| format!("{name}={}", percent_encode(value))).collect();
        format!("/api/logs?{}", query.join("&"))
    }
}

#[test]
fn searches_match_the_lines_of_the_shared_cases() {
    let fixture: Fixture = serde_json::from_str(CASES).unwrap();
    let data_dir = Arc::new(TempDir::new());
    let lines: Vec<String> = fixture.lines.iter().map(|line| format!("{line}\n")).collect();
    Container::new(&data_dir, "web")
        .write_lines(lines.iter().map(|line| ("2026-01-31T12:00:00Z", "stdout", line.as_str())));
    let viewer = Setup::log_viewer().data_dir(&data_dir).start();
    wait_for_entry_count(&viewer, "web", lines.len() as u32);

    let number = |entry: &Value| entry["message"].as_str().unwrap().split(' ').next().unwrap().parse().unwrap();
    let mut mismatches = Vec::new();
    for case in &fixture.cases {
        let response = viewer.get(&case.path()).expect(200).json();
        let mut numbers: Vec<usize> = response["logs"].as_array().unwrap().iter().map(number).collect();
        numbers.sort_unstable();
        assert_eq!(response["total"], numbers.len(), "{case:?}: {response}");
        if (&numbers, response["search_mode"].as_str()) != (&case.lines, case.mode.as_deref()) {
            mismatches.push(format!("{case:?}: {numbers:?}, mode {}", response["search_mode"]));
        }
    }
    assert!(mismatches.is_empty(), "{}", mismatches.join("\n"));
}

/// Returns a random search: words, operators, Unicode characters and invalid UTF-8.
fn random_search(rng: &mut Rng) -> Vec<u8> {
    const WORDS: [&str; 20] = [
        "line",
        "error",
        "timeout",
        "a",
        "e*",
        "l*",
        "10.0.0.1",
        "foo-bar",
        "C++",
        "ü",
        "支付",
        "message",
        "\u{1f600}",
        "1",
        "\"open",
        "close\"",
        "\"a phrase\"",
        "message:",
        "-message",
        "{message}",
    ];
    const SYNTAX: [&str; 22] = [
        " ", " AND ", " OR ", " NOT ", "NEAR(", ")", "(", "\"", "*", "^", "+", ":", "-", ",", "{", "}", "'", "\\", ";",
        "--", "\0", "%",
    ];
    let mut search = Vec::new();
    let parts = if rng.below(40) == 0 { 400 } else { 1 + rng.below(12) };
    for _ in 0..parts {
        match rng.below(10) {
            0..=3 => search.extend(WORDS[rng.below(WORDS.len())].bytes()),
            4..=7 => search.extend(SYNTAX[rng.below(SYNTAX.len())].bytes()),
            8 => {
                let character = char::from_u32(rng.below(0x11_0000) as u32).unwrap_or('\u{fffd}');
                search.extend(character.to_string().bytes());
            }
            _ => search.push(rng.below(256) as u8),
        }
    }
    // Percent-encoded, the search must fit into the request head.
    search.truncate(4_000);
    search
}

#[test]
fn random_searches_stay_within_time_and_memory_limits() {
    let data_dir = Arc::new(TempDir::new());
    let container = Container::new(&data_dir, "web");
    container.write_numbered_lines(0..20_000);
    let viewer = Setup::log_viewer().data_dir(&data_dir).env("TAIL_BUFFER", 100_000_000).start();
    wait_for_entry_count(&viewer, "web", 20_000);
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_260_131);
    let mut rng = Rng(seed);
    let started = Instant::now();
    let mut slowest = Duration::ZERO;
    let mut modes = [0u32; 3];
    let mut client: Client = viewer.connect();
    for number in 0..RANDOM_SEARCHES {
        let search = random_search(&mut rng);
        let sent = Instant::now();
        let response = client.send(&Request::get(&format!("/api/logs?limit=5&search={}", percent_encode(&search))));
        let took = sent.elapsed();
        let shown = String::from_utf8_lossy(&search);
        // Bytes that are not UTF-8 count as one character each.
        let expected = if shown.chars().count() > SEARCH_CHARS_MAX { 400 } else { 200 };
        assert_eq!(response.status, expected, "seed {seed}, search {number}: {shown:?}: {}", response.text());
        assert!(took < SEARCH_TIMEOUT, "seed {seed}, search {number}: {shown:?} took {took:?}");
        slowest = slowest.max(took);
        let mode = response.json()["search_mode"].as_str().map(str::to_owned);
        modes[match mode.as_deref() {
            None => 0,
            Some("match") => 1,
            _ => 2,
        }] += 1;
    }
    let (took, (_, peak)) = (started.elapsed(), viewer.memory_kib());
    eprintln!(
        "{RANDOM_SEARCHES} searches (seed {seed}, none/match/plain {modes:?}): {took:?}, slowest {slowest:?}, peak {peak} KiB"
    );
    assert!(took < TOTAL_TIMEOUT, "{took:?}");
    assert!(peak < MEMORY_KIB_MAX, "{peak} KiB");
    assert!(modes[1] > 500 && modes[2] > 5_000, "{modes:?}");
}
