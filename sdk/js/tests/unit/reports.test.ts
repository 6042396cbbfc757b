import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import type { BrowserError, MonlightClient } from "../../src/types";
import { CONFIG, type FakePage, openFakePage, type Sdk } from "./fake-page";

let page: FakePage;
let sdk: Sdk;
beforeEach(async () => {
  [page, sdk] = await openFakePage();
});

const start = (config: object = {}): MonlightClient => sdk.init({ ...CONFIG, sampleRate: 0, ...config });
const sentErrors = async (): Promise<BrowserError[]> => {
  await page.advance(0);
  return page.errors();
};
/** Returns the number of dropped events by reason. */
const droppedCounts = async (): Promise<Record<string, number>> => {
  await page.advance(5_000);
  return Object.fromEntries(page.metrics().map(({ labels, value }) => [labels?.reason, value]));
};
const STACK = "TypeError: x\n    at pay (https://shop.example/app.js:10:5)\n    at https://shop.example/app.js:20:1";

test("an error is sent with all fields of the relay's contract", async () => {
  start({ release: "1.4.2", environment: "staging" }).captureError(new RangeError("too much"), { cart: 7 });
  const [error] = await sentErrors();
  assert.match(error?.stack ?? "", /^RangeError: too much\n {4}at .*reports\.test/);
  assert.deepEqual(
    { ...error, stack: "" },
    {
      type: "RangeError",
      message: "too much",
      stack: "",
      url: "https://shop.example/cart",
      user_agent: "a browser",
      session_id: sessionStorage.monlight_session_id,
      release: "1.4.2",
      environment: "staging",
      timestamp: "2026-01-31T00:00:00.000Z",
      context: { cart: 7, breadcrumbs: [] },
    },
  );
});

test("the default environment is prod", async () => {
  start().captureMessage("here");
  assert.equal((await sentErrors())[0]?.environment, "prod");
});

test("user and context are added to reports until removed", async () => {
  const client = start();
  client.setUser("u-42");
  client.addContext("tenant", "acme");
  client.captureMessage("one");
  client.setUser(null);
  client.captureMessage("two");
  const [one, two] = await sentErrors();
  assert.deepEqual(one?.context, { user_id: "u-42", tenant: "acme", level: "error", breadcrumbs: [] });
  assert.deepEqual(two?.context, { tenant: "acme", level: "error", breadcrumbs: [] });
});

test("messages have the original's types and the stack of the caller", async () => {
  const client = start();
  client.captureMessage("slow", "warning");
  client.captureMessage("broken");
  const [slow, broken] = await sentErrors();
  assert.deepEqual([slow?.type, slow?.context?.level], ["ConsoleWarning", "warning"]);
  assert.deepEqual([broken?.type, broken?.context?.level], ["ConsoleError", "error"]);
  assert.match(slow?.stack.split("\n")[0] ?? "", /reports\.test/);
});

test("captureError accepts any value", async () => {
  const client = start();
  const values = [null, undefined, 7, "text", Symbol("s"), { message: "plain" }, Object.create(null), () => 1, 10n];
  for (const value of values) client.captureError(value);
  assert.deepEqual(
    (await sentErrors()).map(({ message }) => message),
    ["null", "undefined", "7", "text", "Symbol(s)", "plain", "[object Object]", "[object Function]", "10"],
  );
});

test("the members of an AggregateError follow its frames", async () => {
  const members = [new TypeError("first", { cause: new Error("root") }), new RangeError("second")];
  start().captureError(new AggregateError(members, "all failed"));
  const [error] = await sentErrors();
  assert.deepEqual([error?.type, error?.message], ["AggregateError", "all failed"]);
  assert.deepEqual(error?.stack.match(/^Caused by: .*/gm), [
    "Caused by: TypeError: first",
    "Caused by: RangeError: second",
    "Caused by: Error: root",
  ]);
  assert.match(error.stack, /Caused by: TypeError: first\n {4}at .*reports\.test/);
});

