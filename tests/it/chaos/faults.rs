//! Faults. Each function injects one and removes its cause. The services must then recover on their own; a function only
//! restarts those that it has killed.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use monlight::clock::Timestamp;

use super::FaultRun;
use crate::support::harness::{API_KEY, PUBLIC_KEY, Request, SERVICES, Service, TempDir, send_signal, wait_until};
use crate::support::peers;
use crate::support::stack::{COLLECTOR, RELAY, TRACKER, VIEWER};

/// Duration of a fault that lasts until it is removed.
const FAULT_DURATION: Duration = Duration::from_secs(4);
const DISK_BYTES: u64 = 128 << 20;

/// Separate ext4 file system in an image file, mounted through a loop device and unmounted on drop.
pub struct LoopDisk {
    image: PathBuf,
    /// Mount point.
    pub folder: Arc<TempDir>,
    _image_dir: TempDir,
}

impl LoopDisk {
    pub fn new() -> Self {
        let (image_dir, folder) = (TempDir::new(), Arc::new(TempDir::new()));
        let image = image_dir.path().join("image");
        File::create(&image).unwrap().set_len(DISK_BYTES).unwrap();
        run_program("mkfs.ext4", &["-q", "-F", "-m", "0", &image.display().to_string()]);
        let disk = Self { image, folder, _image_dir: image_dir };
        disk.mount();
        disk
    }

    fn mount(&self) {
        run_program("mount", &["-o", "loop", &self.image.display().to_string(), &self.mount_point()]);
    }

    fn mount_point(&self) -> String {
        self.folder.path().display().to_string()
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        // No process uses the file system any more. If unmounting fails, only an unused mount remains.
        let _ = Command::new("umount").args(["--lazy", &self.mount_point()]).status();
    }
}

#[track_caller]
fn run_program(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?} failed: {stderr}");
}

/// Kills a random service and restarts it.
pub fn kill_one(run: &mut FaultRun) {
    let service = run.rng.below(SERVICES.len());
    run.stack.kill(service);
    run.stack.start_service(service);
}

/// Kills all services at once and restarts them.
pub fn kill_all(run: &mut FaultRun) {
    (0..SERVICES.len()).for_each(|service| run.stack.kill(service));
    (0..SERVICES.len()).for_each(|service| run.stack.start_service(service));
}

/// Fills the disk with a file and then deletes it.
pub fn fill_disk(run: &mut FaultRun) {
    let path = run.disk.folder.path().join("ballast");
    let mut ballast = File::create(&path).unwrap();
    let megabyte = vec![b'b'; 1 << 20];
    // Smaller writes fill the last megabyte. Repeated writes also take the space that services free meanwhile.
    let start = std::time::Instant::now();
    while start.elapsed() < FAULT_DURATION {
        let _ = ballast.write_all(&megabyte).or_else(|_| ballast.write_all(&[b'b'; 4_096]));
        std::thread::sleep(Duration::from_millis(5));
    }
    for service in [TRACKER, VIEWER, COLLECTOR, RELAY] {
        run.wait_for_unhealthy(service, "writing to the database fails");
    }
    drop(ballast);
    std::fs::remove_file(path).unwrap();
}

/// Makes every `fsync` and `fdatasync` of the services fail with EIO.
pub fn fail_flushes(run: &mut FaultRun) {
    let tracers: Vec<Child> = (0..SERVICES.len())
        .map(|service| {
            let mut command = peers::command("strace").expect("the test has checked that strace is available");
            command.args(["-f", "-p", &run.stack.pid(service).to_string(), "-o", "/dev/null"]);
            command.args(["-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:error=EIO"]);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
        })
        .collect();
    // These two services flush before they respond.
    for service in [TRACKER, RELAY] {
        run.wait_for_unhealthy(service, "writing to the database fails");
    }
    std::thread::sleep(FAULT_DURATION);
    for mut tracer in tracers {
        send_signal(tracer.id(), "INT");
        tracer.wait().unwrap();
    }
}

