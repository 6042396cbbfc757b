import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { freePorts, startDemoServices } from "../demo/fixtures.mjs";
import { browser, isAccessible, skip as noBrowser, until } from "./harness.mjs";

const TOP = join(import.meta.dirname, "../..");
const PEERS = process.env.MONLIGHT_TEST_PEERS ?? join(TOP, "target/peers");
const NGINX = [join(PEERS, "usr/sbin/nginx"), "/usr/sbin/nginx"].find(existsSync);
/** Where the example has each service. */
const PREFIXES = {
  "error-tracker": "/monitoring/errors/",
  "log-viewer": "/monitoring/logs/",
  "metrics-collector": "/monitoring/metrics/",
};
const skip = noBrowser || (!NGINX && !process.env.CI && "SKIPPED: there is no nginx");

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
  assert.ok(NGINX, "nginx cannot be had");
  const links = (name) => PREFIXES[name];
  services = await startDemoServices(
    { groups: 60, lines: 3_000, days: 2 },
    { links, env: { TRUSTED_PROXIES: "127.0.0.1" } },
  );
  folder = mkdtempSync(join(tmpdir(), "monlight-nginx-"));
  const [port, plain] = await freePorts(2);
  origin = `https://localhost:${port}`;
  const [certificate, key] = [join(folder, "cert.pem"), join(folder, "key.pem")];
  const request = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"];
  execFileSync("openssl", [...request, "-keyout", key, "-out", certificate], { stdio: "ignore" });
  const at = ({ url }) => new URL(url).host;
  const example = [
    ["127.0.0.1:5010", at(services.tracker)],
    ["127.0.0.1:5011", at(services.viewer)],
    ["127.0.0.1:5012", at(services.collector)],
    ["listen 443 ", `listen 127.0.0.1:${port} `],
    ["listen 80;", `listen 127.0.0.1:${plain};`],
    ["    listen [::]:443 ssl http2;\n", ""],
    ["    listen [::]:80;\n", ""],
    ["server_name monitoring.example.com", "server_name localhost"],
    ["/etc/letsencrypt/live/monitoring.example.com/fullchain.pem", certificate],
    ["/etc/letsencrypt/live/monitoring.example.com/privkey.pem", key],
    ["/var/log/nginx/monlight.log", join(folder, "access.log")],
  ].reduce(
    (text, [from, to]) => {
      assert.ok(text.includes(from), `the example has ${from}`);
      return text.replaceAll(from, to);
    },
    readFileSync(join(TOP, "deploy/nginx.conf.example"), "utf8"),
  );
  const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
    .map((name) => `${name}_temp_path ${join(folder, name)};`)
    .join(" ");
  const around = `daemon off; worker_processes 1; pid ${join(folder, "pid")}; events {}\nhttp { ${temporary}\n${example}\n}\n`;
  // Whoever may change users would become nobody, who cannot write here.
  writeFileSync(join(folder, "nginx.conf"), process.getuid() === 0 ? `user root; ${around}` : around);
  nginx = spawn(NGINX, ["-e", join(folder, "error.log"), "-c", join(folder, "nginx.conf")], { stdio: "ignore" });
  const answers = () => fetch(`http://localhost:${plain}/`, { redirect: "manual" }).then(Boolean, () => false);
  await until(answers, "nginx");
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

test("every view works below a path of another server", { skip }, async () => {
  const pages = new Map();
  for (const { name, service, path, ready } of services.views) {
    const home = origin + PREFIXES[service];
    const page = pages.get(service) ?? (await chrome.visit(home));
    pages.set(service, page);
    await page.goto(home + path);
    await page.locator(ready).first().waitFor();
    await isAccessible(page, `${name} below a path`);
  }
});

test("the services link to each other, and changes come from their own pages", { skip }, async () => {
  const page = await chrome.visit(`${origin}/monitoring/`);
  assert.equal(page.url(), `${origin}/monitoring/errors/`);
  await page.locator(".groups li").first().waitFor();
  const resolved = async () => (await services.tracker.ask("GET", "/api/errors?resolved=true")).total;
  const before = await resolved();
  await page.keyboard.press("j");
  await page.keyboard.press("r");
  await until(async () => (await resolved()) === before + 1, "one is resolved");
  await page.getByRole("link", { name: "Logs", exact: true }).click();
  await page.waitForURL(`${origin}/monitoring/logs/`);
  await page.getByLabel("API key").waitFor();
  await page.goBack();
  await page.waitForURL(`${origin}/monitoring/errors/`);
  await page.locator(".groups li").first().waitFor();
});

test("the live tail and exports work below a path", { skip }, async () => {
  const page = await chrome.visit(`${origin}/monitoring/logs/`);
  await page.locator(".lines .row:not(.waits)").first().waitFor();
  await until(() => page.locator(".state").getByText("live").isVisible(), "live");
  const [download] = await Promise.all([
    page.waitForEvent("download"),
    page.getByRole("link", { name: "NDJSON" }).click(),
  ]);
  const lines = readFileSync(await download.path(), "utf8")
    .trim()
    .split("\n");
  assert.equal(lines.length, (await services.viewer.ask("GET", "/api/logs/stats")).total_logs);
});
