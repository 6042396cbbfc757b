//! Attack harness. While an attack runs, a monitor requests `/health` and an honest client reports errors, each from
//! its own address. Afterwards, the memory, the CPU use and the released resources of the service are checked.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::harness::{Client, Request, Response, Service, Setup, TEST_TIMEOUT, report, report_at, wait_until};

use super::processor_wait::ProcessorWait;

/// Maximum latency of `/health` during an attack, without the time in which its threads wait for a processor.
const HEALTH_TIMEOUT: Duration = Duration::from_millis(100);
/// Attempts until the latency limit must be met. A busy machine can exceed it once, a real problem exceeds it every
/// time.
const ATTEMPTS: usize = 3;
/// Maximum memory of a debug binary during an attack.
const RESIDENT_KIB_MAX: u64 = 22 * 1024;
const CHECK_INTERVAL: Duration = Duration::from_millis(5);
/// Number of health checks after the attack function has returned.
const CHECKS_AFTERWARDS: usize = 20;
const MONITOR: [u8; 4] = [127, 0, 0, 2];
const HONEST: [u8; 4] = [127, 0, 0, 3];
const AUDITORS: [[u8; 4]; 2] = [[127, 0, 0, 4], [127, 0, 0, 5]];

/// Allows one attack at a time, because concurrent attacks would distort the measurements.
static LOCK: Mutex<()> = Mutex::new(());

/// Running service to attack, with the requests of the honest client.
pub struct Attack {
    pub service: Service,
    /// Small report of the honest client, if there is one.
    honest: Option<Request>,
    /// Report with a large body.
    large: Request,
    _upstreams: Vec<Service>,
    _lock: MutexGuard<'static, ()>,
}

/// Results of the monitor, the honest client and the control.
#[derive(Default)]
struct Observations {
    checks: AtomicUsize,
    reports: AtomicUsize,
    errors: Mutex<Vec<String>>,
    slowest: Mutex<Duration>,
    slowest_control: Mutex<Duration>,
    finished: AtomicBool,
}

impl Attack {
    /// Starts an error tracker with the default settings.
    pub fn start() -> Self {
        Self::start_with(Setup::error_tracker())
    }

    /// Starts the service of a setup. The honest client sends it reports for an error tracker.
    pub fn start_with(setup: Setup) -> Self {
        let lock = LOCK.lock().unwrap_or_else(PoisonError::into_inner);
        let mut large = report("a large one");
        large["extra"] = json!({ "padding": "x".repeat(200_000) });
        let (honest, large) = (report_at("an honest one", 7), large);
        let (honest, large) = (Request::post("/api/errors", &honest), Request::post("/api/errors", &large));
        Self { service: setup.start(), honest: Some(honest), large, _upstreams: Vec::new(), _lock: lock }
    }

    /// Starts a browser relay with its upstreams.
    pub fn start_on_relay(configure: impl FnOnce(Setup) -> Setup) -> Self {
        let lock = LOCK.lock().unwrap_or_else(PoisonError::into_inner);
        let upstreams = vec![Setup::error_tracker().start(), Setup::metrics_collector().start()];
        let service = configure(Setup::browser_relay(upstreams[0].address, upstreams[1].address)).start();
        let page = |stack: String| {
            let body = json!({ "type": "E", "message": "e", "stack": stack, "release": "1.0" });
            Request::from_browser("/api/browser/errors", &body)
        };
        let honest = page("E: e\n    at honest (https://shop.example/app.js:1:1)".into());
        let large = page(format!("E: e\n    at large (https://shop.example/app.js:2:1)\n{}", "x".repeat(60_000)));
        Self { service, honest: Some(honest), large, _upstreams: upstreams, _lock: lock }
    }

    /// Sends no honest reports during the attack.
    pub fn without_honest_client(self) -> Self {
        Self { honest: None, ..self }
    }

    /// Runs an attack and asserts that the service survives it. The value that `attack` returns, usually its open
    /// connections, is kept until the service has been checked for idleness.
    #[track_caller]
    pub fn assert_survives<T>(&self, attack: impl Fn(&Service) -> T) {
        for attempt in 1..=ATTEMPTS {
            if self.run_once(&attack, attempt == ATTEMPTS) {
                return;
            }
        }
    }

    /// Runs the attack once and returns whether all health checks were fast enough. In the last attempt they must be.
    #[track_caller]
    fn run_once<T>(&self, attack: &impl Fn(&Service) -> T, last: bool) -> bool {
        let observations = Observations::default();
        let open_resources = std::thread::scope(|scope| {
            scope.spawn(|| self.monitor(&observations));
            scope.spawn(|| self.report(&observations));
            scope.spawn(|| run_control(&observations));
            // Set on drop, so that the threads also stop if an assertion of the attack fails.
            let _finished = SetOnDrop(&observations.finished);
            let open_resources = attack(&self.service);
            let target = observations.checks.load(Ordering::Relaxed) + CHECKS_AFTERWARDS;
            wait_until(|| (observations.checks.load(Ordering::Relaxed) >= target).then_some(()))
                .expect("health checks continue");
            open_resources
        });
        let fast_enough = observations.check(self.service.memory_kib().1, last);
        self.assert_idle();
        self.assert_accepts_large_bodies();
        drop(open_resources);
        let left = || metric_value(&self.service, "monlight_connections") - 1;
        assert!(wait_until(|| (left() == 0).then_some(())).is_some(), "{} connections are still open", left());
        self.assert_accepts_large_bodies();
        fast_enough
    }

