import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import type { BrowserError, MonlightClient } from "../../src/types";
import { CONFIG, type FakePage, openFakePage, type Sdk } from "./fake-page";

let page: FakePage;
let sdk: Sdk;
beforeEach(async () => {
  [page, sdk] = await openFakePage();
});

const start = (config: object = {}): MonlightClient => sdk.init({ ...CONFIG, sampleRate: 0, debug: true, ...config });
const sentErrors = async (): Promise<BrowserError[]> => {
  await page.advance(0);
  return page.errors();
};
const sentMessages = async (): Promise<string[]> => (await sentErrors()).map(({ message }) => message);
/** Returns what the SDK has logged except the answers of the relay, one string for each warning. */
const warnings = (): string[] =>
  page.warnings
    .map(([, ...details]) => details.map(String).join(" "))
    .filter((warning) => !warning.startsWith("https://"));
const throwing = (): never => {
  throw new Error("from the application");
};
const hostileProxy = new Proxy({}, Object.fromEntries(Reflect.ownKeys(Reflect).map((trap) => [trap, throwing])));

test("a user that is an object is reported by its ID, name or address", async () => {
  const client = start();
  const email = "eve@shop.example";
  const users = [{ id: 7, username: "eve", email }, { username: "eve", email }, { email }, { ip_address: "1" }, null];
  for (const [index, user] of users.entries()) {
    client.setUser(user);
    client.captureMessage(`${index}`);
  }
  client.captureError(new Error("id in the context"), { user_id: { id: "u-8" } });
  client.captureError(new Error("boolean"), { user_id: true });
  const errors = await sentErrors();
  assert.deepEqual(
    errors.map(({ context }) => context?.user_id),
    ["7", "eve", email, undefined, undefined, "u-8", "true"],
  );
  assert.equal(JSON.stringify(errors).split(email).length - 1, 1);
  assert.equal(warnings()[0], "repaired user_id [object Object]");
});

test("members that are not strings are converted, and debug names them", async () => {
  const beforeSend = (event: BrowserError): object => ({ ...event, url: 5, context: [7] });
  start({ release: 142, beforeSend }).captureMessage("one");
  const [error] = await sentErrors();
  assert.deepEqual([error?.release, error?.url, error?.context], ["142", "5", { 0: 7 }]);
  assert.deepEqual(warnings().slice(1), ["repaired url 5", "repaired release 142"]);
});

test("a promise of beforeSend is awaited", async () => {
  const client = start({
    beforeSend: async (event: BrowserError) => {
      if (event.message === "reject") throw new Error("in beforeSend");
      return event.message === "drop" ? null : { ...event, message: `${event.message}!` };
    },
  });
  for (const message of ["keep", "drop", "reject"]) client.captureMessage(message);
  assert.deepEqual(await sentMessages(), ["keep!"]);
  assert.deepEqual(warnings().sort(), [
    "Error: in beforeSend",
    "beforeSend returned [object Object]",
    "beforeSend returned [object Promise]",
    "beforeSend returned [object Promise]",
    "beforeSend returned [object Promise]",
    "beforeSend returned null",
  ]);
});

test("a beforeSend that returns true keeps the error, and one that returns nothing drops it", async () => {
  const client = start({ beforeSend: (event: BrowserError) => event.message === "keep" || undefined });
  client.captureMessage("keep");
  client.captureMessage("drop");
  assert.deepEqual(await sentMessages(), ["keep"]);
  assert.deepEqual(warnings(), ["beforeSend returned true", "beforeSend returned undefined"]);
});

test("beforeSend receives the thrown value", async () => {
  const sources: unknown[] = [];
  const client = start({ beforeSend: (event: BrowserError, source: unknown) => sources.push(source) && event });
  const error = new Error("one");
  client.captureError(error);
  page.fire("unhandledrejection", { reason: 7 });
  assert.deepEqual(sources, [error, 7]);
});

test("thrown values are described by their keys, type or status, never by their values", async () => {
  const client = start();
  const values = [{ code: 5, reason: "secret" }, { status: 1 }, {}, [1, 2], new Event("load"), () => 1];
  for (const value of [...values, new Response(null, { status: 404 })]) client.captureError(value);
  assert.deepEqual(await sentMessages(), [
    "[object Object] code reason",
    "[object Object] status",
    "[object Object]",
    "[object Array] 0 1",
    "[object Event] load",
    "[object Function]",
    "[object Response] 404",
  ]);
});

test("errors are reported even if reading them throws", async () => {
  const client = start({ captureConsole: true });
  client.captureError(Object.defineProperty(new RangeError("one"), "message", { get: throwing }));
  client.captureError(Object.defineProperty(new RangeError("two"), "stack", { get: throwing }));
  client.captureError(hostileProxy);
  console.error(Object.assign(new RangeError("four"), { toString: throwing }));
  const errors = await sentErrors();
  assert.deepEqual(
    errors.map(({ type, message }) => [type, message]),
    [
      ["Error", "[omitted]"],
      ["RangeError", "two"],
      ["Error", "[omitted]"],
      ["ConsoleError", "[omitted]"],
    ],
  );
  for (const { stack } of errors.slice(0, 3)) assert.match(stack, /^ {4}at .*values\.test/);
  assert.match(errors[3]?.stack ?? "", /^RangeError: four\n {4}at .*values\.test/);
});

