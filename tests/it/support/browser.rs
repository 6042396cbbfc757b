//! Chromium and the Node.js scripts of `tests/browser`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::harness::skip;

fn browser_tests_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser")
}

/// Returns a command that runs a script of `tests/browser` with Node.js. Skips the test and returns `None` if the npm
/// packages of `tests/browser/package-lock.json`, which `make test` installs, are missing.
pub fn node(script: impl AsRef<Path>) -> Option<Command> {
    if !browser_tests_dir().join("node_modules").exists() {
        skip(
            "tests/browser/node_modules is missing (run `npm ci` in tests/browser); the browser packages are not tested",
        );
        return None;
    }
    let mut command = Command::new("node");
    command.arg(browser_tests_dir().join(script)).stderr(Stdio::inherit());
    Some(command)
}

/// Returns the path of Chromium; skips the test and returns `None` if it is not in `PATH`.
pub fn chromium_or_skip() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let chromium = std::env::split_paths(&path).map(|folder| folder.join("chromium")).find(|file| file.exists());
    if chromium.is_none() {
        skip("chromium is not in PATH; pages in a real browser are not tested");
    }
    chromium
}
