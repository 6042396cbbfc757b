import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import type { Browser } from "playwright-core";
import { build } from "vite";
import { type Backend, DSN, openBackend } from "./backend";
import { missingBrowser, openBrowser, openSite, type Site } from "./site";
import { waitFor } from "./wait-for";

const skip = missingBrowser();
const ROOT = process.cwd();
let site: Site;
let backend: Backend;
let browser: Browser;
let folder: string;

before(async () => {
  if (skip) return;
  site = await openSite();
  backend = await openBackend(site.origin);
  browser = await openBrowser();
  // An application folder with the package in `node_modules`, like after `npm install`.
  folder = mkdtempSync(join(ROOT, "node_modules/.tests/app-"));
  mkdirSync(join(folder, "node_modules/@monlight/browser"), { recursive: true });
  for (const name of ["package.json", "dist"]) {
    symlinkSync(join(ROOT, name), join(folder, "node_modules/@monlight/browser", name));
  }
});
after(async () => {
  if (skip) return;
  await browser.close();
  await backend.close();
  await site.close();
  rmSync(folder, { recursive: true });
});

/** Builds an application with Vite and returns its only script. */
async function bundle(source: string): Promise<string> {
  writeFileSync(join(folder, "main.js"), source);
  const outDir = join(folder, "dist");
  await build({
    root: folder,
    logLevel: "error",
    build: { outDir, emptyOutDir: true, rollupOptions: { input: join(folder, "main.js") } },
  });
  const [asset] = readdirSync(join(outDir, "assets"));
  return readFileSync(join(outDir, "assets", asset ?? ""), "utf8");
}

test("stack traces from a Vite bundle contain no SDK frames", {
  skip,
}, async () => {
  const script = await bundle(`
    import { init } from "@monlight/browser";
    const client = init(${JSON.stringify({ dsn: DSN, endpoint: backend.url, release: "2.0.0" })});
    client.setUser("u-42");
    client.addContext("tenant", "acme");
    window.buy = () => client.captureError(new RangeError("too much"), { cart: 7 });
    buy();
    window.move = () => history.pushState(() => 1, "");
    setTimeout(() => move());`);
  site.put("/vite.js", { body: script, type: "text/javascript" });
  site.put("/vite", { body: '<!doctype html><title>Shop</title><script type="module" src="/vite.js"></script>' });
  const page = await browser.newPage();
  await page.goto(`${site.origin}/vite`);
  const errors = await waitFor("two errors", async () => {
    const received = await backend.errors("/vite");
    return received.length >= 2 && received;
  });
  const captured = errors.find(({ type }) => type === "RangeError");
  const thrown = errors.find(({ type }) => type === "DataCloneError");
  assert.equal(captured?.release, "2.0.0");
  const { user_id, tenant, cart } = captured.context;
  assert.deepEqual({ user_id, tenant, cart }, { user_id: "u-42", tenant: "acme", cart: 7 });
  assert.match(thrown?.stack.split("\n")[1] ?? "", /^ {4}at window\.move/);
  await page.close();
});

test("a bundle with the extra entry reports a resource that a policy blocks once", { skip }, async () => {
  const script = await bundle(`
    import { init } from "@monlight/browser";
    import { withExtra } from "@monlight/browser/extra";
    const config = ${JSON.stringify({ dsn: DSN, endpoint: backend.url, captureImages: true, captureConsole: true })};
    init(withExtra(config));
    const image = new Image();
    image.onerror = () => setTimeout(() => console.error("%s", "done"));
    image.src = "http://ads.example/1001.png";`);
  site.put("/extra.js", { body: script, type: "text/javascript" });
  site.put("/extra", {
    headers: { "Content-Security-Policy": "img-src 'self'" },
    body: '<!doctype html><title>Shop</title><link rel="icon" href="data:,"><script type="module" src="/extra.js"></script>',
  });
  const page = await browser.newPage();
  await page.goto(`${site.origin}/extra`);
  const errors = await waitFor("the console error", async () => {
    const received = await backend.errors("/extra");
    return received.some(({ type }) => type === "ConsoleError") && received;
  });
  assert.deepEqual(errors.map(({ type, message }) => `${type}: ${message}`).sort(), [
    "CSPViolation: img-src blocks http://ads.example/1001.png",
    "ConsoleError: done",
  ]);
  await page.close();
});

test("an unused import is tree-shaken", { skip }, async () => {
  const script = await bundle('import { init } from "@monlight/browser"; window.answer = 42;');
  assert.ok(script.length < 1_000, script);
});

test("the script tag initializes the SDK and sets window.Monlight", { skip }, async () => {
  site.put("/tag", {
    body: `<!doctype html><title>Shop</title><script>
      window.MonlightConfig = ${JSON.stringify({ dsn: DSN, endpoint: `${backend.url}/` })}</script>
      <script src="${backend.script}"></script><script>Monlight.captureMessage("from the script tag", "warning")</script>`,
  });
  const page = await browser.newPage();
  await page.goto(`${site.origin}/tag`);
  const [error] = await waitFor("an error", async () => {
    const errors = await backend.errors("/tag");
    return errors.length > 0 && errors;
  });
  assert.equal(error?.message, "from the script tag");
  assert.deepEqual(await page.evaluate("Object.keys(Monlight).sort()"), [
    "addContext",
    "captureError",
    "captureException",
    "captureMessage",
    "destroy",
    "setTag",
    "setUser",
  ]);
  await page.close();
});

test("the SDK sets no cookies, uses one sessionStorage key and never evaluates strings", { skip }, async () => {
  const context = await browser.newContext();
  const page = await context.newPage();
  await page.goto(`${site.origin}/tag`);
  assert.deepEqual(await context.cookies(), []);
  assert.deepEqual(await page.evaluate("[Object.keys(sessionStorage), Object.keys(localStorage)]"), [
    ["monlight_session_id"],
    [],
  ]);
  assert.doesNotMatch(
    readFileSync(join(ROOT, "dist/monlight.min.js"), "utf8"),
    /\beval\b|\bFunction\(|innerHTML|document\.write|cookie/,
  );
  await context.close();
});
