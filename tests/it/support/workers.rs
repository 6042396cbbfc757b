//! Background threads of load tests, and the latencies that they record.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// Latencies by kind of request.
pub type Latencies = Arc<Mutex<BTreeMap<&'static str, Vec<Duration>>>>;

/// Returns the quantile `q` in ms.
pub fn quantile_ms(latencies: &mut [Duration], q: f64) -> f64 {
    latencies.sort_unstable();
    latencies[((latencies.len() - 1) as f64 * q) as usize].as_secs_f64() * 1e3
}

/// Background threads that repeat a step until they are stopped.
#[derive(Default)]
pub struct Workers {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    /// Starts a thread that repeats a step with a pause of `interval`. The step gets its running number.
    pub fn spawn_repeating(&mut self, interval: Duration, mut step: impl FnMut(u64) + Send + 'static) {
        let stop = Arc::clone(&self.stop);
        self.threads.push(std::thread::spawn(move || {
            for number in 0.. {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                step(number);
                std::thread::sleep(interval);
            }
        }));
    }

    #[track_caller]
    pub fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("a worker got an unexpected response");
        }
    }
}
