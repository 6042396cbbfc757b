import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { ColoredText, FormattedJson, findJson } from "../../log-viewer/message.tsx";
import { dropOverwritten, stripSequences, toPlainText, toPlainTexts } from "../../shared/terminal.ts";

// tests/fixtures/terminal-sequences.json is also a test of src/log_viewer/parse/ansi.rs.
const FIXTURE = new URL("../../../tests/fixtures/terminal-sequences.json", import.meta.url);

/** Renders a component without hooks as HTML with the attribute `class`, without escaping. */
function render(node) {
  if (Array.isArray(node)) {
    return node.map(render).join("");
  }
  if (node === null || typeof node !== "object") {
    return String(node ?? "");
  }
  const { type, props } = node;
  const children = render(props.children);
  const tag = typeof type === "string" && `${type}${props.class ? ` class="${props.class}"` : ""}`;
  return tag ? `<${tag}>${children}</${type}>` : children;
}

test("the page removes the same terminal sequences as the service", () => {
  for (const [text, shown] of JSON.parse(readFileSync(FIXTURE, "utf8"))) {
    assert.equal(stripSequences(text), shown, JSON.stringify(text));
  }
});

test("control characters are visible", () => {
  assert.equal(toPlainText("\u001b[1mnul\0 bell\u0007\u001b[0m del\u007f"), "nul␀ bell␇ del<U+7F>");
  assert.equal(toPlainText("a\u202eb\u2066c"), "a<U+202E>b<U+2066>c");
  assert.equal(toPlainText("tab\tnewline\r\nnext"), "tab\tnewline\nnext");
  assert.equal(toPlainText(""), "");
});

test("control characters are visible in every string of a JSON value", () => {
  const value = { "a\u202e": ["\u001b[31mred\u001b[0m", 7, null, { b: "\u2066" }], ["__proto__"]: "x" };
  const expected = '{"a<U+202E>":["red",7,null,{"b":"<U+2066>"}],"__proto__":"x"}';
  assert.equal(JSON.stringify(toPlainTexts(value)), expected);
});

test("only the last step of a progress bar is shown", () => {
  for (const [text, shown] of [
    ["tty line\r", "tty line"],
    ["tty\r\nlines\r\n", "tty\nlines\n"],
    ["10%\r50%\r100%", "100%"],
    ["\r 0%|   |\r 5%|\u001b[32m█\u001b[0m  |", " 5%|\u001b[32m█\u001b[0m  |"],
    ["10%\r50%\r\u001b[K", "50%"],
    ["downloading\r   \r\n  next\rlast\r\r", "downloading\nlast"],
    ["   \r", "   "],
    ["plain", "plain"],
  ]) {
    assert.equal(dropOverwritten(text), shown, JSON.stringify(text));
  }
});

test("text has the colors of its sequences", () => {
  const renderText = (text) => render(ColoredText({ text, matches: [] }));
  assert.equal(renderText("plain"), "plain");
  assert.equal(renderText("\u001b[31mred\u001b[0m plain"), '<span class="fg-1">red</span> plain');
  assert.equal(renderText("\u009b31mred"), '<span class="fg-1">red</span>');
  assert.equal(renderText("\u001b[1;91mx\u001b[22my"), '<span class="fg-9 bold">x</span><span class="fg-9">y</span>');
  assert.equal(renderText("\u001b[3;4mx\u001b[23;24my"), '<span class="italic underline">x</span>y');
  assert.equal(renderText("\u001b[2mx"), '<span class="muted">x</span>');
  assert.equal(renderText("\u001b[31;44mx\u001b[49my"), '<span class="bg-4">x</span><span class="fg-1">y</span>');
  assert.equal(renderText("\u001b[32;7mx\u001b[27my"), '<span class="bg-2">x</span><span class="fg-2">y</span>');
  assert.equal(renderText("\u001b[mx"), "x");
  assert.equal(renderText("\u001b[38;5;1;1mx"), '<span class="fg-1 bold">x</span>');
  assert.equal(renderText("\u001b[38;2;0;255;0;4mx"), '<span class="fg-10 underline">x</span>');
});

test("extended colors become the nearest of the 16 colors", () => {
  const colorOf = (parameters) =>
    /fg-\d+/.exec(render(ColoredText({ text: `\u001b[${parameters}mx`, matches: [] })))?.[0];
  assert.equal(colorOf("38;5;9"), "fg-9");
  assert.equal(colorOf("38;5;196"), "fg-9");
  assert.equal(colorOf("38;5;22"), "fg-2");
  assert.equal(colorOf("38;5;232"), "fg-8");
  assert.equal(colorOf("38;5;255"), "fg-7");
  assert.equal(colorOf("38;2;0;0;255"), "fg-12");
  assert.equal(colorOf("38;2;0;0;0"), "fg-0");
  assert.equal(colorOf("38;2;100;100;0;1"), "fg-3");
});

test("highlights continue across colors", () => {
  const text = "\u001b[31merr\u001b[0mor";
  assert.equal(
    render(ColoredText({ text, matches: [[0, 5]] })),
    '<span class="fg-1"><mark>err</mark></span><mark>or</mark>',
  );
  assert.equal(
    render(ColoredText({ text, matches: [[2, 4]], start: 1, end: 4 })),
    '<span class="fg-1">r<mark>r</mark></span><mark>o</mark>',
  );
  assert.equal(render(ColoredText({ text: "a\0b", matches: [[1, 2]] })), "a<mark>␀</mark>b");
});

test("JSON is found as the whole text or inside of it", () => {
  const find = (text) => {
    const json = findJson(text);
    return json && text.slice(json.start, json.end);
  };
  assert.equal(find(' {"a": 1}\n'), '{"a": 1}');
  assert.equal(find("[1, 2]"), "[1, 2]");
  assert.equal(find('INFO {"a": {"b": "}"}} done'), '{"a": {"b": "}"}}');
  assert.equal(find('list [{"a": 1}, {}] {"b": 2}'), '[{"a": 1}, {}]');
  assert.equal(find('{ "not json {"a": "\\""}'), '{"a": "\\""}');
  for (const text of ["", "text", "{}x", "[1] x", "x [1]", '{"a": 1', '{"a": nul}', "{a: 1}"]) {
    assert.equal(find(text), undefined, text);
  }
  assert.equal(find(`${'{"'.repeat(16)} {"a": 1}`), undefined);
});

test("formatted JSON keeps numbers and strings as they were written", () => {
  const format = (text, matches = []) => render(FormattedJson({ text, start: 0, end: text.length, matches }));
  assert.equal(
    format('{"id":12345678901234567890,"list":[1.0,{}],"e":[]}'),
    '{\n  "id": 12345678901234567890,\n  "list": [\n    1.0,\n    {}\n  ],\n  "e": []\n}',
  );
  assert.equal(format('{"a":"b c"}', [[6, 9]]), '{\n  "a": "<mark>b c</mark>"\n}');
  assert.equal(format("{}"), "{}");
});
