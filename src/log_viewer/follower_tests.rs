use std::fs::{OpenOptions, read, remove_file, rename, write};
use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;

/// A log in a folder of its own, gone with it, and what a follower made of it.
struct Log {
    folder: PathBuf,
    follower: Follower,
    lines: Vec<String>,
}

/// Lines here tell their moment by the number they begin with.
fn moment_of(line: &[u8]) -> Option<i64> {
    std::str::from_utf8(line).ok()?.split(' ').next()?.parse().ok()
}

impl Log {
    fn new(name: &str, begin: Begin, files: &[(&str, &str)]) -> Self {
        let folder = std::env::temp_dir().join(format!("monlight-follower-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        for (suffix, content) in files {
            write(folder.join(format!("a.log{suffix}")), content).unwrap();
        }
        let follower = Follower::begin(&folder.join("a.log"), moment_of, begin).unwrap();
        Self { folder, follower, lines: Vec::new() }
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

    fn pack(&self, from: &str, to: &str) {
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        packed.write_all(&read(self.path(from)).unwrap()).unwrap();
        write(self.path(to), packed.finish().unwrap()).unwrap();
        remove_file(self.path(from)).unwrap();
    }

    /// What is new since the last time.
    fn read(&mut self) -> Vec<String> {
        self.lines.clear();
        let mut buffer = Vec::new();
        let lines = &mut self.lines;
        let turn = self.follower.turn(&mut buffer, &mut |line| {
            lines.push(String::from_utf8_lossy(line.bytes).into_owned());
            false
        });
        assert_eq!(turn.unwrap(), Turn::Caught);
        std::mem::take(&mut self.lines)
    }

    /// As after a restart that knows no more than what was stored.
    fn restart(&mut self, newest_ns: i64) {
        let (place, before) = self.follower.place().unwrap();
        let resume = Resume { place, before, newest_ns, pending: Vec::new() };
        self.follower = Follower::resume(&self.path(""), moment_of, &resume);
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.folder).unwrap();
    }
}

#[test]
fn what_is_just_being_copied_is_read_where_it_was() {
    let mut log = Log::new("copied", Begin::Whole, &[("", "3 c\n4 d\n"), (".1", "3 c\n"), (".2", "1 a\n2 b\n")]);
    // The copy is half done, then whole, and then the original is cut and written again.
    assert_eq!(log.read(), ["1 a", "2 b", "3 c", "4 d"]);
    log.append("", "5 e\n");
    write(log.path(".1"), "3 c\n4 d\n5 e\n").unwrap();
    write(log.path(""), "6 f\n").unwrap();
    assert_eq!(log.read(), ["5 e", "6 f"]);
    assert_eq!(log.follower.take_gaps(), 0);
}

#[test]
fn what_was_cut_without_a_copy_begins_again_and_older_files_do_not() {
    for restarted in [false, true] {
        let mut log = Log::new("cut", Begin::Whole, &[("", "4 d\n"), (".1", "2 b\n3 c\n"), (".2", "1 a\n")]);
        assert_eq!(log.read().len(), 4);
        write(log.path(""), "").unwrap();
        if restarted {
            log.restart(4);
        }
        assert_eq!(log.read(), [""; 0]);
        // Files that are removed go in any order.
        remove_file(log.path(".1")).unwrap();
        assert_eq!(log.read(), [""; 0]);
        log.append("", "5 e\n");
        log.rotate("6 f\n");
        assert_eq!(log.read(), ["5 e", "6 f"]);
    }
}

#[test]
fn a_first_file_that_was_cut_while_nobody_read_is_known_by_its_moments() {
    let mut log = Log::new("moments", Begin::Whole, &[("", "2 b\n"), (".1", "1 a\n")]);
    assert_eq!(log.read().len(), 2);
    let (place, _) = log.follower.place().unwrap();
    write(log.path(""), "3 c\n").unwrap();
    let resume = Resume { place, before: None, newest_ns: 2, pending: Vec::new() };
    log.follower = Follower::resume(&log.path(""), moment_of, &resume);
    assert_eq!(log.read(), ["3 c"]);
}

#[test]
fn files_that_begin_with_the_same_line_are_told_apart() {
    let mut log = Log::new("same", Begin::Whole, &[("", "banner\n1\n")]);
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
fn what_is_written_to_a_file_after_it_was_renamed_is_read() {
    let mut log = Log::new("renamed", Begin::Whole, &[("", "1 a\n")]);
    assert_eq!(log.read(), ["1 a"]);
    // As logrotate does: the program goes on with the old file until it is told to open its log again.
    log.rotate("");
    log.append(".1", "2 b\n");
    assert_eq!(log.read(), ["2 b"]);
    log.append(".1", "3 c\n4 without an end");
    log.append("", "5 e\n");
    assert_eq!(log.read(), ["3 c", "4 without an end", "5 e"]);
}

#[test]
fn several_rotations_are_read_whether_packed_or_not() {
    let mut log = Log::new("several", Begin::Whole, &[("", "1 a\n")]);
    assert_eq!(log.read(), ["1 a"]);
    log.append("", "2 b\n");
    log.rotate("3 c\n");
    log.pack(".1", ".2.gz");
    log.rotate("4 d\n");
    for restarted in [false, true] {
        if restarted {
            log.restart(0);
        }
        let expected: &[&str] = if restarted { &[] } else { &["2 b", "3 c", "4 d"] };
        assert_eq!(log.read(), expected);
    }
    assert_eq!(log.follower.take_gaps(), 0);
    // All that was known is gone.
    for suffix in [".1", ".2.gz"] {
        remove_file(log.path(suffix)).unwrap();
    }
    write(log.path(".1"), "6 f\n").unwrap();
    write(log.path(""), "7 g\n").unwrap();
    assert_eq!(log.read(), ["6 f", "7 g"]);
    assert_eq!(log.follower.take_gaps(), 1);
}

#[test]
fn a_damaged_file_is_given_up_and_counted() {
    let text: String = (0..2_000).map(|n| format!("{n} {}\n", n * 7_919 % 1_000)).collect();
    let mut log = Log::new("damaged", Begin::Whole, &[(".1", &text), ("", "9999 end\n")]);
    log.pack(".1", ".1.gz");
    let packed = read(log.path(".1.gz")).unwrap();
    write(log.path(".1.gz"), &packed[..packed.len() / 2]).unwrap();
    write(log.path(".2.gz"), "not packed at all").unwrap();
    let lines = log.read();
    assert!(lines.len() > 100 && lines[0] == "0 0", "{} lines", lines.len());
    assert_eq!(lines.last().unwrap(), "9999 end");
    assert_eq!(log.follower.take_gaps(), 1);
}

#[test]
fn the_last_bytes_begin_with_a_whole_line_and_reach_over_files() {
    for (bytes, lines) in [(1, 0), (4, 0), (5, 1), (6, 1), (10, 2), (14, 2), (15, 3), (20, 4), (99, 4)] {
        let mut log = Log::new("tail", Begin::Tail(bytes), &[("", "3 cc\n4 dd\n"), (".1", "1 aa\n2 bb\n")]);
        assert_eq!(log.read(), ["1 aa", "2 bb", "3 cc", "4 dd"][4 - lines..], "{bytes} bytes");
    }
}

#[test]
fn a_file_known_by_its_inode_alone_goes_on_where_it_was() {
    let mut log = Log::new("inode", Begin::Whole, &[("", "1 a\n2 b\n")]);
    let inode = Inode::at(&log.path("")).unwrap().unwrap().number();
    log.rotate("3 c\n");
    let resume = Resume {
        place: Place { file: Fingerprint::default(), inode, offset: 4 },
        before: None,
        newest_ns: 1,
        pending: Vec::new(),
    };
    log.follower = Follower::resume(&log.path(""), moment_of, &resume);
    assert_eq!(log.read(), ["2 b", "3 c"]);
}
