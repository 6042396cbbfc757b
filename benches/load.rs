//! Shared benchmark code: server processes, keep-alive load clients, ceilings, medians, and rows of result tables.

#![allow(dead_code, reason = "each bench uses a part of this module")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use monlight::http;

use crate::figures::{Cell, Figures, format_number};

/// Requests of each kind in a latency measurement, split into [`TURNS`] that alternate with the reference scan.
const QUERIES: usize = 100;
const TURNS: usize = 5;
/// Lower bound on the CPU time of a query in ratios, in ms: below it, caches and the scheduler dominate.
const CPU_MS_MIN: f64 = 0.3;
/// Rows of the table that the reference scan reads.
const REFERENCE_ROWS: i64 = 100_000;
/// Memory limit of one service in MB, as set in `docker-compose.yml`.
const MEMORY_LIMIT_MB: f64 = 30.0;
/// Command-line flag that turns a bench into the server with the empty handler.
const EMPTY_HANDLER_FLAG: &str = "--empty-handler";

/// Temporary directory that is removed when its last reference is dropped.
pub struct TempDir {
    pub path: PathBuf,
}

impl TempDir {
    pub fn new(name: &str) -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        // Below the build directory: `/tmp` is often a memory file system, where a flush costs nothing.
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("bench-{name}-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).expect("create a temporary directory");
        Arc::new(Self { path })
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// Server in its own process, so that its CPU time and memory can be measured separately from the load clients.
pub struct ServerProcess {
    child: Child,
    pub address: SocketAddr,
    _folder: Arc<TempDir>,
}

impl ServerProcess {
    /// Starts a Monlight service in a folder, with the API key `k`, no rate limit, and additional `settings`.
    pub fn spawn_service(binary: &str, folder: &Arc<TempDir>, settings: &[(&str, &str)]) -> Self {
        let common = [("API_KEY", "k"), ("PORT", "0"), ("LISTEN_ADDR", "127.0.0.1"), ("RATE_LIMIT", "0")];
        let mut command = Command::new(binary);
        command.env_clear().current_dir(&folder.path).envs(common).envs(settings.iter().copied());
        Self::spawn(command, Arc::clone(folder))
    }

    /// Starts the same HTTP server with a handler that does nothing: this executable with [`EMPTY_HANDLER_FLAG`], which
    /// its `main` passes to [`run_empty_handler_if_requested`].
    pub fn spawn_empty_handler() -> Self {
        let mut command = Command::new(std::env::current_exe().expect("the path of this executable"));
        command.arg(EMPTY_HANDLER_FLAG);
        Self::spawn(command, TempDir::new("empty"))
    }

    /// Starts a command and reads the address that it listens on from its log.
    fn spawn(mut command: Command, folder: Arc<TempDir>) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("start the server");
        let mut lines = BufReader::new(child.stderr.take().expect("stderr is piped")).lines();
        let listening = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| line.split_once("listening on ").and_then(|(_, address)| address.trim().parse().ok()));
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address: listening.expect("the server logs its address"), _folder: folder }
    }

    /// CPU time that all threads of the process have used.
    pub fn cpu_time(&self) -> Duration {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).expect("the server is running");
        tasks.flatten().map(|task| thread_cpu_time(&task.path())).sum()
    }

    /// Starts a table of memory measurements; [`Self::memory_row`] adds its rows.
    pub fn memory_table(figures: &mut Figures) {
        figures.begin_table("memory", &["MB now", "MB at peak"]);
    }

    /// Adds a row with the resident memory now and at its peak to the memory table.
    pub fn memory_row(&self, figures: &mut Figures, label: &str) {
        let peak = self.memory_mb("VmHWM:");
        figures.add_row(label, &[self.memory_mb("VmRSS:").into(), peak.into()]);
        figures.add_ratio(label, "the limit of 30 MB", MEMORY_LIMIT_MB / peak);
    }

    /// Memory in MB: `VmRSS:` is the resident memory now, `VmHWM:` its peak.
    pub fn memory_mb(&self, field: &str) -> f64 {
        self.proc_number("status", field) * 1024.0 / 1e6
    }

    /// Bytes that the process has passed to `write` calls.
    pub fn bytes_written(&self) -> f64 {
        self.proc_number("io", "wchar:")
    }

    /// Returns a numeric field of a file in the `/proc` folder of the process; 0 if the field is missing.
    fn proc_number(&self, file: &str, field: &str) -> f64 {
        let text = std::fs::read_to_string(format!("/proc/{}/{file}", self.child.id())).expect("the server is running");
        let line = text.lines().find(|line| line.starts_with(field)).unwrap_or_default();
        line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).unwrap_or(0.0)
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns the CPU time of a thread, given its folder in `/proc`.
pub fn thread_cpu_time(folder: &Path) -> Duration {
    let text = std::fs::read_to_string(folder.join("schedstat")).unwrap_or_default();
    Duration::from_nanos(text.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(0))
}

