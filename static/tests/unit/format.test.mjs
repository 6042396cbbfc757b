import assert from "node:assert/strict";
import { test } from "node:test";
import { formatValue, unitFromName } from "../../metrics-collector/format.ts";

test("values have three significant digits and their unit", () => {
  for (const [value, unit, expected] of [
    [null, "ms", "–"],
    [undefined, "", "–"],
    [0, "", "0"],
    [-0.01234, "", "-0.0123"],
    [99.94, "", "99.9"],
    [99.96, "", "100"],
    [123.6, "", "124"],
    [999_999, "", "999,999"],
    [1_234_567, "", "1.235M"],
    [-2e9, "/s", "-2B /s"],
    [0.25, "/s", "0.25 /s"],
    [0, "s", "0 s"],
    [0.0415, "s", "41.5 ms"],
    [1, "s", "1 s"],
    [-0.5, "s", "-500 ms"],
    [41.26, "ms", "41.3 ms"],
    [12.5, "%", "12.5 %"],
  ]) {
    assert.equal(formatValue(value, unit), expected, `${value} ${unit}`);
  }
});

test("bytes have decimal prefixes", () => {
  for (const [value, expected] of [
    [0, "0 B"],
    [999, "999 B"],
    [1_000, "1 kB"],
    [1_250_000_000, "1.25 GB"],
    [-2_000, "-2 kB"],
    [5e15, "5 PB"],
    [5e18, "5,000 PB"],
    [0.5, "0.5 B"],
  ]) {
    assert.equal(formatValue(value, "bytes"), expected, String(value));
  }
  assert.equal(formatValue(1_500, "bytes/s"), "1.5 kB/s");
});

test("units follow from the name of the metric", () => {
  assert.equal(unitFromName("request_seconds"), "s");
  assert.equal(unitFromName("request_ms"), "ms");
  assert.equal(unitFromName("sent_bytes"), "bytes");
  assert.equal(unitFromName("sent_bytes_total"), "bytes");
  assert.equal(unitFromName("cpu_percent"), "%");
  assert.equal(unitFromName("orders_total"), "");
  assert.equal(unitFromName("ms"), "");
  assert.equal(unitFromName(""), "");
});
