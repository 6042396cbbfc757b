//! Monitor that polls `/health` of each service and records the responses.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::load::Attempt;
use crate::support::harness::SERVICES;
use crate::support::stack::Stack;

const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// Maximum time in which a service may reject every request while its `/health` returns 200.
const UNREPORTED_OUTAGE_MAX: Duration = Duration::from_secs(3);

/// Outcome of a request to `/health`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Health {
    Healthy,
    Unhealthy,
    NoResponse,
}

type HealthLog = Vec<(Instant, Health)>;

pub struct HealthMonitor {
    stop: Arc<AtomicBool>,
    /// Recorded outcomes by service.
    logs: Arc<[Mutex<HealthLog>; 4]>,
    pollers: Vec<JoinHandle<()>>,
}

impl HealthMonitor {
    pub fn start(stack: &Arc<Stack>) -> Self {
        let (stop, logs) = (Arc::new(AtomicBool::new(false)), Arc::new(<[Mutex<HealthLog>; 4]>::default()));
        let poller = |service: usize| {
            let (stop, logs, stack) = (Arc::clone(&stop), Arc::clone(&logs), Arc::clone(stack));
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let health = match stack.health(service) {
                        Some((200, _)) => Health::Healthy,
                        Some(_) => Health::Unhealthy,
                        None => Health::NoResponse,
                    };
                    logs[service].lock().unwrap().push((Instant::now(), health));
                    std::thread::sleep(POLL_INTERVAL);
                }
            })
        };
        let pollers = (0..SERVICES.len()).map(poller).collect();
        Self { stop, logs, pollers }
    }

    pub fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for poller in self.pollers.drain(..) {
            poller.join().unwrap();
        }
    }

    /// Returns the total downtime of a service in seconds: each time from the first response other than 200 to the next
    /// 200.
    pub fn downtime_s(&self, service: usize) -> f64 {
        let log = self.logs[service].lock().unwrap();
        let (mut downtime, mut down_since) = (Duration::ZERO, None);
        for (at, health) in log.iter() {
            match (health, down_since) {
                (Health::Healthy, Some(since)) => {
                    downtime += *at - since;
                    down_since = None;
                }
                (Health::Unhealthy | Health::NoResponse, None) => down_since = Some(*at),
                _ => {}
            }
        }
        downtime.as_secs_f64()
    }

    /// Returns how often `/health` of a service responded with a status other than 200.
    pub fn unhealthy_responses(&self, service: usize) -> usize {
        self.logs[service].lock().unwrap().iter().filter(|(_, health)| *health == Health::Unhealthy).count()
    }

    /// Returns the longest time in which a service acknowledged no request while its `/health` always returned 200, if it
    /// exceeds [`UNREPORTED_OUTAGE_MAX`].
    pub fn unreported_outage(&self, service: usize, attempts: &[Attempt]) -> Option<Duration> {
        let log = self.logs[service].lock().unwrap();
        let failure_streaks = attempts
            .split(|attempt| attempt.acknowledged)
            .filter_map(|streak| Some((streak.first()?.at, streak.last()?.at)));
        let always_healthy = |from: Instant, to: Instant| {
            log.iter().filter(|(at, _)| (from..=to).contains(at)).all(|(_, health)| *health == Health::Healthy)
        };
        failure_streaks
            .filter(|(from, to)| *to - *from > UNREPORTED_OUTAGE_MAX && always_healthy(*from, *to))
            .map(|(from, to)| to - from)
            .max()
    }
}

impl Drop for HealthMonitor {
    fn drop(&mut self) {
        // The poller threads own the stack. They must end after a failed test too, so that its services are stopped.
        self.stop.store(true, Ordering::Relaxed);
        for poller in self.pollers.drain(..) {
            let _ = poller.join();
        }
    }
}