test("up to five causes follow the frames", async () => {
  let error = new Error("0");
  for (let i = 1; i < 9; i++) error = new Error(`${i}`, { cause: error });
  start().captureError(error);
  const [{ stack } = { stack: "" }] = await sentErrors();
  assert.deepEqual(
    stack.match(/Caused by: Error: \d/g),
    [7, 6, 5, 4, 3].map((i) => `Caused by: Error: ${i}`),
  );
  assert.match(stack, /^Error: 8\n {4}at /);
});

test("an error that is captured and rethrown is reported once", async () => {
  const client = start();
  const error = new Error("once");
  client.captureError(error);
  page.fire("error", { error, message: "Uncaught Error: once", filename: "https://shop.example/app.js" });
  await page.advance(61_000);
  assert.deepEqual(
    page.errors().map(({ context }) => context?.repeats),
    [undefined],
  );
});

test("a second init replaces the first", async () => {
  const first = start({ release: "1" });
  start({ release: "2" });
  first.captureMessage("from the first client");
  page.fire("unhandledrejection", { reason: "no stock" });
  await page.advance(61_000);
  assert.deepEqual(
    page.errors().map(({ message, release, context }) => [message, release, context?.repeats]),
    [["no stock", "2", undefined]],
  );
});

test("duplicates are reported once a minute and when the page is hidden", async () => {
  const client = start();
  const captureDuplicate = (): void =>
    client.captureError(Object.assign(new TypeError("x"), { stack: STACK }), { cart: 7 });
  for (let i = 0; i < 5; i++) captureDuplicate();
  assert.equal((await sentErrors()).length, 1);
  await page.advance(60_000);
  assert.deepEqual(
    page.errors().map(({ context }) => [context?.repeats, context?.cart]),
    [
      [undefined, 7],
      [4, 7],
    ],
  );
  captureDuplicate();
  captureDuplicate();
  page.hide();
  assert.equal(JSON.parse(page.beacons[0]?.body.content ?? "{}").context?.repeats, 1);
});

test("at most fifty distinct errors per minute are reported, the others are counted", async () => {
  const client = start();
  for (let i = 0; i < 60; i++) client.captureMessage(`${i}`);
  assert.deepEqual(await droppedCounts(), { limit: 10, queue: 20 });
});

