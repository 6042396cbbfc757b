import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { freePorts, startDemoServices } from "../demo/fixtures.mjs";
import { assertAccessible, browser, skip as noBrowser, until } from "./harness.mjs";

const ROOT = join(import.meta.dirname, "../..");
const PEERS = process.env.MONLIGHT_TEST_PEERS ?? join(ROOT, "target/peers");
const NGINX = [join(PEERS, "usr/sbin/nginx"), "/usr/sbin/nginx"].find(existsSync);
/** Path prefixes in deploy/nginx.conf.example. */
const PREFIXES = {
  "error-tracker": "/monitoring/errors/",
  "log-viewer": "/monitoring/logs/",
  "metrics-collector": "/monitoring/metrics/",
};
const skip = noBrowser || (!NGINX && !process.env.CI && "SKIPPED: nginx is not installed");

/** @type {Awaited<ReturnType<typeof startDemoServices>>} */
let services;
/** @type {Awaited<ReturnType<typeof browser>>} */
let chrome;
let nginx;
let folder;
let origin;

before(async () => {
  if (skip) {
    return;
  }
  assert.ok(NGINX, "nginx is not installed");
  const links = (name) => PREFIXES[name];
  services = await startDemoServices(
    { groups: 60, lines: 3_000, days: 2 },
    { links, env: { TRUSTED_PROXIES: "127.0.0.1" } },
  );
  folder = mkdtempSync(join(tmpdir(), "monlight-nginx-"));
  const [port, httpPort] = await freePorts(2);
  origin = `https://localhost:${port}`;
  const [certificate, key] = [join(folder, "cert.pem"), join(folder, "key.pem")];
  const request = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"];
  execFileSync("openssl", [...request, "-keyout", key, "-out", certificate], { stdio: "ignore" });
  const hostOf = ({ url }) => new URL(url).host;
  const example = [
    ["127.0.0.1:5010", hostOf(services.tracker)],
    ["127.0.0.1:5011", hostOf(services.viewer)],
    ["127.0.0.1:5012", hostOf(services.collector)],
    ["listen 443 ", `listen 127.0.0.1:${port} `],
    ["listen 80;", `listen 127.0.0.1:${httpPort};`],
    ["    listen [::]:443 ssl http2;\n", ""],
    ["    listen [::]:80;\n", ""],
    ["server_name monitoring.example.com", "server_name localhost"],
    ["/etc/letsencrypt/live/monitoring.example.com/fullchain.pem", certificate],
    ["/etc/letsencrypt/live/monitoring.example.com/privkey.pem", key],
    ["/var/log/nginx/monlight.log", join(folder, "access.log")],
  ].reduce(
    (text, [from, to]) => {
      assert.ok(text.includes(from), `the example contains ${from}`);
      return text.replaceAll(from, to);
    },
    readFileSync(join(ROOT, "deploy/nginx.conf.example"), "utf8"),
  );
  const tempPaths = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
    .map((name) => `${name}_temp_path ${join(folder, name)};`)
    .join(" ");
  // The default log is in /var/log/nginx, which exists only if nginx is installed.
  const http = `access_log off; ${tempPaths}\n${example}\n`;
  const config = `daemon off; worker_processes 1; pid ${join(folder, "pid")}; events {}\nhttp { ${http} }\n`;
  // As root, nginx would switch to the user nobody, who cannot write to this folder.
  writeFileSync(join(folder, "nginx.conf"), process.getuid() === 0 ? `user root; ${config}` : config);
  nginx = spawn(NGINX, ["-e", join(folder, "error.log"), "-c", join(folder, "nginx.conf")], { stdio: "ignore" });
  const isUp = () => fetch(`http://localhost:${httpPort}/`, { redirect: "manual" }).then(Boolean, () => false);
  await until(isUp, "nginx answers");
  chrome = await browser();
});

after(async () => {
  await chrome?.close();
  nginx?.kill("SIGTERM");
  await services?.stop();
  if (folder) {
    rmSync(folder, { recursive: true });
  }
});

test("every view works behind a path prefix", { skip }, async () => {
  const pages = new Map();
  for (const { name, service, path, ready } of services.views) {
    const home = origin + PREFIXES[service];
    const page = pages.get(service) ?? (await chrome.visit(home));
    pages.set(service, page);
    await page.goto(home + path);
    await page.locator(ready).first().waitFor();
    await assertAccessible(page, `${name} behind a path prefix`);
  }
});

test("services link to each other and accept changes from their own origin", { skip }, async () => {
  const page = await chrome.visit(`${origin}/monitoring/`);
  assert.equal(page.url(), `${origin}/monitoring/errors/`);
  await page.locator(".groups li").first().waitFor();
  const countResolved = async () => (await services.tracker.ask("GET", "/api/errors?resolved=true")).total;
  const before = await countResolved();
  await page.keyboard.press("j");
  await page.keyboard.press("r");
  await until(async () => (await countResolved()) === before + 1, "one more resolved error");
  await page.getByRole("link", { name: "Logs", exact: true }).click();
  await page.waitForURL(`${origin}/monitoring/logs/`);
  await page.getByLabel("API key").waitFor();
  await page.goBack();
  await page.waitForURL(`${origin}/monitoring/errors/`);
  await page.locator(".groups li").first().waitFor();
});

test("the live tail and exports work behind a path prefix", { skip }, async () => {
  const page = await chrome.visit(`${origin}/monitoring/logs/`);
  await page.locator(".lines .row:not(.waits)").first().waitFor();
  await until(() => page.locator(".status").getByText("live").isVisible(), "live tail");
  const [download] = await Promise.all([
    page.waitForEvent("download"),
    page.getByRole("link", { name: "NDJSON" }).click(),
  ]);
  const lines = readFileSync(await download.path(), "utf8")
    .trim()
    .split("\n");
  assert.equal(lines.length, (await services.viewer.ask("GET", "/api/logs/stats")).total_logs);
});