/// HTTP client with one keep-alive connection, which reconnects after a response with `Connection: close`.
pub struct Client {
    address: SocketAddr,
    socket: BufReader<TcpStream>,
    closed: bool,
    body: Vec<u8>,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Self {
        let socket = TcpStream::connect(address).expect("connect to the server");
        socket.set_nodelay(true).expect("set TCP_NODELAY");
        Self { address, socket: BufReader::new(socket), closed: false, body: Vec::new() }
    }

    /// Sends a request, reads the whole response and returns its status; the body stays readable until the next call.
    pub fn send(&mut self, request: &[u8]) -> u16 {
        if self.closed {
            *self = Self::connect(self.address);
        }
        let (status, length) = self.send_and_read_head(request);
        match length {
            Some(length) => {
                self.body.resize(length, 0);
                self.socket.read_exact(&mut self.body).expect("read the whole body");
            }
            None => while self.read_chunk() {},
        }
        status
    }

    /// Sends a request and returns the status and the length of the body; the length is `None` for a chunked body.
    pub fn send_and_read_head(&mut self, request: &[u8]) -> (u16, Option<usize>) {
        self.socket.get_mut().write_all(request).expect("send the request");
        self.body.clear();
        let (mut line, mut status, mut length) = (String::new(), 0, Some(0));
        loop {
            line.clear();
            self.socket.read_line(&mut line).expect("read the response head");
            if status == 0 {
                status = line.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status line");
            } else if let Some(value) = line.strip_prefix("Content-Length: ") {
                length = Some(value.trim().parse().expect("a numeric Content-Length"));
            } else if line == "Transfer-Encoding: chunked\r\n" {
                length = None;
            } else if line == "Connection: close\r\n" {
                self.closed = true;
            } else if line == "\r\n" {
                return (status, length);
            }
        }
    }

    /// Appends the next chunk to the body; returns `false` after the last chunk.
    pub fn read_chunk(&mut self) -> bool {
        let (mut line, before) = (String::new(), self.body.len());
        self.socket.read_line(&mut line).expect("read a chunk size");
        let length = usize::from_str_radix(line.trim(), 16).expect("a hexadecimal chunk size");
        self.body.resize(before + length + 2, 0);
        self.socket.read_exact(&mut self.body[before..]).expect("read the whole chunk");
        self.body.truncate(before + length);
        length > 0
    }

    pub fn body(&self) -> &[u8] {
        &self.body
    }

    pub fn clear_body(&mut self) {
        self.body.clear();
    }
}

pub fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: bench\r\nX-API-Key: k\r\n\r\n").into_bytes()
}

pub fn post(path: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("POST {path} HTTP/1.1\r\nHost: bench\r\nX-API-Key: k\r\nContent-Length: {length}\r\n\r\n{body}")
        .into_bytes()
}

/// Throughput, CPU time per item and latency of one measurement.
#[derive(Debug, Clone, Copy)]
pub struct Measurement {
    pub per_second: f64,
    pub cpu_us: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
}

/// Length of a load: a number of requests or a duration.
#[derive(Clone, Copy)]
pub enum StopAfter {
    Requests(u64),
    Time(Duration),
}

