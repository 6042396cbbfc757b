//! Stack of all four services. Each keeps its address across restarts and, if possible, runs in its own memory cgroup.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::harness::{Client, Request, SERVICES, Service, Setup, TempDir};

pub const TRACKER: usize = 0;
pub const VIEWER: usize = 1;
pub const COLLECTOR: usize = 2;
pub const RELAY: usize = 3;
/// Memory limit of each service in docker-compose.yml.
const MEMORY_BYTES_MAX: u64 = 30 << 20;
/// Deadline for all services to become healthy after a fault.
const RECOVERY_TIMEOUT: Duration = Duration::from_secs(30);

/// Adapts the setup of the service with the given index (`TRACKER`, `VIEWER`, `COLLECTOR` or `RELAY`).
pub type ConfigureService = Box<dyn Fn(usize, Setup) -> Setup + Send + Sync>;

/// Starts all four services and returns them in the order of `SERVICES`. `configure` adapts the setup of the service with
/// the given index.
pub fn start_services(mut configure: impl FnMut(usize, Setup) -> Setup) -> [Service; 4] {
    let tracker = configure(TRACKER, Setup::error_tracker()).start();
    let viewer = configure(VIEWER, Setup::log_viewer()).start();
    let collector = configure(COLLECTOR, Setup::metrics_collector()).start();
    let relay = configure(RELAY, Setup::browser_relay(tracker.address, collector.address)).start();
    [tracker, viewer, collector, relay]
}

/// Services that can be killed and started again while other threads use them.
pub struct Stack {
    /// Folder of the databases.
    pub data_dir: Arc<TempDir>,
    /// Folder of the container logs.
    pub containers_dir: PathBuf,
    /// Running services by index; `None` while one is down.
    services: [Mutex<Option<Service>>; 4],
    pub addresses: [SocketAddr; 4],
    configure: ConfigureService,
    cgroups: Option<[MemoryCgroup; 4]>,
    _logs: TempDir,
}

impl Stack {
    /// Starts all four services with their databases in `data_dir`.
    pub fn start(data_dir: &Arc<TempDir>, cgroups: Option<[MemoryCgroup; 4]>, configure: ConfigureService) -> Self {
        let logs = TempDir::new();
        let containers_dir = logs.path().join("containers");
        fs::create_dir(&containers_dir).unwrap();
        let addresses = [SocketAddr::from(([127, 0, 0, 1], 0)); 4];
        let services = Default::default();
        let data_dir = Arc::clone(data_dir);
        let mut stack = Self { data_dir, containers_dir, services, addresses, configure, cgroups, _logs: logs };
        for index in 0..SERVICES.len() {
            stack.start_service(index);
            let address = stack.service(index).as_ref().unwrap().address;
            stack.addresses[index] = address;
        }
        stack
    }

    fn setup(&self, index: usize) -> Setup {
        let setup = match index {
            TRACKER => Setup::error_tracker(),
            VIEWER => Setup::log_viewer().env("LOG_SOURCES", self.containers_dir.display()),
            COLLECTOR => Setup::metrics_collector(),
            _ => Setup::browser_relay(self.addresses[TRACKER], self.addresses[COLLECTOR]),
        };
        let setup = setup.data_dir(&self.data_dir).env("PORT", self.addresses[index].port());
        let setup = match &self.cgroups {
            Some(cgroups) => setup.wrapped_by(&["sh", "-c", &cgroups[index].enter_script()]),
            None => setup,
        };
        (self.configure)(index, setup)
    }

