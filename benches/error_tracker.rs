//! `make bench`: durable error reports against two ceilings taken in the same run, an empty handler of the same server
//! and raw SQLite inserts of the same rows; then memory, and the latency of reading.

// A bench prints its figures, and has no public face.
#![allow(clippy::print_stdout, missing_docs, unreachable_pub)]

mod load;

use std::time::Duration;

use load::{
    Folder, Process, Until, is_empty_handler, latency_head, latency_row, load, median, post, raw_sqlite, round_head,
    round_row,
};

const ROUNDS: usize = 3;
const ROUND: Until = Until::Time(Duration::from_secs(2));
const RAW_ROUND: Duration = Duration::from_secs(1);
const GROUPS: u64 = 100;

fn main() {
    if is_empty_handler("/api/errors") {
        return;
    }
    let (tracker, empty) = (tracker(), Process::empty_handler());
    println!("error-tracker, SYNCHRONOUS=FULL, reports of 2 KB, median of {ROUNDS} rounds\n");
    round_head("reports");
    for connections in [1, 8, 64] {
        let (mut repeats, mut news, mut nothing, mut raw) = (vec![], vec![], vec![], vec![]);
        // In turn, so that a slow moment of the machine falls on all of them.
        for _ in 0..ROUNDS {
            nothing.push(load(&empty, connections, ROUND, |n| post("/api/errors", &report(n % GROUPS, n))));
            raw.push(raw_rows(connections));
            repeats.push(load(&tracker, connections, ROUND, |n| post("/api/errors", &report(n % GROUPS, n))));
            news.push(load(&tracker, connections, ROUND, |n| post("/api/errors", &report(1_000 + n, n))));
        }
        let (nothing, raw) = (median(&nothing), median(&raw));
        println!("{connections} connections");
        round_row("  ceiling: empty handler", nothing, &[]);
        round_row("  ceiling: raw SQLite, same rows", raw, &[]);
        round_row("  into 100 groups", median(&repeats), &[nothing, raw]);
        round_row("  a new group each", median(&news), &[nothing, raw]);
    }
    drop((tracker, empty));
    memory();
    reading();
}

fn tracker() -> Process {
    let settings = [("MAX_GROUPS", "1000000"), ("MAX_BODY_SIZE", "262144")];
    Process::service(env!("CARGO_BIN_EXE_error-tracker"), &Folder::new("tracker"), &settings)
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

/// The same rows as bare inserts, as many a transaction as there are clients.
fn raw_rows(rows_per_commit: usize) -> load::Round {
    let schema = "PRAGMA synchronous = FULL; CREATE TABLE rows (id INTEGER PRIMARY KEY, body TEXT)";
    let insert = "INSERT INTO rows (body) VALUES (?1)";
    raw_sqlite(RAW_ROUND, rows_per_commit, schema, insert, |row| [report(row % GROUPS, row)])
}

fn memory() {
    Process::memory_head();
    let tracker = tracker();
    tracker.memory_row("  idle");
    load(&tracker, 64, Until::Requests(100_000), |n| post("/api/errors", &report(n % GROUPS, n)));
    tracker.memory_row("  after 100,000 reports of 2 KB");
    let large = "x".repeat(198_000);
    let make = move |n: u64| {
        post("/api/errors", &report(n % GROUPS, n).replace("no such product\",\"env", &format!("{large}\",\"env")))
    };
    load(&tracker, 8, Until::Requests(500), make);
    tracker.memory_row("  after 500 reports of 200 KB");
}

fn reading() {
    let tracker = tracker();
    // Each group has a word of its own, as names and ids in messages are.
    let make = |n: u64| report(n, n).replace("such product\",", &format!("such product sku{}x\",", n % 10_000));
    load(&tracker, 64, Until::Requests(10_000), move |n| post("/api/errors", &make(n)));
    latency_head("reading, 10,000 groups");
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
        latency_row(&tracker, what, |_| path.to_owned());
    }
}
