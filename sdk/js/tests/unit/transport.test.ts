import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { CONFIG, type FakePage, openFakePage, type Sdk } from "./fake-page";

let page: FakePage;
let sdk: Sdk;
beforeEach(async () => {
  [page, sdk] = await openFakePage();
  sdk.init({ ...CONFIG, sampleRate: 0 });
});

const idempotencyKeys = (): (string | undefined)[] => page.requests.map(({ idempotencyKey }) => idempotencyKey);
/** Returns the time of each request in seconds after the first. */
const requestTimes = (): number[] => {
  const [first] = page.requests;
  return page.requests.map(({ atMs }) => (atMs - (first?.atMs ?? 0)) / 1000);
};

test("a request is sent to the relay with the public key and an idempotency key", async () => {
  sdk.enqueue("errors", "{}");
  await page.advance(0);
  const [request] = page.requests;
  assert.equal(request?.path, "/api/browser/errors");
  assert.equal(request.publicKey, CONFIG.dsn);
  assert.equal(request.mediaType, "application/json");
  assert.equal(request.keepalive, true);
  assert.match(idempotencyKeys()[0] ?? "", /^[\d-]{4,64}$/);
});

test("retries back off exponentially and reuse the idempotency key", async () => {
  page.responses = [503, 503, 503, 201];
  sdk.enqueue("errors", "{}");
  await page.advance(20_000);
  assert.deepEqual(requestTimes(), [0, 1, 3, 7]);
  assert.equal(new Set(idempotencyKeys()).size, 1);
  assert.ok(idempotencyKeys()[0]);
});

test("each request has an idempotency key of its own", async () => {
  sdk.enqueue("errors", "{}");
  sdk.enqueue("errors", "{}");
  await page.advance(0);
  assert.equal(new Set(idempotencyKeys()).size, 2);
});

test("Retry-After delays all requests", async () => {
  page.responses = [[429, { "Retry-After": "17" }], 201];
  sdk.enqueue("errors", "1");
  await page.advance(5_000);
  sdk.enqueue("errors", "2");
  page.hide();
  await page.advance(11_500);
  assert.equal(page.requests.length, 1);
  assert.equal(page.beacons.length, 0);
  await page.advance(1_000);
  assert.deepEqual(
    page.requests.map(({ body }) => body),
    ["1", "1", "2"],
  );
  assert.deepEqual(requestTimes().slice(1), [17, 17]);
});

test("429 without Retry-After delays requests by one minute", async () => {
  page.responses = [429, 201];
  sdk.enqueue("errors", "{}");
  await page.advance(61_000);
  assert.deepEqual(requestTimes(), [0, 60]);
});

test("429 does not count as a failure", async () => {
  page.responses = [[429, { "Retry-After": "1" }]];
  sdk.enqueue("errors", "{}");
  await page.advance(15_000);
  assert.equal(page.requests.length, 16);
});

test("sending stops after ten consecutive failures", async () => {
  page.responses = ["unreachable"];
  sdk.enqueue("errors", "{}");
  await page.advance(3_600_000);
  assert.equal(page.requests.length, 10);
  assert.deepEqual(requestTimes(), [0, 1, 3, 7, 15, 31, 63, 123, 183, 243]);
});

for (const status of [401, 403, 404]) {
  test(`${status} stops sending immediately and removes the SDK from the page`, async () => {
    const wrapped = globalThis.fetch;
    page.responses = [status];
    sdk.enqueue("errors", "1");
    sdk.enqueue("errors", "2");
    await page.advance(100_000);
    assert.equal(page.requests.length, 1);
    assert.notEqual(globalThis.fetch, wrapped);
  });
}

for (const status of [400, 413, 422]) {
  test(`${status} drops one request and counts it`, async () => {
    page.responses = [status, 201];
    sdk.enqueue("errors", "1");
    sdk.enqueue("errors", "2");
    await page.advance(6_000);
    assert.deepEqual(
      page.requests.slice(0, 2).map(({ body }) => body),
      ["1", "2"],
    );
    const [dropped] = page.metrics();
    assert.equal(dropped?.name, "browser_events_dropped_total");
    assert.equal(dropped.labels?.reason, "refused");
  });
}

