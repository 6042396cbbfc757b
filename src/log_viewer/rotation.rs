//! Rotation set of a log: the file that the program writes to, and the files that it was rotated to.
//!
//! The file system reuses an inode number as soon as it is free, so a file is identified by its first line as well. In
//! Docker's logs this line contains a timestamp with nanoseconds.

use std::fs::{File, Metadata};
use std::io::{self, BufRead, BufReader, ErrorKind, Read as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use flate2::bufread::MultiGzDecoder;
use rustix::fs::SeekFrom;
use rustix::io::Errno;

use super::safe_open::open_file;

/// Maximum length of the first line in a fingerprint, in bytes. Of a longer line, only the beginning is used.
const FIRST_LINE_BYTES_MAX: usize = 64 * 1024;
/// Time after which the only line of a file counts as complete, although it has no newline.
const FIRST_LINE_TIMEOUT: Duration = Duration::from_secs(10);
const DECOMPRESS_BUFFER_BYTES: usize = 16 * 1024;
/// Number of bytes at the end of a file that are compared with another file.
const COMPARED_BYTES: u64 = 4 * 1024;
/// Maximum number of attempts to list a folder while its files are rotated. An attempt takes less time than Docker's
/// rotation.
const ATTEMPTS_MAX: usize = 20;

/// Identity of a file on its disk. It is unique only while the file is open or exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Inode {
    device: u64,
    number: u64,
}

impl Inode {
    fn from_metadata(file: &Metadata) -> Self {
        Self { device: file.dev(), number: file.ino() }
    }

    /// Returns the inode at a path; `None` if there is no file.
    pub(super) fn at(path: &Path) -> io::Result<Option<Self>> {
        match std::fs::metadata(path) {
            Ok(file) => Ok(Some(Self::from_metadata(&file))),
            Err(why) if why.kind() == ErrorKind::NotFound => Ok(None),
            Err(why) => Err(why),
        }
    }

    /// Returns the inode number, which identifies a file in combination with its [`FileFingerprint`].
    pub(super) fn number(self) -> u64 {
        self.number
    }
}

/// Fingerprint of a file: a hash of its first line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct FileFingerprint {
    /// Length of the line, in bytes.
    pub(super) bytes: u32,
    /// First 64 bits of the line's MD5. It only has to distinguish files, not to resist attacks.
    pub(super) hash: u64,
}

impl FileFingerprint {
    fn new(first_line: &[u8]) -> Self {
        let digest = md5::compute(first_line).0;
        let mut hash = [0; 8];
        hash.copy_from_slice(&digest[..8]);
        // The length is at most FIRST_LINE_BYTES_MAX.
        Self { bytes: u32::try_from(first_line.len()).unwrap_or(u32::MAX), hash: u64::from_le_bytes(hash) }
    }

    /// Reads the fingerprint of a file's content; `None` if the first line is incomplete and can still be continued.
    fn read(content: impl BufRead, can_continue: impl Fn() -> bool) -> io::Result<Option<Self>> {
        let mut line = Vec::new();
        content.take(FIRST_LINE_BYTES_MAX as u64).read_until(b'\n', &mut line)?;
        let complete = line.ends_with(b"\n") || line.len() == FIRST_LINE_BYTES_MAX;
        Ok((complete || !line.is_empty() && !can_continue()).then(|| Self::new(&line)))
    }
}

/// One file of a rotation set, including the active one.
#[derive(Debug, Clone)]
pub(super) struct LogFile {
    pub(super) fingerprint: FileFingerprint,
    pub(super) inode: Inode,
    /// Whether the file is compressed with gzip.
    pub(super) compressed: bool,
    /// Whether the program writes to this file, to judge by its name.
    pub(super) active: bool,
    path: PathBuf,
    /// Size on disk.
    bytes: u64,
}

