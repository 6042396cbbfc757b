//! Benchmark of the whole stack, run by `make bench`: all four services under a mixed load, and idle.
//!
//! The services run with their default durability. Under load, each is measured alone and then all at once, in alternating
//! turns, and compared with the time that the disk needs for a flush. The idle part measures what `make run` starts.

// A bench prints its results and is not a public API.
#![allow(clippy::print_stdout, missing_docs, unreachable_pub)]

mod data;
mod figures;
mod load;

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use data::{CONTAINERS, create_container, docker_line, error_report, log_entry, metric_batches};
use figures::{Cell, Figures};
use load::{
    Client, Measurement, ServerProcess, StopAfter, TempDir, get, median, median_measurement, median_ratio, p50_p99_ms,
    post, run_load, thread_cpu_time,
};
use monlight::clock::Timestamp;
use rusqlite::Connection;

const TURNS: usize = 5;
const ALONE: Duration = Duration::from_secs(2);
const TOGETHER: Duration = Duration::from_secs(4);
const PUBLIC_KEY: &str = "00112233445566778899aabbccddeeff";
const GROUPS: u64 = 100;
const SERIES: u64 = 50;
const BATCH: u64 = 100;
/// Connections per kind of write.
const CONNECTIONS: usize = 3;
/// Log lines per append.
const LINES_PER_APPEND: u64 = 500;
/// Maximum number of appended lines that the viewer has not stored yet.
const UNSTORED_LINES_MAX: u64 = 10_000;
/// Entries that the viewer holds back, one per stream of each container, because more lines may belong to them.
const HELD_BACK_ENTRIES: u64 = 2 * CONTAINERS.len() as u64;
/// Target for the memory of all four services together, in MB.
const MEMORY_TARGET_MB: f64 = 50.0;
const TIMEOUT: Duration = Duration::from_secs(30);
const NAMES: [&str; 4] = ["error-tracker", "log-viewer", "metrics-collector", "browser-relay"];

fn main() {
    let mut figures = Figures::new("stack", "The whole stack", 50);
    figures.add_note(
        "All four services on one machine with their default durability: the error tracker and the browser relay flush to \
         disk before they acknowledge, the log viewer and the metrics collector commit without a flush.",
    );
    figures.run(&[("mixed", measure_mixed_load), ("idle", measure_idle)]);
}

/// All four services, and the logs that the viewer reads.
struct Stack {
    tracker: ServerProcess,
    viewer: ServerProcess,
    collector: ServerProcess,
    relay: ServerProcess,
    logs: Logs,
}

impl Stack {
    fn start() -> Self {
        let sources = TempDir::new("stack-logs");
        let paths = [0, 1, 2].map(|number| create_container(&sources, number, CONTAINERS[number]));
        let files = paths.each_ref().map(|path| File::create(path).expect("create a log file"));
        let folder = TempDir::new("stack");
        let log_sources = sources.path.to_string_lossy().into_owned();
        let tracker = ServerProcess::spawn_service(env!("CARGO_BIN_EXE_error-tracker"), &folder, &[]);
        let collector = ServerProcess::spawn_service(env!("CARGO_BIN_EXE_metrics-collector"), &folder, &[]);
        // Lines written before the viewer discovers the files must be read as well.
        let settings = [("LOG_SOURCES", log_sources.as_str()), ("TAIL_BUFFER", "1000000000")];
        let viewer = ServerProcess::spawn_service(env!("CARGO_BIN_EXE_log-viewer"), &folder, &settings);
        let (errors, metrics) = (format!("http://{}", tracker.address), format!("http://{}", collector.address));
        let keys = format!("shop:{PUBLIC_KEY}");
        let settings = [
            ("ADMIN_API_KEY", "k"),
            ("KEY_RATE_LIMIT", "0"),
            ("DSN_KEYS", &keys),
            ("ERROR_TRACKER_URL", &errors),
            ("ERROR_TRACKER_API_KEY", "k"),
            ("METRICS_COLLECTOR_URL", &metrics),
            ("METRICS_COLLECTOR_API_KEY", "k"),
        ];
        let relay = ServerProcess::spawn_service(env!("CARGO_BIN_EXE_browser-relay"), &folder, &settings);
        let database = Connection::open(folder.path.join("data/logs.db")).expect("open the viewer's database");
        database.busy_timeout(TIMEOUT).expect("set the busy timeout");
        let logs = Logs { files, database, next_entry: 0, lines: 0, _sources: sources };
        Self { tracker, viewer, collector, relay, logs }
    }