/// Aborts the file system, which then rejects all writes, as ext4 does when its disk fails. Then checks and remounts it, and
/// restarts the services as after a reboot.
pub fn abort_file_system(run: &mut FaultRun) {
    let mount_point = run.disk.mount_point();
    run_program("mount", &["-o", "remount,abort", &mount_point]);
    for service in [TRACKER, VIEWER, COLLECTOR, RELAY] {
        run.wait_for_unhealthy(service, "writing to the database fails");
    }
    std::thread::sleep(FAULT_DURATION);
    (0..SERVICES.len()).for_each(|service| run.stack.kill(service));
    for service in 0..SERVICES.len() {
        let (code, output) = run.stack.run_to_exit(service);
        assert_eq!(code, Some(1), "{output}");
    }
    let unmounted =
        || Command::new("umount").arg(&mount_point).stderr(Stdio::null()).status().unwrap().success().then_some(());
    wait_until(unmounted).expect("no process uses the file system any more");
    // e2fsck exits with 1 if it has repaired something.
    let output = Command::new("e2fsck").args(["-p", &run.disk.image.display().to_string()]).output().unwrap();
    assert!(matches!(output.status.code(), Some(0 | 1)), "{output:?}");
    run.disk.mount();
    (0..SERVICES.len()).for_each(|service| run.stack.start_service(service));
}

/// Kills the upstreams of the relay and restarts them later.
pub fn stop_upstreams(run: &mut FaultRun) {
    let upstreams = [TRACKER, COLLECTOR];
    upstreams.iter().for_each(|service| run.stack.kill(*service));
    std::thread::sleep(FAULT_DURATION);
    upstreams.iter().for_each(|service| run.stack.start_service(*service));
}

/// Renames the folder of the container logs and restores it later. The writer of the logs keeps its file open.
pub fn remove_log_folder(run: &mut FaultRun) {
    let renamed = run.stack.containers_dir.with_extension("gone");
    std::fs::rename(&run.stack.containers_dir, &renamed).unwrap();
    let has_warning =
        || run.stack.health(VIEWER)?.1["warnings"].as_array().filter(|warnings| !warnings.is_empty()).map(|_| ());
    wait_until(has_warning).expect("/health of the viewer has a warning");
    std::thread::sleep(FAULT_DURATION);
    std::fs::rename(&renamed, &run.stack.containers_dir).unwrap();
}

/// Sets the clock of the services two hours ahead, two hours back, and to the correct time.
pub fn change_clock(run: &mut FaultRun) {
    for offset in ["+7200", "-7200", "+0"] {
        set_clock(run.clock.path(), offset);
        std::thread::sleep(FAULT_DURATION / 2);
        let latest = run.stack.service(TRACKER).as_ref().map(|tracker| tracker.get("/api/errors?limit=1").expect(200));
        let last_seen = latest.unwrap().json()["errors"][0]["last_seen"].as_str().and_then(Timestamp::parse).unwrap();
        let ahead_s = last_seen.seconds() - Timestamp::now().seconds();
        let offset_s: i64 = offset.parse().unwrap();
        // A group seen in the future stays the latest one when the clock is set back.
        assert!(ahead_s >= offset_s - 60, "the clock was set to {offset} s, but the latest group is {ahead_s} s ahead");
    }
}

/// Sets the clock of the services that read the offset file in `folder` to the real time plus `offset` seconds.
pub fn set_clock(folder: &Path, offset: &str) {
    // A rename replaces the file atomically, so that no service reads a partial one.
    let temporary = folder.join("new");
    std::fs::write(&temporary, offset).unwrap();
    std::fs::rename(temporary, folder.join("offset")).unwrap();
}

/// Sends the requests that need the most memory all at once: the largest reports, batches and source maps, exports and
/// searches.
pub fn send_largest_requests(run: &mut FaultRun) {
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
    let deadline = std::time::Instant::now() + 2 * FAULT_DURATION;
    let clients: Vec<_> = requests
        .into_iter()
        .flat_map(|(service, request)| [(service, request.clone()), (service, request)])
        .map(|(service, request)| {
            let stack = Arc::clone(&run.stack);
            std::thread::spawn(move || {
                let mut statuses = std::collections::BTreeMap::<u16, u32>::new();
                while std::time::Instant::now() < deadline {
                    let response =
                        stack.service(service).as_ref().map(Service::connect).map(|mut client| client.send(&request));
                    *statuses.entry(response.expect("the service is running").status).or_default() += 1;
                }
                statuses
            })
        })
        .collect();
    for client in clients {
        let statuses = client.join().unwrap();
        let expected = statuses.keys().all(|status| matches!(status, 200..=202 | 503));
        assert!(expected && statuses.keys().any(|status| *status < 300), "{statuses:?}");
    }
}
