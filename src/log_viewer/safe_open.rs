//! Opening of files in folders that others can change. A user who can change a part of the path can replace the log with a
//! pipe, which would block, or with a link or a folder that leads to a file that only a privileged reader may read, which
//! would then be shown as a log.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Component, Path, PathBuf};
use std::sync::OnceLock;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat, fstat, openat, readlinkat, statat};
use rustix::io::Errno;

/// Number of the bit of `CAP_DAC_READ_SEARCH`, and of `CAP_DAC_OVERRIDE`, in a capability mask.
const DAC_READ_SEARCH_BIT: u64 = 1 << 2;
const DAC_OVERRIDE_BIT: u64 = 1 << 1;
/// Permission bits of users other than the owner to write.
const WRITABLE_BY_OTHERS: u32 = 0o022;
const READABLE_BY_ALL: u32 = 0o004;
const ENTERED_BY_ALL: u32 = 0o001;
/// Maximum number of links in a path, as in Linux.
const LINKS_MAX: usize = 40;
const FOLDER: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Opens a regular file for reading, without waiting for anything.
///
/// If this process may read the files of all users, a path that a user can change leads only to files of that user, or to
/// files that all users can read. Links that a user can change are followed only within their folder or to that user's files.
///
/// # Errors
/// Fails like [`File::open`], with [`ErrorKind::InvalidInput`] for other kinds of files, and with
/// [`ErrorKind::PermissionDenied`] for files that a user could not open, but made the path lead to.
pub(super) fn open_file(path: &Path) -> io::Result<File> {
    if reads_files_of_all_users() {
        return open_as_users_of_path(path);
    }
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let kind = FileType::from_raw_mode(file.metadata()?.mode());
    if kind == FileType::RegularFile { Ok(file) } else { Err(not_regular(kind)) }
}

/// Opens a file that all users who can change a part of the path could open too.
fn open_as_users_of_path(path: &Path) -> io::Result<File> {
    let mut parts = VecDeque::new();
    prepend(&mut parts, &std::path::absolute(path)?);
    let mut walk = Walk::new()?;
    while let Some(part) = parts.pop_front() {
        if let Some(target) = walk.link(&part)? {
            if target.is_absolute() {
                walk.enter_root()?;
            }
            prepend(&mut parts, &target);
        } else if parts.is_empty() {
            return walk.open(&part);
        } else {
            walk.enter(&part)?;
        }
    }
    Err(not_regular(FileType::Directory))
}

/// Puts the parts of a path before those that remain.
fn prepend(parts: &mut VecDeque<OsString>, path: &Path) {
    for part in path.components().rev() {
        match part {
            Component::Normal(name) => parts.push_front(name.to_owned()),
            Component::ParentDir => parts.push_front("..".into()),
            Component::Prefix(_) | Component::RootDir | Component::CurDir => {}
        }
    }
}

/// Walk along a path, part by part, which never follows a link by itself.
struct Walk {
    folder: OwnedFd,
    folder_stat: Stat,
    /// User who can change the path so far; `None` if that is only root.
    user: Option<u32>,
    /// Whether several users can.
    has_several_users: bool,
    /// Whether all users can enter the folders since a user can change the path.
    entered_by_all: bool,
    /// Folder of the first link that a user can change.
    link_folder: Option<Identity>,
    links: usize,
}

/// Device and inode number.
type Identity = (u64, u64);

impl Walk {
    fn new() -> io::Result<Self> {
        let folder = openat(CWD, "/", FOLDER, Mode::empty())?;
        let folder_stat = fstat(&folder)?;
        Ok(Self {
            folder,
            folder_stat,
            user: None,
            has_several_users: false,
            entered_by_all: true,
            link_folder: None,
            links: 0,
        })
    }

    fn enter_root(&mut self) -> io::Result<()> {
        self.folder = openat(CWD, "/", FOLDER, Mode::empty())?;
        self.folder_stat = fstat(&self.folder)?;
        Ok(())
    }

    /// Enters a folder, or the parent folder.
    fn enter(&mut self, name: &OsStr) -> io::Result<()> {
        let folder = openat(&self.folder, name, FOLDER, Mode::empty())?;
        let stat = fstat(&folder)?;
        if name != ".." {
            self.add_users(&stat);
        }
        self.entered_by_all &= self.user.is_none() || self.user == Some(stat.st_uid) || has(&stat, ENTERED_BY_ALL);
        (self.folder, self.folder_stat) = (folder, stat);
        Ok(())
    }

