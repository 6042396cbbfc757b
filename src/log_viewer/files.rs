//! The files of one log: the one that is written to, and those that it was before it was rotated.
//!
//! An inode's number is used again as soon as it is free, so a file is known by its first line as well, which in a log
//! of Docker's carries a moment in nanoseconds.

use std::fs::{File, Metadata};
use std::io::{self, BufRead, BufReader, ErrorKind, Read as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use flate2::bufread::MultiGzDecoder;

/// A first line that is longer is known by this much of it.
const FIRST_LINE_BYTES_MAX: usize = 64 * 1024;
const UNPACK_BUFFER_BYTES: usize = 16 * 1024;
/// How much of the end of a file is compared to what another has there.
const COMPARED_BYTES: u64 = 4 * 1024;
/// Looks at a folder in which files are rotated right now. Docker takes longer for one than a look does.
const LOOKS_MAX: usize = 20;

/// Which file this is on its disk, while it is held open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Inode {
    device: u64,
    number: u64,
}

impl Inode {
    fn of(file: &Metadata) -> Self {
        Self { device: file.dev(), number: file.ino() }
    }

    /// Of what lies at a path now; `None` when there is nothing.
    pub(super) fn at(path: &Path) -> io::Result<Option<Self>> {
        match std::fs::metadata(path) {
            Ok(file) => Ok(Some(Self::of(&file))),
            Err(why) if why.kind() == ErrorKind::NotFound => Ok(None),
            Err(why) => Err(why),
        }
    }

    /// Its number, which with a first line is enough to know a file by.
    pub(super) fn number(self) -> u64 {
        self.number
    }
}

/// A file by its first line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Fingerprint {
    /// Length of that line, in bytes.
    pub(super) bytes: u32,
    /// The first 64 bits of its MD5, which is for telling apart, not for protection.
    pub(super) hash: u64,
}

impl Fingerprint {
    fn of(first_line: &[u8]) -> Self {
        let digest = md5::compute(first_line).0;
        let mut hash = [0; 8];
        hash.copy_from_slice(&digest[..8]);
        // At most FIRST_LINE_BYTES_MAX.
        Self { bytes: u32::try_from(first_line.len()).unwrap_or(u32::MAX), hash: u64::from_le_bytes(hash) }
    }

    /// Of what can be read from the beginning; `None` while there is no whole line.
    fn read(content: impl BufRead) -> io::Result<Option<Self>> {
        let mut line = Vec::new();
        content.take(FIRST_LINE_BYTES_MAX as u64).read_until(b'\n', &mut line)?;
        let whole = line.ends_with(b"\n") || line.len() == FIRST_LINE_BYTES_MAX;
        Ok(whole.then(|| Self::of(&line)))
    }
}

/// One file of a log, and which it is.
#[derive(Debug, Clone)]
pub(super) struct Generation {
    pub(super) print: Fingerprint,
    pub(super) inode: Inode,
    pub(super) packed: bool,
    /// Whether it lies where the program writes to.
    pub(super) current: bool,
    path: PathBuf,
    /// As it lies there.
    bytes: u64,
}

impl Generation {
    /// Its first line itself, as far as a fingerprint reaches.
    pub(super) fn first_line(&self) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        content(File::open(&self.path)?, self.packed).take(FIRST_LINE_BYTES_MAX as u64).read_until(b'\n', &mut line)?;
        Ok(line)
    }

    /// When it was last written to.
    pub(super) fn changed(&self) -> io::Result<SystemTime> {
        std::fs::metadata(&self.path)?.modified()
    }

    /// Its length when unpacked, in bytes, modulo 2^32 for a packed one (RFC 1952, ISIZE).
    pub(super) fn content_bytes(&self) -> io::Result<u64> {
        if !self.packed {
            return Ok(self.bytes);
        }
        let mut size = [0; 4];
        File::open(&self.path)?.read_exact_at(&mut size, self.bytes.saturating_sub(4))?;
        Ok(u64::from(u32::from_le_bytes(size)))
    }

    /// Whether it is what was copied of another so far: it has nothing that the other has not, in the same places.
    fn is_copy_of(&self, other: &Self) -> io::Result<bool> {
        if self.packed || other.packed || self.print != other.print || self.bytes > other.bytes {
            return Ok(false);
        }
        let bytes = self.bytes.min(COMPARED_BYTES);
        let end_of = |path: &Path| {
            let mut end = vec![0; usize::try_from(bytes).unwrap_or_default()];
            File::open(path)?.read_exact_at(&mut end, self.bytes - bytes)?;
            io::Result::Ok(end)
        };
        Ok(end_of(&self.path)? == end_of(&other.path)?)
    }
}

