import assert from "node:assert/strict";
import { createServer } from "node:http";
import { after, before, test } from "node:test";
import { assertAccessible, browser, KEY, service, skip, until } from "./harness.mjs";

const PYTHON = `Traceback (most recent call last):
  File "/usr/lib/python3/site-packages/flask/app.py", line 1498, in __call__
    return self.wsgi_app(environ, start_response)
  File "/usr/lib/python3/site-packages/flask/app.py", line 1473, in wsgi_app
    response = self.full_dispatch_request()
  File "/app/cart.py", line 7, in add
    raise ValueError("cart is empty")
ValueError: cart is empty`;
const PAYLOADS = [
  "<img src=x onerror=alert(1)>",
  "<script>alert(1)</script>",
  "javascript:alert(1)",
  '"><svg onload=alert(1)>',
  "\u001b[31m{{alert(1)}}\u202e",
];

/** Returns a payload as the UI shows it: without terminal sequences and with visible control characters. */
const shown = (payload) => payload.replace("\u001b[31m", "").replace("\u202e", "<U+202E>");

/** Public key for the browser relay. */
const PUBLIC_KEY = "fedcba9876543210fedcba9876543210";

/** @type {Awaited<ReturnType<typeof service>>} */
let tracker;
/** @type {Awaited<ReturnType<typeof browser>>} */
let chrome;

before(async () => {
  if (!skip) {
    const services = "log-viewer=http://127.0.0.1:5011,metrics-collector=/metrics/";
    tracker = await service("error-tracker", { API_KEYS: "viewer:read:read-only-key", SERVICES: services });
    chrome = await browser();
  }
});

after(async () => {
  try {
    await chrome?.close();
  } finally {
    await tracker?.stop();
  }
});

const report = (fields) =>
  tracker.ask("POST", "/api/errors", {
    project: "shop",
    exception_type: "ValueError",
    message: "cart is empty",
    traceback: PYTHON,
    ...fields,
  });
const rows = (page) => page.locator(".groups li");

test("signing in requires a valid key", { skip }, async () => {
  const page = await chrome.visit(tracker.url, { key: null });
  await assertAccessible(page, "sign in");
  await page.getByLabel("API key").fill("wrong");
  await page.keyboard.press("Enter");
  await page.getByText("Invalid API key").waitFor();
  await page.getByLabel("API key").fill(KEY);
  await page.keyboard.press("Enter");
  await page.getByText("No errors yet").waitFor();
  assert.match(await page.locator(".empty pre").innerText(), new RegExp(`ErrorClient\\("${tracker.url}", `));
  await assertAccessible(page, "empty list");
  const stored = await page.evaluate(() =>
    JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie]),
  );
  assert.ok(!stored.includes(KEY) && !stored.includes("monlight"), stored);
  await page.reload();
  await page.getByText("No errors yet").waitFor();
  await page.getByText("Account", { exact: true }).click();
  await assertAccessible(page, "account menu");
  await page.getByRole("button", { name: "Sign out", exact: true }).click();
  await page.getByLabel("API key").waitFor();
  await page.reload();
  await page.getByLabel("API key").waitFor();
});

