//! One helper for all tests: starts a built binary on a free port with a folder of its own, speaks HTTP to it, and
//! takes everything away again.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// How long anything may take before a test fails.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// The key that may do everything.
pub const KEY: &str = "test-key-0123456789";
/// The public key that pages of the project `shop` hold.
pub const PUBLIC_KEY: &str = "00112233445566778899aabbccddeeff";

/// A folder of one test's own, gone with it.
pub struct Folder(PathBuf);

impl Folder {
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

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Where a binary lies: as `make` left it, or as cargo built it for the tests.
pub fn binary(name: &str) -> PathBuf {
    std::env::var_os("MONLIGHT_BIN_DIR").map_or_else(|| cargo_binary(name), |folder| PathBuf::from(folder).join(name))
}

/// Where cargo built a binary for the tests; other than what `make` left, it is linked with the libraries of this machine.
fn cargo_binary(name: &str) -> PathBuf {
    match name {
        "browser-relay" => env!("CARGO_BIN_EXE_browser-relay").into(),
        "error-tracker" => env!("CARGO_BIN_EXE_error-tracker").into(),
        "log-viewer" => env!("CARGO_BIN_EXE_log-viewer").into(),
        "metrics-collector" => env!("CARGO_BIN_EXE_metrics-collector").into(),
        other => panic!("{other} is not built"),
    }
}

/// How a service is to be started.
pub struct Setup {
    name: &'static str,
    database: &'static str,
    env: Vec<(String, String)>,
    folder: Arc<Folder>,
    prefix: Vec<String>,
    arguments: Vec<String>,
    preloaded: bool,
}

impl Setup {
    /// An error tracker with a key, no rate limit, on a free port of 127.0.0.1.
    pub fn error_tracker() -> Self {
        Self::of("error-tracker", "errors.db")
    }

    /// A log viewer, likewise, that looks for containers in the folder `containers` of its own.
    pub fn log_viewer() -> Self {
        Self::of("log-viewer", "logs.db").env("LOG_SOURCES", "containers").env("POLL_INTERVAL", 1)
    }

    /// A metrics collector, likewise, that does not measure this machine.
    pub fn metrics_collector() -> Self {
        Self::of("metrics-collector", "metrics.db").env("HOST_METRICS", 0)
    }

    /// A browser relay, likewise, in front of an error tracker and a metrics collector at these addresses.
    pub fn browser_relay(errors: SocketAddr, metrics: SocketAddr) -> Self {
        Self::of("browser-relay", "browser-relay.db")
            .env("ADMIN_API_KEY", KEY)
            .env("ERROR_TRACKER_URL", format!("http://{errors}"))
            .env("ERROR_TRACKER_API_KEY", KEY)
            .env("METRICS_COLLECTOR_URL", format!("http://{metrics}"))
            .env("METRICS_COLLECTOR_API_KEY", KEY)
            .env("KEY_RATE_LIMIT", 0)
            .env("DSN_KEYS", format!("shop:{PUBLIC_KEY}"))
    }

    fn of(name: &'static str, database: &'static str) -> Self {
        let folder = Arc::new(Folder::new());
        let env = [("API_KEY", KEY), ("PORT", "0"), ("LISTEN_ADDR", "127.0.0.1"), ("RATE_LIMIT", "0")];
        let env = env.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let setup = Self {
            name,
            database,
            env,
            folder: Arc::clone(&folder),
            prefix: Vec::new(),
            arguments: Vec::new(),
            preloaded: false,
        };
        setup.folder(&folder)
    }

    /// With a variable set, or unset when the value is empty.
    pub fn env(mut self, name: &str, value: impl ToString) -> Self {
        self.env.retain(|(set, _)| set != name);
        self.env.push((name.to_owned(), value.to_string()));
        self
    }

    /// In a folder that outlives the service, for a second start on the same files.
    pub fn folder(mut self, folder: &Arc<Folder>) -> Self {
        self.folder = Arc::clone(folder);
        let database = folder.path().join(self.database);
        self.env("DATABASE_PATH", database.display())
    }

