//! A writer that does to its log everything that Docker, logrotate and people do, against a log viewer that is killed
//! and stopped meanwhile. In the end each line is there once, in its order.

use std::collections::VecDeque;
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

use crate::harness::{Service, Setup, TempDir, send_signal, wait_until};
use crate::rng::Rng;

const RUNS_DEFAULT: u64 = 20;
const STEPS: u32 = 60;
const CONTAINERS: usize = 2;
const PIECE_BYTES: usize = 16_384;
const FILE_BYTES_MAX: usize = 10_000;
/// Files besides the one that is written to; what is rotated out of the last is gone.
const ROTATED_MAX: usize = 4;

/// One container: its folder, its files, and everything it ever wrote, by stream.
struct Container {
    sources: PathBuf,
    name: String,
    id: String,
    file: File,
    bytes: usize,
    /// Rotated since the viewer was last known to have everything.
    rotated_unseen: usize,
    /// A packed copy is written and the plain file still there.
    packing: bool,
    compress: bool,
    written: [Vec<String>; 2],
    lines: u64,
}

impl Container {
    fn create(sources: &Path, name: &str, rng: &mut Rng) -> Self {
        let id =
            format!("{:016x}{:016x}{:016x}{:016x}", rng.next_u64(), rng.next_u64(), rng.next_u64(), rng.next_u64());
        std::fs::create_dir(sources.join(&id)).unwrap();
        let path = sources.join(&id).join(format!("{id}-json.log"));
        let file = OpenOptions::new().create(true).append(true).open(path).unwrap();
        let container = Self {
            sources: sources.to_owned(),
            name: name.to_owned(),
            id,
            file,
            bytes: 0,
            rotated_unseen: 0,
            packing: false,
            compress: rng.one_in(2),
            written: [Vec::new(), Vec::new()],
            lines: 0,
        };
        container.configure(name);
        container
    }

    fn folder(&self) -> PathBuf {
        self.sources.join(&self.id)
    }

    fn log(&self, suffix: &str) -> PathBuf {
        self.folder().join(format!("{}-json.log{suffix}", self.id))
    }

    /// As Docker does: while it is rewritten, a reader may find half of it.
    fn configure(&self, name: &str) {
        let log_path = format!("/var/lib/docker/containers/{0}/{0}-json.log", self.id);
        let config = json!({ "ID": self.id, "Name": format!("/{name}"), "LogPath": log_path, "Config": { "Image": "shop:1", "Labels": {} } });
        let text = config.to_string();
        let path = self.folder().join("config.v2.json");
        std::fs::write(&path, &text[..text.len() / 2]).unwrap();
        std::fs::write(&path, &text).unwrap();
    }

    fn reopen(&mut self) {
        self.file = OpenOptions::new().create(true).append(true).open(self.log("")).unwrap();
        self.bytes = 0;
    }

    /// Finishes packing, as Docker does before it rotates again.
    fn finish_packing(&mut self) {
        if std::mem::take(&mut self.packing) {
            std::fs::remove_file(self.log(".1")).unwrap();
        }
    }

    fn begin_packing(&mut self) {
        let Ok(plain) = std::fs::read(self.log(".1")) else { return };
        let mut packed = GzEncoder::new(File::create(self.log(".1.gz")).unwrap(), Compression::fast());
        packed.write_all(&plain).unwrap();
        packed.finish().unwrap();
        self.packing = true;
    }

    /// Moves every rotated file one further, out of the way of a new `.1`.
    fn shift(&mut self) {
        self.finish_packing();
        for number in (1..ROTATED_MAX).rev() {
            for packed in ["", ".gz"] {
                let from = self.log(&format!(".{number}{packed}"));
                if from.exists() {
                    // Whatever was there under either name is gone.
                    for old in ["", ".gz"] {
                        let _ = std::fs::remove_file(self.log(&format!(".{}{old}", number + 1)));
                    }
                    std::fs::rename(from, self.log(&format!(".{}{packed}", number + 1))).unwrap();
                }
            }
        }
        self.rotated_unseen += 1;
    }

    fn rotate(&mut self, rng: &mut Rng) {
        self.shift();
        std::fs::rename(self.log(""), self.log(".1")).unwrap();
        if rng.one_in(4) {
            // For a moment there is no file of that name.
            std::thread::sleep(Duration::from_millis(3));
        }
        self.reopen();
        if self.compress {
            self.begin_packing();
        }
    }

    /// As logrotate with `copytruncate`.
    fn copy_and_truncate(&mut self) {
        self.shift();
        std::fs::copy(self.log(""), self.log(".1")).unwrap();
        self.file.set_len(0).unwrap();
        self.bytes = 0;
    }

    /// One entry of Docker's, written in two halves now and then.
    fn entry(&mut self, log: &str, stream: usize, time: &str, rng: &mut Rng) {
        let stream = ["stdout", "stderr"][stream];
        let mut line = json!({ "log": log, "stream": stream, "time": time }).to_string();
        line.push('\n');
        if rng.one_in(30) {
            let (half, rest) = line.as_bytes().split_at(rng.below(line.len()));
            self.file.write_all(half).unwrap();
            std::thread::sleep(Duration::from_millis(rng.below(5) as u64));
            self.file.write_all(rest).unwrap();
        } else {
            self.file.write_all(line.as_bytes()).unwrap();
        }
        self.bytes += line.len();
    }

