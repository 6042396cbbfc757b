// Running services filled with the demo data, for screenshots, measurements and tests.
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { service, until } from "../tests/harness.mjs";
import { DEFAULT_SIZE, fillCollector, fillTracker, fillViewer, TAIL_BUFFER } from "./fill.mjs";

const NAMES = ["error-tracker", "log-viewer", "metrics-collector"];

/** Starts an HTTP server on a free port that responds to every request with 200. Serves as the alert webhook. */
function startWebhook() {
  const server = createServer((request, response) => {
    request.resume();
    request.on("end", () => response.writeHead(200).end());
  });
  return new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(server)));
}

/**
 * Returns free ports. The ports are chosen before the services start, because each service needs the URLs of the
 * others.
 */
export async function freePorts(count) {
  const servers = await Promise.all(Array.from({ length: count }, startWebhook));
  const ports = servers.map((server) => server.address().port);
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}

/**
 * Starts the three services that have a web UI and fills them with demo data. The returned `views` list every view of
 * the web UIs: its name, its title, its service, its path in the service, its URL, and a selector that matches when the
 * view is usable.
 *
 * @param {Partial<typeof DEFAULT_SIZE>} [size]
 * @param {{ links?: (name: string, url: string) => string, env?: Record<string, string> }} [options] `links` returns
 *   the public URL of a service, `env` contains environment variables for all services
 */
export async function startDemoServices(size, { links = (_name, url) => url, env: commonEnv = {} } = {}) {
  const demoSize = { ...DEFAULT_SIZE, ...size, now: Date.now() };
  const folder = mkdtempSync(join(tmpdir(), "monlight-demo-"));
  const containers = join(folder, "containers");
  mkdirSync(containers);
  const webhook = await startWebhook();
  const ports = await freePorts(NAMES.length);
  const port = (name) => String(ports[NAMES.indexOf(name)]);
  const SERVICES = NAMES.map((name) => `${name}=${links(name, `http://127.0.0.1:${port(name)}`)}`).join(",");
  const start = (name, env) => service(name, { SERVICES, PORT: port(name), ...commonEnv, ...env });
  const [tracker, viewer, collector] = await Promise.all([
    start("error-tracker", {
      ALERT_WEBHOOK_URL: `http://127.0.0.1:${webhook.address().port}/`,
      ALERT_MAX_PER_HOUR: "1000",
    }),
    start("log-viewer", { LOG_SOURCES: containers, TAIL_BUFFER, POLL_INTERVAL: "1" }),
    start("metrics-collector", {
      MAX_POINT_AGE: String((demoSize.days + 1) * 24),
      AGGREGATION_INTERVAL: "5",
      HOST_METRICS: "0",
    }),
  ]);
  await fillViewer(viewer.ask, containers, demoSize);
  await fillTracker(tracker.ask, demoSize);
  await fillCollector(collector.ask, demoSize);
  const filledAt = Date.now();
  await until(async () => Date.parse((await collector.ask("GET", "/health")).last_aggregation) > filledAt, "a rollup");
  const { errors } = await tracker.ask("GET", "/api/errors?search=PaymentTimeout&limit=1");
  const browserErrors = await tracker.ask("GET", "/api/errors?search=Cannot+read+properties&limit=1");
  const { logs } = await viewer.ask("GET", "/api/logs?search=payment&limit=1");
  const views = [
    ["errors", "List of errors", tracker, ``, ".groups li"],
    ["error", "Error", tracker, `?id=${errors[0].id}`, ".trace"],
    ["error-in-a-browser", "Error in a browser", tracker, `?id=${browserErrors.errors[0].id}`, ".trace"],
    ["errors-search", "Error search", tracker, `?search=timeout&resolved=all&sort=count`, ".groups li"],
    ["alerts", "Alerts", tracker, `?alerts=1`, "tbody tr"],
    ["logs", "Logs", viewer, ``, ".lines .row:not(.waits)"],
    [
      "logs-search",
      "Log search",
      viewer,
      `?search=payment&level=${encodeURIComponent(">=WARNING")}`,
      ".lines .row:not(.waits)",
    ],
    ["logs-line", "Log entry with context", viewer, `?line=${logs[0].id}`, ".lines .row:not(.waits)"],
    ["metrics", "Metrics of 24 hours", collector, ``, ".chart canvas"],
    ["metrics-month", "Metrics of 30 days", collector, `?period=30d`, ".chart canvas"],
    [
      "explore",
      "Metric explorer",
      collector,
      `?view=explore&metric=http_request_duration_seconds&type=histogram&group_by=endpoint`,
      ".chart canvas",
    ],
    ["vitals", "Web Vitals", collector, `?view=vitals&period=7d`, ".chart canvas"],
    ["top", "Top metrics", collector, `?view=top`, ".figures"],
  ].map(([name, title, { url, name: service }, path, ready]) => ({
    name,
    title,
    service,
    path,
    url: `${url}/${path}`,
    ready,
  }));
  const stop = async () => {
    await Promise.all([tracker.stop(), viewer.stop(), collector.stop()]);
    webhook.close();
    rmSync(folder, { recursive: true });
  };
  return { tracker, viewer, collector, views, stop };
}
