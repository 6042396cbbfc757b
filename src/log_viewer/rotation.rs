//! Rotation set of a log: the file that the program writes to, and the files that it was rotated to.

use std::collections::HashSet;
use std::io::{self, BufRead as _, ErrorKind, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::checkpoint::Position;
use super::file_identity::{FIRST_LINE_BYTES_MAX, Fingerprint, Inode};
use super::log_reader::{LogReader, is_corrupt, open_content};
use super::rotated_names::{NewestFirst, RotatedFamily, split_gz};
use super::safe_open::open_file;

/// Time after which the only line of a file counts as complete, although it has no newline.
const FIRST_LINE_TIMEOUT: Duration = Duration::from_secs(10);
/// Number of bytes at the end of a file that are compared with another file.
const COMPARED_BYTES: u64 = 4 * 1024;
/// Maximum number of attempts to list a folder while its files are rotated. An attempt takes less time than Docker's
/// rotation.
const ATTEMPTS_MAX: usize = 20;

/// One file of a rotation set, including the active one.
#[derive(Debug, Clone)]
pub(super) struct LogFile {
    pub(super) first_line: Fingerprint,
    pub(super) inode: Inode,
    /// Whether the file is compressed with gzip.
    pub(super) compressed: bool,
    /// Whether the program writes to this file, to judge by its name.
    pub(super) active: bool,
    pub(super) path: PathBuf,
    /// Size on disk.
    bytes: u64,
}

impl LogFile {
    /// Returns the file at a path; `None` if it has no complete line, or its compressed content is corrupt.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read, and [`rotation_in_progress`] if it is not that with this inode.
    pub(super) fn read(path: PathBuf, inode: Inode, compressed: bool, active: bool) -> io::Result<Option<Self>> {
        let file = open_file(&path)?;
        let metadata = file.metadata()?;
        if Inode::from_metadata(&metadata) != inode {
            return Err(rotation_in_progress());
        }
        let bytes = metadata.len();
        let can_continue = || {
            let unchanged = metadata.modified().ok().and_then(|modified| modified.elapsed().ok());
            compressed || !active || unchanged.is_none_or(|unchanged| unchanged < FIRST_LINE_TIMEOUT)
        };
        match Fingerprint::of_first_line(open_content(file, compressed), can_continue) {
            Ok(first_line) => {
                Ok(first_line.map(|first_line| Self { first_line, inode, compressed, active, path, bytes }))
            }
            Err(why) if compressed && is_corrupt(&why) => {
                log::debug!("log-ingester: failed to decompress {}: {why}; ignoring the file", path.display());
                Ok(None)
            }
            Err(why) => Err(why),
        }
    }

    /// Opens the file at an uncompressed offset. Returns `None` if another file has its path now, or it was truncated.
    pub(super) fn open(&self, offset: u64) -> io::Result<Option<LogReader>> {
        LogReader::open(&self.path, self.inode, self.first_line, self.compressed, offset)
    }

    /// Returns whether the file has the content that a position is in.
    pub(super) fn contains(&self, position: &Position) -> io::Result<bool> {
        // The length of a compressed file is only known modulo 2^32, and it is complete.
        let has_offset = self.compressed || self.bytes >= position.offset;
        if position.first_line.bytes == 0 {
            return Ok(self.inode.number() == position.inode && has_offset);
        }
        if !has_offset || !self.has_first_line(position.first_line)? {
            return Ok(false);
        }
        if position.preceding.bytes == 0 {
            return Ok(true);
        }
        Ok(self.open(position.offset)?.is_some_and(|reader| reader.is_at(position)))
    }

    /// Returns whether the file has this first line, or had it when the line was incomplete.
    fn has_first_line(&self, first_line: Fingerprint) -> io::Result<bool> {
        if first_line.bytes >= self.first_line.bytes {
            return Ok(self.first_line == first_line);
        }
        let line = self.read_first_line()?;
        Ok(line.get(..first_line.bytes as usize).is_some_and(|start| Fingerprint::of(start) == first_line))
    }

    /// Returns the time at which the file was created; `None` if the file system does not know it.
    pub(super) fn created(&self) -> Option<SystemTime> {
        std::fs::metadata(&self.path).and_then(|file| file.created()).ok()
    }

    /// Reads the first line, up to the length that a fingerprint covers.
    pub(super) fn read_first_line(&self) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        let content = open_content(open_file(&self.path)?, self.compressed);
        content.take(FIRST_LINE_BYTES_MAX as u64).read_until(b'\n', &mut line)?;
        Ok(line)
    }

    /// Returns the time of the last change of the content.
    pub(super) fn modified(&self) -> io::Result<SystemTime> {
        std::fs::metadata(&self.path)?.modified()
    }

    /// Returns the uncompressed length in bytes; modulo 2^32 for a compressed file (RFC 1952, ISIZE).
    pub(super) fn content_bytes(&self) -> io::Result<u64> {
        if !self.compressed {
            return Ok(self.bytes);
        }
        let mut size = [0; 4];
        open_file(&self.path)?.read_exact_at(&mut size, self.bytes.saturating_sub(4))?;
        Ok(u64::from(u32::from_le_bytes(size)))
    }

    /// Returns whether the file is a complete or partial copy of another: all of its bytes are in the same positions
    /// there. Compares the first lines and the last [`COMPARED_BYTES`].
    fn is_copy_of(&self, other: &Self) -> io::Result<bool> {
        if self.compressed || other.compressed || self.first_line != other.first_line || self.bytes > other.bytes {
            return Ok(false);
        }
        let bytes = self.bytes.min(COMPARED_BYTES);
        let read_end = |path: &Path| {
            let mut end = vec![0; usize::try_from(bytes).unwrap_or_default()];
            open_file(path)?.read_exact_at(&mut end, self.bytes - bytes)?;
            io::Result::Ok(end)
        };
        Ok(read_end(&self.path)? == read_end(&other.path)?)
    }
}

