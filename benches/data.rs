//! Input data of the benches: error reports, metric points and logs like those of real applications.
//!
//! Except for timestamps, the generators are deterministic: every bench and every run measures the same data.

#![allow(dead_code, reason = "each bench uses a part of this module")]

use std::path::PathBuf;

use monlight::clock::Timestamp;

use crate::load::TempDir;

pub const CONTAINERS: [&str; 3] = ["shop-web-1", "shop-api-1", "shop-worker-1"];
/// One entry in this many contains the rare word `deadlock`.
const RARE_WORD_INTERVAL: u64 = 5_000;
/// One entry in this many is a stack trace, if it belongs to the worker.
const TRACE_INTERVAL: u64 = 2_000;

/// Returns the JSON of an error report of about 2 KB. `group` selects its group; `number` makes its context unique.
pub fn error_report(group: u64, number: u64) -> String {
    let frames =
        r#"  File \"/app/shop/views.py\", line 118, in dispatch\n    return handler(request, *args, **kwargs)\n"#
            .repeat(15);
    format!(
        r#"{{"project":"shop","exception_type":"ValueError","message":"no such product","environment":"prod","release":"1.4.2","traceback":"Traceback (most recent call last):\n{frames}  File \"/app/shop/cart.py\", line {group}, in add\n    raise ValueError(product)\nValueError: no such product","request_url":"https://shop.example/cart/{number}","request_method":"POST","request_headers":{{"accept":"text/html","user-agent":"Mozilla/5.0"}},"user_id":"u-{number}","extra":{{"cart":{number}}}}}"#
    )
}

/// Returns a pseudo-random number in [0, 1) that depends only on `number` (multiplicative hashing).
pub fn pseudo_random(number: u64) -> f64 {
    (number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 11) as f64 / (1u64 << 53) as f64
}

/// Returns a request duration in seconds; most are short.
pub fn duration_s(number: u64) -> f64 {
    0.004 * (9.0 * pseudo_random(number).powi(2)).exp2()
}

/// Returns a point like those of the original FastAPI middleware, which sends a counter and a histogram per request.
pub fn metric_point(series: u64, number: u64, at: Timestamp) -> String {
    let (name, kind, value) = match series % 2 {
        0 => ("http_requests_total", "counter", "1".to_owned()),
        _ => ("http_request_duration_seconds", "histogram", duration_s(number).to_string()),
    };
    let (method, status) = [("GET", 200), ("POST", 201), ("GET", 404), ("PUT", 200)][series as usize / 2 % 4];
    let endpoint = series / 8;
    format!(
        r#"{{"name":"{name}","type":"{kind}","value":{value},"timestamp":"{at}","labels":{{"method":"{method}","endpoint":"/api/v1/shops/{{shop_id}}/resource{endpoint}","status":"{status}"}},"project":"shop"}}"#
    )
}

/// Returns request bodies with `batch` points each, `points` in total, spread evenly over `series` series.
pub fn metric_batches(points: u64, series: u64, batch: u64) -> Vec<String> {
    let now = Timestamp::now();
    let body = |first: u64| {
        let points: Vec<String> =
            (first..(first + batch).min(points)).map(|number| metric_point(number % series, number, now)).collect();
        format!("[{}]", points.join(","))
    };
    (0..points.div_ceil(batch)).map(|number| body(number * batch)).collect()
}

/// Returns one of 4,096 words; a few are frequent, most are rare.
fn word(number: u64) -> String {
    const SYLLABLES: [&str; 16] =
        ["ba", "ce", "dor", "fi", "gal", "hu", "jen", "ko", "lim", "mar", "no", "pel", "qui", "ras", "sto", "tun"];
    let rank = (4_096.0 * pseudo_random(number).powi(3)) as usize;
    [rank % 16, rank / 16 % 16, rank / 256].map(|index| SYLLABLES[index]).concat()
}

/// Log entry of a container: its stream and its lines.
pub struct LogEntry {
    pub container: usize,
    pub stderr: bool,
    pub lines: Vec<String>,
}

/// Returns the `n`-th log entry, with the timestamp `at`: an nginx access log, pino JSON, or Python `logging` output.
pub fn log_entry(n: u64, at: &str) -> LogEntry {
    let (order, ms) = (n / 7 % 40_000, (4.0 * (8.0 * pseudo_random(n + 5)).exp2()) as u64);
    let [one, two, three] = [n * 3, n * 3 + 1, n * 3 + 2].map(word);
    let (day, time) = (&at[..10], &at[11..19]);
    let container = (n % 3) as usize;
    let failed = n.is_multiple_of(11);
    let rare = if n.is_multiple_of(RARE_WORD_INTERVAL) { " deadlock" } else { "" };
    let client = n / 3 % 200;
    let line = match container {
        0 if failed => format!(
            r#"{day} {time} [error] 31#31: *{n} connect() failed (111: Connection refused) to {three}, client: 10.0.0.{client}, request: "GET /{one}/{order}"{rare}"#
        ),
        0 => format!(
            r#"10.0.0.{client} - - [{day}:{time} +0000] "GET /{one}/{two}/{order} HTTP/1.1" 200 {} "https://shop.example/{three}" "curl/8.5"{rare}"#,
            ms * 31
        ),
        1 => format!(
            r#"{{"level":{},"time":"{at}","reqId":"{:07x}","ms":{ms},"msg":"order {order} {one} {two} by {three} from 10.0.0.{client}{rare}"}}"#,
            if failed { 50 } else { 30 },
            n.wrapping_mul(0x9E37_79B9) & 0xFFF_FFFF
        ),
        _ if n.is_multiple_of(TRACE_INTERVAL) => {
            let frames = (0..4).flat_map(|frame| {
                [
                    format!(r#"  File "/app/{one}/{two}.py", line {frame}, in {three}"#),
                    format!("    return {two}(order)"),
                ]
            });
            let last = format!("ValueError: order {order} has no {three}");
            let lines = ["Traceback (most recent call last):".to_owned()].into_iter().chain(frames).chain([last]);
            return LogEntry { container, stderr: true, lines: lines.collect() };
        }
        _ => format!(
            "{day} {time},{:03} {} [shop.jobs.{one}] sent the {two} of order {order} to customer {} by {three} in {ms} ms{rare}",
            n % 1_000,
            if failed { "WARNING" } else { "INFO" },
            n % 9_999
        ),
    };
    LogEntry { container, stderr: container == 0 && failed || container == 2 && n.is_multiple_of(2), lines: vec![line] }
}

/// Creates the folder of a container as Docker does, with its `config.v2.json`, and returns the path of its log file.
pub fn create_container(sources: &TempDir, number: usize, name: &str) -> PathBuf {
    let id = format!("{number:064x}");
    let folder = sources.path.join(&id);
    std::fs::create_dir_all(&folder).expect("create the folder of a container");
    let config = format!(
        r#"{{"ID":"{id}","Name":"/{name}","LogPath":"/var/lib/docker/containers/{id}/{id}-json.log","Config":{{"Image":"shop:1","Labels":{{}}}}}}"#
    );
    std::fs::write(folder.join("config.v2.json"), config).expect("write config.v2.json");
    folder.join(format!("{id}-json.log"))
}

/// Returns a line as Docker's json-file driver writes it.
pub fn docker_line(line: &str, stderr: bool, at: &str) -> String {
    let log = serde_json::to_string(&format!("{line}\n")).expect("a string serializes to JSON");
    let stream = if stderr { "stderr" } else { "stdout" };
    format!("{{\"log\":{log},\"stream\":\"{stream}\",\"time\":\"{at}\"}}\n")
}
