//! The log viewer with a real Docker engine. Containers write and rotate logs, restart, are renamed, recreated and removed.
//! The viewer must return the same lines as `docker logs`.

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::json;

use crate::support::docker_engine::{DockerDaemon, NETWORK_DISABLED, engine_command};
use crate::support::harness::{Service, Setup, root_or_skip, wait_until};
use crate::support::logs::{
    Entry, assert_eventually_eq, container_status, export_entries, message_lines, wait_for_entry_count,
};

const IMAGE: &str = "base:1";
/// Reads numbers from stdin and writes that many numbered lines for each, until the end of stdin.
const WRITE_LINES_ON_REQUEST: &str = r#"n=0
while read k; do
    while [ $k -gt 0 ]; do n=$((n+1)); k=$((k-1)); echo "line $n $PAD"; done
done"#;

impl DockerDaemon {
    /// Imports an image that contains only a shell and a few programs.
    fn import_image(&self) {
        let root = self.dir.path().join("root");
        std::fs::create_dir_all(root.join("bin")).unwrap();
        let busybox = engine_command("sh").args(["-c", "command -v busybox"]).output().unwrap();
        let busybox = PathBuf::from(String::from_utf8(busybox.stdout).unwrap().trim());
        std::fs::copy(&busybox, root.join("bin/busybox")).unwrap();
        for name in ["sh", "sleep", "usleep", "head", "tr"] {
            std::os::unix::fs::symlink("busybox", root.join("bin").join(name)).unwrap();
        }
        let archive = self.dir.path().join("root.tar");
        let status = Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(&archive).arg(".").status().unwrap();
        assert!(status.success());
        self.run_cli(&["import", &archive.display().to_string(), IMAGE]);
    }

    /// Starts a detached container that runs a script.
    #[track_caller]
    fn run_detached(&self, name: &str, options: &[&str], script: &str) {
        let run = ["run", "--detach", "--network=none", "--name", name];
        self.run_cli(&[&run, options, &[IMAGE, "sh", "-c", script]].concat());
    }

    /// Starts a container that runs a script and stays attached to its stdin and stdout.
    fn run_attached(&self, name: &str, options: &[&str], script: &str) -> AttachedContainer {
        let run = ["run", "--interactive", "--network=none", "--name", name];
        let stdout_path = self.dir.path().join(format!("{name}.stdout"));
        let child = self
            .cli_command(&[&run, options, &[IMAGE, "sh", "-c", script]].concat())
            .stdin(Stdio::piped())
            .stdout(File::create(&stdout_path).unwrap())
            .stderr(Stdio::null())
            .spawn();
        AttachedContainer { name: name.to_owned(), child: child.unwrap(), requested_lines: 0, stdout_path }
    }

    /// Returns the output of `docker logs --timestamps` for stdout and stderr: timestamp and text of each line. Docker
    /// repeats the timestamp before each part of a line that it split, and keeps the carriage returns of a terminal.
    fn logs(&self, name: &str) -> [Vec<(String, String)>; 2] {
        let output = self.run_cli(&["logs", "--timestamps", name]);
        [output.stdout, output.stderr].map(|bytes| {
            let text = String::from_utf8(bytes).unwrap();
            let line = |line: &str| {
                let (timestamp, text) = line.split_once(' ').unwrap();
                let text = text.replace(&format!("{timestamp} "), "");
                (timestamp.to_owned(), text.trim_end_matches('\r').to_owned())
            };
            text.split_terminator('\n').map(line).collect()
        })
    }
}

/// Container that runs [`WRITE_LINES_ON_REQUEST`] and is controlled through its stdin.
struct AttachedContainer {
    name: String,
    child: Child,
    /// Number of lines requested so far.
    requested_lines: u32,
    /// File with the output that the client received.
    stdout_path: PathBuf,
}

impl AttachedContainer {
    fn request_lines(&mut self, lines: u32) {
        self.requested_lines += lines;
        writeln!(self.child.stdin.as_mut().unwrap(), "{lines}").unwrap();
    }

    /// Closes stdin, which ends the script, and waits for the exit.
    fn stop(mut self) {
        drop(self.child.stdin.take());
        assert!(self.child.wait().unwrap().success(), "{}", self.name);
    }
}

/// Asserts that the viewer returns the same lines as `docker logs` for each stream of a container. Returns their number.
#[track_caller]
fn assert_equals_docker_logs(viewer: &Service, docker: &DockerDaemon, name: &str) -> usize {
    let logs = docker.logs(name);
    for (lines, stream) in logs.iter().zip(["stdout", "stderr"]) {
        let texts: Vec<&str> = lines.iter().map(|(_, text)| text.as_str()).collect();
        let read_entries = || -> Vec<Entry> {
            let all = export_entries(viewer, &format!("container={name}"));
            all.into_iter().filter(|entry| entry.stream == stream).collect()
        };
        assert_eventually_eq(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>(), || {
            message_lines(&read_entries()).into_iter().map(str::to_owned).collect()
        });
        let mut line = 0;
        for entry in read_entries() {
            let (seconds, fraction) = lines[line].0.trim_end_matches('Z').split_once('.').unwrap();
            assert_eq!(entry.timestamp, format!("{seconds}.{fraction:0<9}Z"), "{name}: {}", entry.message);
            line += entry.message.split('\n').count();
        }
    }
    logs.iter().map(Vec::len).sum()
}

