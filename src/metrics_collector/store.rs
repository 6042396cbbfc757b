//! Read queries for the statistics of `/health` and `/metrics`.

use rusqlite::Connection;

use crate::clock::Timestamp;
use crate::db::counter;
use crate::error::Result;

/// Number of hours for which received points are counted, including the current hour.
pub(super) const RECEIVED_HOURS: i64 = 24;

/// Returns the number of points received in the current hour and the 23 hours before it.
pub(super) fn points_received(connection: &Connection, now: Timestamp) -> Result<i64> {
    let mut read = connection
        .prepare_cached("SELECT coalesce(sum(points), 0) FROM points_received WHERE at_h > ?1 AND at_h <= ?2")?;
    // Later hours were counted while our clock was wrong.
    Ok(read.query_row((now.hour() - RECEIVED_HOURS, now.hour()), |row| row.get(0))?)
}

/// Returns the number of points that remote write has not sent yet, and the age of the last sent batch in seconds; 0 if
/// no points wait.
pub(super) fn remote_write_lag(connection: &Connection, now: Timestamp) -> Result<(i64, i64)> {
    if counter(connection, "remote_on")? == 0 {
        return Ok((0, 0));
    }
    let newest: Option<i64> = connection.query_row("SELECT max(id) FROM points", [], |row| row.get(0))?;
    let cursor = counter(connection, "remote_cursor")?;
    let waiting = newest.map_or(0, |newest| newest - cursor);
    let sent_at = Timestamp::from_ms(counter(connection, "remote_sample_at_ms")?);
    let lag_s = now.saturating_since(sent_at).as_secs().cast_signed();
    Ok((waiting, if waiting > 0 { lag_s } else { 0 }))
}
