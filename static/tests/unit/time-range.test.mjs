import assert from "node:assert/strict";
import { test } from "node:test";
import { PERIODS, parsePeriod, parseZoom, toBucketRange, zoomParams } from "../../metrics-collector/time-range.ts";

const seconds = (time) => Date.parse(time) / 1000;
const NOW = seconds("2026-01-01T00:30:00Z");

test("periods have a number and a unit", () => {
  assert.equal(parsePeriod("90s"), 90);
  assert.equal(parsePeriod("15m"), 900);
  assert.equal(parsePeriod("24h"), 86_400);
  assert.equal(parsePeriod("366d"), 31_622_400);
  for (const period of ["", "h", "1", "1w", "-1h", "1.5h", " 1h", "1h\n", "1H"]) {
    assert.ok(Number.isNaN(parsePeriod(period)), period);
  }
  assert.deepEqual(
    PERIODS.map(([period]) => parsePeriod(period)),
    [3_600, 86_400, 604_800, 2_592_000],
  );
});

test("the zoom is a range that can cross a year", () => {
  const zoom = (query) => parseZoom(new URLSearchParams(query), NOW);
  assert.deepEqual(zoom("since=2025-12-31T23:00:00Z&until=2026-01-01T00:15:00Z"), {
    from: seconds("2025-12-31T23:00:00Z"),
    to: seconds("2026-01-01T00:15:00Z"),
  });
  assert.deepEqual(zoom({ since: "2025-12-31T23:00:00+01:00" }), { from: seconds("2025-12-31T22:00:00Z"), to: NOW });
  assert.deepEqual(zoom("until=2026-01-01T00:15:00Z"), {
    from: seconds("2025-12-31T23:15:00Z"),
    to: seconds("2026-01-01T00:15:00Z"),
  });
  for (const query of [
    "",
    "since=&until=",
    "since=x&until=y",
    "since=2026-01-01T00:30:00Z",
    "since=2026-01-02T00:00:00Z",
  ]) {
    assert.equal(zoom(query), undefined, query);
  }
});

test("the service's resolution is the width of the buckets", () => {
  const range = { from: NOW - 86_400, to: NOW };
  assert.deepEqual(toBucketRange(range, "minute"), { ...range, step: 60 });
  // The service stores minutes for less than a day.
  assert.deepEqual(toBucketRange(range, "hour"), { ...range, step: 3_600 });
});

test("the URL of a zoom is in whole seconds and covers at least two minutes", () => {
  assert.deepEqual(zoomParams({ from: seconds("2025-12-31T23:00:00Z"), to: seconds("2026-01-01T01:00:00.9Z") }), {
    since: "2025-12-31T23:00:00Z",
    until: "2026-01-01T01:00:00Z",
  });
  const middle = seconds("2026-01-01T00:00:00Z");
  assert.deepEqual(zoomParams({ from: middle - 1, to: middle + 1 }), {
    since: "2025-12-31T23:59:00Z",
    until: "2026-01-01T00:01:00Z",
  });
});