test("the queue holds thirty requests and evicts the oldest one after the first ten that wait", async () => {
  page.responses = ["never"];
  for (let i = 0; i < 40; i++) sdk.enqueue("errors", `${i}`);
  page.hide();
  const bodies = page.beacons.map(({ body }) => body.content);
  assert.equal(page.requests[0]?.body, "0");
  // The last one counts the evicted requests, and has itself evicted one.
  assert.deepEqual(bodies.slice(8, 13), ["9", "10", "22", "23", "24"]);
  assert.equal(bodies.length, 29);
  assert.match(bodies.at(-1) ?? "", /"queue"/);
});

test("one request is in flight at a time, and hiding the page sends the others as beacons", async () => {
  page.responses = ["never"];
  sdk.enqueue("errors", "1");
  sdk.enqueue("errors", "2");
  await page.advance(0);
  assert.equal(page.requests.length, 1);
  page.hide();
  const [beacon] = page.beacons;
  assert.equal(page.beacons.length, 1);
  assert.ok(beacon);
  assert.equal(beacon.url, `https://relay.example/api/browser/errors?key=${CONFIG.dsn}`);
  assert.equal(beacon.body.content, "2");
  assert.equal(beacon.body.type, "application/json");
});

test("hiding the page retries a failed request as a beacon with its idempotency key", async () => {
  page.responses = [503];
  sdk.enqueue("errors", '{"a":1}');
  await page.advance(0);
  page.hide();
  const [beacon] = page.beacons;
  assert.equal(beacon?.body.content, '{"a":1}');
  assert.ok(beacon.body.idempotencyKey);
  assert.equal(beacon.body.idempotencyKey, idempotencyKeys()[0]);
  await page.advance(60_000);
  assert.equal(page.requests.length, 1);
});

test("requests above the browsers' limit are sent without keepalive", async () => {
  for (const size of [60_000, 60_001]) sdk.enqueue("errors", "x".repeat(size));
  await page.advance(0);
  assert.deepEqual(
    page.requests.map(({ keepalive }) => keepalive),
    [true, false],
  );
});

test("hiding the page sends buffered metrics as a beacon", async () => {
  sdk.incrementCounter("clicks", {});
  page.hide();
  await page.advance(0);
  assert.deepEqual([page.requests.length, page.beacons.length], [0, 1]);
  assert.match(page.beacons[0]?.body.content ?? "", /"clicks"/);
});

test("a browser without sendBeacon sends the whole queue when the page is hidden", async () => {
  page.responses = ["never"];
  Object.assign(navigator, { sendBeacon: undefined });
  for (const body of ["1", "2", "3"]) sdk.enqueue("errors", body);
  page.hide();
  await page.advance(0);
  assert.deepEqual(
    page.requests.map(({ body }) => body),
    ["1", "2", "3"],
  );
});

test("a policy that forbids the relay stops sending", async () => {
  page.responses = ["unreachable"];
  sdk.enqueue("errors", "1");
  await page.advance(0);
  page.fire("securitypolicyviolation", {
    blockedURI: "https://relay.example/api/browser/errors",
    disposition: "enforce",
  });
  await page.advance(60_000);
  assert.equal(page.requests.length, 1);
});

test("debug logs what the relay rejects or repairs, and why", async () => {
  sdk.init({ ...CONFIG, sampleRate: 0, debug: true });
  page.responses = [
    201,
    [201, {}, '{"status":"created","adjusted":["release"]}'],
    [400, {}, `{"detail":"Field 'message' is required"}`],
    [401, {}, '{"detail":"Unknown public key"}'],
  ];
  for (const body of ["1", "2", "3", "4"]) sdk.enqueue("errors", body);
  await page.advance(0);
  const url = "https://relay.example/api/browser/errors";
  const warnings = page.warnings.map((details) => details.map((detail) => `${detail}`.replace(/\?key=.*/, "")));
  assert.deepEqual(warnings, [
    ["[Monlight]", url, "201", ""],
    ["[Monlight]", url, "201", '{"status":"created","adjusted":["release"]}'],
    ["[Monlight]", url, "400", `{"detail":"Field 'message' is required"}`],
    ["[Monlight]", url, "401", '{"detail":"Unknown public key"}'],
    ["[Monlight]", "stopped:", "401"],
  ]);
});

