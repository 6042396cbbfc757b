//! A Docker engine of a test's own: it changes nothing on this machine, and whatever it started ends with it.

use std::fs::File;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use crate::harness::{Folder, signal, skip, wait_until};

/// How long one command may take, for `timeout`.
const COMMAND_SECONDS: &str = "120";
/// Options of a daemon whose containers have no network, for which it needs nothing of this machine.
pub const NO_NETWORKS: [&str; 4] = ["--bridge=none", "--iptables=false", "--ip-forward=false", "--ip-masq=false"];

/// A command that finds the engine which was unpacked for the tests, if there is one, with its libraries. Client and
/// daemon are of one version, so they come before any other.
pub fn engine(program: &str) -> Command {
    let mut command = Command::new(program);
    if let Ok(folder) = std::env::var("MONLIGHT_TEST_DOCKER") {
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{folder}/usr/sbin:{folder}/usr/bin:{folder}/bin:{path}"));
        let libraries = format!("{}-linux-gnu", std::env::consts::ARCH);
        command.env("LD_LIBRARY_PATH", format!("{folder}/lib/{libraries}:{folder}/usr/lib/{libraries}"));
        command.env("XTABLES_LIBDIR", format!("{folder}/usr/lib/{libraries}/xtables"));
        // Compose is a Python program, whose modules lie there as well.
        let modules = std::fs::read_dir(format!("{folder}/usr/lib")).into_iter().flatten().flatten();
        let modules = modules.filter(|entry| entry.file_name().to_string_lossy().starts_with("python3."));
        let modules = modules.fold(format!("{folder}/usr/lib/python3/dist-packages"), |path, entry| {
            format!("{path}:{}", entry.path().display())
        });
        command.env("PYTHONPATH", modules).env("PYTHONDONTWRITEBYTECODE", "1");
    }
    command
}

/// A daemon in namespaces of its own.
pub struct Docker {
    child: Child,
    /// Where its data lie, in `data`, and what a test keeps beside them.
    pub folder: Folder,
}

impl Docker {
    /// Says why when there is none to be had.
    pub fn start(options: &[&str]) -> Option<Self> {
        let folder = Folder::new();
        let at = |name: &str| folder.path().join(name).display().to_string();
        std::fs::create_dir(at("data")).unwrap();
        let log = File::create(at("log")).unwrap();
        // Whoever keeps sockets in /run finds one of its own, and the daemon's data are where they always are.
        let script = [
            "mount -t tmpfs none /run && mount -t tmpfs none /var/lib && mkdir /var/lib/docker".to_owned(),
            format!("mount --bind {} /var/lib/docker && busybox ip link set lo up", at("data")),
            format!("exec dockerd --exec-root={} {}", at("x"), options.join(" "))
                + &format!(" --pidfile={} --host=unix://{}", at("p"), at("s")),
        ];
        let child = engine("setpriv")
            .args(["--pdeathsig", "KILL", "unshare", "--net", "--mount", "--pid", "--fork", "--kill-child"])
            .args(["--mount-proc", "sh", "-c", &script.join(" && ")])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn();
        let mut docker = match child {
            Ok(child) => Self { child, folder },
            Err(why) => {
                skip(&format!("no namespace can be made: {why}"));
                return None;
            }
        };
        let ready = wait_until(|| {
            let ended = docker.child.try_wait().unwrap().is_some();
            let answers = docker.command(&["version"]).output().is_ok_and(|output| output.status.success());
            (ended || answers).then_some(answers)
        });
        if ready != Some(true) {
            let log = std::fs::read_to_string(docker.folder.path().join("log")).unwrap();
            skip(&format!("no Docker can be started here: {log}"));
            return None;
        }
        Some(docker)
    }

    fn host(&self) -> String {
        format!("unix://{}", self.folder.path().join("s").display())
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = engine("timeout");
        command.args([COMMAND_SECONDS, "docker", "--host", &self.host()]);
        command.args(arguments).env("HOME", self.folder.path());
        command
    }

    #[track_caller]
    pub fn call(&self, arguments: &[&str]) -> Output {
        let output = self.command(arguments).stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        output
    }

    /// What it answers, without the newline.
    #[track_caller]
    pub fn says(&self, arguments: &[&str]) -> String {
        String::from_utf8(self.call(arguments).stdout).unwrap().trim().to_owned()
    }

    /// The daemon's process. It is the only child.
    fn daemon(&self) -> Option<u32> {
        let pid = self.child.id();
        std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?.trim().parse().ok()
    }

    /// A shell command on the machine that the daemon sees: its network, its files, its processes. `docker compose` is
    /// there, whichever of its kinds is.
    pub fn inside(&self, folder: &Path, script: &str) -> Command {
        let shim = self.folder.path().join("docker");
        if !shim.exists() {
            let said = "#!/bin/sh\n[ \"$1\" != compose ] || ! command -v docker-compose >/dev/null || { shift; exec docker-compose \"$@\"; }\n\
                        PATH=${PATH#*:} exec docker \"$@\"\n";
            std::fs::write(&shim, said).unwrap();
            std::fs::set_permissions(&shim, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        let mut command = engine("nsenter");
        let pid = self.daemon().expect("the daemon runs").to_string();
        command.args(["--target", &pid, "--mount", "--net", "--pid"]).arg(format!("--wd={}", folder.display()));
        let script = format!("PATH={}:$PATH\n{script}", self.folder.path().display());
        command.args(["timeout", COMMAND_SECONDS, "sh", "-euc", &script]);
        command.env("DOCKER_HOST", self.host()).env("HOME", self.folder.path()).stdin(Stdio::null());
        command
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        // It stops its containers first, and everything else ends with it.
        if let Some(daemon) = self.daemon() {
            signal(daemon, "TERM");
            wait_until(|| self.child.try_wait().unwrap());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
