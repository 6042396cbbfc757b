//! Entry IDs: positive integers that encode the time and the level of an entry.
//!
//! A millisecond has 256 ticks, and a tick has one ID for each of 8 levels. At most one entry has a tick. The order of IDs
//! is therefore the order of time in all segments together, and an entry's level is known without reading its row. An ID can
//! be ahead of its entry's time, because an entry whose tick is used takes a later one. It is behind only for times far in
//! the future, which a wrong clock wrote, and for times from 2109 on.
//!
//! Ticks count from 1970, and IDs stay below 2^53, so that they are exact in JavaScript. In the ID only, a time before 1970
//! is 1970-01-01, and a time from 2109 on is 2109-01-01. 2^53 IDs last until May 2109, which leaves 3 * 10^12 ticks to the
//! entries from 2109 on.

use super::enumerations::{level_from_number, level_number};
use crate::records::log_level::Level;

const NS_PER_MS: i64 = 1_000_000;
/// Number of ticks per millisecond.
pub(super) const TICKS_PER_MS: i64 = 256;
const IDS_PER_TICK: i64 = 8;
/// Start of 2109 (UTC), in milliseconds since 1970.
const LAST_TIME_MS: i64 = 4_386_441_600_000;
/// Tick of the largest ID below 2^53.
pub(super) const LAST_TICK: i64 = (1 << 53) / IDS_PER_TICK - 1;

/// SQL expression for the number of the level, as in the table `levels`, of the column `id`.
pub(super) const LEVEL_SQL: &str = "(id % 8)";

/// Returns the tick of a time in nanoseconds since 1970.
pub(super) fn tick_at(time_ns: i64) -> i64 {
    let (ms, ns) = (time_ns.div_euclid(NS_PER_MS), time_ns.rem_euclid(NS_PER_MS));
    match ms {
        ..0 => 0,
        0..LAST_TIME_MS => ms * TICKS_PER_MS + ns * TICKS_PER_MS / NS_PER_MS,
        LAST_TIME_MS.. => LAST_TIME_MS * TICKS_PER_MS,
    }
}

/// Returns the minutes since 1970 of the times that an entry with this ID can have, if it is at most `lead_ms` ahead of the
/// entry's time and at most `lag_ms` behind; `None` if there are several.
pub(super) fn exact_minute(id: i64, lead_ms: i64, lag_ms: i64) -> Option<i64> {
    const MS_PER_MINUTE: i64 = 60_000;
    let id_ms = tick(id) / TICKS_PER_MS;
    let (earliest_ms, latest_ms) = (id_ms - lead_ms, id_ms.saturating_add(lag_ms));
    let is_exact = earliest_ms > 0 && latest_ms < LAST_TIME_MS;
    (is_exact && earliest_ms / MS_PER_MINUTE == latest_ms / MS_PER_MINUTE).then_some(latest_ms / MS_PER_MINUTE)
}

/// Returns the level of an ID; `None` if a later version of the program stored it.
pub(super) fn level(id: i64) -> Option<Level> {
    level_from_number(id % IDS_PER_TICK)
}

/// Returns the tick of an ID.
pub(super) fn tick(id: i64) -> i64 {
    id / IDS_PER_TICK
}

/// Returns the ID of an entry with this tick and level.
pub(super) fn from_tick(tick: i64, level: Level) -> i64 {
    first_of_tick(tick) + level_number(level)
}

/// Returns the first ID of a tick.
pub(super) fn first_of_tick(tick: i64) -> i64 {
    tick * IDS_PER_TICK
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;

    const SAFE_INTEGER_MAX: i64 = (1 << 53) - 1;

    fn ns(timestamp: &str) -> i64 {
        Timestamp::parse(timestamp).unwrap().ms() * NS_PER_MS
    }

    #[test]
    fn ids_are_positive_safe_integers_in_order_of_time() {
        let times = [
            i64::MIN,
            ns("1969-12-31T23:59:59.999Z"),
            0,
            3_907,
            NS_PER_MS,
            ns("2026-01-31T12:00:00Z"),
            ns("2039-01-01T00:00:00Z"),
            ns("2108-12-31T23:59:59.999Z"),
            ns("2109-01-01T00:00:00Z"),
            ns("2109-12-31T23:59:59Z"),
            i64::MAX,
        ];
        let ids = times.map(|time_ns| from_tick(tick_at(time_ns), Level::Info));
        assert!(ids.is_sorted() && ids.iter().all(|id| (1..=SAFE_INTEGER_MAX).contains(id)), "{ids:?}");
        assert_eq!((ids[0], ids[1], ids[2], ids[3], ids[4]), (2, 2, 2, 10, 256 * 8 + 2));
        assert_eq!(ids[8..], [ids[8]; 3]);
        assert_eq!(from_tick(LAST_TICK, Level::Critical), SAFE_INTEGER_MAX - 2);
        assert!(LAST_TICK - tick_at(i64::MAX) > 2_900_000_000_000, "free ticks for entries from 2109 on");
    }

    #[test]
    fn levels_round_trip_through_ids() {
        for level_in in Level::ALL {
            assert_eq!(level(from_tick(tick_at(ns("2026-01-31T12:00:00Z")), level_in)), Some(level_in));
        }
    }

    #[test]
    fn an_id_tells_the_minute_unless_its_lead_reaches_another_one() {
        let id = |timestamp: &str| from_tick(tick_at(ns(timestamp)), Level::Info);
        let minute = ns("2026-01-31T12:00:00Z") / NS_PER_MS / 60_000;
        assert_eq!(exact_minute(id("2026-01-31T12:00:02Z"), 0, 0), Some(minute));
        assert_eq!(exact_minute(id("2026-01-31T12:00:02Z"), 2_000, 0), Some(minute));
        assert_eq!(exact_minute(id("2026-01-31T12:00:02Z"), 2_001, 0), None);
        assert_eq!(exact_minute(id("2026-01-31T12:00:02Z"), 0, 57_000), Some(minute));
        assert_eq!(exact_minute(id("2026-01-31T12:00:02Z"), 0, 58_000), None);
        assert_eq!(exact_minute(id("1960-01-01T00:00:00Z"), 0, 0), None);
        assert_eq!(exact_minute(id("2200-01-01T00:00:00Z"), 0, 0), None);
    }
}
