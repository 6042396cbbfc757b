//! Test harness: starts a service binary on a free port with its own temporary folder, sends HTTP requests to it, and
//! cleans up when the test ends.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::programs::output_text;

/// Deadline for every wait and every socket operation of a test. Only a failing test reaches it, so that it is long
/// enough for a machine with ten times more work than processors.
pub const TEST_TIMEOUT: Duration = Duration::from_secs(60);
/// API key with all scopes.
pub const API_KEY: &str = "test-key-0123456789";
/// Public key for browsers of the project `shop`.
pub const PUBLIC_KEY: &str = "00112233445566778899aabbccddeeff";

/// Names of the four services, which are also the names of their binaries.
pub const SERVICES: [&str; 4] = ["error-tracker", "log-viewer", "metrics-collector", "browser-relay"];

/// Temporary folder, deleted on drop.
pub struct TempDir(PathBuf);

impl TempDir {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("monlight-it-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Returns the path of a service binary: in `MONLIGHT_BIN_DIR` if `make` set it, otherwise the one that cargo built.
pub fn binary(name: &str) -> PathBuf {
    std::env::var_os("MONLIGHT_BIN_DIR").map_or_else(|| cargo_binary(name), |folder| PathBuf::from(folder).join(name))
}

/// Returns the path of a binary that cargo built for the tests. It is dynamically linked, unlike the one `make` builds.
fn cargo_binary(name: &str) -> PathBuf {
    match name {
        "browser-relay" => env!("CARGO_BIN_EXE_browser-relay").into(),
        "error-tracker" => env!("CARGO_BIN_EXE_error-tracker").into(),
        "log-viewer" => env!("CARGO_BIN_EXE_log-viewer").into(),
        "metrics-collector" => env!("CARGO_BIN_EXE_metrics-collector").into(),
        other => panic!("unknown service binary {other:?}"),
    }
}

/// Builder for the environment and the command line of a service.
pub struct Setup {
    name: &'static str,
    database: &'static str,
    env: Vec<(String, String)>,
    data_dir: Arc<TempDir>,
    wrapper: Vec<String>,
    arguments: Vec<String>,
    preloaded: bool,
}

impl Setup {
    /// Returns the setup of an error tracker with `API_KEY`, without a rate limit, on a free port of 127.0.0.1.
    pub fn error_tracker() -> Self {
        Self::new("error-tracker", "errors.db")
    }

    /// Returns the setup of a log viewer that reads the folder `containers` in its data folder.
    pub fn log_viewer() -> Self {
        Self::new("log-viewer", "logs.db").env("LOG_SOURCES", "containers").env("POLL_INTERVAL", 1)
    }

    /// Returns the setup of a metrics collector with host metrics off.
    pub fn metrics_collector() -> Self {
        Self::new("metrics-collector", "metrics.db").env("HOST_METRICS", 0)
    }

    /// Returns the setup of a browser relay whose upstreams are the error tracker at `errors` and the metrics collector
    /// at `metrics`.
    pub fn browser_relay(errors: SocketAddr, metrics: SocketAddr) -> Self {
        Self::new("browser-relay", "browser-relay.db")
            .env("ADMIN_API_KEY", API_KEY)
            .env("ERROR_TRACKER_URL", format!("http://{errors}"))
            .env("ERROR_TRACKER_API_KEY", API_KEY)
            .env("METRICS_COLLECTOR_URL", format!("http://{metrics}"))
            .env("METRICS_COLLECTOR_API_KEY", API_KEY)
            .env("KEY_RATE_LIMIT", 0)
            .env("DSN_KEYS", format!("shop:{PUBLIC_KEY}"))
    }

    fn new(name: &'static str, database: &'static str) -> Self {
        let data_dir = Arc::new(TempDir::new());
        let env = [("API_KEY", API_KEY), ("PORT", "0"), ("LISTEN_ADDR", "127.0.0.1"), ("RATE_LIMIT", "0")];
        let env = env.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let setup = Self {
            name,
            database,
            env,
            data_dir: Arc::clone(&data_dir),
            wrapper: Vec::new(),
            arguments: Vec::new(),
            preloaded: false,
        };
        setup.data_dir(&data_dir)
    }

    /// Sets an environment variable. Services treat an empty value as not set.
    pub fn env(mut self, name: &str, value: impl ToString) -> Self {
        self.env.retain(|(set, _)| set != name);
        self.env.push((name.to_owned(), value.to_string()));
        self
    }

    /// Sets the folder of the database, so that a later start can use the same files.
    pub fn data_dir(mut self, data_dir: &Arc<TempDir>) -> Self {
        self.data_dir = Arc::clone(data_dir);
        let database = data_dir.path().join(self.database);
        self.env("DATABASE_PATH", database.display())
    }

    /// Starts the service through another program, for example `sh -c 'ulimit -n 64; exec "$0"'`.
    pub fn wrapped_by(mut self, wrapper: &[&str]) -> Self {
        self.wrapper = wrapper.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// Sets `LD_PRELOAD`. Uses the dynamically linked binary, because a static one ignores the variable.
    pub fn with_preload(mut self, library: &Path) -> Self {
        self.preloaded = true;
        self.env("LD_PRELOAD", library.display())
    }

    /// Sets the command line arguments, for example `--help`.
    pub fn arguments(mut self, arguments: &[&str]) -> Self {
        self.arguments = arguments.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    fn command(&self) -> Command {
        let binary = if self.preloaded { cargo_binary(self.name) } else { binary(self.name) };
        let mut command = match self.wrapper.split_first() {
            Some((program, arguments)) => {
                let mut command = Command::new(program);
                command.args(arguments).arg(binary);
                command
            }
            None => Command::new(binary),
        };
        command.args(&self.arguments);
        command.env_clear().envs(self.env.iter().map(|(name, value)| (name, value)));
        command.current_dir(self.data_dir.path());
        command
    }

    /// Runs the service until it exits, for starts that must fail. Returns its exit code and its output.
    pub fn run_to_exit(&self) -> (Option<i32>, String) {
        let output = self.command().stdin(Stdio::null()).output().unwrap();
        (output.status.code(), output_text(&output))
    }

    /// Starts the service, waits until it is ready, and reads its address from the log.
    pub fn start(self) -> Service {
        let mut service = self.spawn();
        let ready = service.wait_for_log(" is ready");
        assert!(ready.is_some(), "the service did not start: {:#?}", service.log());
        let listening = service.log().into_iter().find_map(|line| line.split_once("listening on ")?.1.parse().ok());
        service.address = listening.unwrap();
        if service.address.ip().is_unspecified() {
            service.address.set_ip(IpAddr::V4(Ipv4Addr::LOCALHOST));
        }
        service
    }

    /// Starts the service on a port of 127.0.0.1 and waits until it accepts connections. Works with any log level.
    pub fn start_on_port(self, port: u16) -> Service {
        let mut service = self.env("PORT", port).spawn();
        service.address.set_port(port);
        let accepts = wait_until(|| TcpStream::connect(service.address).ok());
        assert!(accepts.is_some(), "the service did not start: {:#?}", service.log());
        service
    }

    fn spawn(self) -> Service {
        let mut child =
            self.command().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (lines, stderr) = (Arc::clone(&log), child.stderr.take().unwrap());
        let log_reader = std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                lines.lock().unwrap().push(line);
            }
        });
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        Service { child, log, log_reader: Some(log_reader), address, data_dir: self.data_dir }
    }
}

/// Running service, killed on drop.
pub struct Service {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    log_reader: Option<JoinHandle<()>>,
    pub address: SocketAddr,
    pub data_dir: Arc<TempDir>,
}

impl Service {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns the lines logged so far.
    pub fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    /// Waits for a log line that contains `part` and returns it; `None` after the timeout.
    pub fn wait_for_log(&self, part: &str) -> Option<String> {
        wait_until(|| self.log().into_iter().find(|line| line.contains(part)))
    }

