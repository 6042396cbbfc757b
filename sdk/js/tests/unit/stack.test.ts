import assert from "node:assert/strict";
import { before, test } from "node:test";
import { openPage, type Sdk } from "./page";

let sdk: Sdk;
before(async () => {
  [, sdk] = await openPage();
});

test("queries and fragments of addresses go, lines and columns stay", () => {
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
  for (const [text = "", expected] of cases) assert.equal(sdk.clean(text, 1_000), expected);
  assert.equal(sdk.clean("x".repeat(50), 10), "x".repeat(10));
});

test("a hostile text is cleaned in linear time", () => {
  const started = performance.now();
  for (const part of ["a://b?", "://", "?:1", "a://b?:1:1"]) sdk.clean(part.repeat(16_000), 16_000);
  assert.ok(performance.now() - started < 500, `${performance.now() - started} ms`);
});

test("addresses are resolved as the page does, and lose users, queries and content", () => {
  const cases = [
    ["/pay?card=1#x", "https://shop.example/pay"],
    ["https://user:secret@a.example:8443/x?y", "https://a.example:8443/x"],
    ["data:text/plain,secret", "data://"],
    ["blob:https://shop.example/1-2", "blob://"],
  ];
  for (const [url = "", expected] of cases) assert.equal(sdk.withoutQuery(url), expected);
});

test("frames of every engine are found", () => {
  const v8 = "Error: a\nb\n    at f (https://a/b.js:1:2)\n    at async https://a/b.js:3:4\n    at <anonymous>";
  const gecko = "f@https://a/b.js:1:2\n@https://a/b.js:3:4\n";
  assert.deepEqual(sdk.frames(v8), ["    at f (https://a/b.js:1:2)", "    at async https://a/b.js:3:4"]);
  assert.deepEqual(sdk.frames(gecko), ["f@https://a/b.js:1:2", "@https://a/b.js:3:4"]);
  assert.deepEqual(sdk.frames(undefined), []);
});
