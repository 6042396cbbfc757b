// Fills running services with the demo data through their ingest APIs.
import { generateReports, RESOLVED_TYPES } from "./errors.mjs";
import { writeContainers } from "./logs.mjs";
import { generatePoints } from "./metrics.mjs";
import { createRng } from "./rng.mjs";

const SEED = 20_261_122;
const POINTS_PER_BATCH = 1_000;
const CONCURRENT_REQUESTS = 8;
const INGEST_TIMEOUT_MS = 60_000;
const POLL_INTERVAL_MS = 50;

/** Default amount of data, which is also the amount used for the figures in docs/interfaces.md. */
export const DEFAULT_SIZE = { days: 30, groups: 10_000, lines: 100_000 };

/**
 * Sends reports to an error tracker, then resolves the groups that are resolved in the scenario.
 *
 * @param {(method: string, path: string, body?: object) => Promise<any>} request sends a request with an unrestricted
 *   API key and returns the response's JSON
 * @param {{ now: number, days?: number, groups?: number }} size `now` is a Unix time in milliseconds
 * @param {(done: number, total: number) => void} [onProgress]
 */
export async function fillTracker(
  request,
  { now, days = DEFAULT_SIZE.days, groups = DEFAULT_SIZE.groups },
  onProgress = () => {},
) {
  const reports = generateReports(createRng(SEED), { now, days, groups });
  let done = 0;
  await forEachConcurrently(reports, async (report) => {
    await request("POST", "/api/errors", report);
    onProgress(++done, reports.length);
  });
  for (const type of RESOLVED_TYPES) {
    const { errors } = await request("GET", `/api/errors?search=${encodeURIComponent(type)}`);
    for (const { id } of errors.filter(({ exception_type }) => exception_type === type)) {
      await request("POST", `/api/errors/${id}/resolve`);
    }
  }
}

/**
 * Sends points to a metrics collector. Its `MAX_POINT_AGE` must cover `days`.
 *
 * @param {(method: string, path: string, body?: object) => Promise<any>} request see `fillTracker`
 * @param {{ now: number, days?: number }} size
 * @param {(done: number, total: number) => void} [onProgress]
 */
export async function fillCollector(request, { now, days = DEFAULT_SIZE.days }, onProgress = () => {}) {
  const points = [...generatePoints(createRng(SEED), { now, days })];
  let done = 0;
  // Batches are sent in order, because the last point of a gauge wins and adjacent batches can share a timestamp.
  for (let first = 0; first < points.length; first += POINTS_PER_BATCH) {
    const batch = points.slice(first, first + POINTS_PER_BATCH);
    await request("POST", "/api/metrics", batch);
    done += batch.length;
    onProgress(done, points.length);
  }
}

/** `TAIL_BUFFER` that lets a log viewer read a new log file of any demo size completely, in bytes. */
export const TAIL_BUFFER = String(256 * 1024 * 1024);

/**
 * Writes container logs into a folder and waits until a log viewer has ingested them. The viewer must run with this
 * folder in `LOG_SOURCES` and with the `TAIL_BUFFER` above.
 *
 * @param {(method: string, path: string, body?: object) => Promise<any>} request see `fillTracker`
 * @param {string} folder
 * @param {{ now: number, lines?: number }} size
 * @param {(done: number, total: number) => void} [onProgress]
 */
export async function fillViewer(request, folder, { now, lines = DEFAULT_SIZE.lines }, onProgress = () => {}) {
  const lastTimestamps = writeContainers(createRng(SEED), { now, lines, folder });
  const deadline = Date.now() + INGEST_TIMEOUT_MS;
  for (const [container, lastTimestamp] of lastTimestamps) {
    const isIngested = async () => {
      const { logs } = await request("GET", `/api/logs?container=${container}&limit=1`);
      return Date.parse(logs[0]?.timestamp) >= Math.floor(lastTimestamp);
    };
    while (!(await isIngested())) {
      if (Date.now() > deadline) {
        throw new Error(`the log viewer failed to ingest all lines of ${container} within ${INGEST_TIMEOUT_MS} ms`);
      }
      await new Promise((resolve) => setTimeout(resolve, POLL_INTERVAL_MS));
    }
  }
  onProgress(lines, lines);
}

async function forEachConcurrently(items, action) {
  const iterator = items[Symbol.iterator]();
  const worker = async () => {
    // All workers share the iterator.
    for (const item of iterator) {
      await action(item);
    }
  };
  await Promise.all(Array.from({ length: CONCURRENT_REQUESTS }, worker));
}
