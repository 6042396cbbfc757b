//! The four services as one machine has them: each at an address that it keeps when it is started again, in a memory
//! cgroup of its own where there are such.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{Client, Folder, Request, Service, Setup};

pub const SERVICES: [&str; 4] = ["error-tracker", "log-viewer", "metrics-collector", "browser-relay"];
pub const TRACKER: usize = 0;
pub const VIEWER: usize = 1;
pub const COLLECTOR: usize = 2;
pub const RELAY: usize = 3;
/// As docker-compose.yml has it.
const MEMORY_BYTES_MAX: u64 = 30 << 20;
/// How long a stack may take to be well again once its trouble is over.
const RECOVERY: Duration = Duration::from_secs(30);

/// What a service of this number is set up with besides what all stacks have.
pub type Change = Box<dyn Fn(usize, Setup) -> Setup + Send + Sync>;

pub struct Stack {
    /// Where the databases are.
    pub data: Arc<Folder>,
    /// Where the containers' logs are.
    pub containers: PathBuf,
    /// By number; `None` while it is dead.
    services: [Mutex<Option<Service>>; 4],
    pub addresses: [SocketAddr; 4],
    change: Change,
    cages: Option<[Cage; 4]>,
    _logs: Folder,
}

impl Stack {
    /// Starts all four with their databases in a folder.
    pub fn start(data: &Arc<Folder>, cages: Option<[Cage; 4]>, change: Change) -> Self {
        let logs = Folder::new();
        let containers = logs.path().join("containers");
        fs::create_dir(&containers).unwrap();
        let addresses = [SocketAddr::from(([127, 0, 0, 1], 0)); 4];
        let services = Default::default();
        let mut stack = Self { data: Arc::clone(data), containers, services, addresses, change, cages, _logs: logs };
        for number in 0..SERVICES.len() {
            stack.start_again(number);
            let address = stack.service(number).as_ref().unwrap().address;
            stack.addresses[number] = address;
        }
        stack
    }

    fn setup(&self, number: usize) -> Setup {
        let setup = match number {
            TRACKER => Setup::error_tracker(),
            VIEWER => Setup::log_viewer().env("LOG_SOURCES", self.containers.display()),
            COLLECTOR => Setup::metrics_collector(),
            _ => Setup::browser_relay(self.addresses[TRACKER], self.addresses[COLLECTOR]),
        };
        let setup = setup.folder(&self.data).env("PORT", self.addresses[number].port());
        let setup = match &self.cages {
            Some(cages) => setup.through(&["sh", "-c", &cages[number].entering()]),
            None => setup,
        };
        (self.change)(number, setup)
    }

    /// A service, for as long as nobody else is to kill or start it.
    pub fn service(&self, number: usize) -> MutexGuard<'_, Option<Service>> {
        self.services[number].lock().unwrap()
    }

    pub fn pid(&self, number: usize) -> u32 {
        self.service(number).as_ref().unwrap().pid()
    }

    /// Ends it as a power cut would.
    pub fn kill(&self, number: usize) {
        if let Some(service) = self.service(number).take() {
            service.kill();
        }
    }

    pub fn start_again(&self, number: usize) {
        let started = self.setup(number).start();
        *self.service(number) = Some(started);
    }

    /// What a start comes to that is to fail: its exit code and what it said.
    pub fn fails_to_start(&self, number: usize) -> (Option<i32>, String) {
        self.setup(number).run()
    }

    /// The status and the body of its `/health`, which may take a second; `None` when there was no answer.
    pub fn health(&self, number: usize) -> Option<(u16, Value)> {
        let within = Duration::from_secs(1);
        let socket = std::net::TcpStream::connect_timeout(&self.addresses[number], within).ok()?;
        let mut client = Client::new(socket);
        client.socket().set_read_timeout(Some(within)).unwrap();
        client.write(&Request::get("/health").bytes());
        let answer = client.try_answer()?;
        Some((answer.status, answer.json()))
    }

    /// Waits until all that are alive say that they are well.
    #[track_caller]
    pub fn becomes_healthy(&self) {
        let deadline = Instant::now() + RECOVERY;
        for (number, name) in SERVICES.iter().enumerate() {
            loop {
                let health = self.health(number);
                if health.as_ref().is_some_and(|(status, _)| *status == 200) {
                    break;
                }
                assert!(Instant::now() < deadline, "{name} does not recover: {health:?}\n{:#?}", self.log(number));
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }

    /// What a service has logged since it was last started.
    pub fn log(&self, number: usize) -> Vec<String> {
        self.service(number).as_ref().map(Service::log).unwrap_or_default()
    }

    /// The database of a service, opened to look.
    pub fn database(&self, name: &str) -> rusqlite::Connection {
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
        rusqlite::Connection::open_with_flags(self.data.path().join(name), flags).unwrap()
    }

    /// How many of its processes the kernel has killed for want of memory.
    pub fn killed_for_memory(&self) -> u64 {
        self.cages.iter().flatten().map(Cage::killed).sum()
    }
}

/// A memory cgroup of 30 MB, gone with this value.
pub struct Cage {
    folder: PathBuf,
    /// Which file says what was killed.
    events: &'static str,
}

impl Cage {
    /// One for each service; `None` where this machine has no memory cgroups that may be made.
    pub fn four() -> Option<[Self; 4]> {
        let [one, two, three, four] = SERVICES.map(Self::new);
        Some([one?, two?, three?, four?])
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
        let cage = Self { folder, events };
        fs::write(cage.folder.join(limit), MEMORY_BYTES_MAX.to_string()).ok()?;
        Some(cage)
    }

    /// A script that goes into it and becomes the program that follows.
    fn entering(&self) -> String {
        format!("echo $$ >{}/cgroup.procs && exec \"$0\"", self.folder.display())
    }

    fn killed(&self) -> u64 {
        let text = fs::read_to_string(self.folder.join(self.events)).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        line.expect("the kernel counts what it kills").trim().parse().unwrap()
    }
}

impl Drop for Cage {
    fn drop(&mut self) {
        // The kernel lets go of a process a moment after it is reaped; a leftover folder would only be untidy.
        for _ in 0..100 {
            if fs::remove_dir(&self.folder).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