    /// Returns the target of an entry; `None` if it is no link.
    fn link(&mut self, name: &OsStr) -> io::Result<Option<PathBuf>> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let link = openat(&self.folder, name, flags, Mode::empty())?;
        let stat = fstat(&link)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
            return Ok(None);
        }
        self.links += 1;
        if self.links > LINKS_MAX {
            return Err(Errno::LOOP.into());
        }
        self.add_users(&stat);
        // A user can give a hard link to a link of root another meaning.
        if self.user.is_none() && self.is_writable_by_others() && stat.st_nlink > 1 {
            return Err(refused("a hard link to a link of another user"));
        }
        if self.user.is_some() {
            self.link_folder.get_or_insert(identity(&self.folder_stat));
        }
        let target = readlinkat(&link, "", Vec::new())?.into_bytes();
        Ok(Some(OsString::from_vec(target).into()))
    }

    /// Opens the file at the end of the path.
    fn open(mut self, name: &OsStr) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = openat(&self.folder, name, flags, Mode::empty())?;
        let stat = fstat(&file)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind != FileType::RegularFile {
            return Err(not_regular(kind));
        }
        self.add_users(&stat);
        let is_own = !self.has_several_users && self.user == Some(stat.st_uid);
        if self.link_folder.is_some_and(|folder| folder != identity(&self.folder_stat)) && !is_own {
            return Err(refused("a link out of its folder to a file of another user"));
        }
        // The number of names is read through the name, so that a hard link that was removed since then does not pass.
        let named = statat(&self.folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if identity(&named) != identity(&stat) {
            return Err(ErrorKind::NotFound.into());
        }
        let may_be_foreign = self.is_writable_by_others() || self.user.is_some() && !is_own;
        if may_be_foreign && named.st_nlink > 1 {
            return Err(refused("a hard link to a file of another user"));
        }
        let is_readable = self.entered_by_all && has(&stat, READABLE_BY_ALL);
        if self.user.is_some() && !is_own && !is_readable {
            return Err(refused("a file of another user than the one who can change its path"));
        }
        Ok(file.into())
    }

    /// Adds the users who can replace an entry of the folder. In a folder of root that others can write to, the owner of the
    /// entry counts: other users can only remove it, or replace it with an entry of their own.
    fn add_users(&mut self, entry: &Stat) {
        let user = match self.folder_stat.st_uid {
            0 if !self.is_writable_by_others() || entry.st_uid == 0 => return,
            0 => entry.st_uid,
            owner => owner,
        };
        self.has_several_users |= self.user.is_some_and(|known| known != user);
        self.user.get_or_insert(user);
    }

    fn is_writable_by_others(&self) -> bool {
        has(&self.folder_stat, WRITABLE_BY_OTHERS)
    }
}

fn has(stat: &Stat, bits: u32) -> bool {
    stat.st_mode & bits != 0
}

fn identity(stat: &Stat) -> Identity {
    (stat.st_dev, stat.st_ino)
}

fn not_regular(kind: FileType) -> io::Error {
    let kind = match kind {
        FileType::Directory => "a directory",
        FileType::Fifo => "a named pipe",
        FileType::Socket => "a socket",
        _ => "a device",
    };
    io::Error::new(ErrorKind::InvalidInput, format!("it is {kind}, not a regular file"))
}

fn refused(kind: &str) -> io::Error {
    let why = format!("it is {kind}; name the file itself in LOG_FILES, or let root own the folder");
    io::Error::new(ErrorKind::PermissionDenied, why)
}

