import assert from "node:assert/strict";
import { appendFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { get as httpGet } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, test } from "node:test";
import { assertAccessible, browser, KEY, service, skip, until } from "./harness.mjs";

const PAYLOADS = [
  "<img src=x onerror=alert(1)>",
  "<script>alert(1)</script>",
  '"><svg onload=alert(1)>',
  "\u001b[31m<b onclick=alert(1)>{{alert(1)}}\u001b[0m",
  "\u001b]8;;javascript:alert(1)\u0007click alert\u001b]8;;\u0007",
];
const LARGE_COUNT = 100_000;
const MINUTE_MS = 60_000;

/** @type {Awaited<ReturnType<typeof service>>} */
let viewer;
/** @type {Awaited<ReturnType<typeof service>>} */
let large;
/** @type {Awaited<ReturnType<typeof browser>>} */
let chrome;
let folder;
/** Open pages, closed after each test: a service allows only five live tails. */
const pages = [];

/** Creates the files of a Docker container. Returns a function that appends lines to its log. */
function createContainer(name, { driver = "json-file", project = "", root = join(folder, "containers") } = {}) {
  const id = Buffer.from(name).toString("hex").padEnd(64, "0").slice(0, 64);
  const directory = join(root, id);
  mkdirSync(directory, { recursive: true });
  const log = join(directory, `${id}-json.log`);
  const config = {
    ID: id,
    Name: `/${name}`,
    LogPath: driver === "json-file" ? log : "",
    Config: { Image: "shop:1", Labels: project ? { "com.docker.compose.project": project } : {} },
    HostConfig: { LogConfig: { Type: driver, Config: {} } },
    State: { Running: true },
  };
  writeFileSync(join(directory, "config.v2.json"), JSON.stringify(config));
  writeFileSync(join(directory, "hostconfig.json"), JSON.stringify(config.HostConfig));
  return (lines, times = lines.map(() => Date.now())) => {
    const records = lines.map((line, index) => {
      const time = new Date(times[index]).toISOString();
      return `${JSON.stringify({ log: `${line}\n`, stream: "stdout", time })}\n`;
    });
    appendFileSync(log, records.join(""));
  };
}

/** Waits until a service has stored a number of entries. */
const waitForEntries = (service, count) =>
  until(async () => (await service.ask("GET", "/api/logs/stats")).total_logs >= count, `${count} entries`);
const rows = (page) => page.locator(".lines .row:not(.waits)");
const waitForStatus = (page, text) =>
  until(() => page.locator(".status").getByText(text).isVisible(), `status ${text}`);
/** Functions that append lines, by container. */
const append = {};
/** Number of lines that the tests have written to `viewer`. */
let total = 0;

before(async () => {
  if (skip) {
    return;
  }
  folder = mkdtempSync(join(tmpdir(), "monlight-logs-"));
  const now = Date.now();
  append.web = createContainer("web", { project: "shop" });
  append.db = createContainer("db", { project: "shop" });
  createContainer("quiet", { driver: "journald" });
  const lines = Array.from({ length: 300 }, (_, n) =>
    n % 10 === 0 ? `ERROR payment ${n} failed` : `INFO request ${n} ok`,
  );
  append.web(
    lines,
    lines.map((_, n) => now - (300 - n) * MINUTE_MS),
  );
  const special = [
    "plain \u001b[32mgreen\u001b[0m and \u001b[1;31mred\u001b[0m",
    '{"level":"info","msg":"cart saved","cart":{"id":12345678901234567890,"items":[1,2],"empty":{}}}',
    "WARNING slow query from 10.0.0.1",
    ...PAYLOADS,
  ];
  append.db(
    special,
    special.map((_, n) => now - 30_000 + n),
  );
  total = lines.length + special.length;
  writeFileSync(join(folder, "many.log"), "");
  viewer = await service("log-viewer", { LOG_SOURCES: join(folder, "containers"), TAIL_BUFFER: "10000000" });
  const many = join(folder, "many.log");
  const text = Array.from({ length: LARGE_COUNT }, (_, n) => `${n % 7 === 0 ? "WARNING" : "INFO"} number ${n} of many`);
  writeFileSync(many, `${text.join("\n")}\n`);
  const settings = { LOG_SOURCES: join(folder, "none"), LOG_FILES: `many=${many}`, MAX_ENTRIES: "200000" };
  mkdirSync(settings.LOG_SOURCES);
  large = await service("log-viewer", { ...settings, TAIL_BUFFER: "100000000" });
  chrome = await browser();
  await waitForEntries(viewer, total);
});