/// Names of a log's files.
#[derive(Debug)]
pub(super) struct LogNames {
    /// Path of the active file. The names of rotated files are this and a suffix.
    pub(super) path: PathBuf,
    /// Rotated files with other names, if there are any.
    pub(super) family: Option<RotatedFamily>,
}

impl LogNames {
    /// Returns the files of the log that contain a line, the newest first.
    ///
    /// Leaves out a file that `copytruncate` is still copying: until the original is truncated, the copy has nothing that
    /// the original does not have. The file with the current position is no such copy.
    ///
    /// # Errors
    /// Returns an error if a file cannot be read, and [`rotation_in_progress`] if files are rotated during every attempt.
    pub(super) fn rotation_set(&self, current: Option<&Position>) -> io::Result<Vec<LogFile>> {
        for _ in 0..ATTEMPTS_MAX {
            if let Some(files) = self.try_rotation_set(current)? {
                return Ok(files);
            }
        }
        Err(rotation_in_progress())
    }

    /// Reads the rotation set once; `None` if a file was moved meanwhile.
    fn try_rotation_set(&self, current: Option<&Position>) -> io::Result<Option<Vec<LogFile>>> {
        let is_current = |file: &LogFile| {
            let same =
                |position: &Position| position.inode == file.inode.number() && file.first_line == position.first_line;
            current.is_some_and(same)
        };
        let mut files: Vec<LogFile> = Vec::new();
        for candidate in self.stable_candidates()? {
            let active = candidate.path == self.path;
            let file = match LogFile::read(candidate.path, candidate.inode, candidate.compressed, active) {
                Ok(Some(file)) => file,
                Ok(None) => continue,
                Err(why) if why.kind() == ErrorKind::NotFound => return Ok(None),
                Err(why) => return Err(why),
            };
            match files.last().filter(|_| !is_current(&file)).map(|newer| file.is_copy_of(newer)) {
                Some(Ok(true)) => {}
                None | Some(Ok(false)) => files.push(file),
                // The file was moved or truncated meanwhile.
                Some(Err(why)) if matches!(why.kind(), ErrorKind::NotFound | ErrorKind::UnexpectedEof) => {
                    return Ok(None);
                }
                Some(Err(why)) => return Err(why),
            }
        }
        Ok(Some(files))
    }

