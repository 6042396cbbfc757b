//! The stores of the error tracker that a quota bounds.

use crate::quota::{Bounds, Store};

/// Average size of a group up to which `MAX_GROUPS` groups are stored. Most have a few hundred bytes.
const GROUP_BYTES: u64 = 2_000;
/// Minimum of the bound on the size of all groups.
const GROUPS_BYTES_MIN: u64 = 10_000_000;

/// Returns the store of unresolved groups, which `MAX_GROUPS` bounds. The size is bounded too, because `MAX_DB_MB` does not
/// delete groups.
pub(super) fn groups(groups_max: i64) -> Store {
    let rows_max = groups_max.max(0).unsigned_abs();
    let bounds = Bounds { rows_max, bytes_max: (rows_max * GROUP_BYTES).max(GROUPS_BYTES_MIN) };
    Store { name: "groups", warning: "groups_over_quota", bounds }
}

/// The names of environments and releases.
pub(super) const NAMES: Store =
    Store { name: "names", warning: "names_over_quota", bounds: Bounds { rows_max: 10_000, bytes_max: 1_000_000 } };

/// The counts of reports by group, hour, environment and release. One has about 30 bytes.
pub(super) const HOURLY_COUNTS: Store = Store {
    name: "hourly_counts",
    warning: "hourly_counts_over_quota",
    bounds: Bounds { rows_max: 4_000_000, bytes_max: u64::MAX },
};

/// The reports that are stored in full, by their size and that of the texts of their groups. `MAX_DB_MB` and the free space of
/// the disk bound them.
pub(super) const OCCURRENCES: Store = Store {
    name: "occurrences",
    warning: "occurrences_over_quota",
    bounds: Bounds { rows_max: u64::MAX, bytes_max: u64::MAX },
};
