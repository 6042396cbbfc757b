/** Browser monitoring for Monlight: sends errors, Web Vitals and request metrics of a web page to a relay. */

import { instrumentInteractions } from "./breadcrumbs";
import {
  addTag,
  addToContext,
  type Context,
  captureException,
  captureMessage,
  flushRepeats,
  instrumentErrors,
} from "./errors";
import { listen, safely, setup, teardown, warn } from "./instrumentation";
import { flushMetrics } from "./metrics";
import { instrumentNetwork } from "./network";
import { loadSessionId } from "./session";
import { callerFrames, resolveUrl } from "./stack";
import { flushQueue, setRelay } from "./transport";
import type { MonlightClient, MonlightConfig } from "./types";
import { isObject } from "./values";
import { finalizeVitals, instrumentVitals } from "./vitals";

export type {
  Breadcrumb,
  BrowserError,
  BrowserMetric,
  CaptureContext,
  MonlightClient,
  MonlightConfig,
  User,
} from "./types";

let currentClient: MonlightClient | undefined;

/**
 * Starts monitoring the page and returns a client for manual reports. A second call replaces the first client. Never
 * throws: on a server, and without a `dsn` or an `endpoint`, the returned client does nothing.
 */
export const init = (config: MonlightConfig): MonlightClient => {
  currentClient?.destroy();
  setup(config);
  /** Returns a method that runs only while this client is the current one. `stack` is that of its caller. */
  const method =
    <A extends unknown[]>(run: (stack: string, ...args: A) => unknown) =>
    (...args: A): void => {
      const callSite = new Error();
      if (currentClient === client) safely(() => run(callerFrames(callSite), ...args));
    };
  const captureError = method((stack, error: unknown, context?: Context) =>
    captureException(error, "Error", stack, false, context),
  );
  const client: MonlightClient = {
    captureError,
    captureException: captureError,
    captureMessage: method((stack, message: string, options: string | Context = "error") =>
      captureMessage(isObject(options) ? options : { level: options }, `${message}`, stack),
    ),
    setUser: method((_, user: unknown) => addToContext({ user_id: user })),
    setTag: method((_, key: string, value: unknown) => addTag(key, value)),
    addContext: method((_, key: string, value: unknown) => addToContext({ [key]: value })),
    destroy: method(() => {
      flushPending();
      teardown();
    }),
  };
  currentClient = client;
  try {
    if (typeof window === "object" && config.enabled !== false) start(config);
    else teardown();
  } catch (error) {
    teardown();
    warn("[Monlight]", error);
  }
  return client;
};

/** Enqueues counted duplicates and buffered metrics. */
const flushPending = (): void => {
  flushRepeats();
  flushMetrics();
};

const start = (config: MonlightConfig): void => {
  if (!config.dsn || !config.endpoint) throw "dsn and endpoint required";
  setRelay(resolveUrl(config.endpoint.replace(/\/*$/, "/api/browser/")).href);
  loadSessionId();
  instrumentInteractions();
  instrumentErrors();
  instrumentNetwork();
  if (Math.random() < (config.sampleRate ?? 1)) instrumentVitals();
  listen("visibilitychange pagehide", ({ type, timeStamp }: Event) => {
    if (!document.hidden && type !== "pagehide") return;
    flushQueue(() => {
      finalizeVitals?.(timeStamp);
      flushPending();
    });
  });
};