/// Loads a server over a number of connections. `make_request` gets a running number that is unique in this process.
pub fn run_load(
    process: &ServerProcess,
    connections: usize,
    stop_after: StopAfter,
    make_request: impl Fn(u64) -> Vec<u8> + Send + Sync + 'static,
) -> Measurement {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let (make_request, start, cpu) = (Arc::new(make_request), Instant::now(), process.cpu_time());
    let first = NEXT.load(Ordering::Relaxed);
    let client = || {
        let (make_request, address) = (Arc::clone(&make_request), process.address);
        std::thread::spawn(move || {
            let (mut client, mut latencies) = (Client::connect(address), Vec::new());
            loop {
                let number = NEXT.fetch_add(1, Ordering::Relaxed);
                let finished = match stop_after {
                    StopAfter::Requests(count) => number - first >= count,
                    // At least one request, even if the thread started late on a busy machine.
                    StopAfter::Time(time) => start.elapsed() >= time && !latencies.is_empty(),
                };
                if finished {
                    return latencies;
                }
                let request = make_request(number);
                let sent = Instant::now();
                let status = client.send(&request);
                latencies.push(sent.elapsed());
                assert!(status < 300, "status {status}: {}", String::from_utf8_lossy(client.body()));
            }
        })
    };
    let clients: Vec<_> = (0..connections).map(|_| client()).collect();
    let mut latencies: Vec<Duration> =
        clients.into_iter().flat_map(|client| client.join().expect("a load client panicked")).collect();
    let (elapsed, cpu) = (start.elapsed(), process.cpu_time() - cpu);
    let requests = latencies.len();
    summarize(requests, elapsed, cpu, &mut latencies)
}

/// Repeats a step on the current thread for a duration, at least once, and measures it. Each step processes
/// `items_per_step` items; it gets its running number.
pub fn measure_loop(time: Duration, items_per_step: usize, mut step: impl FnMut(u64)) -> Measurement {
    let (start, cpu, mut latencies) = (Instant::now(), current_thread_cpu_time(), Vec::new());
    loop {
        let (number, step_start) = (latencies.len() as u64, Instant::now());
        step(number);
        latencies.push(step_start.elapsed());
        if start.elapsed() >= time {
            break;
        }
    }
    let (items, cpu) = (items_per_step * latencies.len(), current_thread_cpu_time() - cpu);
    summarize(items, start.elapsed(), cpu, &mut latencies)
}

fn current_thread_cpu_time() -> Duration {
    // The kernel updates the time of a running thread only at its next tick or when it schedules.
    std::thread::yield_now();
    thread_cpu_time(Path::new("/proc/thread-self"))
}

fn summarize(items: usize, elapsed: Duration, cpu: Duration, latencies: &mut [Duration]) -> Measurement {
    let (p50_ms, p99_ms) = p50_p99_ms(latencies);
    let items = items as f64;
    Measurement { per_second: items / elapsed.as_secs_f64(), cpu_us: cpu.as_secs_f64() * 1e6 / items, p50_ms, p99_ms }
}

/// Returns the median and the 99th percentile in ms.
pub fn p50_p99_ms(latencies: &mut [Duration]) -> (f64, f64) {
    latencies.sort_unstable();
    let quantile = |q: f64| latencies[((latencies.len() - 1) as f64 * q) as usize].as_secs_f64() * 1e3;
    (quantile(0.5), quantile(0.99))
}

/// Returns the title of a table of measurements over this number of connections.
pub fn connections_title(connections: usize) -> String {
    match connections {
        1 => "One connection".to_owned(),
        many => format!("{many} connections"),
    }
}

/// Measures a ceiling: bare inserts with one prepared statement into the table that `schema` creates. `bind` returns the
/// values of the row with a running number.
pub fn measure_raw_inserts<V: rusqlite::Params>(
    time: Duration,
    rows_per_commit: usize,
    schema: &str,
    insert: &str,
    mut bind: impl FnMut(u64) -> V,
) -> Measurement {
    let folder = TempDir::new("raw");
    let database = rusqlite::Connection::open(folder.path.join("raw.db")).expect("open a database");
    database.execute_batch(&format!("PRAGMA journal_mode = WAL; {schema}")).expect("create the table");
    let mut insert = database.prepare(insert).expect("prepare the insert");
    let rows = rows_per_commit as u64;
    measure_loop(time, rows_per_commit, |commit| {
        database.execute_batch("BEGIN").expect("begin a transaction");
        for row in commit * rows..(commit + 1) * rows {
            insert.execute(bind(row)).expect("insert a row");
        }
        database.execute_batch("COMMIT").expect("commit");
    })
}

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Returns the median of each member over the rounds.
pub fn median_measurement(rounds: &[Measurement]) -> Measurement {
    let member = |value: fn(&Measurement) -> f64| median(rounds.iter().map(value).collect());
    Measurement {
        per_second: member(|round| round.per_second),
        cpu_us: member(|round| round.cpu_us),
        p50_ms: member(|round| round.p50_ms),
        p99_ms: member(|round| round.p99_ms),
    }
}

