//! Third-party programs and libraries for interoperability tests. `make peers` unpacks them without installing; copies
//! that this machine has installed are used as well.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::harness::skip;

/// Returns the folder that `make peers` unpacks into, or an empty path if `MONLIGHT_TEST_PEERS` is not set.
fn unpack_dir() -> PathBuf {
    std::env::var_os("MONLIGHT_TEST_PEERS").unwrap_or_default().into()
}

/// Returns the library folders under `root`.
fn library_dirs(root: &Path) -> [PathBuf; 2] {
    let name = format!("{}-linux-gnu", std::env::consts::ARCH);
    ["usr/lib", "lib"].map(|folder| root.join(folder).join(&name))
}

/// Returns the path of a program; skips the test and returns `None` if it is not available.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = ["usr/sbin", "usr/bin", "litestream/bin"].map(|folder| unpack_dir().join(folder));
    let program = folders
        .into_iter()
        .chain(std::env::split_paths(&path))
        .map(|folder| folder.join(name))
        .find(|file| file.exists());
    if program.is_none() {
        skip(&format!("{name} is not installed; run `make peers`"));
    }
    program
}

/// Returns a command for a program, with the unpacked libraries on its library path.
pub fn command(name: &str) -> Option<Command> {
    let mut command = Command::new(find_program(name)?);
    let [usr, root] = library_dirs(&unpack_dir());
    command.env("LD_LIBRARY_PATH", format!("{}:{}", usr.display(), root.display()));
    Some(command)
}

/// Returns the path of a shared library; skips the test and returns `None` if it is not available.
pub fn find_library(name: &str) -> Option<PathBuf> {
    let roots = [unpack_dir(), "/".into()];
    let library =
        roots.iter().flat_map(|root| library_dirs(root)).map(|folder| folder.join(name)).find(|file| file.exists());
    if library.is_none() {
        skip(&format!("{name} is not installed; run `make peers`"));
    }
    library
}
