//! From lines of a file to entries: pieces are made whole and stack traces joined, for either stream apart, and what is
//! stored already is left out.

use std::time::{Duration, Instant};

use super::discovery::Format;
use super::files::Fingerprint;
use super::follower::{Mark, Place, RawLine};
use super::ring;
use super::text::docker::{self, Line};
use super::text::entry::{Entry, Joiner};
use super::text::pieces::Pieces;
use super::text::{Stream, ansi};
use crate::clock::Timestamp;

/// How long the next line of an entry may take. Programs write a stack trace in one go; who watches live does not want
/// to wait.
const NEXT_LINE_WITHIN: Duration = Duration::from_millis(120);
/// The same in the middle of a stack trace.
const NEXT_FRAME_WITHIN: Duration = Duration::from_millis(600);
/// How long the rest of a line may take.
const REST_OF_LINE_WITHIN: Duration = Duration::from_secs(3);

/// What is in the making of one log.
pub(super) struct Assembly {
    format: Format,
    streams: [Half; 2],
    /// From where on nothing of a stream is stored, while reading has not come there yet.
    stored: [Option<Place>; 2],
    /// Whether reading has come to the file of that place, which may have no line behind it.
    reached: [bool; 2],
    entries: Vec<ring::Entry>,
    bytes: usize,
    newest_ns: i64,
}

/// What is in the making of one stream.
struct Half {
    pieces: Pieces<Mark>,
    joiner: Joiner<Mark>,
    /// When the last line came.
    touched: Instant,
}

impl Assembly {
    /// For a log that is read from its beginning, or from the earlier of two places: up to the other one, the stream
    /// that is further is stored already. `first` is the file that reading begins with.
    pub(super) fn new(format: Format, stored: [Option<Place>; 2], first: Option<Fingerprint>, newest_ns: i64) -> Self {
        let half = |stream| Half { pieces: Pieces::default(), joiner: Joiner::new(stream), touched: Instant::now() };
        Self {
            format,
            streams: [half(Stream::Stdout), half(Stream::Stderr)],
            stored,
            reached: stored.map(|place| place.is_some_and(|place| first == Some(place.file))),
            entries: Vec::new(),
            bytes: 0,
            newest_ns,
        }
    }

    /// Takes the next line.
    pub(super) fn line(&mut self, raw: &RawLine<'_>, now: Instant) {
        let docker = if self.format == Format::Docker { docker::parse(unwritten(raw.bytes)) } else { None };
        // What is no line of Docker's, after a power cut perhaps, is kept as the text it is.
        let time_ns = if self.format == Format::Docker { self.newest_ns } else { Timestamp::now().ms() * 1_000_000 };
        let line = docker.unwrap_or_else(|| Line {
            log: String::from_utf8_lossy(raw.bytes),
            complete: true,
            stream: Stream::Stdout,
            time_ns,
        });
        let index = usize::from(line.stream == Stream::Stderr);
        if self.is_stored(raw, index) {
            return;
        }
        self.newest_ns = self.newest_ns.max(line.time_ns);
        let Half { pieces, joiner, touched } = &mut self.streams[index];
        *touched = now;
        let (entries, bytes) = (&mut self.entries, &mut self.bytes);
        let mut finished = |entry: Entry<Mark>| {
            *bytes += entry.text.len();
            entries.push(stored(entry));
        };
        pieces.push(line, raw.start, |whole| {
            let mut text = whole.text;
            if raw.cut_bytes > 0 {
                text.to_mut().push_str(&format!(" …[truncated: {} bytes]", raw.cut_bytes));
            }
            joiner.push(&text, whole.time_ns, whole.place).map(&mut finished);
        });
    }

    /// Whether a line is before the place from which on nothing of its stream is stored.
    fn is_stored(&mut self, raw: &RawLine<'_>, stream: usize) -> bool {
        let in_file = self.stored.map(|place| place.is_some_and(|place| place.file == raw.file));
        // The file of that place may have lines of the other stream only.
        self.reached = [self.reached[0] || in_file[0], self.reached[1] || in_file[1]];
        let Some(place) = self.stored[stream] else { return false };
        if !self.reached[stream] || in_file[stream] && raw.start.offset < place.offset {
            return true;
        }
        self.stored[stream] = None;
        false
    }

    /// Finishes what has waited long enough for more.
    pub(super) fn flush(&mut self, now: Instant) {
        for half in &mut self.streams {
            if half.due().is_none_or(|due| now < due) {
                continue;
            }
            let Half { pieces, joiner, .. } = half;
            let mut entries = Vec::new();
            pieces.flush(|whole| entries.extend(joiner.push(&whole.text, whole.time_ns, whole.place)));
            entries.extend(joiner.flush());
            self.bytes += entries.iter().map(|entry| entry.text.len()).sum::<usize>();
            self.entries.extend(entries.into_iter().map(stored));
        }
    }

    /// When something will have waited long enough.
    pub(super) fn due(&self) -> Option<Instant> {
        self.streams.iter().filter_map(Half::due).min()
    }

    /// What is finished.
    pub(super) fn take(&mut self) -> Vec<ring::Entry> {
        self.bytes = 0;
        std::mem::take(&mut self.entries)
    }

    /// How many entries are finished, and their bytes.
    pub(super) fn finished(&self) -> (usize, usize) {
        (self.entries.len(), self.bytes)
    }

    /// Where the first line begins that is not in a finished entry, by stream.
    pub(super) fn open(&self) -> [Option<Mark>; 2] {
        // A line that is not whole comes after those that the joiner has.
        self.streams.each_ref().map(|half| half.joiner.open().or_else(|| half.pieces.open().next()))
    }

    /// Where a stream is still behind what is stored of it.
    pub(super) fn stored(&self) -> [Option<Place>; 2] {
        self.stored
    }

    /// Forgets what is stored: reading has come to where that place can no longer be.
    pub(super) fn trust_nothing(&mut self) {
        self.stored = [None; 2];
    }

    /// The latest moment read, in ns since 1970.
    pub(super) fn newest_ns(&self) -> i64 {
        self.newest_ns
    }
}

impl Half {
    fn due(&self) -> Option<Instant> {
        let within = if self.pieces.open().next().is_some() {
            REST_OF_LINE_WITHIN
        } else if self.joiner.expects_more() {
            NEXT_FRAME_WITHIN
        } else if self.joiner.open().is_some() {
            NEXT_LINE_WITHIN
        } else {
            return None;
        };
        Some(self.touched + within)
    }
}

/// Without what a power cut leaves of a line that was never written.
fn unwritten(line: &[u8]) -> &[u8] {
    let zeros = line.iter().take_while(|byte| **byte == 0).count();
    &line[zeros..]
}

fn stored(entry: Entry<Mark>) -> ring::Entry {
    let plain = match ansi::strip(&entry.text) {
        std::borrow::Cow::Borrowed(_) => None,
        std::borrow::Cow::Owned(plain) => Some(plain),
    };
    ring::Entry { at_ns: entry.time_ns, stream: entry.stream, level: entry.level, message: entry.text, plain }
}
