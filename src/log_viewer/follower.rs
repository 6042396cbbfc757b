//! Reading one log from where it was left, through every rotation, each line once.
//!
//! A log is one sequence of lines that lies in several files, the generations. All that is remembered is which generation
//! is read and how far, and which came before it; what happened to the files meanwhile is found out by looking at them.

use std::io;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use super::files::{Fingerprint, Generation, Inode, LogFile, Reading, generations, is_damage, rotated};

/// A line that is longer is cut. Docker's own are at most 16 KiB of text, each byte of which takes up to six.
const LINE_BYTES_MAX: usize = 1024 * 1024;
/// Read at once. A turn ends between two reads, so this bounds how many lines one can come to.
const READ_BYTES: usize = 32 * 1024;
/// Files may be rotated between a look and the opening of what it found; beyond so many times it is left to the next turn.
const LOOKS_MAX: usize = 3;

/// A place in a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Place {
    /// The generation; a print of 0 bytes is none, and the inode's number alone says which file it is.
    pub(super) file: Fingerprint,
    /// The number of its inode when it was read, which tells generations apart that begin with the same line.
    pub(super) inode: u64,
    /// Bytes before it, in the unpacked content.
    pub(super) offset: u64,
}

/// How far a log was read when the process last stored anything of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Resume {
    pub(super) place: Place,
    /// The generation before that one, if there was one.
    pub(super) before: Option<Fingerprint>,
    /// The latest moment that was read, in ns since 1970.
    pub(super) newest_ns: i64,
    /// Lines before the place that were not stored, since more that belongs to them could follow. Each has its `\n`.
    pub(super) pending: Vec<u8>,
}

/// Where a log that was never read is begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Begin {
    /// With all there is of it.
    Whole,
    /// With so many bytes at its end, from a line's beginning.
    Tail(u64),
}

/// One line as it stands in its file.
pub(super) struct RawLine<'a> {
    /// Without its `\n`.
    pub(super) bytes: &'a [u8],
    /// Bytes of it beyond the longest that is taken, which are not in `bytes`.
    pub(super) cut_bytes: u64,
}

/// Whether a turn has read all there was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    Caught,
    More,
}

/// Whether a turn may end.
pub(super) type Enough = bool;

/// Tells the moment of a line, in ns since 1970.
pub(super) type MomentOf = fn(&[u8]) -> Option<i64>;

/// Follows one log.
pub(super) struct Follower {
    path: PathBuf,
    moment_of: MomentOf,
    /// The end of the last line that was handed over; `None` when there was no file yet.
    place: Option<Place>,
    /// The generation of that place, unless it has to be looked for.
    file: Option<LogFile>,
    /// The file that was it until it was cut.
    cut: Option<Inode>,
    /// What was read behind the place, without an end yet.
    carry: Vec<u8>,
    cut_bytes: u64,
    /// Whether the file had a successor already at its last read, so that an end found now is its last.
    succeeded: bool,
    /// Whether the beginning of the next line is missing, since reading began in the midst of it.
    torn: bool,
    /// Older generations, which are read or not wanted, the newest first. So are all that are older than one of them.
    passed: Vec<Fingerprint>,
    /// What is not younger counts as passed, when nothing else is known.
    newest_ns: Option<i64>,
    /// Times when files were gone, or damaged, before they could be read.
    gaps: u64,
}

impl Follower {
    /// Follows the log at `path` from where it was left.
    pub(super) fn resume(path: &Path, moment_of: MomentOf, from: &Resume) -> Self {
        Self {
            place: Some(from.place),
            passed: Vec::from_iter(from.before),
            newest_ns: Some(from.newest_ns),
            ..Self::new(path, moment_of)
        }
    }

    /// Follows a log that was never read.
    ///
    /// # Errors
    /// When its files cannot be read.
    pub(super) fn begin(path: &Path, moment_of: MomentOf, begin: Begin) -> io::Result<Self> {
        let mut follower = Self::new(path, moment_of);
        let Begin::Tail(mut wanted) = begin else { return Ok(follower) };
        let generations = generations(path)?;
        for (index, generation) in generations.iter().enumerate() {
            let bytes = generation.content_bytes()?;
            if wanted < bytes {
                // One byte earlier, so that a line that begins right there is seen to.
                let file = LogFile::open(generation, bytes - wanted - 1)?.ok_or_else(rotated)?;
                follower.enter(file, &generations[index..], bytes - wanted - 1);
                follower.torn = true;
                break;
            }
            wanted -= bytes;
        }
        Ok(follower)
    }

