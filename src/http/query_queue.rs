//! Queue of the requests that query the database, which shares the time of the workers fairly among clients.
//!
//! The key whose queries have taken the least time recently is served first, and among its clients the one whose queries have
//! taken the least. A key occupies at most three workers, and a client one, or two once
//! its queries are known to be fast; all clients together whose queries are slow occupy two. Nobody knows of a new client
//! that its queries are slow, therefore there are more workers than run fast queries: the others take over when those have
//! been busy with a query for a while.
//!
//! Further parts of streamed responses wait in the same queue, behind the requests of clients that have used as much time.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Worker threads: one more than a key can occupy.
pub(in crate::http) const QUERY_WORKERS: usize = RUNNING_OF_KEY_MAX + 1;
/// Maximum workers that run queries of one key: one more than slow clients can occupy.
const RUNNING_OF_KEY_MAX: usize = RUNNING_SLOW_MAX + 1;
/// Maximum workers that run queries which have begun within [`PATIENCE`]: as few as keep two processors busy, because a large
/// response takes up to 2.5 MB while it is built.
const RUNNING_NEW_MAX: usize = 2;
/// Maximum workers that run queries of one client if its queries are known to be fast; otherwise one.
const RUNNING_OF_FAST_CLIENT_MAX: usize = 2;
/// Maximum workers that run queries of slow clients.
const RUNNING_SLOW_MAX: usize = 2;
/// Time after which a running query no longer keeps others from one of the further workers.
const PATIENCE: Duration = Duration::from_millis(300);
/// Time after which half of a client's used time is forgotten.
const HALF_LIFE: Duration = Duration::from_secs(5);
/// Used time from which a client counts as slow.
const SLOW_FROM: Duration = Duration::from_millis(500);
/// Difference in used time below which two clients count as equal.
const EQUAL_WITHIN: Duration = Duration::from_millis(50);
/// Used time below which a client without tasks is forgotten.
const FORGET_BELOW: Duration = Duration::from_millis(1);
/// Number of clients from which those without tasks are forgotten.
const CLIENTS_KEPT: usize = 256;
/// Interval at which waiting tasks are looked at again, because what they may use changes with time.
const RETRY_INTERVAL: Duration = Duration::from_millis(25);

/// A client, as far as the workers' time is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::http) struct ClientKey {
    /// A number that is different for each key.
    pub(in crate::http) principal: usize,
    /// The address of the client.
    pub(in crate::http) address: IpAddr,
}

/// The kind of a task in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) enum TaskKind {
    /// The start of a response.
    Request,
    /// A further part of a response.
    Part,
}

/// The queue, which event loop and workers share. It has no limit of its own: a connection has at most one task.
#[derive(Debug)]
pub(in crate::http) struct QueryQueue<T> {
    state: Mutex<QueueState<T>>,
    available: Condvar,
}

#[derive(Debug)]
struct QueueState<T> {
    clients: HashMap<ClientKey, ClientLoad<T>>,
    /// The number of tasks taken so far. It orders equal clients by when they were served last.
    taken: u64,
    is_closed: bool,
}

#[derive(Debug)]
struct ClientLoad<T> {
    requests: VecDeque<T>,
    parts: VecDeque<T>,
    /// The start of each task that a worker runs.
    running: Vec<Instant>,
    /// The time that finished tasks have taken, at `used_at`.
    used: Duration,
    used_at: Instant,
    /// Whether a task has finished.
    is_known: bool,
    last_taken: u64,
    /// The time from which on a task has been waiting.
    waiting_since: Instant,
}

/// A task that a worker runs. Dropping it charges its duration to the client.
#[derive(Debug)]
pub(in crate::http) struct RunningTask<T> {
    queue: Arc<QueryQueue<T>>,
    client: ClientKey,
    started: Instant,
}

impl<T> Default for QueryQueue<T> {
    fn default() -> Self {
        let state = QueueState { clients: HashMap::new(), taken: 0, is_closed: false };
        Self { state: Mutex::new(state), available: Condvar::new() }
    }
}

