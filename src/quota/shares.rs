//! Shares of a bounded store, and the decision whether a project may add to it.

use crate::records::key_kind::KeyKind;

/// Share of a store that one project may use while other projects use it too, in percent.
pub const PROJECT_PERCENT: u64 = 50;
/// Share of a store that the browser keys of one project may use, in percent: half of the project's.
pub const BROWSER_PERCENT: u64 = 25;
/// Share of the alerts that the browser keys of all projects together may use, in percent.
pub const ALL_BROWSERS_PERCENT: u64 = 50;
/// Share of a store that only server keys may use, in percent. A project that is alone may not use it either, so that the
/// first data of a new project always find room.
pub const SERVER_RESERVE_PERCENT: u64 = 10;

/// An amount of stored data.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// The number of rows.
    pub rows: u64,
    /// Their size, as the store defines it.
    pub bytes: u64,
}

/// Bounds of a store. `u64::MAX` means that this measure is unbounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Maximum number of rows of all projects together.
    pub rows_max: u64,
    /// Maximum size of all rows together, in bytes.
    pub bytes_max: u64,
}

/// Stored data before an addition.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Holdings {
    /// Data of all projects.
    pub(super) total: Usage,
    /// Data of the project that adds.
    pub(super) project: Usage,
    /// The part of `project` that was sent with browser keys.
    pub(super) project_browser: Usage,
    /// Whether no other named project has stored anything.
    pub(super) is_alone: bool,
}

/// Reason for which data are not stored as sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// The store is full.
    StoreFull,
    /// The rest of the store is for server keys.
    ServerReserve,
    /// The project uses its share.
    ProjectShare,
    /// The browser keys of the project use their share.
    BrowserShare,
    /// The browser keys of all projects together use their share.
    AllBrowsersShare,
    /// Only server keys may write this name.
    ReservedName,
    /// The store was full, and this project used most of it.
    Evicted,
    /// The disk is almost full.
    DiskFull,
}

impl Reason {
    /// Returns the reason as `/api/quota` names it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::StoreFull => "store_full",
            Self::ServerReserve => "server_reserve",
            Self::ProjectShare => "project_share",
            Self::BrowserShare => "browser_share",
            Self::AllBrowsersShare => "all_browsers_share",
            Self::ReservedName => "reserved_name",
            Self::Evicted => "evicted",
            Self::DiskFull => "disk_full",
        }
    }

    /// Returns the reason with this name, if there is one.
    pub(super) fn from_name(name: &str) -> Option<Self> {
        let all = [
            Self::StoreFull,
            Self::ServerReserve,
            Self::ProjectShare,
            Self::BrowserShare,
            Self::AllBrowsersShare,
            Self::ReservedName,
            Self::Evicted,
            Self::DiskFull,
        ];
        all.into_iter().find(|reason| reason.name() == name)
    }

    /// Returns the rest of a sentence "… were not stored: ".
    #[must_use]
    pub fn explanation(self) -> String {
        match self {
            Self::StoreFull => "the store is full".into(),
            Self::ServerReserve => format!("the last {SERVER_RESERVE_PERCENT} % are reserved for server keys"),
            Self::ProjectShare => {
                format!("one project may use {PROJECT_PERCENT} %, or {} % if it is alone", 100 - SERVER_RESERVE_PERCENT)
            }
            Self::BrowserShare => format!("the browser keys of one project may use {BROWSER_PERCENT} %"),
            Self::AllBrowsersShare => format!("all browser keys together may use {ALL_BROWSERS_PERCENT} %"),
            Self::ReservedName => "only server keys may write this name".into(),
            Self::Evicted => "the store was full, and this project used most of it".into(),
            Self::DiskFull => "the disk is almost full".into(),
        }
    }
}

impl Usage {
    fn plus(self, added: Self) -> Self {
        Self { rows: self.rows.saturating_add(added.rows), bytes: self.bytes.saturating_add(added.bytes) }
    }

    /// Whether this is more than a percentage of the bounds.
    #[must_use]
    pub fn exceeds(self, bounds: Bounds, percent: u64) -> bool {
        self.rows > share(bounds.rows_max, percent) || self.bytes > share(bounds.bytes_max, percent)
    }
}

/// Returns the given percentage of a bound; an unbounded measure stays unbounded.
pub(super) fn share(max: u64, percent: u64) -> u64 {
    // The percentage is at most 100, so the result is at most `max`.
    if max == u64::MAX { max } else { (u128::from(max) * u128::from(percent) / 100) as u64 }
}

/// Decides whether a project may add to a store that cannot evict. Returns the reason if it may not.
pub(super) fn refusal(bounds: Bounds, held: &Holdings, kind: KeyKind, added: Usage) -> Option<Reason> {
    let total = held.total.plus(added);
    if total.exceeds(bounds, 100) {
        return Some(Reason::StoreFull);
    }
    let project = held.project.plus(added);
    match kind {
        KeyKind::Browser if held.project_browser.plus(added).exceeds(bounds, BROWSER_PERCENT) => {
            Some(Reason::BrowserShare)
        }
        KeyKind::Browser if project.exceeds(bounds, PROJECT_PERCENT) => Some(Reason::ProjectShare),
        KeyKind::Browser if total.exceeds(bounds, 100 - SERVER_RESERVE_PERCENT) => Some(Reason::ServerReserve),
        KeyKind::Server if project.exceeds(bounds, project_percent(held.is_alone)) => Some(Reason::ProjectShare),
        KeyKind::Browser | KeyKind::Server => None,
    }
}