/// Checks containers that exit at once, some of which are restarted.
fn check_short_lived_containers(docker: &DockerDaemon, viewer: &Service) {
    let both = "n=0; while [ $n -lt 300 ]; do n=$((n+1)); echo \"out $n\"; echo \"err $n\" >&2; done";
    let long = r"x() { head -c $1 /dev/zero | tr '\0' $2; }
        x 40000 a; echo; x 40000 b >&2; echo >&2; x 16384 c; echo; x 16383 d; echo; echo short; x 20000 e >&2
        printf ' and the end' >&2; printf 'no newline at the end'";
    let bytes = r"x() { head -c $1 /dev/zero | tr '\0' $2; }
        x 16382 z; printf '\342\202\254 cut in its midst\n'; printf '\303\251 \360\237\230\200 \377\376 bad\n'
        printf 'nul \000 byte\n\n   \n'; printf '\342'; usleep 1000; printf '\202\254 in two writes\n'
        printf 'a \342\200\250 line separator\n\ttab\rreturn\n'";
    let traceback = r#"echo '2026-01-31 12:00:00,123 INFO begin'
        printf 'Traceback (most recent call last):\n  File "/app/a.py", line 3, in <module>\n    run()\n' >&2
        printf 'ValueError: no\n\nDuring handling of the above exception, another exception occurred:\n\n' >&2
        printf 'Traceback (most recent call last):\n  File "/app/a.py", line 5, in <module>\n    again()\n' >&2
        printf 'KeyError: 1\n' >&2; echo '2026-01-31 12:00:00,456 INFO end'"#;
    let colors = r"printf 'plain\n\033[31mred\033[0m\n'; echo on the other stream >&2";
    docker.run_detached("both-streams", &[], both);
    docker.run_detached("long-lines", &[], long);
    docker.run_detached("bytes", &[], bytes);
    docker.run_detached("traceback", &[], traceback);
    docker.run_detached("terminal", &["--tty"], colors);
    docker.run_detached("twice", &[], "echo boot; echo ready >&2");
    for name in ["both-streams", "long-lines", "bytes", "traceback", "terminal", "twice"] {
        docker.run_cli(&["wait", name]);
    }
    docker.run_cli(&["restart", "twice"]);
    docker.run_cli(&["wait", "twice"]);
    docker.run_cli(&["start", "twice"]);
    docker.run_cli(&["wait", "twice"]);
    for (name, written) in
        [("both-streams", 600), ("long-lines", 7), ("bytes", 8), ("traceback", 13), ("terminal", 3), ("twice", 6)]
    {
        assert_eq!(assert_equals_docker_logs(viewer, docker, name), written, "{name}");
    }
    let tracebacks = export_entries(viewer, "container=traceback&level=ERROR");
    assert_eq!(tracebacks.len(), 1, "{tracebacks:?}");
    viewer.get("/api/logs?container=terminal&search=red").expect(200).has(json!({ "total": 1 }));
}

/// Checks containers that are renamed, recreated and removed.
fn check_renamed_and_removed_containers(docker: &DockerDaemon, viewer: &Service) {
    let mut before = docker.run_attached("before", &[], WRITE_LINES_ON_REQUEST);
    before.request_lines(2);
    wait_for_entry_count(viewer, "before", 2);
    docker.run_cli(&["rename", "before", "after"]);
    wait_for_entry_count(viewer, "after", 2);
    before.request_lines(3);
    wait_for_entry_count(viewer, "after", 5);
    assert!(container_status(viewer, "before").is_null());
    before.stop();
    assert_equals_docker_logs(viewer, docker, "after");

    docker.run_detached(
        "web",
        &["--label=com.docker.compose.project=shop", "--label=com.docker.compose.service=web"],
        "echo one",
    );
    wait_for_entry_count(viewer, "web", 1);
    docker.run_cli(&["rm", "--force", "web"]);
    docker.run_detached("web", &[], "echo two; echo three");
    wait_for_entry_count(viewer, "web", 3);
    assert_eq!(message_lines(&export_entries(viewer, "container=web")), ["one", "two", "three"]);
    assert_eq!(docker.logs("web")[0].len(), 2);
    docker.run_cli(&["rm", "--force", "web"]);
    assert_eventually_eq(&json!(false), || container_status(viewer, "web")["followed"].clone());
    wait_for_entry_count(viewer, "web", 3);

    let busy = "n=0; while :; do n=$((n+1)); echo \"line $n\"; [ $((n % 20)) = 0 ] && usleep 2000; done";
    let mut removed = docker.run_attached("removed", &[], busy);
    wait_until(|| (container_status(viewer, "removed")["log_count"].as_u64() > Some(500)).then_some(()))
        .expect("the viewer reads lines of the running container");
    docker.run_cli(&["rm", "--force", "removed"]);
    removed.child.wait().unwrap();
    let received = std::fs::read_to_string(&removed.stdout_path).unwrap();
    let received: Vec<&str> = received.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')).collect();
    assert!(received.len() > 500);
    assert_eventually_eq(&received.len(), || export_entries(viewer, "container=removed").len().min(received.len()));
    let entries = export_entries(viewer, "container=removed");
    let numbered: Vec<String> = (1..=entries.len()).map(|n| format!("line {n}")).collect();
    assert_eq!(message_lines(&entries), numbered);
}

