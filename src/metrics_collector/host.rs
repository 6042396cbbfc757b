//! The machine itself: processor, memory, disk, network, and the processes and databases of this house, as ordinary
//! series. What the system does not show is not there.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Collector;
use super::commands::AddOwn;
use super::points::{Kind, Point};
use crate::background::{Job, StopToken};
use crate::clock::Timestamp;

const MEASURE_EVERY: Duration = Duration::from_secs(10);
/// The programs of this house and their databases.
const SERVICES: [(&str, &str); 4] = [
    ("error-tracker", "errors.db"),
    ("log-viewer", "logs.db"),
    ("metrics-collector", "metrics.db"),
    ("browser-relay", "browser-relay.db"),
];
/// The kernel shows so much of a program's name.
const COMM_BYTES_MAX: usize = 15;

/// The job that sees to it.
pub(super) fn job(collector: &Arc<Collector>) -> Job {
    let collector = Arc::clone(collector);
    let mut before = Before::default();
    let run = Box::new(move |_: &StopToken| {
        let points = measure(collector.core.readers.path(), &mut before);
        let writer = &collector.core.writer;
        let reader = Arc::clone(&collector.reader);
        let failures = writer.stats().failed_writes.load(Ordering::Relaxed);
        // What fails is missing for ten seconds; the writer says in the log when the disk is the reason.
        if let Err(why) = writer.run(AddOwn { points, reader, now: Timestamp::now(), failures }) {
            log::debug!("the machine's figures were not stored: {why}");
        }
    });
    Job { name: "host", interval: MEASURE_EVERY, run }
}

/// What only differences are made of.
#[derive(Default)]
struct Before {
    ticks: Option<Ticks>,
    traffic: BTreeMap<String, Traffic>,
}

/// Everything that can be measured now.
fn measure(database: &Path, before: &mut Before) -> Vec<Point<'static>> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let mut points = Vec::new();
    let ticks = ticks(&read("/proc/stat"));
    if let (Some(ticks), Some(earlier)) = (ticks, before.ticks) {
        points.extend(ticks.busy_percent(earlier).map(|percent| gauge("host_cpu_percent", percent)));
    }
    before.ticks = ticks;
    points.extend(load1(&read("/proc/loadavg")).map(|load| gauge("host_load1", load)));
    if let Some(space) = memory(&read("/proc/meminfo")) {
        points.push(gauge("host_memory_used_bytes", space.used_bytes as f64));
        points.push(gauge("host_memory_total_bytes", space.total_bytes as f64));
    }
    if let Some(space) = disk(database) {
        points.push(gauge("host_disk_used_bytes", space.used_bytes as f64));
        points.push(gauge("host_disk_total_bytes", space.total_bytes as f64));
    }
    let traffic = traffic(&read("/proc/net/dev"));
    if !before.traffic.is_empty() {
        let since = traffic_since(&traffic, &before.traffic);
        points.push(counter("host_network_received_bytes", since.received_bytes as f64));
        points.push(counter("host_network_sent_bytes", since.sent_bytes as f64));
    }
    before.traffic = traffic;
    for (service, bytes) in processes() {
        points.push(with_service(gauge("process_resident_bytes", bytes as f64), service));
    }
    for (service, bytes) in databases(database) {
        points.push(with_service(gauge("database_bytes", bytes as f64), service));
    }
    points
}

fn gauge(name: &'static str, value: f64) -> Point<'static> {
    let (name, project) = (Cow::Borrowed(name), Cow::Borrowed(""));
    Point { name, kind: Kind::Gauge, value, labels: Vec::new(), project, at: None }
}

fn counter(name: &'static str, value: f64) -> Point<'static> {
    Point { kind: Kind::Counter, ..gauge(name, value) }
}

fn with_service(point: Point<'static>, service: &'static str) -> Point<'static> {
    Point { labels: vec![(Cow::Borrowed("service"), Cow::Borrowed(service))], ..point }
}

/// Processor time since the start, in ticks over all cores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ticks {
    idle: u64,
    total: u64,
}

impl Ticks {
    /// The share of time in which cores worked, 0-100; `None` when no time has passed.
    fn busy_percent(self, earlier: Self) -> Option<f64> {
        let total = self.total.checked_sub(earlier.total).filter(|ticks| *ticks > 0)?;
        // The kernel lets idle time run back now and then (proc(5) on iowait).
        let idle = self.idle.saturating_sub(earlier.idle).min(total);
        Some((total - idle) as f64 * 100.0 / total as f64)
    }
}