    fn processes(&self) -> [&ServerProcess; 4] {
        [&self.tracker, &self.viewer, &self.collector, &self.relay]
    }
}

/// Log files of three containers, and the database into which the viewer ingests them.
struct Logs {
    files: [File; 3],
    database: Connection,
    /// Number of the next generated entry.
    next_entry: u64,
    /// Number of appended lines. Stack traces are skipped, because the viewer merges them with the entry before them.
    lines: u64,
    _sources: Arc<TempDir>,
}

impl Logs {
    fn stored_entries(&self) -> u64 {
        let sql = "SELECT value FROM counters WHERE name = 'ingested'";
        self.database.query_row(sql, [], |row| row.get::<_, i64>(0)).expect("a number").unsigned_abs()
    }

    /// Appends lines for a duration, at most [`UNSTORED_LINES_MAX`] ahead of the viewer, and measures the rate of stored
    /// lines and the latency from the append to the database.
    fn measure_ingestion(&mut self, viewer: &ServerProcess, time: Duration) -> Measurement {
        let (start, cpu, first) = (Instant::now(), viewer.cpu_time(), self.lines);
        let mut appends: VecDeque<(u64, Instant)> = VecDeque::new();
        let mut latencies = Vec::new();
        while start.elapsed() < time || !appends.is_empty() {
            assert!(
                start.elapsed() < time + TIMEOUT,
                "the viewer stored only {} of {} lines",
                self.stored_entries(),
                self.lines
            );
            if start.elapsed() < time && appends.len() as u64 * LINES_PER_APPEND < UNSTORED_LINES_MAX {
                self.append();
                appends.push_back((self.lines.saturating_sub(HELD_BACK_ENTRIES), Instant::now()));
            } else {
                std::thread::sleep(Duration::from_millis(5));
            }
            let stored = self.stored_entries();
            while let Some((_, appended)) = appends.front().filter(|(lines, _)| *lines <= stored) {
                latencies.push(Instant::elapsed(appended));
                appends.pop_front();
            }
        }
        let (elapsed, cpu, lines) = (start.elapsed(), viewer.cpu_time() - cpu, (self.lines - first) as f64);
        let (p50_ms, p99_ms) = p50_p99_ms(&mut latencies);
        Measurement {
            per_second: lines / elapsed.as_secs_f64(),
            cpu_us: cpu.as_secs_f64() * 1e6 / lines,
            p50_ms,
            p99_ms,
        }
    }

    /// Appends [`LINES_PER_APPEND`] lines, with a single write per file.
    fn append(&mut self) {
        let mut appended = [const { String::new() }; 3];
        let (now, end) = (Timestamp::now().to_string(), self.lines + LINES_PER_APPEND);
        while self.lines < end {
            let entry = log_entry(self.next_entry, &now);
            if let [line] = &*entry.lines {
                appended[entry.container] += &docker_line(line, entry.stderr, &now);
                self.lines += 1;
            }
            self.next_entry += 1;
        }
        for (file, appended) in self.files.iter_mut().zip(&appended) {
            file.write_all(appended.as_bytes()).expect("append to a log file");
        }
    }
}

