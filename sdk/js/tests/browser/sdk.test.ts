import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";
import type { Browser, Page } from "playwright-core";
import { type Backend, DSN, openBackend, type ReceivedError } from "./backend";
import { missingBrowser, openBrowser, openSite, putSdkPage, type Site } from "./site";
import { waitFor } from "./wait-for";

const skip = missingBrowser();
let site: Site;
let backend: Backend;
let browser: Browser;
let page: Page;

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
afterEach(async () => {
  await page?.context().close();
});

/** Opens a page at `path` that loads the SDK, followed by `script`. */
async function open(path: string, script = "", config: object = {}, html = "", headers = {}): Promise<void> {
  putSdkPage(site, { dsn: DSN, endpoint: backend.url }, path, { script, config, html, headers });
  page = await (await browser.newContext()).newPage();
  await page.goto(`${site.origin}${path}?token=secret#part`);
}

const receivedErrors = (path: string, count = 1): Promise<ReceivedError[]> =>
  waitFor(`${count} errors on ${path}`, async () => {
    const errors = await backend.errors(path);
    return errors.length >= count && errors;
  });
const receivedMetric = (name: string, labels: Record<string, string>): Promise<{ count: number; sum: number }> =>
  waitFor(`${name} ${JSON.stringify(labels)}`, async () => {
    const metric = await backend.metric(name, labels);
    return metric.count > 0 && metric;
  });
const leavePage = async (): Promise<void> => {
  await page.goto("about:blank");
};

test("a thrown error is reported with its stack and without query strings", { skip }, async () => {
  await open("/thrown", "setTimeout(function pay() { throw new RangeError('too much') });", { release: "1.4.2" });
  const [error] = await receivedErrors("/thrown");
  assert.equal(error?.type, "RangeError");
  assert.equal(error.message, "too much");
  assert.equal(error.url, `${site.origin}/thrown`);
  assert.equal(error.release, "1.4.2");
  assert.equal(error.environment, "prod");
  assert.match(error.stack, /^RangeError: too much\n {4}at pay \(http:\/\/[\d.:]+\/thrown\.js:1:\d+\)/);
  assert.ok(!JSON.stringify(error).includes("secret"));
});

test("rejections with errors and with other values are reported", { skip }, async () => {
  await open("/rejected", "Promise.reject(new TypeError('no')); Promise.reject('no stock'); Promise.reject();");
  const errors = await receivedErrors("/rejected", 3);
  assert.deepEqual(errors.map(({ type, message }) => `${type}: ${message}`).sort(), [
    "TypeError: no",
    "UnhandledRejection: no stock",
    "UnhandledRejection: undefined",
  ]);
});

