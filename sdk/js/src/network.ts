/** Instrumentation of `fetch` and `XMLHttpRequest`: counts requests, measures their duration and reports failures. */

import { addBreadcrumb } from "./breadcrumbs";
import { captureEvent, markReported } from "./errors";
import { patchMethod, safely } from "./instrumentation";
import { addPoint, incrementCounter } from "./metrics";
import { callerFrames, resolveUrl, sanitizeUrl } from "./stack";
import { isRelayUrl, SERVER_ERROR } from "./transport";

/** `XMLHttpRequest.DONE`, the state of a request that has a response, has failed or was aborted. */
const XHR_DONE = 4;

/** Ends the measurement of a request, with the HTTP status, `"aborted"`, or 0 and the reason of a failure. */
type FinishRequest = (status: number | string, reason?: string) => void;

/** The last request of an `XMLHttpRequest` object. `finish` is set while it has been sent and has not ended. */
interface XhrRequest {
  method: string;
  url: string;
  finish?: FinishRequest | undefined;
}

export const instrumentNetwork = (): void => {
  /** Starts measuring a request. Returns `undefined` for requests to the relay and for schemes other than HTTP. */
  const trackRequest = (
    category: "fetch" | "xhr",
    method: string,
    url: string,
    callSite: Error,
  ): FinishRequest | undefined => {
    const { host, href } = resolveUrl(url);
    if (isRelayUrl(href) || !href.startsWith("http")) return;
    method = `${method}`.toUpperCase();
    const startedAt = performance.now();
    const page = location.pathname;
    return (status, reason = "") =>
      safely(() => {
        const request = `${method} ${sanitizeUrl(href, true)}`;
        const labels = { page, method, status: `${status}`, host };
        incrementCounter("browser_http_requests_total", labels);
        if (status !== "aborted") {
          addPoint("browser_http_request_duration_ms", performance.now() - startedAt, labels);
        }
        addBreadcrumb(category, `${request} ${status || "failed"}`);
        if (status === 0 || +status >= SERVER_ERROR) {
          const message = `${request} ${status ? `failed with status ${status}` : `network error${reason}`}`;
          // The tracker groups errors by the first frame. The caller is often one function for all requests, so the first
          // frame is the request, with the status as line number.
          const stack = `    at ${request}:${status}:1\n${callerFrames(callSite)}`;
          captureEvent("NetworkError", message, stack, { type: "NetworkError" });
        }
      });
  };

  patchMethod(window, "fetch", (_, [input, init], callSite) => {
    const request = input as Request;
    const options = init as RequestInit | undefined;
    const method = options?.method || request.method || "GET";
    const finish = trackRequest("fetch", method, request.url || (input as string), callSite);
    if (!finish) return;
    const signal = options?.signal || request.signal;
    return (promise) =>
      (promise as Promise<Response>).then(
        (response) => {
          // An opaque response hides its status, so the label is its type. A mocked response may be nothing.
          finish(response?.status || response?.type);
          // An application that throws the response would report the same failure.
          if (response?.status >= SERVER_ERROR) markReported(response);
          return response;
        },
        (error) => {
          // A timed-out request has failed; a request that the application aborted has not.
          const name = error?.name;
          const aborted = name === "AbortError" || (signal?.aborted && name !== "TimeoutError");
          finish(aborted ? "aborted" : 0, `: ${error?.message}`);
          // If the application does not handle the error, it arrives again as an unhandled rejection.
          markReported(error);
          throw error;
        },
      );
  });

  const requests = new WeakMap<object, XhrRequest>();
  const finishCurrent = (self: unknown): undefined => {
    const xhr = self as XMLHttpRequest;
    const request = requests.get(xhr);
    const finish = request?.finish;
    if (!finish) return;
    request.finish = undefined;
    finish(xhr.readyState === XHR_DONE ? xhr.status : "aborted");
  };
  const { prototype } = XMLHttpRequest;
  patchMethod(prototype, "open", (self, [method, url]) => {
    const xhr = self as XMLHttpRequest;
    // A handler can reuse the object before `loadend`, which then still belongs to the previous request.
    finishCurrent(xhr);
    if (!requests.has(xhr)) {
      xhr.addEventListener("loadend", () => xhr.readyState === XHR_DONE && finishCurrent(xhr));
    }
    requests.set(xhr, { method: method as string, url: url as string });
    return undefined;
  });
  patchMethod(prototype, "abort", finishCurrent);
  patchMethod(prototype, "send", (self, _, callSite) => {
    const request = requests.get(self as object);
    if (request) request.finish = trackRequest("xhr", request.method, request.url, callSite);
    return undefined;
  });
};
