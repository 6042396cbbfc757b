//! `make bench`: reports of pages through the browser relay against the same reports posted straight to the error
//! tracker in the same run, without a map and with maps of three sizes; metrics against the collector; then memory.

// A bench prints its figures, and has no public face.
#![allow(clippy::print_stdout, missing_docs, unreachable_pub)]

mod load;

use std::sync::Arc;
use std::time::{Duration, Instant};

use load::{Client, Folder, Process, Round, Until, load, median, post};

const ROUNDS: usize = 3;
const ROUND: Until = Until::Time(Duration::from_secs(2));
const PUBLIC_KEY: &str = "00112233445566778899aabbccddeeff";
const FRAMES: u64 = 10;
const GROUPS: u64 = 100;
/// Where the frames of the groups are, and those that are new each time.
const COLUMNS: u64 = 20_000;
const COLUMNS_ALL: u64 = 800_000;
/// Release, and bytes of its map.
const MAPS: [(&str, usize); 3] = [("small", 21_000), ("medium", 2_000_000), ("large", 5_000_000)];

fn main() {
    let house = House::new();
    for (release, bytes) in MAPS {
        let map = map(bytes);
        let begun = Instant::now();
        house.upload(release, &map);
        println!(
            "a map of {} bytes is uploaded and converted in {:.0} ms",
            map.len(),
            begun.elapsed().as_secs_f64() * 1e3
        );
    }
    println!("peak memory of the relay after that: {:.1} MB", house.relay.mb("VmHWM:"));
    println!("\nbrowser-relay, reports with {FRAMES} frames, SYNCHRONOUS=FULL, median of {ROUNDS} rounds\n");
    for connections in [1, 64] {
        rates(&house, connections);
    }
    memory();
}

/// A relay and what is behind it.
struct House {
    tracker: Process,
    collector: Process,
    relay: Process,
}

impl House {
    fn new() -> Self {
        let tracker = Process::service(env!("CARGO_BIN_EXE_error-tracker"), &Folder::new("tracker"), &[]);
        let collector = Process::service(env!("CARGO_BIN_EXE_metrics-collector"), &Folder::new("collector"), &[]);
        let (errors, metrics) = (format!("http://{}", tracker.address), format!("http://{}", collector.address));
        let keys = format!("shop:{PUBLIC_KEY}");
        let settings = [
            ("ADMIN_API_KEY", "k"),
            ("KEY_RATE_LIMIT", "0"),
            ("DSN_KEYS", &keys),
            ("ERROR_TRACKER_URL", &errors),
            ("ERROR_TRACKER_API_KEY", "k"),
            ("METRICS_COLLECTOR_URL", &metrics),
            ("METRICS_COLLECTOR_API_KEY", "k"),
        ];
        let relay = Process::service(env!("CARGO_BIN_EXE_browser-relay"), &Folder::new("relay"), &settings);
        Self { tracker, collector, relay }
    }

    fn upload(&self, release: &str, map: &str) {
        let body =
            serde_json::json!({ "project": "shop", "release": release, "file_url": "/app.js", "map_content": map });
        let status = Client::connect(self.relay.address).send(&post("/api/source-maps", &body.to_string()));
        assert_eq!(status, 201, "the map is taken");
    }
}

/// One table: direct and through the relay, in turn, so that a slow moment of the machine falls on all of them.
fn rates(house: &House, connections: usize) {
    let releases = ["none", MAPS[0].0, MAPS[1].0, MAPS[2].0];
    let (mut direct, mut direct_points, mut points, mut new) = (vec![], vec![], vec![], vec![]);
    let mut relayed = releases.map(|_| Vec::new());
    for _ in 0..ROUNDS {
        direct.push(load(&house.tracker, connections, ROUND, |n| post("/api/errors", &direct_report(n))));
        for (release, rounds) in releases.iter().zip(&mut relayed) {
            rounds.push(load(&house.relay, connections, ROUND, |n| page("errors", &report(release, n))));
        }
        let (relay, columns) = (&house.relay, COLUMNS_ALL);
        new.push(load(relay, connections, ROUND, move |n| page("errors", &report_of("large", n, &stack(n, columns)))));
        direct_points.push(load(&house.collector, connections, ROUND, |n| post("/api/metrics", &direct_metrics(n))));
        points.push(load(&house.relay, connections, ROUND, |n| page("metrics", &metrics(n))));
    }
    println!("{:<36} {:>10} {:>9} {:>9} {:>9} {:>10}", "", "reports/s", "CPU us", "p50 ms", "p99 ms", "of direct");
    println!("{connections} connections");
    let direct = median(&direct);
    row("  straight to the error tracker", direct, None);
    let [none, small, medium, large] = relayed.map(|rounds| median(&rounds));
    row("  relayed, no map", none, Some(direct));
    for (what, mapped) in [("  a map of 21 kB", small), ("  a map of 2 MB", medium), ("  a map of 5 MB", large)] {
        row(what, mapped, Some(direct));
    }
    let new = median(&new);
    row("  a map of 5 MB, each frame new", new, Some(direct));
    let direct_points = median(&direct_points);
    row("  10 points straight to the collector", direct_points, None);
    row("  10 points relayed", median(&points), Some(direct_points));
    let [again_us, new_us] = [large, new].map(|mapped| (mapped.cpu_us - none.cpu_us) / FRAMES as f64);
    println!("  a frame of the 5 MB map costs {new_us:.1} us of CPU time, and again {again_us:.1} us\n");
}

