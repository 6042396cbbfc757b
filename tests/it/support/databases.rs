//! Database files: integrity checks, and databases of the original Monlight.

use std::path::Path;

/// Asserts that SQLite finds no corruption in a database.
#[track_caller]
pub fn assert_intact(path: &Path) {
    // Another connection would checkpoint and remove the write-ahead log when it closes.
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let database = rusqlite::Connection::open_with_flags(path, flags).unwrap();
    let result: String = database.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(result, "ok", "{}", path.display());
}

/// Runs SQL statements on the database of a service that is not running.
pub fn update_file(path: &Path, sql: &str) {
    rusqlite::Connection::open(path).unwrap().execute_batch(sql).unwrap();
}

/// Copies a database of the original Monlight, for example `errors.db`, to `path` and makes the copy writable.
pub fn copy_original(name: &str, path: &Path) {
    let original = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/original").join(name);
    // Unlike `std::fs::copy`, this does not copy the permissions.
    std::io::copy(&mut std::fs::File::open(original).unwrap(), &mut std::fs::File::create(path).unwrap()).unwrap();
}
