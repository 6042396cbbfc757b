//! Fingerprints that group reports of the same error.

use std::fmt;

use crate::trace::{Location, extended_location, legacy_location};

const HEX: &[u8; 16] = b"0123456789abcdef";

/// The identity of a group: the MD5 (RFC 1321) of project, exception type and location, written as 32 lower-case hex
/// digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Fingerprint([u8; 16]);

/// The fingerprints of one report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fingerprints<'t> {
    /// Fingerprint of the group that is created for a new error.
    pub(super) primary: Fingerprint,
    /// Fingerprint that the original Monlight gave the same report, if it differs. If a group has it, the report belongs
    /// to that group.
    pub(super) original: Option<Fingerprint>,
    /// Source location where the error was raised, borrowed from the traceback and unbounded.
    pub(super) location: Option<Location<'t>>,
}

/// Returns the fingerprints of a report: the MD5 of `project:exception_type:file:line`, or if no location is found, of
/// `project:exception_type:traceback`.
///
/// A location that the original's rules find always decides. A location that only the extended rules find makes
/// `primary`; the hash of the whole text, which the original used for such reports, becomes `original`. Takes time linear
/// in the length of the arguments.
pub(super) fn fingerprints<'t>(project: &str, exception_type: &str, traceback: &'t str) -> Fingerprints<'t> {
    let at = |location: Location<'_>| Fingerprint::from_parts(&[project, exception_type, location.file, location.line]);
    let whole_text = || Fingerprint::from_parts(&[project, exception_type, traceback]);

    if let Some(location) = legacy_location(traceback) {
        return Fingerprints { primary: at(location), original: None, location: Some(location) };
    }
    match extended_location(traceback) {
        Some(location) => {
            Fingerprints { primary: at(location), original: Some(whole_text()), location: Some(location) }
        }
        None => Fingerprints { primary: whole_text(), original: None, location: None },
    }
}

impl Fingerprint {
    /// Parses a stored fingerprint, which has exactly 32 lower-case hex digits. Returns `None` for anything else.
    pub(super) fn from_hex(hex: &str) -> Option<Self> {
        let digits: &[u8; 32] = hex.as_bytes().try_into().ok()?;
        let mut bytes = [0; 16];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
        }
        Some(Self(bytes))
    }

    /// Returns the 16 bytes that are stored.
    pub(super) fn bytes(self) -> [u8; 16] {
        self.0
    }

    /// Creates a fingerprint from its stored bytes.
    pub(super) fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Returns the MD5 of the parts, joined by colons.
    fn from_parts(parts: &[&str]) -> Self {
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
    use crate::trace::test_strategies::tracebacks;
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
    fn fingerprints_equal_those_of_the_original() {
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
            let legacy = ours.original.unwrap_or(ours.primary);
            assert_eq!(legacy.to_string(), fingerprint, "{case}");
            assert_eq!(ours.original.is_some(), better.is_some(), "{case}");
            if let Some(key) = better {
                assert_eq!(ours.primary, Fingerprint::from_parts(&[key]), "{case}");
            }
        }
    }

    #[test]
    fn the_message_does_not_separate_groups() {
        let panic = |message: &str| format!("thread 'main' panicked at src/main.rs:3:5:\n{message}\n");
        let (one, other) = (panic("no order 1"), panic("no order 2"));
        let (one, other) = (fingerprints("shop", "panic", &one), fingerprints("shop", "panic", &other));
        assert_eq!(one.primary, other.primary);
        assert_ne!(one.original, other.original);
    }

    #[test]
    fn project_type_file_and_line_separate_groups() {
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
    fn only_lowercase_hex_of_full_length_is_parsed() {
        let hex = "060c2827b046583daadb502c832ad30a";
        assert_eq!(Fingerprint::from_hex(hex).map(|parsed| parsed.to_string()).as_deref(), Some(hex));
        for wrong in ["", "060c2827b046583daadb502c832ad30", "060C2827B046583DAADB502C832AD30A", &hex.replace('a', "é")]
        {
            assert_eq!(Fingerprint::from_hex(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn hex_round_trips(bytes: [u8; 16]) {
            let fingerprint = Fingerprint(bytes);
            prop_assert_eq!(Fingerprint::from_hex(&fingerprint.to_string()), Some(fingerprint));
        }

        #[test]
        fn a_legacy_location_leaves_one_fingerprint(traceback in tracebacks()) {
            let found = fingerprints("shop", "Error", &traceback);
            prop_assert_eq!(found, fingerprints("shop", "Error", &traceback));
            match legacy_location(&traceback) {
                Some(location) => {
                    prop_assert_eq!(found.location, Some(location));
                    prop_assert_eq!(found.original, None);
                    prop_assert_eq!(found.primary, Fingerprint::from_parts(&[&format!("shop:Error:{location}")]));
                }
                None => {
                    let whole_text = Fingerprint::from_parts(&["shop", "Error", &traceback]);
                    prop_assert_eq!(found.original.unwrap_or(found.primary), whole_text);
                    prop_assert_eq!(found.original.is_some(), found.location.is_some());
                }
            }
        }
    }
}
