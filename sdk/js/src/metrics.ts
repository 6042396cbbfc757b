/** Metrics buffer. Collects points for `FLUSH_DELAY_MS`, so that one request carries many of them. */

import { config, defer } from "./instrumentation";
import { sessionId } from "./session";
import { BODY_MAX_BYTES, byteLength, enqueue, toJson } from "./transport";
import type { BrowserMetric } from "./types";

const FLUSH_DELAY_MS = 5_000;

type Labels = Record<string, string>;

let buffer: BrowserMetric[] = [];
/** Buffered counters by name, page and labels. */
let counters: Record<string, BrowserMetric> = {};

/** Returns the current time in RFC 3339 format. */
export const isoNow = (): string => new Date().toISOString();

/** Buffers a point, by default an observation of a histogram. */
export const addPoint = (
  name: string,
  value: number,
  labels: Labels,
  type: BrowserMetric["type"] = "histogram",
): BrowserMetric => {
  const point = {
    name,
    type,
    value: +value.toFixed(4),
    labels: { page: location.pathname, session_id: sessionId, ...labels },
    timestamp: isoNow(),
  };
  if (buffer.push(point) === 1) defer(flushMetrics, FLUSH_DELAY_MS);
  return point;
};

/** Adds one to the counter with this name, page and labels. */
export const incrementCounter = (name: string, labels: Labels): void => {
  const key = name + location.pathname + JSON.stringify(labels);
  const counter = counters[key] || addPoint(name, 0, labels, "counter");
  counters[key] = counter;
  counter.value++;
};

/** Counts an event that is not sent. */
export const countDropped = (reason: string): void => incrementCounter("browser_events_dropped_total", { reason });

/** Enqueues points. Halves a batch until each part has at most `BODY_MAX_BYTES`. */
const enqueueBatch = (metrics: BrowserMetric[]): void => {
  // The relay adds the environment and the release, which must be strings, to the labels of all points.
  const body = toJson({
    metrics,
    environment: config.environment ?? "prod",
    release: config.release,
  });
  const half = metrics.length >> 1;
  if (half && byteLength(body) > BODY_MAX_BYTES) {
    enqueueBatch(metrics.slice(0, half));
    enqueueBatch(metrics.slice(half));
  } else enqueue("metrics", body);
};

/** Enqueues the buffered points. */
export const flushMetrics = (): void => {
  const metrics = buffer;
  buffer = [];
  counters = {};
  if (metrics[0]) enqueueBatch(metrics);
};
