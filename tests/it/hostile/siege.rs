//! A service under attack. While it lasts a monitor asks for its health, an honest client reports errors, each from an
//! address of its own; afterwards its memory, its idleness and what it still holds are looked at.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::{Client, Request, Response, Service, Setup, TEST_TIMEOUT, report, report_at, wait_until};

/// What an attack may not do to the service.
const HEALTH_WITHIN: Duration = Duration::from_millis(100);
/// A machine with two processors may have other things to do just then. What makes the service slow does so every time.
const ATTEMPTS: usize = 3;
const RESIDENT_KIB_MAX: u64 = 20 * 1024;
const BETWEEN_CHECKS: Duration = Duration::from_millis(5);
/// Health checks that must have passed once an attack has done its worst.
const CHECKS_AFTERWARDS: usize = 20;
const MONITOR: [u8; 4] = [127, 0, 0, 2];
const HONEST: [u8; 4] = [127, 0, 0, 3];
const AUDITORS: [[u8; 4]; 2] = [[127, 0, 0, 4], [127, 0, 0, 5]];

/// One attack at a time: two would disturb each other's figures.
static TURN: Mutex<()> = Mutex::new(());

/// A service that is about to be attacked, or is.
pub struct Siege {
    pub service: Service,
    /// What an honest client reports, small and as large as bodies in flight may be.
    honest: Request,
    large: Request,
    /// What the service needs.
    _behind: Vec<Service>,
    _turn: MutexGuard<'static, ()>,
}

/// What monitor, honest client and control saw.
#[derive(Default)]
struct Chronicle {
    checks: AtomicUsize,
    reports: AtomicUsize,
    troubles: Mutex<Vec<String>>,
    slowest: Mutex<Duration>,
    slowest_control: Mutex<Duration>,
    over: AtomicBool,
}

impl Siege {
    /// Of an error tracker with the usual settings.
    pub fn lay() -> Self {
        Self::of(Setup::error_tracker())
    }

