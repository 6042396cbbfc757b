//! Reading one log from where it was left, through every rotation, each line once.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use super::files::{Fingerprint, Inode, LogFile, Reading, Sibling, siblings};

/// A line that is longer is cut. Docker's own are at most 16 KiB of text, each byte of which takes up to six.
const LINE_BYTES_MAX: usize = 1024 * 1024;
/// Read at once. A turn ends between two reads, so this bounds how many lines one can come to.
const READ_BYTES: usize = 32 * 1024;
/// Files may be rotated while one looks for the next; beyond this many times it is left to the next turn.
const LOOKS_MAX: usize = 3;

/// A place among the files read by this process: the file, counted from the first, and the offset in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Mark {
    pub(super) file: u32,
    pub(super) offset: u64,
}

/// The same in terms that outlive the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Place {
    pub(super) file: Fingerprint,
    pub(super) offset: u64,
}

/// How far a log was read when the process last stored anything of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Resume {
    /// From where on nothing is stored, by stream. They differ while lines of one stream wait for more of theirs.
    pub(super) places: [Place; 2],
    /// The latest moment that was read, in ns since 1970.
    pub(super) newest_ns: i64,
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
    pub(super) start: Mark,
    /// The file it stands in.
    pub(super) file: Fingerprint,
    /// Without its `\n`.
    pub(super) bytes: &'a [u8],
    /// Bytes of it beyond the longest that is taken, which are not in `bytes`.
    pub(super) cut_bytes: u64,
}

/// Where a log that was read before is gone on with.
struct Start {
    /// Of the file.
    index: usize,
    offset: u64,
    /// Up to where either stream is stored already.
    stored: [Option<Place>; 2],
    /// Whether lines may be missing.
    gap: bool,
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
    file: Option<LogFile>,
    number: u32,
    /// The files that a mark may point into.
    known: VecDeque<(u32, Fingerprint)>,
    /// The end of the last line that was handed over.
    position: Mark,
    /// What was read behind it, without an end yet.
    carry: Vec<u8>,
    cut_bytes: u64,
    /// Whether the file was rotated away; it has been read to its end only if that was seen before its last read.
    rotated: bool,
    /// Whether the file was opened before it had a line, and nothing of it was read since.
    unseen: bool,
    /// Whether the beginning of the next line is missing, since reading began in the midst of it.
    torn: bool,
    /// The first lines of older files, which are read or not wanted.
    passed: Vec<Fingerprint>,
    /// Times when files were gone before they could be read.
    gaps: u64,
}

impl Follower {
    /// Follows the log at `path` from where it was left: from the earlier of the two places. Answers also up to where
    /// the other stream is stored already.
    ///
    /// # Errors
    /// When its files cannot be read.
    pub(super) fn resume(path: &Path, moment_of: MomentOf, from: &Resume) -> io::Result<(Self, [Option<Place>; 2])> {
        for _ in 0..LOOKS_MAX {
            let mut follower = Self::new(path, moment_of);
            let siblings = siblings(path)?;
            let prints = siblings.iter().map(Sibling::fingerprint).collect::<io::Result<Vec<_>>>()?;
            let Some(start) = follower.start(&siblings, &prints, from)? else { return Ok((follower, [None; 2])) };
            let Some(mut file) = LogFile::open(&siblings[start.index])? else { continue };
            if file.fingerprint()? == prints[start.index] {
                follower.enter(file, start.offset)?;
                follower.gaps = u64::from(start.gap);
                follower.passed = prints[start.index + 1..].iter().flatten().copied().collect();
                return Ok((follower, start.stored));
            }
        }
        Err(rotated())
    }

