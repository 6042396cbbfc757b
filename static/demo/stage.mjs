// The three services with an interface, with data, for whoever looks at them: pictures, measurements, tests.
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { service, until } from "../tests/harness.mjs";
import { fillCollector, fillTracker, fillViewer, SIZE, TAIL_BUFFER } from "./fill.mjs";

const NAMES = ["error-tracker", "log-viewer", "metrics-collector"];

/** A server on a port that was free, for alerts that go somewhere. */
function listener() {
  const server = createServer((request, response) => {
    request.resume();
    request.on("end", () => response.writeHead(200).end());
  });
  return new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(server)));
}

/** Ports that were free a moment ago: each service has to know the others'. */
export async function freePorts(count) {
  const servers = await Promise.all(Array.from({ length: count }, listener));
  const ports = servers.map((server) => server.address().port);
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}

/**
 * Starts and fills them. `views` are all there is to look at: a name, the service, the path in it, the whole URL, and what
 * is there once it can be used.
 *
 * @param {Partial<typeof SIZE>} [size]
 * @param {{ links?: (name: string, url: string) => string, env?: Record<string, string> }} [settings] where browsers find
 *   each service, and variables of all of them
 */
export async function stage(size, { links = (_name, url) => url, env: common = {} } = {}) {
  const wanted = { ...SIZE, ...size, now: Date.now() };
  const folder = mkdtempSync(join(tmpdir(), "monlight-stage-"));
  const containers = join(folder, "containers");
  mkdirSync(containers);
  const alerts = await listener();
  const ports = await freePorts(NAMES.length);
  const port = (name) => String(ports[NAMES.indexOf(name)]);
  const SERVICES = NAMES.map((name) => `${name}=${links(name, `http://127.0.0.1:${port(name)}`)}`).join(",");
  const begin = (name, env) => service(name, { SERVICES, PORT: port(name), ...common, ...env });
  const [tracker, viewer, collector] = await Promise.all([
    begin("error-tracker", {
      ALERT_WEBHOOK_URL: `http://127.0.0.1:${alerts.address().port}/`,
      ALERT_MAX_PER_HOUR: "1000",
    }),
    begin("log-viewer", { LOG_SOURCES: containers, TAIL_BUFFER, POLL_INTERVAL: "1" }),
    begin("metrics-collector", {
      MAX_POINT_AGE: String((wanted.days + 1) * 24),
      AGGREGATION_INTERVAL: "5",
      HOST_METRICS: "0",
    }),
  ]);
  await fillViewer(viewer.ask, containers, wanted);
  await fillTracker(tracker.ask, wanted);
  await fillCollector(collector.ask, wanted);
  const sent = Date.now();
  await until(async () => Date.parse((await collector.ask("GET", "/health")).last_aggregation) > sent, "a rollup");
  const { errors } = await tracker.ask("GET", "/api/errors?search=PaymentTimeout&limit=1");
  const search = await tracker.ask("GET", "/api/errors?search=Cannot+read+properties&limit=1");
  const { logs } = await viewer.ask("GET", "/api/logs?search=payment&limit=1");
  const views = [
    ["errors", tracker, ``, ".groups li"],
    ["error", tracker, `?id=${errors[0].id}`, ".trace"],
    ["error-in-a-browser", tracker, `?id=${search.errors[0].id}`, ".trace"],
    ["errors-search", tracker, `?search=timeout&resolved=all&sort=count`, ".groups li"],
    ["alerts", tracker, `?alerts=1`, "tbody tr"],
    ["logs", viewer, ``, ".lines .row:not(.waits)"],
    ["logs-search", viewer, `?search=payment&level=${encodeURIComponent(">=WARNING")}`, ".lines .row:not(.waits)"],
    ["logs-line", viewer, `?line=${logs[0].id}`, ".lines .row:not(.waits)"],
    ["metrics", collector, ``, ".chart canvas"],
    ["metrics-month", collector, `?period=30d`, ".chart canvas"],
    [
      "explore",
      collector,
      `?view=explore&metric=http_request_duration_seconds&type=histogram&group_by=endpoint`,
      ".chart canvas",
    ],
    ["vitals", collector, `?view=vitals&period=7d`, ".chart canvas"],
    ["top", collector, `?view=top`, ".figures"],
  ].map(([name, { url, name: service }, path, ready]) => ({ name, service, path, url: `${url}/${path}`, ready }));
  const stop = async () => {
    await Promise.all([tracker.stop(), viewer.stop(), collector.stop()]);
    alerts.close();
    rmSync(folder, { recursive: true });
  };
  return { tracker, viewer, collector, views, stop };
}
