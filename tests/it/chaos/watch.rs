//! Somebody who asks each service how it is, all the time, and remembers what they were told.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::load::Try;
use crate::stack::{SERVICES, Stack};

const EVERY: Duration = Duration::from_millis(20);
/// How long a service may refuse everything before its health has to say so.
const UNSAID_MAX: Duration = Duration::from_secs(3);

/// What was said at a moment: well, not well, or nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    Well,
    Unwell,
    Nothing,
}

type Sayings = Vec<(Instant, Said)>;

pub struct Watch {
    stop: Arc<AtomicBool>,
    said: Arc<[Mutex<Sayings>; 4]>,
    watchers: Vec<JoinHandle<()>>,
}

impl Watch {
    pub fn start(stack: &Arc<Stack>) -> Self {
        let (stop, said) = (Arc::new(AtomicBool::new(false)), Arc::new(<[Mutex<Sayings>; 4]>::default()));
        let watcher = |service: usize| {
            let (stop, said, stack) = (Arc::clone(&stop), Arc::clone(&said), Arc::clone(stack));
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let heard = match stack.health(service) {
                        Some((200, _)) => Said::Well,
                        Some(_) => Said::Unwell,
                        None => Said::Nothing,
                    };
                    said[service].lock().unwrap().push((Instant::now(), heard));
                    std::thread::sleep(EVERY);
                }
            })
        };
        let watchers = (0..SERVICES.len()).map(watcher).collect();
        Self { stop, said, watchers }
    }

    pub fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for watcher in self.watchers.drain(..) {
            watcher.join().unwrap();
        }
    }

    /// For how many seconds a service did not say that it was well: from the first time on to the next that it did.
    pub fn away(&self, service: usize) -> f64 {
        let said = self.said[service].lock().unwrap();
        let (mut away, mut since) = (Duration::ZERO, None);
        for (at, heard) in said.iter() {
            match (heard, since) {
                (Said::Well, Some(begun)) => {
                    away += *at - begun;
                    since = None;
                }
                (Said::Unwell | Said::Nothing, None) => since = Some(*at),
                _ => {}
            }
        }
        away.as_secs_f64()
    }

    /// How often it answered that it was not well.
    pub fn said_unwell(&self, service: usize) -> usize {
        self.said[service].lock().unwrap().iter().filter(|(_, heard)| *heard == Said::Unwell).count()
    }

    /// The longest time in which a service refused everything while its health said all along that it was well, where that
    /// is longer than it may be.
    pub fn unsaid(&self, service: usize, tries: &[Try]) -> Option<Duration> {
        let said = self.said[service].lock().unwrap();
        let streaks =
            tries.split(|one| one.acknowledged).filter_map(|streak| Some((streak.first()?.at, streak.last()?.at)));
        let all_well = |from: Instant, to: Instant| {
            said.iter().filter(|(at, _)| (from..=to).contains(at)).all(|(_, heard)| *heard == Said::Well)
        };
        streaks.filter(|(from, to)| *to - *from > UNSAID_MAX && all_well(*from, *to)).map(|(from, to)| to - from).max()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // Who watches holds the services: of a test that failed none must be left.
        self.stop.store(true, Ordering::Relaxed);
        for watcher in self.watchers.drain(..) {
            let _ = watcher.join();
        }
    }
}