/// Reads `/proc/stat`: user, nice, system, idle, iowait, irq, softirq, steal. Time of guests is within that of users.
fn ticks(stat: &str) -> Option<Ticks> {
    let fields = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks: Vec<u64> = fields.split_ascii_whitespace().take(8).map_while(|field| field.parse().ok()).collect();
    let idle = ticks.get(3)? + ticks.get(4).unwrap_or(&0);
    Some(Ticks { idle, total: ticks.iter().sum() })
}

/// Reads `/proc/loadavg`.
fn load1(loadavg: &str) -> Option<f64> {
    loadavg.split_ascii_whitespace().next()?.parse().ok()
}

/// Memory or disk.
#[derive(Debug, PartialEq, Eq)]
struct Space {
    used_bytes: u64,
    total_bytes: u64,
}

/// Reads `/proc/meminfo`: used is what programs cannot have any more.
fn memory(meminfo: &str) -> Option<Space> {
    let total_bytes = kib_field(meminfo, "MemTotal:")? * 1024;
    let available_bytes = kib_field(meminfo, "MemAvailable:")? * 1024;
    Some(Space { used_bytes: total_bytes.saturating_sub(available_bytes), total_bytes })
}

/// A line such as `MemTotal:  24684084 kB`.
fn kib_field(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_ascii_whitespace().next()?.parse().ok()
}

/// The file system that the database lies on.
fn disk(database: &Path) -> Option<Space> {
    let found = rustix::fs::statvfs(database).ok()?;
    let used_blocks = found.f_blocks.saturating_sub(found.f_bfree);
    let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
    Some(Space { used_bytes: bytes(used_blocks), total_bytes: bytes(found.f_blocks) })
}

/// Bytes over a network interface.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Traffic {
    received_bytes: u64,
    sent_bytes: u64,
}

/// Reads `/proc/net/dev` without the loopback.
fn traffic(dev: &str) -> BTreeMap<String, Traffic> {
    let interface = |line: &str| {
        let (name, fields) = line.split_once(':')?;
        let mut fields = fields.split_ascii_whitespace();
        let received_bytes = fields.next()?.parse().ok()?;
        // Seven more of what is received stand before what is sent.
        let sent_bytes = fields.nth(7)?.parse().ok()?;
        Some((name.trim().to_owned(), Traffic { received_bytes, sent_bytes }))
    };
    dev.lines().filter_map(interface).filter(|(name, _)| name != "lo").collect()
}

/// The traffic between two looks. An interface that is new, or that counts from zero again, counts from the next look.
fn traffic_since(now: &BTreeMap<String, Traffic>, earlier: &BTreeMap<String, Traffic>) -> Traffic {
    let mut sum = Traffic::default();
    for (name, now) in now {
        let Some(earlier) = earlier.get(name) else { continue };
        sum.received_bytes += now.received_bytes.saturating_sub(earlier.received_bytes);
        sum.sent_bytes += now.sent_bytes.saturating_sub(earlier.sent_bytes);
    }
    sum
}

/// Resident memory of this house's processes that can be seen from here, in bytes, several of one service together.
fn processes() -> BTreeMap<&'static str, u64> {
    let mut found = BTreeMap::new();
    let Ok(entries) = std::fs::read_dir("/proc") else { return found };
    for path in entries.filter_map(Result::ok).map(|entry| entry.path()) {
        // What has ended meanwhile, or is no process, has no such files.
        let read = |file: &str| std::fs::read_to_string(path.join(file)).ok();
        let Some(service) = read("comm").and_then(|comm| service_of(&comm)) else { continue };
        if let Some(kib) = read("status").and_then(|status| kib_field(&status, "VmRSS:")) {
            *found.entry(service).or_insert(0) += kib * 1024;
        }
    }
    found
}

/// The service that the kernel calls so.
fn service_of(comm: &str) -> Option<&'static str> {
    let shown = |name: &'static str| &name[..name.len().min(COMM_BYTES_MAX)];
    SERVICES.iter().map(|(name, _)| *name).find(|name| shown(name) == comm.trim_end())
}