    fn monitor(&self, observations: &Observations) {
        let (check, processor_wait) = (health_check(), ProcessorWait::of_service(self.service.pid()));
        while !observations.is_finished() {
            let (before, started) = (processor_wait.snapshot(), Instant::now());
            let response = self.service.connect_from(MONITOR).ok().and_then(|client| exchange(client, &check));
            let latency = started.elapsed().saturating_sub(processor_wait.since(&before));
            Observations::record_latency(&observations.slowest, latency);
            observations.checks.fetch_add(1, Ordering::Relaxed);
            if response.as_ref().map(|response| response.status) != Some(200) {
                observations.record_error(format!("/health: {response:?}"));
            }
            std::thread::sleep(CHECK_INTERVAL);
        }
    }

    fn report(&self, observations: &Observations) {
        let Some(honest) = self.honest.clone() else { return };
        let honest = honest.header("Connection", "close");
        while !observations.is_finished() {
            let response = self.service.connect_from(HONEST).ok().and_then(|client| exchange(client, &honest));
            observations.reports.fetch_add(1, Ordering::Relaxed);
            // 202 is the relay's, while the service behind it has other things to do.
            if !response.as_ref().is_some_and(|response| matches!(response.status, 200..=202)) {
                observations.record_error(format!("honest report: {response:?}"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Asserts that the service uses no CPU time without requests, although the attackers are still connected.
    #[track_caller]
    fn assert_idle(&self) {
        const WINDOW: Duration = Duration::from_millis(200);
        let idle = wait_until(|| {
            let before = cpu_ticks(self.service.pid());
            std::thread::sleep(WINDOW);
            // One tick is 10 ms, so a busy loop would use 20 ticks.
            (cpu_ticks(self.service.pid()) - before <= 2).then_some(())
        });
        assert!(idle.is_some(), "the service uses CPU time without requests");
    }

    /// Asserts that the memory budget is free: the service accepts as many large bodies as fit into it.
    #[track_caller]
    fn assert_accepts_large_bodies(&self) {
        let bytes = self.large.bytes();
        let (last, rest) = bytes.split_last().unwrap();
        let mut clients: Vec<Client> =
            (0..18).map(|n| self.service.connect_from(AUDITORS[n % AUDITORS.len()]).unwrap()).collect();
        for client in &mut clients {
            client.write(rest);
        }
        // The service handles input in order. After this response, it has read everything that was sent before.
        self.service.get("/health").expect(200);
        for client in &mut clients {
            client.write(&[*last]);
        }
        for mut client in clients {
            let status = client.read_response().status;
            assert!(matches!(status, 200..=202), "the memory budget is still in use: status {status}");
        }
    }
}

fn health_check() -> Request {
    Request::get("/health").header("Connection", "close").without_header("X-API-Key")
}

fn exchange(mut client: Client, request: &Request) -> Option<Response> {
    client.write(&request.bytes());
    client.try_read_response()
}

/// Measures the monitor's exchange with a trivial server. Its latency is caused by the machine, not by the service.
fn run_control(observations: &Observations) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let check = health_check();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while let Ok((mut socket, _)) = listener.accept()
                && !observations.is_finished()
            {
                // Only the client below connects, and it notices a missing response.
                let _ = socket.read(&mut [0; 1024]);
                let _ = socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
            }
        });
        while !observations.is_finished() {
            let started = Instant::now();
            exchange(Client::new(TcpStream::connect(address).unwrap()), &check);
            Observations::record_latency(&observations.slowest_control, started.elapsed());
            std::thread::sleep(CHECK_INTERVAL);
        }
        // Unblocks the server's accept.
        drop(TcpStream::connect(address));
    });
}

impl Observations {
    fn is_finished(&self) -> bool {
        self.finished.load(Ordering::Relaxed)
    }

    fn record_latency(slowest: &Mutex<Duration>, latency: Duration) {
        let mut slowest = slowest.lock().unwrap();
        *slowest = slowest.max(latency);
    }

    fn record_error(&self, error: String) {
        self.errors.lock().unwrap().push(error);
    }

