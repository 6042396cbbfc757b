//! `make bench`: all four services at once, with the durability they have by default. First each one alone and then all
//! together under a mixed load, in turns, beside what the disk needs for a flush; then what the stack costs that
//! `make run` starts when nobody asks anything of it.

// A bench prints its figures, and has no public face.
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

use data::{CONTAINERS, bodies, container, docker_line, report, said};
use figures::{Cell, Figures};
use load::{
    Client, Folder, Process, Round, Until, get, in_turn, load, median, middle, middle_and_tail_ms, post, thread_cpu,
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
/// Connections of each kind of write.
const CONNECTIONS: usize = 3;
/// Lines that are appended at once, and that may be unread at most.
const LINES_AT_ONCE: u64 = 500;
const LINES_AHEAD: u64 = 10_000;
/// The last entry of either stream of a container waits for lines that may belong to it.
const ENTRIES_WAITING: u64 = 2 * CONTAINERS.len() as u64;
/// What the four may take together, in MB.
const AIM_MB: f64 = 50.0;
const PATIENCE: Duration = Duration::from_secs(30);
const NAMES: [&str; 4] = ["error-tracker", "log-viewer", "metrics-collector", "browser-relay"];

fn main() {
    let mut figures = Figures::new("stack", "The whole stack", 50);
    figures.note(
        "All four services on one machine with their default durability: the tracker and the relay flush before they \
         acknowledge, the viewer and the collector commit.",
    );
    figures.measure(&[("together", together), ("idle", idle)]);
}

/// All four, and logs that the viewer follows.
struct Stack {
    tracker: Process,
    viewer: Process,
    collector: Process,
    relay: Process,
    logs: Logs,
}

impl Stack {
    fn start() -> Self {
        let sources = Folder::new("stack-logs");
        let paths = [0, 1, 2].map(|number| container(&sources, number, CONTAINERS[number]));
        let files = paths.each_ref().map(|path| File::create(path).expect("a log"));
        let folder = Folder::new("stack");
        let log_sources = sources.0.to_string_lossy().into_owned();
        let tracker = Process::service(env!("CARGO_BIN_EXE_error-tracker"), &folder, &[]);
        let collector = Process::service(env!("CARGO_BIN_EXE_metrics-collector"), &folder, &[]);
        // What is written before it has found the logs counts as well.
        let settings = [("LOG_SOURCES", log_sources.as_str()), ("TAIL_BUFFER", "1000000000")];
        let viewer = Process::service(env!("CARGO_BIN_EXE_log-viewer"), &folder, &settings);
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
        let relay = Process::service(env!("CARGO_BIN_EXE_browser-relay"), &folder, &settings);
        let database = Connection::open(folder.0.join("data/logs.db")).expect("the viewer's database");
        database.busy_timeout(PATIENCE).expect("a timeout");
        let logs = Logs { files, database, said: 0, lines: 0, _sources: sources };
        Self { tracker, viewer, collector, relay, logs }
    }

    fn all(&self) -> [&Process; 4] {
        [&self.tracker, &self.viewer, &self.collector, &self.relay]
    }
}

/// Logs of three containers that are written to, and the database they are expected in.
struct Logs {
    files: [File; 3],
    database: Connection,
    /// What was said, and how many lines of it are there; stack traces are left out, since the viewer makes one entry of
    /// them with the record before them.
    said: u64,
    lines: u64,
    _sources: Arc<Folder>,
}

impl Logs {
    fn stored(&self) -> u64 {
        let sql = "SELECT value FROM totals WHERE name = 'arrivals'";
        self.database.query_row(sql, [], |row| row.get::<_, i64>(0)).expect("a number").unsigned_abs()
    }

    /// Appends lines for a time, never too far ahead of the viewer, and says how many it stored a second, with how long
    /// lines took from a file to the database.
    fn follow(&mut self, viewer: &Process, time: Duration) -> Round {
        let (began, cpu, first) = (Instant::now(), viewer.cpu(), self.lines);
        let mut waiting: VecDeque<(u64, Instant)> = VecDeque::new();
        let mut took = Vec::new();
        while began.elapsed() < time || !waiting.is_empty() {
            assert!(began.elapsed() < time + PATIENCE, "the viewer stored {} lines of {}", self.stored(), self.lines);
            if began.elapsed() < time && waiting.len() as u64 * LINES_AT_ONCE < LINES_AHEAD {
                self.append();
                waiting.push_back((self.lines.saturating_sub(ENTRIES_WAITING), Instant::now()));
            } else {
                std::thread::sleep(Duration::from_millis(5));
            }
            let stored = self.stored();
            while let Some((_, appended)) = waiting.front().filter(|(lines, _)| *lines <= stored) {
                took.push(Instant::elapsed(appended));
                waiting.pop_front();
            }
        }
        let (elapsed, cpu, lines) = (began.elapsed(), viewer.cpu() - cpu, (self.lines - first) as f64);
        let (p50_ms, p99_ms) = middle_and_tail_ms(&mut took);
        Round { per_second: lines / elapsed.as_secs_f64(), cpu_us: cpu.as_secs_f64() * 1e6 / lines, p50_ms, p99_ms }
    }

    /// Appends some lines to all logs, each file's at once.
    fn append(&mut self) {
        let mut texts = [const { String::new() }; 3];
        let (now, until) = (Timestamp::now().to_string(), self.lines + LINES_AT_ONCE);
        while self.lines < until {
            let said = said(self.said, &now);
            if let [line] = &*said.lines {
                texts[said.container] += &docker_line(line, said.stderr, &now);
                self.lines += 1;
            }
            self.said += 1;
        }
        for (file, text) in self.files.iter_mut().zip(&texts) {
            file.write_all(text.as_bytes()).expect("a log can be written");
        }
    }
}

/// What the disk needs to flush 4 KB that were appended to a file beside the databases, in ms: the median and the 99th
/// percentile.
fn flushes(until: impl Fn(usize) -> bool) -> Vec<Duration> {
    let folder = Folder::new("flushes");
    let path = folder.0.join("flushed");
    let mut file = OpenOptions::new().create(true).append(true).open(path).expect("a file");
    let mut took = Vec::new();
    while !until(took.len()) {
        file.write_all(&[7; 4_096]).expect("it can be written");
        let began = Instant::now();
        file.sync_data().expect("it can be flushed");
        took.push(began.elapsed());
        std::thread::sleep(Duration::from_millis(10));
    }
    took
}

/// Asks again and again, as an open page does, until told to stop.
fn read(process: &Process, path: &str, stop: &AtomicBool) -> Vec<Duration> {
    let (mut client, request, mut took) = (Client::connect(process.address), get(path), Vec::new());
    while !stop.load(Ordering::Relaxed) {
        let sent = Instant::now();
        assert_eq!(client.send(&request), 200, "{path}");
        took.push(sent.elapsed());
        std::thread::sleep(Duration::from_millis(100));
    }
    took
}

/// What each kind of load comes to in one turn.
struct Rounds {
    reports: Round,
    lines: Round,
    points: Round,
    browser_reports: Round,
    browser_points: Round,
}

impl Rounds {
    const WHAT: [&str; 5] = [
        "reports to the tracker, 3 connections",
        "lines followed by the viewer, 3 logs",
        "points to the collector in batches of 100, 3 connections",
        "reports through the relay, 3 connections",
        "batches of 10 points through the relay, 3 connections",
    ];

    fn all(&self) -> [Round; 5] {
        [self.reports, self.lines, self.points, self.browser_reports, self.browser_points]
    }
}

/// The kinds of load, each for a time.
struct Loads {
    points: Arc<Vec<String>>,
    time: Duration,
}

impl Loads {
    fn reports(&self, tracker: &Process) -> Round {
        load(tracker, CONNECTIONS, Until::Time(self.time), |n| post("/api/errors", &report(n % GROUPS, n)))
    }

    fn points(&self, collector: &Process) -> Round {
        let points = Arc::clone(&self.points);
        let next = move |n: u64| post("/api/metrics", &points[n as usize % points.len()]);
        let round = load(collector, CONNECTIONS, Until::Time(self.time), next);
        Round { per_second: round.per_second * BATCH as f64, cpu_us: round.cpu_us / BATCH as f64, ..round }
    }

    fn browser_reports(&self, relay: &Process) -> Round {
        load(relay, CONNECTIONS, Until::Time(self.time), |n| {
            let group = n % GROUPS;
            page(
                "errors",
                &format!(
                    r#"{{"type":"TypeError","message":"cart is undefined","stack":"TypeError: cart is undefined\n    at add (https://shop.example/assets/app.js:1:{group})","url":"https://shop.example/cart/{n}","session_id":"s-{n}","release":"1.4.2"}}"#
                ),
            )
        })
    }

    fn browser_points(&self, relay: &Process) -> Round {
        let point = r#"{"name":"web_vitals_lcp","type":"histogram","value":1234.5,"labels":{"page":"/cart"}}"#;
        let points = [point; 10].join(",");
        load(relay, CONNECTIONS, Until::Time(self.time), move |n| {
            page("metrics", &format!(r#"{{"metrics":[{points}],"session_id":"s-{n}"}}"#))
        })
    }
}

fn page(what: &str, body: &str) -> Vec<u8> {
    post(&format!("/api/browser/{what}?key={PUBLIC_KEY}"), body)
}

/// Pages that are open meanwhile: what they ask of whom.
const PAGES: [(&str, usize, &str); 4] = [
    ("list of errors", 0, "/api/errors"),
    ("logs with a common word", 1, "/api/logs?search=order"),
    ("histogram of logs", 1, "/api/logs/histogram"),
    ("dashboard, 1h", 2, "/api/dashboard?period=1h"),
];

/// What the mixed load came to.
#[derive(Default)]
struct Mixed {
    alone: Vec<Rounds>,
    together: Vec<Rounds>,
    idle_flushes: Vec<Duration>,
    loaded_flushes: Vec<Duration>,
    pages: [Vec<Duration>; PAGES.len()],
    /// How much of a CPU each service had while all were loaded.
    cpus: [Vec<f64>; 4],
}

impl Mixed {
    /// Each one alone, and then all together.
    fn turn(&mut self, stack: &mut Stack, points: &Arc<Vec<String>>) {
        let loads = Loads { points: Arc::clone(points), time: ALONE };
        self.alone.push(Rounds {
            reports: loads.reports(&stack.tracker),
            lines: stack.logs.follow(&stack.viewer, ALONE),
            points: loads.points(&stack.collector),
            browser_reports: loads.browser_reports(&stack.relay),
            browser_points: loads.browser_points(&stack.relay),
        });
        self.idle_flushes.extend(flushes(|count| count >= 60));
        let loads = Loads { time: TOGETHER, ..loads };
        let Stack { tracker, viewer, collector, relay, logs } = stack;
        let processes = [&*tracker, &*viewer, &*collector, &*relay];
        let (stop, began, before) = (AtomicBool::new(false), Instant::now(), processes.map(Process::cpu));
        std::thread::scope(|scope| {
            let stop = &stop;
            let loads = &loads;
            let pages = PAGES.map(|(_, service, path)| scope.spawn(move || read(processes[service], path, stop)));
            let disk = scope.spawn(|| flushes(|_| stop.load(Ordering::Relaxed)));
            let reports = scope.spawn(|| loads.reports(processes[0]));
            let points = scope.spawn(|| loads.points(processes[2]));
            let browser_reports = scope.spawn(|| loads.browser_reports(processes[3]));
            let browser_points = scope.spawn(|| loads.browser_points(processes[3]));
            let lines = logs.follow(processes[1], TOGETHER);
            let rounds = Rounds {
                reports: reports.join().expect("a load"),
                lines,
                points: points.join().expect("a load"),
                browser_reports: browser_reports.join().expect("a load"),
                browser_points: browser_points.join().expect("a load"),
            };
            stop.store(true, Ordering::Relaxed);
            self.together.push(rounds);
            self.loaded_flushes.extend(disk.join().expect("the disk"));
            for (took, page) in self.pages.iter_mut().zip(pages) {
                took.extend(page.join().expect("a page"));
            }
        });
        let elapsed = began.elapsed().as_secs_f64();
        for ((cpus, process), before) in self.cpus.iter_mut().zip(processes).zip(before) {
            cpus.push((process.cpu() - before).as_secs_f64() / elapsed);
        }
    }
}

fn together(figures: &mut Figures) {
    let mut stack = Stack::start();
    let before = stack.all().map(|process| process.mb("VmRSS:"));
    let points = Arc::new(bodies(20_000, SERIES, BATCH));
    let mut mixed = Mixed::default();
    for _ in 0..TURNS {
        mixed.turn(&mut stack, &points);
    }
    let (_, idle_p99) = middle_and_tail_ms(&mut mixed.idle_flushes);
    let (_, loaded_p99) = middle_and_tail_ms(&mut mixed.loaded_flushes);
    figures.note(format!(
        "Mixed load: every kind of write at once, and four pages that ask ten times a second, median of {TURNS} turns of \
         {} s after as many of each alone. Clients, services and the writer of the logs share the machine's CPUs.",
        TOGETHER.as_secs()
    ));
    let columns =
        ["/s alone", "/s together", "p50 ms together", "p99 ms together", "CPU µs together", "CPU alone ÷ together"];
    figures.table("writes, each alone and all at once", &columns);
    for (index, what) in Rounds::WHAT.into_iter().enumerate() {
        let [alone, together] =
            [&mixed.alone, &mixed.together].map(|turns| turns.iter().map(|turn| turn.all()[index]).collect::<Vec<_>>());
        let ratio = in_turn(&together, &alone, |together, alone| alone.cpu_us / together.cpu_us);
        let (alone, all) = (median(&alone), median(&together));
        let cells = [alone.per_second, all.per_second, all.p50_ms, all.p99_ms, all.cpu_us, ratio];
        figures.row(what, &cells.map(Cell::from));
        let why = "five kinds of load share the CPUs, and commits gather more or less, as the scheduler has it";
        figures.loose_ratio(what, "alone, CPU time", ratio, why);
        figures.loose_ratio(what, "alone, rate", all.per_second / alone.per_second, why);
        if index == 0 || index == 3 {
            let why = "the slowest flushes of a disk differ from run to run";
            figures.loose_ratio(what, "p99 of a flush under that load", loaded_p99 / all.p99_ms, why);
        }
    }
    figures.table("meanwhile", &["median ms", "p99 ms"]);
    for (what, took) in [
        ("the disk flushes 4 KB, nothing else to do", &mut mixed.idle_flushes),
        ("the disk flushes 4 KB, under that load", &mut mixed.loaded_flushes),
    ] {
        let (p50, p99) = middle_and_tail_ms(took);
        figures.row(what, &[p50.into(), p99.into()]);
    }
    for ((what, _, _), took) in PAGES.iter().zip(&mut mixed.pages) {
        let (p50, p99) = middle_and_tail_ms(took);
        figures.row(what, &[p50.into(), p99.into()]);
    }
    memory(figures, &stack, before, mixed.cpus.map(middle));
    let reports = median(&mixed.together.iter().map(|turn| turn.reports).collect::<Vec<_>>());
    figures.summary(
        "The slowest of 100 reports while everything is under load",
        format!("{:.1} ms; of 100 flushes by the disk {loaded_p99:.1} ms, idle {idle_p99:.1} ms", reports.p99_ms),
    );
}

fn memory(figures: &mut Figures, stack: &Stack, before: [f64; 4], cpus: [f64; 4]) {
    figures.table("memory and CPU of each", &["MB idle", "MB after", "MB at peak", "CPUs under load"]);
    let mut sum = [0.0; 4];
    for (((name, process), idle), cpus) in NAMES.iter().zip(stack.all()).zip(before).zip(cpus) {
        let cells = [idle, process.mb("VmRSS:"), process.mb("VmHWM:"), cpus];
        figures.row(name, &cells.map(Cell::from));
        sum.iter_mut().zip(cells).for_each(|(sum, cell)| *sum += cell);
    }
    figures.row("all four", &sum.map(Cell::from));
    figures.ratio("all four, peak of memory", "50 MB", AIM_MB / sum[2]);
    figures.summary(
        "Memory of all four: idle, at their peaks under a mixed load",
        format!("{:.1}, {:.1} MB", sum[0], sum[2]),
    );
}

/// What a process has used so far, of what the kernel counts.
#[derive(Clone, Copy)]
struct Used {
    cpu_s: f64,
    wakes: f64,
    written: f64,
    to_disk: f64,
    mb: f64,
}

impl Used {
    fn of(pid: u32) -> Self {
        let folder = PathBuf::from(format!("/proc/{pid}"));
        let said = |path: &Path, field: &str| {
            let text = std::fs::read_to_string(path).expect("it runs");
            let line = text.lines().find(|line| line.starts_with(field)).unwrap_or_default();
            line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).unwrap_or(0.0)
        };
        let tasks: Vec<PathBuf> =
            std::fs::read_dir(folder.join("task")).expect("it runs").flatten().map(|task| task.path()).collect();
        Self {
            cpu_s: tasks.iter().map(|task| thread_cpu(task)).sum::<Duration>().as_secs_f64(),
            wakes: tasks.iter().map(|task| said(&task.join("status"), "voluntary_ctxt_switches:")).sum(),
            written: said(&folder.join("io"), "wchar:"),
            to_disk: said(&folder.join("io"), "write_bytes:"),
            mb: said(&folder.join("status"), "VmRSS:") * 1024.0 / 1e6,
        }
    }

    fn since(self, earlier: Self) -> Self {
        Self {
            cpu_s: self.cpu_s - earlier.cpu_s,
            wakes: self.wakes - earlier.wakes,
            written: self.written - earlier.written,
            to_disk: self.to_disk - earlier.to_disk,
            mb: self.mb,
        }
    }

    fn cells(self, seconds: f64) -> [Cell; 7] {
        let Self { cpu_s, wakes, written, to_disk, mb } = self;
        [cpu_s, cpu_s / seconds * 100.0, wakes, wakes / seconds, written / 1e3, to_disk / 1e3, mb].map(Cell::from)
    }
}

/// What `make run` starts, from a folder that looks like a checkout.
struct Run {
    shell: Child,
    services: [u32; 4],
    _folder: Arc<Folder>,
}

impl Run {
    fn start() -> Self {
        let folder = Folder::new("run");
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        symlink(root.join("deploy"), folder.0.join("deploy")).expect("a link");
        for (name, binary) in NAMES.into_iter().zip([
            env!("CARGO_BIN_EXE_error-tracker"),
            env!("CARGO_BIN_EXE_log-viewer"),
            env!("CARGO_BIN_EXE_metrics-collector"),
            env!("CARGO_BIN_EXE_browser-relay"),
        ]) {
            symlink(binary, folder.0.join(name)).expect("a link");
        }
        // Held until each has one, so that they differ.
        let listeners = [(); 4].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
        let ports = listeners.each_ref().map(|listener| listener.local_addr().expect("a port").port().to_string());
        drop(listeners);
        let mut command = Command::new(folder.0.join("deploy/run.sh"));
        command.current_dir(&folder.0).env("LISTEN_ADDR", "127.0.0.1");
        command.envs(["PORT", "LOGS_PORT", "METRICS_PORT", "RELAY_PORT"].into_iter().zip(&ports));
        let shell = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("a shell");
        let until = Instant::now() + PATIENCE;
        let services = loop {
            let found = NAMES.map(|name| child_of(shell.id(), name));
            if let [Some(one), Some(two), Some(three), Some(four)] = found {
                break [one, two, three, four];
            }
            assert!(Instant::now() < until, "all services start");
            std::thread::sleep(Duration::from_millis(50));
        };
        Self { shell, services, _folder: folder }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // By the signal that it passes on, or its services would stay.
        let _ = Command::new("kill").arg(self.shell.id().to_string()).status();
        let _ = self.shell.wait();
    }
}

/// The child of a process that runs a program of this name, of which the kernel shows 15 bytes.
fn child_of(parent: u32, name: &str) -> Option<u32> {
    std::fs::read_dir("/proc").expect("/proc").flatten().find_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        let (head, rest) = stat.rsplit_once(") ")?;
        let comm = head.split_once('(')?.1;
        (comm == &name[..name.len().min(15)] && rest.split(' ').nth(1)?.parse() == Ok(parent)).then_some(pid)
    })
}

