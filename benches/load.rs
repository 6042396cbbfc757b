//! What the benches share: a service to measure and keep-alive clients that load it, the ceilings they have in common,
//! medians, and rows of the tables they fill.

#![allow(dead_code, reason = "each bench needs some of it")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use monlight::http;

use crate::figures::{Cell, Figures, shown};

/// Requests of each kind whose latency is measured, in turns with the yardstick.
const QUERIES: usize = 100;
const TURNS: usize = 5;
/// What a question counts as costing at least, in ms: what is quicker is as quick as the caches and the scheduler have it.
const CPU_MS_MIN: f64 = 0.3;
/// Rows that the yardstick of questions reads.
const YARDSTICK_ROWS: i64 = 100_000;
/// What a service may take of memory, in MB: the limit that compose sets.
const MEMORY_MB: f64 = 30.0;
/// Asks a bench to be the empty handler rather than itself.
const EMPTY_HANDLER: &str = "--empty-handler";

/// A folder that is gone with the last one who holds it.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new(name: &str) -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        // Beside the build and not in `/tmp`, which is often memory: what is flushed should go to a disk.
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("bench-{name}-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).expect("the temporary folder can be written");
        Arc::new(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A server in a process of its own, so that its CPU time and memory are its own too.
pub struct Process {
    child: Child,
    pub address: SocketAddr,
    _folder: Arc<Folder>,
}

impl Process {
    /// Starts a service of ours in a folder, with a key, without a rate limit, and with what else `settings` say.
    pub fn service(binary: &str, folder: &Arc<Folder>, settings: &[(&str, &str)]) -> Self {
        let common = [("API_KEY", "k"), ("PORT", "0"), ("LISTEN_ADDR", "127.0.0.1"), ("RATE_LIMIT", "0")];
        let mut command = Command::new(binary);
        command.env_clear().current_dir(&folder.0).envs(common).envs(settings.iter().copied());
        Self::start(command, Arc::clone(folder))
    }

    /// Starts the same door, gate and pool with a handler that answers at once: this program once more, whose `main`
    /// asks [`is_empty_handler`].
    pub fn empty_handler() -> Self {
        let mut command = Command::new(std::env::current_exe().expect("this program's path"));
        command.arg(EMPTY_HANDLER);
        Self::start(command, Folder::new("empty"))
    }

    /// Starts a command that logs where it listens.
    fn start(mut command: Command, folder: Arc<Folder>) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the server starts");
        let mut lines = BufReader::new(child.stderr.take().expect("stderr is piped")).lines();
        let listening = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| line.split_once("listening on ").and_then(|(_, address)| address.trim().parse().ok()));
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address: listening.expect("the server says where it listens"), _folder: folder }
    }

    /// CPU time of all its threads so far.
    pub fn cpu(&self) -> Duration {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).expect("it runs");
        tasks.flatten().map(|task| thread_cpu(&task.path())).sum()
    }

    /// Begins a table of memory.
    pub fn memory_head(figures: &mut Figures) {
        figures.table("memory", &["MB now", "MB at peak"]);
    }

    /// Adds a row to it: resident now and at its peak.
    pub fn memory_row(&self, figures: &mut Figures, what: &str) {
        let peak = self.mb("VmHWM:");
        figures.row(what, &[self.mb("VmRSS:").into(), peak.into()]);
        figures.ratio(what, "the limit of 30 MB", MEMORY_MB / peak);
    }

    /// Memory in MB: `VmRSS:` is resident now, `VmHWM:` was at its peak.
    pub fn mb(&self, field: &str) -> f64 {
        self.said("status", field) * 1024.0 / 1e6
    }

    /// Bytes it has written so far, to whatever.
    pub fn bytes_written(&self) -> f64 {
        self.said("io", "wchar:")
    }

    /// A number that `/proc` has of it.
    fn said(&self, file: &str, field: &str) -> f64 {
        let text = std::fs::read_to_string(format!("/proc/{}/{file}", self.child.id())).expect("it runs");
        let line = text.lines().find(|line| line.starts_with(field)).unwrap_or_default();
        line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).unwrap_or(0.0)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// CPU time of a thread, by its folder in `/proc`.
pub fn thread_cpu(folder: &Path) -> Duration {
    let text = std::fs::read_to_string(folder.join("schedstat")).unwrap_or_default();
    Duration::from_nanos(text.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(0))
}

/// One keep-alive connection, made anew where an answer was the last on it.
pub struct Client {
    address: SocketAddr,
    socket: BufReader<TcpStream>,
    closed: bool,
    body: Vec<u8>,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Self {
        let socket = TcpStream::connect(address).expect("the server accepts");
        socket.set_nodelay(true).expect("a socket option");
        Self { address, socket: BufReader::new(socket), closed: false, body: Vec::new() }
    }