    /// A line of the program's, in as many pieces as Docker makes of it.
    fn line(&mut self, text: &str, stream: usize, rng: &mut Rng) {
        let time = now();
        let whole = format!("{text}\n");
        let mut rest = whole.as_str();
        while !rest.is_empty() {
            let piece = &rest[..rest.floor_char_boundary(PIECE_BYTES)];
            if self.bytes >= FILE_BYTES_MAX && self.rotated_unseen < ROTATED_MAX - 1 {
                self.rotate(rng);
            }
            self.entry(piece, stream, &time, rng);
            rest = &rest[piece.len()..];
            if !rest.is_empty() && rng.one_in(2) {
                // The other stream's lines come in between.
                let number = self.number();
                self.entry(&format!("{number} between\n"), 1 - stream, &now(), rng);
                self.written[1 - stream].push(format!("{number} between"));
            }
        }
        self.written[stream].push(text.to_owned());
    }

    fn number(&mut self) -> String {
        self.lines += 1;
        format!("n{}x{}", self.lines, &self.id[..8])
    }

    /// Some lines of one kind.
    fn burst(&mut self, rng: &mut Rng) {
        let stream = rng.below(2);
        for _ in 0..=rng.below(30) {
            let number = self.number();
            match rng.below(12) {
                0 => {
                    self.line(&format!("{number} ERROR request failed"), stream, rng);
                    self.line("Traceback (most recent call last):", stream, rng);
                    for frame in 0..rng.below(4) {
                        self.line(&format!("  File \"/app/{number}.py\", line {frame}, in pay"), stream, rng);
                        self.line("    raise ValueError(total)", stream, rng);
                    }
                    self.line(&format!("ValueError: {number}"), stream, rng);
                }
                1 => {
                    self.line(
                        &format!("{number} {}", "é\u{1F600}<>&\u{2028}\"\\\t".repeat(rng.below(40))),
                        stream,
                        rng,
                    );
                }
                2 => self.line(&format!("{number} {}", "long ".repeat(3_000 + rng.below(6_000))), stream, rng),
                3 => self.line("", stream, rng),
                4 => self.line(&format!("\u{1b}[31m{number}\u{1b}[0m red"), stream, rng),
                5 => self.line(&format!("\tat com.shop.Pay.{number}(Pay.java:7)"), stream, rng),
                _ => self.line(&format!("{number} GET /cart/{} 200", rng.below(1_000)), stream, rng),
            }
        }
        // Something to know the end of the burst by, on either stream.
        for stream in 0..2 {
            let number = self.number();
            self.line(&format!("{number} end"), stream, rng);
        }
    }

    /// The words of the last line of either stream.
    fn last_words(&self) -> impl Iterator<Item = &str> {
        self.written.iter().filter_map(|lines| lines.last()?.split(' ').next())
    }
}

fn now() -> String {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let whole = time::OffsetDateTime::from_unix_timestamp(since_1970.as_secs() as i64).unwrap();
    let whole = whole.format(&time::format_description::well_known::Rfc3339).unwrap();
    let fraction = format!("{:09}", since_1970.subsec_nanos());
    format!("{}.{}Z", whole.trim_end_matches('Z'), fraction.trim_end_matches('0'))
}

/// One run: the viewer, what it follows, and what is gone but was written.
struct Run {
    seed: u64,
    rng: Rng,
    folder: Arc<TempDir>,
    /// `None` while it is dead.
    viewer: Option<Service>,
    containers: Vec<Container>,
    removed: Vec<Container>,
    done: VecDeque<String>,
}

impl Run {
    fn new(seed: u64) -> Self {
        let folder = Arc::new(TempDir::new());
        let sources = folder.path().join("containers");
        std::fs::create_dir(&sources).unwrap();
        let mut rng = Rng(seed);
        let containers = (0..CONTAINERS).map(|n| Container::create(&sources, &format!("shop-{n}"), &mut rng)).collect();
        let mut run = Self { seed, rng, folder, viewer: None, containers, removed: Vec::new(), done: VecDeque::new() };
        run.start();
        run
    }

    fn start(&mut self) {
        if self.viewer.is_none() {
            let setup = Setup::log_viewer().env("MAX_ENTRIES", 1_000_000).env("TAIL_BUFFER", 1_000_000_000);
            self.viewer = Some(setup.data_dir(&self.folder).start());
        }
    }

    fn kill(&mut self) {
        if let Some(viewer) = self.viewer.take() {
            viewer.kill();
        }
    }