impl<T> QueryQueue<T> {
    /// Adds a task. Returns it if the workers have stopped.
    pub(in crate::http) fn push(&self, client: ClientKey, kind: TaskKind, task: T) -> Option<T> {
        let mut state = self.lock();
        if state.is_closed {
            return Some(task);
        }
        let now = Instant::now();
        if state.clients.len() >= CLIENTS_KEPT && !state.clients.contains_key(&client) {
            state.forget_idle(now);
        }
        let load = state.clients.entry(client).or_insert_with(|| ClientLoad::new(now));
        if !load.is_waiting() {
            load.waiting_since = now;
        }
        match kind {
            TaskKind::Request => load.requests.push_back(task),
            TaskKind::Part => load.parts.push_back(task),
        }
        drop(state);
        self.available.notify_one();
        None
    }

    /// Ends the workers once no task is left.
    pub(in crate::http) fn close(&self) {
        self.lock().is_closed = true;
        self.available.notify_all();
    }

    /// Waits for the next task. Returns `None` once the queue is closed and empty.
    pub(in crate::http) fn take(self: &Arc<Self>) -> Option<(T, RunningTask<T>)> {
        let mut state = self.lock();
        loop {
            let now = Instant::now();
            if let Some((client, task)) = state.take(now) {
                return Some((task, RunningTask { queue: Arc::clone(self), client, started: now }));
            }
            let is_waiting = state.clients.values().any(ClientLoad::is_waiting);
            if state.is_closed && !is_waiting {
                return None;
            }
            state = if is_waiting {
                self.available.wait_timeout(state, RETRY_INTERVAL).map_or_else(|e| e.into_inner().0, |(state, _)| state)
            } else {
                self.available.wait(state).unwrap_or_else(PoisonError::into_inner)
            };
        }
    }

    fn lock(&self) -> MutexGuard<'_, QueueState<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> QueueState<T> {
    /// Takes the task that comes next, if a client may use one more of the workers.
    fn take(&mut self, now: Instant) -> Option<(ClientKey, T)> {
        let (mut running_new, mut running_slow) = (0, 0);
        // The used time and the running tasks of each key.
        let mut principals: HashMap<usize, (Duration, usize)> = HashMap::new();
        for (key, load) in &self.clients {
            let principal = principals.entry(key.principal).or_default();
            principal.0 += load.used(now);
            principal.1 += load.running.len();
            let is_new = |started: &&Instant| now.saturating_duration_since(**started) < PATIENCE;
            running_new += load.running.iter().filter(is_new).count();
            running_slow += if load.is_slow(now) { load.running.len() } else { 0 };
        }
        if running_new >= RUNNING_NEW_MAX {
            return None;
        }
        let of_principal = |key: &ClientKey| principals.get(&key.principal).copied().unwrap_or_default();
        let may_run = |key: &ClientKey, load: &ClientLoad<T>| {
            let running_max = if load.is_known && !load.is_slow(now) { RUNNING_OF_FAST_CLIENT_MAX } else { 1 };
            load.running.len() < running_max
                && of_principal(key).1 < RUNNING_OF_KEY_MAX
                && (running_slow < RUNNING_SLOW_MAX || !load.is_slow(now))
        };
        let waiting = self.clients.iter_mut().filter(|(key, load)| load.is_waiting() && may_run(key, load));
        let level = |used: Duration| used.as_millis() / EQUAL_WITHIN.as_millis();
        let (key, load) = waiting.min_by_key(|(key, load)| {
            let (of_key, of_client) = (level(of_principal(key).0), level(load.used(now)));
            (of_key, of_client, load.requests.is_empty(), load.last_taken, load.waiting_since)
        })?;
        let task = load.requests.pop_front().or_else(|| load.parts.pop_front())?;
        load.running.push(now);
        self.taken += 1;
        load.last_taken = self.taken;
        Some((*key, task))
    }

    /// Forgets clients without tasks: those whose used time has faded, and all of them if that frees too little.
    fn forget_idle(&mut self, now: Instant) {
        self.clients.retain(|_, load| !load.is_idle() || load.used(now) >= FORGET_BELOW);
        if self.clients.len() >= CLIENTS_KEPT {
            self.clients.retain(|_, load| !load.is_idle());
        }
    }
}

