import assert from "node:assert/strict";
import { test } from "node:test";
import { findMatches } from "../../log-viewer/matcher.ts";
import { translateRegex } from "../../log-viewer/regex-worker.ts";

/** Returns the first match of a pattern of Rust's regex crate, or `undefined` if there is none. */
function firstMatch(pattern, text) {
  const [match] = findMatches(translateRegex(pattern), text) ?? [];
  return match && text.slice(...match);
}

test("classes are those of the service, which are not limited to ASCII", () => {
  assert.equal(firstMatch("\\w+", "- größe_1 -"), "größe_1");
  assert.equal(firstMatch("\\w+", "cafe\u0301!"), "cafe\u0301");
  assert.equal(firstMatch("\\W+", "ab, c"), ", ");
  assert.equal(firstMatch("[\\w-]+", "/é-1/"), "é-1");
  assert.equal(firstMatch("\\d+", "x٣4"), "٣4");
  assert.equal(firstMatch("\\D+", "1ab2"), "ab");
  assert.equal(firstMatch("\\p{Greek}+".replace("Greek", "Script=Greek"), "abγδ"), "γδ");
});

test("the dot matches everything but newlines, unless the flag s is set", () => {
  assert.equal(firstMatch("a.+", "ab\rc\nd"), "ab\rc");
  assert.equal(firstMatch("(?s)a.+", "ab\nd"), "ab\nd");
  assert.equal(firstMatch("[.]", "a.b"), ".");
  assert.equal(firstMatch("\\.", "a.b"), ".");
});

test("flags at the start apply to the whole pattern", () => {
  assert.equal(firstMatch("(?i)ERROR", "an Error"), "Error");
  assert.equal(firstMatch("(?im)^B", "a\nb"), "b");
  assert.equal(firstMatch("(?ii)A", "a"), "a");
  assert.equal(firstMatch("^b", "a\nb"), undefined);
});

test("escapes and groups are translated", () => {
  assert.equal(firstMatch("\\x{1F600}", "a😀"), "😀");
  assert.equal(firstMatch("(?P<name>a)b", "ab"), "ab");
  assert.equal(firstMatch("\\Aa", "aa"), "a");
  assert.equal(firstMatch("\\Ab", "ab"), undefined);
  assert.equal(firstMatch("b\\z", "ab"), "b");
  assert.equal(firstMatch("\\@\\-\\#\\/", "@-#/"), "@-#/");
  assert.equal(firstMatch("[\\-\\]]+", "a-]"), "-]");
  assert.equal(firstMatch("\\a", "\u0007"), "\u0007");
  assert.equal(firstMatch("a--b&&c~~", "a--b&&c~~"), "a--b&&c~~");
});

test("patterns that JavaScript would interpret differently are not supported", () => {
  for (const pattern of [
    "[a[bc]]",
    "[a-z&&[^f]]",
    "[[:alpha:]]",
    "[a--b]",
    "[\\W]",
    "(?m)\\Aa",
    "(?m)a\\z",
    "(?x)a",
    "(a",
    "a{2,1}",
  ]) {
    assert.equal(translateRegex(pattern), undefined, pattern);
  }
});
