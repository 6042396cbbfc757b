//! Fault injection: all four services run under load with 30 MB of memory each. After every fault, they recover without
//! intervention, each acknowledged item is stored exactly once, and `/health` has reported the outage.

mod faults;
mod load;
mod watch;

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::figures::{Figures, round_to};
use crate::support::harness::{SERVICES, Setup, TempDir, root_or_skip, skip};
use crate::support::peers;
use crate::support::rng::Rng;
use crate::support::stack::{ConfigureService, MemoryCgroup, RELAY, Stack, VIEWER};
use faults::LoopDisk;
use load::{Kind, Load};
use watch::HealthMonitor;

/// Pause between two injections of a fault, so that each meets services under load.
const PAUSE: Duration = Duration::from_millis(700);
/// Deadline for acknowledged items to be stored: they may have to pass the relay's outbox or be read from a log.
const STORAGE_TIMEOUT: Duration = Duration::from_secs(60);

/// Fault to inject while the services run under load.
struct Fault {
    name: &'static str,
    /// Number of injections.
    injections: u32,
    inject: fn(&mut FaultRun),
    /// Additional settings of all four services.
    settings: &'static [(&'static str, &'static str)],
    /// Whether the services run with a clock that the test can change.
    adjustable_clock: bool,
}

const FAULTS: [Fault; 9] = [
    Fault {
        name: "SIGKILL, one of the four services",
        injections: 16,
        inject: faults::kill_one,
        settings: &[],
        adjustable_clock: false,
    },
    Fault {
        name: "SIGKILL, all four services at once",
        injections: 4,
        inject: faults::kill_all,
        settings: &[],
        adjustable_clock: false,
    },
    Fault {
        name: "disk full, then space freed",
        injections: 3,
        inject: faults::fill_disk,
        settings: &[],
        adjustable_clock: false,
    },
    Fault {
        name: "every fsync fails (EIO)",
        injections: 2,
        inject: faults::fail_flushes,
        settings: &[],
        adjustable_clock: false,
    },
    Fault {
        name: "file system aborted, then reboot",
        injections: 2,
        inject: faults::abort_file_system,
        // With NORMAL, commits that were not flushed may be lost here.
        settings: &[("SYNCHRONOUS", "FULL")],
        adjustable_clock: false,
    },
    Fault {
        name: "upstreams stopped and restarted",
        injections: 2,
        inject: faults::stop_upstreams,
        settings: &[],
        adjustable_clock: false,
    },
    Fault {
        name: "log folder removed and restored",
        injections: 2,
        inject: faults::remove_log_folder,
        settings: &[],
        adjustable_clock: false,
    },
    Fault {
        name: "clock set to +2 h, -2 h, correct",
        injections: 2,
        inject: faults::change_clock,
        settings: &[("RETENTION_RAW", "168")],
        adjustable_clock: true,
    },
    Fault {
        name: "largest requests of every kind at once",
        injections: 1,
        inject: faults::send_largest_requests,
        settings: &[],
        adjustable_clock: false,
    },
];

/// Services and environment for the test of one fault.
struct FaultRun {
    stack: Arc<Stack>,
    disk: LoopDisk,
    /// Folder of the file with the offset of the services' clock.
    clock: Arc<TempDir>,
    rng: Rng,
}

impl FaultRun {
    fn new(fault: &Fault) -> Self {
        let (disk, clock) = (LoopDisk::new(), Arc::new(TempDir::new()));
        faults::set_clock(clock.path(), "+0");
        let (settings, offset) = (fault.settings, clock.path().join("offset"));
        let library = fault.adjustable_clock.then(|| peers::find_library("faketime/libfaketimeMT.so.1")).flatten();
        let configure: ConfigureService = Box::new(move |service: usize, setup: Setup| {
            let setup = match service {
                VIEWER => setup.env("MAX_ENTRIES", 1_000_000).env("TAIL_BUFFER", 1_000_000_000),
                RELAY => setup.env("OUTBOX_MAX_MB", 32),
                _ => setup.env("MAX_GROUPS", 1_000_000),
            };
            let setup = settings.iter().fold(setup, |setup, (name, value)| setup.env(name, value));
            match &library {
                Some(library) => setup
                    .with_preload(library)
                    .env("FAKETIME_TIMESTAMP_FILE", offset.display())
                    .env("FAKETIME_NO_CACHE", 1)
                    .env("FAKETIME_DONT_FAKE_MONOTONIC", 1),
                None => setup,
            }
        });
        let cgroups = MemoryCgroup::for_all_services();
        if cgroups.is_none() {
            skip("memory cgroups cannot be created; the services run without a memory limit");
        }
        let stack = Arc::new(Stack::start(&disk.folder, cgroups, configure));
        Self { stack, disk, clock, rng: Rng(u64::from(std::process::id())) }
    }