    /// Started by another program, such as `sh -c 'ulimit -n 64; exec "$0"'`.
    pub fn through(mut self, prefix: &[&str]) -> Self {
        self.prefix = prefix.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// With a library before all others, which a static program would not load: as cargo built it.
    pub fn preloading(mut self, library: &Path) -> Self {
        self.preloaded = true;
        self.env("LD_PRELOAD", library.display())
    }

    /// With arguments, such as `--help`.
    pub fn arguments(mut self, arguments: &[&str]) -> Self {
        self.arguments = arguments.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    fn command(&self) -> Command {
        let binary = if self.preloaded { cargo_binary(self.name) } else { binary(self.name) };
        let mut command = match self.prefix.split_first() {
            Some((program, arguments)) => {
                let mut command = Command::new(program);
                command.args(arguments).arg(binary);
                command
            }
            None => Command::new(binary),
        };
        command.args(&self.arguments);
        command.env_clear().envs(self.env.iter().map(|(name, value)| (name, value)));
        command.current_dir(self.folder.path());
        command
    }

    /// Runs it to its end, for starts that are to fail; answers its exit code and what it said.
    pub fn run(&self) -> (Option<i32>, String) {
        let output = self.command().stdin(Stdio::null()).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    }

    /// Starts it and waits until it says where it listens.
    pub fn start(self) -> Service {
        let mut service = self.spawn();
        let ready = service.wait_for_log(" is ready");
        assert!(ready.is_some(), "it did not start: {:#?}", service.log());
        let listening = service.log().into_iter().find_map(|line| line.split_once("listening on ")?.1.parse().ok());
        service.address = listening.unwrap();
        if service.address.ip().is_unspecified() {
            service.address.set_ip(IpAddr::V4(Ipv4Addr::LOCALHOST));
        }
        service
    }

    /// Starts it on this port of 127.0.0.1 and waits until that answers, for when its log says nothing.
    pub fn start_at(self, port: u16) -> Service {
        let mut service = self.env("PORT", port).spawn();
        service.address.set_port(port);
        let answers = wait_until(|| TcpStream::connect(service.address).ok());
        assert!(answers.is_some(), "it did not start: {:#?}", service.log());
        service
    }

    fn spawn(self) -> Service {
        let mut child =
            self.command().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (lines, stderr) = (Arc::clone(&log), child.stderr.take().unwrap());
        let logging = std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                lines.lock().unwrap().push(line);
            }
        });
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        Service { child, log, logging: Some(logging), address, folder: self.folder }
    }
}

/// A running service, stopped when dropped.
pub struct Service {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    logging: Option<JoinHandle<()>>,
    pub address: SocketAddr,
    pub folder: Arc<Folder>,
}

impl Service {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has logged so far.
    pub fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    /// The first line that holds `text`, as soon as there is one.
    pub fn wait_for_log(&self, text: &str) -> Option<String> {
        wait_until(|| self.log().into_iter().find(|line| line.contains(text)))
    }

    /// Asks it to stop and answers its exit status and how long that took.
    pub fn stop(mut self) -> (ExitStatus, Duration) {
        let begun = Instant::now();
        signal(self.pid(), "TERM");
        let status = wait_until(|| self.child.try_wait().unwrap()).expect("it stops");
        (status, begun.elapsed())
    }

    /// Asks it to stop and answers everything it has logged.
    pub fn last_words(mut self) -> Vec<String> {
        signal(self.pid(), "TERM");
        self.logging.take().unwrap().join().unwrap();
        self.log()
    }

