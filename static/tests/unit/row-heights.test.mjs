import assert from "node:assert/strict";
import { test } from "node:test";
import { RowHeights } from "../../log-viewer/row-heights.ts";

test("rows have the default height until they are measured", () => {
  const heights = new RowHeights(20);
  assert.equal(heights.get(5), 20);
  assert.equal(heights.offsetOf(0, 0), 0);
  assert.equal(heights.offsetOf(7, 2), 100);
  assert.equal(heights.keyAt(0, 0), 0);
  assert.equal(heights.keyAt(99, 2), 6);
  assert.equal(heights.keyAt(100, 2), 7);
});

test("measured heights move the rows below", () => {
  const heights = new RowHeights(20);
  assert.equal(heights.set(3, 50), true);
  assert.equal(heights.set(1, 10), true);
  assert.deepEqual(
    [0, 1, 2, 3, 4, 5].map((key) => heights.offsetOf(key, 0)),
    [0, 20, 30, 50, 100, 120],
  );
  assert.equal(heights.get(3), 50);
  assert.equal(heights.keyAt(29.9, 0), 1);
  assert.equal(heights.keyAt(30, 0), 2);
  assert.equal(heights.keyAt(99, 0), 3);
  assert.equal(heights.keyAt(100, 0), 4);
});

test("changes below half a pixel are ignored", () => {
  const heights = new RowHeights(20);
  assert.equal(heights.set(1, 20.4), false);
  assert.equal(heights.set(1, 20.5), true);
  assert.equal(heights.set(1, 20.9), false);
  assert.equal(heights.get(1), 20.5);
  assert.equal(heights.set(1, 20), true);
  assert.equal(heights.offsetOf(2, 0), 40);
});

test("keys stay valid when rows are inserted at the top", () => {
  const heights = new RowHeights(20);
  heights.set(0, 100);
  // Three rows with negative keys come first.
  assert.equal(heights.offsetOf(0, -3), 60);
  assert.equal(heights.offsetOf(1, -3), 160);
  assert.ok(heights.keyAt(159, -3) === 0);
  heights.set(-2, 5);
  assert.equal(heights.offsetOf(1, -3), 145);
  assert.equal(heights.offsetOf(1, 0), 100);
});

test("every offset belongs to the row that covers it", () => {
  const heights = new RowHeights(10);
  const rows = Array.from({ length: 200 }, (_, key) => 1 + ((key * 37) % 29));
  rows.forEach((height, key) => {
    heights.set(key, height);
  });
  let offset = 0;
  rows.forEach((height, key) => {
    assert.equal(heights.offsetOf(key, 0), offset);
    assert.equal(heights.keyAt(offset, 0), key);
    assert.equal(heights.keyAt(offset + height - 0.1, 0), key);
    offset += height;
  });
});
