import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { CONFIG, openPage, type Page, type Sdk } from "./page";

let page: Page;
let sdk: Sdk;
beforeEach(async () => {
  [page, sdk] = await openPage();
  sdk.init({ ...CONFIG, sampleRate: 0 });
});

const keys = (): (string | undefined)[] => page.requests.map(({ headers }) => headers["Idempotency-Key"]);
const seconds = (): number[] => {
  const [first] = page.requests;
  return page.requests.map(({ at_ms }) => (at_ms - (first?.at_ms ?? 0)) / 1000);
};

test("a post carries the public key, and goes to the relay's path", async () => {
  sdk.send("errors", "{}");
  await page.pass(0);
  const [request] = page.requests;
  assert.equal(request?.path, "/api/browser/errors");
  assert.equal(request.headers["X-Monlight-Key"], CONFIG.dsn);
  assert.equal(request.headers["Content-Type"], "application/json");
  assert.equal(request.keepalive, true);
  assert.match(request.headers["Idempotency-Key"] ?? "", /^[\d-]{4,64}$/);
});

test("what fails is tried again with the same key, ever later", async () => {
  page.answers = [503, 503, 503, 201];
  sdk.send("errors", "{}");
  await page.pass(20_000);
  assert.deepEqual(seconds(), [0, 1, 3, 7]);
  assert.equal(new Set(keys()).size, 1);
  assert.notEqual(keys()[0], undefined);
});

test("an answered key is never given up, also when the network goes afterwards", async () => {
  page.answers = [201, "unreachable", "unreachable", "unreachable", 201];
  sdk.send("errors", "{}");
  sdk.send("errors", "{}");
  await page.pass(20_000);
  assert.equal(page.requests.length, 5);
  assert.ok(keys().every(Boolean));
  assert.equal(new Set(keys()).size, 2);
});

test("a relay that never answers with the key is asked without it, since the original's lets no page send it", async () => {
  page.answers = ["unreachable", "unreachable", 201];
  sdk.send("errors", "{}");
  await page.pass(10_000);
  sdk.send("errors", "{}");
  await page.pass(0);
  assert.deepEqual(keys().map(Boolean), [true, true, false, false]);
});

test("Retry-After is waited for, by all", async () => {
  page.answers = [[429, { "Retry-After": "17" }], 201];
  sdk.send("errors", "1");
  await page.pass(5_000);
  sdk.send("errors", "2");
  page.hide();
  await page.pass(11_500);
  assert.equal(page.requests.length, 1);
  assert.equal(page.beacons.length, 0);
  await page.pass(1_000);
  assert.deepEqual(
    page.requests.map(({ body }) => body),
    ["1", "1", "2"],
  );
  assert.deepEqual(seconds().slice(1), [17, 17]);
});

test("429 without Retry-After means a minute", async () => {
  page.answers = [429, 201];
  sdk.send("errors", "{}");
  await page.pass(61_000);
  assert.deepEqual(seconds(), [0, 60]);
});

test("429 is no failure, and no reason to stop", async () => {
  page.answers = [[429, { "Retry-After": "1" }]];
  sdk.send("errors", "{}");
  await page.pass(15_000);
  assert.equal(page.requests.length, 16);
});

test("ten failures are enough", async () => {
  page.answers = ["unreachable"];
  sdk.send("errors", "{}");
  await page.pass(3_600_000);
  assert.equal(page.requests.length, 10);
  assert.deepEqual(seconds(), [0, 1, 3, 7, 15, 31, 63, 123, 183, 243]);
});

for (const status of [401, 403, 404]) {
  test(`${status} ends everything at once, and takes the SDK out of the page`, async () => {
    const wrapped = globalThis.fetch;
    page.answers = [status];
    sdk.send("errors", "1");
    sdk.send("errors", "2");
    await page.pass(100_000);
    assert.equal(page.requests.length, 1);
    assert.notEqual(globalThis.fetch, wrapped);
  });
}

for (const status of [400, 413, 422]) {
  test(`${status} refuses one post, which is counted`, async () => {
    page.answers = [status, 201];
    sdk.send("errors", "1");
    sdk.send("errors", "2");
    await page.pass(6_000);
    assert.deepEqual(
      page.requests.slice(0, 2).map(({ body }) => body),
      ["1", "2"],
    );
    const [dropped] = page.metrics();
    assert.equal(dropped?.name, "browser_events_dropped_total");
    assert.equal(dropped.labels?.reason, "refused");
  });
}

test("the queue holds thirty, and the oldest that is not on its way goes first", async () => {
  page.answers = ["never"];
  for (let i = 0; i < 40; i++) sdk.send("errors", `${i}`);
  page.hide();
  const bodies = await Promise.all(page.beacons.map(({ body }) => body.text()));
  assert.equal(page.requests[0]?.body, "0");
  // The last is the count of those that are gone, which took a place as well.
  assert.deepEqual(bodies.slice(0, 3), ["12", "13", "14"]);
  assert.equal(bodies.length, 29);
  assert.match(bodies.at(-1) ?? "", /"queue"/);
});