    /// Where to go on; `None` when there is no file.
    fn start(&self, siblings: &[Sibling], prints: &[Option<Fingerprint>], from: &Resume) -> io::Result<Option<Start>> {
        let find = |place: &Place| {
            siblings.iter().zip(prints).position(|(sibling, print)| {
                let by_inode = place.file.bytes == 0 && Fingerprint::of_inode(sibling.inode.number()) == place.file;
                *print == Some(place.file)
                    || by_inode && sibling.content_bytes().is_ok_and(|bytes| bytes >= place.offset)
            })
        };
        let [out, err] = from.places;
        let start = |index, offset, stored, gap| Ok(Some(Start { index, offset, stored, gap }));
        match from.places.each_ref().map(find) {
            [Some(index), Some(_)] if out == err => start(index, out.offset, [None; 2], false),
            // The older file, and in one file the earlier place; the other stream is stored further.
            [Some(older), Some(newer)] if (older, err.offset) > (newer, out.offset) => {
                start(older, out.offset, [None, Some(err)], false)
            }
            [Some(_), Some(older)] => start(older, err.offset, [Some(out), None], false),
            // What one stream waited for is gone; the other's file is read whole, without what is stored of it.
            [Some(index), None] => start(index, 0, [Some(out), None], true),
            [None, Some(index)] => start(index, 0, [None, Some(err)], true),
            [None, None] => match self.first_after(siblings, from.newest_ns)? {
                Some(index) => start(index, 0, [None; 2], index > 0 && index + 1 == siblings.len()),
                None => Ok(None),
            },
        }
    }

    /// Follows a log that was never read.
    ///
    /// # Errors
    /// When its files cannot be read.
    pub(super) fn begin(path: &Path, moment_of: MomentOf, begin: Begin) -> io::Result<Self> {
        let mut follower = Self::new(path, moment_of);
        let siblings = siblings(path)?;
        let mut begin_at = (siblings.len().saturating_sub(1), 0);
        if let Begin::Tail(mut wanted) = begin {
            for (index, sibling) in siblings.iter().enumerate() {
                let bytes = sibling.content_bytes()?;
                if wanted < bytes {
                    // One byte earlier, so that a line that begins right there is seen to.
                    begin_at = (index, bytes - wanted - 1);
                    follower.torn = true;
                    break;
                }
                wanted -= bytes;
            }
        }
        let (index, offset) = begin_at;
        let Some(first) = siblings.get(index) else { return Ok(follower) };
        follower.enter(LogFile::open(first)?.ok_or_else(rotated)?, offset)?;
        follower.passed = fingerprints(&siblings[index + 1..])?;
        Ok(follower)
    }

    fn new(path: &Path, moment_of: MomentOf) -> Self {
        Self {
            path: path.to_owned(),
            moment_of,
            file: None,
            number: 0,
            known: VecDeque::new(),
            position: Mark::default(),
            carry: Vec::new(),
            cut_bytes: 0,
            rotated: false,
            unseen: false,
            torn: false,
            passed: Vec::new(),
            gaps: 0,
        }
    }

    /// The oldest file that begins after a moment; without one that does, the newest. By the moment of its first line,
    /// and where lines have none by that of its last change.
    fn first_after(&self, siblings: &[Sibling], newest_ns: i64) -> io::Result<Option<usize>> {
        for (index, sibling) in siblings.iter().enumerate().rev() {
            let first_line = sibling.first_line()?;
            let moment = match (self.moment_of)(&first_line) {
                Some(moment) => moment,
                None if first_line.is_empty() => continue,
                None => {
                    let changed = std::fs::metadata(&sibling.path)?.modified()?;
                    let since_1970 = changed.duration_since(UNIX_EPOCH).unwrap_or_default();
                    i64::try_from(since_1970.as_nanos()).unwrap_or(i64::MAX)
                }
            };
            if moment > newest_ns {
                return Ok(Some(index));
            }
        }
        Ok((!siblings.is_empty()).then_some(0))
    }

    fn enter(&mut self, mut file: LogFile, offset: u64) -> io::Result<()> {
        file.skip_to(offset)?;
        if self.file.is_some() {
            self.number += 1;
        } else {
            self.position = Mark { file: self.number, offset };
        }
        self.unseen = file.first_line().is_none();
        self.file = Some(file);
        self.forget_rest();
        Ok(())
    }

    /// Where the last line that was handed over ends.
    pub(super) fn position(&self) -> Mark {
        self.position
    }

    /// A mark in terms that outlive the process; `None` for one in a file that had no line yet.
    pub(super) fn place(&mut self, mark: Mark) -> io::Result<Option<Place>> {
        if mark.file == self.number && self.known.back().is_none_or(|(number, _)| *number != mark.file) {
            self.remember()?;
        }
        let known = self.known.iter().find(|(number, _)| *number == mark.file);
        Ok(known.map(|(_, file)| Place { file: *file, offset: mark.offset }))
    }