test("errors can be filtered through the URL, opened and resolved", { skip }, async () => {
  const extra = {
    cart: 7,
    context: { breadcrumbs: [{ timestamp: "2026-01-31T12:00:00Z", category: "click", message: "button.pay" }] },
    frames: [
      {
        file: "src/cart.ts",
        line: 7,
        function: "add",
        context: [
          { line: 6, text: "function add(cart) {" },
          { line: 7, text: "  cart.items.push(item);" },
        ],
      },
    ],
  };
  await report({
    release: "1.4.2",
    environment: "staging",
    request_url: "/cart/7",
    request_method: "POST",
    user_id: "u-1",
    extra,
  });
  await report({});
  await report({
    exception_type: "TypeError",
    message: "no price",
    project: "blog",
    level: "warning",
    traceback: "TypeError: no price\n    at pay (https://shop.example/app.js:10:5)",
    request_method: "BROWSER",
  });
  for (let n = 0; n < 60; n++) {
    await report({
      project: "many",
      exception_type: `Many${n}`,
      message: "too many",
      traceback: `  File "/app/m.py", line ${n}, in f`,
    });
  }
  const page = await chrome.visit(tracker.url);
  await until(async () => (await rows(page).count()) === 50, "a page of errors");
  await page.getByText("1–50 of 62").waitFor();
  await page.getByRole("button", { name: "Next" }).click();
  await until(async () => (await rows(page).count()) === 12, "the second page");
  assert.match(page.url(), /\?offset=50$/);
  await page.goBack();
  await until(async () => (await rows(page).count()) === 50, "the first page again");

  await page.keyboard.press("/");
  await page.keyboard.type("cart");
  await until(async () => (await rows(page).count()) === 1, "one match");
  assert.match(page.url(), /\?search=cart$/);
  await page.getByLabel("Environment").selectOption("prod");
  await until(() => page.url().includes("environment=prod"), "the filter in the URL");
  const copy = await chrome.visit(page.url());
  await until(async () => (await rows(copy).count()) === 1, "the same list from a link");
  assert.equal(await copy.getByRole("searchbox").inputValue(), "cart");
  await copy.close();
  await page.getByLabel("Level").selectOption("critical");
  await page.getByText("No matching errors").waitFor();
  await page.getByRole("button", { name: "Clear filters" }).click();
  await until(async () => (await rows(page).count()) === 50, "all errors again");

  await page.getByLabel("Project").selectOption("shop");
  await until(async () => (await rows(page).count()) === 1, "errors of the project");
  await assertAccessible(page, "list");
  await page.locator("body").click({ position: { x: 2, y: 2 } });
  await page.keyboard.press("j");
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "ValueError" }).waitFor();
  assert.match(page.url(), /[?&]id=1(&|$)/);
  await page.getByText("2 library frames").click();
  await page.getByText("full_dispatch_request").waitFor();
  await assertAccessible(page, "detail");
  const text = await page.locator("main").innerText();
  for (const expected of [
    "cart is empty",
    "1.4.2",
    "staging",
    "POST /cart/7",
    "u-1",
    '"cart": 7',
    "/app/cart.py",
    "View logs, View metrics",
    "button.pay",
    "cart.items.push(item);",
  ]) {
    assert.ok(text.includes(expected), `${expected} in ${text}`);
  }
  assert.equal(await page.locator(".trace .in-app").first().isVisible(), true);
  const link = await page.getByRole("link", { name: "View logs" }).getAttribute("href");
  assert.match(link ?? "", /^http:\/\/127\.0\.0\.1:5011\/\?since=20.*&until=20/);
  await page.keyboard.press("r");
  await page
    .getByText(/^Resolved/)
    .first()
    .waitFor();
  await page.keyboard.press("Escape");
  await page.getByText("No matching errors").waitFor();
  await report({});
  await page.reload();
  await until(async () => (await rows(page).count()) === 1, "the reopened error");
});

test("several errors can be resolved at once", { skip }, async () => {
  const page = await chrome.visit(`${tracker.url}/?project=many&search=Many1*`);
  await until(async () => (await rows(page).count()) > 2, "errors");
  const before = await rows(page).count();
  await rows(page).nth(0).getByRole("checkbox").check();
  await rows(page).nth(1).getByRole("checkbox").check();
  await page.getByRole("button", { name: "Resolve 2" }).click();
  await until(async () => (await rows(page).count()) === before - 2, "two errors fewer");
});

