//! `make bench`: reports of pages through the browser relay against the same reports posted straight to the error
//! tracker in the same run, without a map and with maps of three sizes; metrics against the collector; then memory.

// A bench prints its figures, and has no public face.
#![allow(clippy::print_stdout, missing_docs, unreachable_pub)]

mod figures;
mod load;

use std::sync::Arc;
use std::time::{Duration, Instant};

use figures::{Cell, Figures};
use load::{Client, Folder, Process, Round, Until, in_turn, load, median, middle, post};

const ROUNDS: usize = 5;
const ROUND: Until = Until::Time(Duration::from_millis(1_200));
/// How often each map is uploaded to be measured.
const UPLOADS: usize = 5;
const PUBLIC_KEY: &str = "00112233445566778899aabbccddeeff";
const FRAMES: u64 = 10;
const GROUPS: u64 = 100;
/// Where the frames of the groups are, and those that are new each time.
const COLUMNS: u64 = 20_000;
const COLUMNS_ALL: u64 = 800_000;
/// Release, and bytes of its map.
const MAPS: [(&str, usize); 3] = [("small", 21_000), ("medium", 2_000_000), ("large", 5_000_000)];

fn main() {
    let mut figures = Figures::new("browser_relay", "Browser relay", 40);
    figures.note(format!(
        "`SYNCHRONOUS=FULL`. Reports have {FRAMES} frames and go on to an error tracker, which flushes them before either \
         answers; beside them the same reports straight to that tracker. CPU time is the relay's own. Median of {ROUNDS} \
         rounds."
    ));
    figures.measure(&[("uploads", uploads), ("rates", all_rates), ("memory", memory)]);
}

/// Over one connection and over many.
fn all_rates(figures: &mut Figures) {
    let house = House::new();
    for (release, bytes) in MAPS {
        house.upload(release, &map(bytes));
    }
    for connections in [1, 64] {
        rates(figures, &house, connections);
    }
}

fn uploads(figures: &mut Figures) {
    let house = House::new();
    figures.table("a map uploaded, converted and stored", &["bytes", "ms", "relay's peak MB so far"]);
    for (release, bytes) in MAPS {
        let map = map(bytes);
        let upload = |_| {
            // What any reader of the map has to do at least.
            let begun = Instant::now();
            std::hint::black_box(serde_json::from_str::<serde::de::IgnoredAny>(&map).expect("a map is JSON"));
            let read = begun.elapsed().as_secs_f64() * 1e3;
            let begun = Instant::now();
            house.upload(release, &map);
            (begun.elapsed().as_secs_f64() * 1e3, read)
        };
        let took: Vec<(f64, f64)> = (0..UPLOADS).map(upload).collect();
        let (ms, ratio) = (
            middle(took.iter().map(|(ms, _)| *ms).collect()),
            middle(took.iter().map(|(ms, read)| read / ms).collect()),
        );
        figures.row(release, &[(map.len() as f64).into(), ms.into(), house.relay.mb("VmHWM:").into()]);
        let why = "it waits for the disk, and the reading takes a moment only";
        figures.loose_ratio(release, "reading it as JSON", ratio, why);
    }
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
fn rates(figures: &mut Figures, house: &House, connections: usize) {
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
    let columns = ["reports/s", "CPU µs", "p50 ms", "p99 ms", "of direct"];
    figures.table(load::over(connections), &columns);
    row(figures, "straight to the error tracker", &direct, None);
    for (what, rounds) in
        ["relayed, no map", "a map of 21 kB", "a map of 2 MB", "a map of 5 MB"].into_iter().zip(&relayed)
    {
        row(figures, what, rounds, Some(&direct));
    }
    row(figures, "a map of 5 MB, each frame new", &new, Some(&direct));
    row(figures, "10 points straight to the collector", &direct_points, None);
    row(figures, "10 points relayed", &points, Some(&direct_points));
    let [none_us, large_us, new_us] = [&relayed[0], &relayed[3], &new].map(|rounds| median(rounds).cpu_us);
    let [again_us, new_us] = [large_us, new_us].map(|cpu_us| (cpu_us - none_us) / FRAMES as f64);
    figures.note(format!(
        "{}: a frame of the 5 MB map costs {new_us:.1} µs of CPU time, and again {again_us:.1} µs.",
        load::over(connections)
    ));
    if connections == 64 {
        let [direct, relayed] = [&direct, &relayed[3]].map(|rounds| median(rounds));
        figures.summary(
            "Browser reports through the relay, mapped by a map of 5 MB, 64 connections",
            format!(
                "{:.0} a second, {:.2} of posting straight",
                relayed.per_second,
                relayed.per_second / direct.per_second
            ),
        );
    }
}

fn row(figures: &mut Figures, what: &str, rounds: &[Round], direct: Option<&[Round]>) {
    let Round { per_second, cpu_us, p50_ms, p99_ms } = median(rounds);
    let rate = direct.map(|direct| in_turn(rounds, direct, |round, direct| round.per_second / direct.per_second));
    figures.row(what, &[per_second.into(), cpu_us.into(), p50_ms.into(), p99_ms.into(), Cell::from(rate)]);
    if let (Some(direct), Some(rate)) = (direct, rate) {
        let why = "both wait for the disk, whose flushes take as long as they like";
        figures.loose_ratio(what, "the rate of posting straight", rate, why);
        let cpu = in_turn(rounds, direct, |round, direct| direct.cpu_us / round.cpu_us);
        figures.ratio(what, "CPU time of what takes it", cpu);
    }
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

fn memory(figures: &mut Figures) {
    let house = House::new();
    Process::memory_head(figures);
    house.relay.memory_row(figures, "idle");
    house.upload("large", &map(5_000_000));
    house.relay.memory_row(figures, "after a map of 5 MB");
    for _ in 0..5 {
        house.upload("large", &map(5_000_000));
    }
    house.relay.memory_row(figures, "after five more");
    let house = Arc::new(house);
    load(&house.relay, 64, Until::Requests(100_000), |n| page("errors", &report("large", n)));
    house.relay.memory_row(figures, "after 100,000 reports mapped by it");
}
