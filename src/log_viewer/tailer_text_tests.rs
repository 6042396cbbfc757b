//! Text files, which any program rotates to any name.

use std::fs::{copy, create_dir_all};
use std::os::unix::fs::symlink;

use super::*;

/// Command that moves the file while the viewer does not read it.
type Rotate = fn(&Log);

fn text_log(name: &str, content: &str) -> Log {
    let traits = LogTraits { timestamp_of: |_| None, rotated_by_others: true };
    Log::with_traits(name, StartAt::Beginning, &[("", content)], traits)
}

impl Log {
    /// Moves the active file to another name in the folder, which can be that of a compressed file.
    fn move_to(&self, name: &str) {
        create_dir_all(self.folder.join(name).parent().unwrap()).unwrap();
        rename(self.path(""), self.folder.join(name.trim_end_matches(".gz"))).unwrap();
        if name.ends_with(".gz") {
            let content = read(self.folder.join(name.trim_end_matches(".gz"))).unwrap();
            let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
            gzip.write_all(&content).unwrap();
            write(self.folder.join(name), gzip.finish().unwrap()).unwrap();
            remove_file(self.folder.join(name.trim_end_matches(".gz"))).unwrap();
        }
    }

    /// Closes the files, so that their inodes can be used again, and continues at the checkpoint after `change`.
    fn stop_while(&mut self, change: impl FnOnce(&Self)) {
        let positions = self.tailer.positions().unwrap();
        self.tailer = LogTailer::start(&self.folder.join("none"), self.traits, StartAt::Beginning).unwrap();
        let newest_ns = std::time::SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
        change(self);
        let newest_ns = i64::try_from(newest_ns).unwrap();
        self.resume(&Checkpoint { positions, newest_ns, pending_lines: Vec::new() });
    }
}

fn lines(range: std::ops::RangeInclusive<u32>) -> String {
    range.map(|number| format!("line {number}\n")).collect()
}

#[test]
fn a_file_replaced_by_one_with_the_same_first_line_is_read() {
    let replace: [(&str, Rotate); 4] = [
        ("removed", |log| remove_file(log.path("")).unwrap()),
        ("moved", |log| log.move_to("a.log.bak")),
        ("rotated", |log| log.move_to("a.log.1")),
        ("truncated", |log| write(log.path(""), "").unwrap()),
    ];
    for (first, (how, replace)) in ["", "=== shop started ===", "#Fields: a b"]
        .iter()
        .zip(replace.iter().cycle())
        .chain(["\n\nhead"; 4].iter().zip(&replace))
    {
        for stopped in [false, true] {
            let mut log = text_log("replaced", &format!("{first}\na1\na2\n"));
            assert_eq!(log.read().len(), 3 + first.matches('\n').count(), "{first:?}");
            let change = |log: &Log| {
                replace(log);
                log.append("", &format!("{first}\n{}", lines(1..=50)));
            };
            if stopped {
                log.stop_while(change);
            } else {
                change(&log);
            }
            let expected = format!("{first}\n{}", lines(1..=60));
            let mut read = log.read();
            log.append("", &lines(51..=60));
            read.append(&mut log.read());
            assert_eq!(read.join("\n") + "\n", expected, "{how}, stopped: {stopped}");
            let is_gap = stopped && ["removed", "truncated"].contains(how);
            assert_eq!(log.tailer.take_missed_rotations(), u64::from(is_gap), "{how}, stopped: {stopped}");
        }
    }
}

#[test]
fn a_file_replaced_by_its_copy_is_continued() {
    for stopped in [false, true] {
        let mut log = text_log("copied-over", &lines(1..=10));
        assert_eq!(log.read().len(), 10);
        let change = |log: &Log| {
            copy(log.path(""), log.folder.join("new")).unwrap();
            rename(log.folder.join("new"), log.path("")).unwrap();
            log.append("", "line 11\n");
        };
        if stopped {
            log.stop_while(change);
        } else {
            change(&log);
        }
        assert_eq!(log.read(), ["line 11"], "stopped: {stopped}");
        log.append("", "line 12\n");
        assert_eq!(log.read(), ["line 12"]);
        assert_eq!(log.tailer.take_missed_rotations(), 0);
    }
}

#[test]
fn a_file_is_read_while_others_still_write_to_it() {
    for name in ["a.log.1", "a.log.bak", "old/a.log"] {
        let mut log = text_log("late", "a1\n");
        assert_eq!(log.read(), ["a1"]);
        let mut writer = OpenOptions::new().append(true).open(log.path("")).unwrap();
        let mut write_late = |text: &str| writer.write_all(text.as_bytes()).unwrap();
        log.move_to(name);
        log.append("", "b1\n");
        assert_eq!(log.read(), ["b1"]);
        write_late("a2 late\na3 in ");
        log.append("", "b2\n");
        assert_eq!(log.read(), ["a2 late", "b2"]);
        write_late("two parts\n");
        assert_eq!(log.read(), ["a3 in two parts"]);
        // A restart continues in both files, also if one is rotated again.
        log.stop_while(|log| {
            write_late("a4\n");
            log.append("", "b3\n");
            log.move_to("a.log.2");
            log.append("", "c1\n");
        });
        assert_eq!(log.read(), ["a4", "b3", "c1"], "{name}");
        write_late("a5\n");
        log.append(".2", "b4\n");
        assert_eq!(log.read(), ["a5", "b4"], "{name}");
        assert_eq!(log.tailer.take_missed_rotations(), 0);
    }
}