    #[track_caller]
    #[expect(clippy::print_stderr, reason = "shown when the test fails, and with --nocapture")]
    fn check(&self, peak_kib: u64, last: bool) -> bool {
        let (slowest, control) = (*self.slowest.lock().unwrap(), *self.slowest_control.lock().unwrap());
        let (checks, reports) = (self.checks.load(Ordering::Relaxed), self.reports.load(Ordering::Relaxed));
        let errors = self.errors.lock().unwrap();
        let name = std::thread::current().name().unwrap_or_default().to_owned();
        eprintln!(
            "{name}: slowest of {checks} checks {} ms (control {} ms), {reports} reports, peak {peak_kib} KiB",
            slowest.as_millis(),
            control.as_millis()
        );
        assert!(errors.is_empty(), "{} of {} requests failed: {}", errors.len(), checks + reports, errors[0]);
        // On a busy machine, the latency of the control is added to the limit.
        let fast_enough = slowest <= HEALTH_TIMEOUT + control;
        assert!(fast_enough || !last, "/health took {slowest:?}, the control {control:?}");
        assert!(peak_kib <= RESIDENT_KIB_MAX, "{peak_kib} KiB resident");
        fast_enough
    }
}

/// Sets a flag when dropped, also during a panic.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Returns the value of a metric without labels from `GET /metrics`.
pub fn metric_value(service: &Service, name: &str) -> u64 {
    let text = service.get("/metrics").expect(200).text();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
    value.unwrap_or_else(|| panic!("no {name} in {text}"))
}

/// Returns the CPU time of a process in ticks, user and system mode together.
fn cpu_ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The name in parentheses may contain spaces; the field after it has number 3 (proc(5)).
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    fields[14 - 3].parse::<u64>().unwrap() + fields[15 - 3].parse::<u64>().unwrap()
}

/// Returns the loopback address of the nth attacker.
pub fn attacker_address(n: usize) -> [u8; 4] {
    let n = u16::try_from(n).unwrap();
    [127, 7, u8::try_from(n / 250).unwrap(), u8::try_from(n % 250 + 1).unwrap()]
}

/// Opens connections from several addresses in turn.
pub fn connect_many(service: &Service, connections: usize, addresses: usize) -> Vec<Client> {
    (0..connections).map(|n| service.connect_from(attacker_address(n % addresses)).unwrap()).collect()
}

/// Writes `bytes` repeatedly from the offset `at` until the socket buffer is full. Returns whether the connection is
/// still open.
pub fn write_nonblocking(client: &Client, bytes: &[u8], at: &mut usize) -> bool {
    nonblocking(client, |mut socket| {
        loop {
            match socket.write(&bytes[*at..]) {
                Ok(written) => *at = (*at + written) % bytes.len(),
                Err(error) => break error.kind() == ErrorKind::WouldBlock,
            }
        }
    })
}

/// Writes the same piece until the server closes the connection or `bytes_max` bytes are sent. Ignores responses.
/// Returns whether all bytes were sent.
pub fn write_until_closed(client: &Client, piece: &[u8], bytes_max: usize) -> bool {
    let mut socket = client.socket();
    let deadline = Instant::now() + TEST_TIMEOUT;
    (0..bytes_max.div_ceil(piece.len())).all(|_| Instant::now() < deadline && socket.write_all(piece).is_ok())
}

/// Returns whether there is something to read, including the end of the stream.
pub fn has_data(client: &Client) -> bool {
    nonblocking(client, |socket| socket.peek(&mut [0]).is_ok())
}

/// Returns whether the server has closed a connection without unread data.
pub fn is_closed(client: &Client) -> bool {
    nonblocking(client, |socket| match socket.peek(&mut [0]) {
        Ok(read) => read == 0,
        Err(error) => error.kind() != ErrorKind::WouldBlock,
    })
}

/// Discards at most `bytes_max` received bytes without blocking; returns how many.
pub fn discard_input(client: &Client, bytes_max: usize) -> usize {
    let mut scratch = [0; 65_536];
    nonblocking(client, |mut socket| {
        let mut discarded = 0;
        while discarded < bytes_max {
            let length = scratch.len().min(bytes_max - discarded);
            match socket.read(&mut scratch[..length]) {
                Ok(read) if read > 0 => discarded += read,
                _ => break,
            }
        }
        discarded
    })
}

fn nonblocking<T>(client: &Client, operation: impl FnOnce(&TcpStream) -> T) -> T {
    client.socket().set_nonblocking(true).unwrap();
    let result = operation(client.socket());
    client.socket().set_nonblocking(false).unwrap();
    result
}

/// Request sent after one that must end its connection. A response to it would be request smuggling.
const SMUGGLED: &[u8] = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n";

/// Sends an invalid request followed by a valid one. Asserts a single error response with this status and a closed
/// connection.
#[track_caller]
pub fn assert_rejected(service: &Service, bytes: &[u8], status: u16) {
    let mut client = service.connect_from(attacker_address(0)).unwrap();
    client.write(&[bytes, SMUGGLED].concat());
    let response = client.read_response();
    let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]);
    assert_eq!(response.status, status, "{shown:?}: {}", response.text());
    assert_eq!(response.header("connection"), Some("close"), "{shown:?}");
    assert!(response.json()["detail"].is_string(), "{shown:?}");
    assert!(client.closes_without_data(), "the server sent more after the response to {shown:?}");
}