    /// Waits until everything written is stored.
    fn sync(&mut self) {
        self.start();
        let viewer = self.viewer.as_ref().unwrap();
        for container in &mut self.containers {
            for words in container.last_words() {
                let path = format!("/api/logs?search={words}&limit=1");
                let stored = wait_until(|| (viewer.get(&path).expect(200).json()["total"] != json!(0)).then_some(()));
                let said = format!(
                    "seed {}: {words} of {} never came; {:?}; {:#?}",
                    self.seed,
                    container.name,
                    self.done,
                    viewer.log()
                );
                stored.expect(&said);
            }
            container.rotated_unseen = 0;
        }
    }

    fn step(&mut self) {
        let index = self.rng.below(self.containers.len());
        let what = self.rng.below(20);
        self.done.push_back(format!("{what} on {index}"));
        let rng = &mut self.rng;
        let container = &mut self.containers[index];
        match what {
            0 => self.kill(),
            1 => self.start(),
            2 => {
                // Several rotations pass between two looks.
                if let Some(viewer) = &self.viewer {
                    send_signal(viewer.pid(), "STOP");
                    for _ in 0..3 {
                        container.burst(rng);
                    }
                    send_signal(viewer.pid(), "CONT");
                }
            }
            3 if container.rotated_unseen < ROTATED_MAX - 1 => container.rotate(rng),
            4 if container.rotated_unseen < ROTATED_MAX - 1 => container.copy_and_truncate(),
            5 => container.finish_packing(),
            6 => {
                // What is cut off is gone, so the viewer must have it.
                self.sync();
                let container = &mut self.containers[index];
                container.file.set_len(0).unwrap();
                container.bytes = 0;
            }
            7 => {
                // `max-file=1`: an open descriptor is all that is left of the old file.
                self.sync();
                let container = &mut self.containers[index];
                container.burst(&mut self.rng);
                self.sync();
                let container = &mut self.containers[index];
                std::fs::remove_file(container.log("")).unwrap();
                container.reopen();
            }
            8 => {
                self.sync();
                let old = &self.containers[index];
                std::fs::remove_dir_all(old.folder()).unwrap();
                let new = Container::create(&old.sources, &old.name, &mut self.rng);
                self.removed.push(std::mem::replace(&mut self.containers[index], new));
            }
            9 => container.configure(&container.name),
            10 => {
                std::thread::sleep(Duration::from_millis(self.rng.below(150) as u64));
            }
            11 => self.sync(),
            _ => container.burst(rng),
        }
    }

    /// Answers how many lines were written and found.
    fn verify(mut self) -> usize {
        self.sync();
        let viewer = self.viewer.as_ref().unwrap();
        let mut found: Vec<Value> = Vec::new();
        for line in viewer.get("/api/logs/export").expect(200).text().split('\n').filter(|line| !line.is_empty()) {
            found.push(serde_json::from_str(line).unwrap());
        }
        let mut written: [Vec<String>; 2] = [Vec::new(), Vec::new()];
        let mut lines = 0;
        for number in 0..CONTAINERS {
            let name = format!("shop-{number}");
            for (stream, stream_name) in ["stdout", "stderr"].into_iter().enumerate() {
                let all = self.removed.iter().chain(&self.containers).filter(|container| container.name == name);
                written[stream] = all.flat_map(|container| container.written[stream].clone()).collect();
                let stored =
                    found.iter().filter(|entry| entry["container"] == name.as_str() && entry["stream"] == stream_name);
                let stored: Vec<&str> =
                    stored.flat_map(|entry| entry["message"].as_str().unwrap().split('\n')).collect();
                if stored != written[stream] {
                    panic!("seed {}: {}", self.seed, self.difference(&name, stream_name, &written[stream], &stored));
                }
                lines += stored.len();
            }
        }
        lines
    }

    fn difference(&self, name: &str, stream: &str, written: &[String], stored: &[&str]) -> String {
        let mut said = format!("{name} {stream}: {} lines written, {} stored\n", written.len(), stored.len());
        let at = written.iter().zip(stored).position(|(one, other)| one != other);
        let at = at.unwrap_or(written.len().min(stored.len()));
        for (what, lines) in
            [("written", written.iter().map(String::as_str).collect::<Vec<_>>()), ("stored", stored.to_vec())]
        {
            let around =
                lines.iter().skip(at.saturating_sub(2)).take(8).map(|line| line.chars().take(60).collect::<String>());
            let _ = writeln!(said, "{what} from line {at}: {:#?}", around.collect::<Vec<_>>());
        }
        let _ = writeln!(said, "steps: {:?}\nlog: {:#?}", self.done, self.viewer.as_ref().map(Service::log));
        said
    }
}

#[test]
fn each_line_is_stored_once_whatever_happens_to_files_and_to_the_viewer() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
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
                let mut run = Run::new(seed);
                for _ in 0..STEPS {
                    run.step();
                }
                lines.fetch_add(run.verify() as u64, Ordering::Relaxed);
            }
        })
    };
    let workers = [worker(), worker()];
    let fine = workers.map(std::thread::JoinHandle::join).iter().all(Result::is_ok);
    assert!(fine, "a run failed; its seed stands above");
    let lines = lines.load(Ordering::Relaxed);
    eprintln!("torture: {runs} runs, {lines} lines written, {lines} stored, 0 lost, 0 doubled");
}
