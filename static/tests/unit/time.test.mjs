import assert from "node:assert/strict";
import { test } from "node:test";
import { formatAbsolute, formatRelative, formatTimestamp, toLocalInput, toTimestamp } from "../../shared/time.ts";

const NOW = Date.parse("2026-01-01T00:00:30Z");

test("relative times use the longest unit that fits", () => {
  for (const [time, expected] of [
    ["2026-01-01T00:00:30Z", "just now"],
    ["2025-12-31T23:59:31Z", "just now"],
    ["2025-12-31T23:59:30Z", "1 min. ago"],
    ["2025-12-31T23:00:31Z", "59 min. ago"],
    ["2025-12-31T23:00:30Z", "1 hr. ago"],
    ["2025-12-30T00:00:31Z", "1 day ago"],
    ["2025-12-02T00:00:30Z", "1 mo. ago"],
    ["2024-01-02T00:00:30Z", "2 yr. ago"],
    ["2026-01-01T00:05:30Z", "in 5 min."],
    ["2026-01-01T01:00:30+01:00", "just now"],
    ["2026-01-01T00:00:29.123456789Z", "just now"],
  ]) {
    assert.equal(formatRelative(time, NOW), expected, time);
  }
  assert.equal(formatRelative("never", NOW), "never");
  assert.equal(formatRelative("", NOW), "");
});

test("absolute times are in the user's time zone", () => {
  assert.match(formatAbsolute("2026-01-31T23:30:05Z"), /\b0?12:30:05.AM|\b0?0:30:05/);
  assert.match(formatAbsolute("2026-12-31T23:30:00Z"), /2027/);
  assert.equal(formatAbsolute("never"), "never");
});

test("times of lines have a year unless it is the current one", () => {
  const now = new Date("2026-06-30T12:00:00Z");
  assert.match(formatTimestamp("2026-03-31T12:34:56.789123Z", now), /^03-31 \d\d:34:56\.789$/);
  assert.match(formatTimestamp("1970-01-15T12:34:56Z", now), /^1970-01-15 \d\d:34:56\.000$/);
});

test("timestamps are in UTC and in whole seconds", () => {
  assert.equal(toTimestamp(0), "1970-01-01T00:00:00Z");
  assert.equal(toTimestamp(Date.parse("2026-12-31T23:59:59.999Z")), "2026-12-31T23:59:59Z");
  assert.equal(toTimestamp(Date.parse("2028-02-29T12:00:00.5+02:00")), "2028-02-29T10:00:00Z");
});

test("values of date fields are in the user's time zone on both sides of a clock change", () => {
  assert.equal(toLocalInput("2026-03-29T00:59:00Z"), "2026-03-29T01:59");
  assert.equal(toLocalInput("2026-03-29T01:00:00Z"), "2026-03-29T03:00");
  assert.equal(toLocalInput("2026-10-25T00:59:59Z"), "2026-10-25T02:59");
  assert.equal(toLocalInput("2026-10-25T01:00:00Z"), "2026-10-25T02:00");
  assert.equal(toLocalInput("2026-12-31T23:30:00Z"), "2027-01-01T00:30");
  for (const time of [undefined, "", "never"]) {
    assert.equal(toLocalInput(time), "");
  }
});
