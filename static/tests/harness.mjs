// The real programs with a folder of their own, and a real browser that watches what no page of theirs may do.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";

export const KEY = "0123456789abcdef0123456789abcdef";
const BINARIES = process.env.MONLIGHT_BIN_DIR ?? join(import.meta.dirname, "../..");
const CHROMIUM = "/usr/bin/chromium";
const PATIENCE_MS = 20_000;
const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** Why nothing can be tested here, or `false`; in CI there is no such reason. */
export const skip = !existsSync(CHROMIUM) && !process.env.CI && `SKIPPED: there is no ${CHROMIUM}`;

/**
 * Starts a service on a free port. Answers its URL, a way to ask it with the key, one to stop it, and one to kill it and
 * start it again where it was, with something done in between.
 *
 * @param {string} name of the binary
 * @param {Record<string, string>} [env] settings besides
 */
export async function service(name, env = {}) {
  const folder = mkdtempSync(join(tmpdir(), "monlight-interface-"));
  const settings = { PATH: process.env.PATH, API_KEY: KEY, PORT: "0", LISTEN_ADDR: "127.0.0.1", RATE_LIMIT: "0" };
  let child;
  const start = (more) => {
    child = spawn(join(BINARIES, name), {
      cwd: folder,
      env: { ...settings, DATABASE_PATH: "test.db", ...env, ...more },
    });
    let said = "";
    return new Promise((resolve, reject) => {
      child.on("error", reject);
      child.on("exit", () => reject(new Error(`${name} ended: ${said}`)));
      child.stderr.on("data", (bytes) => {
        said += bytes;
        const address = /listening on (\S+)[\s\S]* is ready/.exec(said)?.[1];
        if (address) {
          resolve(`http://${address}`);
        }
      });
    });
  };
  const end = async (signal) => {
    const ended = new Promise((resolve) => child.once("exit", resolve));
    child.kill(signal);
    await ended;
  };
  const url = await start({});
  const ask = async (method, path, body) => {
    const headers = { "X-API-Key": KEY, "Content-Type": "application/json" };
    const answer = await fetch(url + path, { method, headers, ...(body ? { body: JSON.stringify(body) } : {}) });
    assert.ok(answer.ok, `${method} ${path}: ${answer.status} ${await answer.clone().text()}`);
    return answer.json();
  };
  const restart = async (between) => {
    await end("SIGKILL");
    await between();
    await start({ PORT: new URL(url).port });
  };
  const stop = async () => {
    await end("SIGTERM");
    rmSync(folder, { recursive: true });
  };
  return { name, url, folder, ask, restart, stop };
}

/**
 * A browser, from which `visit` makes pages: `refused` is a status that is no fault, 0 that the service may be away, and
 * `prepare` is called with the page before it goes anywhere. `close` says what went wrong on any of them: messages of the console,
 * errors, requests to other hosts, what the content security policy forbade.
 */
export async function browser() {
  const flags = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
  ];
  const chrome = await chromium.launch({ executablePath: CHROMIUM, args: [...flags, "--disable-component-update"] });
  const faults = [];
  const visit = async (url, { width = 1280, height = 800, dark = false, key = KEY, refused = 401, prepare } = {}) => {
    const context = await chrome.newContext({
      viewport: { width, height },
      colorScheme: dark ? "dark" : "light",
      // Of proxies that were started for a test.
      ignoreHTTPSErrors: true,
    });
    const page = await context.newPage();
    page.setDefaultTimeout(PATIENCE_MS);
    page.on("console", (message) => {
      // Browsers log every refusal: who is not signed in yet is told so by a 401.
      const known = [401, refused].some((status) => message.text().includes(`with a status of ${status} `));
      const isAway = refused === 0 && /net::ERR_(?!BLOCKED)/.test(message.text());
      if (["error", "warning"].includes(message.type()) && !known && !isAway) {
        faults.push(`console: ${message.text()}`);
      }
    });
    page.on("pageerror", (error) => faults.push(`error: ${error.stack}`));
    page.on("dialog", (dialog) => {
      faults.push(`dialog: ${dialog.message()}`);
      void dialog.dismiss();
    });
    page.on("request", (request) => {
      if (new URL(request.url()).host !== new URL(url).host) {
        faults.push(`another host: ${request.url()}`);
      }
    });
    await prepare?.(page);
    await page.goto(url);
    if (key) {
      await page.getByLabel("API key").fill(key);
      await page.getByRole("button", { name: "Sign in" }).click();
      await page.getByText("Account", { exact: true }).waitFor();
    }
    return page;
  };
  const close = async () => {
    await chrome.close();
    assert.deepEqual(faults, []);
  };
  return { visit, close };
}

/** Holds a page to WCAG 2.2 AA as far as axe-core can tell, and to its width. */
export async function isAccessible(page, what) {
  await page.evaluate(AXE);
  const tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];
  const found = await page.evaluate((values) => window.axe.run({ runOnly: { type: "tag", values } }), tags);
  const said = found.violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html).join(" ")}`);
  assert.deepEqual(said, [], what);
  const wider = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  assert.equal(wider, 0, `${what} is wider than its window`);
}

/** Waits until something holds. */
export async function until(holds, what) {
  const end = Date.now() + PATIENCE_MS;
  while (!(await holds())) {
    assert.ok(Date.now() < end, `${what}: not in time`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
