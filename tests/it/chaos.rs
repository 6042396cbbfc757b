//! Whatever goes wrong, what was acknowledged is there, once; `/health` said how it was meanwhile, and nothing needed a
//! hand. All four services are under load in 30 MB each.

mod faults;
mod load;
mod watch;

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::figures::{Figures, round_to};
use crate::harness::{Setup, TempDir, root_or_skip, skip};
use crate::peers;
use crate::rng::Rng;
use crate::stack::{ConfigureService, MemoryCgroup, RELAY, SERVICES, Stack, VIEWER};
use faults::Disk;
use load::{Kind, Load};
use watch::Watch;

/// Between two of a kind, so that each finds the services at work.
const PAUSE: Duration = Duration::from_millis(700);
/// How long what was acknowledged may be on its way: through the relay's outbox, or out of a log.
const ARRIVAL: Duration = Duration::from_secs(60);

/// Something that goes wrong.
struct Fault {
    name: &'static str,
    /// How often.
    times: u32,
    inject: fn(&mut Run),
    /// Settings of all four.
    settings: &'static [(&'static str, &'static str)],
    /// Whether the services have a clock that can be set.
    clock: bool,
}

const FAULTS: [Fault; 9] = [
    Fault { name: "one of four killed (kill -9)", times: 16, inject: faults::killed, settings: &[], clock: false },
    Fault { name: "all four killed at once", times: 4, inject: faults::all_killed, settings: &[], clock: false },
    Fault { name: "disk full and back", times: 3, inject: faults::disk_full, settings: &[], clock: false },
    Fault { name: "every flush fails (EIO)", times: 2, inject: faults::flush_fails, settings: &[], clock: false },
    Fault {
        name: "file system gives up, then reboot",
        times: 2,
        inject: faults::read_only,
        // What was not flushed is gone: NORMAL promises no more.
        settings: &[("SYNCHRONOUS", "FULL")],
        clock: false,
    },
    Fault { name: "upstream gone and back", times: 2, inject: faults::upstream_gone, settings: &[], clock: false },
    Fault { name: "log folder gone and back", times: 2, inject: faults::logs_gone, settings: &[], clock: false },
    Fault {
        name: "clock +2 h, -2 h, right",
        times: 2,
        inject: faults::clock_set,
        settings: &[("RETENTION_RAW", "168")],
        clock: true,
    },
    Fault { name: "largest of everything at once", times: 1, inject: faults::pressed, settings: &[], clock: false },
];

/// All that one fault is tried with.
struct Run {
    stack: Arc<Stack>,
    disk: Disk,
    /// Where the services' clock is set.
    clock: Arc<TempDir>,
    rng: Rng,
}

