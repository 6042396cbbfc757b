//! What is done about age and size: maps that no frame has needed for long go, and their space goes back to the disk.

use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _};

use super::Relay;
use super::commands::drop_oldest;
use super::uploads::remove;
use crate::background::{Job, StopToken};
use crate::clock::Timestamp;
use crate::db::{Command, vacuum};
use crate::error::Result;

const EVERY: Duration = Duration::from_secs(600);
/// Between two rounds reports get their turn.
const BREATH: Duration = Duration::from_millis(50);

/// The job that sees to it.
pub(super) fn job(relay: &Arc<Relay>, kept: Duration) -> Job {
    let relay = Arc::clone(relay);
    let run = Box::new(move |pause: &StopToken| {
        // What fails now is done at the next round; the writer says in the log when the disk is the reason.
        if let Err(why) = round(&relay, kept, pause) {
            log::warn!("retention waits: {why}");
        }
    });
    Job { name: "retention", interval: EVERY, run }
}

fn round(relay: &Relay, kept: Duration, pause: &StopToken) -> Result<()> {
    let (writer, before) = (&relay.core.writer, Timestamp::now() - kept);
    while writer.run(Expire { before })? && pause.sleep(BREATH) {}
    vacuum(writer, || pause.sleep(BREATH))
}

/// Removes a map that was last used before a moment.
struct Expire {
    before: Timestamp,
}

impl Command for Expire {
    /// Whether there was one.
    type Output = bool;

    fn apply(self, transaction: &Connection) -> Result<bool> {
        remove_unused(transaction, self.before)
    }
}

/// Removes the map that was not used for longest, if that is since before a moment.
fn remove_unused(transaction: &Connection, before: Timestamp) -> Result<bool> {
    let mut unused =
        transaction.prepare_cached("SELECT id FROM source_maps WHERE used_at < ?1 ORDER BY used_at, id LIMIT 1")?;
    let id: Option<i64> = unused.query_row([before.ms()], |row| row.get(0)).optional()?;
    id.map_or(Ok(false), |id| remove(transaction, id))
}

/// Keeps the file within `MAX_DB_MB`: the maps that were not used for longest go first, since they can be uploaded
/// again, then the oldest that waits in the outbox.
pub(super) fn shrink(connection: &Connection) -> Result<bool> {
    Ok(remove_unused(connection, Timestamp::from_ms(i64::MAX))? || drop_oldest(connection)?)
}