fn idle(figures: &mut Figures) {
    let seconds: u64 = std::env::var("IDLE_SECONDS").ok().and_then(|seconds| seconds.parse().ok()).unwrap_or(300);
    let run = Run::start();
    // What starting leaves to be done is over.
    std::thread::sleep(Duration::from_secs(15));
    let (began, before) = (Instant::now(), run.services.map(Used::of));
    std::thread::sleep(Duration::from_secs(seconds));
    let elapsed = began.elapsed().as_secs_f64();
    figures.note(format!(
        "Idle: what `make run` starts, asked nothing for {seconds} s (`IDLE_SECONDS`). The collector measures the machine \
         every 10 s and the viewer follows the logs of all four. Wake-ups are voluntary context switches of all threads; \
         written is all that is passed to `write`, to disk what of it reached the block layer."
    ));
    let columns = ["CPU s", "% of a CPU", "wake-ups", "wake-ups/s", "kB written", "kB to disk", "MB resident"];
    figures.table("idle", &columns);
    let mut sum = Used { cpu_s: 0.0, wakes: 0.0, written: 0.0, to_disk: 0.0, mb: 0.0 };
    for ((name, pid), before) in NAMES.into_iter().zip(run.services).zip(before) {
        let used = Used::of(pid).since(before);
        figures.row(name, &used.cells(elapsed));
        figures.ratio(&format!("{name}, wake-ups"), "one a second", elapsed / used.wakes);
        sum = Used {
            cpu_s: sum.cpu_s + used.cpu_s,
            wakes: sum.wakes + used.wakes,
            written: sum.written + used.written,
            to_disk: sum.to_disk + used.to_disk,
            mb: sum.mb + used.mb,
        };
    }
    figures.row("all four", &sum.cells(elapsed));
    figures.ratio("all four, CPU", "1 % of a CPU", elapsed / 100.0 / sum.cpu_s);
    figures.ratio("all four, written", "1 kB/s", elapsed * 1e3 / sum.written);
    figures.ratio("all four, memory", "50 MB", AIM_MB / sum.mb);
    figures.summary(
        "All four idle: CPU, wake-ups, written",
        format!(
            "{:.2} % of a CPU, {:.1} a second, {:.1} MB an hour",
            sum.cpu_s / elapsed * 100.0,
            sum.wakes / elapsed,
            sum.written / 1e6 / elapsed * 3_600.0
        ),
    );
}