test("one post flies at a time, and hiding sends the others as beacons with the key in the address", async () => {
  page.answers = ["never"];
  sdk.send("errors", "1");
  sdk.send("errors", "2");
  await page.pass(0);
  assert.equal(page.requests.length, 1);
  page.hide();
  assert.deepEqual(
    page.beacons.map(({ url }) => url),
    [`https://relay.example/api/browser/errors?key=${CONFIG.dsn}`],
  );
  assert.equal(page.beacons[0]?.body.type, "application/json");
});

test("what was tried goes out with its key when the page is hidden", async () => {
  page.answers = [201, 503, 201];
  sdk.send("errors", "1");
  sdk.send("errors", "2");
  await page.pass(0);
  sdk.sendAll(() => undefined);
  await page.pass(0);
  assert.equal(page.beacons.length, 0);
  assert.deepEqual(
    page.requests.map(({ body }) => body),
    ["1", "2", "2"],
  );
  assert.equal(keys()[1], keys()[2]);
});

test("beyond what browsers keep, requests end with the page", async () => {
  for (const size of [60_000, 60_001]) sdk.send("errors", "x".repeat(size));
  await page.pass(0);
  assert.deepEqual(
    page.requests.map(({ keepalive }) => keepalive),
    [true, false],
  );
});

test("what has gathered goes as a beacon when the page is hidden", async () => {
  sdk.count("clicks", {});
  page.hide();
  await page.pass(0);
  assert.deepEqual([page.requests.length, page.beacons.length], [0, 1]);
  assert.match((await page.beacons[0]?.body.text()) ?? "", /"clicks"/);
});

test("a beacon that the browser refuses stays", async () => {
  page.answers = ["unreachable", 201];
  Object.assign(navigator, { sendBeacon: () => false });
  sdk.send("errors", "1");
  await page.pass(0);
  page.hide();
  await page.pass(1_000);
  assert.equal(page.requests.length, 2);
});

test("values gather for five seconds, counters in one sum", async () => {
  for (let i = 0; i < 3; i++) sdk.count("clicks", { button: "pay" });
  sdk.count("clicks", { button: "back" });
  sdk.observe("wait", 1.234567, { button: "pay" });
  await page.pass(4_900);
  assert.equal(page.requests.length, 0);
  await page.pass(200);
  const labels = { page: "/cart", session_id: sessionStorage.monlight_session_id };
  const timestamp = "2026-01-31T00:00:00.000Z";
  assert.deepEqual(page.metrics(), [
    { name: "clicks", type: "counter", value: 3, labels: { ...labels, button: "pay" }, timestamp },
    { name: "clicks", type: "counter", value: 1, labels: { ...labels, button: "back" }, timestamp },
    { name: "wait", type: "histogram", value: 1.2346, labels: { ...labels, button: "pay" }, timestamp },
  ]);
  assert.equal(page.requests.length, 1);
});

test("batches have at most 60,000 bytes, and lose nothing", async () => {
  for (let i = 0; i < 1_000; i++) sdk.observe("wait", i, { text: "€".repeat(i % 100) });
  sdk.flushMetrics();
  await page.pass(0);
  const sizes = page.requests.map(({ body }) => Buffer.byteLength(body));
  assert.ok(
    sizes.every((size) => size <= 60_000),
    `${sizes}`,
  );
  assert.ok(
    sizes.slice(0, -1).every((size) => size > 59_000),
    `${sizes}`,
  );
  assert.deepEqual(
    page.metrics().map(({ value }) => value),
    Array.from({ length: 1_000 }, (_, i) => i),
  );
});

test("what is dropped is counted by its reason", async () => {
  sdk.drop("limit");
  sdk.drop("limit");
  await page.pass(5_000);
  assert.deepEqual(
    page.metrics().map(({ value, labels }) => [labels?.reason, value]),
    [["limit", 2]],
  );
});

test("JSON has neither NUL nor halves of characters", () => {
  const cases: [unknown, string][] = [
    ["a\0b", '"a\\ufffdb"'],
    ["\ud83d", '"\\ufffd"'],
    ["\ude00x", '"\\ufffdx"'],
    ["😀", '"😀"'],
    ["\\ud83d \\u0000", '"\\\\ud83d \\\\u0000"'],
    ['\u0001\n"\\', '"\\u0001\\n\\"\\\\"'],
  ];
  for (const [value, expected] of cases) {
    assert.equal(sdk.json(value), expected);
    JSON.parse(sdk.json(value));
  }
});
