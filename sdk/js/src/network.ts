/** Instrumentation of `fetch` and `XMLHttpRequest`: counts requests, measures their duration and reports failures. */

import { addBreadcrumb } from "./breadcrumbs";
import { captureEvent, markReported } from "./errors";
import { patchMethod, safely } from "./instrumentation";
import { incrementCounter, observeHistogram } from "./metrics";
import { callerFrames, resolveUrl, sanitizeUrl } from "./stack";
import { isRelayUrl, SERVER_ERROR } from "./transport";

/** Path segments that are numbers or UUIDs. They can identify customers, and would split one error into many groups. */
const ID_SEGMENTS = /\/(\d+|[\da-f]{8}-[\da-f-]{27})(?=\/|$)/gi;

export function instrumentNetwork(): void {
  /**
   * Starts tracking a request. Returns `undefined` for requests to the relay and for schemes other than HTTP.
   *
   * @returns a function to call when the request ends, with the HTTP status, `"aborted"`, or 0 and the reason of a
   * failure
   */
  const trackRequest = (category: "fetch" | "xhr", method: string, url: string, callSite: Error) => {
    const { host, href, protocol } = resolveUrl(url);
    if (isRelayUrl(href) || !protocol.startsWith("http")) return;
    const startedAt = performance.now();
    const page = location.pathname;
    return (status: number | string, reason = ""): void => {
      const request = `${method} ${sanitizeUrl(href).replace(ID_SEGMENTS, "/{id}")}`;
      const labels = { page, method, status: `${status}`, host };
      incrementCounter("browser_http_requests_total", labels);
      if (status !== "aborted") {
        observeHistogram("browser_http_request_duration_ms", performance.now() - startedAt, labels);
      }
      addBreadcrumb(category, `${request} ${status || "failed"}`);
      if (status === 0 || +status >= SERVER_ERROR) {
        const message = `${request} ${status ? `failed with status ${status}` : `network error${reason}`}`;
        captureEvent("NetworkError", message, callerFrames(callSite), { type: "NetworkError" });
      }
    };
  };

  patchMethod(window, "fetch", (_, [input, init], callSite) => {
    const request = input as Request;
    const options = init as RequestInit | undefined;
    const method = (options?.method || request.method || "GET").toUpperCase();
    const finish = trackRequest("fetch", method, request.url || String(input), callSite);
    if (!finish) return;
    const signal = options?.signal || request.signal;
    return (promise) =>
      (promise as Promise<Response>).then(
        (response) => {
          // An opaque response hides its status, so the label is its type.
          safely(() => finish(response.status || response.type));
          return response;
        },
        (error) => {
          // A timed-out request has failed; a request that the application aborted has not.
          const timedOut = error?.name === "TimeoutError";
          const aborted = error?.name === "AbortError" || (signal?.aborted && !timedOut);
          safely(() => (aborted ? finish("aborted") : finish(0, `: ${error?.message}`)));
          // If the application does not handle the error, it arrives again as an unhandled rejection.
          markReported(error);
          throw error;
        },
      );
  });

  const openedRequests = new WeakMap<object, [method: string, url: string]>();
  patchMethod(XMLHttpRequest.prototype, "open", (self, [method, url]) => {
    openedRequests.set(self as XMLHttpRequest, [String(method).toUpperCase(), String(url)]);
    return undefined;
  });
  patchMethod(XMLHttpRequest.prototype, "send", (self, _, callSite) => {
    const xhr = self as XMLHttpRequest;
    const opened = openedRequests.get(xhr);
    const finish = opened && trackRequest("xhr", ...opened, callSite);
    if (!finish) return;
    let aborted = false;
    xhr.addEventListener("abort", () => (aborted = true), { once: true });
    xhr.addEventListener("loadend", () => safely(() => finish(aborted ? "aborted" : xhr.status)), { once: true });
    return undefined;
  });
}