    /// Says that no mark before this one is asked for any more.
    pub(super) fn forget_before(&mut self, mark: Mark) {
        self.known.retain(|(number, _)| *number >= mark.file);
    }

    /// How often files were gone before they could be read, since the last time this was asked.
    pub(super) fn take_gaps(&mut self) -> u64 {
        std::mem::take(&mut self.gaps)
    }

    fn remember(&mut self) -> io::Result<Option<Fingerprint>> {
        if let Some((number, print)) = self.known.back()
            && *number == self.number
        {
            return Ok(Some(*print));
        }
        let Some(file) = &mut self.file else { return Ok(None) };
        let print = file.fingerprint()?;
        self.known.extend(print.map(|print| (self.number, print)));
        Ok(print)
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
                let siblings = siblings(&self.path)?;
                let oldest = siblings.last().map(LogFile::open).transpose()?.flatten();
                let Some(oldest) = oldest else { return Ok(Turn::Caught) };
                self.enter(oldest, 0)?;
                continue;
            };
            let reading = file.read(buffer)?;
            if self.unseen && reading != Reading::Changed && self.find_missed()? {
                // What was read is read again when its turn comes.
                continue;
            }
            let Some(file) = &mut self.file else { continue };
            match reading {
                Reading::Bytes(read) => {
                    self.unseen = false;
                    if self.lines(&buffer[..read], line)? {
                        return Ok(Turn::More);
                    }
                }
                Reading::Changed => self.find_again()?,
                Reading::End => {
                    let here = Inode::at(&self.path)?;
                    let moved = match here {
                        Some(inode) => file.packed() || inode != file.inode(),
                        None => false,
                    };
                    if !moved {
                        return Ok(Turn::Caught);
                    }
                    // What was written before it was rotated away may have come after the read that found its end.
                    if !std::mem::replace(&mut self.rotated, true) {
                        continue;
                    }
                    self.last_line(line)?;
                    if !self.next()? {
                        return Ok(Turn::Caught);
                    }
                }
            }
        }
    }

    /// Splits what was read.
    fn lines(&mut self, mut bytes: &[u8], line: &mut impl FnMut(RawLine<'_>) -> Enough) -> io::Result<Enough> {
        let mut enough = false;
        while let Some(end) = memchr::memchr(b'\n', bytes) {
            enough = self.one_line(&bytes[..end], line)?;
            bytes = &bytes[end + 1..];
        }
        let room = LINE_BYTES_MAX.saturating_sub(self.carry.len());
        self.carry.extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.cut_bytes += bytes.len().saturating_sub(room) as u64;
        Ok(enough)
    }

    /// Hands over what was read before `rest`, and `rest`, as one line.
    fn one_line(&mut self, rest: &[u8], line: &mut impl FnMut(RawLine<'_>) -> Enough) -> io::Result<Enough> {
        let offset = if self.position.file == self.number { self.position.offset } else { 0 };
        let start = Mark { file: self.number, offset };
        let read = self.carry.len() as u64 + self.cut_bytes + rest.len() as u64 + 1;
        let end = Mark { file: self.number, offset: offset + read };
        let mut cut_bytes = self.cut_bytes;
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
        self.cut_bytes = 0;
        let Some(file) = self.remember()? else {
            return Err(io::Error::other("a line was read of a file without one"));
        };
        self.position = end;
        if std::mem::take(&mut self.torn) {
            return Ok(false);
        }
        Ok(line(RawLine { start, file, bytes, cut_bytes }))
    }

    /// A file that was rotated away gets no end to its last line.
    fn last_line(&mut self, line: &mut impl FnMut(RawLine<'_>) -> Enough) -> io::Result<()> {
        if self.carry.is_empty() || self.remember()?.is_none() {
            return Ok(());
        }
        // Whether that is enough is asked again at the next line.
        self.one_line(&[], line).map(drop)
    }

    /// Goes on with the file that came after the one that is read to its end. Answers whether there was one.
    fn next(&mut self) -> io::Result<bool> {
        for _ in 0..LOOKS_MAX {
            let Some(file) = &mut self.file else { return Ok(false) };
            let siblings = siblings(&self.path)?;
            let print = file.fingerprint()?;
            let index = place_of(file, print, &siblings)?;
            let Some(next) = (match index {
                Some(index) => index.checked_sub(1),
                None => self.oldest_unread(&siblings)?,
            }) else {
                return Ok(false);
            };
            let Some(opened) = LogFile::open(&siblings[next])? else { continue };
            // Older files are moved first: while the one just read is where it was, its successor is as well.
            if siblings[index.unwrap_or(next)].is_still_there()? {
                let older = fingerprints(&siblings[next + 1..])?;
                // Files go the oldest first. Where one is left that is older than the one just read, none is missing.
                let gap = index.is_none() && next > 0 && !older.iter().any(|print| self.passed.contains(print));
                self.gaps += u64::from(gap);
                self.passed = older;
                self.passed.extend(print);
                return self.enter(opened, 0).map(|()| true);
            }
        }
        Ok(false)
    }

    /// The oldest file that is not known to be read, of those that are left when the one just read is not among them.
    fn oldest_unread(&self, siblings: &[Sibling]) -> io::Result<Option<usize>> {
        for (index, sibling) in siblings.iter().enumerate().rev() {
            if sibling.fingerprint()?.is_some_and(|print| !self.passed.contains(&print)) {
                return Ok(Some(index));
            }
        }
        // One without a line yet can only be the newest.
        Ok((!siblings.is_empty()).then_some(0))
    }

    /// The file was cut. Where it was copied before, as logrotate does with `copytruncate`, the copy has its rest; then
    /// it is begun again.
    fn find_again(&mut self) -> io::Result<()> {
        let wanted = self.file.as_ref().and_then(LogFile::first_line);
        let offset = if self.position.file == self.number { self.position.offset } else { 0 };
        if wanted.is_none() && self.find_missed()? {
            return Ok(());
        }
        for sibling in siblings(&self.path)?.iter().skip(1) {
            if wanted.is_none() || sibling.content_bytes()? < offset {
                continue;
            }
            let mut copy = LogFile::open(sibling)?.ok_or_else(rotated)?;
            if copy.fingerprint()? == wanted {
                // The same content under another name: marks into it stay right.
                copy.skip_to(offset)?;
                self.unseen = false;
                self.file = Some(copy);
                self.forget_rest();
                return Ok(());
            }
        }
        if let Some(file) = &mut self.file {
            file.begin_again();
            self.unseen = true;
            self.passed.extend(wanted);
            self.number += 1;
            self.forget_rest();
        }
        Ok(())
    }

    /// Nothing was read of the file yet: should something have been written, copied and cut off since, the copy is there
    /// and was not read either. Answers whether there is one, which is gone on with.
    fn find_missed(&mut self) -> io::Result<bool> {
        let siblings = siblings(&self.path)?;
        let Some(file) = &self.file else { return Ok(false) };
        let Some(index) = place_of(file, file.first_line(), &siblings)? else { return Ok(false) };
        let Some(missed) = self.oldest_unread(&siblings)?.filter(|missed| *missed > index) else { return Ok(false) };
        let opened = LogFile::open(&siblings[missed])?.ok_or_else(rotated)?;
        self.enter(opened, 0).map(|()| true)
    }

    /// Forgets what was read behind the last line.
    fn forget_rest(&mut self) {
        self.carry.clear();
        self.cut_bytes = 0;
        self.rotated = false;
    }
}

/// What is said when files are rotated faster than one can look.
fn rotated() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "it is being rotated")
}

/// The first lines of files that have one.
fn fingerprints(siblings: &[Sibling]) -> io::Result<Vec<Fingerprint>> {
    siblings.iter().map(Sibling::fingerprint).filter_map(io::Result::transpose).collect()
}

/// Which of the files is the one that is held: the same one, or what it was packed to meanwhile.
fn place_of(file: &LogFile, print: Option<Fingerprint>, siblings: &[Sibling]) -> io::Result<Option<usize>> {
    let index = siblings.iter().position(|sibling| sibling.inode == file.inode());
    if index.is_some() || print.is_none() {
        return Ok(index);
    }
    for (at, sibling) in siblings.iter().enumerate() {
        if sibling.fingerprint()? == print {
            return Ok(Some(at));
        }
    }
    Ok(None)
}