/// Appends 4 KB to a file in the file system of the databases and flushes it, until `stop` returns `true` for the number of
/// flushes so far. Returns the duration of each flush.
fn measure_flushes(stop: impl Fn(usize) -> bool) -> Vec<Duration> {
    let folder = TempDir::new("flushes");
    let path = folder.path.join("flushed");
    let mut file = OpenOptions::new().create(true).append(true).open(path).expect("create a file");
    let mut latencies = Vec::new();
    while !stop(latencies.len()) {
        file.write_all(&[7; 4_096]).expect("append 4 KB");
        let start = Instant::now();
        file.sync_data().expect("flush the file");
        latencies.push(start.elapsed());
        std::thread::sleep(Duration::from_millis(10));
    }
    latencies
}

/// Requests a path every 100 ms, as an open page does, until `stop` is set. Returns the latency of each request.
fn poll_page(process: &ServerProcess, path: &str, stop: &AtomicBool) -> Vec<Duration> {
    let (mut client, request, mut latencies) = (Client::connect(process.address), get(path), Vec::new());
    while !stop.load(Ordering::Relaxed) {
        let sent = Instant::now();
        assert_eq!(client.send(&request), 200, "{path}");
        latencies.push(sent.elapsed());
        std::thread::sleep(Duration::from_millis(100));
    }
    latencies
}

/// Measurements of each kind of write in one turn.
struct WriteRates {
    reports: Measurement,
    lines: Measurement,
    points: Measurement,
    browser_reports: Measurement,
    browser_points: Measurement,
}

impl WriteRates {
    const LABELS: [&str; 5] = [
        "reports to the tracker, 3 connections",
        "log lines read by the viewer, 3 logs",
        "points to the collector in batches of 100, 3 connections",
        "reports through the relay, 3 connections",
        "batches of 10 points through the relay, 3 connections",
    ];

    fn all(&self) -> [Measurement; 5] {
        [self.reports, self.lines, self.points, self.browser_reports, self.browser_points]
    }
}

/// Generators of the HTTP loads, each of which runs for the same duration.
struct LoadGenerators {
    point_batches: Arc<Vec<String>>,
    time: Duration,
}

impl LoadGenerators {
    fn reports(&self, tracker: &ServerProcess) -> Measurement {
        run_load(tracker, CONNECTIONS, StopAfter::Time(self.time), |n| {
            post("/api/errors", &error_report(n % GROUPS, n))
        })
    }

    fn points(&self, collector: &ServerProcess) -> Measurement {
        let batches = Arc::clone(&self.point_batches);
        let request = move |n: u64| post("/api/metrics", &batches[n as usize % batches.len()]);
        let round = run_load(collector, CONNECTIONS, StopAfter::Time(self.time), request);
        Measurement { per_second: round.per_second * BATCH as f64, cpu_us: round.cpu_us / BATCH as f64, ..round }
    }

    fn browser_reports(&self, relay: &ServerProcess) -> Measurement {
        run_load(relay, CONNECTIONS, StopAfter::Time(self.time), |n| {
            let group = n % GROUPS;
            browser_post(
                "errors",
                &format!(
                    r#"{{"type":"TypeError","message":"cart is undefined","stack":"TypeError: cart is undefined\n    at add (https://shop.example/assets/app.js:1:{group})","url":"https://shop.example/cart/{n}","session_id":"s-{n}","release":"1.4.2"}}"#
                ),
            )
        })
    }

