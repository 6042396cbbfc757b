//! Rows of checkpoints in the database.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::checkpoint::{Checkpoint, LogPositions, Position};
use super::file_identity::Fingerprint;
use super::plausible_time::latest_plausible_ns;
use super::segment_ring::StreamPosition;
use crate::clock::Timestamp;
use crate::error::Result;

/// Reads the checkpoint of a source, and its version; `None` if nothing of the source is stored.
pub(super) fn read_checkpoint(connection: &Connection, source: i64) -> Result<Option<(i64, Checkpoint)>> {
    let mut read = connection.prepare_cached(
        "SELECT first_line_bytes, first_line_hash, inode, offset_bytes, preceding_bytes, preceding_hash,
             previous_first_line_bytes, previous_first_line_hash, version, newest_ns, pending_lines
         FROM checkpoints WHERE source_id = ?1",
    )?;
    let stored = read.query_row([source], |row| {
        let previous = Some(fingerprint(row, 6)?).filter(|first_line| first_line.bytes > 0);
        let positions = LogPositions { current: position(row)?, previous, replaced: Vec::new() };
        // Files that start before this time are taken as read, so a clock that was wrong must not move it ahead.
        let newest_ns: i64 = row.get(9)?;
        let newest_ns = newest_ns.min(latest_plausible_ns(Timestamp::now()));
        Ok((row.get(8)?, Checkpoint { positions, newest_ns, pending_lines: row.get(10)? }))
    });
    let Some((version, mut checkpoint)) = stored.optional()? else { return Ok(None) };
    let mut read = connection.prepare_cached(
        "SELECT first_line_bytes, first_line_hash, inode, offset_bytes, preceding_bytes, preceding_hash
         FROM replaced_files WHERE source_id = ?1 ORDER BY number",
    )?;
    checkpoint.positions.replaced = read.query_map([source], position)?.collect::<rusqlite::Result<_>>()?;
    Ok(Some((version, checkpoint)))
}

/// Returns the position in the first six columns.
fn position(row: &Row<'_>) -> rusqlite::Result<Position> {
    let (inode, offset): (i64, i64) = (row.get(2)?, row.get(3)?);
    Ok(Position {
        first_line: fingerprint(row, 0)?,
        inode: inode.cast_unsigned(),
        offset: offset.unsigned_abs(),
        preceding: fingerprint(row, 4)?,
    })
}

fn fingerprint(row: &Row<'_>, column: usize) -> rusqlite::Result<Fingerprint> {
    let hash: i64 = row.get(column + 1)?;
    Ok(Fingerprint { bytes: row.get(column)?, hash: hash.cast_unsigned() })
}

/// Stores the checkpoint of a source with its version and the positions of its streams.
pub(super) fn store_checkpoint(
    transaction: &Connection,
    source: i64,
    version: i64,
    checkpoint: &Checkpoint,
    [stdout, stderr]: [StreamPosition; 2],
) -> Result<()> {
    let Checkpoint { positions, newest_ns, pending_lines } = checkpoint;
    let LogPositions { current, previous, replaced } = positions;
    let previous = previous.unwrap_or_default();
    transaction
        .prepare_cached(
            "INSERT OR REPLACE INTO checkpoints (source_id, version, first_line_bytes, first_line_hash, inode,
                 offset_bytes, preceding_bytes, preceding_hash, previous_first_line_bytes, previous_first_line_hash,
                 pending_lines, newest_ns, stdout_last_id, stdout_newest_ns, stderr_last_id, stderr_newest_ns)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)",
        )?
        .execute(params![
            source,
            version,
            current.first_line.bytes,
            current.first_line.hash.cast_signed(),
            current.inode.cast_signed(),
            i64::try_from(current.offset).unwrap_or(i64::MAX),
            current.preceding.bytes,
            current.preceding.hash.cast_signed(),
            previous.bytes,
            previous.hash.cast_signed(),
            pending_lines,
            newest_ns,
            stdout.last_id,
            stdout.newest_ns,
            stderr.last_id,
            stderr.newest_ns,
        ])?;
    transaction.prepare_cached("DELETE FROM replaced_files WHERE source_id = ?1")?.execute([source])?;
    for (number, file) in replaced.iter().enumerate() {
        transaction
            .prepare_cached(
                "INSERT INTO replaced_files (source_id, number, first_line_bytes, first_line_hash, inode, offset_bytes,
                     preceding_bytes, preceding_hash)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            )?
            .execute(params![
                source,
                number as i64,
                file.first_line.bytes,
                file.first_line.hash.cast_signed(),
                file.inode.cast_signed(),
                i64::try_from(file.offset).unwrap_or(i64::MAX),
                file.preceding.bytes,
                file.preceding.hash.cast_signed(),
            ])?;
    }
    Ok(())
}
