//! Route `GET /api/quota`: the shares, the usage of each bounded store by project, and what was rejected.

use serde::Serialize;

use super::state::ServiceState;
use crate::error::Result;
use crate::http::{Request, Response};
use crate::quota::{
    ALL_BROWSERS_PERCENT, BROWSER_PERCENT, PROJECT_PERCENT, ProjectUsage, RejectionEntry, SERVER_RESERVE_PERCENT,
    Store, largest_usages, rejection_entries, total_usage,
};

/// Maximum number of projects listed for each store, and of rejections.
const ENTRIES_MAX: usize = 100;

#[derive(Serialize)]
struct Quota {
    shares: Shares,
    stores: Vec<StoreUsage>,
    rejections: Vec<RejectionEntry>,
}

/// The shares of a store in percent, from the table in `quota/shares.rs`.
#[derive(Serialize)]
struct Shares {
    project_percent: u64,
    browser_percent: u64,
    all_browsers_percent: u64,
    server_reserve_percent: u64,
}

#[derive(Serialize)]
struct StoreUsage {
    name: &'static str,
    rows: u64,
    /// `None` if the number of rows is unbounded.
    rows_max: Option<u64>,
    bytes: u64,
    /// `None` if the size is unbounded.
    bytes_max: Option<u64>,
    projects: Vec<ProjectUsage>,
}

/// Handles `GET /api/quota`.
pub(super) fn quota<S: ServiceState>(state: &S, _: &Request) -> Result<Response> {
    let reader = state.core().readers.acquire()?;
    let usage = |store: Store| -> Result<StoreUsage> {
        let total = total_usage(&reader, &store)?;
        let bound = |max: u64| (max < u64::MAX).then_some(max);
        Ok(StoreUsage {
            name: store.name,
            rows: total.rows,
            rows_max: bound(store.bounds.rows_max),
            bytes: total.bytes,
            bytes_max: bound(store.bounds.bytes_max),
            projects: largest_usages(&reader, &store, ENTRIES_MAX)?,
        })
    };
    let shares = Shares {
        project_percent: PROJECT_PERCENT,
        browser_percent: BROWSER_PERCENT,
        all_browsers_percent: ALL_BROWSERS_PERCENT,
        server_reserve_percent: SERVER_RESERVE_PERCENT,
    };
    let stores = state.stores().into_iter().map(usage).collect::<Result<_>>()?;
    Ok(Response::json(200, &Quota { shares, stores, rejections: rejection_entries(&reader, ENTRIES_MAX)? }))
}
