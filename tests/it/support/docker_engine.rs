//! Private Docker daemon for tests. It runs in its own namespaces, changes nothing on this machine, and all containers
//! end with it.

use std::fs::File;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use super::harness::{TempDir, send_signal, skip, wait_until};

/// Timeout of one command, as an argument of `timeout`.
const COMMAND_SECONDS: &str = "120";
/// Daemon options that disable container networks, so that the daemon needs no bridge or iptables on this machine.
pub const NETWORK_DISABLED: [&str; 4] = ["--bridge=none", "--iptables=false", "--ip-forward=false", "--ip-masq=false"];

/// Returns a command that finds the programs and libraries in `MONLIGHT_TEST_DOCKER`, if it is set, before any other.
/// Client and daemon must have the same version, so a mix with installed programs would not work.
pub fn engine_command(program: &str) -> Command {
    let mut command = Command::new(program);
    if let Ok(folder) = std::env::var("MONLIGHT_TEST_DOCKER") {
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{folder}/usr/sbin:{folder}/usr/bin:{folder}/bin:{path}"));
        let libraries = format!("{}-linux-gnu", std::env::consts::ARCH);
        command.env("LD_LIBRARY_PATH", format!("{folder}/lib/{libraries}:{folder}/usr/lib/{libraries}"));
        command.env("XTABLES_LIBDIR", format!("{folder}/usr/lib/{libraries}/xtables"));
        // Compose is a Python program; its modules are unpacked there too.
        let modules = std::fs::read_dir(format!("{folder}/usr/lib")).into_iter().flatten().flatten();
        let modules = modules.filter(|entry| entry.file_name().to_string_lossy().starts_with("python3."));
        let modules = modules.fold(format!("{folder}/usr/lib/python3/dist-packages"), |path, entry| {
            format!("{path}:{}", entry.path().display())
        });
        command.env("PYTHONPATH", modules).env("PYTHONDONTWRITEBYTECODE", "1");
    }
    command
}

/// Docker daemon in its own network, mount and PID namespaces, stopped on drop.
pub struct DockerDaemon {
    child: Child,
    /// Folder of the daemon's files (`data`, `log`, sockets) and of files that a test adds.
    pub dir: TempDir,
}

impl DockerDaemon {
    /// Starts a daemon; skips the test and returns `None` if this machine cannot run one.
    pub fn start(options: &[&str]) -> Option<Self> {
        let dir = TempDir::new();
        let at = |name: &str| dir.path().join(name).display().to_string();
        std::fs::create_dir(at("data")).unwrap();
        let log = File::create(at("log")).unwrap();
        // Mounts an empty /run for the daemon's sockets, and its data at the usual path, /var/lib/docker.
        let script = [
            "mount -t tmpfs none /run && mount -t tmpfs none /var/lib && mkdir /var/lib/docker".to_owned(),
            format!("mount --bind {} /var/lib/docker && busybox ip link set lo up", at("data")),
            format!("exec dockerd --exec-root={} {}", at("x"), options.join(" "))
                + &format!(" --pidfile={} --host=unix://{}", at("p"), at("s")),
        ];
        let child = engine_command("setpriv")
            .args(["--pdeathsig", "KILL", "unshare", "--net", "--mount", "--pid", "--fork", "--kill-child"])
            .args(["--mount-proc", "sh", "-c", &script.join(" && ")])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn();
        let mut docker = match child {
            Ok(child) => Self { child, dir },
            Err(error) => {
                skip(&format!("cannot create namespaces: {error}"));
                return None;
            }
        };
        let ready = wait_until(|| {
            let exited = docker.child.try_wait().unwrap().is_some();
            let responds = docker.cli_command(&["version"]).output().is_ok_and(|output| output.status.success());
            (exited || responds).then_some(responds)
        });
        if ready != Some(true) {
            let log = std::fs::read_to_string(docker.dir.path().join("log")).unwrap();
            skip(&format!("dockerd does not start: {log}"));
            return None;
        }
        Some(docker)
    }

    fn host(&self) -> String {
        format!("unix://{}", self.dir.path().join("s").display())
    }

    /// Returns a `docker` command for this daemon.
    pub fn cli_command(&self, arguments: &[&str]) -> Command {
        let mut command = engine_command("timeout");
        command.args([COMMAND_SECONDS, "docker", "--host", &self.host()]);
        command.args(arguments).env("HOME", self.dir.path());
        command
    }

    /// Runs a `docker` command and asserts that it succeeds.
    #[track_caller]
    pub fn run_cli(&self, arguments: &[&str]) -> Output {
        let output = self.cli_command(arguments).stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        output
    }

    /// Runs a `docker` command, asserts that it succeeds, and returns its trimmed stdout.
    #[track_caller]
    pub fn cli_stdout(&self, arguments: &[&str]) -> String {
        String::from_utf8(self.run_cli(arguments).stdout).unwrap().trim().to_owned()
    }

    /// Returns the process ID of the daemon, the only child of `unshare`.
    fn daemon_pid(&self) -> Option<u32> {
        let pid = self.child.id();
        std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?.trim().parse().ok()
    }

    /// Returns a shell command that runs in the daemon's namespaces: its network, mounts and processes. `docker
    /// compose` works with both the plugin and the stand-alone `docker-compose`.
    pub fn shell(&self, folder: &Path, script: &str) -> Command {
        let shim = self.dir.path().join("docker");
        if !shim.exists() {
            let script = "#!/bin/sh\n[ \"$1\" != compose ] || ! command -v docker-compose >/dev/null || { shift; exec docker-compose \"$@\"; }\n\
                        PATH=${PATH#*:} exec docker \"$@\"\n";
            std::fs::write(&shim, script).unwrap();
            std::fs::set_permissions(&shim, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        let mut command = engine_command("nsenter");
        let pid = self.daemon_pid().expect("the daemon runs").to_string();
        command.args(["--target", &pid, "--mount", "--net", "--pid"]).arg(format!("--wd={}", folder.display()));
        let script = format!("PATH={}:$PATH\n{script}", self.dir.path().display());
        command.args(["timeout", COMMAND_SECONDS, "sh", "-euc", &script]);
        command.env("DOCKER_HOST", self.host()).env("HOME", self.dir.path()).stdin(Stdio::null());
        command
    }
}

impl Drop for DockerDaemon {
    fn drop(&mut self) {
        // SIGTERM lets the daemon stop its containers; the kernel ends everything else in the PID namespace.
        if let Some(daemon) = self.daemon_pid() {
            send_signal(daemon, "TERM");
            wait_until(|| self.child.try_wait().unwrap());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