/// Checks containers whose logs Docker rotates more often than the number of files that it keeps.
fn check_rotation(docker: &DockerDaemon, viewer: &Service) {
    // The last number is that of lines per request: few enough that Docker deletes no file before the viewer has read it.
    // With max-file=1, this is certain only for a single line.
    let configurations = [
        ("one", vec!["--log-opt=max-file=1"], 2_000, 1),
        ("two", vec!["--log-opt=max-file=2"], 200, 30),
        ("two-compressed", vec!["--log-opt=max-file=2", "--log-opt=compress=true"], 200, 30),
        ("five", vec!["--log-opt=max-file=5"], 200, 100),
        ("five-compressed", vec!["--log-opt=max-file=5", "--log-opt=compress=true"], 200, 100),
    ];
    let mut rotating: Vec<(AttachedContainer, u32)> = Vec::new();
    for (name, mut options, padding, lines) in configurations {
        let padding = format!("--env=PAD={}", "x".repeat(padding));
        options.extend(["--log-opt=max-size=10k", &padding]);
        rotating.push((docker.run_attached(name, &options, WRITE_LINES_ON_REQUEST), lines));
    }
    for _ in 0..20 {
        for (container, lines) in &mut rotating {
            container.request_lines(*lines);
        }
        for (container, _) in &rotating {
            wait_for_entry_count(viewer, &container.name, container.requested_lines);
        }
    }
    for (container, _) in rotating {
        let (name, requested_lines) = (container.name.clone(), container.requested_lines);
        container.stop();
        let entries = export_entries(viewer, &format!("container={name}"));
        let starts: Vec<String> = entries.iter().map(|entry| entry.message.trim_end_matches('x').to_owned()).collect();
        let numbered: Vec<String> = (1..=requested_lines).map(|n| format!("line {n} ")).collect();
        assert_eq!(starts, numbered, "{name}");
        // Docker itself has kept only the last lines.
        let [stdout, _] = docker.logs(&name);
        let texts: Vec<&str> = stdout.iter().map(|(_, text)| text.as_str()).collect();
        assert!(!texts.is_empty() && texts.len() < entries.len(), "the log of {name} was not rotated");
        assert!(message_lines(&entries).ends_with(&texts), "{name}");
    }
}

/// Checks containers without a readable log file, whose status must contain the reason.
fn check_containers_without_a_log_file(docker: &DockerDaemon, viewer: &Service) {
    docker.run_detached("driver-local", &["--log-driver=local"], "echo hidden");
    docker.run_detached("driver-none", &["--log-driver=none"], "echo hidden");
    docker.run_cli(&["create", "--name", "not-started", "--network=none", IMAGE, "sh"]);
    for (name, reason) in
        [("driver-local", "driver is local"), ("driver-none", "driver is none"), ("not-started", "never started")]
    {
        let poll = || container_status(viewer, name)["reason"].as_str().map(str::to_owned);
        let reported = wait_until(poll).unwrap_or_default();
        assert!(reported.contains(reason), "{name}: {reported}");
    }
    docker.run_cli(&["start", "not-started"]);
    assert_eventually_eq(&json!(true), || container_status(viewer, "not-started")["followed"].clone());
}

#[test]
fn log_viewer_returns_the_same_lines_as_docker_logs() {
    if !root_or_skip("starting a Docker daemon") {
        return;
    }
    let Some(docker) = DockerDaemon::start(&NETWORK_DISABLED) else { return };
    docker.import_image();
    let sources = docker.dir.path().join("data/containers");
    let viewer = Setup::log_viewer().env("LOG_SOURCES", sources.display()).start();
    check_short_lived_containers(&docker, &viewer);
    check_renamed_and_removed_containers(&docker, &viewer);
    check_rotation(&docker, &viewer);
    check_containers_without_a_log_file(&docker, &viewer);
    viewer.get("/api/logs/stats").expect(200).has(json!({ "gaps": 0 }));
    viewer.get("/health").expect(200).has(json!({ "status": "ok" }));
    assert_eq!(viewer.log().iter().filter(|line| line.contains("WARN")).count(), 0, "{:#?}", viewer.log());
}
