// Metrics of the shop: requests, queues, the host, and Web Vitals.
import { DAY_MS, ENDPOINTS, isPaymentOutage, MINUTE_MS, PAGES, RELEASES, trafficLevel } from "./shop.mjs";

/** Period with one point per minute. Older points are ten minutes apart. */
const RECENT_MS = DAY_MS;
const OLD_INTERVAL_MS = 10 * MINUTE_MS;
/** Requests per second at peak traffic. */
const PEAK_REQUESTS_PER_S = 42;
/** Latency observations per endpoint and interval. */
const OBSERVATIONS = 4;
/** Page views per interval at peak traffic. */
const PEAK_PAGE_VIEWS = 3;

/**
 * Generates points for `POST /api/metrics`, in chronological order.
 *
 * @param {ReturnType<typeof import("./rng.mjs").createRng>} rng
 * @param {{ now: number, days: number }} size `now` is a Unix time in milliseconds
 */
export function* generatePoints(rng, { now, days }) {
  const first = now - days * DAY_MS;
  const deployments = RELEASES.filter(({ ageMs }) => ageMs < days * DAY_MS).map(({ release, ageMs }) => ({
    release,
    deployedAt: now - ageMs,
  }));
  let intervalMs = OLD_INTERVAL_MS;
  for (let timestampMs = first; timestampMs <= now; timestampMs += intervalMs) {
    intervalMs = timestampMs < now - RECENT_MS ? OLD_INTERVAL_MS : MINUTE_MS;
    while (deployments[0] && deployments[0].deployedAt <= timestampMs) {
      const { release, deployedAt } = deployments.shift();
      yield {
        name: "release_info",
        type: "gauge",
        value: 1,
        labels: { release },
        project: "shop",
        timestamp: new Date(deployedAt).toISOString(),
      };
    }
    const timestamp = new Date(timestampMs).toISOString();
    for (const [name, type, value, labels, project] of pointsAt(rng, timestampMs, now - timestampMs, intervalMs)) {
      yield { name, type, value, labels, timestamp, ...(project === "" ? {} : { project: project ?? "shop" }) };
    }
  }
}

/** Generates the points of one interval as arrays of name, type, value, labels and project (default "shop"). */
function* pointsAt(rng, timestampMs, ageMs, intervalMs) {
  const traffic = trafficLevel(timestampMs) * rng.between(0.92, 1.08);
  const outage = isPaymentOutage(ageMs);
  const requests = PEAK_REQUESTS_PER_S * traffic * (intervalMs / 1_000);
  for (const { path, percent, medianS } of ENDPOINTS) {
    const endpointRequests = (requests * percent) / 100;
    const slowdown = outage && path === "/checkout/pay" ? 9 : outage && path === "/checkout" ? 2 : 1;
    const method = path.startsWith("/checkout") ? "POST" : "GET";
    const failureRate = slowdown > 2 ? 0.31 : 0.002;
    const failed = Math.round(endpointRequests * failureRate * rng.between(0.7, 1.3));
    const notFound = path.includes("{") ? Math.round(endpointRequests * 0.02) : 0;
    yield [
      "http_requests_total",
      "counter",
      Math.max(1, Math.round(endpointRequests) - failed - notFound),
      { method, endpoint: path, status: "200" },
    ];
    if (failed > 0) {
      yield [
        "http_requests_total",
        "counter",
        failed,
        { method, endpoint: path, status: slowdown > 2 ? "504" : "500" },
      ];
    }
    if (notFound > 0) {
      yield ["http_requests_total", "counter", notFound, { method, endpoint: path, status: "404" }];
    }
    for (let observation = 0; observation < OBSERVATIONS; observation++) {
      const seconds = Math.min(10, rng.logNormal(medianS * slowdown * (0.8 + 0.4 * traffic), 0.55));
      yield ["http_request_duration_seconds", "histogram", Number(seconds.toFixed(4)), { method, endpoint: path }];
    }
  }
  yield [
    "orders_total",
    "counter",
    Math.round(requests * 0.012 * (outage ? 0.6 : 1) * rng.between(0.8, 1.2)),
    { shop: rng.pick(["east", "west"]) },
  ];
  yield [
    "queue_depth",
    "gauge",
    Math.round((outage ? 90 : 12) * traffic * rng.between(0.5, 1.5)),
    { queue: "mail" },
    "worker",
  ];
  yield ["queue_depth", "gauge", Math.round(5 * traffic * rng.between(0, 2)), { queue: "invoices" }, "worker"];
  yield ["db_connections_in_use", "gauge", Math.round(4 + 20 * traffic * (outage ? 1.6 : 1)), {}];
  yield ["cache_hit_ratio", "gauge", Number(rng.between(0.93, 0.98).toFixed(3)), {}];
  yield* hostPoints(rng, traffic, ageMs, intervalMs);
  yield* webVitalPoints(rng, traffic, outage);
}

function* hostPoints(rng, traffic, ageMs, intervalMs) {
  const memoryUsage = 0.46 + 0.1 * traffic;
  yield ["host_cpu_percent", "gauge", Number((8 + 38 * traffic * rng.between(0.8, 1.25)).toFixed(1)), {}, ""];
  yield ["host_load1", "gauge", Number((0.2 + 1.1 * traffic).toFixed(2)), {}, ""];
  yield ["host_memory_used_bytes", "gauge", Math.round(memoryUsage * 2 ** 31), {}, ""];
  yield ["host_memory_total_bytes", "gauge", 2 ** 31, {}, ""];
  yield ["host_disk_used_bytes", "gauge", Math.round((0.61 - ageMs / DAY_MS / 400) * 40e9), {}, ""];
  yield ["host_disk_total_bytes", "gauge", 40e9, {}, ""];
  yield ["host_network_received_bytes", "counter", Math.round(traffic * 21_000 * (intervalMs / 1_000)), {}, ""];
  yield ["host_network_sent_bytes", "counter", Math.round(traffic * 160_000 * (intervalMs / 1_000)), {}, ""];
}

/** Names, medians and log-normal sigmas. */
const VITALS = [
  ["web_vitals_lcp", 1_900, 0.45],
  ["web_vitals_inp", 130, 0.7],
  ["web_vitals_cls", 0.06, 1.1],
  ["web_vitals_fcp", 1_200, 0.4],
  ["web_vitals_ttfb", 420, 0.6],
];

function* webVitalPoints(rng, traffic, outage) {
  const pageViews = Math.max(1, Math.round(PEAK_PAGE_VIEWS * traffic));
  for (let view = 0; view < pageViews; view++) {
    const page = rng.pickWeighted([
      [8, PAGES[0]],
      [5, PAGES[1]],
      [4, PAGES[2]],
      [3, PAGES[3]],
      [2, PAGES[4]],
      [1, PAGES[5]],
    ]);
    const slowdown = page === "/checkout" ? (outage ? 2.4 : 1.3) : 1;
    for (const [name, median, sigma] of VITALS) {
      const value = rng.logNormal(median * slowdown, sigma);
      yield [name, "histogram", Number(value.toFixed(name.endsWith("cls") ? 4 : 0)), { source: "browser", page }];
    }
  }
}
