//! Search for rotated files in formats of compression that the log viewer does not read.

use std::path::Path;

/// Extensions of files that are compressed with other programs than gzip.
const EXTENSIONS: [&str; 5] = ["bz2", "xz", "zst", "zip", "lz4"];
/// Maximum number of entries of a folder that are looked at.
const ENTRIES_MAX: usize = 2_000;

/// Returns the name of the newest of the compressed files next to a log whose names start with that of the log, without
/// its extension. Returns `None` if there is none, or the folder cannot be read.
pub(super) fn newest(log: &Path) -> Option<String> {
    let stem = log.file_stem()?.to_str()?;
    let entries = log.parent()?.read_dir().ok()?.take(ENTRIES_MAX).filter_map(Result::ok);
    let archives = entries.filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let (_, extension) = name.rsplit_once('.')?;
        let modified = entry.metadata().ok()?.modified().ok()?;
        (name.starts_with(stem) && EXTENSIONS.contains(&extension)).then_some((modified, name))
    });
    archives.max().map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn newest_archive_of_a_log_is_found() {
        let folder = std::env::temp_dir().join(format!("monlight-archives-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let log = folder.join("app.log");
        let create = |name: &str, modified_s| {
            let file = File::create(folder.join(name)).unwrap();
            file.set_modified(UNIX_EPOCH + Duration::from_secs(modified_s)).unwrap();
        };
        for (name, modified_s) in [("app.log", 9), ("app.log.1", 8), ("app.log.2.gz", 7), ("other.log.xz", 6)] {
            create(name, modified_s);
        }
        assert_eq!(newest(&log), None);
        create("app.log.4.bz2", 1);
        create("app-2026-01-31.log.zst", 3);
        create("app.log.3.xz", 2);
        let found = newest(&log);
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(found.as_deref(), Some("app-2026-01-31.log.zst"));
        assert_eq!(newest(&log), None, "the folder does not exist");
    }
}