/// Whether this process is root or has a capability that lets it read all files.
fn reads_files_of_all_users() -> bool {
    static PRIVILEGED: OnceLock<bool> = OnceLock::new();
    *PRIVILEGED.get_or_init(|| {
        // If the mask is unknown, the stricter rules apply.
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let mask = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("CapEff:")?.trim(), 16).ok());
        mask.is_none_or(|mask| mask & (DAC_READ_SEARCH_BIT | DAC_OVERRIDE_BIT) > 0)
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    use super::*;

    fn set_mode(path: &Path, mode: u32) {
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    }

    #[test]
    fn links_are_followed_only_where_the_owner_of_the_folder_could() {
        let root = std::env::temp_dir().join(format!("monlight-open-{}", std::process::id()));
        let [own, other] = ["own", "other"].map(|name| root.join(name));
        for folder in [&own, &other] {
            std::fs::create_dir_all(folder).unwrap();
            std::fs::write(folder.join("app-1.log"), "line\n").unwrap();
        }
        let is_root = chown(&own, Some(65_534), None).is_ok();
        symlink("app-1.log", own.join("dated.log")).unwrap();
        symlink(other.join("app-1.log"), own.join("foreign.log")).unwrap();
        symlink("missing", own.join("dangling.log")).unwrap();
        symlink(own.join("app-1.log"), other.join("from-root.log")).unwrap();
        let open = |path: PathBuf| open_as_users_of_path(&path).map(|_| ()).map_err(|why| why.kind());
        assert_eq!(open(own.join("app-1.log")), Ok(()));
        assert_eq!(open(own.join("dated.log")), Ok(()));
        assert_eq!(open(own.join("dangling.log")), Err(ErrorKind::NotFound));
        assert_eq!(open(own.join("none.log")), Err(ErrorKind::NotFound));
        assert_eq!(open(other.join("from-root.log")), Ok(()));
        assert_eq!(open(own.clone()), Err(ErrorKind::InvalidInput));
        if is_root {
            assert_eq!(open(own.join("foreign.log")), Err(ErrorKind::PermissionDenied));
            std::fs::hard_link(other.join("app-1.log"), own.join("hard.log")).unwrap();
            assert_eq!(open(own.join("hard.log")), Err(ErrorKind::PermissionDenied));
            chown(other.join("app-1.log"), Some(65_534), None).unwrap();
            assert_eq!(open(own.join("foreign.log")), Ok(()));
            // A folder of root that the owner of the folder above it moved to the path.
            let moved = own.join("moved");
            std::fs::create_dir(&moved).unwrap();
            std::fs::write(moved.join("app.log"), "line\n").unwrap();
            assert_eq!(open(moved.join("app.log")), Ok(()), "all users can read it");
            set_mode(&moved, 0o700);
            assert_eq!(open(moved.join("app.log")), Err(ErrorKind::PermissionDenied));
            set_mode(&moved, 0o755);
            set_mode(&moved.join("app.log"), 0o600);
            assert_eq!(open(moved.join("app.log")), Err(ErrorKind::PermissionDenied));
            symlink(&other, own.join("folder")).unwrap();
            assert_eq!(open(own.join("folder/from-root.log")), Ok(()), "a file of the owner");
            std::fs::write(other.join("secret.log"), "line\n").unwrap();
            assert_eq!(open(own.join("folder/secret.log")), Err(ErrorKind::PermissionDenied));
        }
        std::fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn usual_folders_of_root_are_followed() {
        let root = std::env::temp_dir().join(format!("monlight-open-root-{}", std::process::id()));
        let (log, data) = (root.join("log"), root.join("data/log"));
        std::fs::create_dir_all(&data).unwrap();
        symlink("data/../data/log", &log).unwrap();
        symlink(&log, root.join("absolute")).unwrap();
        for name in ["app.log", "user.log", "sub.log"] {
            std::fs::write(data.join(name), "line\n").unwrap();
            set_mode(&data.join(name), 0o640);
        }
        symlink("loop", root.join("loop")).unwrap();
        let is_root = chown(data.join("user.log"), Some(65_534), None).is_ok();
        for mode in [0o755, 0o775, 0o1777] {
            set_mode(&data, mode);
            for name in ["log/app.log", "log/user.log", "absolute/sub.log", "data/log/../log/app.log"] {
                let opened = open_as_users_of_path(&root.join(name)).map(|_| ());
                assert!(opened.is_ok(), "{name} in {mode:o}: {opened:?}");
            }
        }
        assert!(open_as_users_of_path(&root.join("loop/app.log")).is_err());
        if is_root {
            std::fs::hard_link(data.join("user.log"), data.join("hard.log")).unwrap();
            let opened = open_as_users_of_path(&data.join("hard.log")).map(|_| ()).map_err(|why| why.kind());
            assert_eq!(opened, Err(ErrorKind::PermissionDenied), "in a folder that all users can write to");
        }
        std::fs::remove_dir_all(&root).unwrap();
    }
}
