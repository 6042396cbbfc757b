//! Free space of the disk that holds the database. When it is low, payloads are no longer stored, while counts continue.

use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use crate::clock::Timestamp;

/// Payloads are stored while this share of the disk is free, in percent, or [`FREE_BYTES_MIN`].
const FREE_PERCENT_MIN: u64 = 10;
/// Free bytes that are enough on a large disk.
const FREE_BYTES_MIN: u64 = 1_000_000_000;
/// Databases up to this size store payloads regardless, because refusing them would not help the disk.
const SMALL_DATABASE_BYTES: u64 = 64 * 1024 * 1024;
/// Seconds between two looks at the disk.
const INTERVAL_S: u64 = 5;

/// Room on the disk for payloads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// Payloads of all projects are stored.
    Enough,
    /// Payloads of the largest project are not stored.
    Low,
    /// Less than half of the minimum is free: no payloads are stored.
    VeryLow,
}

/// The free space of one disk, read at most every 5 seconds.
#[derive(Debug)]
pub struct FreeSpace {
    database: PathBuf,
    read_at_s: AtomicI64,
    room: AtomicU64,
}

impl FreeSpace {
    /// Watches the disk of a database file.
    #[must_use]
    pub fn new(database: PathBuf) -> Self {
        Self { database, read_at_s: AtomicI64::new(i64::MIN), room: AtomicU64::new(Room::Enough as u64) }
    }

    /// Returns the room for payloads. `database_bytes` is the size of the database. Enough if the disk cannot be asked.
    pub fn room(&self, database_bytes: u64, now: Timestamp) -> Room {
        if self.read_at_s.load(Ordering::Relaxed).abs_diff(now.seconds()) >= INTERVAL_S {
            self.read_at_s.store(now.seconds(), Ordering::Relaxed);
            let folder = self.database.parent().filter(|folder| !folder.as_os_str().is_empty());
            let disk = rustix::fs::statvfs(folder.unwrap_or_else(|| ".".as_ref()));
            let room = disk.map_or(Room::Enough, |disk| {
                room(disk.f_bavail.saturating_mul(disk.f_frsize), disk.f_blocks.saturating_mul(disk.f_frsize))
            });
            self.room.store(room as u64, Ordering::Relaxed);
        }
        match self.room.load(Ordering::Relaxed) {
            _ if database_bytes <= SMALL_DATABASE_BYTES => Room::Enough,
            low if low == Room::Low as u64 => Room::Low,
            very_low if very_low == Room::VeryLow as u64 => Room::VeryLow,
            _ => Room::Enough,
        }
    }
}

fn room(free_bytes: u64, disk_bytes: u64) -> Room {
    let min = (disk_bytes / 100 * FREE_PERCENT_MIN).min(FREE_BYTES_MIN);
    match free_bytes {
        free if free >= min => Room::Enough,
        free if free >= min / 2 => Room::Low,
        _ => Room::VeryLow,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_depends_on_the_size_of_the_disk() {
        const GB: u64 = 1_000_000_000;
        for (free, disk, expected) in [
            (GB, 100 * GB, Room::Enough),
            (GB - 1, 100 * GB, Room::Low),
            (GB / 2 - 1, 100 * GB, Room::VeryLow),
            (GB / 10, GB, Room::Enough),
            (GB / 10 - 1, GB, Room::Low),
            (GB / 20 - 1, GB, Room::VeryLow),
        ] {
            assert_eq!(room(free, disk), expected, "{free} of {disk}");
        }
    }

    #[test]
    fn small_databases_always_have_room() {
        let space = FreeSpace::new("errors.db".into());
        space.read_at_s.store(0, Ordering::Relaxed);
        space.room.store(Room::VeryLow as u64, Ordering::Relaxed);
        let now = Timestamp::from_ms(0);
        assert_eq!(space.room(SMALL_DATABASE_BYTES, now), Room::Enough);
        assert_eq!(space.room(SMALL_DATABASE_BYTES + 1, now), Room::VeryLow);
    }
}
