/** Send queue for the relay. Sends one request at a time and retries with exponential backoff. */

import { config, logDebug, safely, teardown } from "./instrumentation";
import { countDropped } from "./metrics";
import { randomId } from "./session";

/** Maximum number of queued requests. Above it, a new request evicts the oldest one after the first `QUEUE_FIRST`. */
const QUEUE_MAX = 30;
/** Waiting requests that are never evicted, because the first errors of a burst explain the others. */
const QUEUE_FIRST = 10;
/**
 * Maximum body size. Relays accept 65,536 bytes, which is also the browsers' limit for all `keepalive` bodies together.
 */
export const BODY_MAX_BYTES = 60_000;
const RESPONSE_TIMEOUT_MS = 10_000;
/** Maximum backoff. The first delay is one second, and each failure doubles it. */
const BACKOFF_MAX_S = 60;
/** Maximum `Retry-After` that is honored. */
const RETRY_AFTER_MAX_S = 3_600;
/** Consecutive failures after which the SDK shuts down, about four minutes of outage. */
const FAILURES_MAX = 10;
/** Statuses after which the SDK shuts down: the key is invalid or the endpoint does not exist. */
const FATAL_STATUSES = /40[134]/;
const REQUEST_TIMEOUT = 408;
const TOO_MANY_REQUESTS = 429;
/** Lowest status of a server error. */
export const SERVER_ERROR = 500;

/** Returns the UTF-8 length of a string. */
export const byteLength = (value: string): number => new Blob([value]).size;

/** Serializes a value to JSON. Replaces NUL and unpaired surrogates, which truncation leaves and the relay rejects. */
export const toJson = (value: unknown): string =>
  JSON.stringify(value).replace(/\\(u0000|ud[89a-f]..|.)/g, (all, code) => (code[1] ? "\\ufffd" : all));

interface QueuedRequest {
  /** Contains the public key, because a beacon cannot set headers. */
  url: string;
  /** Contains an idempotency key, the same for all tries. In the URL, it would make each request need a preflight. */
  body: Blob;
  inFlight?: boolean;
}

const queue = new Set<QueuedRequest>();
/** Body bytes of all requests in flight. */
let inFlightBytes = 0;
let baseUrl: string;
let fetch: typeof window.fetch;
let consecutiveFailures: number;
/** 0 while sending is enabled. During a backoff, the status that caused it, or 1 if there was no response. */
let pauseStatus: number;

/** Sets the destination and resets the backoff. @param url the relay's URL, ending in `/api/browser/` */
export const setRelay = (url: string): void => {
  baseUrl = url;
  // Read before `fetch` is patched, so that the SDK does not record its own requests.
  fetch = window.fetch;
  consecutiveFailures = 0;
  pauseStatus = 0;
};

/** Whether a URL belongs to the relay. Requests to it are not instrumented. */
export const isRelayUrl = (url: string): boolean => url.startsWith(baseUrl);

/** Enqueues a JSON object for `/api/browser/{path}`. It is sent when those before it have been sent. */
export const enqueue = (path: "errors" | "metrics", body: string): void => {
  if (queue.size >= QUEUE_MAX) {
    queue.delete([...queue].filter((request) => !request.inFlight)[QUEUE_FIRST] as QueuedRequest);
    countDropped("queue");
  }
  queue.add({
    url: `${baseUrl + path}?key=${config.dsn}`,
    body: new Blob([body.replace("{", `{"idempotency_key":"${randomId()}",`)], { type: "application/json" }),
  });
  sendNext();
};

/**
 * Sends the whole queue in a way that outlives the page. `enqueuePending` runs first and may enqueue more requests,
 * which are sent in the same way.
 */
export const flushQueue = (enqueuePending: () => void): void => {
  const previousPause = pauseStatus;
  // Pausing keeps `enqueue` from sending immediately, because beacons are sent below.
  pauseStatus ||= 1;
  safely(enqueuePending);
  pauseStatus = previousPause;
  // `Retry-After` is honored even when the page is hidden.
  if (pauseStatus === TOO_MANY_REQUESTS) return;
  for (const request of queue) {
    const { url, body, inFlight } = request;
    if (inFlight) continue;
    // Old browsers have no beacons, and others refuse one when they would have to buffer too many bytes.
    if (navigator.sendBeacon?.(url, body)) queue.delete(request);
    else void attemptSend(request);
  }
};

const sendNext = (): void => {
  const [next] = queue;
  if (next && !pauseStatus && !inFlightBytes) void attemptSend(next);
};

const attemptSend = async (request: QueuedRequest): Promise<void> => {
  const { url, body } = request;
  let response: Response | undefined;
  request.inFlight = true;
  inFlightBytes += body.size;
  try {
    response = await fetch(url, {
      method: "POST",
      body,
      credentials: "omit",
      // Browsers reject `keepalive` requests above this limit.
      keepalive: inFlightBytes <= BODY_MAX_BYTES,
      signal: AbortSignal.timeout?.(RESPONSE_TIMEOUT_MS),
    });
    // The answer names what the relay repaired, or why it rejected the request.
    if (config.debug) logDebug(url, response.status, await response.text());
  } catch (error) {
    // Network error, rejected preflight or timeout. All of them are retried.
    logDebug(error);
  }
  request.inFlight = false;
  inFlightBytes -= body.size;
  if (response?.ok) {
    consecutiveFailures = 0;
    queue.delete(request);
  } else {
    handleFailure(request, response);
  }
  sendNext();
};

/** Stops sending and removes the instrumentation from the page. */
export const shutDown = (reason: unknown): void => {
  logDebug("stopped:", reason);
  queue.clear();
  teardown();
};

/** Shuts down, schedules a retry, or drops the request, depending on the status. */
const handleFailure = (request: QueuedRequest, response: Response | undefined): void => {
  const status = response?.status ?? 0;
  const rateLimited = status === TOO_MANY_REQUESTS;
  if (!rateLimited) consecutiveFailures++;
  if (FATAL_STATUSES.test(`${status}`) || consecutiveFailures >= FAILURES_MAX) {
    shutDown(status);
  } else if (!status || rateLimited || status === REQUEST_TIMEOUT || status >= SERVER_ERROR) {
    // Zero without the header, and NaN if it is a date.
    const retryAfterS = Number(response?.headers.get("Retry-After"));
    const backoffS = rateLimited ? BACKOFF_MAX_S : Math.min(2 ** (consecutiveFailures - 1), BACKOFF_MAX_S);
    pauseStatus = status || 1;
    setTimeout(
      () => {
        pauseStatus = 0;
        sendNext();
      },
      (Math.min(retryAfterS, RETRY_AFTER_MAX_S) || backoffS) * 1000,
    );
  } else {
    queue.delete(request);
    countDropped("refused");
  }
};