/// The files of the log at `path` that have a line, the newest first. One that is just being copied, to be cut then, is
/// left out: until it is cut, the copy has nothing of its own.
///
/// # Errors
/// When one cannot be read, and with [`rotated`] when they are rotated faster than one can look.
pub(super) fn generations(path: &Path) -> io::Result<Vec<Generation>> {
    for _ in 0..LOOKS_MAX {
        if let Some(found) = try_generations(path)? {
            return Ok(found);
        }
    }
    Err(rotated())
}

/// What is said when files are rotated faster than one can look. It is over at the next look.
pub(super) fn rotated() -> io::Error {
    io::Error::new(ErrorKind::NotFound, "it is being rotated")
}

/// `None` when something was moved meanwhile.
fn try_generations(path: &Path) -> io::Result<Option<Vec<Generation>>> {
    let mut found: Vec<Generation> = Vec::new();
    for sibling in siblings(path)? {
        let current = sibling.path == path;
        let generation = match sibling.generation(current) {
            Ok(Some(generation)) => generation,
            Ok(None) => continue,
            Err(why) if why.kind() == ErrorKind::NotFound => return Ok(None),
            Err(why) => return Err(why),
        };
        match found.last().map(|newer| generation.is_copy_of(newer)) {
            Some(Ok(true)) => {}
            None | Some(Ok(false)) => found.push(generation),
            // Moved away, or cut.
            Some(Err(why)) if matches!(why.kind(), ErrorKind::NotFound | ErrorKind::UnexpectedEof) => return Ok(None),
            Some(Err(why)) => return Err(why),
        }
    }
    Ok(Some(found))
}

/// Whether an error says that what is packed is not whole, or not packed at all.
pub(super) fn is_damage(why: &io::Error) -> bool {
    matches!(why.kind(), ErrorKind::UnexpectedEof | ErrorKind::InvalidData | ErrorKind::InvalidInput)
}

fn content(file: File, packed: bool) -> Box<dyn BufRead> {
    let plain = BufReader::new(file);
    if packed { Box::new(BufReader::new(MultiGzDecoder::new(plain))) } else { Box::new(plain) }
}

/// One file of a log as its folder shows it.
#[derive(Debug)]
struct Sibling {
    path: PathBuf,
    inode: Inode,
    packed: bool,
}

impl Sibling {
    /// What it is; `None` while it has no line, or when it was packed badly.
    fn generation(self, current: bool) -> io::Result<Option<Generation>> {
        let Self { path, inode, packed } = self;
        let file = File::open(&path)?;
        let metadata = file.metadata()?;
        if Inode::of(&metadata) != inode {
            return Err(rotated());
        }
        match Fingerprint::read(content(file, packed)) {
            Ok(print) => {
                Ok(print.map(|print| Generation { print, inode, packed, current, path, bytes: metadata.len() }))
            }
            Err(why) if packed && is_damage(&why) => {
                log::debug!("{} cannot be unpacked: {why}", path.display());
                Ok(None)
            }
            Err(why) => Err(why),
        }
    }
}

/// The files of the log at `path`, the newest first: itself, then `.1`, `.2` or `.1.gz` as Docker and logrotate name
/// them, then `-20260131` as logrotate does with `dateext`.
///
/// Names are read first and files looked at then, so that a rotation in between shows one file under two names and hides
/// another. Two looks that find the same had none.
fn siblings(path: &Path) -> io::Result<Vec<Sibling>> {
    let mut found = look(path)?;
    for _ in 0..LOOKS_MAX {
        let again = look(path)?;
        let same = found.len() == again.len()
            && found.iter().zip(&again).all(|(one, other)| (&one.path, one.inode) == (&other.path, other.inode));
        found = again;
        if same {
            break;
        }
    }
    Ok(found)
}

