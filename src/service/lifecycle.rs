//! Start and stop of a service: the parts start and stop in the right order.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use super::start_error::StartError;
use super::state::{Core, ServiceState};
use super::warnings_cache::WarningsCache;
use crate::background::{Job, Jobs};
use crate::db::{Database, Writer};
use crate::http::{BoundListener, Route, Server, Settings};

/// Maximum times for stopping each part. Their sum stays below the 5 s after which supervisors kill a process.
const REQUESTS_TIMEOUT: Duration = Duration::from_millis(2_500);
const JOBS_TIMEOUT: Duration = Duration::from_millis(500);
const WRITER_TIMEOUT: Duration = Duration::from_millis(1_500);

/// A running service.
pub struct RunningService {
    server: Server,
    jobs: Jobs,
    writer: Writer,
}

/// Starts a service: builds its state on the database, serves the routes, and starts the background jobs.
///
/// # Errors
/// [`StartError::Start`] if the system refuses threads or descriptors.
pub fn serve<S: ServiceState>(
    bound: BoundListener,
    settings: Settings,
    database: Database,
    routes: Vec<Route<S>>,
    state: impl FnOnce(Core) -> S,
    jobs: impl FnOnce(&Arc<S>) -> Vec<Job>,
) -> Result<RunningService, StartError> {
    let start_error = |why: std::io::Error| StartError::Start(format!("cannot start: {why}"));
    let writer = database.writer.clone();
    let path = database.readers.path();
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let has_web_ui = routes.iter().any(|route| route.spec.path == "/");
    let jobs_failed = Arc::new(AtomicBool::new(false));
    let failed = Arc::clone(&jobs_failed);
    let sessions = Arc::clone(&settings.admission.sessions);
    let mut shared_state = None;
    let server = Server::start(bound, settings, routes, |http| {
        let Database { writer, readers } = database;
        let (warnings, started) = (WarningsCache::default(), Instant::now());
        let core = Core { writer, readers, http, jobs_failed, sessions, warnings, started };
        Arc::clone(shared_state.insert(Arc::new(state(core))))
    })
    .map_err(start_error)?;
    let jobs = shared_state.as_ref().map(jobs).unwrap_or_default();
    let jobs = Jobs::start(jobs, &failed).map_err(start_error)?;
    log::info!("listening on {}", server.address());
    log::info!("database: {}", path.display());
    if has_web_ui {
        log::info!("web UI: {}", local_url(server.address()));
    }
    Ok(RunningService { server, jobs, writer })
}

/// Returns the URL to open in a browser on the same machine.
fn local_url(address: SocketAddr) -> String {
    match address.ip().is_unspecified() {
        true => format!("http://localhost:{}/", address.port()),
        false => format!("http://{address}/"),
    }
}

impl RunningService {
    /// Stops accepting connections, answers started requests, stops the jobs, and drains the write queue. Parts that do not
    /// stop in time end with the process; everything acknowledged has been stored.
    pub(super) fn stop(self) {
        if !self.server.stop(REQUESTS_TIMEOUT) {
            log::warn!("stop: answering the remaining requests timed out; their connections are closed");
        }
        self.jobs.stop(JOBS_TIMEOUT);
        if !self.writer.stop(WRITER_TIMEOUT) {
            log::warn!("stop: draining the write queue timed out; unacknowledged writes are lost");
        }
    }
}
