//! Host metrics: CPU, memory, disk and network of this machine, and the processes and databases of all Monlight services,
//! stored as ordinary series. Values that the system does not provide are left out.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::commands::AddHostPoints;
use super::state::Collector;
use crate::background::{Job, StopToken};
use crate::clock::Timestamp;
use crate::records::point::{Labels, MetricKind, Point};

const INTERVAL: Duration = Duration::from_secs(10);
/// Names of the Monlight services and of their database files.
const SERVICES: [(&str, &str); 4] = [
    ("error-tracker", "errors.db"),
    ("log-viewer", "logs.db"),
    ("metrics-collector", "metrics.db"),
    ("browser-relay", "browser-relay.db"),
];
/// Maximum length of a process name in `/proc/*/comm`, in bytes. The kernel truncates longer names.
const COMM_BYTES_MAX: usize = 15;

/// Returns the job that measures this machine.
pub(super) fn job(collector: &Arc<Collector>) -> Job {
    let collector = Arc::clone(collector);
    let mut previous = PreviousSample::default();
    let run = Box::new(move |_: &StopToken| {
        let points = measure(collector.core.readers.path(), &mut previous);
        let writer = &collector.core.writer;
        let decoder = Arc::clone(&collector.decoder);
        let writer_stats = Arc::clone(writer.stats());
        // Only logged at debug level: the writer itself logs a warning when the database cannot be written.
        if let Err(error) = writer.run(AddHostPoints { points, decoder, now: Timestamp::now(), writer_stats }) {
            log::debug!("host metrics: failed to store a sample: {error}; next sample in {} s", INTERVAL.as_secs());
        }
    });
    Job { name: "host", interval: INTERVAL, run }
}

/// Counters of the previous sample, from which differences are computed.
#[derive(Default)]
struct PreviousSample {
    cpu: Option<CpuTicks>,
    traffic: BTreeMap<String, Traffic>,
}

/// Returns a point for each value that the system provides.
fn measure(database: &Path, previous: &mut PreviousSample) -> Vec<Point<'static>> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let mut points = Vec::new();
    let cpu = cpu_ticks(&read("/proc/stat"));
    if let (Some(cpu), Some(earlier)) = (cpu, previous.cpu) {
        points.extend(cpu.busy_percent(earlier).map(|percent| gauge("host_cpu_percent", percent)));
    }
    previous.cpu = cpu;
    points.extend(load1(&read("/proc/loadavg")).map(|load| gauge("host_load1", load)));
    if let Some(memory) = memory(&read("/proc/meminfo")) {
        points.push(gauge("host_memory_used_bytes", memory.used_bytes as f64));
        points.push(gauge("host_memory_total_bytes", memory.total_bytes as f64));
    }
    if let Some(disk) = disk(database) {
        points.push(gauge("host_disk_used_bytes", disk.used_bytes as f64));
        points.push(gauge("host_disk_total_bytes", disk.total_bytes as f64));
    }
    let traffic = count_once(traffic(&read("/proc/net/dev")), |interface| {
        Path::new("/sys/class/net").join(interface).join("device").exists()
    });
    if !previous.traffic.is_empty() {
        let since = traffic_since(&traffic, &previous.traffic);
        points.push(counter("host_network_received_bytes", since.received_bytes as f64));
        points.push(counter("host_network_sent_bytes", since.sent_bytes as f64));
    }
    previous.traffic = traffic;
    for (service, bytes) in process_memory() {
        points.push(service_gauge("process_resident_bytes", bytes as f64, service));
    }
    for (service, bytes) in database_sizes(database) {
        points.push(service_gauge("database_bytes", bytes as f64, service));
    }
    // Invalid points are left out: a value may be no finite number.
    points.into_iter().flatten().collect()
}

fn gauge(name: &'static str, value: f64) -> Option<Point<'static>> {
    Point::new(name.into(), MetricKind::Gauge, value, Labels::default(), "".into(), None).ok()
}

fn counter(name: &'static str, value: f64) -> Option<Point<'static>> {
    Point::new(name.into(), MetricKind::Counter, value, Labels::default(), "".into(), None).ok()
}

fn service_gauge(name: &'static str, value: f64, service: &'static str) -> Option<Point<'static>> {
    let mut labels = Labels::default();
    labels.push("service".into(), service.into()).ok()?;
    Point::new(name.into(), MetricKind::Gauge, value, labels, "".into(), None).ok()
}

/// CPU time since boot, in ticks summed over all cores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct CpuTicks {
    idle: u64,
    total: u64,
}

impl CpuTicks {
    /// Returns the busy time since an earlier sample in percent, 0-100; `None` if no time has passed.
    fn busy_percent(self, earlier: Self) -> Option<f64> {
        let total = self.total.checked_sub(earlier.total).filter(|ticks| *ticks > 0)?;
        // Idle time can decrease, because iowait can (proc(5)).
        let idle = self.idle.saturating_sub(earlier.idle).min(total);
        Some((total - idle) as f64 * 100.0 / total as f64)
    }
}