impl LogFile {
    /// Reads the first line, up to the length that a fingerprint covers.
    pub(super) fn first_line(&self) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        let content = open_content(open_file(&self.path)?, self.compressed);
        content.take(FIRST_LINE_BYTES_MAX as u64).read_until(b'\n', &mut line)?;
        Ok(line)
    }

    /// Returns whether the file has this fingerprint, or had it when its first line was incomplete.
    pub(super) fn has_fingerprint(&self, fingerprint: FileFingerprint) -> io::Result<bool> {
        if fingerprint.bytes >= self.fingerprint.bytes {
            return Ok(self.fingerprint == fingerprint);
        }
        let line = self.first_line()?;
        Ok(line.get(..fingerprint.bytes as usize).is_some_and(|start| FileFingerprint::new(start) == fingerprint))
    }

    /// Returns the time at which the file was created; `None` if the file system does not know it.
    pub(super) fn created(&self) -> Option<SystemTime> {
        std::fs::metadata(&self.path).and_then(|file| file.created()).ok()
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
    /// there. Compares the fingerprints and the last [`COMPARED_BYTES`].
    fn is_copy_of(&self, other: &Self) -> io::Result<bool> {
        if self.compressed || other.compressed || self.fingerprint != other.fingerprint || self.bytes > other.bytes {
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

/// Returns the files of the log at `path` that contain a line, the newest first.
///
/// Leaves out a file that `copytruncate` is still copying: until the original is truncated, the copy has nothing that
/// the original does not have.
///
/// # Errors
/// Returns an error if a file cannot be read, and [`rotation_in_progress`] if files are rotated during every attempt.
pub(super) fn rotation_set(path: &Path) -> io::Result<Vec<LogFile>> {
    for _ in 0..ATTEMPTS_MAX {
        if let Some(files) = try_rotation_set(path)? {
            return Ok(files);
        }
    }
    Err(rotation_in_progress())
}

/// Returns the error for files that are rotated while they are read. The next attempt usually succeeds.
pub(super) fn rotation_in_progress() -> io::Error {
    io::Error::new(ErrorKind::NotFound, "the log is being rotated")
}

/// Reads the rotation set once; `None` if a file was moved meanwhile.
fn try_rotation_set(path: &Path) -> io::Result<Option<Vec<LogFile>>> {
    let mut files: Vec<LogFile> = Vec::new();
    for candidate in stable_candidates(path)? {
        let active = candidate.path == path;
        let file = match candidate.into_file(active) {
            Ok(Some(file)) => file,
            Ok(None) => continue,
            Err(why) if why.kind() == ErrorKind::NotFound => return Ok(None),
            Err(why) => return Err(why),
        };
        match files.last().map(|newer| file.is_copy_of(newer)) {
            Some(Ok(true)) => {}
            None | Some(Ok(false)) => files.push(file),
            // The file was moved or truncated meanwhile.
            Some(Err(why)) if matches!(why.kind(), ErrorKind::NotFound | ErrorKind::UnexpectedEof) => return Ok(None),
            Some(Err(why)) => return Err(why),
        }
    }
    Ok(Some(files))
}

/// Returns whether an error means that a compressed file is incomplete, damaged or not in gzip format.
pub(super) fn is_corrupt(why: &io::Error) -> bool {
    matches!(why.kind(), ErrorKind::UnexpectedEof | ErrorKind::InvalidData | ErrorKind::InvalidInput)
}

fn open_content(file: File, compressed: bool) -> Box<dyn BufRead> {
    let raw = BufReader::new(file);
    if compressed { Box::new(BufReader::new(MultiGzDecoder::new(raw))) } else { Box::new(raw) }
}

/// A file whose name suggests that it belongs to a rotation set.
#[derive(Debug)]
struct RotationCandidate {
    path: PathBuf,
    inode: Inode,
    compressed: bool,
}

impl RotationCandidate {
    /// Reads the fingerprint. Returns `None` if the file has no complete line, or its compressed content is corrupt.
    fn into_file(self, active: bool) -> io::Result<Option<LogFile>> {
        let Self { path, inode, compressed } = self;
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
        match FileFingerprint::read(open_content(file, compressed), can_continue) {
            Ok(fingerprint) => {
                Ok(fingerprint.map(|fingerprint| LogFile { fingerprint, inode, compressed, active, path, bytes }))
            }
            Err(why) if compressed && is_corrupt(&why) => {
                log::debug!("log-ingester: failed to decompress {}: {why}; ignoring the file", path.display());
                Ok(None)
            }
            Err(why) => Err(why),
        }
    }
}

/// Lists the candidates for the log at `path`, the newest first: the file itself, then `.1`, `.2` or `.1.gz` (Docker and
/// logrotate), then `-20260131` (logrotate with `dateext`).
///
/// A rotation between reading the folder and inspecting a file shows one file under two names and hides another. Two
/// listings with the same result had no rotation in between.
fn stable_candidates(path: &Path) -> io::Result<Vec<RotationCandidate>> {
    let mut candidates = list_candidates(path)?;
    for _ in 0..ATTEMPTS_MAX {
        let again = list_candidates(path)?;
        let same = candidates.len() == again.len()
            && candidates.iter().zip(&again).all(|(one, other)| (&one.path, one.inode) == (&other.path, other.inode));
        candidates = again;
        if same {
            break;
        }
    }
    Ok(candidates)
}

fn list_candidates(path: &Path) -> io::Result<Vec<RotationCandidate>> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return Ok(Vec::new());
    };
    let mut candidates: Vec<(NewestFirst, RotationCandidate)> = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let file_name = entry.file_name();
        let Some(suffix) = file_name.to_str().and_then(|file| file.strip_prefix(name)) else { continue };
        let (suffix, compressed) = suffix.strip_suffix(".gz").map_or((suffix, false), |suffix| (suffix, true));
        let order = NewestFirst::from_suffix(suffix);
        let Some(order) = order.filter(|order| !(compressed && *order == NewestFirst::Active)) else { continue };
        // A file that no longer exists was rotated after the folder was read.
        let Ok(file) = std::fs::metadata(entry.path()) else { continue };
        if file.is_file() {
            let inode = Inode::from_metadata(&file);
            candidates.push((order, RotationCandidate { path: entry.path(), inode, compressed }));
        }
    }
    candidates.sort_by(|(one, first), (other, second)| one.cmp(other).then(first.compressed.cmp(&second.compressed)));
    // While a file is being compressed both exist, and the compressed one is incomplete.
    candidates.dedup_by(|(later, _), (kept, _)| later == kept);
    Ok(candidates.into_iter().map(|(_, candidate)| candidate).collect())
}