    /// Ends it at once, as a power cut would.
    pub fn kill(mut self) -> Arc<Folder> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        Arc::clone(&self.folder)
    }

    /// Resident memory and its peak, in KiB.
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

    /// From another address of this machine's loopback network.
    pub fn connect_from(&self, source: [u8; 4]) -> std::io::Result<Client> {
        let socket = rustix::net::socket_with(
            rustix::net::AddressFamily::INET,
            rustix::net::SocketType::STREAM,
            rustix::net::SocketFlags::CLOEXEC,
            None,
        )?;
        rustix::net::bind(&socket, &SocketAddr::from((source, 0)))?;
        rustix::net::connect(&socket, &self.address)?;
        Ok(Client::new(TcpStream::from(socket)))
    }

    pub fn get(&self, path: &str) -> Answer {
        self.connect().send(&Request::get(path))
    }

    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.connect().send(&Request::post(path, body))
    }

    pub fn send(&self, request: &Request) -> Answer {
        self.connect().send(request)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // Gone already in tests that stopped it themselves.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether this test may do what only root may; says loudly when it is skipped, which in CI is a failure.
pub fn root_or_skip(what: &str) -> bool {
    let root = std::fs::metadata("/proc/self").is_ok_and(|process| std::os::unix::fs::MetadataExt::uid(&process) == 0);
    if !root {
        skip(&format!("{what} needs root"));
    }
    root
}

/// Says that a test is skipped and why; in CI that is a failure.
pub fn skip(why: &str) {
    eprintln!("\n*** SKIPPED: {why} ***\n");
    assert!(std::env::var_os("CI").is_none(), "nothing may be skipped in CI: {why}");
}

/// Sends a signal to one process.
pub fn signal(pid: u32, name: &str) {
    assert!(Command::new("kill").args(["-s", name, &pid.to_string()]).status().unwrap().success());
}

/// Looks until there is something, or patience ends.
pub fn wait_until<T>(mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match look() {
            Some(found) => return Some(found),
            None if Instant::now() > deadline => return None,
            None => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

/// A request as it goes over the wire.
#[derive(Clone)]
pub struct Request {
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Request {
    pub fn new(method: &str, path: &str) -> Self {
        let headers = [("Host", "localhost"), ("X-API-Key", KEY)];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        Self { method: method.to_owned(), path: path.to_owned(), headers, body: Vec::new() }
    }

    pub fn get(path: &str) -> Self {
        Self::new("GET", path)
    }

    pub fn post(path: &str, body: &Value) -> Self {
        Self::new("POST", path).body(body.to_string())
    }

    /// What a page of the project `shop` posts.
    pub fn of_a_page(path: &str, body: &Value) -> Self {
        Self::post(path, body).without("X-API-Key").header("X-Monlight-Key", PUBLIC_KEY)
    }

    /// Replaces a header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self = self.without(name);
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(set, _)| !set.eq_ignore_ascii_case(name));
        self
    }

    /// Sets the body and the length that goes with it.
    pub fn body(self, body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        let mut with = self.header("Content-Length", &body.len().to_string());
        with.body = body;
        with
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.path);
        for (name, value) in &self.headers {
            write!(head, "{name}: {value}\r\n").unwrap();
        }
        head.push_str("\r\n");
        [head.as_bytes(), &self.body].concat()
    }
}

/// One connection.
pub struct Client {
    socket: BufReader<TcpStream>,
}

impl Client {
    #[track_caller]
    pub fn connect(address: SocketAddr) -> Self {
        Self::new(TcpStream::connect(address).unwrap())
    }

    pub fn new(socket: TcpStream) -> Self {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        socket.set_nodelay(true).unwrap();
        Self { socket: BufReader::new(socket) }
    }

    pub fn socket(&self) -> &TcpStream {
        self.socket.get_ref()
    }

    pub fn send(&mut self, request: &Request) -> Answer {
        self.write(&request.bytes());
        self.read_answer(request.method == "HEAD")
    }

    /// Writes bytes; a server that has closed already is for the reading to notice.
    pub fn write(&mut self, bytes: &[u8]) {
        let _ = self.socket.get_mut().write_all(bytes);
    }

    pub fn answer(&mut self) -> Answer {
        self.try_answer().expect("an answer")
    }

    /// The next answer; `None` when the server closed without one.
    pub fn try_answer(&mut self) -> Option<Answer> {
        self.read(false)
    }

    fn read_answer(&mut self, head_only: bool) -> Answer {
        self.read(head_only).expect("an answer")
    }

    /// The next answer's head, for bodies that are read bit by bit; `None` when the server closed without one.
    pub fn head(&mut self) -> Option<Answer> {
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
        Some(Answer { status, headers, body: Vec::new() })
    }

    fn read(&mut self, head_only: bool) -> Option<Answer> {
        let Answer { status, headers, mut body } = self.head()?;
        if (100..200).contains(&status) {
            return Some(Answer { status, headers, body });
        }
        let length = headers.iter().find(|(name, _)| name == "content-length").map(|(_, value)| value.parse().unwrap());
        match length {
            _ if head_only || matches!(status, 204 | 304) => {}
            Some(length) => {
                body = vec![0; length];
                self.socket.read_exact(&mut body).ok()?;
            }
            None if headers.iter().any(|(name, value)| name == "transfer-encoding" && value == "chunked") => {
                while let Some(chunk) = self.chunk().filter(|chunk| !chunk.is_empty()) {
                    body.extend(chunk);
                }
            }
            None => {
                self.socket.read_to_end(&mut body).ok()?;
            }
        }
        Some(Answer { status, headers, body })
    }

    /// The next chunk of a body that comes in chunks; the last is empty, and `None` is an end without one.
    pub fn chunk(&mut self) -> Option<Vec<u8>> {
        let mut line = String::new();
        self.socket.read_line(&mut line).ok().filter(|read| *read > 0)?;
        let mut chunk = vec![0; usize::from_str_radix(line.trim(), 16).ok()? + 2];
        self.socket.read_exact(&mut chunk).ok()?;
        chunk.truncate(chunk.len() - 2);
        Some(chunk)
    }

    /// Whether the server has closed the connection, once it has.
    pub fn closed(&mut self) -> bool {
        let mut rest = Vec::new();
        match self.socket.read_to_end(&mut rest) {
            Ok(_) => rest.is_empty(),
            // A reset closes it as well.
            Err(why) => why.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}

/// An answer, with what tests ask of it.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|why| panic!("{why}: {:?}", self.text()))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
    }

    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        self
    }

    /// That the body is an object with at least these members.
    #[track_caller]
    pub fn has(self, members: Value) -> Self {
        let body = self.json();
        for (name, value) in members.as_object().unwrap() {
            assert_eq!(&body[name], value, "{name} in {body}");
        }
        self
    }

    /// That the body says what is wrong in one sentence with this in it.
    #[track_caller]
    pub fn says(self, part: &str) -> Self {
        let body = self.json();
        let detail = body["detail"].as_str().unwrap_or_else(|| panic!("no detail in {body}"));
        assert!(detail.contains(part), "{detail:?} should say {part:?}");
        self
    }

    #[track_caller]
    pub fn id(&self) -> i64 {
        self.json()["id"].as_i64().unwrap()
    }
}

/// A report of a Python exception raised at one line of one file.
pub fn report(message: &str) -> Value {
    report_at(message, 42)
}

/// The same, at another line: another group.
pub fn report_at(message: &str, line: u32) -> Value {
    json!({
        "project": "shop",
        "exception_type": "ValueError",
        "message": message,
        "traceback": format!("Traceback (most recent call last):\n  File \"/app/pay.py\", line {line}, in charge\n    raise ValueError({message:?})\nValueError: {message}"),
    })
}