    /// Waits until `/health` of a service responds with 503 and `reason`.
    #[track_caller]
    fn wait_for_unhealthy(&self, service: usize, reason: &str) {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let health = self.stack.health(service);
            if health.as_ref().is_some_and(|(status, body)| *status == 503 && body["reason"] == reason) {
                return;
            }
            let name = SERVICES[service];
            assert!(
                Instant::now() < deadline,
                "{name} should report {reason:?}: {health:?}\n{:#?}",
                self.stack.log(service)
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until all acknowledged items are stored or the timeout expires. Returns the numbers of acknowledged, stored,
    /// lost and duplicated items.
    fn count_items(&self, load: &Load) -> [usize; 4] {
        let deadline = Instant::now() + STORAGE_TIMEOUT;
        let mut totals = [0; 4];
        for kind in Kind::ALL {
            let acknowledged = load.ledger.acknowledged(kind);
            assert!(!acknowledged.is_empty(), "no {kind:?} was acknowledged");
            let (mut stored, mut lost);
            loop {
                stored = kind.stored_counts(&self.stack);
                lost = acknowledged.iter().filter(|number| !stored.contains_key(number)).count();
                if lost == 0 || Instant::now() > deadline {
                    break;
                }
                std::thread::sleep(Duration::from_millis(100));
            }
            let duplicated = stored.values().filter(|times| **times > 1).count();
            if lost + duplicated > 0 {
                let lost_examples: Vec<_> =
                    acknowledged.iter().filter(|number| !stored.contains_key(number)).take(5).collect();
                let duplicate_examples: Vec<_> = stored.iter().filter(|(_, times)| **times > 1).take(5).collect();
                eprintln!(
                    "{kind:?}: {lost} lost, for example {lost_examples:?}; {duplicated} duplicated, for example \
                     {duplicate_examples:?}"
                );
                eprintln!("{:#?}", self.stack.log(kind.service()));
            }
            let counts = [acknowledged.len(), acknowledged.len() - lost, lost, duplicated];
            totals = std::array::from_fn(|index| totals[index] + counts[index]);
        }
        totals
    }
}

/// Injects one fault `injections` times under load. Returns its row of the table, and descriptions of what went wrong.
fn test_fault(fault: &Fault, injections: u32) -> (Vec<Value>, Vec<String>) {
    let mut run = FaultRun::new(fault);
    let (mut load, mut monitor) = (Load::start(&run.stack), HealthMonitor::start(&run.stack));
    for _ in 0..injections {
        std::thread::sleep(PAUSE);
        (fault.inject)(&mut run);
        run.stack.wait_until_healthy();
    }
    std::thread::sleep(PAUSE);
    load.stop();
    let [acknowledged, stored, lost, duplicated] = run.count_items(&load);
    monitor.stop();
    let mut failures = Vec::new();
    let mut fail_if = |failed: bool, description: String| {
        if failed {
            failures.push(format!("{}: {description}", fault.name));
        }
    };
    fail_if(lost > 0, format!("{lost} of {acknowledged} acknowledged items are lost"));
    fail_if(duplicated > 0, format!("{duplicated} items are duplicated"));
    for (service, name) in SERVICES.iter().enumerate() {
        if let Some(outage) = monitor.unreported_outage(service, &load.ledger.attempts(service)) {
            fail_if(true, format!("{name} rejected every request for {outage:.1?} while /health returned 200"));
        }
    }
    let oom_kills = run.stack.oom_kills();
    fail_if(oom_kills > 0, format!("the OOM killer ended {oom_kills} services"));
    let downtime_s = (0..SERVICES.len()).map(|service| monitor.downtime_s(service)).fold(0.0, f64::max);
    let unhealthy_responses: usize = (0..SERVICES.len()).map(|service| monitor.unhealthy_responses(service)).sum();
    let row = vec![
        json!(fault.name),
        json!(injections),
        json!(acknowledged),
        json!(stored),
        json!(lost),
        json!(duplicated),
        round_to(downtime_s / f64::from(injections), 2),
        json!(unhealthy_responses),
    ];
    (row, failures)
}

#[test]
fn acknowledged_items_are_stored_exactly_once_after_every_fault() {
    if !root_or_skip("mounting a file system for fault injection") || peers::find_program("strace").is_none() {
        return;
    }
    if peers::find_library("faketime/libfaketimeMT.so.1").is_none() {
        return;
    }
    let only = std::env::var("MONLIGHT_CHAOS").unwrap_or_default();
    // The short form of this proof limits the injections of each fault.
    let injections_max = std::env::var("MONLIGHT_CHAOS_INJECTIONS").map_or(u32::MAX, |number| number.parse().unwrap());
    let (mut rows, mut failures) = (Vec::new(), Vec::new());
    for fault in FAULTS.iter().filter(|fault| fault.name.contains(&only)) {
        let (row, new_failures) = test_fault(fault, fault.injections.min(injections_max));
        eprintln!("chaos: {row:?}");
        rows.push(row);
        failures.extend(new_failures);
    }
    let mut figures = Figures::new("chaos", "Fault injection", "make chaos", 55);
    figures.notes.push(
        "All four services run in memory cgroups of 30 MB, with their databases on a separate ext4 file system, under a \
         load of error reports, metric points, browser reports and browser points through the relay, and log lines. \
         Clients repeat each request with the same idempotency key until it is acknowledged. Downtime is that of the \
         service that was down longest, from the first response of /health other than 200 to the next 200, per \
         injection."
            .to_owned(),
    );
    let sum = |column: usize| rows.iter().map(|row| row[column].as_u64().unwrap()).sum::<u64>();
    figures.add_summary(
        "Fault injection under load",
        format!("{} items acknowledged, {} lost, {} duplicated, {} injections", sum(2), sum(4), sum(5), sum(1)),
    );
    let columns =
        ["fault", "injections", "acknowledged", "stored", "lost", "duplicated", "downtime s", "/health 503 responses"];
    figures.add_table("faults under load", &columns, &rows);
    figures.save();
    assert!(failures.is_empty(), "{failures:#?}");
}
