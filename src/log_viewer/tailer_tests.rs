use std::fs::{OpenOptions, read, remove_file, rename, write};
use std::io::Write as _;
use std::path::PathBuf;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;

#[path = "tailer_text_tests.rs"]
mod text;

/// A log in a temporary folder, and its tailer.
struct Log {
    folder: PathBuf,
    traits: LogTraits,
    tailer: LogTailer,
    lines: Vec<String>,
}

/// The timestamp of a line is the number that it starts with.
fn timestamp_of(line: &[u8]) -> Option<i64> {
    std::str::from_utf8(line).ok()?.split(' ').next()?.parse().ok()
}

impl Log {
    fn new(name: &str, start: StartAt, files: &[(&str, &str)]) -> Self {
        Self::with_traits(name, start, files, LogTraits { timestamp_of, rotated_by_others: false })
    }

    fn with_traits(name: &str, start: StartAt, files: &[(&str, &str)], traits: LogTraits) -> Self {
        let folder = std::env::temp_dir().join(format!("monlight-tailer-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        for (suffix, content) in files {
            write(folder.join(format!("a.log{suffix}")), content).unwrap();
        }
        let tailer = LogTailer::start(&folder.join("a.log"), traits, start).unwrap();
        Self { folder, traits, tailer, lines: Vec::new() }
    }

    fn path(&self, suffix: &str) -> PathBuf {
        self.folder.join(format!("a.log{suffix}"))
    }

    fn append(&self, suffix: &str, text: &str) {
        let mut file = OpenOptions::new().create(true).append(true).open(self.path(suffix)).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    fn rotate(&self, content: &str) {
        rename(self.path(""), self.path(".1")).unwrap();
        self.append("", content);
    }

    fn compress(&self, from: &str, to: &str) {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(&read(self.path(from)).unwrap()).unwrap();
        write(self.path(to), gzip.finish().unwrap()).unwrap();
        remove_file(self.path(from)).unwrap();
    }

    /// Reads the lines that are new since the last call.
    fn read(&mut self) -> Vec<String> {
        self.lines.clear();
        let mut buffer = Vec::new();
        let lines = &mut self.lines;
        loop {
            let progress = self.tailer.read_batch(&mut buffer, &mut |line| {
                lines.push(String::from_utf8_lossy(line.bytes).into_owned());
                ControlFlow::Continue(())
            });
            // A batch also ends after a while.
            if progress.unwrap() == BatchEnd::ReachedEof {
                break;
            }
        }
        std::mem::take(&mut self.lines)
    }

    /// Replaces the tailer by one that continues at the checkpoint.
    fn restart(&mut self, newest_ns: i64) {
        let positions = self.tailer.positions().unwrap();
        self.resume(&Checkpoint { positions, newest_ns, pending_lines: Vec::new() });
    }

    fn resume(&mut self, checkpoint: &Checkpoint) {
        self.tailer = LogTailer::resume(&self.path(""), self.traits, checkpoint);
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.folder).unwrap();
    }
}

#[test]
fn a_copy_in_progress_is_read_from_the_original() {
    let mut log = Log::new("copied", StartAt::Beginning, &[("", "3 c\n4 d\n"), (".1", "3 c\n"), (".2", "1 a\n2 b\n")]);
    // The copy is partial, then complete, and then the original is truncated and written again.
    assert_eq!(log.read(), ["1 a", "2 b", "3 c", "4 d"]);
    log.append("", "5 e\n");
    write(log.path(".1"), "3 c\n4 d\n5 e\n").unwrap();
    write(log.path(""), "6 f\n").unwrap();
    assert_eq!(log.read(), ["5 e", "6 f"]);
    assert_eq!(log.tailer.take_missed_rotations(), 0);
}

#[test]
fn a_truncated_file_is_read_again_but_older_files_are_not() {
    for restarted in [false, true] {
        let mut log = Log::new("cut", StartAt::Beginning, &[("", "4 d\n"), (".1", "2 b\n3 c\n"), (".2", "1 a\n")]);
        assert_eq!(log.read().len(), 4);
        write(log.path(""), "").unwrap();
        if restarted {
            log.restart(4);
        }
        assert_eq!(log.read(), [""; 0]);
        // Files can be removed in any order.
        remove_file(log.path(".1")).unwrap();
        assert_eq!(log.read(), [""; 0]);
        log.append("", "5 e\n");
        log.rotate("6 f\n");
        assert_eq!(log.read(), ["5 e", "6 f"]);
    }
}

#[test]
fn a_file_truncated_while_stopped_is_detected_by_its_timestamps() {
    let mut log = Log::new("timestamps", StartAt::Beginning, &[("", "2 b\n"), (".1", "1 a\n")]);
    assert_eq!(log.read().len(), 2);
    let positions = LogPositions { previous: None, ..log.tailer.positions().unwrap() };
    write(log.path(""), "3 c\n").unwrap();
    log.resume(&Checkpoint { positions, newest_ns: 2, pending_lines: Vec::new() });
    assert_eq!(log.read(), ["3 c"]);
    assert_eq!(log.tailer.take_missed_rotations(), 1, "the file may have had more before");
}

#[test]
fn files_with_the_same_first_line_are_distinguished() {
    let mut log = Log::new("same", StartAt::Beginning, &[("", "banner\n1\n")]);
    assert_eq!(log.read(), ["banner", "1"]);
    log.append("", "2\n");
    log.rotate("banner\n3\n4\n5\n");
    assert_eq!(log.read(), ["2", "banner", "3", "4", "5"]);
    rename(log.path(".1"), log.path(".2")).unwrap();
    log.rotate("banner\n");
    log.restart(0);
    assert_eq!(log.read(), ["banner"]);
    write(log.path(""), "banner\n6\n").unwrap();
    assert_eq!(log.read(), ["6"]);
}

#[test]
fn lines_written_after_a_rename_are_read() {
    let mut log = Log::new("renamed", StartAt::Beginning, &[("", "1 a\n")]);
    assert_eq!(log.read(), ["1 a"]);
    // As with logrotate: the program writes to the old file until it is signaled to reopen its log.
    log.rotate("");
    log.append(".1", "2 b\n");
    assert_eq!(log.read(), ["2 b"]);
    log.append(".1", "3 c\n4 without an end");
    log.append("", "5 e\n");
    assert_eq!(log.read(), ["3 c", "4 without an end", "5 e"]);
}

#[test]
fn several_rotations_are_read_from_plain_and_compressed_files() {
    let mut log = Log::new("several", StartAt::Beginning, &[("", "1 a\n")]);
    assert_eq!(log.read(), ["1 a"]);
    log.append("", "2 b\n");
    log.rotate("3 c\n");
    log.compress(".1", ".2.gz");
    log.rotate("4 d\n");
    for restarted in [false, true] {
        if restarted {
            log.restart(0);
        }
        let expected: &[&str] = if restarted { &[] } else { &["2 b", "3 c", "4 d"] };
        assert_eq!(log.read(), expected);
    }
    assert_eq!(log.tailer.take_missed_rotations(), 0);
    // All known files are gone.
    for suffix in [".1", ".2.gz"] {
        remove_file(log.path(suffix)).unwrap();
    }
    write(log.path(".1"), "6 f\n").unwrap();
    write(log.path(""), "7 g\n").unwrap();
    assert_eq!(log.read(), ["6 f", "7 g"]);
    assert_eq!(log.tailer.take_missed_rotations(), 1);
}

#[test]
fn a_damaged_file_is_skipped_and_counted() {
    let text: String = (0..2_000).map(|n| format!("{n} {}\n", n * 7_919 % 1_000)).collect();
    let mut log = Log::new("damaged", StartAt::Beginning, &[(".1", &text), ("", "9999 end\n")]);
    log.compress(".1", ".1.gz");
    let compressed = read(log.path(".1.gz")).unwrap();
    write(log.path(".1.gz"), &compressed[..compressed.len() / 2]).unwrap();
    write(log.path(".2.gz"), "not compressed").unwrap();
    let lines = log.read();
    assert!(lines.len() > 100 && lines[0] == "0 0", "{} lines", lines.len());
    assert_eq!(lines.last().unwrap(), "9999 end");
    assert_eq!(log.tailer.take_missed_rotations(), 1);
}

#[test]
fn the_tail_starts_at_a_line_and_spans_files() {
    for (bytes, lines) in [(1, 0), (4, 0), (5, 1), (6, 1), (10, 2), (14, 2), (15, 3), (20, 4), (99, 4)] {
        let mut log = Log::new("tail", StartAt::Tail(bytes), &[("", "3 cc\n4 dd\n"), (".1", "1 aa\n2 bb\n")]);
        assert_eq!(log.read(), ["1 aa", "2 bb", "3 cc", "4 dd"][4 - lines..], "{bytes} bytes");
    }
}

#[test]
fn a_file_known_by_its_inode_alone_is_resumed() {
    let mut log = Log::new("inode", StartAt::Beginning, &[("", "1 a\n2 b\n")]);
    let inode = Inode::at(&log.path("")).unwrap().unwrap().number();
    log.rotate("3 c\n");
    let current = Position { inode, offset: 4, ..Position::default() };
    let positions = LogPositions { current, ..LogPositions::default() };
    log.resume(&Checkpoint { positions, newest_ns: 1, pending_lines: Vec::new() });
    assert_eq!(log.read(), ["2 b", "3 c"]);
}

#[test]
fn holes_are_skipped_and_a_batch_is_bounded() {
    const HOLE_BYTES: u64 = 30_000_000_000;
    let mut log = Log::new("holes", StartAt::Beginning, &[("", "1 a\n")]);
    assert_eq!(log.read(), ["1 a"]);
    let file = OpenOptions::new().write(true).open(log.path("")).unwrap();
    file.set_len(HOLE_BYTES).unwrap();
    log.append("", "\n2 b\n");
    let started = Instant::now();
    let lines = log.read();
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert_eq!(lines, ["2 b"]);
    // The position counts the hole.
    log.restart(0);
    log.append("", "3 c\n");
    assert_eq!(log.read(), ["3 c"]);

    log.append("", &"x".repeat(3 * BATCH_READ_BYTES_MAX));
    let mut batches = 1;
    while log.tailer.read_batch(&mut Vec::new(), &mut |_| ControlFlow::Continue(())).unwrap() == BatchEnd::More {
        batches += 1;
    }
    assert!(batches >= 3, "{batches}");
}

#[test]
fn a_file_that_was_removed_or_truncated_while_stopped_is_a_gap() {
    for truncated in [false, true] {
        let mut log = Log::new("gone", StartAt::Beginning, &[("", "1 a\n2 b\n")]);
        assert_eq!(log.read(), ["1 a", "2 b"]);
        log.restart(2);
        assert_eq!(log.read(), [""; 0]);
        assert_eq!(log.tailer.take_missed_rotations(), 0);
        log.append("", "3 c\n");
        log.restart(2);
        if !truncated {
            remove_file(log.path("")).unwrap();
        }
        write(log.path(""), "4 d\n").unwrap();
        assert_eq!(log.read(), ["4 d"], "truncated: {truncated}");
        assert_eq!(log.tailer.take_missed_rotations(), 1, "truncated: {truncated}");
    }
}