    fn browser_points(&self, relay: &ServerProcess) -> Measurement {
        let point = r#"{"name":"web_vitals_lcp","type":"histogram","value":1234.5,"labels":{"page":"/cart"}}"#;
        let points = [point; 10].join(",");
        run_load(relay, CONNECTIONS, StopAfter::Time(self.time), move |n| {
            browser_post("metrics", &format!(r#"{{"metrics":[{points}],"session_id":"s-{n}"}}"#))
        })
    }
}

fn browser_post(endpoint: &str, body: &str) -> Vec<u8> {
    post(&format!("/api/browser/{endpoint}?key={PUBLIC_KEY}"), body)
}

/// Pages that are open during the load: label, index of the service, path.
const PAGES: [(&str, usize, &str); 4] = [
    ("list of errors", 0, "/api/errors"),
    ("logs with a common word", 1, "/api/logs?search=order"),
    ("histogram of logs", 1, "/api/logs/histogram"),
    ("dashboard, 1h", 2, "/api/dashboard?period=1h"),
];

/// Results of the mixed load.
#[derive(Default)]
struct MixedLoad {
    alone: Vec<WriteRates>,
    together: Vec<WriteRates>,
    idle_flushes: Vec<Duration>,
    loaded_flushes: Vec<Duration>,
    pages: [Vec<Duration>; PAGES.len()],
    /// CPUs that each service used while all were loaded.
    cpus: [Vec<f64>; 4],
}

impl MixedLoad {
    /// Runs one turn: each load alone, then all loads together.
    fn run_turn(&mut self, stack: &mut Stack, point_batches: &Arc<Vec<String>>) {
        let loads = LoadGenerators { point_batches: Arc::clone(point_batches), time: ALONE };
        self.alone.push(WriteRates {
            reports: loads.reports(&stack.tracker),
            lines: stack.logs.measure_ingestion(&stack.viewer, ALONE),
            points: loads.points(&stack.collector),
            browser_reports: loads.browser_reports(&stack.relay),
            browser_points: loads.browser_points(&stack.relay),
        });
        self.idle_flushes.extend(measure_flushes(|count| count >= 60));
        let loads = LoadGenerators { time: TOGETHER, ..loads };
        let Stack { tracker, viewer, collector, relay, logs } = stack;
        let processes = [&*tracker, &*viewer, &*collector, &*relay];
        let (stop, start, before) = (AtomicBool::new(false), Instant::now(), processes.map(ServerProcess::cpu_time));
        std::thread::scope(|scope| {
            let stop = &stop;
            let loads = &loads;
            let pages = PAGES.map(|(_, service, path)| scope.spawn(move || poll_page(processes[service], path, stop)));
            let flushes = scope.spawn(|| measure_flushes(|_| stop.load(Ordering::Relaxed)));
            let reports = scope.spawn(|| loads.reports(processes[0]));
            let points = scope.spawn(|| loads.points(processes[2]));
            let browser_reports = scope.spawn(|| loads.browser_reports(processes[3]));
            let browser_points = scope.spawn(|| loads.browser_points(processes[3]));
            let lines = logs.measure_ingestion(processes[1], TOGETHER);
            let rates = WriteRates {
                reports: reports.join().expect("a load thread panicked"),
                lines,
                points: points.join().expect("a load thread panicked"),
                browser_reports: browser_reports.join().expect("a load thread panicked"),
                browser_points: browser_points.join().expect("a load thread panicked"),
            };
            stop.store(true, Ordering::Relaxed);
            self.together.push(rates);
            self.loaded_flushes.extend(flushes.join().expect("the flush thread panicked"));
            for (latencies, page) in self.pages.iter_mut().zip(pages) {
                latencies.extend(page.join().expect("a page thread panicked"));
            }
        });
        let elapsed = start.elapsed().as_secs_f64();
        for ((cpus, process), before) in self.cpus.iter_mut().zip(processes).zip(before) {
            cpus.push((process.cpu_time() - before).as_secs_f64() / elapsed);
        }
    }
}

fn measure_mixed_load(figures: &mut Figures) {
    let mut stack = Stack::start();
    let idle_mb = stack.processes().map(|process| process.memory_mb("VmRSS:"));
    let point_batches = Arc::new(metric_batches(20_000, SERIES, BATCH));
    let mut mixed = MixedLoad::default();
    for _ in 0..TURNS {
        mixed.run_turn(&mut stack, &point_batches);
    }
    let (_, idle_p99) = p50_p99_ms(&mut mixed.idle_flushes);
    let (_, loaded_p99) = p50_p99_ms(&mut mixed.loaded_flushes);
    figures.add_note(format!(
        "Mixed load: all kinds of writes at once, plus four open pages that each send ten requests per second. Median of \
         {TURNS} turns of {} s, each after a turn in which every write ran alone. The clients, the services and the writer \
         of the logs share the machine's CPUs.",
        TOGETHER.as_secs()
    ));
    let columns =
        ["/s alone", "/s together", "p50 ms together", "p99 ms together", "CPU µs together", "CPU alone ÷ together"];
    figures.begin_table("writes, alone and all at once", &columns);
    for (index, label) in WriteRates::LABELS.into_iter().enumerate() {
        let [alone, together] =
            [&mixed.alone, &mixed.together].map(|turns| turns.iter().map(|turn| turn.all()[index]).collect::<Vec<_>>());
        let ratio = median_ratio(&together, &alone, |together, alone| alone.cpu_us / together.cpu_us);
        let (alone, all) = (median_measurement(&alone), median_measurement(&together));
        let cells = [alone.per_second, all.per_second, all.p50_ms, all.p99_ms, all.cpu_us, ratio];
        figures.add_row(label, &cells.map(Cell::from));
        let reason = "five loads share the CPUs, and scheduling determines how many writes share a commit";
        figures.add_informational_ratio(label, "alone, CPU time", ratio, reason);
        figures.add_informational_ratio(label, "alone, rate", all.per_second / alone.per_second, reason);
        if index == 0 || index == 3 {
            let reason = "the slowest flushes of a disk vary between runs";
            figures.add_informational_ratio(label, "p99 of a flush under that load", loaded_p99 / all.p99_ms, reason);
        }
    }
    figures.begin_table("queries and disk flushes during the mixed load", &["median ms", "p99 ms"]);
    for (label, latencies) in [
        ("flush of 4 KB, disk otherwise idle", &mut mixed.idle_flushes),
        ("flush of 4 KB, under the mixed load", &mut mixed.loaded_flushes),
    ] {
        let (p50, p99) = p50_p99_ms(latencies);
        figures.add_row(label, &[p50.into(), p99.into()]);
    }
    for ((label, _, _), latencies) in PAGES.iter().zip(&mut mixed.pages) {
        let (p50, p99) = p50_p99_ms(latencies);
        figures.add_row(label, &[p50.into(), p99.into()]);
    }
    add_memory_table(figures, &stack, idle_mb, mixed.cpus.map(median));
    let reports = median_measurement(&mixed.together.iter().map(|turn| turn.reports).collect::<Vec<_>>());
    figures.add_summary(
        "99th percentile of an error report under the mixed load",
        format!("{:.1} ms; of a disk flush {loaded_p99:.1} ms under load, {idle_p99:.1} ms idle", reports.p99_ms),
    );
}

fn add_memory_table(figures: &mut Figures, stack: &Stack, idle_mb: [f64; 4], cpus: [f64; 4]) {
    figures.begin_table("memory and CPU per service", &["MB idle", "MB after", "MB at peak", "CPUs under load"]);
    let mut sums = [0.0; 4];
    for (((name, process), idle_mb), cpus) in NAMES.iter().zip(stack.processes()).zip(idle_mb).zip(cpus) {
        let cells = [idle_mb, process.memory_mb("VmRSS:"), process.memory_mb("VmHWM:"), cpus];
        figures.add_row(name, &cells.map(Cell::from));
        sums.iter_mut().zip(cells).for_each(|(sum, cell)| *sum += cell);
    }
    figures.add_row("all four", &sums.map(Cell::from));
    figures.add_ratio("all four, peak memory", "50 MB", MEMORY_TARGET_MB / sums[2]);
    figures.add_summary(
        "Memory of all four services: idle, peak under a mixed load",
        format!("{:.1} MB, {:.1} MB", sums[0], sums[2]),
    );
}

/// Resources that a process has used, according to the kernel.
#[derive(Clone, Copy)]
struct ProcessUsage {
    cpu_s: f64,
    wakeups: f64,
    written_bytes: f64,
    disk_bytes: f64,
    resident_mb: f64,
}

impl ProcessUsage {
    fn read(pid: u32) -> Self {
        let folder = PathBuf::from(format!("/proc/{pid}"));
        let number = |path: &Path, field: &str| {
            let text = std::fs::read_to_string(path).expect("the service is running");
            let line = text.lines().find(|line| line.starts_with(field)).unwrap_or_default();
            line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).unwrap_or(0.0)
        };
        let tasks = std::fs::read_dir(folder.join("task")).expect("the service is running");
        let tasks: Vec<PathBuf> = tasks.flatten().map(|task| task.path()).collect();
        Self {
            cpu_s: tasks.iter().map(|task| thread_cpu_time(task)).sum::<Duration>().as_secs_f64(),
            wakeups: tasks.iter().map(|task| number(&task.join("status"), "voluntary_ctxt_switches:")).sum(),
            written_bytes: number(&folder.join("io"), "wchar:"),
            disk_bytes: number(&folder.join("io"), "write_bytes:"),
            resident_mb: number(&folder.join("status"), "VmRSS:") * 1024.0 / 1e6,
        }
    }

    /// Subtracts an earlier reading from the counters; the resident memory is not a counter and stays.
    fn since(self, earlier: Self) -> Self {
        Self {
            cpu_s: self.cpu_s - earlier.cpu_s,
            wakeups: self.wakeups - earlier.wakeups,
            written_bytes: self.written_bytes - earlier.written_bytes,
            disk_bytes: self.disk_bytes - earlier.disk_bytes,
            resident_mb: self.resident_mb,
        }
    }

    fn cells(self, seconds: f64) -> [Cell; 7] {
        let Self { cpu_s, wakeups, written_bytes, disk_bytes, resident_mb } = self;
        let cpu_percent = cpu_s / seconds * 100.0;
        [cpu_s, cpu_percent, wakeups, wakeups / seconds, written_bytes / 1e3, disk_bytes / 1e3, resident_mb]
            .map(Cell::from)
    }
}

/// Services started by `deploy/run.sh`, which `make run` calls, in a folder with the layout of a checkout.
struct RunScript {
    shell: Child,
    services: [u32; 4],
    _folder: Arc<TempDir>,
}

impl RunScript {
    fn start() -> Self {
        let folder = TempDir::new("run");
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        symlink(root.join("deploy"), folder.path.join("deploy")).expect("create a symbolic link");
        for (name, binary) in NAMES.into_iter().zip([
            env!("CARGO_BIN_EXE_error-tracker"),
            env!("CARGO_BIN_EXE_log-viewer"),
            env!("CARGO_BIN_EXE_metrics-collector"),
            env!("CARGO_BIN_EXE_browser-relay"),
        ]) {
            symlink(binary, folder.path.join(name)).expect("create a symbolic link");
        }
        // All listeners stay open until each has a port, so that the ports differ.
        let listeners = [(); 4].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
        let ports = listeners.each_ref().map(|listener| listener.local_addr().expect("a port").port().to_string());
        drop(listeners);
        let mut command = Command::new(folder.path.join("deploy/run.sh"));
        command.current_dir(&folder.path).env("LISTEN_ADDR", "127.0.0.1");
        command.envs(["PORT", "LOGS_PORT", "METRICS_PORT", "RELAY_PORT"].into_iter().zip(&ports));
        let shell = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("start deploy/run.sh");
        let deadline = Instant::now() + TIMEOUT;
        let services = loop {
            let pids = NAMES.map(|name| find_child(shell.id(), name));
            if let [Some(tracker), Some(viewer), Some(collector), Some(relay)] = pids {
                break [tracker, viewer, collector, relay];
            }
            assert!(Instant::now() < deadline, "deploy/run.sh did not start all services within {TIMEOUT:?}");
            std::thread::sleep(Duration::from_millis(50));
        };
        Self { shell, services, _folder: folder }
    }
}

impl Drop for RunScript {
    fn drop(&mut self) {
        // The script passes SIGTERM on to its services; SIGKILL would leave them running.
        let _ = Command::new("kill").arg(self.shell.id().to_string()).status();
        let _ = self.shell.wait();
    }
}

/// Returns the child of a process that runs a program of this name. The kernel truncates names to 15 bytes.
fn find_child(parent: u32, name: &str) -> Option<u32> {
    std::fs::read_dir("/proc").expect("list /proc").flatten().find_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        let (head, rest) = stat.rsplit_once(") ")?;
        let comm = head.split_once('(')?.1;
        (comm == &name[..name.len().min(15)] && rest.split(' ').nth(1)?.parse() == Ok(parent)).then_some(pid)
    })
}

