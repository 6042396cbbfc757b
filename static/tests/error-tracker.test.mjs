import assert from "node:assert/strict";
import { createServer } from "node:http";
import { after, before, test } from "node:test";
import { browser, isAccessible, KEY, service, skip, until } from "./harness.mjs";

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

/** The public key of pages. */
const PAGES = "fedcba9876543210fedcba9876543210";

/** @type {Awaited<ReturnType<typeof service>>} */
let tracker;
/** @type {Awaited<ReturnType<typeof browser>>} */
let chrome;

before(async () => {
  if (!skip) {
    const services = "log-viewer=http://127.0.0.1:5011,metrics-collector=/metrics/";
    tracker = await service("error-tracker", { API_KEYS: "eye:read:only-a-reader", SERVICES: services });
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

test("whoever has no key sees nothing, and a wrong one is said to be wrong", { skip }, async () => {
  const page = await chrome.visit(tracker.url, { key: null });
  await isAccessible(page, "sign in");
  await page.getByLabel("API key").fill("wrong");
  await page.keyboard.press("Enter");
  await page.getByText("That is not a key of this service.").waitFor();
  await page.getByLabel("API key").fill(KEY);
  await page.keyboard.press("Enter");
  await page.getByText("No errors yet").waitFor();
  assert.match(await page.locator(".empty pre").innerText(), new RegExp(`ErrorClient\\("${tracker.url}", `));
  await isAccessible(page, "empty list");
  const kept = await page.evaluate(() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie]));
  assert.ok(!kept.includes(KEY) && !kept.includes("monlight"), kept);
  await page.reload();
  await page.getByText("No errors yet").waitFor();
  await page.getByText("Account", { exact: true }).click();
  await isAccessible(page, "account");
  await page.getByRole("button", { name: "Sign out", exact: true }).click();
  await page.getByLabel("API key").waitFor();
  await page.reload();
  await page.getByLabel("API key").waitFor();
});

test("errors are listed, filtered by what stands in the URL, opened and resolved", { skip }, async () => {
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
  await until(async () => (await rows(page).count()) === 50, "a page of groups");
  await page.getByText("1–50 of 62").waitFor();
  await page.getByRole("button", { name: "Older" }).click();
  await until(async () => (await rows(page).count()) === 12, "the second page");
  assert.match(page.url(), /\?offset=50$/);
  await page.goBack();
  await until(async () => (await rows(page).count()) === 50, "the first page again");

  await page.keyboard.press("/");
  await page.keyboard.type("cart");
  await until(async () => (await rows(page).count()) === 1, "one fits");
  assert.match(page.url(), /\?search=cart$/);
  await page.getByLabel("Environment").selectOption("prod");
  await until(() => page.url().includes("environment=prod"), "the URL says so");
  const copy = await chrome.visit(page.url());
  await until(async () => (await rows(copy).count()) === 1, "a link shows the same");
  assert.equal(await copy.getByRole("searchbox").inputValue(), "cart");
  await copy.close();
  await page.getByLabel("Level").selectOption("critical");
  await page.getByText("No error fits these filters").waitFor();
  await page.getByRole("button", { name: "Clear" }).click();
  await until(async () => (await rows(page).count()) === 50, "all again");

  await page.getByLabel("Project").selectOption("shop");
  await until(async () => (await rows(page).count()) === 1, "the project's");
  await isAccessible(page, "list");
  await page.locator("body").click({ position: { x: 2, y: 2 } });
  await page.keyboard.press("j");
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "ValueError" }).waitFor();
  assert.match(page.url(), /[?&]id=1(&|$)/);
  await page.getByText("2 library frames").click();
  await page.getByText("full_dispatch_request").waitFor();
  await isAccessible(page, "detail");
  const text = await page.locator("main").innerText();
  for (const expected of [
    "cart is empty",
    "1.4.2",
    "staging",
    "POST /cart/7",
    "u-1",
    '"cart": 7',
    "/app/cart.py",
    "logs, metrics",
    "button.pay",
    "cart.items.push(item);",
  ]) {
    assert.ok(text.includes(expected), `${expected} in ${text}`);
  }
  assert.equal(await page.locator(".trace .in-app").first().isVisible(), true);
  const link = await page.getByRole("link", { name: "logs", exact: true }).getAttribute("href");
  assert.match(link ?? "", /^http:\/\/127\.0\.0\.1:5011\/\?since=20.*&until=20/);
  await page.keyboard.press("r");
  await page.getByText("resolved").first().waitFor();
  await page.keyboard.press("Escape");
  await page.getByText("No error fits these filters").waitFor();
  await report({});
  await page.reload();
  await until(async () => (await rows(page).count()) === 1, "it came back");
});

test("several are resolved at once", { skip }, async () => {
  const page = await chrome.visit(`${tracker.url}/?project=many&search=Many1*`);
  await until(async () => (await rows(page).count()) > 2, "groups");
  const before = await rows(page).count();
  await rows(page).nth(0).getByRole("checkbox").check();
  await rows(page).nth(1).getByRole("checkbox").check();
  await page.getByRole("button", { name: "Resolve 2" }).click();
  await until(async () => (await rows(page).count()) === before - 2, "two fewer");
});

