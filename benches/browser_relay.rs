//! Benchmark of the browser relay, run by `make bench`: source map uploads, relayed reports and points, and memory.
//!
//! Relayed error reports, without a source map and with maps of three sizes, are compared with the same reports sent
//! directly to the error tracker in the same run; relayed points are compared with points sent to the collector.

// A bench prints its results and is not a public API.
#![allow(clippy::print_stdout, missing_docs, unreachable_pub)]

mod figures;
mod load;

use std::time::{Duration, Instant};

use figures::{Cell, Figures};
use load::{
    Client, Measurement, ServerProcess, StopAfter, TempDir, connections_title, median, median_measurement,
    median_ratio, post, run_load,
};

const ROUNDS: usize = 5;
const ROUND: StopAfter = StopAfter::Time(Duration::from_millis(1_200));
/// Number of measured uploads of each map.
const UPLOADS: usize = 5;
const PUBLIC_KEY: &str = "00112233445566778899aabbccddeeff";
const FRAMES: u64 = 10;
const GROUPS: u64 = 100;
/// Columns of the generated code that contain the frames of the [`GROUPS`] groups.
const COLUMNS: u64 = 20_000;
/// Columns that contain the frames of reports whose frames are new in each report.
const COLUMNS_ALL: u64 = 800_000;
/// Release and size of its source map in bytes.
const MAPS: [(&str, usize); 3] = [("small", 21_000), ("medium", 2_000_000), ("large", 5_000_000)];

fn main() {
    let mut figures = Figures::new("browser_relay", "Browser relay", 40);
    figures.add_note(format!(
        "`SYNCHRONOUS=FULL`. Reports have {FRAMES} frames. The relay forwards each to an error tracker and responds after \
         the tracker has flushed it to disk. The reference is the same reports sent directly to that tracker. CPU time is \
         the relay's only. Median of {ROUNDS} rounds."
    ));
    figures.run(&[("uploads", measure_uploads), ("rates", measure_rates), ("memory", measure_memory)]);
}

fn measure_rates(figures: &mut Figures) {
    let services = Services::start();
    for (release, bytes) in MAPS {
        services.upload_map(release, &source_map(bytes));
    }
    for connections in [1, 64] {
        measure_rates_over(figures, &services, connections);
    }
}

fn measure_uploads(figures: &mut Figures) {
    let services = Services::start();
    figures.begin_table("source map upload, including conversion and storage", &["bytes", "ms", "peak MB so far"]);
    for (release, bytes) in MAPS {
        let map = source_map(bytes);
        let upload = |_| {
            // Every reader of the map has to parse its JSON, so this is the minimum.
            let start = Instant::now();
            std::hint::black_box(serde_json::from_str::<serde::de::IgnoredAny>(&map).expect("a source map is JSON"));
            let parse_ms = start.elapsed().as_secs_f64() * 1e3;
            let start = Instant::now();
            services.upload_map(release, &map);
            (start.elapsed().as_secs_f64() * 1e3, parse_ms)
        };
        let uploads: Vec<(f64, f64)> = (0..UPLOADS).map(upload).collect();
        let (ms, ratio) = (
            median(uploads.iter().map(|(ms, _)| *ms).collect()),
            median(uploads.iter().map(|(ms, parse_ms)| parse_ms / ms).collect()),
        );
        let cells = [(map.len() as f64).into(), ms.into(), services.relay.memory_mb("VmHWM:").into()];
        figures.add_row(release, &cells);
        let reason = "the upload depends on the disk, and parsing takes only a few ms";
        figures.add_informational_ratio(release, "parsing it as JSON", ratio, reason);
    }
}

/// Relay with its two upstreams.
struct Services {
    tracker: ServerProcess,
    collector: ServerProcess,
    relay: ServerProcess,
}

impl Services {
    fn start() -> Self {
        let tracker = env!("CARGO_BIN_EXE_error-tracker");
        let tracker = ServerProcess::spawn_service(tracker, &TempDir::new("tracker"), &[]);
        let collector = env!("CARGO_BIN_EXE_metrics-collector");
        let collector = ServerProcess::spawn_service(collector, &TempDir::new("collector"), &[]);
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
        let relay = env!("CARGO_BIN_EXE_browser-relay");
        let relay = ServerProcess::spawn_service(relay, &TempDir::new("relay"), &settings);
        Self { tracker, collector, relay }
    }

