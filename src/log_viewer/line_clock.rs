//! Clock for the lines of a text file: the time that a line states, or one that fits it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::local_zone::LocalZone;
use super::parse::stated_time::{self, LocalTime, StatedTime};
use super::plausible_time::latest_plausible_ns;
use crate::clock::Timestamp;

const NS_PER_SECOND: i64 = 1_000_000_000;
const SECONDS_PER_MINUTE: i64 = 60;
/// Maximum time after a line within which a line without a time belongs to the same read.
const SAME_READ_MAX: Duration = Duration::from_millis(600);
/// Maximum time that times step back without the clock being set back, in seconds.
const STEP_BACK_MAX_S: i64 = 60;
/// Maximum time by which a date without a year is taken to be ahead. Beyond it, the date is of an earlier year.
const YEARLESS_AHEAD_MAX_NS: i64 = 86_400 * NS_PER_SECOND;
/// Maximum offset of a zone from UTC.
const ZONE_OFFSET_MAX_NS: i64 = 15 * 3_600 * NS_PER_SECOND;
/// Number of years before the present one that a date without a year is searched in. February 29 is up to 8 years ago.
const YEARS_BACK_MAX: i32 = 8;

/// Properties of the times of a batch of entries.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct BatchTimes {
    /// Number of times that were ahead and replaced with the time of reading.
    pub(super) corrected: u64,
    /// Whether the entries keep their order where the times step back. The lines of a text file are in the order in which they
    /// were written, whatever times they state.
    pub(super) keep_order: bool,
}

/// Clock with the times of the lines so far.
pub(super) struct LineClock {
    zone: Arc<LocalZone>,
    /// Local minute that was converted last, and the zone's offset from UTC in it, in seconds.
    minute_offset: Option<(i64, i64)>,
    /// Last stated time in seconds since 1970.
    last_s: i64,
    /// Time of the last line that stated one, in nanoseconds since 1970, and when it was read.
    last_stated: Option<(i64, Instant)>,
    read: Read,
    corrected: u64,
}

/// Lines that are read at once.
struct Read {
    started: Instant,
    arrival: Timestamp,
    /// Whether a line got the time of reading since the last stated time.
    has_arrival_time: bool,
    /// Stated time after lines with the time of reading, until the caller takes it.
    next_stated_ns: Option<i64>,
}

impl Read {
    fn start(now: Instant) -> Self {
        Self { started: now, arrival: Timestamp::now(), has_arrival_time: false, next_stated_ns: None }
    }
}

impl LineClock {
    pub(super) fn new(zone: Arc<LocalZone>, now: Instant) -> Self {
        Self { zone, minute_offset: None, last_s: i64::MIN, last_stated: None, read: Read::start(now), corrected: 0 }
    }

    /// Starts a read, unless the lines that follow belong to the current one.
    pub(super) fn start_read(&mut self, now: Instant) {
        if self.read.started != now {
            self.read = Read::start(now);
        }
    }

    /// Returns the time of reading, in nanoseconds since 1970. It is the same for all lines of a read.
    pub(super) fn arrival_ns(&self) -> i64 {
        self.read.arrival.ms().saturating_mul(1_000_000)
    }

    /// Returns the time of a line, in nanoseconds since 1970: the one that it states, or that of the line before it in the
    /// same read, or the time of reading.
    pub(super) fn line_ns(&mut self, line: &str) -> i64 {
        match stated_time::parse(line).and_then(|stated| self.resolve(stated)) {
            Some(stated_ns) => self.accept(stated_ns),
            None => match self.last_stated {
                Some((last_ns, at)) if self.read.started.saturating_duration_since(at) <= SAME_READ_MAX => last_ns,
                _ => {
                    self.read.has_arrival_time = true;
                    self.arrival_ns()
                }
            },
        }
    }

    /// Returns a stated time, or the time of reading if it is too far ahead.
    pub(super) fn accept(&mut self, stated_ns: i64) -> i64 {
        let is_ahead = stated_ns > latest_plausible_ns(self.read.arrival);
        self.corrected += u64::from(is_ahead);
        let time_ns = if is_ahead { self.arrival_ns() } else { stated_ns };
        self.last_stated = Some((time_ns, self.read.started));
        let had_arrival_time = std::mem::replace(&mut self.read.has_arrival_time, is_ahead);
        if had_arrival_time && !is_ahead {
            self.read.next_stated_ns = Some(time_ns);
        }
        time_ns
    }

    /// Returns the stated time of a line after lines of the same read that got the time of reading, once.
    pub(super) fn take_next_stated_ns(&mut self) -> Option<i64> {
        self.read.next_stated_ns.take()
    }

    /// Returns the properties of the times since the last call.
    pub(super) fn take_batch(&mut self) -> BatchTimes {
        BatchTimes { corrected: std::mem::take(&mut self.corrected), keep_order: true }
    }

    fn resolve(&mut self, stated: StatedTime) -> Option<i64> {
        let utc_ns = match stated {
            StatedTime::Utc(utc_ns) => utc_ns,
            StatedTime::Local(local) => match local.year {
                Some(year) => self.utc_ns_of(local.in_year_ns(year)?),
                None => self.in_latest_year(local)?,
            },
        };
        self.last_s = utc_ns.div_euclid(NS_PER_SECOND);
        Some(utc_ns)
    }

