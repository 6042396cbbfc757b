/** Browser monitoring for Monlight: sends errors, Web Vitals and request metrics of a web page to a relay. */

import { instrumentInteractions } from "./breadcrumbs";
import { addToContext, captureException, captureMessage, flushRepeats, instrumentErrors } from "./errors";
import { listen, safely, setup, teardown, warn } from "./instrumentation";
import { flushMetrics } from "./metrics";
import { instrumentNetwork } from "./network";
import { loadSessionId } from "./session";
import { callerFrames, resolveUrl } from "./stack";
import { flushQueue, setRelay } from "./transport";
import type { MonlightClient, MonlightConfig } from "./types";
import { finalizeVitals, instrumentVitals } from "./vitals";

export type { Breadcrumb, BrowserError, BrowserMetric, MonlightClient, MonlightConfig } from "./types";

let currentClient: MonlightClient | undefined;

/**
 * Starts monitoring the page and returns a client for manual reports. A second call replaces the first client. Never
 * throws: on a server, and without a `dsn` or an `endpoint`, the returned client does nothing.
 */
export const init = (config: MonlightConfig): MonlightClient => {
  currentClient?.destroy();
  setup(config);
  const ifCurrent = (callback: () => void): void => {
    if (currentClient === client) safely(callback);
  };
  const client: MonlightClient = {
    captureError(error, context) {
      const callSite = new Error();
      ifCurrent(() => captureException(error, "Error", callerFrames(callSite), false, context));
    },
    captureMessage(message, level = "error") {
      const callSite = new Error();
      ifCurrent(() => captureMessage(level, `${message}`, callerFrames(callSite)));
    },
    setUser(userId) {
      ifCurrent(() => {
        addToContext({ user_id: userId });
      });
    },
    addContext(key, value) {
      ifCurrent(() => {
        addToContext({ [key]: value });
      });
    },
    destroy() {
      ifCurrent(() => {
        flushPending();
        teardown();
      });
    },
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