/// Position of a file in its rotation set by its name, the newest first.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum NewestFirst {
    Active,
    Number(u32),
    Date(std::cmp::Reverse<String>),
}

impl NewestFirst {
    /// Parses the part of a file name after the name of the log; `None` if it is no suffix of a rotated file.
    fn from_suffix(suffix: &str) -> Option<Self> {
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
        match suffix.split_at_checked(1) {
            None => Some(Self::Active),
            Some((".", number)) if is_number(number) => number.parse().ok().map(Self::Number),
            Some(("-", date)) if is_number(date) => Some(Self::Date(std::cmp::Reverse(date.to_owned()))),
            Some(_) => None,
        }
    }
}

/// Reader for one file. It keeps the file open, so that a file that was rotated or deleted can be read to its end.
pub(super) struct LogReader {
    content: Content,
    inode: Inode,
    fingerprint: FileFingerprint,
    /// Uncompressed offset of the next byte.
    offset: u64,
}

enum Content {
    Plain(File),
    Compressed(Box<MultiGzDecoder<BufReader<File>>>),
}

/// Outcome of a read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ReadOutcome {
    /// Number of bytes read.
    Bytes(usize),
    /// Number of bytes skipped, which were never written.
    Hole(u64),
    Eof,
    /// The file was truncated, and may have been written to again.
    Truncated,
}

