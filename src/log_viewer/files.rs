//! The files of one log: the one that is written to, and those that it was before it was rotated.
//!
//! An inode's number is used again as soon as it is free, so a file is known by its first line as well, which in a log
//! of Docker's carries a moment in nanoseconds.

use std::fs::{File, Metadata};
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Seek as _, SeekFrom};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;

/// A first line that is longer is known by this much of it.
const FIRST_LINE_BYTES_MAX: usize = 64 * 1024;
const UNPACK_BUFFER_BYTES: usize = 16 * 1024;
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
    /// Length of that line, in bytes; 0 where the file is known by its inode instead.
    pub(super) bytes: u32,
    /// The first 64 bits of its MD5, which is for telling apart, not for protection; or the inode's number.
    pub(super) hash: u64,
}

impl Fingerprint {
    /// That of a file of which only the inode's number is known, as the original did.
    pub(super) fn of_inode(number: u64) -> Self {
        Self { bytes: 0, hash: number }
    }

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

/// One file of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sibling {
    pub(super) path: PathBuf,
    pub(super) inode: Inode,
    packed: bool,
    bytes: u64,
}

impl Sibling {
    /// Its first line; `None` while it has none.
    pub(super) fn fingerprint(&self) -> io::Result<Option<Fingerprint>> {
        let file = File::open(&self.path)?;
        let plain = BufReader::new(file);
        if self.packed {
            Fingerprint::read(BufReader::new(MultiGzDecoder::new(plain)))
        } else {
            Fingerprint::read(plain)
        }
    }

    /// Its first line itself, as far as a fingerprint reaches.
    pub(super) fn first_line(&self) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        let plain = BufReader::new(File::open(&self.path)?);
        let mut content: Box<dyn BufRead> =
            if self.packed { Box::new(BufReader::new(MultiGzDecoder::new(plain))) } else { Box::new(plain) };
        (&mut content).take(FIRST_LINE_BYTES_MAX as u64).read_until(b'\n', &mut line)?;
        Ok(line)
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

    /// Whether it still lies where it was found.
    pub(super) fn is_still_there(&self) -> io::Result<bool> {
        Ok(Inode::at(&self.path)? == Some(self.inode))
    }
}

/// The files of the log at `path`, the newest first: itself, then `.1`, `.2` or `.1.gz` as Docker and logrotate name
/// them, then `-20260131` as logrotate does with `dateext`.
///
/// Names are read first and files looked at then, so that a rotation in between shows one file under two names and hides
/// another. Two looks that find the same had none.
pub(super) fn siblings(path: &Path) -> io::Result<Vec<Sibling>> {
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
            let sibling = Sibling { path: entry.path(), inode: Inode::of(&file), packed, bytes: file.len() };
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
    /// Where the next byte is read, in the unpacked content.
    offset: u64,
    fingerprint: Option<Fingerprint>,
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
    /// Opens one at its beginning; `None` when another file lies there by now.
    pub(super) fn open(sibling: &Sibling) -> io::Result<Option<Self>> {
        let file = File::open(&sibling.path)?;
        let inode = Inode::of(&file.metadata()?);
        if inode != sibling.inode {
            return Ok(None);
        }
        let mut opened = Self { content: Content::Plain(file.try_clone()?), inode, offset: 0, fingerprint: None };
        if sibling.packed {
            opened.fingerprint = Fingerprint::read(BufReader::new(MultiGzDecoder::new(BufReader::new(&file))))?;
            (&file).seek(SeekFrom::Start(0))?;
            let packed = BufReader::with_capacity(UNPACK_BUFFER_BYTES, file);
            opened.content = Content::Packed(Box::new(MultiGzDecoder::new(packed)));
        } else {
            opened.fingerprint()?;
        }
        Ok(Some(opened))
    }

    /// Goes back to the beginning of a file that was cut and is written again.
    pub(super) fn begin_again(&mut self) {
        (self.offset, self.fingerprint) = (0, None);
    }

    pub(super) fn inode(&self) -> Inode {
        self.inode
    }

    pub(super) fn packed(&self) -> bool {
        matches!(self.content, Content::Packed(_))
    }

    /// The first line it is known by so far.
    pub(super) fn first_line(&self) -> Option<Fingerprint> {
        self.fingerprint
    }

    /// Its first line, once it has one.
    pub(super) fn fingerprint(&mut self) -> io::Result<Option<Fingerprint>> {
        if let (None, Content::Plain(file)) = (self.fingerprint, &self.content) {
            let mut file = file.try_clone()?;
            // Reads below say where they read, so the place in the file is nobody's.
            file.seek(SeekFrom::Start(0))?;
            self.fingerprint = Fingerprint::read(BufReader::new(file))?;
        }
        Ok(self.fingerprint)
    }

    /// Goes to a place.
    pub(super) fn skip_to(&mut self, offset: u64) -> io::Result<()> {
        if let Content::Packed(content) = &mut self.content {
            io::copy(&mut content.by_ref().take(offset.saturating_sub(self.offset)), &mut io::sink())?;
        }
        self.offset = offset;
        Ok(())
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
        let unknown = self.offset == 0 && self.fingerprint.is_none();
        if let Some(end) = memchr::memchr(b'\n', &buffer[..read]).filter(|_| unknown) {
            // From what was read, since the file may be cut and written again at any moment.
            self.fingerprint = Some(Fingerprint::of(&buffer[..=end]));
        }
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
        let Some(known) = self.fingerprint else { return Ok(true) };
        let mut line = vec![0; known.bytes as usize];
        match file.read_exact_at(&mut line, 0) {
            Ok(()) => Ok(Fingerprint::of(&line) == known),
            Err(why) if why.kind() == ErrorKind::UnexpectedEof => Ok(false),
            Err(why) => Err(why),
        }
    }
}