#[test]
fn the_oldest_of_too_many_replaced_files_is_closed() {
    let mut log = text_log("many", "0\n");
    for number in 1..=6 {
        log.move_to(&format!("a.log-2026010{number}"));
        log.append("", &format!("{number}\n"));
        log.read();
    }
    for number in 1..=6 {
        log.append(&format!("-2026010{number}"), &format!("late {number}\n"));
    }
    assert_eq!(log.read(), ["late 3", "late 4", "late 5", "late 6"]);
}

#[test]
fn a_file_rotated_to_any_name_while_stopped_is_found() {
    for name in [
        "a.log.1",
        "a.log.1.gz",
        "a.log.old",
        "a.log.bak",
        "a.log-20260131",
        "a.log.2026-01-30",
        "a.log.2026-01-30_12",
        "a.log.2026-01-30.gz",
        "a.2026-01-30.log",
        "a.2026-01-30.0.log.gz",
        "a-1.log",
        "a.1.log",
        "a-2026-01-30T12-00-00.000.log",
        "a-2026-01-30T12-00-00.000.log.gz",
        "old/a.log",
        "archive/2026-01-30.gz",
    ] {
        let mut log = text_log("any", &format!("head\n{}", lines(1..=10)));
        // Similar files of other programs.
        write(log.folder.join("a-worker.log"), "head\nother\n").unwrap();
        write(log.folder.join("b.log"), format!("head\n{}", lines(1..=3))).unwrap();
        assert_eq!(log.read().len(), 11);
        log.stop_while(|log| {
            log.append("", &lines(11..=15));
            log.move_to(name);
            log.append("", &format!("head\n{}", lines(16..=20)));
        });
        let mut expected: Vec<String> = (11..=20).map(|number| format!("line {number}")).collect();
        expected.insert(5, "head".into());
        assert_eq!(log.read(), expected, "{name}");
        assert_eq!(log.tailer.take_missed_rotations(), 0, "{name}");
    }
}

#[test]
fn several_files_rotated_to_names_of_one_kind_are_read_in_order() {
    for [first, second, third] in [
        ["a-2026-01-30.log", "a-2026-01-31.log.gz", "a-2026-02-01.log"],
        ["a.log.2026-01-30_22", "a.log.2026-01-30_23.gz", "a.log.2026-01-31_00"],
        ["a-1.log", "a-2.log", "a-3.log"],
        ["old/a.log.20260130", "old/a.log.20260131", "old/a.log.20260201.gz"],
    ] {
        for stopped in [false, true] {
            let mut log = text_log("kind", &lines(1..=10));
            assert_eq!(log.read().len(), 10);
            let change = |log: &Log| {
                for (start, name) in [(11, first), (21, second), (31, third)] {
                    log.append("", &lines(start..=start + 9));
                    log.move_to(name);
                    // Without a date, files are in the order of their last changes.
                    let file = log.folder.join(name);
                    let at = UNIX_EPOCH + Duration::from_secs(start.into());
                    std::fs::File::options().append(true).open(file).unwrap().set_modified(at).unwrap();
                }
                log.append("", &lines(41..=45));
            };
            if stopped {
                log.stop_while(change);
            } else {
                change(&log);
            }
            assert_eq!(log.read().join("\n") + "\n", lines(11..=45), "{first}, stopped: {stopped}");
            assert_eq!(log.tailer.take_missed_rotations(), 0, "{first}, stopped: {stopped}");
        }
    }
}

#[test]
fn a_file_that_cannot_be_read_any_more_is_a_gap() {
    for name in ["a.log.1.bz2", "a.log.zst"] {
        let mut log = text_log("unreadable", &lines(1..=10));
        assert_eq!(log.read().len(), 10);
        log.stop_while(|log| {
            log.append("", &lines(11..=15));
            remove_file(log.path("")).unwrap();
            write(log.folder.join(name), b"BZh91AY&SY\n\0\xff\n").unwrap();
            log.append("", &lines(16..=20));
        });
        assert_eq!(log.read().join("\n") + "\n", lines(16..=20));
        assert_eq!(log.tailer.take_missed_rotations(), 1, "{name}");
    }
}

#[test]
fn a_link_to_a_dated_file_is_followed_to_the_next_one() {
    for stopped in [false, true] {
        let mut log = text_log("link", "");
        let name = |day: u32| log.folder.join(format!("a-2026-01-{day}.log"));
        remove_file(log.path("")).unwrap();
        let names = [name(29), name(30), name(31)];
        write(&names[0], "a1\n").unwrap();
        symlink(&names[0], log.path("")).unwrap();
        assert_eq!(log.read(), ["a1"]);
        let change = |log: &Log| {
            for (name, text) in names[1..].iter().zip(["b1\n", "c1\n"]) {
                write(name, text).unwrap();
                remove_file(log.path("")).unwrap();
                symlink(name, log.path("")).unwrap();
            }
            write(&names[0], "a1\na2\n").unwrap();
        };
        if stopped {
            log.stop_while(change);
        } else {
            change(&log);
        }
        assert_eq!(log.read(), ["a2", "b1", "c1"], "stopped: {stopped}");
        assert_eq!(log.tailer.take_missed_rotations(), 0);
    }
}
