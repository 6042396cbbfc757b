//! Command line of a service: runs it, or executes one of the options.

use std::io::{BufRead, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use super::allocator;
use super::lifecycle::RunningService;
use super::signals;
use super::start_error::StartError;
use crate::db::{self, Schema};
use crate::env::{Env, Variable, misspelt_settings};

/// The exit code for invalid settings and arguments.
const EXIT_USAGE: u8 = 2;
/// The exit code for a database of a development version before schema 1.0, which deploy/run.sh then moves aside.
const EXIT_DEVELOPMENT_DATABASE: u8 = 3;
const HEALTHCHECK_TIMEOUT: Duration = Duration::from_secs(3);

/// The description of a service's program.
pub struct Service {
    /// The name of the binary.
    pub name: &'static str,
    /// One sentence for `--help`.
    pub about: &'static str,
    /// Returns all variables of the service.
    pub variables: fn() -> Vec<Variable>,
    /// The schema of its database.
    pub schema: Schema,
    /// Reads the settings and starts the service.
    pub start: fn(Env<'_>) -> Result<RunningService, StartError>,
    /// An option that only this program has.
    pub tool: Option<Tool>,
}

/// An option that transforms text, without settings and without the database.
pub struct Tool {
    /// The option, for example `--explain`. A text can follow it; otherwise it reads stdin.
    pub option: &'static str,
    /// Description for `--help`.
    pub help: &'static str,
    /// Writes the result for a text.
    pub run: fn(&mut dyn BufRead, &mut dyn Write) -> std::io::Result<()>,
}

/// Runs the program of a service and returns its exit code.
#[must_use]
pub fn main(service: &Service) -> ExitCode {
    let variables = (service.variables)();
    let arguments: Vec<String> = std::env::args_os().skip(1).map(|text| text.to_string_lossy().into_owned()).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match *arguments {
        [] => run(service, &variables),
        ["--help" | "-h"] => print_stdout(&help(service, &variables)),
        ["--version" | "-V"] => print_stdout(&format!("{} {}\n", service.name, env!("CARGO_PKG_VERSION"))),
        ["--healthcheck"] => healthcheck(&variables),
        ["--backup", file] => backup(service, &variables, file.as_ref()),
        ["--restore", file] => restore(service, &variables, file.as_ref()),
        ["--backup" | "--restore"] => print_stderr(&[format!("{} requires a FILE", arguments[0])], EXIT_USAGE),
        [option, ref text @ ..] if let Some(tool) = service.tool.as_ref().filter(|tool| tool.option == option) => {
            run_tool(tool, text)
        }
        _ => print_stderr(&[format!("unknown argument {}; see --help", arguments.join(" "))], EXIT_USAGE),
    }
}

/// Runs a tool on the words of the command line, or else on stdin.
fn run_tool(tool: &Tool, words: &[&str]) -> ExitCode {
    let (text, mut stdout) = (words.join(" "), std::io::stdout().lock());
    let ended = match *words {
        [] => (tool.run)(&mut std::io::stdin().lock(), &mut stdout),
        _ => (tool.run)(&mut text.as_bytes(), &mut stdout),
    };
    match ended {
        Err(why) if why.kind() != std::io::ErrorKind::BrokenPipe => {
            print_stderr(&[format!("{}: {why}", tool.option)], 1)
        }
        _ => ExitCode::SUCCESS,
    }
}

fn help(service: &Service, variables: &[Variable]) -> String {
    let (tool_usage, tool_help) = match &service.tool {
        Some(tool) => (format!(" | {} [TEXT]", tool.option), format!("  {:<14}  {}\n", tool.option, tool.help)),
        None => Default::default(),
    };
    format!(
        "{} {} - {}\n\nUsage: {} [--help | --version | --healthcheck | --backup FILE | --restore FILE{tool_usage}]\n\n\
         Options:\n  --healthcheck   Requests /health of the service on this machine; exits with 0 if it is healthy\n  \
         --backup FILE   Copies the database at DATABASE_PATH, which may be in use, to a new FILE, checked and flushed\n  \
         --restore FILE  Replaces the database with FILE while the service is stopped; keeps the replaced one\n\
         {tool_help}\n\
         Settings are environment variables. Defaults are in brackets. NAME_FILE names a file that contains a secret:\n\n{}",
        service.name,
        env!("CARGO_PKG_VERSION"),
        service.about,
        service.name,
        crate::env::help(variables)
    )
}

fn run(service: &Service, variables: &[Variable]) -> ExitCode {
    allocator::configure_allocator();
    // A backtrace would need the binary's symbols and 40 MB of memory; the location suffices to find a panic.
    std::panic::set_hook(Box::new(|panic| log::error!("panic: {}", panic.to_string().replace('\n', ": "))));
    // Registered first: a process with PID 1 has no default action for these signals.
    let mut signals = match signals::register() {
        Ok(signals) => signals,
        Err(why) => return print_stderr(&[format!("cannot handle signals: {why}")], 1),
    };
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let misspelt = misspelt_settings(variables, names);
    let started = (service.start)(Env::from_process_env(variables));
    // Lines that were logged come before the reason of a failed start.
    log::logger().flush();
    let running = match started {
        Ok(running) => running,
        Err(StartError::Settings(errors)) => return print_stderr(&[errors, misspelt].concat(), EXIT_USAGE),
        Err(StartError::DevelopmentDatabase(why)) => return print_stderr(&[why], EXIT_DEVELOPMENT_DATABASE),
        Err(StartError::Start(why)) => return print_stderr(&[why], 1),
    };
    for sentence in misspelt {
        log::warn!("settings: {sentence}");
    }
    log::info!("{} {} is ready", service.name, env!("CARGO_PKG_VERSION"));
    if let Some(signal) = signals.forever().next() {
        log::info!("stopping on signal {signal}");
    }
    running.stop();
    log::info!("stopped");
    log::logger().flush();
    ExitCode::SUCCESS
}

fn print_stdout(text: &str) -> ExitCode {
    // A closed pipe is not an error of this program.
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

fn print_stderr(sentences: &[String], code: u8) -> ExitCode {
    for sentence in sentences {
        // Without a stderr the message cannot be reported.
        let _ = writeln!(std::io::stderr(), "{sentence}");
    }
    ExitCode::from(code)
}

/// Copies the database to a file, for `--backup`.
fn backup(service: &Service, variables: &[Variable], to: &Path) -> ExitCode {
    let database = match database_path(variables) {
        Ok(path) => path,
        Err(why) => return print_stderr(&[why], EXIT_USAGE),
    };
    match db::backup(&service.schema, &database, to) {
        Ok(bytes) => {
            print_stdout(&format!("{}: backed up {bytes} bytes of {}, checked\n", to.display(), database.display()))
        }
        Err(why) => print_stderr(&[why], 1),
    }
}

/// Replaces the database with a backup, for `--restore`.
fn restore(service: &Service, variables: &[Variable], from: &Path) -> ExitCode {
    let database = match database_path(variables) {
        Ok(path) => path,
        Err(why) => return print_stderr(&[why], EXIT_USAGE),
    };
    match db::restore(&service.schema, from, &database) {
        Ok(None) => print_stdout(&format!("{} restored\n", database.display())),
        Ok(Some(kept)) => print_stdout(&format!(
            "{} restored; the replaced database is kept as {}\n",
            database.display(),
            kept.display()
        )),
        Err(why) => print_stderr(&[why], 1),
    }
}

fn database_path(variables: &[Variable]) -> Result<PathBuf, String> {
    let path: PathBuf = Env::from_process_env(variables).string("DATABASE_PATH").unwrap_or_default().into();
    match db::path_problem(&path) {
        Some(problem) => Err(format!("DATABASE_PATH: {problem}")),
        None => Ok(path),
    }
}

/// Executes `--healthcheck`, the health check of a container.
fn healthcheck(variables: &[Variable]) -> ExitCode {
    let mut env = Env::from_process_env(variables);
    let (address, port) = (env.address("LISTEN_ADDR"), env.number("PORT", 0..=u16::MAX));
    if let Err(errors) = env.finish() {
        return print_stderr(&errors, EXIT_USAGE);
    }
    let address = match address {
        IpAddr::V4(any) if any.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(any) if any.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        given => given,
    };
    match request_health(SocketAddr::new(address, port)) {
        Ok(status) if status.starts_with("HTTP/1.1 200 ") => ExitCode::SUCCESS,
        Ok(status) => print_stderr(&[format!("unhealthy: {status}")], 1),
        Err(why) => print_stderr(&[format!("no response from {address}:{port}: {why}")], 1),
    }
}

fn request_health(address: SocketAddr) -> std::io::Result<String> {
    let mut socket = TcpStream::connect_timeout(&address, HEALTHCHECK_TIMEOUT)?;
    socket.set_read_timeout(Some(HEALTHCHECK_TIMEOUT))?;
    socket.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut line = String::new();
    BufRead::read_line(&mut std::io::BufReader::new(socket), &mut line)?;
    Ok(line.trim_end().to_owned())
}
