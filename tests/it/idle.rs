//! What nobody asks anything of sleeps: a small machine pays for every time it does not.

use std::time::Duration;

use crate::harness::{Service, Setup};

const WATCHED: Duration = Duration::from_secs(4);
/// A look at the logs every two seconds and one for rollups every second, each with what it wakes, are far below it;
/// something that looks five times a second is not.
const WAKES_MAX: u64 = 12;

#[test]
fn services_that_nobody_asks_sleep() {
    let errors = Setup::error_tracker().start();
    let metrics = Setup::metrics_collector().start();
    let relay = Setup::browser_relay(errors.address, metrics.address).start();
    let logs = Setup::log_viewer().env("POLL_INTERVAL", 2).start();
    let services = [("error tracker", errors), ("metrics collector", metrics), ("relay", relay), ("viewer", logs)];
    // What starting leaves to be done is over.
    std::thread::sleep(WATCHED / 4);
    let before = services.each_ref().map(|(_, service)| wakes(service));
    std::thread::sleep(WATCHED);
    for ((name, service), before) in services.iter().zip(before) {
        let wakes = wakes(service) - before;
        assert!(wakes <= WAKES_MAX, "the {name} woke {wakes} times in {WATCHED:?}");
    }
}

/// How often its threads have waited for something so far.
fn wakes(service: &Service) -> u64 {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", service.pid())).unwrap();
    let of_one = |task: std::fs::DirEntry| {
        let status = std::fs::read_to_string(task.path().join("status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        line.map_or(0, |number| number.trim().parse().unwrap())
    };
    tasks.flatten().map(of_one).sum()
}
