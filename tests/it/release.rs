//! `deploy/release.sh`: sets the version in all files, commits and tags, and rejects invalid releases.

use std::path::Path;
use std::process::{Command, Output};

use crate::support::harness::{TempDir, skip};
use crate::support::programs::{is_installed, output_text};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// Files that contain a version, and the script that sets it.
const FILES: [&str; 8] = [
    "Cargo.toml",
    "Cargo.lock",
    "fuzz/Cargo.lock",
    "CHANGELOG.md",
    "sdk/python/src/monlight/_version.py",
    "sdk/js/package.json",
    "sdk/js/package-lock.json",
    "deploy/release.sh",
];

fn git(checkout: &TempDir, arguments: &[&str]) -> Output {
    let author = ["-c", "user.name=Test", "-c", "user.email=test@example.com", "-c", "commit.gpgsign=false"];
    Command::new("git").args(author).args(arguments).current_dir(checkout.path()).output().unwrap()
}

/// Runs the script; returns whether it succeeded and its output.
fn run_release(checkout: &TempDir, arguments: &[&str]) -> (bool, String) {
    let names = ["GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME"].map(|name| (name, "Test"));
    let mails = ["GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"].map(|name| (name, "test@example.com"));
    let output =
        Command::new("deploy/release.sh").args(arguments).envs(names).envs(mails).current_dir(checkout.path()).output();
    let output = output.unwrap();
    (output.status.success(), output_text(&output))
}

#[test]
fn release_creates_one_commit_and_a_tag() {
    if !is_installed("git") {
        return skip("git is not installed; deploy/release.sh is not tested");
    }
    let checkout = TempDir::new();
    let at = |name: &str| checkout.path().join(name);
    for name in FILES {
        std::fs::create_dir_all(at(name).parent().unwrap()).unwrap();
        std::fs::copy(Path::new(ROOT).join(name), at(name)).unwrap();
    }
    // The script needs an unreleased section, which the real changelog may not have.
    let changelog = std::fs::read_to_string(at("CHANGELOG.md")).unwrap();
    let first = changelog.lines().find(|line| line.starts_with("## ")).unwrap();
    std::fs::write(at("CHANGELOG.md"), changelog.replacen(first, "## next (unreleased)", 1)).unwrap();
    for arguments in [&["init", "--quiet"][..], &["add", "."], &["commit", "--quiet", "--message", "Begin"]] {
        assert!(git(&checkout, arguments).status.success());
    }
    for (arguments, message) in [
        (&["services", "0.0.1"][..], "cannot release services: version 0.0.1 is not higher than"),
        (&["python", "1.2"], "'1.2' is not a valid version (example: 1.4.2)"),
        (&["js"], "'' is not a valid version"),
        (&["relay", "9.9.9"], "Usage: "),
    ] {
        let (success, output) = run_release(&checkout, arguments);
        assert!(!success && output.contains(message), "{arguments:?}: {output}");
    }
    std::fs::write(at("stray"), "").unwrap();
    let (success, output) = run_release(&checkout, &["all", "77.10.0"]);
    assert!(!success && output.contains("uncommitted changes"), "{output}");
    std::fs::remove_file(at("stray")).unwrap();

    let (success, output) = run_release(&checkout, &["services", "77.9.0"]);
    assert!(success && output.contains("tagged services-v77.9.0"), "{output}");
    let commit = String::from_utf8(git(&checkout, &["show", "--stat", "--format=%s"]).stdout).unwrap();
    assert!(
        commit.contains("release: bump services to 77.9.0")
            && commit.contains("4 files changed, 4 insertions(+), 4 deletions(-)"),
        "{commit}"
    );
    let changelog = std::fs::read_to_string(at("CHANGELOG.md")).unwrap();
    assert!(changelog.contains("\n## 77.9.0 (2") && !changelog.contains("(unreleased)"), "{changelog}");
    let (success, output) = run_release(&checkout, &["services", "77.10.0"]);
    assert!(!success && output.contains("no section marked (unreleased)"), "{output}");
    assert!(git(&checkout, &["checkout", "--quiet", "."]).status.success());

    let (success, output) = run_release(&checkout, &["js", "77.10.0"]);
    assert!(success, "{output}");
    let lock: serde_json::Value =
        serde_json::from_slice(&std::fs::read(at("sdk/js/package-lock.json")).unwrap()).unwrap();
    assert_eq!((&lock["version"], &lock["packages"][""]["version"]), (&"77.10.0".into(), &"77.10.0".into()));
    let (success, output) = run_release(&checkout, &["python", "77.10.0"]);
    assert!(success, "{output}");
    let (_, output) = run_release(&checkout, &["versions"]);
    let versions: Vec<&str> = output.split_whitespace().collect();
    assert_eq!(versions, ["services", "77.9.0", "python", "77.10.0", "js", "77.10.0"]);
    let tags = String::from_utf8(git(&checkout, &["tag"]).stdout).unwrap();
    assert_eq!(tags.lines().collect::<Vec<_>>(), ["js-v77.10.0", "python-v77.10.0", "services-v77.9.0"]);
}
