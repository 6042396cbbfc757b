//! Search for a file that was moved to an unknown name.
//!
//! Programs rename their logs to `app-2026-01-30.log`, `app.log.old` or `old/app.log`. The file is recognized by its inode, or
//! by its content if it was copied or compressed.

use std::cmp::Reverse;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::checkpoint::Position;
use super::file_identity::Inode;
use super::rotation::LogFile;

/// Maximum number of folders that are searched: that of the log, that of the file it links to, and the folders in them.
const FOLDERS_MAX: usize = 20;
/// Maximum number of entries of all folders that are looked at.
const ENTRIES_MAX: usize = 2_000;
/// Maximum number of files of which the first line is read, and in the worst case the content up to the position.
const READ_FILES_MAX: usize = 100;

/// File that is known by its position or, if it is open, by its inode alone.
#[derive(Debug, Clone, Copy)]
pub(super) struct MovedFile<'a> {
    /// Path of the log, which is another file now.
    pub(super) log: &'a Path,
    pub(super) position: &'a Position,
    /// Inode of the open file.
    pub(super) open: Option<Inode>,
}

/// Entry of a searched folder.
struct Candidate {
    path: PathBuf,
    inode: Inode,
    modified: SystemTime,
}

impl MovedFile<'_> {
    /// Finds the file.
    ///
    /// # Errors
    /// Returns an error if the folder of the log cannot be read.
    pub(super) fn find(&self) -> io::Result<Option<LogFile>> {
        let is_known_inode = |candidate: &Candidate| match self.open {
            Some(inode) => candidate.inode == inode,
            None => candidate.inode.number() == self.position.inode,
        };
        let mut candidates = self.candidates()?;
        candidates.sort_by_key(|candidate| (!is_known_inode(candidate), Reverse(candidate.modified)));
        for candidate in candidates.into_iter().take(READ_FILES_MAX) {
            let is_open = self.open == Some(candidate.inode);
            let compressed = candidate.path.extension().is_some_and(|extension| extension == "gz");
            // A file that cannot be read is not that of the position, which was read.
            let Ok(Some(file)) = LogFile::read(candidate.path, candidate.inode, compressed, false) else { continue };
            if is_open || file.contains(self.position).unwrap_or(false) {
                return Ok(Some(file));
            }
        }
        Ok(None)
    }

    /// Lists the regular files of all folders, without links.
    fn candidates(&self) -> io::Result<Vec<Candidate>> {
        let target = self.log.canonicalize().ok();
        let mut folders: Vec<PathBuf> = [Some(self.log), target.as_deref()]
            .into_iter()
            .flatten()
            .filter_map(Path::parent)
            .map(Path::to_owned)
            .collect();
        folders.dedup();
        let (mut candidates, mut subfolders, mut entries_left) = (Vec::new(), Vec::new(), ENTRIES_MAX);
        for folder in &folders {
            list_folder(folder, &mut entries_left, &mut candidates, &mut subfolders)?;
        }
        subfolders.truncate(FOLDERS_MAX - folders.len());
        for folder in subfolders {
            // The folders of the log are listed, others may be unreadable.
            let _ = list_folder(&folder, &mut entries_left, &mut candidates, &mut Vec::new());
        }
        candidates.retain(|candidate| candidate.path != self.log);
        Ok(candidates)
    }
}

/// Adds the regular files and the folders in a folder, as long as there are entries left to look at.
fn list_folder(
    folder: &Path,
    entries_left: &mut usize,
    files: &mut Vec<Candidate>,
    folders: &mut Vec<PathBuf>,
) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let Some(left) = entries_left.checked_sub(1) else { break };
        *entries_left = left;
        let entry = entry?;
        // A file that no longer exists was moved again.
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_dir() {
            folders.push(entry.path());
        } else if metadata.is_file() {
            let modified = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            files.push(Candidate { path: entry.path(), inode: Inode::from_metadata(&metadata), modified });
        }
    }
    Ok(())
}