after(async () => {
  await viewer?.stop();
  await large?.stop();
  if (folder) {
    rmSync(folder, { recursive: true });
  }
  await chrome?.close();
});

afterEach(async () => {
  for (const page of pages.splice(0)) {
    await page.context().close();
  }
});

async function visit(...options) {
  const page = await chrome.visit(...options);
  pages.push(page);
  return page;
}

test("the empty list explains how to configure sources", { skip }, async () => {
  const empty = await service("log-viewer", { LOG_SOURCES: join(folder, "none") });
  const page = await visit(empty.url, { key: null });
  await page.getByLabel("API key").waitFor();
  await assertAccessible(page, "sign in");
  await page.getByLabel("API key").fill(KEY);
  await page.keyboard.press("Enter");
  await page.getByText("No log sources").waitFor();
  assert.match(await page.locator(".empty pre").innerText(), /LOG_SOURCES=.*\nLOG_FILES=/);
  await assertAccessible(page, "no logs");
  await page.close();
  await empty.stop();
});

test("lines can be filtered through the URL", { skip }, async () => {
  const page = await visit(viewer.url);
  await waitForStatus(page, `${total} lines, live`);
  await assertAccessible(page, "list");
  await page.getByText("Not followed: ").waitFor();
  const web = page.getByRole("button", { name: /^web\s*300$/ });
  await web.click();
  await waitForStatus(page, "300 lines");
  assert.match(page.url(), /\?container=web$/);
  await page.getByRole("button", { name: /^ERROR\s*30$/ }).click();
  await waitForStatus(page, "30 lines");
  assert.match(page.url(), /level=ERROR/);
  assert.ok((await rows(page).allInnerTexts()).every((text) => text.includes("payment")));
  const copy = await visit(page.url());
  await waitForStatus(copy, "30 lines");
  assert.equal(await copy.getByRole("button", { name: /^ERROR\s*30$/ }).getAttribute("aria-pressed"), "true");
  await copy.close();
  await page.goBack();
  await waitForStatus(page, "300 lines");
  await page.goBack();
  await waitForStatus(page, `${total} lines`);
  await page.goForward();
  await waitForStatus(page, "300 lines");

  await page.keyboard.press("/");
  await page.keyboard.type("payment 100");
  await waitForStatus(page, "1 line");
  await page.keyboard.press("Escape");
  await page.getByRole("button", { name: "Clear all" }).click();
  await waitForStatus(page, `${total} lines`);
  await page.goto(`${viewer.url}/?level=${encodeURIComponent(">=WARNING")}`);
  await waitForStatus(page, "31 lines");
  await page.goto(`${viewer.url}/?container=none-such`);
  await page.getByText("No matching log lines").waitFor();
  await assertAccessible(page, "no matches");
});

test("searches support full text, substrings and regular expressions", { skip }, async () => {
  const page = await visit(viewer.url, { allowedStatus: 400 });
  const search = page.getByRole("searchbox");
  const note = page.getByText("searched as plain words");
  await page.getByText("Syntax", { exact: true }).click();
  await page.getByText("words that start with time").waitFor();
  await assertAccessible(page, "search syntax");
  await search.fill("slow quer*");
  await waitForStatus(page, "1 line");
  assert.equal(await note.count(), 0);
  await search.fill("10.0.0.1");
  await note.waitFor();
  await waitForStatus(page, "1 line");
  await search.fill("ayment");
  await page.getByText("No matching log lines").waitFor();
  await page.getByLabel("Search mode").selectOption("contains");
  await waitForStatus(page, "30 lines");
  assert.match(page.url(), /\?contains=ayment$/);
  await page.getByLabel("Search mode").selectOption("regex");
  await search.fill("^ERROR payment (10|20)0");
  await waitForStatus(page, "2 lines");
  assert.match(page.url(), /\?regex=/);
  await search.fill("(");
  await page.getByRole("alert").getByText(/regex/).waitFor();
  // Simulates a search that times out.
  await page.route("**/api/logs?*", async (route) => {
    const response = await route.fetch();
    await route.fulfill({ response, json: { ...(await response.json()), partial: true } });
  });
  await search.fill("ERROR payment");
  await page.getByText("Search timed out").waitFor();
});