test("a beacon that the browser refuses is sent as a request at once and retried", async () => {
  page.responses = ["unreachable", 503, 201];
  Object.assign(navigator, { sendBeacon: () => false });
  sdk.enqueue("errors", "{}");
  await page.advance(0);
  page.hide();
  await page.advance(10_000);
  assert.equal(requestTimes()[1], 0);
  assert.equal(page.requests.length, 3);
  assert.equal(new Set(idempotencyKeys()).size, 1);
});

test("metrics are buffered for five seconds and counters are summed", async () => {
  for (let i = 0; i < 3; i++) sdk.incrementCounter("clicks", { button: "pay" });
  sdk.incrementCounter("clicks", { button: "back" });
  sdk.addPoint("wait", 1.234567, { button: "pay" });
  await page.advance(4_900);
  assert.equal(page.requests.length, 0);
  await page.advance(200);
  const labels = { page: "/cart", session_id: sessionStorage.monlight_session_id };
  const timestamp = "2026-01-31T00:00:00.000Z";
  assert.deepEqual(page.metrics(), [
    { name: "clicks", type: "counter", value: 3, labels: { ...labels, button: "pay" }, timestamp },
    { name: "clicks", type: "counter", value: 1, labels: { ...labels, button: "back" }, timestamp },
    { name: "wait", type: "histogram", value: 1.2346, labels: { ...labels, button: "pay" }, timestamp },
  ]);
  assert.equal(page.requests.length, 1);
});

test("metrics carry the environment and the release", async () => {
  for (const config of [{}, { environment: "staging", release: 142 as never }]) {
    sdk.init({ ...CONFIG, sampleRate: 0, ...config });
    sdk.incrementCounter("clicks", {});
    await page.advance(5_000);
  }
  assert.deepEqual(
    page.requests.map(({ body }) => ({ ...JSON.parse(body), metrics: [] })),
    [
      { metrics: [], environment: "prod" },
      { metrics: [], environment: "staging", release: 142 },
    ],
  );
});

test("batches have at most 60,000 bytes and contain every point", async () => {
  for (let i = 0; i < 1_000; i++) sdk.addPoint("wait", i, { text: "€".repeat(i % 100) });
  sdk.flushMetrics();
  await page.advance(0);
  const sizes = page.requests.map(({ body }) => Buffer.byteLength(body));
  assert.ok(
    sizes.every((size) => size <= 60_000),
    `${sizes}`,
  );
  assert.deepEqual(
    page.metrics().map(({ value }) => value),
    Array.from({ length: 1_000 }, (_, i) => i),
  );
});

test("dropped events are counted by reason", async () => {
  sdk.countDropped("limit");
  sdk.countDropped("limit");
  await page.advance(5_000);
  assert.deepEqual(
    page.metrics().map(({ value, labels }) => [labels?.reason, value]),
    [["limit", 2]],
  );
});

test("toJson replaces NUL and unpaired surrogates", () => {
  const cases: [unknown, string][] = [
    ["a\0b", '"a\\ufffdb"'],
    ["\ud83d", '"\\ufffd"'],
    ["\ude00x", '"\\ufffdx"'],
    ["😀", '"😀"'],
    ["\\ud83d \\u0000", '"\\\\ud83d \\\\u0000"'],
    ['\u0001\n"\\', '"\\u0001\\n\\"\\\\"'],
  ];
  for (const [value, expected] of cases) {
    assert.equal(sdk.toJson(value), expected);
    JSON.parse(sdk.toJson(value));
  }
});
