//! Time that threads of a service wait for a processor. It depends on the load of the machine, not on the service.

use std::path::PathBuf;
use std::time::Duration;

use crate::support::harness::wait_until;

/// Threads through which every response of a service goes, as files of the kernel with their scheduling times.
pub struct ProcessorWait {
    event_loop: Vec<PathBuf>,
    workers: Vec<PathBuf>,
}

/// Waiting times of the threads at one time, in nanoseconds since their starts.
pub struct Snapshot {
    own_ns: u64,
    event_loop_ns: u64,
    workers_ns: Vec<u64>,
}

impl ProcessorWait {
    /// Finds the event loop and the workers for telemetry of the process with this ID.
    pub fn of_service(pid: u32) -> Self {
        // A thread gives itself its name.
        let all = || {
            let (event_loop, workers) = (threads(pid, "event-loop"), threads(pid, "ingest-"));
            (!event_loop.is_empty() && !workers.is_empty()).then_some(Self { event_loop, workers })
        };
        wait_until(all).expect("the service has its threads")
    }

    /// Returns the current waiting times, also that of the calling thread.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            own_ns: wait_ns(&"/proc/thread-self/schedstat".into()),
            event_loop_ns: self.event_loop.iter().map(wait_ns).sum(),
            workers_ns: self.workers.iter().map(wait_ns).collect(),
        }
    }

    /// Returns how long a response was delayed since `before` at most: one worker and the event loop handled it for the
    /// calling thread.
    pub fn since(&self, before: &Snapshot) -> Duration {
        let now = self.snapshot();
        let of_workers = now.workers_ns.iter().zip(&before.workers_ns).map(|(now, before)| now - before);
        let of_others = now.own_ns - before.own_ns + now.event_loop_ns - before.event_loop_ns;
        Duration::from_nanos(of_others + of_workers.max().unwrap_or_default())
    }
}

/// Returns the files with the scheduling times of the threads of a process whose names start with a prefix.
fn threads(pid: u32, prefix: &str) -> Vec<PathBuf> {
    let paths = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().map(|thread| thread.unwrap().path());
    let is_named =
        |path: &PathBuf| std::fs::read_to_string(path.join("comm")).is_ok_and(|name| name.starts_with(prefix));
    paths.filter(is_named).map(|path| path.join("schedstat")).collect()
}

/// Returns the second field of `schedstat`, the time on the run queue (Documentation/scheduler/sched-stats.rst of Linux),
/// or 0 if the kernel does not count it.
fn wait_ns(path: &PathBuf) -> u64 {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().nth(1).map_or(0, |field| field.parse().unwrap())
}