    pub fn of(setup: Setup) -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let mut large = report("a large one");
        large["extra"] = json!({ "padding": "x".repeat(200_000) });
        let (honest, large) = (report_at("an honest one", 7), large);
        let (honest, large) = (Request::post("/api/errors", &honest), Request::post("/api/errors", &large));
        Self { service: setup.start(), honest, large, _behind: Vec::new(), _turn: turn }
    }

    /// Of a browser relay, which takes reports of pages and passes them on.
    pub fn of_relay(set: impl FnOnce(Setup) -> Setup) -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let behind = vec![Setup::error_tracker().start(), Setup::metrics_collector().start()];
        let service = set(Setup::browser_relay(behind[0].address, behind[1].address)).start();
        let page = |stack: String| {
            let body = json!({ "type": "E", "message": "e", "stack": stack, "release": "1.0" });
            Request::from_browser("/api/browser/errors", &body)
        };
        let honest = page("E: e\n    at honest (https://shop.example/app.js:1:1)".into());
        let large = page(format!("E: e\n    at large (https://shop.example/app.js:2:1)\n{}", "x".repeat(60_000)));
        Self { service, honest, large, _behind: behind, _turn: turn }
    }

    /// Runs the attack and fails unless the service holds out. What the attack returns, its open connections usually,
    /// is kept until the service was seen to rest under it.
    #[track_caller]
    pub fn withstands<T>(&self, attack: impl Fn(&Service) -> T) {
        for attempt in 1..=ATTEMPTS {
            if self.holds_out(&attack, attempt == ATTEMPTS) {
                return;
            }
        }
    }

    /// One attack. Answers whether health checks were quick enough throughout; the last time they have to be.
    #[track_caller]
    fn holds_out<T>(&self, attack: &impl Fn(&Service) -> T, last: bool) -> bool {
        let chronicle = Chronicle::default();
        let spoils = std::thread::scope(|scope| {
            scope.spawn(|| self.monitor(&chronicle));
            scope.spawn(|| self.report(&chronicle));
            scope.spawn(|| control(&chronicle));
            // Also when the attack's own assertions fail, or the scope would wait for ever.
            let _over = Raise(&chronicle.over);
            let spoils = attack(&self.service);
            let seen = chronicle.checks.load(Ordering::Relaxed) + CHECKS_AFTERWARDS;
            wait_until(|| (chronicle.checks.load(Ordering::Relaxed) >= seen).then_some(()))
                .expect("health checks go on");
            spoils
        });
        let quick = chronicle.verdict(self.service.memory_kib().1, last);
        self.rests();
        self.takes_large_bodies();
        drop(spoils);
        let left = || metric(&self.service, "monlight_connections") - 1;
        assert!(wait_until(|| (left() == 0).then_some(())).is_some(), "{} connections are left", left());
        self.takes_large_bodies();
        quick
    }

    fn monitor(&self, chronicle: &Chronicle) {
        let check = health_check();
        while !chronicle.over() {
            let begun = Instant::now();
            let response = self.service.connect_from(MONITOR).ok().and_then(|client| exchange(client, &check));
            Chronicle::saw(&chronicle.slowest, begun);
            chronicle.checks.fetch_add(1, Ordering::Relaxed);
            if response.as_ref().map(|response| response.status) != Some(200) {
                chronicle.trouble(format!("/health: {response:?}"));
            }
            std::thread::sleep(BETWEEN_CHECKS);
        }
    }

    fn report(&self, chronicle: &Chronicle) {
        let honest = self.honest.clone().header("Connection", "close");
        while !chronicle.over() {
            let response = self.service.connect_from(HONEST).ok().and_then(|client| exchange(client, &honest));
            chronicle.reports.fetch_add(1, Ordering::Relaxed);
            // 202 is the relay's, while the service behind it has other things to do.
            if !response.as_ref().is_some_and(|response| matches!(response.status, 200..=202)) {
                chronicle.trouble(format!("an honest report: {response:?}"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// With the attackers still connected and nobody asking for anything, it does nothing.
    #[track_caller]
    fn rests(&self) {
        const WINDOW: Duration = Duration::from_millis(200);
        let idle = wait_until(|| {
            let before = cpu_ticks(self.service.pid());
            std::thread::sleep(WINDOW);
            // A tick is 10 ms; a thread that spins takes 20 of them.
            (cpu_ticks(self.service.pid()) - before <= 2).then_some(())
        });
        assert!(idle.is_some(), "it keeps a processor busy with nothing to do");
    }

    /// Bodies as many and as large as may arrive at once are taken: nobody else has a charge on the bytes in flight, or
    /// gives it up.
    #[track_caller]
    fn takes_large_bodies(&self) {
        let bytes = self.large.bytes();
        let (last, most) = bytes.split_last().unwrap();
        let mut clients: Vec<Client> =
            (0..18).map(|n| self.service.connect_from(AUDITORS[n % AUDITORS.len()]).unwrap()).collect();
        for client in &mut clients {
            client.write(most);
        }
        // Whoever asks last is answered last: by then all the bodies have been read as far as they were sent.
        self.service.get("/health").expect(200);
        for client in &mut clients {
            client.write(&[*last]);
        }
        for mut client in clients {
            let status = client.read_response().status;
            assert!(matches!(status, 200..=202), "the bytes in flight are taken: {status}");
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

/// The same exchange as the monitor's with nobody in particular: what it takes, the machine takes, which may have other
/// things to do, the attack among them.
fn control(chronicle: &Chronicle) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let check = health_check();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while let Ok((mut socket, _)) = listener.accept()
                && !chronicle.over()
            {
                // The monitor's twin below is the only one who comes, and notices when nothing is answered.
                let _ = socket.read(&mut [0; 1024]);
                let _ = socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
            }
        });
        while !chronicle.over() {
            let begun = Instant::now();
            exchange(Client::new(TcpStream::connect(address).unwrap()), &check);
            Chronicle::saw(&chronicle.slowest_control, begun);
            std::thread::sleep(BETWEEN_CHECKS);
        }
        // Whoever waits for another one sees that it is over.
        drop(TcpStream::connect(address));
    });
}

impl Chronicle {
    fn over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    fn saw(slowest: &Mutex<Duration>, begun: Instant) {
        let mut slowest = slowest.lock().unwrap();
        *slowest = slowest.max(begun.elapsed());
    }

    fn trouble(&self, what: String) {
        self.troubles.lock().unwrap().push(what);
    }

    #[track_caller]
    #[expect(clippy::print_stderr, reason = "shown when the test fails, and with --nocapture")]
    fn verdict(&self, peak_kib: u64, last: bool) -> bool {
        let (slowest, control) = (*self.slowest.lock().unwrap(), *self.slowest_control.lock().unwrap());
        let (checks, reports) = (self.checks.load(Ordering::Relaxed), self.reports.load(Ordering::Relaxed));
        let troubles = self.troubles.lock().unwrap();
        let name = std::thread::current().name().unwrap_or_default().to_owned();
        eprintln!(
            "{name}: slowest of {checks} checks {} ms (control {} ms), {reports} reports, peak {peak_kib} KiB",
            slowest.as_millis(),
            control.as_millis()
        );
        assert!(troubles.is_empty(), "{} of {}: {}", troubles.len(), checks + reports, troubles[0]);
        // On a machine that does other things as well nobody is quicker than the control.
        let quick = slowest <= HEALTH_WITHIN + control;
        assert!(quick || !last, "/health took {slowest:?}, the control {control:?}");
        assert!(peak_kib <= RESIDENT_KIB_MAX, "{peak_kib} KiB resident");
        quick
    }
}

struct Raise<'a>(&'a AtomicBool);

impl Drop for Raise<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A figure of `GET /metrics`.
pub fn metric(service: &Service, name: &str) -> u64 {
    let text = service.get("/metrics").expect(200).text();
    let figure = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
    figure.unwrap_or_else(|| panic!("no {name} in {text}"))
}

/// Ticks of processor time a process has used, in user and system mode.
fn cpu_ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The name in parentheses may hold blanks; the fields behind it are counted from 3 (proc(5)).
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    fields[14 - 3].parse::<u64>().unwrap() + fields[15 - 3].parse::<u64>().unwrap()
}

