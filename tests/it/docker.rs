//! A real Docker engine, whose containers log, rotate, restart, are renamed, made anew and removed while the log viewer
//! runs beside them. What it answers is what `docker logs` says.

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::json;

use crate::docker_engine::{DockerDaemon, NETWORK_DISABLED, engine_command};
use crate::harness::{Service, Setup, root_or_skip, wait_until};
use crate::logs::{Entry, assert_eventually_eq, container_status, export_entries, message_lines, wait_for_entry_count};

const IMAGE: &str = "base:1";
/// Writes as many numbered lines as it is told to, again and again, until nobody tells it any more.
const WRITES_WHAT_IT_IS_TOLD: &str = r#"n=0
while read k; do
    while [ $k -gt 0 ]; do n=$((n+1)); k=$((k-1)); echo "line $n $PAD"; done
done"#;

impl DockerDaemon {
    /// An image of nothing but a shell.
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

    /// Starts a container that runs a script.
    #[track_caller]
    fn run(&self, name: &str, options: &[&str], script: &str) {
        let run = ["run", "--detach", "--network=none", "--name", name];
        self.run_cli(&[&run, options, &[IMAGE, "sh", "-c", script]].concat());
    }

    /// Starts a container and stays attached to it.
    fn attach(&self, name: &str, options: &[&str], script: &str) -> Attached {
        let run = ["run", "--interactive", "--network=none", "--name", name];
        let seen = self.dir.path().join(format!("{name}.seen"));
        let child = self
            .cli_command(&[&run, options, &[IMAGE, "sh", "-c", script]].concat())
            .stdin(Stdio::piped())
            .stdout(File::create(&seen).unwrap())
            .stderr(Stdio::null())
            .spawn();
        Attached { name: name.to_owned(), child: child.unwrap(), told: 0, seen }
    }

    /// What `docker logs` says of a container's stdout and stderr: the moment and the text of each line. It prints the
    /// moment anew in front of every piece of a line that was cut, and leaves a terminal's carriage returns.
    fn logs(&self, name: &str) -> [Vec<(String, String)>; 2] {
        let output = self.run_cli(&["logs", "--timestamps", name]);
        [output.stdout, output.stderr].map(|bytes| {
            let text = String::from_utf8(bytes).unwrap();
            let line = |line: &str| {
                let (moment, text) = line.split_once(' ').unwrap();
                let text = text.replace(&format!("{moment} "), "");
                (moment.to_owned(), text.trim_end_matches('\r').to_owned())
            };
            text.split_terminator('\n').map(line).collect()
        })
    }
}

/// A container that does what it is told over its standard input.
struct Attached {
    name: String,
    child: Child,
    /// Lines it was told to write.
    told: u32,
    /// The file with what came back.
    seen: PathBuf,
}

impl Attached {
    fn tell(&mut self, lines: u32) {
        self.told += lines;
        writeln!(self.child.stdin.as_mut().unwrap(), "{lines}").unwrap();
    }

    /// Ends it by ending its input.
    fn end(mut self) {
        drop(self.child.stdin.take());
        assert!(self.child.wait().unwrap().success(), "{}", self.name);
    }
}

/// That what the viewer has of a container is what `docker logs` says of it, by stream and line for line.
#[track_caller]
fn agrees(viewer: &Service, docker: &DockerDaemon, name: &str) -> usize {
    let said = docker.logs(name);
    for (said, stream) in said.iter().zip(["stdout", "stderr"]) {
        let texts: Vec<&str> = said.iter().map(|(_, text)| text.as_str()).collect();
        let read = || -> Vec<Entry> {
            let all = export_entries(viewer, &format!("container={name}"));
            all.into_iter().filter(|entry| entry.stream == stream).collect()
        };
        assert_eventually_eq(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>(), || {
            message_lines(&read()).into_iter().map(str::to_owned).collect()
        });
        let mut at = 0;
        for entry in read() {
            let (seconds, fraction) = said[at].0.trim_end_matches('Z').split_once('.').unwrap();
            assert_eq!(entry.timestamp, format!("{seconds}.{fraction:0<9}Z"), "{name}: {}", entry.message);
            at += entry.message.split('\n').count();
        }
    }
    said.iter().map(Vec::len).sum()
}

/// What containers write that live a moment, or twice.
fn short_lives(docker: &DockerDaemon, viewer: &Service) {
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
    let colours = r"printf 'plain\n\033[31mred\033[0m\n'; echo on the other stream >&2";
    docker.run("both-streams", &[], both);
    docker.run("long-lines", &[], long);
    docker.run("bytes", &[], bytes);
    docker.run("traceback", &[], traceback);
    docker.run("terminal", &["--tty"], colours);
    docker.run("twice", &[], "echo boot; echo ready >&2");
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
        assert_eq!(agrees(viewer, docker, name), written, "{name}");
    }
    let tracebacks = export_entries(viewer, "container=traceback&level=ERROR");
    assert_eq!(tracebacks.len(), 1, "{tracebacks:?}");
    viewer.get("/api/logs?container=terminal&search=red").expect(200).has(json!({ "total": 1 }));
}

