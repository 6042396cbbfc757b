//! `make bench`: durable error reports against two ceilings taken in the same run, an empty handler of the same server
//! and raw SQLite inserts of the same rows; then memory, and the latency of reading.

// A bench prints its figures, and has no public face.
#![allow(clippy::print_stdout, missing_docs, unreachable_pub)]

mod load;

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use load::{Client, Folder, Process, Round, Until, get, load, median, post};
use monlight::http;

const ROUNDS: usize = 3;
const ROUND: Until = Until::Time(Duration::from_secs(2));
const GROUPS: u64 = 100;
const QUERIES: usize = 200;
/// Asks this program to be the empty handler rather than the bench.
const EMPTY_HANDLER: &str = "--empty-handler";

fn main() {
    if std::env::args().any(|argument| argument == EMPTY_HANDLER) {
        return empty_handler();
    }
    let tracker = tracker();
    let mut command = Command::new(std::env::current_exe().expect("this program's path"));
    command.arg(EMPTY_HANDLER);
    let empty = Process::start(command, Folder::new("empty"));

    println!("error-tracker, SYNCHRONOUS=FULL, reports of 2 KB, median of {ROUNDS} rounds\n");
    println!(
        "{:<34} {:>10} {:>9} {:>9} {:>9} {:>12} {:>12}",
        "", "requests/s", "CPU us", "p50 ms", "p99 ms", "per CPU-s", "of ceiling"
    );
    for connections in [1, 8, 64] {
        let (mut repeats, mut news, mut nothing, mut raw) = (vec![], vec![], vec![], vec![]);
        // In turn, so that a slow moment of the machine falls on all of them.
        for _ in 0..ROUNDS {
            nothing.push(load(&empty, connections, ROUND, |n| post("/api/errors", &report(n % GROUPS, n))));
            raw.push(raw_sqlite(connections));
            repeats.push(load(&tracker, connections, ROUND, |n| post("/api/errors", &report(n % GROUPS, n))));
            news.push(load(&tracker, connections, ROUND, |n| post("/api/errors", &report(1_000 + n, n))));
        }
        let (nothing, raw) = (median(&nothing), median(&raw));
        println!("{connections} connections");
        row("  ceiling: empty handler", nothing, None);
        row("  ceiling: raw SQLite, same rows", raw, None);
        row("  into 100 groups", median(&repeats), Some((nothing, raw)));
        row("  a new group each", median(&news), Some((nothing, raw)));
    }
    drop((tracker, empty));
    memory();
    reading();
}

fn row(what: &str, round: Round, ceilings: Option<(Round, Round)>) {
    let Round { per_second, cpu_us, p50_ms, p99_ms } = round;
    let of_ceiling = ceilings.map_or_else(String::new, |(nothing, raw)| {
        format!("{:.2} / {:.2}", nothing.cpu_us / cpu_us, raw.cpu_us / cpu_us)
    });
    let per_cpu = 1e6 / cpu_us;
    println!(
        "{what:<34} {per_second:>10.0} {cpu_us:>9.1} {p50_ms:>9.2} {p99_ms:>9.2} {per_cpu:>12.0} {of_ceiling:>12}"
    );
}

fn tracker() -> Process {
    let folder = Folder::new("tracker");
    let mut command = Command::new(env!("CARGO_BIN_EXE_error-tracker"));
    command.env_clear().current_dir(&folder.0);
    for (name, value) in [
        ("API_KEY", "k"),
        ("PORT", "0"),
        ("LISTEN_ADDR", "127.0.0.1"),
        ("RATE_LIMIT", "0"),
        ("MAX_GROUPS", "1000000"),
        ("MAX_BODY_SIZE", "262144"),
    ] {
        command.env(name, value);
    }
    Process::start(command, folder)
}

/// A report of about 2 KB; `group` decides where it belongs, `number` makes its context its own.
fn report(group: u64, number: u64) -> String {
    let frames =
        r#"  File \"/app/shop/views.py\", line 118, in dispatch\n    return handler(request, *args, **kwargs)\n"#
            .repeat(15);
    format!(
        r#"{{"project":"shop","exception_type":"ValueError","message":"no such product","environment":"prod","release":"1.4.2","traceback":"Traceback (most recent call last):\n{frames}  File \"/app/shop/cart.py\", line {group}, in add\n    raise ValueError(product)\nValueError: no such product","request_url":"https://shop.example/cart/{number}","request_method":"POST","request_headers":{{"accept":"text/html","user-agent":"Mozilla/5.0"}},"user_id":"u-{number}","extra":{{"cart":{number}}}}}"#
    )
}