test("the first ten and the latest errors of a burst are sent", async () => {
  const client = start();
  for (let i = 0; i < 50; i++) client.captureMessage(`${i}`);
  const messages = (await sentErrors()).map(({ message }) => +message);
  assert.deepEqual(messages.slice(0, 11), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
  assert.equal(messages.at(-1), 49);
});

test("beforeSend modifies and drops errors, and drops them by throwing", async () => {
  const client = start({
    beforeSend(event: BrowserError) {
      if (event.message === "throw") throw new Error("in beforeSend");
      if (event.message === "report") client.captureMessage("from beforeSend");
      return event.message === "drop" ? null : { ...event, message: `${event.message}!` };
    },
  });
  for (const message of ["keep", "drop", "throw", "report"]) client.captureMessage(message);
  assert.deepEqual(
    (await sentErrors()).map(({ message }) => message),
    ["keep!", "report!"],
  );
});

test("noise is counted but not reported", async () => {
  start();
  const extension =
    "TypeError: x\n    at f (chrome-extension://abc/inject.js:1:2)\n    at https://shop.example/app.js:1:1";
  page.fire("error", { error: null, message: "Script error.", filename: "" });
  page.fire("error", {
    error: { name: "TypeError", message: "x", stack: extension },
    filename: "https://shop.example/",
  });
  page.fire("error", { error: null, message: "x", filename: "moz-extension://abc/inject.js", lineno: 1, colno: 2 });
  page.fire("unhandledrejection", { reason: { message: "x", stack: "f@safari-web-extension://abc/inject.js:1:2" } });
  page.fire("unhandledrejection", { reason: { message: "x", stack: "f@webkit-masked-url://hidden/:22:4" } });
  page.fire("unhandledrejection", { reason: new DOMException("aborted", "AbortError") });
  page.fire("error", {
    error: null,
    message: "ResizeObserver loop completed with undelivered notifications.",
    filename: "https://shop.example/",
    lineno: 0,
    colno: 0,
  });
  page.fire("securitypolicyviolation", { blockedURI: "chrome-extension", sourceFile: "" });
  page.fire("securitypolicyviolation", { blockedURI: "inline", sourceFile: "moz-extension" });
  assert.deepEqual(page.errors(), []);
  assert.deepEqual(await droppedCounts(), { script_error: 2, extension: 6, aborted: 1 });
});

test("an error of the page is reported even if an extension called the page", async () => {
  start();
  const stack =
    "TypeError: x\n    at pay (https://shop.example/app.js:1:2)\n    at chrome-extension://abc/inject.js:1:1";
  page.fire("error", { error: { name: "TypeError", message: "x", stack }, filename: "https://shop.example/app.js" });
  assert.equal((await sentErrors()).length, 1);
});

test("thrown and rejected strings get a type and a stack", async () => {
  start();
  page.fire("error", { error: "text", filename: "https://shop.example/app.js?v=3", lineno: 3, colno: 9 });
  page.fire("unhandledrejection", { reason: "no stock" });
  assert.deepEqual(
    (await sentErrors()).map(({ type, message, stack }) => [type, message, stack]),
    [
      ["Error", "text", "    at https://shop.example/app.js:3:9"],
      ["UnhandledRejection", "no stock", "UnhandledRejection: no stock"],
    ],
  );
});

test("policy violations are reported unless they block the relay", async () => {
  start();
  const violation = {
    effectiveDirective: "img-src",
    sourceFile: "https://shop.example/app.js",
    lineNumber: 3,
    columnNumber: 7,
  };
  page.fire("securitypolicyviolation", { ...violation, blockedURI: "https://ads.example/a.png?u=1" });
  page.fire("securitypolicyviolation", { ...violation, blockedURI: "https://relay.example/api/browser/errors" });
  assert.deepEqual(
    (await sentErrors()).map(({ type, message, stack }) => [type, message, stack]),
    [["CSPViolation", "img-src blocks https://ads.example/a.png", "    at https://shop.example/app.js:3:7"]],
  );
});

test("long messages and stacks are truncated", async () => {
  const error = Object.assign(new Error("m".repeat(9_000)), { stack: "s".repeat(99_000) });
  start().captureError(error);
  const [truncated] = await sentErrors();
  assert.deepEqual([truncated?.message.length, truncated?.stack.length], [2_000, 16_000]);
});

test("a message longer than a stack may be leaves the frames", async () => {
  const client = start();
  client.captureError(new RangeError("m".repeat(50_000)));
  assert.match((await sentErrors())[0]?.stack ?? "", /^RangeError: m{2000}\n {4}at .*reports\.test/);
});

test("long hostile messages and stacks are processed quickly", async () => {
  const client = start();
  const started = performance.now();
  for (const part of ["s", ":1", ":", "1", "@", ")", "(a:1:1", "a://b?", "at ", "\n"]) {
    const hostile = part.repeat(200_000 / part.length);
    client.captureError(Object.assign(new Error(hostile), { stack: hostile }));
    page.fire("unhandledrejection", { reason: { message: hostile, stack: hostile } });
  }
  assert.ok(performance.now() - started < 1_500, `${performance.now() - started} ms`);
});

test("reports are sent even if sessionStorage throws", async () => {
  const broken = new Proxy(
    {},
    {
      get: () => {
        throw new Error("SecurityError");
      },
    },
  );
  Object.defineProperty(globalThis, "sessionStorage", { get: () => broken, configurable: true });
  start().captureMessage("here");
  assert.match((await sentErrors())[0]?.session_id ?? "", /^[\d-]+$/);
});

test("the session ID is read from sessionStorage under the original's key", async () => {
  sessionStorage.monlight_session_id = "stored-id";
  start().captureMessage("here");
  assert.equal((await sentErrors())[0]?.session_id, "stored-id");
});

test("init never throws and does nothing if disabled, misconfigured or on a server", async () => {
  const originalFetch = globalThis.fetch;
  for (const config of [{ dsn: "" }, { endpoint: "" }, { endpoint: "http://[" }, { enabled: false }]) {
    const client = start(config);
    client.captureError(new Error("x"));
    client.captureMessage("x");
    client.setUser("u");
    client.addContext("a", 1);
    client.destroy();
  }
  assert.equal(globalThis.fetch, originalFetch);
  assert.deepEqual(await sentErrors(), []);
  assert.equal(page.warnings.length, 3);
  Reflect.deleteProperty(globalThis, "window");
  start().captureError(new Error("on a server"));
});

test("destroy sends pending reports and restores the page", async () => {
  const originals = [globalThis.fetch, console.error, XMLHttpRequest.prototype.send, history.pushState];
  const client = start();
  assert.notEqual(globalThis.fetch, originals[0]);
  const captureDuplicate = (): void => client.captureError(Object.assign(new TypeError("x"), { stack: STACK }));
  captureDuplicate();
  captureDuplicate();
  client.destroy();
  assert.deepEqual([globalThis.fetch, console.error, XMLHttpRequest.prototype.send, history.pushState], originals);
  client.captureMessage("after destroy");
  page.fire("unhandledrejection", { reason: "after destroy" });
  assert.deepEqual(
    (await sentErrors()).map(({ context }) => context?.repeats),
    [undefined, 1],
  );
});

test("a later wrapper of fetch stays, and a second init does not count requests twice", async () => {
  start();
  const inner = globalThis.fetch;
  const outer: typeof fetch = (...args) => inner(...args);
  globalThis.fetch = outer;
  start();
  await fetch("https://api.example/");
  await page.advance(5_000);
  const requests = page.metrics().filter(({ name }) => name === "browser_http_requests_total");
  assert.deepEqual(
    requests.map(({ value }) => value),
    [1],
  );
});

test("failed requests are distinguished by method, host, path pattern and status", async () => {
  start();
  const request = (path: string, method = "GET") => fetch(`https://api.example${path}`, { method });
  for (const path of ["/fail/orders/1001", "/fail/orders/1002?a=b", "/fail/carts/ORD-12345", "/fail/v2/users"]) {
    await request(path);
  }
  await request("/fail/v2/users", "POST");
  assert.deepEqual(
    (await sentErrors()).map(({ type, stack }) => [type, ...stack.split("\n")].slice(0, 2)),
    [
      ["NetworkError", "    at GET https://api.example/fail/orders/{id}:500:1"],
      ["NetworkError", "    at GET https://api.example/fail/carts/{id}:500:1"],
      ["NetworkError", "    at GET https://api.example/fail/v2/users:500:1"],
      ["NetworkError", "    at POST https://api.example/fail/v2/users:500:1"],
    ],
  );
  assert.match((await sentErrors())[0]?.stack.split("\n")[1] ?? "", /reports\.test/);
});

test("a response that was reported and is then thrown is reported once", async () => {
  start();
  page.fire("unhandledrejection", { reason: await fetch("https://api.example/fail") });
  assert.equal((await sentErrors()).length, 1);
});

test("a mocked fetch that returns no promise still works", async () => {
  Object.assign(globalThis, { fetch: () => "not a promise" });
  start({ endpoint: "https://elsewhere.example" });
  assert.equal((globalThis.fetch as unknown as (url: string) => string)("https://api.example/"), "not a promise");
});
