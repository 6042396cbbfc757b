import assert from "node:assert/strict";
import { test } from "node:test";
import { formatLabelFilters, parseLabelFilters } from "../../metrics-collector/label-filters.ts";

test("filters of any names and values are formatted and parsed without a change", () => {
  for (const [filters, text] of [
    [{}, ""],
    [{ a: "1", b: "x:y" }, "a:1,b:x:y"],
    [{ a: "x,y" }, '{"a":"x,y"}'],
    [{ "ns:key": "v" }, '{"ns:key":"v"}'],
    [{ a: " x" }, '{"a":" x"}'],
    [{ a: "x\n", b: "2" }, '{"a":"x\\n","b":"2"}'],
    [{ "{": "1" }, '{"{":"1"}'],
  ]) {
    assert.equal(formatLabelFilters(new Map(Object.entries(filters))), text);
    assert.deepEqual(Object.fromEntries(parseLabelFilters(text)), filters);
  }
  assert.equal(formatLabelFilters(new Map([["a", ""]])), "");
  assert.equal(parseLabelFilters('{"a":').size, 0);
});