/// The same rows as bare inserts: one table, a prepared statement, as many rows a transaction as there are clients.
fn raw_sqlite(rows_per_commit: usize) -> Round {
    let folder = Folder::new("raw");
    let database = rusqlite::Connection::open(folder.0.join("raw.db")).expect("a database");
    database
        .execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; CREATE TABLE rows (id INTEGER PRIMARY KEY, body TEXT)")
        .expect("a table");
    let (began, cpu, mut rows, mut took) = (Instant::now(), own_cpu(), 0u64, Vec::new());
    while began.elapsed() < Duration::from_secs(1) {
        let commit = Instant::now();
        database.execute_batch("BEGIN").expect("a transaction");
        for _ in 0..rows_per_commit {
            let mut insert = database.prepare_cached("INSERT INTO rows (body) VALUES (?1)").expect("a statement");
            insert.execute([report(rows % GROUPS, rows)]).expect("a row");
            rows += 1;
        }
        database.execute_batch("COMMIT").expect("a commit");
        took.push(commit.elapsed());
    }
    took.sort_unstable();
    let quantile = |q: f64| took[((took.len() - 1) as f64 * q) as usize].as_secs_f64() * 1e3;
    Round {
        per_second: rows as f64 / began.elapsed().as_secs_f64(),
        cpu_us: (own_cpu() - cpu).as_secs_f64() * 1e6 / rows as f64,
        p50_ms: quantile(0.5),
        p99_ms: quantile(0.99),
    }
}

/// CPU time of this thread.
fn own_cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(text.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(0))
}

fn memory() {
    println!("\nmemory, MB                              now      peak");
    let tracker = tracker();
    let show = |what: &str| {
        let (now, peak) = tracker.memory_mb();
        println!("{what:<34} {now:>8.1} {peak:>9.1}");
    };
    show("  idle");
    load(&tracker, 64, Until::Requests(100_000), |n| post("/api/errors", &report(n % GROUPS, n)));
    show("  after 100,000 reports of 2 KB");
    let large = "x".repeat(198_000);
    let make = move |n: u64| {
        post("/api/errors", &report(n % GROUPS, n).replace("no such product\",\"env", &format!("{large}\",\"env")))
    };
    load(&tracker, 8, Until::Requests(500), make);
    show("  after 500 reports of 200 KB");
}

fn reading() {
    let tracker = tracker();
    // Each group has a word of its own, as names and ids in messages are.
    let make = |n: u64| report(n, n).replace("such product\",", &format!("such product sku{}x\",", n % 10_000));
    load(&tracker, 64, Until::Requests(10_000), move |n| post("/api/errors", &make(n)));
    println!("\nreading, 10,000 groups, median ms of {QUERIES}");
    let mut client = Client::connect(tracker.address);
    for (what, path) in [
        ("  list", "/api/errors"),
        ("  list, 200 rows", "/api/errors?limit=200"),
        ("  list by project and environment", "/api/errors?project=shop&environment=prod"),
        ("  search: a word in one group", "/api/errors?search=sku4711x"),
        ("  search: a word in every group", "/api/errors?search=product"),
        ("  search: two words", "/api/errors?search=cart+dispatch"),
        ("  search: a word in none, substring", "/api/errors?search=oduct)"),
        ("  detail", "/api/errors/7"),
        ("  projects", "/api/projects"),
        ("  health", "/health"),
    ] {
        let request = get(path);
        let mut took: Vec<Duration> = (0..QUERIES)
            .map(|_| {
                let sent = Instant::now();
                assert_eq!(client.send(&request), 200, "{path}");
                sent.elapsed()
            })
            .collect();
        took.sort_unstable();
        println!("{what:<38} {:>8.2}", took[took.len() / 2].as_secs_f64() * 1e3);
    }
}

/// The same door, gate and pool, with a handler that answers at once.
fn empty_handler() {
    struct Nothing;
    let _ = simplelog::WriteLogger::init(log::LevelFilter::Info, simplelog::Config::default(), std::io::stderr());
    let rule = http::Rule {
        method: http::Method::Post,
        path: "/api/errors",
        access: http::Access::Key(http::Scope::Ingest),
        body: http::Body::Memory,
    };
    let answer: http::Deferred<Nothing> =
        Box::new(|_, _, responder| responder.send(http::Response::text(201, "created".into())));
    let routes = vec![http::Route::deferred(rule, answer)];
    let bound = http::Bound::take(([127, 0, 0, 1], 0).into()).expect("a free port");
    let settings = http::Settings {
        caps: http::Caps { connections: 512, connections_per_address: 512 },
        gate: http::GateSettings {
            keys: http::Keys::new(monlight::env::Secret::new("k"), &[]).expect("one key"),
            proxies: http::Proxies::default(),
            rate_per_address: 0,
            rate_per_key: 0,
            body_bytes_max: 1 << 20,
        },
        spool_dir: std::env::temp_dir(),
    };
    let server = http::Server::start(bound, settings, routes, |_| Arc::new(Nothing)).expect("it starts");
    log::info!("listening on {}", server.address());
    loop {
        std::thread::park();
    }
}
