import assert from "node:assert/strict";
import { before, test } from "node:test";
import { openFakePage, type Sdk } from "./fake-page";

let sdk: Sdk;
before(async () => {
  [, sdk] = await openFakePage();
});

test("scrub removes query strings and fragments and keeps lines and columns", () => {
  const cases = [
    ["at f (https://a.example/app.js?v=3:10:5)", "at f (https://a.example/app.js:10:5)"],
    ["f@https://a.example/?token=abc#x:10:5", "f@https://a.example/:10:5"],
    ["at https://a.example/app.js:10:5", "at https://a.example/app.js:10:5"],
    ["GET https://a.example/x?password=1 failed", "GET https://a.example/x failed"],
    ['see "https://a.example/#id=7"', 'see "https://a.example/"'],
    ["https://a.example/a?b=c&d=https://b.example/e?f", "https://a.example/a"],
    ["really? 1:2", "really? 1:2"],
    ["webpack://shop/./src/a.js?1a2b:3:4", "webpack://shop/./src/a.js:3:4"],
  ];
  for (const [value = "", expected] of cases) assert.equal(sdk.scrub(value, 1_000), expected);
  assert.equal(sdk.scrub("x".repeat(50), 10), "x".repeat(10));
});

test("scrub takes linear time on hostile input", () => {
  const started = performance.now();
  for (const part of ["a://b?", "://", "?:1", "a://b?:1:1"]) sdk.scrub(part.repeat(16_000), 16_000);
  assert.ok(performance.now() - started < 500, `${performance.now() - started} ms`);
});

test("sanitizeUrl resolves URLs and removes credentials, query strings and data", () => {
  const cases = [
    ["/pay?card=1#x", "https://shop.example/pay"],
    ["https://user:secret@a.example:8443/x?y", "https://a.example:8443/x"],
    ["data:text/plain,secret", "data://"],
    ["blob:https://shop.example/1-2", "blob://"],
  ];
  for (const [url = "", expected] of cases) assert.equal(sdk.sanitizeUrl(url), expected);
});

test("sanitizeUrl replaces path segments that look like IDs if asked to", () => {
  const ids = [
    "42",
    "5f3759df",
    "01HZX3N8QK2V7J4M9T0B6W5RCD",
    "V1StGXR8_Z5jdHi6B-myT",
    "cjld2cjxh0000qzrmn831i7rn",
    "ORD-12345",
    "2024-05-12",
    "1001.png",
    "john@shop.example",
    "%7B6ba7b810-9dad-11d1-80b4-00c04fd430c8%7D",
  ];
  for (const id of ids) {
    assert.equal(sdk.sanitizeUrl(`/a/${id}/b/${id}`, true), "https://shop.example/a/{id}/b/{id}", id);
  }
  const names = ["/api/v2/users", "/oauth2/token", "/es6/app.js", "/"];
  for (const path of names) assert.equal(sdk.sanitizeUrl(path, true), `https://shop.example${path}`);
  assert.equal(sdk.sanitizeUrl("http://127.0.0.1:8080/x", true), "http://127.0.0.1:8080/x");
});

test("frameLines recognizes the frames of every engine", () => {
  const v8 = "Error: a\nb\n    at f (https://a/b.js:1:2)\n    at async https://a/b.js:3:4\n    at <anonymous>";
  const gecko = "f@https://a/b.js:1:2\n@https://a/b.js:3:4\n";
  assert.deepEqual(sdk.frameLines(v8), ["    at f (https://a/b.js:1:2)", "    at async https://a/b.js:3:4"]);
  assert.deepEqual(sdk.frameLines(gecko), ["f@https://a/b.js:1:2", "@https://a/b.js:3:4"]);
  assert.deepEqual(sdk.frameLines(undefined), []);
});
