//! `make bench`: durable error reports against two ceilings taken in the same run, an empty handler of the same server
//! and raw SQLite inserts of the same rows; then memory, and the latency of reading.

// A bench prints its figures, and has no public face.
#![allow(clippy::print_stdout, missing_docs, unreachable_pub)]

mod data;
mod figures;
mod load;

use std::time::Duration;

use data::report;
use figures::Figures;
use load::{
    Ceiling, Folder, Latencies, Process, Until, is_empty_handler, load, median, post, raw_sqlite, round_head, round_row,
};

const ROUNDS: usize = 5;
const ROUND: Until = Until::Time(Duration::from_millis(1_500));
const RAW_ROUND: Duration = Duration::from_millis(700);
const GROUPS: u64 = 100;

fn main() {
    if is_empty_handler("/api/errors") {
        return;
    }
    let mut figures = Figures::new("error_tracker", "Error tracker", 10);
    figures.note(format!(
        "`SYNCHRONOUS=FULL`: every report is flushed to the disk before it is acknowledged. Reports of 2 KB, median of \
         {ROUNDS} rounds."
    ));
    figures.measure(&[("reports", reports), ("memory", memory), ("reading", reading)]);
}

fn reports(figures: &mut Figures) {
    let (tracker, empty) = (tracker(), Process::empty_handler());
    for connections in [1, 8, 64] {
        let (mut repeats, mut news, mut nothing, mut raw) = (vec![], vec![], vec![], vec![]);
        // In turn, so that a slow moment of the machine falls on all of them.
        for _ in 0..ROUNDS {
            nothing.push(load(&empty, connections, ROUND, |n| post("/api/errors", &report(n % GROUPS, n))));
            raw.push(raw_rows(connections));
            repeats.push(load(&tracker, connections, ROUND, |n| post("/api/errors", &report(n % GROUPS, n))));
            news.push(load(&tracker, connections, ROUND, |n| post("/api/errors", &report(1_000 + n, n))));
        }
        let ceilings = [
            Ceiling { name: "an empty handler", rounds: &nothing },
            Ceiling { name: "raw SQLite, same rows", rounds: &raw },
        ];
        round_head(figures, &load::over(connections), "reports", &ceilings);
        round_row(figures, "into 100 groups", &repeats, &ceilings);
        round_row(figures, "a new group each", &news, &ceilings);
        if connections == 64 {
            let (repeat, nothing) = (median(&repeats), median(&nothing));
            let figure = format!(
                "{:.0} a second, {:.0} a CPU-second, {:.2} of an empty handler",
                repeat.per_second,
                1e6 / repeat.cpu_us,
                nothing.cpu_us / repeat.cpu_us
            );
            figures.summary("Error reports of 2 KB, flushed, 64 connections", figure);
        }
    }
}

fn tracker() -> Process {
    let settings = [("MAX_GROUPS", "1000000"), ("MAX_BODY_SIZE", "262144")];
    Process::service(env!("CARGO_BIN_EXE_error-tracker"), &Folder::new("tracker"), &settings)
}

/// The same rows as bare inserts, as many a transaction as there are clients.
fn raw_rows(rows_per_commit: usize) -> load::Round {
    let schema = "PRAGMA synchronous = FULL; CREATE TABLE rows (id INTEGER PRIMARY KEY, body TEXT)";
    let insert = "INSERT INTO rows (body) VALUES (?1)";
    raw_sqlite(RAW_ROUND, rows_per_commit, schema, insert, |row| [report(row % GROUPS, row)])
}

fn memory(figures: &mut Figures) {
    Process::memory_head(figures);
    let tracker = tracker();
    tracker.memory_row(figures, "idle");
    load(&tracker, 64, Until::Requests(100_000), |n| post("/api/errors", &report(n % GROUPS, n)));
    tracker.memory_row(figures, "after 100,000 reports of 2 KB");
    let large = "x".repeat(198_000);
    let make = move |n: u64| {
        post("/api/errors", &report(n % GROUPS, n).replace("no such product\",\"env", &format!("{large}\",\"env")))
    };
    load(&tracker, 8, Until::Requests(500), make);
    tracker.memory_row(figures, "after 500 reports of 200 KB");
}

fn reading(figures: &mut Figures) {
    let tracker = tracker();
    // Each group has a word of its own, as names and ids in messages are.
    let make = |n: u64| report(n, n).replace("such product\",", &format!("such product sku{}x\",", n % 10_000));
    load(&tracker, 64, Until::Requests(10_000), move |n| post("/api/errors", &make(n)));
    let mut latencies = Latencies::of(figures, &tracker, "reading, 10,000 groups");
    for (what, path) in [
        ("list", "/api/errors"),
        ("list, 200 rows", "/api/errors?limit=200"),
        ("list by project and environment", "/api/errors?project=shop&environment=prod"),
        ("search: a word in one group", "/api/errors?search=sku4711x"),
        ("search: a word in every group", "/api/errors?search=product"),
        ("search: two words", "/api/errors?search=cart+dispatch"),
        ("search: a word in none, substring", "/api/errors?search=oduct)"),
        ("detail", "/api/errors/7"),
        ("projects", "/api/projects"),
        ("health", "/health"),
    ] {
        latencies.row(what, |_| path.to_owned());
    }
}
