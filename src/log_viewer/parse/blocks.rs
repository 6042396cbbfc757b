//! Blocks: records of several lines that are neither indented nor part of a stack trace.

use super::first_line::{self, FirstLine};
use super::timestamps;
use crate::records::log_level::Level;

/// Minimum number of `=` in the line above a report of a sanitizer. Go's race detector prints 18.
const RULER_BYTES_MIN: usize = 18;

/// Maximum length of a line that is only a timestamp, in bytes.
const TIMESTAMP_BYTES_MAX: usize = 32;

/// A block whose first lines have been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Block {
    /// The first of the two lines of `java.util.logging`, of which the second has the level.
    JavaUtilLogging,
    /// A timestamp alone, as Java prints it above a thread dump.
    Timestamp,
    /// A line of `=`, as Go's race detector and the sanitizers of C and C++ print it above their reports.
    Ruler,
    /// A report whose lines have no mark of their own.
    Report,
    /// An excerpt of the source, as Bun prints it above an error: `12 | pay()`.
    Excerpt,
    /// A frame of box-drawing characters.
    Box,
}

/// Effect of a line on the block that it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BlockLine {
    /// The block after the line; `None` if it is complete.
    pub(super) block: Option<Block>,
    /// The level that the line states for the whole block.
    pub(super) level: Option<Level>,
}

impl Block {
    /// Returns the block that the first line of an entry starts.
    pub(super) fn start(line: &str, first_line: &FirstLine) -> Option<BlockLine> {
        let block = match line.as_bytes().first()? {
            b'0'..=b'9' if line.len() <= TIMESTAMP_BYTES_MAX && is_timestamp(line) => Self::Timestamp,
            b'0'..=b'9' if is_excerpt(line) => Self::Excerpt,
            b'=' if is_ruler(line) => Self::Ruler,
            b'F' if line.starts_with(THREAD_DUMP) => return Some(thread_dump()),
            b'W' if matches!(line, "Warning message:" | "Warning messages:") => return Some(report(Level::Warning)),
            b'A'..=b'Z' if is_java_util_logging(line, first_line) => Self::JavaUtilLogging,
            0xe2 if line.starts_with(is_box_start) => Self::Box,
            _ => return None,
        };
        Some(BlockLine { block: Some(block), level: None })
    }

    /// Returns what an unindented line changes; `None` if it does not belong to the block.
    pub(super) fn take(self, line: &str) -> Option<BlockLine> {
        match self {
            Self::JavaUtilLogging => {
                let (name, _) = line.split_once(": ")?;
                Some(BlockLine { block: None, level: Some(Level::from_name(name)?) })
            }
            Self::Timestamp => line.starts_with(THREAD_DUMP).then(thread_dump),
            Self::Ruler if line.starts_with("WARNING: ") => Some(report(Level::Warning)),
            Self::Ruler => {
                let is_sanitizer = line.starts_with("==") && line.contains("==ERROR: ");
                is_sanitizer.then(|| report(Level::Error))
            }
            Self::Report => None,
            Self::Excerpt if is_excerpt(line) => Some(BlockLine { block: Some(self), level: None }),
            Self::Excerpt => {
                let level = first_line::parse(line).level.filter(|level| *level >= Level::Error)?;
                Some(BlockLine { block: None, level: Some(level) })
            }
            Self::Box => {
                let first = line.chars().next().filter(|first| is_box(*first))?;
                let block = Some(self).filter(|_| !matches!(first, '└' | '╰' | '╚' | '╵' | '┗'));
                Some(BlockLine { block, level: first_line::parse(line).level })
            }
        }
    }
}

/// Beginning of Java's thread dumps, which it prints on SIGQUIT and which are no errors.
const THREAD_DUMP: &str = "Full thread dump ";

fn thread_dump() -> BlockLine {
    report(Level::Info)
}

fn report(level: Level) -> BlockLine {
    BlockLine { block: Some(Block::Report), level: Some(level) }
}

/// Returns whether a line is a timestamp and nothing else.
fn is_timestamp(line: &str) -> bool {
    timestamps::time_length(line) == Some(line.len())
}

fn is_ruler(line: &str) -> bool {
    line.len() >= RULER_BYTES_MIN && line.bytes().all(|byte| byte == b'=')
}

fn is_excerpt(line: &str) -> bool {
    let rest = line.trim_start_matches(|first: char| first.is_ascii_digit());
    rest.len() < line.len() && rest.starts_with(" | ")
}

/// Returns whether a character is one for drawing boxes.
pub(super) fn is_box(character: char) -> bool {
    matches!(character, '\u{2500}'..='\u{257f}')
}

fn is_box_start(character: char) -> bool {
    matches!(character, '┌' | '╭' | '╔' | '╷' | '┏')
}

/// Returns whether a line is `Jan 31, 2026 12:00:00 PM org.apache.catalina.startup.Catalina start`, the first of the two
/// lines of `java.util.logging.SimpleFormatter`.
fn is_java_util_logging(line: &str, first_line: &FirstLine) -> bool {
    let is_dated = first_line.from_logger
        && first_line.level.is_none()
        && line.get(..3).is_some_and(timestamps::is_month_or_weekday);
    let start = &line[..line.floor_char_boundary(30)];
    is_dated && (start.contains(" AM ") || start.contains(" PM "))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a block and returns how many of its lines belong, and its level.
    fn read(text: &str) -> (usize, Option<Level>) {
        let mut lines = text.split('\n');
        let first = lines.next().unwrap();
        let Some(BlockLine { mut block, mut level }) = Block::start(first, &first_line::parse(first)) else {
            return (0, None);
        };
        let mut count = 1;
        for line in lines {
            let Some(taken) = block.and_then(|block| block.take(line)) else { break };
            (block, level, count) = (taken.block, level.or(taken.level), count + 1);
        }
        (count, level)
    }

    #[test]
    fn blocks_end_where_their_program_ends_them() {
        for (text, expected) in [
            ("Jan 31, 2026 12:00:00 PM a.B c\nSEVERE: x\ny", (2, Some(Level::Error))),
            ("Jan 31, 2026 12:00:00 PM a.B c\nx: y", (1, None)),
            ("2026-01-31 12:00:00\nFull thread dump OpenJDK 64-Bit Server VM:\nx", (2, Some(Level::Info))),
            ("2026-01-31 12:00:00\nx", (1, None)),
            ("2026-01-31 12:00:00 x\nFull thread dump OpenJDK", (0, None)),
            ("==================\nWARNING: DATA RACE\nWrite", (2, Some(Level::Warning))),
            ("==================\n==7==ERROR: AddressSanitizer: x", (2, Some(Level::Error))),
            ("==================\n==7==x", (1, None)),
            ("==========", (0, None)),
            ("1 | a\n2 | b\nerror: x\ny", (3, Some(Level::Error))),
            ("1 | a\nx", (1, None)),
            ("╷\n│ Error: x\n│\n╵\n│", (4, Some(Level::Error))),
            ("┌─┐\n│1│\n└─┘\nx", (3, None)),
            ("│1│", (0, None)),
            ("Warning message:\nIn f() : slow", (1, Some(Level::Warning))),
            ("Warning message: x", (0, None)),
            ("x", (0, None)),
            ("", (0, None)),
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
    }
}
