import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, mock, test } from "node:test";
import { LogFeed, TAIL_RETRY_MS } from "../../log-viewer/feed.ts";

const NEWEST = Date.parse("2026-01-01T00:00:10Z");

/** Returns the entry with this number. A higher number is a newer entry; there are ten per second. */
const entry = (id) => ({ id, timestamp: new Date(NEWEST + id * 100).toISOString(), message: `line ${id}` });

/** Fake service with the entries 1 to `count`, and the requests that it has received. */
let service;
let feeds;

class FakeEventSource extends EventTarget {
  static CLOSED = 2;
  readyState = 0;

  constructor(url) {
    super();
    this.url = url;
    service.sources.push(this);
  }

  close() {
    this.readyState = FakeEventSource.CLOSED;
  }

  emit(type, data) {
    this.dispatchEvent(Object.assign(new Event(type), { data: data && JSON.stringify(data) }));
  }
}

function respond(url) {
  const parameters = new URL(url, "http://service/").searchParams;
  const [since, until] = ["since", "until"].map((name) => parameters.get(name) && Date.parse(parameters.get(name)));
  const offset = Number(parameters.get("offset") ?? 0);
  const maxId = Number(parameters.get("max_id") ?? Number.MAX_SAFE_INTEGER);
  const stored = Array.from({ length: service.count }, (_, index) => entry(service.count - index));
  const all = [...stored, ...(service.late ?? [])]
    .sort((a, b) => b.id - a.id)
    .filter(({ id, timestamp }) => {
      const time = Date.parse(timestamp);
      return (since === null || time >= since) && (until === null || time <= until) && id <= maxId;
    });
  return { logs: all.slice(offset, offset + Number(parameters.get("limit"))), total: all.length };
}

/** Opens a feed of a service with a number of entries. */
async function openFeed(count, filters = {}) {
  service.count = count;
  const feed = new LogFeed(filters, () => {
    feed.renders += 1;
  });
  feed.renders = 0;
  feeds.push(feed);
  await feed.open();
  return feed;
}

/** Runs pending promises and the delayed rendering. */
async function render() {
  for (let i = 0; i < 20; i++) {
    await Promise.resolve();
  }
  await new Promise(setImmediate);
  mock.timers.tick(100);
  await new Promise(setImmediate);
}

/** Stores new entries and sends them through the live tail. */
function append(...ids) {
  service.count = Math.max(service.count, ...ids);
  for (const id of ids) {
    service.sources.at(-1).emit("log", entry(id));
  }
}

const idsAt = (feed, indexes) => indexes.map((index) => feed.at(index)?.id);
const queryOf = (url) => Object.fromEntries(new URL(url, "http://service/").searchParams);