impl Run {
    fn new(fault: &Fault) -> Self {
        let (disk, clock) = (Disk::new(), Arc::new(TempDir::new()));
        faults::set_clock(clock.path(), "+0");
        let (settings, offset) = (fault.settings, clock.path().join("offset"));
        let library = fault.clock.then(|| peers::find_library("faketime/libfaketimeMT.so.1")).flatten();
        let change: ConfigureService = Box::new(move |service: usize, setup: Setup| {
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
            skip("no memory cgroup can be made: the services have no bound here");
        }
        let stack = Arc::new(Stack::start(&disk.folder, cgroups, change));
        Self { stack, disk, clock, rng: Rng(u64::from(std::process::id())) }
    }

    /// Waits until a service says that it is not well, and why.
    #[track_caller]
    fn says_unwell(&self, service: usize, why: &str) {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let said = self.stack.health(service);
            if said.as_ref().is_some_and(|(status, body)| *status == 503 && body["reason"] == why) {
                return;
            }
            let name = SERVICES[service];
            assert!(Instant::now() < deadline, "{name} should say {why:?}: {said:?}\n{:#?}", self.stack.log(service));
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until nothing is on its way any more, and tells how often each acknowledged item is stored: so many were
    /// acknowledged, found, not found, and found more than once.
    fn verdict(&self, load: &Load) -> [usize; 4] {
        let deadline = Instant::now() + ARRIVAL;
        let mut all = [0; 4];
        for kind in Kind::ALL {
            let acknowledged = load.ledger.acknowledged(kind);
            assert!(!acknowledged.is_empty(), "no {kind:?} was acknowledged");
            let (mut stored, mut lost);
            loop {
                stored = kind.stored(&self.stack);
                lost = acknowledged.iter().filter(|number| !stored.contains_key(number)).count();
                if lost == 0 || Instant::now() > deadline {
                    break;
                }
                std::thread::sleep(Duration::from_millis(100));
            }
            let doubled = stored.values().filter(|times| **times > 1).count();
            if lost + doubled > 0 {
                let missing: Vec<_> =
                    acknowledged.iter().filter(|number| !stored.contains_key(number)).take(5).collect();
                let double: Vec<_> = stored.iter().filter(|(_, times)| **times > 1).take(5).collect();
                eprintln!("{kind:?}: {lost} lost, such as {missing:?}; {doubled} doubled, such as {double:?}");
                eprintln!("{:#?}", self.stack.log(kind.service()));
            }
            let counts = [acknowledged.len(), acknowledged.len() - lost, lost, doubled];
            all = std::array::from_fn(|at| all[at] + counts[at]);
        }
        all
    }
}

/// Tries one fault; answers its row of the table, and what was wrong.
fn try_out(fault: &Fault) -> (Vec<Value>, Vec<String>) {
    let mut run = Run::new(fault);
    let (mut load, mut watch) = (Load::start(&run.stack), Watch::start(&run.stack));
    for _ in 0..fault.times {
        std::thread::sleep(PAUSE);
        (fault.inject)(&mut run);
        run.stack.wait_until_healthy();
    }
    std::thread::sleep(PAUSE);
    load.stop();
    let [acknowledged, found, lost, doubled] = run.verdict(&load);
    watch.stop();
    let mut wrong = Vec::new();
    let mut complain = |wrongly: bool, what: String| {
        if wrongly {
            wrong.push(format!("{}: {what}", fault.name));
        }
    };
    complain(lost > 0, format!("{lost} of {acknowledged} are lost"));
    complain(doubled > 0, format!("{doubled} are doubled"));
    for (service, name) in SERVICES.iter().enumerate() {
        if let Some(unsaid) = watch.unsaid(service, &load.ledger.tries(service)) {
            complain(true, format!("{name} refused everything for {unsaid:.1?} and said that it was well"));
        }
    }
    let killed = run.stack.oom_kills();
    complain(killed > 0, format!("{killed} killed for want of memory"));
    let away = (0..SERVICES.len()).map(|service| watch.away(service)).fold(0.0, f64::max) / f64::from(fault.times);
    let unwell: usize = (0..SERVICES.len()).map(|service| watch.said_unwell(service)).sum();
    let row = vec![
        json!(fault.name),
        json!(fault.times),
        json!(acknowledged),
        json!(found),
        json!(lost),
        json!(doubled),
        round_to(away, 2),
        json!(unwell),
    ];
    (row, wrong)
}

#[test]
fn what_is_acknowledged_is_there_once_whatever_goes_wrong() {
    if !root_or_skip("mounting file systems") || peers::find_program("strace").is_none() {
        return;
    }
    if peers::find_library("faketime/libfaketimeMT.so.1").is_none() {
        return;
    }
    let only = std::env::var("MONLIGHT_CHAOS").unwrap_or_default();
    let (mut rows, mut wrong) = (Vec::new(), Vec::new());
    for fault in FAULTS.iter().filter(|fault| fault.name.contains(&only)) {
        let (row, complaints) = try_out(fault);
        eprintln!("chaos: {row:?}");
        rows.push(row);
        wrong.extend(complaints);
    }
    let mut figures = Figures::new("chaos", "Through faults", "make chaos", 55);
    figures.notes.push(
        "All four services in memory cgroups of 30 MB on an ext4 of their own, under load of reports, points, pages' \
         reports and points through the relay, and log lines; whoever posts tries again with the same key until it is \
         acknowledged. Seconds away: for the service that was away longest, from the first /health that was not 200 to \
         the next that was, for each injection."
            .to_owned(),
    );
    let sum = |at: usize| rows.iter().map(|row| row[at].as_u64().unwrap()).sum::<u64>();
    figures.add_summary(
        "Through faults under load",
        format!("{} acknowledged, {} lost, {} doubled, {} faults", sum(2), sum(4), sum(5), sum(1)),
    );
    let columns = ["fault", "times", "acknowledged", "found", "lost", "doubled", "s away, each", "/health 503"];
    figures.add_table("Faults under load", &columns, &rows);
    figures.save();
    assert!(wrong.is_empty(), "{wrong:#?}");
}