test("an error that the keyboard resolves is marked at once", { skip }, async () => {
  const page = await chrome.visit(`${tracker.url}/?project=many`);
  await until(async () => (await rows(page).count()) === 50, "errors");
  const first = await rows(page).nth(0).getByRole("link").innerText();
  await page.keyboard.press("j");
  await page.keyboard.press("r");
  await rows(page).nth(0).getByText("Resolved").waitFor();
  // Triggers the refresh that otherwise happens every 15 s. The row stays while it has the focus.
  const refreshed = page.waitForResponse((response) => response.url().includes("/api/errors?"));
  await page.evaluate(() => document.dispatchEvent(new Event("visibilitychange")));
  await refreshed;
  assert.equal(await rows(page).nth(0).getByRole("link").innerText(), first);
  assert.equal(await rows(page).nth(0).getByText("Resolved").count(), 1);
  assert.equal(await page.getByRole("button", { name: "Show new errors" }).count(), 0);
  await page.keyboard.press("j");
  assert.match((await rows(page).nth(1).getAttribute("class")) ?? "", /current/);
  await page.locator("body").click({ position: { x: 2, y: 2 } });
  await page.evaluate(() => {
    document.activeElement?.blur();
    document.dispatchEvent(new Event("visibilitychange"));
  });
  await until(async () => (await rows(page).nth(0).getByRole("link").innerText()) !== first, "the row is gone");
});

test("the buttons for the selection stay in view", { skip }, async () => {
  const page = await chrome.visit(`${tracker.url}/?project=many`);
  await until(async () => (await rows(page).count()) === 50, "errors");
  for (const [width, row] of [
    [1280, 30],
    [390, 40],
  ]) {
    await page.setViewportSize({ width, height: 800 });
    await rows(page).nth(row).getByRole("checkbox").check();
    const box = await page.getByRole("button", { name: /^Resolve \d/ }).boundingBox();
    assert.ok(box && box.y >= 0 && box.y + box.height <= 800, `the button is at ${box?.y}`);
    await assertAccessible(page, `selection at ${width} px`);
  }
});

test("long names and control characters do not change the layout", { skip }, async () => {
  const project = "p".repeat(100);
  await report({ project, message: "\u001b[31mred\u001b[0m a\u202eb", traceback: "\u001b[1mbold\u001b[0m\u2066" });
  const page = await chrome.visit(`${tracker.url}/?project=${project}`);
  const message = rows(page).nth(0).locator(".message");
  await message.waitFor();
  assert.equal(await message.innerText(), "red a<U+202E>b");
  await page.getByLabel("Project").locator("option", { hasText: project }).waitFor({ state: "attached" });
  const box = await page.getByLabel("Project").boundingBox();
  assert.ok(box && box.width <= 260, `the list of projects is ${box?.width} px wide`);
  await rows(page).nth(0).getByRole("link").click();
  await page.locator(".trace").waitFor();
  assert.equal(await page.locator(".trace").innerText(), "bold<U+2066>");
});

test("new errors do not move the list while the user reads", { skip }, async () => {
  const page = await chrome.visit(`${tracker.url}/?project=many`);
  await until(async () => (await rows(page).count()) === 50, "errors");
  const first = await rows(page).nth(0).innerText();
  await page.mouse.wheel(0, 600);
  await until(() => page.evaluate(() => scrollY > 100), "scrolled");
  await report({ project: "many", exception_type: "Newest", traceback: "newest" });
  // Triggers the refresh that otherwise happens every 15 s.
  await page.evaluate(() => document.dispatchEvent(new Event("visibilitychange")));
  await page.getByRole("button", { name: "Show new errors" }).waitFor();
  assert.equal((await rows(page).nth(0).innerText()).split("\n")[0], first.split("\n")[0]);
  await page.getByRole("button", { name: "Show new errors" }).click();
  await until(async () => (await rows(page).nth(0).innerText()).startsWith("Newest"), "the newest error first");
});

