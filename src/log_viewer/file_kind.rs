//! Kinds of files that cannot be followed as text, by their first bytes.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

const COMPRESSED: &str = "compressed, so no program appends lines to it; name the file that is written to";

/// First bytes of a kind of file, and what the file is.
const KINDS: [(&[u8], &str); 8] = [
    (b"\x1f\x8b", COMPRESSED),
    (b"\xfd7zXZ", COMPRESSED),
    (b"\x28\xb5\x2f\xfd", COMPRESSED),
    (b"BZh", COMPRESSED),
    (b"PK\x03\x04", COMPRESSED),
    (b"\xff\xfe", UTF_16),
    (b"\xfe\xff", UTF_16),
    (b"LPKSHHRH", "a systemd journal; read it with journalctl, for example: journalctl -f -o short-iso > journal.log"),
];
const UTF_16: &str = "UTF-16 text, which is not supported; let the program write UTF-8";

/// Returns what the file is, if it cannot be followed as text.
pub(super) fn unsupported_kind(file: &File) -> Option<&'static str> {
    let mut start = [0; 8];
    let read = file.read_at(&mut start, 0).unwrap_or(0);
    KINDS.iter().find(|(first, _)| start[..read].starts_with(first)).map(|(_, kind)| *kind)
}