test("captureConsole reports console.error and console.warn with the stack of the caller", {
  skip,
}, async () => {
  const script =
    "function buy() { console.error('broken', 7, { secret: 1 }); console.warn('slow'); console.log('fine') } buy();";
  await open("/console", script, { captureConsole: true });
  const [broken, slow] = (await receivedErrors("/console", 2)).sort((a, b) => (a.type < b.type ? -1 : 1));
  assert.deepEqual(
    [broken?.type, broken?.message, broken?.context.level],
    ["ConsoleError", "broken 7 [object Object]", "error"],
  );
  assert.deepEqual([slow?.type, slow?.message, slow?.context.level], ["ConsoleWarning", "slow", "warning"]);
  assert.match(broken?.stack.split("\n")[0] ?? "", /^ {4}at buy \(.*\/console\.js:1:/);
});

test("captureException and captureMessage report the user, tags and a fingerprint", { skip }, async () => {
  await open(
    "/capture",
    `Monlight.setUser({ username: "eve", email: "eve@shop.example" });
     Monlight.setTag("tenant", "acme");
     function pay() { Monlight.captureException("no stock", { tags: { step: "pay" }, fingerprint: ["pay"] }) }
     pay();
     Monlight.captureMessage("slow", { level: "warning", fingerprint: ["{{ default }}", "cart"] });`,
  );
  const [exception, message] = (await receivedErrors("/capture", 2)).sort((a, b) => (a.type > b.type ? -1 : 1));
  assert.deepEqual(
    [exception?.type, exception?.message, exception?.context.user_id, exception?.context.tags],
    ["Error", "no stock", "eve", { tenant: "acme", step: "pay" }],
  );
  assert.match(exception?.stack.split("\n")[0] ?? "", /^ {4}at pay \(.*\/capture\.js:3:/);
  assert.deepEqual(
    [message?.type, message?.context.level, message?.context.tags],
    ["ConsoleWarning", "warning", { tenant: "acme" }],
  );
  assert.ok(!JSON.stringify([exception, message]).includes("eve@"));
});

test("a report that is sent twice because its response was lost counts once", { skip }, async () => {
  await open("/lostresponse", "function report() { Monlight.captureMessage('once') }");
  await page.route(
    (url) => url.pathname === "/api/browser/errors",
    async (route) => {
      await route.fetch();
      await route.abort();
    },
    { times: 1 },
  );
  const retried = page.waitForResponse((response) => response.url().includes("/api/browser/errors"));
  await page.evaluate("report()");
  assert.ok((await retried).ok());
  assert.equal((await receivedErrors("/lostresponse")).length, 1);
});

test("console.error is not reported by default", { skip }, async () => {
  await open("/quiet", "console.error('broken'); window.Monlight.captureMessage('done');");
  const [error] = await receivedErrors("/quiet");
  assert.equal(error?.message, "done");
  assert.equal((await backend.errors("/quiet")).length, 1);
});

const messages = (errors: ReceivedError[]): string[] =>
  errors.map(({ type, message }) => `${type}: ${message.replace(site.origin, "")}`).sort();
const RESOURCES = `<img src="/images/1001.png?token=secret" alt=""><img src="/images/1002.png" alt="">
  <script src="/lost.js?v=3"></script><link rel="stylesheet" href="/lost.css">`;

test("scripts and style sheets that fail to load are reported, images are not", { skip }, async () => {
  await open("/resources", "", {}, RESOURCES);
  await page.evaluate("Monlight.captureMessage('done')");
  assert.deepEqual(messages(await receivedErrors("/resources", 3)), [
    "ConsoleError: done",
    "ResourceError: link /lost.css did not load",
    "ResourceError: script /lost.js did not load",
  ]);
});

test("captureImages reports images that fail to load without the IDs in their paths", { skip }, async () => {
  await open("/images", "", { captureImages: true }, RESOURCES);
  assert.deepEqual(messages(await receivedErrors("/images", 3)), [
    "ResourceError: img /images/{id} did not load",
    "ResourceError: link /lost.css did not load",
    "ResourceError: script /lost.js did not load",
  ]);
});

test("breadcrumbs contain the preceding events and no page text", { skip }, async () => {
  await open(
    "/breadcrumbs",
    `document.querySelector("button").onclick = async () => {
      console.info("paying", 7);
      history.pushState(null, "", "/breadcrumbs/paid?card=secret");
      await fetch("/api/ok?card=secret");
      setTimeout(() => { throw new Error("after breadcrumbs") });
    }`,
    {},
    '<form id="order" onsubmit="return false"><button class="pay big">Pay secret</button></form>',
  );
  await page.click("button");
  const [error] = await receivedErrors("/breadcrumbs/paid");
  const crumbs = error?.context.breadcrumbs as { category: string; message: string; timestamp: string }[];
  assert.deepEqual(
    crumbs.map(({ category, message }) => `${category}: ${message}`),
    [
      "click: main > form#order > button.pay",
      "console: info: paying 7",
      `navigation: ${site.origin}/breadcrumbs to ${site.origin}/breadcrumbs/paid`,
      `fetch: GET ${site.origin}/api/ok 200`,
    ],
  );
  assert.ok(!JSON.stringify(error).includes("secret"));
});

const requests = (path: string, labels: Record<string, string>) =>
  receivedMetric("browser_http_requests_total", { page: path, host: site.origin.slice(7), ...labels });

test("fetch: responses are counted and timed by the effective method", { skip }, async () => {
  await open(
    "/fetch",
    `fetch("/api/ok?a=1"); fetch(new Request("/api/ok", { method: "POST" })); fetch("/api/ok", { method: "put" });
     fetch(new URL("/api/ok", location)).then((response) => response.text()).then((text) => { document.title = text });`,
  );
  await page.waitForFunction("document.title === 'ok'");
  await leavePage();
  assert.equal((await requests("/fetch", { method: "GET", status: "200" })).count, 2);
  assert.equal((await requests("/fetch", { method: "POST", status: "200" })).count, 1);
  assert.equal((await requests("/fetch", { method: "PUT", status: "200" })).count, 1);
  const times = await receivedMetric("browser_http_request_duration_ms", { page: "/fetch", method: "GET" });
  assert.ok(times.count === 2 && times.sum > 0 && times.sum < 20_000, JSON.stringify(times));
  assert.deepEqual(await backend.errors("/fetch"), []);
});

test("fetch: a server error is reported with the stack of the caller", { skip }, async () => {
  await open("/fetch500", "async function buy() { await fetch('/api/fail/42?token=secret') } buy();");
  const [error] = await receivedErrors("/fetch500");
  assert.deepEqual([error?.type, error?.context.type], ["NetworkError", "NetworkError"]);
  assert.equal(error?.message, `GET ${site.origin}/api/fail/{id} failed with status 500`);
  const [request, caller] = error.stack.split("\n");
  assert.equal(request, `    at GET ${site.origin}/api/fail/{id}:500:1`);
  assert.match(caller ?? "", /^ {4}at buy \(.*\/fetch500\.js:1:/);
});

test("failed requests through one function are separate groups", { skip }, async () => {
  await open(
    "/wrapper",
    `const api = (path, method) => fetch(path, { method }).catch(() => 0);
     Promise.all([api("/api/fail/1"), api("/api/fail/2"), api("/api/fail/1", "POST"), api("/api/reset")])
       .then(() => Monlight.captureMessage("done"));`,
  );
  const errors = await receivedErrors("/wrapper", 4);
  assert.deepEqual(messages(errors), [
    "ConsoleError: done",
    "NetworkError: GET /api/fail/{id} failed with status 500",
    "NetworkError: GET /api/reset network error: Failed to fetch",
    "NetworkError: POST /api/fail/{id} failed with status 500",
  ]);
});

test("fetch: network errors and timeouts are reported, aborts are not", { skip }, async () => {
  await open(
    "/fetchabort",
    `const plain = new AbortController();
     const custom = new AbortController();
     Promise.allSettled([
       fetch("/api/hang", { signal: plain.signal }),
       fetch(new Request("/api/hang", { signal: custom.signal })),
       fetch("/api/hang", { signal: AbortSignal.timeout(50) }),
       fetch("/api/reset").catch((error) => { document.title = error.message; throw error }),
     ]).then(() => { document.body.id = "settled" });
     plain.abort(); custom.abort("a reason that is not an AbortError");`,
  );
  await page.waitForSelector("#settled");
  assert.equal(await page.title(), "Failed to fetch");
  const errors = await receivedErrors("/fetchabort", 2);
  assert.deepEqual(errors.map(({ message }) => message.replace(site.origin, "")).sort(), [
    "GET /api/hang network error: signal timed out",
    "GET /api/reset network error: Failed to fetch",
  ]);
  await leavePage();
  assert.equal((await requests("/fetchabort", { status: "aborted" })).count, 2);
  assert.equal((await requests("/fetchabort", { status: "0" })).count, 2);
});

test("fetch: an unhandled failure is reported once, and the page still receives the rejection", { skip }, async () => {
  await open(
    "/fetchunhandled",
    "addEventListener('unhandledrejection', () => { document.body.id = 'rejected' }); fetch('/api/reset');",
  );
  await page.waitForSelector("#rejected");
  await page.evaluate("window.Monlight.captureMessage('done')");
  const errors = await receivedErrors("/fetchunhandled", 2);
  assert.deepEqual(errors.map(({ type }) => type).sort(), ["ConsoleError", "NetworkError"]);
});

test("XHR: requests are counted by status, and failures are reported, aborts are not", { skip }, async () => {
  await open(
    "/xhr",
    `function request(method, url) {
       const xhr = new XMLHttpRequest();
       xhr.open(method, url);
       xhr.send();
       return new Promise((resolve) => xhr.addEventListener("loadend", resolve));
     }
     const hanging = new XMLHttpRequest();
     hanging.open("GET", "/api/hang");
     hanging.send();
     const failing = new XMLHttpRequest();
     failing.open("GET", "/api/reset/xhr");
     failing.send();
     const failed = new Promise((resolve) => failing.addEventListener("loadend", resolve));
     Promise.all([request("post", "/api/ok"), request("GET", "/api/fail"), failed]).then(() => {
       hanging.abort();
       document.body.id = "settled";
     });`,
  );
  await page.waitForSelector("#settled");
  const errors = await receivedErrors("/xhr", 2);
  assert.deepEqual(errors.map(({ message }) => message.replace(site.origin, "")).sort(), [
    "GET /api/fail failed with status 500",
    "GET /api/reset/xhr network error",
  ]);
  const serverError = errors.find(({ message }) => message.endsWith("500"));
  assert.match(serverError?.stack.split("\n")[1] ?? "", /^ {4}at request \(.*\/xhr\.js:\d+:/);
  await leavePage();
  for (const [method, status] of [
    ["POST", "200"],
    ["GET", "500"],
    ["GET", "0"],
    ["GET", "aborted"],
  ] as const) {
    assert.equal((await requests("/xhr", { method, status })).count, 1, `${method} ${status}`);
  }
});

test("XHR: an object that is reused in its own handlers is counted once for each request", { skip }, async () => {
  await open(
    "/xhrreuse",
    `const xhr = new XMLHttpRequest();
     const next = (url) => { xhr.open("GET", url); xhr.send() };
     const urls = ["/api/ok?2", "/api/fail", "/api/reset/reuse", "/api/ok?3", "/api/ok?4"];
     const proceed = () => { if (urls.length) next(urls.shift()); else document.body.id = "settled" };
     xhr.onload = proceed;
     xhr.onerror = proceed;
     next("/api/ok?1");
     const stopped = new XMLHttpRequest();
     stopped.onload = () => { stopped.onload = null; stopped.open("GET", "/api/hang"); stopped.send(); stopped.abort() };
     stopped.open("PUT", "/api/ok");
     stopped.send();`,
  );
  await page.waitForSelector("#settled");
  assert.deepEqual(messages(await receivedErrors("/xhrreuse", 2)), [
    "NetworkError: GET /api/fail failed with status 500",
    "NetworkError: GET /api/reset/reuse network error",
  ]);
  await leavePage();
  for (const [method, status, count] of [
    ["GET", "200", 4],
    ["GET", "500", 1],
    ["GET", "0", 1],
    ["GET", "aborted", 1],
    ["PUT", "200", 1],
  ] as const) {
    assert.equal((await requests("/xhrreuse", { method, status })).count, count, `${method} ${status}`);
  }
});

test("exceptions thrown by wrapped functions contain no SDK frames", { skip }, async () => {
  await open(
    "/frames",
    `function move() { history.pushState(() => 1, "", "/x") }
     try { move() } catch (error) { window.Monlight.captureError(error) }
     function send() { new XMLHttpRequest().send() }
     send();`,
  );
  const errors = await receivedErrors("/frames", 2);
  for (const { stack } of errors) {
    const [, topFrame] = stack.split("\n");
    assert.match(topFrame ?? "", /^ {4}at (move|send) \(.*\/frames\.js/);
    assert.ok(!stack.includes("monlight.min.js"), stack);
  }
});

test("pending metrics are sent when the page is left", { skip }, async () => {
  await open("/beacon", "fetch('/api/ok').then(() => { document.body.id = 'settled' })");
  await page.waitForSelector("#settled");
  const leftAt = Date.now();
  await leavePage();
  assert.equal((await requests("/beacon", { status: "200" })).count, 1);
  assert.ok(Date.now() - leftAt < 4_000, "sent before the buffer delay of five seconds");
  const load = await receivedMetric("page_load_time", { page: "/beacon" });
  assert.ok(load.count === 1 && load.sum > 0 && load.sum < 20_000, JSON.stringify(load));
});

test("requests are labeled with the current route, vitals with the initial one", { skip }, async () => {
  await open(
    "/spa",
    `history.pushState(null, "", "/spa/cart");
     fetch("/api/ok").then(() => { document.body.id = "settled" });
     history.replaceState(null, "", "/spa/paid");`,
  );
  await page.waitForSelector("#settled");
  await leavePage();
  assert.equal((await requests("/spa/cart", { status: "200" })).count, 1);
  for (const name of ["lcp", "cls", "fcp", "ttfb"]) {
    assert.equal((await receivedMetric(`web_vitals_${name}`, { page: "/spa" })).count, 1, name);
    assert.equal((await backend.metric(`web_vitals_${name}`, { page: "/spa/paid" })).count, 0, name);
  }
});

test("the SDK runs under a strict content security policy and reports violations", {
  skip,
}, async () => {
  const policy = `default-src 'none'; script-src 'self'; img-src 'self'; connect-src 'self' ${backend.url}; require-trusted-types-for 'script'; base-uri 'none'`;
  site.put("/strict.config.js", {
    body: `window.MonlightConfig = ${JSON.stringify({ dsn: DSN, endpoint: backend.url })}`,
    type: "text/javascript",
  });
  site.put("/strict.js", { body: "setTimeout(() => { throw new Error('under policy') })", type: "text/javascript" });
  site.put("/strict", {
    headers: { "Content-Security-Policy": policy },
    body: `<!doctype html><title>Shop</title><script src="/strict.config.js"></script><script src="/monlight.min.js"></script>
      <p>Welcome</p><script src="/strict.js"></script><img src="http://ads.example/a.png?token=secret" alt=""><script src="http://ads.example/b.js?x=1"></script>`,
  });
  page = await (await browser.newContext()).newPage();
  await page.goto(`${site.origin}/strict`);
  const errors = await receivedErrors("/strict", 4);
  assert.deepEqual(errors.map(({ type, message }) => `${type}: ${message}`).sort(), [
    "CSPViolation: img-src blocks http://ads.example/a.png",
    "CSPViolation: script-src-elem blocks http://ads.example/b.js",
    "Error: under policy",
    "ResourceError: script http://ads.example/b.js did not load",
  ]);
});

test("an unreachable relay does not affect the application", { skip }, async () => {
  await open("/unreachable", "", { endpoint: "http://127.0.0.1:9" });
  const pageErrors: string[] = [];
  page.on("pageerror", (error) => pageErrors.push(error.message));
  const body = await page.evaluate(async () => {
    for (let i = 0; i < 200; i++) window.Monlight?.captureError(new Error(`${i}`));
    const response = await fetch("/api/ok");
    return response.text();
  });
  assert.equal(body, "ok");
  assert.deepEqual(pageErrors, []);
});