    fn upload_map(&self, release: &str, map: &str) {
        let body = serde_json::json!({ "project": "shop", "release": release, "file_url": "/assets/app.js", "map_content": map });
        let status = Client::connect(self.relay.address).send(&post("/api/source-maps", &body.to_string()));
        assert_eq!(status, 201, "the relay rejected the source map");
    }
}

/// Fills one table: direct and relayed requests alternate, so that a slow phase of the machine affects all of them.
fn measure_rates_over(figures: &mut Figures, services: &Services, connections: usize) {
    let Services { tracker, collector, relay } = services;
    let releases = ["none", MAPS[0].0, MAPS[1].0, MAPS[2].0];
    let (mut direct, mut direct_points, mut points, mut new_frames) = (vec![], vec![], vec![], vec![]);
    let mut relayed = releases.map(|_| Vec::new());
    let new_frame_report = |n| browser_post("errors", &report_with_stack("large", n, &stack(n, COLUMNS_ALL)));
    for _ in 0..ROUNDS {
        direct.push(run_load(tracker, connections, ROUND, |n| post("/api/errors", &direct_report(n))));
        for (release, rounds) in releases.iter().zip(&mut relayed) {
            rounds.push(run_load(relay, connections, ROUND, |n| browser_post("errors", &report(release, n))));
        }
        new_frames.push(run_load(relay, connections, ROUND, new_frame_report));
        direct_points.push(run_load(collector, connections, ROUND, |n| post("/api/metrics", &direct_metrics(n))));
        points.push(run_load(relay, connections, ROUND, |n| browser_post("metrics", &metrics(n))));
    }
    let columns = ["reports/s", "CPU µs", "p50 ms", "p99 ms", "rate ÷ direct rate"];
    figures.begin_table(connections_title(connections), &columns);
    add_row(figures, "reports directly to the error tracker", &direct, None);
    for (label, rounds) in [
        "reports relayed, no map",
        "reports relayed, map of 21 kB",
        "reports relayed, map of 2 MB",
        "reports relayed, map of 5 MB",
    ]
    .into_iter()
    .zip(&relayed)
    {
        add_row(figures, label, rounds, Some(&direct));
    }
    add_row(figures, "reports relayed, map of 5 MB, new frames", &new_frames, Some(&direct));
    add_row(figures, "10 points directly to the collector", &direct_points, None);
    add_row(figures, "10 points relayed", &points, Some(&direct_points));
    let [none_us, large_us, new_us] =
        [&relayed[0], &relayed[3], &new_frames].map(|rounds| median_measurement(rounds).cpu_us);
    let [cached_us, new_us] = [large_us, new_us].map(|cpu_us| (cpu_us - none_us) / FRAMES as f64);
    figures.add_note(format!(
        "{}: with the 5 MB map, a new frame costs {new_us:.1} µs of CPU time, a cached one {cached_us:.1} µs.",
        connections_title(connections)
    ));
    if connections == 64 {
        let [direct, relayed] = [&direct, &relayed[3]].map(|rounds| median_measurement(rounds));
        figures.add_summary(
            "Browser reports through the relay, symbolicated with a map of 5 MB, 64 connections",
            format!("{:.0}/s, {:.2} of the direct rate", relayed.per_second, relayed.per_second / direct.per_second),
        );
    }
}

fn add_row(figures: &mut Figures, label: &str, rounds: &[Measurement], direct: Option<&[Measurement]>) {
    let Measurement { per_second, cpu_us, p50_ms, p99_ms } = median_measurement(rounds);
    let rate = direct.map(|direct| median_ratio(rounds, direct, |round, direct| round.per_second / direct.per_second));
    figures.add_row(label, &[per_second.into(), cpu_us.into(), p50_ms.into(), p99_ms.into(), Cell::from(rate)]);
    if let (Some(direct), Some(rate)) = (direct, rate) {
        let reason = "both rates depend on the disk, whose flush times vary";
        figures.add_informational_ratio(label, "the rate of direct requests", rate, reason);
        let cpu = median_ratio(rounds, direct, |round, direct| direct.cpu_us / round.cpu_us);
        figures.add_ratio(label, "the upstream's CPU time", cpu);
    }
}

