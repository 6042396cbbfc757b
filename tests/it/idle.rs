//! Idle services rarely wake up, because every wake-up costs CPU time on a small machine.

use std::time::Duration;

use crate::support::harness::{Service, Setup};

const MEASURED: Duration = Duration::from_secs(4);
/// Maximum wake-ups of a service. Polling the logs every two seconds and the rollups every second stays far below it;
/// polling five times per second exceeds it.
const WAKEUPS_MAX: u64 = 12;

#[test]
fn idle_services_rarely_wake_up() {
    let errors = Setup::error_tracker().start();
    let metrics = Setup::metrics_collector().start();
    let relay = Setup::browser_relay(errors.address, metrics.address).start();
    let logs = Setup::log_viewer().env("POLL_INTERVAL", 2).start();
    let services = [("error tracker", errors), ("metrics collector", metrics), ("relay", relay), ("viewer", logs)];
    // Lets the work that follows the start finish before the measurement.
    std::thread::sleep(MEASURED / 4);
    let before = services.each_ref().map(|(_, service)| count_wakeups(service));
    std::thread::sleep(MEASURED);
    for ((name, service), before) in services.iter().zip(before) {
        let wakeups = count_wakeups(service) - before;
        assert!(wakeups <= WAKEUPS_MAX, "the {name} woke up {wakeups} times in {MEASURED:?}");
    }
}

/// Returns the number of voluntary context switches of all threads of a service.
fn count_wakeups(service: &Service) -> u64 {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", service.pid())).unwrap();
    let thread_wakeups = |task: std::fs::DirEntry| {
        let status = std::fs::read_to_string(task.path().join("status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        line.map_or(0, |number| number.trim().parse().unwrap())
    };
    tasks.flatten().map(thread_wakeups).sum()
}
