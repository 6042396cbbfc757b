//! Programs and libraries of others that `make peers` unpacked for the tests, or that are on this machine anyway.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::skip;

/// Where `make peers` unpacks them; empty where it was not run.
fn unpacked() -> PathBuf {
    std::env::var_os("MONLIGHT_TEST_PEERS").unwrap_or_default().into()
}

/// Folders of libraries below another.
fn libraries(below: &Path) -> [PathBuf; 2] {
    let name = format!("{}-linux-gnu", std::env::consts::ARCH);
    ["usr/lib", "lib"].map(|folder| below.join(folder).join(&name))
}

/// Where a program is; says so where it is not.
pub fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = ["usr/sbin", "usr/bin", "litestream/bin"].map(|folder| unpacked().join(folder));
    let found = folders
        .into_iter()
        .chain(std::env::split_paths(&path))
        .map(|folder| folder.join(name))
        .find(|file| file.exists());
    if found.is_none() {
        skip(&format!("there is no {name}: make peers"));
    }
    found
}

/// A program with the libraries that were unpacked beside it.
pub fn command(name: &str) -> Option<Command> {
    let mut command = Command::new(program(name)?);
    let [usr, root] = libraries(&unpacked());
    command.env("LD_LIBRARY_PATH", format!("{}:{}", usr.display(), root.display()));
    Some(command)
}

/// Where a library is; says so where it is not.
pub fn library(name: &str) -> Option<PathBuf> {
    let folders = [unpacked(), "/".into()];
    let found =
        folders.iter().flat_map(|below| libraries(below)).map(|folder| folder.join(name)).find(|file| file.exists());
    if found.is_none() {
        skip(&format!("there is no {name}: make peers"));
    }
    found
}