    /// Returns a time without a year in the latest year in which it is not ahead.
    fn in_latest_year(&mut self, local: LocalTime) -> Option<i64> {
        let (latest_ns, year) = (self.arrival_ns() + YEARLESS_AHEAD_MAX_NS, self.read.arrival.calendar().year());
        (year - YEARS_BACK_MAX..=year + 1).rev().find_map(|year| {
            let local_ns = local.in_year_ns(year).filter(|local_ns| local_ns - ZONE_OFFSET_MAX_NS <= latest_ns)?;
            Some(self.utc_ns_of(local_ns)).filter(|utc_ns| *utc_ns <= latest_ns)
        })
    }

    /// Converts a local time, in nanoseconds since 1970, to UTC. In an hour that a clock repeats when it is set back, the
    /// times continue those before.
    fn utc_ns_of(&mut self, local_ns: i64) -> i64 {
        let local_s = local_ns.div_euclid(NS_PER_SECOND);
        let minute = local_s.div_euclid(SECONDS_PER_MINUTE);
        let offset_s = match self.minute_offset {
            Some((known, offset_s)) if known == minute => offset_s,
            _ => {
                let [first_s, second_s] = self.zone.to_utc(local_s);
                let is_repeated = first_s < self.last_s.saturating_sub(STEP_BACK_MAX_S);
                let offset_s = local_s - if is_repeated { second_s } else { first_s };
                self.minute_offset = (first_s == second_s).then_some((minute, offset_s));
                offset_s
            }
        };
        local_ns - offset_s * NS_PER_SECOND
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BERLIN: &str = "CET-1CEST,M3.5.0,M10.5.0/3";

    /// Clock of a read that started at this time.
    fn clock(zone: &str, arrival: &str) -> LineClock {
        let mut clock = LineClock::new(Arc::new(LocalZone::parse(zone).unwrap()), Instant::now());
        clock.read.arrival = Timestamp::parse(arrival).unwrap();
        clock
    }

    fn shown(ns: i64) -> String {
        Timestamp::from_ms(ns / 1_000_000).to_string()
    }

    #[test]
    fn lines_state_a_time_or_take_the_one_before() {
        let mut clock = clock(BERLIN, "2026-01-31T12:00:00Z");
        for (line, expected) in [
            ("no time yet", "2026-01-31T12:00:00Z"),
            ("2026-01-30 12:00:00 INFO a", "2026-01-30T11:00:00Z"),
            ("  continued", "2026-01-30T11:00:00Z"),
            ("2026-01-30T12:00:00Z b", "2026-01-30T12:00:00Z"),
            ("2026-01-31 13:09:00 within ten minutes", "2026-01-31T12:09:00Z"),
            ("2026-01-31 13:11:00 ahead", "2026-01-31T12:00:00Z"),
            ("after it", "2026-01-31T12:00:00Z"),
            ("2026-01-30 12:00:00 steps back", "2026-01-30T11:00:00Z"),
        ] {
            assert_eq!(shown(clock.line_ns(line)), expected, "{line}");
        }
        assert_eq!([clock.take_batch(), clock.take_batch()].map(|batch| batch.corrected), [1, 0]);
        assert_eq!(clock.take_next_stated_ns().map(shown).as_deref(), Some("2026-01-30T11:00:00Z"));
        let started = clock.read.started;
        clock.start_read(started + SAME_READ_MAX);
        assert_eq!(shown(clock.line_ns("soon after")), "2026-01-30T11:00:00Z");
        clock.start_read(started + 2 * SAME_READ_MAX);
        assert_eq!(clock.line_ns("later"), clock.arrival_ns());
        assert_eq!(clock.take_next_stated_ns(), None);
    }

    #[test]
    fn dates_without_a_year_are_not_ahead() {
        for (arrival, line, expected) in [
            ("2026-01-31T12:00:00Z", "Jan 31 12:00:00 host a: x", "2026-01-31T11:00:00Z"),
            ("2026-01-31T12:00:00Z", "Feb  2 12:00:00 host a: x", "2025-02-02T11:00:00Z"),
            ("2026-01-01T00:00:10Z", "Dec 31 23:59:59 host a: x", "2025-12-31T22:59:59Z"),
            // The machine is already in the next year.
            ("2025-12-31T23:30:00Z", "Jan  1 00:30:00 host a: x", "2025-12-31T23:30:00Z"),
            ("2026-01-31T12:00:00Z", "Feb 29 12:00:00 host a: x", "2024-02-29T11:00:00Z"),
            ("2026-01-31T12:00:00Z", "E0131 13:00:00.000000 1 a.go:1] x", "2026-01-31T12:00:00Z"),
            // A clock that is ahead by an hour is not behind by a year.
            ("2026-01-31T12:00:00Z", "Jan 31 14:00:00 host a: x", "2026-01-31T12:00:00Z"),
        ] {
            assert_eq!(shown(clock(BERLIN, arrival).line_ns(line)), expected, "{arrival} {line}");
        }
    }

    #[test]
    fn an_hour_that_is_repeated_follows_the_one_before() {
        let mut clock = clock(BERLIN, "2026-11-30T12:00:00Z");
        for (local, expected) in [
            ("2026-10-25 02:00:00", "2026-10-25T00:00:00Z"),
            ("2026-10-25 02:59:59", "2026-10-25T00:59:59Z"),
            ("2026-10-25 02:59:58", "2026-10-25T00:59:58Z"),
            ("2026-10-25 02:00:00", "2026-10-25T01:00:00Z"),
            ("2026-10-25 02:00:01", "2026-10-25T01:00:01Z"),
            ("2026-10-25 03:00:00", "2026-10-25T02:00:00Z"),
        ] {
            assert_eq!(shown(clock.line_ns(&format!("{local} x"))), expected, "{local}");
        }
    }
}
