/** The way to the relay: one post after the other, tried again while that makes sense. */

import { drop } from "./metrics";
import { end, guarded } from "./scope";
import { randomId } from "./session";

/** Posts that wait. What comes then pushes out the oldest. */
const QUEUE_MAX = 30;
/** Bytes of a body; relays take 65,536, and browsers as many of all bodies that outlive their page. */
export const BODY_MAX_BYTES = 60_000;
const ANSWER_WAIT_MS = 10_000;
/** Between two tries, from one second on, twice as long each time. */
const RETRY_MAX_S = 60;
/** What a relay asks for with `Retry-After` is granted up to this. */
const ASKED_MAX_S = 3_600;
/** Failures without a success in between after which the SDK leaves the page alone: about four minutes. */
const FAILURES_MAX = 10;
/** The key is wrong or nobody is there: asking again changes nothing. */
const HOPELESS = [401, 403, 404];
const TIMEOUT = 408;
const LIMITED = 429;
export const SERVER_FAULT = 500;

export const bytes = (text: string): number => new Blob([text]).size;

/** JSON that a relay can store as text: without NUL and without halves of characters, which cutting leaves. */
export const json = (value: unknown): string =>
  JSON.stringify(value).replace(/\\(u0000|ud[89a-f]..|.)/g, (all, code) => (code[1] ? "\\ufffd" : all));

interface Post {
  url: string;
  dsn: string;
  body: string;
  /** By which the relay knows that it has counted this before. */
  key: string;
  tries: number;
  flying?: boolean;
}

const queue = new Set<Post>();
let flying_bytes = 0;
let base: string;
let dsn: string;
let fetch: typeof window.fetch;
let failures: number;
/** The status after which nothing is sent for a while, 1 if there was none; else 0. */
let paused: number;
// Whether the relay lets pages of other origins send `Idempotency-Key`. The original's does not, and a browser cannot
// tell that from an outage: until a relay has answered once, every post is tried twice with it, then without.
let keyed: boolean | undefined;

/** Says where posts go from now on: to `address`, the relay's with `/api/browser/`, with a public key. */
export function setRelay(address: string, publicKey: string): void {
  base = address;
  dsn = publicKey;
  // The page's own, before anything wraps it: the SDK never sees its own requests.
  fetch = window.fetch.bind(window);
  failures = 0;
  paused = 0;
  keyed = undefined;
}

/** Whether an address is the relay's. What goes on there is nobody's business. */
export const isRelay = (url: string): boolean => url.startsWith(base);

/** Sends `body` to `/api/browser/{path}` as soon as those before it are through. */
export function send(path: "errors" | "metrics", body: string): void {
  if (queue.size >= QUEUE_MAX) {
    queue.delete([...queue].find((post) => !post.flying) as Post);
    drop("queue");
  }
  queue.add({ url: base + path, dsn, body, key: randomId(), tries: 0 });
  drain();
}

/** Sends what waits, and what `gather` adds to it, in a way that outlives the page. */
export function sendAll(gather: () => void): void {
  const before = paused;
  paused ||= 1;
  guarded(gather);
  paused = before;
  // Whoever was told to wait waits, also at the end.
  if (paused === LIMITED) return;
  for (const post of queue) {
    if (post.flying) continue;
    // What was tried may have arrived, and only a request can say that it is the same.
    if (post.tries && keyed) void attempt(post);
    else if (beacon(post)) queue.delete(post);
  }
  drain();
}

// `sendBeacon` says no when browsers would have to keep too much.
const beacon = ({ url, body, dsn }: Post): boolean =>
  navigator.sendBeacon(`${url}?key=${dsn}`, new Blob([body], { type: "application/json" }));

const drain = (): void => {
  const [next] = queue;
  if (next && !paused && !flying_bytes) void attempt(next);
};

async function attempt(post: Post): Promise<void> {
  const size = bytes(post.body);
  const withKey = keyed ?? post.tries < 2;
  let response: Response | undefined;
  post.tries++;
  post.flying = true;
  flying_bytes += size;
  try {
    response = await fetch(post.url, {
      method: "POST",
      headers: {
        "Content-Type": "application/json",
        "X-Monlight-Key": post.dsn,
        ...(withKey && { "Idempotency-Key": post.key }),
      },
      body: post.body,
      credentials: "omit",
      // Beyond that browsers refuse the request.
      keepalive: flying_bytes <= BODY_MAX_BYTES,
      signal: AbortSignal.timeout?.(ANSWER_WAIT_MS),
    });
    keyed ??= withKey;
  } catch {
    // The network, a preflight that was refused, a wait that was too long: all of them are tried again.
  }
  post.flying = false;
  flying_bytes -= size;
  if (response?.ok) {
    failures = 0;
    queue.delete(post);
  } else {
    fail(post, response);
  }
  drain();
}

function fail(post: Post, response: Response | undefined): void {
  const status = response?.status ?? 0;
  const limited = status === LIMITED;
  if (!limited) failures++;
  if (HOPELESS.includes(status) || failures >= FAILURES_MAX) {
    queue.clear();
    end();
  } else if (!response || limited || status === TIMEOUT || status >= SERVER_FAULT) {
    const asked_s = +(response?.headers.get("Retry-After") || 0);
    const backoff_s = limited ? RETRY_MAX_S : Math.min(2 ** (failures - 1), RETRY_MAX_S);
    paused = status || 1;
    setTimeout(
      () => {
        paused = 0;
        drain();
      },
      (Math.min(asked_s, ASKED_MAX_S) || backoff_s) * 1000,
    );
  } else {
    queue.delete(post);
    drop("refused");
  }
}