test("escape sequences and HTML are shown as text", { skip }, async () => {
  const page = await visit(`${viewer.url}/?container=db`);
  await waitForStatus(page, "8 lines");
  const green = page.locator(".lines .message .fg-2");
  assert.equal(await green.innerText(), "green");
  assert.equal(await page.locator(".lines .message .fg-1.bold").innerText(), "red");
  const texts = await rows(page).locator(".message").allInnerTexts();
  for (const payload of PAYLOADS.slice(0, 3)) {
    assert.ok(texts.includes(payload), `${payload} in ${texts}`);
  }
  assert.ok(texts.includes("<b onclick=alert(1)>{{alert(1)}}") && texts.includes("click alert"), String(texts));
  for (const fold of await page.locator(".lines .toggle").all()) {
    await fold.click();
  }
  assert.equal(await page.locator(".expanded").count(), 8);
  const json = await page.locator(".expanded pre").filter({ hasText: "cart saved" }).innerText();
  assert.match(json, /^\{\n {2}"level": "info",\n/);
  assert.match(json, /\n {4}"id": 12345678901234567890,\n {4}"items": \[\n {6}1,\n {6}2\n {4}\],\n {4}"empty": \{\}\n/);
  await assertAccessible(page, "expanded lines");
  assert.equal(await page.locator(".lines img, .lines svg, .lines b, .lines script").count(), 0);
});

/** Starts a log viewer for a text file with some lines. */
async function startViewer(context, name, lines) {
  const file = join(folder, `${name}.log`);
  writeFileSync(file, `${lines.join("\n")}\n`);
  const settings = { LOG_SOURCES: join(folder, "none"), LOG_FILES: `${name}=${file}` };
  const viewer = await service("log-viewer", settings);
  context.after(viewer.stop);
  await waitForEntries(viewer, lines.length);
  return { ...viewer, file };
}

test("matches of a search are highlighted, and nothing else", { skip }, async (context) => {
  const lines = [
    "payment of a paymaster timed out, not timely",
    "Zahlung über 10 € fürs Café refused: connection refused",
    "debug: payment refused",
    "10.0.0.1 and 100000.1 and \u001b[31m10.0\u001b[1m.0.1\u001b[0m said <mark>no</mark>",
    '2026-11-22 10:00:00 INFO {"payment":{"state":"refused by 10.0.0.1"}}',
    `${"a".repeat(40)}!`,
    "ERROR the first line\n    at the second (line.js:2:1)\n    at needle (third.js:3:1)",
  ];
  const viewer = await startViewer(context, "marked", lines);
  const page = await visit(viewer.url);
  const highlights = async () => (await page.locator(".lines .message mark").allInnerTexts()).reverse();
  const searches = [
    ["search=payment", ["payment", "payment", "payment"]],
    ["search=pay*", ["payment", "paymaster", "payment", "payment"]],
    ["search=cafe", ["Café"]],
    ["search=FÜRS", ["fürs"]],
    ['search="connection refused"', ["connection refused"]],
    ["search=refused NOT debug", ["refused", "refused", "refused"]],
    ["search=refused NOT (debug OR payment)", ["refused", "refused"]],
    ["search=timed OR debug", ["timed", "debug"]],
    ["search=(zahlung AND nowhere) OR refused", ["refused", "refused", "refused", "refused"]],
    ["search=10.0.0.1", ["10.0.0.1", "10.0", ".0.1", "10.0.0.1"]],
    ["search=<mark>", ["<mark>"]],
    ["search=NEAR(payment refused, 5) AND ^debug", ["debug", "payment", "refused"]],
    ["contains=AYMENT", ["ayment", "ayment", "ayment"]],
    ["contains=( OF A )", []],
    ["regex=(?i)CAF\\w+", ["Café"]],
    ["regex=^debug|\\d+ €", ["10 €", "debug"]],
    ["regex=(?P<what>timed|timely)", ["timed", "timely"]],
    ["contains=payment&regex=refused$", ["payment", "refused"]],
    ["search=needle", ["+2 lines"]],
  ];
  for (const [query, expected] of searches) {
    const [first, second] = query.split("&").map((part) => part.split("="));
    const params = new URLSearchParams(
      [first, second].filter(Boolean).map(([name, ...value]) => [name, value.join("=")]),
    );
    await page.goto(`${viewer.url}/?${params}`);
    await page.locator(".status, .empty").first().waitFor();
    await until(async () => (await highlights()).length >= expected.length, `${query}: number of highlights`);
    assert.deepEqual((await highlights()).sort(), [...expected].sort(), query);
  }

  // A match with several colors is highlighted in each of them and keeps them.
  await page.goto(`${viewer.url}/?search=10.0.0.1`);
  await page.locator(".message .fg-1:not(.bold) mark", { hasText: "10.0" }).waitFor();
  await page.locator(".message .fg-1.bold mark", { hasText: ".0.1" }).waitFor();
  await assertAccessible(page, "highlights");
  const dark = await visit(`${viewer.url}/?search=${encodeURIComponent("10 OR needle OR said")}`, { dark: true });
  await dark.locator(".message mark.muted").waitFor();
  await assertAccessible(dark, "highlights in the dark theme");
  await dark.close();
  for (const fold of await page.locator(".lines .toggle").all()) {
    await fold.click();
  }
  await page.locator(".expanded pre mark", { hasText: "10.0.0.1" }).first().waitFor();
  assert.equal(await page.locator("mark mark, .message > :not(span, mark)").count(), 0);
  await page.locator(".lines .timestamp").last().click();
  const dialog = page.getByRole("dialog");
  await dialog.locator("mark").first().waitFor();
  assert.deepEqual([...new Set(await dialog.locator("mark").allInnerTexts())].sort(), [".0.1", "10.0", "10.0.0.1"]);
  await page.keyboard.press("Escape");

  // An expression that takes exponential time in the browser.
  const note = page.getByText("cannot highlight the matches");
  assert.equal(await note.count(), 0);
  await page.goto(`${viewer.url}/?regex=${encodeURIComponent("^(a+)+$|!$")}`);
  await waitForStatus(page, "1 line");
  await note.waitFor();
  assert.deepEqual(await highlights(), []);
  await page.keyboard.press("?");
  await page.getByRole("dialog").getByText("jump to newest").waitFor();
  await page.goto(`${viewer.url}/?regex=${encodeURIComponent("[[:digit:]]+!?")}`);
  await note.waitFor();
  await assertAccessible(page, "unsupported expression");
});

test("JSON after a prefix is formatted like JSON alone", { skip }, async (context) => {
  const lines = [
    '\u001b[32m2026-11-22 10:00:00\u001b[0m INFO {"cart":{"id":12345678901234567890,"items":[]}}',
    'api | {"a":1} took [3] ms',
    'jobs [1] {"half": [{"b":2}] and [{"b":"a \\"}]\\" z"}]',
    "plain [1] {no} {} []",
  ];
  const viewer = await startViewer(context, "json", lines);
  const page = await visit(viewer.url);
  await waitForStatus(page, "4 lines");
  for (const fold of await page.locator(".lines .toggle").all()) {
    await fold.click();
  }
  const texts = (await page.locator(".expanded pre").allInnerTexts()).reverse();
  assert.equal(
    texts[0],
    '2026-11-22 10:00:00 INFO\n{\n  "cart": {\n    "id": 12345678901234567890,\n    "items": []\n  }\n}',
  );
  assert.equal(await page.locator(".expanded pre .fg-2").innerText(), "2026-11-22 10:00:00");
  assert.equal(texts[1], 'api |\n{\n  "a": 1\n}\ntook [3] ms');
  assert.equal(texts[2], 'jobs [1] {"half":\n[\n  {\n    "b": 2\n  }\n]\nand [{"b":"a \\"}]\\" z"}]');
  assert.equal(texts[3], lines[3]);
  await assertAccessible(page, "JSON after a prefix");
});

test("a long message is truncated until all of it is loaded", { skip }, async (context) => {
  const long = `WARNING long ${"é ".repeat(15_000)}the end`;
  const viewer = await startViewer(context, "long", ["short", long]);
  for (const dark of [false, true]) {
    const page = await visit(`${viewer.url}/?search=long`, { width: 390, height: 740, dark });
    await page.locator(".lines .toggle").focus();
    await page.keyboard.press("Enter");
    const text = page.locator(".expanded pre");
    await text.waitFor();
    assert.ok((await text.innerText()).length < 9_000);
    await assertAccessible(page, `a truncated message, ${dark ? "dark" : "light"}`);
    const button = page.getByRole("button", { name: "Show all (45 kB)" });
    await button.focus();
    await page.keyboard.press("Enter");
    await button.waitFor({ state: "detached" });
    assert.equal(await text.evaluate((pre) => pre.textContent), long);
    assert.ok(await text.evaluate((pre) => pre === document.activeElement));
    await assertAccessible(page, `a whole message, ${dark ? "dark" : "light"}`);
    await page.close();
  }
});

test("new lines appear at the top, but not while the user reads or pauses", { skip }, async () => {
  const page = await visit(`${viewer.url}/?container=web`);
  await waitForStatus(page, "live");
  const first = rows(page).first();
  append.web(["INFO first of the new"]);
  await until(async () => (await first.innerText()).includes("first of the new"), "a new line");
  await page.keyboard.press("p");
  await waitForStatus(page, "paused");
  append.web(["INFO second of the new"]);
  const jump = page.getByRole("button", { name: "Jump to newest (1)" });
  await jump.waitFor();
  assert.ok((await first.innerText()).includes("first of the new"), "no new line while paused");
  await page.keyboard.press("p");
  await until(async () => (await first.innerText()).includes("second of the new"), "the pending line");

  await page.locator(".lines").hover();
  await page.mouse.wheel(0, 900);
  await until(async () => !(await rows(page).allInnerTexts()).join().includes("of the new"), "scrolled down");
  const before = await page.locator(".lines").evaluate((lines) => [lines.scrollTop, lines.innerText]);
  append.web(["INFO third of the new"]);
  await jump.waitFor();
  assert.deepEqual(await page.locator(".lines").evaluate((lines) => [lines.scrollTop, lines.innerText]), before);
  await assertAccessible(page, "pending lines");
  await page.keyboard.press("g");
  await until(async () => (await first.innerText()).includes("third of the new"), "the newest line");

  // An expanded line at the top also pauses the list.
  await page.keyboard.press("j");
  await page.keyboard.press("j");
  await page.keyboard.press("Enter");
  await page.locator(".expanded").waitFor();
  assert.ok((await page.locator(".row.current").innerText()).includes("second of the new"));
  append.web(["INFO fourth of the new"]);
  await jump.waitFor();
  assert.ok((await first.innerText()).includes("third of the new"));
  await page.keyboard.press("k");
  await page.keyboard.press("Escape");
  await until(async () => (await first.innerText()).includes("fourth of the new"), "the list resumes");
  total += 4;
});

test("a live tail resumes without gaps after the service was killed", { skip }, async (context) => {
  const viewer = await startViewer(context, "tailed", ["INFO line 0"]);
  const page = await visit(viewer.url, { allowedStatus: 0 });
  await waitForStatus(page, "1 line, live");
  const shownLines = async () => (await rows(page).locator(".message").allInnerTexts()).reverse();
  const lines = (first, last) => Array.from({ length: last - first + 1 }, (_, n) => `INFO line ${first + n}`);
  const write = (first, last) => appendFileSync(viewer.file, `${lines(first, last).join("\n")}\n`);
  const lastEventIds = [];
  page.on("request", async (request) => {
    if (request.url().includes("/tail")) {
      lastEventIds.push((await request.allHeaders())["last-event-id"]);
    }
  });
  write(1, 3);
  await waitForStatus(page, "4 lines, live");
  await viewer.restart(async () => {
    await waitForStatus(page, "connecting…");
    write(4, 6);
  });
  await waitForStatus(page, "7 lines, live");
  write(7, 9);
  await waitForStatus(page, "10 lines, live");
  assert.deepEqual(await shownLines(), lines(0, 9));
  assert.match(lastEventIds.at(-1) ?? "", /^\d+$/);
  // The same while the list is paused.
  await page.keyboard.press("p");
  await viewer.restart(async () => write(10, 11));
  await page.getByRole("button", { name: "Jump to newest (2)" }).click();
  await page.keyboard.press("p");
  write(12, 12);
  await waitForStatus(page, "13 lines, live");
  assert.deepEqual(await shownLines(), lines(0, 12));
});

test("a rejected live tail shows the reason and can be retried", { skip }, async (context) => {
  const viewer = await startViewer(context, "crowd", ["INFO the first"]);
  // A client with several tails would have to leave one to the page, so each has another address.
  const requests = [];
  for (let n = 0; n < 5; n++) {
    const status = await new Promise((resolve, reject) => {
      const options = { localAddress: `127.0.0.${n + 2}` };
      const request = httpGet(`${viewer.url}/api/logs/tail?api_key=${KEY}`, options, ({ statusCode }) =>
        resolve(statusCode),
      );
      request.on("error", reject);
      requests.push(request);
    });
    assert.equal(status, 200);
  }
  const rejected = await fetch(`${viewer.url}/api/logs/tail?api_key=${KEY}`);
  assert.equal(rejected.status, 503);
  const page = await visit(viewer.url, { allowedStatus: 503 });
  await waitForStatus(page, "1 line, live tail unavailable");
  const alert = page.getByRole("alert");
  await alert.getByText((await rejected.json()).detail).waitFor();
  await assertAccessible(page, "rejected live tail");
  appendFileSync(viewer.file, "INFO the second\n");
  await waitForEntries(viewer, 2);
  await alert.getByRole("button", { name: "Retry" }).click();
  await waitForStatus(page, "2 lines, live tail unavailable");
  for (const request of requests) {
    request.destroy();
  }
  // The service checks for closed connections every 250 ms.
  await until(async () => {
    if (await alert.isVisible()) {
      // The page also retries by itself, and the button disappears.
      await alert
        .getByRole("button", { name: "Retry" })
        .click({ timeout: 1_000 })
        .catch(() => undefined);
    }
    return (await page.locator(".status").innerText()).includes("2 lines, live");
  }, "a tail is available again");
  appendFileSync(viewer.file, "INFO the third\n");
  await waitForStatus(page, "3 lines, live");
});

test("names of containers are never executed or rendered as HTML", { skip }, async (context) => {
  const root = join(folder, "named");
  const names = [...PAYLOADS, "javascript:alert(1)", "\u202egnp.exe"];
  for (const [index, name] of names.entries()) {
    const appendLines = createContainer(name, {
      project: name,
      driver: index === 1 ? "journald" : "json-file",
      root,
    });
    appendLines([
      `INFO ${name} ${index}`,
      `{"${index}":${JSON.stringify(name)}}`,
      `api | {"at":${JSON.stringify([{ [name]: name }])}}`,
    ]);
  }
  const viewer = await service("log-viewer", { LOG_SOURCES: root });
  context.after(viewer.stop);
  await waitForEntries(viewer, (names.length - 1) * 3);
  const { containers } = await viewer.ask("GET", "/api/logs/containers");
  const page = await visit(viewer.url);
  for (const { name, followed } of containers) {
    await page.goto(`${viewer.url}/`);
    await page.locator(".facet .name").getByText(name, { exact: true }).first().click();
    await page.getByRole("group", { name: "Active filters" }).getByText(name, { exact: true }).waitFor();
    if (followed) {
      await waitForStatus(page, "3 lines");
      assert.equal(await rows(page).locator(".source").first().textContent(), name);
      for (const fold of await page.locator(".lines .toggle").all()) {
        await fold.click();
      }
      await rows(page).locator(".timestamp").first().click();
      await page.getByRole("heading", { name: "Context in" }).waitFor();
    } else {
      await page.getByText("No matching log lines").waitFor();
    }
    for (const mode of ["search", "contains"]) {
      await page.goto(`${viewer.url}/?${new URLSearchParams({ [mode]: name, container: name })}`);
      await page.locator(".status, .empty").first().waitFor();
    }
    assert.equal(await page.locator("main :is(img, script, iframe, a[href^=javascript])").count(), 0);
  }
  assert.ok(containers.length >= names.length - 1, JSON.stringify(containers));
});

test("dragging over the histogram selects a period", { skip }, async () => {
  const page = await visit(`${viewer.url}/?level=ERROR`);
  await waitForStatus(page, "30 lines");
  const area = page.locator(".chart .area");
  await area.locator("path.error").waitFor({ state: "attached" });
  const box = await area.boundingBox();
  await page.mouse.move(box.x + box.width * 0.25, box.y + 20);
  await page.mouse.down();
  await page.mouse.move(box.x + box.width * 0.5, box.y + 20, { steps: 5 });
  await assertAccessible(page, "selection in the histogram");
  await page.mouse.up();
  await waitForStatus(page, "custom range");
  const query = new URL(page.url()).searchParams;
  const span = Date.parse(query.get("until")) - Date.parse(query.get("since"));
  assert.ok(span > 50 * MINUTE_MS && span < 110 * MINUTE_MS, `${span / MINUTE_MS} minutes`);
  const shown = await rows(page).count();
  assert.ok(shown >= 5 && shown <= 11, `${shown} rows`);
  const { total } = await viewer.ask("GET", `/api/logs?${query}`);
  assert.equal(shown, total);
  await page.goBack();
  await waitForStatus(page, "30 lines, live");
  await page.getByLabel("Period").selectOption("60");
  await until(() => page.url().includes("since="), "a period in the URL");
  await page.getByRole("button", { name: /^From / }).click();
  await until(() => !page.url().includes("since="), "no period in the URL");
});

test("a link to a line shows its context", { skip }, async () => {
  const page = await visit(`${viewer.url}/?search=payment`);
  await waitForStatus(page, "30 lines");
  await rows(page).filter({ hasText: "payment 150 " }).locator(".timestamp").click();
  const dialog = page.getByRole("dialog");
  await dialog.locator('[aria-current="true"]').getByText("payment 150").first().waitFor();
  assert.equal(await dialog.locator(".row").count(), 41);
  await dialog.getByText("request 151 ok").waitFor();
  await assertAccessible(page, "context");
  await dialog.getByRole("button", { name: "Load older" }).click();
  await until(async () => (await dialog.locator(".row").count()) === 150 + 21, "all older lines");
  assert.match(page.url(), /search=payment&line=\d+$/);
  const link = await visit(page.url());
  await link.locator('dialog [aria-current="true"]').getByText("payment 150").first().waitFor();
  await link.close();
  await page.keyboard.press("Escape");
  await until(() => !page.url().includes("line="), "no line in the URL");
  await page.goBack();
  await dialog.locator('[aria-current="true"]').waitFor();
  await dialog.getByRole("button", { name: "All logs at this time" }).click();
  await until(() => /\?since=.*&until=/.test(page.url()), "the period of the line");
  const deleted = await visit(`${viewer.url}/?line=1`, { allowedStatus: 404 });
  await deleted.getByText("Log line not found.").waitFor();
});

test("links to lines work for all years", { skip }, async (context) => {
  const root = join(folder, "years");
  const years = ["1969-12-31", "1970-01-01", "2039-06-01", "2109-05-01", "2110-01-01"];
  const appendLines = createContainer("years", { root });
  appendLines(
    years.map((day) => `INFO line of ${day}`),
    years.map((day) => Date.parse(`${day}T12:00:00Z`)),
  );
  const viewer = await service("log-viewer", { LOG_SOURCES: root });
  context.after(viewer.stop);
  await waitForEntries(viewer, years.length);
  for (const day of years) {
    const page = await visit(viewer.url);
    await rows(page)
      .filter({ hasText: `line of ${day}` })
      .locator(".timestamp")
      .click();
    const selected = 'dialog [aria-current="true"]';
    await page.locator(selected).getByText(`line of ${day}`).first().waitFor();
    assert.match(page.url(), /line=\d+$/);
    assert.ok(Number.isSafeInteger(Number(new URL(page.url()).searchParams.get("line"))));
    const link = await visit(page.url());
    await link.locator(selected).getByText(`line of ${day}`).first().waitFor();
    await link.getByRole("button", { name: "All logs at this time" }).click();
    await until(() => /\?since=.*&until=/.test(link.url()), "the period of the line");
    await rows(link)
      .filter({ hasText: `line of ${day}` })
      .waitFor();
    await link.close();
    await page.close();
  }
});

test("exports contain the filtered lines", { skip }, async () => {
  const page = await visit(`${viewer.url}/?container=web&level=ERROR&contains=5`);
  await waitForStatus(page, "lines");
  const shown = await rows(page).locator(".message").allInnerTexts();
  assert.ok(shown.length > 0 && shown.length < 30);
  const read = async (name) => {
    const [download] = await Promise.all([page.waitForEvent("download"), page.getByRole("link", { name }).click()]);
    return readFileSync(await download.path(), "utf8")
      .trim()
      .split("\n");
  };
  const entries = (await read("NDJSON")).map((line) => JSON.parse(line));
  assert.deepEqual(entries.map(({ message }) => message).reverse(), shown);
  assert.equal((await read("Text")).length, shown.length);
});

test("a list of 100,000 lines has few DOM nodes", { skip }, async () => {
  await waitForEntries(large, LARGE_COUNT);
  const page = await visit(large.url);
  await waitForStatus(page, "100,000 lines");
  const limits = [];
  page.on("request", (request) => limits.push(Number(new URL(request.url()).searchParams.get("limit"))));
  const lines = page.locator(".lines");
  const height = await lines.evaluate((lines) => lines.scrollHeight);
  for (const fraction of [0.1, 0.5, 0.25, 0.9, 1]) {
    await lines.evaluate((lines, top) => lines.scrollTo(0, top), fraction * height);
    const number = Math.round((LARGE_COUNT - 1) * (1 - fraction));
    const shownNumbers = async () => {
      const texts = await rows(page).locator(".message").allInnerTexts();
      return texts.map((text) => Number(/number (\d+) of/.exec(text)?.[1]));
    };
    await until(async () => (await shownNumbers()).some((shown) => Math.abs(shown - number) < 40), `line ${number}`);
    await until(async () => (await page.locator(".row.waits").count()) === 0, "all rows are loaded");
    const numbers = await shownNumbers();
    assert.deepEqual(
      numbers,
      numbers.map((_, index) => numbers[0] - index),
    );
    assert.ok((await page.locator(".lines .row").count()) < 300, "few nodes");
  }
  let maxNodes = 0;
  for (let step = 0; step < 60; step++) {
    await lines.evaluate((lines) => lines.scrollBy(0, -5_000));
    maxNodes = Math.max(maxNodes, await page.locator(".lines .row").count());
  }
  assert.ok(maxNodes > 0 && maxNodes < 300, `${maxNodes} nodes`);
  assert.ok(Math.max(...limits) <= 500, "small pages");
  await assertAccessible(page, "100,000 lines");

  // The visible rows stay in place although rows above them have other heights.
  await page.setViewportSize({ width: 500, height: 800 });
  await page.keyboard.press("w");
  await lines.evaluate((lines) => lines.scrollTo(0, lines.scrollHeight / 2));
  await until(async () => (await page.locator(".row.waits").count()) === 0, "all rows are loaded");
  const firstVisible = () =>
    lines.evaluate((lines) => {
      const edge = lines.getBoundingClientRect().top;
      return [...lines.querySelectorAll(".row")].find((row) => row.getBoundingClientRect().bottom > edge + 1)
        ?.textContent;
    });
  await page.waitForTimeout(300);
  const before = await firstVisible();
  await page.waitForTimeout(300);
  assert.equal(await firstVisible(), before);
  assert.ok((await page.locator(".lines .row").count()) < 300, "few nodes");
});

test("every view fits a phone in both themes", { skip }, async () => {
  const [line] = (await viewer.ask("GET", "/api/logs?contains=cart+saved")).logs;
  for (const [view, ready] of [
    ["", ".lines .row"],
    ["?container=db", ".lines .row"],
    [`?line=${line.id}`, 'dialog [aria-current="true"]'],
  ]) {
    for (const dark of [false, true]) {
      const page = await visit(`${viewer.url}/${view}`, { width: 360, height: 740, dark });
      await page.locator(ready).first().waitFor();
      if (!view.includes("line")) {
        await page.locator("summary", { hasText: "Filters" }).click();
        await page.getByRole("button", { name: /^web/ }).waitFor();
        await page.keyboard.press("w");
        await page.getByRole("button", { name: "Wrap" }).and(page.locator('[aria-pressed="true"]')).waitFor();
      }
      await assertAccessible(page, `${view} at 360 px, ${dark ? "dark" : "light"}`);
      await page.close();
    }
  }
});

test("a shortcut opens the help", { skip }, async () => {
  const page = await visit(viewer.url);
  await page.keyboard.press("?");
  await page.getByRole("dialog").getByText("jump to newest").waitFor();
  await assertAccessible(page, "help");
});