fn project_percent(is_alone: bool) -> u64 {
    if is_alone { 100 - SERVER_RESERVE_PERCENT } else { PROJECT_PERCENT }
}

/// Returns how many items to take from each holder, so that `max` remain: always from the one that holds the most. `held` is
/// the number of items of each holder; the result has the same order.
#[must_use]
pub fn evictions(held: &[u64], max: u64) -> Vec<u64> {
    let total: u64 = held.iter().sum();
    let mut surplus = total.saturating_sub(max);
    let mut sorted: Vec<u64> = held.to_vec();
    sorted.sort_unstable_by(|a, b| b.cmp(a));
    // Lower the level of the largest holders until the surplus is gone.
    let mut level = sorted.first().copied().unwrap_or(0);
    let mut remainder = 0;
    for (index, next) in sorted.iter().skip(1).chain([&0]).enumerate() {
        let holders = index as u64 + 1;
        let step = (level - next) * holders;
        if step >= surplus {
            level -= surplus.div_ceil(holders);
            remainder = (holders - surplus % holders) % holders;
            break;
        }
        surplus -= step;
        level = *next;
    }
    let take = |held: &u64| {
        let mut taken = held.saturating_sub(level);
        if taken > 0 && remainder > 0 {
            (taken, remainder) = (taken - 1, remainder - 1);
        }
        taken
    };
    held.iter().map(take).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ROWS: Bounds = Bounds { rows_max: 1_000, bytes_max: u64::MAX };
    const ONE: Usage = Usage { rows: 1, bytes: 0 };

    fn rows(rows: u64) -> Usage {
        Usage { rows, bytes: 0 }
    }

    #[test]
    fn each_share_ends_at_its_percentage() {
        let held = |total, project, browser, is_alone| Holdings {
            total: rows(total),
            project: rows(project),
            project_browser: rows(browser),
            is_alone,
        };
        for (held, kind, expected) in [
            (held(249, 249, 249, true), KeyKind::Browser, None),
            (held(250, 250, 250, true), KeyKind::Browser, Some(Reason::BrowserShare)),
            (held(500, 500, 0, true), KeyKind::Browser, Some(Reason::ProjectShare)),
            (held(899, 0, 0, false), KeyKind::Browser, None),
            (held(900, 0, 0, false), KeyKind::Browser, Some(Reason::ServerReserve)),
            (held(900, 499, 0, false), KeyKind::Server, None),
            (held(900, 500, 0, false), KeyKind::Server, Some(Reason::ProjectShare)),
            (held(899, 899, 0, true), KeyKind::Server, None),
            (held(900, 900, 0, true), KeyKind::Server, Some(Reason::ProjectShare)),
            (held(900, 900, 0, false), KeyKind::Server, Some(Reason::ProjectShare)),
            (held(999, 0, 0, false), KeyKind::Server, None),
            (held(1_000, 0, 0, false), KeyKind::Server, Some(Reason::StoreFull)),
        ] {
            assert_eq!(refusal(ROWS, &held, kind, ONE), expected, "{held:?} {kind:?}");
        }
    }

    #[test]
    fn bytes_are_bounded_like_rows() {
        let bounds = Bounds { rows_max: u64::MAX, bytes_max: 1_000 };
        let held = Holdings {
            total: Usage { rows: 1, bytes: 240 },
            project: Usage { rows: 1, bytes: 240 },
            ..Holdings::default()
        };
        let held = Holdings { project_browser: held.project, ..held };
        let add = |bytes| refusal(bounds, &held, KeyKind::Browser, Usage { rows: 1, bytes });
        assert_eq!((add(10), add(11)), (None, Some(Reason::BrowserShare)));
    }

    #[test]
    fn reasons_are_found_by_their_names() {
        for reason in
            [Reason::StoreFull, Reason::AllBrowsersShare, Reason::ReservedName, Reason::DiskFull, Reason::Evicted]
        {
            assert_eq!(Reason::from_name(reason.name()), Some(reason));
        }
        assert_eq!(Reason::from_name("other"), None);
    }

    proptest! {
        #[test]
        fn evictions_leave_the_maximum_and_spare_smaller_holders(
            held in proptest::collection::vec(0_u64..50, 0..8), max in 0_u64..200,
        ) {
            let taken = evictions(&held, max);
            let left: Vec<u64> = held.iter().zip(&taken).map(|(held, taken)| held - taken).collect();
            prop_assert_eq!(left.iter().sum::<u64>(), held.iter().sum::<u64>().min(max));
            let level = held.iter().zip(&taken).filter(|(_, taken)| **taken > 0).map(|(held, taken)| held - taken);
            // Nobody who lost something has less than anybody else, except by rounding.
            for level in level {
                prop_assert!(left.iter().all(|left| *left <= level + 1), "{:?} {:?}", held, taken);
            }
        }
    }
}