/// Parses `/proc/stat`: user, nice, system, idle, iowait, irq, softirq, steal. Guest time is part of user time.
fn cpu_ticks(stat: &str) -> Option<CpuTicks> {
    let fields = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks: Vec<u64> = fields.split_ascii_whitespace().take(8).map_while(|field| field.parse().ok()).collect();
    let idle = ticks.get(3)? + ticks.get(4).unwrap_or(&0);
    Some(CpuTicks { idle, total: ticks.iter().sum() })
}

/// Parses the 1-minute load average from `/proc/loadavg`.
fn load1(loadavg: &str) -> Option<f64> {
    loadavg.split_ascii_whitespace().next()?.parse().ok()
}

/// Usage of memory or of a disk.
#[derive(Debug, PartialEq, Eq)]
struct Usage {
    used_bytes: u64,
    total_bytes: u64,
}

/// Parses `/proc/meminfo`. Memory that is not available to programs counts as used.
fn memory(meminfo: &str) -> Option<Usage> {
    let total_bytes = kib_field(meminfo, "MemTotal:")? * 1024;
    let available_bytes = kib_field(meminfo, "MemAvailable:")? * 1024;
    Some(Usage { used_bytes: total_bytes.saturating_sub(available_bytes), total_bytes })
}

/// Returns the number from a line such as `MemTotal:  24684084 kB`.
fn kib_field(file: &str, name: &str) -> Option<u64> {
    let rest = file.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_ascii_whitespace().next()?.parse().ok()
}

/// Returns the usage of the file system that contains the database.
fn disk(database: &Path) -> Option<Usage> {
    let stat = rustix::fs::statvfs(database).ok()?;
    let used_blocks = stat.f_blocks.saturating_sub(stat.f_bfree);
    let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
    Some(Usage { used_bytes: bytes(used_blocks), total_bytes: bytes(stat.f_blocks) })
}

/// Traffic of a network interface since boot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Traffic {
    received_bytes: u64,
    sent_bytes: u64,
}

/// Beginnings of the names that containers and virtual machines give to their uplinks.
const UPLINKS: [&str; 5] = ["eth", "en", "wl", "venet", "tap"];

/// Returns the interfaces of which each byte passes only one: the physical ones. The others, such as bridges and the ends of
/// containers' connections, count the same bytes again. A container has no physical interface, but an uplink.
fn count_once(
    mut interfaces: BTreeMap<String, Traffic>,
    is_physical: impl Fn(&str) -> bool,
) -> BTreeMap<String, Traffic> {
    let has_physical = interfaces.keys().any(|name| is_physical(name));
    let is_uplink = |name: &str| UPLINKS.iter().any(|prefix| name.starts_with(prefix));
    interfaces.retain(|name, _| if has_physical { is_physical(name) } else { is_uplink(name) });
    interfaces
}

/// Parses the interfaces in `/proc/net/dev`.
fn traffic(dev: &str) -> BTreeMap<String, Traffic> {
    let interface = |line: &str| {
        let (name, fields) = line.split_once(':')?;
        let mut fields = fields.split_ascii_whitespace();
        let received_bytes = fields.next()?.parse().ok()?;
        // Seven more receive columns precede the bytes sent.
        let sent_bytes = fields.nth(7)?.parse().ok()?;
        Some((name.trim().to_owned(), Traffic { received_bytes, sent_bytes }))
    };
    dev.lines().filter_map(interface).collect()
}

/// Returns the traffic between two samples. An interface that is new or was reset counts from the next sample on.
fn traffic_since(now: &BTreeMap<String, Traffic>, earlier: &BTreeMap<String, Traffic>) -> Traffic {
    let mut sum = Traffic::default();
    for (name, now) in now {
        let Some(earlier) = earlier.get(name) else { continue };
        sum.received_bytes += now.received_bytes.saturating_sub(earlier.received_bytes);
        sum.sent_bytes += now.sent_bytes.saturating_sub(earlier.sent_bytes);
    }
    sum
}

/// Returns the resident memory of all visible Monlight processes in bytes, summed by service.
fn process_memory() -> BTreeMap<&'static str, u64> {
    let mut found = BTreeMap::new();
    let Ok(entries) = std::fs::read_dir("/proc") else { return found };
    for path in entries.filter_map(Result::ok).map(|entry| entry.path()) {
        // Entries that are no processes, and processes that have ended, do not have these files.
        let read = |file: &str| std::fs::read_to_string(path.join(file)).ok();
        let Some(service) = read("comm").and_then(|comm| service_from_comm(&comm)) else { continue };
        if let Some(kib) = read("status").and_then(|status| kib_field(&status, "VmRSS:")) {
            *found.entry(service).or_insert(0) += kib * 1024;
        }
    }
    found
}

/// Returns the service whose truncated name the kernel reports.
fn service_from_comm(comm: &str) -> Option<&'static str> {
    let truncated = |name: &'static str| &name[..name.len().min(COMM_BYTES_MAX)];
    SERVICES.iter().map(|(name, _)| *name).find(|name| truncated(name) == comm.trim_end())
}

