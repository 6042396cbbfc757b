//! What the benches share: a process to measure, keep-alive clients that load it, and medians.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A folder that is gone with the bench.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("monlight-bench-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("the temporary folder can be written");
        Self(path)
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
    _folder: Folder,
}

impl Process {
    /// Starts a command that logs where it listens.
    pub fn start(mut command: Command, folder: Folder) -> Self {
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
        let spent = |task: std::fs::DirEntry| {
            let text = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
            text.split(' ').next().and_then(|ns| ns.parse::<u64>().ok()).unwrap_or(0)
        };
        Duration::from_nanos(tasks.flatten().map(spent).sum())
    }

    /// Resident memory now and at its peak, in MB.
    pub fn memory_mb(&self) -> (f64, f64) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let field = |name: &str| -> f64 {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap_or_default();
            line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).unwrap_or(0.0)
        };
        (field("VmRSS:") * 1024.0 / 1e6, field("VmHWM:") * 1024.0 / 1e6)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One keep-alive connection.
pub struct Client {
    socket: BufReader<TcpStream>,
    body: Vec<u8>,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Self {
        let socket = TcpStream::connect(address).expect("the server accepts");
        socket.set_nodelay(true).expect("a socket option");
        Self { socket: BufReader::new(socket), body: Vec::new() }
    }

    /// Sends a whole request and answers the status; the body can be looked at until the next one.
    pub fn send(&mut self, request: &[u8]) -> u16 {
        self.socket.get_mut().write_all(request).expect("the server reads");
        let (mut line, mut status, mut length) = (String::new(), 0, 0);
        loop {
            line.clear();
            self.socket.read_line(&mut line).expect("the server answers");
            if status == 0 {
                status = line.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status line");
            } else if let Some(value) = line.strip_prefix("Content-Length: ") {
                length = value.trim().parse().expect("a length");
            } else if line == "\r\n" {
                break;
            }
        }
        self.body.resize(length, 0);
        self.socket.read_exact(&mut self.body).expect("the whole body");
        status
    }

    pub fn body(&self) -> &[u8] {
        &self.body
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
    took.sort_unstable();
    let quantile = |q: f64| took[((took.len() - 1) as f64 * q) as usize].as_secs_f64() * 1e3;
    Round {
        per_second: took.len() as f64 / elapsed.as_secs_f64(),
        cpu_us: cpu.as_secs_f64() * 1e6 / took.len() as f64,
        p50_ms: quantile(0.5),
        p99_ms: quantile(0.99),
    }
}

/// The median of each figure over the rounds.
pub fn median(rounds: &[Round]) -> Round {
    let middle = |figure: fn(&Round) -> f64| {
        let mut figures: Vec<f64> = rounds.iter().map(figure).collect();
        figures.sort_unstable_by(f64::total_cmp);
        figures[figures.len() / 2]
    };
    Round {
        per_second: middle(|round| round.per_second),
        cpu_us: middle(|round| round.cpu_us),
        p50_ms: middle(|round| round.p50_ms),
        p99_ms: middle(|round| round.p99_ms),
    }
}