    /// Locks a service, so that no other thread kills or starts it.
    pub fn service(&self, index: usize) -> MutexGuard<'_, Option<Service>> {
        self.services[index].lock().unwrap()
    }

    pub fn pid(&self, index: usize) -> u32 {
        self.service(index).as_ref().unwrap().pid()
    }

    /// Kills a service with SIGKILL.
    pub fn kill(&self, index: usize) {
        if let Some(service) = self.service(index).take() {
            service.kill();
        }
    }

    pub fn start_service(&self, index: usize) {
        let started = self.setup(index).start();
        *self.service(index) = Some(started);
    }

    /// Runs a service whose start must fail; returns its exit code and its output.
    pub fn run_to_exit(&self, index: usize) -> (Option<i32>, String) {
        self.setup(index).run_to_exit()
    }

    /// Requests `/health` with a timeout of one second; returns status and body, or `None` without a response.
    pub fn health(&self, index: usize) -> Option<(u16, Value)> {
        let timeout = Duration::from_secs(1);
        let socket = std::net::TcpStream::connect_timeout(&self.addresses[index], timeout).ok()?;
        let mut client = Client::new(socket);
        client.socket().set_read_timeout(Some(timeout)).unwrap();
        client.write(&Request::get("/health").bytes());
        let response = client.try_read_response()?;
        Some((response.status, response.json()))
    }

    /// Waits until `/health` of every service responds with 200.
    #[track_caller]
    pub fn wait_until_healthy(&self) {
        let deadline = Instant::now() + RECOVERY_TIMEOUT;
        for (index, name) in SERVICES.iter().enumerate() {
            loop {
                let health = self.health(index);
                if health.as_ref().is_some_and(|(status, _)| *status == 200) {
                    break;
                }
                assert!(Instant::now() < deadline, "{name} does not recover: {health:?}\n{:#?}", self.log(index));
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }

    /// Returns the log of a service since its last start.
    pub fn log(&self, index: usize) -> Vec<String> {
        self.service(index).as_ref().map(Service::log).unwrap_or_default()
    }

    /// Opens the database of a service read-only.
    pub fn database(&self, name: &str) -> rusqlite::Connection {
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
        rusqlite::Connection::open_with_flags(self.data_dir.path().join(name), flags).unwrap()
    }

    /// Returns how many processes of the stack the kernel's OOM killer has ended.
    pub fn oom_kills(&self) -> u64 {
        self.cgroups.iter().flatten().map(MemoryCgroup::oom_kills).sum()
    }
}

/// Memory cgroup with a limit of `MEMORY_BYTES_MAX`, removed on drop.
pub struct MemoryCgroup {
    folder: PathBuf,
    /// File with the `oom_kill` counter; differs between cgroup v1 and v2.
    events: &'static str,
}

impl MemoryCgroup {
    /// Creates one cgroup per service; `None` if this machine does not allow it.
    pub fn for_all_services() -> Option<[Self; 4]> {
        let [one, two, three, four] = SERVICES.map(Self::new);
        Some([one?, two?, three?, four?])
    }

    /// Creates the cgroup of one service; `None` if this machine does not allow it.
    pub fn for_test(name: &str) -> Option<Self> {
        Self::new(name)
    }

    fn new(name: &str) -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let root = Path::new("/sys/fs/cgroup");
        let unified = root.join("cgroup.controllers").exists();
        let (root, limit, events) = if unified {
            (root.to_owned(), "memory.max", "memory.events")
        } else {
            (root.join("memory"), "memory.limit_in_bytes", "memory.oom_control")
        };
        if unified {
            fs::write(root.join("cgroup.subtree_control"), "+memory").ok()?;
        }
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = root.join(format!("monlight-it-{}-{number}-{name}", std::process::id()));
        fs::create_dir(&folder).ok()?;
        let cgroup = Self { folder, events };
        fs::write(cgroup.folder.join(limit), MEMORY_BYTES_MAX.to_string()).ok()?;
        Some(cgroup)
    }

    /// Returns a shell script that moves its process into the cgroup and then executes `$0`.
    pub fn enter_script(&self) -> String {
        format!("echo $$ >{}/cgroup.procs && exec \"$0\"", self.folder.display())
    }

    pub fn oom_kills(&self) -> u64 {
        let events = fs::read_to_string(self.folder.join(self.events)).unwrap();
        let line = events.lines().find_map(|line| line.strip_prefix("oom_kill "));
        line.expect("the kernel counts OOM kills").trim().parse().unwrap()
    }
}

impl Drop for MemoryCgroup {
    fn drop(&mut self) {
        // The kernel removes a reaped process from the cgroup with a delay. If the folder stays, nothing breaks.
        for _ in 0..100 {
            if fs::remove_dir(&self.folder).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
