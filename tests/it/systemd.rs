//! What `make install` leaves, and what systemd says of the units.

use std::path::Path;
use std::process::{Command, Output};

use crate::harness::{TempDir, skip};

const SERVICES: [&str; 4] = ["error-tracker", "log-viewer", "metrics-collector", "browser-relay"];
/// How much a unit may be exposed, in tenths of what `systemd-analyze security` counts; below 20 it says "OK".
const EXPOSURE_TENTHS_MAX: u32 = 18;

/// The programs and units as `make install` puts them below a folder; says why when there are none to be had.
fn installed() -> Option<TempDir> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    if !SERVICES.iter().all(|service| root.join(service).exists()) {
        skip("nothing was built: make");
        return None;
    }
    let folder = TempDir::new();
    // Built already; what is installed is what lies there.
    let make = Command::new("make")
        .args(["--old-file=all", "install", &format!("PREFIX={}", folder.path().display())])
        .current_dir(root)
        .output()
        .unwrap();
    assert!(make.status.success(), "{}", String::from_utf8_lossy(&make.stderr));
    Some(folder)
}

/// What systemd's own tool says of a unit; nothing where it is not there.
fn analyze(arguments: &[&str]) -> Option<Output> {
    match Command::new("systemd-analyze").args(arguments).output() {
        Ok(output) => Some(output),
        Err(why) => {
            skip(&format!("systemd-analyze cannot be run: {why}"));
            None
        }
    }
}

#[test]
fn what_is_installed_runs_and_its_units_are_sound_and_confined() {
    let Some(folder) = installed() else { return };
    for service in SERVICES {
        let program = folder.path().join(format!("bin/monlight-{service}"));
        let version = Command::new(&program).arg("--version").output().unwrap();
        assert_eq!(String::from_utf8_lossy(&version.stdout), format!("{service} {}\n", env!("CARGO_PKG_VERSION")));

        let unit = folder.path().join(format!("lib/systemd/system/monlight-{service}.service"));
        let text = std::fs::read_to_string(&unit).unwrap();
        assert!(text.contains(&format!("ExecStart={}\n", program.display())), "{text}");
        let unit = unit.display().to_string();
        let Some(verified) = analyze(&["verify", "--man=no", &unit]) else { return };
        let said = String::from_utf8_lossy(&verified.stderr);
        assert!(verified.status.success() && said.is_empty(), "{service}: {said}");
        let threshold = format!("--threshold={EXPOSURE_TENTHS_MAX}");
        let Some(exposed) = analyze(&["security", "--offline=true", "--no-pager", &threshold, &unit]) else { return };
        let said = String::from_utf8_lossy(&exposed.stdout);
        eprintln!("{}", said.lines().last().unwrap_or_default());
        assert!(exposed.status.success(), "{said}");
    }
}

#[test]
fn what_is_installed_for_the_nights_backs_up_what_lies_where_the_units_have_it() {
    let Some(folder) = installed() else { return };
    let backup = folder.path().join("bin/monlight-backup");
    for unit in ["monlight-backup.service", "monlight-backup.timer"] {
        let unit = folder.path().join("lib/systemd/system").join(unit).display().to_string();
        let Some(verified) = analyze(&["verify", "--man=no", &unit]) else { return };
        let said = String::from_utf8_lossy(&verified.stderr);
        assert!(verified.status.success() && said.is_empty(), "{unit}: {said}");
    }
    let unit = std::fs::read_to_string(folder.path().join("lib/systemd/system/monlight-backup.service")).unwrap();
    assert!(unit.contains(&format!("ExecStart={} --to ", backup.display())), "{unit}");

    // It finds the programs beside itself, and the databases nowhere: no unit has run here.
    let to = folder.path().join("backups");
    let output = Command::new(&backup).arg("--to").arg(&to).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let place = "cannot copy /var/lib/monlight-error-tracker/errors.db: ";
    assert!(!output.status.success() && said.contains(place), "{said}");
    let units = SERVICES.map(|service| {
        let unit = folder.path().join(format!("lib/systemd/system/monlight-{service}.service"));
        let text = std::fs::read_to_string(unit).unwrap();
        text.lines().find_map(|line| line.strip_prefix("Environment=DATABASE_PATH=")).unwrap().to_owned()
    });
    let script = std::fs::read_to_string(&backup).unwrap();
    for (service, path) in SERVICES.iter().zip(units) {
        let name = path.strip_prefix(&format!("/var/lib/monlight-{service}/")).unwrap_or_else(|| panic!("{path}"));
        assert!(script.contains(&format!("{service}) print_line {name} ;;")), "{service} has its database at {path}");
    }
}
