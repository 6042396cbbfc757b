//! Named threads: critical ones, whose panic ends the process, and background jobs that run at an interval.

use std::io::{self, PipeReader, PipeWriter};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

/// The exit code after a panic of a critical thread (EX_SOFTWARE in sysexits.h).
pub const EXIT_SOFTWARE: i32 = 70;
const STACK_BYTES: usize = 1024 * 1024;

/// Starts a critical thread. If it panics, the process exits, so that its supervisor restarts it. The alternative would be a
/// service that answers but stores nothing.
///
/// # Errors
/// Fails if the system refuses a thread.
pub fn spawn_critical(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    let thread_name = name.to_owned();
    spawn(name, move || {
        if catch_unwind(AssertUnwindSafe(body)).is_err() {
            log::error!("background: critical thread {thread_name} panicked; exiting with code {EXIT_SOFTWARE}");
            log::logger().flush();
            std::process::exit(EXIT_SOFTWARE);
        }
    })
}

/// Starts a named thread with a stack of 1 MiB.
///
/// # Errors
/// Fails if the system refuses a thread.
pub fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    // The kernel keeps 15 bytes of a thread's name.
    std::thread::Builder::new().name(name.chars().take(15).collect()).stack_size(STACK_BYTES).spawn(body)
}

/// A task that runs at an interval.
pub struct Job {
    /// The name of the job's thread, at most 15 characters.
    pub name: &'static str,
    /// The pause between two runs. The first run starts immediately.
    pub interval: Duration,
    /// Runs the task once. Must take well under a second, or check [`StopToken::stopping`].
    pub run: Box<dyn FnMut(&StopToken) + Send>,
}

/// Signals to a job that the service is stopping, and interrupts its waits.
pub struct StopToken {
    stop: Receiver<()>,
    stopped: Arc<PipeReader>,
}

impl StopToken {
    /// Sleeps for `duration` or until the service stops. Returns `false` if it is stopping.
    #[must_use]
    pub fn sleep(&self, duration: Duration) -> bool {
        self.stop.recv_timeout(duration) == Err(RecvTimeoutError::Timeout)
    }

    /// Waits for a message or until the service stops. Returns `false` if it is stopping.
    #[must_use]
    pub fn wait_for(&self, messages: &Receiver<()>) -> bool {
        crossbeam_channel::select! {
            recv(self.stop) -> _ => false,
            recv(messages) -> _ => true,
        }
    }

    /// Waits up to `duration` for a message or until the service stops. Returns `false` if it is stopping.
    #[must_use]
    pub fn wait_up_to(&self, duration: Duration, messages: &Receiver<()>) -> bool {
        crossbeam_channel::select! {
            recv(self.stop) -> _ => false,
            // Nobody is left to send a message, so only the time counts.
            recv(messages) -> message => message.is_ok() || self.sleep(duration),
            default(duration) => true,
        }
    }

    /// Returns a pipe that reaches end of file when the service stops, for jobs that wait with `poll`.
    #[must_use]
    pub fn stop_fd(&self) -> &PipeReader {
        &self.stopped
    }

    /// Whether the service is stopping.
    #[must_use]
    pub fn stopping(&self) -> bool {
        !self.sleep(Duration::ZERO)
    }
}

/// The running jobs of a service.
pub struct Jobs {
    // Dropping both stops all jobs: those that wait for a channel and those that poll the pipe.
    stop: Option<(Sender<()>, PipeWriter)>,
    threads: Vec<(&'static str, JoinHandle<()>)>,
}

impl Jobs {
    /// Starts each job on its own thread. Sets `failed` if one of them panics.
    ///
    /// # Errors
    /// Fails if the system refuses a thread or a descriptor.
    pub fn start(jobs: Vec<Job>, failed: &Arc<AtomicBool>) -> io::Result<Self> {
        let (stop, stopped_channel) = bounded(0);
        let (stopped_pipe, pipe_writer) = io::pipe()?;
        let stopped_pipe = Arc::new(stopped_pipe);
        let mut threads = Vec::with_capacity(jobs.len());
        for mut job in jobs {
            let token = StopToken { stop: stopped_channel.clone(), stopped: Arc::clone(&stopped_pipe) };
            let failed = Arc::clone(failed);
            let name = job.name;
            let body = move || {
                let run_repeatedly = AssertUnwindSafe(|| {
                    loop {
                        (job.run)(&token);
                        if !token.sleep(job.interval) {
                            return;
                        }
                    }
                });
                if catch_unwind(run_repeatedly).is_err() {
                    log::error!("background job {name} panicked; it stays down until restart");
                    failed.store(true, Ordering::Relaxed);
                }
            };
            threads.push((name, spawn(name, body)?));
        }
        Ok(Self { stop: Some((stop, pipe_writer)), threads })
    }

    /// Stops all jobs and waits for them up to `timeout` in total. A job that does not stop in time ends with the process.
    pub fn stop(mut self, timeout: Duration) {
        drop(self.stop.take());
        let deadline = std::time::Instant::now() + timeout;
        for (name, thread) in self.threads {
            while !thread.is_finished() && std::time::Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(5));
            }
            if thread.is_finished() {
                // A panic was logged when it happened.
                let _ = thread.join();
            } else {
                log::warn!("background: stopping job {name} timed out; it ends with the process");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn jobs_run_immediately_and_stop_on_request() {
        let (ran, runs) = bounded(1);
        let run = Box::new(move |_: &StopToken| ran.send(()).unwrap());
        let jobs =
            Jobs::start(vec![Job { name: "test", interval: Duration::from_secs(3600), run }], &Arc::default()).unwrap();
        runs.recv_timeout(Duration::from_secs(5)).unwrap();
        let started = std::time::Instant::now();
        jobs.stop(Duration::from_secs(5));
        assert!(started.elapsed() < Duration::from_secs(2));
    }

    #[test]
    fn waiting_jobs_wake_for_messages_and_stop() {
        let ((messages, inbox), (received, receipts)) = (bounded(1), bounded(1));
        let run = Box::new(move |stop: &StopToken| {
            while stop.wait_for(&inbox) {
                received.send(()).unwrap();
            }
            // The pipe is closed, so reading returns end of file.
            assert_eq!(stop.stop_fd().read(&mut [0]).unwrap(), 0);
        });
        let jobs =
            Jobs::start(vec![Job { name: "test", interval: Duration::from_secs(3600), run }], &Arc::default()).unwrap();
        messages.send(()).unwrap();
        receipts.recv_timeout(Duration::from_secs(5)).unwrap();
        let started = std::time::Instant::now();
        jobs.stop(Duration::from_secs(5));
        assert!(started.elapsed() < Duration::from_secs(2));
    }

    #[test]
    fn panicking_jobs_set_the_failed_flag() {
        let run = Box::new(|_: &StopToken| panic!("on purpose"));
        let failed = Arc::default();
        let jobs = Jobs::start(vec![Job { name: "test", interval: Duration::from_secs(3600), run }], &failed).unwrap();
        jobs.stop(Duration::from_secs(5));
        assert!(failed.load(Ordering::Relaxed));
    }
}