/// Returns the size of this service's database, and of the other services' databases in the same directory, in bytes.
/// Includes the write-ahead logs.
fn database_sizes(own: &Path) -> impl Iterator<Item = (&'static str, u64)> {
    SERVICES.into_iter().filter_map(move |(service, file)| {
        let path = if service == "metrics-collector" { own.to_owned() } else { own.with_file_name(file) };
        let mut wal = path.as_os_str().to_owned();
        wal.push("-wal");
        let bytes = std::fs::metadata(path).ok()?.len();
        // The write-ahead log may not exist.
        Some((service, bytes + std::fs::metadata(wal).map_or(0, |wal| wal.len())))
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
    fn busy_percent_is_computed_between_two_samples() {
        let first = cpu_ticks(STAT).unwrap();
        assert_eq!(first, CpuTicks { idle: 899_942, total: 1_379_558 });
        let later = cpu_ticks("cpu  390690 0 82742 893888 6129 0 5747 462 7 0\n").unwrap();
        assert_eq!(later.busy_percent(first), Some(25.0));
        assert_eq!(first.busy_percent(first), None);
        assert_eq!(first.busy_percent(later), None);
        let backwards = CpuTicks { idle: first.idle - 10, total: first.total + 100 };
        assert_eq!(backwards.busy_percent(first), Some(100.0));
    }

    #[test]
    fn available_memory_does_not_count_as_used() {
        let usage = Usage { used_bytes: (24_684_084 - 23_484_288) * 1024, total_bytes: 24_684_084 * 1024 };
        assert_eq!(memory(MEMINFO), Some(usage));
        assert_eq!(load1("2.25 1.64 1.81 4/110 14816\n"), Some(2.25));
        assert_eq!(kib_field("Name:\tcat\nVmRSS:\t    1752 kB\n", "VmRSS:"), Some(1752));
    }

    #[test]
    fn each_byte_of_traffic_counts_once() {
        let counted = |names: &[&str], physical: &[&str]| {
            let interfaces = names.iter().map(|name| ((*name).to_owned(), Traffic::default())).collect();
            count_once(interfaces, |name| physical.contains(&name)).into_keys().collect::<Vec<_>>()
        };
        let docker_host = ["br-0f1e", "docker0", "enp3s0", "lo", "tap0", "veth12", "virbr0", "wg0", "wlan0"];
        assert_eq!(counted(&docker_host, &["enp3s0", "wlan0"]), ["enp3s0", "wlan0"]);
        assert_eq!(counted(&["bond0", "eth0", "eth0.7", "eth1", "lo"], &["eth0", "eth1"]), ["eth0", "eth1"]);
        assert_eq!(counted(&["eth0", "eth1", "lo", "tunl0"], &[]), ["eth0", "eth1"], "a container in two networks");
        assert_eq!(counted(&["lo", "tap0"], &[]), ["tap0"], "a rootless container");
        assert_eq!(counted(&["br0", "lo", "veth1"], &[]), [""; 0], "a namespace without an uplink");
    }

    #[test]
    fn traffic_is_counted_between_two_samples() {
        let first = traffic(DEV);
        assert_eq!(first.keys().collect::<Vec<_>>(), ["eth0", "ifb0", "lo", "veth1"]);
        assert_eq!(first["eth0"], Traffic { received_bytes: 146_415_261, sent_bytes: 657_168 });
        assert_eq!(first["veth1"], Traffic { received_bytes: 99, sent_bytes: 77 });
        let mut later = first.clone();
        later.insert("eth0".into(), Traffic { received_bytes: 146_415_361, sent_bytes: 657_218 });
        later.insert("veth1".into(), Traffic { received_bytes: 4, sent_bytes: 4 });
        later.insert("veth2".into(), Traffic { received_bytes: 1_000, sent_bytes: 1_000 });
        assert_eq!(traffic_since(&later, &first), Traffic { received_bytes: 100, sent_bytes: 50 });
    }

    #[test]
    fn missing_system_files_yield_no_values() {
        for file in ["", "cpu", "cpu \n", "cpu  1 2\n", "MemTotal: x kB", "eth0", "eth0: 1 2"] {
            assert_eq!(cpu_ticks(file), None);
            assert_eq!(memory(file), None);
            assert_eq!(traffic(file), BTreeMap::new());
        }
        assert_eq!(load1(""), None);
        assert_eq!(disk(Path::new("/nowhere/at/all")), None);
        assert_eq!(database_sizes(Path::new("/nowhere/metrics.db")).count(), 0);
    }

    #[test]
    fn processes_are_found_by_their_truncated_names() {
        for (comm, service) in [
            ("metrics-collect\n", Some("metrics-collector")),
            ("error-tracker\n", Some("error-tracker")),
            ("log-viewer", Some("log-viewer")),
            ("browser-relay", Some("browser-relay")),
            ("metrics-collector", None),
            ("bash", None),
            ("", None),
        ] {
            assert_eq!(service_from_comm(comm), service, "{comm:?}");
        }
    }
}