test("an error whose stack is not a string is reported with the stack of the caller", async () => {
  const client = start();
  const { prepareStackTrace } = Error;
  Error.prepareStackTrace = (_, callSites) => callSites;
  const structured = new Error("structured");
  assert.ok(Array.isArray(structured.stack));
  Error.prepareStackTrace = prepareStackTrace;
  client.captureError(structured);
  client.captureError(Object.assign(new Error("object"), { stack: { frames: 1 } }));
  assert.deepEqual(await sentMessages(), ["structured", "object"]);
  for (const { stack } of page.errors()) assert.match(stack, /^ {4}at .*values\.test/);
});

test("only values that JSON cannot hold are left out of the context", async () => {
  const client = start();
  const cycle: Record<string, unknown> = {};
  cycle.self = cycle;
  let deep: unknown = 1;
  for (let i = 0; i < 70; i++) deep = { deep };
  client.setUser("u-42");
  client.addContext("tenant", { name: "acme" });
  client.addContext("cycle", cycle);
  client.captureError(new Error("one"), {
    cart: { items: [{ id: 7 }], date: new Date(0) },
    total: 10n,
    cycle,
    deep,
    long: "x".repeat(1_000_000),
    get broken() {
      return throwing();
    },
  });
  assert.deepEqual((await sentErrors())[0]?.context, {
    user_id: "u-42",
    breadcrumbs: [],
    tenant: { name: "acme" },
    cart: { items: [{ id: 7 }], date: "1970-01-01T00:00:00.000Z" },
  });
  assert.equal(warnings().length, 6, warnings().join("\n"));
  assert.ok(warnings().includes("deep too long or deep"));
});

test("a context that is not an object does not lose the error", async () => {
  const client = start();
  const contexts = { null: null, string: "checkout", number: 7, proxy: hostileProxy };
  for (const [name, context] of Object.entries(contexts)) client.captureError(new Error(name), context as never);
  assert.deepEqual(await sentMessages(), Object.keys(contexts));
});

test("a context that is too large as a whole is reduced to the user, level and repeats", async () => {
  const client = start();
  client.setUser("u-42");
  client.captureError(new Error("one"), Object.fromEntries(["a", "b", "c"].map((key) => [key, "€".repeat(9_000)])));
  assert.deepEqual((await sentErrors())[0]?.context, { user_id: "u-42", shortened: true });
});

test("a copy of the context is reported, also with the repeats", async () => {
  const client = start();
  const cart = { total: 1 };
  for (let i = 0; i < 2; i++) client.captureError("same", { cart });
  cart.total = 2;
  await page.advance(61_000);
  assert.deepEqual(
    page.errors().map(({ context }) => [context?.repeats, context?.cart]),
    [
      [undefined, { total: 1 }],
      [1, { total: 1 }],
    ],
  );
});

test("the extra entry refines messages and removes noise", async () => {
  let sources = 0;
  const beforeSend = (event: BrowserError, source: unknown): BrowserError => {
    sources += source === undefined ? 0 : 1;
    return event;
  };
  const client = sdk.init(sdk.withExtra({ ...CONFIG, sampleRate: 0, captureConsole: true, beforeSend }));
  console.error("%o\n\n%s end https://a.example/?token=secret %s", new TypeError("x"), "in <App>");
  console.warn("100%", 0);
  console.warn("%cStyled", "color: red");
  client.captureError(["not console arguments"]);
  const event = Object.defineProperty(new Event("error"), "target", {
    value: Object.assign(new Element(), { localName: "script" }),
  });
  page.fire("unhandledrejection", { reason: event });
  page.fire("unhandledrejection", { reason: "Object Not Found Matching Id:3, MethodName:update, ParamCount:4" });
  page.fire("error", { error: null, message: "Uncaught null", filename: "https://shop.example/b.js", lineno: 1 });
  assert.deepEqual(await sentMessages(), [
    "TypeError: x\n\nin <App> end https://a.example/ %s",
    "100% 0",
    "Styled",
    "[object Array] 0",
    "[object Event] error script",
    "null",
  ]);
  assert.equal(sources, 6);
});

test("the extra entry reports a resource that a policy blocks once", () => {
  const { beforeSend } = sdk.withExtra(CONFIG);
  const pass = (type: string, message: string): boolean => !!beforeSend?.({ type, message, stack: "" });
  assert.ok(pass("CSPViolation", "img-src blocks https://ads.example/1001.png"));
  assert.ok(pass("CSPViolation", "script-src blocks inline"));
  assert.ok(!pass("ResourceError", "img https://ads.example/{id} did not load"));
  assert.ok(pass("ResourceError", "img https://shop.example/lost.png did not load"));
});
