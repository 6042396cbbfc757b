//! What the benches send and write: error reports, points and logs as real applications have them, alike in every bench.

#![allow(dead_code, reason = "each bench needs some of it")]

use std::path::PathBuf;

use monlight::clock::Timestamp;

use crate::load::Folder;

pub const CONTAINERS: [&str; 3] = ["shop-web-1", "shop-api-1", "shop-worker-1"];
/// A line in so many has a word that hardly any other has, and one in so many of the worker's is a stack trace.
const RARE_EVERY: u64 = 5_000;
const TRACE_EVERY: u64 = 2_000;

/// A report of about 2 KB; `group` decides where it belongs, `number` makes its context its own.
pub fn report(group: u64, number: u64) -> String {
    let frames =
        r#"  File \"/app/shop/views.py\", line 118, in dispatch\n    return handler(request, *args, **kwargs)\n"#
            .repeat(15);
    format!(
        r#"{{"project":"shop","exception_type":"ValueError","message":"no such product","environment":"prod","release":"1.4.2","traceback":"Traceback (most recent call last):\n{frames}  File \"/app/shop/cart.py\", line {group}, in add\n    raise ValueError(product)\nValueError: no such product","request_url":"https://shop.example/cart/{number}","request_method":"POST","request_headers":{{"accept":"text/html","user-agent":"Mozilla/5.0"}},"user_id":"u-{number}","extra":{{"cart":{number}}}}}"#
    )
}

/// Something between 0 and 1 that looks like chance.
pub fn chance(number: u64) -> f64 {
    (number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 11) as f64 / (1u64 << 53) as f64
}

/// A duration in seconds: most are short.
pub fn duration_s(number: u64) -> f64 {
    0.004 * (9.0 * chance(number).powi(2)).exp2()
}

/// A point as the FastAPI middleware of the original's Python client sends it: of each request a count and a duration.
pub fn point(series: u64, number: u64, at: Timestamp) -> String {
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

/// So many points of so many series, in bodies of a batch each.
pub fn bodies(points: u64, series: u64, batch: u64) -> Vec<String> {
    let now = Timestamp::now();
    let body = |first: u64| {
        let points: Vec<String> =
            (first..(first + batch).min(points)).map(|number| point(number % series, number, now)).collect();
        format!("[{}]", points.join(","))
    };
    (0..points.div_ceil(batch)).map(|number| body(number * batch)).collect()
}

/// A word of four thousand, of which some come often and most hardly ever.
fn word(number: u64) -> String {
    const SYLLABLES: [&str; 16] =
        ["ba", "ce", "dor", "fi", "gal", "hu", "jen", "ko", "lim", "mar", "no", "pel", "qui", "ras", "sto", "tun"];
    let rank = (4_096.0 * chance(number).powi(3)) as usize;
    [rank % 16, rank / 16 % 16, rank / 256].map(|index| SYLLABLES[index]).concat()
}

/// One thing a program says: on which stream, and in which lines.
pub struct Said {
    pub container: usize,
    pub stderr: bool,
    pub lines: Vec<String>,
}

/// The `n`-th thing said, at a moment: an access log as nginx writes it, JSON as pino does, lines of Python's logging.
pub fn said(n: u64, at: &str) -> Said {
    let (order, ms) = (n / 7 % 40_000, (4.0 * (8.0 * chance(n + 5)).exp2()) as u64);
    let [one, two, three] = [n * 3, n * 3 + 1, n * 3 + 2].map(word);
    let (day, time) = (&at[..10], &at[11..19]);
    let container = (n % 3) as usize;
    let ill = n.is_multiple_of(11);
    let rare = if n.is_multiple_of(RARE_EVERY) { " deadlock" } else { "" };
    let client = n / 3 % 200;
    let line = match container {
        0 if ill => format!(
            r#"{day} {time} [error] 31#31: *{n} connect() failed (111: Connection refused) to {three}, client: 10.0.0.{client}, request: "GET /{one}/{order}"{rare}"#
        ),
        0 => format!(
            r#"10.0.0.{client} - - [{day}:{time} +0000] "GET /{one}/{two}/{order} HTTP/1.1" 200 {} "https://shop.example/{three}" "curl/8.5"{rare}"#,
            ms * 31
        ),
        1 => format!(
            r#"{{"level":{},"time":"{at}","reqId":"{:07x}","ms":{ms},"msg":"order {order} {one} {two} by {three} from 10.0.0.{client}{rare}"}}"#,
            if ill { 50 } else { 30 },
            n.wrapping_mul(0x9E37_79B9) & 0xFFF_FFFF
        ),
        _ if n.is_multiple_of(TRACE_EVERY) => {
            let frames = (0..4).flat_map(|frame| {
                [
                    format!(r#"  File "/app/{one}/{two}.py", line {frame}, in {three}"#),
                    format!("    return {two}(order)"),
                ]
            });
            let last = format!("ValueError: order {order} has no {three}");
            let lines = ["Traceback (most recent call last):".to_owned()].into_iter().chain(frames).chain([last]);
            return Said { container, stderr: true, lines: lines.collect() };
        }
        _ => format!(
            "{day} {time},{:03} {} [shop.jobs.{one}] sent the {two} of order {order} to customer {} by {three} in {ms} ms{rare}",
            n % 1_000,
            if ill { "WARNING" } else { "INFO" },
            n % 9_999
        ),
    };
    Said { container, stderr: container == 0 && ill || container == 2 && n.is_multiple_of(2), lines: vec![line] }
}

/// A folder of Docker's with one container: `config.v2.json` and a log that is written to.
pub fn container(sources: &Folder, number: usize, name: &str) -> PathBuf {
    let id = format!("{number:064x}");
    let folder = sources.0.join(&id);
    std::fs::create_dir_all(&folder).expect("the temporary folder can be written");
    let config = format!(
        r#"{{"ID":"{id}","Name":"/{name}","LogPath":"/var/lib/docker/containers/{id}/{id}-json.log","Config":{{"Image":"shop:1","Labels":{{}}}}}}"#
    );
    std::fs::write(folder.join("config.v2.json"), config).expect("a file");
    folder.join(format!("{id}-json.log"))
}

/// A line as Docker writes it.
pub fn docker_line(text: &str, stderr: bool, at: &str) -> String {
    let log = serde_json::to_string(&format!("{text}\n")).expect("a text");
    let stream = if stderr { "stderr" } else { "stdout" };
    format!("{{\"log\":{log},\"stream\":\"{stream}\",\"time\":\"{at}\"}}\n")
}