fn browser_post(endpoint: &str, body: &str) -> Vec<u8> {
    post(&format!("/api/browser/{endpoint}?key={PUBLIC_KEY}"), body)
}

/// Returns a stack as V8 writes it, with frames spread over the first `columns` columns of the generated code.
fn stack(n: u64, columns: u64) -> String {
    let frame = |at: u64| {
        let column = (n * 7_919 + at * 1_031) % columns + 1;
        format!(r"\n    at t.f{at} (https://shop.example/assets/app.js:1:{column})")
    };
    (0..FRAMES).map(frame).collect()
}

fn report(release: &str, n: u64) -> String {
    report_with_stack(release, n, &stack(n % GROUPS, COLUMNS))
}

fn report_with_stack(release: &str, n: u64, stack: &str) -> String {
    format!(
        r#"{{"type":"TypeError","message":"cart is undefined","stack":"TypeError: cart is undefined{stack}","url":"https://shop.example/cart/{n}","user_agent":"Mozilla/5.0 (X11; Linux x86_64)","session_id":"s-{n}","environment":"prod","release":"{release}","context":{{"user_id":"u-{n}"}}}}"#
    )
}

/// Returns the same report in the form in which the relay forwards it.
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

/// Returns a source map of about `bytes` bytes like those of minifiers: all generated code is on one line, there is a
/// segment for every word of the sources, and the sources are embedded.
fn source_map(bytes: usize) -> String {
    let source = include_str!("../tests/browser/src/cart.js").repeat(if bytes > 100_000 { 20 } else { 2 });
    let (mut mappings, mut sources, mut contents) = (String::new(), Vec::new(), Vec::new());
    let mut last = [0i64; 3];
    let mut size = 0;
    while size < bytes * 97 / 100 {
        let file = sources.len() as i64;
        let before = mappings.len();
        for (line, text) in source.lines().enumerate() {
            let words = text.match_indices(|char: char| char.is_alphabetic());
            let mut word_end = 0;
            for (column, _) in words {
                if column < word_end {
                    continue;
                }
                word_end = column + text[column..].find(|char: char| !char.is_alphanumeric()).unwrap_or(text.len());
                let position = [file, line as i64, column as i64];
                for delta in [3, position[0] - last[0], position[1] - last[1], position[2] - last[2]] {
                    append_vlq(&mut mappings, delta);
                }
                mappings.push(',');
                last = position;
            }
        }
        sources.push(format!("src/part{file}.js"));
        contents.push(source.clone());
        // JSON escapes line breaks and quotes with two bytes.
        size += mappings.len() - before + source.len() + source.matches(['\n', '"']).count() + 20;
    }
    mappings.pop();
    serde_json::json!({ "version": 3, "sources": sources, "names": [], "mappings": mappings, "sourcesContent": contents })
        .to_string()
}

/// Appends a number as Base64 VLQ (ECMA-426).
fn append_vlq(output: &mut String, number: i64) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut rest = number.unsigned_abs() << 1 | u64::from(number < 0);
    loop {
        let digit = (rest & 31) as usize;
        rest >>= 5;
        output.push(char::from(DIGITS[digit | usize::from(rest > 0) << 5]));
        if rest == 0 {
            return;
        }
    }
}

fn measure_memory(figures: &mut Figures) {
    let services = Services::start();
    ServerProcess::memory_table(figures);
    services.relay.memory_row(figures, "idle");
    services.upload_map("large", &source_map(5_000_000));
    services.relay.memory_row(figures, "after a map of 5 MB");
    for _ in 0..5 {
        services.upload_map("large", &source_map(5_000_000));
    }
    services.relay.memory_row(figures, "after five more uploads");
    run_load(&services.relay, 64, StopAfter::Requests(100_000), |n| browser_post("errors", &report("large", n)));
    services.relay.memory_row(figures, "after 100,000 reports symbolicated with it");
}
