//! What the kernel says of changes in folders, so that nobody has to look for them.

use std::collections::HashMap;
use std::ffi::OsString;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};

use crate::background::StopToken;

/// Bytes for events that are read at once.
const EVENTS_BYTES: usize = 4 * 1024;

/// Watches folders. Where the kernel has no room for more of it, changes are found by looking.
pub(super) struct Watch {
    /// `None` where there is no inotify.
    events: Option<OwnedFd>,
    folders: HashMap<PathBuf, i32>,
    complained: bool,
}

/// Something changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    /// A file of this name in this folder.
    File(PathBuf, OsString),
    /// More than could be told.
    Anything,
}

impl Watch {
    pub(super) fn new() -> Self {
        let events = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC);
        if let Err(why) = &events {
            log::warn!("changes are found by looking every POLL_INTERVAL: inotify is not to be had: {why}");
        }
        Self { events: events.ok(), folders: HashMap::new(), complained: false }
    }

    /// Watches these folders and no others.
    pub(super) fn set(&mut self, folders: &[PathBuf]) {
        let Some(events) = &self.events else { return };
        let gone: Vec<PathBuf> = self.folders.keys().filter(|known| !folders.contains(known)).cloned().collect();
        for folder in gone {
            if let Some(number) = self.folders.remove(&folder) {
                // The kernel has removed it already when the folder is gone.
                let _ = inotify::remove_watch(events, number);
            }
        }
        for folder in folders {
            if self.folders.contains_key(folder) {
                continue;
            }
            let changes = WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVE | WatchFlags::DELETE;
            match inotify::add_watch(events, folder, changes | WatchFlags::ONLYDIR) {
                Ok(number) => {
                    self.folders.insert(folder.clone(), number);
                }
                Err(rustix::io::Errno::NOSPC | rustix::io::Errno::NOMEM) if !self.complained => {
                    self.complained = true;
                    log::warn!(
                        "changes in some folders are found by looking every POLL_INTERVAL: raise fs.inotify.max_user_watches"
                    );
                }
                // What cannot be read says so where it is looked for.
                Err(_) => {}
            }
        }
    }

    /// Waits for changes, at most `patience` and not when the program stops.
    pub(super) fn wait(&self, patience: Duration, pause: &StopToken) -> Vec<Change> {
        let Some(events) = &self.events else {
            // Whoever waits asks by itself whether to go on.
            let _ = pause.sleep(patience);
            return Vec::new();
        };
        // At most the hour that POLL_INTERVAL may be.
        let tv_sec = i64::try_from(patience.as_secs()).unwrap_or(1);
        let patience = Timespec { tv_sec, tv_nsec: i64::from(patience.subsec_nanos()) };
        let stops = pause.stop_fd().as_fd();
        // Of the second its end is reported without being asked for.
        let mut reports = [PollFd::new(events, PollFlags::IN), PollFd::from_borrowed_fd(stops, PollFlags::empty())];
        match poll(&mut reports, Some(&patience)) {
            Ok(_) if reports[0].revents().contains(PollFlags::IN) => self.read(events),
            // A signal, the end, or nothing: the next look finds what there is.
            _ => Vec::new(),
        }
    }

    fn read(&self, events: &OwnedFd) -> Vec<Change> {
        let mut buffer = [MaybeUninit::uninit(); EVENTS_BYTES];
        let mut reader = Reader::new(events, &mut buffer);
        let mut changes: Vec<Change> = Vec::new();
        while let Ok(event) = reader.next() {
            let change = if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
                Some(Change::Anything)
            } else {
                let folder = self.folders.iter().find(|(_, number)| **number == event.wd()).map(|(folder, _)| folder);
                let name = event.file_name().map(|name| OsString::from_vec(name.to_bytes().to_vec()));
                folder.zip(name).map(|(folder, name)| Change::File(folder.clone(), name))
            };
            if let Some(change) = change.filter(|change| changes.last() != Some(change)) {
                changes.push(change);
            }
        }
        changes
    }
}

/// Whether a change is one of a log's files: the file itself, or what it was rotated to.
pub(super) fn concerns(change: &Change, log: &Path) -> bool {
    match change {
        Change::Anything => true,
        Change::File(folder, name) => {
            let Some(log_name) = log.file_name().and_then(|name| name.to_str()) else { return false };
            log.parent() == Some(folder) && name.to_str().is_some_and(|name| name.starts_with(log_name))
        }
    }
}
