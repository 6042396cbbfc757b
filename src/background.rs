//! Named plain threads: those the process cannot live without, and jobs that run on an interval until they are
//! stopped and joined.

use std::io::{self, PipeReader, PipeWriter};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

/// The exit code of a process that ended itself because one of its vital threads panicked (EX_SOFTWARE).
pub const EXIT_SOFTWARE: i32 = 70;
const STACK_BYTES: usize = 1024 * 1024;

/// Starts a thread the process cannot live without: when it panics the process ends, and whoever supervises it starts
/// a new one, which is better than a service that answers and stores nothing.
///
/// # Errors
/// When the system has no thread left.
pub fn spawn_critical(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    let named = name.to_owned();
    spawn(name, move || {
        if catch_unwind(AssertUnwindSafe(body)).is_err() {
            log::error!("thread {named} is gone; ending the process");
            std::process::exit(EXIT_SOFTWARE);
        }
    })
}

/// Starts a named thread with a modest stack.
///
/// # Errors
/// When the system has no thread left.
pub fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    // The kernel shows 15 bytes of a thread's name.
    std::thread::Builder::new().name(name.chars().take(15).collect()).stack_size(STACK_BYTES).spawn(body)
}

/// Something to be done every so often.
pub struct Job {
    /// The thread's name, at most 15 characters.
    pub name: &'static str,
    /// The pause between two runs; the first run comes at once.
    pub interval: Duration,
    /// One run. It should take well under a second or look at [`StopToken::stopping`] now and then.
    pub run: Box<dyn FnMut(&StopToken) + Send>,
}

/// What a job may ask while it runs.
pub struct StopToken {
    stop: Receiver<()>,
    stopped: Arc<PipeReader>,
}

impl StopToken {
    /// Sleeps for `duration`, less when the program stops meanwhile. Answers whether to go on.
    #[must_use]
    pub fn sleep(&self, duration: Duration) -> bool {
        self.stop.recv_timeout(duration) == Err(RecvTimeoutError::Timeout)
    }

    /// Sleeps until there is news, or until the program stops. Answers whether to go on.
    #[must_use]
    pub fn wait_for(&self, news: &Receiver<()>) -> bool {
        crossbeam_channel::select! {
            recv(self.stop) -> _ => false,
            recv(news) -> _ => true,
        }
    }

    /// What hangs up when the program stops, for a job that waits for the kernel to report something else.
    #[must_use]
    pub fn stop_fd(&self) -> &PipeReader {
        &self.stopped
    }

    /// Whether the program is stopping.
    #[must_use]
    pub fn stopping(&self) -> bool {
        !self.sleep(Duration::ZERO)
    }
}

/// The running jobs of a service.
pub struct Jobs {
    // Dropping them tells every job to stop: those that wait for a channel, and those that wait for the kernel.
    stop: Option<(Sender<()>, PipeWriter)>,
    threads: Vec<(&'static str, JoinHandle<()>)>,
}

impl Jobs {
    /// Starts every job on a thread of its own; `broken` is raised for good when one of them panics.
    ///
    /// # Errors
    /// When the system has no thread or no descriptor left.
    pub fn start(jobs: Vec<Job>, broken: &Arc<AtomicBool>) -> io::Result<Self> {
        let (stop, told) = bounded(0);
        let (stopped, hang_up) = io::pipe()?;
        let stopped = Arc::new(stopped);
        let mut threads = Vec::with_capacity(jobs.len());
        for mut job in jobs {
            let pause = StopToken { stop: told.clone(), stopped: Arc::clone(&stopped) };
            let broken = Arc::clone(broken);
            let name = job.name;
            let body = move || {
                let rounds = AssertUnwindSafe(|| {
                    loop {
                        (job.run)(&pause);
                        if !pause.sleep(job.interval) {
                            return;
                        }
                    }
                });
                if catch_unwind(rounds).is_err() {
                    log::error!("background job {name} is gone until the next start");
                    broken.store(true, Ordering::Relaxed);
                }
            };
            threads.push((name, spawn(name, body)?));
        }
        Ok(Self { stop: Some((stop, hang_up)), threads })
    }

    /// Tells every job to stop and waits for them, at most `patience` in all; one that does not come is left behind.
    pub fn stop(mut self, patience: Duration) {
        drop(self.stop.take());
        let deadline = std::time::Instant::now() + patience;
        for (name, thread) in self.threads {
            while !thread.is_finished() && std::time::Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(5));
            }
            if thread.is_finished() {
                // A panic was noted when it happened.
                let _ = thread.join();
            } else {
                log::warn!("background job {name} did not stop in time");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn a_job_runs_at_once_and_stops_when_told() {
        let (ran, runs) = bounded(1);
        let run = Box::new(move |_: &StopToken| ran.send(()).unwrap());
        let jobs =
            Jobs::start(vec![Job { name: "test", interval: Duration::from_secs(3600), run }], &Arc::default()).unwrap();
        runs.recv_timeout(Duration::from_secs(5)).unwrap();
        let begun = std::time::Instant::now();
        jobs.stop(Duration::from_secs(5));
        assert!(begun.elapsed() < Duration::from_secs(2));
    }

    #[test]
    fn a_job_that_waits_for_news_hears_them_and_stops_when_told() {
        let ((news, hears), (heard, hearings)) = (bounded(1), bounded(1));
        let run = Box::new(move |pause: &StopToken| {
            while pause.wait_for(&hears) {
                heard.send(()).unwrap();
            }
            // It hung up, so that reading comes to an end at once.
            assert_eq!(pause.stop_fd().read(&mut [0]).unwrap(), 0);
        });
        let jobs =
            Jobs::start(vec![Job { name: "test", interval: Duration::from_secs(3600), run }], &Arc::default()).unwrap();
        news.send(()).unwrap();
        hearings.recv_timeout(Duration::from_secs(5)).unwrap();
        let begun = std::time::Instant::now();
        jobs.stop(Duration::from_secs(5));
        assert!(begun.elapsed() < Duration::from_secs(2));
    }

    #[test]
    fn a_job_that_panics_raises_the_flag() {
        let run = Box::new(|_: &StopToken| panic!("on purpose"));
        let broken = Arc::default();
        let jobs = Jobs::start(vec![Job { name: "test", interval: Duration::from_secs(3600), run }], &broken).unwrap();
        jobs.stop(Duration::from_secs(5));
        assert!(broken.load(Ordering::Relaxed));
    }
}
