// Starts the real binaries in temporary folders, and a real browser that reports everything that a page must not do.
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
const TIMEOUT_MS = 20_000;
const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** The reason to skip browser tests, or `false`. In CI, a missing browser fails the tests instead. */
export const skip = !existsSync(CHROMIUM) && !process.env.CI && `SKIPPED: ${CHROMIUM} does not exist`;

/**
 * Starts a service on a free port. Returns its URL and these functions: `ask` sends a request with the API key and
 * returns the JSON response; `restart` kills the service, calls a function and starts it again on the same port; `stop`
 * stops it and removes its folder.
 *
 * @param {string} name of the binary
 * @param {Record<string, string>} [env] additional environment variables
 */
export async function service(name, env = {}) {
  const folder = mkdtempSync(join(tmpdir(), "monlight-interface-"));
  const settings = { PATH: process.env.PATH, API_KEY: KEY, PORT: "0", LISTEN_ADDR: "127.0.0.1", RATE_LIMIT: "0" };
  let child;
  const start = (overrides) => {
    child = spawn(join(BINARIES, name), {
      cwd: folder,
      env: { ...settings, DATABASE_PATH: "test.db", ...env, ...overrides },
    });
    let log = "";
    return new Promise((resolve, reject) => {
      child.on("error", reject);
      child.on("exit", () => reject(new Error(`${name} exited: ${log}`)));
      child.stderr.on("data", (bytes) => {
        log += bytes;
        const address = /listening on (\S+)[\s\S]* is ready/.exec(log)?.[1];
        if (address) {
          resolve(`http://${address}`);
        }
      });
    });
  };
  const kill = async (signal) => {
    const exited = new Promise((resolve) => child.once("exit", resolve));
    child.kill(signal);
    await exited;
  };
  const url = await start({});
  const ask = async (method, path, body) => {
    const headers = { "X-API-Key": KEY, "Content-Type": "application/json" };
    const response = await fetch(url + path, { method, headers, ...(body ? { body: JSON.stringify(body) } : {}) });
    assert.ok(response.ok, `${method} ${path}: ${response.status} ${await response.clone().text()}`);
    return response.json();
  };
  const restart = async (whileStopped) => {
    await kill("SIGKILL");
    await whileStopped();
    await start({ PORT: new URL(url).port });
  };
  const stop = async () => {
    await kill("SIGTERM");
    rmSync(folder, { recursive: true });
  };
  return { name, url, folder, ask, restart, stop };
}

/**
 * Starts a browser. `visit` opens a page and signs in. `allowedStatus` is an error status that the test expects (0: the
 * service may be unreachable), and `prepare` is called with the page before it loads. `close` fails if any page logged
 * an error or a warning, opened a dialog, requested another host, or violated the content security policy.
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
  const violations = [];
  const visit = async (url, options = {}) => {
    const { width = 1280, height = 800, dark = false, key = KEY, allowedStatus = 401, prepare } = options;
    const context = await chrome.newContext({
      viewport: { width, height },
      colorScheme: dark ? "dark" : "light",
      // Reverse proxies in tests have self-signed certificates.
      ignoreHTTPSErrors: true,
    });
    const page = await context.newPage();
    page.setDefaultTimeout(TIMEOUT_MS);
    page.on("console", (message) => {
      // Browsers log every error status, including the 401 before signing in.
      const isAllowed = [401, allowedStatus].some((status) => message.text().includes(`with a status of ${status} `));
      const isUnreachable = allowedStatus === 0 && /net::ERR_(?!BLOCKED)/.test(message.text());
      if (["error", "warning"].includes(message.type()) && !isAllowed && !isUnreachable) {
        violations.push(`console: ${message.text()}`);
      }
    });
    page.on("pageerror", (error) => violations.push(`error: ${error.stack}`));
    page.on("dialog", (dialog) => {
      violations.push(`dialog: ${dialog.message()}`);
      void dialog.dismiss();
    });
    page.on("request", (request) => {
      if (new URL(request.url()).host !== new URL(url).host) {
        violations.push(`request to another host: ${request.url()}`);
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
    assert.deepEqual(violations, []);
  };
  return { visit, close };
}

/** Checks a page with axe-core (WCAG 2.2 AA and best practices), and that it does not scroll horizontally. */
export async function assertAccessible(page, view) {
  await page.evaluate(AXE);
  const tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];
  const result = await page.evaluate((values) => window.axe.run({ runOnly: { type: "tag", values } }), tags);
  const messages = result.violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html).join(" ")}`);
  assert.deepEqual(messages, [], view);
  const overflow = await page.evaluate(
    () => document.documentElement.scrollWidth - document.documentElement.clientWidth,
  );
  assert.equal(overflow, 0, `${view} is wider than its window`);
}

/** Polls a condition until it is true. Fails after 20 seconds. */
export async function until(condition, description) {
  const deadline = Date.now() + TIMEOUT_MS;
  while (!(await condition())) {
    assert.ok(Date.now() < deadline, `timeout: ${description}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