fn look(path: &Path) -> io::Result<Vec<Sibling>> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return Ok(Vec::new());
    };
    let mut found: Vec<(Age, Sibling)> = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let file_name = entry.file_name();
        let Some(rest) = file_name.to_str().and_then(|file| file.strip_prefix(name)) else { continue };
        let (rest, packed) = rest.strip_suffix(".gz").map_or((rest, false), |rest| (rest, true));
        let Some(age) = Age::of(rest).filter(|age| !(packed && *age == Age::Current)) else { continue };
        // What is gone since the folder was read was rotated away.
        let Ok(file) = std::fs::metadata(entry.path()) else { continue };
        if file.is_file() {
            let sibling = Sibling { path: entry.path(), inode: Inode::of(&file), packed };
            found.push((age, sibling));
        }
    }
    found.sort_by(|(one, first), (other, second)| one.cmp(other).then(first.packed.cmp(&second.packed)));
    // While a file is being packed both are there, and the packed one is not complete.
    found.dedup_by(|(later, _), (kept, _)| later == kept);
    Ok(found.into_iter().map(|(_, sibling)| sibling).collect())
}

/// What a file's name says of its age, the newest first.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Age {
    Current,
    Number(u32),
    Date(std::cmp::Reverse<String>),
}

impl Age {
    fn of(rest: &str) -> Option<Self> {
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
        match rest.split_at_checked(1) {
            None => Some(Self::Current),
            Some((".", number)) if digits(number) => number.parse().ok().map(Self::Number),
            Some(("-", date)) if digits(date) => Some(Self::Date(std::cmp::Reverse(date.to_owned()))),
            Some(_) => None,
        }
    }
}

/// A file that is being read. It is held open, so that what was rotated away meanwhile can be read to its end.
pub(super) struct LogFile {
    content: Content,
    inode: Inode,
    print: Fingerprint,
    /// Where the next byte is read, in the unpacked content.
    offset: u64,
}

enum Content {
    Plain(File),
    Packed(Box<MultiGzDecoder<BufReader<File>>>),
}

/// What a read has brought.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reading {
    Bytes(usize),
    End,
    /// The file is no longer the one that was read: it was cut, and perhaps written to again.
    Changed,
}

impl LogFile {
    /// Opens one at a place in its unpacked content; `None` when it is not what lies there any more.
    pub(super) fn open(generation: &Generation, offset: u64) -> io::Result<Option<Self>> {
        let Generation { inode, print, packed, .. } = *generation;
        let file = match File::open(&generation.path) {
            Err(why) if why.kind() == ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        if Inode::of(&file.metadata()?) != inode {
            return Ok(None);
        }
        if !packed {
            let opened = Self { content: Content::Plain(file), inode, print, offset };
            return Ok(opened.is_itself()?.then_some(opened));
        }
        // What is packed is not written to again.
        let mut content = MultiGzDecoder::new(BufReader::with_capacity(UNPACK_BUFFER_BYTES, file));
        match io::copy(&mut content.by_ref().take(offset), &mut io::sink()) {
            // The next read finds it damaged as well.
            Err(why) if !is_damage(&why) => return Err(why),
            _ => {}
        }
        Ok(Some(Self { content: Content::Packed(Box::new(content)), inode, print, offset }))
    }

    pub(super) fn inode(&self) -> Inode {
        self.inode
    }

    pub(super) fn packed(&self) -> bool {
        matches!(self.content, Content::Packed(_))
    }

    /// Reads on. What was read before the file changed is not lost; what was read while it did is read again.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<Reading> {
        let read = loop {
            let read = match &mut self.content {
                Content::Plain(file) => file.read_at(buffer, self.offset),
                Content::Packed(content) => content.read(buffer),
            };
            match read {
                Err(why) if why.kind() == ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        if !self.is_itself()? {
            return Ok(Reading::Changed);
        }
        self.offset += read as u64;
        Ok(if read == 0 { Reading::End } else { Reading::Bytes(read) })
    }

    /// Whether a plain file is at least as long as what was read of it, and begins with the same line.
    fn is_itself(&self) -> io::Result<bool> {
        let Content::Plain(file) = &self.content else { return Ok(true) };
        if file.metadata()?.len() < self.offset {
            return Ok(false);
        }
        let mut line = vec![0; self.print.bytes as usize];
        match file.read_exact_at(&mut line, 0) {
            Ok(()) => Ok(Fingerprint::of(&line) == self.print),
            Err(why) if why.kind() == ErrorKind::UnexpectedEof => Ok(false),
            Err(why) => Err(why),
        }
    }
}
