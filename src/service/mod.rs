//! What four mains would repeat: arguments, settings, logging, signals, the common routes, and a beginning and an end
//! in the right order.

mod allocator;
mod config;
mod export;
mod health;
#[cfg(test)]
mod openapi_tests;
mod prometheus;
pub(crate) mod web;
mod write;

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

pub use config::{Common, Defaults, variables};
pub use export::{Export, Outgoing, RecordSource};
pub use health::{Stat, StatValue, routes};
#[cfg(test)]
pub(crate) use openapi_tests::hold;
pub use prometheus::{PrometheusText, escaped};
pub use web::{Asset, Web, file};
pub(crate) use web::{description, interface, packed};
pub use write::{command_route, ingest_route};

use crate::background::{Job, Jobs};
use crate::db::{self, Database, ReaderPool, Schema, Writer};
use crate::env::{Env, Variable};
use crate::http::{Bound, Route, Server, Sessions, Settings, Stats};

/// The exit code for settings that cannot be used.
const EXIT_SETTINGS: u8 = 2;
/// How long each part may take to stop. Together they stay under the five seconds after which supervisors kill.
const REQUESTS_WITHIN: Duration = Duration::from_millis(2_500);
const JOBS_WITHIN: Duration = Duration::from_millis(500);
const WRITER_WITHIN: Duration = Duration::from_millis(1_500);
const HEALTHCHECK_WITHIN: Duration = Duration::from_secs(3);

/// A program of this house.
pub struct Service {
    /// As the binary is called.
    pub name: &'static str,
    /// One sentence for `--help`.
    pub about: &'static str,
    /// Every variable it understands.
    pub variables: fn() -> Vec<Variable>,
    /// What its database looks like.
    pub schema: Schema,
    /// Reads its settings and starts it.
    pub start: fn(Env<'_>) -> Result<Running, StartError>,
}

/// Why a service did not start.
#[derive(Debug)]
pub enum StartError {
    /// Settings that cannot be used, one sentence each.
    Settings(Vec<String>),
    /// Anything else, in one sentence.
    Start(String),
}

/// What the common routes need of a service.
pub trait State: Send + Sync + 'static {
    /// What every service has.
    fn core(&self) -> &Core;
    /// A few cheap facts about what is stored, for `/health` and `/metrics`.
    fn facts(&self) -> Vec<Stat>;
    /// What an operator should look at although the service does its work, in sentences that anybody may read, for
    /// `/health`.
    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }
}

/// What every service has.
pub struct Core {
    /// The one that changes the database.
    pub writer: Writer,
    /// Those that look into it.
    pub readers: ReaderPool,
    /// The server's counters.
    pub http: Arc<Stats>,
    /// Raised when a background job is gone.
    pub jobs_failed: Arc<AtomicBool>,
    /// People in browsers who showed a key.
    pub sessions: Arc<Sessions>,
    started: Instant,
}

/// A service at work.
pub struct Running {
    server: Server,
    jobs: Jobs,
    writer: Writer,
}

/// Puts a service together: state on the database, routes on the state, jobs beside them.
///
/// # Errors
/// [`StartError::Start`] when the system refuses threads or descriptors.
pub fn serve<S: State>(
    bound: Bound,
    settings: Settings,
    database: Database,
    routes: Vec<Route<S>>,
    state: impl FnOnce(Core) -> S,
    jobs: impl FnOnce(&Arc<S>) -> Vec<Job>,
) -> Result<Running, StartError> {
    let refused = |why: std::io::Error| StartError::Start(format!("cannot start: {why}"));
    let writer = database.writer.clone();
    let jobs_failed = Arc::new(AtomicBool::new(false));
    let broken = Arc::clone(&jobs_failed);
    let sessions = Arc::clone(&settings.admission.sessions);
    let mut made = None;
    let server = Server::start(bound, settings, routes, |http| {
        let Database { writer, readers } = database;
        let core = Core { writer, readers, http, jobs_failed, sessions, started: Instant::now() };
        Arc::clone(made.insert(Arc::new(state(core))))
    })
    .map_err(refused)?;
    let jobs = made.as_ref().map(jobs).unwrap_or_default();
    let jobs = Jobs::start(jobs, &broken).map_err(refused)?;
    log::info!("listening on {}", server.address());
    Ok(Running { server, jobs, writer })
}

impl Running {
    /// Stops accepting, answers what had begun, writes what is queued. Whatever does not come to an end in time is
    /// left behind; what was acknowledged is stored already.
    fn stop(self) {
        if !self.server.stop(REQUESTS_WITHIN) {
            log::warn!("some requests were not answered in time");
        }
        self.jobs.stop(JOBS_WITHIN);
        if !self.writer.stop(WRITER_WITHIN) {
            log::warn!("the writer did not come to an end in time");
        }
    }
}