describe("the feed of log lines", () => {
  beforeEach(() => {
    service = { count: 0, requests: [], sources: [], error: undefined, partial: false };
    feeds = [];
    mock.timers.enable({ apis: ["setTimeout"] });
    mock.method(globalThis, "fetch", async (url, init) => {
      init.signal?.throwIfAborted();
      service.requests.push(url);
      return service.error
        ? Response.json({ detail: service.error }, { status: 503 })
        : Response.json({ ...respond(url), ...(service.partial ? { partial: true } : {}) });
    });
    globalThis.EventSource = FakeEventSource;
  });

  afterEach(() => {
    for (const feed of feeds) {
      feed.close();
    }
    delete globalThis.EventSource;
    mock.timers.reset();
    mock.restoreAll();
  });

  test("a feed without entries is ready and empty", async () => {
    const feed = await openFeed(0);
    assert.deepEqual([feed.isReady, feed.count, feed.at(0), feed.error], [true, 0, undefined, undefined]);
    await feed.loadRange(0, 10);
    assert.deepEqual(service.requests, ["api/logs?limit=200"]);
  });

  test("pages behind the head are loaded on demand and only once", async () => {
    const feed = await openFeed(1_000);
    assert.deepEqual([feed.count, feed.headCount], [1_000, 200]);
    assert.deepEqual(idsAt(feed, [0, 199, 200]), [1_000, 801, undefined]);
    await feed.loadRange(150, 450);
    assert.deepEqual(idsAt(feed, [199, 200, 398, 399, 450]), [801, 800, 602, 601, 550]);
    assert.deepEqual(idsAt(feed, [999]), [undefined]);
    const count = service.requests.length;
    await feed.loadRange(150, 450);
    assert.equal(service.requests.length, count);
    await feed.loadRange(990, 5_000);
    assert.deepEqual(idsAt(feed, [990, 999, 1_000]), [10, 1, undefined]);
    assert.equal(feed.count, 1_000);
  });

  test("the base starts with the head's last entry", async () => {
    const feed = await openFeed(400);
    await feed.loadRange(200, 201);
    assert.deepEqual(queryOf(service.requests[1]), { max_id: "201", limit: "200", offset: "0" });
    assert.deepEqual(idsAt(feed, [199, 200, 399]), [201, 200, undefined]);
  });

  test("an entry that arrives late is on the page of its time", async () => {
    const feed = await openFeed(600);
    await feed.loadRange(200, 599);
    service.late = [entry(350.5)];
    service.sources[0].emit("log", entry(350.5));
    await render();
    assert.deepEqual([feed.headCount, feed.count], [200, 601]);
    await feed.loadRange(200, 600);
    assert.deepEqual(idsAt(feed, [199, 200, 249, 250, 251, 600]), [401, 400, 351, 350.5, 350, 1]);
  });

  test("only the most recent pages stay in memory", async () => {
    const feed = await openFeed(10_000);
    for (let index = 200; index < 10_000; index += 200) {
      await feed.loadRange(index, index);
    }
    assert.deepEqual(idsAt(feed, [200, 9_700]), [undefined, 300]);
    await feed.loadRange(200, 200);
    assert.deepEqual(idsAt(feed, [200]), [9_800]);
  });

  test("new entries come first, in order and without duplicates", async () => {
    const feed = await openFeed(3);
    service.sources[0].emit("open");
    append(5, 4, 5, 3);
    await render();
    assert.equal(feed.tail, "live");
    assert.deepEqual(idsAt(feed, [0, 1, 2, 3, 4, 5]), [5, 4, 3, 2, 1, undefined]);
    assert.deepEqual([feed.count, feed.pendingCount], [5, 0]);
  });

  test("a paused feed counts new entries and shows them later", async () => {
    const feed = await openFeed(2);
    feed.isPaused = true;
    append(3, 4);
    await render();
    assert.deepEqual([feed.pendingCount, feed.count, feed.at(0)?.id], [2, 2, 2]);
    feed.showPending();
    assert.deepEqual([feed.pendingCount, feed.count, feed.at(0)?.id], [0, 4, 4]);
  });

  test("a feed loads everything again if not all pending entries are in memory", async () => {
    const feed = await openFeed(1);
    feed.isPaused = true;
    append(...Array.from({ length: 2_001 }, (_, index) => index + 2));
    await render();
    assert.equal(feed.pendingCount, 2_001);
    const requests = service.requests.length;
    const { generation } = feed;
    feed.showPending();
    await render();
    assert.deepEqual([feed.count, feed.headCount, feed.at(0)?.id, feed.pendingCount], [2_002, 200, 2_002, 0]);
    assert.equal(feed.generation, generation + 1);
    assert.equal(service.requests.length, requests + 1);
  });

  test("a head that has grown too long becomes a page again", async () => {
    const feed = await openFeed(1_000);
    append(...Array.from({ length: 1_801 }, (_, index) => index + 1_001));
    await render();
    assert.deepEqual([feed.headCount, feed.count, feed.at(0)?.id], [200, 2_801, 2_801]);
    await feed.loadRange(200, 200);
    assert.deepEqual(idsAt(feed, [199, 200]), [2_602, 2_601]);
  });

  test("entries stored before the tail was opened are loaded", async () => {
    const feed = await openFeed(2);
    service.count = 4;
    service.sources[0].emit("open");
    await render();
    assert.deepEqual(queryOf(service.requests[1]), { since: entry(2).timestamp, limit: "200" });
    assert.deepEqual(idsAt(feed, [0, 1, 2, 3, 4]), [4, 3, 2, 1, undefined]);
  });

  test("entries after the newest pending one are loaded when a tail is open again", async () => {
    const feed = await openFeed(2);
    feed.isPaused = true;
    append(3, 4);
    service.sources[0].emit("open");
    await render();
    assert.deepEqual(queryOf(service.requests[1]), { since: entry(4).timestamp, limit: "200" });
    assert.equal(feed.pendingCount, 2);
  });

  test("more missed entries than a page are loaded from the start", async () => {
    const feed = await openFeed(2);
    service.count = 500;
    service.sources[0].emit("open");
    await render();
    await render();
    assert.deepEqual([feed.count, feed.headCount, feed.at(0)?.id, feed.at(199)?.id], [500, 200, 500, 301]);
  });

  test("the tail has the filters except for the start, and is off if they have an end", async () => {
    await openFeed(1, { search: "a b", since: "2026-01-01T00:00:00Z" });
    assert.equal(service.sources[0].url, "api/logs/tail?search=a+b");
    const ended = await openFeed(1, { until: "2026-01-01T00:00:20Z" });
    assert.equal(ended.tail, "off");
    assert.equal(service.sources.length, 1);
  });

  test("a rejected tail shows the reason and is opened again later", async () => {
    const feed = await openFeed(1);
    service.sources[0].close();
    service.error = "Too many streams";
    service.sources[0].emit("error");
    await render();
    assert.deepEqual([feed.tail, feed.tailError?.message], ["rejected", "Too many streams"]);
    service.error = undefined;
    mock.timers.tick(TAIL_RETRY_MS);
    assert.equal(service.sources.length, 2);
    assert.equal(feed.tail, "connecting");
    service.sources[1].emit("open");
    assert.deepEqual([feed.tail, feed.tailError], ["live", undefined]);
  });

  test("an interrupted tail reconnects by itself", async () => {
    const feed = await openFeed(1);
    service.sources[0].emit("open");
    service.sources[0].emit("error");
    await render();
    assert.deepEqual([feed.tail, service.sources.length], ["connecting", 1]);
  });

  test("after an error, the feed can be opened again", async () => {
    service.error = "The database is busy";
    const feed = await openFeed(2);
    assert.deepEqual([feed.isReady, feed.error?.message], [false, "The database is busy"]);
    service.error = undefined;
    feed.retry();
    await render();
    assert.deepEqual([feed.isReady, feed.error, feed.count], [true, undefined, 2]);
  });

  test("an error of a page keeps the entries that are loaded", async () => {
    const feed = await openFeed(500);
    service.error = "The database is busy";
    await feed.loadRange(200, 300);
    assert.equal(feed.error?.message, "The database is busy");
    assert.deepEqual(idsAt(feed, [0, 200]), [500, undefined]);
    service.error = undefined;
    feed.retry();
    await feed.loadRange(200, 300);
    assert.deepEqual([feed.error, feed.at(200)?.id], [undefined, 300]);
  });

  test("a search that timed out is marked as partial", async () => {
    service.partial = true;
    const feed = await openFeed(2);
    assert.equal(feed.isPartial, true);
  });

  test("a closed feed ignores responses and opens no tail", async () => {
    service.count = 1;
    const feed = new LogFeed({}, () => {});
    const opened = feed.open();
    feed.close();
    await opened;
    assert.deepEqual([feed.error, service.sources.length], [undefined, 0]);

    const loaded = await openFeed(500);
    loaded.close();
    await loaded.loadRange(200, 300);
    assert.deepEqual([loaded.error, loaded.at(200)], [undefined, undefined]);
  });
});
