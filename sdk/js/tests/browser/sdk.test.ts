import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";
import type { Browser, Page } from "playwright-core";
import { type Arrived, type Backend, DSN, openBackend } from "./backend";
import { until } from "./patience";
import { missingBrowser, openBrowser, openSite, type Site } from "./site";

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

/** Opens a page of a path of its own, with the SDK, and a script behind it. */
async function open(path: string, script = "", config: object = {}, html = ""): Promise<void> {
  const settings = JSON.stringify({ dsn: DSN, endpoint: backend.url, ...config });
  site.put(`${path}.js`, { body: script, type: "text/javascript" });
  site.put(path, {
    body: `<!doctype html><title>Shop</title><link rel="icon" href="data:,"><script>window.MonlightConfig = ${settings}</script>
      <script src="/monlight.min.js"></script><main>${html}<p>Welcome</p></main><script src="${path}.js"></script>`,
  });
  page = await (await browser.newContext()).newPage();
  await page.goto(`${site.origin}${path}?token=secret#part`);
}

const errors = (path: string, count = 1): Promise<Arrived[]> =>
  until(`${count} errors of ${path}`, async () => {
    const arrived = await backend.errors(path);
    return arrived.length >= count && arrived;
  });
const counted = (name: string, labels: Record<string, string>): Promise<{ count: number; sum: number }> =>
  until(`${name} ${JSON.stringify(labels)}`, async () => {
    const metric = await backend.metric(name, labels);
    return metric.count > 0 && metric;
  });
const leave = async (): Promise<void> => {
  await page.goto("about:blank");
};

test("a thrown error arrives with its stack, and without the query", { skip }, async () => {
  await open("/thrown", "setTimeout(function pay() { throw new RangeError('too much') });", { release: "1.4.2" });
  const [error] = await errors("/thrown");
  assert.equal(error?.type, "RangeError");
  assert.equal(error.message, "too much");
  assert.equal(error.url, `${site.origin}/thrown`);
  assert.equal(error.release, "1.4.2");
  assert.equal(error.environment, "prod");
  assert.match(error.stack, /^RangeError: too much\n {4}at pay \(http:\/\/[\d.:]+\/thrown\.js:1:\d+\)/);
  assert.ok(!JSON.stringify(error).includes("secret"));
});

test("rejections arrive, of errors and of anything else", { skip }, async () => {
  await open("/rejected", "Promise.reject(new TypeError('no')); Promise.reject('no stock'); Promise.reject();");
  const arrived = await errors("/rejected", 3);
  assert.deepEqual(arrived.map(({ type, message }) => `${type}: ${message}`).sort(), [
    "TypeError: no",
    "UnhandledRejection: no stock",
    "UnhandledRejection: undefined",
  ]);
});

