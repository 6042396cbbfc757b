//! A release sets the version where it stands, and commits and tags; what would be a mistake is refused.

use std::path::Path;
use std::process::{Command, Output};

use crate::harness::{TempDir, skip};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// What has a version in it, and what sets it.
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

fn git(folder: &TempDir, arguments: &[&str]) -> Output {
    let author = ["-c", "user.name=Test", "-c", "user.email=test@example.com", "-c", "commit.gpgsign=false"];
    Command::new("git").args(author).args(arguments).current_dir(folder.path()).output().unwrap()
}

/// Runs it; answers whether it went well, and what it said.
fn release(folder: &TempDir, arguments: &[&str]) -> (bool, String) {
    let names = ["GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME"].map(|name| (name, "Test"));
    let mails = ["GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"].map(|name| (name, "test@example.com"));
    let output =
        Command::new("deploy/release.sh").args(arguments).envs(names).envs(mails).current_dir(folder.path()).output();
    let output = output.unwrap();
    (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

#[test]
fn a_release_is_one_commit_and_its_tags() {
    if Command::new("git").arg("--version").output().is_err() {
        return skip("there is no git");
    }
    let folder = TempDir::new();
    let at = |name: &str| folder.path().join(name);
    for name in FILES {
        std::fs::create_dir_all(at(name).parent().unwrap()).unwrap();
        std::fs::copy(Path::new(ROOT).join(name), at(name)).unwrap();
    }
    // Whatever was released since, one part is not.
    let changelog = std::fs::read_to_string(at("CHANGELOG.md")).unwrap();
    let first = changelog.lines().find(|line| line.starts_with("## ")).unwrap();
    std::fs::write(at("CHANGELOG.md"), changelog.replacen(first, "## next (unreleased)", 1)).unwrap();
    for arguments in [&["init", "--quiet"][..], &["add", "."], &["commit", "--quiet", "--message", "Begin"]] {
        assert!(git(&folder, arguments).status.success());
    }
    for (arguments, says) in [
        (&["services", "0.0.1"][..], "cannot release services: version 0.0.1 is not higher than"),
        (&["python", "1.2"], "'1.2' is not a valid version (example: 1.4.2)"),
        (&["js"], "'' is not a valid version"),
        (&["relay", "9.9.9"], "Usage: "),
    ] {
        let (is_done, said) = release(&folder, arguments);
        assert!(!is_done && said.contains(says), "{arguments:?}: {said}");
    }
    std::fs::write(at("stray"), "").unwrap();
    let (is_done, said) = release(&folder, &["all", "77.10.0"]);
    assert!(!is_done && said.contains("uncommitted changes"), "{said}");
    std::fs::remove_file(at("stray")).unwrap();

    let (is_done, said) = release(&folder, &["services", "77.9.0"]);
    assert!(is_done && said.contains("tagged services-v77.9.0"), "{said}");
    let changed = String::from_utf8(git(&folder, &["show", "--stat", "--format=%s"]).stdout).unwrap();
    assert!(
        changed.contains("release: bump services to 77.9.0")
            && changed.contains("4 files changed, 4 insertions(+), 4 deletions(-)"),
        "{changed}"
    );
    let changelog = std::fs::read_to_string(at("CHANGELOG.md")).unwrap();
    assert!(changelog.contains("\n## 77.9.0 (2") && !changelog.contains("(unreleased)"), "{changelog}");
    let (is_done, said) = release(&folder, &["services", "77.10.0"]);
    assert!(!is_done && said.contains("no section marked (unreleased)"), "{said}");
    assert!(git(&folder, &["checkout", "--quiet", "."]).status.success());

    let (is_done, said) = release(&folder, &["js", "77.10.0"]);
    assert!(is_done, "{said}");
    let lock: serde_json::Value =
        serde_json::from_slice(&std::fs::read(at("sdk/js/package-lock.json")).unwrap()).unwrap();
    assert_eq!((&lock["version"], &lock["packages"][""]["version"]), (&"77.10.0".into(), &"77.10.0".into()));
    let (is_done, said) = release(&folder, &["python", "77.10.0"]);
    assert!(is_done, "{said}");
    let (_, said) = release(&folder, &["versions"]);
    let versions: Vec<&str> = said.split_whitespace().collect();
    assert_eq!(versions, ["services", "77.9.0", "python", "77.10.0", "js", "77.10.0"]);
    let tags = String::from_utf8(git(&folder, &["tag"]).stdout).unwrap();
    assert_eq!(tags.lines().collect::<Vec<_>>(), ["js-v77.10.0", "python-v77.10.0", "services-v77.9.0"]);
}