fn row(what: &str, round: Round, direct: Option<Round>) {
    let Round { per_second, cpu_us, p50_ms, p99_ms } = round;
    let ratio = direct.map_or(String::new(), |direct| format!("{:.2}", per_second / direct.per_second));
    println!("{what:<36} {per_second:>10.0} {cpu_us:>9.1} {p50_ms:>9.2} {p99_ms:>9.2} {ratio:>10}");
}

fn page(what: &str, body: &str) -> Vec<u8> {
    post(&format!("/api/browser/{what}?key={PUBLIC_KEY}"), body)
}

/// A stack as V8 writes it, of frames all over the first columns of the generated code.
fn stack(n: u64, columns: u64) -> String {
    let frame = |at: u64| {
        let column = (n * 7_919 + at * 1_031) % columns + 1;
        format!(r"\n    at t.f{at} (https://shop.example/assets/app.js:1:{column})")
    };
    (0..FRAMES).map(frame).collect()
}

fn report(release: &str, n: u64) -> String {
    report_of(release, n, &stack(n % GROUPS, COLUMNS))
}

fn report_of(release: &str, n: u64, stack: &str) -> String {
    format!(
        r#"{{"type":"TypeError","message":"cart is undefined","stack":"TypeError: cart is undefined{stack}","url":"https://shop.example/cart/{n}","user_agent":"Mozilla/5.0 (X11; Linux x86_64)","session_id":"s-{n}","environment":"prod","release":"{release}","context":{{"user_id":"u-{n}"}}}}"#
    )
}

/// The same as the relay passes it on.
fn direct_report(n: u64) -> String {
    format!(
        r#"{{"project":"shop","exception_type":"TypeError","message":"cart is undefined","traceback":"TypeError: cart is undefined{}","environment":"prod","release":"none","request_url":"https://shop.example/cart/{n}","request_method":"BROWSER","user_id":"u-{n}","extra":{{"user_agent":"Mozilla/5.0 (X11; Linux x86_64)","session_id":"s-{n}","release":"none","context":{{"user_id":"u-{n}"}}}}}}"#,
        stack(n % GROUPS, COLUMNS)
    )
}

fn points(labels: &str) -> String {
    let point =
        format!(r#"{{"name":"web_vitals_lcp","type":"histogram","value":1234.5,"labels":{{{labels}"page":"/cart"}}}}"#);
    vec![point; 10].join(",")
}

fn metrics(n: u64) -> String {
    format!(r#"{{"metrics":[{}],"session_id":"s-{n}"}}"#, points(""))
}

fn direct_metrics(n: u64) -> String {
    format!("[{}]", points(&format!(r#""project":"shop","source":"browser","session_id":"s-{n}","#)))
}

/// A map of about so many bytes as minifiers write them: all code in one line, a segment for every word of the sources,
/// and the sources with it.
fn map(bytes: usize) -> String {
    let source = include_str!("../tests/browser/src/cart.js").repeat(if bytes > 100_000 { 20 } else { 2 });
    let (mut mappings, mut sources, mut contents) = (String::new(), Vec::new(), Vec::new());
    let mut last = [0i64; 3];
    let mut size = 0;
    while size < bytes * 97 / 100 {
        let file = sources.len() as i64;
        let before = mappings.len();
        for (line, text) in source.lines().enumerate() {
            let words = text.match_indices(|letter: char| letter.is_alphabetic());
            let mut word_end = 0;
            for (column, _) in words {
                if column < word_end {
                    continue;
                }
                word_end = column + text[column..].find(|letter: char| !letter.is_alphanumeric()).unwrap_or(text.len());
                let place = [file, line as i64, column as i64];
                for step in [3, place[0] - last[0], place[1] - last[1], place[2] - last[2]] {
                    vlq(&mut mappings, step);
                }
                mappings.push(',');
                last = place;
            }
        }
        sources.push(format!("src/part{file}.js"));
        contents.push(source.clone());
        // Line breaks and quotes take two bytes.
        size += mappings.len() - before + source.len() + source.matches(['\n', '"']).count() + 20;
    }
    mappings.pop();
    serde_json::json!({ "version": 3, "sources": sources, "names": [], "mappings": mappings, "sourcesContent": contents })
        .to_string()
}

/// Base 64 VLQ, as ECMA-426 has it.
fn vlq(into: &mut String, number: i64) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut rest = number.unsigned_abs() << 1 | u64::from(number < 0);
    loop {
        let digit = (rest & 31) as usize;
        rest >>= 5;
        into.push(char::from(DIGITS[digit | usize::from(rest > 0) << 5]));
        if rest == 0 {
            return;
        }
    }
}

fn memory() {
    let house = House::new();
    Process::memory_head();
    house.relay.memory_row("  idle");
    house.upload("large", &map(5_000_000));
    house.relay.memory_row("  after a map of 5 MB");
    for _ in 0..5 {
        house.upload("large", &map(5_000_000));
    }
    house.relay.memory_row("  after five more");
    let house = Arc::new(house);
    load(&house.relay, 64, Until::Requests(100_000), |n| page("errors", &report("large", n)));
    house.relay.memory_row("  after 100,000 reports mapped by it");
}
