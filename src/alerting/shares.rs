//! Shares in the queue and in each hour: browsers apart from servers, and critical alerts of servers first.

use rusqlite::Connection;

use super::alert::Origin;
use super::limits::ONE_ALERT;
use crate::error::Result;
use crate::quota::{ALL_BROWSERS_PERCENT, Holder, PROJECT_PERCENT, Reason, Store, Usage, check, kind_usage};
use crate::records::key_kind::KeyKind;

/// Returns the reason why a store has no room for one more alert; `None` if it has.
pub(super) fn refusal(connection: &Connection, store: &Store, origin: Origin<'_>) -> Result<Option<Reason>> {
    let holder = Holder { project: origin.project, kind: origin.key_kind };
    let reason = check(connection, store, holder, ONE_ALERT)?;
    if reason.is_none()
        && origin.key_kind == KeyKind::Browser
        && with_one_more(connection, store, None, KeyKind::Browser)?.exceeds(store.bounds, ALL_BROWSERS_PERCENT)
    {
        return Ok(Some(Reason::AllBrowsersShare));
    }
    Ok(reason)
}

/// Whether the alert is a critical one of a server, and the servers of its project use less than the project's share. Then
/// only alerts of browsers can keep it out, unless servers fill the store.
pub(super) fn is_entitled(connection: &Connection, store: &Store, origin: Origin<'_>) -> Result<bool> {
    Ok(origin.is_critical_of_server()
        && !with_one_more(connection, store, Some(origin.project), KeyKind::Server)?
            .exceeds(store.bounds, PROJECT_PERCENT))
}

/// Returns the usage by one project, or by all, through one kind of key, after one more alert.
fn with_one_more(connection: &Connection, store: &Store, project: Option<&str>, kind: KeyKind) -> Result<Usage> {
    let held = kind_usage(connection, store, project, kind)?;
    Ok(Usage { rows: held.rows + ONE_ALERT.rows, ..held })
}