test("console.error and console.warn arrive when they are asked for, from where they were called", {
  skip,
}, async () => {
  const script =
    "function buy() { console.error('broken', 7, { secret: 1 }); console.warn('slow'); console.log('fine') } buy();";
  await open("/console", script, { captureConsole: true });
  const [broken, slow] = (await errors("/console", 2)).sort((a, b) => (a.type < b.type ? -1 : 1));
  assert.deepEqual(
    [broken?.type, broken?.message, broken?.context.level],
    ["ConsoleError", "broken 7 [object Object]", "error"],
  );
  assert.deepEqual([slow?.type, slow?.message, slow?.context.level], ["ConsoleWarning", "slow", "warning"]);
  assert.match(broken?.stack.split("\n")[0] ?? "", /^ {4}at buy \(.*\/console\.js:1:/);
});

test("console.error is not reported unasked", { skip }, async () => {
  await open("/quiet", "console.error('broken'); window.Monlight.captureMessage('the end');");
  const [error] = await errors("/quiet");
  assert.equal(error?.message, "the end");
  assert.equal((await backend.errors("/quiet")).length, 1);
});

test("what does not load is reported", { skip }, async () => {
  await open("/resource", "", {}, '<img src="/nothing.png?token=secret" alt="">');
  const [error] = await errors("/resource");
  assert.deepEqual([error?.type, error?.message], ["ResourceError", `img ${site.origin}/nothing.png did not load`]);
});

test("breadcrumbs tell what led to an error, and no text", { skip }, async () => {
  await open(
    "/trail",
    `document.querySelector("button").onclick = async () => {
      console.info("to pay", 7);
      history.pushState(null, "", "/trail/paid?card=secret");
      await fetch("/api/ok?card=secret");
      setTimeout(() => { throw new Error("after all") });
    }`,
    {},
    '<form id="order" onsubmit="return false"><button class="pay big">Pay secret</button></form>',
  );
  await page.click("button");
  const [error] = await errors("/trail/paid");
  const crumbs = error?.context.breadcrumbs as { category: string; message: string; timestamp: string }[];
  assert.deepEqual(
    crumbs.map(({ category, message }) => `${category}: ${message}`),
    [
      "click: main > form#order > button.pay",
      "console: info: to pay 7",
      `navigation: ${site.origin}/trail to ${site.origin}/trail/paid`,
      `fetch: GET ${site.origin}/api/ok 200`,
    ],
  );
  assert.ok(!JSON.stringify(error).includes("secret"));
});

const requests = (path: string, labels: Record<string, string>) =>
  counted("browser_http_requests_total", { page: path, host: site.origin.slice(7), ...labels });

test("fetch: answers are counted and timed, by the method that was meant", { skip }, async () => {
  await open(
    "/fetch",
    `fetch("/api/ok?a=1"); fetch(new Request("/api/ok", { method: "POST" })); fetch("/api/ok", { method: "put" });
     fetch(new URL("/api/ok", location)).then((answer) => answer.text()).then((text) => { document.title = text });`,
  );
  await page.waitForFunction("document.title === 'ok'");
  await leave();
  assert.equal((await requests("/fetch", { method: "GET", status: "200" })).count, 2);
  assert.equal((await requests("/fetch", { method: "POST", status: "200" })).count, 1);
  assert.equal((await requests("/fetch", { method: "PUT", status: "200" })).count, 1);
  const times = await counted("browser_http_request_duration_ms", { page: "/fetch", method: "GET" });
  assert.ok(times.count === 2 && times.sum > 0 && times.sum < 20_000, JSON.stringify(times));
  assert.deepEqual(await backend.errors("/fetch"), []);
});

test("fetch: a server's fault is an error of the one who asked", { skip }, async () => {
  await open("/fetch500", "async function buy() { await fetch('/api/fail/42?token=secret') } buy();");
  const [error] = await errors("/fetch500");
  assert.deepEqual([error?.type, error?.context.type], ["NetworkError", "NetworkError"]);
  assert.equal(error?.message, `GET ${site.origin}/api/fail/{id} failed with status 500`);
  assert.match(error?.stack.split("\n")[0] ?? "", /^ {4}at buy \(.*\/fetch500\.js:1:/);
});

test("fetch: what is called off is no error, what breaks is one", { skip }, async () => {
  await open(
    "/fetchabort",
    `const off = new AbortController();
     const odd = new AbortController();
     Promise.allSettled([
       fetch("/api/hang", { signal: off.signal }),
       fetch(new Request("/api/hang", { signal: odd.signal })),
       fetch("/api/hang", { signal: AbortSignal.timeout(50) }),
       fetch("/api/reset").catch((why) => { document.title = why.message; throw why }),
     ]).then(() => { document.body.id = "settled" });
     off.abort(); odd.abort("no reason of the usual kind");`,
  );
  await page.waitForSelector("#settled");
  assert.equal(await page.title(), "Failed to fetch");
  const arrived = await errors("/fetchabort", 2);
  assert.deepEqual(arrived.map(({ message }) => message.replace(site.origin, "")).sort(), [
    "GET /api/hang network error: signal timed out",
    "GET /api/reset network error: Failed to fetch",
  ]);
  await leave();
  assert.equal((await requests("/fetchabort", { status: "aborted" })).count, 2);
  assert.equal((await requests("/fetchabort", { status: "0" })).count, 2);
});

test("fetch: a failure that nobody handles is one report, and the page still hears of it", { skip }, async () => {
  await open(
    "/fetchlost",
    "addEventListener('unhandledrejection', () => { document.body.id = 'lost' }); fetch('/api/reset');",
  );
  await page.waitForSelector("#lost");
  await page.evaluate("window.Monlight.captureMessage('the end')");
  const arrived = await errors("/fetchlost", 2);
  assert.deepEqual(arrived.map(({ type }) => type).sort(), ["ConsoleError", "NetworkError"]);
});

test("XHR: success, a server's fault, called off, broken", { skip }, async () => {
  await open(
    "/xhr",
    `function ask(method, url) {
       const xhr = new XMLHttpRequest();
       xhr.open(method, url);
       xhr.send();
       return new Promise((resolve) => xhr.addEventListener("loadend", resolve));
     }
     const hanging = new XMLHttpRequest();
     hanging.open("GET", "/api/hang");
     hanging.send();
     const lost = new XMLHttpRequest();
     lost.open("GET", "/api/reset");
     lost.send();
     const gone = new Promise((resolve) => lost.addEventListener("loadend", resolve));
     Promise.all([ask("post", "/api/ok"), ask("GET", "/api/fail"), gone]).then(() => {
       hanging.abort();
       document.body.id = "settled";
     });`,
  );
  await page.waitForSelector("#settled");
  const arrived = await errors("/xhr", 2);
  assert.deepEqual(arrived.map(({ message }) => message.replace(site.origin, "")).sort(), [
    "GET /api/fail failed with status 500",
    "GET /api/reset network error",
  ]);
  const refused = arrived.find(({ message }) => message.endsWith("500"));
  assert.match(refused?.stack.split("\n")[0] ?? "", /^ {4}at ask \(.*\/xhr\.js:\d+:/);
  await leave();
  for (const [method, status] of [
    ["POST", "200"],
    ["GET", "500"],
    ["GET", "0"],
    ["GET", "aborted"],
  ] as const) {
    assert.equal((await requests("/xhr", { method, status })).count, 1, `${method} ${status}`);
  }
});

test("what the page's own calls throw has no frames of the SDK", { skip }, async () => {
  await open(
    "/frames",
    `function move() { history.pushState(() => 1, "", "/x") }
     try { move() } catch (why) { window.Monlight.captureError(why) }
     function send() { new XMLHttpRequest().send() }
     send();`,
  );
  const arrived = await errors("/frames", 2);
  for (const { stack } of arrived) {
    const [, first] = stack.split("\n");
    assert.match(first ?? "", /^ {4}at (move|send) \(.*\/frames\.js/);
    assert.ok(!stack.includes("monlight.min.js"), stack);
  }
});

test("what is waiting goes out when the page is left", { skip }, async () => {
  await open("/beacon", "fetch('/api/ok').then(() => { document.body.id = 'settled' })");
  await page.waitForSelector("#settled");
  const left = Date.now();
  await leave();
  assert.equal((await requests("/beacon", { status: "200" })).count, 1);
  assert.ok(Date.now() - left < 4_000, "before the five seconds that values gather");
  const load = await counted("page_load_time", { page: "/beacon" });
  assert.ok(load.count === 1 && load.sum > 0 && load.sum < 20_000, JSON.stringify(load));
});

test("requests belong to the route they are made on, vitals to the page that was loaded", { skip }, async () => {
  await open(
    "/spa",
    `history.pushState(null, "", "/spa/cart");
     fetch("/api/ok").then(() => { document.body.id = "settled" });
     history.replaceState(null, "", "/spa/paid");`,
  );
  await page.waitForSelector("#settled");
  await leave();
  assert.equal((await requests("/spa/cart", { status: "200" })).count, 1);
  for (const name of ["lcp", "cls", "fcp", "ttfb"]) {
    assert.equal((await counted(`web_vitals_${name}`, { page: "/spa" })).count, 1, name);
    assert.equal((await backend.metric(`web_vitals_${name}`, { page: "/spa/paid" })).count, 0, name);
  }
});

test("a page whose policy forbids all but files of its own runs it, and its violations are reported", {
  skip,
}, async () => {
  const policy = `default-src 'none'; script-src 'self'; img-src 'self'; connect-src 'self' ${backend.url}; require-trusted-types-for 'script'; base-uri 'none'`;
  site.put("/strict.config.js", {
    body: `window.MonlightConfig = ${JSON.stringify({ dsn: DSN, endpoint: backend.url })}`,
    type: "text/javascript",
  });
  site.put("/strict.js", { body: "setTimeout(() => { throw new Error('strictly') })", type: "text/javascript" });
  site.put("/strict", {
    headers: { "Content-Security-Policy": policy },
    body: `<!doctype html><title>Shop</title><script src="/strict.config.js"></script><script src="/monlight.min.js"></script>
      <p>Welcome</p><script src="/strict.js"></script><img src="http://ads.example/a.png?token=secret" alt="">`,
  });
  page = await (await browser.newContext()).newPage();
  await page.goto(`${site.origin}/strict`);
  const arrived = await errors("/strict", 3);
  assert.deepEqual(arrived.map(({ type, message }) => `${type}: ${message}`).sort(), [
    "CSPViolation: img-src blocks http://ads.example/a.png",
    "Error: strictly",
    "ResourceError: img http://ads.example/a.png did not load",
  ]);
});

test("a relay that cannot be reached is the application's least concern", { skip }, async () => {
  await open("/alone", "", { endpoint: "http://127.0.0.1:9" });
  const problems: string[] = [];
  page.on("pageerror", (error) => problems.push(error.message));
  const answers = await page.evaluate(async () => {
    for (let i = 0; i < 200; i++) window.Monlight?.captureError(new Error(`${i}`));
    const answer = await fetch("/api/ok");
    return answer.text();
  });
  assert.equal(answers, "ok");
  assert.deepEqual(problems, []);
});