impl<T> ClientLoad<T> {
    fn new(now: Instant) -> Self {
        Self {
            requests: VecDeque::new(),
            parts: VecDeque::new(),
            running: Vec::new(),
            used: Duration::ZERO,
            used_at: now,
            is_known: false,
            last_taken: 0,
            waiting_since: now,
        }
    }

    fn is_waiting(&self) -> bool {
        !(self.requests.is_empty() && self.parts.is_empty())
    }

    fn is_idle(&self) -> bool {
        self.running.is_empty() && !self.is_waiting()
    }

    fn is_slow(&self, now: Instant) -> bool {
        self.used(now) >= SLOW_FROM
    }

    /// Returns the recently used time, including that of running tasks.
    fn used(&self, now: Instant) -> Duration {
        let running: Duration = self.running.iter().map(|started| now.saturating_duration_since(*started)).sum();
        self.finished_time(now) + running
    }

    fn finished_time(&self, now: Instant) -> Duration {
        if self.used.is_zero() {
            return Duration::ZERO;
        }
        let half_lives = now.saturating_duration_since(self.used_at).as_secs_f64() / HALF_LIFE.as_secs_f64();
        self.used.mul_f64((-half_lives).exp2())
    }

    fn finish(&mut self, started: Instant, now: Instant) {
        if let Some(at) = self.running.iter().position(|running| *running == started) {
            self.running.swap_remove(at);
        }
        self.used = self.finished_time(now) + now.saturating_duration_since(started);
        self.used_at = now;
        self.is_known = true;
    }
}