fn measure_idle(figures: &mut Figures) {
    let seconds: u64 = std::env::var("IDLE_SECONDS").ok().and_then(|seconds| seconds.parse().ok()).unwrap_or(300);
    let run = RunScript::start();
    // Lets the work that follows the start finish before the measurement.
    std::thread::sleep(Duration::from_secs(15));
    let (start, before) = (Instant::now(), run.services.map(ProcessUsage::read));
    std::thread::sleep(Duration::from_secs(seconds));
    let elapsed = start.elapsed().as_secs_f64();
    figures.add_note(format!(
        "Idle: the services that `make run` starts, without any request for {seconds} s (`IDLE_SECONDS`). The collector \
         samples host metrics every 10 s, and the viewer tails the logs of all four. Wake-ups are the voluntary context \
         switches of all threads. \"kB written\" counts the bytes passed to `write`, \"kB to disk\" those that reached the \
         block layer."
    ));
    let columns = ["CPU s", "% of a CPU", "wake-ups", "wake-ups/s", "kB written", "kB to disk", "MB resident"];
    figures.begin_table("idle", &columns);
    let mut sum = ProcessUsage { cpu_s: 0.0, wakeups: 0.0, written_bytes: 0.0, disk_bytes: 0.0, resident_mb: 0.0 };
    for ((name, pid), before) in NAMES.into_iter().zip(run.services).zip(before) {
        let usage = ProcessUsage::read(pid).since(before);
        figures.add_row(name, &usage.cells(elapsed));
        figures.add_ratio(&format!("{name}, wake-ups"), "one per second", elapsed / usage.wakeups);
        sum = ProcessUsage {
            cpu_s: sum.cpu_s + usage.cpu_s,
            wakeups: sum.wakeups + usage.wakeups,
            written_bytes: sum.written_bytes + usage.written_bytes,
            disk_bytes: sum.disk_bytes + usage.disk_bytes,
            resident_mb: sum.resident_mb + usage.resident_mb,
        };
    }
    figures.add_row("all four", &sum.cells(elapsed));
    figures.add_ratio("all four, CPU", "1 % of a CPU", elapsed / 100.0 / sum.cpu_s);
    figures.add_ratio("all four, written", "1 kB/s", elapsed * 1e3 / sum.written_bytes);
    figures.add_ratio("all four, memory", "50 MB", MEMORY_TARGET_MB / sum.resident_mb);
    figures.add_summary(
        "All four services idle: CPU, wake-ups, bytes written",
        format!(
            "{:.2} % of a CPU, {:.1}/s, {:.1} MB per hour",
            sum.cpu_s / elapsed * 100.0,
            sum.wakeups / elapsed,
            sum.written_bytes / 1e6 / elapsed * 3_600.0
        ),
    );
}
