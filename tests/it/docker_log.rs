//! A container's log that is written and rotated as Docker does.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use monlight::clock::Timestamp;
use serde_json::json;

/// How long a log becomes before it is rotated, as Docker does.
const LOG_BYTES_MAX: u64 = 200_000;
const ROTATED_MAX: u32 = 4;

/// A container's log as Docker writes it. What it is in goes and comes back; who writes has it open.
pub struct Log {
    folder: File,
    path: PathBuf,
    file: File,
    bytes: u64,
}

impl Log {
    /// Of a new container of this name.
    pub fn create(containers: &Path, name: &str) -> Self {
        let id = format!("{:0<64}", name.bytes().map(|byte| format!("{byte:02x}")).collect::<String>());
        let folder = containers.join(&id);
        std::fs::create_dir(&folder).unwrap();
        let log_path = format!("/var/lib/docker/containers/{id}/{id}-json.log");
        let config = json!({ "ID": id, "Name": format!("/{name}"), "LogPath": log_path, "Config": { "Image": "shop:1", "Labels": {} } });
        std::fs::write(folder.join("config.v2.json"), config.to_string()).unwrap();
        let path = PathBuf::from(format!("{id}-json.log"));
        let folder = File::open(folder).unwrap();
        let file = open(&folder, &path);
        Self { folder, path, file, bytes: 0 }
    }

    /// A line of the container's, with what ends it.
    pub fn line(&mut self, text: &str) {
        if self.bytes > LOG_BYTES_MAX {
            self.rotate();
        }
        let time = Timestamp::now().to_string();
        let mut line = json!({ "log": format!("{text}\n"), "stream": "stdout", "time": time }).to_string();
        line.push('\n');
        self.file.write_all(line.as_bytes()).unwrap();
        self.bytes += line.len() as u64;
    }

    fn rotate(&mut self) {
        let named = |number: u32| self.path.with_extension(format!("log.{number}"));
        let rename = |from: &Path, to: &Path| rustix::fs::renameat(&self.folder, from, &self.folder, to);
        for number in (1..ROTATED_MAX).rev() {
            // Not there yet, at first.
            let _ = rename(&named(number), &named(number + 1));
        }
        rename(&self.path, &named(1)).unwrap();
        self.file = open(&self.folder, &self.path);
        self.bytes = 0;
    }
}

/// Opens a log in a folder, wherever that is by now.
fn open(folder: &File, path: &Path) -> File {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::CREATE | OFlags::APPEND | OFlags::WRONLY | OFlags::CLOEXEC;
    rustix::fs::openat(folder, path, flags, Mode::from_raw_mode(0o640)).unwrap().into()
}
