import assert from "node:assert/strict";
import { appendFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, test } from "node:test";
import { browser, isAccessible, KEY, service, skip, until } from "./harness.mjs";

const PAYLOADS = [
  "<img src=x onerror=alert(1)>",
  "<script>alert(1)</script>",
  '"><svg onload=alert(1)>',
  "\u001b[31m<b onclick=alert(1)>{{alert(1)}}\u001b[0m",
  "\u001b]8;;javascript:alert(1)\u0007click alert\u001b]8;;\u0007",
];
const LONG = 100_000;
const MINUTE_MS = 60_000;

/** @type {Awaited<ReturnType<typeof service>>} */
let viewer;
/** @type {Awaited<ReturnType<typeof service>>} */
let large;
/** @type {Awaited<ReturnType<typeof browser>>} */
let chrome;
let folder;
/** Pages of a test, which would go on following the logs: five may at once. */
const pages = [];

/** A container as Docker writes it down. Answers what adds lines to it. */
function container(name, { driver = "json-file", project = "", place: among = join(folder, "containers") } = {}) {
  const id = Buffer.from(name).toString("hex").padEnd(64, "0").slice(0, 64);
  const place = join(among, id);
  mkdirSync(place, { recursive: true });
  const log = join(place, `${id}-json.log`);
  const config = {
    ID: id,
    Name: `/${name}`,
    LogPath: driver === "json-file" ? log : "",
    Config: { Image: "shop:1", Labels: project ? { "com.docker.compose.project": project } : {} },
    HostConfig: { LogConfig: { Type: driver, Config: {} } },
    State: { Running: true },
  };
  writeFileSync(join(place, "config.v2.json"), JSON.stringify(config));
  writeFileSync(join(place, "hostconfig.json"), JSON.stringify(config.HostConfig));
  return (lines, times = lines.map(() => Date.now())) => {
    const records = lines.map((line, index) => {
      const time = new Date(times[index]).toISOString();
      return `${JSON.stringify({ log: `${line}\n`, stream: "stdout", time })}\n`;
    });
    appendFileSync(log, records.join(""));
  };
}

/** Waits until so many entries are stored. */
const stored = (service, count) =>
  until(async () => (await service.ask("GET", "/api/logs/stats")).total_logs >= count, `${count} entries`);
const rows = (page) => page.locator(".lines .row:not(.waits)");
const shows = (page, text) => until(() => page.locator(".state").getByText(text).isVisible(), `the list says ${text}`);
const add = {};
let total = 0;