    /// Sends a whole request and answers the status; the body can be looked at until the next one.
    pub fn send(&mut self, request: &[u8]) -> u16 {
        if self.closed {
            *self = Self::connect(self.address);
        }
        let (status, length) = self.begin(request);
        match length {
            Some(length) => {
                self.body.resize(length, 0);
                self.socket.read_exact(&mut self.body).expect("the whole body");
            }
            None => while self.chunk() {},
        }
        status
    }

    /// Sends a request and answers the status and the body's length; `None` when it comes in chunks.
    pub fn begin(&mut self, request: &[u8]) -> (u16, Option<usize>) {
        self.socket.get_mut().write_all(request).expect("the server reads");
        self.body.clear();
        let (mut line, mut status, mut length) = (String::new(), 0, Some(0));
        loop {
            line.clear();
            self.socket.read_line(&mut line).expect("the server answers");
            if status == 0 {
                status = line.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status line");
            } else if let Some(value) = line.strip_prefix("Content-Length: ") {
                length = Some(value.trim().parse().expect("a length"));
            } else if line == "Transfer-Encoding: chunked\r\n" {
                length = None;
            } else if line == "Connection: close\r\n" {
                self.closed = true;
            } else if line == "\r\n" {
                return (status, length);
            }
        }
    }

    /// Adds the next chunk to the body; `false` after the last.
    pub fn chunk(&mut self) -> bool {
        let (mut line, before) = (String::new(), self.body.len());
        self.socket.read_line(&mut line).expect("a chunk");
        let length = usize::from_str_radix(line.trim(), 16).expect("a chunk's length");
        self.body.resize(before + length + 2, 0);
        self.socket.read_exact(&mut self.body[before..]).expect("a whole chunk");
        self.body.truncate(before + length);
        length > 0
    }

    pub fn body(&self) -> &[u8] {
        &self.body
    }

