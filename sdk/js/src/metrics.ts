/** Metrics buffer. Collects points for `FLUSH_DELAY_MS`, so that one request carries many of them. */

import { defer } from "./instrumentation";
import { sessionId } from "./session";
import { BODY_MAX_BYTES, byteLength, enqueue, toJson } from "./transport";
import type { BrowserMetric } from "./types";

const FLUSH_DELAY_MS = 5_000;
/** Length of `{"metrics":[` and `]}`. */
const ENVELOPE_BYTES = 14;

type Labels = Record<string, string>;

let buffer: BrowserMetric[] = [];
/** Buffered counters by name, page and labels. */
let counters: Record<string, BrowserMetric> = {};

/** Returns the current time in RFC 3339 format. */
export const isoNow = (): string => new Date().toISOString();

const addMetric = (name: string, type: BrowserMetric["type"], value: number, labels: Labels): BrowserMetric => {
  const metric = {
    name,
    type,
    value: +value.toFixed(4),
    labels: { page: location.pathname, session_id: sessionId, ...labels },
    timestamp: isoNow(),
  };
  if (buffer.push(metric) === 1) defer(flushMetrics, FLUSH_DELAY_MS);
  return metric;
};

/** Records one observation of a histogram. */
export const observeHistogram = (name: string, value: number, labels: Labels): unknown =>
  addMetric(name, "histogram", value, labels);

/** Adds one to the counter with this name, page and labels. */
export const incrementCounter = (name: string, labels: Labels): void => {
  const key = name + location.pathname + JSON.stringify(labels);
  counters[key] ||= addMetric(name, "counter", 0, labels);
  counters[key].value++;
};

/** Counts an event that is not sent. */
export const countDropped = (reason: string): void => incrementCounter("browser_events_dropped_total", { reason });

/** Enqueues the buffered points in batches of at most `BODY_MAX_BYTES`. */
export function flushMetrics(): void {
  const metrics = buffer;
  let batch: string[] = [];
  let sizeBytes = ENVELOPE_BYTES;
  const enqueueBatch = (): void => enqueue("metrics", `{"metrics":[${batch}]}`);
  buffer = [];
  counters = {};
  for (const metric of metrics) {
    const item = toJson(metric);
    // Includes the separating comma.
    const itemBytes = byteLength(item) + 1;
    if (sizeBytes + itemBytes > BODY_MAX_BYTES) {
      enqueueBatch();
      batch = [];
      sizeBytes = ENVELOPE_BYTES;
    }
    batch.push(item);
    sizeBytes += itemBytes;
  }
  if (batch[0]) enqueueBatch();
}
