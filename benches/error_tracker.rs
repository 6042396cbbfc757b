//! Benchmark of the error tracker, run by `make bench`: durable error reports, memory, and query latency.
//!
//! Ingestion is compared with two ceilings of the same run: an empty handler of the same server, and raw SQLite inserts
//! of the same rows.

// A bench prints its results and is not a public API.
#![allow(clippy::print_stdout, missing_docs, unreachable_pub)]

mod data;
mod figures;
mod load;

use std::time::Duration;

use data::error_report;
use figures::Figures;
use load::{
    Ceiling, LatencyTable, Measurement, ServerProcess, StopAfter, TempDir, add_rate_row, begin_rate_table,
    connections_title, measure_raw_inserts, median_measurement, post, run_empty_handler_if_requested, run_load,
};

const ROUNDS: usize = 5;
const ROUND: StopAfter = StopAfter::Time(Duration::from_millis(1_500));
const RAW_INSERTS_ROUND: Duration = Duration::from_millis(700);
const GROUPS: u64 = 100;

fn main() {
    if run_empty_handler_if_requested("/api/errors") {
        return;
    }
    let mut figures = Figures::new("error_tracker", "Error tracker", 10);
    figures.add_note(format!(
        "`SYNCHRONOUS=FULL`: every report is flushed to disk before it is acknowledged. Reports of 2 KB; median of \
         {ROUNDS} rounds."
    ));
    figures.run(&[("reports", measure_reports), ("memory", measure_memory), ("reading", measure_queries)]);
}

fn measure_reports(figures: &mut Figures) {
    let (tracker, empty_handler) = (start_tracker(), ServerProcess::spawn_empty_handler());
    for connections in [1, 8, 64] {
        let (mut known_groups, mut new_groups, mut empty, mut raw) = (vec![], vec![], vec![], vec![]);
        // The measurements alternate, so that a slow phase of the machine affects all of them.
        for _ in 0..ROUNDS {
            let known_group = |n| post("/api/errors", &error_report(n % GROUPS, n));
            let new_group = |n| post("/api/errors", &error_report(1_000 + n, n));
            empty.push(run_load(&empty_handler, connections, ROUND, known_group));
            raw.push(measure_raw_reports(connections));
            known_groups.push(run_load(&tracker, connections, ROUND, known_group));
            new_groups.push(run_load(&tracker, connections, ROUND, new_group));
        }
        let ceilings = [
            Ceiling { name: "an empty handler", rounds: &empty },
            Ceiling { name: "raw SQLite, same rows", rounds: &raw },
        ];
        begin_rate_table(figures, &connections_title(connections), "reports", &ceilings);
        add_rate_row(figures, "into 100 groups", &known_groups, &ceilings);
        add_rate_row(figures, "into a new group each", &new_groups, &ceilings);
        if connections == 64 {
            let (known_groups, empty) = (median_measurement(&known_groups), median_measurement(&empty));
            let result = format!(
                "{:.0}/s, {:.0} per CPU-second, {:.2} of an empty handler",
                known_groups.per_second,
                1e6 / known_groups.cpu_us,
                empty.cpu_us / known_groups.cpu_us
            );
            figures.add_summary("Error reports of 2 KB, flushed to disk, 64 connections", result);
        }
    }
}

fn start_tracker() -> ServerProcess {
    let settings = [("MAX_GROUPS", "1000000"), ("MAX_BODY_SIZE", "262144")];
    ServerProcess::spawn_service(env!("CARGO_BIN_EXE_error-tracker"), &TempDir::new("tracker"), &settings)
}

/// Measures the raw inserts of the same rows, with one row per client in each transaction.
fn measure_raw_reports(rows_per_commit: usize) -> Measurement {
    let schema = "PRAGMA synchronous = FULL; CREATE TABLE rows (id INTEGER PRIMARY KEY, body TEXT)";
    let insert = "INSERT INTO rows (body) VALUES (?1)";
    measure_raw_inserts(RAW_INSERTS_ROUND, rows_per_commit, schema, insert, |row| [error_report(row % GROUPS, row)])
}

fn measure_memory(figures: &mut Figures) {
    ServerProcess::memory_table(figures);
    let tracker = start_tracker();
    tracker.memory_row(figures, "idle");
    run_load(&tracker, 64, StopAfter::Requests(100_000), |n| post("/api/errors", &error_report(n % GROUPS, n)));
    tracker.memory_row(figures, "after 100,000 reports of 2 KB");
    let padding = "x".repeat(198_000);
    let large_report = move |n: u64| {
        let report = error_report(n % GROUPS, n);
        post("/api/errors", &report.replace("no such product\",\"env", &format!("{padding}\",\"env")))
    };
    run_load(&tracker, 8, StopAfter::Requests(500), large_report);
    tracker.memory_row(figures, "after 500 reports of 200 KB");
}

fn measure_queries(figures: &mut Figures) {
    let tracker = start_tracker();
    // Each group has a unique word, like the names and ids in real messages.
    let report = |n: u64| error_report(n, n).replace("such product\",", &format!("such product sku{}x\",", n % 10_000));
    run_load(&tracker, 64, StopAfter::Requests(10_000), move |n| post("/api/errors", &report(n)));
    let mut latencies = LatencyTable::begin(figures, &tracker, "queries, 10,000 groups");
    for (label, path) in [
        ("list", "/api/errors"),
        ("list, 200 rows", "/api/errors?limit=200"),
        ("list by project and environment", "/api/errors?project=shop&environment=prod"),
        ("search: word in one group", "/api/errors?search=sku4711x"),
        ("search: word in every group", "/api/errors?search=product"),
        ("search: two words", "/api/errors?search=cart+dispatch"),
        ("search: substring without a match", "/api/errors?search=oduct)"),
        ("detail", "/api/errors/7"),
        ("projects", "/api/projects"),
        ("health", "/health"),
    ] {
        latencies.measure(label, |_| path.to_owned());
    }
}