impl<T> Drop for RunningTask<T> {
    fn drop(&mut self) {
        let mut state = self.queue.lock();
        // The client is in the table as long as it has running tasks.
        if let Some(load) = state.clients.get_mut(&self.client) {
            load.finish(self.started, Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::TaskKind::{Part, Request};
    use super::*;

    type Queue = QueryQueue<&'static str>;

    fn client(n: u8) -> ClientKey {
        ClientKey { principal: usize::from(n), address: IpAddr::from([10, 0, 0, n]) }
    }

    fn queue(tasks: &[(u8, TaskKind, &'static str)]) -> Queue {
        let queue = Queue::default();
        for (n, kind, task) in tasks {
            assert_eq!(queue.push(client(*n), *kind, *task), None);
        }
        queue
    }

    /// Takes a task and returns it, or `-` if no client may run one.
    fn take_at(queue: &Queue, now: Instant) -> &'static str {
        queue.lock().take(now).map_or("-", |(_, task)| task)
    }

    fn finish(queue: &Queue, n: u8, started: Instant, now: Instant) {
        queue.lock().clients.get_mut(&client(n)).unwrap().finish(started, now);
    }

    #[test]
    fn clients_take_turns_and_use_two_workers_once_they_are_known() {
        let queue = queue(&[(1, Request, "a1"), (1, Request, "a2"), (1, Request, "a3"), (2, Request, "b1")]);
        let start = Instant::now();
        let mut taken = [take_at(&queue, start), take_at(&queue, start)];
        taken.sort_unstable();
        assert_eq!(taken, ["a1", "b1"]);
        assert_eq!(take_at(&queue, start), "-", "the first client is not known yet");
        for n in [1, 2] {
            finish(&queue, n, start, start);
        }
        assert_eq!([take_at(&queue, start), take_at(&queue, start)], ["a2", "a3"]);
        queue.push(client(1), Request, "a4");
        assert_eq!(take_at(&queue, start + PATIENCE), "-", "two workers at most");
        finish(&queue, 1, start, start + SLOW_FROM);
        assert_eq!(take_at(&queue, start + SLOW_FROM), "-", "the other task is slow as well");
    }

    #[test]
    fn further_workers_help_once_the_others_have_been_busy_for_a_while() {
        let queue =
            queue(&[(1, Request, "a"), (2, Request, "b"), (3, Request, "c"), (4, Request, "d"), (5, Request, "e")]);
        let start = Instant::now();
        let taken: Vec<&str> = (0..3).map(|_| take_at(&queue, start)).collect();
        assert!(taken[2] == "-" && !taken[..2].contains(&"-"), "{taken:?}");
        let later = start + PATIENCE;
        let taken: Vec<&str> = (0..3).map(|_| take_at(&queue, later)).collect();
        assert!(taken[2] == "-" && !taken[..2].contains(&"-"), "{taken:?}");
        assert_ne!(take_at(&queue, later + PATIENCE), "-");
    }

    #[test]
    fn slow_clients_together_use_two_workers() {
        let queue = queue(&[(1, Request, "a"), (2, Request, "b"), (3, Request, "c"), (4, Request, "d")]);
        let start = Instant::now();
        for n in 0..4 {
            assert_ne!(take_at(&queue, start + PATIENCE * n), "-");
        }
        let end = start + Duration::from_secs(5);
        for n in 1..=4 {
            let started = queue.lock().clients[&client(n)].running[0];
            finish(&queue, n, started, end);
            queue.push(client(n), Request, "slow");
        }
        let later = end + PATIENCE;
        assert_eq!([take_at(&queue, end), take_at(&queue, end), take_at(&queue, later)], ["slow", "slow", "-"]);
        queue.push(client(9), Request, "fast");
        assert_eq!(take_at(&queue, later), "fast");
    }

    #[test]
    fn slow_clients_become_fast_by_waiting() {
        let queue = queue(&[(1, Request, "a")]);
        let start = Instant::now();
        assert_eq!(take_at(&queue, start), "a");
        let is_slow = |now: Instant| queue.lock().clients[&client(1)].is_slow(now);
        assert!(!is_slow(start + Duration::from_millis(400)) && is_slow(start + Duration::from_millis(600)), "running");
        let end = start + Duration::from_secs(4);
        finish(&queue, 1, start, end);
        assert!(is_slow(end + Duration::from_secs(14)));
        assert!(!is_slow(end + Duration::from_secs(16)));
    }

    #[test]
    fn requests_come_before_parts_unless_their_client_has_used_more_time() {
        let queue = queue(&[(1, Part, "part"), (2, Request, "first"), (2, Request, "second")]);
        let start = Instant::now();
        assert_eq!(take_at(&queue, start), "first");
        let end = start + Duration::from_millis(200);
        finish(&queue, 2, start, end);
        assert_eq!([take_at(&queue, end), take_at(&queue, end)], ["part", "second"]);
    }

    #[test]
    fn keys_share_the_workers_before_their_clients_do() {
        let queue = Queue::default();
        let with_key = |principal: usize, n: u8| ClientKey { principal, ..client(n) };
        for n in 1..=5 {
            queue.push(with_key(0, n), Request, "first key");
        }
        let start = Instant::now();
        assert_eq!(take_at(&queue, start), "first key");
        let busy = start + PATIENCE;
        queue.push(with_key(1, 9), Request, "other key");
        assert_eq!([take_at(&queue, busy), take_at(&queue, busy)], ["other key", "first key"]);
        let busy = busy + PATIENCE;
        assert_eq!([take_at(&queue, busy), take_at(&queue, busy)], ["first key", "-"]);
        queue.push(with_key(1, 8), Request, "other key");
        assert_eq!(take_at(&queue, busy), "other key");
    }

    #[test]
    fn client_table_is_bounded() {
        let queue = Queue::default();
        let now = Instant::now();
        for n in 0..5_000u32 {
            let client = ClientKey { principal: 0, address: IpAddr::from(n.to_be_bytes()) };
            queue.push(client, Request, "task");
            assert_eq!(take_at(&queue, now), "task");
            queue.lock().clients.get_mut(&client).unwrap().finish(now, now + Duration::from_secs(1));
            assert!(queue.lock().clients.len() <= CLIENTS_KEPT);
        }
    }

    #[test]
    fn workers_end_with_the_queue() {
        let queue = Arc::new(queue(&[(1, Request, "last")]));
        queue.close();
        let (task, running) = queue.take().unwrap();
        assert_eq!(task, "last");
        drop(running);
        assert!(queue.take().is_none());
        assert_eq!(queue.push(client(1), Request, "late"), Some("late"));
    }
}