before(async () => {
  if (skip) {
    return;
  }
  folder = mkdtempSync(join(tmpdir(), "monlight-logs-"));
  const now = Date.now();
  add.web = container("web", { project: "shop" });
  add.db = container("db", { project: "shop" });
  container("quiet", { driver: "journald" });
  const lines = Array.from({ length: 300 }, (_, n) =>
    n % 10 === 0 ? `ERROR payment ${n} failed` : `INFO request ${n} ok`,
  );
  add.web(
    lines,
    lines.map((_, n) => now - (300 - n) * MINUTE_MS),
  );
  const special = [
    "plain \u001b[32mgreen\u001b[0m and \u001b[1;31mred\u001b[0m",
    '{"level":"info","msg":"cart saved","cart":{"id":12345678901234567890,"items":[1,2],"empty":{}}}',
    "WARNING slow query from 10.0.0.1",
    ...PAYLOADS,
  ];
  add.db(
    special,
    special.map((_, n) => now - 30_000 + n),
  );
  total = lines.length + special.length;
  writeFileSync(join(folder, "many.log"), "");
  viewer = await service("log-viewer", { LOG_SOURCES: join(folder, "containers"), TAIL_BUFFER: "10000000" });
  const many = join(folder, "many.log");
  const text = Array.from({ length: LONG }, (_, n) => `${n % 7 === 0 ? "WARNING" : "INFO"} number ${n} of many`);
  writeFileSync(many, `${text.join("\n")}\n`);
  const settings = { LOG_SOURCES: join(folder, "none"), LOG_FILES: `many=${many}`, MAX_ENTRIES: "200000" };
  mkdirSync(settings.LOG_SOURCES);
  large = await service("log-viewer", { ...settings, TAIL_BUFFER: "100000000" });
  chrome = await browser();
  await stored(viewer, total);
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

async function visit(...wanted) {
  const page = await chrome.visit(...wanted);
  pages.push(page);
  return page;
}

test("whoever is signed in and has no logs learns how to get some", { skip }, async () => {
  const empty = await service("log-viewer", { LOG_SOURCES: join(folder, "none") });
  const page = await visit(empty.url, { key: null });
  await page.getByLabel("API key").waitFor();
  await isAccessible(page, "sign in");
  await page.getByLabel("API key").fill(KEY);
  await page.keyboard.press("Enter");
  await page.getByText("No logs are followed yet").waitFor();
  assert.match(await page.locator(".empty pre").innerText(), /LOG_SOURCES=.*\nLOG_FILES=/);
  await isAccessible(page, "no logs");
  await page.close();
  await empty.stop();
});

test("lines are listed and filtered by what stands in the URL", { skip }, async () => {
  const page = await visit(viewer.url);
  await shows(page, `${total} lines, live`);
  await isAccessible(page, "list");
  await page.getByText("Not followed: ").waitFor();
  const web = page.getByRole("button", { name: /^web\s*300$/ });
  await web.click();
  await shows(page, "300 lines");
  assert.match(page.url(), /\?container=web$/);
  await page.getByRole("button", { name: /^ERROR\s*30$/ }).click();
  await shows(page, "30 lines");
  assert.match(page.url(), /level=ERROR/);
  assert.ok((await rows(page).allInnerTexts()).every((text) => text.includes("payment")));
  const copy = await visit(page.url());
  await shows(copy, "30 lines");
  assert.equal(await copy.getByRole("button", { name: /^ERROR\s*30$/ }).getAttribute("aria-pressed"), "true");
  await copy.close();
  await page.goBack();
  await shows(page, "300 lines");
  await page.goBack();
  await shows(page, `${total} lines`);
  await page.goForward();
  await shows(page, "300 lines");

  await page.keyboard.press("/");
  await page.keyboard.type("payment 100");
  await shows(page, "1 line");
  await page.keyboard.press("Escape");
  await page.getByRole("button", { name: "Clear all" }).click();
  await shows(page, `${total} lines`);
  await page.goto(`${viewer.url}/?level=${encodeURIComponent(">=WARNING")}`);
  await shows(page, "31 lines");
  await page.goto(`${viewer.url}/?container=none-such`);
  await page.getByText("No line fits these filters").waitFor();
  await isAccessible(page, "nothing fits");
});

test("words, parts and regular expressions are looked for, and what was done is said", { skip }, async () => {
  const page = await visit(viewer.url, { refused: 400 });
  const search = page.getByRole("searchbox");
  const note = page.getByText("searched as plain words");
  await page.getByText("Syntax").click();
  await page.getByText("words that begin so").waitFor();
  await isAccessible(page, "syntax of searches");
  await search.fill("slow quer*");
  await shows(page, "1 line");
  assert.equal(await note.count(), 0);
  await search.fill("10.0.0.1");
  await note.waitFor();
  await shows(page, "1 line");
  await search.fill("ayment");
  await page.getByText("No line fits these filters").waitFor();
  await page.getByLabel("Search for").selectOption("contains");
  await shows(page, "30 lines");
  assert.match(page.url(), /\?contains=ayment$/);
  await page.getByLabel("Search for").selectOption("regex");
  await search.fill("^ERROR payment (10|20)0");
  await shows(page, "2 lines");
  assert.match(page.url(), /\?regex=/);
  await search.fill("(");
  await page.getByRole("alert").getByText(/regex/).waitFor();
  // As a search that had no time for all of many more lines.
  await page.route("**/api/logs?*", async (route) => {
    const response = await route.fetch();
    await route.fulfill({ response, json: { ...(await response.json()), partial: true } });
  });
  await search.fill("ERROR payment");
  await page.getByText("There was not time to look through everything").waitFor();
});

test("what a terminal or a browser would obey is shown as text", { skip }, async () => {
  const page = await visit(`${viewer.url}/?container=db`);
  await shows(page, "8 lines");
  const green = page.locator(".lines .text .f2");
  assert.equal(await green.innerText(), "green");
  assert.equal(await page.locator(".lines .text .f1.bold").innerText(), "red");
  const texts = await rows(page).locator(".text").allInnerTexts();
  for (const payload of PAYLOADS.slice(0, 3)) {
    assert.ok(texts.includes(payload), `${payload} in ${texts}`);
  }
  assert.ok(texts.includes("<b onclick=alert(1)>{{alert(1)}}") && texts.includes("click alert"), String(texts));
  for (const fold of await page.locator(".lines .fold").all()) {
    await fold.click();
  }
  assert.equal(await page.locator(".opened").count(), 8);
  const json = await page.locator(".opened pre").filter({ hasText: "cart saved" }).innerText();
  assert.match(json, /^\{\n {2}"level": "info",\n/);
  assert.match(json, /\n {4}"id": 12345678901234567890,\n {4}"items": \[\n {6}1,\n {6}2\n {4}\],\n {4}"empty": \{\}\n/);
  await isAccessible(page, "opened lines");
  assert.equal(await page.locator(".lines img, .lines svg, .lines b, .lines script").count(), 0);
});

/** A viewer of a text file with some lines. */
async function viewerOf(context, name, lines) {
  const file = join(folder, `${name}.log`);
  writeFileSync(file, `${lines.join("\n")}\n`);
  const settings = { LOG_SOURCES: join(folder, "none"), LOG_FILES: `${name}=${file}` };
  const viewer = await service("log-viewer", settings);
  context.after(viewer.stop);
  await stored(viewer, lines.length);
  return { ...viewer, file };
}

test("what a search has found is marked, and nothing else", { skip }, async (context) => {
  const lines = [
    "payment of a paymaster timed out, not timely",
    "Zahlung über 10 € fürs Café refused: connection refused",
    "debug: payment refused",
    "10.0.0.1 and 100000.1 and \u001b[31m10.0\u001b[1m.0.1\u001b[0m said <mark>no</mark>",
    '2026-11-22 10:00:00 INFO {"payment":{"state":"refused by 10.0.0.1"}}',
    `${"a".repeat(40)}!`,
    "ERROR the first line\n    at the second (line.js:2:1)\n    at needle (third.js:3:1)",
  ];
  const viewer = await viewerOf(context, "marked", lines);
  const page = await visit(viewer.url);
  const marks = async () => (await page.locator(".lines .text mark").allInnerTexts()).reverse();
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
    await page.locator(".state, .empty").first().waitFor();
    await until(async () => (await marks()).length >= expected.length, `${query}: as many marks`);
    assert.deepEqual((await marks()).sort(), [...expected].sort(), query);
  }

  // Where colours change within it, it is marked in both, and keeps them.
  await page.goto(`${viewer.url}/?search=10.0.0.1`);
  await page.locator(".text .f1:not(.bold) mark", { hasText: "10.0" }).waitFor();
  await page.locator(".text .f1.bold mark", { hasText: ".0.1" }).waitFor();
  await isAccessible(page, "marks");
  const dark = await visit(`${viewer.url}/?search=${encodeURIComponent("10 OR needle OR said")}`, { dark: true });
  await dark.locator(".text mark.quiet").waitFor();
  await isAccessible(dark, "marks in the dark");
  await dark.close();
  for (const fold of await page.locator(".lines .fold").all()) {
    await fold.click();
  }
  await page.locator(".opened pre mark", { hasText: "10.0.0.1" }).first().waitFor();
  assert.equal(await page.locator("mark mark, .text > :not(span, mark)").count(), 0);
  await page.locator(".lines .when").last().click();
  const dialog = page.getByRole("dialog");
  await dialog.locator("mark").first().waitFor();
  assert.deepEqual([...new Set(await dialog.locator("mark").allInnerTexts())].sort(), [".0.1", "10.0", "10.0.0.1"]);
  await page.keyboard.press("Escape");

  // An expression that a browser would look for until tomorrow.
  const note = page.getByText("cannot be marked here");
  assert.equal(await note.count(), 0);
  await page.goto(`${viewer.url}/?regex=${encodeURIComponent("^(a+)+$|!$")}`);
  await shows(page, "1 line");
  await note.waitFor();
  assert.deepEqual(await marks(), []);
  await page.keyboard.press("?");
  await page.getByRole("dialog").getByText("jump to the newest").waitFor();
  await page.goto(`${viewer.url}/?regex=${encodeURIComponent("[[:digit:]]+!?")}`);
  await note.waitFor();
  await isAccessible(page, "what cannot be marked");
});

test("JSON behind something else is opened like JSON alone", { skip }, async (context) => {
  const lines = [
    '\u001b[32m2026-11-22 10:00:00\u001b[0m INFO {"cart":{"id":12345678901234567890,"items":[]}}',
    'api | {"a":1} took [3] ms',
    'jobs [1] {"half": [{"b":2}] and [{"b":"a \\"}]\\" z"}]',
    "plain [1] {no} {} []",
  ];
  const viewer = await viewerOf(context, "json", lines);
  const page = await visit(viewer.url);
  await shows(page, "4 lines");
  for (const fold of await page.locator(".lines .fold").all()) {
    await fold.click();
  }
  const texts = (await page.locator(".opened pre").allInnerTexts()).reverse();
  assert.equal(
    texts[0],
    '2026-11-22 10:00:00 INFO\n{\n  "cart": {\n    "id": 12345678901234567890,\n    "items": []\n  }\n}',
  );
  assert.equal(await page.locator(".opened pre .f2").innerText(), "2026-11-22 10:00:00");
  assert.equal(texts[1], 'api |\n{\n  "a": 1\n}\ntook [3] ms');
  assert.equal(texts[2], 'jobs [1] {"half":\n[\n  {\n    "b": 2\n  }\n]\nand [{"b":"a \\"}]\\" z"}]');
  assert.equal(texts[3], lines[3]);
  await isAccessible(page, "JSON behind something else");
});

test("what is new shows at once, waits while one reads or pauses, and is a jump away", { skip }, async () => {
  const page = await visit(`${viewer.url}/?container=web`);
  await shows(page, "live");
  const first = rows(page).first();
  add.web(["INFO first of the new"]);
  await until(async () => (await first.innerText()).includes("first of the new"), "a line that came");
  await page.keyboard.press("p");
  await shows(page, "paused");
  add.web(["INFO second of the new"]);
  const jump = page.getByRole("button", { name: "Jump to newest (1)" });
  await jump.waitFor();
  assert.ok((await first.innerText()).includes("first of the new"), "pausing lets nothing in");
  await page.keyboard.press("p");
  await until(async () => (await first.innerText()).includes("second of the new"), "what waited");

  await page.locator(".lines").hover();
  await page.mouse.wheel(0, 900);
  await until(async () => !(await rows(page).allInnerTexts()).join().includes("of the new"), "further down");
  const before = await page.locator(".lines").evaluate((lines) => [lines.scrollTop, lines.innerText]);
  add.web(["INFO third of the new"]);
  await jump.waitFor();
  assert.deepEqual(await page.locator(".lines").evaluate((lines) => [lines.scrollTop, lines.innerText]), before);
  await isAccessible(page, "lines wait");
  await page.keyboard.press("g");
  await until(async () => (await first.innerText()).includes("third of the new"), "the newest");

  // With a line opened at the top, too, somebody reads.
  await page.keyboard.press("j");
  await page.keyboard.press("j");
  await page.keyboard.press("Enter");
  await page.locator(".opened").waitFor();
  assert.ok((await page.locator(".row.at").innerText()).includes("second of the new"));
  add.web(["INFO fourth of the new"]);
  await jump.waitFor();
  assert.ok((await first.innerText()).includes("third of the new"));
  await page.keyboard.press("k");
  await page.keyboard.press("Escape");
  await until(async () => (await first.innerText()).includes("fourth of the new"), "nobody reads any more");
  total += 4;
});

test("a tail goes on where it broke off when the service was killed", { skip }, async (context) => {
  const viewer = await viewerOf(context, "tailed", ["INFO line 0"]);
  const page = await visit(viewer.url, { refused: 0 });
  await shows(page, "1 line, live");
  const shown = async () => (await rows(page).locator(".text").allInnerTexts()).reverse();
  const lines = (first, last) => Array.from({ length: last - first + 1 }, (_, n) => `INFO line ${first + n}`);
  const write = (first, last) => appendFileSync(viewer.file, `${lines(first, last).join("\n")}\n`);
  const places = [];
  page.on("request", async (request) => {
    if (request.url().includes("/tail")) {
      places.push((await request.allHeaders())["last-event-id"]);
    }
  });
  write(1, 3);
  await shows(page, "4 lines, live");
  await viewer.restart(async () => {
    await shows(page, "connecting…");
    write(4, 6);
  });
  await shows(page, "7 lines, live");
  write(7, 9);
  await shows(page, "10 lines, live");
  assert.deepEqual(await shown(), lines(0, 9));
  assert.match(places.at(-1) ?? "", /^\d+$/);
  // And again while somebody reads.
  await page.keyboard.press("p");
  await viewer.restart(async () => write(10, 11));
  await page.getByRole("button", { name: "Jump to newest (2)" }).click();
  await page.keyboard.press("p");
  write(12, 12);
  await shows(page, "13 lines, live");
  assert.deepEqual(await shown(), lines(0, 12));
});

test("the sixth reader learns why nothing comes by itself, and tries again", { skip }, async (context) => {
  const viewer = await viewerOf(context, "crowd", ["INFO the first"]);
  const aborts = [];
  for (let n = 0; n < 5; n++) {
    const abort = new AbortController();
    aborts.push(abort);
    const answer = await fetch(`${viewer.url}/api/logs/tail?api_key=${KEY}`, { signal: abort.signal });
    assert.equal(answer.status, 200);
  }
  const page = await visit(viewer.url, { refused: 503 });
  await shows(page, "1 line, not live");
  const said = page.getByRole("alert");
  await said.getByText("Five readers follow the logs already").waitFor();
  await isAccessible(page, "the sixth reader");
  appendFileSync(viewer.file, "INFO the second\n");
  await stored(viewer, 2);
  await said.getByRole("button", { name: "Try again" }).click();
  await shows(page, "2 lines, not live");
  for (const abort of aborts) {
    abort.abort();
  }
  // The service looks every quarter of a second whether a reader is gone.
  await until(async () => {
    if (await said.isVisible()) {
      await said.getByRole("button", { name: "Try again" }).click({ timeout: 1_000 });
    }
    return (await page.locator(".state").innerText()).includes("2 lines, live");
  }, "a place is free");
  appendFileSync(viewer.file, "INFO the third\n");
  await shows(page, "3 lines, live");
});

test("names of containers are text, whatever they are", { skip }, async (context) => {
  const place = join(folder, "named");
  const names = [...PAYLOADS, "javascript:alert(1)", "\u202egnp.exe"];
  for (const [index, name] of names.entries()) {
    const add = container(name, { project: name, driver: index === 1 ? "journald" : "json-file", place });
    add([
      `INFO ${name} ${index}`,
      `{"${index}":${JSON.stringify(name)}}`,
      `api | {"at":${JSON.stringify([{ [name]: name }])}}`,
    ]);
  }
  const viewer = await service("log-viewer", { LOG_SOURCES: place });
  context.after(viewer.stop);
  await stored(viewer, (names.length - 1) * 3);
  const { containers } = await viewer.ask("GET", "/api/logs/containers");
  const page = await visit(viewer.url);
  for (const { name, followed } of containers) {
    await page.goto(`${viewer.url}/`);
    await page.locator(".facet .name").getByText(name, { exact: true }).first().click();
    await page.getByRole("group", { name: "Filters that are set" }).getByText(name, { exact: true }).waitFor();
    if (followed) {
      await shows(page, "3 lines");
      assert.equal(await rows(page).locator(".source").first().textContent(), name);
      for (const fold of await page.locator(".lines .fold").all()) {
        await fold.click();
      }
      await rows(page).locator(".when").first().click();
      await page.getByRole("heading", { name: "Around a line of" }).waitFor();
    } else {
      await page.getByText("No line fits these filters").waitFor();
    }
    for (const mode of ["search", "contains"]) {
      await page.goto(`${viewer.url}/?${new URLSearchParams({ [mode]: name, container: name })}`);
      await page.locator(".state, .empty").first().waitFor();
    }
    assert.equal(await page.locator("main :is(img, script, iframe, a[href^=javascript])").count(), 0);
  }
  assert.ok(containers.length >= names.length - 1, JSON.stringify(containers));
});

test("a part of the histogram becomes the period", { skip }, async () => {
  const page = await visit(`${viewer.url}/?level=ERROR`);
  await shows(page, "30 lines");
  const area = page.locator(".chart .area");
  await area.locator("path.error").waitFor({ state: "attached" });
  const box = await area.boundingBox();
  await page.mouse.move(box.x + box.width * 0.25, box.y + 20);
  await page.mouse.down();
  await page.mouse.move(box.x + box.width * 0.5, box.y + 20, { steps: 5 });
  await isAccessible(page, "a part is chosen");
  await page.mouse.up();
  await shows(page, "in a period that has ended");
  const query = new URL(page.url()).searchParams;
  const span = Date.parse(query.get("until")) - Date.parse(query.get("since"));
  assert.ok(span > 50 * MINUTE_MS && span < 110 * MINUTE_MS, `${span / MINUTE_MS} minutes`);
  const shown = await rows(page).count();
  assert.ok(shown >= 5 && shown <= 11, `${shown} rows`);
  const { total } = await viewer.ask("GET", `/api/logs?${query}`);
  assert.equal(shown, total);
  await page.goBack();
  await shows(page, "30 lines, live");
  await page.getByLabel("Period").selectOption("60");
  await until(() => page.url().includes("since="), "a period in the URL");
  await page.getByRole("button", { name: /^from / }).click();
  await until(() => !page.url().includes("since="), "no period any more");
});

test("a link to a line shows it among its neighbours", { skip }, async () => {
  const page = await visit(`${viewer.url}/?search=payment`);
  await shows(page, "30 lines");
  await rows(page).filter({ hasText: "payment 150 " }).locator(".when").click();
  const dialog = page.getByRole("dialog");
  await dialog.locator('[aria-current="true"]').getByText("payment 150").first().waitFor();
  assert.equal(await dialog.locator(".row").count(), 41);
  await dialog.getByText("request 151 ok").waitFor();
  await isAccessible(page, "context");
  await dialog.getByRole("button", { name: "More before" }).click();
  await until(async () => (await dialog.locator(".row").count()) === 150 + 21, "all before");
  assert.match(page.url(), /search=payment&line=\d+$/);
  const link = await visit(page.url());
  await link.locator('dialog [aria-current="true"]').getByText("payment 150").first().waitFor();
  await link.close();
  await page.keyboard.press("Escape");
  await until(() => !page.url().includes("line="), "the line is not in the URL any more");
  await page.goBack();
  await dialog.locator('[aria-current="true"]').waitFor();
  await dialog.getByRole("button", { name: "All logs of that minute" }).click();
  await until(() => /\?since=.*&until=/.test(page.url()), "that minute");
  const gone = await visit(`${viewer.url}/?line=1`, { refused: 404 });
  await gone.getByText("That line is not kept any more.").waitFor();
});

test("an export is what is filtered", { skip }, async () => {
  const page = await visit(`${viewer.url}/?container=web&level=ERROR&contains=5`);
  await shows(page, "lines");
  const shown = await rows(page).locator(".text").allInnerTexts();
  assert.ok(shown.length > 0 && shown.length < 30);
  const read = async (name) => {
    const [download] = await Promise.all([page.waitForEvent("download"), page.getByRole("link", { name }).click()]);
    return readFileSync(await download.path(), "utf8")
      .trim()
      .split("\n");
  };
  const entries = (await read("NDJSON")).map((line) => JSON.parse(line));
  assert.deepEqual(entries.map(({ message }) => message).reverse(), shown);
  assert.equal((await read("text")).length, shown.length);
});

test("among 100,000 lines one scrolls through few nodes", { skip }, async () => {
  await stored(large, LONG);
  const page = await visit(large.url);
  await shows(page, "100,000 lines");
  const limits = [];
  page.on("request", (request) => limits.push(Number(new URL(request.url()).searchParams.get("limit"))));
  const lines = page.locator(".lines");
  const height = await lines.evaluate((lines) => lines.scrollHeight);
  for (const part of [0.1, 0.5, 0.25, 0.9, 1]) {
    await lines.evaluate((lines, top) => lines.scrollTo(0, top), part * height);
    const number = Math.round((LONG - 1) * (1 - part));
    const seen = async () => {
      const texts = await rows(page).locator(".text").allInnerTexts();
      return texts.map((text) => Number(/number (\d+) of/.exec(text)?.[1]));
    };
    await until(async () => (await seen()).some((shown) => Math.abs(shown - number) < 40), `line ${number}`);
    await until(async () => (await page.locator(".row.waits").count()) === 0, "all are there");
    const numbers = await seen();
    assert.deepEqual(
      numbers,
      numbers.map((_, index) => numbers[0] - index),
    );
    assert.ok((await page.locator(".lines .row").count()) < 300, "few nodes");
  }
  let most = 0;
  for (let step = 0; step < 60; step++) {
    await lines.evaluate((lines) => lines.scrollBy(0, -5_000));
    most = Math.max(most, await page.locator(".lines .row").count());
  }
  assert.ok(most > 0 && most < 300, `${most} nodes`);
  assert.ok(Math.max(...limits) <= 500, "no large page");
  await isAccessible(page, "100,000 lines");

  // Rows of other heights, some of them above: what is read stays.
  await page.setViewportSize({ width: 500, height: 800 });
  await page.keyboard.press("w");
  await lines.evaluate((lines) => lines.scrollTo(0, lines.scrollHeight / 2));
  await until(async () => (await page.locator(".row.waits").count()) === 0, "all are there");
  const top = () =>
    lines.evaluate((lines) => {
      const edge = lines.getBoundingClientRect().top;
      return [...lines.querySelectorAll(".row")].find((row) => row.getBoundingClientRect().bottom > edge + 1)
        ?.textContent;
    });
  await page.waitForTimeout(300);
  const read = await top();
  await page.waitForTimeout(300);
  assert.equal(await top(), read);
  assert.ok((await page.locator(".lines .row").count()) < 300, "few nodes");
});

test("every view fits a phone, light and dark", { skip }, async () => {
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
      await isAccessible(page, `${view} at 360 px, ${dark ? "dark" : "light"}`);
      await page.close();
    }
  }
});

test("help is a key away", { skip }, async () => {
  const page = await visit(viewer.url);
  await page.keyboard.press("?");
  await page.getByRole("dialog").getByText("jump to the newest").waitFor();
  await isAccessible(page, "help");
});
