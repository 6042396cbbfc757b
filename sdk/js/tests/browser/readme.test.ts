import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import type { Browser } from "playwright-core";
import { type Backend, DSN, openBackend } from "./backend";
import { missingBrowser, openBrowser, openSite, type Site } from "./site";
import { waitFor } from "./wait-for";

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

/** Returns the README's code blocks of a language, with the key and the relay URL of this test. */
const examples = (language: string): string[] =>
  [...README.matchAll(new RegExp(`\`\`\`${language}\\n(.*?)\`\`\``, "gs"))].map(([, code = ""]) =>
    code
      .replace("PUBLIC_KEY", DSN)
      .replace("https://relay.example.com/monlight.min.js", backend.script)
      .replace("https://relay.example.com", backend.url),
  );

const receivedErrors = (path: string, count: number): Promise<string[]> =>
  waitFor(`${count} errors on ${path}`, async () => {
    const errors = await backend.errors(path);
    return errors.length >= count && errors.map(({ type, message }) => `${type}: ${message}`).sort();
  });

test("README examples run unmodified", { skip }, async () => {
  const [quickStart = "", client = "", fingerprint = "", extra = ""] = examples("js");
  const [tag = ""] = examples("html");
  for (const file of ["monlight.esm.js", "extra.esm.js"]) {
    site.put(`/${file}`, { body: readFileSync(`dist/${file}`, "utf8"), type: "text/javascript" });
  }
  const imports = { "@monlight/browser": "/monlight.esm.js", "@monlight/browser/extra": "/extra.esm.js" };
  const map = `<script type="importmap">${JSON.stringify({ imports })}</script>`;
  site.put("/readme/quick-start", { body: `<!doctype html>${map}<script type="module">${quickStart}</script>` });
  site.put("/readme/client", { body: `<!doctype html>${map}<script type="module">${client}</script>` });
  site.put("/readme/fingerprint", { body: `<!doctype html>${map}<script type="module">${fingerprint}</script>` });
  site.put("/readme/extra", { body: `<!doctype html>${map}<script type="module">${extra}</script>` });
  site.put("/readme/tag", { body: `<!doctype html>${tag}<script>throw new Error("from the script tag")</script>` });
  const page = await browser.newPage();
  await page.goto(`${site.origin}/readme/quick-start`);
  assert.deepEqual(await receivedErrors("/readme/quick-start", 1), ["ConsoleError: first report"]);
  await page.goto(`${site.origin}/readme/client`);
  const [warning, error] = await receivedErrors("/readme/client", 2);
  assert.equal(warning, "ConsoleWarning: slow cart");
  assert.match(error ?? "", /^SyntaxError: /);
  await page.goto(`${site.origin}/readme/fingerprint`);
  assert.deepEqual(await receivedErrors("/readme/fingerprint", 1), ["Error: no stock"]);
  await page.goto(`${site.origin}/readme/extra`);
  assert.deepEqual(await receivedErrors("/readme/extra", 1), ["ConsoleError: A-17 is out of stock"]);
  await page.goto(`${site.origin}/readme/tag`);
  assert.deepEqual(await receivedErrors("/readme/tag", 1), ["Error: from the script tag"]);
});

test("README documents every option", () => {
  const types = readFileSync("src/types.ts", "utf8");
  const [, config = ""] = /interface MonlightConfig \{(.*?)\n\}/s.exec(types) ?? [];
  const options = [...config.matchAll(/^ {2}(\w+)\??:/gm)].map(([, name]) => name);
  const rows = [...README.matchAll(/^\| `(\w+)` \|/gm)].map(([, name]) => name);
  assert.deepEqual(rows, options);
});
