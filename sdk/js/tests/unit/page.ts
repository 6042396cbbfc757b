/** As much of a page as the SDK needs to run in Node, and a relay that answers as it is told. */

import { setMaxListeners } from "node:events";
import { mock } from "node:test";
import type { BrowserError, BrowserMetric } from "../../src/types";

/** What a relay answers: a status, one with headers, or nothing at all. */
export type Answer = number | [status: number, headers: Record<string, string>] | "unreachable" | "never";

export interface Request {
  path: string;
  headers: Record<string, string>;
  body: string;
  keepalive: boolean | undefined;
  at_ms: number;
}

class FakeXhr extends EventTarget {
  open(): void {}
  send(): void {}
}

class FakeElement extends EventTarget {}

export interface Page {
  requests: Request[];
  beacons: { url: string; body: Blob }[];
  /** Answers to come; the last one stays. */
  answers: Answer[];
  warnings: unknown[][];
  errors(): BrowserError[];
  metrics(): BrowserMetric[];
  /** Lets time pass, and all that waits for it happen. */
  pass(ms: number): Promise<void>;
  hide(): void;
  fire(type: string, fields: object, target?: EventTarget): void;
}

// Node takes many listeners for a leak; browsers do not.
setMaxListeners(100);

export type Sdk = typeof import("./sdk");

let pages = 0;

/** Makes the globals a new page, and loads the SDK into it. */
export async function openPage(): Promise<[Page, Sdk]> {
  mock.timers.reset();
  mock.timers.enable({ apis: ["setTimeout", "Date"], now: Date.UTC(2026, 0, 31) });
  const events = new EventTarget();
  const store: Record<string, string> = {};
  const document = Object.assign(new EventTarget(), {
    baseURI: "https://shop.example/cart?coupon=secret#top",
    hidden: false,
    readyState: "complete",
  });
  const page: Page = {
    requests: [],
    beacons: [],
    answers: [201],
    warnings: [],
    errors: () => bodies("errors").map((body) => JSON.parse(body)),
    metrics: () => bodies("metrics").flatMap((body) => JSON.parse(body).metrics),
    async pass(ms) {
      // What is promised meanwhile may start timers of its own.
      await settled();
      for (let left = ms; left > 0; left -= 500) {
        mock.timers.tick(Math.min(left, 500));
        await settled();
      }
    },
    hide() {
      document.hidden = true;
      page.fire("visibilitychange", {});
      document.hidden = false;
    },
    fire: (type, fields, target = events) => {
      target.dispatchEvent(Object.assign(new Event(type), fields));
    },
  };
  const bodies = (path: string): string[] =>
    page.requests.filter((request) => request.path === `/api/browser/${path}`).map(({ body }) => body);
  const fetch = async (url: string, init: RequestInit): Promise<Response> => {
    const { pathname, host } = new URL(url);
    if (host !== "relay.example") return new Response("the application's own");
    page.requests.push({
      path: pathname,
      headers: init.headers as Record<string, string>,
      body: init.body as string,
      keepalive: init.keepalive,
      at_ms: Date.now(),
    });
    const answer = page.answers.length > 1 ? page.answers.shift() : page.answers[0];
    if (answer === "unreachable") throw new TypeError("Failed to fetch");
    if (answer === "never") return new Promise(() => undefined);
    const [status, headers] = typeof answer === "number" ? [answer, {}] : (answer as [number, Record<string, string>]);
    return new Response(null, { status, headers });
  };
  const globals: Record<string, unknown> = {
    addEventListener: events.addEventListener.bind(events),
    removeEventListener: events.removeEventListener.bind(events),
    document,
    location: new URL("https://shop.example/cart?coupon=secret#top"),
    navigator: {
      userAgent: "a browser",
      sendBeacon: (url: string, body: Blob) => page.beacons.push({ url, body }) > 0,
    },
    history: { pushState: () => undefined, replaceState: () => undefined },
    sessionStorage: store,
    XMLHttpRequest: FakeXhr,
    Element: FakeElement,
    console: {
      log: () => undefined,
      info: () => undefined,
      error: () => undefined,
      warn: (...args: unknown[]) => page.warnings.push(args),
    },
    fetch,
  };
  for (const [name, value] of Object.entries(globals)) {
    Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
  }
  Object.defineProperty(globalThis, "window", { value: globalThis, configurable: true });
  return [page, await import(new URL(`sdk.mjs?${++pages}`, import.meta.url).href)];
}

/** All promises that can go on have gone on. */
const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

export const CONFIG = { dsn: "0123456789abcdef0123456789abcdef", endpoint: "https://relay.example/" };
