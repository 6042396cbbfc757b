//! `make install`, and the verification of the installed systemd units with `systemd-analyze`.

use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use crate::support::harness::{SERVICES, Setup, TempDir, root_or_skip, skip, wait_until};
use crate::support::logs::Container;
use crate::support::receiver::HttpReceiver;

/// Maximum exposure of a unit, in tenths of the score of `systemd-analyze security`; scores below 20 are rated "OK".
const EXPOSURE_TENTHS_MAX: u32 = 18;

/// Runs `make install` into a temporary folder. Skips the test and returns `None` if the binaries are not built.
fn install() -> Option<TempDir> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    if !SERVICES.iter().all(|service| root.join(service).exists()) {
        skip("the service binaries are not built (run `make`); make install and the systemd units are not tested");
        return None;
    }
    let prefix = TempDir::new();
    let output = make_install(root, &prefix);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(prefix)
}

/// Runs `make install` in a checkout, with the `PATH` that `sudo` sets by default, in which rustup's `rustc` is missing.
fn make_install(checkout: &Path, prefix: &TempDir) -> Output {
    Command::new("make")
        .args(["install", &format!("PREFIX={}", prefix.path().display())])
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .current_dir(checkout)
        .output()
        .unwrap()
}

/// Script that starts a program in a mount namespace with an empty `/etc`, except for the files that a unit binds. The first
/// argument is a folder for copies of their mounts, then follow the files, `--` and the program.
const WITH_HIDDEN_ETC: &str = r#"
copies=$1
shift
bound=
while [ "$1" != -- ]; do
    if [ -e "$1" ]; then
        bound="$bound $1"
        touch "$copies/${1##*/}"
        mount --bind "$1" "$copies/${1##*/}"
    fi
    shift
done
shift
mount -t tmpfs none /etc
for file in $bound; do
    touch "$file"
    mount --bind "$copies/${file##*/}" "$file"
done
exec "$@"
"#;

#[test]
fn log_viewer_resolves_names_of_servers_with_the_files_that_its_unit_shows() {
    if !root_or_skip("creating a mount namespace") {
        return;
    }
    let unit = include_str!("../../deploy/systemd/monlight-log-viewer.service");
    let paths = |setting: &str| -> Vec<&str> {
        let lines = unit.lines().filter_map(|line| line.strip_prefix(setting));
        lines.flat_map(str::split_whitespace).map(|path| path.trim_start_matches('-')).collect()
    };
    assert!(paths("TemporaryFileSystem=").contains(&"/etc:ro"), "{unit}");
    let mut shown = paths("BindReadOnlyPaths=");
    shown.retain(|path| path.starts_with("/etc/"));
    let (copies, data_dir) = (TempDir::new(), Arc::new(TempDir::new()));
    Container::new(&data_dir, "web").write_lines([(
        "2026-01-31T12:00:00Z",
        "stdout",
        "fine
",
    )]);
    let receiver = HttpReceiver::start(&[]);
    let folder = copies.path().display().to_string();
    let wrapper = [&["unshare", "--mount", "sh", "-euc", WITH_HIDDEN_ETC, "sh", &folder][..], &shown, &["--"]].concat();
    let viewer = Setup::log_viewer()
        .data_dir(&data_dir)
        .env("EXPORT_URL", format!("http://localhost:{}/", receiver.address.port()))
        .wrapped_by(&wrapper)
        .start();
    let sent = wait_until(|| (viewer.health_number("export_sent") == 1).then_some(()));
    assert!(sent.is_some(), "{}", viewer.log().concat());
}

/// Runs `systemd-analyze`. Skips the test and returns `None` if it cannot be run.
fn systemd_analyze(arguments: &[&str]) -> Option<Output> {
    match Command::new("systemd-analyze").args(arguments).output() {
        Ok(output) => Some(output),
        Err(error) => {
            skip(&format!("systemd-analyze cannot be run ({error}); the systemd units are not tested"));
            None
        }
    }
}

#[test]
fn installed_services_run_and_their_units_are_valid_and_confined() {
    let Some(prefix) = install() else { return };
    for service in SERVICES {
        let program = prefix.path().join(format!("bin/monlight-{service}"));
        let version = Command::new(&program).arg("--version").output().unwrap();
        assert_eq!(String::from_utf8_lossy(&version.stdout), format!("{service} {}\n", env!("CARGO_PKG_VERSION")));

        let unit = prefix.path().join(format!("lib/systemd/system/monlight-{service}.service"));
        let text = std::fs::read_to_string(&unit).unwrap();
        assert!(text.contains(&format!("ExecStart={}\n", program.display())), "{text}");
        let unit = unit.display().to_string();
        let Some(verified) = systemd_analyze(&["verify", "--man=no", &unit]) else { return };
        let warnings = String::from_utf8_lossy(&verified.stderr);
        assert!(verified.status.success() && warnings.is_empty(), "{service}: {warnings}");
        let threshold = format!("--threshold={EXPOSURE_TENTHS_MAX}");
        let Some(security) = systemd_analyze(&["security", "--offline=true", "--no-pager", &threshold, &unit]) else {
            return;
        };
        let report = String::from_utf8_lossy(&security.stdout);
        eprintln!("{}", report.lines().last().unwrap_or_default());
        assert!(security.status.success(), "{report}");
    }
}

#[test]
fn install_without_binaries_fails_and_builds_nothing() {
    let (checkout, prefix) = (TempDir::new(), TempDir::new());
    std::fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("Makefile"), checkout.path().join("Makefile")).unwrap();
    let output = make_install(checkout.path(), &prefix);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && stderr.contains("browser-relay not found; run make first"), "{stderr}");
    assert_eq!(std::fs::read_dir(prefix.path()).unwrap().count(), 0);
}

#[test]
fn installed_backup_unit_is_valid_and_its_script_uses_the_database_paths_of_the_services() {
    let Some(prefix) = install() else { return };
    let backup = prefix.path().join("bin/monlight-backup");
    for unit in ["monlight-backup.service", "monlight-backup.timer"] {
        let unit = prefix.path().join("lib/systemd/system").join(unit).display().to_string();
        let Some(verified) = systemd_analyze(&["verify", "--man=no", &unit]) else { return };
        let warnings = String::from_utf8_lossy(&verified.stderr);
        assert!(verified.status.success() && warnings.is_empty(), "{unit}: {warnings}");
    }
    let unit = std::fs::read_to_string(prefix.path().join("lib/systemd/system/monlight-backup.service")).unwrap();
    assert!(unit.contains(&format!("ExecStart={} --to ", backup.display())), "{unit}");

    // The script finds the programs in its own folder, but no databases, because no unit has run on this machine.
    let to = prefix.path().join("backups");
    let output = Command::new(&backup).arg("--to").arg(&to).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    let message = "cannot copy /var/lib/monlight-error-tracker/errors.db: ";
    assert!(!output.status.success() && stderr.contains(message), "{stderr}");
    let paths = SERVICES.map(|service| {
        let unit = prefix.path().join(format!("lib/systemd/system/monlight-{service}.service"));
        let text = std::fs::read_to_string(unit).unwrap();
        text.lines().find_map(|line| line.strip_prefix("Environment=DATABASE_PATH=")).unwrap().to_owned()
    });
    let script = std::fs::read_to_string(&backup).unwrap();
    for (service, path) in SERVICES.iter().zip(paths) {
        let name = path.strip_prefix(&format!("/var/lib/monlight-{service}/")).unwrap_or_else(|| panic!("{path}"));
        assert!(
            script.contains(&format!("{service}) print_line {name} ;;")),
            "the backup script does not know {path} of {service}"
        );
    }
}
