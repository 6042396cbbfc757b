//! Symbolication of reports: replaces positions in minified files by positions in the sources.

use std::borrow::Cow;

use serde_json::value::to_raw_value;

use super::commands::TouchMaps;
use super::release_maps::ReleaseMaps;
use super::report::TrackerReport;
use super::sourcemap::lookup::{LookupResult, OriginalPosition};
use super::sourcemap::{frames, stack};
use super::state::Relay;
use crate::clock::Timestamp;
use crate::error::{Error, Result};

/// Maximum size of a resolved stack trace. The error tracker would reject a longer one, so the report keeps the minified
/// stack trace.
const STACK_BYTES_MAX: usize = 128 * 1024;
/// Minimum time between two updates of a map's last use.
const TOUCH_INTERVAL_MS: i64 = 3_600_000;

/// Resolves a report's stack trace with the source maps of its release, and records that these are in use. Returns the
/// minified stack trace if it was replaced. If the maps cannot be read, the report does not change.
pub(super) fn symbolicate<'a>(relay: &Relay, report: &mut TrackerReport<'a>) -> Option<Cow<'a, str>> {
    if report.release.is_none() || report.traceback.is_empty() {
        return None;
    }
    try_symbolicate(relay, report).unwrap_or_else(|why| {
        log::warn!("symbolicate: reading source maps failed: {why}; forwarding the minified stack trace");
        None
    })
}

fn try_symbolicate<'a>(relay: &Relay, report: &mut TrackerReport<'a>) -> Result<Option<Cow<'a, str>>> {
    let now = Timestamp::now();
    let reader = relay.core.readers.acquire()?;
    let release = report.release.as_deref().unwrap_or_default();
    let mut maps = ReleaseMaps::new(&reader, &relay.lookup_cache, report.project, release);
    let mut last_error = None;
    let symbolicate_frame = |url: &str, line, column| -> Option<OriginalPosition> {
        match maps.look_up(url, line, column) {
            Ok(Some(LookupResult::Resolved(original))) => Some(original),
            Ok(_) => None,
            Err(why) => {
                last_error = Some(why);
                None
            }
        }
    };
    let symbolicated = stack::symbolicate_stack(&report.traceback, &report.message, symbolicate_frame);
    if let Some(why) = last_error {
        return Err(why);
    }
    report.extra.skipped_frames = Some(maps.skipped_frames()).filter(|skipped| *skipped > 0);
    touch_maps(relay, maps.last_used_before(Timestamp::from_ms(now.ms() - TOUCH_INTERVAL_MS)), now);
    if symbolicated.frames.is_empty() || symbolicated.stack.len() > STACK_BYTES_MAX {
        return Ok(None);
    }
    let frames = to_raw_value(&frames::describe_frames(&symbolicated.frames));
    report.extra.frames = Some(frames.map_err(|why| Error::Internal(format!("cannot serialize frames: {why}")))?);
    Ok(Some(std::mem::replace(&mut report.traceback, symbolicated.stack.into())))
}

/// Updates the last use of source maps asynchronously.
fn touch_maps(relay: &Relay, maps: Vec<i64>, now: Timestamp) {
    if maps.is_empty() {
        return;
    }
    relay.core.writer.submit(TouchMaps { maps, now }, |outcome| {
        if let Err(why) = outcome {
            log::warn!("symbolicate: updating last_used of source maps failed: {why}; the next report will retry");
        }
    });
}
