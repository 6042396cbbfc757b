//! Log search: valid FTS5 syntax is used as such, any other input is searched as plain words, and no input causes an
//! error.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::harness::{Client, Request, Service, Setup, TempDir};
use crate::support::logs::{Container, percent_encode, wait_for_entry_count};
use crate::support::rng::Rng;

const RANDOM_SEARCHES: u64 = 10_000;
/// Maximum duration of one search and of all random searches together.
const SEARCH_TIMEOUT: Duration = Duration::from_secs(2);
const TOTAL_TIMEOUT: Duration = Duration::from_secs(60);
const MEMORY_KIB_MAX: u64 = 20_000;

const LINES: [&str; 16] = [
    "1 connection refused by 10.0.0.1",
    "2 refused connection to 10.0.0.12",
    "3 error: timeout after 10 s",
    "4 error in debug mode",
    "5 timeout",
    "6 prefix and suffix",
    "7 preparing foo-bar",
    "8 foo bar",
    "9 bar-foo foo_bar",
    "10 written in C++ and C#",
    "11 written in C",
    "12 he said \"an open quote",
    "13 path /var/log/app.log?x=1&y=[2]",
    "14 Größe überschritten 支付 失败",
    "15 \u{1b}[31merr\u{1b}[0mor with colors",
    "16 NOT AND OR near",
];

fn fixture() -> Service {
    let data_dir = Arc::new(TempDir::new());
    let lines: Vec<String> = LINES.iter().map(|line| format!("{line}\n")).collect();
    Container::new(&data_dir, "web")
        .write_lines(lines.iter().map(|line| ("2026-01-31T12:00:00Z", "stdout", line.as_str())));
    let viewer = Setup::log_viewer().data_dir(&data_dir).start();
    wait_for_entry_count(&viewer, "web", 16);
    viewer
}

/// Returns the sorted numbers of the matching lines and the search mode (`match` or `plain`).
fn search_lines(viewer: &Service, search: &str) -> (Vec<u32>, Option<String>) {
    let response = viewer.get(&format!("/api/logs?search={}", percent_encode(search))).expect(200).json();
    let number = |entry: &Value| entry["message"].as_str().unwrap().split(' ').next().unwrap().parse().unwrap();
    let mut numbers: Vec<u32> = response["logs"].as_array().unwrap().iter().map(number).collect();
    numbers.sort_unstable();
    assert_eq!(response["total"], numbers.len(), "{search}: {response}");
    (numbers, response["search_mode"].as_str().map(str::to_owned))
}

#[test]
fn search_falls_back_to_plain_words_if_syntax_is_invalid() {
    let viewer = fixture();
    let (syntax, plain) = (Some("match"), Some("plain"));
    for (search, expected, mode) in [
        ("", vec![], None),
        ("refused", vec![1, 2], syntax),
        ("REFUSED", vec![1, 2], syntax),
        ("\"connection refused\"", vec![1], syntax),
        ("connection refused", vec![1, 2], syntax),
        ("error OR timeout", vec![3, 4, 5, 15], syntax),
        ("error NOT debug", vec![3, 15], syntax),
        ("error AND debug", vec![4], syntax),
        ("(error OR connection) NOT debug", vec![1, 2, 3, 15], syntax),
        ("pre*", vec![6, 7], syntax),
        ("\"connection ref\" *", vec![1], syntax),
        ("^error", vec![], syntax),
        ("NEAR(error mode, 5)", vec![4], syntax),
        ("message : timeout", vec![3, 5], syntax),
        ("größe", vec![14], syntax),
        ("GROSSE", vec![], syntax),
        ("nowhere", vec![], syntax),
        ("10.0.0.1", vec![1, 2], plain),
        ("10.0.0.12", vec![2], plain),
        ("10.0.0", vec![1, 2], plain),
        ("foo-bar", vec![7], plain),
        ("foo_bar", vec![7, 8, 9], syntax),
        ("C++", vec![10], plain),
        ("C#", vec![10], plain),
        ("C", vec![10, 11], syntax),
        ("\"an open quote", vec![12], plain),
        ("an open\" quote", vec![12], plain),
        ("quote\"", vec![12], plain),
        ("/var/log", vec![13], plain),
        ("app.log?x=1&y=[2]", vec![13], plain),
        ("error: timeout", vec![3], plain),
        ("nosuchcolumn : timeout", vec![], plain),
        ("AND", vec![10, 16, 6], plain),
        ("NOT error", vec![], plain),
        ("error OR", vec![], plain),
        ("(error", vec![], plain),
        ("*", vec![], plain),
        ("%", vec![], plain),
        ("'", vec![], plain),
        ("' OR 1=1 --", vec![], plain),
        ("支付", vec![14], syntax),
    ] {
        let mut expected = expected;
        expected.sort_unstable();
        let (numbers, used_mode) = search_lines(&viewer, search);
        if search.is_empty() {
            assert_eq!((numbers.len(), used_mode), (16, None));
        } else {
            assert_eq!((numbers, used_mode.as_deref()), (expected, mode), "{search}");
        }
    }
}

#[test]
fn contains_and_regex_filters_match_substrings() {
    let viewer = fixture();
    for (query, total) in [
        ("contains=ONNECTIO", 2),
        ("contains=%20", 16),
        ("contains=error", 3),
        ("contains=0.0.1&search=connection", 2),
        ("contains=to&search=connection", 1),
        ("regex=%5E%5Cd%20(error%7Ctimeout)", 1),
        ("regex=C%5C%2B%2B", 1),
    ] {
        let expected = total + u64::from(query == "regex=%5E%5Cd%20(error%7Ctimeout)") * 2;
        viewer.get(&format!("/api/logs?{query}")).expect(200).has(json!({ "total": expected }));
    }
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
        assert_eq!(response.status, 200, "seed {seed}, search {number}: {shown:?}: {}", response.text());
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
