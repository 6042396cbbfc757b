import assert from "node:assert/strict";
import { test } from "node:test";
import { lineLink, parseFilters, parseLevels } from "../../log-viewer/filters.ts";

test("filters are read from known, non-empty query parameters", () => {
  const params = new URLSearchParams("search=a%20b&container=&regex=%5C%2B&line=5&other=x");
  assert.deepEqual(parseFilters(params), { search: "a b", regex: "\\+" });
  assert.deepEqual(parseFilters(new URLSearchParams()), {});
});

test("the link to a line keeps the filters", () => {
  assert.equal(lineLink({ search: "a&b", level: "" }, 17), "?search=a%26b&line=17");
});

test("levels are a list or a minimum", () => {
  const levels = (filter) => [...parseLevels(filter)];
  assert.deepEqual(levels("ERROR"), ["ERROR"]);
  assert.deepEqual(levels("critical, debug"), ["DEBUG", "CRITICAL"]);
  assert.deepEqual(levels(">=WARNING"), ["WARNING", "ERROR", "CRITICAL"]);
  assert.deepEqual(levels(" >= error "), ["ERROR", "CRITICAL"]);
  assert.deepEqual(levels(">=DEBUG"), ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]);
  assert.deepEqual(levels("ERROR,NOTICE"), ["ERROR"]);
  for (const filter of [undefined, "", "NOTICE"]) {
    assert.deepEqual(levels(filter), []);
  }
});