    fn new(path: &Path, moment_of: MomentOf) -> Self {
        Self {
            path: path.to_owned(),
            moment_of,
            place: None,
            file: None,
            cut: None,
            carry: Vec::new(),
            cut_bytes: 0,
            succeeded: false,
            torn: false,
            passed: Vec::new(),
            newest_ns: None,
            gaps: 0,
        }
    }

    /// Where the last line that was handed over ends, and the generation before that one; `None` before there was any.
    pub(super) fn place(&self) -> Option<(Place, Option<Fingerprint>)> {
        self.place.map(|place| (place, self.passed.first().copied()))
    }

    /// How often files were gone before they could be read, since the last time this was asked.
    pub(super) fn take_gaps(&mut self) -> u64 {
        std::mem::take(&mut self.gaps)
    }

    /// Reads on and hands over every line that is whole, until there are no more or `line`, after what was read at
    /// once, answers that it has enough.
    ///
    /// # Errors
    /// When a file cannot be read; everything handed over so far stands.
    pub(super) fn turn(
        &mut self,
        buffer: &mut Vec<u8>,
        line: &mut impl FnMut(RawLine<'_>) -> Enough,
    ) -> io::Result<Turn> {
        buffer.resize(READ_BYTES, 0);
        loop {
            let Some(file) = &mut self.file else {
                if self.find()? {
                    continue;
                }
                return Ok(Turn::Caught);
            };
            match file.read(buffer) {
                Ok(Reading::Bytes(read)) => {
                    if self.lines(&buffer[..read], line) {
                        return Ok(Turn::More);
                    }
                }
                Ok(Reading::Changed) => {
                    self.cut = Some(file.inode());
                    self.leave();
                }
                Ok(Reading::End) => {
                    if !file.packed() && Inode::at(&self.path)?.is_none_or(|here| here == file.inode())
                        || !self.go_on(line)?
                    {
                        return Ok(Turn::Caught);
                    }
                }
                Err(why) if file.packed() && is_damage(&why) => {
                    // What is left of it is given up.
                    if !std::mem::replace(&mut self.succeeded, true) {
                        log::warn!("a packed file of {} is damaged: {why}", self.path.display());
                        self.gaps += 1;
                    }
                    if !self.go_on(line)? {
                        return Ok(Turn::Caught);
                    }
                }
                Err(why) => return Err(why),
            }
        }
    }

    /// Opens the generation of the place where it lies now; when it is gone, the oldest that is not read. Answers
    /// whether there is one.
    fn find(&mut self) -> io::Result<bool> {
        for _ in 0..LOOKS_MAX {
            let generations = generations(&self.path)?;
            let own = self.own(&generations)?;
            let index = match own {
                Some(own) => Some(own),
                None => self.oldest_unread(&generations)?,
            };
            let Some(index) = index else { return Ok(false) };
            let offset = self.place.filter(|_| own.is_some()).map_or(0, |place| place.offset);
            if let Some(file) = LogFile::open(&generations[index], offset)? {
                self.gaps += u64::from(own.is_none() && self.is_gap(&generations, index));
                self.enter(file, &generations[index..], offset);
                return Ok(true);
            }
        }
        Err(rotated())
    }

    /// Goes on from the end of the file with the generation after it. Answers whether there is one.
    fn go_on(&mut self, line: &mut impl FnMut(RawLine<'_>) -> Enough) -> io::Result<bool> {
        for _ in 0..LOOKS_MAX {
            let generations = generations(&self.path)?;
            let own = self.own(&generations)?;
            let index = match own {
                Some(own) => own.checked_sub(1),
                None => self.oldest_unread(&generations)?,
            };
            let Some(index) = index else { return Ok(false) };
            // Whoever wrote to the file has a new one now. What was written to it until then is read first.
            if !std::mem::replace(&mut self.succeeded, true) {
                return Ok(true);
            }
            if let Some(file) = LogFile::open(&generations[index], 0)? {
                self.last_line(line);
                self.gaps += u64::from(own.is_none() && self.is_gap(&generations, index));
                self.enter(file, &generations[index..], 0);
                return Ok(true);
            }
        }
        Err(rotated())
    }

    /// Which of the generations is that of the place.
    fn own(&self, generations: &[Generation]) -> io::Result<Option<usize>> {
        let Some(place) = self.place else { return Ok(None) };
        let mut own = None;
        for (index, generation) in generations.iter().enumerate() {
            let same_inode = generation.inode.number() == place.inode;
            let same = if place.file.bytes == 0 { same_inode } else { generation.print == place.file };
            // A packed file is whole, and says its length but roughly.
            let reaches = || Ok::<_, io::Error>(generation.packed || generation.content_bytes()? >= place.offset);
            if !same || self.cut == Some(generation.inode) || !reaches()? {
                continue;
            }
            if same_inode {
                return Ok(Some(index));
            }
            own = own.or(Some(index));
        }
        Ok(own)
    }

    /// The oldest generation that is not known to be read, when that of the place is not there. Remembers those that are:
    /// files that are removed go in any order.
    fn oldest_unread(&mut self, generations: &[Generation]) -> io::Result<Option<usize>> {
        let mut unread = generations.len();
        let known = generations.iter().position(|generation| self.passed.contains(&generation.print));
        match (known, self.newest_ns) {
            (Some(known), _) => unread = known,
            (None, Some(newest_ns)) if self.passed.is_empty() => {
                for (index, generation) in generations.iter().enumerate().rev() {
                    if self.began_ns(generation)? > newest_ns {
                        break;
                    }
                    unread = index;
                }
            }
            (None, _) => {}
        }
        // What is written to cannot have been read before; it may begin with the same line.
        unread = unread.max(usize::from(generations.first().is_some_and(|newest| newest.current)));
        let mut passed: Vec<_> = generations[unread..].iter().map(|generation| generation.print).collect();
        self.passed.retain(|print| !passed.contains(print));
        passed.append(&mut self.passed);
        self.passed = passed;
        Ok(unread.checked_sub(1))
    }

    /// Whether lines may be missing before a generation, when that of the place is gone. Files go the oldest first:
    /// where one is left that was read before, none is missing.
    fn is_gap(&self, generations: &[Generation], index: usize) -> bool {
        self.place.is_some() && index > 0 && index + 1 == generations.len()
    }

    /// By the moment of its first line, and where lines have none by that of its last change.
    fn began_ns(&self, generation: &Generation) -> io::Result<i64> {
        if let Some(moment) = (self.moment_of)(&generation.first_line()?) {
            return Ok(moment);
        }
        let since_1970 = generation.changed()?.duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(i64::try_from(since_1970.as_nanos()).unwrap_or(i64::MAX))
    }

    /// Reads on in the first of some generations, the others being those before it.
    fn enter(&mut self, file: LogFile, generations: &[Generation], offset: u64) {
        let Some((entered, older)) = generations.split_first() else { return };
        let left = self.place.map(|place| place.file).filter(|left| *left != entered.print && left.bytes > 0);
        if left.is_some() || !older.is_empty() {
            self.passed = older.iter().map(|generation| generation.print).chain(left).collect();
        }
        self.place = Some(Place { file: entered.print, inode: entered.inode.number(), offset });
        self.leave();
        self.cut = None;
        self.newest_ns = None;
        self.file = Some(file);
    }

    /// Reads no further in the file, and forgets what was read behind the last line.
    fn leave(&mut self) {
        self.file = None;
        self.carry.clear();
        self.cut_bytes = 0;
        self.succeeded = false;
    }

    /// Splits what was read.
    fn lines(&mut self, mut bytes: &[u8], line: &mut impl FnMut(RawLine<'_>) -> Enough) -> Enough {
        let mut enough = false;
        while let Some(end) = memchr::memchr(b'\n', bytes) {
            enough = self.one_line(&bytes[..end], line);
            bytes = &bytes[end + 1..];
        }
        let room = LINE_BYTES_MAX.saturating_sub(self.carry.len());
        self.carry.extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.cut_bytes += bytes.len().saturating_sub(room) as u64;
        enough
    }

    /// Hands over what was read before `rest`, and `rest`, as one line.
    fn one_line(&mut self, rest: &[u8], line: &mut impl FnMut(RawLine<'_>) -> Enough) -> Enough {
        if let Some(place) = &mut self.place {
            place.offset += self.carry.len() as u64 + self.cut_bytes + rest.len() as u64 + 1;
        }
        let mut cut_bytes = std::mem::take(&mut self.cut_bytes);
        let carried;
        let bytes = if self.carry.is_empty() {
            rest
        } else {
            let room = LINE_BYTES_MAX.saturating_sub(self.carry.len());
            cut_bytes += rest.len().saturating_sub(room) as u64;
            self.carry.extend_from_slice(&rest[..rest.len().min(room)]);
            carried = std::mem::take(&mut self.carry);
            carried.as_slice()
        };
        if std::mem::take(&mut self.torn) {
            return false;
        }
        line(RawLine { bytes, cut_bytes })
    }

    /// A file that was rotated away gets no end to its last line.
    fn last_line(&mut self, line: &mut impl FnMut(RawLine<'_>) -> Enough) {
        if !self.carry.is_empty() {
            // Whether that is enough is asked again at the next line.
            self.one_line(&[], line);
        }
    }
}

#[cfg(test)]
#[path = "follower_tests.rs"]
mod tests;
