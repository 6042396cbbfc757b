//! File watcher: reports changes in folders, so that logs need not be polled.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;

use super::file_identity::Inode;
use crate::background::StopToken;

/// Size of the buffer for events, in bytes.
const BUFFER_BYTES: usize = 4 * 1024;

/// Watcher for a set of folders. Where inotify is unavailable or its limits are reached, changes are found by polling.
///
/// A watch belongs to a folder, not to its path, and the kernel reports the deletion of a folder only after the last file in it
/// was closed. So folders that can be deleted and created again are watched together with all folders above them.
pub(super) struct FileWatcher {
    /// `None` if inotify is unavailable.
    inotify: Option<OwnedFd>,
    /// By path.
    watches: HashMap<PathBuf, Watch>,
    /// Folders that can be created again, and those above them.
    paths: HashSet<PathBuf>,
    warned: bool,
}

/// Watch of one folder.
#[derive(Debug, Clone, Copy)]
struct Watch {
    descriptor: i32,
    inode: Inode,
}

/// A change that the kernel reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum FsEvent {
    /// A file in a folder was created, changed, renamed or removed.
    File(PathBuf, OsString),
    /// Events were lost, so any file may have changed.
    Overflow,
}

impl FsEvent {
    /// Returns whether the event is about a log: about the file itself, or a file that it was rotated to.
    pub(super) fn affects(&self, log: &Path) -> bool {
        match self {
            Self::Overflow => true,
            Self::File(folder, name) => {
                let Some(log_name) = log.file_name().and_then(|name| name.to_str()) else { return false };
                log.parent() == Some(folder) && name.to_str().is_some_and(|name| name.starts_with(log_name))
            }
        }
    }
}

impl FileWatcher {
    pub(super) fn new() -> Self {
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC);
        if let Err(why) = &inotify {
            log::warn!("log-ingester: inotify unavailable: {why}; polling every POLL_INTERVAL");
        }
        Self { inotify: inotify.ok(), watches: HashMap::new(), paths: HashSet::new(), warned: false }
    }

    /// Replaces the set of watched folders. Those in `recreated` can be deleted and created again. Returns whether one of them
    /// was not watched before, so that earlier changes were not reported.
    pub(super) fn set_folders(&mut self, folders: &[PathBuf], recreated: &[PathBuf]) -> bool {
        let Some(inotify) = &self.inotify else { return false };
        let folder_changes = WatchFlags::CREATE | WatchFlags::MOVE | WatchFlags::DELETE | WatchFlags::ONLYDIR;
        let ancestors = recreated.iter().flat_map(|folder| folder.ancestors().skip(1));
        let mut wanted: HashMap<&Path, WatchFlags> = ancestors.map(|ancestor| (ancestor, folder_changes)).collect();
        wanted.extend(
            folders.iter().chain(recreated).map(|folder| (folder.as_path(), folder_changes | WatchFlags::MODIFY)),
        );
        self.paths = recreated.iter().flat_map(|folder| folder.ancestors()).map(Path::to_owned).collect();
        self.watches.retain(|path, watch| {
            let is_current =
                || !self.paths.contains(path) || matches!(Inode::at(path), Ok(Some(inode)) if inode == watch.inode);
            let is_kept = wanted.contains_key(path.as_path()) && is_current();
            if !is_kept {
                // Fails if the folder was deleted, because the kernel removed the watch then.
                let _ = inotify::remove_watch(inotify, watch.descriptor);
            }
            is_kept
        });
        let mut has_new = false;
        for (path, flags) in wanted {
            if self.watches.contains_key(path) {
                continue;
            }
            // Inspected first, so that a folder that is replaced meanwhile is watched again at the next scan.
            let Ok(Some(inode)) = Inode::at(path) else { continue };
            match inotify::add_watch(inotify, path, flags) {
                Ok(descriptor) => {
                    has_new = true;
                    self.watches.insert(path.to_owned(), Watch { descriptor, inode });
                }
                Err(why @ (Errno::NOSPC | Errno::NOMEM)) if !self.warned => {
                    self.warned = true;
                    log::warn!(
                        "log-ingester: failed to watch {}: {why}; polling some folders every POLL_INTERVAL until \
                         fs.inotify.max_user_watches is raised",
                        path.display()
                    );
                }
                // An unreadable folder is reported by the scan.
                Err(_) => {}
            }
        }
        has_new
    }

    /// Returns whether a change of a file in a folder can be the creation or the deletion of a watched folder.
    pub(super) fn affects_folders(&self, folder: &Path, name: &OsString) -> bool {
        self.paths.contains(&folder.join(name))
    }

    /// Waits for changes, until the timeout or until the program stops, and returns them.
    pub(super) fn wait(&self, timeout: Duration, stop: &StopToken) -> Vec<FsEvent> {
        let Some(inotify) = &self.inotify else {
            // The caller checks for the stop itself.
            let _ = stop.sleep(timeout);
            return Vec::new();
        };
        // At most an hour, the maximum of POLL_INTERVAL.
        let tv_sec = i64::try_from(timeout.as_secs()).unwrap_or(1);
        let timeout = Timespec { tv_sec, tv_nsec: i64::from(timeout.subsec_nanos()) };
        let stop_fd = stop.stop_fd().as_fd();
        // A hang-up of `stop_fd` is reported without being requested.
        let mut fds = [PollFd::new(inotify, PollFlags::IN), PollFd::from_borrowed_fd(stop_fd, PollFlags::empty())];
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) if fds[0].revents().contains(PollFlags::IN) => self.read_events(inotify),
            // A signal, the stop or the timeout. After a signal, the next call returns the events.
            _ => Vec::new(),
        }
    }

    fn read_events(&self, inotify: &OwnedFd) -> Vec<FsEvent> {
        let mut buffer = [MaybeUninit::uninit(); BUFFER_BYTES];
        let mut reader = Reader::new(inotify, &mut buffer);
        let mut events: Vec<FsEvent> = Vec::new();
        while let Ok(event) = reader.next() {
            let event = if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
                Some(FsEvent::Overflow)
            } else {
                let watched = self.watches.iter().find(|(_, watch)| watch.descriptor == event.wd());
                let name = event.file_name().map(|name| OsString::from_vec(name.to_bytes().to_vec()));
                watched.zip(name).map(|((folder, _), name)| FsEvent::File(folder.clone(), name))
            };
            if let Some(event) = event.filter(|event| events.last() != Some(event)) {
                events.push(event);
            }
        }
        events
    }
}