/// A service's `main`.
#[must_use]
pub fn main(service: &Service) -> ExitCode {
    let variables = (service.variables)();
    let arguments: Vec<String> = std::env::args_os().skip(1).map(|text| text.to_string_lossy().into_owned()).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match *arguments {
        [] => run(service, &variables),
        ["--help" | "-h"] => say(&help(service, &variables)),
        ["--version" | "-V"] => say(&format!("{} {}\n", service.name, env!("CARGO_PKG_VERSION"))),
        ["--healthcheck"] => healthcheck(&variables),
        ["--backup", file] => backup(service, &variables, file.as_ref()),
        ["--restore", file] => restore(service, &variables, file.as_ref()),
        ["--backup" | "--restore"] => complain(&[format!("{} needs a FILE", arguments[0])], EXIT_SETTINGS),
        _ => {
            complain(&[format!("unknown argument {}; --help lists what there is", arguments.join(" "))], EXIT_SETTINGS)
        }
    }
}

fn help(service: &Service, variables: &[Variable]) -> String {
    format!(
        "{} {} - {}\n\nUsage: {} [--help | --version | --healthcheck | --backup FILE | --restore FILE]\n\n\
         --healthcheck asks the service on this machine how it is. --backup copies the database at DATABASE_PATH, which\n\
         may be in use, into a new FILE, checked and flushed; --restore puts it back while the service is stopped.\n\n\
         Settings are environment variables (defaults in brackets; NAME_FILE names a file for a secret NAME):\n\n{}",
        service.name,
        env!("CARGO_PKG_VERSION"),
        service.about,
        service.name,
        crate::env::help(variables)
    )
}

fn run(service: &Service, variables: &[Variable]) -> ExitCode {
    allocator::tune();
    // A backtrace would need the binary's symbols and tens of megabytes; the place is enough to find a panic.
    std::panic::set_hook(Box::new(|panic| log::error!("{}", panic.to_string().replace('\n', ": "))));
    // Registered before anything is started: as PID 1 a process has no default action for these.
    let mut signals =
        match signal_hook::iterator::Signals::new([signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT]) {
            Ok(signals) => signals,
            Err(why) => return complain(&[format!("cannot handle signals: {why}")], 1),
        };
    let running = match (service.start)(Env::from_process_env(variables)) {
        Ok(running) => running,
        Err(StartError::Settings(faults)) => return complain(&faults, EXIT_SETTINGS),
        Err(StartError::Start(why)) => return complain(&[why], 1),
    };
    log::info!("{} {} is ready", service.name, env!("CARGO_PKG_VERSION"));
    if let Some(signal) = signals.forever().next() {
        log::info!("stopping on signal {signal}");
    }
    running.stop();
    log::info!("stopped");
    ExitCode::SUCCESS
}

fn say(text: &str) -> ExitCode {
    // Whoever closed the pipe does not want to read on.
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

fn complain(sentences: &[String], code: u8) -> ExitCode {
    for sentence in sentences {
        // Without a stderr there is nobody to complain to.
        let _ = writeln!(std::io::stderr(), "{sentence}");
    }
    ExitCode::from(code)
}

/// Copies the database into a file.
fn backup(service: &Service, variables: &[Variable], to: &Path) -> ExitCode {
    let database = database_path(variables);
    match db::backup(&service.schema, &database, to) {
        Ok(bytes) => say(&format!("{}: {bytes} bytes of {}, checked\n", to.display(), database.display())),
        Err(why) => complain(&[why], 1),
    }
}

/// Puts a copy in the place of the database.
fn restore(service: &Service, variables: &[Variable], from: &Path) -> ExitCode {
    let database = database_path(variables);
    match db::restore(&service.schema, from, &database) {
        Ok(None) => say(&format!("{} is restored\n", database.display())),
        Ok(Some(kept)) => {
            say(&format!("{} is restored; what was there is kept as {}\n", database.display(), kept.display()))
        }
        Err(why) => complain(&[why], 1),
    }
}

fn database_path(variables: &[Variable]) -> PathBuf {
    Env::from_process_env(variables).string("DATABASE_PATH").unwrap_or_default().into()
}

/// Asks the service on this machine how it is: what a container runs as its health check.
fn healthcheck(variables: &[Variable]) -> ExitCode {
    let mut env = Env::from_process_env(variables);
    let (address, port) = (env.address("LISTEN_ADDR"), env.number("PORT", 0..=u16::MAX));
    if let Err(faults) = env.finish() {
        return complain(&faults, EXIT_SETTINGS);
    }
    let address = match address {
        IpAddr::V4(any) if any.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(any) if any.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        given => given,
    };
    match ask_health(SocketAddr::new(address, port)) {
        Ok(status) if status.starts_with("HTTP/1.1 200 ") => ExitCode::SUCCESS,
        Ok(status) => complain(&[format!("unhealthy: {status}")], 1),
        Err(why) => complain(&[format!("no answer from {address}:{port}: {why}")], 1),
    }
}

fn ask_health(address: SocketAddr) -> std::io::Result<String> {
    let mut socket = TcpStream::connect_timeout(&address, HEALTHCHECK_WITHIN)?;
    socket.set_read_timeout(Some(HEALTHCHECK_WITHIN))?;
    socket.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(socket), &mut line)?;
    Ok(line.trim_end().to_owned())
}
