//! Entry IDs: 64-bit integers that encode the time and the level of an entry.
//!
//! A millisecond has 4,096 ticks, and a tick has one ID per level. The order of IDs is therefore the order of time in
//! all segments together, and an entry's minute and level are known without reading its row. IDs count from 2026, so
//! those of earlier entries are negative. Integers in JavaScript are exact for the IDs of 2012 to 2039.

use crate::records::log_level::Level;

/// Start of 2026 (UTC), in minutes since 1970.
const EPOCH_MINUTE: i64 = 29_453_760;
const EPOCH_NS: i64 = EPOCH_MINUTE * 60_000_000_000;
const NS_PER_MS: i64 = 1_000_000;
/// Number of ticks per millisecond. A tick is the resolution of an ID, and holds at most one entry.
pub(super) const TICKS_PER_MS: i64 = 4_096;
const IDS_PER_TICK: i64 = 5;
const IDS_PER_MINUTE: i64 = 60_000 * TICKS_PER_MS * IDS_PER_TICK;

/// SQL expression for the level's rank of the column `id`.
pub(super) const LEVEL_RANK_SQL: &str = "((id % 5 + 5) % 5)";

/// Returns the smallest ID at a time in nanoseconds since 1970.
pub(super) fn first_at(time_ns: i64) -> i64 {
    let since_epoch_ns = time_ns.saturating_sub(EPOCH_NS);
    let (ms, ns) = (since_epoch_ns.div_euclid(NS_PER_MS), since_epoch_ns.rem_euclid(NS_PER_MS));
    (ms * TICKS_PER_MS + ns * TICKS_PER_MS / NS_PER_MS) * IDS_PER_TICK
}

/// Returns the first ID of a minute, counted since 1970.
pub(super) fn first_of_minute(minute: i64) -> i64 {
    (minute - EPOCH_MINUTE).saturating_mul(IDS_PER_MINUTE)
}

/// Returns the minute of an ID, counted since 1970.
pub(super) fn minute(id: i64) -> i64 {
    id.div_euclid(IDS_PER_MINUTE) + EPOCH_MINUTE
}

/// Returns the rank of the level of an ID, 0 to 4.
pub(super) fn level_rank(id: i64) -> u8 {
    u8::try_from(id.rem_euclid(IDS_PER_TICK)).unwrap_or_default()
}

/// Returns the tick of an ID.
pub(super) fn tick(id: i64) -> i64 {
    id.div_euclid(IDS_PER_TICK)
}

/// Returns the ID of an entry with this tick and level.
pub(super) fn from_tick(tick: i64, level: Level) -> i64 {
    first_of_tick(tick) + i64::from(level.rank())
}

/// Returns the first ID of a tick.
pub(super) fn first_of_tick(tick: i64) -> i64 {
    tick * IDS_PER_TICK
}