/// Returns the median of `ratio` over pairs of measurements of the same turn, because a slow phase of the machine affects
/// both of a pair.
pub fn median_ratio(
    rounds: &[Measurement],
    references: &[Measurement],
    ratio: impl Fn(&Measurement, &Measurement) -> f64,
) -> f64 {
    median(rounds.iter().zip(references).map(|(round, reference)| ratio(round, reference)).collect())
}

/// Minimal version of the measured work, measured in the same turns as what is compared with it.
pub struct Ceiling<'a> {
    pub name: &'a str,
    pub rounds: &'a [Measurement],
}

/// Starts a table of rates; `items` names what is counted, in the plural. Its first rows are the ceilings.
pub fn begin_rate_table(figures: &mut Figures, title: &str, items: &str, ceilings: &[Ceiling<'_>]) {
    let rate = format!("{items}/s");
    let mut columns = [&rate, "CPU µs", "p50 ms", "p99 ms", "per CPU-second"].map(str::to_owned).to_vec();
    columns.extend(ceilings.iter().map(|ceiling| format!("of {}", ceiling.name)));
    figures.begin_table(title, &columns);
    for ceiling in ceilings {
        add_rate_row(figures, &format!("ceiling: {}", ceiling.name), ceiling.rounds, &[]);
    }
}

/// Adds the median of rounds as a row, with its ratio to each ceiling: items per CPU-second as a share of the ceiling's.
pub fn add_rate_row(figures: &mut Figures, label: &str, rounds: &[Measurement], ceilings: &[Ceiling<'_>]) {
    let Measurement { per_second, cpu_us, p50_ms, p99_ms } = median_measurement(rounds);
    let latency = |ms: f64| Cell::from((ms > 0.0).then_some(ms));
    let mut cells = vec![per_second.into(), cpu_us.into(), latency(p50_ms), latency(p99_ms), (1e6 / cpu_us).into()];
    let ratios: Vec<f64> = ceilings
        .iter()
        .map(|ceiling| median_ratio(rounds, ceiling.rounds, |round, ceiling| ceiling.cpu_us / round.cpu_us))
        .collect();
    cells.extend(ratios.iter().copied().map(Cell::from));
    figures.add_row(label, &cells);
    for (ceiling, ratio) in ceilings.iter().zip(ratios) {
        figures.add_ratio(label, ceiling.name, ratio);
    }
}

/// Reason why ratios of query latencies are reported but not compared with earlier runs.
const UNSTABLE_QUERY_TIME: &str = "the CPU time of a query of about 1 ms varies by half between runs";

/// Table of query latencies, each next to a reference that is measured in the same turns: a full scan of a bare SQLite
/// table.
pub struct LatencyTable<'a> {
    figures: &'a mut Figures,
    process: &'a ServerProcess,
    reference: rusqlite::Connection,
}

impl<'a> LatencyTable<'a> {
    pub fn begin(figures: &'a mut Figures, process: &'a ServerProcess, title: &str) -> Self {
        figures.begin_table(title, &["median ms", "p99 ms", "CPU ms", "CPU of table scan ÷ CPU of query"]);
        let reference = rusqlite::Connection::open_in_memory().expect("open a database");
        let schema = "CREATE TABLE rows (id INTEGER PRIMARY KEY, value INTEGER, body TEXT)";
        reference.execute_batch(schema).expect("create the table");
        let sql = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
                   INSERT INTO rows SELECT i, i % 97, hex(randomblob(20)) FROM n";
        reference.execute(sql, [REFERENCE_ROWS]).expect("insert the rows");
        Self { figures, process, reference }
    }

    /// Scans the reference table once and returns the CPU time of the scan.
    fn reference_scan(&self) -> Duration {
        let cpu = current_thread_cpu_time();
        let sql = "SELECT sum(value) FROM rows WHERE body < 'F'";
        let sum: i64 = self.reference.query_row(sql, [], |row| row.get(0)).expect("a sum");
        std::hint::black_box(sum);
        current_thread_cpu_time() - cpu
    }

    /// Measures [`QUERIES`] sequential GET requests and adds a row: median and 99th percentile of the latency and the
    /// server's CPU time per request, all in ms. `path` gets the number of the request.
    pub fn measure(&mut self, label: &str, path: impl Fn(usize) -> String) {
        self.measure_queries(QUERIES, label, path);
    }

    /// Measures like [`Self::measure`], with the given number of requests.
    pub fn measure_queries(&mut self, queries: usize, label: &str, path: impl Fn(usize) -> String) {
        let mut client = Client::connect(self.process.address);
        let (mut latencies, mut query_cpu_ms, mut scan_cpu_ms) = (vec![], vec![], vec![]);
        let numbers: Vec<usize> = (0..queries).collect();
        for turn in numbers.chunks(queries.div_ceil(TURNS)) {
            scan_cpu_ms.push(self.reference_scan().as_secs_f64() * 1e3);
            let cpu = self.process.cpu_time();
            for &number in turn {
                let path = path(number);
                let request = get(&path);
                let sent = Instant::now();
                assert_eq!(client.send(&request), 200, "{path}: {}", String::from_utf8_lossy(client.body()));
                latencies.push(sent.elapsed());
            }
            query_cpu_ms.push((self.process.cpu_time() - cpu).as_secs_f64() * 1e3 / turn.len() as f64);
        }
        let (p50_ms, p99_ms) = p50_p99_ms(&mut latencies);
        // Other processes on the machine can only increase a time, so the minimum of each side is the best estimate.
        let minimum = |values: &[f64]| values.iter().copied().fold(f64::INFINITY, f64::min);
        let ratio = minimum(&scan_cpu_ms) / minimum(&query_cpu_ms).max(CPU_MS_MIN);
        let cpu_ms = median(query_cpu_ms);
        // Too few requests have no 99th percentile.
        let p99 = (queries >= QUERIES).then_some(p99_ms);
        let cells = [p50_ms.into(), p99.into(), cpu_ms.into(), format_number(ratio).as_str().into()];
        self.figures.add_row(label, &cells);
        self.figures.add_informational_ratio(label, "a full scan of 100,000 rows", ratio, UNSTABLE_QUERY_TIME);
    }
}

/// Runs the server with the empty handler until it is killed, if the command line asks for it; otherwise returns `false`.
pub fn run_empty_handler_if_requested(path: &'static str) -> bool {
    if !std::env::args().any(|argument| argument == EMPTY_HANDLER_FLAG) {
        return false;
    }
    struct NoContext;
    let _ = simplelog::WriteLogger::init(log::LevelFilter::Info, simplelog::Config::default(), std::io::stderr());
    let spec = http::RouteSpec::new(http::Method::Post, path, http::Access::Key(http::Scope::Ingest));
    let handler: http::DeferredHandler<NoContext> =
        Box::new(|_, _, responder| responder.send(http::Response::text(201, "created".into())));
    let routes = vec![http::Route::deferred(spec, handler)];
    let bound = http::BoundListener::bind(([127, 0, 0, 1], 0).into()).expect("a free port");
    let settings = http::Settings {
        connection_limits: http::ConnectionLimits { connections: 512, connections_per_address: 512 },
        admission: http::AdmissionSettings {
            public_keys: http::PublicKeySettings::default(),
            sessions: Arc::default(),
            keys: http::Keys::new(monlight::env::Secret::new("k"), &[]).expect("one key"),
            proxies: http::TrustedProxies::default(),
            rate_per_address: 0,
            rate_per_key: 0,
            body_bytes_max: 1 << 20,
        },
        spool_dir: std::env::temp_dir(),
        response_timeout: Duration::from_secs(30),
    };
    let server = http::Server::start(bound, settings, routes, |_| Arc::new(NoContext)).expect("start the server");
    log::info!("listening on {}", server.address());
    loop {
        std::thread::park();
    }
}
