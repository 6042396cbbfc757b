import assert from "node:assert/strict";
import { test } from "node:test";
import {
  bucketRates,
  bucketsInRange,
  bucketTimes,
  bucketValues,
  isolatedIndexes,
  latestValue,
  maxValue,
  sumBuckets,
} from "../../metrics-collector/series.ts";

const seconds = (time) => Date.parse(time) / 1000;
const MIDNIGHT = seconds("2026-01-01T00:00:00Z");
const timestamp = (time) => new Date(time * 1000).toISOString().replace(".000", "");
/** Returns buckets of a minute. Their values are given by the minute after midnight. */
const buckets = (values) =>
  Object.entries(values).map(([minute, sum]) => ({ bucket: timestamp(MIDNIGHT + minute * 60), sum }));
const minutes = (from, to) => ({ from: MIDNIGHT + from * 60, to: MIDNIGHT + to * 60, step: 60 });
const getSum = ({ sum }) => sum;

test("bucket times start with the bucket that contains the start", () => {
  const range = { from: seconds("2025-12-31T23:58:30Z"), to: seconds("2026-01-01T00:00:30Z"), step: 60 };
  assert.deepEqual(bucketTimes(range).map(timestamp), [
    "2025-12-31T23:58:00Z",
    "2025-12-31T23:59:00Z",
    "2026-01-01T00:00:00Z",
  ]);
  assert.deepEqual(bucketTimes(minutes(0, 2)), [MIDNIGHT, MIDNIGHT + 60]);
  assert.deepEqual(bucketTimes({ from: MIDNIGHT, to: MIDNIGHT, step: 3_600 }), [MIDNIGHT]);
  // Hours are those of UTC, so a change of the clock does not add or remove one.
  assert.equal(
    bucketTimes({ from: seconds("2026-03-29T00:00:00Z"), to: seconds("2026-03-30T00:00:00Z"), step: 3_600 }).length,
    24,
  );
});

test("buckets of a range include the one that contains its start, but not its end", () => {
  const range = { ...minutes(1, 3), from: MIDNIGHT + 90 };
  assert.deepEqual(bucketsInRange(range, buckets({ 0: 1, 1: 2, 2: 3, 3: 4 })).map(getSum), [2, 3]);
  assert.deepEqual(bucketsInRange(range, []), []);
});

test("a line bridges short gaps and ends at long ones", () => {
  const values = (data, to) => bucketValues(minutes(0, to), buckets(data), getSum);
  assert.deepEqual(values({ 1: 1, 3: 3 }, 5), [null, 1, undefined, 3, null]);
  assert.deepEqual(values({ 0: 1, 5: 2 }, 6), [1, undefined, undefined, undefined, undefined, 2]);
  assert.deepEqual(values({ 0: 1, 6: 2 }, 7), [1, null, null, null, null, null, 2]);
  assert.deepEqual(values({}, 2), [null, null]);
  assert.deepEqual(values({ 0: null, 1: 0 }, 2), [null, 0]);
});

test("empty buckets have the rate zero after the first bucket", () => {
  const later = MIDNIGHT + 3_600;
  assert.deepEqual(bucketRates(minutes(0, 4), buckets({ 1: 60, 3: 30 }), getSum, later), [null, 1, 0, 0.5]);
  assert.deepEqual(bucketRates(minutes(0, 2), [], getSum, later), [null, null]);
});

test("the rate of the current bucket is based on the elapsed time", () => {
  const range = { from: MIDNIGHT, to: MIDNIGHT + 7_200, step: 3_600 };
  const data = [
    { bucket: timestamp(MIDNIGHT), sum: 3_600 },
    { bucket: timestamp(MIDNIGHT + 3_600), sum: 60 },
  ];
  assert.deepEqual(bucketRates(range, data, getSum, MIDNIGHT + 3_600 + 120), [1, 0.5]);
  assert.deepEqual(bucketRates(range, data, getSum, MIDNIGHT + 3_600 + 59), [1, null]);
  assert.deepEqual(bucketRates(range, data, getSum, MIDNIGHT + 3_600 - 1), [3_600 / 3_599, null]);
});

test("statistics of a line ignore missing values", () => {
  assert.equal(sumBuckets(buckets({ 0: 1.5, 9: 2 }), getSum), 3.5);
  assert.equal(sumBuckets([], getSum), 0);
  assert.equal(latestValue([1, 0, undefined, null]), 0);
  assert.equal(latestValue([null, undefined]), null);
  assert.equal(maxValue([-2, null, -1, undefined]), -1);
  assert.equal(maxValue([]), null);
});

test("isolated values have no neighbor that a line could connect", () => {
  assert.deepEqual(isolatedIndexes([1, null, 2, 3, null, 4]), [0, 5]);
  assert.deepEqual(isolatedIndexes([null, 1, undefined, 2, null]), []);
  assert.deepEqual(isolatedIndexes([undefined, 1, undefined, null]), [1]);
  assert.deepEqual(isolatedIndexes([0]), [0]);
  assert.deepEqual(isolatedIndexes([]), []);
});