impl LogReader {
    /// Opens a file at an uncompressed offset. Returns `None` if another file has its path now, or it was truncated.
    pub(super) fn open(file: &LogFile, offset: u64) -> io::Result<Option<Self>> {
        let LogFile { inode, fingerprint, compressed, .. } = *file;
        let file = match open_file(&file.path) {
            Err(why) if why.kind() == ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        if Inode::from_metadata(&file.metadata()?) != inode {
            return Ok(None);
        }
        if !compressed {
            let reader = Self { content: Content::Plain(file), inode, fingerprint, offset };
            return Ok(reader.is_same_file()?.then_some(reader));
        }
        // A compressed file is never appended to, so it needs no further check.
        let mut content = MultiGzDecoder::new(BufReader::with_capacity(DECOMPRESS_BUFFER_BYTES, file));
        match io::copy(&mut content.by_ref().take(offset), &mut io::sink()) {
            Err(why) if !is_corrupt(&why) => return Err(why),
            // If the content is corrupt, the next read returns the error.
            _ => {}
        }
        Ok(Some(Self { content: Content::Compressed(Box::new(content)), inode, fingerprint, offset }))
    }

    pub(super) fn inode(&self) -> Inode {
        self.inode
    }

    /// Returns whether the offset is within a line of a plain file.
    pub(super) fn is_within_line(&self) -> bool {
        let (Content::Plain(file), Some(before)) = (&self.content, self.offset.checked_sub(1)) else { return false };
        let mut byte = [b'\n'];
        file.read_exact_at(&mut byte, before).is_ok() && byte != *b"\n"
    }

    pub(super) fn compressed(&self) -> bool {
        matches!(self.content, Content::Compressed(_))
    }

    /// Reads the next bytes. Bytes that were read while the file was truncated are discarded.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<ReadOutcome> {
        let read = loop {
            let read = match &mut self.content {
                Content::Plain(file) => file.read_at(buffer, self.offset),
                Content::Compressed(content) => content.read(buffer),
            };
            match read {
                Err(why) if why.kind() == ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        if !self.is_same_file()? {
            return Ok(ReadOutcome::Truncated);
        }
        if read > 0 && buffer[..read].iter().all(|byte| *byte == 0) {
            let hole = self.hole_bytes()?;
            if hole > 0 {
                self.offset += hole;
                return Ok(ReadOutcome::Hole(hole));
            }
        }
        self.offset += read as u64;
        Ok(if read == 0 { ReadOutcome::Eof } else { ReadOutcome::Bytes(read) })
    }

    /// Returns the length of the hole at the offset: 0 if there is data, or the file system does not tell.
    fn hole_bytes(&self) -> io::Result<u64> {
        let Content::Plain(file) = &self.content else { return Ok(0) };
        let next = match rustix::fs::seek(file, SeekFrom::Data(self.offset)) {
            Ok(data) => data,
            // No data follows.
            Err(Errno::NXIO) => file.metadata()?.len(),
            Err(_) => self.offset,
        };
        Ok(next.saturating_sub(self.offset))
    }

    /// Returns whether a plain file still reaches the offset and has the same first line.
    fn is_same_file(&self) -> io::Result<bool> {
        let Content::Plain(file) = &self.content else { return Ok(true) };
        if file.metadata()?.len() < self.offset {
            return Ok(false);
        }
        let mut line = vec![0; self.fingerprint.bytes as usize];
        match file.read_exact_at(&mut line, 0) {
            Ok(()) => Ok(FileFingerprint::new(&line) == self.fingerprint),
            Err(why) if why.kind() == ErrorKind::UnexpectedEof => Ok(false),
            Err(why) => Err(why),
        }
    }
}
