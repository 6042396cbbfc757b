//! What remote write changes in the database: from where on it sends, what it is about to send, what was taken.

use std::collections::BTreeMap;

use rusqlite::Connection;

use super::super::cumulative::{Cumulative, Table};
use super::super::store::total;
use crate::clock::Timestamp;
use crate::db::Command;
use crate::error::Result;

fn set(transaction: &Connection, totals: &[(&str, i64)]) -> Result<()> {
    let mut write = transaction.prepare_cached("UPDATE totals SET value = ?2 WHERE name = ?1")?;
    for (name, value) in totals {
        write.execute((name, value))?;
    }
    Ok(())
}

/// Nothing is sent on, and nothing waits for it.
pub(in super::super) struct Forget;

impl Command for Forget {
    type Output = ();

    fn apply(self, transaction: &Connection) -> Result<()> {
        if total(transaction, "remote_cursor")? >= 0 {
            transaction.execute("DELETE FROM remote", [])?;
            set(transaction, &[("remote_cursor", -1), ("remote_claimed", -1)])?;
        }
        Ok(())
    }
}

/// From now on points are sent one after the other; what was before is in the totals they add to.
pub(super) struct Begin {
    pub(super) now: Timestamp,
}

impl Command for Begin {
    type Output = ();

    fn apply(self, transaction: &Connection) -> Result<()> {
        let rolled_up = total(transaction, "rolled_up")?;
        let at = self.now.ms().max(total(transaction, "remote_at")?);
        transaction.execute("DELETE FROM remote", [])?;
        transaction.execute(
            "INSERT INTO remote (series_id, count, sum, last, last_at, sketch)
                 SELECT series_id, count, sum, last, last_at, sketch FROM cumulative",
            [],
        )?;
        set(transaction, &[("remote_cursor", rolled_up), ("remote_claimed", rolled_up), ("remote_at", at)])
    }
}

/// What is about to be sent is decided before, so that after a crash the same is sent again and not something else of the
/// same moment.
pub(super) struct Claim {
    pub(super) last: i64,
    pub(super) now: Timestamp,
}

impl Command for Claim {
    type Output = ();

    fn apply(self, transaction: &Connection) -> Result<()> {
        set(transaction, &[("remote_claimed", self.last), ("remote_claimed_at", self.now.ms())])
    }
}

/// It was taken, or refused for good.
pub(super) struct Sent {
    pub(super) last: i64,
    pub(super) at: i64,
    pub(super) states: BTreeMap<i64, Cumulative>,
    pub(super) sent: i64,
    pub(super) refused: i64,
}

impl Command for Sent {
    type Output = ();

    fn apply(self, transaction: &Connection) -> Result<()> {
        for (series, all) in &self.states {
            all.store(transaction, Table::Remote, *series)?;
        }
        let (sent, refused) = (total(transaction, "remote_sent")?, total(transaction, "remote_refused")?);
        set(
            transaction,
            &[
                ("remote_cursor", self.last),
                ("remote_at", self.at),
                ("remote_sent", sent + self.sent),
                ("remote_refused", refused + self.refused),
            ],
        )
    }
}
