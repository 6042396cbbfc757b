import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import type { Browser } from "playwright-core";
import { type Backend, DSN, openBackend } from "./backend";
import { until } from "./patience";
import { missingBrowser, openBrowser, openSite, type Site } from "./site";

const skip = missingBrowser();
const README = readFileSync("README.md", "utf8");
let site: Site;
let backend: Backend;
let browser: Browser;

before(async () => {
  if (skip) return;
  site = await openSite();
  backend = await openBackend(site.origin);
  browser = await openBrowser();
});
after(async () => {
  if (skip) return;
  await browser.close();
  await backend.close();
  await site.close();
});

/** The README's examples in a language, told of this relay. */
const examples = (language: string): string[] =>
  [...README.matchAll(new RegExp(`\`\`\`${language}\\n(.*?)\`\`\``, "gs"))].map(([, code = ""]) =>
    code
      .replace("PUBLIC_KEY", DSN)
      .replace("https://relay.example.com/monlight.min.js", backend.script)
      .replace("https://relay.example.com", backend.url),
  );

const arrived = (path: string, count: number): Promise<string[]> =>
  until(`${count} errors of ${path}`, async () => {
    const errors = await backend.errors(path);
    return errors.length >= count && errors.map(({ type, message }) => `${type}: ${message}`).sort();
  });

test("the README's examples run as they stand", { skip }, async () => {
  const [first = "", client = ""] = examples("js");
  const [tag = ""] = examples("html");
  site.put("/monlight.esm.js", { body: readFileSync("dist/monlight.esm.js", "utf8"), type: "text/javascript" });
  const map = '<script type="importmap">{"imports":{"@monlight/browser":"/monlight.esm.js"}}</script>';
  site.put("/readme/first", { body: `<!doctype html>${map}<script type="module">${first}</script>` });
  site.put("/readme/client", { body: `<!doctype html>${map}<script type="module">${client}</script>` });
  site.put("/readme/tag", { body: `<!doctype html>${tag}<script>throw new Error("by the tag")</script>` });
  const page = await browser.newPage();
  await page.goto(`${site.origin}/readme/first`);
  assert.deepEqual(await arrived("/readme/first", 1), ["ConsoleError: the first report"]);
  await page.goto(`${site.origin}/readme/client`);
  const [warning, error] = await arrived("/readme/client", 2);
  assert.equal(warning, "ConsoleWarning: the cart took long");
  assert.match(error ?? "", /^SyntaxError: /);
  await page.goto(`${site.origin}/readme/tag`);
  assert.deepEqual(await arrived("/readme/tag", 1), ["Error: by the tag"]);
});

test("the README names every option", () => {
  const types = readFileSync("src/types.ts", "utf8");
  const [, config = ""] = /interface MonlightConfig \{(.*?)\n\}/s.exec(types) ?? [];
  const options = [...config.matchAll(/^ {2}(\w+)\??:/gm)].map(([, name]) => name);
  const rows = [...README.matchAll(/^\| `(\w+)` \|/gm)].map(([, name]) => name);
  assert.deepEqual(rows, options);
});
