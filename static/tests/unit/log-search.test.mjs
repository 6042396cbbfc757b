// The page highlights the matches of a search that the service ran. Both are tested with the same cases: see also
// tests/it/contract/log_search.rs.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { createMatcher, findMatches } from "../../log-viewer/matcher.ts";
import { translateRegex } from "../../log-viewer/regex-worker.ts";
import { stripSequences } from "../../shared/terminal.ts";

const FIXTURE = new URL("../../../tests/fixtures/log-search.json", import.meta.url);
const { lines, cases } = JSON.parse(readFileSync(FIXTURE, "utf8"));

/** Returns whether the page finds a match in a text, or `undefined` if the browser cannot run the expression. */
function isMatch({ search, contains, regex, mode }, text) {
  const matcher = createMatcher({ search, contains }, mode ?? undefined);
  const expression = regex && translateRegex(regex);
  return regex && !expression
    ? undefined
    : matcher(text) !== undefined && (!expression || findMatches(expression, text) !== undefined);
}

test("the page finds the same lines as the service", () => {
  for (const { lines: expected, isUnsupportedByPage, ...filters } of cases) {
    const name = JSON.stringify(filters);
    const results = lines.map((line) => isMatch(filters, stripSequences(line)));
    if (isUnsupportedByPage) {
      assert.ok(
        results.every((result) => result === undefined),
        name,
      );
    } else {
      const numbers = results.flatMap((result, index) => (result ? [index + 1] : []));
      assert.deepEqual(numbers, expected, name);
    }
  }
});
