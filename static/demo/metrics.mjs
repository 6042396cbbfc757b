// What the shop measures: requests, queues, its machine, and how its pages feel to visitors.
import { crowd, DAY_MS, ENDPOINTS, isTroubled, MINUTE_MS, PAGES, RELEASES } from "./shop.mjs";

/** Points come every minute for a day and every ten minutes before. */
const RECENT_MS = DAY_MS;
const STEP_BEFORE_MS = 10 * MINUTE_MS;
/** Requests in a second when everybody is there. */
const REQUESTS_PER_S = 42;
const OBSERVATIONS = 4;

/**
 * Points in the order of their time, as `POST /api/metrics` takes them.
 *
 * @param chance from dice.mjs
 * @param {{ now: number, days: number }} wanted
 */
export function* points(chance, { now, days }) {
  const first = now - days * DAY_MS;
  const live = RELEASES.filter(({ ago }) => ago < days * DAY_MS).map(({ release, ago }) => ({
    release,
    at: now - ago,
  }));
  let step = STEP_BEFORE_MS;
  for (let at = first; at <= now; at += step) {
    step = at < now - RECENT_MS ? STEP_BEFORE_MS : MINUTE_MS;
    while (live[0] && live[0].at <= at) {
      const { release, at: since } = live.shift();
      yield {
        name: "release_info",
        type: "gauge",
        value: 1,
        labels: { release },
        project: "shop",
        timestamp: new Date(since).toISOString(),
      };
    }
    const timestamp = new Date(at).toISOString();
    for (const [name, type, value, labels, project] of measured(chance, at, now - at, step)) {
      yield { name, type, value, labels, timestamp, ...(project === "" ? {} : { project: project ?? "shop" }) };
    }
  }
}

function* measured(chance, at, ago, step) {
  const people = crowd(at) * chance.between(0.92, 1.08);
  const troubled = isTroubled(ago);
  const requests = REQUESTS_PER_S * people * (step / 1_000);
  for (const { path, share, median_s } of ENDPOINTS) {
    const of = (requests * share) / 100;
    const slow = troubled && path === "/checkout/pay" ? 9 : troubled && path === "/checkout" ? 2 : 1;
    const method = path.startsWith("/checkout") ? "POST" : "GET";
    const failing = slow > 2 ? 0.31 : 0.002;
    const failed = Math.round(of * failing * chance.between(0.7, 1.3));
    const missing = path.includes("{") ? Math.round(of * 0.02) : 0;
    yield [
      "http_requests_total",
      "counter",
      Math.max(1, Math.round(of) - failed - missing),
      { method, endpoint: path, status: "200" },
    ];
    if (failed > 0) {
      yield ["http_requests_total", "counter", failed, { method, endpoint: path, status: slow > 2 ? "504" : "500" }];
    }
    if (missing > 0) {
      yield ["http_requests_total", "counter", missing, { method, endpoint: path, status: "404" }];
    }
    for (let observation = 0; observation < OBSERVATIONS; observation++) {
      const seconds = Math.min(10, chance.duration(median_s * slow * (0.8 + 0.4 * people), 0.55));
      yield ["http_request_duration_seconds", "histogram", Number(seconds.toFixed(4)), { method, endpoint: path }];
    }
  }
  yield [
    "orders_total",
    "counter",
    Math.round(requests * 0.012 * (troubled ? 0.6 : 1) * chance.between(0.8, 1.2)),
    { shop: chance.one(["east", "west"]) },
  ];
  yield [
    "queue_depth",
    "gauge",
    Math.round((troubled ? 90 : 12) * people * chance.between(0.5, 1.5)),
    { queue: "mail" },
    "worker",
  ];
  yield ["queue_depth", "gauge", Math.round(5 * people * chance.between(0, 2)), { queue: "invoices" }, "worker"];
  yield ["db_connections_in_use", "gauge", Math.round(4 + 20 * people * (troubled ? 1.6 : 1)), {}];
  yield ["cache_hit_ratio", "gauge", Number(chance.between(0.93, 0.98).toFixed(3)), {}];
  yield* machine(chance, people, ago, step);
  yield* visitors(chance, people, troubled);
}

function* machine(chance, people, ago, step) {
  const used = 0.46 + 0.1 * people;
  yield ["host_cpu_percent", "gauge", Number((8 + 38 * people * chance.between(0.8, 1.25)).toFixed(1)), {}, ""];
  yield ["host_load1", "gauge", Number((0.2 + 1.1 * people).toFixed(2)), {}, ""];
  yield ["host_memory_used_bytes", "gauge", Math.round(used * 2 ** 31), {}, ""];
  yield ["host_memory_total_bytes", "gauge", 2 ** 31, {}, ""];
  yield ["host_disk_used_bytes", "gauge", Math.round((0.61 - ago / DAY_MS / 400) * 40e9), {}, ""];
  yield ["host_disk_total_bytes", "gauge", 40e9, {}, ""];
  yield ["host_network_received_bytes", "counter", Math.round(people * 21_000 * (step / 1_000)), {}, ""];
  yield ["host_network_sent_bytes", "counter", Math.round(people * 160_000 * (step / 1_000)), {}, ""];
}

const VITALS = [
  ["web_vitals_lcp", 1_900, 0.45],
  ["web_vitals_inp", 130, 0.7],
  ["web_vitals_cls", 0.06, 1.1],
  ["web_vitals_fcp", 1_200, 0.4],
  ["web_vitals_ttfb", 420, 0.6],
];

function* visitors(chance, people, troubled) {
  const views = Math.max(1, Math.round(3 * people));
  for (let view = 0; view < views; view++) {
    const page = chance.weighed([
      [8, PAGES[0]],
      [5, PAGES[1]],
      [4, PAGES[2]],
      [3, PAGES[3]],
      [2, PAGES[4]],
      [1, PAGES[5]],
    ]);
    const heavy = page === "/checkout" ? (troubled ? 2.4 : 1.3) : 1;
    for (const [name, median, spread] of VITALS) {
      const value = chance.duration(median * heavy, spread);
      yield [name, "histogram", Number(value.toFixed(name.endsWith("cls") ? 4 : 0)), { source: "browser", page }];
    }
  }
}
