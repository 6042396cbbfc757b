//! The Python that some tests need, for servers and applications that are not ours to write.

use std::io::{BufRead as _, BufReader};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};

use serde_json::Value;

use crate::harness::{Answer, Client, KEY, PATIENCE, Request, Service, skip};

/// The interpreter that `MONLIGHT_TEST_PYTHON` names, with `tests/python/requirements.txt` installed; `make test` makes
/// one. Without it the test is to end; where `CI` is set that is a failure.
fn interpreter() -> Option<PathBuf> {
    let given = std::env::var_os("MONLIGHT_TEST_PYTHON").filter(|path| !path.is_empty()).map(PathBuf::from);
    if given.is_none() {
        skip("MONLIGHT_TEST_PYTHON is not set");
    }
    given
}

/// Where the scripts are.
pub fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/python")
}

/// What starts a script of `tests/python`; `None` where there is no Python.
pub fn script(name: &str) -> Option<Command> {
    let mut command = Command::new(interpreter()?);
    command.arg(folder().join(name));
    Some(command)
}

/// What starts a program of the environment; `None` where there is no Python.
pub fn module(name: &str) -> Option<Command> {
    let mut command = Command::new(interpreter()?);
    command.args(["-m", name]);
    Some(command)
}

/// One of the applications in `tests/python`, which reports to a service. It ends with this value.
pub struct Application {
    child: Child,
    stdout: BufReader<ChildStdout>,
    port: u16,
}

impl Application {
    /// `None` where there is no Python.
    pub fn start(script: &str, service: &Service) -> Option<Self> {
        let mut command = self::script(script)?;
        command.arg(format!("http://{}", service.address)).arg(KEY);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let port = line.trim().parse().expect("the application prints its port");
        Some(Self { child, stdout, port })
    }

    pub fn send(&self, request: &Request) -> Answer {
        Client::new(TcpStream::connect(("127.0.0.1", self.port)).unwrap()).send(request)
    }

    /// Ends it; answers what it has to say then.
    pub fn last_words(mut self) -> Value {
        drop(self.child.stdin.take());
        serde_json::from_reader(&mut self.stdout).expect("the application says what it did")
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// One of the servers in `tests/python`. It ends with this value.
pub struct Listener {
    child: Child,
    lines: Receiver<String>,
    pub port: String,
    pub ca_file: String,
}

impl Listener {
    /// `None` where there is no Python.
    pub fn start(script: &str, arguments: &[&str]) -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let ca_file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{number}.pem", std::process::id()));
        let mut command = self::script(script)?;
        command.args(arguments).arg("--ca-out").arg(&ca_file);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let port = lines.recv_timeout(PATIENCE).expect("the listener prints its port");
        Some(Self { child, lines, port, ca_file: ca_file.to_str().unwrap().to_owned() })
    }

    /// The next thing that it saw.
    pub fn next(&self) -> Value {
        serde_json::from_str(&self.lines.recv_timeout(PATIENCE).expect("the listener saw something")).unwrap()
    }

    /// Ends it; answers what it saw and nobody took.
    pub fn rest(mut self) -> Vec<String> {
        drop(self.child.stdin.take());
        let mut rest = Vec::new();
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => rest.push(line),
                Err(RecvTimeoutError::Disconnected) => return rest,
                Err(RecvTimeoutError::Timeout) => panic!("the listener did not end"),
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
