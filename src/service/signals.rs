//! Signals: those that stop a service in an orderly way, and those that must not end it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;

/// Returns the signals that stop the service: SIGTERM, SIGINT, and SIGHUP unless it was ignored at the start, as by `nohup`.
/// Keeps SIGUSR1, SIGUSR2 and SIGXFSZ from ending the process: without the last one, a write beyond the maximum size of a
/// file fails like one to a full disk.
///
/// # Errors
/// Fails if the system refuses a handler or a descriptor.
pub(super) fn register() -> io::Result<Signals> {
    for signal in [SIGUSR1, SIGUSR2, libc::SIGXFSZ] {
        // A handler that nobody reads, because ignoring a signal would require unsafe code.
        signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false)))?;
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mut stopping = vec![SIGTERM, SIGINT];
    if !is_ignored(&status, SIGHUP) {
        stopping.push(SIGHUP);
    }
    Signals::new(stopping)
}

/// Whether a process ignores a signal, by its `/proc/PID/status`.
fn is_ignored(status: &str, signal: i32) -> bool {
    let mask = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("SigIgn:")?.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_read_from_the_status() {
        let status = "Name:\tx\nSigBlk:\t0000000000000001\nSigIgn:\t0000000000001001\nSigCgt:\t0000000000000002\n";
        assert!(is_ignored(status, SIGHUP) && is_ignored(status, 13));
        assert!(!is_ignored(status, SIGINT) && !is_ignored("", SIGHUP));
    }
}
