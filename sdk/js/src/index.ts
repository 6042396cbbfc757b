/** Errors, Web Vitals and requests of a web page, sent to a Monlight relay. */

import { context as ownContext, say, settleRepeats, thrown, watchErrors } from "./errors";
import { flushMetrics } from "./metrics";
import { watchNetwork } from "./network";
import { begin, end, guarded, listen, warn } from "./scope";
import { findSession } from "./session";
import { callers, resolve } from "./stack";
import { watchSteps } from "./trail";
import { sendAll, setRelay } from "./transport";
import type { MonlightClient, MonlightConfig } from "./types";
import { hideVitals, watchVitals } from "./vitals";

export type { Breadcrumb, BrowserError, BrowserMetric, MonlightClient, MonlightConfig } from "./types";

let current: MonlightClient | undefined;

/**
 * Starts watching the page, and returns what reports by hand. A second call takes the place of the first. Never throws:
 * where there is no page (on a server), no key or no endpoint, what it returns does nothing.
 */
export function init(config: MonlightConfig): MonlightClient {
  current?.destroy();
  begin(config.debug);
  const own = (run: () => void): void => {
    if (current === client) guarded(run);
  };
  const client: MonlightClient = {
    captureError(error, context) {
      const here = new Error();
      own(() => thrown(error, "Error", callers(here), context));
    },
    captureMessage(message, level = "error") {
      const here = new Error();
      own(() => say(level, `${message}`, callers(here)));
    },
    setUser(userId) {
      own(() => {
        ownContext.user_id = userId ?? undefined;
      });
    },
    addContext(key, value) {
      own(() => {
        // As it is now, and only what can be sent.
        ownContext[key] = JSON.parse(JSON.stringify(value));
      });
    },
    destroy() {
      own(() => {
        flush();
        end();
      });
    },
  };
  try {
    current = undefined;
    if (typeof window === "object" && config.enabled !== false) {
      start(config);
      current = client;
    }
  } catch (why) {
    end();
    warn("[Monlight]", why);
  }
  return client;
}

function flush(): void {
  settleRepeats();
  flushMetrics();
}

function start(config: MonlightConfig): void {
  if (!config.dsn || !config.endpoint) throw "no dsn or endpoint";
  setRelay(resolve(config.endpoint.replace(/\/*$/, "/api/browser/")).href, config.dsn);
  findSession();
  watchSteps();
  watchErrors(config);
  watchNetwork();
  if (Math.random() < (config.sampleRate ?? 1)) watchVitals();
  listen(window, "visibilitychange pagehide", ({ type, timeStamp }: Event) => {
    if (!document.hidden && type !== "pagehide") return;
    sendAll(() => {
      hideVitals?.(timeStamp);
      flush();
    });
  });
}
