//! What goes wrong. Each of these does its harm, and takes away the cause; what is left of it is the services' own matter,
//! but for a start after an end.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use monlight::clock::Timestamp;

use super::Run;
use crate::harness::{API_KEY, PUBLIC_KEY, Request, Service, TempDir, send_signal, wait_until};
use crate::peers;
use crate::stack::{COLLECTOR, RELAY, SERVICES, TRACKER, VIEWER};

/// How long trouble lasts that does not end by itself.
const TROUBLE: Duration = Duration::from_secs(4);
const DISK_BYTES: u64 = 128 << 20;

/// A file system of its own on a file, unmounted with this value.
pub struct Disk {
    image: PathBuf,
    /// Where it is mounted.
    pub folder: Arc<TempDir>,
    _kept: TempDir,
}

impl Disk {
    pub fn new() -> Self {
        let (kept, folder) = (TempDir::new(), Arc::new(TempDir::new()));
        let image = kept.path().join("image");
        File::create(&image).unwrap().set_len(DISK_BYTES).unwrap();
        run("mkfs.ext4", &["-q", "-F", "-m", "0", &image.display().to_string()]);
        let disk = Self { image, folder, _kept: kept };
        disk.mount();
        disk
    }

    fn mount(&self) {
        run("mount", &["-o", "loop", &self.image.display().to_string(), &self.at()]);
    }

    fn at(&self) -> String {
        self.folder.path().display().to_string()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // What used it is gone by now; a leftover mount would only be untidy.
        let _ = Command::new("umount").args(["--lazy", &self.at()]).status();
    }
}

#[track_caller]
fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
}

/// One service, whichever, ends in the middle of what it does and is started again.
pub fn killed(run: &mut Run) {
    let service = run.rng.below(SERVICES.len());
    run.stack.kill(service);
    run.stack.start_service(service);
}

/// All at once, as in a power cut.
pub fn all_killed(run: &mut Run) {
    (0..SERVICES.len()).for_each(|service| run.stack.kill(service));
    (0..SERVICES.len()).for_each(|service| run.stack.start_service(service));
}

/// Something else fills the disk, and is removed.
pub fn disk_full(run: &mut Run) {
    let path = run.disk.folder.path().join("ballast");
    let mut ballast = File::create(&path).unwrap();
    let megabyte = vec![b'b'; 1 << 20];
    // The last write is what no longer fits; what is freed meanwhile is taken as well.
    let filled = std::time::Instant::now();
    while filled.elapsed() < TROUBLE {
        let _ = ballast.write_all(&megabyte).or_else(|_| ballast.write_all(&[b'b'; 4_096]));
        std::thread::sleep(Duration::from_millis(5));
    }
    for service in [TRACKER, VIEWER, COLLECTOR, RELAY] {
        run.says_unwell(service, "the database refuses writes");
    }
    drop(ballast);
    std::fs::remove_file(path).unwrap();
}

/// Every flush that a service asks for fails.
pub fn flush_fails(run: &mut Run) {
    let tracers: Vec<Child> = (0..SERVICES.len())
        .map(|service| {
            let mut command = peers::command("strace").expect("whoever runs this has looked for it");
            command.args(["-f", "-p", &run.stack.pid(service).to_string(), "-o", "/dev/null"]);
            command.args(["-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:error=EIO"]);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
        })
        .collect();
    // Those that flush before they answer.
    for service in [TRACKER, RELAY] {
        run.says_unwell(service, "the database refuses writes");
    }
    std::thread::sleep(TROUBLE);
    for mut tracer in tracers {
        send_signal(tracer.id(), "INT");
        tracer.wait().unwrap();
    }
}

/// The file system gives up and takes nothing more, as ext4 does when its disk fails; it is checked, mounted again, and the
/// services are started as after a reboot.
pub fn read_only(run: &mut Run) {
    let at = run.disk.at();
    self::run("mount", &["-o", "remount,abort", &at]);
    for service in [TRACKER, VIEWER, COLLECTOR, RELAY] {
        run.says_unwell(service, "the database refuses writes");
    }
    std::thread::sleep(TROUBLE);
    (0..SERVICES.len()).for_each(|service| run.stack.kill(service));
    for service in 0..SERVICES.len() {
        let (code, said) = run.stack.run_to_exit(service);
        assert_eq!(code, Some(1), "{said}");
    }
    let unmounted = || Command::new("umount").arg(&at).stderr(Stdio::null()).status().unwrap().success().then_some(());
    wait_until(unmounted).expect("nobody is left on it");
    // 1 is what it answers when it has mended something.
    let checked = Command::new("e2fsck").args(["-p", &run.disk.image.display().to_string()]).output().unwrap();
    assert!(matches!(checked.status.code(), Some(0 | 1)), "{checked:?}");
    run.disk.mount();
    (0..SERVICES.len()).for_each(|service| run.stack.start_service(service));
}