    /// Sends SIGTERM, waits for the exit, and returns the exit status and how long it took.
    pub fn stop(mut self) -> (ExitStatus, Duration) {
        let started = Instant::now();
        send_signal(self.pid(), "TERM");
        let status = wait_until(|| self.child.try_wait().unwrap()).expect("the service stops after SIGTERM");
        (status, started.elapsed())
    }

    /// Waits for the exit after a signal that the test has sent.
    pub fn stop_status(mut self) -> ExitStatus {
        wait_until(|| self.child.try_wait().unwrap()).expect("the service stops")
    }

    /// Sends SIGTERM, waits for the end of the log, and returns all lines.
    pub fn stop_and_collect_log(mut self) -> Vec<String> {
        send_signal(self.pid(), "TERM");
        self.log_reader.take().unwrap().join().unwrap();
        self.log()
    }

    /// Sends SIGKILL, so that nothing is flushed or closed, and returns the data folder.
    pub fn kill(mut self) -> Arc<TempDir> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        Arc::clone(&self.data_dir)
    }

    /// Returns the resident memory and its peak, in KiB.
    pub fn memory_kib(&self) -> (u64, u64) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let field = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse().unwrap()
        };
        (field("VmRSS:"), field("VmHWM:"))
    }

    pub fn connect(&self) -> Client {
        Client::connect(self.address)
    }

    /// Connects from the loopback address `source`, for example 127.0.0.2.
    pub fn connect_from(&self, source: [u8; 4]) -> std::io::Result<Client> {
        Client::connect_from(self.address, source)
    }

    pub fn get(&self, path: &str) -> Response {
        self.connect().send(&Request::get(path))
    }

    pub fn post(&self, path: &str, body: &Value) -> Response {
        self.connect().send(&Request::post(path, body))
    }

    pub fn send(&self, request: &Request) -> Response {
        self.connect().send(request)
    }

    /// Returns a numeric member of `/health`.
    #[track_caller]
    pub fn health_number(&self, name: &str) -> i64 {
        self.get("/health").json()[name].as_i64().unwrap_or_else(|| panic!("/health has no {name}"))
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // Fails if the test has stopped the service already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns a free loopback address. Its port is below those that Linux assigns to other sockets, and no two calls return the
/// same, so it stays free for the caller.
pub fn free_address() -> SocketAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    const PORTS: std::ops::Range<u32> = 10_000..30_000;
    loop {
        // Processes that run at the same time start at different ports.
        let offset = std::process::id().wrapping_mul(100).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = u16::try_from(PORTS.start + offset % (PORTS.end - PORTS.start)).unwrap();
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            return listener.local_addr().unwrap();
        }
    }
}