test("a read-only key sees no buttons for changes", { skip }, async () => {
  const page = await chrome.visit(`${tracker.url}/?id=2`, { key: "read-only-key" });
  await page.getByRole("heading", { name: "TypeError" }).waitFor();
  assert.equal(await page.getByRole("button", { name: "Resolve" }).count(), 0);
  await page.getByText("Account", { exact: true }).click();
  await page.getByText("Signed in with key viewer").waitFor();
  assert.equal(await page.getByRole("button", { name: "Sign out everywhere" }).count(), 0);
});

test("an admin key can end all sessions", { skip }, async () => {
  const other = await chrome.visit(`${tracker.url}/?id=2`, { key: "read-only-key" });
  await other.getByRole("heading", { name: "TypeError" }).waitFor();
  const page = await chrome.visit(tracker.url);
  await page.getByText("Account", { exact: true }).click();
  await page.keyboard.press("Escape");
  await page.getByRole("button", { name: "Sign out everywhere" }).waitFor({ state: "hidden" });
  await page.keyboard.press("Enter");
  await page.getByRole("button", { name: "Sign out everywhere" }).click();
  const dialog = page.getByRole("dialog", { name: "Sign out everywhere?" });
  await dialog.waitFor();
  await assertAccessible(page, "dialog to sign out everywhere");
  await dialog.getByRole("button", { name: "Cancel" }).click();
  await dialog.waitFor({ state: "hidden" });
  await rows(page).first().waitFor();
  await page.getByText("Account", { exact: true }).click();
  await page.getByRole("button", { name: "Sign out everywhere" }).click();
  await dialog.getByRole("button", { name: "Sign out everywhere" }).click();
  await page.getByText("All sessions have ended.").waitFor();
  // Triggers the refresh that otherwise happens every 15 s.
  await other.evaluate(() => document.dispatchEvent(new Event("visibilitychange")));
  await other.getByText("Your session has ended").waitFor();
  await assertAccessible(other, "ended session");
  await other.getByLabel("API key").fill("read-only-key");
  await other.keyboard.press("Enter");
  await other.getByRole("heading", { name: "TypeError" }).waitFor();
  assert.equal(await other.getByText("Your session has ended").count(), 0);
});

test("a failed sign-out shows the error", { skip }, async () => {
  const page = await chrome.visit(tracker.url, { allowedStatus: 503 });
  await page.route("**/api/session", (route) => route.fulfill({ status: 503, json: { detail: "The disk is full" } }));
  await page.getByText("Account", { exact: true }).click();
  await page.getByRole("button", { name: "Sign out", exact: true }).click();
  await page.getByRole("alert").getByText("The disk is full").waitFor();
  await rows(page).first().waitFor();
});

test("on a phone the filters are collapsed", { skip }, async () => {
  const page = await chrome.visit(`${tracker.url}/?project=many&environment=prod&sort=count`, {
    width: 390,
    height: 844,
  });
  await rows(page).first().waitFor();
  const summary = page.locator("summary", { hasText: "Filters (3)" });
  const box = await rows(page).first().boundingBox();
  assert.ok(box && box.y + box.height <= 844, `the first error ends at ${box && box.y + box.height}`);
  assert.equal(await page.getByLabel("Level").isVisible(), false);
  await assertAccessible(page, "collapsed filters");
  await summary.focus();
  await page.keyboard.press("Enter");
  await page.getByLabel("Environment").selectOption("");
  await page.locator("summary", { hasText: "Filters (2)" }).waitFor();
  assert.equal(await page.getByLabel("Level").isVisible(), true);
  await assertAccessible(page, "expanded filters");
  await summary.or(page.locator("summary", { hasText: "Filters (2)" })).click();
  await page.setViewportSize({ width: 1280, height: 800 });
  await page.getByLabel("Level").waitFor();
  assert.equal(await page.locator(".filters > summary").isVisible(), false);
  await page.locator("details.filters").evaluate((details) => {
    details.open = false;
  });
  await page.getByLabel("Level").waitFor();
});

