//! Docker's json-file logs: configuration, lines, and a writer that rotates like Docker.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use monlight::clock::Timestamp;
use serde_json::json;

/// Returns `config.v2.json` of a container: the part that the log viewer reads.
pub fn container_config(id: &str, name: &str) -> String {
    let log_path = format!("/var/lib/docker/containers/{id}/{}", log_name(id));
    let labels = json!({ "com.docker.compose.project": "shop" });
    json!({ "ID": id, "Name": format!("/{name}"), "LogPath": log_path, "Config": { "Image": "shop:1", "Labels": labels } })
        .to_string()
}

/// Returns the file name of a container's log.
pub fn log_name(id: &str) -> String {
    format!("{id}-json.log")
}

/// Returns a line of the json-file format. `text` includes its newline, unless it is a partial line.
pub fn json_file_line(time: &str, stream: &str, text: &str) -> String {
    json!({ "log": text, "stream": stream, "time": time }).to_string() + "\n"
}

/// Size at which the log is rotated, in bytes.
const LOG_BYTES_MAX: u64 = 200_000;
const ROTATED_MAX: u32 = 4;

/// A container log as Docker writes it. It works on open descriptors, so writing continues while a test moves the
/// folder away and back.
pub struct ContainerLog {
    folder: File,
    path: PathBuf,
    file: File,
    bytes: u64,
}

impl ContainerLog {
    /// Creates the folder and the log of a new container.
    pub fn create(containers_dir: &Path, name: &str) -> Self {
        let id = format!("{:0<64}", name.bytes().map(|byte| format!("{byte:02x}")).collect::<String>());
        let folder = containers_dir.join(&id);
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("config.v2.json"), container_config(&id, name)).unwrap();
        let path = PathBuf::from(log_name(&id));
        let folder = File::open(folder).unwrap();
        let file = open_log(&folder, &path);
        Self { folder, path, file, bytes: 0 }
    }

    /// Appends one stdout line with the current time; rotates first if the log has reached its size limit.
    pub fn append_line(&mut self, message: &str) {
        if self.bytes > LOG_BYTES_MAX {
            self.rotate();
        }
        let time = Timestamp::now().to_string();
        let line = json_file_line(&time, "stdout", &format!("{message}\n"));
        self.file.write_all(line.as_bytes()).unwrap();
        self.bytes += line.len() as u64;
    }

    fn rotate(&mut self) {
        let rotated_path = |number: u32| self.path.with_extension(format!("log.{number}"));
        let rename = |from: &Path, to: &Path| rustix::fs::renameat(&self.folder, from, &self.folder, to);
        for number in (1..ROTATED_MAX).rev() {
            // The first rotations find no older files.
            let _ = rename(&rotated_path(number), &rotated_path(number + 1));
        }
        rename(&self.path, &rotated_path(1)).unwrap();
        self.file = open_log(&self.folder, &self.path);
        self.bytes = 0;
    }
}

/// Opens a log relative to the folder's descriptor, which stays valid when the folder is moved.
fn open_log(folder: &File, path: &Path) -> File {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::CREATE | OFlags::APPEND | OFlags::WRONLY | OFlags::CLOEXEC;
    rustix::fs::openat(folder, path, flags, Mode::from_raw_mode(0o640)).unwrap().into()
}
