//! Opening of files in folders that others can change. The owner of a folder can replace a log with a pipe, which would block,
//! or with a link to a file that only a privileged reader may read, which would then be shown as a log.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::OnceLock;

use rustix::fs::OFlags;

/// Number of the bit of `CAP_DAC_READ_SEARCH`, and of `CAP_DAC_OVERRIDE`, in a capability mask.
const DAC_READ_SEARCH_BIT: u64 = 1 << 2;
const DAC_OVERRIDE_BIT: u64 = 1 << 1;
/// Permission bits of users other than the owner to write.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// Opens a regular file for reading, without waiting for anything.
///
/// If this process may read the files of all users, links are followed only within the folder of the link, to files of the
/// folder's owner, or if only root can change the folder.
///
/// # Errors
/// Fails like [`File::open`], with [`ErrorKind::InvalidInput`] for other kinds of files, and with
/// [`ErrorKind::PermissionDenied`] for links that are not followed.
pub(super) fn open_file(path: &Path) -> io::Result<File> {
    if !reads_files_of_all_users() {
        return regular(open(path, OFlags::empty())?).map(|(file, _)| file);
    }
    open_as_owner_of_folder(path)
}

/// Opens a file that the owner of its folder could open too.
fn open_as_owner_of_folder(path: &Path) -> io::Result<File> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let folder_owner = owner_unless_root_only(&std::fs::metadata(folder)?);
    match open(path, OFlags::NOFOLLOW) {
        Ok(file) => {
            let (file, metadata) = regular(file)?;
            // A hard link can be made to a file of another user, unless fs.protected_hardlinks is set.
            let is_foreign_link = metadata.nlink() > 1 && folder_owner.is_some_and(|owner| owner != metadata.uid());
            if is_foreign_link { Err(refused("a hard link to a file of another user")) } else { Ok(file) }
        }
        Err(why) if why.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
            let target = path.canonicalize()?;
            let is_in_folder = target.parent() == Some(&*folder.canonicalize()?);
            // The last part of the path can have become a link again.
            let (file, metadata) = regular(open(&target, OFlags::NOFOLLOW)?)?;
            match folder_owner {
                Some(owner) if !is_in_folder && owner != metadata.uid() => {
                    Err(refused("a link out of its folder to a file of another user"))
                }
                _ => Ok(file),
            }
        }
        Err(why) => Err(why),
    }
}

/// Returns the owner of a folder; `None` if only root can change the folder.
fn owner_unless_root_only(folder: &Metadata) -> Option<u32> {
    let is_root_only = folder.uid() == 0 && folder.mode() & WRITABLE_BY_OTHERS == 0;
    (!is_root_only).then(|| folder.uid())
}

fn open(path: &Path, flags: OFlags) -> io::Result<File> {
    let flags = (flags | OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

fn regular(file: File) -> io::Result<(File, Metadata)> {
    let metadata = file.metadata()?;
    if metadata.is_file() {
        Ok((file, metadata))
    } else {
        Err(io::Error::new(ErrorKind::InvalidInput, "it is not a regular file"))
    }
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
    use std::os::unix::fs::{chown, symlink};

    use super::*;

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
        let open = |path: std::path::PathBuf| open_as_owner_of_folder(&path).map(|_| ()).map_err(|why| why.kind());
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
        }
        std::fs::remove_dir_all(&root).unwrap();
    }
}