    pub fn clear(&mut self) {
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

/// What one round of load came to.
#[derive(Debug, Clone, Copy)]
pub struct Round {
    pub per_second: f64,
    pub cpu_us: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
}

/// How long to load: until a number of requests, or for a time.
#[derive(Clone, Copy)]
pub enum Until {
    Requests(u64),
    Time(Duration),
}

/// Loads a server over so many connections with the requests that `make` makes of running numbers.
pub fn load(
    process: &Process,
    connections: usize,
    until: Until,
    make: impl Fn(u64) -> Vec<u8> + Send + Sync + 'static,
) -> Round {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let (make, began, cpu) = (Arc::new(make), Instant::now(), process.cpu());
    let first = NEXT.load(Ordering::Relaxed);
    let client = || {
        let (make, address) = (Arc::clone(&make), process.address);
        std::thread::spawn(move || {
            let (mut client, mut took) = (Client::connect(address), Vec::new());
            loop {
                let number = NEXT.fetch_add(1, Ordering::Relaxed);
                let over = match until {
                    Until::Requests(count) => number - first >= count,
                    Until::Time(time) => began.elapsed() >= time,
                };
                if over {
                    return took;
                }
                let request = make(number);
                let sent = Instant::now();
                let status = client.send(&request);
                took.push(sent.elapsed());
                assert!(status < 300, "status {status}: {}", String::from_utf8_lossy(client.body()));
            }
        })
    };
    let clients: Vec<_> = (0..connections).map(|_| client()).collect();
    let mut took: Vec<Duration> = clients.into_iter().flat_map(|client| client.join().expect("a client")).collect();
    let (elapsed, cpu) = (began.elapsed(), process.cpu() - cpu);
    let requests = took.len();
    round(requests, elapsed, cpu, &mut took)
}

/// What this thread alone comes to that takes a step again and again for a time, at least once, each step doing so many
/// things.
pub fn alone(time: Duration, things: usize, mut step: impl FnMut(u64)) -> Round {
    let (began, cpu, mut took) = (Instant::now(), own_cpu(), Vec::new());
    loop {
        let (number, begun) = (took.len() as u64, Instant::now());
        step(number);
        took.push(begun.elapsed());
        if began.elapsed() >= time {
            break;
        }
    }
    round(things * took.len(), began.elapsed(), own_cpu() - cpu, &mut took)
}

fn own_cpu() -> Duration {
    thread_cpu(Path::new("/proc/thread-self"))
}

fn round(things: usize, elapsed: Duration, cpu: Duration, took: &mut [Duration]) -> Round {
    let (p50_ms, p99_ms) = middle_and_tail_ms(took);
    let things = things as f64;
    Round { per_second: things / elapsed.as_secs_f64(), cpu_us: cpu.as_secs_f64() * 1e6 / things, p50_ms, p99_ms }
}

/// The median and the 99th percentile, in ms.
pub fn middle_and_tail_ms(took: &mut [Duration]) -> (f64, f64) {
    took.sort_unstable();
    let quantile = |q: f64| took[((took.len() - 1) as f64 * q) as usize].as_secs_f64() * 1e3;
    (quantile(0.5), quantile(0.99))
}

/// The title of a table of what goes over so many connections.
pub fn over(connections: usize) -> String {
    match connections {
        1 => "One connection".to_owned(),
        many => format!("{many} connections"),
    }
}

/// A ceiling: bare inserts into the table that `schema` makes, one prepared statement, so many rows a transaction;
/// `bind` gives the values of a running number.
pub fn raw_sqlite<V: rusqlite::Params>(
    time: Duration,
    rows_per_commit: usize,
    schema: &str,
    insert: &str,
    mut bind: impl FnMut(u64) -> V,
) -> Round {
    let folder = Folder::new("raw");
    let database = rusqlite::Connection::open(folder.0.join("raw.db")).expect("a database");
    database.execute_batch(&format!("PRAGMA journal_mode = WAL; {schema}")).expect("a table");
    let mut insert = database.prepare(insert).expect("a statement");
    let rows = rows_per_commit as u64;
    alone(time, rows_per_commit, |commit| {
        database.execute_batch("BEGIN").expect("a transaction");
        for row in commit * rows..(commit + 1) * rows {
            insert.execute(bind(row)).expect("a row");
        }
        database.execute_batch("COMMIT").expect("a commit");
    })
}

/// The median of some figures.
pub fn middle(mut figures: Vec<f64>) -> f64 {
    figures.sort_unstable_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// The median of each figure over the rounds.
pub fn median(rounds: &[Round]) -> Round {
    let middle = |figure: fn(&Round) -> f64| middle(rounds.iter().map(figure).collect());
    Round {
        per_second: middle(|round| round.per_second),
        cpu_us: middle(|round| round.cpu_us),
        p50_ms: middle(|round| round.p50_ms),
        p99_ms: middle(|round| round.p99_ms),
    }
}

/// The median over the rounds of how `of` a round and its neighbour of the same turn compare, so that a slow moment of
/// the machine falls on both.
pub fn in_turn(rounds: &[Round], ceilings: &[Round], of: impl Fn(&Round, &Round) -> f64) -> f64 {
    middle(rounds.iter().zip(ceilings).map(|(round, ceiling)| of(round, ceiling)).collect())
}

/// Something that is measured in the same turns as what is compared to it.
pub struct Ceiling<'a> {
    pub name: &'a str,
    pub rounds: &'a [Round],
}

/// Begins a table of rounds; `thing` is what is counted. Its first rows are the ceilings.
pub fn round_head(figures: &mut Figures, title: &str, thing: &str, ceilings: &[Ceiling<'_>]) {
    let things = format!("{thing}/s");
    let mut columns = [&things, "CPU µs", "p50 ms", "p99 ms", "per CPU-second"].map(str::to_owned).to_vec();
    columns.extend(ceilings.iter().map(|ceiling| format!("of {}", ceiling.name)));
    figures.table(title, &columns);
    for ceiling in ceilings {
        round_row(figures, &format!("ceiling: {}", ceiling.name), ceiling.rounds, &[]);
    }
}

/// Adds the median of rounds as a row, with its ratios to ceilings: how much of what they do in a CPU-second is done.
pub fn round_row(figures: &mut Figures, what: &str, rounds: &[Round], ceilings: &[Ceiling<'_>]) {
    let Round { per_second, cpu_us, p50_ms, p99_ms } = median(rounds);
    let latency = |ms: f64| Cell::from((ms > 0.0).then_some(ms));
    let mut cells = vec![per_second.into(), cpu_us.into(), latency(p50_ms), latency(p99_ms), (1e6 / cpu_us).into()];
    let ratios: Vec<f64> = ceilings
        .iter()
        .map(|ceiling| in_turn(rounds, ceiling.rounds, |round, ceiling| ceiling.cpu_us / round.cpu_us))
        .collect();
    cells.extend(ratios.iter().copied().map(Cell::from));
    figures.row(what, &cells);
    for (ceiling, ratio) in ceilings.iter().zip(ratios) {
        figures.ratio(what, ceiling.name, ratio);
    }
}

/// Why questions are shown and not held to.
const UNSTEADY: &str = "the CPU time of a millisecond's question differs by half between runs";

/// A table of how long questions take, beside a yardstick of the same moment: SQLite reading through a bare table.
pub struct Latencies<'a> {
    figures: &'a mut Figures,
    process: &'a Process,
    yardstick: rusqlite::Connection,
}

impl<'a> Latencies<'a> {
    pub fn of(figures: &'a mut Figures, process: &'a Process, title: &str) -> Self {
        figures.table(title, &["median ms", "p99 ms", "CPU ms", "bare scan ÷ this"]);
        let yardstick = rusqlite::Connection::open_in_memory().expect("a database");
        let schema = "CREATE TABLE rows (id INTEGER PRIMARY KEY, value INTEGER, body TEXT)";
        yardstick.execute_batch(schema).expect("a table");
        let sql = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
                   INSERT INTO rows SELECT i, i % 97, hex(randomblob(20)) FROM n";
        yardstick.execute(sql, [YARDSTICK_ROWS]).expect("rows");
        Self { figures, process, yardstick }
    }

    /// CPU time of one reading of the bare table.
    fn yardstick(&self) -> Duration {
        let cpu = own_cpu();
        let sql = "SELECT sum(value) FROM rows WHERE body < 'F'";
        let sum: i64 = self.yardstick.query_row(sql, [], |row| row.get(0)).expect("a sum");
        std::hint::black_box(sum);
        own_cpu() - cpu
    }

    /// Adds how long a kind of request takes, in ms: median and 99th percentile of [`QUERIES`], one after the other, and
    /// the server's CPU time of one; `path` gets a running number.
    pub fn row(&mut self, what: &str, path: impl Fn(usize) -> String) {
        self.row_of(QUERIES, what, path);
    }

    /// The same of so many requests.
    pub fn row_of(&mut self, queries: usize, what: &str, path: impl Fn(usize) -> String) {
        let mut client = Client::connect(self.process.address);
        let (mut took, mut cpus, mut yardsticks) = (vec![], vec![], vec![]);
        let numbers: Vec<usize> = (0..queries).collect();
        for turn in numbers.chunks(queries.div_ceil(TURNS)) {
            yardsticks.push(self.yardstick().as_secs_f64() * 1e3);
            let cpu = self.process.cpu();
            for &number in turn {
                let path = path(number);
                let request = get(&path);
                let sent = Instant::now();
                assert_eq!(client.send(&request), 200, "{path}: {}", String::from_utf8_lossy(client.body()));
                took.push(sent.elapsed());
            }
            cpus.push((self.process.cpu() - cpu).as_secs_f64() * 1e3 / turn.len() as f64);
        }
        let (p50_ms, p99_ms) = middle_and_tail_ms(&mut took);
        // Others on the machine only ever add to either, so the least of each compares best.
        let least = |figures: &[f64]| figures.iter().copied().fold(f64::INFINITY, f64::min);
        let ratio = least(&yardsticks) / least(&cpus).max(CPU_MS_MIN);
        let cpu_ms = middle(cpus);
        // Of a few there is no 99th percentile.
        let p99 = (queries >= QUERIES).then_some(p99_ms);
        self.figures.row(what, &[p50_ms.into(), p99.into(), cpu_ms.into(), shown(ratio).as_str().into()]);
        self.figures.loose_ratio(what, "a bare scan of 100,000 rows", ratio, UNSTEADY);
    }
}

/// Whether this program was asked to be the empty handler; it then is one until it is killed.
pub fn is_empty_handler(path: &'static str) -> bool {
    if !std::env::args().any(|argument| argument == EMPTY_HANDLER) {
        return false;
    }
    struct Nothing;
    let _ = simplelog::WriteLogger::init(log::LevelFilter::Info, simplelog::Config::default(), std::io::stderr());
    let spec = http::RouteSpec::new(http::Method::Post, path, http::Access::Key(http::Scope::Ingest));
    let answer: http::DeferredHandler<Nothing> =
        Box::new(|_, _, responder| responder.send(http::Response::text(201, "created".into())));
    let routes = vec![http::Route::deferred(spec, answer)];
    let bound = http::Bound::bind(([127, 0, 0, 1], 0).into()).expect("a free port");
    let settings = http::Settings {
        connection_limits: http::ConnectionLimits { connections: 512, connections_per_address: 512 },
        admission: http::AdmissionSettings {
            public_keys: http::PublicKeySettings::default(),
            sessions: Arc::default(),
            keys: http::Keys::new(monlight::env::Secret::new("k"), &[]).expect("one key"),
            proxies: http::Proxies::default(),
            rate_per_address: 0,
            rate_per_key: 0,
            body_bytes_max: 1 << 20,
        },
        spool_dir: std::env::temp_dir(),
    };
    let server = http::Server::start(bound, settings, routes, |_| Arc::new(Nothing)).expect("it starts");
    log::info!("listening on {}", server.address());
    loop {
        std::thread::park();
    }
}