test("what is being read does not move, and what is new is announced", { skip }, async () => {
  const page = await chrome.visit(`${tracker.url}/?project=many`);
  await until(async () => (await rows(page).count()) === 50, "groups");
  const first = await rows(page).nth(0).innerText();
  await page.mouse.wheel(0, 600);
  await until(() => page.evaluate(() => scrollY > 100), "scrolled");
  await report({ project: "many", exception_type: "Newest", traceback: "newest" });
  // As it does by itself every 15 s, while the page is looked at.
  await page.evaluate(() => document.dispatchEvent(new Event("visibilitychange")));
  await page.getByRole("button", { name: "Show what is new" }).waitFor();
  assert.equal((await rows(page).nth(0).innerText()).split("\n")[0], first.split("\n")[0]);
  await page.getByRole("button", { name: "Show what is new" }).click();
  await until(async () => (await rows(page).nth(0).innerText()).startsWith("Newest"), "the newest first");
});

test("whoever may only look is offered nothing else", { skip }, async () => {
  const page = await chrome.visit(`${tracker.url}/?id=2`, { key: "only-a-reader" });
  await page.getByRole("heading", { name: "TypeError" }).waitFor();
  assert.equal(await page.getByRole("button", { name: "Resolve" }).count(), 0);
  await page.getByText("Account", { exact: true }).click();
  await page.getByText("Signed in with the key eye").waitFor();
  assert.equal(await page.getByRole("button", { name: "Sign out everywhere" }).count(), 0);
});

test("whoever may change anything signs everybody out, who then learn that they are", { skip }, async () => {
  const other = await chrome.visit(`${tracker.url}/?id=2`, { key: "only-a-reader" });
  await other.getByRole("heading", { name: "TypeError" }).waitFor();
  const page = await chrome.visit(tracker.url);
  await page.getByText("Account", { exact: true }).click();
  await page.keyboard.press("Escape");
  await page.getByRole("button", { name: "Sign out everywhere" }).waitFor({ state: "hidden" });
  await page.keyboard.press("Enter");
  await page.getByRole("button", { name: "Sign out everywhere" }).click();
  const dialog = page.getByRole("dialog", { name: "Sign out everywhere?" });
  await dialog.waitFor();
  await isAccessible(page, "whether to sign out everywhere");
  await dialog.getByRole("button", { name: "Cancel" }).click();
  await dialog.waitFor({ state: "hidden" });
  await rows(page).first().waitFor();
  await page.getByText("Account", { exact: true }).click();
  await page.getByRole("button", { name: "Sign out everywhere" }).click();
  await dialog.getByRole("button", { name: "Sign out everywhere" }).click();
  await page.getByText("Everybody is signed out.").waitFor();
  // As it does by itself every 15 s, while the page is looked at.
  await other.evaluate(() => document.dispatchEvent(new Event("visibilitychange")));
  await other.getByText("You have been signed out").waitFor();
  await isAccessible(other, "signed out from elsewhere");
  await other.getByLabel("API key").fill("only-a-reader");
  await other.keyboard.press("Enter");
  await other.getByRole("heading", { name: "TypeError" }).waitFor();
  assert.equal(await other.getByText("You have been signed out").count(), 0);
});

test("signing out that fails says so", { skip }, async () => {
  const page = await chrome.visit(tracker.url, { refused: 503 });
  await page.route("**/api/session", (route) => route.fulfill({ status: 503, json: { detail: "The disk is full" } }));
  await page.getByText("Account", { exact: true }).click();
  await page.getByRole("button", { name: "Sign out", exact: true }).click();
  await page.getByRole("alert").getByText("The disk is full").waitFor();
  await rows(page).first().waitFor();
});

test("on a phone the first error is seen before the filters", { skip }, async () => {
  const page = await chrome.visit(`${tracker.url}/?project=many&environment=prod&sort=count`, {
    width: 390,
    height: 844,
  });
  await rows(page).first().waitFor();
  const summary = page.locator("summary", { hasText: "Filters (3)" });
  const box = await rows(page).first().boundingBox();
  assert.ok(box && box.y + box.height <= 844, `the first error ends at ${box && box.y + box.height}`);
  assert.equal(await page.getByLabel("Level").isVisible(), false);
  await isAccessible(page, "filters that are folded");
  await summary.focus();
  await page.keyboard.press("Enter");
  await page.getByLabel("Environment").selectOption("");
  await page.locator("summary", { hasText: "Filters (2)" }).waitFor();
  assert.equal(await page.getByLabel("Level").isVisible(), true);
  await isAccessible(page, "filters that are unfolded");
  await summary.or(page.locator("summary", { hasText: "Filters (2)" })).click();
  await page.setViewportSize({ width: 1280, height: 800 });
  await page.getByLabel("Level").waitFor();
  assert.equal(await page.locator(".filters > summary").isVisible(), false);
});