pub fn free_port() -> u16 {
    free_address().port()
}

/// Returns whether the test runs as root; skips the test if it does not.
pub fn root_or_skip(operation: &str) -> bool {
    let root = std::fs::metadata("/proc/self").is_ok_and(|process| std::os::unix::fs::MetadataExt::uid(&process) == 0);
    if !root {
        skip(&format!("{operation} needs root"));
    }
    root
}

/// Prints that a test is skipped and why, and adds the reason to the file that `MONLIGHT_SKIPPED` names, from which
/// `make test-quick` lists them at the end. In CI, a skipped test fails.
pub fn skip(reason: &str) {
    eprintln!("\n*** SKIPPED: {reason} ***\n");
    if let Some(path) = std::env::var_os("MONLIGHT_SKIPPED") {
        let mut list = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        list.write_all(format!("{reason}\n").as_bytes()).unwrap();
    }
    assert!(std::env::var_os("CI").is_none(), "tests must not be skipped in CI: {reason}");
}

/// Sends a signal, for example `TERM`, to one process.
pub fn send_signal(pid: u32, name: &str) {
    assert!(Command::new("kill").args(["-s", name, &pid.to_string()]).status().unwrap().success());
}

/// Polls every 10 ms until `poll` returns a value; returns `None` after `TEST_TIMEOUT`.
pub fn wait_until<T>(mut poll: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + TEST_TIMEOUT;
    loop {
        match poll() {
            Some(value) => return Some(value),
            None if Instant::now() > deadline => return None,
            None => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

/// HTTP request to send. Has `API_KEY` by default.
#[derive(Clone)]
pub struct Request {
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Request {
    pub fn new(method: &str, path: &str) -> Self {
        let headers = [("Host", "localhost"), ("X-API-Key", API_KEY)];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        Self { method: method.to_owned(), path: path.to_owned(), headers, body: Vec::new() }
    }

    pub fn get(path: &str) -> Self {
        Self::new("GET", path)
    }

    pub fn post(path: &str, body: &Value) -> Self {
        Self::new("POST", path).body(body.to_string())
    }

    /// Returns a POST request from a browser page of the project `shop`: with the public key, without `API_KEY`.
    pub fn from_browser(path: &str, body: &Value) -> Self {
        Self::post(path, body).without_header("X-API-Key").header("X-Monlight-Key", PUBLIC_KEY)
    }

    /// Sets a header, replacing an existing one.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self = self.without_header(name);
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn without_header(mut self, name: &str) -> Self {
        self.headers.retain(|(set, _)| !set.eq_ignore_ascii_case(name));
        self
    }

    /// Sets the body and `Content-Length`.
    pub fn body(self, body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        let mut request = self.header("Content-Length", &body.len().to_string());
        request.body = body;
        request
    }

    /// Returns the request as sent over the wire.
    pub fn bytes(&self) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.path);
        for (name, value) in &self.headers {
            write!(head, "{name}: {value}\r\n").unwrap();
        }
        head.push_str("\r\n");
        [head.as_bytes(), &self.body].concat()
    }
}

/// HTTP client with one persistent connection.
pub struct Client {
    socket: BufReader<TcpStream>,
}

impl Client {
    #[track_caller]
    pub fn connect(address: SocketAddr) -> Self {
        Self::new(TcpStream::connect(address).unwrap())
    }

    /// Connects from the loopback address `source`, for example 127.0.0.2.
    pub fn connect_from(address: SocketAddr, source: [u8; 4]) -> std::io::Result<Self> {
        let socket = rustix::net::socket_with(
            rustix::net::AddressFamily::INET,
            rustix::net::SocketType::STREAM,
            rustix::net::SocketFlags::CLOEXEC,
            None,
        )?;
        rustix::net::bind(&socket, &SocketAddr::from((source, 0)))?;
        rustix::net::connect(&socket, &address)?;
        Ok(Self::new(TcpStream::from(socket)))
    }

    pub fn new(socket: TcpStream) -> Self {
        socket.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
        socket.set_write_timeout(Some(TEST_TIMEOUT)).unwrap();
        socket.set_nodelay(true).unwrap();
        Self { socket: BufReader::new(socket) }
    }

    pub fn socket(&self) -> &TcpStream {
        self.socket.get_ref()
    }

    pub fn send(&mut self, request: &Request) -> Response {
        self.write(&request.bytes());
        self.read(request.method == "HEAD").expect("the server sends a response")
    }

    /// Writes bytes. Ignores write errors: if the server has closed the connection, the next read reports it.
    pub fn write(&mut self, bytes: &[u8]) {
        let _ = self.socket.get_mut().write_all(bytes);
    }

    /// Writes bytes and returns whether the connection took all of them.
    pub fn try_write(&mut self, bytes: &[u8]) -> bool {
        self.socket.get_mut().write_all(bytes).is_ok()
    }

    pub fn read_response(&mut self) -> Response {
        self.try_read_response().expect("the server sends a response")
    }

    /// Reads the next response; `None` if the server closed the connection.
    pub fn try_read_response(&mut self) -> Option<Response> {
        self.read(false)
    }

    /// Reads the head of the next response, for a body that is then read in chunks; `None` if the server closed the
    /// connection.
    pub fn read_head(&mut self) -> Option<Response> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let read = self.socket.read_until(b'\n', &mut head);
            if matches!(read, Ok(0) | Err(_)) {
                return None;
            }
        }
        let head = String::from_utf8(head).unwrap();
        let mut lines = head.lines();
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        Some(Response { status, headers, body: Vec::new() })
    }

    fn read(&mut self, head_only: bool) -> Option<Response> {
        let Response { status, headers, mut body } = self.read_head()?;
        if (100..200).contains(&status) {
            return Some(Response { status, headers, body });
        }
        let length = headers.iter().find(|(name, _)| name == "content-length").map(|(_, value)| value.parse().unwrap());
        match length {
            _ if head_only || matches!(status, 204 | 304) => {}
            Some(length) => {
                body = vec![0; length];
                self.socket.read_exact(&mut body).ok()?;
            }
            None if headers.iter().any(|(name, value)| name == "transfer-encoding" && value == "chunked") => {
                while let Some(chunk) = self.read_chunk().filter(|chunk| !chunk.is_empty()) {
                    body.extend(chunk);
                }
            }
            None => {
                self.socket.read_to_end(&mut body).ok()?;
            }
        }
        Some(Response { status, headers, body })
    }

    /// Reads the next chunk of a chunked body. The last chunk is empty; `None` if the body ends without it.
    pub fn read_chunk(&mut self) -> Option<Vec<u8>> {
        let mut line = String::new();
        self.socket.read_line(&mut line).ok().filter(|read| *read > 0)?;
        let mut chunk = vec![0; usize::from_str_radix(line.trim(), 16).ok()? + 2];
        self.socket.read_exact(&mut chunk).ok()?;
        chunk.truncate(chunk.len() - 2);
        Some(chunk)
    }

    /// Waits until the server closes the connection and returns whether no more bytes arrived before that.
    pub fn closes_without_data(&mut self) -> bool {
        let mut rest = Vec::new();
        match self.socket.read_to_end(&mut rest) {
            Ok(_) => rest.is_empty(),
            // A reset also closes the connection.
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}

/// HTTP response, with assertions on its status and body.
#[derive(Debug, Clone)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Response {
    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.text()))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
    }

    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        self
    }

    /// Asserts that the body is a JSON object with at least these members.
    #[track_caller]
    pub fn has(self, members: Value) -> Self {
        let body = self.json();
        for (name, value) in members.as_object().unwrap() {
            assert_eq!(&body[name], value, "{name} in {body}");
        }
        self
    }

    /// Asserts that the `detail` of an error response contains `part`.
    #[track_caller]
    pub fn has_detail(self, part: &str) -> Self {
        let body = self.json();
        let detail = body["detail"].as_str().unwrap_or_else(|| panic!("no detail in {body}"));
        assert!(detail.contains(part), "{detail:?} should contain {part:?}");
        self
    }

    #[track_caller]
    pub fn id(&self) -> i64 {
        self.json()["id"].as_i64().unwrap()
    }
}

/// Returns an error report of a Python exception, always raised at the same file and line.
pub fn report(message: &str) -> Value {
    report_at(message, 42)
}

/// Returns an error report raised at `line`. Reports with different lines belong to different groups.
pub fn report_at(message: &str, line: u32) -> Value {
    json!({
        "project": "shop",
        "exception_type": "ValueError",
        "message": message,
        "traceback": format!("Traceback (most recent call last):\n  File \"/app/pay.py\", line {line}, in charge\n    raise ValueError({message:?})\nValueError: {message}"),
    })
}