test("the empty list of alerts explains the configuration", { skip }, async () => {
  const page = await chrome.visit(`${tracker.url}/?alerts=1`, { allowedStatus: 503 });
  await page.getByText("Set ALERT_EMAILS and SMTP_HOST").waitFor();
  await assertAccessible(page, "alerts");
  await page.getByRole("button", { name: "Send test alert" }).click();
  await page
    .getByText(/ALERT_EMAILS|ALERT_WEBHOOK_URL/)
    .first()
    .waitFor();
});

test("alerts link to the error and show the result of each channel", { skip }, async (context) => {
  const hook = createServer((request, response) => {
    request.resume();
    request.on("end", () => response.writeHead(422).end("endpoint removed"));
  });
  await new Promise((resolve) => hook.listen(0, "127.0.0.1", resolve));
  context.after(() => hook.close());
  const url = `http://127.0.0.1:${hook.address().port}/`;
  const alertingTracker = await service("error-tracker", { ALERT_WEBHOOK_URL: url });
  context.after(alertingTracker.stop);
  const error = { project: "shop", exception_type: "PaymentError", message: "no money", traceback: "" };
  await alertingTracker.ask("POST", "/api/errors", error);
  const page = await chrome.visit(`${alertingTracker.url}/?alerts=1`);
  const row = page.locator("tbody tr").first();
  await row.getByText(/^webhook: .*422.*endpoint removed$/).waitFor();
  await assertAccessible(page, "failed alert");
  await row.getByRole("link", { name: "PaymentError" }).click();
  await page.getByRole("heading", { name: "PaymentError" }).waitFor();
  await page.close();
});

test("suppressed alerts show the reason", { skip }, async (context) => {
  const hook = createServer((request, response) => {
    request.resume();
    request.on("end", () => response.writeHead(200).end());
  });
  await new Promise((resolve) => hook.listen(0, "127.0.0.1", resolve));
  context.after(() => hook.close());
  const ALERT_WEBHOOK_URL = `http://127.0.0.1:${hook.address().port}/`;
  const limitedTracker = await service("error-tracker", { ALERT_WEBHOOK_URL, ALERT_MAX_PER_HOUR: "1" });
  context.after(limitedTracker.stop);
  for (const exception_type of ["FirstError", "SecondError"]) {
    const error = { project: "shop", exception_type, message: "", traceback: "" };
    await limitedTracker.ask("POST", "/api/errors", error);
  }
  const latestAlert = async () => (await limitedTracker.ask("GET", "/api/alerts")).alerts[0];
  await until(async () => (await latestAlert()).state === "held", "a suppressed alert");
  const page = await chrome.visit(`${limitedTracker.url}/?alerts=1`);
  const row = page.locator("tbody tr").first();
  await row.getByText("Suppressed").waitFor();
  const [reason] = (await latestAlert()).detail;
  await row.getByText(reason).waitFor();
  await page.close();
});

test("reported values are never executed or rendered as HTML", { skip }, async () => {
  for (const payload of PAYLOADS) {
    const nested = { [payload]: payload };
    const frames = [
      {
        file: payload,
        line: payload,
        function: payload,
        context: [{ line: payload, text: payload }],
      },
    ];
    await report({
      project: payload,
      exception_type: payload,
      message: payload,
      traceback: payload,
      environment: payload,
      release: payload,
      request_url: payload,
      request_method: payload.slice(0, 16),
      user_id: payload,
      request_headers: nested,
      extra: {
        ...nested,
        frames,
        breadcrumbs: [payload, nested, { timestamp: payload, category: payload, message: payload }],
      },
    });
  }
  const page = await chrome.visit(`${tracker.url}/?search=alert`);
  await until(async () => (await rows(page).count()) === PAYLOADS.length, "all reports");
  for (let n = 0; n < PAYLOADS.length; n++) {
    await rows(page).nth(n).getByRole("link").click();
    await page.getByRole("heading", { level: 1 }).waitFor();
    const heading = await page.getByRole("heading", { level: 1 }).textContent();
    assert.ok(PAYLOADS.map(shown).includes(heading ?? ""), heading ?? "");
    await page.goBack();
    await until(async () => (await rows(page).count()) === PAYLOADS.length, "the list again");
  }
});

