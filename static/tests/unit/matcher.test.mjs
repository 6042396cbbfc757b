// Positions of matches. Which texts match is tested in log-search.test.mjs.
import assert from "node:assert/strict";
import { test } from "node:test";
import { createMatcher, findMatches, MATCHES_MAX, mergeMatches } from "../../log-viewer/matcher.ts";

/** Returns the matched parts of a text, or `undefined` if the text does not satisfy the filters. */
function matchedParts(filters, text, mode = "match") {
  return createMatcher(filters, mode)(text)?.map(([start, end]) => text.slice(start, end));
}

test("matches are whole words", () => {
  assert.deepEqual(createMatcher({ search: "foo" }, "match")("a foo, foobar FOO"), [
    [2, 5],
    [14, 17],
  ]);
  assert.deepEqual(matchedParts({ search: "foo*" }, "a foo, foobar FOO"), ["foo", "foobar", "FOO"]);
});

test("a phrase is one match, and adjacent terms are several", () => {
  assert.deepEqual(matchedParts({ search: '"connection refused"' }, "refused: Connection-refused by"), [
    "Connection-refused",
  ]);
  assert.deepEqual(matchedParts({ search: "connection refused" }, "refused: Connection by"), ["refused", "Connection"]);
  assert.deepEqual(matchedParts({ search: '"connection ref" *' }, "connection reference"), ["connection reference"]);
  assert.deepEqual(matchedParts({ search: "^ foo" }, "foo foo"), ["foo"]);
});

test("only operands that contribute to the result are highlighted", () => {
  assert.deepEqual(matchedParts({ search: "error OR timeout" }, "no error"), ["error"]);
  assert.deepEqual(matchedParts({ search: "error NOT debug" }, "no error"), ["error"]);
  assert.equal(matchedParts({ search: "error NOT debug" }, "debug error"), undefined);
  assert.equal(matchedParts({ search: "error AND timeout" }, "no error"), undefined);
  assert.deepEqual(matchedParts({ search: "a OR b NOT c AND d" }, "a c"), ["a"]);
});

test("positions refer to the text, not to its normalized form", () => {
  assert.deepEqual(matchedParts({ search: "cafe" }, "😀 cafe\u0301, CAFÉ"), ["cafe\u0301", "CAFÉ"]);
  assert.deepEqual(matchedParts({ contains: "ü" }, "😀 GRÜN"), ["Ü"]);
  assert.deepEqual(createMatcher({ contains: "😀" }, undefined)("a😀b"), [[1, 3]]);
});

test("plain searches match words as prefixes and other terms as substrings", () => {
  assert.deepEqual(matchedParts({ search: "timeout 10.0" }, "timeouts of 10.0.0.1", "plain"), ["timeouts", "10.0"]);
  assert.equal(matchedParts({ search: "timeout 10.0" }, "timeouts of 10-0", "plain"), undefined);
  const terms = Array.from({ length: 17 }, (_, index) => `t${index}`);
  assert.equal(matchedParts({ search: terms.join(" ") }, terms.slice(0, 16).join(" "), "plain")?.length, 16);
});

test("a text must satisfy all filters", () => {
  const filters = { search: "error", contains: "10%" };
  assert.deepEqual(matchedParts(filters, "error at 10%"), ["error", "10%"]);
  assert.equal(matchedParts(filters, "error at 20%"), undefined);
  assert.equal(matchedParts(filters, "at 10%"), undefined);
});

test("empty filters match every text without highlights", () => {
  assert.deepEqual(matchedParts({}, "text"), []);
  assert.deepEqual(matchedParts({ search: "  ", contains: "" }, ""), []);
});

test("malformed queries end without an error", () => {
  for (const search of [
    "(",
    ")",
    "a (",
    "a +",
    "^",
    "*",
    "NEAR(",
    "NEAR(a",
    "a ,",
    "{a",
    "-",
    ":",
    "a : ",
    '"',
    "NOT",
  ]) {
    createMatcher({ search }, "match")("a b");
  }
});

test("overlapping and adjacent matches are merged", () => {
  assert.deepEqual(mergeMatches([]), []);
  assert.deepEqual(
    mergeMatches([
      [5, 6],
      [0, 4],
      [1, 2],
      [6, 9],
      [10, 11],
    ]),
    [
      [0, 4],
      [5, 9],
      [10, 11],
    ],
  );
});

test("empty matches satisfy an expression but are not highlighted", () => {
  assert.deepEqual(findMatches(/x*/gu, "axxb"), [[1, 3]]);
  assert.deepEqual(findMatches(/x*/gu, "ab"), []);
  assert.deepEqual(findMatches(/^/gu, ""), []);
  assert.equal(findMatches(/x/gu, "ab"), undefined);
});

test("the number of matches is limited", () => {
  const text = "ab".repeat(MATCHES_MAX + 1);
  assert.equal(findMatches(/a/gu, text)?.length, MATCHES_MAX);
  assert.equal(createMatcher({ search: "a" }, "match")("a ".repeat(MATCHES_MAX + 1))?.length, MATCHES_MAX);
});