/// What this service's database and those that lie beside it take on the disk, in bytes, write-ahead logs included.
fn databases(own: &Path) -> impl Iterator<Item = (&'static str, u64)> {
    SERVICES.into_iter().filter_map(move |(service, file)| {
        let path = if service == "metrics-collector" { own.to_owned() } else { own.with_file_name(file) };
        let mut log = path.as_os_str().to_owned();
        log.push("-wal");
        let bytes = std::fs::metadata(path).ok()?.len();
        // Without a write-ahead log there is none to count.
        Some((service, bytes + std::fs::metadata(log).map_or(0, |log| log.len())))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "cpu  390665 0 82742 893813 6129 0 5747 462 0 0\n\
                        cpu0 175638 0 40508 469388 1508 0 2495 230 0 0\n\
                        intr 1 2 3\n";
    const MEMINFO: &str = "MemTotal:       24684084 kB\nMemFree:        21794320 kB\nMemAvailable:   23484288 kB\n\
                           Buffers:          237824 kB\n";
    const DEV: &str = "Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo: 28966469179 15421708    0    0    0     0          0         0 28966469179 15421708    0    0    0     0       0          0
  ifb0:       0       0    0    0    0     0          0         0        0       0    0    0    0     0       0          0
  eth0: 146415261    7606    0    0    0     0          0         0   657168    5363    0    0    0     0       0          0
veth1:99 1 0 0 0 0 0 0 77 1 0 0 0 0 0 0
";

    #[test]
    fn the_processor_is_as_busy_as_the_time_between_two_looks_says() {
        let first = ticks(STAT).unwrap();
        assert_eq!(first, Ticks { idle: 899_942, total: 1_379_558 });
        let later = ticks("cpu  390690 0 82742 893888 6129 0 5747 462 7 0\n").unwrap();
        assert_eq!(later.busy_percent(first), Some(25.0));
        assert_eq!(first.busy_percent(first), None);
        assert_eq!(first.busy_percent(later), None);
        let backwards = Ticks { idle: first.idle - 10, total: first.total + 100 };
        assert_eq!(backwards.busy_percent(first), Some(100.0));
    }

    #[test]
    fn memory_that_programs_can_still_have_is_not_used() {
        let space = Space { used_bytes: (24_684_084 - 23_484_288) * 1024, total_bytes: 24_684_084 * 1024 };
        assert_eq!(memory(MEMINFO), Some(space));
        assert_eq!(load1("2.25 1.64 1.81 4/110 14816\n"), Some(2.25));
        assert_eq!(kib_field("Name:\tcat\nVmRSS:\t    1752 kB\n", "VmRSS:"), Some(1752));
    }

    #[test]
    fn traffic_is_that_of_all_interfaces_but_the_loopback() {
        let first = traffic(DEV);
        assert_eq!(first.keys().collect::<Vec<_>>(), ["eth0", "ifb0", "veth1"]);
        assert_eq!(first["eth0"], Traffic { received_bytes: 146_415_261, sent_bytes: 657_168 });
        assert_eq!(first["veth1"], Traffic { received_bytes: 99, sent_bytes: 77 });
        let mut later = first.clone();
        later.insert("eth0".into(), Traffic { received_bytes: 146_415_361, sent_bytes: 657_218 });
        later.insert("veth1".into(), Traffic { received_bytes: 4, sent_bytes: 4 });
        later.insert("veth2".into(), Traffic { received_bytes: 1_000, sent_bytes: 1_000 });
        assert_eq!(traffic_since(&later, &first), Traffic { received_bytes: 100, sent_bytes: 50 });
    }

    #[test]
    fn what_the_system_does_not_show_is_absent() {
        for text in ["", "cpu", "cpu \n", "cpu  1 2\n", "MemTotal: x kB", "eth0", "eth0: 1 2"] {
            assert_eq!(ticks(text), None);
            assert_eq!(memory(text), None);
            assert_eq!(traffic(text), BTreeMap::new());
        }
        assert_eq!(load1(""), None);
        assert_eq!(disk(Path::new("/nowhere/at/all")), None);
        assert_eq!(databases(Path::new("/nowhere/metrics.db")).count(), 0);
    }

    #[test]
    fn processes_are_known_by_what_the_kernel_shows_of_their_names() {
        for (comm, service) in [
            ("metrics-collect\n", Some("metrics-collector")),
            ("error-tracker\n", Some("error-tracker")),
            ("log-viewer", Some("log-viewer")),
            ("browser-relay", Some("browser-relay")),
            ("metrics-collector", None),
            ("bash", None),
            ("", None),
        ] {
            assert_eq!(service_of(comm), service, "{comm:?}");
        }
    }
}
