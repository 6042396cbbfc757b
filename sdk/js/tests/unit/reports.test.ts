import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import type { BrowserError, MonlightClient } from "../../src/types";
import { CONFIG, openPage, type Page, type Sdk } from "./page";

let page: Page;
let sdk: Sdk;
beforeEach(async () => {
  [page, sdk] = await openPage();
});

const start = (config: object = {}): MonlightClient => sdk.init({ ...CONFIG, sampleRate: 0, ...config });
const sent = async (): Promise<BrowserError[]> => {
  await page.pass(0);
  return page.errors();
};
const dropped = async (): Promise<Record<string, number>> => {
  await page.pass(5_000);
  return Object.fromEntries(page.metrics().map(({ labels, value }) => [labels?.reason, value]));
};
const STACK = "TypeError: x\n    at pay (https://shop.example/app.js:10:5)\n    at https://shop.example/app.js:20:1";

test("an error is sent with all that the relay knows of", async () => {
  start({ release: "1.4.2", environment: "staging" }).captureError(new RangeError("too much"), { cart: 7 });
  const [error] = await sent();
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

test("the environment is prod unless it is said", async () => {
  start().captureMessage("here");
  assert.equal((await sent())[0]?.environment, "prod");
});

test("a user and context are added until they are taken back", async () => {
  const client = start();
  client.setUser("u-42");
  client.addContext("tenant", "acme");
  client.captureMessage("one");
  client.setUser(null);
  client.captureMessage("two");
  const [one, two] = await sent();
  assert.deepEqual(one?.context, { user_id: "u-42", tenant: "acme", level: "error", breadcrumbs: [] });
  assert.deepEqual(two?.context, { tenant: "acme", level: "error", breadcrumbs: [] });
});

test("messages have the original's types, and the place they come from", async () => {
  const client = start();
  client.captureMessage("slow", "warning");
  client.captureMessage("broken");
  const [slow, broken] = await sent();
  assert.deepEqual([slow?.type, slow?.context?.level], ["ConsoleWarning", "warning"]);
  assert.deepEqual([broken?.type, broken?.context?.level], ["ConsoleError", "error"]);
  assert.match(slow?.stack.split("\n")[0] ?? "", /reports\.test/);
});

test("anything can be thrown", async () => {
  const client = start();
  const odd = [null, undefined, 7, "text", Symbol("s"), { message: "plain" }, Object.create(null), () => 1, 10n];
  for (const thing of odd) client.captureError(thing);
  assert.deepEqual(
    (await sent()).map(({ message }) => message),
    ["null", "undefined", "7", "text", "Symbol(s)", "plain", "[object Object]", "[object Function]", "10"],
  );
});

test("getters that throw reach nobody", async () => {
  const trap = {
    get message() {
      throw new Error("a trap");
    },
  };
  start().captureError(trap);
  assert.deepEqual(await sent(), []);
});

test("causes are told of behind the frames, up to five of them", async () => {
  let error = new Error("0");
  for (let i = 1; i < 9; i++) error = new Error(`${i}`, { cause: error });
  start().captureError(error);
  const [{ stack } = { stack: "" }] = await sent();
  assert.deepEqual(
    stack.match(/Caused by: Error: \d/g),
    [7, 6, 5, 4, 3].map((i) => `Caused by: Error: ${i}`),
  );
  assert.match(stack, /^Error: 8\n {4}at /);
});

test("one error that is caught, reported and thrown on is one report", async () => {
  const client = start();
  const error = new Error("once");
  client.captureError(error);
  page.fire("error", { error, message: "Uncaught Error: once", filename: "https://shop.example/app.js" });
  await page.pass(61_000);
  assert.deepEqual(
    page.errors().map(({ context }) => context?.repeats),
    [undefined],
  );
});

test("a second start takes the place of the first", async () => {
  const first = start({ release: "1" });
  start({ release: "2" });
  first.captureMessage("by the first");
  page.fire("unhandledrejection", { reason: "no stock" });
  await page.pass(61_000);
  assert.deepEqual(
    page.errors().map(({ message, release, context }) => [message, release, context?.repeats]),
    [["no stock", "2", undefined]],
  );
});

test("repeats are counted and said once a minute, or when the page is hidden", async () => {
  const client = start();
  const again = (): void => client.captureError(Object.assign(new TypeError("x"), { stack: STACK }), { cart: 7 });
  for (let i = 0; i < 5; i++) again();
  assert.equal((await sent()).length, 1);
  await page.pass(60_000);
  assert.deepEqual(
    page.errors().map(({ context }) => [context?.repeats, context?.cart]),
    [
      [undefined, 7],
      [4, 7],
    ],
  );
  again();
  again();
  page.hide();
  assert.equal(JSON.parse((await page.beacons[0]?.body.text()) ?? "{}").context?.repeats, 1);
});

test("fifty different errors a minute are enough, the others are counted", async () => {
  const client = start();
  for (let i = 0; i < 60; i++) client.captureMessage(`${i}`);
  assert.deepEqual(await dropped(), { limit: 10, queue: 20 });
});

test("beforeSend changes and drops, and errors of its own drop as well", async () => {
  const client = start({
    beforeSend(event: BrowserError) {
      if (event.message === "throw") throw new Error("in beforeSend");
      if (event.message === "report") client.captureMessage("from beforeSend");
      return event.message === "drop" ? null : { ...event, message: `${event.message}!` };
    },
  });
  for (const message of ["keep", "drop", "throw", "report"]) client.captureMessage(message);
  assert.deepEqual(
    (await sent()).map(({ message }) => message),
    ["keep!", "report!"],
  );
});

test("noise is counted and not reported", async () => {
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
  page.fire("unhandledrejection", { reason: new DOMException("called off", "AbortError") });
  page.fire("securitypolicyviolation", { blockedURI: "chrome-extension", sourceFile: "" }, document);
  page.fire("securitypolicyviolation", { blockedURI: "inline", sourceFile: "moz-extension" }, document);
  assert.deepEqual(page.errors(), []);
  assert.deepEqual(await dropped(), { script_error: 1, extension: 5, aborted: 1 });
});

test("an error of the page that an extension only called is reported", async () => {
  start();
  const stack =
    "TypeError: x\n    at pay (https://shop.example/app.js:1:2)\n    at chrome-extension://abc/inject.js:1:1";
  page.fire("error", { error: { name: "TypeError", message: "x", stack }, filename: "https://shop.example/app.js" });
  assert.equal((await sent()).length, 1);
});

test("thrown texts and rejections have a type and a place", async () => {
  start();
  page.fire("error", { error: "text", filename: "https://shop.example/app.js?v=3", lineno: 3, colno: 9 });
  page.fire("unhandledrejection", { reason: "no stock" });
  assert.deepEqual(
    (await sent()).map(({ type, message, stack }) => [type, message, stack]),
    [
      ["Error", "text", "    at https://shop.example/app.js:3:9"],
      ["UnhandledRejection", "no stock", "UnhandledRejection: no stock"],
    ],
  );
});

test("a policy's violations are reported, except those that keep the SDK from its relay", async () => {
  start();
  const violation = {
    effectiveDirective: "img-src",
    sourceFile: "https://shop.example/app.js",
    lineNumber: 3,
    columnNumber: 7,
  };
  page.fire("securitypolicyviolation", { ...violation, blockedURI: "https://ads.example/a.png?u=1" }, document);
  page.fire(
    "securitypolicyviolation",
    { ...violation, blockedURI: "https://relay.example/api/browser/errors" },
    document,
  );
  assert.deepEqual(
    (await sent()).map(({ type, message, stack }) => [type, message, stack]),
    [["CSPViolation", "img-src blocks https://ads.example/a.png", "    at https://shop.example/app.js:3:7"]],
  );
});

test("context that is no JSON, or too much, leaves the error", async () => {
  const client = start();
  const cycle: Record<string, unknown> = {};
  cycle.self = cycle;
  client.setUser("u-42");
  client.addContext("cycle", cycle);
  client.captureError(new Error("one"), { cart: 7 });
  client.captureError(new Error("two"), { cycle });
  client.captureError(new Error("three"), { much: "€".repeat(30_000) });
  const [one, two, three] = await sent();
  assert.equal(one?.context?.cart, 7);
  assert.deepEqual(two?.context, { user_id: "u-42", shortened: true });
  assert.deepEqual(three?.context, { user_id: "u-42", shortened: true });
});

test("long texts are cut", async () => {
  const error = Object.assign(new Error("m".repeat(9_000)), { stack: "s".repeat(99_000) });
  start().captureError(error);
  const [sentError] = await sent();
  assert.deepEqual([sentError?.message.length, sentError?.stack.length], [2_000, 16_000]);
});

test("texts that are long and odd take no time", async () => {
  const client = start();
  const started = performance.now();
  for (const part of ["s", ":1", ":", "1", "@", ")", "(a:1:1", "a://b?", "at ", "\n"]) {
    const text = part.repeat(200_000 / part.length);
    client.captureError(Object.assign(new Error(text), { stack: text }));
    page.fire("unhandledrejection", { reason: { message: text, stack: text } });
  }
  assert.ok(performance.now() - started < 1_500, `${performance.now() - started} ms`);
});

test("storage that throws, is full or is not there changes nothing", async () => {
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
  assert.match((await sent())[0]?.session_id ?? "", /^[\d-]+$/);
});

test("a tab keeps its name, also under the original's key", async () => {
  sessionStorage.monlight_session_id = "from before";
  start().captureMessage("here");
  assert.equal((await sent())[0]?.session_id, "from before");
});

test("nothing starts without a key, an endpoint, a page or a wish, and nothing throws", async () => {
  const before = globalThis.fetch;
  for (const config of [{ dsn: "" }, { endpoint: "" }, { endpoint: "http://[" }, { enabled: false }]) {
    const client = start(config);
    client.captureError(new Error("x"));
    client.captureMessage("x");
    client.setUser("u");
    client.addContext("a", 1);
    client.destroy();
  }
  assert.equal(globalThis.fetch, before);
  assert.deepEqual(await sent(), []);
  assert.equal(page.warnings.length, 3);
  Reflect.deleteProperty(globalThis, "window");
  start().captureError(new Error("on a server"));
});

test("destroy sends what waits and leaves the page as it was", async () => {
  const parts = [globalThis.fetch, console.error, XMLHttpRequest.prototype.send, history.pushState];
  const client = start();
  assert.notEqual(globalThis.fetch, parts[0]);
  const again = (): void => client.captureError(Object.assign(new TypeError("x"), { stack: STACK }));
  again();
  again();
  client.destroy();
  assert.deepEqual([globalThis.fetch, console.error, XMLHttpRequest.prototype.send, history.pushState], parts);
  client.captureMessage("after the end");
  page.fire("unhandledrejection", { reason: "after the end" });
  assert.deepEqual(
    (await sent()).map(({ context }) => context?.repeats),
    [undefined, 1],
  );
});

test("whoever wraps fetch afterwards keeps it, and nothing is counted twice by a second start", async () => {
  start();
  const inner = globalThis.fetch;
  const outer: typeof fetch = (...args) => inner(...args);
  globalThis.fetch = outer;
  start();
  await fetch("https://api.example/");
  await page.pass(5_000);
  const requests = page.metrics().filter(({ name }) => name === "browser_http_requests_total");
  assert.deepEqual(
    requests.map(({ value }) => value),
    [1],
  );
});

test("a fetch that a test of the application replaces by something else still works", async () => {
  Object.assign(globalThis, { fetch: () => "no promise" });
  start({ endpoint: "https://elsewhere.example" });
  assert.equal((globalThis.fetch as unknown as (url: string) => string)("https://api.example/"), "no promise");
});
