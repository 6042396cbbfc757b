//! Releases: `deploy/release.sh` sets the version in all files, commits and tags, and rejects invalid releases; everything that
//! builds and publishes is pinned; the files of a release have an SBOM and checksums.

use std::path::{Path, PathBuf};
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

/// Returns the files in a folder of the repository.
fn files_in(folder: &str) -> Vec<PathBuf> {
    std::fs::read_dir(Path::new(ROOT).join(folder)).unwrap().map(|entry| entry.unwrap().path()).collect()
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// Returns why a line of a workflow or a Dockerfile is not pinned, or `None`.
fn unpinned(line: &str) -> Option<&'static str> {
    let line = line.trim().trim_start_matches("- ");
    if let Some(action) = line.strip_prefix("uses: ") {
        let (name, version) = action.split_once(" # ").unwrap_or((action, ""));
        let commit = name.split_once('@').map_or("", |(_, commit)| commit);
        return (!is_hex(commit, 40) || !version.starts_with('v'))
            .then_some("an action without a commit and its version");
    }
    let image = line.strip_prefix("image: ").or_else(|| line.strip_prefix("ARG NODE_IMAGE="));
    let image = image.or_else(|| line.strip_prefix("ARG RUST_IMAGE="));
    let image = image.or_else(|| line.strip_prefix("FROM ").filter(|from| !from.starts_with("scratch ")));
    let is_stage = |image: &str| image.starts_with("${") || image.starts_with("runtime ");
    if let Some(image) = image.filter(|image| !is_stage(image)) {
        let digest = image.split_once("@sha256:").map_or("", |(_, digest)| digest);
        return (!is_hex(digest, 64)).then_some("an image without a digest");
    }
    let commands = ["pipx run", "npx ", "curl ", "wget ", "npm install", "cargo install"];
    if commands.iter().any(|command| line.contains(command)) {
        return Some("a tool without a lock");
    }
    let installs = line.contains("pip install") && !line.contains("--require-hashes");
    let runs_scripts = line.contains("npm ci") && !line.contains("--ignore-scripts");
    (installs || runs_scripts).then_some("an installation without hashes, or with scripts")
}

#[test]
fn workflows_and_images_use_only_pinned_parts() {
    for (line, is_pinned) in [
        ("- uses: actions/checkout@v5", false),
        ("- uses: pypa/gh-action-pypi-publish@release/v1", false),
        ("- uses: actions/checkout@08c6903cd8c0fde910a37f88322edcfb5dd907a8 # v5.0.0", true),
        ("- uses: actions/checkout@08c6903cd8c0fde910a37f88322edcfb5dd907a8", false),
        ("image: rust:1.91-bookworm", false),
        ("FROM ${RUST_IMAGE} AS builder", true),
        ("FROM node:22 AS interfaces", false),
        ("- run: pipx run build sdk/python", false),
        ("- run: npm ci", false),
        ("- run: npm ci --ignore-scripts", true),
    ] {
        assert_eq!(unpinned(line).is_none(), is_pinned, "{line}");
    }
    let mut pins = 0;
    for path in files_in(".github/workflows").into_iter().chain([Path::new(ROOT).join("Dockerfile")]) {
        let text = std::fs::read_to_string(&path).unwrap();
        for line in text.lines().filter(|line| !line.trim_start().starts_with('#')) {
            assert_eq!(unpinned(line), None, "{}: {line}", path.display());
            pins += usize::from(line.contains("uses: ") || line.contains("@sha256:"));
        }
    }
    assert!(pins > 20, "{pins}");
}

#[test]
fn jobs_that_can_publish_run_no_code_of_the_build() {
    let mut publishing = 0;
    for path in files_in(".github/workflows") {
        let text = std::fs::read_to_string(&path).unwrap();
        let (head, jobs) = text.split_once("\njobs:\n").unwrap();
        assert!(head.contains("permissions:\n  contents: read"), "{}: a job gets more than it needs", path.display());
        assert!(!head.contains("write"), "{}: every job can write", path.display());
        for job in jobs.split("\n  ").fold(Vec::<String>::new(), |mut jobs, part| {
            match jobs.last_mut().filter(|_| part.starts_with(' ')) {
                Some(job) => {
                    job.push_str("\n  ");
                    job.push_str(part);
                }
                None => jobs.push(part.to_owned()),
            }
            jobs
        }) {
            if job.contains("id-token: write") || job.contains("contents: write") {
                publishing += 1;
                for command in ["actions/checkout", "npm ci", "npm run", "make", "python -m", "pip install"] {
                    assert!(!job.contains(command), "{}: {command} in {job}", path.display());
                }
                assert!(job.contains("sha256sum --check"), "{}: {job}", path.display());
            }
        }
    }
    assert_eq!(publishing, 3);
}

#[test]
fn packages_of_npm_run_no_scripts_when_they_are_installed() {
    for folder in ["static", "sdk/js", "tests/browser"] {
        let settings = std::fs::read_to_string(Path::new(ROOT).join(folder).join(".npmrc")).unwrap();
        assert!(settings.lines().any(|line| line == "ignore-scripts=true"), "{folder}: {settings}");
    }
}

#[test]
fn bill_of_materials_lists_what_the_programs_contain_with_checksums() {
    if !is_installed("node") {
        return skip("node is not installed; deploy/sbom.mjs is not tested");
    }
    let output = Command::new("node").arg("deploy/sbom.mjs").current_dir(ROOT).output().unwrap();
    assert!(output.status.success(), "{}", output_text(&output));
    let bill: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&bill["bomFormat"], &bill["specVersion"]), (&"CycloneDX".into(), &"1.5".into()));
    let components = bill["components"].as_array().unwrap();
    for component in components {
        let hash = component["hashes"][0]["content"].as_str().unwrap_or_default();
        assert!(is_hex(hash, 64) || is_hex(hash, 128), "{component}");
    }
    let names: Vec<&str> = components.iter().map(|component| component["name"].as_str().unwrap()).collect();
    for name in ["libsqlite3-sys", "ring", "rustls", "preact", "uplot"] {
        assert!(names.contains(&name), "{name} is missing in {names:?}");
    }
    for name in ["proptest", "monlight", "esbuild"] {
        assert!(!names.contains(&name), "{name} is not in the programs");
    }
}

#[test]
fn advisories_are_looked_up_every_week_and_never_by_the_tests() {
    let file = |path: &str| std::fs::read_to_string(Path::new(ROOT).join(path)).unwrap();
    let workflow = file(".github/workflows/advisories.yml");
    assert!(workflow.contains("- cron: \"17 5 * * 1\"") && workflow.contains("- run: make advisories"), "{workflow}");
    let makefile = file("Makefile");
    let test_parts = makefile.lines().find(|line| line.starts_with("TEST_PARTS := ")).unwrap();
    assert!(!test_parts.split(' ').any(|part| part == "advisories"), "{test_parts}");
}