test("alerts say why there are none", { skip }, async () => {
  const page = await chrome.visit(`${tracker.url}/?alerts=1`, { refused: 503 });
  await page.getByText("set ALERT_EMAILS with SMTP_HOST").waitFor();
  await isAccessible(page, "alerts");
  await page.getByRole("button", { name: "Send a test alert" }).click();
  await page
    .getByText(/ALERT_EMAILS|ALERT_WEBHOOK_URL/)
    .first()
    .waitFor();
});

test("alerts name the error and what each channel said", { skip }, async (context) => {
  const hook = createServer((request, response) => {
    request.resume();
    request.on("end", () => response.writeHead(410).end("nobody lives here"));
  });
  await new Promise((resolve) => hook.listen(0, "127.0.0.1", resolve));
  context.after(() => hook.close());
  const url = `http://127.0.0.1:${hook.address().port}/`;
  const alerting = await service("error-tracker", { ALERT_WEBHOOK_URL: url });
  context.after(alerting.stop);
  const error = { project: "shop", exception_type: "PaymentError", message: "no money", traceback: "" };
  await alerting.ask("POST", "/api/errors", error);
  const page = await chrome.visit(`${alerting.url}/?alerts=1`);
  const row = page.locator("tbody tr").first();
  await row.getByText("webhook: the server answered 410: nobody lives here").waitFor();
  await isAccessible(page, "an alert that failed");
  await row.getByRole("link", { name: "PaymentError" }).click();
  await page.getByRole("heading", { name: "PaymentError" }).waitFor();
  await page.close();
});

test("nothing that was reported runs", { skip }, async () => {
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
  await until(async () => (await rows(page).count()) === PAYLOADS.length, "all are listed");
  for (let n = 0; n < PAYLOADS.length; n++) {
    await rows(page).nth(n).getByRole("link").click();
    await page.getByRole("heading", { level: 1 }).waitFor();
    const heading = await page.getByRole("heading", { level: 1 }).textContent();
    assert.ok(PAYLOADS.includes(heading ?? ""), heading ?? "");
    await page.goBack();
    await until(async () => (await rows(page).count()) === PAYLOADS.length, "the list again");
  }
});

test("nothing in a source map runs", { skip }, async (context) => {
  const upstreams = { ERROR_TRACKER_URL: tracker.url, ERROR_TRACKER_API_KEY: KEY, METRICS_COLLECTOR_URL: tracker.url };
  const relay = await service("browser-relay", {
    ADMIN_API_KEY: KEY,
    DSN_KEYS: `mapped:${PAGES}`,
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
      // All of the first line is the first source's first line, with the first name.
      mappings: "AAAAA",
    };
    // Where releases are named, control characters are refused.
    const release = `${payload.replace("\u001b", "")} ${index}`;
    await relay.ask("POST", "/api/source-maps", {
      project: "mapped",
      release,
      file_url: url,
      map_content: JSON.stringify(map),
    });
    const answer = await fetch(`${relay.url}/api/browser/errors`, {
      method: "POST",
      headers: { "X-Monlight-Key": PAGES },
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
    assert.ok(answer.ok, await answer.text());
    await page.goto(`${tracker.url}/?project=mapped&search=Mapped${index}`);
    await rows(page).getByRole("link").first().click();
    await page.getByRole("heading", { level: 1, name: `Mapped${index}` }).waitFor();
    const frames = await page.locator(".frames").first().textContent();
    assert.ok(frames?.includes(payload), `${payload} in ${frames}`);
    assert.ok((await page.locator(".trace").textContent())?.includes(payload));
    for (const summary of await page.locator(".detail details:not([open]) > summary").all()) {
      await summary.click();
    }
    assert.equal(await page.locator("main :is(img, script, iframe, a[href^='javascript'])").count(), 0);
  }
});

test("every view fits a phone, light and dark", { skip }, async () => {
  for (const [view, ready] of [
    ["", ".groups li"],
    ["?id=1", ".trace"],
    ["?alerts=1", "h1"],
  ]) {
    for (const dark of [false, true]) {
      const page = await chrome.visit(`${tracker.url}/${view}`, { width: 360, height: 740, dark });
      await page.locator(ready).first().waitFor();
      await isAccessible(page, `${view} at 360 px, ${dark ? "dark" : "light"}`);
      await page.close();
    }
  }
});

test("the theme that was chosen stays, and help is a key away", { skip }, async () => {
  const page = await chrome.visit(tracker.url);
  await page.getByRole("button", { name: "Theme: auto" }).click();
  await page.getByRole("button", { name: "Theme: light" }).click();
  await page.reload();
  await page.getByRole("button", { name: "Theme: dark" }).waitFor();
  assert.equal(await page.evaluate(() => getComputedStyle(document.body).colorScheme), "dark");
  await page.keyboard.press("?");
  await page.getByRole("dialog").getByText("next error").waitFor();
  await isAccessible(page, "help");
});