    /// Lists the candidates, the newest first.
    ///
    /// A rotation between reading the folder and inspecting a file shows one file under two names and hides another. Two
    /// listings with the same result had no rotation in between.
    fn stable_candidates(&self) -> io::Result<Vec<RotationCandidate>> {
        let mut candidates = self.list_candidates()?;
        for _ in 0..ATTEMPTS_MAX {
            let again = self.list_candidates()?;
            let is_same = |(one, other): (&RotationCandidate, &RotationCandidate)| {
                (&one.path, one.inode) == (&other.path, other.inode)
            };
            let same = candidates.len() == again.len() && candidates.iter().zip(&again).all(is_same);
            candidates = again;
            if same {
                break;
            }
        }
        Ok(candidates)
    }

    fn list_candidates(&self) -> io::Result<Vec<RotationCandidate>> {
        let (Some(folder), Some(log_name)) = (self.path.parent(), self.path.file_name().and_then(|name| name.to_str()))
        else {
            return Ok(Vec::new());
        };
        let mut candidates = Vec::new();
        collect_candidates(folder, &mut candidates, |name| {
            let (suffix, compressed) = split_gz(name.strip_prefix(log_name)?);
            NewestFirst::from_suffix(suffix).filter(|order| !(compressed && *order == NewestFirst::Active))
        })?;
        if let Some(family) = &self.family {
            let mut relatives = Vec::new();
            let listed = collect_candidates(family.folder(), &mut relatives, |name| family.order_of(name));
            // The folder may have been deleted with its files.
            listed.or_else(|why| if why.kind() == ErrorKind::NotFound { Ok(()) } else { Err(why) })?;
            // A link can lead to the newest member of the family.
            relatives.retain(|relative| candidates.iter().all(|known| known.inode != relative.inode));
            candidates.append(&mut relatives);
        }
        // While a file is being compressed both exist, and the compressed one is incomplete.
        let plain: HashSet<PathBuf> = candidates.iter().map(|candidate| candidate.path.clone()).collect();
        candidates.retain(|candidate| !candidate.compressed || !plain.contains(&candidate.path.with_extension("")));
        candidates.sort_by(|one, other| one.order.cmp(&other.order));
        Ok(candidates)
    }
}

/// A file whose name suggests that it belongs to a rotation set.
#[derive(Debug)]
struct RotationCandidate {
    path: PathBuf,
    inode: Inode,
    compressed: bool,
    order: NewestFirst,
}

/// Adds the regular files of a folder for whose names `order_of` returns a position.
fn collect_candidates(
    folder: &Path,
    candidates: &mut Vec<RotationCandidate>,
    order_of: impl Fn(&str) -> Option<NewestFirst>,
) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let Some(order) = order_of(name) else { continue };
        // A file that no longer exists was rotated after the folder was read.
        let Ok(file) = std::fs::metadata(&path) else { continue };
        if file.is_file() {
            let order = order.with_time(file.modified().unwrap_or(SystemTime::UNIX_EPOCH));
            let (inode, compressed) = (Inode::from_metadata(&file), split_gz(name).1);
            candidates.push(RotationCandidate { path, inode, compressed, order });
        }
    }
    Ok(())
}

/// Returns the error for files that are rotated while they are read. The next attempt usually succeeds.
pub(super) fn rotation_in_progress() -> io::Error {
    io::Error::new(ErrorKind::NotFound, "the log is being rotated")
}