/// What the relay sends to is away.
pub fn upstream_gone(run: &mut Run) {
    let upstreams = [TRACKER, COLLECTOR];
    upstreams.iter().for_each(|service| run.stack.kill(*service));
    std::thread::sleep(TROUBLE);
    upstreams.iter().for_each(|service| run.stack.start_service(*service));
}

/// The folder of the logs goes away with everything in it, and comes back; whoever writes has their log open.
pub fn logs_gone(run: &mut Run) {
    let gone = run.stack.containers_dir.with_extension("gone");
    std::fs::rename(&run.stack.containers_dir, &gone).unwrap();
    let warns = || run.stack.health(VIEWER)?.1["warnings"].as_array().filter(|all| !all.is_empty()).map(|_| ());
    wait_until(warns).expect("who looks at /health is told");
    std::thread::sleep(TROUBLE);
    std::fs::rename(&gone, &run.stack.containers_dir).unwrap();
}

/// The machine's clock is set: hours on, hours back, and right again.
pub fn clock_set(run: &mut Run) {
    for offset in ["+7200", "-7200", "+0"] {
        set_clock(run.clock.path(), offset);
        std::thread::sleep(TROUBLE / 2);
        let newest = run.stack.service(TRACKER).as_ref().map(|tracker| tracker.get("/api/errors?limit=1").expect(200));
        let seen = newest.unwrap().json()["errors"][0]["last_seen"].as_str().and_then(Timestamp::parse).unwrap();
        let ahead_s = seen.seconds() - Timestamp::now().seconds();
        let set_s: i64 = offset.parse().unwrap();
        // A group that was seen in the future stays the newest after that.
        assert!(ahead_s >= set_s - 60, "the clock was set to {offset}, and the newest is {ahead_s} s ahead");
    }
}

/// Sets the clock of the services that read this file's folder to the right one and so many seconds more.
pub fn set_clock(folder: &Path, offset: &str) {
    let new = folder.join("new");
    std::fs::write(&new, offset).unwrap();
    std::fs::rename(new, folder.join("offset")).unwrap();
}

/// Everything that takes memory, all at once: the largest reports and batches, whole maps, exports and readers.
pub fn pressed(run: &mut Run) {
    let filler = "x".repeat(200_000);
    let report = serde_json::json!({
        "project": "large", "exception_type": "Large", "message": "m", "traceback": filler, "extra": { "f": "y".repeat(40_000) },
    });
    let point = |n: u32| serde_json::json!({ "name": "large", "type": "histogram", "value": n, "labels": { "n": n % 500, "page": "/a/long/path/of/a/page" } });
    let batch = serde_json::json!((0..1_000).map(point).collect::<Vec<_>>());
    let sources = (0..400).map(|n| format!("{n}: {}", "source ".repeat(1_500))).collect::<Vec<_>>();
    let map = serde_json::json!({ "version": 3, "sources": ["a.js"], "sourcesContent": [sources.join("\n")], "names": [], "mappings": "AAAA;".repeat(50_000) });
    let upload = serde_json::json!({ "project": "shop", "release": "1", "file_url": "https://shop.example/app.js", "map_content": map.to_string() });
    let page = serde_json::json!({ "type": "L", "message": "l", "stack": "x".repeat(50_000), "release": "1" });
    let requests = [
        (TRACKER, Request::post("/api/errors", &report)),
        (TRACKER, Request::get("/api/errors?limit=200&search=boom")),
        (VIEWER, Request::get("/api/logs/export?search=item")),
        (VIEWER, Request::get("/api/logs?regex=i.*7&limit=500")),
        (COLLECTOR, Request::post("/api/metrics", &batch)),
        (COLLECTOR, Request::get("/api/dashboard?period=24h")),
        (RELAY, Request::post("/api/source-maps", &upload).header("X-API-Key", API_KEY)),
        (RELAY, Request::from_browser("/api/browser/errors", &page).header("X-Monlight-Key", PUBLIC_KEY)),
    ];
    let until = std::time::Instant::now() + 2 * TROUBLE;
    let clients: Vec<_> = requests
        .into_iter()
        .flat_map(|(service, request)| [(service, request.clone()), (service, request)])
        .map(|(service, request)| {
            let stack = Arc::clone(&run.stack);
            std::thread::spawn(move || {
                let mut statuses = std::collections::BTreeMap::<u16, u32>::new();
                while std::time::Instant::now() < until {
                    let answer =
                        stack.service(service).as_ref().map(Service::connect).map(|mut client| client.send(&request));
                    *statuses.entry(answer.expect("nobody has ended it").status).or_default() += 1;
                }
                statuses
            })
        })
        .collect();
    for client in clients {
        let statuses = client.join().unwrap();
        let taken = statuses.keys().all(|status| matches!(status, 200..=202 | 503));
        assert!(taken && statuses.keys().any(|status| *status < 300), "{statuses:?}");
    }
}
