//! Names of rotated files, and the order of the files that they imply.

use std::cmp::Reverse;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Maximum number of digits of the `1` in `app.log.1`. More are a date.
const ROTATION_NUMBER_DIGITS_MAX: usize = 5;
/// Lowest number in a name that is taken for a date, such as `2026` or `20260131`.
const YEAR_MIN: u64 = 1_000;

/// Position of a file in its rotation set, the newest first.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum NewestFirst {
    /// The program writes to this file.
    Active,
    /// Member of a [`RotatedFamily`]: the numbers of the date in its name or, if that has none, the time of its last change.
    Relative(Reverse<(Vec<u64>, SystemTime)>),
    /// `.1` is newer than `.2`.
    Number(u32),
    /// Numbers of a date, for example of `-20260131` or `.2026-01-31_12`.
    Date(Reverse<Vec<u64>>),
}

impl NewestFirst {
    /// Parses the part of a file name after the name of the log: nothing, `.1` (Docker and logrotate), or a date, such as
    /// `-20260131` (logrotate with `dateext`) or `.2026-01-31` (Python). Returns `None` if it is no suffix of a rotated file.
    pub(super) fn from_suffix(suffix: &str) -> Option<Self> {
        let Some((separator, rest)) = suffix.split_at_checked(1) else { return Some(Self::Active) };
        let is_digit = |byte: u8| byte.is_ascii_digit();
        if separator == "." && rest.len() <= ROTATION_NUMBER_DIGITS_MAX && rest.bytes().all(is_digit) {
            return rest.parse().ok().map(Self::Number);
        }
        let is_date = |byte: u8| is_digit(byte) || b"-_.:T".contains(&byte);
        let is_suffix = ".-_".contains(separator) && rest.starts_with(|first: char| first.is_ascii_digit());
        (is_suffix && rest.bytes().all(is_date)).then(|| Self::Date(Reverse(numbers(rest))))
    }

    /// Adds the time of the file's last change, which decides if there is no date in the name.
    pub(super) fn with_time(self, modified: SystemTime) -> Self {
        match self {
            Self::Relative(Reverse((numbers, _))) if numbers.is_empty() => Self::Relative(Reverse((numbers, modified))),
            order => order,
        }
    }
}

/// Rotated files of a log whose names do not start with the name of the log, for example `app-2026-01-30.log` of `app.log`.
/// They have the folder of one that was recognized by its content, and the same name except for the digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RotatedFamily {
    folder: PathBuf,
    /// Name without digits and without the ending of a compressed file.
    shape: String,
}

impl RotatedFamily {
    /// Returns the family of a rotated file.
    pub(super) fn of(file: &Path) -> Option<Self> {
        Some(Self { folder: file.parent()?.to_owned(), shape: shape(file.file_name()?.to_str()?) })
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns the position of a file in the folder, without the time; `None` if it does not belong to the family.
    pub(super) fn order_of(&self, name: &str) -> Option<NewestFirst> {
        if shape(name) != self.shape {
            return None;
        }
        let mut numbers = numbers(split_gz(name).0);
        // Without a date, some programs count up, and others give the newest file the lowest number.
        if numbers.iter().all(|number| *number < YEAR_MIN) {
            numbers.clear();
        }
        Some(NewestFirst::Relative(Reverse((numbers, SystemTime::UNIX_EPOCH))))
    }
}

/// Splits the ending of a file that is compressed with gzip from a name. Returns whether it has one.
pub(super) fn split_gz(name: &str) -> (&str, bool) {
    name.strip_suffix(".gz").map_or((name, false), |name| (name, true))
}

fn shape(name: &str) -> String {
    split_gz(name).0.chars().filter(|character| !character.is_ascii_digit()).collect()
}

/// Returns all numbers in a name.
fn numbers(name: &str) -> Vec<u64> {
    let digits = name.split(|character: char| !character.is_ascii_digit()).filter(|digits| !digits.is_empty());
    digits.map(|digits| digits.parse().unwrap_or(u64::MAX)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_of_rotated_files_are_in_order() {
        let order = |suffixes: &[&str]| {
            let parsed: Vec<_> = suffixes.iter().map(|suffix| NewestFirst::from_suffix(suffix).unwrap()).collect();
            assert!(parsed.is_sorted() && parsed.iter().zip(&parsed[1..]).all(|(one, next)| one != next), "{parsed:?}");
        };
        order(&["", ".0", ".1", ".2", ".10"]);
        order(&["", "-20260131", "-20260130"]);
        order(&["", "-20260131-1769860800", "-20260131-1769857200", "-20260130-1769770800"]);
        order(&[".20260131", ".20260130"]);
        order(&[".2026-01-31_12", ".2026-01-31_09", ".2026-01-30_23"]);
        order(&[".2026-01-31T12:00:00", ".2026-01-31T09:00:00"]);
        for other in [".gz", ".old", "x", ".1x", "-worker", ".lock", "..1", "2", ". 1"] {
            assert_eq!(NewestFirst::from_suffix(other), None, "{other}");
        }
    }

    #[test]
    fn relatives_have_the_name_of_a_known_file_except_for_digits() {
        let family = |path: &str| RotatedFamily::of(Path::new(path)).unwrap();
        let at = |seconds| SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
        let order = |family: &RotatedFamily, name: &str, seconds| family.order_of(name).unwrap().with_time(at(seconds));
        let dated = family("/log/app-2026-01-30T12-00-00.000.log");
        let newer = order(&dated, "app-2026-01-30T13-00-00.000.log.gz", 1);
        assert!(newer < order(&dated, "app-2026-01-30T12-00-00.000.log", 2));
        for other in ["app.log", "app-worker.log", "app-2026-01-30T12-00-00.000.log.bz2"] {
            assert_eq!(dated.order_of(other), None, "{other}");
        }
        let numbered = family("/log/app-1.log.gz");
        assert!(order(&numbered, "app-1.log.gz", 2) < order(&numbered, "app-2.log", 1));
        assert!(family("/log/app.log.old").order_of("app.log.old").is_some());
    }
}
