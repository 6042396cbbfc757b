//! Randomized test of the log viewer. A writer does to its logs everything that Docker, logrotate and administrators do,
//! while the viewer is killed and suspended. In the end, each line must be stored exactly once and in order.

use std::collections::{BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use crate::support::docker_log::{container_config, json_file_line, log_name};
use crate::support::harness::{Service, Setup, TempDir, send_signal, wait_until};
use crate::support::peers::find_program;
use crate::support::rng::Rng;

const RUNS_DEFAULT: u64 = 20;
const STEPS: u32 = 60;
/// Number of steps while the viewer is slowed, after [`TortureRun::run_short_containers`].
const SLOWED_STEPS: u32 = 12;
const CONTAINERS: usize = 2;
/// Length at which Docker splits a line into partial lines, in bytes.
const PARTIAL_LINE_BYTES: usize = 16_384;
const FILE_BYTES_MAX: usize = 10_000;
/// Number of rotated files that are kept; the oldest is deleted by the next rotation.
const ROTATED_MAX: usize = 4;
/// Number of containers that a step runs one after the other, each for a moment.
const SHORT_CONTAINERS: usize = 3;
/// Maximum time between the folder of a container and its files.
const CREATE_DELAY_MAX_US: usize = 10_000;
/// Time by which a slowed viewer inspects each file later, so that files change between any two of its steps.
const INSPECT_DELAY_US: u32 = 2_000;

/// Writes the configuration like Docker, in two steps, so that a reader may find an incomplete file.
fn write_config(folder: &Path, id: &str, name: &str) {
    let json = container_config(id, name);
    let path = folder.join("config.v2.json");
    std::fs::write(&path, &json[..json.len() / 2]).unwrap();
    std::fs::write(&path, &json).unwrap();
}

/// Container with its log files, and all lines that it has written, by stream.
struct Container {
    sources: PathBuf,
    name: String,
    id: String,
    file: File,
    bytes: usize,
    /// Number of rotations since the viewer last had all lines.
    unread_rotations: usize,
    /// Whether a compressed copy exists next to the uncompressed file.
    compressing: bool,
    compress: bool,
    written: [Vec<String>; 2],
    lines: u64,
}

impl Container {
    fn create(sources: &Path, name: &str, rng: &mut Rng) -> Self {
        let id =
            format!("{:016x}{:016x}{:016x}{:016x}", rng.next_u64(), rng.next_u64(), rng.next_u64(), rng.next_u64());
        std::fs::create_dir(sources.join(&id)).unwrap();
        std::thread::sleep(Duration::from_micros(rng.below(CREATE_DELAY_MAX_US) as u64));
        // Docker writes the configuration when it creates a container, and the log when it starts it. A log without a
        // configuration belongs to a container without a name.
        write_config(&sources.join(&id), &id, name);
        let path = sources.join(&id).join(log_name(&id));
        let file = OpenOptions::new().create(true).append(true).open(path).unwrap();
        Self {
            sources: sources.to_owned(),
            name: name.to_owned(),
            id,
            file,
            bytes: 0,
            unread_rotations: 0,
            compressing: false,
            compress: rng.one_in(2),
            written: [Vec::new(), Vec::new()],
            lines: 0,
        }
    }

    fn dir(&self) -> PathBuf {
        self.sources.join(&self.id)
    }

    /// Returns the path of the log with a suffix, for example `.1.gz`.
    fn log_path(&self, suffix: &str) -> PathBuf {
        self.dir().join(log_name(&self.id) + suffix)
    }

    fn reopen(&mut self) {
        self.file = OpenOptions::new().create(true).append(true).open(self.log_path("")).unwrap();
        self.bytes = 0;
    }

    /// Deletes the uncompressed file after its compression, as Docker does before the next rotation.
    fn finish_compression(&mut self) {
        if std::mem::take(&mut self.compressing) {
            std::fs::remove_file(self.log_path(".1")).unwrap();
        }
    }

    /// Writes a compressed copy of the last rotated file.
    fn start_compression(&mut self) {
        let Ok(content) = std::fs::read(self.log_path(".1")) else { return };
        let mut compressed = GzEncoder::new(File::create(self.log_path(".1.gz")).unwrap(), Compression::fast());
        compressed.write_all(&content).unwrap();
        compressed.finish().unwrap();
        self.compressing = true;
    }

    /// Increments the number of every rotated file, to make room for a new `.1`.
    fn shift_rotated_files(&mut self) {
        self.finish_compression();
        for number in (1..ROTATED_MAX).rev() {
            for extension in ["", ".gz"] {
                let from = self.log_path(&format!(".{number}{extension}"));
                if from.exists() {
                    // Deletes the target under either name.
                    for target_extension in ["", ".gz"] {
                        let _ = std::fs::remove_file(self.log_path(&format!(".{}{target_extension}", number + 1)));
                    }
                    std::fs::rename(from, self.log_path(&format!(".{}{extension}", number + 1))).unwrap();
                }
            }
        }
        self.unread_rotations += 1;
    }

    fn rotate(&mut self, rng: &mut Rng) {
        self.shift_rotated_files();
        std::fs::rename(self.log_path(""), self.log_path(".1")).unwrap();
        if rng.one_in(4) {
            // Leaves a gap in which no file has that name.
            std::thread::sleep(Duration::from_millis(3));
        }
        self.reopen();
        if self.compress {
            self.start_compression();
        }
    }

    /// Rotates like logrotate with `copytruncate`.
    fn copy_and_truncate(&mut self) {
        self.shift_rotated_files();
        std::fs::copy(self.log_path(""), self.log_path(".1")).unwrap();
        self.file.set_len(0).unwrap();
        self.bytes = 0;
    }

    /// Writes one line of the json-file format, sometimes in two parts.
    fn write_json_line(&mut self, log: &str, stream: usize, time: &str, rng: &mut Rng) {
        let stream = ["stdout", "stderr"][stream];
        let line = json_file_line(time, stream, log);
        if rng.one_in(30) {
            let (first, second) = line.as_bytes().split_at(rng.below(line.len()));
            self.file.write_all(first).unwrap();
            std::thread::sleep(Duration::from_millis(rng.below(5) as u64));
            self.file.write_all(second).unwrap();
        } else {
            self.file.write_all(line.as_bytes()).unwrap();
        }
        self.bytes += line.len();
    }

    /// Writes a line of the program, split into partial lines like Docker does.
    fn write_line(&mut self, text: &str, stream: usize, rng: &mut Rng) {
        let time = docker_timestamp();
        let line = format!("{text}\n");
        let mut rest = line.as_str();
        while !rest.is_empty() {
            let part = &rest[..rest.floor_char_boundary(PARTIAL_LINE_BYTES)];
            if self.bytes >= FILE_BYTES_MAX && self.unread_rotations < ROTATED_MAX - 1 {
                self.rotate(rng);
            }
            self.write_json_line(part, stream, &time, rng);
            rest = &rest[part.len()..];
            if !rest.is_empty() && rng.one_in(2) {
                // Lines of the other stream can appear between partial lines.
                let id = self.next_line_id();
                self.write_json_line(&format!("{id} between\n"), 1 - stream, &docker_timestamp(), rng);
                self.written[1 - stream].push(format!("{id} between"));
            }
        }
        self.written[stream].push(text.to_owned());
    }

    /// Returns a word that identifies a line, unique across containers.
    fn next_line_id(&mut self) -> String {
        self.lines += 1;
        format!("n{}x{}", self.lines, &self.id[..8])
    }

    /// Writes up to 30 lines of random kinds to one stream, and a final line to each stream.
    fn write_burst(&mut self, rng: &mut Rng) {
        let stream = rng.below(2);
        for _ in 0..=rng.below(30) {
            let id = self.next_line_id();
            match rng.below(12) {
                0 => {
                    self.write_line(&format!("{id} ERROR request failed"), stream, rng);
                    self.write_line("Traceback (most recent call last):", stream, rng);
                    for frame in 0..rng.below(4) {
                        self.write_line(&format!("  File \"/app/{id}.py\", line {frame}, in pay"), stream, rng);
                        self.write_line("    raise ValueError(total)", stream, rng);
                    }
                    self.write_line(&format!("ValueError: {id}"), stream, rng);
                }
                1 => {
                    self.write_line(
                        &format!("{id} {}", "é\u{1F600}<>&\u{2028}\"\\\t".repeat(rng.below(40))),
                        stream,
                        rng,
                    );
                }
                2 => self.write_line(&format!("{id} {}", "long ".repeat(3_000 + rng.below(6_000))), stream, rng),
                3 => self.write_line("", stream, rng),
                4 => self.write_line(&format!("\u{1b}[31m{id}\u{1b}[0m red"), stream, rng),
                5 => self.write_line(&format!("\tat com.shop.Pay.{id}(Pay.java:7)"), stream, rng),
                _ => self.write_line(&format!("{id} GET /cart/{} 200", rng.below(1_000)), stream, rng),
            }
        }
        // The final line shows that the viewer has read the whole burst.
        for stream in 0..2 {
            let id = self.next_line_id();
            self.write_line(&format!("{id} end"), stream, rng);
        }
    }

    /// Returns the IDs of the last line of each stream.
    fn last_line_ids(&self) -> impl Iterator<Item = &str> {
        self.written.iter().filter_map(|lines| lines.last()?.split(' ').next())
    }
}

/// Returns the command of a program that delays another program whenever it inspects a file; nothing if there is no such program.
fn inspect_delays() -> Vec<String> {
    let Some(strace) = find_program("strace") else { return Vec::new() };
    let delay = format!("inject=statx:delay_enter={INSPECT_DELAY_US}");
    // The viewer itself is the child, which is killed and suspended.
    let arguments = ["-D", "-f", "-qq", "--seccomp-bpf", "-o", "/dev/null", "-e", "trace=statx", "-e", &delay];
    std::iter::once(strace.display().to_string()).chain(arguments.map(str::to_owned)).collect()
}

/// Returns the current time as Docker writes it: in nanoseconds, without trailing zeros.
fn docker_timestamp() -> String {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seconds = time::OffsetDateTime::from_unix_timestamp(since_1970.as_secs() as i64).unwrap();
    let seconds = seconds.format(&time::format_description::well_known::Rfc3339).unwrap();
    let fraction = format!("{:09}", since_1970.subsec_nanos());
    format!("{}.{}Z", seconds.trim_end_matches('Z'), fraction.trim_end_matches('0'))
}

/// Test run: the viewer, its containers, and removed containers whose lines must still be stored.
struct TortureRun {
    seed: u64,
    rng: Rng,
    data_dir: Arc<TempDir>,
    /// Running viewer; `None` while it is killed.
    viewer: Option<Service>,
    containers: Vec<Container>,
    removed: Vec<Container>,
    /// Program that delays system calls of the viewer, with its arguments; empty if nothing is delayed.
    slowed_by: Vec<String>,
    /// Steps so far, for the message of a failure.
    steps: VecDeque<String>,
}

impl TortureRun {
    fn new(seed: u64) -> Self {
        let data_dir = Arc::new(TempDir::new());
        let sources = data_dir.path().join("containers");
        std::fs::create_dir(&sources).unwrap();
        let mut rng = Rng(seed);
        let containers = (0..CONTAINERS).map(|n| Container::create(&sources, &format!("shop-{n}"), &mut rng)).collect();
        let (removed, steps) = (Vec::new(), VecDeque::new());
        let slowed_by = if rng.one_in(3) { inspect_delays() } else { Vec::new() };
        let mut run = Self { seed, rng, data_dir, viewer: None, containers, removed, slowed_by, steps };
        run.start_viewer();
        run
    }

    fn start_viewer(&mut self) {
        if self.viewer.is_none() {
            let setup = Setup::log_viewer().env("MAX_ENTRIES", 1_000_000).env("TAIL_BUFFER", 1_000_000_000);
            let slowed_by: Vec<&str> = self.slowed_by.iter().map(String::as_str).collect();
            self.viewer = Some(setup.data_dir(&self.data_dir).wrapped_by(&slowed_by).start());
        }
    }

    fn kill_viewer(&mut self) {
        if let Some(viewer) = self.viewer.take() {
            viewer.kill();
        }
    }

    /// Waits until the viewer has stored all written lines.
    fn wait_until_stored(&mut self) {
        self.start_viewer();
        self.containers.iter().for_each(|container| self.wait_for_lines_of(container));
        self.containers.iter_mut().for_each(|container| container.unread_rotations = 0);
    }

    /// Waits until the running viewer has stored all lines of a container.
    fn wait_for_lines_of(&self, container: &Container) {
        let viewer = self.viewer.as_ref().unwrap();
        for id in container.last_line_ids() {
            let path = format!("/api/logs?search={id}&limit=1");
            let stored = wait_until(|| (viewer.get(&path).expect(200).json()["total"] != json!(0)).then_some(()));
            let message = format!(
                "seed {}: the line {id} of {} was not stored; steps {:?}; log {:#?}",
                self.seed,
                container.name,
                self.steps,
                viewer.log()
            );
            stored.expect(&message);
        }
    }

    /// Runs containers that are removed as soon as their lines are stored.
    fn run_short_containers(&mut self) {
        self.start_viewer();
        for _ in 0..SHORT_CONTAINERS {
            let name = format!("job-{}", self.removed.len());
            let sources = self.containers[0].sources.clone();
            let mut container = Container::create(&sources, &name, &mut self.rng);
            container.write_burst(&mut self.rng);
            self.wait_for_lines_of(&container);
            std::fs::remove_dir_all(container.dir()).unwrap();
            self.removed.push(container);
        }
    }

    /// Performs all steps of the run.
    fn perform_steps(&mut self) {
        if self.slowed_by.is_empty() {
            (0..STEPS).for_each(|_| self.perform_step());
        } else {
            self.run_short_containers();
            (0..SLOWED_STEPS).for_each(|_| self.perform_step());
        }
    }

    /// Performs a random step on a random container.
    fn perform_step(&mut self) {
        let index = self.rng.below(self.containers.len());
        let step = self.rng.below(20);
        self.steps.push_back(format!("{step} on {index}"));
        let rng = &mut self.rng;
        let container = &mut self.containers[index];
        match step {
            0 => self.kill_viewer(),
            1 => self.start_viewer(),
            2 => {
                // While the viewer is suspended, several rotations can happen between two polls.
                if let Some(viewer) = &self.viewer {
                    send_signal(viewer.pid(), "STOP");
                    for _ in 0..3 {
                        container.write_burst(rng);
                    }
                    send_signal(viewer.pid(), "CONT");
                }
            }
            3 if container.unread_rotations < ROTATED_MAX - 1 => container.rotate(rng),
            4 if container.unread_rotations < ROTATED_MAX - 1 => container.copy_and_truncate(),
            5 => container.finish_compression(),
            6 => {
                // Truncation deletes lines, so the viewer must have read them before.
                self.wait_until_stored();
                let container = &mut self.containers[index];
                container.file.set_len(0).unwrap();
                container.bytes = 0;
            }
            7 => {
                // With max-file=1, the old file is reachable only through a descriptor that the viewer has open.
                self.wait_until_stored();
                let container = &mut self.containers[index];
                container.write_burst(&mut self.rng);
                self.wait_until_stored();
                let container = &mut self.containers[index];
                std::fs::remove_file(container.log_path("")).unwrap();
                container.reopen();
            }
            8 => {
                self.wait_until_stored();
                let old = &self.containers[index];
                std::fs::remove_dir_all(old.dir()).unwrap();
                let new = Container::create(&old.sources, &old.name, &mut self.rng);
                self.removed.push(std::mem::replace(&mut self.containers[index], new));
            }
            9 => write_config(&container.dir(), &container.id, &container.name),
            10 => {
                std::thread::sleep(Duration::from_millis(self.rng.below(150) as u64));
            }
            11 => self.wait_until_stored(),
            12 => self.run_short_containers(),
            _ => container.write_burst(rng),
        }
    }

    /// Asserts that the viewer has stored exactly the written lines, in order. Returns their number.
    fn verify(mut self) -> usize {
        self.wait_until_stored();
        let viewer = self.viewer.as_ref().unwrap();
        let mut entries: Vec<Value> = Vec::new();
        for line in viewer.get("/api/logs/export").expect(200).text().split('\n').filter(|line| !line.is_empty()) {
            entries.push(serde_json::from_str(line).unwrap());
        }
        let mut written: [Vec<String>; 2] = [Vec::new(), Vec::new()];
        let mut lines = 0;
        let names: BTreeSet<String> =
            self.removed.iter().chain(&self.containers).map(|container| container.name.clone()).collect();
        for name in names {
            for (stream, stream_name) in ["stdout", "stderr"].into_iter().enumerate() {
                let containers = self.removed.iter().chain(&self.containers).filter(|container| container.name == name);
                written[stream] = containers.flat_map(|container| container.written[stream].clone()).collect();
                let stored = entries
                    .iter()
                    .filter(|entry| entry["container"] == name.as_str() && entry["stream"] == stream_name)
                    .map(|entry| entry["message"].as_str().unwrap());
                let stored = with_blank_lines(stored, &written[stream]);
                if stored != written[stream] {
                    panic!(
                        "seed {}: {}",
                        self.seed,
                        self.describe_difference(&name, stream_name, &written[stream], &stored)
                    );
                }
                lines += stored.len();
            }
        }
        lines
    }

    /// Describes the first difference between written and stored lines, for the message of a failure.
    fn describe_difference(&self, name: &str, stream: &str, written: &[String], stored: &[&str]) -> String {
        let mut report = format!("{name} {stream}: {} lines written, {} stored\n", written.len(), stored.len());
        let first_difference = written.iter().zip(stored).position(|(written, stored)| written != stored);
        let first_difference = first_difference.unwrap_or(written.len().min(stored.len()));
        for (label, lines) in
            [("written", written.iter().map(String::as_str).collect::<Vec<_>>()), ("stored", stored.to_vec())]
        {
            let context = lines.iter().skip(first_difference.saturating_sub(2)).take(8);
            let context: Vec<String> = context.map(|line| line.chars().take(60).collect()).collect();
            let _ = writeln!(report, "{label} around line {first_difference}: {context:#?}");
        }
        let _ = writeln!(report, "steps: {:?}\nlog: {:#?}", self.steps, self.viewer.as_ref().map(Service::log));
        report
    }
}

/// Returns the lines of messages, with the blank lines that were written in front of a message, which are not stored. Blank
/// lines within a message are.
fn with_blank_lines<'a>(messages: impl Iterator<Item = &'a str>, written: &[String]) -> Vec<&'a str> {
    let mut lines = Vec::new();
    let add_blank = |lines: &mut Vec<&str>| {
        while written.get(lines.len()).is_some_and(String::is_empty) {
            lines.push("");
        }
    };
    for message in messages {
        if !message.trim().is_empty() {
            add_blank(&mut lines);
        }
        lines.extend(message.split('\n'));
    }
    add_blank(&mut lines);
    lines
}

#[test]
fn every_line_is_stored_once_despite_rotation_truncation_and_kills() {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let first = number("MONLIGHT_TORTURE_SEED").unwrap_or_else(|| u64::from(std::process::id()) << 16);
    let runs = number("MONLIGHT_TORTURE_RUNS").unwrap_or(RUNS_DEFAULT);
    let (next, lines) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let worker = || {
        let (next, lines) = (Arc::clone(&next), Arc::clone(&lines));
        std::thread::spawn(move || {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= runs {
                    return;
                }
                let seed = first + number;
                eprintln!("torture: MONLIGHT_TORTURE_SEED={seed} MONLIGHT_TORTURE_RUNS=1");
                let mut run = TortureRun::new(seed);
                run.perform_steps();
                lines.fetch_add(run.verify() as u64, Ordering::Relaxed);
            }
        })
    };
    let workers = [worker(), worker()];
    let passed = workers.map(std::thread::JoinHandle::join).iter().all(Result::is_ok);
    assert!(passed, "a run failed; its seed is printed above");
    let lines = lines.load(Ordering::Relaxed);
    eprintln!("torture: {runs} runs, {lines} lines written, {lines} stored, 0 lost, 0 duplicated");
}
