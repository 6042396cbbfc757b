import assert from "node:assert/strict";
import { test } from "node:test";
import { formatMarkdown, framesWithSource, plural, relatedLinks, sectionTexts } from "../../error-tracker/trace.ts";

test("sections select the lines of the trace", () => {
  const trace = "Traceback:\n  a.py\n    a()\n  lib.py\nValueError: ü\n\n";
  const sections = [
    { kind: "text", first_line: 0, lines: 1, frames: 0 },
    { kind: "in_app", first_line: 1, lines: 2, frames: 1 },
    { kind: "library", first_line: 3, lines: 1, frames: 1 },
    { kind: "text", first_line: 4, lines: 1, frames: 0 },
  ];
  assert.deepEqual(sectionTexts(trace, sections), ["Traceback:", "  a.py\n    a()", "  lib.py", "ValueError: ü"]);
  assert.deepEqual(sectionTexts("", []), []);
});

test("only frames with source lines are shown, whatever the client has sent", () => {
  const frames = [
    { file: "a.js", context: [{ line: 1, text: "x" }] },
    { file: "b.js", context: [] },
    { context: "x" },
    null,
    5,
  ];
  assert.deepEqual(framesWithSource({ extra: { frames } }), [frames[0]]);
  for (const extra of [{}, { frames: "x" }, { frames: null }, { frames: {} }]) {
    assert.deepEqual(framesWithSource({ extra }), []);
  }
});

test("links to other services contain the time around the event", () => {
  const services = [
    { name: "metrics-collector", url: "https://mon.example/metrics/" },
    { name: "log-viewer", url: "/logs" },
    { name: "browser-relay", url: "/relay" },
  ];
  assert.deepEqual(relatedLinks(services, "2026-01-01T00:01:00Z"), [
    { title: "View logs", href: "/logs/?since=2025-12-31T23%3A59%3A00Z&until=2026-01-01T00%3A02%3A00Z" },
    {
      title: "View metrics",
      href: "https://mon.example/metrics/?since=2025-12-31T23%3A31%3A00Z&until=2026-01-01T00%3A31%3A00Z",
    },
  ]);
  assert.deepEqual(relatedLinks([], "2026-01-01T00:01:00Z"), []);
});

test("counts have a plural", () => {
  assert.deepEqual(
    [0, 1, 2].map((count) => plural(count, "frame")),
    ["0 frames", "1 frame", "2 frames"],
  );
});

test("the Markdown fence is longer than the backticks in the trace", () => {
  const error = {
    exception_type: "ValueError",
    message: "first line\nsecond line",
    project: "shop",
    environment: "prod",
    release: "1.4.2",
    count: 1,
    first_seen: "never",
    last_seen: "never",
    traceback: "`a` and ````\n\n",
  };
  assert.equal(
    formatMarkdown(error, "http://localhost/?id=1"),
    [
      "## ValueError: first line",
      "",
      "- Project shop, prod, release 1.4.2",
      "- 1 event, first seen never, last seen never",
      "- http://localhost/?id=1",
      "",
      "`````",
      "`a` and ````",
      "`````",
      "",
    ].join("\n"),
  );
  const hostile = "<img src=x> [a](javascript:b) `*_ @all http://evil.example www.evil.example # |";
  const escaped =
    "\\<img src=x\\> \\[a\\](javascript:b) \\`\\*\\_ @\u200ball http:\u200b//evil.example www.\u200bevil.example \\# \\|";
  const heading = formatMarkdown({ ...error, exception_type: hostile, message: hostile }, "").split("\n")[0];
  assert.equal(heading, `## ${escaped}: ${escaped}`);
  const names = { project: hostile, environment: hostile, release: hostile };
  assert.match(formatMarkdown({ ...error, ...names }, ""), /\n- Project \\<img/);
  const plain = formatMarkdown({ ...error, message: "", release: null, traceback: "" }, "");
  assert.match(plain, /^## ValueError: \n\n- Project shop, prod\n[\s\S]*\n```\n\n```\n$/);
});