test("values in source maps are never executed or rendered as HTML", { skip }, async (context) => {
  const upstreams = { ERROR_TRACKER_URL: tracker.url, ERROR_TRACKER_API_KEY: KEY, METRICS_COLLECTOR_URL: tracker.url };
  const relay = await service("browser-relay", {
    ADMIN_API_KEY: KEY,
    DSN_KEYS: `mapped:${PUBLIC_KEY}`,
    METRICS_COLLECTOR_API_KEY: KEY,
    ...upstreams,
  });
  context.after(relay.stop);
  const page = await chrome.visit(`${tracker.url}/?project=mapped`);
  for (const [index, payload] of PAYLOADS.entries()) {
    const url = `https://shop.example/app${index}.js`;
    const map = {
      version: 3,
      sources: [payload],
      names: [payload],
      sourcesContent: [`${payload}\n${payload}\n`],
      // Maps the whole first line to the first line of the first source, with the first name.
      mappings: "AAAAA",
    };
    // Names of releases must not contain control characters.
    const release = `${payload.replace("\u001b", "")} ${index}`;
    await relay.ask("POST", "/api/source-maps", {
      project: "mapped",
      release,
      file_url: url,
      map_content: JSON.stringify(map),
    });
    const response = await fetch(`${relay.url}/api/browser/errors`, {
      method: "POST",
      headers: { "X-Monlight-Key": PUBLIC_KEY },
      body: JSON.stringify({
        type: `Mapped${index}`,
        message: payload,
        stack: `Mapped${index}: ${payload}\n    at a (${url}:1:5)\n    at b (${url}:1:9)`,
        url: `https://shop.example/${payload}`,
        release,
        environment: payload,
        session_id: payload,
        user_agent: payload,
        context: { [payload]: payload, user_id: payload },
      }),
    });
    assert.ok(response.ok, await response.text());
    await page.goto(`${tracker.url}/?project=mapped&search=Mapped${index}`);
    await rows(page).getByRole("link").first().click();
    await page.getByRole("heading", { level: 1, name: `Mapped${index}` }).waitFor();
    const frames = await page.locator(".frames").first().textContent();
    assert.ok(frames?.includes(shown(payload)), `${payload} in ${frames}`);
    assert.ok((await page.locator(".trace").textContent())?.includes(shown(payload)));
    for (const summary of await page.locator(".detail details:not([open]) > summary").all()) {
      await summary.click();
    }
    assert.equal(await page.locator("main :is(img, script, iframe, a[href^='javascript'])").count(), 0);
  }
});

test("every view fits a phone in both themes", { skip }, async () => {
  for (const [view, ready] of [
    ["", ".groups li"],
    ["?id=1", ".trace"],
    ["?alerts=1", "h1"],
  ]) {
    for (const dark of [false, true]) {
      const page = await chrome.visit(`${tracker.url}/${view}`, { width: 360, height: 740, dark });
      await page.locator(ready).first().waitFor();
      await assertAccessible(page, `${view} at 360 px, ${dark ? "dark" : "light"}`);
      await page.close();
    }
  }
});

test("the theme persists, and a shortcut opens the help", { skip }, async () => {
  const page = await chrome.visit(tracker.url);
  await page.getByRole("button", { name: "Theme: auto" }).click();
  await page.getByRole("button", { name: "Theme: light" }).click();
  await page.reload();
  await page.getByRole("button", { name: "Theme: dark" }).waitFor();
  assert.equal(await page.evaluate(() => getComputedStyle(document.body).colorScheme), "dark");
  await page.keyboard.press("?");
  await page.getByRole("dialog").getByText("next error").waitFor();
  await assertAccessible(page, "help");
});
