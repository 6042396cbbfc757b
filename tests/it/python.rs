//! The Python that some tests need, for servers that are not ours to write.

use std::io::Write as _;
use std::path::PathBuf;

/// The interpreter that `MONLIGHT_TEST_PYTHON` names, with `tests/python/requirements.txt` installed; `make test` makes
/// one. Without it the test is to end; where `CI` is set that is a failure.
pub fn interpreter() -> Option<PathBuf> {
    let given = std::env::var_os("MONLIGHT_TEST_PYTHON").filter(|path| !path.is_empty()).map(PathBuf::from);
    if given.is_none() {
        assert!(std::env::var_os("CI").is_none(), "MONLIGHT_TEST_PYTHON is not set");
        say_skipped("MONLIGHT_TEST_PYTHON is not set");
    }
    given
}

/// Tells whoever runs the tests what was not tested. Unlike `eprintln!` this shows for tests that pass.
pub fn say_skipped(why: &str) {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {why}");
}