/// Containers that are renamed, made anew and removed.
fn changes(docker: &DockerDaemon, viewer: &Service) {
    let mut before = docker.attach("before", &[], WRITES_WHAT_IT_IS_TOLD);
    before.tell(2);
    wait_for_entry_count(viewer, "before", 2);
    docker.run_cli(&["rename", "before", "after"]);
    wait_for_entry_count(viewer, "after", 2);
    before.tell(3);
    wait_for_entry_count(viewer, "after", 5);
    assert!(container_status(viewer, "before").is_null());
    before.end();
    agrees(viewer, docker, "after");

    docker.run(
        "web",
        &["--label=com.docker.compose.project=shop", "--label=com.docker.compose.service=web"],
        "echo one",
    );
    wait_for_entry_count(viewer, "web", 1);
    docker.run_cli(&["rm", "--force", "web"]);
    docker.run("web", &[], "echo two; echo three");
    wait_for_entry_count(viewer, "web", 3);
    assert_eq!(message_lines(&export_entries(viewer, "container=web")), ["one", "two", "three"]);
    assert_eq!(docker.logs("web")[0].len(), 2);
    docker.run_cli(&["rm", "--force", "web"]);
    assert_eventually_eq(&json!(false), || container_status(viewer, "web")["followed"].clone());
    wait_for_entry_count(viewer, "web", 3);

    let busy = "n=0; while :; do n=$((n+1)); echo \"line $n\"; [ $((n % 20)) = 0 ] && usleep 2000; done";
    let mut removed = docker.attach("removed", &[], busy);
    wait_until(|| (container_status(viewer, "removed")["log_count"].as_u64() > Some(500)).then_some(()))
        .expect("it logs");
    docker.run_cli(&["rm", "--force", "removed"]);
    removed.child.wait().unwrap();
    let seen = std::fs::read_to_string(&removed.seen).unwrap();
    let seen: Vec<&str> = seen.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')).collect();
    assert!(seen.len() > 500);
    assert_eventually_eq(&seen.len(), || export_entries(viewer, "container=removed").len().min(seen.len()));
    let entries = export_entries(viewer, "container=removed");
    let numbered: Vec<String> = (1..=entries.len()).map(|n| format!("line {n}")).collect();
    assert_eq!(message_lines(&entries), numbered);
}

/// Containers whose logs Docker rotates, more often than it keeps files.
fn rotations(docker: &DockerDaemon, viewer: &Service) {
    // Lines told at once: less than would push a file out before it can be read. With one file kept, none but the last
    // line is safe.
    let kinds = [
        ("one", vec!["--log-opt=max-file=1"], 2_000, 1),
        ("two", vec!["--log-opt=max-file=2"], 200, 30),
        ("two-packed", vec!["--log-opt=max-file=2", "--log-opt=compress=true"], 200, 30),
        ("five", vec!["--log-opt=max-file=5"], 200, 100),
        ("five-packed", vec!["--log-opt=max-file=5", "--log-opt=compress=true"], 200, 100),
    ];
    let mut rotating: Vec<(Attached, u32)> = Vec::new();
    for (name, mut options, padding, lines) in kinds {
        let padding = format!("--env=PAD={}", "x".repeat(padding));
        options.extend(["--log-opt=max-size=10k", &padding]);
        rotating.push((docker.attach(name, &options, WRITES_WHAT_IT_IS_TOLD), lines));
    }
    for _ in 0..20 {
        for (attached, lines) in &mut rotating {
            attached.tell(*lines);
        }
        for (attached, _) in &rotating {
            wait_for_entry_count(viewer, &attached.name, attached.told);
        }
    }
    for (attached, _) in rotating {
        let (name, told) = (attached.name.clone(), attached.told);
        attached.end();
        let entries = export_entries(viewer, &format!("container={name}"));
        let starts: Vec<String> = entries.iter().map(|entry| entry.message.trim_end_matches('x').to_owned()).collect();
        let numbered: Vec<String> = (1..=told).map(|n| format!("line {n} ")).collect();
        assert_eq!(starts, numbered, "{name}");
        // Docker has the end of it.
        let [said, _] = docker.logs(&name);
        let texts: Vec<&str> = said.iter().map(|(_, text)| text.as_str()).collect();
        assert!(!texts.is_empty() && texts.len() < entries.len(), "{name} was rotated");
        assert!(message_lines(&entries).ends_with(&texts), "{name}");
    }
}

/// Containers without a file to read.
fn nothing_to_read(docker: &DockerDaemon, viewer: &Service) {
    docker.run("kept-local", &["--log-driver=local"], "echo hidden");
    docker.run("kept-nowhere", &["--log-driver=none"], "echo hidden");
    docker.run_cli(&["create", "--name", "unborn", "--network=none", IMAGE, "sh"]);
    for (name, why) in
        [("kept-local", "driver is local"), ("kept-nowhere", "driver is none"), ("unborn", "never started")]
    {
        let reason = || container_status(viewer, name)["reason"].as_str().map(str::to_owned);
        let said = wait_until(reason).unwrap_or_default();
        assert!(said.contains(why), "{name}: {said}");
    }
    docker.run_cli(&["start", "unborn"]);
    assert_eventually_eq(&json!(true), || container_status(viewer, "unborn")["followed"].clone());
}

#[test]
fn what_is_read_of_a_real_engine_is_what_docker_logs_says() {
    if !root_or_skip("a Docker daemon") {
        return;
    }
    let Some(docker) = DockerDaemon::start(&NETWORK_DISABLED) else { return };
    docker.import_image();
    let sources = docker.dir.path().join("data/containers");
    let viewer = Setup::log_viewer().env("LOG_SOURCES", sources.display()).start();
    short_lives(&docker, &viewer);
    changes(&docker, &viewer);
    rotations(&docker, &viewer);
    nothing_to_read(&docker, &viewer);
    viewer.get("/api/logs/stats").expect(200).has(json!({ "gaps": 0 }));
    viewer.get("/health").expect(200).has(json!({ "status": "ok" }));
    assert_eq!(viewer.log().iter().filter(|line| line.contains("WARN")).count(), 0, "{:#?}", viewer.log());
}
