/** Fake browser page for running the SDK in Node, and a fake relay with scripted responses. */

import { setMaxListeners } from "node:events";
import { mock } from "node:test";
import type { BrowserError, BrowserMetric } from "../../src/types";

/** Scripted response of the relay: a status, a status with headers and a body, a network error, or no response. */
export type RelayResponse =
  | number
  | [status: number, headers: Record<string, string>, body?: string]
  | "unreachable"
  | "never";

export interface RecordedRequest {
  path: string;
  publicKey: string | null;
  mediaType: string;
  idempotencyKey: string | undefined;
  /** The body without the idempotency key. */
  body: string;
  keepalive: boolean | undefined;
  atMs: number;
}

class FakeXhr extends EventTarget {
  open(): void {}
  send(): void {}
}

class FakeElement extends EventTarget {}

/** Blob whose content can be read without waiting. */
class FakeBlob {
  readonly size: number;
  readonly type: string;
  readonly idempotencyKey: string | undefined;
  /** The content without the idempotency key. */
  readonly content: string;

  constructor([content = ""]: string[], { type = "" } = {}) {
    this.size = Buffer.byteLength(content);
    this.type = type;
    this.idempotencyKey = /"idempotency_key":"(.*?)",/.exec(content)?.[1];
    this.content = content.replace(/"idempotency_key":".*?",/, "");
  }
}

export interface FakePage {
  requests: RecordedRequest[];
  beacons: { url: string; body: FakeBlob }[];
  /** Responses of the relay in order. The last one repeats. */
  responses: RelayResponse[];
  warnings: unknown[][];
  errors(): BrowserError[];
  metrics(): BrowserMetric[];
  /** Advances the mocked clock and runs the timers and promises that become due. */
  advance(ms: number): Promise<void>;
  hide(): void;
  /** Dispatches an event that reaches the window. */
  fire(type: string, fields: object): void;
}

// Node warns about many listeners of one target; browsers do not.
setMaxListeners(100);

export type Sdk = typeof import("./sdk");

let pagesOpened = 0;

/** Replaces the globals with those of a new page and loads a fresh copy of the SDK. */
export async function openFakePage(): Promise<[FakePage, Sdk]> {
  mock.timers.reset();
  mock.timers.enable({ apis: ["setTimeout", "Date"], now: Date.UTC(2026, 0, 31) });
  const events = new EventTarget();
  const store: Record<string, string> = {};
  const document = Object.assign(new EventTarget(), {
    baseURI: "https://shop.example/cart?coupon=secret#top",
    hidden: false,
    readyState: "complete",
  });
  const page: FakePage = {
    requests: [],
    beacons: [],
    responses: [201],
    warnings: [],
    errors: () => bodies("errors").map((body) => JSON.parse(body)),
    metrics: () => bodies("metrics").flatMap((body) => JSON.parse(body).metrics),
    async advance(ms) {
      // Advances in small steps, because promises that resolve in between may start timers.
      await settlePromises();
      for (let left = ms; left > 0; left -= 500) {
        mock.timers.tick(Math.min(left, 500));
        await settlePromises();
      }
    },
    hide() {
      document.hidden = true;
      page.fire("visibilitychange", {});
      document.hidden = false;
    },
    fire: (type, fields) => {
      events.dispatchEvent(Object.assign(new Event(type), fields));
    },
  };
  const bodies = (path: string): string[] =>
    page.requests.filter((request) => request.path === `/api/browser/${path}`).map(({ body }) => body);
  const fetch = async (url: string, init: RequestInit): Promise<Response> => {
    const { pathname, host, searchParams } = new URL(url);
    if (host !== "relay.example") return new Response(null, { status: pathname.startsWith("/fail") ? 500 : 200 });
    const body = init.body as unknown as FakeBlob;
    page.requests.push({
      path: pathname,
      publicKey: searchParams.get("key"),
      mediaType: body.type,
      idempotencyKey: body.idempotencyKey,
      body: body.content,
      keepalive: init.keepalive,
      atMs: Date.now(),
    });
    const response = page.responses.length > 1 ? page.responses.shift() : page.responses[0];
    if (response === "unreachable") throw new TypeError("Failed to fetch");
    if (response === "never") return new Promise(() => undefined);
    const [status = 0, headers = {}, text = null] = typeof response === "number" ? [response] : (response ?? []);
    return new Response(text, { status, headers });
  };
  const globals: Record<string, unknown> = {
    addEventListener: events.addEventListener.bind(events),
    removeEventListener: events.removeEventListener.bind(events),
    document,
    location: new URL("https://shop.example/cart?coupon=secret#top"),
    navigator: {
      userAgent: "a browser",
      sendBeacon: (url: string, body: FakeBlob) => page.beacons.push({ url, body }) > 0,
    },
    history: { pushState: () => undefined, replaceState: () => undefined },
    sessionStorage: store,
    XMLHttpRequest: FakeXhr,
    Element: FakeElement,
    Blob: FakeBlob,
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
  return [page, await import(new URL(`sdk.mjs?${++pagesOpened}`, import.meta.url).href)];
}

/** Waits until no promise callback is pending. */
const settlePromises = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

export const CONFIG = { dsn: "0123456789abcdef0123456789abcdef", endpoint: "https://relay.example/" };
