/** Values that wait for each other, so that few requests carry many. */

import { later } from "./scope";
import { sessionId } from "./session";
import { BODY_MAX_BYTES, bytes, json, send } from "./transport";
import type { BrowserMetric } from "./types";

const FLUSH_AFTER_MS = 5_000;
/** `{"metrics":[` and `]}`. */
const FRAME_BYTES = 14;

type Labels = Record<string, string>;

let buffer: BrowserMetric[] = [];
let counters: Record<string, BrowserMetric> = {};

export const now = (): string => new Date().toISOString();

const add = (name: string, type: BrowserMetric["type"], value: number, labels: Labels): BrowserMetric => {
  const metric = {
    name,
    type,
    value: +value.toFixed(4),
    labels: { page: location.pathname, session_id: sessionId, ...labels },
    timestamp: now(),
  };
  if (buffer.push(metric) === 1) later(flushMetrics, FLUSH_AFTER_MS);
  return metric;
};

/** One value of a distribution. */
export const observe = (name: string, value: number, labels: Labels): unknown => add(name, "histogram", value, labels);

/** Counts one, in the sum of all with the same name and labels. */
export const count = (name: string, labels: Labels): void => {
  const key = name + location.pathname + JSON.stringify(labels);
  counters[key] ||= add(name, "counter", 0, labels);
  counters[key].value++;
};

/** Counts what is not sent. */
export const drop = (reason: string): void => count("browser_events_dropped_total", { reason });

/** Sends what has gathered. */
export function flushMetrics(): void {
  const metrics = buffer;
  let batch: string[] = [];
  let size = FRAME_BYTES;
  const sendBatch = (): void => send("metrics", `{"metrics":[${batch}]}`);
  buffer = [];
  counters = {};
  for (const metric of metrics) {
    const item = json(metric);
    // With the comma behind it.
    const item_bytes = bytes(item) + 1;
    if (size + item_bytes > BODY_MAX_BYTES) {
      sendBatch();
      batch = [];
      size = FRAME_BYTES;
    }
    batch.push(item);
    size += item_bytes;
  }
  if (batch[0]) sendBatch();
}
