/** Watches `fetch` and `XMLHttpRequest`: counts requests, times them, reports those that fail. */

import { report, seen } from "./errors";
import { count, observe } from "./metrics";
import { guarded, patch } from "./scope";
import { callers, resolve, withoutQuery } from "./stack";
import { leave } from "./trail";
import { isRelay, SERVER_FAULT } from "./transport";

/** Numbers and UUIDs in paths: they tell orders and customers, and make one error many. */
const IDS = /\/(\d+|[\da-f]{8}-[\da-f-]{27})(?=\/|$)/gi;

export function watchNetwork(): void {
  /** @returns what is to be called at the end, with the status, `"aborted"`, or nothing and why there was no answer */
  const begin = (category: "fetch" | "xhr", method: string, url: string, here: Error) => {
    const { host, href, protocol } = resolve(url);
    if (isRelay(href) || !protocol.startsWith("http")) return;
    const started = performance.now();
    const page = location.pathname;
    return (status: number | string, why = ""): void => {
      const sent = `${method} ${withoutQuery(href).replace(IDS, "/{id}")}`;
      const labels = { page, method, status: `${status}`, host };
      count("browser_http_requests_total", labels);
      if (status !== "aborted") {
        observe("browser_http_request_duration_ms", performance.now() - started, labels);
      }
      leave(category, `${sent} ${status || "failed"}`);
      if (status === 0 || +status >= SERVER_FAULT) {
        const message = `${sent} ${status ? `failed with status ${status}` : `network error${why}`}`;
        report("NetworkError", message, callers(here), { type: "NetworkError" });
      }
    };
  };

  patch(window, "fetch", (_, [input, init], here) => {
    const request = input as Request;
    const options = init as RequestInit | undefined;
    const method = (options?.method || request.method || "GET").toUpperCase();
    const end = begin("fetch", method, request.url || String(input), here);
    if (!end) return;
    const signal = options?.signal || request.signal;
    return (answer) =>
      (answer as Promise<Response>).then(
        (response) => {
          // An opaque response says neither its status nor whether it is an error.
          guarded(() => end(response.status || response.type));
          return response;
        },
        (why) => {
          // A request that ran out of time has failed; one that was called off has not.
          const timeout = why?.name === "TimeoutError";
          const aborted = why?.name === "AbortError" || (signal?.aborted && !timeout);
          guarded(() => (aborted ? end("aborted") : end(0, `: ${why?.message}`)));
          // When nobody handles it, it comes back as a rejection.
          seen(why);
          throw why;
        },
      );
  });

  const opened = new WeakMap<object, [method: string, url: string]>();
  patch(XMLHttpRequest.prototype, "open", (self, [method, url]) => {
    opened.set(self as XMLHttpRequest, [String(method).toUpperCase(), String(url)]);
    return undefined;
  });
  patch(XMLHttpRequest.prototype, "send", (self, _, here) => {
    const xhr = self as XMLHttpRequest;
    const call = opened.get(xhr);
    const end = call && begin("xhr", ...call, here);
    if (!end) return;
    let aborted = false;
    xhr.addEventListener("abort", () => (aborted = true), { once: true });
    xhr.addEventListener("loadend", () => guarded(() => end(aborted ? "aborted" : xhr.status)), { once: true });
    return undefined;
  });
}