/// The nth of the strangers' addresses.
pub fn stranger(n: usize) -> [u8; 4] {
    let n = u16::try_from(n).unwrap();
    [127, 7, u8::try_from(n / 250).unwrap(), u8::try_from(n % 250 + 1).unwrap()]
}

/// As many connections, dealt out among as many strangers.
pub fn crowd(service: &Service, connections: usize, addresses: usize) -> Vec<Client> {
    (0..connections).map(|n| service.connect_from(stranger(n % addresses)).unwrap()).collect()
}

/// Writes as much of `bytes`, again and again from the offset `at` on, as the connection takes without waiting. Answers
/// whether it is still open.
pub fn push(client: &Client, bytes: &[u8], at: &mut usize) -> bool {
    without_waiting(client, |mut socket| {
        loop {
            match socket.write(&bytes[*at..]) {
                Ok(written) => *at = (*at + written) % bytes.len(),
                Err(why) => break why.kind() == ErrorKind::WouldBlock,
            }
        }
    })
}

/// Writes the same piece until the server closes or `bytes_max` are sent, whatever it responses meanwhile. Answers whether
/// it took them all.
pub fn pour(client: &Client, piece: &[u8], bytes_max: usize) -> bool {
    let mut socket = client.socket();
    let deadline = Instant::now() + TEST_TIMEOUT;
    (0..bytes_max.div_ceil(piece.len())).all(|_| Instant::now() < deadline && socket.write_all(piece).is_ok())
}

/// Whether there is something to read, the end included.
pub fn readable(client: &Client) -> bool {
    without_waiting(client, |socket| socket.peek(&mut [0]).is_ok())
}

/// Whether the server has closed a connection on which nothing is left to read.
pub fn gone(client: &Client) -> bool {
    without_waiting(client, |socket| match socket.peek(&mut [0]) {
        Ok(read) => read == 0,
        Err(why) => why.kind() != ErrorKind::WouldBlock,
    })
}

/// Reads and drops what has arrived, at most so many bytes; responses how many there were.
pub fn drain(client: &Client, bytes_max: usize) -> usize {
    let mut scratch = [0; 65_536];
    without_waiting(client, |mut socket| {
        let mut drained = 0;
        while drained < bytes_max {
            let room = scratch.len().min(bytes_max - drained);
            match socket.read(&mut scratch[..room]) {
                Ok(read) if read > 0 => drained += read,
                _ => break,
            }
        }
        drained
    })
}

fn without_waiting<T>(client: &Client, act: impl FnOnce(&TcpStream) -> T) -> T {
    client.socket().set_nonblocking(true).unwrap();
    let done = act(client.socket());
    client.socket().set_nonblocking(false).unwrap();
    done
}

/// What stands behind a request that must end its connection. An response to it would mean that it was smuggled in.
const SMUGGLED: &[u8] = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n";

/// Sends bytes and something behind them; there must be one response, and then no connection.
#[track_caller]
pub fn refused(service: &Service, bytes: &[u8], status: u16) {
    let mut client = service.connect_from(stranger(0)).unwrap();
    client.write(&[bytes, SMUGGLED].concat());
    let response = client.read_response();
    let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]);
    assert_eq!(response.status, status, "{shown:?}: {}", response.text());
    assert_eq!(response.header("connection"), Some("close"), "{shown:?}");
    assert!(response.json()["detail"].is_string(), "{shown:?}");
    assert!(client.closes_without_data(), "something followed the response to {shown:?}");
}
