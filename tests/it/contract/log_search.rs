//! What is typed into a search: FTS5's syntax where it is that, plain words where it is not, and never an error.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Client, Request, Service, Setup, TempDir};
use crate::logs::{Container, percent_encode, wait_for_entry_count};
use crate::rng::Rng;

const FUZZED: u64 = 10_000;
/// One response, and all of them.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
const ALL_WITHIN: Duration = Duration::from_secs(60);
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
    "15 \u{1b}[31merr\u{1b}[0mor with colours",
    "16 NOT AND OR near",
];

fn library() -> Service {
    let folder = Arc::new(TempDir::new());
    let lines: Vec<String> = LINES.iter().map(|line| format!("{line}\n")).collect();
    Container::new(&folder, "web")
        .write_lines(lines.iter().map(|line| ("2026-01-31T12:00:00Z", "stdout", line.as_str())));
    let viewer = Setup::log_viewer().data_dir(&folder).start();
    wait_for_entry_count(&viewer, "web", 16);
    viewer
}

/// The numbers of the lines found, in their order, and how the search was understood.
fn found(viewer: &Service, search: &str) -> (Vec<u32>, Option<String>) {
    let response = viewer.get(&format!("/api/logs?search={}", percent_encode(search))).expect(200).json();
    let number = |entry: &Value| entry["message"].as_str().unwrap().split(' ').next().unwrap().parse().unwrap();
    let mut numbers: Vec<u32> = response["logs"].as_array().unwrap().iter().map(number).collect();
    numbers.sort_unstable();
    assert_eq!(response["total"], numbers.len(), "{search}: {response}");
    (numbers, response["search_mode"].as_str().map(str::to_owned))
}

#[test]
fn a_search_finds_what_a_person_means() {
    let viewer = library();
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
        let (numbers, found_mode) = found(&viewer, search);
        if search.is_empty() {
            assert_eq!((numbers.len(), found_mode), (16, None));
        } else {
            assert_eq!((numbers, found_mode.as_deref()), (expected, mode), "{search}");
        }
    }
}

#[test]
fn texts_are_looked_through_where_words_do_not_help() {
    let viewer = library();
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

/// Bytes that somebody may send as a search: words, syntax, letters of all kinds, and what is no text at all.
fn any_search(rng: &mut Rng) -> Vec<u8> {
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
                let letter = char::from_u32(rng.below(0x11_0000) as u32).unwrap_or('\u{fffd}');
                search.extend(letter.to_string().bytes());
            }
            _ => search.push(rng.below(256) as u8),
        }
    }
    // With its escapes it has to fit into a request's head.
    search.truncate(4_000);
    search
}

#[test]
fn any_search_at_all_is_answered_in_time_and_memory() {
    let folder = Arc::new(TempDir::new());
    let container = Container::new(&folder, "web");
    container.write_numbered_lines(0..20_000);
    let viewer = Setup::log_viewer().data_dir(&folder).env("TAIL_BUFFER", 100_000_000).start();
    wait_for_entry_count(&viewer, "web", 20_000);
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_260_131);
    let mut rng = Rng(seed);
    let begun = Instant::now();
    let mut slowest = Duration::ZERO;
    let mut modes = [0u32; 3];
    let mut client: Client = viewer.connect();
    for number in 0..FUZZED {
        let search = any_search(&mut rng);
        let asked = Instant::now();
        let response = client.send(&Request::get(&format!("/api/logs?limit=5&search={}", percent_encode(&search))));
        let took = asked.elapsed();
        let what = String::from_utf8_lossy(&search);
        assert_eq!(response.status, 200, "seed {seed}, search {number}: {what:?}: {}", response.text());
        assert!(took < ANSWER_WITHIN, "seed {seed}, search {number}: {what:?} took {took:?}");
        slowest = slowest.max(took);
        let mode = response.json()["search_mode"].as_str().map(str::to_owned);
        modes[match mode.as_deref() {
            None => 0,
            Some("match") => 1,
            _ => 2,
        }] += 1;
    }
    let (took, (_, peak)) = (begun.elapsed(), viewer.memory_kib());
    eprintln!(
        "{FUZZED} searches (seed {seed}, none/match/plain {modes:?}): {took:?}, slowest {slowest:?}, peak {peak} KiB"
    );
    assert!(took < ALL_WITHIN, "{took:?}");
    assert!(peak < MEMORY_KIB_MAX, "{peak} KiB");
    assert!(modes[1] > 500 && modes[2] > 5_000, "{modes:?}");
}
