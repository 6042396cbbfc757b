//! Python programs of `tests/python`: mail and web servers that receive alerts, and applications with the Python
//! clients.

use std::io::{BufRead as _, BufReader};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};

use serde_json::Value;

use super::harness::{API_KEY, Client, Request, Response, Service, TEST_TIMEOUT, skip};
use super::programs::LineProgram;

/// Returns the interpreter that `MONLIGHT_TEST_PYTHON` names, with `tests/python/requirements.txt` installed; `make
/// test` creates it. Skips the test and returns `None` if the variable is not set.
fn interpreter() -> Option<PathBuf> {
    let path = std::env::var_os("MONLIGHT_TEST_PYTHON").filter(|path| !path.is_empty()).map(PathBuf::from);
    if path.is_none() {
        skip("MONLIGHT_TEST_PYTHON is not set");
    }
    path
}

/// Returns the folder `tests/python`.
pub fn scripts_dir() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/python")
}

/// Returns a command for a script of `tests/python`; `None` without Python.
pub fn script_command(name: &str) -> Option<Command> {
    let mut command = Command::new(interpreter()?);
    command.arg(scripts_dir().join(name));
    Some(command)
}

/// Returns a command for an installed Python module; `None` without Python.
pub fn module_command(name: &str) -> Option<Command> {
    let mut command = Command::new(interpreter()?);
    command.args(["-m", name]);
    Some(command)
}

/// Application of `tests/python` that sends data to a service; stopped on drop.
pub struct Application {
    program: LineProgram,
    port: u16,
}

impl Application {
    /// Starts the application; returns `None` without Python.
    pub fn start(script: &str, service: &Service) -> Option<Self> {
        let mut command = script_command(script)?;
        command.arg(format!("http://{}", service.address)).arg(API_KEY);
        let mut program = LineProgram::start(command);
        let port = program.read_line().trim().parse().expect("the application prints its port");
        Some(Self { program, port })
    }

    pub fn send(&self, request: &Request) -> Response {
        Client::new(TcpStream::connect(("127.0.0.1", self.port)).unwrap()).send(request)
    }

    /// Stops the application and returns the summary it prints.
    pub fn stop_and_read_summary(self) -> Value {
        self.program.stop_and_read_summary()
    }
}

/// Server of `tests/python` that prints what it receives, one JSON event per line; stopped on drop.
pub struct Listener {
    child: Child,
    lines: Receiver<String>,
    pub port: String,
    pub ca_file: String,
}

impl Listener {
    /// Starts the server; returns `None` without Python.
    pub fn start(script: &str, arguments: &[&str]) -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let ca_file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{number}.pem", std::process::id()));
        let mut command = script_command(script)?;
        command.args(arguments).arg("--ca-out").arg(&ca_file);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let port = lines.recv_timeout(TEST_TIMEOUT).expect("the listener prints its port");
        Some(Self { child, lines, port, ca_file: ca_file.to_str().unwrap().to_owned() })
    }

    /// Returns the next received event.
    pub fn next_event(&self) -> Value {
        serde_json::from_str(&self.lines.recv_timeout(TEST_TIMEOUT).expect("the listener receives something")).unwrap()
    }

    /// Stops the server and returns the events that were not read.
    pub fn stop_and_drain(mut self) -> Vec<String> {
        drop(self.child.stdin.take());
        let mut events = Vec::new();
        loop {
            match self.lines.recv_timeout(TEST_TIMEOUT) {
                Ok(line) => events.push(line),
                Err(RecvTimeoutError::Disconnected) => return events,
                Err(RecvTimeoutError::Timeout) => panic!("the listener did not stop"),
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.ca_file);
    }
}
