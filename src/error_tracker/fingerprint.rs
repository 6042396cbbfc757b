//! Groups alike errors under one fingerprint.

use std::fmt;

use super::location::{self, Location};

const HEX: &[u8; 16] = b"0123456789abcdef";

/// What alike errors share: the MD5 (RFC 1321) of project, exception type and location, written as 32 lower-case hex
/// digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Fingerprint([u8; 16]);

/// The fingerprints of one report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fingerprints<'t> {
    /// Names the group of a new error.
    pub(super) primary: Fingerprint,
    /// What the original made of the same report, where that differs: a group that has it already keeps the report.
    pub(super) original: Option<Fingerprint>,
    /// Where the error was raised, borrowed from the traceback and as long as that made it.
    pub(super) location: Option<Location<'t>>,
}

/// The fingerprints of a report: MD5 of `project:exception_type:file:line`, where no location is found of
/// `project:exception_type:traceback`.
///
/// A location the original finds always counts; one that only we find makes `primary`, and what the original hashed
/// instead, the whole text, becomes `original`. Takes time linear in the length of the arguments.
pub(super) fn fingerprints<'t>(project: &str, exception_type: &str, traceback: &'t str) -> Fingerprints<'t> {
    let at = |location: Location<'_>| Fingerprint::of(&[project, exception_type, location.file, location.line]);
    let whole = || Fingerprint::of(&[project, exception_type, traceback]);

    if let Some(location) = location::by_the_original_rules(traceback) {
        return Fingerprints { primary: at(location), original: None, location: Some(location) };
    }
    match location::in_further_languages(traceback) {
        Some(location) => Fingerprints { primary: at(location), original: Some(whole()), location: Some(location) },
        None => Fingerprints { primary: whole(), original: None, location: None },
    }
}

impl Fingerprint {
    /// A stored fingerprint: exactly 32 lower-case hex digits. `None` for anything else.
    pub(super) fn from_hex(hex: &str) -> Option<Self> {
        let digits: &[u8; 32] = hex.as_bytes().try_into().ok()?;
        let mut bytes = [0; 16];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
        }
        Some(Self(bytes))
    }

    /// As it is stored.
    pub(super) fn bytes(self) -> [u8; 16] {
        self.0
    }

    /// MD5 of the parts with a colon between each two.
    fn of(parts: &[&str]) -> Self {
        let mut md5 = md5::Context::new();
        for (i, part) in parts.iter().enumerate() {
            if i > 0 {
                md5.consume(":");
            }
            md5.consume(part);
        }
        Self(md5.finalize().into())
    }
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut digits = [0; 32];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(self.0) {
            pair[0] = HEX[usize::from(byte >> 4)];
            pair[1] = HEX[usize::from(byte & 0xf)];
        }
        f.write_str(std::str::from_utf8(&digits).expect("hex digits are ASCII"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(serde::Deserialize)]
    struct Case {
        case: String,
        project: String,
        exception_type: String,
        traceback: String,
        fingerprint: String,
    }

    #[test]
    fn every_report_gets_the_fingerprint_the_original_gave_it() {
        let cases: Vec<Case> =
            serde_json::from_str(include_str!("../../tests/fixtures/fingerprints.json")).expect("the fixture is JSON");
        assert_eq!(cases.len(), 20);
        for Case { case, project, exception_type, traceback, fingerprint } in cases {
            let ours = fingerprints(&project, &exception_type, &traceback);
            let better = match case.as_str() {
                "go panic" => Some("svc:panic:/app/main.go:12"),
                "php" => Some("svc:E:/app/a.php:3"),
                _ => None,
            };
            let as_the_original = ours.original.unwrap_or(ours.primary);
            assert_eq!(as_the_original.to_string(), fingerprint, "{case}");
            assert_eq!(ours.original.is_some(), better.is_some(), "{case}");
            if let Some(text) = better {
                assert_eq!(ours.primary, Fingerprint::of(&[text]), "{case}");
            }
        }
    }

    #[test]
    fn one_place_is_one_group_whatever_the_message() {
        let panic = |message: &str| format!("thread 'main' panicked at src/main.rs:3:5:\n{message}\n");
        let (one, other) = (panic("no order 1"), panic("no order 2"));
        let (one, other) = (fingerprints("shop", "panic", &one), fingerprints("shop", "panic", &other));
        assert_eq!(one.primary, other.primary);
        assert_ne!(one.original, other.original);
    }

    #[test]
    fn project_type_file_and_line_each_tell_groups_apart() {
        let frame = "  File \"/app/pay.py\", line 42, in charge";
        let here = fingerprints("shop", "ValueError", frame).primary;
        for (project, exception_type, traceback) in [
            ("blog", "ValueError", frame),
            ("shop", "TypeError", frame),
            ("shop", "ValueError", "  File \"/app/buy.py\", line 42, in charge"),
            ("shop", "ValueError", "  File \"/app/pay.py\", line 43, in charge"),
        ] {
            assert_ne!(fingerprints(project, exception_type, traceback).primary, here, "{project} {exception_type}");
        }
    }

    #[test]
    fn only_what_is_written_is_read_from_hex() {
        let hex = "060c2827b046583daadb502c832ad30a";
        assert_eq!(Fingerprint::from_hex(hex).map(|read| read.to_string()).as_deref(), Some(hex));
        for wrong in ["", "060c2827b046583daadb502c832ad30", "060C2827B046583DAADB502C832AD30A", &hex.replace('a', "é")]
        {
            assert_eq!(Fingerprint::from_hex(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn hex_goes_there_and_back(bytes: [u8; 16]) {
            let fingerprint = Fingerprint(bytes);
            prop_assert_eq!(Fingerprint::from_hex(&fingerprint.to_string()), Some(fingerprint));
        }

        #[test]
        fn a_location_of_the_original_leaves_one_fingerprint(traceback in location::tests::tracebacks()) {
            let found = fingerprints("shop", "Error", &traceback);
            prop_assert_eq!(found, fingerprints("shop", "Error", &traceback));
            match location::by_the_original_rules(&traceback) {
                Some(place) => {
                    prop_assert_eq!(found.location, Some(place));
                    prop_assert_eq!(found.original, None);
                    prop_assert_eq!(found.primary, Fingerprint::of(&[&format!("shop:Error:{place}")]));
                }
                None => {
                    let whole = Fingerprint::of(&["shop", "Error", &traceback]);
                    prop_assert_eq!(found.original.unwrap_or(found.primary), whole);
                    prop_assert_eq!(found.original.is_some(), found.location.is_some());
                }
            }
        }
    }
}
